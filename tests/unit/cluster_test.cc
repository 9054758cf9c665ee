// Cluster: the engines of a cluster by their ranks, and who makes which stamps.
#include <gtest/gtest.h>

#include "control/engine/peers.h"

namespace limpet::engine {
namespace {

constexpr timing::WallTime kNow{1'600'000'000'000'000'000};

Cluster cluster_of(const std::string& name, const std::vector<std::string>& peers) {
  config::Bootstrap bootstrap;
  bootstrap.name = name;
  bootstrap.mirroring.emplace();
  for (const std::string& peer : peers) bootstrap.mirroring->peers.push_back({peer, {}});
  return Cluster(bootstrap);
}

TEST(ClusterTest, EnginesAgreeAboutTheirRanks) {
  EXPECT_EQ(cluster_of("b", {"c", "a"}).rank(), 1u);
  EXPECT_EQ(cluster_of("c", {"a", "b"}).rank(), 2u);
}

TEST(ClusterTest, TheControlThreadMakesNoStampInACoresName) {
  const Cluster cluster = cluster_of("b", {"c", "a"});
  for (uint32_t core = 0; core < base::kWorkersMax; ++core)
    EXPECT_NE(cluster.control_maker(), (binding::Maker{cluster.rank(), core}.number())) << core;
}

TEST(ClusterTest, AStampNamesTheEngineWhoeverOfItMadeIt) {
  const Cluster cluster = cluster_of("b", {"c", "a"});
  const auto origin = [&](uint32_t maker) {
    binding::StampClock clock(maker);
    return cluster.origin_of(clock.next(kNow));
  };
  EXPECT_EQ(origin(cluster.control_maker()), "b");
  EXPECT_EQ(origin(binding::Maker{2, 63}.number()), "c");
  EXPECT_EQ(origin(binding::Maker{3, 0}.number()), "") << "no engine that is known";
}

}  // namespace
}  // namespace limpet::engine
