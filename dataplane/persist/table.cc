#include "dataplane/persist/table.h"

#include "common/net/hash.h"

namespace limpet::persist {

using snapshot::Scope;
using snapshot::Snapshot;
using timing::Instant;

Table::Table(Bindings& bindings, const base::KeyedHash& hash, base::Random& random,
             std::pmr::memory_resource* memory)
    : bindings_(bindings),
      hash_(hash),
      random_(random),
      index_(bindings.limit(), memory),
      entries_(bindings.limit(), memory),
      free_(memory) {
  free_.reserve(bindings.limit());
}

uint32_t Table::hash_of(snapshot::ScopeSlot scope, const net::Address& key) const {
  return net::hash_address(hash_, key, scope.value);
}

bool Table::alive(const Snapshot& s, const Entry& e, Instant now) const {
  const Scope* scope = s.scope(e.scope);
  return scope != nullptr && now < e.deadline(scope->timeout) &&
         s.pools[scope->pool.value].find(e.server) != nullptr;
}

Entry* Table::find(const Snapshot& s, const Scope& scope, const net::Address& key, Instant now) {
  const uint32_t at = index_.find(hash_of(scope.slot, key), [&](uint32_t i) {
    return entries_[i].key == key && entries_[i].scope == scope.slot;
  });
  if (at == base::HashIndex::kNone) return nullptr;
  Entry& e = entries_[at];
  if (now >= e.deadline(scope.timeout)) {
    ++counters_.expired;
    remove(&e);
    return nullptr;
  }
  if (s.pools[scope.pool.value].find(e.server) == nullptr) {
    ++counters_.dropped;
    remove(&e);
    return nullptr;
  }
  return &e;
}

Entry* Table::create(const Snapshot& s, const Scope& scope, const net::Address& key,
                     snapshot::ServerId server, Instant now) {
  if (!bindings_.reserve()) {
    // What has expired but was not swept yet must refuse nobody.
    sweep(s, now, high_water_ <= kExactEntries ? high_water_ + 1 : kSampleEntries);
    if (!bindings_.reserve()) {
      if (!scope.purge || !evict_one(now)) return nullptr;
      if (!bindings_.reserve()) return nullptr;  // another core was quicker to take the place
    }
  }
  uint32_t at = high_water_;
  if (free_.empty()) {
    ++high_water_;
  } else {
    at = free_.back();
    free_.pop_back();
  }
  if (++serial_ == 0) ++serial_;
  Entry& e = entries_[at];
  e = {.key = key,
       .server = server,
       .first = server,
       .last = now,
       .created = now,
       .scope = scope.slot,
       .serial = serial_,
       .used = true};
  index_.insert(hash_of(scope.slot, key), at);
  ++counters_.created;
  return &e;
}

void Table::remove(Entry* entry) {
  const uint32_t at = index_of(entry);
  index_.erase(hash_of(entry->scope, entry->key), at);
  entry->used = false;
  free_.push_back(at);
  bindings_.release();
}

bool Table::evict_one(Instant now) {
  const bool all = high_water_ <= kExactEntries;
  const uint32_t sample = all ? high_water_ : kSampleEntries;
  uint32_t at = all ? 0 : random_.below(high_water_);
  Entry* victim = nullptr;
  for (uint32_t i = 0; i < sample; ++i, at = at + 1 == high_water_ ? 0 : at + 1) {
    Entry& e = entries_[at];
    if (!e.used || !e.idle() || e.last > now) continue;
    if (victim == nullptr || (victim->confirmed && !e.confirmed) ||
        (victim->confirmed == e.confirmed && e.last < victim->last)) {
      victim = &e;
    }
  }
  if (victim == nullptr) return false;
  ++(victim->confirmed ? counters_.evicted_idle : counters_.evicted_embryonic);
  remove(victim);
  return true;
}

bool Table::sweep(const Snapshot& s, Instant now, uint32_t places) {
  for (uint32_t i = 0; i < places; ++i) {
    if (sweep_at_ >= high_water_) {
      sweep_at_ = 0;
      return true;
    }
    Entry& e = entries_[sweep_at_++];
    if (!e.used) continue;
    const Scope* scope = s.scope(e.scope);
    if (scope == nullptr || s.pools[scope->pool.value].find(e.server) == nullptr) {
      ++counters_.dropped;
      remove(&e);
    } else if (now >= e.deadline(scope->timeout)) {
      ++counters_.expired;
      remove(&e);
    }
  }
  return false;
}

}  // namespace limpet::persist
