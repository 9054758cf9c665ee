// Devices over real interfaces of the kernel: af_packet, af_xdp and tap, in a network namespace
// that this program moves itself into and that ends with it. Without the right to do so the tests
// are skipped.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>

#include "dataplane/port/clock.h"
#include "dataplane/port/devices.h"
#include "dataplane/port/eal.h"
#include "dataplane/port/pool.h"

// net_af_xdp of DPDK 22.11 loses libxdp's bookkeeping of a closed socket (80 bytes).
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:xsk_umem__create";
}

namespace limpet::port {
namespace {

// What a Result that must be good holds.
template <class T>
T must(base::Result<T> result) {
  if (!result.ok()) ADD_FAILURE() << result.errors().front().message;
  return std::move(result.value());
}

int command(const std::string& line) {
  return std::system(("(" + line + ") >/dev/null 2>&1").c_str());
}

class WireEnvironment final : public testing::Environment {
 public:
  static inline bool ready = false;

  void SetUp() override {
    // Before the EAL starts threads: they would stay in the old namespace.
    if (unshare(CLONE_NEWNET) != 0 || command("ip link set lo up") != 0) return;
    eal_.emplace(must(Eal::start({.name = "wire-" + std::to_string(getpid()),
                                  .control_core = 0,
                                  .worker_cores = {0},
                                  .hugepages = false,
                                  .memory_mb = 128,
                                  .pci_devices = {},
                                  .extra = {"--no-telemetry"}})));
    ready = true;
  }
  void TearDown() override { eal_.reset(); }

 private:
  std::optional<Eal> eal_;
};

[[maybe_unused]] const testing::Environment* const kEnvironment =
    testing::AddGlobalTestEnvironment(new WireEnvironment);

// Frames of the type for local experiments (IEEE 802), so that what the kernel sends by itself is
// told apart.
constexpr uint16_t kExperimental = 0x88b5;
constexpr std::size_t kMacBytes = 12;
using Frames = std::vector<std::vector<uint8_t>>;

std::vector<uint8_t> frame(uint8_t fill, std::size_t bytes,
                           std::optional<uint16_t> vlan = std::nullopt) {
  std::vector<uint8_t> f(bytes, fill);
  const std::array<uint8_t, kMacBytes> macs{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1};
  std::copy(macs.begin(), macs.end(), f.begin());
  std::size_t at = kMacBytes;
  if (vlan) {
    f[at++] = 0x81;
    f[at++] = 0x00;
    f[at++] = static_cast<uint8_t>(*vlan >> 8);
    f[at++] = static_cast<uint8_t>(*vlan);
  }
  f[at++] = kExperimental >> 8;
  f[at++] = kExperimental & 0xff;
  return f;
}

// A piece of a UDP datagram that has `bytes` bytes behind the IPv4 header; `fragment` is the
// header's field of flags and offset.
std::vector<uint8_t> ipv4_fragment(uint16_t fragment, uint16_t bytes) {
  constexpr std::size_t kHeaderBytes = 20;
  std::vector<uint8_t> f = frame(9, RTE_ETHER_HDR_LEN + kHeaderBytes + bytes);
  f[12] = RTE_ETHER_TYPE_IPV4 >> 8;
  f[13] = RTE_ETHER_TYPE_IPV4 & 0xff;
  const auto total = static_cast<uint16_t>(kHeaderBytes + bytes);
  const auto high = [](uint16_t v) { return static_cast<uint8_t>(v >> 8); };
  const auto low = [](uint16_t v) { return static_cast<uint8_t>(v); };
  // Nobody looks at the checksum on the way.
  const std::array<uint8_t, kHeaderBytes> ip{0x45,
                                             0,
                                             high(total),
                                             low(total),
                                             0,
                                             77,
                                             high(fragment),
                                             low(fragment),
                                             64,
                                             IPPROTO_UDP,
                                             0,
                                             0,
                                             10,
                                             1,
                                             0,
                                             2,
                                             10,
                                             1,
                                             0,
                                             100};
  std::copy(ip.begin(), ip.end(), f.begin() + RTE_ETHER_HDR_LEN);
  return f;
}

bool is_ours(const uint8_t* f, std::size_t bytes, uint16_t ethertype = kExperimental) {
  if (bytes < 18) return false;
  const std::size_t at = f[12] == 0x81 && f[13] == 0 ? 16 : 12;
  return f[at] == ethertype >> 8 && f[at + 1] == (ethertype & 0xff);
}

// The other end of a wire.
class Peer {
 public:
  explicit Peer(const std::string& interface) {
    fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const int on = 1;
    setsockopt(fd_, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  }
  ~Peer() { close(fd_); }

  void send(const std::vector<uint8_t>& f) {
    EXPECT_EQ(::send(fd_, f.data(), f.size(), 0), static_cast<ssize_t>(f.size()));
  }
  // The next frame that is ours; empty when there is none yet. The kernel has taken VLAN tags out.
  std::vector<uint8_t> receive() {
    std::vector<uint8_t> f(10'000);
    for (;;) {
      const ssize_t bytes = recv(fd_, f.data(), f.size(), 0);
      if (bytes < 0) return {};
      if (!is_ours(f.data(), static_cast<std::size_t>(bytes))) continue;
      f.resize(static_cast<std::size_t>(bytes));
      return f;
    }
  }

 private:
  int fd_;
};

struct PortWireTest : testing::Test {
  std::optional<BufferPool> pool;
  TscClock clock;
  bool driver_keeps_buffers = false;  // net_af_xdp: those that the kernel has

  void SetUp() override {
    if (!WireEnvironment::ready) GTEST_SKIP() << "needs the right to make network namespaces";
    pool.emplace(must(BufferPool::create({.name = "wire", .buffers = 8192, .lcores = 2})));
  }
  void TearDown() override {
    if (pool && !driver_keeps_buffers) {
      EXPECT_EQ(pool->available(), pool->size()) << "buffers leaked";
    }
    command("ip link del wire0");
  }

  // wire0 (ours) and wire1 (the peer's). IPv6 is off, so the kernel has little to say.
  void make_veth(const std::string& extra = "") {
    ASSERT_EQ(command("ip link add wire0 " + extra + " type veth peer name wire1 " + extra), 0);
    for (const std::string name : {"wire0", "wire1"}) {
      std::ofstream("/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6") << "1";
      ASSERT_EQ(command("ip link set " + name + " up"), 0);
    }
  }

  base::Result<Devices> open(const std::string& device, uint32_t workers, uint16_t mtu = 1500,
                             std::optional<net::Mac> mac = std::nullopt) {
    return Devices::open(
        {.ports = {{.name = "wire", .device = must(parse_device(device)), .mtu = mtu, .mac = mac}},
         .workers = workers,
         .pool = pool->get(),
         .engine_name = "se1"});
  }

  // Polls every queue until `count` of our frames came or a second passed.
  Frames receive(const Devices& devices, std::size_t count, std::set<uint16_t>* queues = nullptr,
                 uint16_t ethertype = kExperimental) {
    Frames frames;
    const timing::Instant end = clock.now() + timing::seconds(1);
    while (frames.size() < count && clock.now() < end) {
      for (uint16_t q = 0; q < devices.devices()[0].receive_queues; ++q) {
        std::array<packet::Buffer*, 32> buffers;
        const uint32_t n = devices.receive(0, q, buffers.data(), 32);
        for (uint32_t i = 0; i < n; ++i) {
          const auto* data = packet::at<uint8_t>(buffers[i], 0);
          if (is_ours(data, buffers[i]->data_len, ethertype)) {
            frames.emplace_back(data, data + buffers[i]->data_len);
            if (queues != nullptr) queues->insert(q);
          }
          packet::release(buffers[i]);
        }
      }
    }
    return frames;
  }

  void send(const Devices& devices, uint16_t queue, const std::vector<uint8_t>& f,
            std::size_t first_segment = SIZE_MAX) {
    packet::Buffer* buffer = packet::allocate(pool->get());
    const std::size_t first = std::min(first_segment, f.size());
    std::memcpy(rte_pktmbuf_append(buffer, static_cast<uint16_t>(first)), f.data(), first);
    if (first < f.size()) {
      packet::Buffer* tail = packet::allocate(pool->get());
      std::memcpy(rte_pktmbuf_append(tail, static_cast<uint16_t>(f.size() - first)), &f[first],
                  f.size() - first);
      ASSERT_EQ(rte_pktmbuf_chain(buffer, tail), 0);
    }
    ASSERT_EQ(devices.transmit(0, queue, &buffer, 1), 1u);
  }

  std::vector<uint8_t> peer_receive(Peer& peer) {
    const timing::Instant end = clock.now() + timing::seconds(1);
    while (clock.now() < end) {
      if (std::vector<uint8_t> f = peer.receive(); !f.empty()) return f;
    }
    return {};
  }
};

TEST_F(PortWireTest, AfPacketCarriesFramesBothWays) {
  make_veth();
  Devices devices = must(open("net_af_packet0,iface=wire0", 1));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  EXPECT_TRUE(devices.link_up(0));
  peer.send(frame(7, 60));
  EXPECT_EQ(receive(devices, 1), Frames{frame(7, 60)});
  send(devices, 0, frame(8, 1514));
  EXPECT_EQ(peer_receive(peer), frame(8, 1514));
}

TEST_F(PortWireTest, AfPacketKeepsVlanTagsInTheFrame) {
  make_veth();
  Devices devices = must(open("net_af_packet0,iface=wire0", 1));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  peer.send(frame(7, 64, 100));
  EXPECT_EQ(receive(devices, 1), Frames{frame(7, 64, 100)});
}

TEST_F(PortWireTest, AfPacketSendsChainsWhole) {
  make_veth();
  Devices devices = must(open("net_af_packet0,iface=wire0", 1));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  send(devices, 0, frame(9, 1000), 100);
  EXPECT_EQ(peer_receive(peer), frame(9, 1000));
}

TEST_F(PortWireTest, AfPacketQueuePairsAreAllPolledWhateverTheWorkers) {
  make_veth();
  for (const uint32_t workers : {1u, 2u, 3u}) {
    Devices devices = must(open("net_af_packet0,iface=wire0,qpairs=2", workers));
    EXPECT_EQ(devices.devices()[0].receive_queues, 2);
    EXPECT_EQ(devices.devices()[0].transmit_queues, std::min(workers, 2u));
    EXPECT_FALSE(devices.devices()[0].rss);
    Peer peer("wire1");
    ASSERT_TRUE(devices.start().ok());
    for (uint8_t i = 0; i < 32; ++i) peer.send(frame(i, 60));
    EXPECT_EQ(receive(devices, 32).size(), 32u);
    for (uint16_t q = 0; q < devices.devices()[0].transmit_queues; ++q) {
      send(devices, q, frame(1, 60));
      EXPECT_EQ(peer_receive(peer), frame(1, 60));
    }
  }
}

TEST_F(PortWireTest, AfPacketTakesTheAddressOntoTheInterface) {
  make_veth();
  const net::Mac mac = *net::Mac::parse("02:00:00:00:00:77");
  const Devices devices = must(open("net_af_packet0,iface=wire0", 1, 1500, mac));
  EXPECT_EQ(devices.ports()[0].mac, mac);
  EXPECT_EQ(command("ip -o link show wire0 | grep 02:00:00:00:00:77"), 0);
}

TEST_F(PortWireTest, AfPacketWithoutAnAddressUsesTheInterfaces) {
  make_veth("address 02:00:00:00:00:78");
  const Devices devices = must(open("net_af_packet0,iface=wire0", 1));
  EXPECT_EQ(devices.ports()[0].mac.to_string(), "02:00:00:00:00:78");
}

TEST_F(PortWireTest, AfPacketRefusesAnMtuBeyondItsFrames) {
  make_veth();
  const auto devices = open("net_af_packet0,iface=wire0", 1, 9000);
  ASSERT_FALSE(devices.ok());
  EXPECT_EQ(devices.errors().front().path, "/ports/0/mtu");
}

TEST_F(PortWireTest, AfPacketCarriesJumboFramesWhenItsFramesHoldThem) {
  make_veth("mtu 9000");
  pool.emplace(
      must(BufferPool::create({.name = "jumbo", .buffers = 1024, .mtu_max = 9000, .lcores = 2})));
  Devices devices =
      must(open("net_af_packet0,iface=wire0,framecnt=64,blocksz=16384,framesz=8192", 1, 8000));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  peer.send(frame(7, 8014));
  EXPECT_EQ(receive(devices, 1), Frames{frame(7, 8014)});
  send(devices, 0, frame(8, 8014));
  EXPECT_EQ(peer_receive(peer), frame(8, 8014));
}

TEST_F(PortWireTest, AfPacketFramesThatOverrunABufferAreRefused) {
  make_veth();
  const auto devices =
      open("net_af_packet0,iface=wire0,framecnt=64,blocksz=16384,framesz=8192", 1, 1500);
  ASSERT_FALSE(devices.ok());
  EXPECT_EQ(devices.errors().front().path, "/ports/0/device");
}

TEST_F(PortWireTest, AfPacketTellsWhatTheKernelHadNoFrameFor) {
  make_veth();
  Devices devices = must(open("net_af_packet0,iface=wire0,framecnt=16", 1));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  for (int i = 0; i < 100; ++i) peer.send(frame(7, 60));
  EXPECT_EQ(devices.stats(0).missed_packets, 84u);
  EXPECT_EQ(receive(devices, 16).size(), 16u);
  for (int i = 0; i < 20; ++i) peer.send(frame(7, 60));
  EXPECT_EQ(devices.stats(0).missed_packets, 88u) << "what was told before counts on";
  EXPECT_EQ(receive(devices, 16).size(), 16u);
}

TEST_F(PortWireTest, AfPacketTellsTheLossesOfAllItsQueues) {
  make_veth();
  Devices devices = must(open("net_af_packet0,iface=wire0,framecnt=16,qpairs=2", 1));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  for (int i = 0; i < 100; ++i) peer.send(frame(static_cast<uint8_t>(i), 60));
  const std::size_t received = receive(devices, 32).size();
  EXPECT_EQ(devices.stats(0).missed_packets + received, 100u);
}

TEST_F(PortWireTest, AfPacketHoldsABurstOfThousands) {
  make_veth();
  Devices devices = must(open("net_af_packet0,iface=wire0", 1));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  for (int i = 0; i < 8000; ++i) peer.send(frame(7, 1514));
  EXPECT_EQ(devices.stats(0).missed_packets, 0u);
  EXPECT_EQ(receive(devices, 8000).size(), 8000u);
}

TEST_F(PortWireTest, AfPacketReceivesFragmentsAsTheyCame) {
  make_veth();
  for (const char* device : {"net_af_packet0,iface=wire0", "net_af_packet0,iface=wire0,qpairs=2"}) {
    Devices devices = must(open(device, 1));
    EXPECT_FALSE(devices.devices()[0].kernel_reassembles);
    Peer peer("wire1");
    ASSERT_TRUE(devices.start().ok());
    std::vector<std::vector<uint8_t>> pieces;
    for (const int fragment : {0x2000, 100}) {
      pieces.push_back(ipv4_fragment(static_cast<uint16_t>(fragment), 800));
      peer.send(pieces.back());
    }
    EXPECT_EQ(receive(devices, 2, nullptr, RTE_ETHER_TYPE_IPV4), pieces);
  }
}

TEST_F(PortWireTest, AfPacketOnAnInterfaceWithASmallerMtuRaisesIt) {
  make_veth("mtu 1400");
  const Devices devices = must(open("net_af_packet0,iface=wire0", 1, 1500));
  EXPECT_EQ(command("ip -o link show wire0 | grep 'mtu 1500'"), 0);
}

TEST_F(PortWireTest, AfPacketWithoutItsInterfaceIsAnError) {
  const auto devices = open("net_af_packet0,iface=absent0", 1);
  ASSERT_FALSE(devices.ok());
  EXPECT_EQ(devices.errors().front().path, "/ports/0/device");
}

TEST_F(PortWireTest, TapCarriesFramesBothWays) {
  Devices devices = must(open("net_tap0,iface=wire0", 1));
  ASSERT_TRUE(devices.start().ok());
  Peer kernel("wire0");
  const timing::Instant end = clock.now() + timing::seconds(1);
  while (!devices.link_up(0) && clock.now() < end) pause();
  kernel.send(frame(7, 60));
  EXPECT_EQ(receive(devices, 1), Frames{frame(7, 60)});
  send(devices, 0, frame(8, 1514));
  EXPECT_EQ(peer_receive(kernel), frame(8, 1514));
}

TEST_F(PortWireTest, TapHasAsManyReceiveAsTransmitQueues) {
  Devices devices = must(open("net_tap0,iface=wire0", 2));
  EXPECT_EQ(devices.devices()[0].receive_queues, 2);
  EXPECT_EQ(devices.devices()[0].transmit_queues, 2);
  ASSERT_TRUE(devices.start().ok());
  Peer kernel("wire0");
  for (uint16_t q = 0; q < 2; ++q) {
    send(devices, q, frame(static_cast<uint8_t>(q), 60));
    EXPECT_EQ(peer_receive(kernel), frame(static_cast<uint8_t>(q), 60));
  }
}

TEST_F(PortWireTest, AfXdpCarriesFramesBothWays) {
  driver_keeps_buffers = true;
  make_veth();
  Devices devices = must(open("net_af_xdp0,iface=wire0", 1));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  peer.send(frame(7, 60));
  EXPECT_EQ(receive(devices, 1), Frames{frame(7, 60)});
  send(devices, 0, frame(8, 1514));
  EXPECT_EQ(peer_receive(peer), frame(8, 1514));
}

TEST_F(PortWireTest, AfXdpSendsChainsWhole) {
  driver_keeps_buffers = true;
  make_veth();
  Devices devices = must(open("net_af_xdp0,iface=wire0", 1));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  send(devices, 0, frame(9, 1000), 100);
  EXPECT_EQ(peer_receive(peer), frame(9, 1000));
}

TEST_F(PortWireTest, AfXdpKeepsVlanTagsInTheFrame) {
  driver_keeps_buffers = true;
  make_veth();
  Devices devices = must(open("net_af_xdp0,iface=wire0", 1));
  Peer peer("wire1");
  ASSERT_TRUE(devices.start().ok());
  peer.send(frame(7, 64, 100));
  EXPECT_EQ(receive(devices, 1), Frames{frame(7, 64, 100)});
}

TEST_F(PortWireTest, AfXdpWithMoreQueuesThanTheInterfaceIsAnError) {
  driver_keeps_buffers = true;
  make_veth();
  const auto devices = open("net_af_xdp0,iface=wire0,queue_count=2", 2);
  ASSERT_FALSE(devices.ok());
  EXPECT_EQ(devices.errors().front().path, "/ports/0/device");
}

}  // namespace
}  // namespace limpet::port
