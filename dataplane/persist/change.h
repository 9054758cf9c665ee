// What engines know of a binding, how two engines' knowledge of one key is merged, and the messages
// between homes and the control thread (the mirror), which carry it.
//
// Record is the payload of part B of the replication protocol: (stamp, epoch, server, first,
// deleted, act, held). merge() is commutative and idempotent among records that have not expired,
// and associative but for a tombstone between two lineages: it may kill the winner after the loser,
// which it would have spared, was forgotten. Whoever still has the loser is told of the tombstone
// and says so; then all have it again.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/assert.h"
#include "common/base/strong.h"
#include "common/timing/time.h"
#include "dataplane/persist/key.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::persist {

// A moment in the life of a cluster, unique to whoever made it: milliseconds since 2020-01-01 (41
// bits), a counter (10 bits), the maker (13 bits). Hybrid logical clock of Kulkarni et al.,
// "Logical Physical Clocks" (2014). 0: none.
using Stamp = base::Strong<struct StampTag, uint64_t>;

// Makes stamps, each greater than any it made or saw before.
class StampClock {
 public:
  static constexpr uint32_t kNodesMax = 1u << 13;
  static constexpr uint64_t kOriginMs = 1'577'836'800'000;  // 2020-01-01T00:00:00Z

  explicit StampClock(uint32_t node) : node_(node) { LIMPET_ASSERT(node < kNodesMax); }

  Stamp next(timing::WallTime now) {
    const auto ms = static_cast<uint64_t>(std::max<int64_t>(now.ns / 1'000'000, kOriginMs));
    // More than 1,024 in a millisecond borrow from the next one.
    time_ = std::max(time_ + 1, (ms - kOriginMs) << 10);
    return Stamp{time_ << 13 | node_};
  }
  void observe(Stamp seen) { time_ = std::max(time_, seen.value >> 13); }

 private:
  uint32_t node_;
  uint64_t time_ = 0;  // milliseconds and counter
};

struct Record {
  Stamp stamp;         // names the lineage; none: no binding, only a tombstone
  uint32_t epoch = 0;  // +1 with each move
  bool held = false;   // somebody had connections open at `act`
  snapshot::ServerId server;
  snapshot::ServerId first;
  Stamp deleted;  // tombstone: kills every lineage up to it
  Stamp act;      // latest activity known

  bool live() const { return stamp.value != 0; }
  friend constexpr bool operator==(const Record&, const Record&) = default;
};

// Both engines' knowledge as one. Of two live lineages the earlier wins, of one lineage the higher
// epoch, then the higher server id. Activity belongs to the key, whoever wins. `a_expired`: a's
// lineage is past its deadline and nobody holds it here; such a one yields to b's.
Record merge(const Record& a, const Record& b, bool a_expired = false);

// Home → mirror: the latest of a key.
struct Change {
  enum class Kind : uint8_t { kPut, kRemove } kind = Kind::kPut;
  bool confirmed = false;  // not embryonic any more
  snapshot::ScopeSlot scope;
  uint64_t version = 0;  // the home's snapshot
  Key key;
  Record record;
  timing::Instant created;
};

// Mirror → home: what somebody else knows of a key.
struct Merge {
  snapshot::ScopeSlot scope;
  uint32_t unused = 0;
  uint64_t version = 0;  // the mirror's snapshot
  Key key;
  Record record;
};

}  // namespace limpet::persist
