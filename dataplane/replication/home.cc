// What a core does as the home of its keys.
#include <algorithm>
#include <utility>

#include "dataplane/replication/replica.h"

namespace limpet::replication {

using balance::Bound;
using balance::Judgement;
using balance::Reason;
using binding::Change;
using binding::Key;
using binding::Record;
using binding::ScopeSlot;
using binding::ServerId;
using binding::Told;
using persist::Entry;
using persist::Home;
using snapshot::Scope;
using snapshot::Server;
using timing::Instant;
using Action = Judgement::Action;

Replica::Replica(const Options& options, Rings& rings, persist::Bindings& bindings,
                 balance::Picker& picker, const base::KeyedHash& hash, base::Random& random,
                 std::pmr::memory_resource* memory)
    : options_(options),
      announcing_(options.peers || options.disk),
      rings_(rings),
      bindings_(bindings),
      picker_(picker),
      random_(random),
      homes_(persist::homes_of(rings.cores(), bindings.limit())),
      table_(capacity_of(rings.cores(), rings.capacity, bindings.limit(), announcing_), hash,
             memory),
      tombstones_(options.peers ? tombstones_of(rings.cores(), bindings.limit()) : 0, hash, memory),
      killed_(options.peers ? base::kScopesMax : 0, memory),
      stamps_(options.node),
      // Serials of different homes must differ too: a flow knows its entry by place and serial.
      serial_(options.core * (UINT32_MAX / static_cast<uint32_t>(base::kWorkersMax))),
      credits_(rings.cores()),
      closes_(announcing_ ? closes_of(rings.cores(), bindings.limit()) : 0, memory) {
  evicting_.reserve(kEvictionsMax);
}

// --- telling
// --------------------------------------------------------------------------------------

bool Replica::room(Bits cores) {
  bool all = true;
  each(cores, [&](uint32_t c) { all = all && down(c).free_count() > 0; });
  return all || wait();
}

void Replica::send_update(uint32_t to, const Entry& record, Home& home, Down m) {
  m.kind = Down::Kind::kUpdate;
  m.confirmed = record.confirmed;
  m.datagram = record.datagram;
  m.scope = record.scope;
  m.serial = record.serial;
  m.change = record.change;
  m.key = record.key;
  m.server = record.server;
  m.first = record.first;
  m.version = snapshot_->version;
  const bool sent = down(to).push(m);
  LIMPET_ASSERT(sent);  // R1
  ++counters_.updates;
  const Bits bit = Bits{1} << to;
  home.copies |= bit;
  if ((home.asked & bit) != 0) home.regranted |= bit;
}

void Replica::tell(uint32_t to, const Entry& record, Home& home) {
  send_update(to, record, home, {});
}

void Replica::answer(uint32_t to, const Entry& record, Home& home, const Chosen& chosen) {
  Down m{.answer = true, .reserved = chosen.reserved_here};
  if (chosen.reserved_here) m.place = chosen.server->slot.value;
  send_update(to, record, home, m);
}

void Replica::tell_all(Bits cores, const Entry& record, Home& home) {
  each(cores, [&](uint32_t c) { tell(c, record, home); });
}

// Whoever is skipped because it is behind will ask.
void Replica::push_to_others(const Entry& record, Home& home, Bits except) {
  if (!options_.push) return;
  for (const uint32_t c : rings_.down.peers(options_.core)) {
    const auto& ring = down(c);
    if ((except >> c & 1) == 0 && 2 * ring.size() < ring.capacity()) tell(c, record, home);
  }
}

void Replica::refuse(uint32_t to, const Claim& m, Reason reason) {
  const bool sent = down(to).push({.kind = Down::Kind::kRefuse,
                                   .answer = true,
                                   .reason = reason,
                                   .scope = m.scope,
                                   .key = m.key,
                                   .version = snapshot_->version});
  LIMPET_ASSERT(sent);  // R1
  ++counters_.refusals;
}

Record Replica::record_of(const Entry& record) const {
  const Home& home = table_.home(record);
  Record out{.stamp = home.stamp,
             .epoch = home.epoch,
             .server = record.server,
             .first = record.first,
             .timeout_ms = home.timeout_ms,
             .deleted = tombstones_.of_key(record.scope, record.key)};
  if (announcing_) {
    out.act = table_.activity(record).act;
    out.held = table_.activity(record).held;
  }
  return out;
}

void Replica::tell_mirror(const Entry& record, Home& home, const Farewell& given) {
  // What did not get through was perhaps for all: this brings it, so it is for all too.
  const Farewell whom = home.owed ? Farewell{Told::kAll, {}} : given;
  const Change change{.kind = Change::Kind::kPut,
                      .confirmed = record.confirmed,
                      .told = whom.told,
                      .source = whom.source,
                      .scope = record.scope,
                      .version = snapshot_->version,
                      .key = record.key,
                      .record = record_of(record),
                      .act_at = announcing_ ? table_.activity(record).act_at : record.last,
                      .created = home.created};
  home.owed = !rings_.news[options_.core].push(change);
  ++(home.owed ? counters_.waited : counters_.news);
}

// There is no binding any more, but perhaps a tombstone.
bool Replica::tell_mirror_gone(ScopeSlot scope, const Key& key, const Farewell& farewell) {
  Change change{.kind = Change::Kind::kRemove,
                .told = farewell.told,
                .source = farewell.source,
                .scope = scope,
                .version = snapshot_->version,
                .key = key};
  change.record.deleted = tombstones_.of_key(scope, key);
  if (change.record.deleted.value != 0) change.kind = Change::Kind::kPut;
  if (!rings_.news[options_.core].push(change)) return wait();
  ++counters_.news;
  return true;
}

// --- making, changing, ending
// ---------------------------------------------------------------------

Entry* Replica::find(const Scope& scope, const Key& key) {
  Entry* entry = table_.find(scope.slot, key);
  if (entry == nullptr || !entry->is_home()) return entry;
  if (entry->husk) return nullptr;
  return expired(*entry, scope) && end_if_due(*entry) ? nullptr : entry;
}

Entry* Replica::make(const Scope& scope, const Key& key) {
  Entry* record = table_.insert_home(scope.slot, key);
  if (record == nullptr) return nullptr;
  record->serial = next_serial();
  record->last = now_;
  Home& home = table_.home(*record);
  home.created = now_;
  return record;
}

Replica::Made Replica::create(const Scope& scope, const Key& key, ServerId server,
                              const Need& need) {
  if (husks_ > 0) {
    if (Entry* husk = table_.find(scope.slot, key)) {
      continue_husk(*husk, server);
      husk->datagram = need.datagram;
      const Bits except = need.asker == kNobody ? 0 : Bits{1} << need.asker;
      push_to_others(*husk, table_.home(*husk), except);
      tell_mirror(*husk, table_.home(*husk), {Told::kNobody, {}});
      return {Outcome::kDone, husk};
    }
  }
  if (!bindings_.reserve()) {
    if (husks_ > 0) {
      if (!take_husks_place()) return {Outcome::kWait};
    } else if (const Outcome outcome = make_room(scope, need.since); outcome != Outcome::kDone) {
      return {outcome};
    }
    if (!bindings_.reserve()) return {Outcome::kWait};  // another home was quicker
  }
  Entry* record = make(scope, key);
  if (record == nullptr) {  // this home's share is full: hardly ever before the whole is
    bindings_.release();
    if (husks_ > 0) take_husks_place();
    const Outcome outcome = husks_ > 0 ? Outcome::kWait : make_room(scope, need.since);
    return {outcome == Outcome::kDone ? Outcome::kWait : outcome};
  }
  record->server = record->first = server;
  record->datagram = need.datagram;
  Home& home = table_.home(*record);
  home.stamp = stamps_.next(wall());
  if (announcing_) {
    table_.activity(*record).act = home.stamp;
    table_.activity(*record).act_at = now_;
  }
  ++counters_.created;
  // The asker's ring has room for one message: its answer.
  push_to_others(*record, home, need.asker == kNobody ? 0 : Bits{1} << need.asker);
  tell_mirror(*record, home, {Told::kNobody, {}});
  return {Outcome::kDone, record};
}

void Replica::undo_create(Entry& record) {
  if (record.is_home() && table_.home(record).copies == 0 && record.open == 0)
    end(record, counters_.undone);
}

void Replica::set_server(Entry& record, ServerId server) {
  // A client whose server left begins anew with the next one.
  if (record.server == binding::kNoServer) record.first = server;
  record.server = server;
  ++record.change;
  ++table_.home(record).epoch;
}

Outcome Replica::move(Entry& record, ServerId server, bool datagram) {
  Home& home = table_.home(record);
  if (!room(home.copies)) return Outcome::kWait;
  set_server(record, server);
  record.last = now_;
  record.datagram = record.datagram || datagram;
  stop_eviction(home);
  ++counters_.moved;
  tell_all(home.copies, record, home);
  changed(record);
  return Outcome::kDone;
}

// Removes a record that nobody else has a copy of.
bool Replica::end(Entry& record, telemetry::Counter& why, const Farewell& farewell) {
  LIMPET_ASSERT(table_.home(record).copies == 0 && !record.husk);
  if (!tell_mirror_gone(record.scope, record.key, farewell)) return false;
  ++why;
  lost_counts_ = lost_counts_ || record.open > 0;
  table_.erase(record);
  bindings_.release();
  return true;
}

// R3: a binding goes when its time is over, or it has to give way, and nobody holds a copy.
bool Replica::end_if_due(Entry& record) {
  const Home& home = table_.home(record);
  if (home.copies != 0) return false;
  if (home.evicting && !record.held())
    return end(record, record.confirmed ? counters_.evicted_idle : counters_.evicted_embryonic);
  const Scope* scope = snapshot_->scope(record.scope);
  if (scope == nullptr || !expired(record, *scope)) return false;
  if (record.confirmed && shares(*scope) && !husk_is_over(record, *scope))
    return become_husk(record);
  return end(record, counters_.expired);
}

// Drops a binding whoever holds it: all are told in one step. Of a husk holders and mirror know
// nothing any more, whatever has become of its scope.
bool Replica::forget(Entry& record, telemetry::Counter& why, const Farewell& farewell) {
  if (record.husk) {
    if (farewell.told != Told::kNobody && !tell_mirror_gone(record.scope, record.key, farewell))
      return false;
    end_husk(record);
    return true;
  }
  Home& home = table_.home(record);
  if (!room(home.copies)) return false;
  if (rings_.news[options_.core].free_count() == 0) return wait();
  each(std::exchange(home.copies, 0), [&](uint32_t c) {
    const bool sent = down(c).push({.kind = Down::Kind::kGone,
                                    .scope = record.scope,
                                    .key = record.key,
                                    .version = snapshot_->version});
    LIMPET_ASSERT(sent);  // R1
    ++counters_.gones;
  });
  const bool ended = end(record, why, farewell);
  LIMPET_ASSERT(ended);
  return true;
}

Outcome Replica::remove(Entry& record) {
  const Scope* scope = snapshot_->scope(record.scope);
  if (scope == nullptr || !shares(*scope))
    return forget(record, counters_.deleted, {}) ? Outcome::kDone : Outcome::kWait;
  // All that forget() needs, before there is a tombstone.
  if (!room(table_.home(record).copies) || rings_.news[options_.core].free_count() == 0)
    return Outcome::kWait;
  if (!tombstones_.raise(record.scope, record.key, stamps_.next(wall())))
    ++counters_.tombstones_refused;
  const bool gone = forget(record, counters_.deleted, {Told::kAll, {}});
  LIMPET_ASSERT(gone);
  return Outcome::kDone;
}

// --- recalling
// ------------------------------------------------------------------------------------

void Replica::recall(Entry& record, Home& home) {
  each(home.copies & ~home.asked, [&](uint32_t c) { ask(record, home, c, true); });
}

// False: not yet, no credit or no room.
bool Replica::ask(Entry& record, Home& home, uint32_t core, bool give_up) {
  if (credits_[core] >= rings_.capacity.answers || down(core).free_count() == 0) return wait();
  const bool sent = down(core).push({.kind = Down::Kind::kRecall,
                                     .confirmed = record.confirmed,
                                     .give_up = give_up,
                                     .datagram = record.datagram,
                                     .evicting = home.evicting,
                                     .scope = record.scope,
                                     .place = table_.place_of(record),
                                     .serial = record.serial,
                                     .key = record.key,
                                     .version = snapshot_->version});
  LIMPET_ASSERT(sent);
  ++counters_.recalls;
  ++credits_[core];
  home.asked |= Bits{1} << core;
  return true;
}

void Replica::on_answer(uint32_t from, const Answer& m) {
  LIMPET_ASSERT(credits_[from] > 0);
  --credits_[from];
  Entry* record = table_.at(m.place, m.serial);
  if (record == nullptr || !record->is_home()) return;
  Home& home = table_.home(*record);
  const Bits bit = Bits{1} << from;
  if (m.last > record->last) {
    record->last = m.last;
    stop_eviction(home);
  }
  record->datagram = record->datagram || m.datagram;
  if (m.held) home.heard = home.found_held = true;
  if (m.confirmed && !record->confirmed) confirm_record(*record);
  home.asked &= ~bit;
  if (!m.yes) {
    stop_eviction(home);
  } else if ((home.regranted & bit) == 0) {
    home.copies &= ~bit;
  }
  home.regranted &= ~bit;
  if (home.in_round && (home.round | home.asked) == 0) finish_round(*record, home);
  if (m.held) active(*record);
  end_if_due(*record);
}

// --- eviction
// -------------------------------------------------------------------------------------

Outcome Replica::make_room(const Scope& scope, Instant since) {
  // Exact eviction takes one at a time; a sample is as good for several.
  std::size_t wanted = 1;
  if (table_.records() > kExactRecords) {
    for (const uint32_t c : rings_.claims.peers(options_.core))
      wanted += rings_.claims.from(c).to(options_.core).size();
    wanted = std::min<std::size_t>(wanted, kEvictionsMax);
  }
  // What has expired or is doubtful must refuse nobody, even where nothing is purged.
  const bool expired_only = !scope.purge;
  while (evicting_.size() < wanted && nobody_at_[expired_only] != now_) {
    if (looks_ + looks_of_search() > kLooksPerTurn) return Outcome::kWait;
    const Idle idle = longest_idle(since, expired_only);
    if (idle.longest == nullptr && idle.expiring) return Outcome::kWait;
    if (idle.longest == nullptr) {
      nobody_at_[expired_only] = now_;
      break;
    }
    Entry& victim = *idle.longest;
    Home& home = table_.home(victim);
    home.evicting = true;
    if (home.copies == 0) {
      if (end_if_due(victim)) return Outcome::kDone;
      stop_eviction(home);
      return Outcome::kWait;
    }
    evicting_.push_back({table_.place_of(victim), victim.serial});
    recall(victim, home);
  }
  return evicting_.empty() ? Outcome::kFull : Outcome::kWait;
}

// Nobody has confirmed it in the time that a handshake has.
bool Replica::is_doubtful(const Entry& record, const Scope* scope) const {
  if (record.confirmed || scope == nullptr) return false;
  return now_ >= record.last + std::min(timeout_of(record, *scope), persist::kEmbryonicTimeout);
}

// The record to give way, of a bounded sample; embryonic ones first. A confirmed one that its
// holders have said to be in use since `since` is no candidate again: when all are, the table is
// full.
Replica::Idle Replica::longest_idle(Instant since, bool expired_only) {
  const uint32_t places = table_.home_places();
  const bool all = places <= kExactRecords;
  uint32_t at = all ? 0 : random_.below(places);
  Idle idle;
  const uint32_t looks = looks_of_search();
  looks_ += looks;
  LIMPET_ASSERT(looks_ <= kLooksPerTurn);
  for (uint32_t i = 0; i < looks; ++i, at = at + 1 == places ? 0 : at + 1) {
    Entry* record = table_.record_at(at);
    if (record == nullptr || record->husk || record->held()) continue;
    const Home& home = table_.home(*record);
    const Scope* scope = snapshot_->scope(record->scope);
    const bool over = scope != nullptr && expired(*record, *scope);
    if (home.asked != 0 || home.evicting) {
      idle.expiring = idle.expiring || over;
      continue;
    }
    const bool in_use = record->confirmed && home.copies != 0 && record->last >= since;
    if (expired_only ? !over && !is_doubtful(*record, scope) : in_use) continue;
    const auto rank = [&](const Entry& e) { return std::pair(e.confirmed, idle_since(e)); };
    if (idle.longest == nullptr || rank(*record) < rank(*idle.longest)) idle.longest = record;
  }
  return idle;
}

void Replica::go_on_evicting() {
  std::erase_if(evicting_, [&](const Handle& h) {
    Entry* record = table_.at(h.place, h.serial);
    if (record == nullptr || !record->is_home() || !table_.home(*record).evicting) return true;
    if (end_if_due(*record)) return true;
    recall(*record, table_.home(*record));
    return false;
  });
}

// --- claims
// ---------------------------------------------------------------------------------------

// False: not yet, it stays at the head of its ring.
bool Replica::on_claim(uint32_t from, const Claim& m) {
  const Scope* scope = scope_of(m.scope, m.version);
  if (m.kind == Claim::Kind::kTouch) {
    Entry* record = scope == nullptr ? nullptr : table_.find(m.scope, m.key);
    if (record == nullptr || record->husk || record->serial != m.serial) return true;
    record->last = std::max(record->last, m.sent);
    if (m.confirmed && !record->confirmed) confirm_record(*record);
    if (m.closed) {
      stop_eviction(table_.home(*record));
      note_close(*record);
      return true;
    }
    active(*record);
    return true;
  }
  if (!room(Bits{1} << from)) return false;
  if (scope == nullptr || now_ - m.sent > kLate) {
    refuse(from, m, Reason::kLate);
    return true;
  }
  Entry* record = find(*scope, m.key);
  if (record == nullptr && m.existing) {
    refuse(from, m, Reason::kNew);
    return true;
  }
  if (record == nullptr) return on_new_key(from, m, *scope);
  LIMPET_ASSERT(record->is_home());
  use(*record, m.datagram);
  return decide(from, m, *scope, *record);
}

// The asker proposes because it has the packet; home checks and chooses again if need be.
Replica::Chosen Replica::choose(const Claim& m, const Scope& scope) {
  const snapshot::Pool& pool = snapshot_->pools[scope.pool.value];
  const Server* proposed = pool.find(m.proposed);
  if (m.if_none && (proposed == nullptr || !balance::takes_new_clients(*proposed))) return {};
  if (m.exact) return {proposed};
  if (proposed != nullptr && balance::takes_new_clients(*proposed) &&
      (m.reserved || proposed->connections_max == 0)) {
    return {proposed};
  }
  const net::Address client = m.key.address();
  const balance::Picked picked = picker_.pick(*snapshot_, pool, {client, 0});
  return {picked.server, picked.gauged, picked.limited ? Reason::kAtLimit : Reason::kNoServer};
}

void Replica::give_back(const Chosen& chosen) {
  if (chosen.reserved_here) picker_.gauges().release(chosen.server->slot);
}

bool Replica::on_new_key(uint32_t from, const Claim& m, const Scope& scope) {
  const Chosen chosen = choose(m, scope);
  if (chosen.server == nullptr) {
    refuse(from, m, chosen.why_not);
    return true;
  }
  const Made made = create(scope, m.key, chosen.server->id, {m.sent, from, m.datagram});
  if (made.outcome != Outcome::kDone) give_back(chosen);
  if (made.outcome == Outcome::kWait) return wait();
  if (made.outcome == Outcome::kFull) {
    refuse(from, m, Reason::kTableFull);
    return true;
  }
  answer(from, *made.entry, table_.home(*made.entry), chosen);
  return true;
}

// A CLAIM for a key that has a binding: home judges by itself whether it has to move.
bool Replica::decide(uint32_t from, const Claim& m, const Scope& scope, Entry& record) {
  Home& home = table_.home(record);
  const Bits asker = Bits{1} << from;
  Chosen chosen;
  if (m.exact && !m.if_none) {
    chosen = choose(m, scope);
    if (chosen.server == nullptr) {
      refuse(from, m, chosen.why_not);
      return true;
    }
  } else if (m.serial == record.serial && m.change == record.change) {
    const Bound bound{record.server, record.first};
    const Judgement j = judge(snapshot_->pools[scope.pool.value], &scope, &bound, picker_.gauges());
    if (j.reason == Reason::kHome) {
      chosen.server = j.server;
    } else if (j.action == Action::kPick) {
      chosen = choose(m, scope);
      if (chosen.server == nullptr) {
        refuse(from, m, chosen.why_not);
        return true;
      }
    }
  }
  if (chosen.server == nullptr || chosen.server->id == record.server) {
    // The asker's view was old, or nothing has to change.
    answer(from, record, home, chosen);
    return true;
  }
  if (!room(home.copies | asker)) {
    give_back(chosen);
    return false;
  }
  set_server(record, chosen.server->id);
  ++counters_.moved;
  // The asker last: what it does next may be seen by a client that comes back to another core.
  tell_all(home.copies & ~asker, record, home);
  answer(from, record, home, chosen);
  changed(record);
  return true;
}

// --- time and snapshots
// ---------------------------------------------------------------------------

bool Replica::server_left(ServerId server) const {
  return std::binary_search(snapshot_->servers_left.begin(), snapshot_->servers_left.end(), server);
}

// Carries out what time or the snapshot mean for a record. False: something has no room yet.
bool Replica::look_at(Entry& record) {
  if (record.husk) return look_at_husk(record);
  Home& home = table_.home(record);
  const Scope* scope = snapshot_->scope(record.scope);
  if (scope == nullptr) return forget(record, counters_.dropped, {});
  if (is_killed(record, *scope)) return forget(record, counters_.killed, {});
  const bool left = server_left(record.server);
  if (left || server_left(record.first)) {
    // So that a new server at a used address inherits nobody.
    if (!room(home.copies)) return false;
    record.first = binding::kNoServer;
    if (left) record.server = binding::kNoServer;
    ++record.change;
    ++home.epoch;
    tell_all(home.copies, record, home);
    tell_mirror(record, home);
  }
  if (home.owed) tell_mirror(record, home);
  if (announcing_) look_at_activity(record, *scope);
  if (!expired(record, *scope)) return true;
  if (!end_if_due(record)) recall(record, home);
  return true;
}

void Replica::advance(uint32_t records) {
  if (touches_owed_ > 0) pay_touches();
  if (!evicting_.empty()) go_on_evicting();
  if (announcing_) begin_early_rounds();
  for (uint32_t i = 0; i < records; ++i) {
    if (advance_at_ >= table_.home_places()) {
      advance_at_ = 0;
      return;
    }
    if (Entry* record = table_.record_at(advance_at_++)) look_at(*record);
  }
  for (uint32_t i = 0; i < records; ++i) table_.prefetch_record(advance_at_ + i, records);
}

// Tombstones of scopes that have gone go with them.
bool Replica::sweep_tombstones(uint32_t count) {
  if (tombstones_swept_) return true;
  tombstone_at_ = tombstones_.forget_if(
      tombstone_at_, count, [&](ScopeSlot slot) { return snapshot_->scope(slot) == nullptr; });
  if (tombstone_at_ != 0) return false;
  tombstones_swept_ = true;
  if (std::exchange(sweeping_, 0) == 0) return true;
  for (Killed& killed : killed_) killed.sweeping = false;
  return true;
}

bool Replica::sweep(uint32_t records) {
  for (uint32_t i = 0; i < records; ++i) {
    if (sweep_at_ >= table_.home_places()) return sweep_tombstones(records);
    Entry* record = table_.record_at(sweep_at_);
    if (record != nullptr && !look_at(*record)) return false;
    tell_if_spared(table_.record_at(sweep_at_));
    ++sweep_at_;
  }
  return false;
}

}  // namespace limpet::replication
