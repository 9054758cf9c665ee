#include "control/compile/compile.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/unit/compile_lab.h"

namespace limpet::compile {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

using snapshot::NatId;
using snapshot::ServerState;

// ---- listeners and addresses

TEST(Compile, ServedVirtualServiceIsFoundByAddressProtocolAndPort) {
  Engine engine;
  const auto& s = engine.apply(Builder{});
  ASSERT_NE(tcp(s, "10.1.0.100", 80), nullptr);
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->name, "vs");
  EXPECT_EQ(tcp(s, "10.1.0.100", 81), nullptr);
  EXPECT_EQ(udp(s, "10.1.0.100", 80), nullptr);
  EXPECT_THAT(engine.warnings(), IsEmpty());
}

TEST(Compile, PortRangesAndServicesOfOneVirtualServiceShareASlot) {
  Engine engine;
  const auto& s = engine.apply(
      Builder{.vs = R"("services": [{"port": 8000, "port_range_end": 8999}, {"port": 80},
               {"port": 53, "override_network_profile_ref": "/api/networkprofile/?name=System-UDP-Fast-Path"}])"});
  for (const uint16_t port : std::initializer_list<uint16_t>{8000, 8500, 8999, 80})
    EXPECT_NE(tcp(s, "10.1.0.100", port), nullptr);
  EXPECT_EQ(tcp(s, "10.1.0.100", 9000), nullptr);
  EXPECT_EQ(tcp(s, "10.1.0.100", 7999), nullptr);
  EXPECT_NE(udp(s, "10.1.0.100", 53), nullptr);
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->slot, udp(s, "10.1.0.100", 53)->slot);
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->scope, udp(s, "10.1.0.100", 53)->scope);
  EXPECT_EQ(s.virtual_service(tcp(s, "10.1.0.100", 80)->slot)->name, "vs");
}

TEST(Compile, ServiceKeepsTheOptionsOfItsOwnNetworkProfile) {
  Engine engine;
  const auto& s =
      engine.apply(Builder{.vs = R"("services": [{"port": 80},
               {"port": 53, "override_network_profile_ref": "/api/networkprofile/?name=System-UDP-Per-Pkt"},
               {"port": 54, "override_network_profile_ref": "/api/networkprofile/?name=System-UDP-No-SNAT"},
               {"port": 55, "override_network_profile_ref": "/api/networkprofile/?name=slow"}])",
                           .other_models = R"(, "NetworkProfile": [{"name": "slow", "profile":
        {"type": "PROTOCOL_TYPE_TCP_FAST_PATH",
         "tcp_fast_path_profile": {"session_idle_timeout": 900}}}])"});
  EXPECT_TRUE(udp(s, "10.1.0.100", 53)->per_packet);
  EXPECT_FALSE(udp(s, "10.1.0.100", 53)->preserve_client);
  EXPECT_TRUE(udp(s, "10.1.0.100", 54)->preserve_client);
  EXPECT_FALSE(udp(s, "10.1.0.100", 54)->per_packet);
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->tcp_idle, timing::seconds(300));
  EXPECT_EQ(tcp(s, "10.1.0.100", 55)->tcp_idle, timing::seconds(900));
  EXPECT_EQ(tcp(s, "10.1.0.100", 55)->slot, tcp(s, "10.1.0.100", 80)->slot);
}

TEST(Compile, AnOwnLinkLocalAddressIsOursOnItsPortOnly) {
  Engine engine;
  const auto& s = engine.apply(Builder{});
  EXPECT_NE(s.own(address("fe80::1").in_zone(net::zone_of(0))), nullptr);
  EXPECT_EQ(s.own(address("fe80::1").in_zone(net::zone_of(1))), nullptr);
  snapshot::Hop hop;
  ASSERT_TRUE(s.route(address("fe80::2").in_zone(net::zone_of(1)), &hop));
  EXPECT_EQ(hop.port, 1);
  EXPECT_EQ(hop.next_hop, address("fe80::2"));
}

TEST(Compile, OwnAddressesAreSortedAndVipsOnlyThoseServed) {
  Engine engine;
  engine.env.snat = {address("10.2.0.10"), address("10.2.0.11")};
  const auto& s = engine.apply(Builder{.other_vs = R"(, {"name": "off", "enabled": false,
      "vip": [{"vip_id": "0", "ip_address": {"addr": "10.1.0.101", "type": "V4"}}],
      "services": [{"port": 80}], "pool_ref": "/api/pool/?name=pool",
      "application_profile_ref": "/api/applicationprofile/?name=System-L4-Application",
      "network_profile_ref": "/api/networkprofile/?name=System-TCP-Fast-Path"})"});
  EXPECT_TRUE(std::is_sorted(s.own_addresses.begin(), s.own_addresses.end()));
  EXPECT_TRUE(s.is_vip(address("10.1.0.100")));
  EXPECT_EQ(s.own(address("10.1.0.101")), nullptr);
  EXPECT_EQ(s.own(address("10.2.0.10"))->kind, Snapshot::OwnAddress::Kind::kSnat);
  EXPECT_EQ(s.own(address("fd00:2::1"))->kind, Snapshot::OwnAddress::Kind::kPort);
  EXPECT_FALSE(s.own(address("10.1.0.100"))->source);
  EXPECT_TRUE(s.own(address("10.2.0.10"))->source);
  EXPECT_EQ(tcp(s, "10.1.0.101", 80), nullptr);
  const auto off = std::find_if(s.virtual_services.begin(), s.virtual_services.end(),
                                [](const auto& vs) { return vs.name == "off"; });
  ASSERT_NE(off, s.virtual_services.end());
  EXPECT_FALSE(off->served);
  EXPECT_FALSE(off->why_not.empty());
}

TEST(Compile, AVipInTheSourceNatRangeStaysASource) {
  Engine engine;
  engine.env.snat = {address("10.1.0.100")};
  const auto* own = engine.apply(Builder{}).own(address("10.1.0.100"));
  ASSERT_NE(own, nullptr);
  EXPECT_EQ(own->kind, Snapshot::OwnAddress::Kind::kVip);
  EXPECT_TRUE(own->source);
}

TEST(Compile, EngineThatIsNotFirstOfTheGroupDoesNotServeIt) {
  const Builder builder{
      .vs = R"("services": [{"port": 80}], "se_group_ref": "/api/serviceenginegroup/?name=g")",
      .other_models = R"(, "ServiceEngineGroup": [{"name": "g", "engines": ["se1", "se2"],
        "floating_intf_ip": [{"addr": "10.2.0.5", "type": "V4"}]}])"};
  Engine first;
  const auto& s1 = first.apply(builder);
  EXPECT_NE(tcp(s1, "10.1.0.100", 80), nullptr);
  EXPECT_NE(s1.own(address("10.2.0.5")), nullptr);
  Engine second;
  second.env.engine = "se2";
  const auto& s2 = second.apply(builder);
  EXPECT_EQ(tcp(s2, "10.1.0.100", 80), nullptr);
  EXPECT_EQ(s2.own(address("10.2.0.5")), nullptr);
  EXPECT_EQ(s2.virtual_services[0].why_not, "engine se1 serves its group");
}

// ---- groups

// One group of se1 and se2, with a virtual service and a floating address; se1 compiles.
struct Elected {
  Elected() {
    engine.env.elects = true;
    engine.env.peers = {"se2"};
  }
  const Snapshot& own(bool owned) {
    engine.env.owned.clear();
    if (owned) engine.env.owned.push_back(group_id("group-uuid"));
    return engine.apply(builder);
  }

  Builder builder{
      .vs = R"("services": [{"port": 80}], "se_group_ref": "/api/serviceenginegroup/?name=g")",
      .other_models = R"(, "ServiceEngineGroup": [{"name": "g", "uuid": "group-uuid",
        "engines": ["se1", "se2"], "floating_intf_ip": [{"addr": "10.2.0.5", "type": "V4"}]}])"};
  Engine engine;
};

TEST(Compile, AGroupThatThisEngineOwnsIsServedWithItsFloatingAddress) {
  Elected e;
  const auto& s = e.own(true);
  EXPECT_NE(tcp(s, "10.1.0.100", 80), nullptr);
  EXPECT_TRUE(s.is_vip(address("10.1.0.100")));
  ASSERT_NE(s.own(address("10.2.0.5")), nullptr);
  EXPECT_EQ(s.own(address("10.2.0.5"))->kind, Snapshot::OwnAddress::Kind::kFloating);
  EXPECT_FALSE(s.own(address("10.2.0.5"))->source);
  EXPECT_TRUE(s.virtual_services[0].served);
  EXPECT_FALSE(s.virtual_services[0].standby);
}

TEST(Compile, AGroupThatAnotherOwnsIsNotAnsweredForButReady) {
  Elected e;
  const auto& s = e.own(false);
  EXPECT_EQ(tcp(s, "10.1.0.100", 80), nullptr);
  EXPECT_EQ(s.own(address("10.1.0.100")), nullptr);
  EXPECT_EQ(s.own(address("10.2.0.5")), nullptr);
  const auto& vs = s.virtual_services[0];
  EXPECT_FALSE(vs.served);
  EXPECT_TRUE(vs.standby);
  EXPECT_EQ(vs.why_not, "another engine owns group g");
  ASSERT_NE(s.scope(vs.scope), nullptr) << "it keeps the table";
  EXPECT_FALSE(s.pools[vs.pool.value].servers[0].sources.empty()) << "source ports are there";
}

TEST(Compile, TakingAGroupOverChangesNoIdentityAndNoSlot) {
  Elected e;
  const Snapshot before = e.own(false);
  const Snapshot& after = e.own(true);
  const auto& was = before.virtual_services[0];
  const auto& is = after.virtual_services[0];
  EXPECT_EQ(was.slot, is.slot);
  EXPECT_EQ(was.scope, is.scope);
  EXPECT_EQ(before.scope(was.scope)->id, after.scope(is.scope)->id);
  EXPECT_EQ(before.scope(was.scope)->since, after.scope(is.scope)->since);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& a = before.pools[was.pool.value].servers[i];
    const auto& b = after.pools[is.pool.value].servers[i];
    EXPECT_EQ(a.slot, b.slot);
    EXPECT_EQ(a.tcp_nat, b.tcp_nat);
  }
  EXPECT_TRUE(after.servers_left.empty());
  EXPECT_TRUE(after.vs_reset.empty());
}

TEST(Compile, AnEngineThatIsNotInTheListNeverServesTheGroup) {
  Elected e;
  e.engine.env.engine = "se3";
  const auto& s = e.own(true);
  EXPECT_EQ(tcp(s, "10.1.0.100", 80), nullptr);
  EXPECT_FALSE(s.virtual_services[0].standby);
}

TEST(Compile, AnEngineOfAGroupThatIsNoPeerIsAWarning) {
  Elected e;
  e.engine.env.peers = {"se3"};
  e.own(true);
  ASSERT_FALSE(e.engine.last.warnings.empty());
  EXPECT_EQ(e.engine.last.warnings.back().path, "/ServiceEngineGroup/0/engines/1");
}

TEST(Compile, GroupsWithoutEnginesAreServedByEverybody) {
  Elected e;
  e.builder.other_models = R"(, "ServiceEngineGroup": [{"name": "g", "uuid": "group-uuid"}])";
  EXPECT_NE(tcp(e.own(false), "10.1.0.100", 80), nullptr);
}

TEST(Compile, AnswersOfAServerBelongToTheOneServiceThatUsesIt) {
  Elected e;
  e.builder.application = "keep";
  e.builder.other_models += R"(, "ApplicationProfile": [{"name": "keep",
      "type": "APPLICATION_PROFILE_TYPE_L4", "preserve_client_ip": true}])";
  const auto& s = e.own(true);
  EXPECT_TRUE(s.virtual_services[0].adopts);
  const auto* a = s.adoptable(address("10.2.0.3"), 80);
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->vip, address("10.1.0.100"));
  EXPECT_EQ(a->vip_port, 80);
  EXPECT_EQ(s.adoptable(address("10.2.0.3"), 81), nullptr);
  EXPECT_EQ(s.adoptable(address("10.2.0.99"), 80), nullptr);
  // Two ports, or no owner: nothing is certain.
  e.builder.vs = R"("services": [{"port": 80}, {"port": 81}],
                    "se_group_ref": "/api/serviceenginegroup/?name=g")";
  EXPECT_EQ(e.own(true).adoptable(address("10.2.0.3"), 80), nullptr);
  EXPECT_TRUE(e.own(false).adoptables.empty());
}

TEST(Compile, TranslatedConnectionsAndGroupsOfOneEngineAreNotAdopted) {
  Elected e;
  EXPECT_FALSE(e.own(true).virtual_services[0].adopts);
  EXPECT_TRUE(e.own(true).adoptables.empty());
  e.engine.env.elects = false;
  EXPECT_FALSE(e.own(true).virtual_services[0].adopts);
}

// ---- identity

TEST(Compile, ReorderingAddingAndRemovingServersKeepsIdentitiesAndSlots) {
  Engine engine;
  const auto first = engine.apply(Builder{});
  const auto& s = engine.apply(Builder{.servers = {"10.2.0.9", "10.2.0.4", "10.2.0.2"}});
  for (const char* name : {"10.2.0.2:80", "10.2.0.4:80"}) {
    EXPECT_EQ(server_of(s, name).id, server_of(first, name).id) << name;
    EXPECT_EQ(server_of(s, name).slot, server_of(first, name).slot) << name;
    EXPECT_EQ(server_of(s, name).tcp_nat, server_of(first, name).tcp_nat) << name;
    EXPECT_EQ(s.server(server_of(s, name).slot), &server_of(s, name)) << name;
  }
  EXPECT_EQ(s.server(server_of(first, "10.2.0.3:80").slot), nullptr);
  EXPECT_NE(server_of(s, "10.2.0.9:80").slot, server_of(first, "10.2.0.3:80").slot);
  EXPECT_EQ(engine.registry.retired().servers.size(), 1u);
}

TEST(Compile, ServersAreFoundByIdentity) {
  Engine engine;
  std::vector<std::string> servers;
  for (int i = 0; i < 200; ++i) servers.push_back(fmt::format("10.2.{}.{}", i / 100, i % 100 + 2));
  const auto& s = engine.apply(Builder{.servers = servers});
  const auto& pool = s.pools[0];
  ASSERT_EQ(pool.servers.size(), 200u);
  for (const auto& server : pool.servers) EXPECT_EQ(pool.find(server.id), &server);
  EXPECT_EQ(pool.find(binding::ServerId{12345}), nullptr);
}

TEST(Compile, EnginesAgreeOnServersAndScopes) {
  Engine one;
  Engine other;
  other.env.engine = "se2";
  const auto& a = one.apply(Builder{.servers = {"10.2.0.2", "10.2.0.3"}});
  other.apply(Builder{.servers = {"10.2.0.7"}});
  const auto& b = other.apply(Builder{.servers = {"10.2.0.3", "10.2.0.2"}});
  EXPECT_EQ(server_of(a, "10.2.0.2:80").id, server_of(b, "10.2.0.2:80").id);
  EXPECT_EQ(a.scope(a.virtual_services[0].scope)->id, b.scope(b.virtual_services[0].scope)->id);
}

TEST(Compile, DeletedVirtualServiceIsResetAndItsScopeBecomesAGap) {
  Engine engine;
  const auto first = engine.apply(Builder{});
  const auto vs = first.virtual_services[0];
  const auto& s = engine.apply(config::Document{});
  EXPECT_THAT(s.vs_reset, ElementsAre(vs.slot));
  EXPECT_EQ(s.virtual_service(vs.slot), nullptr);
  EXPECT_EQ(s.scope(vs.scope), nullptr);
  EXPECT_FALSE(s.is_vip(address("10.1.0.100")));

  const auto& back = engine.apply(Builder{});
  EXPECT_THAT(back.vs_reset, ElementsAre(vs.slot));
  EXPECT_NE(back.virtual_services[0].slot, vs.slot);
  EXPECT_NE(back.virtual_services[0].scope, vs.scope);
  ASSERT_TRUE(engine.registry.recycle(vs.slot));
  EXPECT_THAT(engine.apply(Builder{}).vs_reset, IsEmpty());
}

TEST(Compile, MoreThanTheLimitIsAnErrorAndLeavesTheRegistryAlone) {
  config::Document d;
  for (std::size_t i = 0; i <= base::kVirtualServicesMax; ++i) {
    config::VirtualService vs;
    vs.uuid = vs.name = std::to_string(i);
    vs.path = "/VirtualService/" + vs.name;
    vs.served = false;
    d.virtual_services.push_back(vs);
  }
  Registry registry;
  const auto result = compile(d, environment(), registry);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.errors()[0].path, "/VirtualService/16384");
  EXPECT_EQ(registry.virtual_services.size(), 0u);
}

// ---- what is served, and from where

TEST(Compile, ServedAreThoseThatThisEngineServesOrStandsByFor) {
  const char* const more = R"(,
      {"name": "off", "enabled": false},
      {"name": "elsewhere", "vip": [{"ip_address": {"addr": "10.1.0.101", "type": "V4"}}],
       "services": [{"port": 80}], "pool_ref": "/api/pool/?name=pool",
       "se_group_ref": "/api/serviceenginegroup/?name=g",
       "application_profile_ref": "/api/applicationprofile/?name=System-L4-Application",
       "network_profile_ref": "/api/networkprofile/?name=System-TCP-Fast-Path"})";
  const Builder builder{.other_vs = more, .other_models = R"(, "ServiceEngineGroup": [
                            {"name": "g", "engines": ["se2", "se1"]}])"};
  Engine engine;
  engine.apply(builder);
  EXPECT_EQ(engine.last.virtual_services, 3u);
  EXPECT_EQ(engine.last.served, 1u) << "without an election the group is its first engine's alone";
  engine.env.elects = true;
  engine.env.peers = {"se2"};
  engine.apply(builder);
  EXPECT_EQ(engine.last.served, 2u) << "the group may be taken over";
  engine.env.engine = "se3";
  engine.apply(builder);
  EXPECT_EQ(engine.last.served, 1u);
}

TEST(Compile, AServerThatCannotBeReachedIsNamedWithTheReason) {
  Engine engine;
  engine.env.routes.clear();
  const config::Document document =
      Builder{.servers = {"10.2.0.2", "172.16.0.9", "10.2.0.1",
                          R"({"ip": {"addr": "app.example.com", "type": "DNS"}})"}}
          .build();
  const auto& s = engine.apply(document);
  const auto& servers = document.pools[0].servers;
  std::map<config::ServerId, std::string> expected = {
      {servers[1].id, "cannot be reached: no route"},
      {servers[2].id, "has an address of this engine"},
      {servers[3].id, "is a name: names are not resolved yet"}};
  EXPECT_EQ(engine.last.unreachable, expected);
  for (const auto& server : s.pools[0].servers) {
    EXPECT_EQ(server.reachable, expected.count(config::ServerId{server.id.value}) == 0)
        << server.name;
  }
}

TEST(Compile, AServerThatOneVirtualServiceReachesIsNotUnreachable) {
  // The port behind 10.9.0.0/16 has no IPv6 address to translate to; clients' own ones need none.
  Engine engine;
  engine.env.ports[1].addresses = {*net::Prefix::parse("10.2.0.1/24")};
  engine.env.routes.push_back({*net::Prefix::parse("fd00:9::/64"), 1, {}});
  const char* const preserving = R"(, {"name": "own",
      "vip": [{"ip6_address": {"addr": "fd00:1::101", "type": "V6"}}],
      "services": [{"port": 80}], "pool_ref": "/api/pool/?name=pool",
      "application_profile_ref": "/api/applicationprofile/?name=keeps",
      "network_profile_ref": "/api/networkprofile/?name=System-TCP-Fast-Path"})";
  Builder builder{.servers = {"fd00:9::2"}, .vips = "fd00:1::100"};
  engine.apply(builder);
  EXPECT_EQ(engine.last.unreachable.size(), 1u);
  builder.other_vs = preserving;
  builder.other_models = R"(, "ApplicationProfile": [
      {"name": "keeps", "type": "APPLICATION_PROFILE_TYPE_L4", "preserve_client_ip": true}])";
  engine.apply(builder);
  EXPECT_TRUE(engine.last.unreachable.empty());
}

TEST(Compile, WarningsPointIntoADocumentOfAnsible) {
  Engine engine;
  auto parsed = config::parse_document(R"({"avi_config": {
      "pool": [{"name": "p", "state": "absent"},
               {"name": "pool", "servers": [{"ip": {"addr": "172.16.0.9", "type": "V4"}}]}],
      "virtualservice": [{"name": "vs", "services": [{"port": 80}],
        "vip": [{"ip_address": {"addr": "10.1.0.100", "type": "V4"}}],
        "pool_ref": "/api/pool?name=pool",
        "application_profile_ref": "/api/applicationprofile?name=System-L4-Application",
        "network_profile_ref": "/api/networkprofile?name=System-TCP-Fast-Path"}]}})");
  ASSERT_TRUE(parsed);
  engine.env.routes.clear();
  engine.apply(parsed.value().document);
  ASSERT_EQ(engine.last.warnings.size(), 1u);
  EXPECT_EQ(engine.last.warnings[0].path, "/avi_config/pool/1");
}

// ---- pools of services

struct ServicePools {
  Builder builder{.other_pools = R"(, {"name": "tls", "default_server_port": 443,
          "servers": [{"ip": {"addr": "10.2.0.9", "type": "V4"}}]})",
                  .vs = R"("services": [{"port": 80}, {"port": 440, "port_range_end": 450}],
          "service_pool_select": [{"service_port": 443, "service_pool_ref": "/api/pool/?name=tls"}])"};
  Engine engine;
};

TEST(Compile, AServicePortWithItsOwnPoolHasARecordOfItsOwn) {
  ServicePools p;
  const auto& s = p.engine.apply(p.builder);
  EXPECT_THAT(p.engine.warnings(), IsEmpty());
  const auto* own = tcp(s, "10.1.0.100", 443);
  ASSERT_NE(own, nullptr);
  EXPECT_THAT(names(s.pools[own->pool.value]), ElementsAre("10.2.0.9:443"));
  for (const uint16_t port : std::initializer_list<uint16_t>{80, 440, 442, 444, 450}) {
    const auto* other = tcp(s, "10.1.0.100", port);
    ASSERT_NE(other, nullptr) << port;
    EXPECT_EQ(s.pools[other->pool.value].name, "pool") << port;
    EXPECT_EQ(other->slot, own->slot) << "one virtual service";
  }
  EXPECT_EQ(tcp(s, "10.1.0.100", 451), nullptr);
}

TEST(Compile, EachPoolOfAVirtualServiceHasItsOwnBindings) {
  ServicePools p;
  p.builder.other_pools = R"(, {"name": "tls", "application_persistence_profile_ref":
      "/api/applicationpersistenceprofile/?name=sticky",
      "servers": [{"ip": {"addr": "10.2.0.9", "type": "V4"}}]})";
  const auto before = p.engine.apply(p.builder);
  const auto scope_at = [](const Snapshot& s, uint16_t port) {
    return s.scope(tcp(s, "10.1.0.100", port)->scope);
  };
  ASSERT_NE(scope_at(before, 443), nullptr);
  EXPECT_NE(scope_at(before, 443)->id, scope_at(before, 80)->id);
  EXPECT_EQ(scope_at(before, 443)->pool_name, "tls");

  // They stay while the virtual service is switched off.
  p.builder.vs.insert(0, R"("enabled": false, )");
  const auto& off = p.engine.apply(p.builder);
  std::set<binding::ScopeId> live;
  for (const auto& scope : off.scopes) {
    if (scope.live) live.insert(scope.id);
  }
  EXPECT_EQ(live, (std::set{scope_at(before, 443)->id, scope_at(before, 80)->id}));
}

// ---- families

TEST(Compile, MixedPoolServesEachFamilyWithItsOwnServers) {
  Engine engine;
  const auto& s = engine.apply(
      Builder{.servers = {"10.2.0.2", "fd00:2::2", "10.2.0.3"}, .vips = "10.1.0.100 fd00:1::100"});
  const auto* v4 = tcp(s, "10.1.0.100", 80);
  const auto* v6 = tcp(s, "fd00:1::100", 80);
  ASSERT_NE(v4, nullptr);
  ASSERT_NE(v6, nullptr);
  EXPECT_THAT(names(s.pools[v4->pool.value]), ElementsAre("10.2.0.2:80", "10.2.0.3:80"));
  EXPECT_THAT(names(s.pools[v6->pool.value]), ElementsAre("[fd00:2::2]:80"));
  EXPECT_EQ(s.pools[v4->pool.value].uuid, s.pools[v6->pool.value].uuid);
  EXPECT_EQ(v4->slot, v6->slot);
  EXPECT_NE(v4->scope, v6->scope);
  EXPECT_EQ(s.scope(v6->scope)->pool, v6->pool);
  EXPECT_THAT(engine.warnings(), IsEmpty());
}

TEST(Compile, VipWithoutServersOfItsFamilyIsAWarning) {
  Engine engine;
  const auto& s = engine.apply(Builder{.vips = "10.1.0.100 fd00:1::100"});
  ASSERT_NE(tcp(s, "fd00:1::100", 80), nullptr);
  EXPECT_THAT(s.pools[tcp(s, "fd00:1::100", 80)->pool.value].servers, IsEmpty());
  EXPECT_THAT(engine.warnings(), ElementsAre(HasSubstr("no IPv6 server")));
}

// ---- how servers are reached

TEST(Compile, SnatAddressesOfTheFamilyAreTheSourcesInConsecutiveIds) {
  Engine engine;
  engine.env.snat = {address("10.2.0.10"), address("10.2.0.11"), address("fd00:2::10")};
  const auto& s = engine.apply(
      Builder{.servers = {"10.2.0.2", "10.2.0.3", "fd00:2::2"}, .vips = "10.1.0.100 fd00:1::100"});
  const auto& two = server_of(s, "10.2.0.2:80");
  const auto& three = server_of(s, "10.2.0.3:80");
  EXPECT_THAT(two.sources, ElementsAre(address("10.2.0.10"), address("10.2.0.11")));
  EXPECT_EQ(two.tcp_nat, NatId{0});
  EXPECT_EQ(three.tcp_nat, NatId{2});
  EXPECT_EQ(two.udp_nat, NatId{UINT32_MAX});
  EXPECT_THAT(server_of(s, "[fd00:2::2]:80").sources, ElementsAre(address("fd00:2::10")));
}

TEST(Compile, WithoutSnatTheSourceIsThePortsAddressOnTheWayToTheServer) {
  Engine engine;
  const auto& s = engine.apply(
      Builder{.servers = {"10.2.0.2", "10.3.0.2", "10.9.1.1", "192.0.2.1", "fd00:2::2"},
              .vips = "10.1.0.100 fd00:1::100"});
  EXPECT_THAT(server_of(s, "10.2.0.2:80").sources, ElementsAre(address("10.2.0.1")));
  EXPECT_THAT(server_of(s, "10.3.0.2:80").sources, ElementsAre(address("10.3.0.1")));
  EXPECT_THAT(server_of(s, "10.9.1.1:80").sources, ElementsAre(address("10.3.0.1")));
  EXPECT_EQ(server_of(s, "10.9.1.1:80").hop.next_hop, address("10.3.0.254"));
  EXPECT_EQ(server_of(s, "10.9.1.1:80").hop.port, 1);
  EXPECT_THAT(server_of(s, "192.0.2.1:80").sources, ElementsAre(address("10.1.0.1")));
  EXPECT_THAT(server_of(s, "[fd00:2::2]:80").sources, ElementsAre(address("fd00:2::1")));
}

TEST(Compile, LinkLocalAddressIsNoSourceTowardsAnotherScope) {
  Engine engine;
  engine.env.routes.push_back({*net::Prefix::parse("2001:db8::/32"), 0, address("fe80::99")});
  const auto& s = engine.apply(Builder{.servers = {"2001:db8::1"}, .vips = "fd00:1::100"});
  EXPECT_THAT(server_of(s, "[2001:db8::1]:80").sources, ElementsAre(address("fd00:1::1")));
}

TEST(Compile, PoolsWithTheSameServerShareItsSourcePorts) {
  Engine engine;
  const auto& s =
      engine.apply(Builder{.other_pools = R"(, {"name": "twin", "default_server_port": 80,
        "servers": [{"ip": {"addr": "10.2.0.3", "type": "V4"}}]})",
                           .other_vs = R"(, {"name": "vs2", "vsvip_ref": "/api/vsvip/?name=vip",
        "services": [{"port": 81}], "pool_ref": "/api/pool/?name=twin",
        "application_profile_ref": "/api/applicationprofile/?name=System-L4-Application",
        "network_profile_ref": "/api/networkprofile/?name=System-TCP-Fast-Path"})"});
  const auto& pool = s.pools[tcp(s, "10.1.0.100", 80)->pool.value];
  const auto& twin = s.pools[tcp(s, "10.1.0.100", 81)->pool.value];
  EXPECT_EQ(twin.servers[0].tcp_nat, pool.servers[1].tcp_nat);
  EXPECT_NE(twin.servers[0].slot, pool.servers[1].slot);
}

TEST(Compile, UseServicePortLeavesThePortToTheClient) {
  Engine engine;
  const auto& s =
      engine.apply(Builder{.pool = R"("use_service_port": true)",
                           .vs = R"("services": [{"port": 8000, "port_range_end": 8010}])"});
  const auto& pool = s.pools[tcp(s, "10.1.0.100", 8005)->pool.value];
  EXPECT_EQ(pool.servers[0].port, 0);
  EXPECT_NE(pool.servers[0].tcp_nat, pool.servers[1].tcp_nat);
}

TEST(Compile, PreservedClientsNeedNoSource) {
  Engine engine;
  engine.env.snat = {address("10.2.0.10")};
  const auto& s = engine.apply(
      Builder{.application = "keep", .other_models = R"(, "ApplicationProfile": [{"name": "keep",
        "type": "APPLICATION_PROFILE_TYPE_L4", "preserve_client_ip": true}])"});
  EXPECT_TRUE(tcp(s, "10.1.0.100", 80)->preserve_client);
  EXPECT_THAT(server_of(s, "10.2.0.2:80").sources, IsEmpty());
  EXPECT_EQ(engine.registry.nats.size(), 0u);
}

TEST(Compile, PoolThatIsUsedWithAndWithoutSourceNatIsCompiledForBoth) {
  Engine engine;
  const auto& s = engine.apply(Builder{.vs = R"("services": [{"port": 80},
               {"port": 53, "override_network_profile_ref": "/api/networkprofile/?name=System-UDP-No-SNAT"}])"});
  const auto& translated = s.pools[tcp(s, "10.1.0.100", 80)->pool.value];
  const auto& preserved = s.pools[udp(s, "10.1.0.100", 53)->pool.value];
  EXPECT_EQ(translated.servers[0].sources.size(), 1u);
  EXPECT_THAT(preserved.servers[0].sources, IsEmpty());
  EXPECT_EQ(translated.servers[0].slot, preserved.servers[0].slot);
  EXPECT_EQ(translated.servers[0].id, preserved.servers[0].id);
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->scope, udp(s, "10.1.0.100", 53)->scope);
}

TEST(Compile, ServerWithoutARouteIsUnreachableAndAWarning) {
  Engine engine;
  engine.env.routes.clear();
  const auto& s = engine.apply(Builder{.servers = {"10.2.0.2", "192.0.2.1"}});
  EXPECT_TRUE(server_of(s, "10.2.0.2:80").reachable);
  EXPECT_FALSE(server_of(s, "192.0.2.1:80").reachable);
  EXPECT_THAT(engine.warnings(), ElementsAre(HasSubstr("192.0.2.1:80 cannot be reached")));
}

TEST(Compile, ServerWithAnAddressOfTheEngineIsUnreachable) {
  Engine engine;
  const auto& s = engine.apply(Builder{.servers = {"10.2.0.2", "10.1.0.100", "10.2.0.1"}});
  EXPECT_FALSE(server_of(s, "10.1.0.100:80").reachable);
  EXPECT_FALSE(server_of(s, "10.2.0.1:80").reachable);
  EXPECT_EQ(engine.warnings().size(), 2u);
}

// ---- states

TEST(Compile, MarkedServerIsDownAndDisabledOneDrains) {
  Engine engine;
  const Builder builder{
      .servers = {"10.2.0.2", "10.2.0.3",
                  R"({"ip": {"addr": "10.2.0.4", "type": "V4"}, "enabled": false})"}};
  const auto document = builder.build();
  ASSERT_TRUE(engine.env.health.apply(
      document, std::vector<health::MarkRequest>{{"pool", "10.2.0.3", false, ""}}));
  const auto& s = engine.apply(document);
  EXPECT_EQ(server_of(s, "10.2.0.2:80").state, ServerState::kUp);
  EXPECT_EQ(server_of(s, "10.2.0.3:80").state, ServerState::kDown);
  EXPECT_EQ(server_of(s, "10.2.0.4:80").state, ServerState::kDisabled);
}

TEST(Compile, ConnectionsOfADisabledServerAreResetWhenItsTimeIsOver) {
  Engine engine;
  const auto document =
      Builder{.servers = {"10.2.0.2",
                          R"({"ip": {"addr": "10.2.0.3", "type": "V4"}, "enabled": false})"}}
          .build();
  EXPECT_FALSE(server_of(engine.apply(document), "10.2.0.3:80").reset_connections);
  engine.env.graceful_over = {document.pools[0].servers[1].id};
  const auto& s = engine.apply(document);
  EXPECT_TRUE(server_of(s, "10.2.0.3:80").reset_connections);
  EXPECT_FALSE(server_of(s, "10.2.0.2:80").reset_connections);
}

TEST(Compile, ConnectionsOfARemovedServerAreResetWhenItsTimeIsOver) {
  Engine engine;
  const auto before = Builder{}.build();
  const auto slot = server_of(engine.apply(before), "10.2.0.4:80").slot;
  const Builder without{.servers = {"10.2.0.2", "10.2.0.3"}};
  EXPECT_THAT(engine.apply(without).servers_reset, IsEmpty());
  engine.env.graceful_over = {before.pools[0].servers[2].id};
  EXPECT_THAT(engine.apply(without).servers_reset, ElementsAre(slot));
  // Drains forgets it; until the owner has seen that nobody uses the slot, resets go on.
  engine.env.graceful_over = {};
  EXPECT_THAT(engine.apply(without).servers_reset, ElementsAre(slot));
  const auto& back = engine.apply(Builder{});
  EXPECT_THAT(back.servers_reset, ElementsAre(slot));
  EXPECT_NE(server_of(back, "10.2.0.4:80").slot, slot);
  ASSERT_TRUE(engine.registry.recycle(slot));
  EXPECT_THAT(engine.apply(Builder{}).servers_reset, IsEmpty());
}

TEST(Compile, MaglevHoldsOnlyServersThatTakeNewClientsAndKeepsItsSize) {
  Engine engine;
  const auto document =
      Builder{.pool = R"("lb_algorithm": "LB_ALGORITHM_CONSISTENT_HASH")"}.build();
  const auto all = engine.apply(document).pools[0].maglev;
  ASSERT_TRUE(engine.env.health.apply(
      document, std::vector<health::MarkRequest>{{"pool", "10.2.0.3", false, ""}}));
  const auto two = engine.apply(document).pools[0].maglev;
  EXPECT_EQ(std::set<uint16_t>(all.begin(), all.end()), (std::set<uint16_t>{0, 1, 2}));
  EXPECT_EQ(std::set<uint16_t>(two.begin(), two.end()), (std::set<uint16_t>{0, 2}));
  EXPECT_EQ(all.size(), two.size());
}

TEST(Compile, IgnoredServerPortMakesPoolsOnTheSameHostsAgree) {
  const auto table = [](int port) {
    Engine engine;
    return engine
        .apply(Builder{.pool = fmt::format(R"("lb_algorithm": "LB_ALGORITHM_CONSISTENT_HASH",
                                              "ignore_server_port": true, "uuid": "pool-{}")",
                                           port),
                       .servers = {fmt::format(R"({{"ip": {{"addr": "10.2.0.2", "type": "V4"}},
                                                   "port": {}}})",
                                               port),
                                   fmt::format(R"({{"ip": {{"addr": "10.2.0.3", "type": "V4"}},
                                                   "port": {}}})",
                                               port)}})
        .pools[0]
        .maglev;
  };
  EXPECT_EQ(table(80), table(8080));
}

}  // namespace
}  // namespace limpet::compile
