// A worker allocates nothing, however much a turn brings.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "common/net/hash.h"
#include "dataplane/worker/turn.h"
#include "tests/support/allocations.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using packet::Buffer;
using support::CoreLab;
using worker::Core;

constexpr uint32_t kCores = static_cast<uint32_t>(base::kWorkersMax);
// What a turn of a loop brings at most.
constexpr uint32_t kArrive = Core::kTurnPacketsMax + base::kBurstPacketsMax - 1;
const uint32_t kCollect = (kCores - 1) * Core::collected_max(kCores);

class CoreAllocation : public testing::Test {
 protected:
  CoreLab lab_{{.cores = kCores, .flows = 4096, .buffers = 4096, .reassemble = true}};
  const packet::Ingress front_{.port = 0, .mac = support::mac(support::kFrontMac)};

  // Datagrams for the VIP whose flows belong to core `owner`.
  std::vector<Buffer*> datagrams(uint32_t owner, uint32_t count) {
    std::vector<Buffer*> out;
    const std::string client = "10.1.0.2";
    for (uint16_t port = 1024; out.size() < count; ++port) {
      EXPECT_LT(port, UINT16_MAX);
      const uint32_t hash = net::hash_address(lab_.shared().hash, support::address(client), port);
      if (base::reduce(hash, kCores) != owner) continue;
      const support::Frame f = support::udp({client, port, support::kVip4, 80}, "x");
      // Some more than there are ports of an owner: of a flow many datagrams may come.
      for (int again = 0; again < 4 && out.size() < count; ++again)
        out.push_back(support::make_buffer(lab_.buffers().pool(), f.build()));
    }
    return out;
  }

  // First pieces, each of a datagram of its own.
  std::vector<Buffer*> fragments(uint32_t count) {
    std::vector<Buffer*> out;
    const support::Frame whole = support::udp({"10.1.0.2", 4000, support::kVip4, 80}, "0123456789");
    for (uint32_t id = 0; id < count; ++id) {
      out.push_back(
          support::make_buffer(lab_.buffers().pool(), support::fragments_of(whole, 8, id).front()));
    }
    return out;
  }

  struct Host : worker::PlainHost {
    const std::vector<Buffer*>& arriving;
    const std::vector<Buffer*>& collected;
    const packet::Ingress& front;

    bool receive() {
      for (Buffer* b : arriving) core.arrive(b, {&front, 1});
      return !arriving.empty();
    }
    bool collect() {
      for (Buffer* b : collected) core.collect(b);
      return !collected.empty();
    }
  };

  // Allocations of a whole turn of core 0.
  uint64_t turn(const std::vector<Buffer*>& arriving, const std::vector<Buffer*>& collected) {
    for (Buffer* b : collected) EXPECT_FALSE(packet::parse(b, {&front_, 1}));
    Host host{{lab_.core(), lab_.running(), lab_.clock.now()}, arriving, collected, front_};
    const uint64_t before = support::allocations();
    worker::turn(lab_.core(), host);
    const uint64_t made = support::allocations() - before;
    empty();
    return made;
  }

  void empty() {
    Core& core = lab_.core();
    for (uint32_t to = 0; to < kCores; ++to) {
      for (Buffer* b : core.steered(to)) packet::release(b);
      core.steered(to).clear();
    }
    for (std::size_t port = 0; port < 2; ++port) {
      for (Buffer* b : core.output().tx(port)) packet::release(b);
      core.output().tx(port).clear();
    }
    for (Buffer* b : core.output().punted()) packet::release(b);
    core.output().punted().clear();
  }
};

TEST_F(CoreAllocation, ThereIsNoneWhenAllIsForThisCore) {
  EXPECT_EQ(turn(datagrams(0, kArrive), datagrams(0, kCollect)), 0u);
}

TEST_F(CoreAllocation, ThereIsNoneForFragmentsOfMoreDatagramsThanThereIsRoomFor) {
  EXPECT_EQ(turn(fragments(kArrive), fragments(kCollect)), 0u);
  EXPECT_GT(lab_.core().fragments_pending(), 0u);
}

TEST_F(CoreAllocation, ThereIsNoneWhenAllIsForOneOther) {
  EXPECT_EQ(turn(datagrams(1, kArrive), datagrams(1, kCollect)), 0u);
  // What no ring could take is dropped.
  EXPECT_EQ(lab_.drops(packet::DropReason::kSteerRingFull), kArrive + kCollect - Core::kSteeredMax);
}

TEST_F(CoreAllocation, ThereIsNoneForAnyNumberOfJobs) {
  std::vector<std::unique_ptr<worker::Job>> jobs(1000);
  for (auto& job : jobs) {
    job = std::make_unique<worker::Job>();
    job->kind = worker::Job::Kind::kClock;
  }
  const uint64_t before = support::allocations();
  for (auto& job : jobs)
    lab_.core().message({.kind = worker::ControlMessage::Kind::kJob, .job = job.get()});
  for (std::size_t turn = 0; turn < jobs.size(); ++turn) {
    EXPECT_FALSE(jobs[turn]->done) << "in the order in which they came";
    lab_.core().begin(lab_.running(), lab_.clock.now());
    lab_.core().end();
    EXPECT_TRUE(jobs[turn]->done);
  }
  EXPECT_EQ(support::allocations() - before, 0u);
}

TEST(Allocations, AreCounted) {
  const uint64_t before = support::allocations();
  const auto one = std::make_unique<uint64_t>(1);
  EXPECT_EQ(support::allocations() - before, *one);
}

}  // namespace
}  // namespace limpet
