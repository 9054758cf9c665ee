// ScopeTombstones: up to which stamp all bindings of a scope were deleted. (Those of single keys
// are persist::Tombstones.) Who raises one sees to it that what it kills goes.
//
// Owner: the core's worker. Invariant: a slot's tombstone is of the scope that it was raised for;
// another scope in the slot has none. Cost: 24 bytes a slot, where there are peers.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/binding/change.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::replication {

class ScopeTombstones {
 public:
  // Without peers none can be raised.
  ScopeTombstones(bool peers, std::pmr::memory_resource* memory)
      : places_(peers ? base::kScopesMax : 0, memory) {}

  // None: zero.
  binding::Stamp of(const snapshot::Scope& scope) const {
    if (places_.empty() || places_[scope.slot.value].scope != scope.id) return {};
    return places_[scope.slot.value].up_to;
  }
  bool kills(binding::Stamp made, const snapshot::Scope& scope) const {
    return !places_.empty() && made <= of(scope);
  }
  // False: it was that high already, or there can be none.
  bool raise(const snapshot::Scope& scope, binding::Stamp up_to) {
    if (places_.empty()) return false;
    Place& place = places_[scope.slot.value];
    if (place.scope != scope.id) place = {scope.id, {}, false};
    if (up_to <= place.up_to) return false;
    place.up_to = up_to;
    place.fresh = true;
    ++fresh_;
    return true;
  }
  // Forgets it if it is this one.
  void forget(const snapshot::Scope& scope, binding::Stamp up_to) {
    if (!places_.empty() && of(scope) == up_to) places_[scope.slot.value] = {};
  }

  // Since some were raised not all records have been looked at.
  bool any_fresh() const { return fresh_ > 0; }
  bool is_fresh(const snapshot::Scope& scope) const {
    return of(scope).value != 0 && places_[scope.slot.value].fresh;
  }
  void all_looked_at() {
    if (std::exchange(fresh_, 0) == 0) return;
    for (Place& place : places_) place.fresh = false;
  }

 private:
  struct Place {
    binding::ScopeId scope;
    binding::Stamp up_to;
    bool fresh = false;  // not all of its bindings have been looked at since
  };
  std::pmr::vector<Place> places_;  // by ScopeSlot
  uint32_t fresh_ = 0;              // times that one was raised since all were looked at
};

}  // namespace limpet::replication
