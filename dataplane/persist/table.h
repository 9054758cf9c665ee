// Table: the persist table of one core: a full replica of the engine's bindings. It stores and
// finds; what may happen to an entry is decided by replication.
//
// Owner: its worker; nobody else reads or writes it.
//
// Invariants
//  1. At most one entry for a (scope, key).
//  2. Inserting never fails: there are places for every binding of the engine (Bindings::limit) and
//     for as many more as messages can be under way about bindings that are gone already.
//  3. Handles (place, serial) stay valid when the entry goes: at() is null then.
// No call does more than a constant amount of work.
//
// Cost: 64 bytes an entry and 16 of index; 64 more for each that has its home here, and 32 where
// others have to be told of its activity. A hit reads one line of index and the entry. Why not
// rte_hash: see base/hash_index.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "common/base/hash_index.h"
#include "common/base/keyed_hash.h"
#include "common/base/prefetch.h"
#include "dataplane/persist/entry.h"

namespace limpet::persist {

// The number of bindings of an engine: touched when a home makes or removes one.
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

// How many cores are homes: a small table has one, so that its eviction is exact.
constexpr uint32_t homes_of(uint32_t cores, uint32_t limit) {
  return std::clamp(limit / 1024, 1u, cores);
}
// Records that one home has room for: its share and, because a hash shares out unevenly, eight
// standard deviations more.
uint32_t home_records_of(uint32_t cores, uint32_t limit);

class Table {
 public:
  struct Capacity {
    uint32_t entries = 0;
    uint32_t homes = 0;     // records that have their home here
    bool activity = false;  // others have to be told of their activity
  };

  Table(Capacity capacity, const base::KeyedHash& hash, std::pmr::memory_resource* memory);

  uint32_t hash(binding::ScopeSlot scope, const binding::Key& key) const {
    return binding::hash_of(hash_, scope, key);
  }

  // The entry, or null.
  Entry* find(binding::ScopeSlot scope, const binding::Key& key) {
    return find(scope, key, hash(scope, key));
  }
  Entry* find(binding::ScopeSlot scope, const binding::Key& key, uint32_t hash) {
    const uint32_t at = index_.find(hash, [&](uint32_t i) { return is(entries_[i], scope, key); });
    return at == base::HashIndex::kNone ? nullptr : &entries_[at];
  }

  // Some time before find(), so that memory is not waited for.
  void prefetch_bucket(uint32_t hash) const { index_.prefetch(hash); }

  static constexpr std::size_t kBatchMax = 32;
  // found[i]: the entry of keys[i], or null; at most kBatchMax. Memory is waited for twice, not
  // twice a key.
  void find(binding::ScopeSlot scope, std::span<const binding::Key> keys, Entry** found);

  // An entry for a key that has none: zeros but for scope and key. As a record with its Home, or
  // null when this home has no room for another.
  Entry& insert(binding::ScopeSlot scope, const binding::Key& key);
  Entry* insert_home(binding::ScopeSlot scope, const binding::Key& key);
  void erase(Entry& entry);

  Home& home(const Entry& entry) { return homes_[entry.home]; }
  const Home& home(const Entry& entry) const { return homes_[entry.home]; }
  // Of a record, where Capacity::activity.
  Activity& activity(const Entry& entry) { return activities_[entry.home]; }
  const Activity& activity(const Entry& entry) const { return activities_[entry.home]; }

  // Handles.
  uint32_t place_of(const Entry& entry) const {
    return static_cast<uint32_t>(&entry - entries_.data());
  }
  Entry* at(uint32_t place, uint32_t serial) {
    if (place >= high_water_) return nullptr;
    Entry& e = entries_[place];
    return e.serial == serial && e.used ? &e : nullptr;
  }

  // For sweeps and jobs: places [0, places()) and [0, home_places()); null: free.
  uint32_t places() const { return high_water_; }
  Entry* entry_at(uint32_t place) { return entries_[place].used ? &entries_[place] : nullptr; }
  uint32_t home_places() const { return homes_high_water_; }
  Entry* record_at(uint32_t home) {
    return homes_[home].used ? &entries_[homes_[home].entry] : nullptr;
  }

  // For a walk over records, `ahead` of them at a time: asks for what record_at(home) will read,
  // for the record's activity, and for the Home that the call after it will need for that.
  void prefetch_record(uint32_t home, uint32_t ahead) const {
    if (home < homes_high_water_) {
      base::prefetch(&entries_[homes_[home].entry]);
      if (!activities_.empty()) base::prefetch(&activities_[home]);
    }
    if (home + ahead < homes_high_water_) base::prefetch(&homes_[home + ahead]);
  }

  uint32_t size() const { return index_.size(); }
  uint32_t records() const { return records_; }
  Capacity capacity() const { return capacity_; }
  std::size_t bytes() const {
    return entries_.size() * sizeof(Entry) + index_.bytes() + homes_.size() * sizeof(Home) +
           activities_.size() * sizeof(Activity);
  }
  static constexpr std::size_t bytes_for(Capacity c) {
    return std::size_t{c.entries} * (sizeof(Entry) + sizeof(uint32_t)) +
           base::HashIndex::bytes_for(c.entries) +
           std::size_t{c.homes} *
               (sizeof(Home) + sizeof(uint32_t) + (c.activity ? sizeof(Activity) : 0));
  }

 private:
  static bool is(const Entry& e, binding::ScopeSlot scope, const binding::Key& key) {
    return e.key == key && e.scope == scope;
  }

  Capacity capacity_;
  const base::KeyedHash& hash_;
  base::HashIndex index_;
  std::pmr::vector<Entry> entries_;
  std::pmr::vector<uint32_t> free_;  // places below high_water_ that are free
  std::pmr::vector<Home> homes_;
  std::pmr::vector<uint32_t> free_homes_;
  std::pmr::vector<Activity> activities_;  // by home
  uint32_t high_water_ = 0;                // no place from here on was ever used
  uint32_t homes_high_water_ = 0;
  uint32_t records_ = 0;
};

}  // namespace limpet::persist
