// What a home does so that other engines know of the activity of its bindings, and of their end:
// announcements, rounds of asking the holders, husks, tombstones (README.md, "Between engines").
#include <algorithm>
#include <utility>

#include "dataplane/replication/replica.h"

namespace limpet::replication {

using binding::Change;
using binding::ScopeSlot;
using binding::ServerId;
using binding::Told;
using persist::Activity;
using persist::Entry;
using persist::Home;
using snapshot::Scope;
using timing::Duration;
using timing::Instant;

// --- activity
// -------------------------------------------------------------------------------------

void Replica::announce(Entry& record, const Announcement& what) {
  Home& home = table_.home(record);
  Activity& a = table_.activity(record);
  const Scope* scope = snapshot_->scope(record.scope);
  if (home.early_rounds > 0 && scope != nullptr &&
      now_ >= a.announced_at + interval(timeout_of(record, *scope), *scope))
    --home.early_rounds;
  a.act = stamps_.at(wall(what.at), a.act);
  a.act_at = what.at;
  a.held = what.held;
  a.announced_at = now_;
  home.holding = what.holding;
  // A round that is under way must not take this for nothing.
  home.heard = home.in_round;
  ++counters_.announced;
  tell_mirror(record, home);
}

// Activity of a binding that is announced as idle, or as another engine's: that is told at once.
void Replica::announce_activity(Entry& record, Home& home) {
  if (home.in_round || !record.confirmed) return;
  const Scope* scope = snapshot_->scope(record.scope);
  if (scope == nullptr || !announces(*scope)) return;
  announce(record, {.at = now_, .held = true, .holding = true});
}

// Its server has changed, by a client that has come.
void Replica::changed(Entry& record) {
  const Scope* scope = snapshot_->scope(record.scope);
  if (scope != nullptr && announces(*scope) && record.confirmed)
    return announce(record, {.at = now_, .held = true, .holding = true});
  tell_mirror(record, table_.home(record), {record.confirmed ? Told::kAll : Told::kNobody, {}});
}

void Replica::confirm_record(Entry& record) {
  record.confirmed = true;
  const Scope* scope = snapshot_->scope(record.scope);
  if (scope != nullptr && announces(*scope))
    return announce(record, {.at = now_, .held = true, .holding = true});
  tell_mirror(record, table_.home(record));
}

// --- rounds
// ---------------------------------------------------------------------------------------

// A core that holds a copy: its home may want to look. Once until it asks; not if there is no room.
void Replica::tell_close(Entry& copy) {
  const Scope* scope = snapshot_->scope(copy.scope);
  if (copy.told_close || scope == nullptr || !announces(*scope)) return;
  copy.told_close = rings_.claims.from(options_.core)
                        .to(home_of(copy.scope, copy.key))
                        .push({.kind = Claim::Kind::kTouch,
                               .confirmed = copy.confirmed,
                               .closed = true,
                               .scope = copy.scope,
                               .serial = copy.serial,
                               .change = copy.change,
                               .key = copy.key,
                               .sent = now_,
                               .version = snapshot_->version});
  ++(copy.told_close ? counters_.touches : counters_.waited);
}

void Replica::note_close(const Entry& record) {
  if (table_.home(record).holding) closes_.add(record.home, now_ + kCloseDelay);
}

// A round before its time for what is idle since kCloseDelay.
void Replica::begin_early_rounds() {
  for (uint32_t i = 0; i < kClosesPerTurn; ++i) {
    const auto place = closes_.take(now_);
    if (!place) return;
    Entry* record = table_.record_at(*place);
    if (record == nullptr || record->husk || !may_begin_early(*record)) continue;
    const Instant due = record->last + kCloseDelay;
    if (now_ < due) {
      closes_.add(*place, due);
    } else {
      begin_round(*record, /*early=*/true);
    }
  }
}

// Each R one for each binding, and a few in stock: a client that comes again and again costs no
// more. Not where others have held it too: that it is over would not be told.
bool Replica::may_begin_early(const Entry& record) const {
  const Home& home = table_.home(record);
  const Scope* scope = snapshot_->scope(record.scope);
  if (!record.confirmed || record.open > 0 || !home.holding || home.in_round || home.asked != 0 ||
      home.evicting || home.early_rounds == kEarlyRoundsMax)
    return false;
  if (scope == nullptr || !announces(*scope)) return false;
  return !others_may_hold(table_.activity(record), record.last,
                          interval(timeout_of(record, *scope), *scope));
}

void Replica::begin_round(Entry& record, bool early) {
  Home& home = table_.home(record);
  home.in_round = true;
  home.early = early;
  if (early) ++home.early_rounds;
  home.found_held = home.heard = false;
  home.round = home.copies;
  ++counters_.rounds;
  go_on_round(record, home);
}

void Replica::go_on_round(Entry& record, Home& home) {
  // Who is being asked to give it up will say as well whether it is held.
  home.round &= home.copies & ~home.asked;
  each(home.round, [&](uint32_t c) {
    if (ask(record, home, c, false)) home.round &= ~(Bits{1} << c);
  });
  if ((home.round | home.asked) == 0) finish_round(record, home);
}

void Replica::finish_round(Entry& record, Home& home) {
  home.in_round = false;
  const bool held = home.found_held || home.heard || record.open > 0;
  home.found_held = home.heard = false;
  if (!held) return announce_release(record, home);
  // Of a round before its time nothing needs to be told, if that is what others know.
  const Activity& a = table_.activity(record);
  if (home.early && a.held && is_ours(a.act)) return;
  announce(record, {.at = now_, .held = true, .holding = true});
}

// Whether another engine has said "held", later than what was last here, or less than two rounds
// of R before it.
bool Replica::others_may_hold(const Activity& a, Instant at, Duration r) const {
  return (a.held && !is_ours(a.act)) || at < a.others_held_at() + 2 * r;
}

Instant Replica::known_deadline(const Entry& record, const Scope& scope) const {
  if (!record.confirmed || !shares(scope) || !table_.home(record).holding)
    return deadline(record, scope);
  const Activity& a = table_.activity(record);
  const Duration timeout = timeout_of(record, scope);
  const Instant at = std::max(record.last, a.act_at);
  if (others_may_hold(a, at, interval(timeout, scope))) return deadline(record, scope);
  return std::max(record.deadline(timeout), a.act_at + timeout);
}

// Nobody holds it here. What another engine has announced later stands; where another has said
// "held", later or not long before, it is not for us to say that it is over: it may have crashed.
void Replica::announce_release(Entry& record, Home& home) {
  home.holding = false;
  const Scope* scope = snapshot_->scope(record.scope);
  if (scope == nullptr) return;
  const Activity& a = table_.activity(record);
  const bool ours = is_ours(a.act);
  const bool later = record.last > a.act_at;
  const Instant at = std::max(record.last, a.act_at);
  const bool by_others = others_may_hold(a, at, interval(timeout_of(record, *scope), *scope));
  if (!later && (!ours || a.held == by_others)) return;
  announce(record, {.at = at, .held = by_others});
}

// Open connections may go on through another engine: those stay held. If there is none they have
// ended with this one.
bool Replica::say_last(std::span<Replica* const> cores, uint32_t* at) {
  for (; *at < table_.home_places(); ++*at) {
    Entry* record = table_.record_at(*at);
    if (record == nullptr || record->husk || !record->confirmed) continue;
    Home& home = table_.home(*record);
    const Scope* scope = snapshot_->scope(record->scope);
    if (!home.holding || scope == nullptr || !announces(*scope)) continue;
    if (rings_.news[options_.core].free_count() == 0) return wait();
    uint32_t open = record->open;
    Instant last = record->last;
    each(home.copies, [&](uint32_t c) {
      const Entry* copy = cores[c]->table_.find(record->scope, record->key);
      if (copy == nullptr || copy->serial != record->serial) return;
      open += copy->open;
      last = std::max(last, copy->last);
    });
    if (open > 0 && shares(*scope)) continue;
    record->last = open > 0 ? now_ : last;
    announce_release(*record, home);
  }
  return true;
}

void Replica::look_at_activity(Entry& record, const Scope& scope) {
  Home& home = table_.home(record);
  if (!record.confirmed || home.evicting || !announces(scope)) return;
  if (home.in_round) return go_on_round(record, home);
  if (!home.holding && !home.heard) return;
  const Instant due =
      table_.activity(record).announced_at + interval(timeout_of(record, scope), scope);
  if (now_ >= due && home.asked == 0) begin_round(record);
}

// --- husks
// ----------------------------------------------------------------------------------------

// Until then a peer may tell of activity that keeps it alive.
bool Replica::husk_is_over(const Entry& husk, const Scope& scope) const {
  const timing::Duration timeout = timeout_of(husk, scope);
  return now_ >= table_.activity(husk).act_at + timeout + interval(timeout, scope);
}

// Its time is over, nobody here holds it; but others may know better.
bool Replica::become_husk(Entry& record) {
  if (!tell_mirror_gone(record.scope, record.key, {})) return false;
  Home& home = table_.home(record);
  record.husk = true;
  record.serial = next_serial();  // whoever knows it by its handle knows it no more
  home.evicting = home.owed = home.heard = home.holding = home.in_round = false;
  home.round = 0;
  ++husks_;
  ++counters_.husks;
  ++counters_.expired;
  return true;
}

void Replica::end_husk(Entry& husk) {
  LIMPET_ASSERT(husk.husk && husk.open == 0 && table_.home(husk).copies == 0);
  --husks_;
  table_.erase(husk);
  bindings_.release();
}

bool Replica::look_at_husk(Entry& husk) {
  const Scope* scope = snapshot_->scope(husk.scope);
  if (scope == nullptr || !shares(*scope) || is_killed(husk, *scope) ||
      husk_is_over(husk, *scope)) {
    end_husk(husk);
    return true;
  }
  const bool left = server_left(husk.server);
  if (!left && !server_left(husk.first)) return true;
  husk.first = binding::kNoServer;
  if (left) husk.server = binding::kNoServer;
  ++table_.home(husk).epoch;
  return true;
}

// A client of the binding comes back: the same lineage, moved.
void Replica::continue_husk(Entry& husk, ServerId server) {
  --husks_;
  husk.husk = false;
  begin_life(husk);
  husk.confirmed = false;
  husk.server = husk.first = server;
  husk.last = now_;
  ++table_.home(husk).epoch;
  ++counters_.created;
}

// A husk gives way to whoever needs its place. False: none was found among those that could be
// looked at now.
bool Replica::take_husks_place() {
  for (uint32_t i = 0; husks_ > 0 && i < kHuskLooks && looks_ < kLooksPerTurn; ++i, ++looks_) {
    husk_at_ = husk_at_ + 1 >= table_.home_places() ? 0 : husk_at_ + 1;
    Entry* record = table_.record_at(husk_at_);
    if (record == nullptr || !record->husk) continue;
    end_husk(*record);
    return true;
  }
  return false;
}

// --- tombstones
// -----------------------------------------------------------------------------------

void Replica::kill_scope(ScopeSlot slot, binding::Stamp up_to) {
  const Scope* scope = snapshot_->scope(slot);
  if (scope == nullptr || killed_.empty()) return;
  stamps_.observe(up_to, wall());
  Killed& killed = killed_[slot.value];
  if (killed.scope != scope->id) killed = {scope->id, {}, false};
  if (up_to <= killed.up_to) return;
  killed.up_to = up_to;
  killed.sweeping = true;
  ++sweeping_;
  restart_sweep();
}

// A live binding beside a tombstone that has just come: peers may have dropped it.
void Replica::tell_if_spared(Entry* record) {
  if (sweeping_ == 0 || record == nullptr || record->husk || !record->confirmed) return;
  const Scope* scope = snapshot_->scope(record->scope);
  if (scope == nullptr || killed_up_to(*scope).value == 0) return;
  if (killed_[record->scope.value].sweeping) tell_mirror(*record, table_.home(*record));
}

bool Replica::remove_killed(Entry& record) {
  const Scope* scope = snapshot_->scope(record.scope);
  if (scope == nullptr || !is_killed(record, *scope)) return true;
  return forget(record, counters_.deleted, {});
}

// What scopes' tombstones kill is part of what came before it.
void Replica::answer_fence() {
  if (sweeping_ > 0) return;
  if (rings_.news[options_.core].push({.kind = Change::Kind::kFence, .fence = *fence_}))
    fence_.reset();
}

bool Replica::forget_tombstone(const binding::Merge& m) {
  if (rings_.news[options_.core].free_count() == 0) return wait();
  if (!tombstones_.forget(m.scope, m.key, m.record.deleted)) return true;
  Entry* record = table_.find(m.scope, m.key);
  if (record != nullptr && !record->husk) {
    tell_mirror(*record, table_.home(*record), {Told::kNobody, {}});
  } else {
    tell_mirror_gone(m.scope, m.key, {});
  }
  return true;
}

}  // namespace limpet::replication
