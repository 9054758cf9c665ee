// TCP connections that were opened through another engine, at the one that took their group over.
#include <gtest/gtest.h>

#include "dataplane/packet/headers.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using packet::DropReason;
using packet::kTcpAck;
using packet::kTcpFin;
using packet::kTcpPsh;
using packet::kTcpRst;
using packet::kTcpSyn;
using support::CoreLab;
using support::parts;
using support::Sent;

class Adoption : public testing::TestWithParam<Family> {
 protected:
  static CoreLab::Options four_cores() { return {.cores = 4, .entries = 65536}; }

  Adoption() {
    lab.world.preserve_client();
    set_owned(true);
  }
  snapshot::VirtualService& vs() { return lab.world.vs(GetParam()); }
  bool v4() const { return GetParam() == Family::kV4; }
  std::string client(uint32_t n = 0) const {
    return (v4() ? "10.1.0." : "fd00:1::") + std::to_string(n + 2);
  }
  // Another engine has the group, or this one has it.
  std::vector<Sent> set_owned(bool owned) {
    auto& s = *lab.world.snapshot;
    for (auto& service : s.virtual_services) {
      service.adopts = true;
      service.served = owned;
      service.standby = !owned;
    }
    if (listeners.empty()) listeners = s.listeners;
    s.listeners = owned ? listeners : std::vector<snapshot::Listener>{};
    s.adoptables.clear();
    if (owned) {
      for (uint32_t i = 0; i < 2; ++i) {
        for (const auto& server : s.pools[i].servers)
          s.adoptables.push_back({server.address, server.port, i, listeners[2 * i].address, 80});
      }
      std::ranges::sort(s.adoptables, {}, &snapshot::Adoptable::server);
    }
    return lab.publish();
  }
  // A connection whose flow this engine does not have, because another engine carried it meanwhile.
  CoreLab::Connection foreign(uint32_t n = 0, uint16_t port = 1000) {
    const std::string address = client(n);
    auto c = lab.connect({address, port});
    EXPECT_TRUE(c.ok());
    EXPECT_TRUE(set_owned(false).empty()) << "nobody is told";
    EXPECT_TRUE(set_owned(true).empty());
    EXPECT_EQ(flows(), 0u);
    return c;
  }
  uint32_t flows() {
    uint32_t sum = 0;
    for (uint32_t c = 0; c < lab.cores(); ++c) sum += lab.core(c).forwarder().flows().size();
    return sum;
  }
  uint64_t adopted() {
    uint64_t sum = 0;
    for (uint32_t c = 0; c < lab.cores(); ++c) sum += lab.core(c).forwarder().readopted();
    return sum;
  }
  bool is_reset(const std::vector<Sent>& out) {
    return out.size() == 1 && (parts(out[0].bytes).tcp_flags & kTcpRst) != 0 && out[0].port == 0;
  }
  void forget() {
    for (uint32_t c = 0; c < lab.cores(); ++c) {
      worker::Job job;
      job.kind = worker::Job::Kind::kDelete;
      job.filter.scopes = {true, true};
      lab.run_job(c, &job);
    }
  }

  CoreLab lab{four_cores()};
  std::vector<snapshot::Listener> listeners;
};

INSTANTIATE_TEST_SUITE_P(Families, Adoption, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

TEST_P(Adoption, AClientsSegmentGoesOnToItsServer) {
  for (uint32_t n = 0; n < 12; ++n) {
    const auto c = foreign(n);
    const auto out = lab.send(support::tcp(c.up(), kTcpAck | kTcpPsh, "more"));
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(parts(out[0].bytes).destination, c.server);
    EXPECT_EQ(parts(out[0].bytes).source, c.client);
    EXPECT_EQ(adopted(), n + 1u);
    // And back, with the VIP's address.
    const auto back = lab.send(support::tcp(c.down(), kTcpAck, "yes"), 1);
    ASSERT_EQ(back.size(), 1u);
    EXPECT_EQ(parts(back[0].bytes).source, c.vip);
    EXPECT_EQ(parts(back[0].bytes).destination, c.client);
    lab.finish(c);
    EXPECT_EQ(adopted(), n + 1u);
  }
}

TEST_P(Adoption, AServersSegmentGoesOnToItsClient) {
  const auto c = foreign();
  lab.neighbor(0, *net::Address::parse(client()), true);
  const auto out = lab.send(support::tcp(c.down(), kTcpAck | kTcpPsh, "more"), 1);
  EXPECT_EQ(adopted(), 1u);
  // Its MAC is the control thread's to find out.
  ASSERT_EQ(out.size() + lab.punted().size(), 1u);
  const auto next = lab.send(support::tcp(c.up(), kTcpAck));
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(parts(next[0].bytes).destination, c.server);
  const auto back = lab.send(support::tcp(c.down(), kTcpAck, "yes"), 1);
  ASSERT_EQ(back.size(), 1u) << "the client has come: its packets say the way";
  EXPECT_EQ(parts(back[0].bytes).source, c.vip);
  EXPECT_EQ(adopted(), 1u);
}

TEST_P(Adoption, WhatIsAdoptedCountsAsOpenAndKeepsTheBinding) {
  lab.world.scope(GetParam()).timeout = timing::seconds(20);
  set_owned(true);
  const auto c = foreign();
  lab.send(support::tcp(c.up(), kTcpAck));
  lab.advance(timing::seconds(100), timing::seconds(1));
  const std::string address = client();
  EXPECT_EQ(lab.connect({address, 2000}).server, c.server);
}

TEST_P(Adoption, OnlyPlainSegmentsAreTaken) {
  const auto c = foreign();
  for (const uint8_t flags : {kTcpPsh, uint8_t(kTcpSyn | kTcpAck), kTcpFin})
    EXPECT_TRUE(is_reset(lab.send(support::tcp(c.up(), flags)))) << int{flags};
  EXPECT_TRUE(lab.send(support::tcp(c.up(), kTcpRst | kTcpAck)).empty());
  for (const uint8_t flags : {kTcpPsh, uint8_t(kTcpSyn | kTcpAck), uint8_t(kTcpRst | kTcpAck)})
    EXPECT_TRUE(lab.send(support::tcp(c.down(), flags), 1).empty());
  EXPECT_EQ(adopted(), 0u);
  EXPECT_EQ(flows(), 0u);
}

TEST_P(Adoption, WithoutABindingNothingIsTakenAndNoneIsMade) {
  const auto c = foreign();
  forget();
  for (uint32_t n = 0; n < 8; ++n) {
    const std::string address = client(n);
    const support::Flow up{address, 1000, v4() ? support::kVip4 : support::kVip6, 80};
    EXPECT_TRUE(is_reset(lab.send(support::tcp(up, kTcpAck))));
    const support::Flow down{c.server, c.server_port, address, 1000};
    EXPECT_TRUE(lab.send(support::tcp(down, kTcpAck), 1).empty());
  }
  EXPECT_EQ(adopted(), 0u);
  EXPECT_EQ(lab.shared().bindings.count(), 0u);
  EXPECT_EQ(lab.drops(DropReason::kNotForUs), 8u);
}

TEST_P(Adoption, ASynThatWaitsBesideAStraySegmentOpensItsConnection) {
  const std::string address = client(3);
  const support::Flow stray{address, 1000, v4() ? support::kVip4 : support::kVip6, 80};
  const support::Flow fresh{address, 1001, v4() ? support::kVip4 : support::kVip6, 80};
  const auto out =
      lab.send({support::tcp(stray, kTcpAck).build(), support::tcp(fresh, kTcpSyn).build()}, 0);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(adopted(), 0u);
  EXPECT_EQ(flows(), 1u);
}

TEST_P(Adoption, AServerThatTheBindingDoesNotNameIsNotBelieved) {
  const auto c = foreign();
  for (const auto& server : lab.world.pool(GetParam()).servers) {
    if (server.address.to_string() == c.server) continue;
    const std::string other = server.address.to_string();
    const support::Flow down{other, 80, c.client, c.client_port};
    EXPECT_TRUE(lab.send(support::tcp(down, kTcpAck), 1).empty());
  }
  EXPECT_EQ(adopted(), 0u);
}

TEST_P(Adoption, AServerThatLeftIsNotGoneOnWith) {
  const auto c = foreign();
  auto& servers = lab.world.pool(GetParam()).servers;
  for (uint32_t i = 0; i < servers.size(); ++i) {
    if (servers[i].address.to_string() != c.server) continue;
    lab.world.remove_server(GetParam(), i);
    break;
  }
  set_owned(true);
  EXPECT_TRUE(is_reset(lab.send(support::tcp(c.up(), kTcpAck))));
  EXPECT_EQ(adopted(), 0u);
}

TEST_P(Adoption, AServerThatIsDownGoesOnWithWhatIsEstablished) {
  const auto c = foreign();
  for (auto& server : lab.world.pool(GetParam()).servers)
    server.state = snapshot::ServerState::kDown;
  set_owned(true);
  EXPECT_EQ(lab.send(support::tcp(c.up(), kTcpAck)).size(), 1u);
  EXPECT_EQ(adopted(), 1u);
}

TEST_P(Adoption, GroupsThatNobodyElseTakesAdoptNothing) {
  const auto c = foreign();
  for (auto& service : lab.world.snapshot->virtual_services) service.adopts = false;
  lab.world.snapshot->adoptables.clear();
  lab.publish();
  EXPECT_TRUE(is_reset(lab.send(support::tcp(c.up(), kTcpAck))));
  EXPECT_TRUE(lab.send(support::tcp(c.down(), kTcpAck), 1).empty());
}

class FirstServer : public Adoption {
 protected:
  FirstServer() {
    auto& s = *lab.world.snapshot;
    for (auto l : std::vector(s.listeners)) {
      l.first_port = l.last_port = 81;
      s.listeners.push_back(l);
    }
    listeners.clear();
    lab.publish();
  }
  support::Flow up(uint16_t port, uint16_t vip_port = 80) const {
    return {address, port, v4() ? support::kVip4 : support::kVip6, vip_port};
  }
  CoreLab::Connection connect(uint16_t port, uint16_t vip_port = 80) {
    const auto out = lab.send(support::tcp(up(port, vip_port), kTcpSyn));
    EXPECT_EQ(out.size(), 1u);
    CoreLab::Connection c{
        .client = address, .client_port = port, .vip = std::string(up(port).destination)};
    if (out.size() != 1) return c;
    const auto p = parts(out[0].bytes);
    c.server = p.destination;
    c.server_port = p.destination_port;
    c.source = p.source;
    c.source_port = p.source_port;
    lab.send(c.syn_ack(), 1);
    auto ack = c.from_client(kTcpAck);
    ack.destination_port = vip_port;
    lab.send(ack);
    return c;
  }
  void set_state(const std::string& server, snapshot::ServerState state) {
    for (auto& s : lab.world.pool(GetParam()).servers) {
      if (s.address.to_string() == server) s.state = state;
    }
    lab.publish();
  }
  uint32_t open() {
    uint32_t sum = 0;
    for (uint32_t c = 0; c < lab.cores(); ++c) sum += lab.core(c).forwarder().vs(vs().slot).open;
    return sum;
  }

  const std::string address = client();
};

INSTANTIATE_TEST_SUITE_P(Families, FirstServer, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

TEST_P(FirstServer, IsAskedWhenThePresentOneDoesNotKnowTheConnection) {
  const auto first = connect(1000, 81);
  set_state(first.server, snapshot::ServerState::kDown);
  const auto present = connect(2000);
  ASSERT_NE(present.server, first.server);
  auto out = lab.send(support::tcp(up(1001), kTcpAck, "mine"));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(parts(out[0].bytes).destination, present.server);
  EXPECT_TRUE(
      lab.send(support::tcp({present.server, present.server_port, address, 1001}, kTcpRst), 1)
          .empty());
  out = lab.send(support::tcp(up(1001), kTcpAck, "mine"));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(parts(out[0].bytes).destination, first.server);
  EXPECT_EQ(open(), 3u);
}

// The client has that port in use towards it, by another port of the VIP.
TEST_P(FirstServer, IsNotAskedWhereTheAnswersCouldNotBeToldApart) {
  const auto first = connect(1000, 81);
  set_state(first.server, snapshot::ServerState::kDown);
  const auto present = connect(2000);
  ASSERT_NE(present.server, first.server);
  auto out = lab.send(support::tcp(up(1000), kTcpAck, "mine"));
  ASSERT_EQ(out.size(), 1u);
  ASSERT_EQ(parts(out[0].bytes).destination, present.server);
  EXPECT_EQ(open(), 3u);
  const support::Flow down{present.server, present.server_port, address, 1000};
  const auto reset = support::tcp(down, kTcpRst | kTcpAck)
                         .with(&support::Frame::sequence, 0)
                         .with(&support::Frame::acknowledgment, CoreLab::kClientSequence + 4);
  EXPECT_TRUE(is_reset(lab.send(reset, 1))) << "what the present server says counts";
  EXPECT_EQ(open(), 2u);
  EXPECT_EQ(flows(), 2u);
  // Both that are left go on.
  EXPECT_EQ(lab.send(support::tcp(up(1000, 81), kTcpAck)).size(), 1u);
  EXPECT_EQ(lab.send(support::tcp(up(2000), kTcpAck)).size(), 1u);
}

TEST_P(Adoption, AnEmbryonicBindingIsNoProof) {
  const std::string address = client();
  ASSERT_FALSE(lab.syn({address, 1000}).empty());
  set_owned(false);
  set_owned(true);
  const support::Flow up{address, 1000, v4() ? support::kVip4 : support::kVip6, 80};
  EXPECT_TRUE(is_reset(lab.send(support::tcp(up, kTcpAck))));
}

TEST_P(Adoption, TranslatedConnectionsAreResetWhenTheGroupGoes) {
  CoreLab translated;
  const std::string address = client();
  ASSERT_TRUE(translated.connect({address, 1000}).ok());
  for (auto& service : translated.world.snapshot->virtual_services) {
    service.served = false;
    service.standby = true;
  }
  translated.world.snapshot->listeners.clear();
  const auto out = translated.publish();
  ASSERT_EQ(out.size(), 2u);
  for (const Sent& sent : out) EXPECT_NE(parts(sent.bytes).tcp_flags & kTcpRst, 0);
}

}  // namespace
}  // namespace limpet
