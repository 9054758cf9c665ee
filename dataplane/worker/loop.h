// Loop: a worker's thread: brings a Core its packets from devices and rings and takes away what it
// decided. Wiring: the rings of one engine.
//
// Threads: a Loop belongs to its worker; of the rings each end has one owner, as named below.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/timing/time.h"
#include "dataplane/port/devices.h"
#include "dataplane/ring/ring.h"
#include "dataplane/snapshot/publisher.h"
#include "dataplane/worker/core.h"

namespace limpet::worker {

// Everything that crosses threads besides snapshots and counters.
struct Wiring {
  // A worker that shares its CPU stands still for a while: some 30 ms of bulk traffic where there
  // are few, and their rings cost little.
  static constexpr uint32_t packet_ring(uint32_t workers) {
    return std::clamp(32'768 / std::max(workers, 1u), Core::kSteeredMax, 8'192u);
  }
  static constexpr uint32_t kMessageRing = 1024;

  Wiring(uint32_t workers, std::pmr::memory_resource* memory)
      : steered(workers, packet_ring(workers), memory),
        handed(workers, packet_ring(workers), memory) {
    for (uint32_t w = 0; w < workers; ++w) {
      punted.emplace_back(Core::kSteeredMax, memory);
      injected.emplace_back(Core::kSteeredMax, memory);
      messages.emplace_back(kMessageRing, memory);
    }
  }
  static std::size_t bytes_for(uint32_t workers) {
    using Packets = ring::Ring<packet::Buffer*>;
    return 2 * ring::Mesh<packet::Buffer*>::bytes_for(workers, packet_ring(workers)) +
           workers * (2 * Packets::bytes_for(Core::kSteeredMax) +
                      ring::Ring<ControlMessage>::bytes_for(kMessageRing));
  }

  ring::Mesh<packet::Buffer*> steered;  // worker to worker: parsed, to be judged there
  ring::Mesh<packet::Buffer*> handed;   // worker to worker: complete frames, to be sent there
  std::vector<ring::Ring<packet::Buffer*>> punted;    // worker to control thread
  std::vector<ring::Ring<packet::Buffer*>> injected;  // control thread to worker: complete frames
  std::vector<ring::Ring<ControlMessage>> messages;   // control thread to worker
};

class Loop {
 public:
  struct Options {
    uint32_t worker = 0;
    timing::Duration idle_sleep{};
  };

  Loop(const Options& options, Core& core, Wiring& wiring, const port::Devices& devices,
       snapshot::Reader reader, const timing::Clock& clock);

  // Turns until `stop`; then gives back what it holds.
  void run(const std::atomic<bool>& stop);

 private:
  static constexpr uint32_t kEmptyTurnsBeforeSleep = 64;

  struct Host;

  bool receive();
  bool collect();
  void take_messages();
  void flush();
  void transmit(uint8_t port, packet::BufferList& frames);
  template <class Ring>
  void push_or_drop(Ring& ring, packet::BufferList& buffers, packet::DropReason reason);
  void sleep();

  const Options options_;
  Core& core_;
  Wiring& wiring_;
  const port::Devices& devices_;
  snapshot::Reader reader_;
  const timing::Clock& clock_;
  std::vector<std::vector<packet::Ingress>> ingress_;  // by device
  std::size_t first_queue_ = 0;                        // of the next turn
};

}  // namespace limpet::worker
