// Table: the persist table of one core.
//
// Owner: its worker; nobody else reads or writes it (others send the worker a job, worker/job.h).
//
// Invariants
//  1. At most `limit` entries over all tables that share a Bindings count; each table has places
//  for
//     all of them, so which core a client falls on never decides whether there is room.
//  2. An entry with open connections is never evicted and never expires; embryonic ones do both.
//  3. No call does more than a constant amount of work, but for eviction in tables of up to 1,024
//     entries, which looks at each (then it is exact).
//
// Expiry is lazy (find() of a dead entry removes it) plus a sweep of a few places each turn: no
// timer per entry. Why not rte_hash: see base/hash_index.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "common/base/hash_index.h"
#include "common/base/keyed_hash.h"
#include "common/base/random.h"
#include "common/telemetry/counter.h"
#include "dataplane/persist/entry.h"

namespace limpet::persist {

// The number of entries over all cores of an engine: touched when one is made or removed only.
class Bindings {
 public:
  explicit Bindings(uint32_t limit) : limit_(limit) {}

  bool reserve() {
    if (count_.fetch_add(1, std::memory_order_relaxed) < limit_) return true;
    count_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  void release() { count_.fetch_sub(1, std::memory_order_relaxed); }
  uint32_t count() const { return std::min(count_.load(std::memory_order_relaxed), limit_); }
  uint32_t limit() const { return limit_; }

 private:
  const uint32_t limit_;
  std::atomic<uint32_t> count_{0};
};

struct TableCounters {
  telemetry::Counter created;
  telemetry::Counter expired;
  telemetry::Counter evicted_idle;
  telemetry::Counter evicted_embryonic;
  telemetry::Counter dropped;  // scope or server gone
  telemetry::Counter deleted;  // by an administrator
};

class Table {
 public:
  Table(Bindings& bindings, const base::KeyedHash& hash, base::Random& random,
        std::pmr::memory_resource* memory);

  // The live entry of `key` in `scope`, or null. One that expired, or whose server the pool no
  // longer has, is removed on the way. `key` must be masked by scope.key_of().
  Entry* find(const snapshot::Snapshot& s, const snapshot::Scope& scope, const net::Address& key,
              timing::Instant now);

  // Makes an embryonic entry without connections. Null when the table is full and, by the scope's
  // `purge`, nothing may or can be evicted. There must be none for this key.
  Entry* create(const snapshot::Snapshot& s, const snapshot::Scope& scope, const net::Address& key,
                snapshot::ServerId server, timing::Instant now);

  void remove(Entry* entry);

  // Handles that stay valid when the entry goes: at() is null then.
  uint32_t index_of(const Entry* entry) const {
    return static_cast<uint32_t>(entry - entries_.data());
  }
  Entry* at(uint32_t index, uint32_t serial) {
    if (index >= entries_.size()) return nullptr;
    Entry& e = entries_[index];
    return e.serial == serial && e.used ? &e : nullptr;
  }

  // Looks at the next `places` places and removes what has expired or lost its scope or server.
  // Returns true when the end of the table was reached (and starts over).
  bool sweep(const snapshot::Snapshot& s, timing::Instant now, uint32_t places);
  void restart_sweep() { sweep_at_ = 0; }

  // For jobs: walks the places [from, from + count), calling `visit(Entry&)` for each entry that is
  // live now. Returns the place to go on from; the table's end means done. `visit` may remove it.
  template <class Visit>
  uint32_t walk(const snapshot::Snapshot& s, timing::Instant now, uint32_t from, uint32_t count,
                Visit&& visit) {
    const uint32_t end = std::min(from + count, high_water_);
    for (uint32_t i = from; i < end; ++i) {
      Entry& e = entries_[i];
      if (e.used && alive(s, e, now)) visit(e);
    }
    return end;
  }
  uint32_t places() const { return high_water_; }

  void prefetch(const snapshot::Scope& scope, const net::Address& key) const {
    index_.prefetch(hash_of(scope.slot, key));
  }

  uint32_t size() const { return index_.size(); }
  const TableCounters& counters() const { return counters_; }
  void count_deleted() { ++counters_.deleted; }
  std::size_t bytes() const { return entries_.size() * sizeof(Entry) + index_.bytes(); }
  static constexpr std::size_t bytes_for(uint32_t limit) {
    return std::size_t{limit} * sizeof(Entry) + base::HashIndex::bytes_for(limit);
  }

  // Eviction looks at all entries of a table that holds at most so many, else at a sample.
  static constexpr uint32_t kExactEntries = 1024;
  static constexpr uint32_t kSampleEntries = 64;

 private:
  uint32_t hash_of(snapshot::ScopeSlot scope, const net::Address& key) const;
  bool alive(const snapshot::Snapshot& s, const Entry& e, timing::Instant now) const;
  bool evict_one(timing::Instant now);

  Bindings& bindings_;
  const base::KeyedHash& hash_;
  base::Random& random_;
  base::HashIndex index_;
  std::pmr::vector<Entry> entries_;
  std::pmr::vector<uint32_t> free_;  // places below high_water_ that are free
  uint32_t high_water_ = 0;          // no place from here on was ever used
  uint32_t sweep_at_ = 0;
  uint32_t serial_ = 0;
  TableCounters counters_;
};

}  // namespace limpet::persist
