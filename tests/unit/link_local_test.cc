// Clients with link-local IPv6 addresses: the same one on two ports is two clients (RFC 4007 6),
// and nothing of it goes from one link to another (RFC 4291 2.5.6).
#include <gtest/gtest.h>

#include "dataplane/packet/headers.h"
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
using support::parts;
using support::Sent;

constexpr std::string_view kClient = "fe80::2";
constexpr std::string_view kOwn = "fe80::1";
constexpr std::string_view kFrontClientMac = "02:00:00:00:01:01";
constexpr std::string_view kBackClientMac = "02:00:00:00:02:01";
constexpr support::Flow kUp{kClient, 1000, support::kVip6, 80};
constexpr std::array<uint8_t, 2> kPorts{0, 1};
constexpr uint8_t kUnreachable = 1;
constexpr uint8_t kPortUnreachable = 4;

// With one worker and with four.
class LinkLocal : public testing::TestWithParam<uint32_t> {
 protected:
  CoreLab lab{{.cores = GetParam(), .entries = 65536, .reassemble = true}};

  static std::string_view client_mac(uint8_t port) {
    return port == 0 ? kFrontClientMac : kBackClientMac;
  }
  static Frame by(const Frame& frame, uint8_t port) {
    return frame.with(&Frame::from, support::mac(client_mac(port)));
  }
  // What the engine sends to the client behind `port`.
  static Bytes answered(const Frame& frame, uint8_t port, uint8_t ttl = 63) {
    return frame.with(&Frame::to, support::mac(client_mac(port)))
        .with(&Frame::from, support::mac(port == 0 ? support::kFrontMac : support::kBackMac))
        .with(&Frame::ttl, ttl)
        .build();
  }
  std::vector<Sent> send(const Frame& frame, uint8_t port) {
    return lab.send(by(frame, port), port);
  }
  // A datagram of the client behind `port`, as its server sees it; it has to get there.
  struct Arrived {
    std::string server, source;
    uint16_t source_port = 0;
    support::Flow answer() const { return {server, 8080, source, source_port}; }
  };
  Arrived datagram(uint8_t port, uint16_t client_port = 1000) {
    const auto out =
        send(support::udp({kClient, client_port, support::kVip6, 80}, "question"), port);
    EXPECT_EQ(out.size(), 1u);
    if (out.size() != 1) return {};
    EXPECT_EQ(out[0].port, 1);
    const auto p = parts(out[0].bytes);
    EXPECT_EQ(p.destination_port, 8080);
    return {p.destination, p.source, p.source_port};
  }
  uint32_t flows() {
    uint32_t sum = 0;
    for (uint32_t c = 0; c < lab.cores(); ++c) sum += lab.core(c).forwarder().flows().size();
    return sum;
  }
  void expect(const std::vector<Sent>& out, uint8_t port, const Bytes& bytes) {
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].port, port);
    EXPECT_EQ(support::describe(out[0].bytes), support::describe(bytes));
    EXPECT_EQ(out[0].bytes, bytes);
  }
  void publish(const std::function<void(support::World&)>& change) {
    change(lab.world);
    lab.publish();
  }
  // The engine's own link-local address on a port.
  static void give_own(support::World& w, uint8_t port) {
    auto& addresses = w.snapshot->ports[port].addresses;
    addresses.insert(addresses.begin(), *net::Prefix::parse("fe80::1/64"));
    w.snapshot->own_addresses.push_back({support::address(kOwn).in_zone(net::zone_of(port)),
                                         snapshot::Snapshot::OwnAddress::Kind::kPort, true});
  }
};

INSTANTIATE_TEST_SUITE_P(Workers, LinkLocal, testing::Values(1u, 4u));

TEST_P(LinkLocal, OneAddressOnTwoPortsIsTwoClients) {
  for (uint16_t n = 0; n < 8; ++n) {
    const auto client_port = static_cast<uint16_t>(1000 + n);
    const support::Flow down{support::kVip6, 80, kClient, client_port};
    const Arrived front = datagram(0, client_port);
    const Arrived back = datagram(1, client_port);
    expect(lab.send(support::udp(front.answer(), "to front"), 1), 0,
           answered(support::udp(down, "to front"), 0));
    expect(lab.send(support::udp(back.answer(), "to back"), 1), 1,
           answered(support::udp(down, "to back"), 1));
  }
  EXPECT_EQ(flows(), 16u);
}

TEST_P(LinkLocal, EachHasItsBinding) {
  const Arrived front = datagram(0);
  const Arrived back = datagram(1);
  if (lab.cores() == 1) {
    EXPECT_NE(front.server, back.server) << "round robin";
  }
  for (uint16_t n = 0; n < 8; ++n) {
    EXPECT_EQ(datagram(0, static_cast<uint16_t>(2000 + n)).server, front.server);
    EXPECT_EQ(datagram(1, static_cast<uint16_t>(2000 + n)).server, back.server);
  }
  EXPECT_EQ(lab.shared().bindings.count(), 2u);
}

TEST_P(LinkLocal, WithoutAutogwAnswersGoToTheirLink) {
  publish([](support::World& w) { w.vs(Family::kV6).autogw = false; });
  const Arrived front = datagram(0);
  const Arrived back = datagram(1);
  EXPECT_TRUE(lab.send(support::udp(front.answer(), "unresolved"), 1).empty());
  EXPECT_EQ(lab.punted().size(), 1u);
  for (const uint8_t port : kPorts) lab.neighbor(port, support::address(kClient), true);
  lab.turn();
  for (const uint8_t port : kPorts) {
    const auto out = lab.send(support::udp((port == 0 ? front : back).answer(), "answer"), 1);
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].port, port);
    EXPECT_EQ(parts(out[0].bytes).destination, kClient);
  }
}

TEST_P(LinkLocal, ErrorsOfTheClientReachItsServer) {
  for (const uint8_t port : kPorts) {
    const Arrived there = datagram(port);
    const Frame quoted = support::udp(kUp.reversed(), "answer");
    const auto out = send(support::icmp_error(kClient, support::kVip6, kUnreachable,
                                              kPortUnreachable, quoted.build_ip()),
                          port);
    expect(out, 1,
           support::icmp_error(there.source, there.server, kUnreachable, kPortUnreachable,
                               support::udp(there.answer(), "answer").build_ip())
               .with(&Frame::to, support::mac("02:00:00:00:02:02"))
               .with(&Frame::from, support::mac(support::kBackMac))
               .with(&Frame::ttl, 63)
               .build());
  }
}

TEST_P(LinkLocal, ErrorsAboutTheClientsPacketsReachIt) {
  for (const uint8_t port : kPorts) {
    const Arrived there = datagram(port);
    const Frame quoted = support::udp(there.answer().reversed(), "question");
    const auto out = lab.send(support::icmp_error(there.server, there.source, kUnreachable,
                                                  kPortUnreachable, quoted.build_ip()),
                              1);
    expect(out, port,
           answered(support::icmp_error(support::kVip6, kClient, kUnreachable, kPortUnreachable,
                                        support::udp(kUp, "question").build_ip()),
                    port));
  }
}

// The router said nothing else about itself: the error comes from the end that its receiver knows.
TEST_P(LinkLocal, ErrorsOfARouterDoNotTakeItsLinkLocalAddressAlong) {
  const auto c = lab.datagram({"fd00:1::2", 1000});
  ASSERT_TRUE(c.ok());
  auto out = lab.send(support::icmp_error("fe80::99", support::kVip6, kUnreachable, 0,
                                          support::udp(c.up().reversed(), "x").build_ip()));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(parts(out[0].bytes).source, c.source);
  out = lab.send(support::icmp_error("fe80::99", c.source, kUnreachable, 0,
                                     support::udp(c.down().reversed(), "x").build_ip()),
                 1);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(parts(out[0].bytes).source, support::kVip6);
}

TEST_P(LinkLocal, ResetsOfStrayPacketsReachTheirSender) {
  for (const uint8_t port : kPorts) {
    const auto out =
        send(support::tcp(kUp, kTcpAck).with(&Frame::acknowledgment, 0x0a0b0c0d), port);
    expect(out, port,
           answered(support::tcp(kUp.reversed(), kTcpRst)
                        .with(&Frame::sequence, 0x0a0b0c0d)
                        .with(&Frame::window, 0),
                    port, 64));
  }
}

TEST_P(LinkLocal, AConnectionThatEndsIsResetAtItsOwnClient) {
  for (const uint8_t port : kPorts) EXPECT_EQ(send(support::tcp(kUp, kTcpSyn), port).size(), 1u);
  EXPECT_EQ(flows(), 2u);
  lab.world.snapshot->virtual_services.clear();
  lab.world.snapshot->listeners.clear();
  std::vector<std::pair<uint8_t, std::string>> told;
  for (const Sent& s : lab.publish()) {
    const auto p = parts(s.bytes);
    if (p.destination == kClient) told.emplace_back(s.port, p.to_mac);
  }
  std::sort(told.begin(), told.end());
  EXPECT_EQ(told, (std::vector<std::pair<uint8_t, std::string>>{{0, std::string(kFrontClientMac)},
                                                                {1, std::string(kBackClientMac)}}));
}

TEST_P(LinkLocal, ServersNeverSeeTheAddressEvenWhereClientsKeepTheirs) {
  publish([](support::World& w) {
    w.preserve_client();
    give_own(w, 1);
  });
  const support::Flow down = kUp.reversed();
  for (uint16_t n = 0; n < 4; ++n) {
    for (const uint8_t port : kPorts) {
      const Arrived there = datagram(port, 1000);
      EXPECT_EQ(there.source, "fd00:2::1");
      expect(lab.send(support::udp(there.answer(), "answer"), 1), port,
             answered(support::udp(down, "answer"), port));
    }
  }
  EXPECT_EQ(flows(), 2u);
}

TEST_P(LinkLocal, NoConnectionIsAdoptedWhoseClientCouldNotKeepItsAddress) {
  publish([](support::World& w) {
    w.preserve_client();
    w.vs(Family::kV6).adopts = true;
  });
  // Complete, so that the bindings are confirmed.
  for (const auto& [address, port] :
       {std::pair{kClient, uint8_t{0}}, std::pair{std::string_view("fd00:2::2"), uint8_t{1}}}) {
    const support::Flow up{address, 1000, support::kVip6, 80};
    const auto out = send(support::tcp(up, kTcpSyn), port);
    ASSERT_EQ(out.size(), 1u);
    const auto p = parts(out[0].bytes);
    lab.send(support::tcp({p.destination, 8080, p.source, p.source_port}, kTcpSyn | kTcpAck)
                 .with(&Frame::sequence, CoreLab::kServerSequence)
                 .with(&Frame::acknowledgment, CoreLab::kClientSequence + 1),
             1);
    send(support::tcp(up, kTcpAck)
             .with(&Frame::sequence, CoreLab::kClientSequence + 1)
             .with(&Frame::acknowledgment, CoreLab::kServerSequence + 1),
         port);
    // Another one of the client's, opened through another engine.
    const support::Flow other{address, 1001, support::kVip6, 80};
    const auto reset = send(support::tcp(other, kTcpAck, "data"), port);
    ASSERT_EQ(reset.size(), 1u) << address;
    EXPECT_EQ(parts(reset[0].bytes).destination, address);
    EXPECT_NE(parts(reset[0].bytes).tcp_flags & kTcpRst, 0) << address;
  }
  EXPECT_EQ(flows(), 2u);
}

TEST_P(LinkLocal, PiecesOfTwoLinksAreTwoDatagrams) {
  const std::string text(1000, 'x');
  std::vector<Bytes> pieces[2];
  for (const uint8_t port : kPorts) {
    Frame whole = by(support::udp(kUp, text), port);
    if (port == 1) whole.to = support::mac(support::kBackMac);
    pieces[port] = support::fragments_of(whole, 600, 77);
  }
  ASSERT_EQ(pieces[0].size(), 2u);
  EXPECT_TRUE(lab.send({pieces[0][0]}, 0).empty());
  EXPECT_TRUE(lab.send({pieces[1][1]}, 1).empty());
  EXPECT_EQ(lab.send({pieces[0][1]}, 0).size(), 1u);
  EXPECT_EQ(lab.send({pieces[1][0]}, 1).size(), 1u);
  EXPECT_EQ(flows(), 2u);
}

// Else anybody could speak for a client on another link.
TEST_P(LinkLocal, ZonesDoNotComeByWire) {
  Frame frame = support::udp(kUp, "question");
  const uint8_t source[16] = {0xfe, 0x80, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  frame.source = net::Address::v6(source);
  EXPECT_TRUE(send(frame, 0).empty());
  EXPECT_EQ(lab.drops(DropReason::kMartianSource), 1u);
  frame = support::udp({"fd00:1::2", 1000, kClient, 80}, "question");
  frame.destination = net::Address::v6(source);
  EXPECT_TRUE(lab.send(frame).empty());
  EXPECT_EQ(lab.drops(DropReason::kNotForUs), 1u);
  EXPECT_EQ(flows(), 0u);
}

TEST_P(LinkLocal, OurOwnAddressOnOneLinkIsAClientsOnAnother) {
  publish([](support::World& w) { give_own(w, 0); });
  const Frame frame = support::udp({kOwn, 1000, support::kVip6, 80}, "question");
  EXPECT_TRUE(send(frame, 0).empty());
  EXPECT_EQ(lab.drops(DropReason::kMartianSource), 1u);
  EXPECT_EQ(send(frame, 1).size(), 1u);
  EXPECT_EQ(lab.drops(DropReason::kMartianSource), 1u);
}

TEST_P(LinkLocal, WhatIsForOurOwnLinkLocalAddressIsRefusedOnItsLinkOnly) {
  publish([](support::World& w) { give_own(w, 0); });
  const support::Flow up{kClient, 1000, kOwn, 80};
  auto out = send(support::tcp(up, kTcpAck).with(&Frame::acknowledgment, 7), 0);
  expect(out, 0,
         answered(
             support::tcp(up.reversed(), kTcpRst).with(&Frame::sequence, 7).with(&Frame::window, 0),
             0, 64));
  EXPECT_TRUE(send(support::tcp(up, kTcpAck), 1).empty());
  EXPECT_EQ(lab.drops(DropReason::kNotForUs), 1u);
}

TEST_P(LinkLocal, ErrorsGoFarWithAnAddressThatIsKnownThere) {
  publish([](support::World& w) { give_own(w, 0); });
  const auto out = lab.send(
      support::udp({"fd00:1::2", 1000, support::kVip6, 80}, "last hop").with(&Frame::ttl, 1));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(parts(out[0].bytes).source, "fd00:1::1");
  const auto near = send(support::udp(kUp, "last hop").with(&Frame::ttl, 1), 0);
  ASSERT_EQ(near.size(), 1u);
  EXPECT_EQ(parts(near[0].bytes).destination, kClient);
}

TEST_P(LinkLocal, NothingIsLost) {
  for (const uint8_t port : kPorts) datagram(port);
  EXPECT_EQ(lab.buffers().in_use(), 0u);
}

}  // namespace
}  // namespace limpet
