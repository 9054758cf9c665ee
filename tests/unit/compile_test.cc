#include "control/compile/compile.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <set>

namespace limpet::compile {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

using snapshot::NatId;
using snapshot::ServerState;
using snapshot::Snapshot;

net::Address address(const char* text) {
  return *net::Address::parse(text);
}

Environment environment() {
  Environment e;
  e.engine = "se1";
  e.ports = {{.name = "front",
              .index = 0,
              .mac = {},
              .addresses = {*net::Prefix::parse("10.1.0.1/24"), *net::Prefix::parse("fe80::1/64"),
                            *net::Prefix::parse("fd00:1::1/64")}},
             {.name = "back",
              .index = 1,
              .mac = {},
              .addresses = {*net::Prefix::parse("10.2.0.1/24"), *net::Prefix::parse("10.3.0.1/24"),
                            *net::Prefix::parse("fd00:2::1/64")}}};
  e.routes = {{*net::Prefix::parse("0.0.0.0/0"), 0, address("10.1.0.254")},
              {*net::Prefix::parse("10.9.0.0/16"), 1, address("10.3.0.254")}};
  return e;
}

// A document under construction; every part has a usable default.
struct Builder {
  std::string profile = R"("ip_persistence_profile": {"ip_persistent_timeout": 5})";
  std::string second_profile;
  std::string pool =
      R"("application_persistence_profile_ref": "/api/applicationpersistenceprofile/?name=sticky")";
  std::vector<std::string> servers{"10.2.0.2", "10.2.0.3", "10.2.0.4"};
  std::string other_pools;
  std::string vips = "10.1.0.100";
  std::string vs = R"("services": [{"port": 80}])";
  std::string network = "System-TCP-Fast-Path";
  std::string application = "System-L4-Application";
  std::string other_vs;
  std::string other_models;

  std::string server_list() const {
    std::string out;
    for (const std::string& s : servers) {
      if (!out.empty()) out += ",";
      if (s.front() == '{') {
        out += s;
      } else {
        out += fmt::format(R"({{"ip": {{"addr": "{}", "type": "{}"}}}})", s,
                           s.find(':') == s.npos ? "V4" : "V6");
      }
    }
    return out;
  }
  std::string vip_list() const {
    std::string out;
    std::size_t from = 0;
    for (int id = 0; from < vips.size(); ++id) {
      const std::size_t to = std::min(vips.find(' ', from), vips.size());
      const std::string vip = vips.substr(from, to - from);
      const bool v4 = vip.find(':') == vip.npos;
      out += fmt::format(R"({}{{"vip_id": "{}", "{}": {{"addr": "{}", "type": "{}"}}}})",
                         out.empty() ? "" : ",", id, v4 ? "ip_address" : "ip6_address", vip,
                         v4 ? "V4" : "V6");
      from = to + 1;
    }
    return out;
  }
  std::string json() const {
    return fmt::format(
        R"({{"ApplicationPersistenceProfile": [{{"name": "sticky",
               "persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS", {}}}{}],
             "Pool": [{{"name": "pool", "default_server_port": 80, "servers": [{}]{}{}}}{}],
             "VsVip": [{{"name": "vip", "vip": [{}]}}],
             "VirtualService": [{{"name": "vs", "vsvip_ref": "/api/vsvip/?name=vip",
               "pool_ref": "/api/pool/?name=pool",
               "application_profile_ref": "/api/applicationprofile/?name={}",
               "network_profile_ref": "/api/networkprofile/?name={}", {}}}{}]{}}})",
        profile, second_profile, server_list(), pool.empty() ? "" : ",", pool, other_pools,
        vip_list(), application, network, vs, other_vs, other_models);
  }
  config::Document build() const {
    auto parsed = config::parse_document(json());
    if (!parsed) {
      for (const auto& e : parsed.errors()) ADD_FAILURE() << e.path << ": " << e.message;
      return {};
    }
    return std::move(parsed.value().document);
  }
};

// An engine that is given one document after the other.
struct Engine {
  Environment env = environment();
  Registry registry;
  Compiled last;

  const Snapshot& apply(const Builder& builder) { return apply(builder.build()); }
  const Snapshot& apply(const config::Document& document) {
    auto result = compile(document, env, registry);
    if (!result) {
      for (const auto& e : result.errors()) ADD_FAILURE() << e.path << ": " << e.message;
      std::abort();
    }
    last = std::move(result.value());
    return *last.snapshot;
  }
  std::vector<std::string> warnings() const {
    std::vector<std::string> out;
    for (const auto& w : last.warnings) out.push_back(w.message);
    return out;
  }
};

const snapshot::Server& server_of(const Snapshot& s, const char* name) {
  for (const auto& pool : s.pools) {
    for (const auto& server : pool.servers) {
      if (server.name == name) return server;
    }
  }
  ADD_FAILURE() << "no server " << name;
  std::abort();
}

std::vector<std::string> names(const snapshot::Pool& pool) {
  std::vector<std::string> out;
  for (const auto& server : pool.servers) out.push_back(server.name);
  return out;
}

const snapshot::VirtualService* tcp(const Snapshot& s, const char* vip, uint16_t port) {
  return s.find(address(vip), IPPROTO_TCP, port);
}
const snapshot::VirtualService* udp(const Snapshot& s, const char* vip, uint16_t port) {
  return s.find(address(vip), IPPROTO_UDP, port);
}

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
  EXPECT_EQ(pool.find(snapshot::ServerId{12345}), nullptr);
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
  std::set<snapshot::ScopeId> live;
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

// ---- persistence

TEST(Compile, ScopeSaysWhatTheProfileSays) {
  Engine engine;
  const auto& s = engine.apply(Builder{
      .profile = R"("server_hm_down_recovery": "HM_DOWN_ABORT_CONNECTION",
        "ip_persistence_profile": {"ip_persistent_timeout": 7, "ip_mask": 24})",
      .pool =
          R"("application_persistence_profile_ref": "/api/applicationpersistenceprofile/?name=sticky",
        "server_disable_type": "ALLOW_NEW_CONNECTION_IF_PERSISTENCE_PRESENT")"});
  const auto* scope = s.scope(tcp(s, "10.1.0.100", 80)->scope);
  ASSERT_NE(scope, nullptr);
  EXPECT_EQ(scope->timeout, timing::minutes(7));
  EXPECT_EQ(scope->mask_v4, 24);
  EXPECT_EQ(scope->down, snapshot::Recovery::kAbort);
  EXPECT_EQ(scope->at_limit, snapshot::Recovery::kAbort);
  EXPECT_EQ(scope->draining, snapshot::Recovery::kContinue);
  EXPECT_EQ(scope->type, "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS");
  EXPECT_EQ(scope->virtual_service, "vs");
  EXPECT_EQ(scope->pool_name, "pool");
  EXPECT_EQ(scope->profile, "sticky");
}

TEST(Compile, TimeoutOfZeroTurnsPersistenceOff) {
  Engine engine;
  const auto& s =
      engine.apply(Builder{.profile = R"("ip_persistence_profile": {"ip_persistent_timeout": 0})"});
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->scope, snapshot::kNoScope);
}

constexpr const char* kSecondVs = R"(, {"name": "vs2", "vsvip_ref": "/api/vsvip/?name=vip",
    "services": [{"port": 81}], "pool_ref": "/api/pool/?name=pool",
    "application_profile_ref": "/api/applicationprofile/?name=System-L4-Application",
    "network_profile_ref": "/api/networkprofile/?name=System-TCP-Fast-Path"})";

TEST(Compile, VirtualServicesHaveScopesOfTheirOwn) {
  Engine engine;
  const auto& s = engine.apply(Builder{.other_vs = kSecondVs});
  EXPECT_NE(tcp(s, "10.1.0.100", 80)->scope, tcp(s, "10.1.0.100", 81)->scope);
  EXPECT_EQ(s.scope(tcp(s, "10.1.0.100", 81)->scope)->virtual_service, "vs2");
}

TEST(Compile, SharedProfileIsOneScopeForAllVirtualServicesOfThePool) {
  Engine engine;
  const auto& s = engine.apply(Builder{.profile = R"("persistence_shared": true,
        "ip_persistence_profile": {"ip_persistent_timeout": 5})",
                                       .other_vs = kSecondVs});
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->scope, tcp(s, "10.1.0.100", 81)->scope);
  EXPECT_EQ(s.scope(tcp(s, "10.1.0.100", 81)->scope)->virtual_service, "");
}

TEST(Compile, ASharedScopeHasThePoolOfAVirtualServiceThatIsServed) {
  Engine engine;
  std::string off = kSecondVs;
  off.insert(off.find("\"services\""), R"("enabled": false, )");
  Builder builder{.profile = R"("persistence_shared": true,
        "ip_persistence_profile": {"ip_persistent_timeout": 5})",
                  .other_vs = off};
  // Whichever of the two comes first in the document.
  for (const bool first : {true, false}) {
    SCOPED_TRACE(first);
    if (!first) {
      builder.vs.insert(0, R"("enabled": false, )");
      builder.other_vs = kSecondVs;
    }
    const auto& s = engine.apply(builder);
    const auto* served = tcp(s, "10.1.0.100", first ? 80 : 81);
    ASSERT_NE(served, nullptr);
    const snapshot::Scope* scope = s.scope(served->scope);
    ASSERT_NE(scope, nullptr);
    EXPECT_EQ(scope->pool, served->pool);
    EXPECT_FALSE(s.pools[scope->pool.value].servers[0].sources.empty());
  }
}

TEST(Compile, ChangedTimeoutKeepsTheScope) {
  Engine engine;
  const auto before = engine.apply(Builder{});
  const auto& s =
      engine.apply(Builder{.profile = R"("ip_persistence_profile": {"ip_persistent_timeout": 9})"});
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->scope, tcp(before, "10.1.0.100", 80)->scope);
  EXPECT_EQ(s.scope(tcp(s, "10.1.0.100", 80)->scope)->timeout, timing::minutes(9));
}

// The scope of the only virtual service when its profile's ip_mask is this one.
snapshot::ScopeId scope_with_mask(Engine& engine, const char* vip, const char* mask) {
  const auto& s = engine.apply(Builder{
      .profile = fmt::format(R"("ip_persistence_profile": {{"ip_persistent_timeout": 5{}{}}})",
                             *mask == 0 ? "" : ", \"ip_mask\": ", mask),
      .servers = {"10.2.0.2", "fd00:2::2"},
      .vips = vip});
  return s.scope(tcp(s, vip, 80)->scope)->id;
}

TEST(Compile, AChangedMaskIsAnotherScope) {
  Engine engine;
  const auto whole = scope_with_mask(engine, "10.1.0.100", "");
  const auto of_24 = scope_with_mask(engine, "10.1.0.100", "24");
  const auto of_16 = scope_with_mask(engine, "10.1.0.100", "16");
  EXPECT_EQ((std::set{whole, of_24, of_16}.size()), 3u);
  EXPECT_EQ(scope_with_mask(engine, "10.1.0.100", "24"), of_24);
}

TEST(Compile, AMaskThatLeavesTheFamilysKeysAsTheyAreKeepsTheScope) {
  Engine v4;
  const auto whole_v4 = scope_with_mask(v4, "10.1.0.100", "");
  EXPECT_EQ(scope_with_mask(v4, "10.1.0.100", "32"), whole_v4);
  EXPECT_EQ(scope_with_mask(v4, "10.1.0.100", "64"), whole_v4);
  Engine v6;
  const auto whole_v6 = scope_with_mask(v6, "fd00:1::100", "");
  EXPECT_EQ(scope_with_mask(v6, "fd00:1::100", "128"), whole_v6);
  EXPECT_NE(scope_with_mask(v6, "fd00:1::100", "64"), whole_v6);
}

TEST(Compile, ScopeIdsTellTypesVirtualServicesPoolsProfilesFamiliesAndFormsOfKeysApart) {
  using enum config::PersistenceType;
  const auto v4 = net::Family::kV4;
  const config::Profile f{.uuid = "f", .type = kClientIp};
  config::Profile cookie = f;
  cookie.type = kAppCookie;
  cookie.key_name = "JSESSIONID";
  config::Profile other_cookie = cookie;
  other_cookie.key_name = "SID";
  config::Profile shared = f;
  shared.shared = true;
  config::Profile masked = f;
  masked.ip_mask = 24;
  config::Profile other = f;
  other.uuid = "g";
  std::set<snapshot::ScopeId> ids{
      scope_id(f, "v", "p", v4),      scope_id(cookie, "v", "p", v4),
      scope_id(shared, "v", "p", v4), scope_id(other_cookie, "v", "p", v4),
      scope_id(f, "w", "p", v4),      scope_id(f, "v", "q", v4),
      scope_id(other, "v", "p", v4),  scope_id(f, "v", "p", net::Family::kV6),
      scope_id(masked, "v", "p", v4)};
  EXPECT_EQ(ids.size(), 9u);
  EXPECT_EQ(scope_id(shared, "w", "p", v4), scope_id(shared, "v", "p", v4));
  // Engines of different builds must agree: never to change.
  EXPECT_EQ(scope_id(f, "v", "p", v4).value, 7793783597064280453u);
  EXPECT_EQ(scope_id(masked, "v", "p", v4).value, 5501711057606104116u);
}

TEST(Compile, VirtualServiceThatIsSwitchedOffKeepsItsBindings) {
  Engine engine;
  const auto before = engine.apply(Builder{});
  const auto& s =
      engine.apply(Builder{.vs = R"("services": [{"port": 80}], "traffic_enabled": false)"});
  EXPECT_EQ(tcp(s, "10.1.0.100", 80), nullptr);
  EXPECT_NE(s.scope(before.virtual_services[0].scope), nullptr);
}

}  // namespace
}  // namespace limpet::compile
