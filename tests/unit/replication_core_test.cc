// Several cores end to end, frames in and frames out: what a client sees of replication.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "dataplane/balance/maglev.h"
#include "dataplane/packet/headers.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using packet::DropReason;
using snapshot::Recovery;
using snapshot::ServerState;
using support::CoreLab;
using support::Sent;
using timing::milliseconds;
using timing::seconds;

class ReplicationCores : public testing::TestWithParam<Family> {
 protected:
  // Four cores, each a home; all of them are told of new bindings.
  explicit ReplicationCores(const CoreLab::Options& options = {.cores = 4,
                                                               .flows = 4096,
                                                               .entries = 65536,
                                                               .buffers = 3000,
                                                               .push = true})
      : lab(options) {}

  void TearDown() override {
    lab.advance(seconds(1), milliseconds(10));
    EXPECT_EQ(lab.buffers().in_use(), 0u);
    for (uint32_t c = 0; c < lab.cores(); ++c) EXPECT_EQ(lab.core(c).forwarder().pen().size(), 0u);
  }

  bool v4() const { return GetParam() == Family::kV4; }
  std::string client(uint32_t n) const {
    const uint32_t low = n % 200 + 2;
    return v4() ? "10.1." + std::to_string(n / 200 + 1) + "." + std::to_string(low)
                : "fd00:1::" + std::to_string(n / 200 + 1) + ":" + std::to_string(low);
  }
  std::string_view vip() const { return v4() ? support::kVip4 : support::kVip6; }
  binding::Key key(uint32_t n) const { return binding::Key::of(support::address(client(n))); }
  binding::ScopeSlot scope() { return lab.world.scope(GetParam()).slot; }
  uint32_t home_of(uint32_t n) { return lab.core(0).replica().home_of(scope(), key(n)); }
  // The first client from `n` on whose home is core `core`.
  uint32_t client_of(uint32_t core, uint32_t n = 0) {
    while (home_of(n) != core) ++n;
    return n;
  }
  // The first port from `port` on that brings the client's packets to this core.
  uint16_t port_on(uint32_t core, uint32_t n, uint16_t port = 1000) {
    const net::Address a = support::address(client(n));
    while (base::reduce(net::hash_address(lab.shared().hash, a, port), lab.cores()) != core) ++port;
    return port;
  }
  support::Frame syn(uint32_t n, uint16_t port) {
    address_ = client(n);
    return support::tcp({address_, port, vip(), 80}, packet::kTcpSyn);
  }
  // A SYN of the client arrives at the core, on a port of its own; the core has no turn yet.
  void open(uint32_t core, uint32_t n, uint16_t from = 1000) {
    lab.arrive(core, syn(n, port_on(core, n, from)));
  }
  std::vector<Sent> turns(uint32_t count = 6) {
    std::vector<Sent> out;
    for (uint32_t i = 0; i < count; ++i) {
      for (Sent& s : lab.turn()) out.push_back(std::move(s));
    }
    return out;
  }
  std::string connect(uint32_t core, uint32_t n, uint16_t from = 1000) {
    return connection(core, n, from).server;
  }
  CoreLab::Connection connection(uint32_t core, uint32_t n, uint16_t from = 1000) {
    address_ = client(n);
    return lab.connect({address_, port_on(core, n, from)});
  }
  static std::string to(const Sent& s) { return support::parts(s.bytes).destination; }
  uint32_t sequence(const Sent& s) const {
    const std::size_t at = (v4() ? 34 : 54) + 4;
    return uint32_t{s.bytes[at]} << 24 | uint32_t{s.bytes[at + 1]} << 16 |
           uint32_t{s.bytes[at + 2]} << 8 | s.bytes[at + 3];
  }
  snapshot::Server& server_at(const std::string& address) {
    for (auto& s : lab.world.pool(GetParam()).servers) {
      if (s.address.to_string() == address) return s;
    }
    ADD_FAILURE() << "no server " << address;
    return lab.world.server(GetParam(), 0);
  }
  // Messages between cores so far.
  uint64_t messages() {
    uint64_t sum = 0;
    for (uint32_t c = 0; c < lab.cores(); ++c) {
      const auto& k = lab.core(c).replica().counters();
      sum += k.claims + k.touches + k.updates + k.refusals + k.recalls + k.answers_yes +
             k.answers_no + k.gones;
    }
    return sum;
  }
  uint32_t flows() {
    uint32_t sum = 0;
    for (uint32_t c = 0; c < lab.cores(); ++c) sum += lab.core(c).forwarder().flows().size();
    return sum;
  }
  uint32_t gauges() {
    uint32_t sum = 0;
    for (const auto& s : lab.world.pool(GetParam()).servers)
      sum += lab.shared().gauges.open(s.slot);
    return sum;
  }

  CoreLab lab;

 private:
  std::string address_;  // of the frame that is being built
};

#define LIMPET_BOTH_FAMILIES(suite)                                                    \
  INSTANTIATE_TEST_SUITE_P(Families, suite, testing::Values(Family::kV4, Family::kV6), \
                           [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; })
LIMPET_BOTH_FAMILIES(ReplicationCores);

// --- one client, one server ---------------------------------------------------------------------

TEST_P(ReplicationCores, FirstConnectionsThatRaceOnAllCoresGetOneServer) {
  for (uint32_t n = 0; n < 40; ++n) {
    for (uint32_t c = 0; c < lab.cores(); ++c) open(c, n);
    const auto out = turns();
    ASSERT_EQ(out.size(), lab.cores());
    for (const Sent& s : out) EXPECT_EQ(to(s), to(out[0])) << client(n);
  }
  EXPECT_EQ(lab.shared().bindings.count(), 40u);
}

TEST_P(ReplicationCores, WhoComesBackToAnotherCoreAfterAMoveMeetsTheNewServer) {
  const uint32_t n = client_of(0);
  const std::string old = connect(1, n);
  server_at(old).state = ServerState::kDown;
  lab.publish();
  server_at(old).state = ServerState::kUp;
  // Core 2 has no turn until the client's next packet is there.
  open(1, n, 2000);
  std::vector<Sent> out;
  for (const uint32_t c : {1u, 0u, 1u}) {
    for (Sent& s : lab.turn(c)) out.push_back(std::move(s));
  }
  ASSERT_EQ(out.size(), 1u);
  ASSERT_NE(to(out[0]), old);
  open(2, n);
  const auto later = lab.turn(2);
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(to(later[0]), to(out[0]));
}

TEST_P(ReplicationCores, HitsSendNoMessage) {
  // The first handshake on a core is told: the others' copies may not know that it is confirmed.
  for (uint32_t n = 0; n < 8; ++n) {
    for (uint32_t c = 0; c < lab.cores(); ++c) connect(c, n);
  }
  turns();
  const uint64_t before = messages();
  for (uint32_t n = 0; n < 8; ++n) {
    for (uint32_t c = 0; c < lab.cores(); ++c) {
      const auto connected = connection(c, n, 2000);
      ASSERT_TRUE(connected.ok());
      lab.finish(connected);
    }
  }
  EXPECT_EQ(messages(), before);
}

TEST_P(ReplicationCores, ABindingLivesAsLongAsItsConnectionOnWhateverCore) {
  const uint32_t n = client_of(0);
  lab.world.scope(GetParam()).timeout = seconds(20);
  lab.publish();
  const auto c = connection(3, n);
  lab.advance(seconds(200), seconds(1));
  EXPECT_EQ(lab.shared().bindings.count(), 1u);
  EXPECT_EQ(connect(1, n), c.server);
  lab.reset(c);
  lab.reset(connection(1, n, 3000));
  lab.advance(seconds(400), seconds(1));
  EXPECT_EQ(lab.shared().bindings.count(), 0u);
  for (uint32_t i = 0; i < lab.cores(); ++i) EXPECT_EQ(lab.core(i).table().size(), 0u);
}

// --- packets that wait --------------------------------------------------------------------------

TEST_P(ReplicationCores, PacketsThatWaitedLeaveInTheirOrder) {
  const uint32_t n = client_of(0);
  uint16_t port = 1000;
  for (uint32_t i = 1; i <= 4; ++i) {
    port = port_on(2, n, static_cast<uint16_t>(port + 1));
    lab.arrive(2, syn(n, port).with(&support::Frame::sequence, i));
  }
  EXPECT_TRUE(lab.turn(2).empty());
  EXPECT_EQ(lab.core(2).forwarder().pen().packets(), 4u);
  EXPECT_EQ(lab.core(2).replica().counters().claims.get(), 1u);
  lab.turn(0);
  const auto out = lab.turn(2);
  ASSERT_EQ(out.size(), 4u);
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(sequence(out[i]), i + 1);
  EXPECT_EQ(lab.core(2).forwarder().flows().size(), 4u);
}

TEST_P(ReplicationCores, ASynThatIsSentAgainMeanwhileIsNotASecondFlow) {
  const uint32_t n = client_of(0);
  for (int i = 0; i < 2; ++i) open(2, n);
  lab.turn(2);
  lab.turn(0);
  const auto out = lab.turn(2);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(support::parts(out[0].bytes).source_port, support::parts(out[1].bytes).source_port);
  EXPECT_EQ(flows(), 1u);
  const auto* copy = lab.core(2).table().find(scope(), key(n));
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(copy->open, 1u);
}

TEST_P(ReplicationCores, ManyFirstConnectionsOfOneClientAllWaitForItsHome) {
  const uint32_t n = client_of(0);
  uint16_t port = 1000;
  for (uint32_t i = 0; i < 256; ++i) {
    port = port_on(2, n, static_cast<uint16_t>(port + 1));
    lab.arrive(2, syn(n, port));
  }
  lab.turn(2);
  EXPECT_EQ(lab.core(2).forwarder().pen().packets(), 256u);
  EXPECT_EQ(turns().size(), 256u);
  EXPECT_EQ(lab.drops(DropReason::kPenFull), 0u);
  EXPECT_EQ(lab.core(2).replica().counters().claims.get(), 1u);
}

TEST_P(ReplicationCores, OneClientsFloodLeavesRoomForOthers) {
  const uint32_t n = client_of(0);
  uint16_t port = 1000;
  for (uint32_t i = 0; i < 400; ++i) {
    port = port_on(2, n, static_cast<uint16_t>(port + 1));
    lab.arrive(2, syn(n, port));
  }
  lab.turn(2);
  const uint64_t dropped = lab.drops(DropReason::kPenFull);
  EXPECT_GT(dropped, 0u);
  for (uint32_t i = 0, m = n; i < 300; ++i) open(2, m = client_of(0, m + 1));
  lab.turn(2);
  EXPECT_EQ(lab.drops(DropReason::kPenFull), dropped);
}

TEST_P(ReplicationCores, HoweverOftenAKeyIsSpokenOfItIsJudgedOnce) {
  const uint32_t n = client_of(0);
  open(2, n);
  lab.turn(2);
  ASSERT_EQ(lab.core(2).forwarder().pen().queued(), 0u);
  for (int i = 0; i < 10'000; ++i) {
    lab.core(2).forwarder().heard(
        {.kind = replication::Down::Kind::kUpdate, .scope = scope(), .key = key(n)});
  }
  EXPECT_EQ(lab.core(2).forwarder().pen().queued(), 1u);
  EXPECT_EQ(turns().size(), 1u);
}

TEST_P(ReplicationCores, TooManyPacketsOfOneKeyAreDroppedAndCounted) {
  const uint32_t n = client_of(0);
  uint16_t port = 1000;
  for (uint32_t i = 0; i < affinity::Pen::kPacketsPerKey + 3; ++i) {
    port = port_on(2, n, static_cast<uint16_t>(port + 1));
    lab.arrive(2, syn(n, port));
  }
  lab.turn(2);
  EXPECT_EQ(lab.drops(DropReason::kPenFull), 3u);
  EXPECT_EQ(lab.buffers().in_use(), affinity::Pen::kPacketsPerKey);
  EXPECT_EQ(turns().size(), affinity::Pen::kPacketsPerKey);
}

TEST_P(ReplicationCores, TooManyKeysAreDroppedAndCounted) {
  uint32_t sent = 0;
  for (uint32_t n = 0; sent < affinity::Pen::kKeys + 5; ++n) {
    if (home_of(n) == 2) continue;
    if (!lab.core(2).has_room()) lab.turn(2);
    open(2, n);
    ++sent;
  }
  lab.turn(2);
  EXPECT_EQ(lab.drops(DropReason::kPenFull), 5u);
  EXPECT_EQ(lab.buffers().in_use(), affinity::Pen::kKeys);
  EXPECT_EQ(turns(20).size(), affinity::Pen::kKeys);
}

TEST_P(ReplicationCores, WhatItsHomeDoesNotAnswerInTimeIsDroppedAndCounted) {
  const uint32_t n = client_of(0);
  open(2, n);
  lab.turn(2);
  lab.clock.advance(milliseconds(50));
  for (int i = 0; i < 40; ++i) lab.turn(2);
  EXPECT_EQ(lab.drops(DropReason::kClaimLate), 0u);
  lab.clock.advance(milliseconds(1));
  for (int i = 0; i < 40; ++i) lab.turn(2);
  EXPECT_EQ(lab.drops(DropReason::kClaimLate), 1u);
  EXPECT_EQ(lab.buffers().in_use(), 0u);
  EXPECT_EQ(lab.core(2).forwarder().pen().size(), 1u) << "its claim is still to be answered";
  lab.turn(0);
  lab.turn(2);
  EXPECT_EQ(lab.core(2).forwarder().pen().size(), 0u);
  EXPECT_EQ(lab.shared().bindings.count(), 0u) << "home refused it as late";
  EXPECT_NE(connect(2, n), "");
}

TEST_P(ReplicationCores, WhatHomeRefusesAsLateIsDroppedAndCounted) {
  const uint32_t n = client_of(0);
  open(2, n);
  lab.turn(2);
  lab.clock.advance(milliseconds(51));
  lab.turn(0);
  lab.turn(2);
  EXPECT_EQ(lab.drops(DropReason::kClaimLate), 1u);
  EXPECT_EQ(lab.core(2).forwarder().pen().size(), 0u);
  EXPECT_EQ(lab.buffers().in_use(), 0u);
}

TEST_P(ReplicationCores, WhoComesWhileALateClaimIsOutWaitsForThatAnswer) {
  const uint32_t n = client_of(0);
  open(2, n);
  lab.turn(2);
  lab.clock.advance(milliseconds(51));
  for (int i = 0; i < 40; ++i) lab.turn(2);
  ASSERT_EQ(lab.drops(DropReason::kClaimLate), 1u);
  open(2, n);
  lab.turn(2);
  EXPECT_EQ(lab.core(2).replica().counters().claims.get(), 1u) << "one at a time";
  EXPECT_EQ(lab.core(2).forwarder().pen().packets(), 1u);
}

TEST_P(ReplicationCores, ARefusalReachesAllThatWait) {
  for (auto& s : lab.world.pool(GetParam()).servers) s.state = ServerState::kDown;
  lab.publish();
  const uint32_t n = client_of(0);
  open(2, n, 1000);
  open(2, n, 2000);
  turns();
  EXPECT_EQ(lab.drops(DropReason::kNoServer), 2u);
  EXPECT_EQ(lab.buffers().in_use(), 0u);
}

// Cores hear of bindings only when they ask.
class ReplicationAsking : public ReplicationCores {
 protected:
  ReplicationAsking()
      : ReplicationCores(
            {.cores = 4, .flows = 4096, .entries = 65536, .buffers = 3000, .push = false}) {}
};
LIMPET_BOTH_FAMILIES(ReplicationAsking);

TEST_P(ReplicationAsking, FirstConnectionsThatRaceOnAllCoresGetOneServer) {
  for (uint32_t n = 0; n < 40; ++n) {
    for (uint32_t c = 0; c < lab.cores(); ++c) open(c, n);
    const auto out = turns();
    ASSERT_EQ(out.size(), lab.cores());
    for (const Sent& s : out) EXPECT_EQ(to(s), to(out[0])) << client(n);
  }
}

TEST_P(ReplicationAsking, ACoreAsksOnceForAClient) {
  const uint32_t n = client_of(0);
  const std::string server = connect(1, n);
  EXPECT_EQ(lab.core(2).table().find(scope(), key(n)), nullptr);
  for (uint16_t from = 2000; from < 8000; from += 2000) EXPECT_EQ(connect(2, n, from), server);
  EXPECT_EQ(lab.core(2).replica().counters().claims.get(), 1u);
}

// Two cores, one home, tiny rings.
class ReplicationTightRings : public ReplicationCores {
 protected:
  ReplicationTightRings()
      : ReplicationCores({.cores = 2,
                          .entries = 1024,
                          .rings = {.claims = 1, .answers = 2, .down = 2, .news = 64},
                          .push = true}) {}
};
LIMPET_BOTH_FAMILIES(ReplicationTightRings);

TEST_P(ReplicationTightRings, WhatCouldNotEvenBeAskedForInTimeIsDroppedAsWell) {
  open(1, 0);
  open(1, 1);  // the ring to home is full
  lab.turn(1);
  EXPECT_EQ(lab.core(1).forwarder().pen().packets(), 2u);
  for (int i = 0; i < 60; ++i) {
    lab.clock.advance(milliseconds(1));
    for (int k = 0; k < 40; ++k) lab.turn(1);
  }
  EXPECT_EQ(lab.drops(DropReason::kClaimLate), 2u);
  EXPECT_EQ(lab.core(1).forwarder().pen().packets(), 0u);
}

TEST_P(ReplicationTightRings, HomesOwnPacketThatWaitsForAHoldersRingIsDroppedWhenLate) {
  std::set<std::string> servers;
  for (uint32_t n = 0; n < 3; ++n) {
    const auto c = connection(0, n);
    servers.insert(c.server);
    lab.finish(c);
    turns();
  }
  for (uint32_t n = 0; n < 3; ++n) ASSERT_NE(lab.core(1).table().find(scope(), key(n)), nullptr);
  for (auto& s : lab.world.pool(GetParam()).servers) s.state = ServerState::kDown;
  ASSERT_EQ(servers.size(), 3u);
  // All but the last one of the pool are down: two of the three have to move.
  lab.world.server(GetParam(), 2).state = ServerState::kUp;
  lab.publish();
  const std::string last = lab.world.server(GetParam(), 2).address.to_string();
  // Core 1 is stalled with a full ring.
  auto& ring = lab.shared().rings.down.from(0).to(1);
  while (ring.push(replication::Down{
      .kind = replication::Down::Kind::kGone, .scope = scope(), .key = key(99)})) {
  }
  uint32_t waiting = 0;
  for (uint32_t n = 0; n < 3; ++n) {
    const auto* record = lab.core(0).table().find(scope(), key(n));
    waiting += record->server == lab.world.server(GetParam(), 2).id ? 0 : 1;
    open(0, n, 2000);
  }
  ASSERT_EQ(waiting, 2u);
  EXPECT_EQ(lab.turn(0).size(), 1u);
  EXPECT_EQ(lab.core(0).forwarder().pen().packets(), 2u);
  for (int i = 0; i < 60; ++i) {
    lab.clock.advance(milliseconds(1));
    for (int k = 0; k < 40; ++k) lab.turn(0);
  }
  EXPECT_EQ(lab.drops(DropReason::kClaimLate), 2u);
  EXPECT_EQ(lab.core(0).forwarder().pen().size(), 0u);
  // Once core 1 is back, everything goes on.
  lab.turn(1);
  for (uint32_t n = 0; n < 3; ++n) EXPECT_EQ(connect(n % 2, n, 3000), last);
}

TEST_P(ReplicationTightRings, HomesOwnPacketLeavesAsSoonAsTheHoldersRingHasRoom) {
  const std::string old = connect(0, 0);
  turns();
  server_at(old).state = ServerState::kDown;
  lab.publish();
  auto& ring = lab.shared().rings.down.from(0).to(1);
  while (ring.push(replication::Down{
      .kind = replication::Down::Kind::kGone, .scope = scope(), .key = key(99)})) {
  }
  open(0, 0, 2000);
  EXPECT_TRUE(lab.turn(0).empty());
  lab.turn(1);
  const auto out = lab.turn(0);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_NE(to(out[0]), old);
}

// --- consistent hashing --------------------------------------------------------------------------

TEST_P(ReplicationCores, AHomeThatChoosesGoesByTheClientsPortAsItsAskerWould) {
  constexpr uint32_t kCells = balance::kMaglevSizes.front();
  auto& pool = lab.world.pool(GetParam());
  pool.algorithm = snapshot::Algorithm::kConsistentHash;
  pool.hash_input = snapshot::HashInput::kSourceAddressAndPort;
  std::vector<balance::MaglevServer> all;
  for (auto& s : pool.servers) {
    s.connections_max = 1;
    all.push_back({s.id, s.weight, static_cast<uint16_t>(all.size())});
  }
  pool.maglev = balance::build_maglev(all, kCells);
  lab.publish();
  std::set<std::string> chosen;
  for (uint32_t n = client_of(0); chosen.size() < 3 && n < 200; n = client_of(0, n + 1)) {
    const uint16_t port = port_on(2, n, static_cast<uint16_t>(2000 + 40 * n));
    const net::Address address = support::address(client(n));
    const uint32_t hash = balance::consistent_hash({address, port}, pool.hash_input);
    const uint16_t expected = pool.maglev[base::reduce(hash, kCells)];
    // All are at their limit when the core asks, and are not when the home chooses.
    for (auto& s : pool.servers) ASSERT_TRUE(lab.shared().gauges.reserve(s, false));
    lab.arrive(2, syn(n, port));
    lab.turn(2);
    for (auto& s : pool.servers) lab.shared().gauges.release(s.slot);
    lab.turn(0);
    const auto out = lab.turn(2);
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(to(out[0]), pool.servers[expected].address.to_string());
    chosen.insert(to(out[0]));
    lab.advance(seconds(65), milliseconds(500));  // the half-open one goes
  }
  EXPECT_EQ(chosen.size(), 3u);
}

// --- connection limits --------------------------------------------------------------------------

TEST_P(ReplicationCores, NewClientsThatRaceNeverExceedALimit) {
  for (auto& s : lab.world.pool(GetParam()).servers) s.connections_max = 2;
  lab.publish();
  for (uint32_t n = 0; n < 20; ++n) open(n % 4, n);
  std::map<std::string, int> open_on;
  for (const Sent& s : turns(10)) {
    if (s.port == 1) ++open_on[to(s)];
  }
  ASSERT_EQ(open_on.size(), 3u);
  for (const auto& [server, count] : open_on) EXPECT_EQ(count, 2) << server;
  EXPECT_EQ(gauges(), 6u);
  lab.advance(seconds(65), milliseconds(500));  // half-open ones go
  EXPECT_EQ(flows(), 0u);
  EXPECT_EQ(gauges(), 0u) << "every place was given back";
}

TEST_P(ReplicationCores, OneClientThatRacesTakesAPlaceForEachConnectionOnly) {
  for (auto& s : lab.world.pool(GetParam()).servers) s.connections_max = 10;
  lab.publish();
  for (uint32_t c = 1; c < 4; ++c) {
    open(c, client_of(0));
    lab.turn(c);
  }
  EXPECT_EQ(gauges(), 3u) << "each core asks with a place";
  EXPECT_EQ(turns().size(), 3u);
  EXPECT_EQ(gauges(), 3u);
}

TEST_P(ReplicationCores, TheClientWhoseOwnPlaceFillsTheLimitIsNotRefusedForIt) {
  lab.world.scope(GetParam()).at_limit = Recovery::kAbort;
  for (auto& s : lab.world.pool(GetParam()).servers) s.connections_max = 1;
  lab.publish();
  EXPECT_NE(connect(2, client_of(0)), "");
  EXPECT_EQ(gauges(), 1u);
  EXPECT_EQ(lab.drops(DropReason::kServerAtLimit), 0u);
}

TEST_P(ReplicationCores, TheClientWhoseOwnPlaceFillsTheLimitDoesNotCountAsBeyondIt) {
  lab.world.scope(GetParam()).at_limit = Recovery::kContinue;
  for (auto& s : lab.world.pool(GetParam()).servers) s.connections_max = 1;
  lab.publish();
  const std::string server = connect(2, client_of(0));
  ASSERT_NE(server, "");
  EXPECT_EQ(lab.core(2).forwarder().server(server_at(server).slot).over_limit.get(), 0u);
}

TEST_P(ReplicationCores, PlacesOfClaimsThatWereRefusedComeBack) {
  for (auto& s : lab.world.pool(GetParam()).servers) s.connections_max = 5;
  lab.publish();
  const uint32_t n = client_of(0);
  open(2, n);
  lab.turn(2);
  EXPECT_EQ(gauges(), 1u);
  lab.clock.advance(milliseconds(51));
  lab.turn(0);
  lab.turn(2);
  EXPECT_EQ(gauges(), 0u);
}

TEST_P(ReplicationCores, AHalfOpenConnectionOfACopyThatWasGivenUpIsNotCountedInTheNextOne) {
  for (auto& s : lab.world.pool(GetParam()).servers) s.connections_max = 1;
  lab.publish();
  const uint32_t n = client_of(0);
  open(2, n);
  const auto out = turns();
  ASSERT_EQ(out.size(), 1u);
  const auto sent = support::parts(out[0].bytes);
  lab.advance(seconds(5));
  lab.send(support::tcp({sent.destination, sent.destination_port, sent.source, sent.source_port},
                        packet::kTcpSyn | packet::kTcpAck)
               .with(&support::Frame::acknowledgment, CoreLab::kClientSequence + 1),
           1);
  lab.clock.advance(seconds(5));
  for (int i = 0; i < 4; ++i) lab.turn(0);  // the copies of the embryonic binding are recalled
  open(0, n, 2000);
  ASSERT_EQ(lab.turn(0).size(), 1u);  // its server is full: moved, and told anew
  lab.turn(2);
  const auto* copy = lab.core(2).table().find(scope(), key(n));
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(copy->open, 0u);
  lab.arrive(2, syn(n, port_on(2, n))
                    .with(&support::Frame::tcp_flags, packet::kTcpRst)
                    .with(&support::Frame::sequence, CoreLab::kClientSequence + 1));
  lab.turn(2);
  EXPECT_EQ(lab.core(2).forwarder().flows().size(), 0u);
  EXPECT_EQ(copy->open, 0u);
}

// --- jobs ---------------------------------------------------------------------------------------

class ReplicationJobs : public ReplicationCores {
 protected:
  uint32_t delete_on_all(std::optional<net::Address> of = {}) {
    uint32_t matched = 0;
    for (uint32_t c = 0; c < lab.cores(); ++c) {
      worker::Job job;
      job.kind = worker::Job::Kind::kDelete;
      job.filter.scopes = {true, true};
      job.filter.client = of;
      lab.run_job(c, &job);
      matched += job.matched;
    }
    return matched;
  }
};
LIMPET_BOTH_FAMILIES(ReplicationJobs);

TEST_P(ReplicationJobs, DeletingOnAllCoresForgetsEachBindingOnce) {
  for (uint32_t n = 0; n < 20; ++n) connect(n % 4, n);
  EXPECT_EQ(delete_on_all(), 20u);
  turns();
  EXPECT_EQ(lab.shared().bindings.count(), 0u);
  for (uint32_t c = 0; c < lab.cores(); ++c) EXPECT_EQ(lab.core(c).table().size(), 0u);
}

TEST_P(ReplicationJobs, DeletingOneClientSparesTheOthers) {
  for (uint32_t n = 0; n < 20; ++n) connect(n % 4, n);
  EXPECT_EQ(delete_on_all(support::address(client(7))), 1u);
  turns();
  for (uint32_t c = 0; c < lab.cores(); ++c) {
    EXPECT_EQ(lab.core(c).table().find(scope(), key(7)), nullptr);
    EXPECT_EQ(lab.core(c).table().size(), 19u);
  }
}

TEST_P(ReplicationJobs, ConnectionsOfADeletedBindingGoOnUncounted) {
  const uint32_t n = client_of(0);
  const auto old = connection(2, n);
  EXPECT_EQ(delete_on_all(), 1u);
  const auto out = lab.send(old.from_client(packet::kTcpAck, "more"));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(to(out[0]), old.server);
  const auto fresh = connection(2, n, 2000);
  ASSERT_TRUE(fresh.ok());
  lab.finish(old);
  const auto* copy = lab.core(2).table().find(scope(), key(n));
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(copy->open, 1u) << "the new one's; the old one's close is not taken from it";
}

TEST_P(ReplicationJobs, ACloseThatMeetsTheNextBindingAtOnceIsNotTakenFromIt) {
  const uint32_t n = client_of(0);
  const auto old = connection(2, n);
  const auto* before = lab.core(2).table().find(scope(), key(n));
  worker::Job job;
  job.kind = worker::Job::Kind::kDelete;
  job.filter.scopes = {true, true};
  lab.core(0).message({.kind = worker::ControlMessage::Kind::kJob, .job = &job});
  for (int i = 0; i < 5; ++i) lab.turn(0);
  ASSERT_TRUE(job.done.load());
  open(0, n, 5000);
  lab.turn(0);
  // All in one turn: the deletion, the next binding, its first connection here, the old one's end.
  open(2, n, 2000);
  lab.arrive(2, old.from_client(packet::kTcpRst));
  lab.turn(2);
  const auto* copy = lab.core(2).table().find(scope(), key(n));
  ASSERT_EQ(copy, before) << "it has the same place";
  EXPECT_EQ(copy->open, 1u);
  EXPECT_EQ(lab.core(2).forwarder().flows().size(), 1u);
}

TEST_P(ReplicationJobs, DeletingWaitsForAHolderWithoutRoomAndForgetsAll) {
  const uint32_t n = client_of(0);
  connect(1, n);
  turns();
  auto& ring = lab.shared().rings.down.from(0).to(3);
  while (ring.push(replication::Down{
      .kind = replication::Down::Kind::kGone, .scope = scope(), .key = key(199)})) {
  }
  worker::Job job;
  job.kind = worker::Job::Kind::kDelete;
  job.filter.scopes = {true, true};
  lab.core(0).message({.kind = worker::ControlMessage::Kind::kJob, .job = &job});
  for (int i = 0; i < 5; ++i) lab.turn(0);
  EXPECT_FALSE(job.done.load());
  EXPECT_NE(lab.core(0).table().find(scope(), key(n)), nullptr);
  lab.turn(3);
  lab.turn(0);
  lab.turn(0);
  EXPECT_TRUE(job.done.load());
  EXPECT_EQ(job.matched, 1u);
  turns();
  for (uint32_t c = 0; c < lab.cores(); ++c) EXPECT_EQ(lab.core(c).table().size(), 0u);
}

TEST_P(ReplicationJobs, AllCoresExplainAClientAlike) {
  const uint32_t n = client_of(3);
  const std::string server = connect(1, n);
  turns();
  for (uint32_t c = 0; c < lab.cores(); ++c) {
    worker::Job job;
    job.kind = worker::Job::Kind::kExplain;
    job.vip = support::address(GetParam() == net::Family::kV4 ? support::kVip4 : support::kVip6);
    job.protocol = packet::kProtocolTcp;
    job.vip_port = 80;
    job.client = support::address(client(n));
    lab.run_job(c, &job);
    EXPECT_EQ(job.home_core, 3u);
    EXPECT_EQ(job.reason, balance::Reason::kEntry);
    ASSERT_TRUE(job.entry && job.server);
    EXPECT_EQ(lab.running().server(*job.server)->address.to_string(), server);
    EXPECT_EQ(job.home.has_value(), c == 3);
    EXPECT_EQ(job.entry->open, c == 1 ? 1u : 0u);
  }
}

TEST_P(ReplicationJobs, ExplainingChangesNothingOnAnyCore) {
  const uint64_t before = messages();
  for (uint32_t c = 0; c < lab.cores(); ++c) {
    worker::Job job;
    job.kind = worker::Job::Kind::kExplain;
    job.vip = support::address(GetParam() == net::Family::kV4 ? support::kVip4 : support::kVip6);
    job.protocol = packet::kProtocolTcp;
    job.vip_port = 80;
    job.client = support::address(client(1));
    lab.run_job(c, &job);
    EXPECT_FALSE(job.entry);
    EXPECT_EQ(job.reason, balance::Reason::kNew);
  }
  EXPECT_EQ(messages(), before);
  EXPECT_EQ(lab.shared().bindings.count(), 0u);
}

}  // namespace
}  // namespace limpet
