// pick(): who is chosen, how often, by each algorithm; literal seeds.
#include "dataplane/balance/pick.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "dataplane/balance/maglev.h"

namespace limpet::balance {
namespace {

using snapshot::Algorithm;

// A pool whose server i has weights[i], and a core's memory of it.
class Picker {
 public:
  Picker(Algorithm algorithm, std::vector<uint16_t> weights) : loads(weights.size() + 10) {
    pool.algorithm = algorithm;
    for (uint32_t i = 0; i < weights.size(); ++i) {
      snapshot::Server s;
      s.id = binding::ServerId{0x9e37'79b9'7f4a'7c15ULL * (i + 1)};
      s.slot = snapshot::ServerSlot{i + 5};  // not the index
      s.weight = weights[i];
      pool.servers.push_back(s);
    }
    usable.assign(weights.size(), true);
    build();
  }

  void build() {
    std::vector<MaglevServer> up;
    for (uint32_t i = 0; i < pool.servers.size(); ++i) {
      if (takes_new_clients(pool.servers[i]))
        up.push_back({pool.servers[i].id, pool.servers[i].weight, static_cast<uint16_t>(i)});
    }
    pool.maglev = build_maglev(up, 4093);
  }
  uint32_t operator()(const char* client = "10.1.0.2", uint16_t port = 1000) {
    const net::Address a = *net::Address::parse(client);
    return pick(pool, {a, port}, loads, turn, random, [&](uint32_t i) { return usable[i]; });
  }
  // How often each was chosen in `turns` turns.
  std::vector<uint32_t> counts(uint32_t turns) {
    std::vector<uint32_t> out(pool.servers.size());
    for (uint32_t i = 0; i < turns; ++i) {
      const uint32_t at = (*this)();
      if (at != kNobody) ++out[at];
    }
    return out;
  }

  snapshot::Pool pool;
  std::vector<Load> loads;
  std::vector<bool> usable;
  Turn turn;
  base::Random random{0x91c4};
};

TEST(Pick, RoundRobinGoesThroughThePoolInOrder) {
  Picker p(Algorithm::kRoundRobin, {1, 1, 1});
  std::string order;
  for (int i = 0; i < 9; ++i) order += std::to_string(p());
  EXPECT_EQ(order, "012012012");
}

TEST(Pick, RoundRobinIsSmoothAndExactByWeight) {
  Picker p(Algorithm::kRoundRobin, {5, 1, 1});
  std::string order;
  for (int i = 0; i < 7; ++i) order += std::to_string(p());
  EXPECT_EQ(order, "0010200");  // as nginx documents it
  EXPECT_EQ(p.counts(700), (std::vector<uint32_t>{500, 100, 100}));
}

TEST(Pick, RoundRobinSharesTheTurnOfAServerThatIsAway) {
  Picker p(Algorithm::kRoundRobin, {2, 1, 1});
  p.usable[0] = false;
  EXPECT_EQ(p.counts(100), (std::vector<uint32_t>{0, 50, 50}));
  p.usable[0] = true;
  EXPECT_EQ(p.counts(400), (std::vector<uint32_t>{200, 100, 100}));
}

TEST(Pick, LeastConnectionsTakesTheEmptiestByWeight) {
  Picker p(Algorithm::kLeastConnections, {1, 1, 1});
  p.loads[5].open.set(3);
  p.loads[6].open.set(1);
  p.loads[7].open.set(2);
  EXPECT_EQ(p(), 1u);
  p.pool.servers[0].weight = 4;  // 3/4 < 1
  EXPECT_EQ(p(), 0u);
}

TEST(Pick, LeastConnectionsFillsServersByWeight) {
  Picker p(Algorithm::kLeastConnections, {1, 2, 5});
  std::vector<uint32_t> open(3);
  for (int i = 0; i < 800; ++i) {
    const uint32_t at = p();
    ++open[at];
    p.loads[p.pool.servers[at].slot.value].open.set(open[at]);
  }
  EXPECT_NEAR(open[0], 100, 1);
  EXPECT_NEAR(open[1], 200, 1);
  EXPECT_NEAR(open[2], 500, 1);
}

TEST(Pick, LeastConnectionsTakesTurnsAmongEquals) {
  Picker p(Algorithm::kLeastConnections, {1, 1, 1, 1});
  EXPECT_EQ(p.counts(400), (std::vector<uint32_t>{100, 100, 100, 100}));
}

TEST(Pick, LeastConnectionsSurvivesAPoolThatShrank) {
  Picker p(Algorithm::kLeastConnections, {1, 1, 1, 1});
  p.counts(3);
  p.pool.servers.resize(2);
  EXPECT_LT(p(), 2u);
}

TEST(Pick, LeastConnectionsDoesNotOverflow) {
  Picker p(Algorithm::kLeastConnections, {65535, 65535});
  p.loads[5].open.set(4'000'000'000u);
  p.loads[6].open.set(3'999'999'999u);
  EXPECT_EQ(p(), 1u);
}

TEST(Pick, RandomFollowsTheWeights) {
  Picker p(Algorithm::kRandom, {1, 2, 7});
  const auto counts = p.counts(100'000);
  EXPECT_NEAR(counts[0], 10'000, 500);
  EXPECT_NEAR(counts[1], 20'000, 700);
  EXPECT_NEAR(counts[2], 70'000, 700);
}

TEST(Pick, RandomNeverChoosesTheUnusable) {
  Picker p(Algorithm::kRandom, {3, 3, 3});
  p.usable[1] = false;
  const auto counts = p.counts(1000);
  EXPECT_EQ(counts[1], 0u);
  EXPECT_EQ(counts[0] + counts[2], 1000u);
}

TEST(Pick, ConsistentHashKeepsAClientWhateverItsPortIs) {
  Picker p(Algorithm::kConsistentHash, {1, 1, 1});
  for (const char* client : {"10.1.0.2", "10.1.0.3", "fd00:1::2", "fd00:1::3"}) {
    const uint32_t first = p(client, 1000);
    for (uint16_t port = 1001; port < 1050; ++port) EXPECT_EQ(p(client, port), first);
  }
}

TEST(Pick, ConsistentHashOfAddressAndPortSpreadsOneClient) {
  Picker p(Algorithm::kConsistentHash, {1, 1, 1});
  p.pool.hash_input = snapshot::HashInput::kSourceAddressAndPort;
  std::vector<uint32_t> counts(3);
  for (uint16_t port = 1000; port < 4000; ++port) ++counts[p("10.1.0.2", port)];
  for (const uint32_t n : counts) EXPECT_NEAR(n, 1000, 150);
}

TEST(Pick, ConsistentHashFollowsTheWeights) {
  Picker p(Algorithm::kConsistentHash, {1, 3});
  std::vector<uint32_t> counts(2);
  for (uint32_t i = 0; i < 8000; ++i) {
    const std::string client =
        "10." + std::to_string(i % 200) + "." + std::to_string(i / 200) + ".7";
    ++counts[p(client.c_str())];
  }
  EXPECT_NEAR(counts[0], 2000, 300);
}

TEST(Pick, ConsistentHashMovesFewClientsWhenAServerLeaves) {
  Picker p(Algorithm::kConsistentHash, {1, 1, 1, 1, 1});
  std::vector<std::string> clients;
  for (uint32_t i = 0; i < 2000; ++i)
    clients.push_back("fd00:1::" + std::to_string(i % 1000) + ":" + std::to_string(i / 1000));
  std::vector<uint32_t> before;
  for (const auto& c : clients) before.push_back(p(c.c_str()));
  p.pool.servers[2].state = snapshot::ServerState::kDown;
  p.usable[2] = false;
  p.build();
  uint32_t moved = 0;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    const uint32_t now = p(clients[i].c_str());
    EXPECT_NE(now, 2u);
    if (before[i] != 2 && now != before[i]) ++moved;
  }
  EXPECT_LT(moved, 100u) << "of 1600 that need not move";
}

TEST(Pick, ConsistentHashPassesTheClientsOfAFullServerOn) {
  Picker p(Algorithm::kConsistentHash, {1, 1, 1});
  const uint32_t first = p();
  p.usable[first] = false;  // at its limit: still in the table
  const uint32_t next = p();
  EXPECT_NE(next, first);
  EXPECT_EQ(p(), next);
}

TEST(Pick, NobodyIsChosenAmongNone) {
  for (const Algorithm a : {Algorithm::kRoundRobin, Algorithm::kLeastConnections,
                            Algorithm::kRandom, Algorithm::kConsistentHash}) {
    Picker empty(a, {});
    EXPECT_EQ(empty(), kNobody);
    Picker down(a, {1, 1});
    down.usable = {false, false};
    EXPECT_EQ(down(), kNobody);
  }
}

}  // namespace
}  // namespace limpet::balance
