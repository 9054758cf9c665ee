// Devices: the ethernet devices behind the engine's ports, their queues, and the burst calls that
// workers use. Several ports may share a device and differ by VLAN tag.
//
// Threads: everything but receive() and transmit() belongs to the control thread. A receive or
// transmit queue belongs to one worker (queues.h).
//
// Invariants
//  1. Device ids are dense: 0 .. devices().size() - 1. DPDK's own port ids are nobody else's
//     business.
//  2. A port's `mac` is what its frames carry, whether the device agreed to it or not; in the
//     latter case the device is promiscuous and the parser filters.
//  3. VLAN tags are in the frame, both ways: no device strips or inserts them.
//
// What DPDK 22.11's drivers do, tried: dev_info's queue maxima of net_pcap are overwritten by the
// first configuration, so they are read before and a device is configured once; net_af_packet,
// net_pcap and net_af_xdp receive into all queues they were created with, so all of them must be
// polled, whatever the number of workers. net_af_xdp keeps 2,048 packet buffers a queue until the
// pool goes, does not send chains, and counts only "combined" channels, of which a veth has one.
// net_af_packet and net_af_xdp leave VLAN tags in the frame. net_tap complains about a missing
// `multiq` qdisc and does without. net_tap, net_af_xdp and net_vhost count frames that they did not
// take as errors, too.
#pragma once

#include <rte_ethdev.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/net/address.h"
#include "dataplane/packet/buffer.h"
#include "dataplane/packet/verdict.h"
#include "dataplane/port/device_args.h"
#include "dataplane/port/link.h"
#include "dataplane/port/packet_sockets.h"
#include "dataplane/port/queues.h"

namespace limpet::port {

struct PortOptions {
  std::string name;
  DeviceArgs device;  // equal ones are one device
  uint16_t mtu = 1500;
  std::optional<net::Mac> mac;
  std::optional<uint16_t> vlan;
};

struct DevicesOptions {
  std::vector<PortOptions> ports;
  uint32_t workers = 1;
  rte_mempool* pool = nullptr;
  // Where a device has no address of its own to offer, ports get one made of these two, so that it
  // is the same each time. With `fixed_macs` (replay) so do ports of devices that draw lots.
  std::string engine_name;
  bool fixed_macs = false;
};

struct PortInfo {
  uint8_t index = 0;
  std::string name;
  net::Mac mac;
  uint16_t mtu = 0;
  uint16_t device = 0;
  uint16_t vlan = 0;  // 0: untagged
};

struct DeviceInfo {
  uint16_t id = 0;
  std::string name;    // "net_af_packet0"
  std::string driver;  // "net_af_packet"
  bool pci = false;
  uint16_t receive_queues = 0;
  uint16_t transmit_queues = 0;
  uint16_t mtu = 0;                // largest of its ports
  int numa_node = -1;              // -1: none in particular
  bool rss = false;                // spreads flows over its receive queues by a hash of the 5-tuple
  bool receive_checksums = false;  // judges IPv4, TCP and UDP checksums (mbuf flags)
  bool chains = true;              // sends frames of several segments; else transmit() copies them
  bool promiscuous = false;
  bool kernel_reassembles = false;  // IPv4 datagrams arrive whole, cut to the device's frames
};

// Since start().
struct DeviceStats {
  uint64_t received_packets = 0;
  uint64_t received_bytes = 0;
  uint64_t sent_packets = 0;
  uint64_t sent_bytes = 0;
  uint64_t missed_packets = 0;     // no room in the receive queue: the workers are too slow
  uint64_t receive_errors = 0;     // bad frames
  uint64_t receive_no_buffer = 0;  // no packet buffer
  uint64_t send_errors = 0;        // taken by transmit(), and not sent

  // What was lost, by drop reason.
  void add_to(packet::DropCounts* drops) const;
};

class Devices {
 public:
  // Opens and configures every port's device; nothing is received before start(). Errors name the
  // port ("/ports/0/device") and say what DPDK said.
  static base::Result<Devices> open(const DevicesOptions& options);

  Devices(Devices&&) noexcept = default;
  Devices& operator=(Devices&&) = delete;
  // Stops and closes.
  ~Devices();

  base::Status start();
  // No worker may be in receive() or transmit() any more.
  void stop();

  std::span<const PortInfo> ports() const { return ports_; }
  std::span<const DeviceInfo> devices() const { return devices_; }
  // Which queues each of the `workers` has.
  const Queues& queues() const { return queues_; }

  // Does not wait for the device; false also where it does not know.
  bool link_up(uint16_t device) const;
  // Asks the driver, and the kernel where it knows more.
  DeviceStats stats(uint16_t device);

  // At most `count` frames of a queue that is the calling worker's.
  uint32_t receive(uint16_t device, uint16_t queue, packet::Buffer** buffers,
                   uint32_t count) const {
    return rte_eth_rx_burst(ids_[device], queue, buffers, static_cast<uint16_t>(count));
  }
  // Sends the first n frames and returns n; the others stay the caller's. The device may be full:
  // trying again at once rarely helps.
  uint32_t transmit(uint16_t device, uint16_t queue, packet::Buffer** buffers,
                    uint32_t count) const {
    if (!devices_[device].chains) [[unlikely]]
      count = flatten(buffers, count);
    return rte_eth_tx_burst(ids_[device], queue, buffers, static_cast<uint16_t>(count));
  }

 private:
  // What is under a software device.
  struct Kernel {
    Link link{0};
    PacketSockets sockets{};      // of net_af_packet
    uint64_t lost = 0;            // what they told so far
    uint64_t dropped_before = 0;  // at the link, before start()
  };

  Devices() = default;

  static base::Result<Devices> open_all(const DevicesOptions& options);
  base::Status open_device(const DevicesOptions& options, std::size_t first_port);
  base::Status configure(const DevicesOptions& options, uint16_t device);
  base::Status set_mtu(std::size_t port, uint16_t device);
  base::Status set_addresses(const DevicesOptions& options, uint16_t device);
  uint64_t lost_in_kernel(uint16_t device);
  uint64_t dropped_at_link(uint16_t device) const;
  // Replaces chains by copies in one segment; returns how many of the first are such now.
  uint32_t flatten(packet::Buffer** buffers, uint32_t count) const;

  std::vector<uint16_t> ids_;  // DPDK's, by device
  std::vector<DeviceInfo> devices_;
  std::vector<Kernel> kernels_;  // by device
  std::vector<PortInfo> ports_;
  Queues queues_;
  rte_mempool* pool_ = nullptr;
};

}  // namespace limpet::port
