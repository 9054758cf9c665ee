// PacketSockets: the kernel's sockets under a net_af_packet device. DPDK 22.11's driver keeps them
// to itself, and has no counter of what the kernel had no frame for.
//
// Thread: the control thread.
#pragma once

#include <cstdint>
#include <vector>

namespace limpet::port {

class PacketSockets {
 public:
  // Those of this process that receive from the interface.
  static PacketSockets of(unsigned if_index);

  // Frames for which there was no room, since the last call: the kernel forgets what it has told.
  uint64_t take_lost();
  std::size_t count() const { return fds_.size(); }

 private:
  std::vector<int> fds_;  // the driver's
};

}  // namespace limpet::port
