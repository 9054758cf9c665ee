// SourcePorts: slices of the range, order of use, the 60 seconds a server may be in TIME_WAIT.
#include "dataplane/egress/source_ports.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <set>
#include <vector>

#include "dataplane/egress/source_port_memory.h"

namespace limpet::egress {
namespace {

using timing::Instant;
using timing::seconds;

constexpr Instant kStart{5'000'000'000};

// As a worker takes one that has no other address.
uint16_t take_any(SourcePorts& ports, Instant now) {
  const uint16_t port = ports.take(now);
  return port != 0 ? port : ports.take_lately_freed();
}

TEST(PortSlice, CoresShareTheRangeWithoutGapOrOverlap) {
  for (uint32_t cores = 1; cores <= 128; ++cores) {
    EXPECT_EQ(PortSlice::of(0, cores).first, kSourcePortFirst);
    EXPECT_EQ(PortSlice::of(cores - 1, cores).last, kSourcePortLast);
    for (uint32_t core = 1; core < cores; ++core)
      EXPECT_EQ(PortSlice::of(core, cores).first, PortSlice::of(core - 1, cores).last + 1);
  }
}

TEST(PortSlice, EveryPortHasTheOwnerWhoseSliceHoldsIt) {
  for (const uint32_t cores : {1u, 2u, 3u, 4u, 7u, 16u, 61u, 128u}) {
    for (uint32_t core = 0; core < cores; ++core) {
      const PortSlice slice = PortSlice::of(core, cores);
      for (uint32_t port = slice.first; port <= slice.last; ++port)
        ASSERT_EQ(PortSlice::owner(static_cast<uint16_t>(port), cores), core) << port;
    }
  }
}

TEST(PortSlice, PortsBelowTheRangeBelongToTheFirstCore) {
  EXPECT_EQ(PortSlice::owner(0, 4), 0u);
  EXPECT_EQ(PortSlice::owner(1023, 4), 0u);
}

TEST(SourcePorts, GivesEachPortOfTheSliceOnceAndThenNone) {
  base::Random random(7);
  SourcePorts ports({5000, 5009}, random);
  std::set<uint16_t> seen;
  for (uint32_t i = 0; i < 10; ++i) seen.insert(ports.take(kStart));
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(*seen.begin(), 5000);
  EXPECT_EQ(*seen.rbegin(), 5009);
  EXPECT_EQ(ports.take(kStart), 0);
  EXPECT_EQ(ports.in_use(), 10u);
}

TEST(SourcePorts, StartsAtAPlaceThatTheSeedDecides) {
  std::set<uint16_t> starts;
  for (uint64_t seed = 0; seed < 16; ++seed) {
    base::Random random(seed);
    starts.insert(SourcePorts(PortSlice::of(0, 1), random).take(kStart));
  }
  EXPECT_GT(starts.size(), 12u);
}

TEST(SourcePorts, PrefersNeverUsedPortsToOnesFreedLately) {
  base::Random random(1);
  SourcePorts ports({5000, 5002}, random);
  const uint16_t first = ports.take(kStart);
  ports.give_back(first, kStart);
  EXPECT_NE(ports.take(kStart + seconds(1)), first);
  EXPECT_NE(ports.take(kStart + seconds(2)), first);
  EXPECT_EQ(ports.take(kStart + seconds(3)), 0);
  EXPECT_EQ(ports.take_lately_freed(), first) << "rather in TIME_WAIT than refused";
  EXPECT_EQ(ports.take_lately_freed(), 0);
}

TEST(SourcePorts, TakesTheLongestFreedOnceTimeWaitIsOver) {
  base::Random random(1);
  SourcePorts ports({5000, 5009}, random);
  const uint16_t a = ports.take(kStart);
  const uint16_t b = ports.take(kStart);
  ports.give_back(b, kStart);
  ports.give_back(a, kStart + seconds(10));
  EXPECT_EQ(ports.take(kStart + seconds(62)), b);
  const uint16_t c = ports.take(kStart + seconds(62));
  EXPECT_NE(c, a) << "freed 52 s ago";
  EXPECT_EQ(ports.take(kStart + seconds(72)), a);
}

TEST(SourcePorts, NeverReturnsAPortWithin60SecondsWhileOthersAreFree) {
  base::Random random(1);
  SourcePorts ports({5000, 5001}, random);
  const Instant freed{kStart.ns + 999'999'999};  // the last moment of its second
  const uint16_t a = ports.take(kStart);
  ports.give_back(a, freed);
  const Instant almost{freed.ns + 59'999'999'999};
  EXPECT_NE(ports.take(almost), a);
}

TEST(SourcePorts, WhenAllWereUsedTheLeastRecentlyFreedGoesFirst) {
  base::Random random(3);
  SourcePorts ports({5000, 5003}, random);
  std::vector<uint16_t> taken;
  for (int i = 0; i < 4; ++i) taken.push_back(ports.take(kStart));
  for (const int i : {2, 0, 3, 1}) ports.give_back(taken[static_cast<std::size_t>(i)], kStart);
  for (const int i : {2, 0, 3, 1})
    EXPECT_EQ(take_any(ports, kStart + seconds(1)), taken[static_cast<std::size_t>(i)]);
}

TEST(SourcePorts, WhatWasPutBackIsTheNextAgainAndNoYounger) {
  base::Random random(3);
  SourcePorts ports({5000, 5001}, random);
  const uint16_t a = ports.take(kStart);
  const uint16_t b = ports.take(kStart);
  ports.give_back(a, kStart);
  ports.give_back(b, kStart + seconds(30));
  ASSERT_EQ(ports.take(kStart + seconds(40)), 0);
  ASSERT_EQ(ports.take_lately_freed(), a);
  ports.put_back(a, kStart + seconds(50));
  EXPECT_EQ(ports.in_use(), 0u);
  EXPECT_EQ(ports.take(kStart + seconds(60)), 0);
  ASSERT_EQ(ports.take_lately_freed(), a);
  ports.put_back(a, kStart + seconds(70));
  // It counts as freed when b was.
  EXPECT_EQ(ports.take(kStart + seconds(90)), 0);
  EXPECT_EQ(ports.take(kStart + seconds(91)), a);
  EXPECT_EQ(ports.take(kStart + seconds(91)), b);
}

TEST(SourcePorts, WhatIsPutBackBehindOldOnesIsOld) {
  base::Random random(3);
  SourcePorts ports({5000, 5001}, random);
  const uint16_t a = ports.take(kStart);
  const uint16_t b = ports.take(kStart);
  ports.give_back(a, kStart);
  ports.give_back(b, kStart);
  ASSERT_EQ(ports.take_lately_freed(), a);
  ports.put_back(a, kStart + seconds(61));
  EXPECT_EQ(ports.take(kStart + seconds(61)), a);
  EXPECT_EQ(ports.take(kStart + seconds(61)), b);
}

TEST(SourcePorts, TheOnlyOneThatWasPutBackCountsAsFreedNow) {
  base::Random random(3);
  SourcePorts ports({5000, 5000}, random);
  const uint16_t a = ports.take(kStart);
  ports.give_back(a, kStart);
  ASSERT_EQ(ports.take_lately_freed(), a);
  ports.put_back(a, kStart + seconds(30));
  EXPECT_EQ(ports.take(kStart + seconds(90)), 0);
  EXPECT_EQ(ports.take(kStart + seconds(91)), a);
}

TEST(SourcePorts, TheQueueWrapsAroundManyTimes) {
  base::Random random(3);
  SourcePorts ports({5000, 5006}, random);
  std::vector<uint16_t> held;
  base::Random choice(0x5eed);
  std::set<uint16_t> in_use;
  Instant now = kStart;
  for (int i = 0; i < 20'000; ++i) {
    now = now + seconds(choice.below(30));
    if (!held.empty() && choice.below(2) == 0) {
      const uint32_t which = choice.below(static_cast<uint32_t>(held.size()));
      if (choice.below(4) == 0) {
        ports.put_back(held[which], now);
      } else {
        ports.give_back(held[which], now);
      }
      in_use.erase(held[which]);
      held.erase(held.begin() + which);
    } else if (const uint16_t port = take_any(ports, now); port != 0) {
      ASSERT_TRUE(port >= 5000 && port <= 5006);
      ASSERT_TRUE(in_use.insert(port).second) << "given twice";
      held.push_back(port);
    } else {
      ASSERT_EQ(held.size(), 7u) << "refused while one was free";
    }
    ASSERT_EQ(ports.in_use(), held.size());
  }
}

// The order of use as source_ports.h has it, a time kept for each port.
class ModelPorts {
 public:
  ModelPorts(PortSlice slice, base::Random& random)
      : slice_(slice), count_(slice.last - slice.first + 1u), start_(random.below(count_)) {}

  uint16_t take(int64_t second) {
    const bool all_used = never_used_ == count_;
    if (!freed_.empty() && (all_used || second - freed_.front().second > 60)) {
      const uint16_t port = freed_.front().port;
      freed_.pop_front();
      return port;
    }
    if (all_used) return 0;
    return static_cast<uint16_t>(slice_.first + (start_ + never_used_++) % count_);
  }
  void give_back(uint16_t port, int64_t second) { freed_.push_back({port, second}); }

 private:
  struct Freed {
    uint16_t port;
    int64_t second;
  };

  PortSlice slice_;
  uint32_t count_;
  uint32_t start_;
  uint32_t never_used_ = 0;
  std::deque<Freed> freed_;
};

TEST(SourcePorts, GivesThePortsThatTheModelGives) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    base::Random choice(seed);
    const auto count = static_cast<uint16_t>(1 + choice.below(seed % 3 == 0 ? 5 : 400));
    // From many calls in a second to gaps longer than TIME_WAIT.
    const uint32_t step_ms = std::vector<uint32_t>{2, 40, 700, 9'000}[seed % 4];
    const uint32_t taken_of_ten = 3 + choice.below(5);
    const PortSlice slice{2000, static_cast<uint16_t>(2000 + count - 1)};
    base::Random one(seed);
    base::Random other(seed);
    SourcePorts ports(slice, one);
    ModelPorts model(slice, other);
    std::vector<uint16_t> held;
    Instant now{static_cast<int64_t>(choice.below(1'000'000'000)) - 500'000'000};
    for (uint32_t i = 0; i < 20'000; ++i) {
      now = now + timing::milliseconds(choice.below(2 * step_ms));
      if (choice.below(2'000) == 0) now = now + seconds(choice.below(200'000));
      const int64_t second = now.ns / 1'000'000'000;
      if (choice.below(10) < taken_of_ten) {
        const uint16_t port = take_any(ports, now);
        ASSERT_EQ(port, model.take(second)) << "seed " << seed << ", step " << i;
        if (port != 0) held.push_back(port);
      } else if (!held.empty()) {
        std::swap(held[choice.below(static_cast<uint32_t>(held.size()))], held.back());
        ports.give_back(held.back(), now);
        model.give_back(held.back(), second);
        held.pop_back();
      }
      ASSERT_EQ(ports.in_use(), held.size());
    }
  }
}

TEST(SourcePorts, AllPortsOfTheLargestSliceMayBeFreedInOneSecond) {
  base::Random random(1);
  SourcePorts ports(PortSlice::of(0, 1), random);
  std::vector<uint16_t> order;
  while (const uint16_t port = ports.take(kStart)) order.push_back(port);
  ASSERT_EQ(order.size(), 64'512u);
  for (const uint16_t port : order) ports.give_back(port, kStart);
  for (const uint16_t port : order) ASSERT_EQ(ports.take(kStart + seconds(61)), port);
}

TEST(SourcePorts, CostsTwoBytesAPortAndThreeCacheLinesACore) {
  EXPECT_EQ(SourcePorts::bytes_for(1), 2 * 64'512u + 192u);
  EXPECT_EQ(SourcePorts::bytes_for(4), 2 * 64'512u + 4 * 192u);
}

// ---- where they lie ----

// Counts what it is asked for, and has no more after a while.
class CountingMemory final : public std::pmr::memory_resource {
 public:
  explicit CountingMemory(std::size_t most) : most_(most) {}
  std::size_t asked = 0;
  std::size_t bytes = 0;

 private:
  void* do_allocate(std::size_t size, std::size_t align) override {
    if (bytes + size > most_) throw std::bad_alloc();
    ++asked;
    bytes += size;
    return std::pmr::new_delete_resource()->allocate(size, align);
  }
  void do_deallocate(void* at, std::size_t size, std::size_t align) override {
    bytes -= size;
    std::pmr::new_delete_resource()->deallocate(at, size, align);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  std::size_t most_;
};

constexpr PortSlice kSlice = PortSlice::of(3, 64);

TEST(SourcePortMemory, WhatIsReservedIsOneSlab) {
  CountingMemory upstream(1u << 30);
  SourcePortMemory memory(kSlice, &upstream);
  memory.reserve(1'000);
  base::Random random(1);
  std::vector<std::unique_ptr<SourcePorts>> all;
  for (int i = 0; i < 1'000; ++i)
    all.push_back(std::make_unique<SourcePorts>(kSlice, random, &memory));
  EXPECT_EQ(upstream.asked, 1u);
  EXPECT_EQ(memory.in_use(), 1'000u);
}

TEST(SourcePortMemory, ServersThatComeOneByOneMakeFewSlabs) {
  CountingMemory upstream(std::size_t{1} << 30);
  SourcePortMemory memory(kSlice, &upstream);
  base::Random random(1);
  std::vector<std::unique_ptr<SourcePorts>> all;
  for (int i = 0; i < 50'000; ++i) {
    memory.reserve(1);
    all.push_back(std::make_unique<SourcePorts>(kSlice, random, &memory));
  }
  EXPECT_LT(memory.slabs(), 100u);
  EXPECT_LT(memory.blocks(), 50'000u * 9 / 8 + 1);
}

TEST(SourcePortMemory, ABlockThatWasGivenBackIsUsedAgainAndNoneTwice) {
  CountingMemory upstream(std::size_t{1} << 30);
  SourcePortMemory memory(kSlice, &upstream);
  const std::size_t bytes = SourcePorts::ring_bytes(kSlice);
  memory.reserve(3);
  std::set<void*> given;
  for (int i = 0; i < 3; ++i) {
    void* const at = memory.allocate(bytes, 2);
    std::memset(at, i, bytes);  // overlapping blocks would show under the address sanitizer
    given.insert(at);
  }
  EXPECT_EQ(given.size(), 3u);
  void* const first = *given.begin();
  memory.deallocate(first, bytes, 2);
  EXPECT_EQ(memory.allocate(bytes, 2), first);
  for (void* const at : given) memory.deallocate(at, bytes, 2);
  EXPECT_EQ(memory.in_use(), 0u);
  EXPECT_EQ(upstream.asked, 1u);
}

TEST(SourcePortMemory, WhenUpstreamHasNoMoreOrdinaryMemoryServes) {
  CountingMemory upstream(10 * SourcePorts::ring_bytes(kSlice));
  SourcePortMemory memory(kSlice, &upstream);
  memory.reserve(5);
  memory.reserve(500);
  EXPECT_EQ(upstream.asked, 1u);
  EXPECT_EQ(memory.blocks(), 500u);
}

}  // namespace
}  // namespace limpet::egress
