// Mirror: the control thread's replica of the engine's bindings: what the homes said last, nothing
// else. Listings, counts and (between engines) snapshots are served from it, so no core is asked.
//
// Owner: the control thread. Invariants
//  1. At most one binding for a (scope, key); it keeps its place while it lives.
//  2. apply() never fails: there are places for every binding and for all that may be under way in
//     the homes' rings.
// Cost: 96 bytes a binding and 16 of index; apply() is O(1).
#pragma once

#include <cstdint>
#include <memory_resource>
#include <unordered_map>
#include <vector>

#include "common/base/hash_index.h"
#include "common/base/keyed_hash.h"
#include "common/base/prefetch.h"
#include "common/binding/change.h"

namespace limpet::mirroring {

class Mirror {
 public:
  struct Binding {
    binding::Key key;
    binding::ScopeSlot scope;
    bool used = false;
    bool confirmed = false;  // not embryonic any more
    timing::Instant created;
    binding::Record record;
    timing::Instant act_at;  // when record.act was
  };

  // `surplus`: Changes that may be in rings at once.
  Mirror(uint32_t limit, uint32_t surplus, const base::KeyedHash& hash,
         std::pmr::memory_resource* memory)
      : hash_(hash),
        index_(limit + surplus, memory),
        bindings_(limit + surplus, memory),
        free_(memory) {}
  static constexpr std::size_t bytes_for(uint32_t limit, uint32_t surplus) {
    return std::size_t{limit + surplus} * (sizeof(Binding) + sizeof(uint32_t)) +
           base::HashIndex::bytes_for(limit + surplus);
  }

  // apply() of many changes: asks early for the memory that it will look at. First the index for
  // all of them, then the bindings.
  void prefetch_index(binding::ScopeSlot scope, const binding::Key& key) const {
    index_.prefetch(binding::hash_of(hash_, scope, key));
  }
  void prefetch_binding(binding::ScopeSlot scope, const binding::Key& key) const {
    const uint32_t at = index_.candidate(binding::hash_of(hash_, scope, key));
    if (at != base::HashIndex::kNone) base::prefetch_all(&bindings_[at]);
  }

  void apply(const binding::Change& change);

  const Binding* find(binding::ScopeSlot scope, const binding::Key& key) const;

  // Places [0, places()); null: free.
  uint32_t places() const { return high_water_; }
  const Binding* at(uint32_t place) const {
    return bindings_[place].used ? &bindings_[place] : nullptr;
  }

  uint32_t size() const { return index_.size(); }
  // Of all scopes those that name a server.
  uint32_t bound() const { return bound_; }
  std::size_t bytes() const { return bindings_.size() * sizeof(Binding) + index_.bytes(); }
  // Of a scope: all, and those that name a server.
  uint32_t in_scope(binding::ScopeSlot scope) const {
    return scope.value < scopes_.size() ? scopes_[scope.value].all : 0;
  }
  uint32_t bound_in_scope(binding::ScopeSlot scope) const {
    return scope.value < scopes_.size() ? scopes_[scope.value].bound : 0;
  }
  uint32_t bound_to(binding::ServerId server) const {
    const auto it = servers_.find(server);
    return it == servers_.end() ? 0 : it->second;
  }

 private:
  struct Count {
    uint32_t all = 0;
    uint32_t bound = 0;
  };

  uint32_t place_of(binding::ScopeSlot scope, const binding::Key& key, uint32_t hash) const;
  void count(const Binding& binding, bool add);

  const base::KeyedHash& hash_;
  base::HashIndex index_;
  std::pmr::vector<Binding> bindings_;
  std::pmr::vector<uint32_t> free_;
  uint32_t high_water_ = 0;
  uint32_t bound_ = 0;
  std::vector<Count> scopes_;  // by ScopeSlot
  std::unordered_map<binding::ServerId, uint32_t> servers_;
};

}  // namespace limpet::mirroring
