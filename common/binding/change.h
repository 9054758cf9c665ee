// What engines know of a binding, how two engines' knowledge of one key is merged, and the messages
// between homes and the control thread (the mirror), which carry it.
//
// Record is the payload of part B of the replication protocol: (stamp, epoch, server, first,
// timeout, deleted, act, held). merge() is commutative and idempotent among records that have not
// expired, and associative but for a tombstone between two lineages: it may kill the winner after
// the loser, which it would have spared, was forgotten. Whoever still has the loser is told of the
// tombstone and says so; then all have it again.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/assert.h"
#include "common/base/limits.h"
#include "common/base/strong.h"
#include "common/binding/key.h"
#include "common/timing/time.h"

namespace limpet::binding {

// A moment in the life of a cluster, unique to whoever made it: milliseconds since 2020-01-01 (41
// bits), a counter (10 bits), the Maker's number (13 bits). Hybrid logical clock of Kulkarni et
// al., "Logical Physical Clocks" (2014). 0: none.
using Stamp = base::Strong<struct StampTag, uint64_t>;

// Who makes stamps: a core of an engine, or its control thread, which needs a number beside those
// of 64 cores. (It had core 63's once; stamps of then are read as this engine's all the same.)
struct Maker {
  static constexpr uint32_t kCoreBits = 6;
  static constexpr uint32_t kRanksMax = 64;
  static constexpr uint32_t kControlBit = kRanksMax << kCoreBits;

  uint32_t rank = 0;  // the engine's place in its cluster
  uint32_t core = 0;

  constexpr uint32_t number() const { return rank << kCoreBits | core; }
  static constexpr uint32_t number_of_control(uint32_t rank) {
    return kControlBit | rank << kCoreBits;
  }
  static constexpr uint32_t rank_of(uint32_t number) {
    return (number & ~kControlBit) >> kCoreBits;
  }
};

static_assert(base::kWorkersMax <= 1u << Maker::kCoreBits);
static_assert(base::kPeersMax + 1 <= Maker::kRanksMax);

// Makes stamps, each greater than any it made or saw before. What it has seen ahead of its wall
// clock it stays ahead, so that stamps of all makers order what happened as the fastest clock of
// the cluster would, but for the time that news takes.
class StampClock {
 public:
  static constexpr uint32_t kNodesMax = 1u << 13;
  static constexpr uint64_t kOriginMs = 1'577'836'800'000;  // 2020-01-01T00:00:00Z

  static_assert(Maker::number_of_control(Maker::kRanksMax - 1) < kNodesMax);

  explicit StampClock(uint32_t node) : node_(node) { LIMPET_ASSERT(node < kNodesMax); }

  Stamp next(timing::WallTime now) {
    // More than 1,024 in a millisecond borrow from the next one.
    time_ = std::max(time_ + 1, time_of(now) + lead_);
    return stamp(time_);
  }
  // For what happened at `then`, not after now; greater than `before`.
  Stamp at(timing::WallTime then, Stamp before) {
    const uint64_t time = std::max(time_of(before) + 1, time_of(then) + lead_);
    time_ = std::max(time_, time);
    return stamp(time);
  }
  // `then`: when it was made, by our clock; not after now.
  void observe(Stamp seen, timing::WallTime then) {
    time_ = std::max(time_, time_of(seen));
    lead_ = std::max(lead_, std::max(time_of(seen), time_of(then)) - time_of(then));
  }
  // When it was made, by its maker's clock, to the millisecond; of that maker.
  static timing::WallTime made_at(Stamp s) {
    return timing::WallTime{static_cast<int64_t>((s.value >> 23) + kOriginMs) * 1'000'000};
  }
  static uint32_t node_of(Stamp s) { return static_cast<uint32_t>(s.value & (kNodesMax - 1)); }
  static uint32_t rank_of(Stamp s) { return Maker::rank_of(node_of(s)); }

 private:
  static uint64_t time_of(timing::WallTime at) {
    const auto ms = static_cast<uint64_t>(std::max<int64_t>(at.ns / 1'000'000, kOriginMs));
    return (ms - kOriginMs) << 10;
  }
  static uint64_t time_of(Stamp s) { return s.value >> 13; }
  Stamp stamp(uint64_t time) const { return Stamp{time << 13 | node_}; }

  uint32_t node_;
  uint64_t time_ = 0;  // milliseconds and counter: the latest made or seen
  uint64_t lead_ = 0;  // how far the fastest clock is ahead of ours
};

struct Record {
  Stamp stamp;         // names the lineage; none: no binding, only a tombstone
  uint32_t epoch = 0;  // +1 with each move
  bool held = false;   // somebody had connections open at `act`
  ServerId server;
  ServerId first;
  uint32_t timeout_ms = 0;  // the entry's own; 0: the profile's
  Stamp deleted;            // tombstone: kills every lineage up to it
  Stamp act;                // latest activity known

  bool live() const { return stamp.value != 0; }
  friend constexpr bool operator==(const Record&, const Record&) = default;
};

// Both engines' knowledge as one. Of two live lineages the earlier wins, of one lineage the higher
// epoch, then the higher server id. Activity belongs to the key, whoever wins. A lineage that is
// past its deadline, and that nobody holds, yields to another that is not.
struct Expired {
  bool a = false;
  bool b = false;
};
Record merge(const Record& a, const Record& b, Expired expired = {});

// A peer engine as the control thread numbers them, and its sessions; 0: none.
using PeerIndex = base::Strong<struct PeerIndexTag, uint8_t>;
using SessionNumber = base::Strong<struct SessionNumberTag, uint32_t>;
inline constexpr PeerIndex kNoPeer{UINT8_MAX};

// Where news came from: a peer, over one of its sessions; none: this engine, or its disk.
struct Source {
  PeerIndex peer = kNoPeer;
  SessionNumber session;
};

// Whom a home says to tell of a change.
enum class Told : uint8_t { kNobody, kSender, kAll };

// One who has records of bindings hears what somebody else knows of a key.
struct Meeting {
  Record mine;    // not live: there is none that takes part
  Record theirs;  // as it was sent
  Stamp killed;   // tombstone of the key's scope
  Expired expired;
  bool from_disk = false;
};
struct Merged {
  Record record;         // its tombstone is the key's own
  Told told;             // who has to hear of it
  bool raised = false;   // the key's tombstone
  bool ignored = false;  // theirs was over and there was nothing that it could join
};
// What I know from now on, and whom to tell: the sender if that is not what it sent, all after a
// conflict, and of what stands beside a tombstone, else nobody: whoever changed it tells all.
Merged meet(const Meeting& meeting);

// Home → mirror: the latest of a key.
struct Change {
  enum class Kind : uint8_t {
    kPut,     // the binding with its tombstone; a record that is not live: only the tombstone
    kRemove,  // nothing that others should know: no binding and no tombstone
    kFence,   // all that was sent before Merge::Kind::kFence has been carried out and told
  } kind = Kind::kPut;
  bool confirmed = false;  // not embryonic any more
  Told told = Told::kAll;
  Source source;  // whose news it is; Told::kSender: whom to tell
  ScopeSlot scope;
  uint32_t fence = 0;    // kFence: as in the Merge
  uint64_t version = 0;  // the home's snapshot
  Key key;
  Record record;
  timing::Instant act_at;   // when record.act was
  timing::Instant created;  // when this engine first had it
};

// Mirror → home: what somebody else knows of a key, and what has to be done with tombstones.
struct Merge {
  enum class Kind : uint8_t {
    kRecord,       // of a key
    kKillScope,    // a tombstone of all bindings of the scope: record.deleted
    kForget,       // the key's tombstone, if it still is record.deleted
    kForgetScope,  // the same of the scope's
    kFence,        // answered when all before it has been carried out, sweeps for kKillScope too
  } kind = Kind::kRecord;
  Source source;
  ScopeSlot scope;
  uint32_t fence = 0;
  uint64_t version = 0;  // the mirror's snapshot
  Key key;
  Record record;
  timing::Instant act_at;  // when record.act was, by our clock
};

}  // namespace limpet::binding
