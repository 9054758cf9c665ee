// Bugs that were found in the data path, each through a whole core.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "dataplane/packet/headers.h"
#include "dataplane/worker/turn.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using packet::DropReason;
using packet::kTcpAck;
using packet::kTcpRst;
using packet::kTcpSyn;
using support::Bytes;
using support::CoreLab;
using support::Frame;

class ForwardingRegression : public testing::TestWithParam<Family> {
 protected:
  bool v4() const { return GetParam() == Family::kV4; }
  std::string_view client() const { return v4() ? "10.1.0.2" : "fd00:1::2"; }
  std::string_view vip() const { return v4() ? support::kVip4 : support::kVip6; }
  support::Flow up() const { return {client(), 40000, vip(), 80}; }

  // Sequence, acknowledgment and flags of a frame without options before TCP.
  struct Numbers {
    uint32_t sequence = 0;
    uint32_t acknowledgment = 0;
    uint8_t flags = 0;
  };
  Numbers numbers(const Bytes& frame) const {
    const std::size_t tcp = v4() ? 34 : 54;
    const auto word = [&](std::size_t at) {
      return uint32_t{frame[at]} << 24 | uint32_t{frame[at + 1]} << 16 |
             uint32_t{frame[at + 2]} << 8 | frame[at + 3];
    };
    return {word(tcp + 4), word(tcp + 8), frame[tcp + 13]};
  }
  // What leaves by `port` when the virtual services are deleted.
  std::vector<Bytes> delete_services(CoreLab& lab, uint8_t port) {
    lab.world.snapshot->virtual_services.clear();
    lab.world.snapshot->listeners.clear();
    std::vector<Bytes> out;
    for (auto& s : lab.publish()) {
      if (s.port == port) out.push_back(s.bytes);
    }
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Families, ForwardingRegression, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

// The reset of a connection whose handshake was not complete carried zeros, which neither side
// accepts (RFC 9293 3.10.7.3, 3.10.7.4).
TEST_P(ForwardingRegression, AResetOfASynIsOneTheClientAccepts) {
  CoreLab lab;
  lab.send(support::tcp(up(), kTcpSyn).with(&Frame::sequence, 1000u));
  const auto out = delete_services(lab, 0);
  ASSERT_EQ(out.size(), 1u);
  const Numbers n = numbers(out[0]);
  EXPECT_EQ(n.flags, kTcpRst | kTcpAck);
  EXPECT_EQ(n.acknowledgment, 1001u);
}

TEST_P(ForwardingRegression, AResetOfASynIsOneTheServerAccepts) {
  CoreLab lab;
  lab.send(support::tcp(up(), kTcpSyn).with(&Frame::sequence, 1000u));
  const auto out = delete_services(lab, 1);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(numbers(out[0]).sequence, 1001u);
}

TEST_P(ForwardingRegression, AResetAfterTheSynAckFitsBothSides) {
  CoreLab lab;
  const auto sent = lab.send(support::tcp(up(), kTcpSyn).with(&Frame::sequence, 1000u));
  ASSERT_EQ(sent.size(), 1u);
  const auto p = support::parts(sent[0].bytes);
  lab.send(
      support::tcp({p.destination, p.destination_port, p.source, p.source_port}, kTcpSyn | kTcpAck)
          .with(&Frame::sequence, 5000u)
          .with(&Frame::acknowledgment, 1001u),
      1);
  lab.world.snapshot->virtual_services.clear();
  lab.world.snapshot->listeners.clear();
  const auto out = lab.publish();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].port, 0);
  EXPECT_EQ(numbers(out[0].bytes).sequence, 5001u);
  EXPECT_EQ(numbers(out[0].bytes).acknowledgment, 1001u);
  EXPECT_EQ(out[1].port, 1);
  EXPECT_EQ(numbers(out[1].bytes).sequence, 1001u);
}

// What cannot be read far enough to know its port was counted on the port the buffer was used for
// last, and an unknown VLAN on port 0 whatever the device.
TEST_P(ForwardingRegression, ARuntAndAnUnknownVlanAreCountedOnTheirDevice) {
  CoreLab lab;
  const packet::Ingress second{.port = 1, .vlan = 7, .mac = support::mac(support::kBackMac)};
  const auto arrive = [&](const Bytes& frame, uint8_t last_used_for) {
    packet::Buffer* b = support::make_buffer(lab.buffers().pool(), frame);
    packet::meta(b).port = last_used_for;
    lab.core().arrive(b, {&second, 1});
    lab.turn();
  };
  const Bytes whole = support::udp(up(), "x").build();
  arrive(whole, 0);
  arrive(Bytes(whole.begin(), whole.begin() + 10), 0);
  const auto& drops = lab.core().output().drops(1);
  EXPECT_EQ(drops[static_cast<std::size_t>(DropReason::kUnknownVlan)].get(), 1u);
  EXPECT_EQ(drops[static_cast<std::size_t>(DropReason::kTruncated)].get(), 1u);
  EXPECT_EQ(lab.core().output().port(1).rx_packets.get(), 2u);
}

// ICMP errors about a flow went to a core that does not know it.
TEST_P(ForwardingRegression, IcmpErrorsFindTheCoreOfTheirFlow) {
  CoreLab lab({.cores = 4, .entries = 65536});
  std::vector<std::string> clients;
  std::vector<CoreLab::Connection> open;
  for (int i = 0; i < 20; ++i)
    clients.push_back((v4() ? "10.1.0." : "fd00:1::") + std::to_string(i + 2));
  for (const auto& c : clients) open.push_back(lab.connect({c, 1000}));
  for (const auto& c : open) {
    const Bytes quoted = support::tcp(c.up().reversed(), kTcpAck, "data").build_ip();
    const Frame error = v4() ? support::icmp_error("10.1.0.254", vip(), 3, 4, quoted, 1400)
                             : support::icmp_error("fd00:1::fe", vip(), 2, 0, quoted, 1400);
    const auto out = lab.send(error);
    ASSERT_EQ(out.size(), 1u) << c.client;
    EXPECT_EQ(support::parts(out[0].bytes).destination, c.server);
  }
}

// The wheel looks at a bounded number of flows a turn. What waited for it was revived by the next
// packet instead of being a new connection ...
TEST_P(ForwardingRegression, APacketOfAnExpiredFlowIsANewConnection) {
  CoreLab lab;
  ASSERT_TRUE(lab.datagram({client(), 1000}).ok());
  lab.clock.advance(timing::seconds(11));
  ASSERT_TRUE(lab.datagram({client(), 1000}).ok());
  EXPECT_EQ(lab.core().forwarder().vs(lab.world.vs(GetParam()).slot).total.get(), 2u);
  EXPECT_EQ(lab.core().forwarder().flows().size(), 1u);
}

// ... and kept new clients out of a full table.
TEST_P(ForwardingRegression, ExpiredFlowsGiveWayWhenTheTableIsFull) {
  CoreLab lab({.flows = 300});
  for (uint16_t i = 0; i < 300; ++i)
    lab.send(support::udp({client(), static_cast<uint16_t>(1000 + i), vip(), 80}, "x"));
  ASSERT_EQ(lab.core().forwarder().flows().size(), 300u);
  lab.clock.advance(timing::seconds(11));
  for (uint16_t i = 0; i < 3; ++i) {
    EXPECT_EQ(
        lab.send(support::udp({client(), static_cast<uint16_t>(2000 + i), vip(), 80}, "x")).size(),
        1u);
  }
  EXPECT_EQ(lab.drops(DropReason::kFlowTableFull), 0u);
}

// A limit that a reload sets counted only the connections that came after it.
TEST_P(ForwardingRegression, ALimitSetByAReloadCountsWhatIsOpen) {
  CoreLab lab({.servers = 1});
  lab.world.without_persistence();
  lab.publish();
  const auto first = lab.connect({client(), 1000});
  lab.connect({client(), 1001});
  const auto slot = lab.world.server(GetParam(), 0).slot;
  lab.world.server(GetParam(), 0).connections_max = 2;
  lab.publish();
  EXPECT_EQ(lab.shared().gauges.open(slot), 2u);
  EXPECT_EQ(lab.syn({client(), 1002}), "");
  lab.finish(first);
  EXPECT_NE(lab.syn({client(), 1003}), "");
  EXPECT_EQ(lab.shared().gauges.open(slot), 2u);
}

// Answers to a VIP that is also the source of translations were judged on the client side's core;
// and where a service listens on the ports of the translations too, nothing told them apart.
TEST_P(ForwardingRegression, AnswersToAVipThatTranslatesReachTheirFlow) {
  CoreLab lab({.cores = 4});
  for (auto& own : lab.world.snapshot->own_addresses) {
    if (own.address == support::address(vip())) own.source = true;
  }
  for (auto& server : lab.world.pool(GetParam()).servers)
    server.sources = {support::address(vip())};
  const uint32_t service = v4() ? 0 : 1;
  for (const uint8_t protocol : {packet::kProtocolTcp, packet::kProtocolUdp})
    lab.world.snapshot->listeners.push_back(
        {support::address(vip()), protocol, 1024, 65535, service});
  lab.publish();
  std::set<std::string> servers;
  for (uint16_t i = 0; i < 64; ++i) {
    const CoreLab::Client from{client(), static_cast<uint16_t>(3000 + i)};
    const auto to = static_cast<uint16_t>(i % 2 == 0 ? 80 : 2000 + i);
    const auto sent = lab.send(support::udp({from.address, from.port, vip(), to}, "question"));
    ASSERT_EQ(sent.size(), 1u);
    const auto forward = support::parts(sent[0].bytes);
    servers.insert(forward.destination);
    const auto back = lab.send(support::udp({forward.destination, forward.destination_port,
                                             forward.source, forward.source_port},
                                            "answer"),
                               1);
    ASSERT_EQ(back.size(), 1u);
    EXPECT_EQ(back[0].port, 0);
    const auto answer = support::parts(back[0].bytes);
    EXPECT_EQ(answer.destination, client());
    EXPECT_EQ(answer.destination_port, from.port);
    EXPECT_EQ(answer.source_port, to);
  }
  EXPECT_EQ(servers.size(), 1u);  // one client, one server
}

// A worker that slept over two changes found the second snapshot where the first had been, took it
// for the same one, and said at once that it had carried out what both had ended.
TEST(ForwardingRegression, AnotherSnapshotAtTheSameAddressIsAnotherSnapshot) {
  CoreLab lab({.flows = 4096, .entries = 4096});
  std::vector<std::string> clients;
  for (int i = 0; i < 2000; ++i)
    clients.push_back(fmt::format("10.1.{}.{}", 1 + i / 200, 1 + i % 200));
  for (const std::string& client : clients) lab.datagram({client, 5000});
  auto snapshot = std::make_shared<snapshot::Snapshot>(lab.running());
  snapshot->version = 100;
  worker::Core& core = lab.core();
  const auto turn = [&] {
    worker::turn(core, worker::PlainHost{core, *snapshot, lab.clock.now()});
  };
  for (int i = 0; i < 10'000 && core.stats().swept_version != 100; ++i) turn();
  ASSERT_EQ(core.stats().swept_version, 100u);
  snapshot->version = 102;
  turn();
  EXPECT_EQ(core.stats().swept_version, 100u) << "without a look at its flows";
  for (int i = 0; i < 10'000 && core.stats().swept_version != 102; ++i) turn();
  EXPECT_EQ(core.stats().swept_version, 102u);
}

// A server with a uuid stays itself when its address changes.
class MovedServer : public ForwardingRegression {
 protected:
  CoreLab lab{{.servers = 1}};
  const std::string old_address = v4() ? "10.2.0.2" : "fd00:2::2";
  const std::string new_address = v4() ? "10.2.0.9" : "fd00:2::9";

  void move(bool resolved) {
    auto& server = lab.world.server(GetParam(), 0);
    server.address = server.hop.next_hop = support::address(new_address);
    if (resolved) lab.neighbor(1, server.address, true);
    lab.publish();
  }
  std::string towards(const Frame& frame) {
    const auto out = lab.send(frame);
    return out.size() == 1 && out[0].port == 1 ? support::parts(out[0].bytes).destination : "";
  }
};

INSTANTIATE_TEST_SUITE_P(Families, MovedServer, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

// Frames for the old address went to the new one's MAC.
TEST_P(MovedServer, AnEstablishedConnectionGoesOnWhereItWas) {
  const auto c = lab.connect({client(), 40000});
  move(false);
  EXPECT_EQ(towards(c.from_client(kTcpAck, "data")), old_address);
  EXPECT_TRUE(lab.punted().empty()) << "its neighbour is known";
}

TEST_P(MovedServer, ANewConnectionOnTheSamePortsIsTheNewAddresss) {
  lab.connect({client(), 40000});
  EXPECT_EQ(towards(support::tcp({client(), 40001, vip(), 80}, kTcpSyn)), old_address);
  move(true);
  EXPECT_EQ(towards(support::tcp(up(), kTcpSyn).with(&Frame::sequence, 77)), new_address);
  EXPECT_EQ(towards(support::tcp({client(), 40001, vip(), 80}, kTcpSyn)), new_address) << "again";
}

TEST_P(MovedServer, DatagramsGoWhereItIs) {
  ASSERT_EQ(towards(support::udp(up(), "x")), old_address);
  move(true);
  EXPECT_EQ(towards(support::udp(up(), "x")), new_address);
}

TEST_P(MovedServer, DatagramsBalancedOneByOneGoWhereItIs) {
  lab.world.vs(GetParam()).per_packet = true;
  lab.publish();
  ASSERT_EQ(towards(support::udp(up(), "x")), old_address);
  move(true);
  EXPECT_EQ(towards(support::udp(up(), "x")), new_address);
  EXPECT_EQ(lab.core().forwarder().flows().size(), 1u);
}

// A client that nobody answers, and whose datagrams are balanced one by one, was never believed.
TEST_P(ForwardingRegression, AClientThatComesAgainIsBelievedWhenItsDatagramsAreBalanced) {
  CoreLab lab({.servers = 1});
  lab.world.vs(GetParam()).per_packet = true;
  lab.publish();
  const auto confirmed = [&] {
    const auto key = binding::Key::of(support::address(client()));
    const auto* entry = lab.core().replica().table().find(lab.world.scope(GetParam()).slot, key);
    return entry != nullptr && entry->confirmed;
  };
  lab.send(support::udp(up(), "x"));
  EXPECT_FALSE(confirmed());
  lab.clock.advance(timing::milliseconds(500));
  lab.send(support::udp(up(), "x"));
  EXPECT_FALSE(confirmed());
  lab.clock.advance(timing::milliseconds(1000));
  lab.send(support::udp(up(), "x"));
  EXPECT_TRUE(confirmed());
}

// Flows are looked up for a whole burst before its first packet is judged: what one of them ended
// was still forwarded by the record.
TEST_P(ForwardingRegression, APacketBehindItsConnectionsResetIsNotForwarded) {
  CoreLab lab({.servers = 1});
  const auto c = lab.connect({.address = client(), .port = 40000});
  ASSERT_TRUE(c.ok());
  const Frame reset = c.from_client(kTcpRst);
  const auto out = lab.send({reset.build(), c.from_client(kTcpAck, "data").build()}, 0);
  uint32_t to_server = 0;
  for (const auto& sent : out) to_server += sent.port == 1 ? 1 : 0;
  EXPECT_EQ(to_server, 1u) << "the reset alone";
  EXPECT_EQ(lab.drops(DropReason::kNoFlow), 1u);
  EXPECT_EQ(lab.core().forwarder().flows().size(), 0u);
}

}  // namespace
}  // namespace limpet
