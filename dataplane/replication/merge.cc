// What a home does with what other engines know of its keys (README.md, "Between engines").
#include <algorithm>

#include "dataplane/replication/replica.h"

namespace limpet::replication {

using binding::Change;
using binding::Merge;
using binding::Record;
using binding::Stamp;
using binding::Told;
using persist::Activity;
using persist::Entry;
using persist::Home;
using snapshot::Scope;
using timing::Duration;
using timing::Instant;

// News of a key, and what comes of it.
struct Replica::Meeting {
  const Merge& m;
  const Scope& scope;
  Record mine;   // not live: nothing that takes part
  Stamp killed;  // what was made up to then is dead
  binding::Merged merged;

  bool changed() const { return merged.record != mine; }
  Farewell whom() const { return {merged.told, m.source}; }
};

bool Replica::on_merge(const Merge& m) {
  stamps_.observe(std::max({m.record.stamp, m.record.deleted, m.record.act}), wall());
  if (m.kind == Merge::Kind::kFence) {
    if (fence_) return wait();  // the one before has not been answered
    fence_ = m.fence;
    return true;
  }
  const Scope* scope = scope_of(m.scope, m.version);
  if (scope == nullptr) {
    ++counters_.merges_gone;
    return true;
  }
  switch (m.kind) {
    case Merge::Kind::kKillScope:
      kill_scope(m.scope, m.record.deleted);
      return true;
    case Merge::Kind::kForgetScope:
      if (killed_up_to(*scope) == m.record.deleted && !killed_.empty()) killed_[m.scope.value] = {};
      return true;
    case Merge::Kind::kForget:
      return forget_tombstone(m);
    default:
      return merge_record(m, *scope);
  }
}

// False: not yet, something has no room.
bool Replica::merge_record(const Merge& m, const Scope& scope) {
  Entry* record = table_.find(m.scope, m.key);
  // An embryonic binding takes no part: a live one replaces it.
  const bool known = record != nullptr && record->confirmed;
  binding::Meeting meeting{.theirs = m.record,
                           .killed = killed_up_to(scope),
                           .from_disk = m.source.peer == binding::kNoPeer};
  if (known) meeting.mine = record_of(*record);
  meeting.mine.deleted = tombstones_.of_key(m.scope, m.key);
  if (!announcing_) {
    meeting.theirs.act = {};
    meeting.theirs.held = false;
  }
  const Duration timeout =
      m.record.timeout_ms == 0 ? scope.timeout : timing::milliseconds(m.record.timeout_ms);
  meeting.expired.a = known && record->open == 0 && table_.home(*record).copies == 0 &&
                      (record->husk || expired(*record, scope));
  meeting.expired.b =
      announcing_ && now_ >= m.act_at + timeout + slack(m.record.held, timeout, scope);
  // When its activity was is known, so also how far the clock was ahead that stamped it: else what
  // is announced here would seem to be before it by as long as the news took.
  if (announcing_ && m.record.act.value != 0 && !meeting.expired.b)
    stamps_.observe(m.record.act, wall(std::min(m.act_at, now_)));
  // What is over lies behind us, whatever its stamp says: who was active since may have lost its
  // clock, and heard of ours nowhere.
  if (meeting.expired.a && !meeting.expired.b && announcing_ && m.record.live() &&
      m.act_at > table_.activity(*record).act_at) {
    meeting.mine.act = {};
    meeting.mine.held = false;
  }
  // A tombstone that finds no room kills what is there and is forgotten. If it counted, two engines
  // would tell each other of it for ever.
  if (meeting.theirs.deleted > meeting.mine.deleted && !tombstones_.has_room(m.scope, m.key)) {
    ++counters_.tombstones_refused;
    meeting.killed = std::max(meeting.killed, meeting.theirs.deleted);
    meeting.theirs.deleted = meeting.mine.deleted;
  }
  Meeting x{m, scope, meeting.mine, meeting.killed, binding::meet(meeting)};
  x.killed = std::max(x.killed, x.merged.record.deleted);
  if (x.merged.ignored) ++counters_.merges_expired;
  if (!x.merged.record.live()) return bury(x, record);
  if (record == nullptr) return adopt_record(x);
  return record->husk ? change_husk(x, *record) : change_record(x, *record);
}

void Replica::raise_tombstone(const Meeting& x) {
  if (!x.merged.raised) return;
  const bool has_room = tombstones_.raise(x.m.scope, x.m.key, x.merged.record.deleted);
  LIMPET_ASSERT(has_room);
}

// No binding is left of what both know, but perhaps a tombstone.
bool Replica::bury(const Meeting& x, Entry* record) {
  const bool dies = record != nullptr && table_.home(*record).stamp <= x.killed;
  const Farewell farewell = x.whom();
  if (!dies && farewell.told == Told::kNobody) return true;
  if (rings_.news[options_.core].free_count() == 0) return wait();
  if (dies) {
    if (!room(table_.home(*record).copies)) return false;
    raise_tombstone(x);
    return forget(*record, counters_.killed, farewell);
  }
  raise_tombstone(x);
  if (record != nullptr && !record->husk) {  // an embryonic one, made after that
    tell_mirror(*record, table_.home(*record), farewell);
    return true;
  }
  return farewell.told == Told::kNobody || tell_mirror_gone(x.m.scope, x.m.key, farewell);
}

// A record for a key that has none; null: no room.
Entry* Replica::reserve_record(const Scope& scope, const binding::Key& key) {
  if (!bindings_.reserve()) return nullptr;
  Entry* record = make(scope, key);
  if (record == nullptr) bindings_.release();
  return record;
}

// Where the table is full a husk gives way, or one of a sample that nobody here has a copy of: an
// embryonic one (a doubtful one where nothing is purged), or (where that is the policy) the longest
// idle, if it has been idle longer than what comes.
bool Replica::adopt_record(const Meeting& x) {
  Entry* record = reserve_record(x.scope, x.m.key);
  if (record == nullptr && husks_ > 0) {
    if (take_husks_place()) record = reserve_record(x.scope, x.m.key);
    if (record == nullptr) return wait();
  }
  if (record == nullptr) {
    if (looks_ + looks_of_search() > kLooksPerTurn) return wait();
    Entry* victim = longest_idle(persist::kNoActivity, !x.scope.purge).longest;
    if (victim != nullptr && table_.home(*victim).copies == 0 &&
        (!victim->confirmed || (x.scope.purge && idle_since(*victim) < x.m.act_at))) {
      if (!end(*victim, victim->confirmed ? counters_.evicted_idle : counters_.evicted_embryonic))
        return false;
      record = reserve_record(x.scope, x.m.key);
    }
  }
  if (record == nullptr) {
    ++counters_.merges_refused;
    return true;
  }
  record->last = persist::kNoActivity;
  store(x, *record);
  ++counters_.merged;
  Home& home = table_.home(*record);
  push_to_others(*record, home, 0);
  tell_mirror(*record, home, x.whom());
  return true;
}

// What both know becomes what we know.
void Replica::store(const Meeting& x, Entry& record) {
  raise_tombstone(x);
  Home& home = table_.home(record);
  const Record& merged = x.merged.record;
  record.confirmed = true;
  record.server = merged.server;
  record.first = merged.first;
  home.stamp = merged.stamp;
  home.epoch = merged.epoch;
  home.timeout_ms = merged.timeout_ms;
  if (!announcing_) {
    record.last = std::max(record.last, now_);
    return;
  }
  Activity& a = table_.activity(record);
  if (!x.mine.live() || merged.act != x.mine.act) a.act_at = x.m.act_at;
  a.act = merged.act;
  a.held = merged.held;
  if (x.m.record.held && !is_ours(x.m.record.act)) a.note_others_held(x.m.act_at);
  // Peers are told nothing of this scope, so nobody else's activity can come later.
  if (!shares(x.scope)) {
    const Duration timeout = timeout_of(record, x.scope);
    record.last = std::max(record.last, a.act_at + slack(a.held, timeout, x.scope));
  }
}

bool Replica::change_record(const Meeting& x, Entry& record) {
  Home& home = table_.home(record);
  const bool lineage = !record.confirmed || x.merged.record.stamp != home.stamp;
  const bool moved =
      x.merged.record.server != record.server || x.merged.record.first != record.first;
  if (!lineage && !x.changed() && x.merged.told == Told::kNobody) return true;
  if ((lineage || moved) && !room(home.copies)) return false;
  const bool other_epoch = x.merged.record.epoch != home.epoch;
  if (lineage) {
    begin_life(record);
  } else if (moved) {
    ++record.change;
  }
  store(x, record);
  if (lineage || moved) {
    ++counters_.merged;
    tell_all(home.copies, record, home);
  }
  if (!announces(x.scope)) {
    tell_mirror(record, home, x.whom());
    return true;
  }
  // Those who hold it go on with what the other engine made of it.
  if (!lineage && other_epoch && home.holding) {
    announce(record, {.at = now_, .held = true, .holding = true});
    return true;
  }
  tell_mirror(record, home, x.whom());
  // Is it still held here? Of another lineage nobody has said so; and what others know must not
  // be that it is over.
  if (lineage || (home.holding && !x.merged.record.held && !home.in_round)) begin_round(record);
  return true;
}

// A record that is over: news may bring it back.
bool Replica::change_husk(const Meeting& x, Entry& husk) {
  Home& home = table_.home(husk);
  if (rings_.news[options_.core].free_count() == 0) return wait();
  store(x, husk);
  if (now_ < deadline(husk, x.scope)) {
    --husks_;
    husk.husk = false;
    begin_life(husk);
    ++counters_.revived;
    tell_mirror(husk, home, {Told::kAll, x.m.source});
    return true;
  }
  if (x.merged.raised) tell_mirror_gone(husk.scope, husk.key, {Told::kAll, x.m.source});
  return true;
}

// Another life of the key: answers of the one before say nothing about it, its connections go on
// uncounted.
void Replica::begin_life(Entry& record) {
  Home& home = table_.home(record);
  lost_counts_ = lost_counts_ || record.open > 0;
  record.serial = next_serial();
  record.change = 0;
  record.open = 0;
  home.asked = home.regranted = home.round = 0;
  home.evicting = home.owed = home.heard = home.holding = home.in_round = home.found_held = false;
  home.created = now_;
}

}  // namespace limpet::replication
