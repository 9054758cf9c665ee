// Texts that are meant to hurt: no crash, no exception, an answer in time.
#include <gtest/gtest.h>

#include "control/config/bootstrap_codec.h"
#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

TEST(HostileText, IsRefusedWithOneErrorThatSaysWhere) {
  const std::string depth(1'000'000, '[');
  const std::string objects = [] {
    std::string out;
    for (int i = 0; i < 100'000; ++i) out += R"({"Pool":)";
    return out;
  }();
  const std::string texts[] = {
      "",
      " ",
      "{",
      "[]",
      "null",
      "1",
      "\"x\"",
      "{}x",
      "{\"a\":}",
      "{\"Pool\": [NaN]}",
      depth,
      objects,
      "\xff\xfe",
      "{\"a\": \"\xff\"}",
      "{\"a\": \"\xed\xa0\x80\"}",
      "{\"Pool\": [1e999]}",
      std::string("{}\0", 3),
      "{'a': 1}",
      "// {}\n{}",
  };
  for (const std::string& text : texts) {
    SCOPED_TRACE(text.substr(0, 40));
    const auto document = parse_document(text);
    ASSERT_FALSE(document.ok());
    EXPECT_EQ(document.errors().size(), 1u);
    // Errors are sent as JSON: they must be valid UTF-8 whatever the text was.
    EXPECT_NO_THROW(JsonValue(document.errors().front().message).dump());
    EXPECT_FALSE(parse_bootstrap(text, "/").ok());
  }
}

TEST(HostileText, HugeNumbersAreOutOfRange) {
  for (const char* number : {"1e300", "-9223372036854775809", "123456789012345678901234567890",
                             "0.1", "-0.0", "1E400", "9007199254740993.0", "80.5"}) {
    std::string text = sample_document().dump();
    const std::string name = "\"name\":\"pool\"";
    ASSERT_NE(text.find(name), std::string::npos);
    text.insert(text.find(name), std::string("\"default_server_port\": ") + number + ",");
    EXPECT_FALSE(parse_document(text).ok()) << number;
  }
}

TEST(HostileText, TheNumberOfErrorsIsBounded) {
  std::string text = R"({"Pool": [)";
  for (int i = 0; i < 50'000; ++i) text += "1,";
  text += "1]}";
  const auto result = parse_document(text);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.errors().size(), 10'001u);
  EXPECT_NE(result.errors().back().message.find("40001 more"), std::string::npos);
}

TEST(HostileText, TheNumberOfWarningsIsBounded) {
  std::string text = R"({"Pool": [{"name": "p")";
  for (int i = 0; i < 50'000; ++i) text += ",\"field" + std::to_string(i) + "\": 1";
  text += "}]}";
  const Parsed p = parsed(text);
  EXPECT_EQ(p.warnings.size(), 1'001u);
  EXPECT_NE(p.warnings.back().message.find("49000 more"), std::string::npos);
}

TEST(HostileText, TheNumberOfObjectsOfAModelIsBounded) {
  std::string text = R"({"Pool": [{})";
  for (int i = 0; i < 65'536; ++i) text += ",{}";
  EXPECT_EQ(error_paths(parse_document(text + "]}")), std::vector<std::string>{"/Pool"});
}

TEST(HostileText, VipsTimesServicesAreBounded) {
  JsonValue vips = JsonValue::array();
  for (int i = 0; i < 250; ++i) {
    vips.push_back({{"ip_address", {{"addr", "10.0.0." + std::to_string(i + 1)}, {"type", "V4"}}}});
  }
  JsonValue services = JsonValue::array();
  for (int i = 0; i < 2000; ++i) services.push_back({{"port", i + 1}});
  JsonValue json = {{"VsVip", {{{"name", "v"}, {"vip", vips}}}}};
  for (int i = 0; i < 3; ++i) {
    json["VirtualService"].push_back(
        {{"name", std::to_string(i)},
         {"vsvip_ref", "/api/vsvip/?name=v"},
         {"services", services},
         {"pool_ref", "/api/pool/?name=p"},
         {"network_profile_ref", "/api/networkprofile/?name=System-TCP-Fast-Path"},
         {"application_profile_ref", "/api/applicationprofile/?name=System-L4-Application"}});
  }
  json["Pool"] = {{{"name", "p"}}};
  EXPECT_EQ(error_paths(parse_document(json.dump())), std::vector<std::string>{"/VirtualService"});
}

TEST(HostileText, ALargeDocumentIsReadInOnePass) {
  // 6,000 pools of 10 servers, about 4 MB: quadratic work anywhere would take minutes.
  JsonValue json;
  for (int i = 0; i < 6'000; ++i) {
    JsonValue servers = JsonValue::array();
    for (int s = 0; s < 10; ++s) {
      servers.push_back({{"ip", {{"addr", "10.0." + std::to_string(s) + ".1"}, {"type", "V4"}}}});
    }
    const std::string n = std::to_string(i);
    json["Pool"].push_back({{"name", "pool " + n}, {"servers", servers}});
    json["VirtualService"].push_back(
        {{"name", n},
         {"vip",
          {{{"ip_address",
             {{"addr", "10." + std::to_string(i / 250) + ".0." + std::to_string(i % 250 + 1)},
              {"type", "V4"}}}}}},
         {"services", {{{"port", 80}}}},
         {"pool_ref", "/api/pool/?name=pool%20" + n},
         {"network_profile_ref", "/api/networkprofile/?name=System-TCP-Fast-Path"},
         {"application_profile_ref", "/api/applicationprofile/?name=System-L4-Application"}});
  }
  const Parsed p = parsed(json);
  EXPECT_EQ(p.document.pools.size(), 6'000u);
  EXPECT_TRUE(p.document.virtual_services.back().served);
}

TEST(HostileText, TooManyServersInAllAreRefused) {
  JsonValue json;
  for (int i = 0; i < 14; ++i) {
    JsonValue servers = JsonValue::array();
    for (int s = 0; s < 5'000; ++s) {
      servers.push_back(
          {{"ip",
            {{"addr", "10.0." + std::to_string(s / 250) + "." + std::to_string(s % 250 + 1)},
             {"type", "V4"}}}});
    }
    json["Pool"].push_back({{"name", std::to_string(i)}, {"servers", servers}});
  }
  EXPECT_EQ(error_paths(parse_document(json.dump())), std::vector<std::string>{"/Pool"});
}

TEST(HostileText, AGroupOfAddressesInManyPoolsTakesNoMoreMemoryThanServersMay) {
  JsonValue json = {
      {"IpAddrGroup",
       {{{"name", "g"},
         {"prefixes", {{{"ip_addr", {{"addr", "10.0.0.0"}, {"type", "V4"}}}, {"mask", 20}}}}}}}};
  for (int i = 0; i < 60'000; ++i) {
    json["Pool"].push_back(
        {{"name", std::to_string(i)}, {"ipaddrgroup_ref", "/api/ipaddrgroup/?name=g"}});
  }
  const Parsed p = parsed(json);
  std::size_t servers = 0;
  for (const Pool& pool : p.document.pools) servers += pool.servers.size();
  EXPECT_EQ(servers, 65'536u);
  EXPECT_FALSE(warning_at(p.warnings, "/Pool/16/ipaddrgroup_ref").empty());
}

TEST(HostileText, SelectorsAndServicesThatOverlapAreNotMultiplied) {
  auto json = sample_document();
  JsonValue services = JsonValue::array();
  JsonValue selectors = JsonValue::array();
  for (int i = 0; i < 2'000; ++i) {
    services.push_back({{"port", 1}, {"port_range_end", 65'535}});
    selectors.push_back(
        {{"service_port", 10 * i + 1}, {"service_pool_ref", "/api/pool/?name=pool"}});
  }
  at(json, "/VirtualService/0/services") = services;
  at(json, "/VirtualService/0/service_pool_select") = selectors;
  const auto result = parse_document(json.dump());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.errors().front().path, "/VirtualService/0/service_pool_select");
}

TEST(HostileText, ATextOfManyMembersThatAreNoModelsIsRefusedInTime) {
  std::string text = R"({"a": 0)";
  for (int i = 0; i < 1'000'000; ++i) text += ",\"VirtualService" + std::to_string(i) + "\":0";
  EXPECT_FALSE(parse_document(text + "}").ok());
  EXPECT_FALSE(parse_document(R"({"avi_config": )" + text + "}}").ok());
  EXPECT_EQ(parsed(text + R"(, "VirtualService": []})").document.virtual_services.size(), 0u);
}

}  // namespace
}  // namespace limpet::config
