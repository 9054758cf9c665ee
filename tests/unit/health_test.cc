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
  EXPECT_EQ(refused.errors()[0].message,
            "pool 'web' has several servers '10.2.0.3': add the port (10.2.0.3:443, 10.2.0.3:80)");
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
  EXPECT_EQ(refused.errors(),
            (base::Errors{{"/x/0/pool",
                           "several tenants have a pool named 'web': say which (a, b), or give its "
                           "uuid"}}));
  ASSERT_TRUE(health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", false, "", "b"}}));
  EXPECT_TRUE(health.state(d.pools[0].servers[0]).up);
  EXPECT_FALSE(health.state(d.pools[1].servers[0]).up);
  const auto nobody =
      health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", false, "", "c"},
                                               {d.pools[0].uuid, "10.2.0.2", false, "", "b"}});
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.errors()[0], (base::Error{"/0/pool", "no pool of tenant 'c' is named 'web'"}));
  EXPECT_EQ(nobody.errors()[1].path, "/1/pool");
}

// Two clouds of one tenant may have pools of one name.
TEST(Health, PoolsOfOneTenantAndNameAreToldApartByUuid) {
  config::Document d = web();
  d.pools.push_back(d.pools[0]);
  d.pools[1].uuid = "pool-2";
  Health health;
  const auto refused =
      health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2", false, "", "admin"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors()[0].message,
            "tenant 'admin' has several pools named 'web': give a uuid instead (pool-1, pool-2)");
  EXPECT_TRUE(health.apply(d, std::vector<MarkRequest>{{"pool-2", "10.2.0.2", false, ""}}));
}

constexpr const char* kTwinA =
    R"({"ip": {"addr": "10.2.0.2", "type": "V4"}, "external_uuid": "vm-1"})";
constexpr const char* kTwinB =
    R"({"ip": {"addr": "10.2.0.2", "type": "V4"}, "external_uuid": "vm-2"})";

// Of two servers at one address and port a document may say which is which.
TEST(Health, ServersOfOneAddressAndPortAreMarkedByUuid) {
  config::Document d =
      document(R"({"name": "web", "uuid": "pool-1", )" + servers({kTwinA}) +
               R"(}, {"name": "other", "uuid": "pool-2", )" + servers({kTwinB}) + "}");
  d.pools[0].servers.push_back(d.pools[1].servers[0]);
  d.pools.pop_back();
  Health health;
  const auto refused = health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2:80", false, ""}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors()[0].message,
            "pool 'web' has several servers '10.2.0.2:80': give a uuid instead (vm-1, vm-2)");
  ASSERT_TRUE(health.apply(d, std::vector<MarkRequest>{{"web", "vm-2", false, "off"}}));
  EXPECT_TRUE(state_of(health, d, 0).up);
  EXPECT_FALSE(state_of(health, d, 1).up);

  // What is kept over a restart names the same server.
  Health again;
  ASSERT_TRUE(again.apply(d, health.marks(d)));
  EXPECT_TRUE(state_of(again, d, 0).up);
  EXPECT_EQ(state_of(again, d, 1), (State{false, Source::kApi, "off"}));
}

// One virtual machine with servers on several ports has one external_uuid for them.
TEST(Health, UuidOfSeveralServersNeedsThePort) {
  config::Document d = web();
  d.pools[0].servers[1].external_uuid = "vm-3";
  d.pools[0].servers[2].external_uuid = "vm-3";
  Health health;
  const auto refused = health.apply(d, std::vector<MarkRequest>{{"web", "vm-3", false, ""}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors()[0].message,
            "pool 'web' has several servers 'vm-3': add the port (10.2.0.3:443, 10.2.0.3:80)");
}

// use_service_port: the server has no port of its own.
TEST(Health, ServerOnTheClientsPortIsNamedWithAStar) {
  const auto d =
      document(R"({"name": "web", "use_service_port": true, )" + servers({kTwo, kSix}) + "}");
  EXPECT_EQ(server_name(d.pools[0].servers[0]), "10.2.0.2:*");
  EXPECT_EQ(server_name(d.pools[0].servers[1]), "[fd00:2::6]:*");
  for (const char* name : {"10.2.0.2:*", "10.2.0.2", "10.2.0.2:0"}) {
    Health health;
    const auto changed = health.apply(d, std::vector<MarkRequest>{{"web", name, false, ""}});
    ASSERT_TRUE(changed) << name;
    EXPECT_EQ(changed.value()[0].server, "10.2.0.2:*");
    EXPECT_FALSE(state_of(health, d, 0).up);
  }
  Health health;
  ASSERT_TRUE(health.apply(d, std::vector<MarkRequest>{{"web", "[FD00:2:0::6]:*", false, ""}}));
  EXPECT_FALSE(state_of(health, d, 1).up);
  EXPECT_FALSE(health.apply(d, std::vector<MarkRequest>{{"web", "10.2.0.2:80", false, ""}}));
  EXPECT_FALSE(health.apply(web(), std::vector<MarkRequest>{{"web", "10.2.0.2:*", false, ""}}));
}

// The port of a name has one spelling.
TEST(Health, PortWithALeadingZeroIsNoServersName) {
  Health health;
  EXPECT_FALSE(health.apply(web(), std::vector<MarkRequest>{{"web", "10.2.0.2:080", false, ""}}));
}

// What was kept over a restart may name what the document has no more.
TEST(Health, KnownMarksAreThoseOfServersThatAreThere) {
  const auto left = known(web(), {{"web", "10.2.0.9:80", false, ""},
                                  {"web", "10.2.0.2:80", false, "a"},
                                  {"wob", "10.2.0.2:80", false, ""},
                                  {"web", "10.2.0.3", false, ""},
                                  {"pool-1", "10.2.0.3:443", false, "b"}});
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(left[0].reason, "a");
  EXPECT_EQ(left[1].reason, "b");
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
