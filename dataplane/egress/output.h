// Output: what a core wants to happen with the packets of a turn. The worker empties it: `tx` to
// the devices, `punted` to the control thread.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/telemetry/counter.h"
#include "dataplane/packet/buffer.h"
#include "dataplane/packet/verdict.h"

namespace limpet::egress {

using DropCounters = std::array<telemetry::Counter, packet::kDropReasons>;

struct PortCounters {
  telemetry::Counter rx_packets;
  telemetry::Counter rx_bytes;
  telemetry::Counter tx_packets;
  telemetry::Counter tx_bytes;
};

// The frames that leave by one port in a turn.
class Frames {
 public:
  static constexpr uint32_t kMax = 2048;

  // False: full.
  bool push(packet::Buffer* frame) {
    if (size_ == kMax) return false;
    at_[size_++] = frame;
    return true;
  }
  uint32_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  packet::Buffer*& operator[](std::size_t i) { return at_[i]; }
  packet::Buffer** begin() { return at_.data(); }
  packet::Buffer** end() { return at_.data() + size_; }
  void clear() { size_ = 0; }

 private:
  uint32_t size_ = 0;
  std::array<packet::Buffer*, kMax> at_;
};

class Output {
 public:
  static constexpr uint32_t kPuntFramesMax = 256;  // a turn

  explicit Output(std::size_t ports) : tx_(ports) { punted_.reserve(kPuntFramesMax); }

  // A complete frame; leaves by meta.port.
  void send(packet::Buffer* frame) {
    if (!tx_[packet::meta(frame).port].push(frame))
      drop(frame, packet::DropReason::kTransmitFull);
  }
  uint32_t room(std::size_t port) const { return Frames::kMax - tx_[port].size(); }
  void punt(packet::Buffer* frame) {
    if (punted_.size() == kPuntFramesMax) return drop(frame, packet::DropReason::kPuntRingFull);
    punted_.push_back(frame);
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

  Frames& tx(std::size_t port) { return tx_[port]; }
  std::vector<packet::Buffer*>& punted() { return punted_; }
  const DropCounters& drops(std::size_t port) const { return drops_by_port_[port]; }
  PortCounters& port(std::size_t port) { return ports_[port]; }
  const PortCounters& port(std::size_t port) const { return ports_[port]; }

 private:
  std::vector<Frames> tx_;
  std::vector<packet::Buffer*> punted_;
  std::vector<DropCounters> drops_by_port_{tx_.size()};
  std::vector<PortCounters> ports_{tx_.size()};
};

}  // namespace limpet::egress
