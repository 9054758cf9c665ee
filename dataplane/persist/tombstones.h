// Tombstones: up to which stamp bindings of a key, or of a whole scope, were deleted by an
// administrator, for the keys that have their home on this core. They outlive the binding, so that
// what other engines still know of it does not bring it back.
//
// Owner: the core's worker. Invariant: at most one for a (scope, key) and one for a scope.
// Cost: 40 bytes a key's tombstone and 16 of index; nothing is looked up while there are none. No
// call does more than a constant amount of work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "common/base/hash_index.h"
#include "common/base/keyed_hash.h"
#include "common/binding/change.h"

namespace limpet::persist {

class Tombstones {
 public:
  Tombstones(uint32_t keys, const base::KeyedHash& hash, std::pmr::memory_resource* memory)
      : hash_(hash), index_(keys, memory), places_(keys, memory), free_(memory) {
    free_.reserve(keys);
  }
  static constexpr std::size_t bytes_for(uint32_t keys) {
    return std::size_t{keys} * (sizeof(Place) + sizeof(uint32_t)) +
           base::HashIndex::bytes_for(keys);
  }

  // None: zero.
  binding::Stamp of_key(binding::ScopeSlot scope, const binding::Key& key) const {
    if (index_.size() == 0) return {};
    const uint32_t at = place_of(scope, key);
    return at == base::HashIndex::kNone ? binding::Stamp{} : places_[at].deleted;
  }
  // Whether raise() would succeed.
  bool has_room(binding::ScopeSlot scope, const binding::Key& key) const {
    return !free_.empty() || high_water_ < places_.size() ||
           place_of(scope, key) != base::HashIndex::kNone;
  }
  // Raises it. False: there is no room for another.
  bool raise(binding::ScopeSlot scope, const binding::Key& key, binding::Stamp deleted) {
    uint32_t at = place_of(scope, key);
    if (at == base::HashIndex::kNone) {
      if (free_.empty() && high_water_ == places_.size()) return false;
      at = free_.empty() ? high_water_++ : free_.back();
      if (!free_.empty()) free_.pop_back();
      places_[at] = {key, {}, scope};
      index_.insert(binding::hash_of(hash_, scope, key), at);
    }
    places_[at].deleted = std::max(places_[at].deleted, deleted);
    return true;
  }
  // Forgets it if it is this one; true: it was.
  bool forget(binding::ScopeSlot scope, const binding::Key& key, binding::Stamp deleted) {
    const uint32_t at = place_of(scope, key);
    if (at == base::HashIndex::kNone || places_[at].deleted != deleted) return false;
    erase(at);
    return true;
  }
  // Looks at `count` places from `at` on and forgets those for which gone(scope) holds. Returns
  // where to go on; 0: all have been seen.
  template <class Gone>
  uint32_t forget_if(uint32_t at, uint32_t count, Gone&& gone) {
    for (; at < high_water_ && count > 0; ++at, --count)
      if (places_[at].deleted.value != 0 && gone(places_[at].scope)) erase(at);
    return at < high_water_ ? at : 0;
  }
  uint32_t size() const { return index_.size(); }
  // How many lines of the index a look-up reads.
  uint32_t steps(binding::ScopeSlot scope, const binding::Key& key) const {
    return index_.steps(binding::hash_of(hash_, scope, key));
  }

 private:
  struct Place {
    binding::Key key;
    binding::Stamp deleted;  // zero: a free place
    binding::ScopeSlot scope;
  };

  void erase(uint32_t at) {
    index_.erase(binding::hash_of(hash_, places_[at].scope, places_[at].key), at);
    places_[at].deleted = {};
    free_.push_back(at);
  }
  uint32_t place_of(binding::ScopeSlot scope, const binding::Key& key) const {
    return index_.find(binding::hash_of(hash_, scope, key), [&](uint32_t i) {
      return places_[i].key == key && places_[i].scope == scope;
    });
  }

  const base::KeyedHash& hash_;
  base::HashIndex index_;
  std::pmr::vector<Place> places_;
  std::pmr::vector<uint32_t> free_;
  uint32_t high_water_ = 0;
};

}  // namespace limpet::persist
