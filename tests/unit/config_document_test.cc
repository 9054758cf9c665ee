// What a right document says: defaults, references, what is tolerated, what is not served.
#include <gtest/gtest.h>

#include <chrono>

#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

const VirtualService& first_vs(const Parsed& p) {
  return p.document.virtual_services.front();
}

TEST(Document, AnEmptyDocumentHasTheSystemObjectsOnly) {
  const Parsed p = parsed(std::string("{}"));
  EXPECT_TRUE(p.document.pools.empty());
  EXPECT_TRUE(p.document.virtual_services.empty());
  EXPECT_EQ(p.document.profiles.size(), 5u);
  EXPECT_EQ(p.document.network_profiles.size(), 6u);
  EXPECT_TRUE(p.warnings.empty());
  EXPECT_FALSE(p.generation);
}

TEST(Document, TheMinimalDocumentIsServed) {
  const std::string text = read_document_file("minimal.json");
  const Parsed p = parsed(text);
  EXPECT_EQ(p.text, text);
  EXPECT_TRUE(p.warnings.empty());
  const VirtualService& vs = first_vs(p);
  EXPECT_TRUE(vs.served);
  EXPECT_EQ(vs.vips, std::vector{*net::Address::parse("10.1.0.100")});
  ASSERT_EQ(vs.services.size(), 1u);
  EXPECT_EQ(vs.services[0].first_port, 80);
  EXPECT_EQ(vs.services[0].last_port, 80);
  EXPECT_EQ(vs.services[0].protocol, Protocol::kTcp);
  EXPECT_FALSE(p.document.preserves_client(vs.services[0]));
  const Pool& pool = p.document.pools[vs.pool->value];
  EXPECT_EQ(pool.algorithm, Algorithm::kRoundRobin);
  EXPECT_EQ(pool.servers[1].address, *net::Address::parse("10.2.0.3"));
  EXPECT_EQ(pool.servers[1].port, 80);
  const Profile* profile = p.document.profile_of(pool);
  ASSERT_NE(profile, nullptr);
  EXPECT_EQ(profile->name, "sticky");
  EXPECT_EQ(profile->timeout, minutes(5));
}

TEST(Document, DefaultsOfAPersistenceProfileAreAvis) {
  const Parsed p = parsed(std::string(R"({"ApplicationPersistenceProfile": [{"name": "p"}]})"));
  const Profile& profile = p.document.profiles.front();
  EXPECT_EQ(profile.type, PersistenceType::kClientIp);
  EXPECT_EQ(profile.timeout, minutes(5));
  EXPECT_FALSE(profile.ip_mask);
  EXPECT_EQ(profile.down, Recovery::kPickNew);
  EXPECT_EQ(profile.at_limit, Recovery::kPickNew);
  EXPECT_FALSE(profile.draining);
  EXPECT_FALSE(profile.return_home);
  EXPECT_TRUE(profile.purge);
  EXPECT_FALSE(profile.shared);
  EXPECT_TRUE(profile.mirrored);
  EXPECT_FALSE(profile.update_interval);
}

TEST(Document, DefaultsOfAPoolAndItsServersAreAvis) {
  const Parsed p = parsed(
      std::string(R"({"Pool": [{"name": "p", "servers": [{"ip": {"addr": "10.0.0.1"}}]}]})"));
  const Pool& pool = p.document.pools.front();
  EXPECT_EQ(pool.algorithm, Algorithm::kLeastConnections);
  EXPECT_EQ(pool.hash_input, HashInput::kSourceAddress);
  EXPECT_FALSE(pool.profile);
  EXPECT_TRUE(pool.enabled);
  EXPECT_FALSE(pool.use_service_port);
  EXPECT_FALSE(pool.draining_serves_persisted);
  EXPECT_EQ(pool.connections_per_server_max, 0u);
  EXPECT_EQ(pool.graceful_disable_timeout, minutes(1));
  EXPECT_EQ(pool.servers[0].port, 80);
  EXPECT_EQ(pool.servers[0].ratio, 1);
  EXPECT_TRUE(pool.servers[0].enabled);
  EXPECT_EQ(pool.tenant, "admin");
}

TEST(Document, DefaultsOfTrafficProfilesAreAvis) {
  const Parsed p = parsed(std::string(R"({
    "NetworkProfile": [{"name": "t", "profile": {"type": "PROTOCOL_TYPE_TCP_FAST_PATH"}},
                       {"name": "u", "profile": {"type": "PROTOCOL_TYPE_UDP_FAST_PATH"}}],
    "HealthMonitor": [{"name": "h", "type": "HEALTH_MONITOR_TCP"}]})"));
  EXPECT_EQ(p.document.network_profiles[0].session_idle_timeout, seconds(300));
  EXPECT_EQ(p.document.network_profiles[1].session_idle_timeout, seconds(10));
  EXPECT_TRUE(p.document.network_profiles[1].snat);
  EXPECT_FALSE(p.document.network_profiles[1].per_packet);
  EXPECT_EQ(p.document.health_monitors[0].send_interval, seconds(10));
  EXPECT_EQ(p.document.health_monitors[0].receive_timeout, seconds(4));
  EXPECT_EQ(p.document.health_monitors[0].successful_checks, 2u);
}

TEST(Document, AVirtualServiceWithoutProfilesIsHttpOverTcpProxy) {
  auto json = sample_document();
  at(json, "/VirtualService/0").erase("application_profile_ref");
  at(json, "/VirtualService/0").erase("network_profile_ref");
  at(json, "/VirtualService/0").erase("se_group_ref");
  const Parsed p = parsed(json);
  const VirtualService& vs = first_vs(p);
  EXPECT_EQ(p.document.network_profiles[vs.network_profile.value].name, "System-TCP-Proxy");
  EXPECT_EQ(p.document.application_profiles[vs.application_profile.value].name, "System-HTTP");
  EXPECT_EQ(p.document.groups[vs.group.value].name, "Default-Group");
  EXPECT_TRUE(vs.autogw);
  EXPECT_FALSE(vs.served);
  EXPECT_EQ(p.warnings.size(), 1u) << "the most telling reason, once";
  EXPECT_NE(warning_at(p.warnings, "/VirtualService/0/application_profile_ref").find("HTTP"),
            std::string::npos);
}

TEST(Document, AWrittenSystemObjectTakesThePlaceOfTheBuiltIn) {
  auto json = sample_document();
  at(json, "/NetworkProfile/2") = JsonValue::parse(
      R"({"name": "System-TCP-Fast-Path", "profile": {"type": "PROTOCOL_TYPE_TCP_FAST_PATH",
          "tcp_fast_path_profile": {"session_idle_timeout": 77}}})");
  at(json, "/VirtualService/0/network_profile_ref") =
      "/api/networkprofile/?name=System-TCP-Fast-Path";
  const Parsed p = parsed(json);
  EXPECT_EQ(p.document.network_profile_of(first_vs(p).services[0]).session_idle_timeout,
            seconds(77));
}

TEST(Document, EverySystemObjectCanBeReferredTo) {
  for (const char* name : {"System-TCP-Fast-Path", "System-UDP-Fast-Path", "System-UDP-Per-Pkt",
                           "System-UDP-No-SNAT", "System-TCP-Proxy", "System-UDP-Fast-Path-VDI"}) {
    auto json = sample_document();
    at(json, "/VirtualService/0/network_profile_ref") =
        std::string("/api/networkprofile/?name=") + name;
    EXPECT_TRUE(parse_document(json.dump()).ok()) << name;
  }
  const Parsed p = parsed(with(sample_document(), "/VirtualService/0/network_profile_ref",
                               R"("/api/networkprofile/?name=System-UDP-No-SNAT")"));
  EXPECT_TRUE(p.document.preserves_client(first_vs(p).services[0]));
  const Parsed q = parsed(with(sample_document(), "/VirtualService/0/network_profile_ref",
                               R"("/api/networkprofile/?name=System-UDP-Per-Pkt")"));
  EXPECT_TRUE(q.document.network_profile_of(first_vs(q).services[0]).per_packet);
}

TEST(Document, IntegersAndBooleansMayBeStrings) {
  auto json = sample_document();
  at(json, "/ApplicationPersistenceProfile/0/ip_persistence_profile/ip_persistent_timeout") = "720";
  at(json, "/Pool/0/default_server_port") = "8080";
  at(json, "/Pool/0/graceful_disable_timeout") = "-1";
  at(json, "/Pool/0/servers/0/enabled") = "false";
  at(json, "/VirtualService/0/services/0/port") = "443";
  at(json, "/generation") = "12";
  const Parsed p = parsed(json);
  EXPECT_EQ(p.document.profiles[0].timeout, minutes(720));
  EXPECT_EQ(p.document.pools[0].servers[0].port, 8080);
  EXPECT_FALSE(p.document.pools[0].servers[0].enabled);
  EXPECT_FALSE(p.document.pools[0].graceful_disable_timeout);
  EXPECT_EQ(first_vs(p).services[0].first_port, 443);
  EXPECT_EQ(p.generation, 12u);
}

TEST(Document, NullMeansAbsent) {
  const Parsed p = parsed(with(sample_document(), "/Pool/0/lb_algorithm", "null"));
  EXPECT_EQ(p.document.pools[0].algorithm, Algorithm::kLeastConnections);
}

TEST(Document, TimeoutsInSecondsStandInsteadOfMinutes) {
  const Parsed p =
      parsed(with(sample_document(), "/ApplicationPersistenceProfile/0/ip_persistence_profile",
                  R"({"timeout_seconds": 45})"));
  EXPECT_EQ(p.document.profiles[0].timeout, seconds(45));
}

TEST(Document, ATimeoutOfZeroIsKept) {
  const Parsed p =
      parsed(with(sample_document(), "/ApplicationPersistenceProfile/0/ip_persistence_profile",
                  R"({"ip_persistent_timeout": 0})"));
  EXPECT_EQ(p.document.profiles[0].timeout, seconds(0));
}

TEST(Document, TheRecoveryPolicyAppliesToDownAndLimitUnlessSaidApart) {
  auto json = sample_document();
  at(json, "/ApplicationPersistenceProfile/0/server_hm_down_recovery") =
      "HM_DOWN_CONTINUE_PERSISTENT_SERVER";
  Parsed p = parsed(json);
  EXPECT_EQ(p.document.profiles[0].down, Recovery::kContinue);
  EXPECT_EQ(p.document.profiles[0].at_limit, Recovery::kContinue);
  EXPECT_FALSE(p.document.profiles[0].draining);

  at(json, "/ApplicationPersistenceProfile/0/server_recovery") = JsonValue::parse(
      R"({"at_limit": "HM_DOWN_ABORT_CONNECTION", "draining": "HM_DOWN_PICK_NEW_SERVER",
          "return_home": true})");
  p = parsed(json);
  EXPECT_EQ(p.document.profiles[0].down, Recovery::kContinue);
  EXPECT_EQ(p.document.profiles[0].at_limit, Recovery::kAbort);
  EXPECT_EQ(p.document.profiles[0].draining, Recovery::kPickNew);
  EXPECT_TRUE(p.document.profiles[0].return_home);
}

TEST(Document, ClientIpv6PersistenceIsClientIp) {
  const Parsed p =
      parsed(with(sample_document(), "/ApplicationPersistenceProfile/0/persistence_type",
                  R"("PERSISTENCE_TYPE_CLIENT_IPV6_ADDRESS")"));
  EXPECT_EQ(p.document.profiles[0].type, PersistenceType::kClientIp);
  EXPECT_STREQ(to_string(p.document.profiles[0].type), "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS");
  EXPECT_TRUE(first_vs(p).served);
}

TEST(Document, AMaskOfZeroIsAWarning) {
  const std::string path = "/ApplicationPersistenceProfile/0/ip_persistence_profile/ip_mask";
  const Parsed p = parsed(with(sample_document(), path, "0"));
  EXPECT_EQ(p.document.profiles[0].ip_mask, 0);
  EXPECT_FALSE(warning_at(p.warnings, path).empty());
  EXPECT_TRUE(parsed(with(sample_document(), path, "64")).warnings.empty());
}

TEST(Document, SubProfilesOfOtherTypesAreNotRead) {
  const Parsed p = parsed(with(sample_document(),
                               "/ApplicationPersistenceProfile/0/app_cookie_persistence_profile",
                               R"({"timeout": "0"})"));
  EXPECT_TRUE(p.warnings.empty());
}

TEST(Document, NsxProfilesAreReadWithTheirOwnDefaults) {
  const Parsed p = parsed(read_document_file("nsx.json"));
  EXPECT_TRUE(p.warnings.empty());
  EXPECT_EQ(p.generation, 7u);
  const Profile* shared = p.document.profile_of(p.document.pools[0]);
  ASSERT_NE(shared, nullptr);
  EXPECT_EQ(shared->name, "source-ip-shared");
  EXPECT_EQ(shared->model, "LBSourceIpPersistenceProfile");
  EXPECT_EQ(shared->timeout, seconds(120));
  EXPECT_TRUE(shared->shared);
  EXPECT_FALSE(shared->purge);
  EXPECT_TRUE(shared->mirrored);
  const Profile* named = p.document.profile_of(p.document.pools[1]);
  ASSERT_NE(named, nullptr);
  EXPECT_EQ(named->name, "by display name");
  EXPECT_EQ(named->timeout, seconds(300));
  EXPECT_FALSE(named->mirrored);
  EXPECT_TRUE(named->purge);
  for (const VirtualService& vs : p.document.virtual_services) EXPECT_TRUE(vs.served) << vs.name;
}

TEST(Document, AnAviExportIsAcceptedAndWhatItLacksIsNamed) {
  const Parsed p = parsed(read_document_file("avi_export.json"));
  const Document& d = p.document;
  ASSERT_EQ(d.virtual_services.size(), 4u);
  EXPECT_TRUE(d.virtual_services[0].served);
  EXPECT_EQ(d.virtual_services[0].vips.size(), 2u);
  EXPECT_EQ(d.virtual_services[0].tenant, "shop");
  EXPECT_TRUE(d.preserves_client(d.virtual_services[0].services[0]));
  EXPECT_EQ(d.virtual_services[0].services[1].last_port, 8999);
  EXPECT_EQ(d.virtual_services[0].services[2].protocol, Protocol::kUdp);
  EXPECT_EQ(d.network_profile_of(d.virtual_services[0].services[0]).session_idle_timeout,
            seconds(14400));
  EXPECT_FALSE(d.virtual_services[1].served);
  EXPECT_FALSE(d.virtual_services[2].served);
  EXPECT_FALSE(d.virtual_services[3].served);
  EXPECT_EQ(d.virtual_services[3].why_not, "disabled");
  EXPECT_EQ(d.profile_of(d.pools[0])->ip_mask, 24);
  EXPECT_EQ(d.profile_of(d.pools[1])->timeout, minutes(10));
  EXPECT_NE(warning_at(p.warnings, "/VirtualService/2/pool_group_ref").find("pool groups"),
            std::string::npos);
  EXPECT_FALSE(warning_at(p.warnings, "/META").empty());
  EXPECT_FALSE(warning_at(p.warnings, "/PoolGroup").empty());
  EXPECT_FALSE(warning_at(p.warnings, "/Pool/0/health_monitor_refs").empty());
  EXPECT_FALSE(warning_at(p.warnings, "/Pool/0/servers/3/ip").empty());
}

TEST(Document, AnUnknownFieldIsOneWarningForAllObjectsOfAModel) {
  auto json = sample_document();
  at(json, "/Pool/0/sparkle") = 1;
  at(json, "/Pool/1") = {{"name", "b"}, {"sparkle", {{"deep", 1}}}};
  const Parsed p = parsed(json);
  ASSERT_EQ(p.warnings.size(), 1u);
  EXPECT_EQ(p.warnings[0].path, "/Pool/0/sparkle");
  EXPECT_NE(p.warnings[0].message.find("1 more"), std::string::npos);
}

TEST(Document, ReferencesOfAllFormsFindTheirObject) {
  const char* const forms[] = {
      "/api/pool/?name=my%20pool%2F1",
      "/api/pool/?name=my pool/1",
      "/api/pool?name=my+pool%2f1",
      "/api/pool?tenant=admin&name=my%20pool%2F1&cloud=Default-Cloud",
      "/api/pool/?name=my%20pool%2F1&tenant=admin&cloud=Default-Cloud",
      "https://10.0.0.1/api/pool/?name=my%20pool%2F1",
      "http://controller:8080/api/pool?name=my%20pool%2F1#my pool/1",
      "/api/pool/pool-1",
      "/api/pool/pool-1/",
      "https://controller/api/pool/pool-1#my pool/1",
      "/api/pool/not-known-here#my pool/1",
      "api/pool/pool-1",
      "pool-1",
      "/infra/lb-pools/pool-1",
      "/API/pool/pool-1",
  };
  for (const char* form : forms) {
    auto json = sample_document();
    at(json, "/Pool/0/name") = "my pool/1";
    at(json, "/Pool/0/uuid") = "pool-1";
    at(json, "/VirtualService/0/pool_ref") = form;
    const auto result = parse_document(json.dump());
    EXPECT_TRUE(result.ok()) << form;
  }
}

TEST(Document, ANameWithAHashOrAPlusIsFoundAsItIs) {
  for (const char* name : {"a#b", "a+b", "100%", "%41"}) {
    auto json = sample_document();
    at(json, "/Pool/0/name") = name;
    at(json, "/VirtualService/0/pool_ref") = std::string("/api/pool/?name=") + name;
    EXPECT_TRUE(parse_document(json.dump()).ok()) << name;
  }
}

TEST(Document, ANameIsLookedUpInTheTenantOfTheReferrerThenInAdmin) {
  auto json = sample_document();
  at(json, "/Pool/1") = at(json, "/Pool/0");
  at(json, "/Pool/1/tenant_ref") = "/api/tenant/?name=shop";
  EXPECT_EQ(first_vs(parsed(json)).pool, PoolIndex(0));
  at(json, "/VirtualService/0/tenant_ref") = "https://c/api/tenant/tenant-1#shop";
  EXPECT_EQ(first_vs(parsed(json)).pool, PoolIndex(1));
  at(json, "/VirtualService/0/pool_ref") = "/api/pool/?name=pool&tenant=admin";
  EXPECT_EQ(first_vs(parsed(json)).pool, PoolIndex(0));
  at(json, "/VirtualService/0/pool_ref") = "/api/pool/?name=pool&tenant=none";
  EXPECT_FALSE(parse_document(json.dump()).ok());
}

TEST(Document, VipsMayBeWrittenInTheVirtualService) {
  auto json = sample_document();
  at(json, "/VirtualService/0").erase("vsvip_ref");
  at(json, "/VirtualService/0/vip") = JsonValue::parse(
      R"([{"vip_id": "0", "ip_address": {"addr": "10.9.0.1", "type": "V4"},
           "ip6_address": {"addr": "2001:db8::9", "type": "V6"}},
          {"vip_id": "1", "enabled": false, "ip_address": {"addr": "10.9.0.2", "type": "V4"}}])");
  const Parsed p = parsed(json);
  EXPECT_EQ(first_vs(p).vips,
            (std::vector{*net::Address::parse("10.9.0.1"), *net::Address::parse("2001:db8::9")}));
  at(json, "/VirtualService/0").erase("vip");
  at(json, "/VirtualService/0/ip_address") = {{"addr", "10.9.0.3"}, {"type", "V4"}};
  EXPECT_EQ(first_vs(parsed(json)).vips, std::vector{*net::Address::parse("10.9.0.3")});
}

TEST(Document, UseServicePortLeavesThePortToTheClient) {
  const Parsed p = parsed(with(sample_document(), "/Pool/0/use_service_port", "true"));
  EXPECT_EQ(p.document.pools[0].servers[0].port, 0);
}

TEST(Document, APortRangeMayBeginAtZero) {
  const Parsed p = parsed(with(sample_document(), "/VirtualService/0/services/0",
                               R"({"port": 0, "port_range_end": 65535})"));
  EXPECT_EQ(first_vs(p).services[0].first_port, 0);
  EXPECT_EQ(first_vs(p).services[0].last_port, 65535);
}

TEST(Document, AlgorithmsThatAreNotBuiltFallBackToLeastConnections) {
  struct Row {
    const char* algorithm;
    const char* hash;
    Algorithm expected;
    const char* warning;
  };
  const Row rows[] = {
      {"LB_ALGORITHM_ROUND_ROBIN", nullptr, Algorithm::kRoundRobin, nullptr},
      {"LB_ALGORITHM_RANDOM", nullptr, Algorithm::kRandom, nullptr},
      {"LB_ALGORITHM_CONSISTENT_HASH", nullptr, Algorithm::kConsistentHash, nullptr},
      {"LB_ALGORITHM_CONSISTENT_HASH", "LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT",
       Algorithm::kConsistentHash, nullptr},
      {"LB_ALGORITHM_CONSISTENT_HASH", "LB_ALGORITHM_CONSISTENT_HASH_URI",
       Algorithm::kLeastConnections, "/Pool/0/lb_algorithm_hash"},
      {"LB_ALGORITHM_FEWEST_SERVERS", nullptr, Algorithm::kLeastConnections,
       "/Pool/0/lb_algorithm"},
      {"LB_ALGORITHM_TOPOLOGY", nullptr, Algorithm::kLeastConnections, "/Pool/0/lb_algorithm"},
  };
  for (const Row& row : rows) {
    auto json = sample_document();
    at(json, "/Pool/0/lb_algorithm") = row.algorithm;
    if (row.hash != nullptr) at(json, "/Pool/0/lb_algorithm_hash") = row.hash;
    const Parsed p = parsed(json);
    EXPECT_EQ(p.document.pools[0].algorithm, row.expected) << row.algorithm;
    EXPECT_EQ(paths_of(p.warnings), row.warning == nullptr ? std::vector<std::string>{}
                                                           : std::vector<std::string>{row.warning});
    EXPECT_TRUE(first_vs(p).served);
  }
}

TEST(Document, ADnsServerIsAWarningAndHasNoAddress) {
  const Parsed p = parsed(with(sample_document(), "/Pool/0/servers/1/ip",
                               R"({"addr": "a.example.com", "type": "DNS"})"));
  EXPECT_TRUE(p.document.pools[0].servers[1].dns);
  EXPECT_EQ(p.document.pools[0].servers[1].hostname, "a.example.com");
  EXPECT_EQ(paths_of(p.warnings), std::vector<std::string>{"/Pool/0/servers/1/ip"});
  EXPECT_TRUE(first_vs(p).served);
}

TEST(Document, WhatIsNotBuiltIsAWarningThatNamesTheFeatureAndTheRestIsServed) {
  struct Row {
    const char* field;
    const char* value;
    const char* path;
    const char* word;
  };
  const Row rows[] = {
      {"/NetworkProfile/0/profile/type", R"("PROTOCOL_TYPE_TCP_PROXY")",
       "/VirtualService/0/network_profile_ref", "TCP proxy"},
      {"/NetworkProfile/0/profile/type", R"("PROTOCOL_TYPE_UDP_PROXY")",
       "/VirtualService/0/network_profile_ref", "UDP proxy"},
      {"/NetworkProfile/0/profile/type", R"("PROTOCOL_TYPE_SCTP_FAST_PATH")",
       "/VirtualService/0/network_profile_ref", "SCTP"},
      {"/ApplicationProfile/0/type", R"("APPLICATION_PROFILE_TYPE_HTTP")",
       "/VirtualService/0/application_profile_ref", "HTTP"},
      {"/ApplicationProfile/0/type", R"("APPLICATION_PROFILE_TYPE_SSL")",
       "/VirtualService/0/application_profile_ref", "SSL"},
      {"/ApplicationProfile/0/type", R"("APPLICATION_PROFILE_TYPE_DNS")",
       "/VirtualService/0/application_profile_ref", "DNS"},
      {"/ApplicationProfile/0/tcp_app_profile", R"({"proxy_protocol_enabled": true})",
       "/VirtualService/0/application_profile_ref", "PROXY"},
      {"/VirtualService/0/services/0/enable_ssl", "true", "/VirtualService/0/services/0/enable_ssl",
       "SSL"},
      {"/VirtualService/0/services/0/override_network_profile_ref",
       R"("/api/networkprofile/?name=System-TCP-Proxy")",
       "/VirtualService/0/services/0/override_network_profile_ref", "TCP proxy"},
      {"/VirtualService/0/type", R"("VS_TYPE_VH_PARENT")", "/VirtualService/0/type",
       "virtual hosting"},
      {"/VirtualService/0/http_policies", R"([{"index": 1}])", "/VirtualService/0/http_policies",
       "HTTP policies"},
      {"/VirtualService/0/l4_policies", R"([{"index": 1}])", "/VirtualService/0/l4_policies",
       "L4 policies"},
      {"/VirtualService/0/network_security_policy_ref", R"("/api/networksecuritypolicy/?name=x")",
       "/VirtualService/0/network_security_policy_ref", "network security"},
      {"/VirtualService/0/vs_datascripts",
       R"([{"index": 1, "vs_datascript_set_ref": "/api/vsdatascriptset/?name=System-Standard-MCP"}])",
       "/VirtualService/0/vs_datascripts", "DataScript"},
      {"/Pool/0/ssl_profile_ref", R"("/api/sslprofile/?name=System-Standard")",
       "/VirtualService/0/pool_ref", "TLS to servers"},
      {"/ApplicationPersistenceProfile/0/persistence_type", R"("PERSISTENCE_TYPE_APP_DIAMETER")",
       "/VirtualService/0/pool_ref", "APP_DIAMETER"},
      {"/VirtualService/0/services", "[]", "/VirtualService/0", "services"},
      {"/VirtualService/0/pool_ref", R"("")", "/VirtualService/0", "pool"},
      {"/VirtualService/0/vsvip_ref", R"("")", "/VirtualService/0", "VIP"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(std::string(row.field) + " = " + row.value);
    auto json = sample_document();
    at(json, "/VirtualService/1") = {
        {"name", "rest"},
        {"vip", {{{"ip_address", {{"addr", "10.1.0.9"}, {"type", "V4"}}}}}},
        {"services", {{{"port", 1}}}},
        {"pool_ref", "/api/pool/?name=rest"},
        {"application_profile_ref", "/api/applicationprofile/?name=System-L4-Application"},
        {"network_profile_ref", "/api/networkprofile/?name=System-TCP-Fast-Path"}};
    at(json, "/Pool/1") = {{"name", "rest"}};
    const Parsed p = parsed(with(json, row.field, row.value));
    const VirtualService& vs = first_vs(p);
    EXPECT_FALSE(vs.served);
    EXPECT_NE(vs.why_not.find(row.word), std::string::npos) << vs.why_not;
    const std::string warning = warning_at(p.warnings, row.path);
    EXPECT_NE(warning.find(row.word), std::string::npos) << warning;
    EXPECT_NE(warning.find("\"vs\""), std::string::npos) << warning;
    EXPECT_TRUE(p.document.virtual_services[1].served);
  }
}

TEST(Document, ADisabledVirtualServiceIsNotServedWithoutAWarning) {
  for (const char* field : {"enabled", "traffic_enabled"}) {
    const Parsed p =
        parsed(with(sample_document(), std::string("/VirtualService/0/") + field, "false"));
    EXPECT_FALSE(first_vs(p).served);
    EXPECT_NE(first_vs(p).why_not.find("disabled"), std::string::npos);
    EXPECT_TRUE(p.warnings.empty());
  }
}

TEST(Document, EnginesOfAGroupAreReadInTheirOrder) {
  const Parsed p =
      parsed(with(sample_document(), "/ServiceEngineGroup/0/engines", R"(["se1", "se2"])"));
  EXPECT_TRUE(p.warnings.empty());
  EXPECT_EQ(p.document.groups[0].engines, (std::vector<std::string>{"se1", "se2"}));
}

TEST(Document, FloatingAddressesOfAGroupAreRead) {
  const Parsed p = parsed(with(sample_document(), "/ServiceEngineGroup/0/floating_intf_ip",
                               R"([{"addr": "10.2.0.1", "type": "V4"}])"));
  EXPECT_EQ(p.document.groups[0].floating_addresses, std::vector{*net::Address::parse("10.2.0.1")});
}

}  // namespace
}  // namespace limpet::config
