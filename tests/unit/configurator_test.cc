// How what this engine owns becomes part of its configuration.
#include "control/engine/configurator.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

namespace limpet::engine {
namespace {

using snapshot::Snapshot;

net::Address address(std::string_view text) {
  return *net::Address::parse(text);
}

// A document with one group of se1 and se2 and this many virtual services of ten servers in it.
std::string grouped_document(uint32_t services) {
  std::string pools;
  std::string vips;
  std::string all;
  for (uint32_t i = 0; i < services; ++i) {
    const char* comma = i == 0 ? "" : ",";
    std::string servers;
    for (uint32_t n = 0; n < 10; ++n) {
      servers += fmt::format(R"({}{{"ip": {{"addr": "10.2.{}.{}", "type": "V4"}}}})",
                             n == 0 ? "" : ",", i * 10 / 250 + 1, i * 10 % 250 + n + 1);
    }
    pools += fmt::format(
        R"({}{{"name": "p{}", "default_server_port": 80, "lb_algorithm":
            "LB_ALGORITHM_CONSISTENT_HASH", "application_persistence_profile_ref":
            "/api/applicationpersistenceprofile/?name=sticky", "servers": [{}]}})",
        comma, i, servers);
    vips += fmt::format(R"({}{{"name": "v{}", "vip": [{{"vip_id": "0", "ip_address":
                            {{"addr": "10.1.{}.{}", "type": "V4"}}}}]}})",
                        comma, i, i / 250 + 1, i % 250 + 1);
    all += fmt::format(
        R"({}{{"name": "s{}", "vsvip_ref": "/api/vsvip/?name=v{}", "services": [{{"port": 80}}],
            "pool_ref": "/api/pool/?name=p{}", "se_group_ref": "/api/serviceenginegroup/?name=g",
            "application_profile_ref": "/api/applicationprofile/?name=System-L4-Application",
            "network_profile_ref": "/api/networkprofile/?name=System-TCP-Fast-Path"}})",
        comma, i, i, i);
  }
  return fmt::format(
      R"({{"ApplicationPersistenceProfile": [{{"name": "sticky", "persistence_type":
            "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS", "ip_persistence_profile": {{}}}}],
          "ServiceEngineGroup": [{{"name": "g", "uuid": "g-uuid", "engines": ["se1", "se2"],
            "floating_intf_ip": [{{"addr": "10.2.0.5", "type": "V4"}}]}}],
          "Pool": [{}], "VsVip": [{}], "VirtualService": [{}]}})",
      pools, vips, all);
}

class Configured : public ::testing::Test {
 protected:
  Configured() {
    around.engine = "se1";
    around.peers = {"se2"};
    around.ports = {
        {.name = "front", .index = 0, .addresses = {*net::Prefix::parse("10.1.0.1/16")}},
        {.name = "back", .index = 1, .addresses = {*net::Prefix::parse("10.2.0.1/16")}}};
    running = Configuration::empty(around);
  }
  void change(const Change& what) {
    auto outcome = prepare(running, what, around, {});
    auto* prepared = std::get_if<Prepared>(&outcome);
    ASSERT_NE(prepared, nullptr) << std::get<Refused>(outcome).errors.front().message;
    running = std::move(prepared->next);
  }
  const Snapshot& now() const { return *running.snapshot; }
  bool is_served() const { return now().find(address("10.1.1.1"), IPPROTO_TCP, 80) != nullptr; }

  Surroundings around;
  Configuration running;
};

TEST_F(Configured, AGroupIsServedFromWhenItIsOwnedUntilItIsNot) {
  change(PutDocument{grouped_document(2)});
  EXPECT_FALSE(is_served());
  EXPECT_EQ(now().own(address("10.2.0.5")), nullptr);
  change(SetOwned{{compile::group_id("g-uuid")}});
  EXPECT_TRUE(is_served());
  EXPECT_NE(now().own(address("10.2.0.5")), nullptr);
  change(SetOwned{});
  EXPECT_FALSE(is_served());
}

TEST_F(Configured, WhatIsOwnedStaysOverDocuments) {
  change(PutDocument{grouped_document(1)});
  change(SetOwned{{compile::group_id("g-uuid")}});
  change(PutDocument{grouped_document(2)});
  EXPECT_TRUE(is_served());
  change(Recompile{});
  EXPECT_TRUE(is_served());
}

TEST_F(Configured, TablesOfConsistentHashAreThoseThatCompilingAnewWouldMake) {
  change(PutDocument{grouped_document(3)});
  change(SetMarks{R"([{"pool": "p1", "server": "10.2.1.11:80", "oper_status": "OPER_DOWN",
                       "reason": "test"}])"});
  change(SetOwned{{compile::group_id("g-uuid")}});
  const auto reused = running.snapshot;
  change(PutDocument{grouped_document(3)});
  ASSERT_EQ(now().pools.size(), reused->pools.size());
  for (std::size_t i = 0; i < now().pools.size(); ++i) {
    EXPECT_FALSE(now().pools[i].maglev.empty());
    EXPECT_EQ(now().pools[i].maglev, reused->pools[i].maglev);
  }
}

TEST_F(Configured, WhenRoutesChangedLastIsKnown) {
  const uint64_t since = now().routes_since;
  EXPECT_EQ(since, now().version);
  const auto table = now().route_table;
  change(PutDocument{grouped_document(2)});
  change(SetMarks{R"([{"pool": "p1", "server": "10.2.1.11:80", "oper_status": "OPER_DOWN",
                       "reason": "test"}])"});
  change(SetOwned{{compile::group_id("g-uuid")}});
  EXPECT_EQ(now().routes_since, since);
  EXPECT_EQ(now().route_table, table) << "it is shared";
  around.routes = {{*net::Prefix::parse("10.9.0.0/16"), 1, address("10.2.0.254")}};
  change(Recompile{});
  EXPECT_EQ(now().routes_since, now().version);
  snapshot::Hop hop;
  ASSERT_TRUE(now().route(address("10.9.1.1"), &hop));
  EXPECT_EQ(hop.next_hop, address("10.2.0.254"));
  change(Recompile{});
  EXPECT_EQ(now().routes_since + 1, now().version);
  around.ports[1].addresses = {*net::Prefix::parse("10.3.0.1/16")};
  change(Recompile{});
  EXPECT_EQ(now().routes_since, now().version);
  EXPECT_FALSE(now().route(address("10.2.1.1"), &hop));
}

TEST_F(Configured, AThousandServicesAreTakenOverAtOnce) {
  change(PutDocument{grouped_document(1000)});
  const std::size_t nats = running.registry.nats.size();
  change(SetOwned{{compile::group_id("g-uuid")}});
  EXPECT_TRUE(is_served());
  EXPECT_EQ(now().listeners.size(), 1000u);
  EXPECT_EQ(running.registry.nats.size(), nats) << "source ports were there before";
}

// ---- memory for source ports ----

config::Bootstrap bootstrap_of(uint32_t workers, uint32_t size_mb) {
  config::Bootstrap b;
  b.memory = {.hugepages = false, .size_mb = size_mb};
  for (uint32_t w = 0; w < workers; ++w) b.worker_cores.push_back(w);
  b.ports.resize(2);
  return b;
}

TEST_F(Configured, EachServerProtocolAndSourceAddressNeedsABlockOfSourcePorts) {
  change(PutDocument{grouped_document(2)});
  EXPECT_EQ(source_port_blocks(now()), 20u);
  around.snat = {address("10.2.0.8"), address("10.2.0.9")};
  change(PutDocument{grouped_document(2)});
  EXPECT_EQ(source_port_blocks(now()), 40u);
}

TEST_F(Configured, ADocumentWhoseSourcePortsDoNotFitIsRefusedWithTheNumbers) {
  around.source_ports = {.blocks_max = 20, .block_bytes = 129'216};
  change(PutDocument{grouped_document(2)});
  const auto outcome = prepare(running, PutDocument{grouped_document(3)}, around, {});
  const auto* refused = std::get_if<Refused>(&outcome);
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->http_status, 400u);
  EXPECT_EQ(refused->errors,
            (base::Errors{{"/Pool",
                           "source ports towards the servers need 4 MB (30 blocks of 129 KB, one "
                           "for each server, protocol and source address), memory.size_mb leaves 2 "
                           "MB (20 blocks): raise it by 2, lower `limits`, or use fewer `snat` "
                           "addresses"}}));
}

TEST(Sizing, WhatSourcePortsMayTakeIsWhatTheLimitsLeave) {
  for (const uint32_t workers : {1u, 2u, 8u}) {
    for (const uint32_t mb : {512u, 1'024u, 4'096u}) {
      const config::Bootstrap b = bootstrap_of(workers, mb);
      uint64_t needed = 0;
      for (const auto& need : memory_needs(b, resolve_limits(b))) needed += need.bytes;
      const SourcePortShare share = source_port_share(b);
      const uint64_t all = needed + (share.blocks_max - 16) * share.block_bytes;
      EXPECT_LE(all, uint64_t{mb} << 20);
      EXPECT_GT(all + share.block_bytes, uint64_t{mb} << 20) << "a block more would fit";
      EXPECT_GE(share.blocks_max * share.block_bytes, uint64_t{mb} << 16) << "a sixteenth";
    }
  }
}

TEST(Sizing, TheLeastThereMustBeForSourcePortsIsInTheTable) {
  config::Bootstrap b = bootstrap_of(2, 64);
  b.limits = {.persistence_entries = 1u << 24, .flows_per_worker = 1024, .packet_buffers = 1024};
  const auto status = check_memory(b);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.errors().front().message.find("source ports, the least that there must be"),
            std::string::npos);
}

TEST(Sizing, WhatMayWaitForAHomeIsAtMostAQuarterOfTheBuffers) {
  for (const uint32_t workers : {1u, 2u, 8u, 64u}) {
    for (const uint32_t buffers : {16'384u, 65'536u, 1'048'576u}) {
      config::Bootstrap b = bootstrap_of(workers, 16'384);
      b.limits.packet_buffers = buffers;
      const Limits limits = resolve_limits(b);
      EXPECT_LE(workers * limits.parked_per_worker, buffers / 4);
      EXPECT_EQ(limits.parked_per_worker, std::min(buffers / 4 / workers, 8192u));
    }
  }
}

TEST(Sizing, TheSmallestMemoryHoldsWhatIsSharedOutFromIt) {
  EXPECT_TRUE(check_memory(bootstrap_of(1, 64)).ok());
}

}  // namespace
}  // namespace limpet::engine
