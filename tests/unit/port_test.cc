// Devices that need no privileges, in a small Eal that all tests of this program share (DPDK
// starts once in a process).
#include <gtest/gtest.h>
#include <pcap/pcap.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>

#include "dataplane/port/clock.h"
#include "dataplane/port/devices.h"
#include "dataplane/port/eal.h"
#include "dataplane/port/memory.h"
#include "dataplane/port/pool.h"
#include "dataplane/port/replay.h"
#include "dataplane/port/workers.h"

namespace limpet::port {
namespace {

using testing::Test;

// What a Result that must be good holds.
template <class T>
T must(base::Result<T> result) {
  if (!result.ok()) ADD_FAILURE() << result.errors().front().message;
  return std::move(result.value());
}

DeviceArgs device(const std::string& text) {
  return must(parse_device(text));
}

class EalEnvironment final : public testing::Environment {
 public:
  void SetUp() override {
    const uint32_t last = static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_ONLN)) - 1;
    base::Result<Eal> started = Eal::start({.name = "test-" + std::to_string(getpid()),
                                            .control_core = 0,
                                            .worker_cores = {0, last},
                                            .hugepages = false,
                                            .memory_mb = 96,
                                            .pci_devices = {},
                                            .extra = {"--no-telemetry", "--", "rest"}});
    ASSERT_TRUE(started.ok()) << started.errors().front().message;
    eal_.emplace(std::move(started.value()));
    EXPECT_EQ(eal_->leftovers(), std::vector<std::string>{"rest"});
  }
  void TearDown() override { eal_.reset(); }

 private:
  std::optional<Eal> eal_;
};

[[maybe_unused]] const testing::Environment* const kEnvironment =
    testing::AddGlobalTestEnvironment(new EalEnvironment);

struct PortTest : Test {
  BufferPool pool = must(BufferPool::create({.name = "test", .buffers = 2048, .lcores = 3}));
  std::filesystem::path folder;

  PortTest() {
    std::string name = std::filesystem::temp_directory_path() / "limpet-port-XXXXXX";
    folder = mkdtemp(name.data());
  }
  ~PortTest() override {
    EXPECT_EQ(pool.available(), pool.size()) << "buffers leaked";
    std::filesystem::remove_all(folder);
  }

  DevicesOptions options(std::vector<PortOptions> ports, uint32_t workers = 1) {
    return {
        .ports = std::move(ports), .workers = workers, .pool = pool.get(), .engine_name = "se1"};
  }

  struct Record {
    int64_t us;
    uint8_t fill;
  };
  std::string capture(const std::string& name, const std::vector<Record>& records) {
    const std::string path = folder / name;
    pcap_t* handle = pcap_open_dead(DLT_EN10MB, 65535);
    pcap_dumper_t* dumper = pcap_dump_open(handle, path.c_str());
    for (const Record& r : records) {
      std::array<u_char, 60> frame;
      frame.fill(r.fill);
      pcap_pkthdr header{};
      header.ts.tv_sec = r.us / 1'000'000;
      header.ts.tv_usec = r.us % 1'000'000;
      header.caplen = header.len = frame.size();
      pcap_dump(reinterpret_cast<u_char*>(dumper), &header, frame.data());
    }
    pcap_dump_close(dumper);
    pcap_close(handle);
    return path;
  }

  packet::Buffer* frame(uint8_t fill, uint16_t bytes = 60) {
    packet::Buffer* buffer = packet::allocate(pool.get());
    std::memset(rte_pktmbuf_append(buffer, bytes), fill, bytes);
    return buffer;
  }
};

TEST_F(PortTest, NullDeviceReceivesAndSends) {
  Devices devices =
      must(Devices::open(options({{.name = "front", .device = device("net_null0")}})));
  ASSERT_TRUE(devices.start().ok());
  std::array<packet::Buffer*, 8> buffers;
  EXPECT_EQ(devices.receive(0, 0, buffers.data(), 8), 8u);
  EXPECT_EQ(devices.transmit(0, 0, buffers.data(), 8), 8u);
  EXPECT_EQ(devices.stats(0).received_packets, 8u);
  EXPECT_EQ(devices.stats(0).sent_packets, 8u);
  EXPECT_TRUE(devices.link_up(0));
}

TEST_F(PortTest, DeviceHasAQueueForEachWorkerWhereItCan) {
  const Devices devices =
      must(Devices::open(options({{.name = "front", .device = device("net_null1")}}, 2)));
  EXPECT_EQ(devices.devices()[0].driver, "net_null");
  EXPECT_EQ(devices.devices()[0].receive_queues, 2);
  EXPECT_EQ(devices.devices()[0].transmit_queues, 2);
  EXPECT_EQ(devices.queues().receive[1], (std::vector<ReceiveQueue>{{0, 1}}));
  EXPECT_FALSE(devices.devices()[0].rss);
}

TEST_F(PortTest, RingDeviceGivesBackWhatWasSentOnEveryQueue) {
  Devices devices =
      must(Devices::open(options({{.name = "loop", .device = device("net_ring0")}}, 2)));
  ASSERT_TRUE(devices.start().ok());
  const DeviceInfo& info = devices.devices()[0];
  for (uint16_t q = 0; q < info.transmit_queues; ++q) {
    packet::Buffer* sent = frame(static_cast<uint8_t>(q));
    ASSERT_EQ(devices.transmit(0, q, &sent, 1), 1u);
    packet::Buffer* received = nullptr;
    ASSERT_EQ(devices.receive(0, q, &received, 1), 1u);
    EXPECT_EQ(received, sent);
    packet::release(received);
  }
}

TEST_F(PortTest, MemifConnectsTwoDevicesAndCarriesFrames) {
  const std::string socket = ",socket-abstract=no,socket=" + (folder / "memif.sock").string();
  Devices devices = must(
      Devices::open(options({{.name = "a", .device = device("net_memif0,role=server" + socket)},
                             {.name = "b", .device = device("net_memif1,role=client" + socket)}},
                            2)));
  ASSERT_TRUE(devices.start().ok());
  const TscClock clock;
  const timing::Instant end = clock.now() + timing::seconds(10);
  while (!(devices.link_up(0) && devices.link_up(1)) && clock.now() < end) pause();
  ASSERT_TRUE(devices.link_up(0) && devices.link_up(1));
  packet::Buffer* buffer = frame(7);
  // The receiving client is who offers the server room to send into.
  packet::Buffer* received = nullptr;
  bool sent = false;
  while (received == nullptr && clock.now() < end) {
    sent = sent || devices.transmit(0, 0, &buffer, 1) == 1;
    devices.receive(1, 0, &received, 1);
  }
  ASSERT_NE(received, nullptr);
  EXPECT_EQ(received->data_len, 60);
  EXPECT_EQ(*packet::at<uint8_t>(received, 59), 7);
  packet::release(received);
}

TEST_F(PortTest, PortsOfOneDeviceDifferByVlan) {
  const DeviceArgs shared = device("net_null2,no-rx=1");
  const net::Mac mac = *net::Mac::parse("02:00:00:00:00:07");
  const Devices devices =
      must(Devices::open(options({{.name = "a", .device = shared, .mtu = 1400, .mac = mac},
                                  {.name = "b", .device = shared, .mtu = 1500, .vlan = 100},
                                  {.name = "c", .device = device("net_null3,no-rx=1")}})));
  ASSERT_EQ(devices.devices().size(), 2u);
  EXPECT_EQ(devices.ports()[0].device, 0);
  EXPECT_EQ(devices.ports()[1].device, 0);
  EXPECT_EQ(devices.ports()[2].device, 1);
  EXPECT_EQ(devices.ports()[0].vlan, 0);
  EXPECT_EQ(devices.ports()[1].vlan, 100);
  EXPECT_EQ(devices.devices()[0].mtu, 1500);
  EXPECT_EQ(devices.ports()[0].mac, mac);
  EXPECT_EQ(devices.ports()[1].mac, mac) << "without an address of its own it takes the device's";
}

TEST_F(PortTest, SecondAddressOnADeviceWithoutFilterIsKeptInSoftware) {
  const DeviceArgs shared = device("net_null4,no-rx=1");
  const Devices devices = must(Devices::open(
      options({{.name = "a", .device = shared, .mac = net::Mac::parse("02:00:00:00:00:07")},
               {.name = "b",
                .device = shared,
                .mac = net::Mac::parse("02:00:00:00:00:08"),
                .vlan = 100}})));
  EXPECT_EQ(devices.ports()[0].mac.to_string(), "02:00:00:00:00:07");
  EXPECT_EQ(devices.ports()[1].mac.to_string(), "02:00:00:00:00:08");
}

TEST_F(PortTest, DeviceWithoutAnAddressGetsTheSameOneEachTime) {
  std::array<net::Mac, 2> macs;
  for (net::Mac& mac : macs) {
    const Devices devices =
        must(Devices::open(options({{.name = "loop", .device = device("net_ring1")}})));
    mac = devices.ports()[0].mac;
  }
  EXPECT_FALSE(macs[0].is_zero());
  EXPECT_FALSE(macs[0].is_multicast());
  EXPECT_EQ(macs[0], macs[1]);
}

TEST_F(PortTest, ReplayHasTheSameAddressesEachTime) {
  std::array<net::Mac, 2> macs;
  for (net::Mac& mac : macs) {
    DevicesOptions o = options({{.name = "front", .device = device("net_null5,no-rx=1")}});
    o.fixed_macs = true;
    mac = must(Devices::open(o)).ports()[0].mac;
  }
  EXPECT_EQ(macs[0], macs[1]);
}

TEST_F(PortTest, UnknownDeviceIsAnErrorOfItsPort) {
  const auto devices = Devices::open(options({{.name = "a", .device = device("net_null6")},
                                              {.name = "b", .device = device("net_nothing0")}}));
  ASSERT_FALSE(devices.ok());
  EXPECT_EQ(devices.errors().front().path, "/ports/1/device");
  EXPECT_NE(devices.errors().front().message.find("net_nothing0"), std::string::npos);
}

TEST_F(PortTest, DeviceNamedTwiceWithOtherArgumentsIsAnError) {
  const auto devices =
      Devices::open(options({{.name = "a", .device = device("net_null7")},
                             {.name = "b", .device = device("net_null7,no-rx=1")}}));
  ASSERT_FALSE(devices.ok());
  EXPECT_EQ(devices.errors().front().path, "/ports/1/device");
}

TEST_F(PortTest, PciDeviceThatIsNotThereIsAnError) {
  const auto devices = Devices::open(options({{.name = "a", .device = device("0000:ff:1f.7")}}));
  ASSERT_FALSE(devices.ok());
  EXPECT_EQ(devices.errors().front().path, "/ports/0/device");
}

TEST_F(PortTest, CaptureFileIsReadWithItsTimesToItsEnd) {
  const std::string in = capture("in.pcap", {{1'000'010, 1}, {1'000'020, 2}, {2'500'000, 3}});
  Devices devices = must(
      Devices::open(options({{.name = "front", .device = device("net_pcap0,rx_pcap=" + in)}})));
  const CaptureTimes times = CaptureTimes::find().value();
  ASSERT_TRUE(devices.start().ok());
  std::vector<int64_t> seen;
  packet::Buffer* buffer = nullptr;
  while (devices.receive(0, 0, &buffer, 1) == 1) {
    seen.push_back(times.of(buffer)->ns);
    packet::release(buffer);
  }
  EXPECT_EQ(seen, (std::vector<int64_t>{1'000'010'000, 1'000'020'000, 2'500'000'000}));
  EXPECT_EQ(devices.receive(0, 0, &buffer, 1), 0u) << "the end stays the end";
}

TEST_F(PortTest, WhatADeviceHadNoBufferForIsTold) {
  const std::string in = capture("in.pcap", {{1, 1}, {2, 2}});
  Devices devices = must(
      Devices::open(options({{.name = "front", .device = device("net_pcap0,rx_pcap=" + in)}})));
  ASSERT_TRUE(devices.start().ok());
  EXPECT_EQ(devices.stats(0).receive_no_buffer, 0u);
  std::vector<packet::Buffer*> all;
  while (packet::Buffer* b = packet::allocate(pool.get())) all.push_back(b);
  packet::Buffer* buffer = nullptr;
  EXPECT_EQ(devices.receive(0, 0, &buffer, 1), 0u);
  EXPECT_EQ(devices.stats(0).receive_no_buffer, 1u);
  packet::DropCounts drops{};
  devices.stats(0).add_to(&drops);
  EXPECT_EQ(drops[static_cast<std::size_t>(packet::DropReason::kNoBuffers)], 1u);
  for (packet::Buffer* b : all) packet::release(b);
}

TEST_F(PortTest, AllCaptureFilesOfADeviceAreReadByOneWorker) {
  const std::string a = capture("a.pcap", {{1, 1}});
  const std::string b = capture("b.pcap", {{2, 2}});
  Devices devices = must(Devices::open(
      options({{.name = "front", .device = device("net_pcap1,rx_pcap=" + a + ",rx_pcap=" + b)}})));
  EXPECT_EQ(devices.devices()[0].receive_queues, 2);
  EXPECT_EQ(devices.queues().receive[0].size(), 2u);
  ASSERT_TRUE(devices.start().ok());
  for (uint16_t q = 0; q < 2; ++q) {
    packet::Buffer* buffer = nullptr;
    ASSERT_EQ(devices.receive(0, q, &buffer, 1), 1u);
    packet::release(buffer);
  }
}

TEST_F(PortTest, CaptureDeviceWithoutOutputDropsWhatIsSent) {
  const std::string in = capture("in.pcap", {{1, 1}});
  Devices devices = must(
      Devices::open(options({{.name = "front", .device = device("net_pcap2,rx_pcap=" + in)}}, 2)));
  EXPECT_EQ(devices.devices()[0].transmit_queues, 1);
  ASSERT_TRUE(devices.start().ok());
  packet::Buffer* sent = frame(1);
  EXPECT_EQ(devices.transmit(0, 0, &sent, 1), 1u);
}

TEST_F(PortTest, PacketsWithoutACaptureTimeEndTheirSourceOfAReplay) {
  Devices devices = must(Devices::open(options({{.name = "a", .device = device("net_null8")}})));
  const CaptureTimes times = CaptureTimes::find().value();
  ASSERT_TRUE(devices.start().ok());
  ReplayReader reader(
      1,
      [&](uint32_t) {
        packet::Buffer* buffer = nullptr;
        return devices.receive(0, 0, &buffer, 1) == 1 ? buffer : nullptr;
      },
      [&](const packet::Buffer* b) { return times.of(b); });
  EXPECT_FALSE(reader.next());
}

TEST_F(PortTest, ReplayedFramesAreWrittenWithTheirTimesAndTheSameEachRun) {
  const std::string in = capture("in.pcap", {{1'000'010, 1}, {1'000'020, 2}});
  std::array<std::string, 2> files;
  for (int run = 0; run < 2; ++run) {
    const std::string out = folder / ("out" + std::to_string(run) + ".pcap");
    const ReplayDevice replay = for_replay(device("net_pcap3,rx_pcap=" + in + ",tx_pcap=" + out));
    Devices devices = must(Devices::open(options({{.name = "front", .device = replay.device}})));
    const CaptureTimes times = CaptureTimes::find().value();
    ASSERT_TRUE(devices.start().ok());
    ReplayWriter writer = must(ReplayWriter::open(replay.outputs.at(0)));
    ReplayReader reader(
        1,
        [&](uint32_t) {
          packet::Buffer* buffer = nullptr;
          return devices.receive(0, 0, &buffer, 1) == 1 ? buffer : nullptr;
        },
        [&](const packet::Buffer* b) { return times.of(b); });
    while (const auto packet = reader.next()) {
      writer.write(packet->buffer, packet->time + timing::milliseconds(1));
      packet::release(packet->buffer);
    }
    EXPECT_TRUE(writer.finish().ok());
    EXPECT_EQ(writer.frames(), 2u);
    std::ifstream file(out, std::ios::binary);
    files[static_cast<std::size_t>(run)] = (std::ostringstream() << file.rdbuf()).str();
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_EQ(files[0].size(), 24u + 2 * (16 + 60));

  std::array<char, PCAP_ERRBUF_SIZE> error{};
  pcap_t* read = pcap_open_offline((folder / "out0.pcap").c_str(), error.data());
  ASSERT_NE(read, nullptr) << error.data();
  pcap_pkthdr* header = nullptr;
  const u_char* data = nullptr;
  ASSERT_EQ(pcap_next_ex(read, &header, &data), 1);
  EXPECT_EQ(header->ts.tv_sec, 1);
  EXPECT_EQ(header->ts.tv_usec, 1'010);
  EXPECT_EQ(header->len, 60u);
  EXPECT_EQ(data[59], 1);
  pcap_close(read);
}

TEST_F(PortTest, FramesOfSeveralSegmentsAreWrittenWhole) {
  const std::string out = folder / "out.pcap";
  ReplayWriter writer = must(ReplayWriter::open(out));
  packet::Buffer* chain = frame(1, 100);
  ASSERT_EQ(rte_pktmbuf_chain(chain, frame(2, 50)), 0);
  writer.write(chain, timing::WallTime{1'000'000});
  packet::release(chain);
  EXPECT_TRUE(writer.finish().ok());
  EXPECT_EQ(std::filesystem::file_size(out), 24u + 16 + 150);
}

TEST_F(PortTest, OutputThatCannotBeWrittenIsAnError) {
  const auto absent = ReplayWriter::open(folder / "absent" / "out.pcap");
  ASSERT_FALSE(absent.ok());
  EXPECT_NE(absent.errors().front().message.find("absent/out.pcap"), std::string::npos);
  ReplayWriter writer = must(ReplayWriter::open("/dev/full"));
  packet::Buffer* buffer = frame(1, 1000);
  for (int i = 0; i < 10; ++i) writer.write(buffer, timing::WallTime{0});
  packet::release(buffer);
  const auto finished = writer.finish();
  ASSERT_FALSE(finished.ok());
  EXPECT_EQ(finished.errors().front().message, "cannot write /dev/full to the end");
}

TEST_F(PortTest, PoolHasPrivateAreaAndExactlyItsBuffers) {
  EXPECT_EQ(pool.size(), 2048u);
  EXPECT_EQ(rte_pktmbuf_priv_size(pool.get()), packet::kMetaBytes);
  std::vector<packet::Buffer*> all(2048);
  ASSERT_EQ(rte_pktmbuf_alloc_bulk(pool.get(), all.data(), 2048), 0);
  EXPECT_EQ(packet::allocate(pool.get()), nullptr);
  for (packet::Buffer* buffer : all) packet::release(buffer);
}

TEST_F(PortTest, PoolTooLargeForItsMemoryIsAnError) {
  const auto large = BufferPool::create({.name = "large", .buffers = 1u << 20});
  ASSERT_FALSE(large.ok());
  EXPECT_NE(large.errors().front().message.find("1048576 packet buffers"), std::string::npos);
}

TEST(EalTest, StartsOnceInAProcess) {
  const auto again = Eal::start({.name = "again", .worker_cores = {}, .hugepages = false});
  ASSERT_FALSE(again.ok());
  EXPECT_NE(again.errors().front().message.find("already"), std::string::npos);
}

TEST(WorkersTest, RunOnTheirCoresAndAreJoined) {
  Workers workers(2);
  std::array<std::atomic<int>, 2> ran{};
  for (uint32_t w = 0; w < 2; ++w) ASSERT_TRUE(workers.launch(w, [&ran, w] { ran[w] = 1; }).ok());
  workers.join();
  EXPECT_EQ(ran[0] + ran[1], 2);
  ASSERT_TRUE(workers.launch(1, [&ran] { ran[1] = 5; }).ok());
  workers.join();
  EXPECT_EQ(ran[1], 5);
}

TEST(WorkersTest, BusyWorkerTakesNothingElse) {
  Workers workers(1);
  std::atomic<bool> stop{false};
  ASSERT_TRUE(workers
                  .launch(0,
                          [&] {
                            while (!stop) pause();
                          })
                  .ok());
  const auto second = workers.launch(0, [] {});
  stop = true;
  workers.join();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.errors().front().message, "worker 0 is still running");
}

TEST(WorkersTest, WorkerWithoutACoreIsAnError) {
  Workers workers(3);
  const auto launched = workers.launch(2, [] {});
  ASSERT_FALSE(launched.ok());
  EXPECT_TRUE(launched.errors().front().message.starts_with("worker 2 does not start: "));
}

timing::Duration read(clockid_t which) {
  timespec t{};
  clock_gettime(which, &t);
  return timing::seconds(t.tv_sec) + timing::Duration(t.tv_nsec);
}

// What our clock said, and the system's just before and just after: whoever takes the CPU away in
// between widens the bounds and breaks nothing.
struct Reading {
  explicit Reading(const TscClock& clock)
      : before(read(CLOCK_MONOTONIC)), now(clock.now()), after(read(CLOCK_MONOTONIC)) {}

  timing::Duration before;
  timing::Instant now;
  timing::Duration after;
};

// 0.2 %: the rate is measured for 50 ms, and beside other programs.
void expect_same_pace(const Reading& begin, const Reading& end) {
  const auto passed = static_cast<double>((end.now - begin.now).count());
  EXPECT_GE(passed, static_cast<double>((end.before - begin.after).count()) * 0.998);
  EXPECT_LE(passed, static_cast<double>((end.after - begin.before).count()) * 1.002);
}

TEST(TscClock, KeepsPaceWithTheSystemsClock) {
  const TscClock clock;
  const Reading begin(clock);
  timing::Instant last = begin.now;
  for (Reading reading(clock); reading.before - begin.after < timing::milliseconds(100);
       reading = Reading(clock)) {
    ASSERT_GE(reading.now, last);
    last = reading.now;
    expect_same_pace(begin, reading);
    if (HasFailure()) return;
  }
  expect_same_pace(begin, Reading(clock));
}

TEST(TscClock, BeginsAtZero) {
  const timing::Duration before = read(CLOCK_MONOTONIC);
  const TscClock clock;
  const timing::Instant now = clock.now();
  EXPECT_GE(now, timing::Instant{});
  EXPECT_LE(now - timing::Instant{}, (read(CLOCK_MONOTONIC) - before) * 1.002);
}

TEST(TscClock, WallIsTheSystemsTime) {
  const TscClock clock;
  const timing::Duration before = read(CLOCK_REALTIME);
  const timing::Duration wall(clock.wall().ns);
  EXPECT_GE(wall, before);
  EXPECT_LE(wall, read(CLOCK_REALTIME));
}

// The shortest of many: each may last longer, because the CPU is somebody else's then.
TEST(TscClock, IdleSleepGivesTheCpuAwayForAsLongAsAsked) {
  constexpr timing::Duration kAsked = std::chrono::microseconds(500);
  constexpr int kTimes = 20;
  const TscClock clock;
  timing::Duration shortest = timing::seconds(1000);
  const timing::Duration busy = read(CLOCK_THREAD_CPUTIME_ID);
  for (int i = 0; i < kTimes; ++i) {
    const timing::Instant begin = clock.now();
    idle_sleep(kAsked);
    shortest = std::min(shortest, timing::Duration(clock.now() - begin));
  }
  EXPECT_LT(read(CLOCK_THREAD_CPUTIME_ID) - busy, kAsked * kTimes / 2) << "it does not sleep";
  EXPECT_GE(shortest, kAsked * 0.998);
  EXPECT_LE(shortest, 10 * kAsked);
}

}  // namespace
}  // namespace limpet::port
