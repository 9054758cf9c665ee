// Identities of objects and servers (control/config/README.md, "Identities").
#include <gtest/gtest.h>

#include <set>

#include "control/config/identity.h"
#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

Server server_at(const char* address, uint16_t port) {
  Server server;
  server.address = *net::Address::parse(address);
  server.port = port;
  return server;
}

TEST(Identity, AWrittenUuidIsKept) {
  EXPECT_EQ(
      parsed(std::string(R"({"Pool": [{"name": "p", "uuid": "pool-1"}]})")).document.pools[0].uuid,
      "pool-1");
}

TEST(Identity, WithoutAUuidItFollowsFromModelTenantAndName) {
  const std::string uuid = object_uuid("Pool", "admin", "p");
  EXPECT_EQ(uuid.size(), 36u);
  EXPECT_EQ(uuid[14], '5');
  EXPECT_EQ(parsed(std::string(R"({"Pool": [{"name": "p"}]})")).document.pools[0].uuid, uuid);
  const std::set<std::string> all = {uuid,
                                     object_uuid("VsVip", "admin", "p"),
                                     object_uuid("Pool", "shop", "p"),
                                     object_uuid("Pool", "admin", "q"),
                                     object_uuid("Pool", "adminp", ""),
                                     object_uuid("Pool", "admin", "p", "A"),
                                     object_uuid("Pool", "admin", "p", "B")};
  EXPECT_EQ(all.size(), 7u);
}

TEST(Identity, ItIsTheSameInEveryVersion) {
  EXPECT_EQ(object_uuid("Pool", "admin", "web-pool"), "fb99dcf9-8d8c-55fd-a001-5897be0fe0fa");
  EXPECT_EQ(server_id("pool-1", server_at("10.2.0.2", 80)).value, 0x76c2af4e5eca5bceu);
}

TEST(Identity, AServerIsItsUuidElseItsExternalUuidElseItsEndpoint) {
  Server by_endpoint = server_at("10.2.0.2", 80);
  Server by_external = by_endpoint;
  by_external.external_uuid = "vm-1";
  Server by_uuid = by_external;
  by_uuid.uuid = "server-1";
  std::set<ServerId> ids = {server_id("p", by_endpoint), server_id("p", by_external),
                            server_id("p", by_uuid), server_id("q", by_uuid)};
  EXPECT_EQ(ids.size(), 4u);
  by_external.port = 81;
  EXPECT_TRUE(ids.insert(server_id("p", by_external)).second) << "another port of the machine";
  Server moved = by_uuid;
  moved.address = *net::Address::parse("10.2.0.9");
  EXPECT_EQ(server_id("p", moved), server_id("p", by_uuid));
}

TEST(Identity, ReorderingAddingAndRemovingOthersMovesNobody) {
  const char* const a = R"({"ip": {"addr": "10.0.0.1", "type": "V4"}})";
  const char* const b = R"({"ip": {"addr": "10.0.0.2", "type": "V4"}})";
  const char* const c = R"({"ip": {"addr": "10.0.0.3", "type": "V4"}, "port": 8080})";
  const auto ids = [](const std::vector<std::string>& servers) {
    JsonValue json = {{"Pool", {{{"name", "p"}, {"servers", JsonValue::array()}}}}};
    for (const std::string& s : servers) {
      json["Pool"][0]["servers"].push_back(JsonValue::parse(s));
    }
    std::vector<ServerId> out;
    const Parsed p = parsed(json);
    for (const Server& s : p.document.pools[0].servers) out.push_back(s.id);
    return out;
  };
  const auto before = ids({a, b});
  const auto after = ids({c, b, a});
  EXPECT_EQ(before[0], after[2]);
  EXPECT_EQ(before[1], after[1]);
  EXPECT_NE(after[0], after[1]);
}

TEST(Identity, ADisabledOrReweightedServerIsTheSame) {
  auto json = sample_document();
  const ServerId before = parsed(json).document.pools[0].servers[0].id;
  at(json, "/Pool/0/servers/0/enabled") = false;
  at(json, "/Pool/0/servers/0/ratio") = 7;
  EXPECT_EQ(parsed(json).document.pools[0].servers[0].id, before);
}

}  // namespace
}  // namespace limpet::config
