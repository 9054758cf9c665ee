#include "dataplane/persist/table.h"

#include <cmath>

namespace limpet::persist {

uint32_t home_records_of(uint32_t cores, uint32_t limit) {
  const uint32_t homes = homes_of(cores, limit);
  if (homes == 1) return limit;
  const double share = static_cast<double>(limit) / homes;
  return std::min(limit, static_cast<uint32_t>(share + 8 * std::sqrt(share)) + 1);
}

Table::Table(Capacity capacity, const base::KeyedHash& hash, std::pmr::memory_resource* memory)
    : capacity_(capacity),
      hash_(hash),
      index_(capacity.entries, memory),
      entries_(capacity.entries, memory),
      free_(memory),
      homes_(capacity.homes, memory),
      free_homes_(memory),
      activities_(capacity.activity ? capacity.homes : 0, memory) {
  free_.reserve(capacity.entries);
  free_homes_.reserve(capacity.homes);
}

void Table::find(binding::ScopeSlot scope, std::span<const binding::Key> keys, Entry** found) {
  LIMPET_ASSERT(keys.size() <= kBatchMax);
  const std::size_t n = keys.size();
  uint32_t hashes[kBatchMax];
  uint32_t likely[kBatchMax];
  for (std::size_t i = 0; i < n; ++i) {
    hashes[i] = hash(scope, keys[i]);
    index_.prefetch(hashes[i]);
  }
  for (std::size_t i = 0; i < n; ++i) {
    likely[i] = index_.candidate(hashes[i]);
    if (likely[i] != base::HashIndex::kNone) base::prefetch(&entries_[likely[i]]);
  }
  for (std::size_t i = 0; i < n; ++i) {
    const bool hit = likely[i] != base::HashIndex::kNone && is(entries_[likely[i]], scope, keys[i]);
    found[i] = hit ? &entries_[likely[i]] : find(scope, keys[i], hashes[i]);
  }
}

Entry& Table::insert(binding::ScopeSlot scope, const binding::Key& key) {
  uint32_t at = high_water_;
  if (free_.empty()) {
    LIMPET_ASSERT(high_water_ < capacity_.entries);
    ++high_water_;
  } else {
    at = free_.back();
    free_.pop_back();
  }
  Entry& e = entries_[at];
  e = {.key = key, .scope = scope, .used = true, .life = static_cast<uint8_t>(e.life + 1)};
  index_.insert(hash(scope, key), at);
  return e;
}

Entry* Table::insert_home(binding::ScopeSlot scope, const binding::Key& key) {
  uint32_t at = homes_high_water_;
  if (!free_homes_.empty()) {
    at = free_homes_.back();
    free_homes_.pop_back();
  } else if (homes_high_water_ < capacity_.homes) {
    ++homes_high_water_;
  } else {
    return nullptr;
  }
  Entry& e = insert(scope, key);
  e.home = at;
  homes_[at] = {.entry = place_of(e), .used = true};
  if (capacity_.activity) activities_[at] = {};
  ++records_;
  return &e;
}

void Table::erase(Entry& entry) {
  const uint32_t at = place_of(entry);
  index_.erase(hash(entry.scope, entry.key), at);
  if (entry.is_home()) {
    homes_[entry.home].used = false;
    free_homes_.push_back(entry.home);
    --records_;
  }
  entry.used = false;
  free_.push_back(at);
}

}  // namespace limpet::persist
