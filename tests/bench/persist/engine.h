// Engine: the cores of an engine over frames in memory, for measuring: no devices, no EAL, frames
// that exist before and are used again. What a packet costs is here what the core does with it.
//
// Its clients have IPv4 addresses, one each; connections are told apart by the client's port, which
// is chosen so that worker::Steerer gives them to the core that is wanted.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/worker/core.h"
#include "tests/support/core_lab.h"

namespace limpet::bench {

// An Ethernet frame of the least size, without the check sequence.
struct alignas(64) FrameBytes {
  static constexpr uint16_t kCount = 60;
  std::array<uint8_t, kCount> bytes;
};

// Buffers that this core's packets arrive in, again and again.
class Buffers {
 public:
  explicit Buffers(uint32_t count) : pool_(count) {
    for (uint32_t i = 0; i < count; ++i) free_.push_back(packet::allocate(pool_.pool()));
  }
  ~Buffers() {
    for (packet::Buffer* b : free_) packet::release(b);
  }
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  // As a device would deliver it, checksums verified.
  packet::Buffer* holding(const FrameBytes& frame);
  void give_back(packet::Buffer* buffer) { free_.push_back(buffer); }

 private:
  support::HeapPool pool_;
  std::vector<packet::Buffer*> free_;
};

// All messages between cores, by kind.
struct Messages {
  uint64_t claims = 0, touches = 0, updates = 0, recalls = 0, answers = 0, others = 0;

  uint64_t sum() const { return claims + touches + updates + recalls + answers + others; }
  Messages operator-(const Messages& m) const;
  friend bool operator==(const Messages&, const Messages&) = default;
};

class Engine {
 public:
  struct Options {
    uint32_t cores = 1;
    uint32_t entries = 0;
    uint32_t flows = 0;  // of a core
    bool push = true;
    bool peers = false;            // its bindings are told to peers
    bool preserve_client = false;  // servers see the clients' addresses
    timing::Duration timeout = timing::seconds(60);
  };
  explicit Engine(const Options& options);

  worker::Core& core(uint32_t i) { return *cores_[i]; }
  uint32_t cores() const { return options_.cores; }
  worker::Shared& shared() { return shared_; }
  const snapshot::Snapshot& snapshot() const { return *snapshot_; }
  const snapshot::Scope& scope() const { return snapshot_->scopes[0]; }
  static net::Address client(uint32_t i) { return net::Address::v4_host(0x64400000u + i); }

  // A frame from a client to the virtual service.
  FrameBytes frame(uint32_t client, uint16_t port, uint8_t tcp_flags) const;
  // The first port from `from` on with which the client's packets belong to `core`.
  uint16_t port_for(uint32_t client, uint32_t core, uint16_t from);

  void arrive(uint32_t core, packet::Buffer* frame, uint8_t port = 0) {
    cores_[core]->arrive(frame, {&ingress_[port], 1});
  }
  // A worker's turn, without its devices and rings of packets.
  void turn(uint32_t core, timing::Instant now);

  // Bindings of clients [0, count), as they come from a mirror: confirmed, on all cores.
  void bind(uint32_t count, timing::Instant now);
  // Takes what homes tell the mirror.
  void drain_news();
  Messages messages() const;
  uint64_t news() const;       // sent to the mirror
  uint64_t announced() const;  // ... of them activity, and the end of it
  uint64_t connections(uint32_t core) const { return cores_[core]->forwarder().vs({}).total; }

 private:
  const Options options_;
  base::Random random_{1};
  worker::Shared shared_;
  std::shared_ptr<snapshot::Snapshot> snapshot_;
  std::vector<std::unique_ptr<worker::Core>> cores_;
  std::vector<std::unique_ptr<egress::SourcePorts>> ports_;
  std::array<packet::Ingress, 2> ingress_;
  worker::Steerer steerer_;
  Buffers scratch_{1};
  FrameBytes pattern_{};
};

// Ends the program: a number that is not what it says is worse than none.
[[noreturn]] void fail(const std::string& what);
double median(std::vector<double> values);

}  // namespace limpet::bench
