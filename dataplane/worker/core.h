// Core: all state of one core and the stages of its turn. No device, no ring, no clock: a Loop
// brings packets and takes them away, so tests and simulations run many cores in one thread.
//
// Owner: one worker. A turn, in this order, every stage bounded (why this order: what a client
// could have seen the effect of must be known before its next packet is judged):
//   arrive()   packets from devices: parse, steer
//   collect()  packets steered here by other cores
//   begin()    take the newest snapshot
//   message()  what the control thread and other cores have to say
//   judge()    known flows, new flows, everything else
//   end()      timers, aging, a slice of the sweep and of a job
#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <vector>

#include "common/base/limits.h"
#include "common/timing/time.h"
#include "dataplane/l4/forwarder.h"
#include "dataplane/packet/fragment.h"
#include "dataplane/packet/parse.h"
#include "dataplane/worker/job.h"
#include "dataplane/worker/steer.h"

namespace limpet::worker {

// What all cores of an engine share: two kinds of atomics and a key, nothing else.
struct Shared {
  Shared(uint32_t entries_max, base::Random& random)
      : hash(random), bindings(entries_max), gauges(base::kServersMax) {}

  const base::KeyedHash hash;
  persist::Bindings bindings;
  l4::Gauges gauges;
};

// What the control thread sends a core.
struct ControlMessage {
  enum class Kind : uint8_t { kNeighbor, kJob } kind = Kind::kNeighbor;
  l4::NeighborUpdate neighbor{};
  Job* job = nullptr;
};

// Read by the control thread at any time.
struct CoreStats {
  telemetry::Counter32 flows;
  telemetry::Counter32 entries;
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
    std::size_t ports = 0;
    uint64_t seed = 0;
  };

  Core(const Options& options, Shared& shared, rte_mempool* pool,
       std::unique_ptr<packet::Reassembler> reassembler, timing::Instant now,
       std::pmr::memory_resource* memory);
  ~Core();

  void arrive(packet::Buffer* frame, const packet::IngressSet& ports);
  void collect(packet::Buffer* steered) { waiting_.push_back(steered); }
  void begin(const snapshot::Snapshot& s, timing::Instant now);
  void message(const ControlMessage& m);
  void judge();
  void end();

  // Arrivals that may still be taken this turn without judging first.
  bool has_room() const { return arrived_.size() < kTurnPacketsMax; }
  bool busy() const { return did_work_; }

  // Packets for core `to`, filled by judge(); the Loop empties it.
  std::vector<packet::Buffer*>& steered(uint32_t to) { return steered_[to]; }
  l4::Output& output() { return output_; }
  const l4::Output& output() const { return output_; }
  l4::Forwarder& forwarder() { return forwarder_; }
  const l4::Forwarder& forwarder() const { return forwarder_; }
  CoreStats& stats() { return stats_; }
  uint32_t index() const { return options_.index; }
  uint32_t fragments_pending() const { return reassembler_ ? reassembler_->pending() : 0; }

  static constexpr uint32_t kTurnPacketsMax = 512;
  static constexpr uint32_t kJobEntriesPerTurn = 256;

 private:
  void place(packet::Buffer* buffer);
  void judge_fragment(packet::Buffer* fragment);
  void count_fragments(uint8_t port);
  void work_on_job();
  void after_slice(Job& job);
  void census_slice();
  void list_slice();
  void delete_slice();
  void explain();

  const Options options_;
  Shared& shared_;
  base::Random random_;
  Steerer steerer_;
  l4::Output output_;
  l4::Forwarder forwarder_;
  std::unique_ptr<packet::Reassembler> reassembler_;
  uint64_t fragments_invalid_ = 0;  // of the reassembler's counts: already in output_
  uint64_t fragments_refused_ = 0;
  CoreStats stats_;

  const snapshot::Snapshot* snapshot_ = nullptr;
  timing::Instant now_;
  std::vector<packet::Buffer*> arrived_;  // parsed, to be steered
  std::vector<packet::Buffer*> waiting_;  // steered here by others
  std::vector<packet::Buffer*> mine_;     // to be judged here
  std::vector<std::vector<packet::Buffer*>> steered_;
  std::vector<Job*> jobs_;
  bool did_work_ = false;
};

}  // namespace limpet::worker
