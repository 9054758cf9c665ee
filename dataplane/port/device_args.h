// What a port's `device` says: a PCI address or a virtual device, each with arguments, as DPDK
// writes them: "0000:3b:00.1", "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap". Pure functions of
// text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace limpet::port {

struct DeviceArgument {
  std::string key;
  std::string value;  // empty: the key alone

  friend bool operator==(const DeviceArgument&, const DeviceArgument&) = default;
};

struct DeviceArgs {
  std::string name;  // "net_pcap0"; PCI with its domain: "0000:3b:00.1"
  bool pci = false;
  std::vector<DeviceArgument> arguments;  // in order; keys may repeat

  // The first value of this key; empty when there is none.
  std::string_view value(std::string_view key) const;
  // It as a number; `otherwise` where there is none.
  uint32_t number(std::string_view key, uint32_t otherwise) const;
  // The arguments as DPDK takes them behind the name; empty when there are none.
  std::string argument_text() const;
  // name and arguments, comma between them.
  std::string text() const;

  // Whether a driver of this name would take the device ("net_pcap" takes "net_pcap0").
  bool is(std::string_view driver) const { return !pci && name.starts_with(driver); }

  friend bool operator==(const DeviceArgs&, const DeviceArgs&) = default;
};

// Errors: no name, a name that is neither a PCI address nor a driver's, an argument without a key.
base::Result<DeviceArgs> parse_device(std::string_view device);

// What a device is opened with: net_af_packet's own ring holds 512 frames, less than a burst of a
// few TCP connections. It gets kRingFrames (fewer if they are larger than 2 KB, so that the ring is
// no larger), and blocks that its frames fill, unless the arguments say otherwise. A ring is memory
// of the kernel's, once for each direction of a queue.
inline constexpr uint32_t kRingFrames = 8192;
inline constexpr uint32_t kFrameBytes = 2048;  // net_af_packet's own `framesz`
DeviceArgs with_defaults(const DeviceArgs& device);

// What the arguments make smaller than it should be, for the operator; empty: nothing.
std::string what_is_small(const DeviceArgs& device);

// A replay's version of a device. The engine writes output files itself (replay.h), so `tx_pcap`
// arguments are taken out; net_pcap then drops what is sent. A net_pcap that has no input left is
// not accepted by DPDK and becomes a net_null that receives nothing.
struct ReplayDevice {
  DeviceArgs device;
  std::vector<std::string> outputs;  // values of `tx_pcap`, in order
};
ReplayDevice for_replay(const DeviceArgs& device);

}  // namespace limpet::port
