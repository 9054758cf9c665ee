// Source NAT: which address a client is shown with, and which port is used when few are left.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>

#include "dataplane/packet/headers.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using packet::DropReason;
using packet::kTcpAck;
using packet::kTcpRst;
using packet::kTcpSyn;
using support::CoreLab;
using support::Flow;
using timing::seconds;

class SourceAddresses : public testing::TestWithParam<Family> {
 protected:
  static constexpr uint32_t kTcpNat = 3000;
  static constexpr uint32_t kUdpNat = 3100;

  bool v4() const { return GetParam() == Family::kV4; }
  std::string client(uint32_t n) const {
    return (v4() ? "10.1.0." : "fd00:1::") + std::to_string(n + 2);
  }
  std::string_view vip() const { return v4() ? support::kVip4 : support::kVip6; }
  snapshot::Server& server(CoreLab& lab) { return lab.world.server(GetParam(), 0); }
  const l4::ServerCounters& counters(CoreLab& lab) {
    return lab.core().forwarder().server(server(lab).slot);
  }

  // The server is reached from `count` addresses with so many ports each; 0: all of the core's.
  void use(CoreLab& lab, uint32_t count, uint16_t ports_each = 0) {
    lab.world.without_persistence();
    auto& s = server(lab);
    s.sources.clear();
    s.tcp_nat = snapshot::NatId{kTcpNat};
    s.udp_nat = snapshot::NatId{kUdpNat};
    for (uint32_t i = 0; i < count; ++i) {
      s.sources.push_back(
          support::address((v4() ? "10.2.0." : "fd00:2::") + std::to_string(50 + i)));
      lab.world.snapshot->own_addresses.push_back(
          {s.sources.back(), snapshot::Snapshot::OwnAddress::Kind::kSnat, true});
      for (uint32_t c = 0; c < lab.cores(); ++c) {
        const auto slice = ports_each == 0
                               ? egress::PortSlice::of(c, lab.cores())
                               : egress::PortSlice{5000, static_cast<uint16_t>(4999 + ports_each)};
        for (const uint32_t id : {kTcpNat + i, kUdpNat + i}) {
          ports_.push_back(std::make_unique<egress::SourcePorts>(slice, random_));
          lab.core(c).forwarder().nats()[id] = ports_.back().get();
        }
      }
    }
    lab.publish();
  }

  // What the server sees of a connection; port 0: refused.
  struct Seen {
    std::string address;
    uint16_t port = 0;
    auto operator<=>(const Seen&) const = default;
  };
  Flow up(uint16_t port, uint32_t n = 0) {
    address_ = client(n);
    return {address_, port, vip(), 80};
  }
  Seen syn(CoreLab& lab, uint16_t port, uint32_t n = 0) {
    for (const auto& s : lab.send(support::tcp(up(port, n), kTcpSyn))) {
      const auto p = support::parts(s.bytes);
      if (s.port == 1) return {p.source, p.source_port};
    }
    return {};
  }
  Seen datagram(CoreLab& lab, uint16_t port, uint32_t n = 0) {
    for (const auto& s : lab.send(support::udp(up(port, n), "a"))) {
      const auto p = support::parts(s.bytes);
      if (s.port == 1) return {p.source, p.source_port};
    }
    return {};
  }
  // A frame of the server's on that connection.
  std::vector<support::Sent> answer(CoreLab& lab, const Seen& seen, uint8_t flags) {
    const auto& s = server(lab);
    server_ = s.address.to_string();
    return lab.send(support::tcp({server_, s.port, seen.address, seen.port}, flags)
                        .with(&support::Frame::acknowledgment, CoreLab::kClientSequence + 1),
                    1);
  }
  // Opened, and refused by the server: its port is free again.
  Seen open_and_close(CoreLab& lab, uint16_t port, uint32_t n = 0) {
    const Seen seen = syn(lab, port, n);
    answer(lab, seen, kTcpRst | kTcpAck);
    return seen;
  }

 private:
  base::Random random_{1};
  std::vector<std::unique_ptr<egress::SourcePorts>> ports_;
  std::string address_;  // of the frame that is being built
  std::string server_;
};

INSTANTIATE_TEST_SUITE_P(Families, SourceAddresses, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

TEST_P(SourceAddresses, AClientIsShownWithOneOfThemOnAllCoresAndByAllProtocols) {
  CoreLab lab({.cores = 4, .servers = 1});
  use(lab, 4);
  for (uint32_t n = 0; n < 8; ++n) {
    std::set<std::string> seen;
    for (uint16_t port = 1000; port < 1020; ++port) {
      seen.insert(syn(lab, port, n).address);
      seen.insert(datagram(lab, port, n).address);
    }
    EXPECT_EQ(seen.size(), 1u) << client(n);
  }
  for (uint32_t c = 0; c < 4; ++c) EXPECT_GT(lab.core(c).forwarder().flows().size(), 0u);
}

TEST_P(SourceAddresses, ClientsAreSpreadOverThem) {
  CoreLab lab({.servers = 1});
  use(lab, 4);
  std::map<std::string, int> clients;
  for (uint32_t n = 0; n < 90; ++n) ++clients[syn(lab, 1000, n).address];
  ASSERT_EQ(clients.size(), 4u);
  for (const auto& [address, count] : clients) EXPECT_GT(count, 10) << address;
}

TEST_P(SourceAddresses, WhoseAddressHasNoPortLeftIsShownWithAnother) {
  CoreLab lab({.servers = 1});
  use(lab, 2, 2);
  std::map<std::string, int> seen;
  const Seen first = syn(lab, 1000);
  ++seen[first.address];
  EXPECT_EQ(syn(lab, 1001).address, first.address);
  EXPECT_NE(syn(lab, 1002).address, first.address);
  EXPECT_NE(syn(lab, 1003).address, first.address);
  EXPECT_EQ(syn(lab, 1004), Seen{});
  EXPECT_EQ(lab.drops(DropReason::kSnatExhausted), 1u);
  EXPECT_EQ(counters(lab).snat_reused, 0u);
}

TEST_P(SourceAddresses, AnotherOnesPortIsPreferredToOneThatWasFreedLately) {
  CoreLab lab({.servers = 1});
  use(lab, 2, 1);
  const Seen first = open_and_close(lab, 1000);
  const Seen second = open_and_close(lab, 1001);
  EXPECT_NE(second.address, first.address);
  EXPECT_EQ(counters(lab).snat_reused, 0u);
  EXPECT_EQ(open_and_close(lab, 1002), first) << "rather than refuse it";
  EXPECT_EQ(counters(lab).snat_reused, 1u);
  const uint32_t which = counters(lab).snat_reused_nat - kTcpNat;
  ASSERT_LT(which, 2u);
  EXPECT_EQ(server(lab).sources[which].to_string(), first.address);
  EXPECT_EQ(counters(lab).snat_reused_s, lab.clock.now().ns / 1'000'000'000);
  lab.advance(seconds(61));
  EXPECT_EQ(syn(lab, 1003), first);
  EXPECT_EQ(counters(lab).snat_reused, 1u) << "TIME_WAIT is over";
}

// The server has that connection in TIME_WAIT still: it acknowledges what it had, the client resets
// that and sends its SYN again (RFC 5961 4.2, RFC 9293 3.10.7.3).
TEST_P(SourceAddresses, AClientWhoseSynMetAnOldConnectionTriesAgainByTheSamePort) {
  CoreLab lab({.servers = 1});
  use(lab, 1, 3);
  for (uint16_t port = 1000; port < 1003; ++port) {
    open_and_close(lab, port);
    lab.advance(seconds(1));
  }
  const Seen seen = syn(lab, 2000);
  ASSERT_NE(seen.port, 0);
  ASSERT_EQ(answer(lab, seen, kTcpAck).size(), 1u);
  const auto reset = support::tcp(up(2000), kTcpRst).with(&support::Frame::sequence, 4711u);
  ASSERT_EQ(lab.send(reset).size(), 1u) << "the server is told";
  lab.advance(seconds(1));
  EXPECT_EQ(syn(lab, 2000), seen);
  EXPECT_EQ(counters(lab).snat_reused, 1u);
  EXPECT_EQ(answer(lab, seen, kTcpSyn | kTcpAck).size(), 1u);
  EXPECT_EQ(lab.core().forwarder().flows().size(), 1u);
}

// A port in TIME_WAIT is nobody's loss: its flow gives way to whoever needs the tuple.
TEST_P(SourceAddresses, FinishedConnectionsLeaveTheirPortsToLivingOnes) {
  CoreLab lab({.servers = 1});
  use(lab, 1, 3);
  std::vector<CoreLab::Connection> done;
  for (uint16_t port = 1000; port < 1003; ++port) {
    done.push_back(lab.connect({client(0), port}));
    ASSERT_TRUE(done.back().ok());
    lab.finish(done.back());
    lab.advance(seconds(1));
  }
  EXPECT_EQ(lab.core().forwarder().flows().size(), 3u);
  const auto living = lab.connect({client(0), 2000});
  EXPECT_EQ(living.source_port, done[0].source_port) << "the one that was finished first";
  EXPECT_EQ(counters(lab).snat_reused, 1u);
  EXPECT_EQ(lab.core().forwarder().flows().size(), 3u);
  EXPECT_EQ(lab.send(living.from_client(kTcpAck, "x")).size(), 1u);
  for (uint16_t port = 2001; port < 2003; ++port) EXPECT_TRUE(lab.connect({client(0), port}).ok());
  EXPECT_FALSE(lab.connect({client(0), 2003}).ok()) << "all are living";
  EXPECT_EQ(lab.drops(DropReason::kSnatExhausted), 1u);
}

TEST_P(SourceAddresses, ConnectionsThatNeverComeAboutUseOneOfThePortsThatWereFreedLately) {
  CoreLab lab({.servers = 1});
  use(lab, 1, 3);
  std::vector<Seen> freed;
  for (uint16_t port = 1000; port < 1003; ++port) freed.push_back(syn(lab, port));
  for (const Seen& seen : freed) answer(lab, seen, kTcpRst | kTcpAck);
  // Nobody answers; the client gives up and tries again by its port.
  for (uint32_t sequence = 1000; sequence < 4000; sequence += 1000) {
    const auto out =
        lab.send(support::tcp(up(2000), kTcpSyn).with(&support::Frame::sequence, sequence));
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(support::parts(out[0].bytes).source_port, freed[0].port);
    lab.advance(seconds(15));
  }
  EXPECT_EQ(counters(lab).snat_reused, 3u);
}

}  // namespace
}  // namespace limpet
