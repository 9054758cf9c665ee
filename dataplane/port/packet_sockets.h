// PacketSockets: the kernel's sockets under a net_af_packet device. DPDK 22.11's driver keeps them
// to itself; asked here is what it never asks them, and one thing that it asks for is left out.
//
// What the kernel had no frame for is in none of the driver's counters.
//
// Its sockets, even a single one, are a "fanout" group that has the kernel put IPv4 datagrams
// together: fragments would arrive as one datagram of up to 64 KB, cut to the 2 KB of a frame. The
// engine puts datagrams together itself, of both families. There is no argument to say so, and no
// way out of a group, so this library has a setsockopt() of its own, which the driver is linked to
// as to any function of the program: it joins groups without that flag, and hands on everything
// else as it is. reassemble() tells whether that worked.
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
  // The kernel puts IPv4 datagrams together before they are received.
  bool reassemble() const;
  std::size_t count() const { return fds_.size(); }

 private:
  std::vector<int> fds_;  // the driver's
};

}  // namespace limpet::port
