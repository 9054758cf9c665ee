// Bugs that simulations found in the replication of bindings, each with as few cores as it takes.
// Core 0 is every key's home: the tables are small.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/net/hash.h"
#include "dataplane/packet/headers.h"
#include "dataplane/worker/turn.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using packet::kTcpAck;
using packet::kTcpRst;
using packet::kTcpSyn;
using snapshot::ServerState;
using support::CoreLab;
using timing::milliseconds;
using timing::seconds;

constexpr std::string_view kClient = "10.1.0.2";
constexpr std::string_view kOther = "10.1.0.3";
constexpr std::string_view kThird = "10.1.0.4";

// The n-th port from which this client's connections are this core's.
uint16_t port_on(CoreLab& lab, uint32_t core, std::string_view client, uint32_t n = 0) {
  for (uint16_t port = 2000;; ++port) {
    const uint32_t hash = net::hash_address(lab.shared().hash, support::address(client), port);
    if (base::reduce(hash, lab.cores()) == core && n-- == 0) return port;
  }
}

binding::Key key_of(std::string_view client) {
  return binding::Key::of(support::address(client));
}

persist::Entry* entry(CoreLab& lab, uint32_t core, std::string_view client) {
  return lab.core(core).table().find(binding::ScopeSlot{0}, key_of(client));
}

// A turn of one core, while the others stand still.
void turn_of(CoreLab& lab, uint32_t core, const snapshot::Snapshot& s) {
  worker::turn(lab.core(core), worker::PlainHost{lab.core(core), s, lab.clock.now()});
}

// A frame that core `core` receives itself.
void arrive(CoreLab& lab, uint32_t core, const support::Frame& frame) {
  const packet::Ingress front{.port = 0, .mac = support::mac(support::kFrontMac)};
  lab.core(core).arrive(support::make_buffer(lab.buffers().pool(), frame.build()), {&front, 1});
}

support::Frame syn(std::string_view client, uint16_t port) {
  return support::tcp({client, port, support::kVip4, 80}, kTcpSyn);
}

// The home told the asker of a new binding twice, as one of all and by the answer; its ring had
// room for one.
TEST(ReplicationRegression, TheCoreThatAsksForANewBindingIsToldOnce) {
  CoreLab lab({.cores = 2, .rings = {.down = 1}});
  EXPECT_NE(lab.syn({kClient, port_on(lab, 1, kClient)}), "");
  EXPECT_EQ(lab.core(0).replica().counters().updates.get(), 1u);
}

// A copy was given up while half-open connections were counted in it and came back to its place
// with its serial: their ends were subtracted from its count, which was zero.
TEST(ReplicationRegression, ConnectionsOfACopyThatWasGivenUpAreNotThoseOfTheNext) {
  CoreLab lab({.cores = 2});
  const uint16_t half_open = port_on(lab, 1, kClient);
  const std::string server = lab.syn({kClient, half_open});
  ASSERT_NE(server, "");
  lab.clock.advance(seconds(9));
  const uint16_t second = port_on(lab, 1, kClient, 1);
  EXPECT_EQ(lab.syn({kClient, second}), server);
  // The embryonic binding's time is over for its home, which knows only of the first connection.
  lab.clock.advance(seconds(2));
  turn_of(lab, 0, lab.running());
  ASSERT_NE(lab.shared().rings.down.between(0, 1).size(), 0u) << "no RECALL";
  // Before core 1 hears of that, the binding moves.
  auto next = std::make_shared<snapshot::Snapshot>(lab.running());
  ++next->version;
  for (auto& s : next->pools[0].servers) {
    if (s.address.to_string() == server) s.state = ServerState::kDown;
  }
  arrive(lab, 0, syn(kClient, port_on(lab, 0, kClient)));
  turn_of(lab, 0, *next);
  turn_of(lab, 1, *next);
  ASSERT_NE(entry(lab, 1, kClient), nullptr);
  EXPECT_EQ(entry(lab, 1, kClient)->open, 0u);
  arrive(lab, 1, support::tcp({kClient, second, support::kVip4, 80}, kTcpRst));
  turn_of(lab, 1, *next);
  EXPECT_EQ(entry(lab, 1, kClient)->open, 0u);
}

// A home that cannot see that other cores hold all bindings asked them in turn, for ever.
TEST(ReplicationRegression, ATableWhoseBindingsAreAllInUseOnOtherCoresRefuses) {
  CoreLab lab({.cores = 2, .entries = 2});
  ASSERT_TRUE(lab.connect({kClient, port_on(lab, 1, kClient)}).ok());
  ASSERT_TRUE(lab.connect({kOther, port_on(lab, 1, kOther)}).ok());
  lab.clock.advance(milliseconds(1));
  auto out = lab.send(syn(kThird, port_on(lab, 0, kThird)));
  for (int i = 0; i < 8; ++i) {
    for (auto& sent : lab.turn()) out.push_back(sent);
  }
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(support::parts(out[0].bytes).tcp_flags, kTcpRst | kTcpAck);
  EXPECT_EQ(lab.drops(packet::DropReason::kTableFull), 1u);
}

// A packet that its home had parked was young again each time it was looked at.
TEST(ReplicationRegression, APacketThatWaitsForRoomIsDroppedWhenItIsLate) {
  CoreLab lab({.cores = 2, .entries = 1});
  lab.finish(lab.connect({kClient, port_on(lab, 1, kClient)}));
  lab.clock.advance(milliseconds(1));
  arrive(lab, 0, syn(kOther, port_on(lab, 0, kOther)));
  // Core 1 never answers the RECALL.
  for (int i = 0; i < 100; ++i) {
    lab.clock.advance(milliseconds(2));
    turn_of(lab, 0, lab.running());
  }
  EXPECT_EQ(lab.drops(packet::DropReason::kClaimLate), 1u);
  EXPECT_EQ(lab.core(0).forwarder().pen().packets(), 0u);
}

// In a full table the RECALL of the next eviction came right behind the UPDATE: the copy had gone
// before the packet that had asked for it was judged, which then asked again.
TEST(ReplicationRegression, WhoeverIsGrantedABindingIsLetInBeforeItIsEvicted) {
  CoreLab lab({.cores = 2, .entries = 1});
  arrive(lab, 1, syn(kClient, port_on(lab, 1, kClient)));
  turn_of(lab, 1, lab.running());
  const timing::Instant before = lab.clock.now();
  lab.clock.advance(milliseconds(1));
  const auto take = [] {};
  arrive(lab, 1, syn(kOther, port_on(lab, 1, kOther)));
  lab.core(1).begin(lab.running(), lab.clock.now());
  lab.core(1).drain(take);
  // The home, whose turn began earlier, makes the first binding only now.
  lab.core(0).begin(lab.running(), before);
  lab.core(0).serve(take);
  lab.core(1).judge();
  turn_of(lab, 0, lab.running());
  ASSERT_EQ(lab.core(0).replica().counters().recalls.get(), 1u);
  turn_of(lab, 1, lab.running());
  EXPECT_EQ(lab.core(1).output().tx(1).size(), 1u);
  lab.turn();
}

// A core that knew that the scope had gone kept its copy as it was; asked for the new serial it
// said that it had none, and nobody told it to drop the old one.
TEST(ReplicationRegression, ACopyFollowsItsHomeEvenIfItsScopeHasGone) {
  CoreLab lab({.cores = 2});
  const std::string server = lab.connect({kClient, port_on(lab, 1, kClient)}).server;
  auto without = std::make_shared<snapshot::Snapshot>(lab.running());
  ++without->version;
  without->scopes[0].live = false;
  turn_of(lab, 1, *without);
  const auto& other = lab.world.server(Family::kV4, server == "10.2.0.2" ? 1 : 0);
  const persist::Home& home = lab.core(0).table().home(*entry(lab, 0, kClient));
  binding::Merge merge{.scope = binding::ScopeSlot{0},
                       .version = lab.running().version,
                       .key = key_of(kClient),
                       .record = {.stamp = binding::Stamp{home.stamp.value - 1},
                                  .server = other.id,
                                  .first = other.id,
                                  .deleted = {},
                                  .act = home.stamp}};
  ASSERT_TRUE(lab.shared().rings.merges[0].push(merge));
  turn_of(lab, 0, lab.running());
  turn_of(lab, 1, *without);
  EXPECT_EQ(entry(lab, 1, kClient)->serial, entry(lab, 0, kClient)->serial);
  EXPECT_EQ(entry(lab, 1, kClient)->server, other.id);
}

}  // namespace
}  // namespace limpet
