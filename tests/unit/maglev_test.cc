#include "dataplane/balance/maglev.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace limpet::balance {
namespace {

std::vector<MaglevServer> servers(uint16_t count) {
  std::vector<MaglevServer> out;
  for (uint16_t i = 0; i < count; ++i)
    out.push_back({.id = binding::ServerId{1000u + i}, .index = i});
  return out;
}

std::map<uint16_t, int> shares(const std::vector<uint16_t>& table) {
  std::map<uint16_t, int> out;
  for (const uint16_t index : table) ++out[index];
  return out;
}

TEST(Maglev, SizesArePrime) {
  for (const std::size_t size : kMaglevSizes) {
    for (std::size_t d = 2; d * d <= size; ++d) EXPECT_NE(size % d, 0u) << size << " by " << d;
  }
}

TEST(Maglev, SizeIsTheSmallestWithAHundredSlotsForEachUnitOfWeight) {
  EXPECT_EQ(maglev_size({}), 4093u);
  EXPECT_EQ(maglev_size(servers(40)), 4093u);
  EXPECT_EQ(maglev_size(servers(41)), 16381u);
  EXPECT_EQ(maglev_size(servers(655)), 65537u);
  EXPECT_EQ(maglev_size(servers(5000)), 131071u);
}

TEST(Maglev, SizeCountsWeightsWithoutTheirCommonDivisor) {
  auto heavy = servers(40);
  for (MaglevServer& s : heavy) s.weight = 20;
  EXPECT_EQ(maglev_size(heavy), 4093u);
  heavy[0].weight = 1;
  EXPECT_EQ(maglev_size(heavy), 131071u);
}

TEST(Maglev, NoServersMeansNoTable) {
  EXPECT_TRUE(build_maglev({}, 4093).empty());
  auto idle = servers(2);
  idle[0].weight = idle[1].weight = 0;
  EXPECT_TRUE(build_maglev(idle, 4093).empty());
}

TEST(Maglev, OneServerHasEverySlot) {
  EXPECT_EQ(shares(build_maglev(servers(1), 4093)), (std::map<uint16_t, int>{{0, 4093}}));
}

TEST(Maglev, EqualServersHaveEqualSharesButForOneSlot) {
  const auto all = shares(build_maglev(servers(10), 4093));
  EXPECT_EQ(all.size(), 10u);
  for (const auto& [index, share] : all) {
    EXPECT_GE(share, 409) << index;
    EXPECT_LE(share, 410) << index;
  }
}

TEST(Maglev, SharesFollowTheWeights) {
  auto weighted = servers(3);
  weighted[0].weight = 1;
  weighted[1].weight = 2;
  weighted[2].weight = 5;
  auto share = shares(build_maglev(weighted, 16381));
  EXPECT_NEAR(share[0], 16381 * 1 / 8, 2);
  EXPECT_NEAR(share[1], 16381 * 2 / 8, 2);
  EXPECT_NEAR(share[2], 16381 * 5 / 8, 2);
}

TEST(Maglev, ServerWithoutWeightHasNoSlot) {
  auto weighted = servers(3);
  weighted[1].weight = 0;
  const auto share = shares(build_maglev(weighted, 4093));
  EXPECT_EQ(share.count(1), 0u);
  EXPECT_EQ(share.size(), 2u);
}

TEST(Maglev, WeightsInTheSameProportionGiveTheSameTable) {
  auto once = servers(3);
  once[1].weight = 3;
  auto doubled = once;
  for (MaglevServer& s : doubled) s.weight = static_cast<uint16_t>(2 * s.weight);
  EXPECT_EQ(build_maglev(once, 4093), build_maglev(doubled, 4093));
}

// Engines of different builds must agree: these slots may never change.
TEST(Maglev, TableIsTheSameInEveryBuild) {
  const auto table = build_maglev(servers(5), 4093);
  uint64_t digest = 14695981039346656037ULL;
  for (const uint16_t index : table) digest = (digest ^ index) * 1099511628211ULL;
  EXPECT_EQ(digest, 5175545057330110885u);
}

TEST(Maglev, FiveThousandServersAllHaveSlots) {
  const auto share = shares(build_maglev(servers(5000), 131071));
  EXPECT_EQ(share.size(), 5000u);
  for (const auto& [index, slots] : share) EXPECT_NEAR(slots, 26, 1) << index;
}

}  // namespace
}  // namespace limpet::balance
