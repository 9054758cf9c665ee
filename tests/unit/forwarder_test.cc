// What tables of single stories cannot show of the data path: several cores, datagrams balanced one
// by one, many flows at once, frames that nobody would send.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "dataplane/packet/headers.h"
#include "dataplane/worker/steer.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using packet::DropReason;
using packet::kTcpAck;
using packet::kTcpSyn;
using support::Bytes;
using support::CoreLab;
using support::Frame;
using timing::seconds;

class ForwarderTest : public testing::TestWithParam<Family> {
 protected:
  bool v4() const { return GetParam() == Family::kV4; }
  std::string client(uint32_t n) const {
    return (v4() ? "10.1.0." : "fd00:1::") + std::to_string(n + 2);
  }
  std::string_view vip() const { return v4() ? support::kVip4 : support::kVip6; }
  uint32_t flows(CoreLab& lab) const {
    uint32_t sum = 0;
    for (uint32_t c = 0; c < lab.cores(); ++c) sum += lab.core(c).forwarder().flows().size();
    return sum;
  }
  uint64_t all_drops(const CoreLab& lab) const {
    uint64_t sum = 0;
    for (std::size_t i = 0; i < packet::kDropReasons; ++i)
      sum += lab.drops(static_cast<DropReason>(i));
    return sum;
  }
};

INSTANTIATE_TEST_SUITE_P(Families, ForwarderTest, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

// --- several cores ------------------------------------------------------------------------------

// Frames of different lengths arrive at different cores (see CoreLab::send).
TEST_P(ForwarderTest, TranslatedAnswersReachTheCoreOfTheirFlow) {
  CoreLab lab({.cores = 4, .entries = 65536});
  std::set<uint32_t> owners;
  for (uint32_t n = 0; n < 40; ++n) {
    const std::string address = client(n);
    const auto c = lab.connect({address, 1000});
    ASSERT_TRUE(c.ok());
    owners.insert(egress::PortSlice::owner(c.source_port, 4));
    for (const char* text : {"", "a", "bb", "ccc"}) {
      const auto out = lab.send(support::tcp(c.down(), kTcpAck, text), 1);
      ASSERT_EQ(out.size(), 1u);
      EXPECT_EQ(support::parts(out[0].bytes).destination, address);
      EXPECT_EQ(lab.send(support::tcp(c.up(), kTcpAck, text)).size(), 1u);
    }
  }
  EXPECT_EQ(owners.size(), 4u) << "clients are spread";
  EXPECT_EQ(flows(lab), 40u);
  EXPECT_EQ(all_drops(lab), 0u);
  EXPECT_EQ(lab.buffers().in_use(), 0u);
}

TEST_P(ForwarderTest, AFlowsCoreOwnsItsSourcePort) {
  CoreLab lab({.cores = 4, .entries = 65536});
  for (uint32_t n = 0; n < 40; ++n) {
    const std::string address = client(n);
    std::vector<uint32_t> before;
    for (uint32_t c = 0; c < 4; ++c) before.push_back(lab.core(c).forwarder().flows().size());
    const auto conn = lab.connect({address, 1000});
    const uint32_t owner = egress::PortSlice::owner(conn.source_port, 4);
    EXPECT_EQ(lab.core(owner).forwarder().flows().size(), before[owner] + 1);
  }
}

TEST_P(ForwarderTest, AnswersToKeptAddressesReachTheCoreOfTheirFlow) {
  CoreLab lab({.cores = 4, .entries = 65536});
  lab.world.preserve_client();
  lab.publish();
  for (uint32_t n = 0; n < 40; ++n) {
    const std::string address = client(n);
    const auto c = lab.connect({address, 1000});
    ASSERT_TRUE(c.ok());
    EXPECT_EQ(c.source, address);
    for (const char* text : {"", "a", "bb", "ccc"})
      EXPECT_EQ(lab.send(support::tcp(c.down(), kTcpAck, text), 1).size(), 1u);
  }
  EXPECT_EQ(all_drops(lab), 0u);
}

TEST_P(ForwarderTest, IcmpErrorsReachTheCoreOfTheFlowTheyQuote) {
  CoreLab lab({.cores = 4, .entries = 65536});
  const uint8_t type = v4() ? 3 : 1;
  const uint8_t code = v4() ? 3 : 4;
  for (uint32_t n = 0; n < 20; ++n) {
    const std::string address = client(n);
    const auto c = lab.datagram({address, 1000});
    for (const char* text : {"", "a", "bb", "ccc"}) {
      const auto up =
          lab.send(support::icmp_error(c.server, c.source, type, code,
                                       support::udp(c.down().reversed(), text).build_ip()),
                   1);
      ASSERT_EQ(up.size(), 1u);
      EXPECT_EQ(up[0].port, 0);
      EXPECT_EQ(support::parts(up[0].bytes).destination, address);
      const auto down = lab.send(support::icmp_error(
          address, vip(), type, code, support::udp(c.up().reversed(), text).build_ip()));
      ASSERT_EQ(down.size(), 1u);
      EXPECT_EQ(down[0].port, 1);
      EXPECT_EQ(support::parts(down[0].bytes).destination, c.server);
    }
  }
  EXPECT_EQ(all_drops(lab), 0u);
}

TEST_P(ForwarderTest, AConnectionLimitHoldsOverAllCores) {
  CoreLab lab({.cores = 4, .entries = 65536, .servers = 1});
  lab.world.without_persistence();
  lab.world.server(GetParam(), 0).connections_max = 7;
  lab.publish();
  uint32_t let_in = 0;
  for (uint32_t n = 0; n < 40; ++n) {
    const std::string address = client(n);
    let_in += lab.connect({address, 1000}).ok() ? 1 : 0;
  }
  EXPECT_EQ(let_in, 7u);
  EXPECT_EQ(lab.drops(DropReason::kServerAtLimit), 33u);
}

// --- datagrams balanced one by one --------------------------------------------------------------

TEST_P(ForwarderTest, EachDatagramIsBalancedAndEachAnswerFindsItsClient) {
  CoreLab lab;
  lab.world.without_persistence();
  lab.world.vs(GetParam()).per_packet = true;
  lab.publish();
  const std::string address = client(0);
  std::map<std::string, int> servers;
  for (int i = 0; i < 9; ++i) {
    const auto c = lab.datagram({address, 1000});
    ASSERT_TRUE(c.ok());
    ++servers[c.server];
    const auto back = lab.send(support::udp(c.down(), "again"), 1);
    ASSERT_EQ(back.size(), 1u);
    EXPECT_EQ(support::parts(back[0].bytes).destination, address);
    EXPECT_EQ(support::parts(back[0].bytes).source, vip());
  }
  EXPECT_EQ(servers.size(), 3u);
  for (const auto& [server, count] : servers) EXPECT_EQ(count, 3) << server;
  EXPECT_EQ(flows(lab), 3u) << "one translation a server, used again";
  const auto& vs = lab.core().forwarder().vs(lab.world.vs(GetParam()).slot);
  EXPECT_EQ(vs.total.get(), 9u);
  EXPECT_EQ(vs.open.get(), 0u) << "over as soon as it has passed";
}

TEST_P(ForwarderTest, TranslationsOfDatagramsExpireAndGiveTheirPortsBack) {
  CoreLab lab;
  lab.world.without_persistence();
  lab.world.vs(GetParam()).per_packet = true;
  lab.publish();
  const std::string address = client(0);
  for (int i = 0; i < 6; ++i) lab.datagram({address, 1000});
  EXPECT_EQ(lab.ports_in_use(), 3u);
  lab.advance(seconds(12));
  EXPECT_EQ(flows(lab), 0u);
  EXPECT_EQ(lab.ports_in_use(), 0u);
}

TEST_P(ForwarderTest, DatagramsOneByOneRespectTheLimitWithoutHoldingAPlace) {
  CoreLab lab({.servers = 1});
  lab.world.vs(GetParam()).per_packet = true;
  lab.world.server(GetParam(), 0).connections_max = 1;
  lab.publish();
  for (uint32_t n = 0; n < 5; ++n) {
    const std::string address = client(n);
    EXPECT_TRUE(lab.datagram({address, 1000}).ok());
  }
  EXPECT_EQ(lab.shared().gauges.open(lab.world.server(GetParam(), 0).slot), 0u);
}

// --- time ---------------------------------------------------------------------------------------

TEST_P(ForwarderTest, ManyFlowsThatEndTogetherAllEnd) {
  CoreLab lab({.flows = 4096, .entries = 4096});
  for (uint32_t n = 0; n < 2000; ++n) {
    const std::string address = client(n % 80);
    lab.send(support::udp({address, static_cast<uint16_t>(1000 + n / 80), vip(), 80}, "x"));
  }
  EXPECT_EQ(flows(lab), 2000u);
  lab.advance(seconds(15));
  EXPECT_EQ(flows(lab), 0u);
  EXPECT_EQ(lab.ports_in_use(), 0u);
}

TEST_P(ForwarderTest, AReloadUnderTrafficLosesNoPacketOfAnyFlow) {
  CoreLab lab({.cores = 2, .entries = 65536});
  std::vector<std::string> clients;
  std::vector<CoreLab::Connection> open;
  for (uint32_t n = 0; n < 50; ++n) clients.push_back(client(n));
  for (const auto& c : clients) open.push_back(lab.connect({c, 1000}));
  for (int round = 0; round < 10; ++round) {
    auto& servers = lab.world.pool(GetParam()).servers;
    std::rotate(servers.begin(), servers.begin() + 1, servers.end());
    lab.world.scope(GetParam()).timeout = seconds(100 + round);
    lab.publish();
    for (const auto& c : open) {
      const auto up = lab.send(support::tcp(c.up(), kTcpAck, "up"));
      ASSERT_EQ(up.size(), 1u);
      EXPECT_EQ(support::parts(up[0].bytes).destination, c.server);
      ASSERT_EQ(lab.send(support::tcp(c.down(), kTcpAck, "down"), 1).size(), 1u);
    }
  }
  EXPECT_EQ(all_drops(lab), 0u);
}

TEST_P(ForwarderTest, OneBurstMayHoldTheSameNewFlowSeveralTimes) {
  CoreLab lab;
  const std::string address = client(0);
  const Bytes syn = support::tcp({address, 1000, vip(), 80}, kTcpSyn).build();
  const auto out = lab.send(std::vector<Bytes>(20, syn), 0);
  ASSERT_EQ(out.size(), 20u);
  for (const auto& s : out) EXPECT_EQ(s.bytes, out[0].bytes);
  EXPECT_EQ(flows(lab), 1u);
}

TEST_P(ForwarderTest, RepliesThatAnybodyCanAskForAreLimited) {
  CoreLab lab({.buffers = 4096});
  const std::string address = client(0);
  const Bytes ack = support::tcp({address, 1000, vip(), 80}, kTcpAck).build();
  std::size_t sent = 0;
  for (int i = 0; i < 10; ++i) sent += lab.send(std::vector<Bytes>(300, ack), 0).size();
  EXPECT_EQ(sent, static_cast<std::size_t>(egress::ReplyLimit::kBurst));
  EXPECT_EQ(lab.drops(DropReason::kNoFlow), 3000u);
  EXPECT_EQ(lab.drops(DropReason::kRateLimited), 1000u);
  lab.advance(seconds(1));
  EXPECT_EQ(lab.send(std::vector<Bytes>(10, ack), 0).size(), 10u);
}

// --- frames that nobody would send --------------------------------------------------------------

// Each frame either leaves, is punted, or is dropped with a reason: nothing else, and no buffer is
// lost. What leaves has right sums unless what came in was not checked.
TEST_P(ForwarderTest, EveryCutOfEveryFrameEndsSomewhere) {
  CoreLab lab;
  const std::string address = client(0);
  const auto c = lab.datagram({address, 1000});
  const Bytes quoted = support::udp(c.down().reversed(), "data").build_ip();
  const std::vector<Bytes> frames = {
      support::tcp({address, 1001, vip(), 80}, kTcpSyn)
          .with(&Frame::tcp_options, support::mss_option(1460))
          .build(),
      support::udp({address, 1002, vip(), 80}, "some text").build(),
      support::icmp_error(c.server, vip(), v4() ? 3 : 1, 3, quoted).build(),
      support::echo_request(address, vip()).build(),
  };
  for (const Bytes& whole : frames) {
    for (std::size_t size = 0; size < whole.size(); ++size) {
      const uint64_t before = all_drops(lab);
      const auto out = lab.send({Bytes(whole.begin(), whole.begin() + static_cast<long>(size))}, 0);
      EXPECT_EQ(out.size(), 0u) << size;
      EXPECT_EQ(all_drops(lab), before + 1) << size;
    }
  }
  EXPECT_EQ(lab.buffers().in_use(), 0u);
}

TEST_P(ForwarderTest, FramesWithRandomBytesEndSomewhere) {
  CoreLab lab({.flows = 64, .entries = 64});
  base::Random random(0xbadf00d);
  const std::string address = client(0);
  const auto c = lab.connect({address, 1000});
  ASSERT_TRUE(c.ok());
  const Bytes quoted = support::tcp(c.up().reversed(), kTcpAck, "data").build_ip();
  const std::vector<std::pair<uint8_t, Bytes>> frames = {
      {0, support::tcp(c.up(), kTcpAck, "data").build()},
      {1, support::tcp(c.down(), kTcpAck, "data")
              .with(&Frame::to, support::mac(support::kBackMac))
              .build()},
      {0, support::tcp({address, 2000, vip(), 80}, kTcpSyn).build()},
      {0, support::icmp_error(address, vip(), v4() ? 3 : 1, 3, quoted).build()},
  };
  for (int i = 0; i < 20'000; ++i) {
    auto [port, frame] = frames[random.below(static_cast<uint32_t>(frames.size()))];
    for (uint32_t n = random.below(4); n > 0; --n)
      frame[random.below(static_cast<uint32_t>(frame.size()))] =
          static_cast<uint8_t>(random.next());
    const uint64_t before = all_drops(lab);
    const std::size_t punted = lab.punted().size();
    const auto out = lab.send({frame}, port);
    const std::size_t ends = out.size() + (all_drops(lab) - before) + lab.punted().size() - punted;
    ASSERT_GE(ends, 1u) << support::describe(frame);
    if (!support::sums_wrong(frame).empty()) continue;  // a quote may be wrong, and stays so
    for (const auto& s : out)
      ASSERT_EQ(support::sums_wrong(s.bytes), "") << support::describe(frame) << "\n"
                                                  << support::describe(s.bytes);
  }
  EXPECT_EQ(lab.buffers().in_use(), 0u);
  lab.advance(seconds(400), seconds(1));
  EXPECT_EQ(flows(lab), 0u);
  EXPECT_EQ(lab.ports_in_use(), 0u);
}

TEST_P(ForwarderTest, WithoutBuffersResetsAreCountedAsNotSent) {
  CoreLab lab({.buffers = 8});
  const std::string address = client(0);
  ASSERT_TRUE(lab.connect({address, 1000}).ok());
  std::vector<packet::Buffer*> held;
  while (packet::Buffer* b = packet::allocate(lab.buffers().pool())) held.push_back(b);
  lab.world.snapshot->virtual_services.clear();
  lab.world.snapshot->listeners.clear();
  EXPECT_EQ(lab.publish().size(), 0u);
  EXPECT_EQ(lab.drops(DropReason::kNoBuffers), 2u);
  EXPECT_EQ(flows(lab), 0u);
  for (packet::Buffer* b : held) packet::release(b);
}

TEST_P(ForwarderTest, APuntedPacketNamesThePortAndTheNextHop) {
  CoreLab lab;
  const auto server = lab.world.server(GetParam(), 0).address;
  lab.neighbor(1, server, false);
  lab.turn();
  const std::string address = client(0);
  const packet::Ingress front{.port = 0, .mac = support::mac(support::kFrontMac)};
  packet::Buffer* b = support::make_buffer(lab.buffers().pool(),
                                           support::udp({address, 1000, vip(), 80}, "x").build());
  lab.core().arrive(b, {&front, 1});
  lab.core().judge();
  ASSERT_EQ(lab.core().output().punted().size(), 1u);
  const packet::Meta& m = packet::meta(lab.core().output().punted()[0]);
  EXPECT_EQ(m.port, 1);
  EXPECT_EQ(m.next_hop, server);
  EXPECT_EQ(m.kind, packet::Kind::kFlow);
  lab.core().end();
  lab.turn();
}

// --- heartbeats of other engines
// ------------------------------------------------------------------

class HeartbeatTest : public ForwarderTest {
 protected:
  Frame beat(std::string_view to) const {
    return support::udp({v4() ? "10.1.0.9" : "fd00:1::9", 9091, to, 9091}, "beat");
  }
  std::string_view port() const { return v4() ? "10.1.0.1" : "fd00:1::1"; }
};

INSTANTIATE_TEST_SUITE_P(Families, HeartbeatTest, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

TEST_P(HeartbeatTest, GoToTheControlThread) {
  CoreLab lab({.cores = 4, .entries = 65536, .heartbeats = true});
  EXPECT_TRUE(lab.send(beat(port())).empty());
  EXPECT_EQ(lab.punted().size(), 1u);
}

TEST_P(HeartbeatTest, AreRefusedLikeAnythingElseWithoutPeers) {
  CoreLab lab;
  EXPECT_EQ(lab.send(beat(port())).size(), 1u) << "port unreachable";
  EXPECT_TRUE(lab.punted().empty());
}

TEST_P(HeartbeatTest, AreTakenForThePortsOwnAddressAndBothPortsOnly) {
  CoreLab lab({.heartbeats = true});
  Frame other = beat(port());
  other.source_port = 9092;
  lab.send(other);
  other = beat(port());
  other.destination_port = 9092;
  lab.send(other);
  lab.send(beat(v4() ? "10.1.0.77" : "fd00:1::77"));
  EXPECT_TRUE(lab.punted().empty());
}

TEST_P(HeartbeatTest, AreTakenAtABoundedRate) {
  CoreLab lab({.heartbeats = true});
  const Bytes frame = beat(port()).build();
  for (int i = 0; i < 100; ++i) lab.send(std::vector<Bytes>(50, frame), 0);
  EXPECT_EQ(lab.punted().size(), egress::ReplyLimit::kBurst);
  EXPECT_EQ(lab.drops(DropReason::kRateLimited), 5000u - egress::ReplyLimit::kBurst);
}

}  // namespace
}  // namespace limpet
