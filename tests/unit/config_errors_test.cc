// Every field of a document set to something wrong: the answer is an error with the path of that
// field, and nothing else, when a served virtual service uses the field; else a warning there.
#include <gtest/gtest.h>

#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

using Paths = std::vector<std::string>;

// The sample, with every object of it in use by its virtual service, which is served.
JsonValue used_document() {
  auto json = sample_document();
  at(json, "/Pool/0/health_monitor_refs") = {"/api/healthmonitor/?name=hm"};
  at(json, "/VirtualService/0/services/1") = {
      {"port", 53}, {"override_network_profile_ref", "/api/networkprofile/?name=udp"}};
  return json;
}

void expect_each_document_is_refused(const std::vector<Wrong>& table) {
  for (const Wrong& wrong : table) {
    SCOPED_TRACE(std::string(wrong.field) + " = " + wrong.value);
    const Paths paths{wrong.error == nullptr ? wrong.field : wrong.error};
    const auto json = with(used_document(), wrong.field, wrong.value);
    const auto result = parse_document(json.dump());
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(error_paths(result), paths);
    EXPECT_FALSE(result.errors().front().message.empty());

    const auto unused =
        parse_document(with(json, "/VirtualService/0/l4_policies", R"([{"index": 1}])").dump());
    if (wrong.always) {
      EXPECT_EQ(error_paths(unused), paths);
      continue;
    }
    ASSERT_TRUE(unused.ok());
    EXPECT_FALSE(warning_at(unused.value().warnings, paths.front()).empty());
    EXPECT_FALSE(unused.value().document.virtual_services[0].served);
  }
}

TEST(DocumentErrors, TheSampleItselfIsRight) {
  EXPECT_TRUE(parse_document(sample_document().dump()).ok());
  const Parsed used = parsed(used_document());
  EXPECT_TRUE(used.document.virtual_services[0].served);
}

TEST(DocumentErrors, WrongFieldsOfPersistenceProfiles) {
  expect_each_document_is_refused({
      {"/LBGenericPersistenceProfile", "{}", nullptr, true},
      {"/ApplicationPersistenceProfile/1", "5", nullptr, true},
      {"/ApplicationPersistenceProfile/1", "{}", "/ApplicationPersistenceProfile/1/name", true},
      {"/ApplicationPersistenceProfile/1", R"({"name": ""})",
       "/ApplicationPersistenceProfile/1/name", true},
      {"/ApplicationPersistenceProfile/1", R"({"name": "a\u0007b"})",
       "/ApplicationPersistenceProfile/1/name", true},
      {"/ApplicationPersistenceProfile/1", R"({"name": "sticky"})", nullptr, true},
      {"/ApplicationPersistenceProfile/0/uuid", "1", nullptr, true},
      {"/ApplicationPersistenceProfile/0/persistence_type", R"("PERSISTENCE_TYPE_MAGIC")", nullptr},
      {"/ApplicationPersistenceProfile/0/persistence_type", "3", nullptr},
      {"/ApplicationPersistenceProfile/0/server_hm_down_recovery", R"("PICK")", nullptr},
      {"/ApplicationPersistenceProfile/0/purge", R"("SOME")", nullptr},
      {"/ApplicationPersistenceProfile/0/persistence_shared", R"("maybe")", nullptr},
      {"/ApplicationPersistenceProfile/0/persistence_shared", "1", nullptr},
      {"/ApplicationPersistenceProfile/0/ha_persistence_mirroring_enabled", "[]", nullptr},
      {"/ApplicationPersistenceProfile/0/persistence_update_interval", "0", nullptr},
      {"/ApplicationPersistenceProfile/0/persistence_update_interval", "31", nullptr},
      {"/ApplicationPersistenceProfile/0/server_recovery", "true", nullptr},
      {"/ApplicationPersistenceProfile/0/server_recovery/down", R"("x")", nullptr},
      {"/ApplicationPersistenceProfile/0/server_recovery/at_limit", R"("x")", nullptr},
      {"/ApplicationPersistenceProfile/0/server_recovery/draining", R"("x")", nullptr},
      {"/ApplicationPersistenceProfile/0/server_recovery/return_home", "7", nullptr},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile", "[]", nullptr},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile/ip_persistent_timeout", "-1",
       nullptr},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile/ip_persistent_timeout", "43201",
       nullptr},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile/ip_persistent_timeout", "1.5",
       nullptr},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile/ip_persistent_timeout",
       "99999999999999999999", nullptr},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile/ip_persistent_timeout",
       R"("5 min")", nullptr},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile/ip_mask", "129", nullptr},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile/ip_mask", "-1", nullptr},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile", R"({"timeout_seconds": 2592001})",
       "/ApplicationPersistenceProfile/0/ip_persistence_profile/timeout_seconds"},
      {"/ApplicationPersistenceProfile/0/ip_persistence_profile/timeout_seconds", "10", nullptr},
  });
}

// Types whose virtual services are not served yet: what is wrong in them is a warning.
TEST(DocumentErrors, WrongTimeoutsOfOtherPersistenceTypesAreWarnings) {
  struct Row {
    const char* type;
    const char* sub_profile;
    int timeout;
  };
  for (const Row& row : {Row{"HTTP_COOKIE", "http_cookie_persistence_profile", 14401},
                         Row{"APP_COOKIE", "app_cookie_persistence_profile", 0},
                         Row{"APP_COOKIE", "app_cookie_persistence_profile", 721}}) {
    auto json = sample_document();
    const std::string path = "/ApplicationPersistenceProfile/1";
    at(json, path) = {{"name", "other"},
                      {"persistence_type", std::string("PERSISTENCE_TYPE_") + row.type},
                      {row.sub_profile, {{"timeout", row.timeout}}}};
    const Parsed p = parsed(json);
    EXPECT_EQ(paths_of(p.warnings), Paths{path + "/" + row.sub_profile + "/timeout"});
  }
}

TEST(DocumentErrors, WrongFieldsOfNsxProfiles) {
  auto nsx = [](const char* model, const char* object) {
    auto json = sample_document();
    json[model] = JsonValue::array({JsonValue::parse(object)});
    at(json, "/Pool/0/application_persistence_profile_ref") = "/infra/lb-persistence-profiles/x";
    return error_paths(parse_document(json.dump()));
  };
  const char* ip = "LBSourceIpPersistenceProfile";
  EXPECT_EQ(nsx(ip, R"({"id": "x", "timeout": -1})"),
            Paths{"/LBSourceIpPersistenceProfile/0/timeout"});
  EXPECT_EQ(nsx(ip, R"({"id": "x", "purge": "full"})"),
            Paths{"/LBSourceIpPersistenceProfile/0/purge"});
  auto json = sample_document();
  json[ip] = JsonValue::array({{{"timeout", 10}}});
  EXPECT_EQ(error_paths(parse_document(json.dump())),
            Paths{"/LBSourceIpPersistenceProfile/0/display_name"});
}

TEST(DocumentErrors, WrongFieldsOfNsxProfilesThatNothingUsesAreWarnings) {
  struct Row {
    const char* model;
    const char* object;
    const char* path;
  };
  const Row rows[] = {
      {"LBCookiePersistenceProfile", R"({"id": "x", "cookie_mode": "EAT"})", "/cookie_mode"},
      {"LBCookiePersistenceProfile", R"({"id": "x", "cookie_time": {"cookie_max_idle": 0}})",
       "/cookie_time/cookie_max_idle"},
      {"LBGenericPersistenceProfile", R"({"id": "x", "timeout": "long"})", "/timeout"},
  };
  for (const Row& row : rows) {
    auto json = sample_document();
    json[row.model] = JsonValue::array({JsonValue::parse(row.object)});
    EXPECT_EQ(paths_of(parsed(json).warnings),
              Paths{std::string("/") + row.model + "/0" + row.path});
  }
}

TEST(DocumentErrors, WrongFieldsOfTrafficProfiles) {
  expect_each_document_is_refused({
      {"/NetworkProfile/0/profile", "1", nullptr},
      {"/NetworkProfile/0/profile/type", R"("PROTOCOL_TYPE_QUIC")", nullptr},
      {"/NetworkProfile/0/profile/tcp_fast_path_profile", "1", nullptr},
      {"/NetworkProfile/0/profile/tcp_fast_path_profile/session_idle_timeout", "4", nullptr},
      {"/NetworkProfile/0/profile/tcp_fast_path_profile/session_idle_timeout", "14401", nullptr},
      {"/NetworkProfile/1/profile/udp_fast_path_profile/session_idle_timeout", "1", nullptr},
      {"/NetworkProfile/1/profile/udp_fast_path_profile/session_idle_timeout", "3601", nullptr},
      {"/NetworkProfile/1/profile/udp_fast_path_profile/per_pkt_loadbalance", "2", nullptr},
      {"/NetworkProfile/1/profile/udp_fast_path_profile/snat", R"("no")", nullptr},
      {"/ApplicationProfile/0", R"({"name": "l4"})", "/ApplicationProfile/0/type"},
      {"/ApplicationProfile/0/type", R"("L4")", nullptr},
      {"/ApplicationProfile/0/preserve_client_ip", "0", nullptr},
      {"/HealthMonitor/0/type", R"("HEALTH_MONITOR_GUESS")", nullptr},
      {"/HealthMonitor/0/send_interval", "0", nullptr},
      {"/HealthMonitor/0/send_interval", "3601", nullptr},
      {"/HealthMonitor/0/receive_timeout", "2401", nullptr},
      {"/HealthMonitor/0/successful_checks", "51", nullptr},
      {"/HealthMonitor/0/failed_checks", "0", nullptr},
      {"/HealthMonitor/0/monitor_port", "65536", nullptr},
  });
}

// A group is acted on whether or not it has virtual services.
TEST(DocumentErrors, WrongFieldsOfServiceEngineGroups) {
  expect_each_document_is_refused({
      {"/ServiceEngineGroup/0/engines", R"("se1")", nullptr, true},
      {"/ServiceEngineGroup/0/engines", "[1]", "/ServiceEngineGroup/0/engines/0", true},
      {"/ServiceEngineGroup/0/engines", R"(["a", "a"])", "/ServiceEngineGroup/0/engines/1", true},
      {"/ServiceEngineGroup/0/preempt", "1", nullptr, true},
      {"/ServiceEngineGroup/0/floating_intf_ip", R"([{"addr": "x", "type": "V4"}])",
       "/ServiceEngineGroup/0/floating_intf_ip/0/addr", true},
      {"/ServiceEngineGroup/0/floating_intf_ip", R"([{"type": "V4"}])",
       "/ServiceEngineGroup/0/floating_intf_ip/0/addr", true},
      {"/ServiceEngineGroup/0/floating_intf_ip",
       R"([{"addr": "10.0.0.1", "type": "V4"}, {"addr": "10.0.0.1", "type": "V4"}])",
       "/ServiceEngineGroup/0/floating_intf_ip/1/addr", true},
  });
}

TEST(DocumentErrors, WrongFieldsOfPools) {
  expect_each_document_is_refused({
      {"/Pool/0/enabled", "0", nullptr},
      {"/Pool/0/default_server_port", "0", nullptr},
      {"/Pool/0/default_server_port", "65536", nullptr},
      {"/Pool/0/lb_algorithm", R"("LB_ALGORITHM_BEST")", nullptr},
      {"/Pool/0/server_disable_type", R"("ALLOW")", nullptr},
      {"/Pool/0/graceful_disable_timeout", "-2", nullptr},
      {"/Pool/0/graceful_disable_timeout", "7201", nullptr},
      {"/Pool/0/max_concurrent_connections_per_server", "-1", nullptr},
      {"/Pool/0/min_health_monitors_up", "-1", nullptr},
      {"/Pool/0/use_service_port", R"("x")", nullptr},
      {"/Pool/0/application_persistence_profile_ref",
       R"("/api/applicationpersistenceprofile/?name=none")", nullptr},
      {"/Pool/0/application_persistence_profile_ref", R"("/api/pool/?name=pool")", nullptr},
      {"/Pool/0/application_persistence_profile_ref", R"("sticky")", nullptr},
      {"/Pool/0/application_persistence_profile_ref", "4", nullptr},
      {"/Pool/0/health_monitor_refs", R"("hm")", nullptr},
      {"/Pool/0/health_monitor_refs", R"(["/api/healthmonitor/?name=x"])",
       "/Pool/0/health_monitor_refs/0"},
      {"/Pool/0/ipaddrgroup_ref", R"("/api/ipaddrgroup/?name=x")", nullptr},
      {"/Pool/0/fail_action", R"({"type": "FAIL_ACTION_SHRUG"})", "/Pool/0/fail_action/type"},
      {"/Pool/0/servers", "{}", nullptr},
      {"/Pool/0/servers/1", "null", nullptr},
      {"/Pool/0/servers/1", "{}", "/Pool/0/servers/1/ip"},
      {"/Pool/0/servers/1/ip", R"("10.2.0.3")", nullptr},
      {"/Pool/0/servers/1/ip", "{}", "/Pool/0/servers/1/ip/addr"},
      {"/Pool/0/servers/1/ip/addr", R"("10.2.0.256")", nullptr},
      {"/Pool/0/servers/1/ip/addr", R"("10.2.0.3\u0000")", nullptr},
      {"/Pool/0/servers/1/ip/addr", R"("")", nullptr},
      {"/Pool/0/servers/1/ip/addr", "7", nullptr},
      {"/Pool/0/servers/1/ip/addr", R"("2001:db8::1")", nullptr},
      {"/Pool/0/servers/1/ip/addr", R"("0.0.0.0")", nullptr},
      {"/Pool/0/servers/1/ip/addr", R"("127.0.0.1")", nullptr},
      {"/Pool/0/servers/1/ip/addr", R"("224.0.0.1")", nullptr},
      {"/Pool/0/servers/1/ip/addr", R"("255.255.255.255")", nullptr},
      {"/Pool/0/servers/1/ip/type", R"("V5")", nullptr},
      {"/Pool/0/servers/1/ip", R"({"addr": "fe80::1", "type": "V6"})", "/Pool/0/servers/1/ip/addr"},
      {"/Pool/0/servers/1/port", "65536", nullptr},
      {"/Pool/0/servers/1/ratio", "0", nullptr},
      {"/Pool/0/servers/1/ratio", "21", nullptr},
      {"/Pool/0/servers/1/enabled", R"("yes")", nullptr},
      {"/Pool/0/servers/1/uuid", "5", nullptr},
      {"/Pool/0/servers/1/ip/addr", R"("10.2.0.2")", "/Pool/0/servers/1"},
      {"/Pool/1", R"({"name": "pool"})", nullptr, true},
  });
}

TEST(DocumentErrors, WrongFieldsOfVipsAndVirtualServices) {
  expect_each_document_is_refused({
      {"/VsVip/0/vip", "{}", nullptr},
      {"/VsVip/0/vip/0", "{}", "/VsVip/0/vip/0/ip_address"},
      {"/VsVip/0/vip/0/ip_address", "1", nullptr},
      {"/VsVip/0/vip/0/ip_address/addr", R"("1.2.3")", nullptr},
      {"/VsVip/0/vip/0/ip_address", R"({"addr": "a.example.com", "type": "DNS"})",
       "/VsVip/0/vip/0/ip_address/type"},
      {"/VsVip/0/vip/1", R"({"ip_address": {"addr": "10.1.0.100", "type": "V4"}})",
       "/VsVip/0/vip/1/ip_address/addr"},
      {"/VsVip/0/vip/0/enabled", "5", nullptr},
      {"/VirtualService/0/enabled", R"("x")", nullptr},
      {"/VirtualService/0/traffic_enabled", "0", nullptr},
      {"/VirtualService/0/enable_autogw", "1", nullptr},
      {"/VirtualService/0/type", R"("VS_TYPE_ODD")", nullptr},
      {"/VirtualService/0/vsvip_ref", R"("/api/vsvip/?name=x")", nullptr},
      {"/VirtualService/0/pool_ref", R"("/api/pool/?name=x")", nullptr},
      {"/VirtualService/0/pool_ref", R"("/api/pool/pool-1")", nullptr},
      {"/VirtualService/0/application_profile_ref", R"("/api/applicationprofile/?name=x")",
       nullptr},
      {"/VirtualService/0/network_profile_ref", R"("/api/networkprofile/?name=x")", nullptr},
      {"/VirtualService/0/se_group_ref", R"("/api/serviceenginegroup/?name=x")", nullptr},
      {"/VirtualService/0/service_pool_select", "{}", nullptr},
      {"/VirtualService/0/service_pool_select", "[1]", "/VirtualService/0/service_pool_select/0"},
      {"/VirtualService/0/service_pool_select", R"([{"service_port": 80}])",
       "/VirtualService/0/service_pool_select/0/service_pool_ref"},
      {"/VirtualService/0/service_pool_select", R"([{"service_pool_ref": "/api/pool/?name=pool"}])",
       "/VirtualService/0/service_pool_select/0/service_port"},
      {"/VirtualService/0/service_pool_select",
       R"([{"service_port": 80, "service_pool_ref": "/api/pool/?name=none"}])",
       "/VirtualService/0/service_pool_select/0/service_pool_ref"},
      {"/VirtualService/0/service_pool_select",
       R"([{"service_port": 80, "service_port_range_end": 79,
            "service_pool_ref": "/api/pool/?name=pool"}])",
       "/VirtualService/0/service_pool_select/0/service_port_range_end"},
      {"/VirtualService/0/service_pool_select",
       R"([{"service_port": 80, "service_protocol": "PROTOCOL_TYPE_MORSE",
            "service_pool_ref": "/api/pool/?name=pool"}])",
       "/VirtualService/0/service_pool_select/0/service_protocol"},
      {"/VirtualService/0/service_pool_select",
       R"([{"service_port": 70, "service_port_range_end": 80,
            "service_pool_ref": "/api/pool/?name=pool"},
           {"service_port": 80, "service_pool_ref": "/api/pool/?name=pool"}])",
       "/VirtualService/0/service_pool_select/1/service_port"},
      {"/VirtualService/0/services", R"("80")", nullptr},
      {"/VirtualService/0/services/0", "80", nullptr},
      {"/VirtualService/0/services/0", "{}", "/VirtualService/0/services/0/port"},
      {"/VirtualService/0/services/0/port", "65536", nullptr},
      {"/VirtualService/0/services/0/port", "0", nullptr},
      {"/VirtualService/0/services/0/port_range_end", "79", nullptr},
      {"/VirtualService/0/services/0/port_range_end", "65536", nullptr},
      {"/VirtualService/0/services/0/enable_ssl", "3", nullptr},
      {"/VirtualService/0/services/0/override_network_profile_ref",
       R"("/api/networkprofile/?name=x")", nullptr},
      {"/VirtualService/0/services/0/override_application_profile_ref",
       R"("/api/applicationprofile/?name=x")", nullptr},
      {"/VirtualService/0/services/2", R"({"port": 80})", nullptr},
      {"/VirtualService/0/services/1", R"({"port": 70, "port_range_end": 80})",
       "/VirtualService/0/services/0"},
  });
}

TEST(DocumentErrors, AllErrorsComeAtOnce) {
  auto json = sample_document();
  at(json, "/Pool/0/servers/0/ip/addr") = "x";
  at(json, "/Pool/0/servers/1/ratio") = 99;
  at(json, "/VirtualService/0/services/0/port") = -1;
  EXPECT_EQ(error_paths(parse_document(json.dump())),
            (Paths{"/Pool/0/servers/0/ip/addr", "/Pool/0/servers/1/ratio",
                   "/VirtualService/0/services/0/port"}));
}

TEST(DocumentErrors, PathsAreEscapedAsJsonPointersAre) {
  EXPECT_EQ(error_paths(parse_document(R"({"Pool": [], "a/b~c": {"k": 1, "k": 2}})")),
            Paths{"/a~1b~0c/k"});
}

TEST(DocumentErrors, AKeyGivenTwiceIsAnErrorWithItsPath) {
  const auto result =
      parse_document(R"({"Pool": [{"name": "a"}, {"name": "b", "servers": [], "name": "c"}]})");
  EXPECT_EQ(error_paths(result), Paths{"/Pool/1/name"});
}

TEST(DocumentErrors, TheSameUuidTwiceIsAnErrorAtTheSecond) {
  EXPECT_EQ(error_paths(parse_document(
                R"({"Pool": [{"name": "a", "uuid": "u"}, {"name": "b", "uuid": "u"}]})")),
            Paths{"/Pool/1/uuid"});
}

TEST(DocumentErrors, TheSameNameInAnotherTenantIsRight) {
  EXPECT_TRUE(parse_document(R"({"Pool": [{"name": "a"},
                                          {"name": "a", "tenant_ref": "/api/tenant/?name=t"}]})")
                  .ok());
}

TEST(DocumentErrors, OverlappingPortRangesOfTwoVirtualServicesAreAnErrorAtTheLater) {
  auto json = sample_document();
  at(json, "/VirtualService/1") = at(json, "/VirtualService/0");
  at(json, "/VirtualService/1/name") = "other";
  at(json, "/VirtualService/1/services") =
      JsonValue::parse(R"([{"port": 90}, {"port": 70, "port_range_end": 200}, {"port": 210}])");
  EXPECT_EQ(error_paths(parse_document(json.dump())),
            (Paths{"/VirtualService/0/services/0", "/VirtualService/1/services/0"}));
}

TEST(DocumentErrors, TheSamePortWithAnotherProtocolIsRight) {
  auto json = sample_document();
  at(json, "/VirtualService/0/services/1") = {
      {"port", 80}, {"override_network_profile_ref", "/api/networkprofile/?name=udp"}};
  EXPECT_TRUE(parse_document(json.dump()).ok());
}

TEST(DocumentErrors, APersistenceTypeThatAnL4ServiceCannotUseIsAnError) {
  for (const char* type : {"HTTP_COOKIE", "APP_COOKIE", "CUSTOM_HTTP_HEADER", "TLS", "GSLB_SITE"}) {
    auto json = sample_document();
    at(json, "/ApplicationPersistenceProfile/0/persistence_type") =
        std::string("PERSISTENCE_TYPE_") + type;
    EXPECT_EQ(error_paths(parse_document(json.dump())), Paths{"/VirtualService/0/pool_ref"})
        << type;
  }
}

TEST(DocumentErrors, TlsPersistenceOnHttpNeedsSsl) {
  auto json = sample_document();
  at(json, "/ApplicationPersistenceProfile/0/persistence_type") = "PERSISTENCE_TYPE_TLS";
  at(json, "/VirtualService/0").erase("application_profile_ref");
  at(json, "/VirtualService/0").erase("network_profile_ref");
  // Only a warning, as HTTP is not served yet.
  EXPECT_FALSE(warning_at(parsed(json).warnings, "/VirtualService/0/pool_ref").empty());
  at(json, "/VirtualService/0/services/0/enable_ssl") = true;
  EXPECT_TRUE(warning_at(parsed(json).warnings, "/VirtualService/0/pool_ref").empty());
}

TEST(DocumentErrors, WhatHasNoEffectMayBeWrong) {
  struct Row {
    const char* field;
    const char* value;
    const char* warning;
  };
  const Row rows[] = {
      {"/Pool/0/lb_algorithm_hash", R"("LB_ALGORITHM_CONSISTENT_HASH_MOON")", nullptr},
      {"/VirtualService/0/ssl_profile_ref", R"("/api/sslprofile/?name=x")", nullptr},
      {"/VirtualService/0/ssl_key_and_certificate_refs", R"(["/api/sslkeyandcertificate/?name=x"])",
       "/VirtualService/0/ssl_key_and_certificate_refs/0"},
      {"/VsVip/0/vip/1", R"({"enabled": false, "ip_address": {"addr": "?", "type": "V4"}})",
       "/VsVip/0/vip/1/ip_address/addr"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.field);
    const Parsed p = parsed(with(sample_document(), row.field, row.value));
    EXPECT_TRUE(p.document.virtual_services[0].served);
    EXPECT_EQ(paths_of(p.warnings), Paths{row.warning == nullptr ? row.field : row.warning});
  }
  EXPECT_EQ(error_paths(parse_document(
                with(with(sample_document(), "/Pool/0/lb_algorithm_hash", rows[0].value),
                     "/Pool/0/lb_algorithm", R"("LB_ALGORITHM_CONSISTENT_HASH")")
                    .dump())),
            Paths{"/Pool/0/lb_algorithm_hash"});
}

TEST(DocumentErrors, OverlapsWithWhatIsNotServedAreWarnings) {
  auto json = sample_document();
  at(json, "/VirtualService/1") = at(json, "/VirtualService/0");
  at(json, "/VirtualService/1/name") = "other";
  EXPECT_EQ(error_paths(parse_document(json.dump())), Paths{"/VirtualService/1/services/0"});
  for (const char* field : {"/VirtualService/0/enabled", "/VirtualService/1/traffic_enabled"}) {
    const Parsed p = parsed(with(json, field, "false"));
    EXPECT_EQ(paths_of(p.warnings), Paths{"/VirtualService/1/services/0"}) << field;
  }
}

TEST(DocumentErrors, ErrorsBeyondTheListCountByTheObjectTheyAreIn) {
  // 10,001 wrong servers in a pool that nothing uses, and one more in the pool that is served.
  auto json = sample_document();
  JsonValue wrong = {{"ip", {{"addr", "x"}, {"type", "V4"}}}};
  for (int pool = 0; pool < 3; ++pool) {
    JsonValue servers = JsonValue::array();
    for (int i = 0; i < 3'500; ++i) servers.push_back(wrong);
    const JsonValue unused = {{"name", "unused " + std::to_string(pool)}, {"servers", servers}};
    json["Pool"].insert(json["Pool"].begin(), unused);
  }
  EXPECT_TRUE(parse_document(json.dump()).ok());
  at(json, "/Pool/3/servers/0") = wrong;
  const auto result = parse_document(json.dump());
  ASSERT_FALSE(result.ok());
  ASSERT_EQ(result.errors().size(), 1u);
  EXPECT_EQ(result.errors()[0].message, "1 more errors are not listed");
}

TEST(DocumentErrors, AWrongGenerationIsAnError) {
  for (const char* value : {"-1", "1.5", R"("x")", "[]", "18446744073709551615"}) {
    EXPECT_EQ(error_paths(parse_document(with({}, "/generation", value).dump())),
              Paths{"/generation"})
        << value;
  }
}

}  // namespace
}  // namespace limpet::config
