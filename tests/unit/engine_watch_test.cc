// What is seen and said of an engine: events, status, metrics; slots that left; who owns groups.
#include <map>

#include "tests/unit/engine_lab.h"

namespace limpet::engine {
namespace {

using testing::HasSubstr;
using testing::Not;

class WatchTest : public testing::Test {
 protected:
  explicit WatchTest(const EngineLab::Options& options = {.entries = 20}) : lab(options) {}

  int told(const std::string& name) const {
    const std::string all = lab.log.str();
    int count = 0;
    for (auto at = all.find(name); at != std::string::npos; at = all.find(name, at + 1)) ++count;
    return count;
  }
  api::StatusView status() {
    std::optional<api::StatusView> out;
    lab.views.status([&](api::StatusView view) { out = std::move(view); });
    for (int i = 0; i < 20 && !out; ++i) {
      lab.tick();
      lab.spare.finish();
    }
    EXPECT_TRUE(out.has_value());
    return out.value_or(api::StatusView{});
  }
  api::MetricsView metrics() {
    std::optional<api::MetricsView> out;
    lab.views.metrics([&](api::MetricsView view) { out = std::move(view); });
    for (int i = 0; i < 20 && !out; ++i) {
      lab.tick();
      lab.spare.finish();
    }
    EXPECT_TRUE(out.has_value());
    return out.value_or(api::MetricsView{});
  }

  EngineLab lab;
};

TEST_F(WatchTest, ATableThatFillsIsToldOnce) {
  ASSERT_TRUE(lab.put(document()));
  for (int i = 0; i < 18; ++i) {
    EXPECT_EQ(told("PERSIST_TABLE_HIGH"), 0) << i;
    lab.datagram(fmt::format("10.1.0.{}", i + 2));
  }
  lab.advance(timing::seconds(2));
  lab.advance(timing::seconds(2));
  EXPECT_EQ(told("PERSIST_TABLE_HIGH"), 1);
  EXPECT_THAT(lab.log.str(), HasSubstr("18 of 20 entries"));
}

TEST_F(WatchTest, AServerAtItsLimitIsToldWhenItComesThere) {
  ASSERT_TRUE(lab.put(
      document({.servers = 1, .pool_more = R"(, "max_concurrent_connections_per_server": 1)"})));
  lab.advance(timing::seconds(1));
  EXPECT_EQ(told("SERVER_AT_LIMIT"), 0);
  lab.datagram("10.1.0.2");
  lab.advance(timing::seconds(1));
  lab.advance(timing::seconds(1));
  EXPECT_EQ(told("SERVER_AT_LIMIT"), 1);
  EXPECT_THAT(lab.log.str(), HasSubstr("pool0 10.2.0.2:80"));
}

TEST_F(WatchTest, SourcePortsThatRunOutAreToldOfTheTenantsServerAndTheAddress) {
  const std::string blue = R"(, "tenant_ref": "/api/tenant/?name=blue")";
  ASSERT_TRUE(lab.put(document({.servers = 1, .pool_more = blue, .service_more = blue})));
  const snapshot::Server& server = lab.running().snapshot->pools[0].servers[0];
  base::Random random(1);
  egress::SourcePorts only({5000, 5000}, random);
  lab.cores.core(0).forwarder().nats()[server.udp_nat.value] = &only;
  EXPECT_EQ(lab.datagram("10.1.0.2"), "10.2.0.2");
  EXPECT_EQ(lab.datagram("10.1.0.3"), "10.1.0.3") << "an ICMP error";
  lab.advance(timing::seconds(1));
  EXPECT_EQ(told("SNAT_EXHAUSTED"), 1);
  EXPECT_THAT(lab.log.str(), HasSubstr("blue/pool0 10.2.0.2:80"));
  EXPECT_THAT(lab.log.str(), HasSubstr("1 connections refused: no source port left"));
  lab.advance(timing::seconds(30));  // the flow's time is over
  EXPECT_EQ(lab.datagram("10.1.0.4"), "10.2.0.2");
  lab.advance(timing::seconds(1));
  EXPECT_EQ(told("SNAT_EXHAUSTED"), 2);
  EXPECT_THAT(lab.log.str(),
              HasSubstr("1 connections by source ports that were freed less than 60 s "
                        "before, the last one of 10.2.0.1"));
  const api::MetricsView view = metrics();
  EXPECT_EQ(view.servers.at(0).snat_exhausted_total, 1u);
  EXPECT_EQ(view.servers.at(0).snat_reused_total, 1u);
}

TEST_F(WatchTest, LimitsAreToldWithTheTenant) {
  const std::string blue = R"(, "tenant_ref": "/api/tenant/?name=blue")";
  ASSERT_TRUE(lab.put(document({.servers = 1,
                                .pool_more = blue + R"(,
                                    "max_concurrent_connections_per_server": 1)",
                                .service_more = blue})));
  lab.datagram("10.1.0.2");
  lab.advance(timing::seconds(1));
  EXPECT_EQ(told("SERVER_AT_LIMIT"), 1);
  EXPECT_THAT(lab.log.str(), HasSubstr("blue/pool0 10.2.0.2:80"));
}

TEST_F(WatchTest, ALinkThatComesUpIsActedOnOnce) {
  lab.advance(timing::seconds(1));
  EXPECT_TRUE(lab.came_up.empty());
  lab.links[1] = true;
  lab.advance(timing::seconds(1));
  lab.advance(timing::seconds(1));
  EXPECT_EQ(lab.came_up, std::vector<uint8_t>{1});
}

// --- views
// ----------------------------------------------------------------------------------------

TEST_F(WatchTest, StatusSaysWhatIsServedAndWhyNot) {
  const std::string off = R"(, "enabled": false)";
  ASSERT_TRUE(lab.put(document()));
  api::VirtualServiceStatus vs = status().virtual_services.at(0);
  EXPECT_EQ(vs.name, "web0");
  EXPECT_EQ(vs.tenant, "admin");
  EXPECT_EQ(vs.uuid, lab.running().document->document.virtual_services[0].uuid);
  EXPECT_TRUE(vs.serving);
  EXPECT_FALSE(vs.reason);
  EXPECT_EQ(vs.oper_status, "OPER_UP");
  EXPECT_EQ(vs.servers.size(), 3u);
  ASSERT_TRUE(lab.put(document({.service_more = off})));
  vs = status().virtual_services.at(0);
  EXPECT_FALSE(vs.serving);
  EXPECT_EQ(vs.reason, "disabled");
  EXPECT_EQ(vs.oper_status, "OPER_DISABLED");
}

TEST_F(WatchTest, AServerThatNothingLeadsToIsDownWithAReason) {
  ASSERT_TRUE(lab.put(document({.first_server = "10.9.0.2"})));
  const api::StatusView view = status();
  EXPECT_EQ(view.virtual_services.at(0).oper_status, "OPER_DOWN");
  EXPECT_EQ(view.virtual_services.at(0).servers.at(0).oper_status, "OPER_DOWN");
  ASSERT_TRUE(view.virtual_services.at(0).servers.at(0).reason);
  EXPECT_THAT(*view.virtual_services.at(0).servers.at(0).reason, HasSubstr("no route"));
  EXPECT_FALSE(metrics().servers.at(0).up);
}

TEST_F(WatchTest, WhatADeviceLostIsAmongTheDropsOfItsPort) {
  const auto at = [](packet::DropReason reason) { return static_cast<std::size_t>(reason); };
  lab.ports = {{.name = "front"}, {.name = "back"}};
  lab.device_drops[1][at(packet::DropReason::kDeviceMissed)] = 7;
  lab.device_drops[1][at(packet::DropReason::kNoBuffers)] = 2;
  const api::StatusView view = status();
  ASSERT_EQ(view.ports.size(), 2u);
  EXPECT_TRUE(view.ports[0].drops.empty());
  std::map<std::string, uint64_t> drops;
  for (const api::ReasonCount& drop : view.ports[1].drops) drops[drop.reason] = drop.count;
  EXPECT_EQ(drops, (std::map<std::string, uint64_t>{{"device_missed", 7}, {"no_buffer", 2}}));
}

TEST_F(WatchTest, ViewsAreMadeInSlicesOfOneConfiguration) {
  ASSERT_TRUE(lab.put(document({.services = 150, .servers = 10})));
  std::optional<api::StatusView> out;
  lab.views.status([&](api::StatusView view) { out = std::move(view); });
  lab.views.tick();
  EXPECT_FALSE(out) << "1,500 servers in one step";
  ASSERT_TRUE(lab.put(document()));  // meanwhile; it also ends the making
  ASSERT_TRUE(out);
  ASSERT_EQ(out->virtual_services.size(), 150u);
  for (const auto& vs : out->virtual_services) EXPECT_EQ(vs.servers.size(), 10u);
}

TEST_F(WatchTest, EveryServerIsInTheMetricsOnce) {
  ASSERT_TRUE(lab.put(document({.services = 150, .servers = 10})));
  const api::MetricsView view = metrics();
  EXPECT_EQ(view.virtual_services.size(), 150u);
  EXPECT_EQ(view.servers.size(), 1500u);
}

TEST_F(WatchTest, WhoAsksMeanwhileIsAnsweredWithTheNext) {
  ASSERT_TRUE(lab.put(document({.services = 150, .servers = 10})));
  int answers = 0;
  lab.views.status([&](const api::StatusView&) { ++answers; });
  lab.views.tick();  // is begun
  for (int i = 0; i < 4; ++i) lab.views.status([&](const api::StatusView&) { ++answers; });
  lab.views.tick();
  lab.spare.finish();
  EXPECT_EQ(answers, 1);
  for (int i = 0; i < 2; ++i) lab.views.tick();
  lab.spare.finish();
  EXPECT_EQ(answers, 5);
}

TEST_F(WatchTest, CountsAreOverAllCores) {
  ASSERT_TRUE(lab.put(document()));
  lab.datagram("10.1.0.2", "10.1.0.100", 0);
  lab.datagram("10.1.0.3", "10.1.0.100", 1);
  const api::MetricsView view = metrics();
  EXPECT_EQ(view.virtual_services.at(0).connections, 2u);
  EXPECT_EQ(view.virtual_services.at(0).connections_total, 2u);
  EXPECT_EQ(view.virtual_services.at(0).entries, 2u);
  EXPECT_EQ(lab.views.telemetry().connections, 2u);
  EXPECT_EQ(lab.views.telemetry().virtual_services_up, 1u);
}

// --- slots that left
// ------------------------------------------------------------------------------

TEST_F(WatchTest, ASlotIsGivenBackWhenNobodyUsesItAndCountsFromZeroAgain) {
  ASSERT_TRUE(lab.put(document()));
  lab.datagram("10.1.0.2");
  const auto slot = lab.running().inventory->services[0].slot;
  ASSERT_EQ(lab.retirement.total(slot), 1u);
  ASSERT_TRUE(lab.put(R"({"generation": 9})"));
  for (int i = 0; i < 5; ++i) lab.advance(timing::seconds(1));
  EXPECT_TRUE(lab.running().registry.retired().virtual_services.empty());
  ASSERT_TRUE(lab.put(document({.service_more = R"(, "uuid": "another")"})));
  ASSERT_EQ(lab.running().inventory->services[0].slot, slot);
  EXPECT_EQ(lab.retirement.total(slot), 0u);
}

TEST_F(WatchTest, ASlotInUseStays) {
  const std::string patient = R"(, "graceful_disable_timeout": -1)";
  ASSERT_TRUE(lab.put(document({.pool_more = patient})));
  ASSERT_EQ(lab.datagram("10.1.0.2"), "10.2.0.2");
  // Another first server: the connection to the one that left goes on.
  ASSERT_TRUE(lab.put(document({.first_server = "10.2.0.3", .pool_more = patient})));
  lab.advance(timing::seconds(1));
  EXPECT_EQ(lab.running().registry.retired().servers.size(), 1u);
  for (int i = 0; i < 20; ++i) lab.advance(timing::seconds(1));  // it has ended by idling
  EXPECT_TRUE(lab.running().registry.retired().servers.empty());
}

// --- groups
// ---------------------------------------------------------------------------------------

const char* const kGroup = R"("ServiceEngineGroup": [{"name": "g", "engines": ["se1", "se2"]},
                               {"name": "far", "engines": ["se2", "se3"]}],)";
const char* const kInGroup = R"(, "se_group_ref": "/api/serviceenginegroup/?name=g")";

class OwnershipTest : public WatchTest {
 protected:
  OwnershipTest() : WatchTest({.entries = 64, .peers = {"se2"}}) {
    EXPECT_TRUE(lab.put(document({.service_more = kInGroup, .objects = kGroup})));
    failover::Election::Options options{.name = "se1", .boot = {}, .peers = {"se2"}};
    options.boot.bytes[0] = 1;
    Ownership::Hooks hooks{.session = [](std::size_t) { return failover::SessionView{}; },
                           .say =
                               [this](std::size_t, std::span<const uint8_t> body) {
                                 said.emplace_back(body.begin(), body.end());
                               },
                           .addresses = [](std::size_t) { return std::vector<net::Address>{}; },
                           .send = [](const net::Address&, std::span<const uint8_t>) {},
                           .announce = [] {}};
    ownership =
        std::make_unique<Ownership>(options, std::nullopt, lab.cores, lab.changes, lab.exchange,
                                    lab.reporter, lab.clock, std::move(hooks));
  }
  // Time passes, everybody has turns.
  void pass(timing::Duration all) {
    constexpr timing::Duration kStep = timing::milliseconds(50);
    for (timing::Duration t{}; t < all; t += kStep) {
      lab.clock.advance(kStep);
      for (uint32_t c = 0; c < lab.cores.cores(); ++c)
        lab.cores.core(c).stats().idle_ns += 50'000'000;
      lab.settle();
      ownership->tick();
    }
  }

  std::vector<std::vector<uint8_t>> said;
  std::unique_ptr<Ownership> ownership;
};

TEST_F(OwnershipTest, AStandbyDoesNotSayThatItServes) {
  const api::VirtualServiceStatus vs = status().virtual_services.at(0);
  EXPECT_FALSE(vs.serving);
  EXPECT_EQ(vs.reason, "another engine owns group g");
  EXPECT_EQ(vs.oper_status, "OPER_INACTIVE");
  EXPECT_FALSE(metrics().virtual_services.at(0).up);
  EXPECT_EQ(told("VS_UP"), 0);
}

TEST_F(OwnershipTest, WhoHearsNobodyTakesItsGroupAndServesIt) {
  pass(timing::seconds(5));
  EXPECT_EQ(told("GROUP_TAKEN"), 1);
  EXPECT_TRUE(status().virtual_services.at(0).serving);
  ASSERT_EQ(lab.running().owned.size(), 1u);
}

TEST_F(OwnershipTest, AGroupOfOtherEnginesIsForeign) {
  pass(timing::seconds(5));
  const auto groups = ownership->status();
  const auto state = [&](const std::string& name) {
    for (const auto& group : groups) {
      if (group.name == name) return group.state;
    }
    return std::string();
  };
  EXPECT_EQ(state("g"), "owner");
  EXPECT_EQ(state("far"), "foreign");
  EXPECT_EQ(state("Default-Group"), "owner");
}

TEST_F(OwnershipTest, ATakeOverIsNotBehindTheDocumentsThatWait) {
  for (uint32_t i = 0; i < 5; ++i) {
    lab.changes.add({.change = PutDocument{document(
                         {.timeout_s = 70 + i, .service_more = kInGroup, .objects = kGroup})}});
  }
  lab.applied.clear();
  // The first document is in hand; nothing of it is answered while the election wants the group.
  constexpr timing::Duration kStep = timing::milliseconds(50);
  for (int i = 0; i < 100 && told("GROUP_TAKEN") == 0; ++i) {
    lab.clock.advance(kStep);
    for (uint32_t c = 0; c < lab.cores.cores(); ++c)
      lab.cores.core(c).stats().idle_ns += 50'000'000;
    lab.turn();
    lab.news.read();
    lab.exchange.tick(lab.clock.now());
    ownership->tick();
  }
  for (int i = 0; i < 10; ++i) {
    lab.settle();
    ownership->tick();
  }
  ASSERT_GE(lab.applied.size(), 2u);
  EXPECT_EQ(lab.applied[0], "document");
  EXPECT_EQ(lab.applied[1], "owned");
}

TEST_F(OwnershipTest, PeersAreToldOfClaims) {
  pass(timing::seconds(1));
  EXPECT_GE(said.size(), 5u);
  EXPECT_LE(said.size(), 40u);
}

}  // namespace
}  // namespace limpet::engine
