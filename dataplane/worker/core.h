// Core: all state of one core and the stages of its turn. No device, no ring, no clock: a Loop
// brings packets and takes them away, so tests and simulations run many cores in one thread.
//
// Owner: one worker. The order of the stages, and why it is this one: worker/turn.h, by which all
// turns are taken.
#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <vector>

#include "common/base/assert.h"
#include "common/base/limits.h"
#include "common/timing/time.h"
#include "dataplane/l4/forwarder.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/reassembler.h"
#include "dataplane/worker/job.h"
#include "dataplane/worker/steer.h"

namespace limpet::worker {

// What all cores of an engine share: two kinds of atomics, a key, and the rings between them.
struct Shared {
  Shared(uint32_t cores, uint32_t entries_max, base::Random& random,
         const replication::Rings::Capacity& capacity, std::pmr::memory_resource* memory)
      : hash(random),
        bindings(entries_max),
        gauges(base::kServersMax),
        rings(cores, capacity, memory) {}

  const base::KeyedHash hash;
  persist::Bindings bindings;
  balance::Gauges gauges;
  replication::Rings rings;
};

// What the control thread sends a core.
struct ControlMessage {
  enum class Kind : uint8_t { kNeighbor, kJob } kind = Kind::kNeighbor;
  egress::NeighborUpdate neighbor{};
  Job* job = nullptr;
};

// Read by the control thread at any time.
struct CoreStats {
  telemetry::Counter32 flows;
  telemetry::Counter32 entries;  // in its replica
  telemetry::Counter32 records;  // ... whose home is here
  telemetry::Counter32 parked;   // packets that wait for a home
  telemetry::Counter busy_ns;
  telemetry::Counter idle_ns;
  telemetry::Counter swept_version;  // the newest snapshot whose consequences are all carried out
};

class Core {
 public:
  struct Options {
    uint32_t index = 0;
    uint32_t cores = 1;
    uint32_t flows = 0;
    std::size_t nats = 0;
    uint32_t parked = affinity::Pen::kPackets;  // l4::Forwarder::Options
    std::size_t ports = 0;
    uint64_t seed = 0;
    timing::WallTime wall_origin{};  // what the wall clock showed at Instant zero
    uint32_t rank = 0;               // of this engine in the cluster
    bool push = false;               // replication::Replica::Options
    bool peers = false;
    bool disk = false;
    bool heartbeats = false;  // of other engines come by UDP
  };

  Core(const Options& options, Shared& shared, rte_mempool* pool,
       std::unique_ptr<packet::Reassembler> reassembler, timing::Instant now,
       std::pmr::memory_resource* memory);
  ~Core();

  // Stages of a turn.

  // Frames of one device: parse, steer.
  void arrive(std::span<packet::Buffer* const> frames, const packet::IngressSet& ports);
  void arrive(packet::Buffer* frame, const packet::IngressSet& ports) {
    arrive(std::span(&frame, 1), ports);
  }
  // At most collected_max() a turn from each other core.
  void collect(packet::Buffer* steered) { waiting_.put(steered); }
  void begin(const snapshot::Snapshot& s, timing::Instant now);
  // What homes have told this core. `take()` calls begin() with the newest snapshot: a message came
  // from one that is newer.
  template <class Take>
  void drain(Take&& take) {
    if (replica_.drain(take, [this](const replication::Down& m) { forwarder_.heard(m); }))
      did_work_ = true;
  }
  void message(const ControlMessage& m);
  // What waited for a home, known flows, new flows, everything else.
  void judge();
  // As home: claims and answers.
  template <class Take>
  void serve(Take&& take) {
    if (replica_.serve(take)) did_work_ = true;
  }
  // Timers, aging, a slice of the sweep and of a job.
  void end();

  // As much as a core may bring in a turn, shared out over the others: who takes less than they
  // send loses it in their rings.
  static uint32_t collected_max(uint32_t cores) {
    return std::max(kTurnPacketsMax / std::max(cores - 1, 1u), uint32_t{base::kBurstPacketsMax});
  }

  uint32_t collected_max() const { return collected_max(options_.cores); }

  // Arrivals that may still be taken this turn without judging first.
  bool has_room() const { return arrived_.size() < kTurnPacketsMax; }
  bool busy() const { return did_work_; }

  // Packets for core `to`, filled by judge(); the Loop empties it.
  packet::BufferList& steered(uint32_t to) { return steered_[to]; }
  egress::Output& output() { return output_; }
  const egress::Output& output() const { return output_; }
  l4::Forwarder& forwarder() { return forwarder_; }
  const l4::Forwarder& forwarder() const { return forwarder_; }
  replication::Replica& replica() { return replica_; }
  const replication::Replica& replica() const { return replica_; }
  persist::Table& table() { return replica_.table(); }
  const persist::Table& table() const { return replica_.table(); }
  CoreStats& stats() { return stats_; }
  const CoreStats& stats() const { return stats_; }
  uint32_t index() const { return options_.index; }
  const snapshot::Snapshot& snapshot() const { return *snapshot_; }
  uint32_t fragments_pending() const { return reassembler_ ? reassembler_->pending() : 0; }

  static constexpr uint32_t kTurnPacketsMax = 512;
  static constexpr uint32_t kSteeredMax = 2048;  // to a core and turn: what a ring holds
  static constexpr uint32_t kJobEntriesPerTurn = 256;
  static constexpr uint32_t kSweepRecordsPerTurn = 256;
  static constexpr uint32_t kRecordsBusy = 2;  // looked at each turn for their deadlines
  static constexpr uint32_t kRecordsIdle = 64;
  // Empty turns follow one another within a fraction of a microsecond: looking at records in each
  // of them would drive everything else out of the caches, and keep a worker awake that may rest.
  static constexpr timing::Duration kIdleLooksInterval{20'000};

 private:
  std::optional<packet::DropReason> parse(packet::Buffer* frame, const packet::IngressSet& ports);
  void judge(packet::BufferList* packets);
  void place(packet::Buffer* buffer);
  void steer(packet::Buffer* buffer, uint32_t to);
  bool is_heartbeat(const packet::Meta& m) const;
  void judge_fragment(packet::Buffer* fragment);
  void count_fragments(uint8_t port);
  void work_on_job();
  void finish_job();
  void delete_slice();
  void inspect_slice();
  timing::Instant deadline_of(const persist::Entry& entry, const snapshot::Scope& scope) const;
  void explain();

  const Options options_;
  Shared& shared_;
  base::Random random_;
  Steerer steerer_;
  balance::Picker picker_;
  replication::Replica replica_;
  egress::Output output_;
  egress::Sender sender_;
  l4::Forwarder forwarder_;
  egress::ReplyLimit heartbeat_limit_;  // to the control thread
  std::unique_ptr<packet::Reassembler> reassembler_;
  uint64_t fragments_invalid_ = 0;  // of the reassembler's counts: already in output_
  uint64_t fragments_refused_ = 0;
  CoreStats stats_;

  const snapshot::Snapshot* snapshot_ = nullptr;
  uint64_t version_ = 0;  // its
  timing::Instant now_;
  // As long as they can get: a worker allocates nothing.
  packet::BufferList arrived_;  // parsed, to be steered
  packet::BufferList waiting_;  // steered here by others
  packet::BufferList mine_;     // to be judged here
  std::vector<packet::BufferList> steered_;
  Job* first_job_ = nullptr;  // by Job::next; the one that is worked on
  Job* last_job_ = nullptr;
  bool did_work_ = false;
  timing::Instant looked_at_;  // when kRecordsIdle were looked at
};

}  // namespace limpet::worker
