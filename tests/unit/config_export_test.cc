// What exports of real controllers contain beside what is needed: clouds, VRFs, numbers of other
// forms, objects that nothing uses. It must not stand in the way of what is served.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/config/identity.h"
#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

using ::testing::HasSubstr;
using Paths = std::vector<std::string>;

const VirtualService& exported_vs(const Parsed& p) {
  return p.document.virtual_services.front();
}

// ---- numbers

TEST(Export, ANumberWithoutAFractionIsAnInteger) {
  std::string text = sample_document().dump();
  const auto replace = [&](const std::string& what, const std::string& by) {
    ASSERT_NE(text.find(what), std::string::npos) << what;
    text.replace(text.find(what), what.size(), by);
  };
  replace("\"ip_persistent_timeout\":5", "\"ip_persistent_timeout\":3.0");
  replace("\"port\":80", "\"port\":8.08e3");
  replace("\"session_idle_timeout\":300", "\"session_idle_timeout\":6E1");
  text.insert(1, "\"generation\": 12.0,");
  const Parsed p = parsed(text);
  EXPECT_EQ(p.generation, 12u);
  EXPECT_EQ(p.document.profiles[0].timeout, std::chrono::minutes(3));
  EXPECT_EQ(exported_vs(p).services[0].first_port, 8080);
  EXPECT_EQ(p.document.network_profiles[0].session_idle_timeout, std::chrono::seconds(60));
}

TEST(Export, AMonitorPortOfZeroIsTheServersOwn) {
  const Parsed p = parsed(with(sample_document(), "/HealthMonitor/0/monitor_port", "0"));
  EXPECT_FALSE(p.document.health_monitors[0].monitor_port);
  const Parsed q = parsed(with(sample_document(), "/HealthMonitor/0/monitor_port", "81"));
  EXPECT_EQ(q.document.health_monitors[0].monitor_port, 81);
}

// ---- clouds

JsonValue two_clouds() {
  auto json = sample_document();
  at(json, "/Pool/0/cloud_ref") = "/api/cloud/?tenant=admin&name=A";
  at(json, "/Pool/1") = at(json, "/Pool/0");
  at(json, "/Pool/1/cloud_ref") = "https://c/api/cloud/cloud-2#B";
  return json;
}

PoolIndex pool_of(JsonValue json, const char* reference, const char* vs_cloud = nullptr) {
  at(json, "/VirtualService/0/pool_ref") = reference;
  if (vs_cloud != nullptr) at(json, "/VirtualService/0/cloud_ref") = vs_cloud;
  return *exported_vs(parsed(json)).pool;
}

TEST(Export, ANameIsLookedUpInTheCloudThatTheReferenceSays) {
  EXPECT_EQ(pool_of(two_clouds(), "/api/pool/?tenant=admin&name=pool&cloud=A"), PoolIndex(0));
  EXPECT_EQ(pool_of(two_clouds(), "/api/pool?name=pool&cloud=B"), PoolIndex(1));
  EXPECT_EQ(error_paths(parse_document(
                with(two_clouds(), "/VirtualService/0/pool_ref", R"("/api/pool?name=pool&cloud=C")")
                    .dump())),
            Paths{"/VirtualService/0/pool_ref"});
}

TEST(Export, WithoutACloudItIsThatOfTheReferrerThenTheDefaultThenTheOnlyOne) {
  EXPECT_EQ(pool_of(two_clouds(), "/api/pool?name=pool", "/api/cloud?name=B"), PoolIndex(1));
  auto json = two_clouds();
  EXPECT_FALSE(
      parse_document(with(json, "/VirtualService/0/pool_ref", R"("/api/pool?name=pool")").dump())
          .ok())
      << "either could be meant";
  at(json, "/Pool/1").erase("cloud_ref");
  EXPECT_EQ(pool_of(json, "/api/pool?name=pool"), PoolIndex(1));
  EXPECT_EQ(pool_of(json, "/api/pool?name=pool&cloud=Default-Cloud"), PoolIndex(1));
  json["Pool"].erase(1);
  EXPECT_EQ(pool_of(json, "/api/pool?name=pool"), PoolIndex(0));
}

TEST(Export, ACloudMayBeSaidByItsUuid) {
  auto json = two_clouds();
  json["Cloud"] = {{{"uuid", "cloud-a"}, {"name", "A"}}, {{"uuid", "cloud-b"}, {"name", "B"}}};
  at(json, "/Pool/1/cloud_ref") = "/api/cloud/cloud-b";
  EXPECT_EQ(pool_of(json, "/api/pool?name=pool&cloud=cloud-b"), PoolIndex(1));
  EXPECT_EQ(pool_of(json, "/api/pool?name=pool&cloud=B"), PoolIndex(1));
  EXPECT_EQ(pool_of(json, "/api/pool?name=pool", "/api/cloud/cloud-a"), PoolIndex(0));
}

TEST(Export, SystemObjectsAreInEveryCloud) {
  auto json = sample_document();
  at(json, "/VirtualService/0/cloud_ref") = "/api/cloud?name=A";
  at(json, "/VirtualService/0/se_group_ref") =
      "/api/serviceenginegroup/?tenant=admin&name=Default-Group&cloud=A";
  Parsed p = parsed(json);
  EXPECT_EQ(p.document.groups[exported_vs(p).group.value].uuid,
            object_uuid("ServiceEngineGroup", "admin", "Default-Group"));
  at(json, "/ServiceEngineGroup/1") = {
      {"name", "Default-Group"}, {"uuid", "group-a"}, {"cloud_ref", "/api/cloud?name=A"}};
  p = parsed(json);
  EXPECT_EQ(p.document.groups[exported_vs(p).group.value].uuid, "group-a");
  at(json, "/VirtualService/0").erase("se_group_ref");
  p = parsed(json);
  EXPECT_EQ(p.document.groups[exported_vs(p).group.value].uuid, "group-a");
}

TEST(Export, TheSameNameTwiceInACloudIsAnError) {
  EXPECT_EQ(error_paths(parse_document(
                with(two_clouds(), "/Pool/1/cloud_ref", R"("/api/cloud?name=A")").dump())),
            Paths{"/Pool/1"});
}

TEST(Export, ObjectsOfTheDefaultCloudKeepTheIdentityThatTheyHadWithoutClouds) {
  const auto uuid_with = [](const char* cloud) {
    return parsed(with(sample_document(), "/Pool/0/cloud_ref", cloud)).document.pools[0].uuid;
  };
  const std::string plain = parsed(sample_document()).document.pools[0].uuid;
  EXPECT_EQ(uuid_with(R"("/api/cloud/?tenant=admin&name=Default-Cloud")"), plain);
  EXPECT_EQ(uuid_with(R"("https://c/api/cloud/cloud-1#Default-Cloud")"), plain);
  EXPECT_NE(uuid_with(R"("/api/cloud?name=A")"), plain);
  // Profiles are in no cloud, whatever they say.
  auto json = sample_document();
  const std::string profile = parsed(json).document.profiles[0].uuid;
  at(json, "/ApplicationPersistenceProfile/0/cloud_ref") = "/api/cloud?name=A";
  EXPECT_EQ(parsed(json).document.profiles[0].uuid, profile);
}

// ---- VRFs

JsonValue two_vrfs(const char* model) {
  auto json = sample_document();
  at(json, "/VsVip/1") = at(json, "/VsVip/0");
  at(json, "/VsVip/1/name") = "other";
  at(json, "/VirtualService/1") = at(json, "/VirtualService/0");
  at(json, "/VirtualService/1/name") = "other";
  at(json, "/VirtualService/1/vsvip_ref") = "/api/vsvip/?name=other";
  json[model][1]["vrf_context_ref"] = "/api/vrfcontext/?tenant=admin&name=blue&cloud=Default-Cloud";
  json[model][0]["vrf_context_ref"] = "https://c/api/vrfcontext/vrfcontext-1#global";
  return json;
}

TEST(Export, TheSameVipInAnotherVrfIsNotServedAndInNobodysWay) {
  for (const char* model : {"VsVip", "VirtualService"}) {
    SCOPED_TRACE(model);
    const Parsed p = parsed(two_vrfs(model));
    EXPECT_TRUE(p.document.virtual_services[0].served);
    EXPECT_FALSE(p.document.virtual_services[1].served);
    EXPECT_THAT(p.document.virtual_services[1].why_not, HasSubstr("VRFs are not built"));
    EXPECT_EQ(p.warnings.size(), 1u);
  }
}

TEST(Export, APoolInAnotherVrfIsNotServed) {
  const Parsed p =
      parsed(with(sample_document(), "/Pool/0/vrf_ref", R"("/api/vrfcontext?name=blue")"));
  EXPECT_THAT(exported_vs(p).why_not, HasSubstr("VRFs are not built"));
  EXPECT_TRUE(exported_vs(parsed(with(sample_document(), "/Pool/0/vrf_ref",
                                      R"("/api/vrfcontext?name=global")")))
                  .served);
}

TEST(Export, TheGlobalVrfMayBeSaidByItsUuid) {
  auto json = sample_document();
  at(json, "/VsVip/0/vrf_context_ref") = "https://c/api/vrfcontext/vrfcontext-7";
  EXPECT_THAT(exported_vs(parsed(json)).why_not, HasSubstr("vrfcontext-7"));
  json["VrfContext"] = {{{"uuid", "vrfcontext-7"}, {"name", "global"}}};
  EXPECT_TRUE(exported_vs(parsed(json)).served);
}

// ---- servers

TEST(Export, OneMachineMayServeSeveralPorts) {
  auto json = sample_document();
  at(json, "/Pool/0/servers") = JsonValue::parse(R"([
      {"ip": {"addr": "10.2.0.2", "type": "V4"}, "port": 80, "external_uuid": "vm-1"},
      {"ip": {"addr": "10.2.0.2", "type": "V4"}, "port": 81, "external_uuid": "vm-1"}])");
  const Parsed p = parsed(json);
  ASSERT_EQ(p.document.pools[0].servers.size(), 2u);
  EXPECT_NE(p.document.pools[0].servers[0].id, p.document.pools[0].servers[1].id);
  // It follows its machine to another address.
  at(json, "/Pool/0/servers/1/ip/addr") = "10.2.0.77";
  EXPECT_EQ(parsed(json).document.pools[0].servers[1].id, p.document.pools[0].servers[1].id);
  at(json, "/Pool/0/servers/1/port") = 80;
  EXPECT_EQ(error_paths(parse_document(json.dump())), Paths{"/Pool/0/servers/1"});
}

TEST(Export, TwoMachinesAtOneAddressAreTwoServers) {
  auto json = sample_document();
  at(json, "/Pool/0/servers") = JsonValue::parse(R"([
      {"ip": {"addr": "10.2.0.2", "type": "V4"}, "external_uuid": "vm-1"},
      {"ip": {"addr": "10.2.0.2", "type": "V4"}, "external_uuid": "vm-2"}])");
  EXPECT_EQ(parsed(json).document.pools[0].servers.size(), 2u);
}

// ---- what nothing uses

TEST(Export, AnObjectIsUsedOverAnyNumberOfOthers) {
  auto json = sample_document();
  at(json, "/ApplicationPersistenceProfile/0/purge") = "SOME";
  EXPECT_FALSE(parse_document(json.dump()).ok());
  at(json, "/VirtualService/0/pool_ref") = "/api/pool/?name=other";
  at(json, "/Pool/1") = {{"name", "other"}};
  const Parsed p = parsed(json);
  EXPECT_TRUE(exported_vs(p).served);
  EXPECT_THAT(warning_at(p.warnings, "/ApplicationPersistenceProfile/0/purge"),
              HasSubstr("nothing that is served uses it"));
  EXPECT_TRUE(p.document.profiles[0].purge) << "the default";
  // A second user, over a port of its own.
  at(json, "/VirtualService/0/service_pool_select") = {
      {{"service_port", 80}, {"service_pool_ref", "/api/pool/?name=pool"}}};
  EXPECT_EQ(error_paths(parse_document(json.dump())),
            Paths{"/ApplicationPersistenceProfile/0/purge"});
}

TEST(Export, AMistypedWordDoesNotSwitchAServiceOff) {
  struct Row {
    const char* field;
    const char* value;
  };
  // Each would, read as Avi's default, keep the service from being served.
  for (const Row& row :
       {Row{"/ApplicationProfile/0/type", R"("APPLICATION_PROFILE_TYPE_L5")"},
        Row{"/NetworkProfile/0/profile/type", R"("PROTOCOL_TYPE_TCP")"},
        Row{"/NetworkProfile/0/profile", "1"}, Row{"/VirtualService/0/services", "80"},
        Row{"/VirtualService/0/services/0/port", R"("http")"},
        Row{"/VirtualService/0/pool_ref", "[]"},
        Row{"/VirtualService/0/application_profile_ref", R"("/api/x/?name=l4")"},
        Row{"/VirtualService/0/network_profile_ref", R"("tcp fast")"},
        Row{"/VirtualService/0/vsvip_ref", R"("vip")"}, Row{"/VsVip/0/vip", "{}"},
        Row{"/VsVip/0/vip/0/ip_address/addr", R"("10.1.0.1000")"}}) {
    EXPECT_EQ(error_paths(parse_document(with(sample_document(), row.field, row.value).dump())),
              Paths{row.field})
        << row.value;
  }
}

TEST(Export, AMistypedOverrideDoesNotSwitchAServiceOff) {
  auto json = sample_document();
  for (const char* kind : {"application", "network"}) {
    const std::string key = std::string("override_") + kind + "_profile_ref";
    auto wrong = json;
    at(wrong, "/VirtualService/0").erase(std::string(kind) + "_profile_ref");
    at(wrong, "/VirtualService/0/services/0/" + key) =
        std::string("/api/") + kind + "profile/?name=none";
    EXPECT_EQ(error_paths(parse_document(wrong.dump())),
              Paths{"/VirtualService/0/services/0/" + key});
  }
}

TEST(Export, OfAServiceThatIsNotServedAnywayItIsAWarning) {
  auto json = sample_document();
  at(json, "/VirtualService/0").erase("application_profile_ref");
  at(json, "/VirtualService/0/services/1") = {{"port", 70'000}};
  const Parsed p = parsed(json);
  EXPECT_THAT(exported_vs(p).why_not, HasSubstr("HTTP"));
  EXPECT_FALSE(warning_at(p.warnings, "/VirtualService/0/services/1/port").empty());
}

TEST(Export, AnUnresolvedVipReferenceDoesNotMatterBesideTheAddressesThemselves) {
  auto json = sample_document();
  at(json, "/VirtualService/0/vsvip_ref") = "https://c/api/vsvip/vsvip-1";
  at(json, "/VirtualService/0/vip") = at(json, "/VsVip/0/vip");
  const Parsed p = parsed(json);
  EXPECT_TRUE(exported_vs(p).served);
  EXPECT_EQ(paths_of(p.warnings), Paths{"/VirtualService/0/vsvip_ref"});
}

TEST(Export, AReferenceToASystemObjectByUuidSaysHowToExportWithNames) {
  const auto result =
      parse_document(with(sample_document(), "/VirtualService/0/network_profile_ref",
                          R"("https://c/api/networkprofile/networkprofile-1")")
                         .dump());
  ASSERT_EQ(error_paths(result), Paths{"/VirtualService/0/network_profile_ref"});
  EXPECT_THAT(result.errors()[0].message, HasSubstr("include_name"));
  EXPECT_THAT(result.errors()[0].message, HasSubstr("/api/networkprofile/?name=NAME"));
}

// ---- groups of addresses

JsonValue with_group(const char* group) {
  auto json = sample_document();
  // Not {…}: of one value some compilers make a copy, others an array.
  json["IpAddrGroup"] = JsonValue::array({JsonValue::parse(group)});
  at(json, "/IpAddrGroup/0/name") = "g";
  at(json, "/Pool/0").erase("servers");
  at(json, "/Pool/0/ipaddrgroup_ref") = "/api/ipaddrgroup/?name=g";
  at(json, "/Pool/0/default_server_port") = 8080;
  return json;
}

TEST(Export, EveryAddressOfAGroupIsAServer) {
  auto json = with_group(R"({
      "addrs": [{"addr": "10.2.0.2", "type": "V4"}, {"addr": "2001:db8::9", "type": "V6"}],
      "ranges": [{"begin": {"addr": "10.2.0.254", "type": "V4"},
                  "end": {"addr": "10.2.1.1", "type": "V4"}}],
      "prefixes": [{"ip_addr": {"addr": "10.3.0.6", "type": "V4"}, "mask": 30},
                   {"ip_addr": {"addr": "10.2.0.2", "type": "V4"}, "mask": 32}]})");
  const Parsed p = parsed(json);
  EXPECT_TRUE(p.warnings.empty());
  std::vector<std::string> servers;
  for (const Server& s : p.document.pools[0].servers) {
    servers.push_back(net::Endpoint{s.address, s.port}.to_string());
    EXPECT_EQ(s.id, server_id(p.document.pools[0].uuid, s));
  }
  EXPECT_EQ(servers, (std::vector<std::string>{"10.2.0.2:8080", "[2001:db8::9]:8080",
                                               "10.2.0.254:8080", "10.2.0.255:8080",
                                               "10.2.1.0:8080", "10.2.1.1:8080", "10.3.0.4:8080",
                                               "10.3.0.5:8080", "10.3.0.6:8080", "10.3.0.7:8080"}));
}

TEST(Export, AServerThatIsInTheListToo) {
  auto json = with_group(R"({"addrs": [{"addr": "10.2.0.2", "type": "V4"},
                                       {"addr": "10.2.0.3", "type": "V4"}]})");
  at(json, "/Pool/0/servers") =
      JsonValue::parse(R"([{"ip": {"addr": "10.2.0.2", "type": "V4"}, "ratio": 7}])");
  const Parsed p = parsed(json);
  ASSERT_EQ(p.document.pools[0].servers.size(), 2u);
  EXPECT_EQ(p.document.pools[0].servers[0].ratio, 7);
}

TEST(Export, AGroupMayHave4096AddressesInAll) {
  const char* const full =
      R"({"prefixes": [{"ip_addr": {"addr": "10.2.0.0", "type": "V4"}, "mask": 20}]})";
  EXPECT_EQ(parsed(with_group(full)).document.pools[0].servers.size(), 4'096u);
  for (const char* more :
       {R"({"prefixes": [{"ip_addr": {"addr": "10.2.0.0", "type": "V4"}, "mask": 20}],
            "addrs": [{"addr": "10.3.0.0", "type": "V4"}]})",
        R"({"prefixes": [{"ip_addr": {"addr": "2001:db8::", "type": "V6"}, "mask": 64}]})",
        R"({"ranges": [{"begin": {"addr": "1.0.0.0", "type": "V4"},
                        "end": {"addr": "223.0.0.0", "type": "V4"}}]})"}) {
    EXPECT_EQ(error_paths(parse_document(with_group(more).dump())),
              Paths{"/Pool/0/ipaddrgroup_ref"})
        << more;
  }
}

TEST(Export, WhatIsWrongInAGroupIsAnErrorWhenAServedPoolUsesIt) {
  const std::pair<const char*, const char*> table[] = {
      {R"({"addrs": [{"addr": "x", "type": "V4"}]})", "/IpAddrGroup/0/addrs/0/addr"},
      {R"({"ranges": [{"begin": {"addr": "10.0.0.2"}, "end": {"addr": "10.0.0.1"}}]})",
       "/IpAddrGroup/0/ranges/0/end"},
      {R"({"ranges": [{"begin": {"addr": "10.0.0.2"}, "end": {"addr": "2001:db8::1"}}]})",
       "/IpAddrGroup/0/ranges/0/end"},
      {R"({"ranges": [{"begin": {"addr": "10.0.0.2"}}]})", "/IpAddrGroup/0/ranges/0/end"},
      {R"({"prefixes": [{"ip_addr": {"addr": "10.0.0.0"}, "mask": 33}]})",
       "/IpAddrGroup/0/prefixes/0/mask"},
      {R"({"prefixes": [{"ip_addr": {"addr": "10.0.0.0"}}]})", "/IpAddrGroup/0/prefixes/0/mask"},
  };
  for (const auto& [group, path] : table) {
    SCOPED_TRACE(group);
    auto json = with_group(group);
    EXPECT_EQ(error_paths(parse_document(json.dump())), Paths{path});
    at(json, "/Pool/0").erase("ipaddrgroup_ref");
    EXPECT_EQ(paths_of(parsed(json).warnings), Paths{path});
  }
}

}  // namespace
}  // namespace limpet::config
