// Whom a home chooses, and who gives way: full tables, consistent hashing, places in connection
// limits.
#include <gtest/gtest.h>

#include <set>

#include "dataplane/balance/maglev.h"
#include "tests/unit/replication_lab.h"

namespace limpet::replication {
namespace {

using balance::Reason;
using snapshot::ServerState;
using timing::milliseconds;
using timing::seconds;
using Lab = ReplicationLab;

// --- a full table -------------------------------------------------------------------------------

// Three confirmed bindings of clients 0, 1, 2, a second apart, fill the table.
class ReplicationEviction : public testing::Test {
 protected:
  ReplicationEviction() {
    for (uint32_t n = 0; n < 3; ++n) {
      lab.bind_confirmed(1, Lab::key(n));
      lab.pass(seconds(1));
    }
    lab.forget_heard();
    lab.news(0);
  }
  const Counters& home() { return lab.at(0).counters(); }

  Lab lab{{.limit = 3}};
};

TEST_F(ReplicationEviction, TheLongestIdleGivesWayOnceAllHoldersAgree) {
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.serve(0);
  EXPECT_TRUE(lab.home(Lab::key(0)).evicting);
  EXPECT_EQ(lab.claims(2, 0), 1u) << "the claim waits";
  lab.drain(1);
  lab.serve(0);
  EXPECT_NE(lab.record(Lab::key(0)), nullptr) << "core 2 has it too";
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(0)));
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  EXPECT_TRUE(lab.everywhere(Lab::key(2)));
  EXPECT_TRUE(lab.everywhere(Lab::key(7)));
  EXPECT_EQ(home().evicted_idle.get(), 1u);
  EXPECT_EQ(lab.bindings.count(), 3u);
}

TEST_F(ReplicationEviction, AnAnswerWithLaterActivityStopsItAndAnotherGoes) {
  // Client 0 was here a moment ago, on a core of which home has not heard.
  lab.open(2, Lab::key(0));
  lab.close(2, Lab::key(0));
  ASSERT_TRUE(lab.claim(1, Lab::key(7)));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(0)), nullptr);
  EXPECT_EQ(lab.record(Lab::key(0))->last, lab.now);
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
  EXPECT_EQ(home().evicted_idle.get(), 1u);
}

TEST_F(ReplicationEviction, NeverTakesABindingWithAConnectionOnAnyCore) {
  lab.open(2, Lab::key(0));
  lab.open(0, Lab::key(1));
  ASSERT_TRUE(lab.claim(1, Lab::key(7)));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(0)), nullptr);
  EXPECT_EQ(lab.find(2, Lab::key(0))->open, 1u);
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
  EXPECT_TRUE(lab.nowhere(Lab::key(2)));
}

TEST_F(ReplicationEviction, ATableOfHeldBindingsRefusesNewClients) {
  for (uint32_t n = 0; n < 3; ++n) lab.open(0, Lab::key(n));
  ASSERT_TRUE(lab.claim(1, Lab::key(7)));
  lab.settle();
  EXPECT_EQ(lab.answer(1).reason, Reason::kTableFull);
}

TEST_F(ReplicationEviction, ATableOfBindingsHeldOnOtherCoresRefusesNewClientsOnceTheySaidSo) {
  for (uint32_t n = 0; n < 3; ++n) lab.open(2, Lab::key(n));
  ASSERT_TRUE(lab.claim(1, Lab::key(7)));
  lab.serve(0);
  EXPECT_EQ(lab.claims(1, 0), 1u) << "home has not asked yet";
  lab.settle();
  EXPECT_EQ(lab.answer(1).reason, Reason::kTableFull);
  for (uint32_t n = 0; n < 3; ++n) EXPECT_NE(lab.find(2, Lab::key(n)), nullptr);
}

TEST_F(ReplicationEviction, ACopyThatWasJustGrantedIsKeptForTheTurn) {
  Lab small({.limit = 1});
  ASSERT_TRUE(small.claim(1, Lab::key(1)));
  small.serve(0);
  small.pass(milliseconds(1));
  ASSERT_TRUE(small.claim(2, Lab::key(2)));
  small.serve(0);
  ASSERT_EQ(small.down(0, 1), 2u) << "the answer, and a recall behind it";
  small.drain(1);
  EXPECT_NE(small.find(1, Lab::key(1)), nullptr) << "whom it was granted to may open in this turn";
  small.pass(milliseconds(1));
  small.settle();
  EXPECT_EQ(small.record(Lab::key(1)), nullptr) << "nobody did";
  EXPECT_NE(small.record(Lab::key(2)), nullptr);
}

TEST_F(ReplicationEviction, EmbryonicBindingsGoFirst) {
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(0))), Outcome::kDone);
  lab.settle();
  lab.bind(1, Lab::key(5));
  lab.open(1, Lab::key(5));
  lab.pass(milliseconds(1));
  lab.forget_heard();
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(5))) << "the youngest, and half open";
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  EXPECT_EQ(home().evicted_embryonic.get(), 1u);
}

TEST_F(ReplicationEviction, AnEmbryonicBindingOfDatagramsGoesFirstThoughItsFlowIsOpen) {
  for (const uint32_t core : {0u, 1u}) {  // home's own flow, and another core's
    const Key young = Lab::key(5 + core);
    ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(core))), Outcome::kDone);
    lab.settle();
    lab.bind_datagram(1, young);
    lab.open(core, young, true);
    lab.pass(milliseconds(1));
    ASSERT_TRUE(lab.claim(2, Lab::key(7 + core)));
    lab.settle();
    EXPECT_TRUE(lab.nowhere(young)) << core;
    EXPECT_TRUE(lab.everywhere(Lab::key(2)));
    EXPECT_TRUE(lab.at(core).lost_counts());
    lab.at(1).confirm(*lab.find(1, Lab::key(7 + core)));
    lab.settle();
  }
  EXPECT_EQ(home().evicted_embryonic.get(), 2u);
}

TEST_F(ReplicationEviction, ABindingOfDatagramsThatIsConfirmedStays) {
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(0))), Outcome::kDone);
  lab.settle();
  Entry& copy = lab.bind_datagram(1, Lab::key(5));
  lab.open(1, Lab::key(5), true);
  lab.at(1).confirm(copy);
  lab.pass(milliseconds(1));
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.settle();
  EXPECT_NE(lab.find(1, Lab::key(5)), nullptr);
  EXPECT_TRUE(lab.nowhere(Lab::key(1))) << "the longest idle";
}

TEST_F(ReplicationEviction, IsStoppedByAClaim) {
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.serve(0);
  ASSERT_TRUE(lab.home(Lab::key(0)).evicting);
  lab.drain(1);  // gives it up
  ASSERT_TRUE(lab.claim(1, Lab::key(0)));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(0)), nullptr);
  EXPECT_NE(lab.find(1, Lab::key(0)), nullptr);
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

TEST_F(ReplicationEviction, IsStoppedByHomesOwnPacket) {
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.serve(0);
  ASSERT_TRUE(lab.home(Lab::key(0)).evicting);
  lab.at(0).use(*lab.at(0).find(lab.scope(), Lab::key(0)));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(0)), nullptr);
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

TEST_F(ReplicationEviction, IsStoppedByATouch) {
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(0))), Outcome::kDone);
  lab.settle();
  lab.bind(1, Lab::key(5));
  lab.pass(milliseconds(1));
  lab.forget_heard();
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.serve(0);
  ASSERT_TRUE(lab.home(Lab::key(5)).evicting);
  lab.open(1, Lab::key(5));
  lab.at(1).confirm(*lab.find(1, Lab::key(5)));
  lab.serve(0);
  EXPECT_FALSE(lab.home(Lab::key(5)).evicting);
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(5)), nullptr);
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

TEST_F(ReplicationEviction, IsStoppedByAHandshakeAtHome) {
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(0))), Outcome::kDone);
  lab.settle();
  lab.bind(1, Lab::key(5));
  lab.open(0, Lab::key(5));  // half open at home
  lab.pass(milliseconds(1));
  lab.forget_heard();
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.serve(0);
  ASSERT_TRUE(lab.home(Lab::key(5)).evicting);
  lab.at(0).confirm(*lab.record(Lab::key(5)));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(5)), nullptr);
  EXPECT_TRUE(lab.nowhere(Lab::key(1))) << "the next one goes; nobody waits for that connection";
  EXPECT_EQ(lab.answer(2).kind, Down::Kind::kUpdate);
}

TEST_F(ReplicationEviction, WithNoPurgeNewClientsAreRefusedAtOnce) {
  lab.scope().purge = false;
  lab.publish_to_all();
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.serve(0);
  lab.drain(2);
  EXPECT_EQ(lab.answer(2).reason, Reason::kTableFull);
  EXPECT_EQ(home().recalls.get(), 0u);
}

TEST_F(ReplicationEviction, WithNoPurgeAnExpiredBindingGivesWayNevertheless) {
  lab.scope().purge = false;
  lab.publish_to_all();
  lab.pass(seconds(297));  // client 0's 300 s are over, nobody has looked yet
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.settle();
  EXPECT_EQ(lab.answer(2).kind, Down::Kind::kUpdate);
  EXPECT_TRUE(lab.nowhere(Lab::key(0)));
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
}

TEST_F(ReplicationEviction, WithNoPurgeAnEmbryonicBindingGivesWayOnceItHadTheTimeOfAHandshake) {
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(0))), Outcome::kDone);
  lab.settle();
  lab.bind_datagram(1, Lab::key(5));
  lab.open(1, Lab::key(5), true);
  lab.scope().purge = false;
  lab.publish_to_all();
  lab.pass(timing::milliseconds(9'999));
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.settle();
  EXPECT_EQ(lab.answer(2).reason, Reason::kTableFull);
  lab.forget_heard();
  lab.pass(milliseconds(1));
  ASSERT_TRUE(lab.claim(2, Lab::key(7)));
  lab.settle();
  EXPECT_EQ(lab.answer(2).kind, Down::Kind::kUpdate);
  EXPECT_TRUE(lab.nowhere(Lab::key(5)));
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST_F(ReplicationEviction, HomesOwnPacketWaitsForItToo) {
  EXPECT_EQ(lab.create(0, Lab::key(7), 0).outcome, Outcome::kWait);
  for (const uint32_t c : {1u, 2u}) lab.drain(c);
  lab.serve(0);
  EXPECT_EQ(lab.create(0, Lab::key(7), 0).outcome, Outcome::kDone);
  EXPECT_EQ(lab.bindings.count(), 3u);
}

TEST(ReplicationEvictionAlone, WhatNobodyHasACopyOfGivesWayAtOnce) {
  Lab lab({.limit = 2, .push = false});
  for (uint32_t n = 0; n < 2; ++n) {
    const auto made = lab.create(0, Lab::key(n), 0);
    ASSERT_EQ(made.outcome, Outcome::kDone);
    lab.at(0).confirm(*made.entry);
    lab.pass(seconds(1));
  }
  lab.at(0).use(*lab.record(Lab::key(0)));
  EXPECT_EQ(lab.create(0, Lab::key(2), 0).outcome, Outcome::kDone);
  EXPECT_NE(lab.record(Lab::key(0)), nullptr);
  EXPECT_EQ(lab.record(Lab::key(1)), nullptr);
  EXPECT_EQ(lab.bindings.count(), 2u);
}

TEST(ReplicationEvictionSample, OfALargeTableTakesSeveralAtOnce) {
  Lab lab({.cores = 2,
           .limit = 2100,
           .rings = {.claims = 64, .answers = 64, .down = 4096, .news = 8192, .merges = 8}});
  uint32_t n = 0;
  for (; lab.bindings.count() < 2100 && n < 4000; ++n) {
    const uint32_t home = lab.home_of(Lab::key(n));
    if (lab.create(home, Lab::key(n), 0).outcome != Outcome::kDone) break;
    lab.at(home).confirm(*lab.record(Lab::key(n)));
  }
  lab.settle();
  ASSERT_EQ(lab.bindings.count(), 2100u);
  lab.pass(seconds(1));
  uint32_t home = 0;
  while (lab.at(home).table().records() <= 1024) ++home;
  std::vector<Key> asked;
  for (; asked.size() < 8; ++n) {
    if (lab.home_of(Lab::key(n)) != home) continue;
    asked.push_back(Lab::key(n));
    ASSERT_TRUE(lab.claim(1 - home, asked.back()));
  }
  lab.serve(home);
  EXPECT_GE(lab.at(home).counters().recalls.get(), 8u);
  EXPECT_EQ(lab.at(home).credits_used(1 - home), lab.at(home).counters().recalls.get());
  lab.settle();
  for (const Key& key : asked) EXPECT_TRUE(lab.everywhere(key));
  EXPECT_LE(lab.bindings.count(), 2100u);
  EXPECT_EQ(lab.bindings.count(), lab.at(0).table().records() + lab.at(1).table().records());
}

// --- consistent hashing --------------------------------------------------------------------------

// Whoever is proposed is down: home chooses by itself.
class ReplicationChoice : public testing::Test {
 protected:
  static constexpr uint32_t kCells = balance::kMaglevSizes.front();

  ReplicationChoice() {
    pool().algorithm = snapshot::Algorithm::kConsistentHash;
    pool().hash_input = snapshot::HashInput::kSourceAddressAndPort;
    lab.server(0).state = ServerState::kDown;
    const balance::MaglevServer up[] = {{lab.id(1), 1, 1}, {lab.id(2), 1, 2}};
    pool().maglev = balance::build_maglev(up, kCells);
    lab.publish_to_all();
  }
  snapshot::Pool& pool() { return lab.world.pool(net::Family::kV4); }
  binding::ServerId chosen_for(const Key& key, uint32_t choice_hash) {
    lab.forget_heard();
    EXPECT_TRUE(
        lab.claim(1, key, Replica::Proposal{.server = lab.id(0), .choice_hash = choice_hash}));
    lab.settle();
    return lab.answer(1).server;
  }

  Lab lab;
};

TEST_F(ReplicationChoice, HomeChoosesAsTheAskerWouldBySourceAddressAndPort) {
  const net::Address client = support::address("10.1.0.2");
  std::set<binding::ServerId> chosen;
  for (uint16_t port = 1000; port < 1032; ++port) {
    const uint32_t hash = balance::consistent_hash({client, port}, pool().hash_input);
    const binding::ServerId server = chosen_for(Lab::key(port), hash);
    EXPECT_EQ(server, pool().servers[pool().maglev[base::reduce(hash, kCells)]].id);
    chosen.insert(server);
  }
  EXPECT_EQ(chosen.size(), 2u);
}

TEST_F(ReplicationChoice, TheKeyItselfDoesNotDecide) {
  const binding::ServerId server = chosen_for(Key{{1, 1}}, 77);
  for (uint64_t n = 2; n < 20; ++n) EXPECT_EQ(chosen_for(Key{{n, n * n}}, 77), server);
}

// --- places in connection limits ----------------------------------------------------------------

class ReplicationLimit : public testing::Test {
 protected:
  ReplicationLimit() {
    for (uint32_t i = 0; i < 3; ++i) lab.server(i).connections_max = 1;
    lab.publish_to_all();
  }
  Replica::Proposal reserved(uint32_t i) {
    EXPECT_TRUE(lab.gauges.reserve(lab.server(i), false));
    return {.server = lab.id(i), .reserved = true};
  }
  uint32_t taken() {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 3; ++i) sum += lab.gauges.open(lab.server(i).slot);
    return sum;
  }

  Lab lab;
};

TEST_F(ReplicationLimit, APlaceThatTheAskerTookIsUsedAsItIs) {
  ASSERT_TRUE(lab.claim(1, Lab::key(1), reserved(1)));
  lab.settle();
  EXPECT_EQ(lab.answer(1).server, lab.id(1)) << "although it is at its limit, by that very place";
  EXPECT_FALSE(lab.answer(1).reserved);
  EXPECT_EQ(taken(), 1u);
}

TEST_F(ReplicationLimit, HomeTakesAPlaceForTheAskerWhenItPicksAgain) {
  ASSERT_TRUE(lab.claim(1, Lab::key(1), Replica::Proposal{}));
  lab.settle();
  const Down answer = lab.answer(1);
  EXPECT_TRUE(answer.reserved);
  const auto* server = lab.world.snapshot->server(snapshot::ServerSlot{answer.place});
  ASSERT_NE(server, nullptr);
  EXPECT_EQ(server->id, answer.server);
  EXPECT_EQ(lab.gauges.open(server->slot), 1u);
  EXPECT_EQ(taken(), 1u);
}

TEST_F(ReplicationLimit, APlaceThatHomeTookInVainIsGivenBack) {
  // The binding has to move, but a holder's ring is full: not this turn.
  lab.bind(1, Lab::key(1), 0);
  const uint32_t before = taken();
  lab.server(0).state = ServerState::kDown;
  for (uint32_t i = 0; i < 3; ++i) lab.server(i).connections_max = 8;
  lab.publish_to_all();
  ASSERT_TRUE(lab.claim(1, Lab::key(1), Replica::Proposal{}));
  lab.fill_down(2);
  for (int i = 0; i < 5; ++i) lab.serve(0);
  EXPECT_EQ(taken(), before);
  lab.settle();
  EXPECT_EQ(taken(), before + 1);
}

TEST_F(ReplicationLimit, APlaceIsGivenBackWhenTheTableIsFull) {
  Lab full({.limit = 1});
  full.scope().purge = false;
  for (uint32_t i = 0; i < 3; ++i) full.server(i).connections_max = 8;
  full.publish_to_all();
  full.bind_confirmed(1, Lab::key(1), 0);
  uint32_t before = 0;
  for (uint32_t i = 0; i < 3; ++i) before += full.gauges.open(full.server(i).slot);
  full.forget_heard();
  ASSERT_TRUE(full.claim(2, Lab::key(2), Replica::Proposal{}));
  full.settle();
  EXPECT_EQ(full.answer(2).reason, Reason::kTableFull);
  uint32_t after = 0;
  for (uint32_t i = 0; i < 3; ++i) after += full.gauges.open(full.server(i).slot);
  EXPECT_EQ(after, before);
}

TEST_F(ReplicationLimit, AClaimOfAnOldViewDoesNotMoveTheBindingFromAServerThatIsFullByThen) {
  lab.bind(1, Lab::key(1), 0);
  lab.server(0).state = ServerState::kDown;
  lab.publish_to_all();
  ASSERT_TRUE(lab.claim(1, Lab::key(1), reserved(1)));
  ASSERT_TRUE(lab.claim(2, Lab::key(1), reserved(2)));
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1))->change, 1u);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(1));
  EXPECT_EQ(lab.answer(2).server, lab.id(1));
}

TEST_F(ReplicationLimit, WhenAllServersAreAtTheirLimitsNewClientsAreRefusedForThat) {
  for (uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(lab.gauges.reserve(lab.server(i), false));
  ASSERT_TRUE(lab.claim(1, Lab::key(1), Replica::Proposal{}));
  lab.settle();
  EXPECT_EQ(lab.answer(1).reason, Reason::kAtLimit);
  EXPECT_EQ(taken(), 3u);
}

}  // namespace
}  // namespace limpet::replication
