#include "dataplane/snapshot/publisher.h"

#include <new>

namespace limpet::snapshot {

namespace {

constexpr std::align_val_t kVariableAlign{RTE_CACHE_LINE_SIZE};

rte_rcu_qsbr* make_variable(uint32_t readers_max) {
  LIMPET_ASSERT(readers_max > 0);
  void* memory = ::operator new(rte_rcu_qsbr_get_memsize(readers_max), kVariableAlign);
  auto* variable = static_cast<rte_rcu_qsbr*>(memory);
  const int error = rte_rcu_qsbr_init(variable, readers_max);
  LIMPET_ASSERT(error == 0);
  return variable;
}

}  // namespace

void Publisher::Release::operator()(rte_rcu_qsbr* variable) const {
  ::operator delete(variable, kVariableAlign);
}

Reader::~Reader() {
  if (publisher_ == nullptr) return;
  offline();
  const int error = rte_rcu_qsbr_thread_unregister(publisher_->variable_.get(), id_);
  LIMPET_ASSERT(error == 0);
  --publisher_->readers_;
}

Publisher::Publisher(std::shared_ptr<const Snapshot> first, uint32_t readers_max, uint32_t live_max)
    : variable_(make_variable(readers_max)),
      newest_(first.get()),
      current_(std::move(first)),
      readers_max_(readers_max),
      live_max_(live_max) {
  LIMPET_ASSERT(current_ != nullptr && live_max >= 2);
}

Publisher::~Publisher() {
  LIMPET_ASSERT(readers_ == 0);
}

Reader Publisher::reader(uint32_t id) {
  LIMPET_ASSERT(id < readers_max_ && readers_ < readers_max_);
  const int error = rte_rcu_qsbr_thread_register(variable_.get(), id);
  LIMPET_ASSERT(error == 0);
  ++readers_;
  LIMPET_ASSERT(variable_->num_threads == readers_);  // else `id` was taken
  return Reader(this, id);
}

bool Publisher::can_publish() {
  reclaim();
  return live() < live_max_;
}

Token Publisher::publish(std::shared_ptr<const Snapshot> next) {
  LIMPET_ASSERT(next != nullptr && live() < live_max_);
  // Sequentially consistent, like the fence of online(): a reader that we then see offline comes
  // back to the new pointer.
  newest_.store(next.get(), std::memory_order_seq_cst);
  const Token token = mark();
  retired_.push_back({std::exchange(current_, std::move(next)), token});
  return token;
}

Token Publisher::mark() {
  return Token{rte_rcu_qsbr_start(variable_.get())};
}

bool Publisher::all_readers_passed(Token token) {
  return rte_rcu_qsbr_check(variable_.get(), token.value, false) == 1;
}

uint32_t Publisher::reclaim() {
  take_unused();
  return static_cast<uint32_t>(retired_.size());
}

std::vector<std::shared_ptr<const Snapshot>> Publisher::take_unused() {
  std::vector<std::shared_ptr<const Snapshot>> out;
  for (; !retired_.empty() && all_readers_passed(retired_.front().token); retired_.pop_front())
    out.push_back(std::move(retired_.front().snapshot));
  return out;
}

}  // namespace limpet::snapshot
