// Link: the kernel's interface under a software device: what DPDK's drivers do not ask it.
//
// Thread: the control thread. Every call is a system call or two.
#pragma once

#include <cstdint>
#include <optional>

namespace limpet::port {

class Link {
 public:
  // 0: a device that has none, of which nothing is known.
  explicit Link(unsigned if_index) : if_index_(if_index) {}

  std::optional<uint32_t> mtu() const;

  // Frames that the kernel dropped at the interface since it is there.
  struct Drops {
    uint64_t received = 0;  // from the wire: net_af_xdp's queue was full
    uint64_t sent = 0;      // to the interface: net_tap's queue was
  };
  std::optional<Drops> drops() const;

  // Makes the interface's queue this long, in frames, unless it is longer.
  void lengthen_queue(uint32_t frames) const;

 private:
  unsigned if_index_;
};

}  // namespace limpet::port
