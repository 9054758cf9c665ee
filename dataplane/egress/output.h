// Output: what a core wants to happen with the packets of a turn. The worker empties it: `tx` to
// the devices, `punted` to the control thread.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/telemetry/counter.h"
#include "dataplane/packet/buffer_list.h"
#include "dataplane/packet/verdict.h"

namespace limpet::egress {

using DropCounters = std::array<telemetry::Counter, packet::kDropReasons>;

struct PortCounters {
  telemetry::Counter rx_packets;
  telemetry::Counter rx_bytes;
  telemetry::Counter tx_packets;
  telemetry::Counter tx_bytes;
};

class Output {
 public:
  static constexpr uint32_t kTransmitFramesMax = 2048;  // a port and turn
  static constexpr uint32_t kPuntFramesMax = 256;       // a turn

  explicit Output(std::size_t ports)
      : punted_(kPuntFramesMax), drops_by_port_(ports), ports_(ports) {
    tx_.reserve(ports);
    for (std::size_t i = 0; i < ports; ++i) tx_.emplace_back(kTransmitFramesMax);
  }

  // A complete frame; leaves by meta.port.
  void send(packet::Buffer* frame) { send(frame, packet::meta(frame).port); }
  void send(packet::Buffer* frame, uint8_t port) {
    packet::BufferList& frames = tx_[port];
    if (frames.room() == 0) [[unlikely]]
      return drop(frame, packet::DropReason::kTransmitFull);
    frames.put(frame);
  }
  uint32_t room(std::size_t port) const { return tx_[port].room(); }
  void punt(packet::Buffer* frame) {
    if (punted_.room() == 0) return drop(frame, packet::DropReason::kPuntRingFull);
    punted_.put(frame);
  }
  void drop(packet::Buffer* buffer, packet::DropReason reason, uint8_t port) {
    ++drops_by_port_[port][static_cast<std::size_t>(reason)];
    packet::release(buffer);
  }
  void drop(packet::Buffer* buffer, packet::DropReason reason) {
    drop(buffer, reason, packet::meta(buffer).port);
  }
  void count(packet::DropReason reason, uint8_t port, uint64_t n = 1) {
    drops_by_port_[port][static_cast<std::size_t>(reason)] += n;
  }

  packet::BufferList& tx(std::size_t port) { return tx_[port]; }
  packet::BufferList& punted() { return punted_; }
  const DropCounters& drops(std::size_t port) const { return drops_by_port_[port]; }
  PortCounters& port(std::size_t port) { return ports_[port]; }
  const PortCounters& port(std::size_t port) const { return ports_[port]; }

 private:
  std::vector<packet::BufferList> tx_;
  packet::BufferList punted_;
  std::vector<DropCounters> drops_by_port_;
  std::vector<PortCounters> ports_;
};

}  // namespace limpet::egress
