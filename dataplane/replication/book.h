// Book: what one core knows, and what all the roles of its Replica go by: the table of bindings,
// tombstones, the rings, the clock of stamps, the counters, and the snapshot and the time of the
// turn. What follows from these alone is here too: whether a record is over, what others are told
// of it. Nothing here sends a message or changes a binding.
//
// Owner: the core's worker.
//
// Invariants
//  1. `snapshot` and `now` change by begin() only: whoever looks twice between sees the same.
//  2. A serial names one life of one record: next_serial() of different homes never give the same.
//  3. A stamp made here is greater than any that was made or seen here before.
// Cost: no call does more than a constant amount of work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <utility>

#include "common/base/keyed_hash.h"
#include "common/telemetry/counter.h"
#include "dataplane/persist/table.h"
#include "dataplane/persist/tombstones.h"
#include "dataplane/replication/rings.h"
#include "dataplane/replication/scope_tombstones.h"

namespace limpet::replication {

struct Counters {
  telemetry::Counter created;
  telemetry::Counter moved;
  telemetry::Counter undone;  // made for a connection that could not be opened after all
  telemetry::Counter merged;
  telemetry::Counter merges_refused;      // no room
  telemetry::Counter merges_gone;         // their scope has gone
  telemetry::Counter merges_expired;      // of what was over when it came
  telemetry::Counter announced;           // activity, and the end of it
  telemetry::Counter rounds;              // of asking the holders
  telemetry::Counter husks;               // over, but others may know better
  telemetry::Counter revived;             // ... and did
  telemetry::Counter killed;              // by a tombstone of another engine
  telemetry::Counter tombstones_refused;  // no room
  telemetry::Counter expired;
  telemetry::Counter evicted_idle;
  telemetry::Counter evicted_embryonic;
  telemetry::Counter dropped;  // its scope went
  telemetry::Counter deleted;  // by an administrator
  telemetry::Counter claims;   // sent; the rest of the messages likewise
  telemetry::Counter touches;
  telemetry::Counter updates;
  telemetry::Counter refusals;
  telemetry::Counter recalls;
  telemetry::Counter answers_yes;
  telemetry::Counter answers_no;
  telemetry::Counter gones;
  telemetry::Counter news;
  telemetry::Counter waited;  // times that a message or a change had to wait for room
};

// What an attempt to change a record comes to.
enum class Outcome : uint8_t {
  kDone,
  kWait,  // not yet: something has no room; try again next turn
  kFull,  // the table is full and nothing may go
};

struct Options {
  uint32_t core = 0;
  uint32_t node = 0;  // of the stamps made here: binding::Maker
  // Bindings of mirrored scopes are told to peers: part B of the protocol.
  bool peers = false;
  // The control thread keeps what it is told on disk: it hears of activity in every scope.
  bool disk = false;
  // What the wall clock showed at Instant zero.
  timing::WallTime wall_origin{};
  // New bindings are told to every core (else to the one that asked; others will ask).
  bool push = false;
};

// A bit per core.
using Bits = uint64_t;

template <class F>
void for_each_core(Bits cores, F&& f) {
  for (; cores != 0; cores &= cores - 1) f(static_cast<uint32_t>(__builtin_ctzll(cores)));
}

struct Book {
  Book(const Options& o, Rings& all_rings, persist::Bindings& all_bindings,
       const base::KeyedHash& hash, std::pmr::memory_resource* memory);
  Book(const Book&) = delete;
  Book& operator=(const Book&) = delete;

  // Of the core's table.
  static persist::Table::Capacity capacity_of(uint32_t cores, const Rings::Capacity& rings,
                                              uint32_t limit, bool activity) {
    return {.entries = limit + Rings::surplus(cores, rings),
            .homes = persist::home_records_of(cores, limit),
            .activity = activity};
  }
  // Of its tombstones, where there are peers: a quarter of the bindings, and no fewer than the
  // control thread lets administrators make (mirroring::Exchange::tombstones_of).
  static uint32_t tombstones_of(uint32_t cores, uint32_t limit) {
    return persist::home_records_of(cores, std::max(limit / 4, 64u));
  }

  // Takes the snapshot and the time that everything until the next call goes by.
  void begin(const snapshot::Snapshot& s, timing::Instant at) {
    snapshot = &s;
    now = at;
  }

  // --- scopes and keys ---------------------------------------------------------------------------

  uint32_t home_of(binding::ScopeSlot scope, const binding::Key& key) const {
    return base::reduce(table.hash(scope, key), homes);
  }
  bool is_home(binding::ScopeSlot scope, const binding::Key& key) const {
    return home_of(scope, key) == options.core;
  }
  // By the hash of scope and key.
  bool is_home(uint32_t hash) const { return base::reduce(hash, homes) == options.core; }
  // Null: it has gone.
  const snapshot::Scope* scope_of(const persist::Entry& entry) const {
    return snapshot->scope(entry.scope);
  }
  // The scope that the slot meant to the sender of a message; null when it has gone since.
  const snapshot::Scope* scope_of(binding::ScopeSlot slot, uint64_t version) const {
    const snapshot::Scope* scope = snapshot->scope(slot);
    return scope != nullptr && version >= scope->since ? scope : nullptr;
  }
  // Whether peers have to be told of the scope's bindings; whether the control thread has to be
  // told of their activity.
  bool shares(const snapshot::Scope& scope) const { return options.peers && scope.mirrored; }
  bool announces(const snapshot::Scope& scope) const { return options.disk || shares(scope); }

  // --- records -----------------------------------------------------------------------------------

  persist::Home& home(const persist::Entry& record) { return table.home(record); }
  const persist::Home& home(const persist::Entry& record) const { return table.home(record); }
  // Where somebody has to be told of activity.
  persist::Activity& activity(const persist::Entry& record) { return table.activity(record); }
  const persist::Activity& activity(const persist::Entry& record) const {
    return table.activity(record);
  }

  timing::Duration timeout_of(const persist::Entry& record, const snapshot::Scope& scope) const {
    const uint32_t own = home(record).timeout_ms;
    return own == 0 ? scope.timeout : timing::milliseconds(own);
  }
  // R: how long activity may go unannounced.
  static timing::Duration interval(timing::Duration timeout, const snapshot::Scope& scope) {
    const timing::Duration half = timeout / 2;
    return scope.update_interval.count() == 0 ? half : std::min(half, scope.update_interval);
  }
  timing::Duration interval_of(const persist::Entry& record, const snapshot::Scope& scope) const {
    return interval(timeout_of(record, scope), scope);
  }
  // What a binding that somebody held when it was last heard of lives longer.
  static timing::Duration slack(bool held, timing::Duration timeout, const snapshot::Scope& scope) {
    return held ? interval(timeout, scope) : timing::Duration::zero();
  }
  bool expired(const persist::Entry& record, const snapshot::Scope& scope) const {
    return !record.kept() && now >= record.deadline(timeout_of(record, scope)) &&
           now >= deadline(record, scope);
  }
  // When it is over unless something happens, whatever engine it happens to.
  timing::Instant deadline(const persist::Entry& record, const snapshot::Scope& scope) const {
    const timing::Duration timeout = timeout_of(record, scope);
    const timing::Instant own = record.deadline(timeout);
    if (!record.confirmed || !shares(scope)) return own;
    const persist::Activity& a = activity(record);
    // Its clock may have been behind: then its stamp was, but not its client.
    const timing::Instant others = a.others_held_at();
    const bool theirs_is_later = others > a.act_at + kHeldGrain;
    const timing::Instant act_at = theirs_is_later ? others : a.act_at;
    return std::max(own, act_at + timeout + slack(a.held || theirs_is_later, timeout, scope));
  }
  timing::Instant idle_since(const persist::Entry& record) const {
    return announcing ? std::max(record.last, activity(record).act_at) : record.last;
  }
  // Whether a scope's tombstone is about it.
  bool is_killed(const persist::Entry& record, const snapshot::Scope& scope) const {
    return scope_tombstones.kills(home(record).stamp, scope);
  }
  // What others are told of it.
  binding::Record record_of(const persist::Entry& record) const;
  // Whether a datagram that has just come is a second one of its client's, as far as is known here.
  bool comes_again(const persist::Entry& entry) const {
    if (!entry.datagram || entry.last == persist::kNoActivity) return false;
    const timing::Instant first = entry.is_home() ? home(entry).created : entry.last;
    return now - first >= persist::kComesAgain;
  }

  // --- stamps and serials ------------------------------------------------------------------------

  binding::Stamp next_stamp() { return stamps.next(wall()); }
  // Made by this engine, perhaps in an earlier run.
  bool is_ours(binding::Stamp s) const {
    return binding::StampClock::rank_of(s) == binding::Maker::rank_of(options.node);
  }
  uint32_t next_serial() { return ++serial == 0 ? ++serial : serial; }
  timing::WallTime wall() const { return wall(now); }
  timing::WallTime wall(timing::Instant at) const {
    return options.wall_origin + timing::Duration{at.ns};
  }

  // Counts that something waits for room: false.
  bool wait() {
    ++counters.waited;
    return false;
  }

  // Of Activity::others_held_at().
  static constexpr timing::Duration kHeldGrain = timing::milliseconds(1);

  const Options options;
  const bool announcing;  // somewhere
  Rings& rings;
  persist::Bindings& bindings;
  const uint32_t homes;  // how many cores are homes
  persist::Table table;
  persist::Tombstones tombstones;  // of keys
  ScopeTombstones scope_tombstones;
  binding::StampClock stamps;
  Counters counters;

  const snapshot::Snapshot* snapshot = nullptr;
  timing::Instant now;
  uint32_t serial;           // the last given
  bool lost_counts = false;  // entries with connections went, or began again
};

}  // namespace limpet::replication
