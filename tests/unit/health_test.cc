#include "control/health/health.h"

#include <gtest/gtest.h>

#include "control/config/codec.h"

namespace limpet::health {
namespace {

config::Document document(const std::string& pools) {
  auto parsed = config::parse_document(R"({"Pool": [)" + pools + "]}");
  EXPECT_TRUE(parsed.ok());
  return parsed.value().document;
}

std::string servers(std::initializer_list<const char*> list) {
  std::string out;
  for (const char* server : list) out += (out.empty() ? "" : ",") + std::string(server);
  return "\"servers\": [" + out + "]";
}

constexpr const char* kTwo = R"({"ip": {"addr": "10.2.0.2", "type": "V4"}})";
constexpr const char* kThree = R"({"ip": {"addr": "10.2.0.3", "type": "V4"}})";
constexpr const char* kThreeTls = R"({"ip": {"addr": "10.2.0.3", "type": "V4"}, "port": 443})";
constexpr const char* kSix = R"({"ip": {"addr": "fd00:2::6", "type": "V6"}})";

config::Document web() {
  return document(R"({"name": "web", "uuid": "pool-1", )" +
                  servers({kTwo, kThree, kThreeTls, kSix}) + "}");
}

State state_of(const Health& health, const config::Document& d, std::size_t server) {
  return health.state(d.pools[0].servers[server]);
}

TEST(Health, ServersAreUpByDefault) {
  EXPECT_EQ(state_of(Health(), web(), 0), (State{true, Source::kDefault, ""}));
}

TEST(Health, MarkDecidesAndSaysSo) {
  const auto d = web();
  Health health;
  const auto changed =
      health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2:80", false, "fan"}});
  EXPECT_EQ(changed.value(),
            (std::vector<Transition>{{"web", "10.2.0.2:80", false, Source::kApi, "fan"}}));
  EXPECT_EQ(state_of(health, d, 0), (State{false, Source::kApi, "fan"}));
  EXPECT_TRUE(state_of(health, d, 1).up);
}

TEST(Health, PoolIsFoundByUuidAndServerByUniqueAddressInAnySpelling) {
  const auto d = web();
  Health health;
  ASSERT_TRUE(health.apply(d, std::vector<MarkRequest>{{"pool-1", "10.2.0.2", false, ""},
                                                       {"web", "FD00:2:0::6", false, ""},
                                                       {"web", "10.2.0.3:443", false, ""}}));
  EXPECT_FALSE(state_of(health, d, 0).up);
  EXPECT_TRUE(state_of(health, d, 1).up);
  EXPECT_FALSE(state_of(health, d, 2).up);
  EXPECT_FALSE(state_of(health, d, 3).up);
}

TEST(Health, AddressOfSeveralServersIsRefused) {
  Health health;
  const auto refused =
      health.apply(web(), std::vector<MarkRequest>{{"web", "10.2.0.3", false, ""}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors()[0].path, "/0/server");
  EXPECT_EQ(refused.errors()[0].message, "pool 'web' has several servers '10.2.0.3': add the port");
}

TEST(Health, OneUnknownNameRefusesTheWholeRequestAndIsNamed) {
  const auto d = web();
  Health health;
  const auto refused = health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2:80", false, ""},
                                                                {"web", "10.2.0.9:80", false, ""},
                                                                {"wob", "10.2.0.2:80", false, ""}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors(), (base::Errors{{"/1/server", "pool 'web' has no server '10.2.0.9:80'"},
                                            {"/2/pool", "no pool is named 'wob'"}}));
  EXPECT_TRUE(state_of(health, d, 0).up);
  EXPECT_EQ(health.marks(), 0u);
}

TEST(Health, PoolNameOfSeveralTenantsIsRefused) {
  const auto d = document(
      R"({"name": "web", "tenant_ref": "/api/tenant/?name=a", )" + servers({kTwo}) +
      R"(}, {"name": "web", "tenant_ref": "/api/tenant/?name=b", )" + servers({kTwo}) + "}");
  ASSERT_EQ(d.pools.size(), 2u);
  Health health;
  const auto refused =
      health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", false, ""}}, "/x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors()[0].path, "/x/0/pool");
}

TEST(Health, NullTakesTheMarkBack) {
  const auto d = web();
  Health health;
  ASSERT_TRUE(health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", false, ""}}));
  const auto changed = health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", {}, ""}});
  EXPECT_EQ(changed.value(),
            (std::vector<Transition>{{"web", "10.2.0.2:80", true, Source::kDefault, ""}}));
  EXPECT_EQ(health.marks(), 0u);
}

TEST(Health, LastOfSeveralMarksForAServerWins) {
  const auto d = web();
  Health health;
  const auto changed = health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", false, ""},
                                                                {"web", "10.2.0.2:80", true, ""}});
  EXPECT_TRUE(changed.value().empty());
  EXPECT_EQ(state_of(health, d, 0), (State{true, Source::kApi, ""}));
}

TEST(Health, RepeatedMarkIsNoTransition) {
  const auto d = web();
  Health health;
  ASSERT_TRUE(health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", false, ""}}));
  const auto again = health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", false, "still"}});
  EXPECT_TRUE(again.value().empty());
  EXPECT_EQ(state_of(health, d, 0).reason, "still");
}

TEST(Health, MarkOverrulesTheMonitors) {
  const auto d = web();
  const config::ServerId id = d.pools[0].servers[0].id;
  Health health;
  EXPECT_EQ(health.set_verdict(d, id, false, "refused"),
            (Transition{"web", "10.2.0.2:80", false, Source::kMonitor, "refused"}));
  EXPECT_EQ(state_of(health, d, 0), (State{false, Source::kMonitor, "refused"}));
  ASSERT_TRUE(health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", true, ""}}));
  EXPECT_EQ(state_of(health, d, 0).source, Source::kApi);
  EXPECT_TRUE(state_of(health, d, 0).up);
  EXPECT_FALSE(health.set_verdict(d, id, std::nullopt, ""));
  ASSERT_TRUE(health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", {}, ""}}));
  EXPECT_EQ(state_of(health, d, 0).source, Source::kDefault);
}

TEST(Health, MarkHoldsOverNewDocumentsUntilTheServerLeaves) {
  const auto before = web();
  Health health;
  ASSERT_TRUE(health.apply(before, std::vector<MarkRequest>{{"web", "10.2.0.2", false, ""}}));

  const auto reordered =
      document(R"({"name": "web", "uuid": "pool-1", )" + servers({kSix, kThree, kTwo}) + "}");
  health.retain(reordered);
  EXPECT_FALSE(state_of(health, reordered, 2).up);

  health.retain(document(R"({"name": "web", "uuid": "pool-1", )" + servers({kThree}) + "}"));
  EXPECT_EQ(health.marks(), 0u);
  EXPECT_TRUE(state_of(health, before, 0).up);
}

TEST(Health, ServerOfTheSameAddressInAnotherPoolIsAnother) {
  const auto d = document(R"({"name": "a", )" + servers({kTwo}) + R"(}, {"name": "b", )" +
                          servers({kTwo}) + "}");
  Health health;
  ASSERT_TRUE(health.apply(d, std::vector<MarkRequest>{{"a", "10.2.0.2", false, ""}}));
  EXPECT_FALSE(health.state(d.pools[0].servers[0]).up);
  EXPECT_TRUE(health.state(d.pools[1].servers[0]).up);
}

TEST(Health, ServerKnownByNameOnlyIsDown) {
  const auto d = document(R"({"name": "web", )" +
                          servers({R"({"ip": {"addr": "www.example.com", "type": "DNS"}})"}) + "}");
  EXPECT_FALSE(state_of(Health(), d, 0).up);
}

}  // namespace
}  // namespace limpet::health
