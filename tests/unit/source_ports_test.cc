// SourcePorts: slices of the range, order of use, the 60 seconds a server may be in TIME_WAIT.
#include "dataplane/l4/source_ports.h"

#include <gtest/gtest.h>

#include <set>

namespace limpet::l4 {
namespace {

using timing::Instant;
using timing::seconds;

constexpr Instant kStart{5'000'000'000};

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
  EXPECT_EQ(ports.take(kStart + seconds(3)), first) << "rather in TIME_WAIT than refused";
  EXPECT_EQ(ports.take(kStart + seconds(4)), 0);
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
    EXPECT_EQ(ports.take(kStart + seconds(1)), taken[static_cast<std::size_t>(i)]);
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
      ports.give_back(held[which], now);
      in_use.erase(held[which]);
      held.erase(held.begin() + which);
    } else if (const uint16_t port = ports.take(now); port != 0) {
      ASSERT_TRUE(port >= 5000 && port <= 5006);
      ASSERT_TRUE(in_use.insert(port).second) << "given twice";
      held.push_back(port);
    } else {
      ASSERT_EQ(held.size(), 7u) << "refused while one was free";
    }
    ASSERT_EQ(ports.in_use(), held.size());
  }
}

}  // namespace
}  // namespace limpet::l4
