// The life of a home's bindings, for its own packets, for administrators and by time.
#include "dataplane/replication/keeper.h"

#include <algorithm>

namespace limpet::replication {

using binding::Key;
using binding::ScopeSlot;
using binding::ServerId;
using binding::Told;
using persist::Entry;
using persist::Home;
using snapshot::Scope;

Keeper::Keeper(Book& book, const Roles& roles, balance::Picker& picker)
    : book_(book),
      teller_(roles.teller),
      announcer_(roles.announcer),
      records_(roles.records),
      evictor_(roles.evictor),
      picker_(picker) {}

// --- making, changing, ending --------------------------------------------------------------------

Entry* Keeper::find(const Scope& scope, const Key& key, uint32_t hash) {
  Entry* entry = book_.table.find(scope.slot, key, hash);
  if (entry == nullptr || !entry->is_home()) return entry;
  if (entry->husk) return nullptr;
  return book_.expired(*entry, scope) && records_.end_if_due(*entry) ? nullptr : entry;
}

Keeper::Made Keeper::create(const Scope& scope, const Key& key, ServerId server, const Need& need) {
  if (records_.husks() > 0) {
    if (Entry* husk = book_.table.find(scope.slot, key)) {
      continue_husk(*husk, server, need);
      return {Outcome::kDone, husk};
    }
  }
  if (!book_.bindings.reserve()) {
    if (records_.husks() > 0) {
      if (!evictor_.take_husks_place()) return {Outcome::kWait};
    } else if (const Outcome outcome = evictor_.make_room(scope, need.since);
               outcome != Outcome::kDone) {
      return {outcome};
    }
    if (!book_.bindings.reserve()) return {Outcome::kWait};  // another home was quicker
  }
  Entry* record = records_.make(scope, key);
  if (record == nullptr) {  // this home's share is full: hardly ever before the whole is
    book_.bindings.release();
    if (records_.husks() > 0) evictor_.take_husks_place();
    const Outcome outcome =
        records_.husks() > 0 ? Outcome::kWait : evictor_.make_room(scope, need.since);
    return {outcome == Outcome::kDone ? Outcome::kWait : outcome};
  }
  record->server = record->first = server;
  record->datagram = need.datagram;
  Home& home = book_.home(*record);
  home.stamp = book_.next_stamp();
  if (book_.announcing) {
    book_.activity(*record).act = home.stamp;
    book_.activity(*record).act_at = book_.now;
  }
  ++book_.counters.created;
  // The asker's ring has room for one message: its answer.
  teller_.push_to_others(*record, home, need.asker == kNobody ? 0 : Bits{1} << need.asker);
  teller_.tell_mirror(*record, home, {Told::kNobody, {}});
  return {Outcome::kDone, record};
}

// A client of the binding comes back: the same lineage, moved.
void Keeper::continue_husk(Entry& husk, ServerId server, const Need& need) {
  records_.revive(husk);
  Home& home = book_.home(husk);
  husk.confirmed = false;
  husk.datagram = need.datagram;
  husk.server = husk.first = server;
  husk.last = book_.now;
  ++home.epoch;
  ++book_.counters.created;
  teller_.push_to_others(husk, home, need.asker == kNobody ? 0 : Bits{1} << need.asker);
  teller_.tell_mirror(husk, home, {Told::kNobody, {}});
}

void Keeper::undo_create(Entry& record) {
  if (record.is_home() && book_.home(record).copies == 0 && record.open == 0)
    records_.end(record, book_.counters.undone);
}

void Keeper::set_server(Entry& record, ServerId server) {
  // A client whose server left begins anew with the next one.
  if (record.server == binding::kNoServer) record.first = server;
  record.server = server;
  ++record.change;
  ++book_.home(record).epoch;
  ++book_.counters.moved;
}

Outcome Keeper::move(Entry& record, ServerId server, bool datagram) {
  Home& home = book_.home(record);
  if (!teller_.room(home.copies)) return Outcome::kWait;
  set_server(record, server);
  record.last = book_.now;
  record.datagram = record.datagram || datagram;
  home.evicting = false;
  teller_.tell_all(home.copies, record, home);
  announcer_.moved(record);
  return Outcome::kDone;
}

Outcome Keeper::remove(Entry& record) {
  const Scope* scope = book_.scope_of(record);
  if (scope == nullptr || !book_.shares(*scope))
    return records_.forget(record, book_.counters.deleted, {}) ? Outcome::kDone : Outcome::kWait;
  // All that forget() needs, before there is a tombstone.
  if (!teller_.room(book_.home(record).copies) || !teller_.room_for_news()) return Outcome::kWait;
  if (!book_.tombstones.raise(record.scope, record.key, book_.next_stamp()))
    ++book_.counters.tombstones_refused;
  const bool gone = records_.forget(record, book_.counters.deleted, {Told::kAll, {}});
  LIMPET_ASSERT(gone);
  return Outcome::kDone;
}

// --- tombstones of scopes ------------------------------------------------------------------------

void Keeper::kill_scope(ScopeSlot slot, binding::Stamp up_to) {
  const Scope* scope = book_.snapshot->scope(slot);
  if (scope == nullptr || !book_.options.peers) return;
  book_.stamps.observe(up_to, book_.wall());
  if (book_.scope_tombstones.raise(*scope, up_to)) restart_sweep();
}

bool Keeper::remove_killed(Entry& record) {
  const Scope* scope = book_.scope_of(record);
  if (scope == nullptr || !book_.is_killed(record, *scope)) return true;
  return records_.forget(record, book_.counters.deleted, {});
}

// A live binding beside a tombstone that has just come: peers may have dropped it.
void Keeper::tell_if_spared(Entry* record) {
  if (!book_.scope_tombstones.any_fresh() || record == nullptr || record->husk ||
      !record->confirmed)
    return;
  const Scope* scope = book_.scope_of(*record);
  if (scope != nullptr && book_.scope_tombstones.is_fresh(*scope))
    teller_.tell_mirror(*record, book_.home(*record));
}

// --- time and snapshots --------------------------------------------------------------------------

bool Keeper::server_left(ServerId server) const {
  const auto& left = book_.snapshot->servers_left;
  return std::binary_search(left.begin(), left.end(), server);
}

// Carries out what time or the snapshot mean for a record. False: something has no room yet.
bool Keeper::look_at(Entry& record) {
  if (record.husk) {
    look_at_husk(record);
    return true;
  }
  Home& home = book_.home(record);
  const Scope* scope = book_.scope_of(record);
  if (scope == nullptr) return records_.forget(record, book_.counters.dropped, {});
  if (book_.is_killed(record, *scope)) return records_.forget(record, book_.counters.killed, {});
  const bool left = server_left(record.server);
  if (left || server_left(record.first)) {
    // So that a new server at a used address inherits nobody.
    if (!teller_.room(home.copies)) return false;
    record.first = binding::kNoServer;
    if (left) record.server = binding::kNoServer;
    ++record.change;
    ++home.epoch;
    teller_.tell_all(home.copies, record, home);
    teller_.tell_mirror(record, home);
  }
  if (home.owed) teller_.tell_mirror(record, home);
  if (book_.announcing) announcer_.look_at(record, *scope);
  if (!book_.expired(record, *scope)) return true;
  if (!records_.end_if_due(record)) teller_.recall(record, home);
  return true;
}

void Keeper::look_at_husk(Entry& husk) {
  const Scope* scope = book_.scope_of(husk);
  if (scope == nullptr || !book_.shares(*scope) || book_.is_killed(husk, *scope) ||
      records_.husk_is_over(husk, *scope))
    return records_.end_husk(husk);
  const bool left = server_left(husk.server);
  if (!left && !server_left(husk.first)) return;
  husk.first = binding::kNoServer;
  if (left) husk.server = binding::kNoServer;
  ++book_.home(husk).epoch;
}

void Keeper::advance(uint32_t records) {
  evictor_.advance();
  if (book_.announcing) announcer_.advance();
  for (uint32_t i = 0; i < records; ++i) {
    if (advance_at_ >= book_.table.home_places()) {
      advance_at_ = 0;
      return;
    }
    if (Entry* record = book_.table.record_at(advance_at_++)) look_at(*record);
  }
  for (uint32_t i = 0; i < records; ++i) book_.table.prefetch_record(advance_at_ + i, records);
}

// Tombstones of scopes that have gone go with them.
bool Keeper::sweep_tombstones(uint32_t count) {
  if (tombstones_swept_) return true;
  tombstone_at_ = book_.tombstones.forget_if(
      tombstone_at_, count, [&](ScopeSlot slot) { return book_.snapshot->scope(slot) == nullptr; });
  if (tombstone_at_ != 0) return false;
  tombstones_swept_ = true;
  book_.scope_tombstones.all_looked_at();
  return true;
}

bool Keeper::sweep(uint32_t records) {
  for (uint32_t i = 0; i < records; ++i) {
    if (sweep_at_ >= book_.table.home_places()) return sweep_tombstones(records);
    Entry* record = book_.table.record_at(sweep_at_);
    if (record != nullptr && !look_at(*record)) return false;
    tell_if_spared(book_.table.record_at(sweep_at_));
    ++sweep_at_;
  }
  return false;
}

}  // namespace limpet::replication
