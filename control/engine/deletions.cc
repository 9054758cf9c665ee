// Deleting bindings by the API. Homes do it, as jobs. Between engines a deletion needs tombstones:
// of whole scopes (everything, a virtual service, a pool), or of the keys (a client, a server); and
// room for all of them, or it is refused whole.
#include <fmt/core.h>

#include <algorithm>

#include "control/engine/engine.h"

namespace limpet::engine {

namespace {

constexpr uint32_t kPlacesCountedPerTick = 16384;

// Whether it names keys, not only scopes.
bool names_keys(const worker::EntryFilter& wanted) {
  return wanted.client || wanted.clients || !wanted.servers.empty();
}

}  // namespace

void Engine::delete_entries(api::EntryFilter filter, DeletionAnswer answer) {
  worker::EntryFilter wanted;
  bool nobody = false;
  if (auto refused = resolve(filter, &wanted, &nobody)) return answer(std::move(*refused));
  if (nobody) return answer(api::EntriesRemoved{0});
  drain_news();
  if (!deletes_mirrored(wanted)) return order_deletion({.wanted = wanted, .answer = answer});
  names_keys(wanted) ? delete_keys(std::move(wanted), std::move(answer))
                     : delete_scopes(std::move(wanted), std::move(answer));
}

bool Engine::deletes_mirrored(const worker::EntryFilter& wanted) const {
  const auto& scopes = running_.snapshot->scopes;
  return transport_ && std::any_of(scopes.begin(), scopes.end(), [&](const snapshot::Scope& scope) {
           return scope.live && scope.mirrored && wanted.scopes[scope.slot.value];
         });
}

// Whoever is in the way is named.
std::optional<api::Refusal> Engine::lacks_room_for(uint32_t tombstones) const {
  const mirroring::UpdateList& list = exchange_->list();
  if (list.room_for_tombstones(tombstones + tombstones_ordered_)) return std::nullopt;
  const auto missing = list.tombstone_waits_for();
  const std::string why =
      missing ? fmt::format("{} has not acknowledged earlier deletions yet",
                            transport_->engine().peers[missing->value].name)
              : "earlier deletions have to be kept until nobody can bring back what they deleted";
  return api::Refusal{503,
                      {{"", fmt::format("no room to keep {} deletions for the peers beside {}: {}",
                                        tombstones, list.tombstones(), why)}}};
}

// --- keys
// -----------------------------------------------------------------------------------------

void Engine::delete_keys(worker::EntryFilter wanted, DeletionAnswer answer) {
  counting_.push_back({.wanted = std::move(wanted), .answer = std::move(answer)});
  go_on_counting();
}

// A slice of the walk that counts how many tombstones the oldest deletion of keys needs.
void Engine::go_on_counting() {
  if (counting_.empty()) return;
  Counting& counting = counting_.front();
  const snapshot::Snapshot& s = *running_.snapshot;
  const uint32_t end = std::min(counting.at + kPlacesCountedPerTick, mirror().places());
  for (; counting.at < end; ++counting.at) {
    const mirroring::Mirror::Binding* b = mirror().at(counting.at);
    if (b == nullptr) continue;
    if (!counting.wanted.matches(s, b->scope, b->key, b->record.server)) continue;
    counting.tombstones += s.scope(b->scope)->mirrored ? 1 : 0;
  }
  if (counting.at < mirror().places()) return;
  const Counting done = std::move(counting);
  counting_.pop_front();
  if (auto refused = lacks_room_for(done.tombstones)) return done.answer(std::move(*refused));
  order_deletion({.wanted = done.wanted, .tombstones = done.tombstones, .answer = done.answer});
}

// --- whole scopes
// ---------------------------------------------------------------------------------

// Their tombstones have to be above all stamps that the homes have made: so these are asked first.
void Engine::delete_scopes(worker::EntryFilter wanted, DeletionAnswer answer) {
  std::vector<std::unique_ptr<worker::Job>> jobs;
  for (std::size_t w = 0; w < cores_.size(); ++w) {
    auto job = std::make_unique<worker::Job>();
    job->kind = worker::Job::Kind::kClock;
    jobs.push_back(std::move(job));
  }
  ask(std::move(jobs), [this, wanted = std::move(wanted), answer](const Question& q) {
    persist::Stamp up_to = exchange_->next_stamp(clock_.now());
    for (const auto& job : q.jobs) up_to = std::max(up_to, job->clock);
    kill_scopes(wanted, up_to, answer);
  });
}

void Engine::kill_scopes(const worker::EntryFilter& wanted, persist::Stamp up_to,
                         const DeletionAnswer& answer) {
  // Slots that have another meaning since the request was made are dropped anyway.
  std::vector<snapshot::ScopeId> scopes;
  uint32_t fresh = 0;
  for (const snapshot::Scope& scope : running_.snapshot->scopes) {
    const uint32_t slot = scope.slot.value;
    if (!scope.live || !scope.mirrored || slot >= wanted.scopes.size() || !wanted.scopes[slot])
      continue;
    scopes.push_back(scope.id);
    fresh += exchange_->list().killed_up_to(scope.id).value == 0 ? 1 : 0;
  }
  if (auto refused = lacks_room_for(fresh)) return answer(std::move(*refused));
  for (const snapshot::ScopeId scope : scopes) {
    const bool listed = exchange_->kill_scope(scope, up_to, clock_.now());
    LIMPET_ASSERT(listed);
  }
  order_deletion({.wanted = wanted, .up_to = up_to, .answer = answer});
}

// --- both
// -----------------------------------------------------------------------------------------

void Engine::order_deletion(const DeletionOrder& order) {
  std::vector<std::unique_ptr<worker::Job>> jobs;
  for (std::size_t w = 0; w < cores_.size(); ++w) {
    auto job = std::make_unique<worker::Job>();
    job->kind = worker::Job::Kind::kDelete;
    job->filter = order.wanted;
    job->whole_scopes = order.up_to.has_value();
    job->up_to = order.up_to.value_or(persist::Stamp{});
    jobs.push_back(std::move(job));
  }
  tombstones_ordered_ += order.tombstones;
  ask(std::move(jobs), [this, order](const auto& q) {
    drain_news();
    tombstones_ordered_ -= order.tombstones;
    if (order.up_to) exchange_->homes_know(*order.up_to);
    Deletion deletion{publisher_->mark(), 0, order.answer};
    for (const auto& job : q.jobs) deletion.removed += job->matched;
    deletions_.push_back(std::move(deletion));
    if (keeper_) keeper_->hurry();
  });
}

// A deletion is done when every worker has begun another turn since the homes were done: what it
// receives from then on, it judges after it has heard of it (R2).
void Engine::finish_deletions() {
  while (!deletions_.empty() && publisher_->all_readers_passed(deletions_.front().token)) {
    drain_news();
    const Deletion done = std::move(deletions_.front());
    deletions_.pop_front();
    watch_limits();  // a table that is full again after this is an event again
    done.answer(api::EntriesRemoved{done.removed});
  }
}

}  // namespace limpet::engine
