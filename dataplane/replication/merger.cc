#include "dataplane/replication/merger.h"

#include <algorithm>

namespace limpet::replication {

using binding::Merge;
using binding::Record;
using binding::Stamp;
using binding::Told;
using persist::Activity;
using persist::Entry;
using persist::Home;
using snapshot::Scope;
using timing::Duration;

Merger::Merger(Book& book, const Roles& roles)
    : book_(book),
      teller_(roles.teller),
      announcer_(roles.announcer),
      records_(roles.records),
      evictor_(roles.evictor),
      keeper_(roles.keeper) {}

// News of a key, and what comes of it.
struct Merger::Meeting {
  const Merge& m;
  const Scope& scope;
  Record mine;   // not live: nothing that takes part
  Stamp killed;  // what was made up to then is dead
  binding::Merged merged;

  bool changed() const { return merged.record != mine; }
  Teller::Whom whom() const { return {merged.told, m.source}; }
};

bool Merger::on_merge(const Merge& m) {
  book_.stamps.observe(std::max({m.record.stamp, m.record.deleted, m.record.act}), book_.wall());
  if (m.kind == Merge::Kind::kFence) {
    if (fence_) return book_.wait();  // the one before has not been answered
    fence_ = m.fence;
    return true;
  }
  const Scope* scope = book_.scope_of(m.scope, m.version);
  if (scope == nullptr) {
    ++book_.counters.merges_gone;
    return true;
  }
  switch (m.kind) {
    case Merge::Kind::kKillScope:
      keeper_.kill_scope(m.scope, m.record.deleted);
      return true;
    case Merge::Kind::kForgetScope:
      book_.scope_tombstones.forget(*scope, m.record.deleted);
      return true;
    case Merge::Kind::kForget:
      return forget_tombstone(m);
    default:
      return merge_record(m, *scope);
  }
}

// False: not yet, something has no room.
bool Merger::merge_record(const Merge& m, const Scope& scope) {
  Entry* record = book_.table.find(m.scope, m.key);
  // An embryonic binding takes no part: a live one replaces it.
  const bool known = record != nullptr && record->confirmed;
  binding::Meeting meeting{.theirs = m.record,
                           .killed = book_.scope_tombstones.of(scope),
                           .from_disk = m.source.peer == binding::kNoPeer};
  if (known) meeting.mine = book_.record_of(*record);
  meeting.mine.deleted = book_.tombstones.of_key(m.scope, m.key);
  if (!book_.announcing) {
    meeting.theirs.act = {};
    meeting.theirs.held = false;
  }
  const Duration timeout =
      m.record.timeout_ms == 0 ? scope.timeout : timing::milliseconds(m.record.timeout_ms);
  meeting.expired.a = known && record->open == 0 && book_.home(*record).copies == 0 &&
                      (record->husk || book_.expired(*record, scope));
  meeting.expired.b = book_.announcing &&
                      book_.now >= m.act_at + timeout + book_.slack(m.record.held, timeout, scope);
  // When its activity was is known, so also how far the clock was ahead that stamped it: else what
  // is announced here would seem to be before it by as long as the news took.
  if (book_.announcing && m.record.act.value != 0 && !meeting.expired.b)
    book_.stamps.observe(m.record.act, book_.wall(std::min(m.act_at, book_.now)));
  // What is over lies behind us, whatever its stamp says: who was active since may have lost its
  // clock, and heard of ours nowhere.
  if (meeting.expired.a && !meeting.expired.b && book_.announcing && m.record.live() &&
      m.act_at > book_.activity(*record).act_at) {
    meeting.mine.act = {};
    meeting.mine.held = false;
  }
  // A tombstone that finds no room kills what is there and is forgotten. If it counted, two engines
  // would tell each other of it for ever.
  if (meeting.theirs.deleted > meeting.mine.deleted && !book_.tombstones.has_room(m.scope, m.key)) {
    ++book_.counters.tombstones_refused;
    meeting.killed = std::max(meeting.killed, meeting.theirs.deleted);
    meeting.theirs.deleted = meeting.mine.deleted;
  }
  Meeting x{m, scope, meeting.mine, meeting.killed, binding::meet(meeting)};
  x.killed = std::max(x.killed, x.merged.record.deleted);
  if (x.merged.ignored) ++book_.counters.merges_expired;
  if (!x.merged.record.live()) return bury(x, record);
  if (record == nullptr) return adopt_record(x);
  return record->husk ? change_husk(x, *record) : change_record(x, *record);
}

void Merger::raise_tombstone(const Meeting& x) {
  if (!x.merged.raised) return;
  const bool has_room = book_.tombstones.raise(x.m.scope, x.m.key, x.merged.record.deleted);
  LIMPET_ASSERT(has_room);
}

// No binding is left of what both know, but perhaps a tombstone.
bool Merger::bury(const Meeting& x, Entry* record) {
  const bool dies = record != nullptr && book_.home(*record).stamp <= x.killed;
  const Teller::Whom whom = x.whom();
  if (!dies && whom.told == Told::kNobody) return true;
  if (!teller_.room_for_news()) return book_.wait();
  if (dies) {
    if (!teller_.room(book_.home(*record).copies)) return false;
    raise_tombstone(x);
    return records_.forget(*record, book_.counters.killed, whom);
  }
  raise_tombstone(x);
  if (record != nullptr && !record->husk) {  // an embryonic one, made after that
    teller_.tell_mirror(*record, book_.home(*record), whom);
    return true;
  }
  return whom.told == Told::kNobody || teller_.tell_mirror_gone(x.m.scope, x.m.key, whom);
}

// Where the table is full a husk gives way, or one of a sample that nobody here has a copy of: an
// embryonic one (a doubtful one where nothing is purged), or (where that is the policy) the longest
// idle, if it has been idle longer than what comes.
bool Merger::adopt_record(const Meeting& x) {
  Entry* record = records_.reserve_and_make(x.scope, x.m.key);
  if (record == nullptr && records_.husks() > 0) {
    if (evictor_.take_husks_place()) record = records_.reserve_and_make(x.scope, x.m.key);
    if (record == nullptr) return book_.wait();
  }
  if (record == nullptr) {
    if (!evictor_.may_search()) return book_.wait();
    Entry* victim = evictor_.longest_idle(persist::kNoActivity, !x.scope.purge).longest;
    if (victim != nullptr && book_.home(*victim).copies == 0 &&
        (!victim->confirmed || (x.scope.purge && book_.idle_since(*victim) < x.m.act_at))) {
      if (!records_.end(*victim, victim->confirmed ? book_.counters.evicted_idle
                                                   : book_.counters.evicted_embryonic))
        return false;
      record = records_.reserve_and_make(x.scope, x.m.key);
    }
  }
  if (record == nullptr) {
    ++book_.counters.merges_refused;
    return true;
  }
  record->last = persist::kNoActivity;
  store(x, *record);
  ++book_.counters.merged;
  Home& home = book_.home(*record);
  teller_.push_to_others(*record, home, 0);
  teller_.tell_mirror(*record, home, x.whom());
  return true;
}

// What both know becomes what we know.
void Merger::store(const Meeting& x, Entry& record) {
  raise_tombstone(x);
  Home& home = book_.home(record);
  const Record& merged = x.merged.record;
  record.confirmed = true;
  record.server = merged.server;
  record.first = merged.first;
  home.stamp = merged.stamp;
  home.epoch = merged.epoch;
  home.timeout_ms = merged.timeout_ms;
  if (!book_.announcing) {
    record.last = std::max(record.last, book_.now);
    return;
  }
  Activity& a = book_.activity(record);
  if (!x.mine.live() || merged.act != x.mine.act) a.act_at = x.m.act_at;
  a.act = merged.act;
  a.held = merged.held;
  if (x.m.record.held && !book_.is_ours(x.m.record.act)) a.note_others_held(x.m.act_at);
  // Peers are told nothing of this scope, so nobody else's activity can come later.
  if (!book_.shares(x.scope)) {
    const Duration timeout = book_.timeout_of(record, x.scope);
    record.last = std::max(record.last, a.act_at + book_.slack(a.held, timeout, x.scope));
  }
}

bool Merger::change_record(const Meeting& x, Entry& record) {
  Home& home = book_.home(record);
  const bool lineage = !record.confirmed || x.merged.record.stamp != home.stamp;
  const bool moved =
      x.merged.record.server != record.server || x.merged.record.first != record.first;
  if (!lineage && !x.changed() && x.merged.told == Told::kNobody) return true;
  if ((lineage || moved) && !teller_.room(home.copies)) return false;
  const bool other_epoch = x.merged.record.epoch != home.epoch;
  if (lineage) {
    records_.begin_life(record);
  } else if (moved) {
    ++record.change;
  }
  store(x, record);
  if (lineage || moved) {
    ++book_.counters.merged;
    teller_.tell_all(home.copies, record, home);
  }
  if (!book_.announces(x.scope)) {
    teller_.tell_mirror(record, home, x.whom());
    return true;
  }
  // Those who hold it go on with what the other engine made of it.
  if (!lineage && other_epoch && home.holding) {
    announcer_.announce_held(record);
    return true;
  }
  teller_.tell_mirror(record, home, x.whom());
  // Is it still held here? Of another lineage nobody has said so; and what others know must not
  // be that it is over.
  if (lineage || (home.holding && !x.merged.record.held && !home.in_round))
    announcer_.begin_round(record);
  return true;
}

// A record that is over: news may bring it back.
bool Merger::change_husk(const Meeting& x, Entry& husk) {
  Home& home = book_.home(husk);
  if (!teller_.room_for_news()) return book_.wait();
  store(x, husk);
  if (book_.now < book_.deadline(husk, x.scope)) {
    records_.revive(husk);
    ++book_.counters.revived;
    teller_.tell_mirror(husk, home, {Told::kAll, x.m.source});
    return true;
  }
  if (x.merged.raised) teller_.tell_mirror_gone(husk.scope, husk.key, {Told::kAll, x.m.source});
  return true;
}

bool Merger::forget_tombstone(const Merge& m) {
  if (!teller_.room_for_news()) return book_.wait();
  if (!book_.tombstones.forget(m.scope, m.key, m.record.deleted)) return true;
  Entry* record = book_.table.find(m.scope, m.key);
  if (record != nullptr && !record->husk) {
    teller_.tell_mirror(*record, book_.home(*record), {Told::kNobody, {}});
  } else {
    teller_.tell_mirror_gone(m.scope, m.key, {});
  }
  return true;
}

// What scopes' tombstones kill is part of what came before it.
void Merger::answer_fence() {
  if (!book_.scope_tombstones.any_fresh() && teller_.tell_fence(*fence_)) fence_.reset();
}

}  // namespace limpet::replication
