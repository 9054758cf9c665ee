// Client-IP persistence through a whole core: the rules of dataplane/affinity/README.md, each for
// both families.
#include <gtest/gtest.h>

#include <set>

#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using packet::DropReason;
using snapshot::Recovery;
using snapshot::ServerState;
using support::CoreLab;
using timing::seconds;

class Persistence : public testing::TestWithParam<Family> {
 protected:
  bool v4() const { return GetParam() == Family::kV4; }
  // The n-th client of this family.
  std::string client(uint32_t n) const {
    return (v4() ? "10.1.0." : "fd00:1::") + std::to_string(n + 2);
  }
  std::string connect(CoreLab& lab, uint32_t n, uint16_t port) {
    const std::string address = client(n);
    return lab.connect({address, port}).server;
  }
  std::string connect_and_finish(CoreLab& lab, uint32_t n, uint16_t port) {
    const std::string address = client(n);
    const auto c = lab.connect({address, port});
    if (c.ok()) lab.finish(c);
    return c.server;
  }
  snapshot::Server& server_at(CoreLab& lab, const std::string& address) {
    for (auto& s : lab.world.pool(GetParam()).servers) {
      if (s.address.to_string() == address) return s;
    }
    ADD_FAILURE() << "no server " << address;
    return lab.world.server(GetParam(), 0);
  }
};

INSTANTIATE_TEST_SUITE_P(Families, Persistence, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

TEST_P(Persistence, AClientKeepsItsServerOverConnections) {
  CoreLab lab;
  const std::string first = connect_and_finish(lab, 0, 1000);
  for (uint16_t i = 1; i < 20; ++i) EXPECT_EQ(connect_and_finish(lab, 0, 1000 + i), first);
}

TEST_P(Persistence, DifferentClientsAreBalanced) {
  CoreLab lab;
  std::set<std::string> servers;
  for (uint32_t n = 0; n < 3; ++n) servers.insert(connect(lab, n, 1000));
  EXPECT_EQ(servers.size(), 3u);
}

TEST_P(Persistence, TcpAndUdpShareTheBinding) {
  CoreLab lab;
  connect(lab, 1, 1000);
  const std::string tcp = connect(lab, 0, 1000);
  const std::string address = client(0);
  EXPECT_EQ(lab.datagram({address, 1000}).server, tcp);
}

TEST_P(Persistence, TheTimerStartsWhenTheLastConnectionCloses) {
  CoreLab lab;
  lab.world.scope(GetParam()).timeout = seconds(20);
  lab.publish();
  const std::string address = client(0);
  const auto first = lab.connect({address, 1000});
  const auto second = lab.connect({address, 1001});
  lab.finish(first);
  lab.advance(seconds(100), seconds(1));  // one is open all the time
  connect(lab, 1, 1000);                  // moves the round robin on
  EXPECT_EQ(connect_and_finish(lab, 0, 1002), first.server);
  lab.finish(second);
  lab.advance(seconds(19), seconds(1));
  EXPECT_EQ(connect_and_finish(lab, 0, 1003), first.server);
  lab.advance(seconds(21), seconds(1));
  EXPECT_EQ(lab.core().table().size(), 1u);  // client 1, still open
}

TEST_P(Persistence, ANewConnectionCancelsTheTimer) {
  CoreLab lab;
  lab.world.scope(GetParam()).timeout = seconds(20);
  lab.publish();
  const std::string server = connect_and_finish(lab, 0, 1000);
  connect(lab, 1, 1000);
  lab.advance(seconds(19), seconds(1));
  const std::string address = client(0);
  const auto open = lab.connect({address, 1001});
  EXPECT_EQ(open.server, server);
  lab.advance(seconds(60), seconds(1));
  EXPECT_EQ(connect_and_finish(lab, 0, 1002), server);
  lab.finish(open);
  lab.advance(seconds(19), seconds(1));
  EXPECT_EQ(connect(lab, 0, 1003), server);
}

TEST_P(Persistence, TimeoutsChangeForLivingEntries) {
  CoreLab lab;
  connect_and_finish(lab, 0, 1000);
  lab.advance(seconds(30), seconds(1));
  lab.world.scope(GetParam()).timeout = seconds(40);
  lab.publish();
  lab.advance(seconds(8), seconds(1));
  EXPECT_EQ(lab.core().table().size(), 1u);
  lab.advance(seconds(3), seconds(1));
  EXPECT_EQ(lab.core().table().size(), 0u);
}

TEST_P(Persistence, AMaskBindsASubnetTogether) {
  CoreLab lab;
  auto& scope = lab.world.scope(GetParam());
  scope.mask_v4 = 24;
  scope.mask_v6 = 64;
  lab.publish();
  const std::string server = connect(lab, 0, 1000);
  for (uint32_t n = 1; n < 9; ++n) EXPECT_EQ(connect(lab, n, 1000), server);
  EXPECT_EQ(lab.core().table().size(), 1u);
}

TEST_P(Persistence, ADownServersClientsMoveAndStay) {
  CoreLab lab;
  const std::string old = connect_and_finish(lab, 0, 1000);
  server_at(lab, old).state = ServerState::kDown;
  lab.publish();
  const std::string moved = connect_and_finish(lab, 0, 1001);
  EXPECT_NE(moved, old);
  server_at(lab, old).state = ServerState::kUp;
  lab.publish();
  EXPECT_EQ(connect_and_finish(lab, 0, 1002), moved);
}

TEST_P(Persistence, ClientsGoHomeWhenTheProfileSaysSo) {
  CoreLab lab;
  lab.world.scope(GetParam()).return_home = true;
  lab.publish();
  const std::string home = connect_and_finish(lab, 0, 1000);
  server_at(lab, home).state = ServerState::kDown;
  lab.publish();
  EXPECT_NE(connect_and_finish(lab, 0, 1001), home);
  server_at(lab, home).state = ServerState::kUp;
  lab.publish();
  EXPECT_EQ(connect_and_finish(lab, 0, 1002), home);
}

TEST_P(Persistence, ContinueKeepsADownServersClients) {
  CoreLab lab;
  lab.world.scope(GetParam()).down = Recovery::kContinue;
  lab.publish();
  const std::string old = connect_and_finish(lab, 0, 1000);
  server_at(lab, old).state = ServerState::kDown;
  lab.publish();
  EXPECT_EQ(connect_and_finish(lab, 0, 1001), old);
  for (uint32_t n = 1; n < 6; ++n) EXPECT_NE(connect(lab, n, 1000), old);
}

TEST_P(Persistence, AbortRefusesAndKeepsTheEntry) {
  CoreLab lab;
  lab.world.scope(GetParam()).down = Recovery::kAbort;
  lab.publish();
  const std::string old = connect_and_finish(lab, 0, 1000);
  server_at(lab, old).state = ServerState::kDown;
  lab.publish();
  EXPECT_EQ(connect(lab, 0, 1001), "");
  EXPECT_EQ(lab.drops(DropReason::kServerDown), 1u);
  server_at(lab, old).state = ServerState::kUp;
  lab.publish();
  EXPECT_EQ(connect(lab, 0, 1002), old);
}

TEST_P(Persistence, ADisabledServerTakesNoNewClientsAndByPolicyKeepsItsOwn) {
  CoreLab lab;
  lab.world.scope(GetParam()).draining = Recovery::kContinue;
  lab.publish();
  const std::string old = connect_and_finish(lab, 0, 1000);
  server_at(lab, old).state = ServerState::kDisabled;
  lab.publish();
  EXPECT_EQ(connect_and_finish(lab, 0, 1001), old);
  for (uint32_t n = 1; n < 6; ++n) EXPECT_NE(connect(lab, n, 1000), old);
  lab.world.scope(GetParam()).draining = Recovery::kPickNew;
  lab.publish();
  EXPECT_NE(connect(lab, 0, 1002), old);
}

TEST_P(Persistence, AtItsLimitAServerTakesNobodyNewAndByPolicyItsOwn) {
  CoreLab lab;
  for (auto& s : lab.world.pool(GetParam()).servers) s.connections_max = 1;
  lab.publish();
  const std::string first = connect(lab, 0, 1000);
  const std::string moved = connect(lab, 0, 1001);  // default policy: another one
  EXPECT_NE(moved, first);
  lab.world.scope(GetParam()).at_limit = Recovery::kContinue;
  lab.publish();
  EXPECT_EQ(connect(lab, 0, 1002), moved);
  EXPECT_EQ(lab.core().forwarder().server(server_at(lab, moved).slot).over_limit.get(), 1u);
  EXPECT_NE(connect(lab, 1, 1000), "");
  EXPECT_EQ(connect(lab, 2, 1000), "") << "every server is full";
  lab.world.scope(GetParam()).at_limit = Recovery::kAbort;
  lab.publish();
  EXPECT_EQ(connect(lab, 0, 1003), "");
  EXPECT_EQ(lab.drops(DropReason::kServerAtLimit), 2u);
}

TEST_P(Persistence, AClosedConnectionGivesItsPlaceBack) {
  CoreLab lab({.servers = 1});
  lab.world.server(GetParam(), 0).connections_max = 1;
  lab.publish();
  const std::string address = client(0);
  const auto c = lab.connect({address, 1000});
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(connect(lab, 1, 1000), "");
  lab.finish(c);
  EXPECT_NE(connect(lab, 1, 1001), "");
}

TEST_P(Persistence, EstablishedConnectionsNeverMove) {
  CoreLab lab;
  const std::string address = client(0);
  const auto c = lab.connect({address, 1000});
  server_at(lab, c.server).state = ServerState::kDown;
  lab.publish();
  const auto out = lab.send(support::tcp(c.up(), packet::kTcpAck, "more"));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(support::parts(out[0].bytes).destination, c.server);
}

TEST_P(Persistence, ARemovedServersEntriesAreDroppedAndItsAddressInheritsNobody) {
  CoreLab lab;
  const std::string old = connect_and_finish(lab, 0, 1000);
  const auto kept = lab.world.pool(GetParam()).servers;
  auto& servers = lab.world.pool(GetParam()).servers;
  std::erase_if(servers, [&](const auto& s) { return s.address.to_string() == old; });
  lab.publish();
  const auto bound_to = [&] { return lab.core().table().record_at(0)->server; };
  EXPECT_EQ(bound_to(), binding::kNoServer);
  servers = kept;
  lab.publish();
  EXPECT_EQ(bound_to(), binding::kNoServer);
  EXPECT_NE(connect(lab, 0, 1001), "");
  EXPECT_NE(bound_to(), binding::kNoServer);
}

TEST_P(Persistence, ReorderingServersMovesNobody) {
  CoreLab lab;
  std::vector<std::string> before;
  for (uint32_t n = 0; n < 6; ++n) before.push_back(connect_and_finish(lab, n, 1000));
  std::reverse(lab.world.pool(GetParam()).servers.begin(),
               lab.world.pool(GetParam()).servers.end());
  lab.publish();
  for (uint32_t n = 0; n < 6; ++n) EXPECT_EQ(connect_and_finish(lab, n, 1001), before[n]);
}

TEST_P(Persistence, AFullTableEvictsTheLongestIdle) {
  CoreLab lab({.entries = 4});
  for (uint32_t n = 0; n < 4; ++n) {
    connect_and_finish(lab, n, 1000);
    lab.advance(seconds(1));
  }
  const std::string renewed = connect_and_finish(lab, 0, 1001);  // now client 1 is the oldest
  EXPECT_NE(connect(lab, 4, 1000), "");
  EXPECT_EQ(lab.core().table().size(), 4u);
  EXPECT_EQ(lab.core().replica().counters().evicted_idle.get(), 1u);
  const auto& lookups = lab.core().forwarder().lookups();
  const uint64_t misses = lookups.misses;
  EXPECT_EQ(connect_and_finish(lab, 0, 1002), renewed);
  EXPECT_EQ(lookups.misses.get(), misses);
  connect(lab, 1, 1001);
  EXPECT_EQ(lookups.misses.get(), misses + 1);
}

TEST_P(Persistence, EntriesWithOpenConnectionsAreNeverEvicted) {
  CoreLab lab({.entries = 2});
  connect(lab, 0, 1000);
  connect(lab, 1, 1000);
  EXPECT_EQ(connect(lab, 2, 1000), "");
  EXPECT_EQ(lab.drops(DropReason::kTableFull), 1u);
  EXPECT_EQ(lab.core().forwarder().vs(lab.world.vs(GetParam()).slot).refused_table_full.get(), 1u);
}

TEST_P(Persistence, NoPurgeRefusesNewClientsAndKeepsOldOnes) {
  CoreLab lab({.entries = 2});
  lab.world.scope(GetParam()).purge = false;
  lab.publish();
  const std::string first = connect_and_finish(lab, 0, 1000);
  connect_and_finish(lab, 1, 1000);
  EXPECT_EQ(connect(lab, 2, 1000), "");
  EXPECT_EQ(connect_and_finish(lab, 0, 1001), first);
  lab.advance(seconds(301), seconds(10));
  EXPECT_NE(connect(lab, 2, 1001), "") << "room again once entries expired";
}

TEST_P(Persistence, AnEmbryonicEntryLivesTenSecondsAndGoesFirst) {
  CoreLab lab({.entries = 2});
  connect_and_finish(lab, 0, 1000);
  lab.advance(seconds(1));
  const std::string half = client(1);
  lab.syn({half, 1000});
  EXPECT_NE(connect(lab, 2, 1000), "");
  EXPECT_EQ(lab.core().replica().counters().evicted_embryonic.get(), 1u);
  lab.advance(seconds(11), seconds(1));
  const std::string other = client(3);
  lab.syn({other, 1000});  // evicts client 0, idle
  lab.advance(seconds(11), seconds(1));
  EXPECT_EQ(lab.core().table().size(), 1u) << "client 2's, established";
}

TEST_P(Persistence, AUdpEntryIsConfirmedByTheServersAnswer) {
  CoreLab lab;
  const std::string address = client(0);
  const std::string vip(v4() ? support::kVip4 : support::kVip6);
  lab.send(support::udp({address, 1000, vip, 80}, "anybody?"));
  EXPECT_FALSE(lab.core().table().entry_at(0)->confirmed);
  lab.datagram({address, 1000});
  EXPECT_TRUE(lab.core().table().entry_at(0)->confirmed);
}

TEST_P(Persistence, AUdpEntryWhoseServerIsSilentLivesItsTimeoutFromTheClose) {
  CoreLab lab({.cores = 2});
  const std::string address = client(0);
  const std::string vip(v4() ? support::kVip4 : support::kVip6);
  const auto out = lab.send(support::udp({address, 1000, vip, 514}, "log"));
  ASSERT_EQ(out.size(), 1u);
  const std::string server = support::parts(out[0].bytes).destination;
  lab.advance(seconds(305), seconds(5));  // the flow closes after 10 s
  const auto again = lab.send(support::udp({address, 1001, vip, 514}, "log"));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(support::parts(again[0].bytes).destination, server);
  lab.advance(seconds(320), seconds(5));
  EXPECT_EQ(lab.shared().bindings.count(), 0u);
}

TEST_P(Persistence, PerPacketBalancingFollowsTheEntry) {
  CoreLab lab;
  lab.world.vs(GetParam()).per_packet = true;
  lab.publish();
  const std::string address = client(0);
  const auto first = lab.datagram({address, 1000});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(lab.datagram({address, 1000}).server, first.server);
  lab.world.without_persistence();
  lab.publish();
  std::set<std::string> servers;
  for (int i = 0; i < 3; ++i) servers.insert(lab.datagram({address, 1000}).server);
  EXPECT_EQ(servers.size(), 3u) << "without persistence each datagram is balanced";
}

TEST_P(Persistence, DeletingByFilterForgetsExactlyThose) {
  CoreLab lab;
  for (uint32_t n = 0; n < 6; ++n) connect_and_finish(lab, n, 1000);
  worker::Job job;
  job.kind = worker::Job::Kind::kDelete;
  job.filter.scopes = {true, true};
  job.filter.client = support::address(client(2));
  lab.run_job(0, &job);
  EXPECT_EQ(job.matched, 1u);
  EXPECT_EQ(lab.core().table().size(), 5u);
  const auto key = binding::Key::of(support::address(client(2)));
  EXPECT_EQ(lab.core().table().find(lab.world.scope(GetParam()).slot, key), nullptr);
}

TEST_P(Persistence, ExplainingChangesNothing) {
  CoreLab lab;
  worker::Job job;
  job.kind = worker::Job::Kind::kExplain;
  job.vip = support::address(GetParam() == net::Family::kV4 ? support::kVip4 : support::kVip6);
  job.protocol = packet::kProtocolTcp;
  job.vip_port = 80;
  job.client = support::address(client(0));
  lab.run_job(0, &job);
  EXPECT_FALSE(job.entry);
  EXPECT_EQ(job.reason, balance::Reason::kNew);
  EXPECT_EQ(lab.core().table().size(), 0u);
  const std::string server = connect(lab, 0, 1000);
  job.done = false;
  lab.run_job(0, &job);
  ASSERT_TRUE(job.entry && job.server);
  EXPECT_EQ(lab.running().server(*job.server)->address.to_string(), server);
  EXPECT_EQ(job.reason, balance::Reason::kEntry);
}

// Many cores: a client's connections are spread over all of them.
TEST_P(Persistence, OneClientHasOneServerOnWhateverCoresItsConnectionsAre) {
  CoreLab lab({.cores = 4, .entries = 65536});
  for (uint32_t n = 0; n < 40; ++n) {
    const std::string server = connect(lab, n, 1000);
    for (uint16_t i = 1; i < 8; ++i) EXPECT_EQ(connect(lab, n, 1000 + i), server);
  }
  uint32_t busy = 0;
  for (uint32_t c = 0; c < lab.cores(); ++c) busy += lab.core(c).forwarder().flows().size() > 0;
  EXPECT_EQ(busy, 4u);
}

}  // namespace
}  // namespace limpet
