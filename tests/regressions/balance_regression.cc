// Bugs that were found in choosing servers.
#include <gtest/gtest.h>

#include "dataplane/balance/pick.h"

namespace limpet::balance {
namespace {

// Another core may take a server's last place between two looks at it; the choice then fell on
// nobody, and the client was refused although the other server had room.
TEST(BalanceRegression, RandomFindsTheOtherServerWhenOneFillsUpMeanwhile) {
  snapshot::Pool pool;
  pool.algorithm = snapshot::Algorithm::kRandom;
  pool.servers.resize(2);
  pool.servers[1].slot = snapshot::ServerSlot{1};
  std::vector<Load> loads(2);
  Turn turn;
  base::Random random(0x91c4);
  const net::Address client = *net::Address::parse("10.1.0.2");
  for (int i = 0; i < 100; ++i) {
    uint32_t asked = 0;
    const auto usable = [&](uint32_t at) { return at == 0 || ++asked == 1; };
    EXPECT_EQ(pick(pool, {client, 1}, loads, turn, random, usable), 0u);
  }
}

}  // namespace
}  // namespace limpet::balance
