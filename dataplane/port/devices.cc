#include "dataplane/port/devices.h"

#include <fmt/format.h>
#include <rte_dev.h>
#include <rte_errno.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "dataplane/port/eal.h"
#include "dataplane/port/link.h"
#include "dataplane/port/output_capture.h"

namespace limpet::port {

namespace {

using base::Error;

constexpr uint16_t kDescriptors = 1024;
// net_af_xdp gives the kernel 2,048 buffers whatever its descriptors, and has use for no more.
constexpr uint16_t kDescriptorsXdp = 2048;

Error port_error(std::size_t port, std::string_view field, std::string message) {
  return {fmt::format("/ports/{}/{}", port, field), std::move(message)};
}

// Queues that exist from the device's creation on: the driver spreads over all of them.
bool has_fixed_queues(std::string_view driver) {
  return driver == "net_af_packet" || driver == "net_pcap" || driver == "net_af_xdp";
}

QueueCounts queue_counts(const rte_eth_dev_info& info, std::string_view driver, uint32_t workers) {
  const auto most = static_cast<uint16_t>(std::min<uint32_t>(workers, UINT16_MAX));
  QueueCounts counts{.receive = std::min(most, info.max_rx_queues),
                     .transmit = std::min(most, info.max_tx_queues)};
  if (has_fixed_queues(driver)) counts.receive = info.max_rx_queues;
  // net_memif announces 255 queues, but only as many work as the peer asked for. It is one by
  // default, and there is no telling before it connects.
  if (driver == "net_memif") counts = {.receive = 1, .transmit = 1};
  // net_tap is a pair of descriptors a queue, and net_af_xdp a socket: both ways or none.
  if (driver == "net_tap")
    counts.receive = counts.transmit = std::min(counts.receive, counts.transmit);
  if (driver == "net_af_xdp") counts.transmit = counts.receive;
  counts.receive = std::max<uint16_t>(counts.receive, 1);
  counts.transmit = std::max<uint16_t>(counts.transmit, 1);
  return counts;
}

// Drivers that count frames as errors that transmit() has left to the caller.
bool counts_refused(std::string_view driver) {
  return driver == "net_tap" || driver == "net_af_xdp" || driver == "net_vhost";
}

uint64_t rss_hash_types(const rte_eth_dev_info& info) {
  constexpr uint64_t kWanted = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 |
                               RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP |
                               RTE_ETH_RSS_NONFRAG_IPV4_OTHER | RTE_ETH_RSS_IPV6 |
                               RTE_ETH_RSS_FRAG_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_TCP |
                               RTE_ETH_RSS_NONFRAG_IPV6_UDP | RTE_ETH_RSS_NONFRAG_IPV6_OTHER;
  return info.flow_type_rss_offloads & kWanted;
}

uint32_t buffer_bytes(rte_mempool* pool) {
  return static_cast<uint32_t>(rte_pktmbuf_data_room_size(pool)) - RTE_PKTMBUF_HEADROOM;
}

// net_af_packet copies frames of up to this many bytes into a buffer without asking how much it
// holds; 0 for other drivers.
uint32_t frame_bytes(const DeviceArgs& args, std::string_view driver) {
  return driver == "net_af_packet" ? args.number("framesz", kFrameBytes) : 0;
}

// The largest MTU that rte_eth_dev_configure() accepts.
uint32_t configured_mtu_max(const rte_eth_dev_info& info) {
  const uint32_t overhead = info.max_mtu == UINT16_MAX || info.max_rx_pktlen <= info.max_mtu
                                ? RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN
                                : info.max_rx_pktlen - info.max_mtu;
  return std::min<uint32_t>(info.max_mtu, info.max_rx_pktlen - overhead);
}

// The largest MTU whose frames arrive whole. net_af_packet names 1,500 whatever its frames hold:
// `framesz` less 66 bytes of the kernel's, less the ethernet header and a tag.
uint32_t carried_mtu(const rte_eth_dev_info& info, const DeviceArgs& args,
                     std::string_view driver) {
  constexpr uint32_t kKernelBytes = 66;
  constexpr uint32_t kHeaderBytes = RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
  const uint32_t frame = frame_bytes(args, driver);
  if (frame == 0) return configured_mtu_max(info);
  return frame > kKernelBytes + kHeaderBytes ? frame - kKernelBytes - kHeaderBytes : 0;
}

// Locally administered, the same for the same names (FNV-1a).
net::Mac made_up_mac(std::string_view engine, std::string_view port) {
  uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&](unsigned char c) { hash = (hash ^ c) * 0x100000001b3u; };
  for (const char c : engine) mix(static_cast<unsigned char>(c));
  mix(0);
  for (const char c : port) mix(static_cast<unsigned char>(c));
  net::Mac mac;
  for (std::size_t i = 0; i < mac.bytes.size(); ++i)
    mac.bytes[i] = static_cast<uint8_t>(hash >> (8 * i + 8));
  mac.bytes[0] = static_cast<uint8_t>((mac.bytes[0] & 0xfc) | 0x02);
  return mac;
}

rte_ether_addr to_ether(const net::Mac& mac) {
  rte_ether_addr address;
  std::memcpy(address.addr_bytes, mac.bytes.data(), sizeof address.addr_bytes);
  return address;
}

net::Mac mac_of(uint16_t id) {
  rte_ether_addr address{};
  rte_eth_macaddr_get(id, &address);
  net::Mac mac;
  std::memcpy(mac.bytes.data(), address.addr_bytes, mac.bytes.size());
  return mac;
}

rte_device* device_of(uint16_t id) {
  rte_eth_dev_info info{};
  return rte_eth_dev_info_get(id, &info) == 0 ? info.device : nullptr;
}

bool is_unsupported(int error) {
  return error == -ENOTSUP || error == -ENOSYS;
}

// Many drivers answer -1 whatever went wrong, which as an error number would be "not permitted".
std::string driver_error(int error) {
  if (error != -1) return error_text(error);
  return "the driver failed (often the interface, the peer or a right is missing)";
}

// Creates the device, or finds the PCI device that Eal probed.
base::Result<uint16_t> attach(const DeviceArgs& device) {
  uint16_t id = 0;
  if (rte_eth_dev_get_port_by_name(device.name.c_str(), &id) == 0) {
    if (device.pci) return id;
    return Error{"",
                 fmt::format("device {} is named twice, with different arguments", device.name)};
  }
  if (!device.pci) {
    const int error = rte_eal_hotplug_add("vdev", device.name.c_str(),
                                          with_defaults(device).argument_text().c_str());
    if (error != 0)
      return Error{"",
                   fmt::format("device {} does not open: {}", device.text(), driver_error(error))};
  }
  if (rte_eth_dev_get_port_by_name(device.name.c_str(), &id) != 0) {
    return Error{
        "", device.pci ? fmt::format("no DPDK driver took PCI device {}; is it bound to vfio-pci?",
                                     device.name)
                       : fmt::format("device {} is no ethernet device", device.text())};
  }
  return id;
}

// The same, with what the drivers logged meanwhile.
base::Errors with_log(base::Errors errors, std::string_view log) {
  const std::string said = log_summary(log);
  if (!said.empty()) errors.back().message += ": " + said;
  return errors;
}

}  // namespace

base::Result<Devices> Devices::open(const DevicesOptions& options) {
  OutputCapture output;
  base::Result<Devices> opened = open_all(options);
  const std::string log = output.finish();
  if (!opened) return with_log(opened.errors(), log);
  pass_on(log);
  return opened;
}

base::Result<Devices> Devices::open_all(const DevicesOptions& options) {
  LIMPET_ASSERT(options.pool != nullptr && options.workers > 0);
  Devices d;
  d.pool_ = options.pool;
  for (std::size_t i = 0; i < options.ports.size(); ++i) {
    const PortOptions& port = options.ports[i];
    const auto same =
        std::find_if(options.ports.begin(), options.ports.begin() + static_cast<int>(i),
                     [&](const PortOptions& p) { return p.device == port.device; });
    const auto first = static_cast<std::size_t>(same - options.ports.begin());
    if (first == i) {
      if (base::Status opened = d.open_device(options, i); !opened) return opened.errors();
    }
    PortInfo info{
        .index = static_cast<uint8_t>(i),
        .name = port.name,
        .mac = {},
        .mtu = port.mtu,
        .device = first == i ? static_cast<uint16_t>(d.ids_.size() - 1) : d.ports_[first].device,
        .vlan = port.vlan.value_or(0)};
    DeviceInfo& device = d.devices_[info.device];
    device.mtu = std::max(device.mtu, port.mtu);
    d.ports_.push_back(std::move(info));
  }
  std::vector<QueueCounts> counts;
  for (uint16_t i = 0; i < d.ids_.size(); ++i) {
    if (base::Status configured = d.configure(options, i); !configured) return configured.errors();
    if (base::Status set = d.set_addresses(options, i); !set) return set.errors();
    counts.push_back(
        {.receive = d.devices_[i].receive_queues, .transmit = d.devices_[i].transmit_queues});
  }
  d.queues_ = assign_queues(counts, options.workers);
  return d;
}

Devices::~Devices() {
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    rte_device* const hardware = devices_[i].pci ? nullptr : device_of(ids_[i]);
    rte_eth_dev_stop(ids_[i]);
    rte_eth_dev_close(ids_[i]);
    // Closing leaves a virtual device on its bus, where its name stays taken.
    if (hardware != nullptr) rte_dev_remove(hardware);
  }
}

base::Status Devices::open_device(const DevicesOptions& options, std::size_t first_port) {
  const DeviceArgs& args = options.ports[first_port].device;
  base::Result<uint16_t> attached = attach(args);
  if (!attached) return port_error(first_port, "device", attached.errors().front().message);
  rte_eth_dev_info info{};
  const int error = rte_eth_dev_info_get(attached.value(), &info);
  if (error != 0) {
    return port_error(first_port, "device",
                      fmt::format("device {} tells nothing: {}", args.name, error_text(error)));
  }
  DeviceInfo device;
  device.id = static_cast<uint16_t>(ids_.size());
  device.name = args.name;
  device.driver = info.driver_name;
  device.pci = args.pci;
  device.numa_node = rte_eth_dev_socket_id(attached.value());
  Kernel kernel{.link = Link(info.if_index)};
  if (device.driver == "net_af_packet") kernel.sockets = PacketSockets::of(info.if_index);
  device.kernel_reassembles = kernel.sockets.reassemble();
  if (device.driver == "net_tap") kernel.link.lengthen_queue(kRingFrames);
  kernels_.push_back(std::move(kernel));
  ids_.push_back(attached.value());
  devices_.push_back(std::move(device));
  return base::Done{};
}

base::Status Devices::configure(const DevicesOptions& options, uint16_t index) {
  DeviceInfo& device = devices_[index];
  const uint16_t id = ids_[index];
  std::size_t port = 0;
  while (ports_[port].device != index) ++port;
  const DeviceArgs& args = options.ports[port].device;
  const auto failed = [&](std::string_view what, int error) {
    return port_error(port, "device",
                      fmt::format("device {}: {}: {}", device.name, what, driver_error(error)));
  };

  rte_eth_dev_info info{};
  if (const int error = rte_eth_dev_info_get(id, &info); error != 0) return failed("query", error);
  const QueueCounts counts = queue_counts(info, device.driver, options.workers);
  device.receive_queues = counts.receive;
  device.transmit_queues = counts.transmit;

  rte_eth_conf conf{};
  const uint32_t mtu_max = carried_mtu(info, args, device.driver);
  if (device.mtu > mtu_max) {
    return port_error(port, "mtu",
                      fmt::format("device {} carries at most an MTU of {}", device.name, mtu_max));
  }
  if (frame_bytes(args, device.driver) > buffer_bytes(options.pool)) {
    return port_error(port, "device",
                      fmt::format("framesz must not exceed {}, the size of a packet buffer at this "
                                  "mtu",
                                  buffer_bytes(options.pool)));
  }
  conf.rxmode.mtu = std::clamp<uint32_t>(device.mtu, info.min_mtu, configured_mtu_max(info));
  // net_tap's checksum judgement is software too, and does not know fragments as the parser does.
  constexpr uint64_t kChecksums = RTE_ETH_RX_OFFLOAD_CHECKSUM;
  device.receive_checksums =
      (info.rx_offload_capa & kChecksums) == kChecksums && device.driver != "net_tap";
  if (device.receive_checksums) conf.rxmode.offloads |= kChecksums;
  device.chains = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
  if (device.chains) conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
  const uint64_t hash_types = rss_hash_types(info);
  // net_null claims RSS and computes it nowhere; net_tap needs tc for it, and the kernel spreads
  // flows over a tap's queues by itself.
  device.rss = counts.receive > 1 && hash_types != 0 && device.driver != "net_tap" &&
               device.driver != "net_null";
  if (device.rss) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = hash_types;
  }

  int error = rte_eth_dev_configure(id, counts.receive, counts.transmit, &conf);
  if (error != 0) return failed("configuration", error);
  uint16_t receive_descriptors = device.driver == "net_af_xdp" ? kDescriptorsXdp : kDescriptors;
  uint16_t transmit_descriptors = kDescriptors;
  error = rte_eth_dev_adjust_nb_rx_tx_desc(id, &receive_descriptors, &transmit_descriptors);
  if (error != 0) return failed("descriptors", error);
  const auto node = static_cast<unsigned>(device.numa_node);  // -1 is SOCKET_ID_ANY
  for (uint16_t q = 0; q < counts.receive; ++q) {
    error = rte_eth_rx_queue_setup(id, q, receive_descriptors, node, nullptr, options.pool);
    if (error != 0) return failed(fmt::format("receive queue {}", q), error);
  }
  for (uint16_t q = 0; q < counts.transmit; ++q) {
    error = rte_eth_tx_queue_setup(id, q, transmit_descriptors, node, nullptr);
    if (error != 0) return failed(fmt::format("transmit queue {}", q), error);
  }

  return set_mtu(port, index);
}

base::Status Devices::set_mtu(std::size_t port, uint16_t index) {
  const DeviceInfo& device = devices_[index];
  rte_eth_dev_info info{};
  if (rte_eth_dev_info_get(ids_[index], &info) != 0) return base::Done{};
  // A kernel interface that carries more already is left as it is: it is not ours alone.
  const std::optional<uint32_t> kernel = Link(info.if_index).mtu();
  if (kernel && *kernel >= device.mtu) return base::Done{};
  if (kernel && device.mtu > configured_mtu_max(info)) {
    return port_error(port, "mtu",
                      fmt::format("the interface of device {} has an MTU of {}; set it to {}",
                                  device.name, *kernel, device.mtu));
  }
  const int error = rte_eth_dev_set_mtu(ids_[index], device.mtu);
  if (error != 0 && !is_unsupported(error)) {
    return port_error(port, "mtu",
                      fmt::format("device {} refuses an MTU of {}: {}", device.name, device.mtu,
                                  error_text(error)));
  }
  return base::Done{};
}

base::Status Devices::set_addresses(const DevicesOptions& options, uint16_t index) {
  DeviceInfo& device = devices_[index];
  const uint16_t id = ids_[index];
  net::Mac own = mac_of(id);
  const bool draws_lots =
      device.driver == "net_null" || device.driver == "net_memif" || device.driver == "net_tap";
  bool own_given = false;  // the device's first address was set as a port wants it
  bool filtered = false;   // a port's address is not one of the device's
  for (PortInfo& port : ports_) {
    if (port.device != index) continue;
    const std::optional<net::Mac>& wanted = options.ports[port.index].mac;
    if (!wanted && !own.is_zero() && !(options.fixed_macs && draws_lots)) {
      port.mac = own;
      own_given = true;
      continue;
    }
    port.mac = wanted ? *wanted : made_up_mac(options.engine_name, port.name);
    if (port.mac == own) {
      own_given = true;
      continue;
    }
    rte_ether_addr address = to_ether(port.mac);
    // The first port that wants one sets it; the others add theirs to the filter.
    const bool set = !own_given && rte_eth_dev_default_mac_addr_set(id, &address) == 0;
    if (set) {
      own = port.mac;
      own_given = true;
    } else if (rte_eth_dev_mac_addr_add(id, &address, 0) != 0) {
      filtered = true;
    }
  }
  // Neighbour discovery is multicast to groups that come and go with the addresses.
  if (rte_eth_allmulticast_enable(id) != 0) filtered = true;
  if (!filtered) return base::Done{};
  // Where this is not supported either (net_pcap, net_ring), nothing is filtered to begin with.
  rte_eth_promiscuous_enable(id);
  device.promiscuous = rte_eth_promiscuous_get(id) == 1;
  return base::Done{};
}

void DeviceStats::add_to(packet::DropCounts* drops) const {
  using packet::DropReason;
  const auto add = [&](DropReason reason, uint64_t packets) {
    (*drops)[static_cast<std::size_t>(reason)] += packets;
  };
  add(DropReason::kDeviceMissed, missed_packets);
  add(DropReason::kDeviceError, receive_errors);
  add(DropReason::kNoBuffers, receive_no_buffer);
  add(DropReason::kTransmitFull, send_errors);
}

base::Status Devices::start() {
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    OutputCapture output;
    rte_eth_stats_reset(ids_[i]);
    kernels_[i].dropped_before = dropped_at_link(static_cast<uint16_t>(i));
    const int error = rte_eth_dev_start(ids_[i]);
    const std::string log = output.finish();
    if (error != 0) {
      stop();
      std::size_t port = 0;
      while (ports_[port].device != i) ++port;
      return with_log({port_error(port, "device",
                                  fmt::format("device {} does not start: {}", devices_[i].name,
                                              driver_error(error)))},
                      log);
    }
    pass_on(log);
  }
  return base::Done{};
}

void Devices::stop() {
  for (const uint16_t id : ids_) rte_eth_dev_stop(id);
}

bool Devices::link_up(uint16_t device) const {
  rte_eth_link link{};
  return rte_eth_link_get_nowait(ids_[device], &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

DeviceStats Devices::stats(uint16_t device) {
  rte_eth_stats s{};
  if (rte_eth_stats_get(ids_[device], &s) != 0) return {};
  return {.received_packets = s.ipackets,
          .received_bytes = s.ibytes,
          .sent_packets = s.opackets,
          .sent_bytes = s.obytes,
          .missed_packets = std::max(s.imissed, lost_in_kernel(device)),
          .receive_errors = s.ierrors,
          .receive_no_buffer = s.rx_nombuf,
          .send_errors = counts_refused(devices_[device].driver) ? 0 : s.oerrors};
}

// Since start(): frames for this engine that the kernel had no room for. Of net_af_xdp the driver
// knows some of them.
uint64_t Devices::lost_in_kernel(uint16_t device) {
  Kernel& kernel = kernels_[device];
  kernel.lost += kernel.sockets.take_lost();
  return kernel.lost + dropped_at_link(device) - kernel.dropped_before;
}

uint64_t Devices::dropped_at_link(uint16_t device) const {
  const std::string& driver = devices_[device].driver;
  if (driver != "net_tap" && driver != "net_af_xdp") return 0;
  // An interface that is gone has lost no more.
  const auto drops = kernels_[device].link.drops().value_or(Link::Drops{});
  const uint64_t now = driver == "net_tap" ? drops.sent : drops.received;
  return std::max(now, kernels_[device].dropped_before);
}

uint32_t Devices::flatten(packet::Buffer** buffers, uint32_t count) const {
  for (uint32_t i = 0; i < count; ++i) {
    packet::Buffer* chain = buffers[i];
    if (chain->nb_segs == 1) continue;
    packet::Buffer* copy = rte_pktmbuf_copy(chain, pool_, 0, UINT32_MAX);
    // Out of buffers, or too long for one: what comes before it can be sent.
    if (copy == nullptr || copy->nb_segs != 1) {
      rte_pktmbuf_free(copy);
      return i;
    }
    rte_pktmbuf_free(chain);
    buffers[i] = copy;
  }
  return count;
}

}  // namespace limpet::port
