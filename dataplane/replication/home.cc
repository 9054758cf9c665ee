// What a core does as the home of its keys.
#include <algorithm>
#include <utility>

#include "dataplane/replication/replica.h"

namespace limpet::replication {

using balance::Bound;
using balance::Judgement;
using balance::Reason;
using persist::Change;
using persist::Entry;
using persist::Home;
using persist::Key;
using persist::Record;
using snapshot::Scope;
using snapshot::Server;
using snapshot::ServerId;
using timing::Instant;
using Action = Judgement::Action;

Replica::Replica(const Options& options, Rings& rings, persist::Bindings& bindings,
                 balance::Picker& picker, const base::KeyedHash& hash, base::Random& random,
                 std::pmr::memory_resource* memory)
    : options_(options),
      rings_(rings),
      bindings_(bindings),
      picker_(picker),
      random_(random),
      homes_(persist::homes_of(rings.cores(), bindings.limit())),
      table_(capacity_of(rings.cores(), rings.capacity, bindings.limit()), hash, memory),
      stamps_(options.node),
      // Serials of different homes must differ too: a flow knows its entry by place and serial.
      serial_(options.core * (UINT32_MAX / static_cast<uint32_t>(base::kWorkersMax))),
      credits_(rings.cores()) {
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
  return {.stamp = home.stamp,
          .epoch = home.epoch,
          .held = home.held,
          .server = record.server,
          .first = record.first,
          .deleted = {},
          .act = home.act};
}

void Replica::tell_mirror(const Entry& record, Home& home) {
  const Change change{.kind = Change::Kind::kPut,
                      .confirmed = record.confirmed,
                      .scope = record.scope,
                      .version = snapshot_->version,
                      .key = record.key,
                      .record = record_of(record),
                      .created = home.created};
  home.owed = !rings_.news[options_.core].push(change);
  ++(home.owed ? counters_.waited : counters_.news);
}

bool Replica::tell_mirror_removed(const Entry& record) {
  const Change change{.kind = Change::Kind::kRemove,
                      .scope = record.scope,
                      .version = snapshot_->version,
                      .key = record.key,
                      .record = {},
                      .created = {}};
  if (!rings_.news[options_.core].push(change)) return wait();
  ++counters_.news;
  return true;
}

// --- making, changing, ending
// ---------------------------------------------------------------------

Entry* Replica::find(const Scope& scope, const Key& key) {
  Entry* entry = table_.find(scope.slot, key);
  if (entry == nullptr || !entry->is_home() || !expired(*entry, scope)) return entry;
  return end_if_due(*entry) ? nullptr : entry;
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
  if (!bindings_.reserve()) {
    const Outcome outcome = make_room(scope, need.since);
    if (outcome != Outcome::kDone) return {outcome};
    if (!bindings_.reserve()) return {Outcome::kWait};  // another home was quicker
  }
  Entry* record = make(scope, key);
  if (record == nullptr) {  // this home's share is full: hardly ever before the whole is
    bindings_.release();
    const Outcome outcome = make_room(scope, need.since);
    return {outcome == Outcome::kDone ? Outcome::kWait : outcome};
  }
  record->server = record->first = server;
  Home& home = table_.home(*record);
  home.stamp = home.act = stamps_.next(wall());
  ++counters_.created;
  // The asker's ring has room for one message: its answer.
  push_to_others(*record, home, need.asker == kNobody ? 0 : Bits{1} << need.asker);
  tell_mirror(*record, home);
  return {Outcome::kDone, record};
}

void Replica::undo_create(Entry& record) {
  if (record.is_home() && table_.home(record).copies == 0 && record.open == 0)
    end(record, counters_.undone);
}

void Replica::set_server(Entry& record, ServerId server) {
  // A client whose server left begins anew with the next one.
  if (record.server == snapshot::kNoServer) record.first = server;
  record.server = server;
  ++record.change;
  ++table_.home(record).epoch;
}

Outcome Replica::move(Entry& record, ServerId server) {
  Home& home = table_.home(record);
  if (!room(home.copies)) return Outcome::kWait;
  set_server(record, server);
  use(record);
  ++counters_.moved;
  tell_all(home.copies, record, home);
  tell_mirror(record, home);
  return Outcome::kDone;
}

// Removes a record that nobody else has a copy of.
bool Replica::end(Entry& record, telemetry::Counter& why) {
  LIMPET_ASSERT(table_.home(record).copies == 0);
  if (!tell_mirror_removed(record)) return false;
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
  return end(record, counters_.expired);
}

// Drops a binding whoever holds it: all are told in one step.
bool Replica::forget(Entry& record, telemetry::Counter& why) {
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
  const bool ended = end(record, why);
  LIMPET_ASSERT(ended);
  return true;
}

Outcome Replica::remove(Entry& record) {
  return forget(record, counters_.deleted) ? Outcome::kDone : Outcome::kWait;
}

// --- recalling
// ------------------------------------------------------------------------------------

void Replica::recall(Entry& record, Home& home) {
  each(home.copies & ~home.asked, [&](uint32_t c) {
    if (credits_[c] >= rings_.capacity.answers || down(c).free_count() == 0) {
      ++counters_.waited;
      return;
    }
    const bool sent = down(c).push({.kind = Down::Kind::kRecall,
                                    .confirmed = record.confirmed,
                                    .give_up = true,
                                    .scope = record.scope,
                                    .place = table_.place_of(record),
                                    .serial = record.serial,
                                    .key = record.key,
                                    .version = snapshot_->version});
    LIMPET_ASSERT(sent);
    ++counters_.recalls;
    ++credits_[c];
    home.asked |= Bits{1} << c;
  });
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
  if (m.confirmed && !record->confirmed) {
    record->confirmed = true;
    tell_mirror(*record, home);
  }
  home.asked &= ~bit;
  if (!m.yes) {
    stop_eviction(home);
  } else if ((home.regranted & bit) == 0) {
    home.copies &= ~bit;
  }
  home.regranted &= ~bit;
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
  // What has expired must refuse nobody, even where nothing is purged.
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
    if (record == nullptr || record->held()) continue;
    const Home& home = table_.home(*record);
    const Scope* scope = snapshot_->scope(record->scope);
    const bool over = scope != nullptr && expired(*record, *scope);
    if (home.asked != 0 || home.evicting) {
      idle.expiring = idle.expiring || over;
      continue;
    }
    const bool in_use = record->confirmed && home.copies != 0 && record->last >= since;
    if (expired_only ? !over : in_use) continue;
    const auto rank = [](const Entry& e) { return std::pair(e.confirmed, e.last); };
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
    if (record == nullptr || record->serial != m.serial) return true;
    record->last = std::max(record->last, m.sent);
    stop_eviction(table_.home(*record));
    if (m.confirmed && !record->confirmed) {
      record->confirmed = true;
      tell_mirror(*record, table_.home(*record));
    }
    return true;
  }
  if (!room(Bits{1} << from)) return false;
  if (scope == nullptr || now_ - m.sent > kLate) {
    refuse(from, m, Reason::kLate);
    return true;
  }
  Entry* record = find(*scope, m.key);
  if (record == nullptr) return on_new_key(from, m, *scope);
  LIMPET_ASSERT(record->is_home());
  use(*record);
  return decide(from, m, *scope, *record);
}

// The asker proposes because it has the packet; home checks and chooses again if need be.
Replica::Chosen Replica::choose(const Claim& m, const Scope& scope) {
  const snapshot::Pool& pool = snapshot_->pools[scope.pool.value];
  const Server* proposed = pool.find(m.proposed);
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
  const Made made = create(scope, m.key, chosen.server->id, {m.sent, from});
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
  if (m.exact) {
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
  tell_mirror(record, home);
  return true;
}

// --- what the mirror has heard
// --------------------------------------------------------------------

bool Replica::on_merge(const persist::Merge& m) {
  stamps_.observe(std::max({m.record.stamp, m.record.deleted, m.record.act}));
  const Scope* scope = scope_of(m.scope, m.version);
  if (scope == nullptr) {
    ++counters_.merges_refused;
    return true;
  }
  Entry* record = table_.find(m.scope, m.key);
  if (record == nullptr) {
    if (merge({}, m.record).live()) {
      if (!bindings_.reserve()) {
        ++counters_.merges_refused;
        return true;
      }
      record = make(*scope, m.key);
      if (record == nullptr) {
        bindings_.release();
        ++counters_.merges_refused;
        return true;
      }
      record->confirmed = true;
      record->server = m.record.server;
      record->first = m.record.first;
      Home& home = table_.home(*record);
      home.stamp = m.record.stamp;
      home.epoch = m.record.epoch;
      home.act = m.record.act;
      home.held = m.record.held;
      ++counters_.merged;
      push_to_others(*record, home, 0);
      tell_mirror(*record, home);
    }
    return true;
  }
  Home& home = table_.home(*record);
  const bool expired_here = home.copies == 0 && record->open == 0 && expired(*record, *scope);
  // An embryonic binding takes no part: a live one replaces it.
  const Record mine = record->confirmed ? record_of(*record) : Record{};
  const Record merged = persist::merge(mine, m.record, expired_here);
  if (mine.live() && merged == mine) return true;
  if (!merged.live()) {
    if (!record->confirmed && m.record.deleted < home.stamp) return true;
    return forget(*record, counters_.deleted);
  }
  const bool lineage = merged.stamp != home.stamp;
  const bool moved = merged.server != record->server || merged.first != record->first;
  if ((lineage || moved) && !room(home.copies)) return false;
  if (lineage) {
    new_lineage(*record, merged);
  } else if (moved) {
    ++record->change;
  }
  record->server = merged.server;
  record->first = merged.first;
  home.epoch = merged.epoch;
  home.act = merged.act;
  home.held = merged.held;
  if (lineage || moved) {
    ++counters_.merged;
    tell_all(home.copies, *record, home);
  }
  tell_mirror(*record, home);
  return true;
}

// Another life of the key: answers of the one before say nothing about it, its connections go on
// uncounted.
void Replica::new_lineage(Entry& record, const Record& merged) {
  Home& home = table_.home(record);
  lost_counts_ = lost_counts_ || record.open > 0;
  record.serial = next_serial();
  record.change = 0;
  record.open = 0;
  record.confirmed = true;
  record.last = now_;
  home.asked = home.regranted = 0;
  home.evicting = false;
  home.stamp = merged.stamp;
  home.created = now_;
}

// --- time and snapshots
// ---------------------------------------------------------------------------

bool Replica::server_left(ServerId server) const {
  return std::binary_search(snapshot_->servers_left.begin(), snapshot_->servers_left.end(), server);
}

// Carries out what time or the snapshot mean for a record. False: something has no room yet.
bool Replica::look_at(Entry& record) {
  Home& home = table_.home(record);
  const Scope* scope = snapshot_->scope(record.scope);
  if (scope == nullptr) return forget(record, counters_.dropped);
  const bool left = server_left(record.server);
  if (left || server_left(record.first)) {
    // So that a new server at a used address inherits nobody.
    if (!room(home.copies)) return false;
    record.first = snapshot::kNoServer;
    if (left) set_server(record, snapshot::kNoServer);
    if (!left) ++record.change;
    tell_all(home.copies, record, home);
    tell_mirror(record, home);
  }
  if (home.owed) tell_mirror(record, home);
  if (!expired(record, *scope)) return true;
  if (!end_if_due(record)) recall(record, home);
  return true;
}

void Replica::advance(uint32_t records) {
  if (touches_owed_ > 0) pay_touches();
  if (!evicting_.empty()) go_on_evicting();
  for (uint32_t i = 0; i < records; ++i) {
    if (advance_at_ >= table_.home_places()) {
      advance_at_ = 0;
      return;
    }
    if (Entry* record = table_.record_at(advance_at_++)) look_at(*record);
  }
  for (uint32_t i = 0; i < records; ++i) table_.prefetch_record(advance_at_ + i, records);
}

bool Replica::sweep(uint32_t records) {
  for (uint32_t i = 0; i < records; ++i) {
    if (sweep_at_ >= table_.home_places()) return true;
    Entry* record = table_.record_at(sweep_at_);
    if (record != nullptr && !look_at(*record)) return false;
    ++sweep_at_;
  }
  return false;
}

}  // namespace limpet::replication
