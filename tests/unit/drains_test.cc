#include "control/compile/drains.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/base/limits.h"

namespace limpet::compile {
namespace {

using Id = config::ServerId;
using timing::Instant;
using timing::seconds;

Instant at(int s) {
  return Instant{} + seconds(s);
}

struct PoolOf {
  std::vector<uint64_t> enabled;
  std::vector<uint64_t> disabled;
  std::optional<std::chrono::minutes> timeout = std::chrono::minutes(1);
};

config::Document document(const PoolOf& of) {
  config::Pool pool;
  pool.graceful_disable_timeout = of.timeout;
  for (const uint64_t id : of.enabled) pool.servers.push_back({.id = Id{id}, .address = {}});
  for (const uint64_t id : of.disabled) {
    pool.servers.push_back({.id = Id{id}, .address = {}});
    pool.servers.back().enabled = false;
  }
  config::Document d;
  d.pools.push_back(pool);
  return d;
}

using Ids = std::vector<Id>;

TEST(Drains, DisabledServerIsDueAfterItsTimeout) {
  Drains drains;
  drains.update(document({.enabled = {1, 2}, .disabled = {}}), at(0));
  EXPECT_EQ(drains.next_deadline(at(0)), Instant::never());
  drains.update(document({.enabled = {1}, .disabled = {2}}), at(100));
  EXPECT_EQ(drains.next_deadline(at(100)), at(160));
  EXPECT_EQ(drains.due(at(159)), Ids{});
  EXPECT_EQ(drains.due(at(160)), Ids{Id{2}});
}

TEST(Drains, DisabledServerStaysDueUntilItIsEnabled) {
  Drains drains;
  drains.update(document({.enabled = {1}, .disabled = {2}}), at(0));
  drains.settle(at(60));
  EXPECT_EQ(drains.due(at(1000)), Ids{Id{2}});
  EXPECT_EQ(drains.next_deadline(at(60)), Instant::never());
  drains.update(document({.enabled = {1, 2}, .disabled = {}}), at(1001));
  EXPECT_EQ(drains.due(at(1001)), Ids{});
}

TEST(Drains, AnotherDocumentDoesNotRestartTheTimeout) {
  Drains drains;
  drains.update(document({.enabled = {}, .disabled = {2}}), at(0));
  drains.update(document({.enabled = {3}, .disabled = {2}}), at(30));
  EXPECT_EQ(drains.next_deadline(at(30)), at(60));
}

TEST(Drains, TimeoutOfTheNewestDocumentCounts) {
  Drains drains;
  drains.update(document({.enabled = {}, .disabled = {2}}), at(0));
  drains.update(document({.enabled = {}, .disabled = {2}, .timeout = std::chrono::minutes(5)}),
                at(30));
  EXPECT_EQ(drains.next_deadline(at(30)), at(300));
}

TEST(Drains, RemovedServerIsDueAfterItsPoolsTimeoutAndThenForgotten) {
  Drains drains;
  drains.update(document({.enabled = {1, 2}, .disabled = {}}), at(0));
  drains.update(document({.enabled = {1}, .disabled = {}}), at(100));
  EXPECT_EQ(drains.next_deadline(at(100)), at(160));
  EXPECT_EQ(drains.due(at(160)), Ids{Id{2}});
  drains.settle(at(160));
  EXPECT_EQ(drains.due(at(160)), Ids{});
}

TEST(Drains, RemovalOfADisabledServerDoesNotRestartTheTimeout) {
  Drains drains;
  drains.update(document({.enabled = {1}, .disabled = {2}}), at(0));
  drains.update(document({.enabled = {1}, .disabled = {}}), at(40));
  EXPECT_EQ(drains.due(at(60)), Ids{Id{2}});
}

TEST(Drains, ServerThatReturnsIsNotDrained) {
  Drains drains;
  drains.update(document({.enabled = {1, 2}, .disabled = {}}), at(0));
  drains.update(document({.enabled = {1}, .disabled = {}}), at(100));
  drains.update(document({.enabled = {1, 2}, .disabled = {}}), at(130));
  EXPECT_EQ(drains.due(at(1000)), Ids{});
}

TEST(Drains, TimeoutOfZeroIsDueAtOnce) {
  Drains drains;
  const auto zero = std::chrono::minutes(0);
  drains.update(document({.enabled = {1, 2}, .disabled = {3}, .timeout = zero}), at(0));
  EXPECT_EQ(drains.due(at(0)), Ids{Id{3}});
  drains.update(document({.enabled = {1}, .disabled = {3}, .timeout = zero}), at(10));
  EXPECT_EQ(drains.due(at(10)), (Ids{Id{2}, Id{3}}));
}

TEST(Drains, WithoutTimeoutNothingIsEverDue) {
  Drains drains;
  drains.update(document({.enabled = {1, 2}, .disabled = {3}, .timeout = std::nullopt}), at(0));
  drains.update(document({.enabled = {1}, .disabled = {3}, .timeout = std::nullopt}), at(10));
  EXPECT_EQ(drains.next_deadline(at(10)), Instant::never());
  EXPECT_EQ(drains.due(at(1'000'000)), Ids{});
}

TEST(Drains, DisabledPoolDrainsAllItsServers) {
  Drains drains;
  auto d = document({.enabled = {1, 2}, .disabled = {}});
  d.pools[0].enabled = false;
  drains.update(d, at(5));
  EXPECT_EQ(drains.due(at(65)), (Ids{Id{1}, Id{2}}));
}

TEST(Drains, BeyondTheLimitTheNearestToTheirTimeAreDueAtOnce) {
  Drains drains;
  PoolOf first{.enabled = {}, .disabled = {}};
  for (uint64_t id = 1; id <= base::kServersMax; ++id) first.enabled.push_back(id);
  drains.update(document(first), at(0));
  drains.update(document({.enabled = {100'001, 100'002}, .disabled = {}}), at(10));
  drains.update(document({.enabled = {100'003}, .disabled = {}}), at(20));
  EXPECT_EQ(drains.due(at(20)), (Ids{Id{1}, Id{2}}));
}

}  // namespace
}  // namespace limpet::compile
