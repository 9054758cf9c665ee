// A worker's loop with DPDK's ring devices, which receive what was sent to them, in a small EAL.
#include "dataplane/worker/loop.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/port/devices.h"
#include "dataplane/port/eal.h"
#include "dataplane/port/pool.h"
#include "tests/support/allocations.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

// Asks the loop to stop after so many turns, each of which looks at the clock once.
class TurnClock final : public timing::Clock {
 public:
  TurnClock(uint32_t turns, std::atomic<bool>* stop) : left_(turns), stop_(stop) {}

  timing::Instant now() const override {
    if (left_-- == 0) *stop_ = true;
    return timing::Instant{1'000'000'000};
  }
  timing::WallTime wall() const override { return {}; }

 private:
  mutable uint32_t left_;
  std::atomic<bool>* stop_;
};

class LoopTest : public testing::Test {
 protected:
  static constexpr uint32_t kPorts = base::kPortsMax;
  static constexpr uint32_t kWaiting = 128;  // frames in each device

  void SetUp() override {
    auto eal = port::Eal::start({.name = "loop-" + std::to_string(getpid()),
                                 .control_core = 0,
                                 .worker_cores = {0},
                                 .hugepages = false,
                                 .memory_mb = 128,
                                 .pci_devices = {},
                                 .extra = {"--no-telemetry"}});
    ASSERT_TRUE(eal.ok()) << eal.errors().front().message;
    eal_.emplace(std::move(eal.value()));
    auto pool = port::BufferPool::create({.name = "loop", .buffers = 8191, .lcores = 2});
    ASSERT_TRUE(pool.ok());
    pool_.emplace(std::move(pool.value()));
    port::DevicesOptions options{.workers = 1, .pool = pool_->get(), .engine_name = "se1"};
    for (uint32_t p = 0; p < kPorts; ++p) {
      const std::string number = std::to_string(p);
      options.ports.push_back(
          {.name = "port" + number, .device = port::parse_device("net_ring" + number).value()});
    }
    auto devices = port::Devices::open(options);
    ASSERT_TRUE(devices.ok()) << devices.errors().front().message;
    devices_.emplace(std::move(devices.value()));
    ASSERT_TRUE(devices_->start().ok());
  }

  // Datagrams for an address that is nobody's here.
  void fill() {
    for (const port::PortInfo& p : devices_->ports()) {
      support::Frame f = support::udp({"10.1.0.2", 4000, "10.1.0.77", 80}, "x");
      f.to = p.mac;
      for (uint32_t i = 0; i < kWaiting; ++i) {
        packet::Buffer* b = support::make_buffer(pool_->get(), f.build());
        ASSERT_NE(b, nullptr);
        ASSERT_EQ(devices_->transmit(p.device, 0, &b, 1), 1u);
      }
    }
  }

  // Frames received by port in so many turns.
  std::vector<uint64_t> received(uint32_t turns) {
    base::Random random(1);
    support::World world;
    world.index();
    auto snapshot = std::make_shared<snapshot::Snapshot>(*world.snapshot);
    snapshot->version = 1;
    std::pmr::memory_resource* const memory = std::pmr::get_default_resource();
    worker::Shared shared(1, 1024, random, replication::Rings::Capacity::for_cores(1), memory);
    worker::Wiring wiring(1, memory);
    worker::Core core({.flows = 1024, .nats = 1, .ports = kPorts}, shared, pool_->get(), nullptr,
                      timing::Instant{1'000'000'000}, memory);
    snapshot::Publisher publisher(snapshot, 1);
    std::atomic<bool> stop{false};
    const TurnClock clock(turns, &stop);
    worker::Loop loop({}, core, wiring, *devices_, publisher.reader(0), clock);
    const uint64_t allocations = support::allocations();
    loop.run(stop);
    EXPECT_EQ(support::allocations(), allocations) << "a worker allocates nothing";
    std::vector<uint64_t> out;
    for (uint32_t p = 0; p < kPorts; ++p) out.push_back(core.output().port(p).rx_packets);
    return out;
  }

  std::optional<port::Eal> eal_;
  std::optional<port::BufferPool> pool_;
  std::optional<port::Devices> devices_;
};

// More queues have frames than a turn may take from.
TEST_F(LoopTest, QueuesAreServedInTurn) {
  fill();
  static_assert(kPorts * base::kBurstPacketsMax == 2 * worker::Core::kTurnPacketsMax);
  EXPECT_EQ(received(2), std::vector<uint64_t>(kPorts, base::kBurstPacketsMax));
  EXPECT_EQ(received(4), std::vector<uint64_t>(kPorts, 2 * base::kBurstPacketsMax));
}

}  // namespace
}  // namespace limpet
