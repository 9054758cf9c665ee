// Exchange: what the control thread does between the homes of this engine and its peers. What homes
// say goes into the mirror and the update list; what peers say goes, unmerged, to the homes; what
// is about scopes that no document has named yet is kept until one does. It reads and fills the
// copy of the table on disk. No sockets and no clocks: the engine joins it with a Transport, a test
// or the simulator with sessions of its own.
//
// Owner: the control thread. Invariants
//  1. The mirror and the update list hold what homes said last, never what a peer sent.
//  2. What deliver() has taken reaches its home, or waits in `unnamed`, or was dropped because that
//     is full (counted): never more than limit + tombstones records.
//  3. What has to be told to homes and finds no room in their rings is tried again by tick().
// Cost: O(1) for each Change and Arrival; tick() and slices of the walks are bounded.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <span>

#include "control/mirroring/mirror.h"
#include "control/mirroring/session.h"
#include "control/mirroring/update_list.h"
#include "dataplane/persist/change.h"

namespace limpet::mirroring {

// The rings to the homes.
class HomeRings {
 public:
  virtual ~HomeRings() = default;
  virtual uint32_t homes() const = 0;
  virtual uint32_t home_of(snapshot::ScopeSlot scope, const persist::Key& key) const = 0;
  // False: no room now.
  virtual bool send(uint32_t home, const persist::Merge& message) = 0;
};

class Exchange final : public Home {
 public:
  struct Options {
    uint32_t entries = 0;            // limits.persistence_entries
    uint32_t surplus = 0;            // Changes that may be in the homes' rings at once
    uint32_t peers = 0;              // configured
    uint32_t node = 0;               // of the stamps made here; unique in the cluster
    timing::WallTime wall_origin{};  // what the wall clock showed at Instant zero
  };
  // A quarter of the table: what administrators may delete until peers have acknowledged it.
  static uint32_t tombstones_of(const Options& o) { return o.entries / 4; }

  Exchange(const Options& options, HomeRings& rings, const base::KeyedHash& hash,
           std::pmr::memory_resource* memory);

  struct Scope {
    snapshot::ScopeId id;
    snapshot::ScopeSlot slot;
    bool mirrored = true;
    timing::Duration keep;  // of tombstones after the last news: timeout and update interval
  };
  // The scopes of the newest snapshot, which all homes have taken, and its version. What waited for
  // one of them goes to the homes, in slices (tick).
  void use(std::span<const Scope> scopes, uint64_t version);

  // What a home said. True when the update list has changed.
  bool apply(const persist::Change& change, timing::Instant now);

  // Home: what a peer said.
  bool deliver(const Arrival& arrival) override;

  // A bounded slice of what waits: unnamed scopes that were named, messages that found no room,
  // tombstones to be forgotten.
  void tick(timing::Instant now);

  // A fence: passed when every home has merged, and told of, all that was delivered before.
  uint32_t begin_fence();
  bool has_passed(uint32_t fence) const;

  // Deleting all bindings of a scope, up to a stamp that is above all that its homes have made.
  bool kill_scope(snapshot::ScopeId scope, persist::Stamp up_to, timing::Instant now);

  const Mirror& mirror() const { return mirror_; }
  UpdateList& list() { return list_; }
  const UpdateList& list() const { return list_; }

 private:
  const Options options_;
  HomeRings& rings_;
  Mirror mirror_;
  UpdateList list_;
};

}  // namespace limpet::mirroring
