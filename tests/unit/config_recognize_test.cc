// What is a document and what is not: a text that is none must not pass for an empty one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

using ::testing::HasSubstr;

struct NoDocument {
  const char* text;
  const char* path;
  const char* says;  // a part of the message
};

TEST(Recognize, WhatIsNoDocumentIsRefusedSayingWhatItLooksLike) {
  const NoDocument table[] = {
      {R"({"count": 1, "results": [{"name": "p", "url": "https://c/api/pool/pool-1"}]})", "",
       "answer of the REST API"},
      {R"({"count": 0, "results": []})", "", "answer of the REST API"},
      {R"({"results": [{"resource_type": "LBPool", "id": "p"}], "result_count": 1})", "",
       "NSX's own load balancer"},
      {R"({"resource_type": "LBVirtualServer", "id": "vs"})", "", "NSX's own load balancer"},
      {R"({"resource_type": "Infra", "children": []})", "", "NSX's own load balancer"},
      {R"({"LBPool": [{"id": "p"}], "LBVirtualServer": []})", "", "NSX's own load balancer"},
      {R"([{"resource_type": "LBPool"}])", "", "a list of NSX's own objects"},
      {R"([{"name": "p", "servers": []}])", "", "a document is an object of models"},
      {"[]", "", "a document is an object of models"},
      {"3", "", "a document is an object of models"},
      {R"({"name": "p", "servers": [{"ip": {"addr": "10.0.0.1"}}]})", "", R"({"Pool": [{...}]})"},
      {R"({"name": "vs", "services": [{"port": 80}]})", "", R"({"VirtualService": [{...}]})"},
      {R"({"name": "v", "vip": []})", "", R"({"VsVip": [{...}]})"},
      {R"({"name": "x", "url": "https://c/api/healthmonitor/healthmonitor-1#x"})", "",
       R"({"HealthMonitor": [{...}]})"},
      {R"({"name": "x", "other": 1})", "", "looks like one object"},
      {R"({"Pools": [{"name": "p"}]})", "", "did you mean Pool?"},
      {R"({"pool": [{"name": "p"}]})", "", "did you mean Pool?"},
      {R"({"virtual_service": []})", "", "did you mean VirtualService?"},
      {R"({"name": "se1", "worker_cores": [1], "ports": [], "api": {}})", "",
       "an engine's own file"},
      {R"({"resource": {"avi_pool": {"p": {"name": "p"}}}})", "", "Terraform"},
      {R"({"META": {"version": {}}})", "", "nothing in it is a model"},
      {R"({"generation": 4, "Tenant": [{"name": "t"}]})", "", "nothing in it is a model"},
      {R"({"generation": 4, "x": null})", "", "nothing in it is a model"},
      {R"({"avi_config": []})", "/avi_config", "models in lower case"},
      {R"({"avi_config": {"count": 1, "results": []}})", "/avi_config", "REST API"},
      {R"({"avi_config": {"poool": []}})", "/avi_config", "did you mean Pool?"},
  };
  for (const NoDocument& row : table) {
    SCOPED_TRACE(row.text);
    const auto result = parse_document(row.text);
    ASSERT_FALSE(result.ok());
    ASSERT_EQ(result.errors().size(), 1u);
    EXPECT_EQ(result.errors()[0].path, row.path);
    EXPECT_THAT(result.errors()[0].message, HasSubstr(row.says));
  }
}

TEST(Recognize, AnObjectWithNothingButAGenerationIsTheEmptyDocument) {
  for (const char* text : {"{}", R"({"generation": 7})", R"({"Pool": []})", R"({"Pool": null})",
                           R"({"avi_config": {}})", R"({"generation": 7, "avi_config": {}})"}) {
    EXPECT_TRUE(parsed(std::string(text)).document.virtual_services.empty()) << text;
  }
}

TEST(Recognize, AMisspeltModelBesideKnownOnesIsAWarningWithTheWordThatWasMeant) {
  const Parsed p = parsed(std::string(R"({"Pool": [], "VirtualService": [], "HealthMonitors": [],
      "vsvip": [], "PoolGroup": [], "PKIProfile": [], "Role": [], "StringGroup": []})"));
  EXPECT_THAT(warning_at(p.warnings, "/HealthMonitors"), HasSubstr("did you mean HealthMonitor?"));
  EXPECT_THAT(warning_at(p.warnings, "/vsvip"), HasSubstr("did you mean VsVip?"));
  for (const char* path : {"/PoolGroup", "/PKIProfile", "/Role", "/StringGroup"}) {
    EXPECT_FALSE(warning_at(p.warnings, path).empty());
    EXPECT_EQ(warning_at(p.warnings, path).find("did you mean"), std::string::npos) << path;
  }
}

TEST(Recognize, WithoutVirtualServicesASlipInThatWordIsAnError) {
  auto json = sample_document();
  json["VirtualServices"] = json["VirtualService"];
  EXPECT_TRUE(parse_document(json.dump()).ok());
  json.erase("VirtualService");
  const auto result = parse_document(json.dump());
  EXPECT_EQ(error_paths(result), std::vector<std::string>{"/VirtualServices"});
  EXPECT_THAT(result.errors()[0].message, HasSubstr("did you mean VirtualService?"));
}

// ---- Ansible

TEST(Recognize, AnsiblesConfigurationIsADocument) {
  const JsonValue sample = sample_document();
  JsonValue config;
  for (const auto& [model, objects] : sample.items()) {
    std::string key = model;
    for (char& c : key) c = static_cast<char>(std::tolower(c));
    config[key] = objects;
  }
  config["avi_ip_addr_group"] = JsonValue::array();
  const Parsed p = parsed(JsonValue{{"avi_config", config}, {"generation", 3}});
  EXPECT_TRUE(p.warnings.empty());
  EXPECT_EQ(p.generation, 3u);
  const Parsed same = parsed(sample);
  ASSERT_EQ(p.document.virtual_services.size(), 1u);
  EXPECT_TRUE(p.document.virtual_services[0].served);
  EXPECT_EQ(p.document.virtual_services[0].uuid, same.document.virtual_services[0].uuid);
  EXPECT_EQ(p.document.pools[0].servers[0].id, same.document.pools[0].servers[0].id);
}

TEST(Recognize, PathsPointIntoAnsiblesConfigurationAsItWasSent) {
  JsonValue config = {
      {"pool", sample_document()["Pool"]},
      {"avi_applicationpersistenceprofile", sample_document()["ApplicationPersistenceProfile"]},
      {"virtual_service", sample_document()["VirtualService"]},
      {"vsvip", sample_document()["VsVip"]},
      {"networkprofile", sample_document()["NetworkProfile"]},
      {"applicationprofile", sample_document()["ApplicationProfile"]},
      {"serviceenginegroup", sample_document()["ServiceEngineGroup"]},
      {"cloudproperties", JsonValue::array()}};
  config["pool"][0]["servers"][1]["ratio"] = 99;
  config["pool"].push_back({{"sparkle", 1}});
  EXPECT_EQ(
      error_paths(parse_document(JsonValue{{"avi_config", config}}.dump())),
      (std::vector<std::string>{"/avi_config/pool/1/name", "/avi_config/pool/0/servers/1/ratio"}));
  config["pool"].erase(1);
  config["pool"][0]["servers"][1].erase("ratio");
  config["virtual_service"][0]["services"].push_back({{"port", 80}});
  EXPECT_EQ(error_paths(parse_document(JsonValue{{"avi_config", config}}.dump())),
            std::vector<std::string>{"/avi_config/virtual_service/0/services/1"});
  config["virtual_service"][0]["services"].erase(1);
  const Parsed p = parsed(JsonValue{{"avi_config", config}, {"vars", {{"a", 1}}}});
  EXPECT_EQ(p.document.pools[0].path, "/avi_config/pool/0");
  EXPECT_EQ(p.document.virtual_services[0].path, "/avi_config/virtual_service/0");
  EXPECT_EQ(paths_of(p.warnings),
            (std::vector<std::string>{"/avi_config/cloudproperties", "/vars"}));
}

TEST(Recognize, AnsiblesTenantsAndStatesAreUnderstood) {
  const Parsed p = parsed(std::string(R"({"avi_config": {"pool": [
      {"name": "a", "tenant": "shop", "state": "present"},
      {"name": "b", "tenant_ref": "/api/tenant?name=web"},
      {"name": "c", "state": "absent"}]}})"));
  ASSERT_EQ(p.document.pools.size(), 2u);
  EXPECT_EQ(p.document.pools[0].tenant, "shop");
  EXPECT_EQ(p.document.pools[1].tenant, "web");
  EXPECT_TRUE(p.warnings.empty());
}

TEST(Recognize, AModelThatAnsiblesConfigurationHasTwiceIsAnError) {
  EXPECT_EQ(error_paths(parse_document(R"({"avi_config": {"pool": [], "Pool": []}})")),
            std::vector<std::string>{"/avi_config/pool"});
}

TEST(Recognize, BesideModelsAnsiblesKeyIsUnknown) {
  const Parsed p = parsed(std::string(R"({"Pool": [], "avi_config": {"pool": [{"name": "p"}]}})"));
  EXPECT_TRUE(p.document.pools.empty());
  EXPECT_FALSE(warning_at(p.warnings, "/avi_config").empty());
}

}  // namespace
}  // namespace limpet::config
