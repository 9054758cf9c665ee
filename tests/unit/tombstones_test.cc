// persist::Tombstones: what was deleted, for as long as others may still know of it.
#include "dataplane/persist/tombstones.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "dataplane/persist/table.h"

namespace limpet::persist {
namespace {

using binding::ScopeSlot;

class TombstonesTest : public testing::Test {
 protected:
  static binding::Key key(uint64_t n) { return {{n, ~n}}; }

  base::Random random{1};
  base::KeyedHash hash{random};
  Tombstones tombstones{3, hash, std::pmr::get_default_resource()};
  ScopeSlot a{1};
  ScopeSlot b{2};
};

TEST_F(TombstonesTest, OfAKeyThatWasNotDeletedThereIsNone) {
  EXPECT_EQ(tombstones.of_key(a, key(1)), binding::Stamp{});
  tombstones.raise(a, key(1), binding::Stamp{5});
  EXPECT_EQ(tombstones.of_key(b, key(1)), binding::Stamp{}) << "of another scope";
}

TEST_F(TombstonesTest, ATombstoneOnlyRises) {
  EXPECT_TRUE(tombstones.raise(a, key(1), binding::Stamp{5}));
  EXPECT_TRUE(tombstones.raise(a, key(1), binding::Stamp{4}));
  EXPECT_EQ(tombstones.of_key(a, key(1)), binding::Stamp{5});
  EXPECT_TRUE(tombstones.raise(a, key(1), binding::Stamp{6}));
  EXPECT_EQ(tombstones.of_key(a, key(1)), binding::Stamp{6});
  EXPECT_EQ(tombstones.size(), 1u);
}

TEST_F(TombstonesTest, OnlyTheStampThatIsThereIsForgotten) {
  tombstones.raise(a, key(1), binding::Stamp{5});
  EXPECT_FALSE(tombstones.forget(a, key(1), binding::Stamp{4}));
  EXPECT_FALSE(tombstones.forget(a, key(2), binding::Stamp{5}));
  EXPECT_TRUE(tombstones.forget(a, key(1), binding::Stamp{5}));
  EXPECT_EQ(tombstones.of_key(a, key(1)), binding::Stamp{});
}

TEST_F(TombstonesTest, WhenItIsFullTheNextIsRefusedUntilOneIsForgotten) {
  for (uint64_t n = 0; n < 3; ++n) EXPECT_TRUE(tombstones.raise(a, key(n), binding::Stamp{5}));
  EXPECT_FALSE(tombstones.raise(a, key(3), binding::Stamp{5}));
  EXPECT_TRUE(tombstones.raise(a, key(2), binding::Stamp{6})) << "a known one may rise";
  tombstones.forget(a, key(0), binding::Stamp{5});
  EXPECT_TRUE(tombstones.raise(a, key(3), binding::Stamp{7}));
  EXPECT_EQ(tombstones.of_key(a, key(3)), binding::Stamp{7});
}

TEST_F(TombstonesTest, ThoseOfAScopeThatHasGoneGoInSlices) {
  tombstones.raise(a, key(1), binding::Stamp{5});
  tombstones.raise(b, key(1), binding::Stamp{5});
  tombstones.raise(a, key(2), binding::Stamp{5});
  const auto gone = [&](ScopeSlot scope) { return scope == a; };
  const uint32_t next = tombstones.forget_if(0, 2, gone);
  EXPECT_EQ(next, 2u);
  EXPECT_EQ(tombstones.size(), 2u);
  EXPECT_EQ(tombstones.forget_if(next, 2, gone), 0u);
  EXPECT_EQ(tombstones.size(), 1u);
  EXPECT_EQ(tombstones.of_key(b, key(1)), binding::Stamp{5});
}

// --- the clock of stamps -------------------------------------------------------------------------

constexpr timing::WallTime kNow{1'600'000'000'000'000'000};

// The keys are those of one of 16 homes, chosen by the hash that the index goes by.
TEST_F(TombstonesTest, NoLookUpReadsMoreThanAFewLinesAtNineTenthsOfItsRoom) {
  constexpr uint32_t kHomes = 16, kHome = 5;
  const uint32_t room = home_records_of(kHomes, 1 << 18);
  Tombstones full(room, hash, std::pmr::get_default_resource());
  std::vector<binding::Key> keys;
  for (uint32_t n = 0; full.size() < room / 10 * 9; ++n) {
    const binding::Key k = binding::Key::of(net::Address::v4_host(0x0a000000 + n));
    if (base::reduce(binding::hash_of(hash, a, k), kHomes) != kHome) continue;
    ASSERT_TRUE(full.raise(a, k, binding::Stamp{1}));
    keys.push_back(k);
  }
  uint64_t sum = 0;
  for (const binding::Key& k : keys) {
    ASSERT_LE(full.steps(a, k), 12u);
    sum += full.steps(a, k);
  }
  EXPECT_LT(static_cast<double>(sum), 1.2 * static_cast<double>(keys.size()));
}

TEST(StampClockTest, StaysAheadOfWhatItHasSeenByAsMuch) {
  binding::StampClock fast(1), slow(2);
  const binding::Stamp ahead = fast.next(kNow + timing::seconds(3600));
  slow.observe(ahead, kNow);
  const binding::Stamp then = slow.next(kNow + timing::seconds(10));
  EXPECT_GT(then, fast.next(kNow + timing::seconds(3609)));
  EXPECT_LT(then, fast.next(kNow + timing::seconds(3611)));
}

TEST(StampClockTest, AStampOfThePastIsOfItsTimeAndAboveTheOneBefore) {
  binding::StampClock clock(1);
  const binding::Stamp past = clock.at(kNow + timing::seconds(-5), {});
  EXPECT_LT(past, clock.next(kNow + timing::seconds(-4)));
  EXPECT_GT(clock.at(kNow + timing::seconds(-9), past), past);
}

// Else a tombstone might have the stamp of a binding that was made at its moment.
TEST(StampClockTest, NoCoreOfAnyEngineSharesTheControlThreadsNumber) {
  std::set<uint32_t> numbers;
  uint32_t makers = 0;
  for (uint32_t rank = 0; rank <= base::kPeersMax; ++rank) {
    const auto add = [&](uint32_t number) {
      ++makers;
      numbers.insert(number);
      binding::StampClock clock(number);
      EXPECT_EQ(binding::StampClock::rank_of(clock.next(kNow)), rank);
    };
    add(binding::Maker::number_of_control(rank));
    for (uint32_t core = 0; core < base::kWorkersMax; ++core)
      add(binding::Maker{rank, core}.number());
  }
  EXPECT_EQ(numbers.size(), makers);
}

TEST(StampClockTest, AStampOfFormerTimesNamesTheSameEngine) {
  binding::StampClock core(3 << 6 | 5), control(3 << 6 | 63);
  EXPECT_EQ(binding::StampClock::rank_of(core.next(kNow)), 3u);
  EXPECT_EQ(binding::StampClock::rank_of(control.next(kNow)), 3u);
  EXPECT_EQ((binding::Maker{3, 5}.number()), 3u << 6 | 5)
      << "cores are called what they were called";
}

TEST(StampClockTest, NamesItsMaker) {
  binding::StampClock clock(77);
  EXPECT_EQ(binding::StampClock::node_of(clock.next(kNow)), 77u);
}

}  // namespace
}  // namespace limpet::persist
