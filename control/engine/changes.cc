#include "control/engine/changes.h"

#include <utility>

namespace limpet::engine {

namespace {

constexpr timing::Duration kCompileAgain = timing::seconds(1);

bool is_asked_for(const Change& change) {
  return std::holds_alternative<PutDocument>(change) || std::holds_alternative<SetMarks>(change);
}

bool is_lasting(const Changes::Operation& operation) {
  return is_asked_for(operation.change) && operation.keep != Changes::Keep::kNothing;
}

}  // namespace

void Changes::add(Operation operation) {
  queue_.push_back(std::move(operation));
  tick();
}

void Changes::add_first(Operation operation) {
  queue_.push_front(std::move(operation));
  tick();
}

void Changes::tick() {
  if (in_hand_) return advance();
  if (queue_.empty() && running_.due_at <= clock_.now()) queue_.push_back({.change = Recompile{}});
  if (queue_.empty()) return;
  Operation next = std::move(queue_.front());
  queue_.pop_front();
  begin(std::move(next));
}

void Changes::begin(Operation operation) {
  in_hand_ = std::make_shared<InHand>(InHand{.operation = std::move(operation)});
  const auto outcome = std::make_shared<std::optional<std::variant<Prepared, Refused>>>();
  const auto work = [this, hand = in_hand_, outcome, now = clock_.now()] {
    *outcome = prepare(running_, hand->operation.change, around_, now);
    if (auto* prepared = std::get_if<Prepared>(&**outcome)) {
      hooks_.plan(prepared);
      if (hooks_.store && is_lasting(hand->operation))
        prepared->lasting_marks = marks_text(prepared->next);
    }
    // Up to 64 MiB that nobody needs any more.
    if (auto* put = std::get_if<PutDocument>(&hand->operation.change)) put->text = {};
  };
  // Until then the control thread touches nothing of it.
  helper_.run(work, [this, outcome] {
    in_hand_->outcome = std::move(*outcome);
    std::holds_alternative<Refused>(*in_hand_->outcome) ? refuse() : advance();
  });
}

void Changes::refuse() {
  const auto hand = std::exchange(in_hand_, nullptr);
  const Refused& refused = std::get<Refused>(*hand->outcome);
  // Asked for again, but not at once.
  if (std::holds_alternative<Recompile>(hand->operation.change))
    running_.due_at = clock_.now() + kCompileAgain;
  if (is_asked_for(hand->operation.change)) hooks_.refused(hand->operation.change, refused);
  if (hand->operation.refused) hand->operation.refused(refused);
}

void Changes::advance() {
  if (!in_hand_->outcome) return;  // it is being prepared
  InHand& hand = *in_hand_;
  if (!hand.published) {
    // What this engine owns brings no server at a used address: it need not wait for the sweep.
    const bool may = std::holds_alternative<SetOwned>(hand.operation.change) ||
                     cores_.have_swept(running_.snapshot->version);
    if (!may || !cores_.can_publish()) return;
    hand.provided = hand.provided || cores_.provide(*hand.prepared().next.snapshot);
    if (!hand.provided) return;
    hooks_.publishing(hand.prepared());
    hand.published = cores_.publish(hand.prepared().next.snapshot);
  }
  if (cores_.have_passed(*hand.published)) finish();
}

void Changes::finish() {
  const auto done = std::exchange(in_hand_, nullptr);
  spare_.dispose(std::exchange(running_, std::move(done->prepared().next)));
  hooks_.applied(done->operation.change, done->prepared());
  if (hooks_.store && is_lasting(done->operation)) return store(done);
  answer(done, base::Done{});
}

// Answers once what has been applied is on disk too.
void Changes::store(const std::shared_ptr<InHand>& done) {
  std::shared_ptr<const std::string> document;
  if (std::holds_alternative<PutDocument>(done->operation.change)) document = running_.text;
  const auto status = std::make_shared<base::Status>(base::Done{});
  disk_.run(
      [this, done, document, status] {
        const bool all = done->operation.keep == Keep::kAll;
        *status = hooks_.store(document.get(), all ? &done->prepared().lasting_marks : nullptr);
      },
      [this, done, status] { answer(done, *status); });
}

void Changes::answer(const std::shared_ptr<InHand>& done, const base::Status& status) {
  const Operation operation = std::move(done->operation);
  if (status) {
    if (operation.applied) operation.applied(done->prepared());
  } else {
    const base::Error& error = status.errors().front();
    const Refused refused{500, {{error.path, "applied, but not stored: " + error.message}}};
    hooks_.refused(operation.change, refused);
    if (operation.refused) operation.refused(refused);
  }
  spare_.dispose(std::move(done->outcome));
}

}  // namespace limpet::engine
