// Every field of a document set to something wrong: the answer is an error with the path of that
// field, and nothing else.
#include <gtest/gtest.h>

#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

using Paths = std::vector<std::string>;

void expect_each_document_is_refused(const std::vector<Wrong>& table) {
  for (const Wrong& wrong : table) {
    SCOPED_TRACE(std::string(wrong.field) + " = " + wrong.value);
    const auto result = parse_document(with(sample_document(), wrong.field, wrong.value).dump());
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(error_paths(result), Paths{wrong.error == nullptr ? wrong.field : wrong.error});
    EXPECT_FALSE(result.errors().front().message.empty());
  }
}

TEST(DocumentErrors, TheSampleItselfIsRight) {
  EXPECT_TRUE(parse_document(sample_document().dump()).ok());
}

TEST(DocumentErrors, WrongFieldsOfPersistenceProfiles) {
  expect_each_document_is_refused({
      {"/LBGenericPersistenceProfile", "{}", nullptr},
      {"/ApplicationPersistenceProfile/1", "5", nullptr},
      {"/ApplicationPersistenceProfile/1", "{}", "/ApplicationPersistenceProfile/1/name"},
      {"/ApplicationPersistenceProfile/1", R"({"name": ""})",
       "/ApplicationPersistenceProfile/1/name"},
      {"/ApplicationPersistenceProfile/1", R"({"name": "a\u0007b"})",
       "/ApplicationPersistenceProfile/1/name"},
      {"/ApplicationPersistenceProfile/1", R"({"name": "sticky"})", nullptr},
      {"/ApplicationPersistenceProfile/0/uuid", "1", nullptr},
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

TEST(DocumentErrors, WrongTimeoutsOfEachPersistenceType) {
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
    EXPECT_EQ(error_paths(parse_document(json.dump())),
              Paths{path + "/" + row.sub_profile + "/timeout"});
  }
}

TEST(DocumentErrors, WrongFieldsOfNsxProfiles) {
  auto nsx = [](const char* model, const char* object) {
    auto json = sample_document();
    json[model] = JsonValue::array({JsonValue::parse(object)});
    return error_paths(parse_document(json.dump()));
  };
  const char* ip = "LBSourceIpPersistenceProfile";
  EXPECT_EQ(nsx(ip, R"({"timeout": 10})"), Paths{"/LBSourceIpPersistenceProfile/0/display_name"});
  EXPECT_EQ(nsx(ip, R"({"id": "x", "timeout": -1})"),
            Paths{"/LBSourceIpPersistenceProfile/0/timeout"});
  EXPECT_EQ(nsx(ip, R"({"id": "x", "purge": "full"})"),
            Paths{"/LBSourceIpPersistenceProfile/0/purge"});
  EXPECT_EQ(nsx("LBCookiePersistenceProfile", R"({"id": "x", "cookie_mode": "EAT"})"),
            Paths{"/LBCookiePersistenceProfile/0/cookie_mode"});
  EXPECT_EQ(
      nsx("LBCookiePersistenceProfile", R"({"id": "x", "cookie_time": {"cookie_max_idle": 0}})"),
      Paths{"/LBCookiePersistenceProfile/0/cookie_time/cookie_max_idle"});
  EXPECT_EQ(nsx("LBGenericPersistenceProfile", R"({"id": "x", "timeout": "long"})"),
            Paths{"/LBGenericPersistenceProfile/0/timeout"});
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
      {"/ApplicationProfile/1", R"({"name": "x"})", "/ApplicationProfile/1/type"},
      {"/ApplicationProfile/0/type", R"("L4")", nullptr},
      {"/ApplicationProfile/0/preserve_client_ip", "0", nullptr},
      {"/HealthMonitor/0/type", R"("HEALTH_MONITOR_GUESS")", nullptr},
      {"/HealthMonitor/0/send_interval", "0", nullptr},
      {"/HealthMonitor/0/send_interval", "3601", nullptr},
      {"/HealthMonitor/0/receive_timeout", "2401", nullptr},
      {"/HealthMonitor/0/successful_checks", "51", nullptr},
      {"/HealthMonitor/0/failed_checks", "0", nullptr},
      {"/HealthMonitor/0/monitor_port", "65536", nullptr},
      {"/ServiceEngineGroup/0/engines", R"("se1")", nullptr},
      {"/ServiceEngineGroup/0/engines", "[1]", "/ServiceEngineGroup/0/engines/0"},
      {"/ServiceEngineGroup/0/engines", R"(["a", "a"])", "/ServiceEngineGroup/0/engines/1"},
      {"/ServiceEngineGroup/0/preempt", "1", nullptr},
      {"/ServiceEngineGroup/0/floating_intf_ip", R"([{"addr": "x", "type": "V4"}])",
       "/ServiceEngineGroup/0/floating_intf_ip/0/addr"},
      {"/ServiceEngineGroup/0/floating_intf_ip", R"([{"type": "V4"}])",
       "/ServiceEngineGroup/0/floating_intf_ip/0/addr"},
      {"/ServiceEngineGroup/0/floating_intf_ip",
       R"([{"addr": "10.0.0.1", "type": "V4"}, {"addr": "10.0.0.1", "type": "V4"}])",
       "/ServiceEngineGroup/0/floating_intf_ip/1/addr"},
  });
}

TEST(DocumentErrors, WrongFieldsOfPools) {
  expect_each_document_is_refused({
      {"/Pool/0/enabled", "0", nullptr},
      {"/Pool/0/default_server_port", "0", nullptr},
      {"/Pool/0/default_server_port", "65536", nullptr},
      {"/Pool/0/lb_algorithm", R"("LB_ALGORITHM_BEST")", nullptr},
      {"/Pool/0/lb_algorithm_hash", R"("LB_ALGORITHM_CONSISTENT_HASH_MOON")", nullptr},
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
      {"/Pool/0/ssl_profile_ref", R"("/api/sslprofile/?name=x")", nullptr},
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
      {"/Pool/1", R"({"name": "pool"})", nullptr},
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
      {"/VirtualService/0/ssl_key_and_certificate_refs", R"(["/api/sslkeyandcertificate/?name=x"])",
       "/VirtualService/0/ssl_key_and_certificate_refs/0"},
      {"/VirtualService/0/vs_datascripts",
       R"([{"index": 1, "vs_datascript_set_ref": "/api/vsdatascriptset/?name=x"}])",
       "/VirtualService/0/vs_datascripts/0/vs_datascript_set_ref"},
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
      {"/VirtualService/0/services/1", R"({"port": 80})", nullptr},
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
  EXPECT_EQ(error_paths(parse_document(R"({"a/b~c": {"k": 1, "k": 2}})")), Paths{"/a~1b~0c/k"});
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
  EXPECT_EQ(error_paths(parse_document(json.dump())), Paths{"/VirtualService/0/pool_ref"});
  at(json, "/VirtualService/0/services/0/enable_ssl") = true;
  EXPECT_TRUE(parse_document(json.dump()).ok());
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
