// TCP connections through a whole core: what a SYN is to a flow that is there already, what forged
// segments do, which flows give way, how long each lives.
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
using packet::kTcpRst;
using packet::kTcpSyn;
using snapshot::Recovery;
using snapshot::ServerState;
using support::CoreLab;
using support::Frame;
using support::parts;
using support::Sent;
using timing::seconds;
using Connection = CoreLab::Connection;

class ForwarderTcpTest : public testing::TestWithParam<Family> {
 protected:
  std::string_view client() const { return v4() ? "10.1.0.2" : "fd00:1::2"; }
  std::string_view other() const { return v4() ? "10.1.0.3" : "fd00:1::3"; }
  std::string_view vip() const { return v4() ? support::kVip4 : support::kVip6; }
  bool v4() const { return GetParam() == Family::kV4; }

  CoreLab lab{{.servers = 2}};

  void publish(const std::function<void(support::World&)>& change) {
    change(lab.world);
    lab.world.index();
    lab.publish();
  }
  snapshot::Server& server_at(std::string_view address) {
    for (uint32_t i = 0; i < lab.world.pool(GetParam()).servers.size(); ++i) {
      auto& server = lab.world.server(GetParam(), i);
      if (server.address.to_string() == address) return server;
    }
    throw std::runtime_error("no such server");
  }
  void set_state(std::string_view address, ServerState state) {
    publish([&](support::World&) { server_at(address).state = state; });
  }
  support::Flow up(uint16_t port = 1000) const { return {client(), port, vip(), 80}; }
  Frame syn(uint32_t sequence, uint16_t port = 1000) const {
    return support::tcp(up(port), kTcpSyn).with(&Frame::sequence, sequence);
  }
  // Where a client's segment went: "address:source port"; empty when nowhere.
  static std::string towards(const std::vector<Sent>& out) {
    if (out.size() != 1 || out[0].port != 1) return "";
    const auto p = parts(out[0].bytes);
    return fmt::format("{}:{}", p.destination, p.source_port);
  }
  static std::string address(const std::string& where) { return where.substr(0, where.rfind(':')); }
  bool passes(const Frame& f, uint8_t port) {
    const auto out = lab.send(f, port);
    return out.size() == 1 && out[0].port == (port == 0 ? 1 : 0) &&
           parts(out[0].bytes).tcp_flags == f.tcp_flags;
  }
  uint32_t flows() { return lab.core().forwarder().flows().size(); }
  uint32_t open() { return lab.core().forwarder().vs(lab.world.vs(GetParam()).slot).open; }
  bool goes_on(const Connection& c) {
    return passes(c.from_client(kTcpAck, "data"), 0) && passes(c.from_server(kTcpAck, "data"), 1);
  }
  // Both sides, of connections that have carried nothing else.
  void acknowledge_fins(const Connection& c) {
    lab.send(c.from_client(kTcpAck)
                 .with(&Frame::sequence, CoreLab::kClientSequence + 2)
                 .with(&Frame::acknowledgment, CoreLab::kServerSequence + 2));
    lab.send(c.from_server(kTcpAck)
                 .with(&Frame::sequence, CoreLab::kServerSequence + 2)
                 .with(&Frame::acknowledgment, CoreLab::kClientSequence + 2),
             1);
  }
};

INSTANTIATE_TEST_SUITE_P(Families, ForwarderTcpTest, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

// --- a SYN on a flow -----------------------------------------------------------------------------

TEST_P(ForwarderTcpTest, ARepeatedSynKeepsItsSourcePortAndAnotherIsAConnectionOfItsOwn) {
  const std::string first = towards(lab.send(syn(1000)));
  EXPECT_EQ(towards(lab.send(syn(1000))), first);
  const std::string second = towards(lab.send(syn(2000)));
  EXPECT_NE(second, first);
  EXPECT_EQ(address(second), address(first)) << "the client's binding";
  EXPECT_EQ(flows(), 1u);
  EXPECT_EQ(open(), 1u);
}

TEST_P(ForwarderTcpTest, AnUnansweredSynGoesToAnotherServerWhenItsOwnIsDown) {
  const std::string first = towards(lab.send(syn(1000)));
  set_state(address(first), ServerState::kDown);
  const std::string second = towards(lab.send(syn(1000)));
  EXPECT_NE(second, "");
  EXPECT_NE(address(second), address(first));
  EXPECT_EQ(towards(lab.send(syn(1000))), second) << "and stays there";
}

TEST_P(ForwarderTcpTest, AnUnansweredSynStaysWhereThePolicyWantsIt) {
  publish([&](support::World& w) { w.scope(GetParam()).down = Recovery::kContinue; });
  const std::string first = towards(lab.send(syn(1000)));
  set_state(address(first), ServerState::kDown);
  EXPECT_EQ(towards(lab.send(syn(1000))), first) << "with the source port that it had";
}

TEST_P(ForwarderTcpTest, AnUnansweredSynIsRefusedWherePolicyRefuses) {
  publish([&](support::World& w) { w.scope(GetParam()).down = Recovery::kAbort; });
  const std::string first = towards(lab.send(syn(1000)));
  set_state(address(first), ServerState::kDown);
  const auto out = lab.send(syn(1000));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].port, 0);
  EXPECT_NE(parts(out[0].bytes).tcp_flags & kTcpRst, 0);
  EXPECT_EQ(flows(), 0u);
}

TEST_P(ForwarderTcpTest, ASynOnAHalfClosedConnectionIsANewOne) {
  const Connection old = lab.connect({client(), 1000});
  lab.send(old.from_client(kTcpFin | kTcpAck));
  const std::string there = towards(lab.send(syn(900'000)));
  EXPECT_EQ(address(there), old.server);
  EXPECT_NE(there, fmt::format("{}:{}", old.server, old.source_port));
  EXPECT_EQ(open(), 1u);
  // It lives as a new one: half open, then as long as the profile says.
  lab.advance(seconds(40));
  EXPECT_EQ(flows(), 1u);
  lab.advance(seconds(30));
  EXPECT_EQ(flows(), 0u);
}

TEST_P(ForwarderTcpTest, ASynOnAnEstablishedConnectionIsTheServersToJudge) {
  const Connection c = lab.connect({client(), 1000});
  const std::string there = fmt::format("{}:{}", c.server, c.source_port);
  EXPECT_EQ(towards(lab.send(syn(900'000))), there);
  EXPECT_TRUE(goes_on(c)) << "it may have been forged";
  // A client that has begun anew answers the challenge by a reset.
  EXPECT_TRUE(passes(c.from_client(kTcpRst).with(&Frame::sequence, lab.kClientSequence + 1), 0));
  EXPECT_EQ(flows(), 0u);
}

TEST_P(ForwarderTcpTest, ASynOnAnEstablishedConnectionOfAServerThatIsNoneAnyMoreIsANewOne) {
  for (const char* how : {"down", "disabled", "removed"}) {
    SCOPED_TRACE(how);
    const uint16_t port = static_cast<uint16_t>(2000 + how[0]);
    const Connection c = lab.connect({client(), port});
    ASSERT_TRUE(c.ok());
    const auto before = lab.world.pool(GetParam()).servers;
    if (how == std::string("removed")) {
      publish([&](support::World& w) {
        const uint32_t at = w.server(GetParam(), 0).address.to_string() == c.server ? 0 : 1;
        w.remove_server(GetParam(), at);
      });
    } else {
      set_state(c.server, how == std::string("down") ? ServerState::kDown : ServerState::kDisabled);
    }
    const std::string there = towards(lab.send(syn(900'000, port)));
    EXPECT_NE(there, "");
    EXPECT_NE(address(there), c.server);
    lab.send(syn(900'000, port));
    publish([&](support::World& w) { w.pool(GetParam()).servers = before; });
  }
}

// --- what is forged ------------------------------------------------------------------------------

TEST_P(ForwarderTcpTest, AForgedResetPassesAndChangesNothing) {
  const Connection c = lab.connect({client(), 1000});
  for (const uint32_t sequence : {0x70000000u, lab.kClientSequence - 5000})
    EXPECT_TRUE(passes(c.from_client(kTcpRst).with(&Frame::sequence, sequence), 0));
  EXPECT_TRUE(goes_on(c));
  lab.advance(seconds(200));
  EXPECT_TRUE(goes_on(c));
}

TEST_P(ForwarderTcpTest, AResetWithinTheWindowEndsItUnlessTrafficGoesOn) {
  const Connection c = lab.connect({client(), 1000});
  const Frame near = c.from_client(kTcpRst).with(&Frame::sequence, lab.kClientSequence + 100);
  lab.send(near);
  EXPECT_TRUE(goes_on(c));
  lab.advance(seconds(20));
  EXPECT_EQ(flows(), 1u);
  lab.send(near);
  lab.advance(seconds(11));
  EXPECT_EQ(flows(), 0u);
}

// Endpoints judge by the quoted number (RFC 5927 4.1). Here none ends anything (RFC 5382 REQ-10),
// so one that is forged need not be told apart: it goes on, to be judged.
TEST_P(ForwarderTcpTest, AnIcmpErrorPassesAndChangesNothingWhateverNumberItQuotes) {
  const Connection c = lab.connect({client(), 1000});
  lab.send(c.from_client(kTcpAck, "question"));
  lab.send(c.from_server(kTcpAck, "answer"), 1);
  const l4::Flow before = lab.core().forwarder().flows()[0];
  const auto bindings = lab.core().replica().table().size();
  const uint8_t unreachable = v4() ? 3 : 1;
  lab.clock.advance(seconds(1));
  struct Error {
    std::string_view what;
    uint32_t offset = 0;  // of the quoted number from the one that its sender sends next
  };
  for (const Error& error : {Error{"in the window", 0}, Error{"behind it", 0x10000000},
                             Error{"before it", 0xf0000000}}) {
    // One of what the engine sent to the client, and one of what it sent to the server.
    const Frame to_client =
        support::tcp(c.up().reversed(), kTcpAck, "answer")
            .with(&Frame::sequence, CoreLab::kServerSequence + 1 + error.offset);
    const Frame to_server =
        support::tcp(c.down().reversed(), kTcpAck, "question")
            .with(&Frame::sequence, CoreLab::kClientSequence + 1 + error.offset);
    for (const uint8_t code : {uint8_t{1}, uint8_t{v4() ? uint8_t{3} : uint8_t{4}}}) {
      auto out =
          lab.send(support::icmp_error(client(), vip(), unreachable, code, to_client.build_ip()));
      ASSERT_EQ(out.size(), 1u) << error.what;
      EXPECT_EQ(out[0].port, 1);
      EXPECT_EQ(parts(out[0].bytes).destination, c.server);
      out = lab.send(
          support::icmp_error(c.server, c.source, unreachable, code, to_server.build_ip()), 1);
      ASSERT_EQ(out.size(), 1u) << error.what;
      EXPECT_EQ(out[0].port, 0);
      EXPECT_EQ(parts(out[0].bytes).destination, client());
    }
    const l4::Flow& after = lab.core().forwarder().flows()[0];
    EXPECT_TRUE(after.used) << error.what;
    EXPECT_EQ(after.state, before.state) << error.what;
    EXPECT_EQ(after.expires, before.expires) << error.what;
    EXPECT_EQ(after.seen, before.seen) << error.what;
    EXPECT_TRUE(after.counted) << error.what;
    EXPECT_EQ(open(), 1u) << error.what;
  }
  EXPECT_EQ(lab.core().replica().table().size(), bindings);
  EXPECT_TRUE(goes_on(c));
}

// --- how long it lives --------------------------------------------------------------------------

TEST_P(ForwarderTcpTest, AFinishedConnectionIsNotOpenAndItsFlowLivesAMinute) {
  for (const bool client_first : {true, false}) {
    const Connection c = lab.connect({client(), 1000});
    const Frame up = c.from_client(kTcpFin | kTcpAck), down = c.from_server(kTcpFin | kTcpAck);
    lab.send(client_first ? up : down, client_first ? 0 : 1);
    EXPECT_EQ(open(), 1u) << "half closed";
    lab.send(client_first ? down : up, client_first ? 1 : 0);
    EXPECT_EQ(open(), 0u);
    acknowledge_fins(c);
    lab.advance(seconds(59));
    EXPECT_EQ(flows(), 1u);
    EXPECT_FALSE(lab.send(down, 1).empty()) << "the last acknowledgment was lost";
    lab.advance(seconds(59));
    EXPECT_EQ(flows(), 1u) << "anew";
    lab.advance(seconds(2));
    EXPECT_EQ(flows(), 0u);
    EXPECT_EQ(lab.ports_in_use(), 0u);
  }
}

TEST_P(ForwarderTcpTest, AFinThatNobodyAcknowledgesIsWaitedForFourMinutes) {
  const Connection c = lab.connect({client(), 1000});
  lab.send(c.from_client(kTcpFin | kTcpAck));
  lab.send(c.from_server(kTcpFin | kTcpAck), 1);
  EXPECT_EQ(open(), 0u);
  lab.advance(seconds(239), seconds(1));
  EXPECT_EQ(flows(), 1u);
  lab.advance(seconds(2), seconds(1));
  EXPECT_EQ(flows(), 0u);
}

TEST_P(ForwarderTcpTest, AcknowledgmentsThatComeAfterTheEndKeepNothing) {
  const Connection c = lab.connect({client(), 1000});
  lab.finish(c);
  for (int i = 0; i < 6; ++i) {
    lab.advance(seconds(9));
    acknowledge_fins(c);
  }
  lab.advance(seconds(7));
  EXPECT_EQ(flows(), 0u);
}

TEST_P(ForwarderTcpTest, ABlindAckConfirmsNoBinding) {
  const std::string there = towards(lab.send(support::tcp(up(), kTcpSyn)));
  ASSERT_NE(there, "");
  Connection c{.client = std::string(client()), .client_port = 1000, .vip = std::string(vip())};
  c.server = address(there);
  c.server_port = 8080;
  c.source = v4() ? "10.2.0.1" : "fd00:2::1";
  c.source_port = static_cast<uint16_t>(std::stoi(there.substr(there.rfind(':') + 1)));
  ASSERT_EQ(lab.send(c.syn_ack(), 1).size(), 1u);
  lab.send(c.from_client(kTcpAck).with(&Frame::acknowledgment, 4711));
  const auto confirmed = [&] {
    uint32_t n = 0;
    for (uint32_t i = 0; i < lab.core().table().places(); ++i) {
      const auto* entry = lab.core().table().entry_at(i);
      n += entry != nullptr && entry->confirmed ? 1 : 0;
    }
    return n;
  };
  EXPECT_EQ(confirmed(), 0u);
  lab.send(c.from_client(kTcpAck));
  EXPECT_EQ(confirmed(), 1u);
}

// --- bindings that went before the handshake was complete
// -----------------------------------------

TEST_P(ForwarderTcpTest, AHandshakeThatIsCompleteLateBindsItsClientAgain) {
  Connection c = lab.connect({other(), 999});  // somebody else, for the shape of a connection
  const std::string there = towards(lab.send(support::tcp(up(), kTcpSyn)));
  c.client = client();
  c.client_port = 1000;
  c.server = address(there);
  c.source_port = static_cast<uint16_t>(std::stoi(there.substr(there.rfind(':') + 1)));
  for (const int pause : {1, 2, 4, 5}) {
    lab.send(c.syn_ack(), 1);
    lab.advance(seconds(pause));
  }
  EXPECT_EQ(lab.core().table().size(), 1u) << "the embryo has gone";
  EXPECT_TRUE(passes(c.from_client(kTcpAck, "hello"), 0));
  EXPECT_TRUE(passes(c.from_server(kTcpAck, "world"), 1));
  EXPECT_EQ(lab.core().table().size(), 2u);
  lab.advance(seconds(250));
  EXPECT_TRUE(goes_on(c));
  lab.advance(seconds(100));
  EXPECT_EQ(address(towards(lab.send(syn(1, 1001)))), c.server) << "bound as long as it is open";
}

// --- who gives way -------------------------------------------------------------------------------

TEST_P(ForwarderTcpTest, AFloodOfOneKindLeavesRoomForTheOthers) {
  CoreLab small({.flows = 64, .servers = 2});
  small.world.without_persistence();
  small.publish();
  const Connection living = small.connect({client(), 1});
  const auto flood = [&](bool tcp) {
    for (uint16_t i = 0; i < 500; ++i) {
      const support::Flow from{other(), static_cast<uint16_t>(2000 + i), vip(), 80};
      const auto out = small.send(tcp ? support::tcp(from, kTcpSyn) : support::udp(from, "x"));
      ASSERT_EQ(out.size(), 1u);
      ASSERT_EQ(out[0].port, 1u) << "not refused";
    }
  };
  for (const bool tcp : {false, true, false}) {
    flood(tcp);
    EXPECT_TRUE(small.connect({client(), static_cast<uint16_t>(tcp ? 10 : 20)}).ok());
    EXPECT_EQ(small.send(living.from_client(kTcpAck, "x")).size(), 1u);
    const auto asked = small.datagram({client(), 30});
    EXPECT_TRUE(asked.ok());
  }
  EXPECT_EQ(small.drops(DropReason::kFlowTableFull), 0u);
}

TEST_P(ForwarderTcpTest, AnsweredDatagramsMakeRoomToo) {
  CoreLab small({.flows = 64, .servers = 2});
  small.world.without_persistence();
  small.publish();
  for (uint16_t i = 0; i < 200; ++i)
    ASSERT_TRUE(small.datagram({other(), static_cast<uint16_t>(2000 + i)}).ok());
  for (uint16_t i = 0; i < 20; ++i)
    EXPECT_TRUE(small.connect({client(), static_cast<uint16_t>(1000 + i)}).ok());
  EXPECT_EQ(small.drops(DropReason::kFlowTableFull), 0u);
}

// --- kept addresses ------------------------------------------------------------------------------

class KeptAddress : public ForwarderTcpTest {
 protected:
  void SetUp() override {
    publish([](support::World& w) {
      w.preserve_client();
      const auto listeners = w.snapshot->listeners;
      for (auto l : listeners) {
        l.first_port = l.last_port = 81;
        w.snapshot->listeners.push_back(l);
      }
    });
  }
};

INSTANTIATE_TEST_SUITE_P(Families, KeptAddress, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

TEST_P(KeptAddress, AFinishedConnectionLeavesItsTupleToALivingOne) {
  const Connection c = lab.connect({client(), 1000});
  const Frame again = support::tcp({client(), 1000, vip(), 81}, kTcpSyn);
  const auto refused = lab.send(again);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].port, 0u);
  EXPECT_EQ(lab.drops(DropReason::kTupleInUse), 1u);
  EXPECT_TRUE(goes_on(c));
  lab.finish(c);
  EXPECT_EQ(address(towards(lab.send(again))), c.server);
  EXPECT_EQ(flows(), 1u);
}

TEST_P(KeptAddress, AServerThatConnectsToItsOwnServiceIsTranslated) {
  const std::string own = v4() ? "10.2.0.2" : "fd00:2::2";
  const auto out = lab.send(support::tcp({own, 1000, vip(), 80}, kTcpSyn), 1);
  ASSERT_EQ(out.size(), 1u);
  const auto p = parts(out[0].bytes);
  EXPECT_EQ(p.source, v4() ? "10.2.0.1" : "fd00:2::1");
  const auto back = lab.send(
      support::tcp({p.destination, p.destination_port, p.source, p.source_port}, kTcpSyn | kTcpAck)
          .with(&Frame::acknowledgment, lab.kClientSequence + 1),
      1);
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(parts(back[0].bytes).source, vip());
  EXPECT_EQ(parts(back[0].bytes).destination, own);
  EXPECT_EQ(parts(back[0].bytes).destination_port, 1000);
}

// --- datagrams -----------------------------------------------------------------------------------

TEST_P(ForwarderTcpTest, ADatagramOfAServerThatIsDownGoesToAnother) {
  const auto c = lab.datagram({client(), 1000});
  set_state(c.server, ServerState::kDown);
  const auto next = lab.datagram({client(), 1000});
  EXPECT_NE(next.server, c.server);
  EXPECT_EQ(flows(), 1u);
}

TEST_P(ForwarderTcpTest, ADatagramStaysWithAServerThatIsDownWhereThePolicySaysSo) {
  publish([&](support::World& w) { w.scope(GetParam()).down = Recovery::kContinue; });
  const auto c = lab.datagram({client(), 1000});
  set_state(c.server, ServerState::kDown);
  EXPECT_EQ(lab.datagram({client(), 1000}).source_port, c.source_port);
}

TEST_P(ForwarderTcpTest, ADatagramWithoutASourcePortIsServed) {
  const auto c = lab.datagram({client(), 0});
  ASSERT_TRUE(c.ok());
  const auto out =
      lab.send(support::udp({c.server, c.server_port, c.source, c.source_port}, "a"), 1);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(parts(out[0].bytes).destination_port, 0);
}

}  // namespace
}  // namespace limpet
