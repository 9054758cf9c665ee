// Which virtual services are served, with which pools, and the one reason of those that are not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Paths = std::vector<std::string>;

const VirtualService& served_vs(const Parsed& p) {
  return p.document.virtual_services.front();
}

TEST(Served, EveryFieldThatWouldSendClientsElsewhereIsNamed) {
  struct Row {
    const char* field;
    const char* value;
    const char* word;
  };
  const Row rows[] = {
      {"/VirtualService/0/l4_policies", R"([{"index": 0, "l4_policy_set_ref": "/api/x"}])", "L4"},
      {"/VirtualService/0/topology_policies", R"([{"index": 11}])", "topology"},
      {"/VirtualService/0/dns_policies", R"([{"index": 11}])", "DNS"},
      {"/VirtualService/0/traffic_clone_profile_ref", R"("/api/trafficcloneprofile/?name=t")",
       "traffic_clone"},
      {"/VirtualService/0/sideband_profile", R"({"ip": [{"addr": "10.0.0.1"}]})", "sideband"},
      {"/VirtualService/0/sp_pool_refs", R"(["/api/pool/?name=x"])", "GSLB"},
      {"/VirtualService/0/performance_limits", R"({"max_concurrent_connections": 200})",
       "performance_limits"},
      {"/VirtualService/0/connections_rate_limit", R"({"count": 10, "period": 1})", "rate"},
      {"/VirtualService/0/requests_rate_limit", R"({"count": 10, "period": 1})", "rate"},
      {"/VirtualService/0/max_cps_per_client", "20", "max_cps_per_client"},
      {"/VirtualService/0/limit_doser", "true", "limit_doser"},
      {"/VirtualService/0/nsx_securitygroup", R"(["g"])", "nsx_securitygroup"},
      {"/VirtualService/0/security_policy_ref", R"("/api/securitypolicy/?name=s")", "security"},
      {"/VirtualService/0/use_bridge_ip_as_vip", "true", "bridge"},
      {"/VirtualService/0/pool_group_ref", R"("/api/poolgroup/?name=g")", "pool groups"},
      {"/VirtualService/0/service_pool_select",
       R"([{"service_port": 80, "service_pool_group_ref": "/api/poolgroup/?name=g"}])",
       "pool groups"},
      {"/Pool/0/nsx_securitygroup", R"(["g"])", "nsx_securitygroup"},
      {"/Pool/0/apic_epg_name", R"("epg")", "apic_epg_name"},
      {"/Pool/0/ab_pool", R"({"pool_ref": "/api/pool/?name=b", "ratio": 10})", "A/B"},
      {"/Pool/0/fail_action", R"({"type": "FAIL_ACTION_BACKUP_POOL",
          "backup_pool": {"backup_pool_ref": "/api/pool/?name=b"}})",
       "backup pools"},
      {"/Pool/0/gslb_sp_enabled", "true", "GSLB"},
      {"/Pool/0/routing_pool", "true", "routing pools"},
      {"/Pool/0/max_conn_rate_per_server", R"({"rate_limiter": {"count": 10}})", "rate"},
      {"/NetworkProfile/0/profile/tcp_fast_path_profile",
       R"({"dsr_profile": {"dsr_type": "DSR_TYPE_L3"}})", "direct server return"},
      {"/ApplicationProfile/0/preserve_dest_ip_port", "true", "preserve_dest_ip_port"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.field);
    const Parsed p = parsed(with(sample_document(), row.field, row.value));
    EXPECT_FALSE(served_vs(p).served);
    EXPECT_THAT(served_vs(p).why_not, HasSubstr(row.word));
    EXPECT_EQ(p.warnings.size(), 1u);
    EXPECT_THAT(p.warnings[0].message, HasSubstr("virtual service \"vs\" is not served: "));
  }
}

// Exports write out what was never set.
TEST(Served, AFieldThatAsksForNothingIsNoReason) {
  auto json = sample_document();
  at(json, "/VirtualService/0/limit_doser") = false;
  at(json, "/VirtualService/0/max_cps_per_client") = 0;
  at(json, "/VirtualService/0/performance_limits") = {{"max_concurrent_connections", 0}};
  at(json, "/VirtualService/0/l4_policies") = JsonValue::array();
  at(json, "/VirtualService/0/pool_group_ref") = "";
  at(json, "/VirtualService/0/use_bridge_ip_as_vip") = "false";
  at(json, "/VirtualService/0/service_pool_select") = JsonValue::array();
  at(json, "/VirtualService/0/type") = "VS_TYPE_NORMAL";
  at(json, "/Pool/0/nsx_securitygroup") = JsonValue::array();
  at(json, "/Pool/0/fail_action") = {{"type", "FAIL_ACTION_CLOSE_CONN"}};
  at(json, "/Pool/0/gslb_sp_enabled") = false;
  at(json, "/Pool/0/ipaddrgroup_ref") = nullptr;
  const Parsed p = parsed(json);
  EXPECT_TRUE(served_vs(p).served);
  EXPECT_TRUE(p.warnings.empty());
}

TEST(Served, AGroupThatIsFoundElsewhereIsNamed) {
  auto json = sample_document();
  json["IpAddrGroup"] = {{{"name", "g"}, {"country_codes", {"NZ"}}}};
  at(json, "/Pool/0/ipaddrgroup_ref") = "/api/ipaddrgroup/?name=g";
  EXPECT_THAT(served_vs(parsed(json)).why_not, HasSubstr("country codes"));
}

TEST(Served, OfSeveralReasonsTheMostTellingIsToldOnce) {
  auto json = sample_document();
  at(json, "/VirtualService/0").erase("pool_ref");
  at(json, "/VirtualService/0/l4_policies") = {{{"index", 0}}};
  Parsed p = parsed(json);
  EXPECT_EQ(paths_of(p.warnings), Paths{"/VirtualService/0/l4_policies"});
  // What kind of service it is comes before its policies,
  at(json, "/VirtualService/0/application_profile_ref") =
      "/api/applicationprofile/?name=System-HTTP";
  at(json, "/VirtualService/0/network_profile_ref") = "/api/networkprofile/?name=System-TCP-Proxy";
  at(json, "/VirtualService/0/services/0/enable_ssl") = true;
  p = parsed(json);
  EXPECT_EQ(paths_of(p.warnings), Paths{"/VirtualService/0/application_profile_ref"});
  EXPECT_THAT(served_vs(p).why_not, HasSubstr("HTTP"));
  // and what an operator wants before everything.
  at(json, "/VirtualService/0/enabled") = false;
  p = parsed(json);
  EXPECT_TRUE(p.warnings.empty());
  EXPECT_EQ(served_vs(p).why_not, "disabled");
}

TEST(Served, WhenAllServicesOverrideAProfileItsTypeDoesNotMatter) {
  auto json = sample_document();
  at(json, "/VirtualService/0").erase("application_profile_ref");
  EXPECT_FALSE(served_vs(parsed(json)).served);
  at(json, "/VirtualService/0/services/0/override_application_profile_ref") =
      "/api/applicationprofile/?name=l4";
  EXPECT_TRUE(served_vs(parsed(json)).served);
}

TEST(Served, AddressesToBeSeenAsAreAWarningOnly) {
  auto json = sample_document();
  at(json, "/VirtualService/0/snat_ip") = {{{"addr", "10.1.0.7"}, {"type", "V4"}}};
  const Parsed p = parsed(json);
  EXPECT_TRUE(served_vs(p).served);
  EXPECT_EQ(paths_of(p.warnings), Paths{"/VirtualService/0/snat_ip"});
}

// ---- pools of services

using Part = std::tuple<int, int, Protocol, std::string>;

std::vector<Part> parts(const JsonValue& json) {
  const Parsed p = parsed(json);
  std::vector<Part> out;
  for (const Service& s : served_vs(p).services) {
    out.emplace_back(s.first_port, s.last_port, s.protocol, p.document.pools[s.pool->value].name);
  }
  return out;
}

JsonValue with_selectors(const char* services, const char* selectors) {
  auto json = sample_document();
  at(json, "/Pool/1") = at(json, "/Pool/0");
  at(json, "/Pool/1/name") = "a";
  at(json, "/Pool/2") = at(json, "/Pool/0");
  at(json, "/Pool/2/name") = "b";
  at(json, "/VirtualService/0/services") = JsonValue::parse(services);
  at(json, "/VirtualService/0/service_pool_select") = JsonValue::parse(selectors);
  return json;
}

constexpr Protocol kTcp = Protocol::kTcp;
constexpr Protocol kUdp = Protocol::kUdp;

TEST(ServicePools, APortGoesToThePoolThatIsSelectedForIt) {
  EXPECT_THAT(parts(with_selectors(R"([{"port": 80}, {"port": 443}])",
                                   R"([{"service_port": 443,
                                        "service_pool_ref": "/api/pool/?name=a"}])")),
              ElementsAre(Part(80, 80, kTcp, "pool"), Part(443, 443, kTcp, "a")));
}

TEST(ServicePools, ARangeIsCutWhereSelectorsBeginAndEnd) {
  EXPECT_THAT(
      parts(with_selectors(R"([{"port": 100, "port_range_end": 200}])",
                           R"([{"service_port": 150, "service_pool_ref": "/api/pool/?name=a"},
              {"service_port": 90, "service_port_range_end": 110,
               "service_pool_ref": "/api/pool/?name=b"},
              {"service_port": 151, "service_port_range_end": 160,
               "service_pool_ref": "/api/pool/?name=b"},
              {"service_port": 200, "service_port_range_end": 65535,
               "service_pool_ref": "/api/pool/?name=a"}])")),
      ElementsAre(Part(100, 110, kTcp, "b"), Part(111, 149, kTcp, "pool"),
                  Part(150, 150, kTcp, "a"), Part(151, 160, kTcp, "b"),
                  Part(161, 199, kTcp, "pool"), Part(200, 200, kTcp, "a")));
}

TEST(ServicePools, ASelectorMayBeForOneProtocol) {
  const char* const services = R"([{"port": 53},
      {"port": 53, "override_network_profile_ref": "/api/networkprofile/?name=udp"}])";
  EXPECT_THAT(parts(with_selectors(services, R"([{"service_port": 53,
          "service_protocol": "PROTOCOL_TYPE_UDP_FAST_PATH",
          "service_pool_ref": "/api/pool/?name=a"}])")),
              ElementsAre(Part(53, 53, kTcp, "pool"), Part(53, 53, kUdp, "a")));
  EXPECT_THAT(parts(with_selectors(
                  services, R"([{"service_port": 53, "service_pool_ref": "/api/pool/?name=a"}])")),
              ElementsAre(Part(53, 53, kTcp, "a"), Part(53, 53, kUdp, "a")));
}

TEST(ServicePools, WhenEveryPortHasAPoolNoOtherIsNeeded) {
  auto json = with_selectors(R"([{"port": 80}])",
                             R"([{"service_port": 80, "service_pool_ref": "/api/pool/?name=a"}])");
  at(json, "/VirtualService/0").erase("pool_ref");
  const Parsed p = parsed(json);
  EXPECT_TRUE(served_vs(p).served);
  EXPECT_EQ(served_vs(p).pool, PoolIndex(1));
  at(json, "/VirtualService/0/services/1") = {{"port", 81}};
  EXPECT_THAT(served_vs(parsed(json)).why_not, HasSubstr("port 81 has no pool"));
}

TEST(ServicePools, EachPoolIsListedOnceTheVirtualServicesOwnFirst) {
  const Parsed p =
      parsed(with_selectors(R"([{"port": 80}, {"port": 81}, {"port": 82}])",
                            R"([{"service_port": 80, "service_pool_ref": "/api/pool/?name=b"},
          {"service_port": 82, "service_pool_ref": "/api/pool/?name=b"}])"));
  EXPECT_THAT(p.document.pools_of(served_vs(p)), ElementsAre(PoolIndex(0), PoolIndex(2)));
}

TEST(ServicePools, ASelectorForNoServiceIsAWarning) {
  const Parsed p = parsed(with_selectors(
      R"([{"port": 80}])", R"([{"service_port": 81, "service_pool_ref": "/api/pool/?name=a"}])"));
  EXPECT_TRUE(served_vs(p).served);
  EXPECT_EQ(paths_of(p.warnings), Paths{"/VirtualService/0/service_pool_select/0"});
}

TEST(ServicePools, TheSelectedPoolIsCheckedLikeTheOther) {
  auto json = with_selectors(R"([{"port": 80}])",
                             R"([{"service_port": 80, "service_pool_ref": "/api/pool/?name=a"}])");
  EXPECT_THAT(served_vs(parsed(with(json, "/Pool/1/nsx_securitygroup", R"(["g"])"))).why_not,
              HasSubstr("nsx_securitygroup"));
  EXPECT_EQ(error_paths(parse_document(with(json, "/Pool/1/servers/0/ratio", "99").dump())),
            Paths{"/Pool/1/servers/0/ratio"});
  at(json, "/ApplicationPersistenceProfile/1") = {
      {"name", "cookie"}, {"persistence_type", "PERSISTENCE_TYPE_HTTP_COOKIE"}};
  at(json, "/Pool/1/application_persistence_profile_ref") =
      "/api/applicationpersistenceprofile/?name=cookie";
  EXPECT_FALSE(parse_document(json.dump()).ok());
}

}  // namespace
}  // namespace limpet::config
