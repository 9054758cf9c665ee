// Engine: real cores, real rings, no threads: whoever owns it says which core takes which stage of
// its turn next. Frames come from queues of bytes, as from a device; what leaves is handed out. To
// the parts of the control thread it is what the threads of a running engine are: their Cores.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "common/timing/manual_clock.h"
#include "control/engine/cores.h"
#include "dataplane/worker/turn.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::sim {

// 2020-09-13: what the wall clock shows at Instant zero.
inline constexpr timing::WallTime kWallOrigin{1'600'000'000'000'000'000};

inline bool chance(base::Random& random, uint32_t percent) {
  return random.below(100) < percent;
}

// The stages of a worker's turn, each one step of the simulation.
using worker::kStages;
using worker::Stage;

// A frame under way to the engine.
struct Arriving {
  uint8_t port = 0;
  support::Bytes bytes;
};

struct Leaving {
  uint8_t port = 0;
  support::Bytes bytes;
};

// What is not the same in every world, as far as the engine is concerned.
struct Shape {
  uint32_t cores = 1;
  uint32_t limit = 64;    // bindings
  uint32_t ballast = 0;   // bindings that are taken from the start: makes a large table full
  uint32_t flows = 64;    // of each core
  uint32_t steered = 32;  // packets in a ring between two cores
  uint32_t rank = 0;      // in the cluster
  bool peers = false;
  bool disk = false;
  timing::WallTime wall_origin = kWallOrigin;
  bool push = true;
  replication::Rings::Capacity rings;

  static Shape random(base::Random& random);
  uint32_t homes() const { return persist::homes_of(cores, limit); }
};

class Engine final : public engine::Cores {
 public:
  static constexpr uint32_t kBuffers = 512;
  using Received = std::function<void(const support::Bytes&)>;
  using Sent = std::function<void(const Leaving&)>;

  Engine(const Shape& shape, const timing::ManualClock& clock, base::Random& random);

  const Shape& shape() const { return shape_; }
  uint32_t cores() const { return shape_.cores; }
  worker::Core& core(uint32_t i) { return *workers_[i].core; }
  support::HeapPool& buffers() { return pool_; }

  // engine::Cores
  uint32_t count() const override { return shape_.cores; }
  const worker::Core& core(uint32_t i) const override { return *workers_[i].core; }
  worker::Shared& shared() override { return *shared_; }
  const worker::Shared& shared() const override { return *shared_; }
  bool send(uint32_t core, const worker::ControlMessage& m) override {
    if (m.kind == worker::ControlMessage::Kind::kJob && job_seen_) job_seen_(*m.job);
    workers_[core].messages.push_back(m);
    return true;
  }
  // `seen` is told of each job that a core is sent.
  void watch_jobs(std::function<void(const worker::Job&)> seen) { job_seen_ = std::move(seen); }
  bool provide(const snapshot::Snapshot& next) override;
  bool can_publish() override { return true; }
  snapshot::Token publish(std::shared_ptr<const snapshot::Snapshot> next) override;
  snapshot::Token mark() override;
  bool have_passed(snapshot::Token token) override;

  const snapshot::Snapshot& newest() const { return *newest_; }
  const std::shared_ptr<const snapshot::Snapshot>& newest_shared() const { return newest_; }
  // Turns that this core has begun.
  uint64_t turns(uint32_t core) const { return workers_[core].turns; }
  uint32_t flows_of(snapshot::ServerSlot slot);
  uint32_t ports_in_use() const;

  // Devices.
  void arrive(uint32_t core, Arriving frame) { workers_[core].device.push_back(std::move(frame)); }
  std::size_t waiting_frames() const;

  Stage stage(uint32_t core) const { return workers_[core].next; }
  // Takes the next stage of the core's turn. `received(bytes)` is told of each frame that a device
  // hands over, `sent(Leaving)` of each that leaves.
  void step(uint32_t core, const Received& received, const Sent& sent);
  // The clock as the core read it when its turn began.
  timing::Instant now(uint32_t core) const { return workers_[core].now; }

 private:
  struct Worker {
    std::unique_ptr<worker::Core> core;
    Stage next = Stage::kReceive;
    timing::Instant now;
    uint64_t turns = 0;
    std::deque<Arriving> device;
    std::deque<worker::ControlMessage> messages;
    std::vector<std::deque<packet::Buffer*>> steered;  // by sender
    std::vector<std::unique_ptr<egress::SourcePorts>> ports;
  };

  struct Host;

  void provide(uint32_t nat);

  const Shape shape_;
  const timing::ManualClock& clock_;
  base::Random& random_;
  support::HeapPool pool_;
  std::unique_ptr<worker::Shared> shared_;
  std::vector<Worker> workers_;
  std::vector<packet::Ingress> ingress_;
  std::shared_ptr<const snapshot::Snapshot> newest_;
  std::vector<std::shared_ptr<const snapshot::Snapshot>> all_;  // a core may still use an old one
  std::function<void(const worker::Job&)> job_seen_;
  std::vector<std::vector<uint64_t>> marks_;  // by token: turns that each core had begun
};

}  // namespace limpet::sim
