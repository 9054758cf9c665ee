// TCP connections that were opened through another engine, at the one that took their group over.
#include <fmt/format.h>
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

// An engine whose clients keep their addresses, and whose group another engine may take over.
class AdoptionLab : public testing::Test {
 protected:
  AdoptionLab(Family f, const CoreLab::Options& options) : family(f), lab(options) {
    lab.world.preserve_client();
    set_owned(true);
  }
  snapshot::VirtualService& vs() { return lab.world.vs(family); }
  bool v4() const { return family == Family::kV4; }
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

  const Family family;
  CoreLab lab;
  std::vector<snapshot::Listener> listeners;
};

class Adoption : public AdoptionLab, public testing::WithParamInterface<Family> {
 protected:
  Adoption() : AdoptionLab(GetParam(), {.cores = 4, .entries = 65536}) {}
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
  // It answers a segment that acknowledged nothing.
  const auto reset = support::tcp({present.server, present.server_port, address, 1001}, kTcpRst)
                         .with(&support::Frame::sequence, 0);
  EXPECT_TRUE(lab.send(reset, 1).empty());
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

// --- what a peer has told ------------------------------------------------------------------------

struct Cores {
  Family family;
  uint32_t cores;
};

// Bindings that a peer has told of, and no flow: this engine has stood by until now.
class TakeOver : public AdoptionLab, public testing::WithParamInterface<Cores> {
 protected:
  static constexpr binding::Source kPeer{binding::PeerIndex{3}, binding::SessionNumber{7}};

  TakeOver() : AdoptionLab(GetParam().family, options()) { set_owned(false); }
  static CoreLab::Options options() {
    return {.cores = GetParam().cores,
            .flows = 32768,
            .entries = 65536,
            .buffers = 4096,
            .peers = true};
  }
  std::string server(uint32_t i) { return lab.world.server(family, i).address.to_string(); }
  // The client's binding to a server, which was made to the first.
  void learn(const std::string& address, uint32_t bound, uint32_t first) {
    const snapshot::Scope& scope = lab.world.scope(family);
    const auto key = binding::Key::of(scope.key_of(support::address(address)));
    binding::StampClock clock{binding::Maker{.rank = 2}.number()};
    const auto stamp =
        clock.at(CoreLab::kWallOrigin + timing::Duration{lab.clock.now().ns}, binding::Stamp{});
    const uint32_t home = lab.core(0).replica().home_of(scope.slot, key);
    ASSERT_TRUE(lab.shared().rings.merges[home].push(
        {.source = kPeer,
         .scope = scope.slot,
         .version = lab.running().version,
         .key = key,
         .record = {.stamp = stamp,
                    .epoch = bound == first ? 0u : 1u,
                    .held = true,
                    .server = lab.world.server(family, bound).id,
                    .first = lab.world.server(family, first).id,
                    .act = stamp},
         .act_at = lab.clock.now()}));
    if (++told % 32 == 0) lab.turn();
  }
  void take_over() {
    for (int i = 0; i < 64; ++i) lab.turn();
    ASSERT_EQ(lab.shared().bindings.count(), told);
    ASSERT_TRUE(set_owned(true).empty());
  }
  support::Flow up(const std::string& address, uint16_t port = 1000) const {
    return {address, port, v4() ? support::kVip4 : support::kVip6, 80};
  }
  support::Flow down(const std::string& from, const std::string& address) const {
    return {from, kServerPort, address, 1000};
  }
  // Where a client's segment goes, empty when nowhere.
  std::string ask(const std::string& address, uint8_t flags = kTcpAck | kTcpPsh) {
    const std::string client = address;
    const auto out = lab.send(numbered(support::tcp(up(client), flags, "more")));
    return out.size() == 1 && out[0].port == 1 ? parts(out[0].bytes).destination : "";
  }
  // Whether the client hears this segment of the server's.
  bool hears(const std::string& from, const std::string& address, uint8_t flags) {
    const auto out = lab.send(support::tcp(down(from, address), flags)
                                  .with(&support::Frame::sequence, kServerNext)
                                  .with(&support::Frame::acknowledgment, kClientNext + 4),
                              1);
    if (out.size() != 1) return false;
    const auto p = parts(out[0].bytes);
    return out[0].port == 0 && p.destination == address && p.tcp_flags == flags &&
           p.source == (v4() ? support::kVip4 : support::kVip6);
  }
  static support::Frame numbered(const support::Frame& f) {
    return f.with(&support::Frame::sequence, kClientNext)
        .with(&support::Frame::acknowledgment, kServerNext);
  }

  static constexpr uint16_t kServerPort = 8080;
  static constexpr uint32_t kClientNext = 5000;
  static constexpr uint32_t kServerNext = 9000;
  static constexpr uint32_t kClients = 12;  // enough for every core to have some
  uint32_t told = 0;
};

INSTANTIATE_TEST_SUITE_P(FamiliesAndCores, TakeOver,
                         testing::Values(Cores{Family::kV4, 1}, Cores{Family::kV6, 1},
                                         Cores{Family::kV4, 2}, Cores{Family::kV6, 2}),
                         [](const auto& p) {
                           return (p.param.family == Family::kV4 ? "v4_" : "v6_") +
                                  std::to_string(p.param.cores);
                         });

// 20,000 clients whose segments come within a second and are sent again until they pass, and
// 100,000 forged segments a second from addresses that have no binding.
TEST_P(TakeOver, AllConnectionsGoOnUnderAFloodOfForgedSegments) {
  constexpr uint32_t kConnections = 20'000, kForgedPerMs = 100, kLongestMs = 4'000;
  const auto address = [&](uint32_t n) {
    return v4() ? fmt::format("100.64.{}.{}", n >> 8, n & 255) : fmt::format("fd00:1::1:{:x}", n);
  };
  std::vector<std::vector<uint32_t>> due(kLongestMs);
  base::Random random{GetParam().cores};
  for (uint32_t n = 0; n < kConnections; ++n) {
    learn(address(n), n % 3, n % 3);
    due[random.below(1'000)].push_back(n);
  }
  take_over();
  const std::string first_part = v4() ? "100.64." : "fd00:1::1:";
  std::vector<uint32_t> wait_ms(kConnections, 200);
  std::vector<bool> passed(kConnections);
  uint32_t gone_on = 0, resets = 0, forged = 0;
  for (uint32_t ms = 0; ms < kLongestMs && gone_on < kConnections; ++ms) {
    std::vector<support::Bytes> frames;
    for (const uint32_t n : due[ms]) {
      const std::string client = address(n);
      frames.push_back(numbered(support::tcp(up(client), kTcpAck | kTcpPsh, "more")).build());
    }
    for (uint32_t i = 0; i < kForgedPerMs; ++i, ++forged) {
      const std::string from =
          v4() ? fmt::format("172.{}.{}.{}", 16 + (forged >> 16), forged >> 8 & 255, forged & 255)
               : fmt::format("fd00:9::{:x}:{:x}", forged >> 16, forged & 0xffff);
      frames.push_back(support::tcp(up(from), kTcpAck).build());
    }
    for (const Sent& sent : lab.send(frames, 0)) {
      const auto p = parts(sent.bytes);
      if (sent.port == 0) {
        resets += p.destination.starts_with(first_part);
        continue;
      }
      ASSERT_TRUE(p.source.starts_with(first_part)) << p.source << " has no binding";
      const auto last = p.source.find_last_of(".:") + 1;
      const uint32_t n =
          v4() ? static_cast<uint32_t>(std::stoul(p.source.substr(7)) << 8 |
                                       std::stoul(p.source.substr(last)))
               : static_cast<uint32_t>(std::stoul(p.source.substr(last), nullptr, 16));
      ASSERT_EQ(p.destination, server(n % 3));
      gone_on += !passed[n];
      passed[n] = true;
    }
    for (const uint32_t n : due[ms]) {
      if (!passed[n] && ms + wait_ms[n] < kLongestMs) due[ms + wait_ms[n]].push_back(n);
      wait_ms[n] *= 2;
    }
    lab.clock.advance(timing::milliseconds(1));
  }
  EXPECT_EQ(resets, 0u);
  EXPECT_EQ(gone_on, kConnections);
  EXPECT_EQ(adopted(), kConnections);
  EXPECT_EQ(flows(), kConnections);
  EXPECT_GT(lab.drops(DropReason::kNoFlow), forged / 2) << "of those that were forged";
  for (uint32_t n = 0; n < kConnections; n += 97)
    ASSERT_TRUE(hears(server(n % 3), address(n), kTcpAck)) << n;
}

TEST_P(TakeOver, AConnectionOlderThanItsBindingsMoveIsAskedOfBothServers) {
  for (uint32_t n = 0; n < kClients; ++n) learn(client(n), 1, 0);
  take_over();
  for (uint32_t n = 0; n < kClients; ++n) {
    SCOPED_TRACE(client(n));
    EXPECT_EQ(ask(client(n)), server(1));
    EXPECT_FALSE(hears(server(1), client(n), kTcpRst)) << "another may know it";
    EXPECT_EQ(ask(client(n)), server(0));
    EXPECT_TRUE(hears(server(0), client(n), kTcpAck));
    EXPECT_FALSE(hears(server(1), client(n), kTcpRst | kTcpAck)) << "its answer to another segment";
    EXPECT_EQ(ask(client(n)), server(0));
  }
  EXPECT_EQ(flows(), kClients);
}

TEST_P(TakeOver, AClientHearsTheResetOfTheLastThatIsAsked) {
  for (uint32_t n = 0; n < kClients; ++n) learn(client(n), 1, 0);
  take_over();
  for (uint32_t n = 0; n < kClients; ++n) {
    SCOPED_TRACE(client(n));
    EXPECT_EQ(ask(client(n)), server(1));
    EXPECT_FALSE(hears(server(1), client(n), kTcpRst));
    EXPECT_EQ(ask(client(n)), server(0));
    EXPECT_TRUE(hears(server(0), client(n), kTcpRst));
  }
  EXPECT_EQ(flows(), 0u);
}

TEST_P(TakeOver, AServerThatKnowsTheConnectionIsNotDoubtedAfterwards) {
  for (uint32_t n = 0; n < kClients; ++n) learn(client(n), 1, 0);
  take_over();
  for (uint32_t n = 0; n < kClients; ++n) {
    SCOPED_TRACE(client(n));
    EXPECT_EQ(ask(client(n)), server(1));
    EXPECT_TRUE(hears(server(1), client(n), kTcpAck));
    EXPECT_TRUE(hears(server(1), client(n), kTcpRst)) << "it ends the connection";
  }
  EXPECT_EQ(flows(), 0u);
}

TEST_P(TakeOver, AResetOfABindingThatNeverMovedIsTheClients) {
  for (uint32_t n = 0; n < kClients; ++n) learn(client(n), 1, 1);
  take_over();
  for (uint32_t n = 0; n < kClients; ++n) {
    EXPECT_EQ(ask(client(n)), server(1));
    EXPECT_TRUE(hears(server(1), client(n), kTcpRst)) << client(n);
  }
}

TEST_P(TakeOver, AFirstServerThatIsNoneAnyMoreIsNotAsked) {
  for (uint32_t n = 0; n < kClients; ++n) learn(client(n), 1, 0);
  lab.world.server(family, 0).reset_connections = true;
  take_over();
  for (uint32_t n = 0; n < kClients; ++n) {
    EXPECT_EQ(ask(client(n)), server(1));
    EXPECT_TRUE(hears(server(1), client(n), kTcpRst)) << client(n);
  }
}

TEST_P(TakeOver, AResetWithAnotherNumberIsNobodysAnswer) {
  for (uint32_t n = 0; n < kClients; ++n) learn(client(n), 1, 0);
  take_over();
  for (uint32_t n = 0; n < kClients; ++n) {
    SCOPED_TRACE(client(n));
    EXPECT_EQ(ask(client(n)), server(1));
    const auto forged = support::tcp(down(server(1), client(n)), kTcpRst)
                            .with(&support::Frame::sequence, kServerNext + 0x40000000);
    EXPECT_EQ(lab.send(forged, 1).size(), 1u) << "for its receiver to judge";
    EXPECT_EQ(ask(client(n)), server(1));
    EXPECT_FALSE(hears(server(1), client(n), kTcpRst)) << "this is the answer";
    EXPECT_EQ(ask(client(n)), server(0));
  }
}

TEST_P(TakeOver, AServersOwnSegmentNamesItsServer) {
  for (uint32_t n = 0; n < kClients; ++n) learn(client(n), 1, 0);
  take_over();
  for (uint32_t n = 0; n < kClients; ++n) {
    SCOPED_TRACE(client(n));
    lab.neighbor(0, *net::Address::parse(client(n)), true);
    const uint32_t its = n % 2;
    EXPECT_FALSE(hears(server(2), client(n), kTcpAck)) << "no server of this client";
    lab.send(support::tcp(down(server(its), client(n)), kTcpAck | kTcpPsh, "more"), 1);
    EXPECT_EQ(adopted(), n + 1u);
    EXPECT_EQ(ask(client(n)), server(its));
    EXPECT_TRUE(hears(server(its), client(n), kTcpRst)) << "no other is asked";
  }
}

}  // namespace
}  // namespace limpet
