// The parts of port/ that need no Eal: text, numbers, the order of a replay.
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

// What a Result that must be good holds.
template <class T>
T must(base::Result<T> result) {
  if (!result.ok()) ADD_FAILURE() << result.errors().front().message;
  return std::move(result.value());
}

DeviceArgs device(const std::string& text) {
  return must(parse_device(text));
}

// ---- text and numbers

TEST(DeviceArgs, PciAddressGetsItsDomain) {
  const DeviceArgs args = device("3B:00.1,dv_flow_en=0");
  EXPECT_TRUE(args.pci);
  EXPECT_EQ(args.name, "0000:3b:00.1");
  EXPECT_EQ(args.text(), "0000:3b:00.1,dv_flow_en=0");
}

TEST(DeviceArgs, VirtualDeviceKeepsItsArgumentsInOrder) {
  const DeviceArgs args = device("net_pcap0,rx_pcap=a.pcap,rx_pcap=b.pcap,infinite_rx=1");
  EXPECT_FALSE(args.pci);
  EXPECT_EQ(args.name, "net_pcap0");
  EXPECT_EQ(args.value("rx_pcap"), "a.pcap");
  EXPECT_EQ(args.value("absent"), "");
  EXPECT_EQ(args.argument_text(), "rx_pcap=a.pcap,rx_pcap=b.pcap,infinite_rx=1");
  EXPECT_TRUE(args.is("net_pcap"));
}

TEST(DeviceArgs, ArgumentWithoutAValueIsKept) {
  EXPECT_EQ(device("net_x0,flag").text(), "net_x0,flag");
}

TEST(DeviceArgs, NonsenseIsRefused) {
  for (const char* text : {"", ",a=b", "eth0", "0000:3b:00.9", "3b:0.1", "net_null0,=1",
                           "net_null0,", "net_null0,,a=b", "net_a b", "zz:00.1", "../net_null0"}) {
    EXPECT_FALSE(parse_device(text).ok()) << text;
  }
}

TEST(DeviceDefaults, AfPacketGetsARingForBursts) {
  EXPECT_EQ(with_defaults(device("net_af_packet0,iface=a")).argument_text(),
            "iface=a,framecnt=8192,blocksz=4096");
}

TEST(DeviceDefaults, LargerFramesMakeNoLargerRing) {
  EXPECT_EQ(with_defaults(device("net_af_packet0,iface=a,framesz=16384")).argument_text(),
            "iface=a,framesz=16384,framecnt=1024,blocksz=16384");
}

TEST(DeviceDefaults, FramesFillTheirBlocks) {
  EXPECT_EQ(with_defaults(device("net_af_packet0,iface=a,framesz=3072")).argument_text(),
            "iface=a,framesz=3072,framecnt=5460,blocksz=12288");
}

TEST(DeviceDefaults, WhatIsSaidStays) {
  for (const char* text :
       {"net_af_packet0,iface=a,framecnt=64,blocksz=8192", "net_tap0,iface=a", "net_null0"})
    EXPECT_EQ(with_defaults(device(text)).text(), text);
}

TEST(DeviceDefaults, NonsenseIsLeftToTheDriver) {
  for (const char* text : {"net_af_packet0,framesz=0", "net_af_packet0,framesz=2047",
                           "net_af_packet0,framesz=4294967280", "net_af_packet0,framesz=65520"})
    EXPECT_EQ(with_defaults(device(text)).text(), text);
}

TEST(DeviceDefaults, ASmallRingIsNamed) {
  EXPECT_NE(what_is_small(device("net_af_packet0,iface=a,framecnt=512")), "");
  EXPECT_EQ(what_is_small(device("net_af_packet0,iface=a,framecnt=4096")), "");
  EXPECT_EQ(what_is_small(device("net_af_packet0,iface=a")), "");
}

TEST(DeviceLosses, AreDropsWithAReason) {
  packet::DropCounts drops{};
  for (int devices = 0; devices < 2; ++devices) {
    DeviceStats{.missed_packets = 1, .receive_errors = 2, .receive_no_buffer = 3, .send_errors = 4}
        .add_to(&drops);
  }
  std::map<std::string_view, uint64_t> found;
  for (std::size_t i = 0; i < drops.size(); ++i) {
    if (drops[i] > 0) found[packet::kDropReasonNames[i]] = drops[i];
  }
  EXPECT_EQ(
      found,
      (std::map<std::string_view, uint64_t>{
          {"device_missed", 2}, {"device_error", 4}, {"no_buffer", 6}, {"transmit_full", 8}}));
}

TEST(ReplayDevice, LosesItsOutputFiles) {
  const ReplayDevice replay = for_replay(device("net_pcap0,rx_pcap=a.pcap,tx_pcap=b.pcap"));
  EXPECT_EQ(replay.device.text(), "net_pcap0,rx_pcap=a.pcap");
  EXPECT_EQ(replay.outputs, std::vector<std::string>{"b.pcap"});
}

TEST(ReplayDevice, WithOutputOnlyBecomesOneThatReceivesNothing) {
  const ReplayDevice replay = for_replay(device("net_pcap1,tx_pcap=b.pcap"));
  EXPECT_EQ(replay.device.text(), "net_null_net_pcap1,no-rx=1");
  EXPECT_EQ(replay.outputs, std::vector<std::string>{"b.pcap"});
}

TEST(ReplayDevice, OtherDriversStayAsTheyAre) {
  EXPECT_EQ(for_replay(device("net_ring0")).device.text(), "net_ring0");
}

TEST(Queues, ReceiveQueueGoesToDevicePlusQueueModuloWorkers) {
  const std::array<QueueCounts, 3> devices{{{4, 1}, {2, 1}, {1, 1}}};
  const Queues queues = assign_queues(devices, 3);
  EXPECT_EQ(queues.receive[0], (std::vector<ReceiveQueue>{{0, 0}, {0, 3}}));
  EXPECT_EQ(queues.receive[1], (std::vector<ReceiveQueue>{{0, 1}, {1, 0}}));
  EXPECT_EQ(queues.receive[2], (std::vector<ReceiveQueue>{{0, 2}, {1, 1}, {2, 0}}));
}

TEST(Queues, WorkersWithoutATransmitQueueHandOverToOneThatHas) {
  const std::array<QueueCounts, 2> devices{{{1, 1}, {1, 2}}};
  const Queues queues = assign_queues(devices, 4);
  EXPECT_EQ(queues.transmit[0], (std::vector<TransmitQueue>{{0, 0}, {0, 0}, {0, 0}, {0, 0}}));
  // Queues 0 and 1 belong to workers 1 and 2; 3 and 0 are spread over them.
  EXPECT_EQ(queues.transmit[1], (std::vector<TransmitQueue>{{2, 1}, {1, 0}, {2, 1}, {1, 0}}));
}

TEST(Queues, EveryTransmitQueueHasOneWorkerWhateverTheNumbers) {
  for (uint32_t workers = 1; workers <= 9; ++workers) {
    for (uint16_t count = 1; count <= 9; ++count) {
      const std::array<QueueCounts, 3> devices{{{count, count}, {1, count}, {count, 1}}};
      const Queues queues = assign_queues(devices, workers);
      for (const auto& by_worker : queues.transmit) {
        std::array<std::optional<uint16_t>, 9> owner{};
        for (const TransmitQueue& t : by_worker) {
          EXPECT_EQ(by_worker[t.worker], t) << "handed to a worker that hands on";
          EXPECT_EQ(owner[t.queue].value_or(t.worker), t.worker);
          owner[t.queue] = t.worker;
        }
      }
      std::size_t received = 0;
      for (const auto& by_worker : queues.receive) received += by_worker.size();
      EXPECT_EQ(received, 2u * count + 1);
    }
  }
}

TEST(Queues, WorkersUseDifferentTransmitQueuesWhereThereAreEnough) {
  const std::array<QueueCounts, 2> devices{{{1, 3}, {1, 3}}};
  const Queues queues = assign_queues(devices, 3);
  for (uint16_t w = 0; w < 3; ++w) EXPECT_EQ(queues.transmit[1][w].worker, w);
}

TEST(EalArguments, WithoutHugepagesOrPci) {
  const EalOptions options{.name = "se1",
                           .control_core = 0,
                           .worker_cores = {0, 1},
                           .hugepages = false,
                           .memory_mb = 512,
                           .pci_devices = {},
                           .extra = {"--iova-mode=va"}};
  EXPECT_EQ(
      eal_arguments(options),
      (std::vector<std::string>{"limpet-se", "--file-prefix=limpet-se1", "--lcores", "0@0,1@0,2@1",
                                "--main-lcore=0", "-m", "512", "--no-huge", "--no-shconf",
                                "--no-pci", "--log-level=error", "--log-level=pmd.net.tap:critical",
                                "--log-level=pmd.net.memif:critical", "--iova-mode=va"}));
}

TEST(EalArguments, LogLevelsOfTheOperatorReplaceOurs) {
  const std::vector<std::string> arguments = eal_arguments(
      {.name = "se1", .worker_cores = {}, .extra = {"--log-level=pmd.net.tap:debug"}});
  EXPECT_EQ(std::count_if(arguments.begin(), arguments.end(),
                          [](const std::string& a) { return a.starts_with("--log-level"); }),
            1);
}

TEST(EalArguments, WithHugepagesAndPci) {
  const EalOptions options{.name = "se1",
                           .control_core = 3,
                           .worker_cores = {4},
                           .hugepages = true,
                           .memory_mb = 1024,
                           .pci_devices = {"0000:3b:00.0", "0000:3b:00.1,a=b"},
                           .extra = {}};
  EXPECT_EQ(eal_arguments(options),
            (std::vector<std::string>{"limpet-se", "--file-prefix=limpet-se1", "--lcores",
                                      "0@3,1@4", "--main-lcore=0", "-m", "1024", "--in-memory",
                                      "-a", "0000:3b:00.0", "-a", "0000:3b:00.1,a=b",
                                      "--log-level=error", "--log-level=pmd.net.tap:critical",
                                      "--log-level=pmd.net.memif:critical"}));
}

TEST(TickRate, IsExactOverHoursAndDoesNotOverflow) {
  constexpr uint64_t kHz = 2'899'999'871;
  constexpr TickRate rate(kHz);
  EXPECT_NEAR(static_cast<double>(rate.nanoseconds(kHz)), 1e9, 1.0);
  constexpr uint64_t kDay = 86'400;
  EXPECT_NEAR(static_cast<double>(rate.nanoseconds(kHz * kDay)), 1e9 * kDay, 86'400.0);
  constexpr uint64_t kCentury = kDay * 36'500;
  EXPECT_NEAR(static_cast<double>(rate.nanoseconds(kHz * kCentury)) / (1e9 * kCentury), 1.0, 1e-9);
}

TEST(TickRate, NeverGoesBack) {
  constexpr TickRate rate(3'000'000'000);
  int64_t last = 0;
  for (uint64_t ticks = 0; ticks < 10'000; ++ticks) {
    const int64_t now = rate.nanoseconds(ticks);
    EXPECT_GE(now, last);
    last = now;
  }
}

TEST(MemoryCheck, AddsUpAndNamesEachNeed) {
  const std::array<MemoryNeed, 2> needs{
      {{"packet buffers, 65536", 168u << 20},
       {"persist tables, 2 x 1048576 entries", (144u << 20) + 1}}};
  const MemoryCheck check = check_memory(needs, 512);
  EXPECT_TRUE(check.fits);
  EXPECT_EQ(check.needed_bytes, (312u << 20) + 1);
  EXPECT_EQ(check.table,
            "  packet buffers, 65536                     168 MB\n"
            "  persist tables, 2 x 1048576 entries       145 MB\n"
            "  total                                     313 MB of 512 MB (memory.size_mb)\n");
}

TEST(MemoryCheck, OneByteTooMuchDoesNotFit) {
  const std::array<MemoryNeed, 1> exact{{{"a", 64u << 20}}};
  EXPECT_TRUE(check_memory(exact, 64).fits);
  const std::array<MemoryNeed, 1> more{{{"a", (64u << 20) + 1}}};
  EXPECT_FALSE(check_memory(more, 64).fits);
}

TEST(BufferPoolSizes, FitTheLargestFrame) {
  EXPECT_EQ(BufferPool::data_bytes(1500), 2048);
  EXPECT_GE(BufferPool::data_bytes(9000), 9026);
  EXPECT_EQ(BufferPool::data_bytes(65535), UINT16_MAX - RTE_PKTMBUF_HEADROOM);
}

TEST(BufferPoolSizes, CachesNeverHoldMoreThanAnEighthOfThePool) {
  EXPECT_EQ(BufferPool::cache_buffers(65536, 3), 256u);
  EXPECT_EQ(BufferPool::cache_buffers(2048, 4), 64u);
  EXPECT_EQ(BufferPool::cache_buffers(4, 4), 0u);
}

TEST(TableMemory, GivesAlignedMemoryAndTakesItBack) {
  TableMemory memory(false, 0);
  for (const std::size_t bytes : {std::size_t{64}, std::size_t{4096}, std::size_t{5} << 20}) {
    void* at = memory.allocate(bytes, 64);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(at) % 64, 0u);
    std::memset(at, 1, bytes);
    EXPECT_EQ(memory.in_use(), bytes);
    memory.deallocate(at, bytes, 64);
    EXPECT_EQ(memory.in_use(), 0u);
  }
}

// ---- order of a replay

struct Script {
  std::vector<std::vector<int64_t>> times;  // by source; negative: no capture time
  std::vector<std::size_t> at;
  std::vector<std::unique_ptr<rte_mbuf>> buffers;
  std::vector<std::pair<const rte_mbuf*, int64_t>> time_of;

  explicit Script(std::vector<std::vector<int64_t>> t) : times(std::move(t)), at(times.size()) {}

  ReplayReader reader() {
    return ReplayReader(
        static_cast<uint32_t>(times.size()),
        [this](uint32_t source) -> packet::Buffer* {
          if (at[source] == times[source].size()) return nullptr;
          buffers.push_back(std::make_unique<rte_mbuf>());
          time_of.emplace_back(buffers.back().get(), times[source][at[source]++]);
          return buffers.back().get();
        },
        [this](const packet::Buffer* b) -> std::optional<timing::WallTime> {
          for (const auto& [buffer, time] : time_of) {
            if (buffer == b) return timing::WallTime{time};
          }
          return {};
        });
  }
};

TEST(ReplayReader, EarliestGoesFirstAndTiesInPortOrder) {
  Script script({{10, 20, 50}, {10, 15, 20}, {}});
  ReplayReader reader = script.reader();
  std::vector<std::pair<uint32_t, int64_t>> order;
  while (const auto packet = reader.next()) order.emplace_back(packet->source, packet->time.ns);
  EXPECT_EQ(order, (std::vector<std::pair<uint32_t, int64_t>>{
                       {0, 10}, {1, 10}, {1, 15}, {0, 20}, {1, 20}, {0, 50}}));
}

TEST(ReplayReader, PeekSaysWhenTheNextPacketIsDue) {
  Script script({{7, 9}});
  ReplayReader reader = script.reader();
  EXPECT_EQ(reader.peek()->ns, 7);
  reader.next();
  EXPECT_EQ(reader.peek()->ns, 9);
  reader.next();
  EXPECT_FALSE(reader.peek());
}

TEST(ReplayReader, TimesThatGoBackAreHandedOnInTheOrderOfTheFile) {
  Script script({{10, 5, 20}, {8}});
  ReplayReader reader = script.reader();
  std::vector<int64_t> order;
  while (const auto packet = reader.next()) order.push_back(packet->time.ns);
  EXPECT_EQ(order, (std::vector<int64_t>{8, 10, 5, 20}));
}

}  // namespace
}  // namespace limpet::port
