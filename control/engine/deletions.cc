#include "control/engine/deletions.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace limpet::engine {

namespace {

constexpr uint32_t kCountingPlacesPerTick = 16384;

// Whether it names keys, not only scopes.
bool names_keys(const worker::EntryFilter& wanted) {
  return wanted.client || wanted.clients || !wanted.servers.empty();
}

}  // namespace

void Deletions::remove(worker::EntryFilter wanted, Answer answer) {
  ++under_way_;
  hooks_.read_news();
  if (!is_mirrored(wanted))
    return order({.wanted = std::move(wanted), .answer = std::move(answer)});
  if (!names_keys(wanted)) return remove_scopes(std::move(wanted), std::move(answer));
  counting_.push_back({.wanted = std::move(wanted), .answer = std::move(answer)});
}

bool Deletions::is_mirrored(const worker::EntryFilter& wanted) const {
  return hooks_.peer_name &&
         std::ranges::any_of(hooks_.snapshot()->scopes, [&](const snapshot::Scope& scope) {
           return scope.mirrored && wanted.has(scope);
         });
}

// Whoever is in the way is named.
std::optional<api::Refusal> Deletions::lacks_room_for(uint32_t tombstones) const {
  const mirroring::UpdateList& list = exchange_.list();
  if (list.room_for_tombstones(tombstones + tombstones_ordered_)) return std::nullopt;
  const auto missing = list.tombstone_waits_for();
  const std::string why =
      missing
          ? fmt::format("{} has not acknowledged earlier deletions yet", hooks_.peer_name(*missing))
          : "earlier deletions have to be kept until nobody can bring back what they deleted";
  return api::Refusal{503,
                      {{"", fmt::format("no room to keep {} deletions for the peers beside {}: {}",
                                        tombstones, list.tombstones(), why)}}};
}

void Deletions::say(const Answer& answer, api::Outcome<api::EntriesRemoved> outcome) {
  --under_way_;
  answer(std::move(outcome));
}

void Deletions::tick() {
  count();
  finish();
}

// --- keys
// -----------------------------------------------------------------------------------------

// A slice of the walk that counts how many tombstones the oldest deletion of keys needs.
void Deletions::count() {
  if (counting_.empty()) return;
  Counting& counting = counting_.front();
  const auto s = hooks_.snapshot();
  const mirroring::Mirror& mirror = exchange_.mirror();
  const uint32_t end = std::min(counting.at + kCountingPlacesPerTick, mirror.places());
  for (; counting.at < end; ++counting.at) {
    const mirroring::Mirror::Binding* b = mirror.at(counting.at);
    if (b == nullptr || !counting.wanted.matches(*s, b->scope, b->key, b->record.server)) continue;
    counting.tombstones += s->scope(b->scope)->mirrored ? 1 : 0;
  }
  if (counting.at < mirror.places()) return;
  const Counting done = std::move(counting);
  counting_.pop_front();
  if (auto refused = lacks_room_for(done.tombstones)) return say(done.answer, std::move(*refused));
  order({.wanted = done.wanted, .tombstones = done.tombstones, .answer = done.answer});
}

// --- whole scopes
// ---------------------------------------------------------------------------------

// Their tombstones have to be above all stamps that the homes have made: so these are asked first.
void Deletions::remove_scopes(worker::EntryFilter wanted, Answer answer) {
  Jobs jobs = questions_.jobs([](worker::Job& job) { job.kind = worker::Job::Kind::kClock; });
  questions_.ask(std::move(jobs), [this, wanted = std::move(wanted), answer](const Jobs& all) {
    binding::Stamp up_to = exchange_.next_stamp(clock_.now());
    for (const auto& job : all) up_to = std::max(up_to, job->clock);
    kill_scopes(wanted, up_to, answer);
  });
}

void Deletions::kill_scopes(const worker::EntryFilter& wanted, binding::Stamp up_to,
                            const Answer& answer) {
  std::vector<binding::ScopeId> scopes;
  uint32_t fresh = 0;
  for (const snapshot::Scope& scope : hooks_.snapshot()->scopes) {
    if (!scope.mirrored || !wanted.has(scope)) continue;
    scopes.push_back(scope.id);
    fresh += exchange_.list().killed_up_to(scope.id).value == 0 ? 1 : 0;
  }
  if (auto refused = lacks_room_for(fresh)) return say(answer, std::move(*refused));
  for (const binding::ScopeId scope : scopes) {
    const bool listed = exchange_.kill_scope(scope, up_to, clock_.now());
    LIMPET_ASSERT(listed);
  }
  order({.wanted = wanted, .up_to = up_to, .answer = answer});
}

// --- both
// -----------------------------------------------------------------------------------------

void Deletions::order(const Order& order) {
  Jobs jobs = questions_.jobs([&](worker::Job& job) {
    job.kind = worker::Job::Kind::kDelete;
    job.filter = order.wanted;
    job.whole_scopes = order.up_to.has_value();
    job.up_to = order.up_to.value_or(binding::Stamp{});
  });
  tombstones_ordered_ += order.tombstones;
  questions_.ask(std::move(jobs), [this, order](const Jobs& all) {
    hooks_.read_news();
    tombstones_ordered_ -= order.tombstones;
    if (order.up_to) exchange_.homes_know(*order.up_to);
    uint64_t removed = 0;
    for (const auto& job : all) removed += job->matched;
    done_.push_back({cores_.mark(), removed, order.answer});
    hooks_.carried_out();
  });
}

void Deletions::finish() {
  while (!done_.empty() && cores_.have_passed(done_.front().token)) {
    hooks_.read_news();
    const Done done = std::move(done_.front());
    done_.pop_front();
    say(done.answer, api::EntriesRemoved{done.removed});
  }
}

}  // namespace limpet::engine
