// What becomes of bindings that are held on many cores: configuration that changes, deletion, news
// from other engines.
#include <gtest/gtest.h>

#include "tests/unit/replication_lab.h"

namespace limpet::replication {
namespace {

using binding::Stamp;
using snapshot::ServerState;
using timing::seconds;
using Lab = ReplicationLab;

// --- configuration that changes -----------------------------------------------------------------

TEST(ReplicationChange, AScopeThatGoesIsForgottenEverywhere) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.bind_confirmed(2, Lab::key(2));
  lab.open(2, Lab::key(1));
  lab.scope().live = false;
  lab.publish_to_all();
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
  EXPECT_TRUE(lab.nowhere(Lab::key(2)));
  EXPECT_EQ(lab.bindings.count(), 0u);
  EXPECT_EQ(lab.at(0).counters().dropped.get(), 2u);
  EXPECT_EQ(lab.at(0).counters().gones.get(), 4u);
  EXPECT_TRUE(lab.at(2).lost_counts()) << "its connection goes on uncounted";
}

TEST(ReplicationChange, TheSweepIsNotDoneBeforeAllHoldersCouldBeTold) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.scope().live = false;
  lab.publish_to_all();
  lab.fill_down(2);
  EXPECT_FALSE(lab.at(0).sweep(100));
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
  EXPECT_EQ(lab.down(0, 1), 0u);
  lab.drain(2);
  EXPECT_TRUE(lab.at(0).sweep(100));
  EXPECT_EQ(lab.record(Lab::key(1)), nullptr);
}

TEST(ReplicationChange, AnUpdateUnderWayForAScopeThatWentLeavesNothing) {
  Lab lab;
  ASSERT_TRUE(lab.claim(1, Lab::key(1)));
  lab.serve(0);
  lab.scope().live = false;
  lab.publish_to_all();
  lab.drain(2);
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
  EXPECT_EQ(lab.bindings.count(), 0u);
}

class ReplicationServerLeft : public testing::Test {
 protected:
  void leave(uint32_t i) {
    lab.servers_left.push_back(lab.id(i));
    std::sort(lab.servers_left.begin(), lab.servers_left.end());
    auto& servers = lab.world.pool(net::Family::kV4).servers;
    std::erase_if(servers, [&](const auto& s) { return s.id == lab.id(i); });
    lab.publish_to_all();
  }

  Lab lab;
};

TEST_F(ReplicationServerLeft, ItsBindingsNameNobodyAndHoldersAreTold) {
  lab.bind_confirmed(1, Lab::key(1), 0);
  lab.bind_confirmed(1, Lab::key(2), 1);
  leave(0);
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1))->server, binding::kNoServer);
  EXPECT_EQ(lab.record(Lab::key(1))->first, binding::kNoServer);
  EXPECT_EQ(lab.record(Lab::key(1))->change, 1u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  EXPECT_EQ(lab.record(Lab::key(2))->server, lab.id(1));
  EXPECT_EQ(lab.record(Lab::key(2))->change, 0u);
}

TEST_F(ReplicationServerLeft, TheNextClaimMovesItsClientsOn) {
  lab.bind_confirmed(1, Lab::key(1), 0);
  leave(0);
  lab.settle();
  lab.bind(2, Lab::key(1), 1);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(1));
  EXPECT_EQ(lab.record(Lab::key(1))->first, lab.id(1)) << "it begins anew";
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST_F(ReplicationServerLeft, NobodyReturnsHomeToIt) {
  lab.bind_confirmed(1, Lab::key(1), 0);
  lab.server(0).state = ServerState::kDown;
  lab.publish_to_all();
  lab.bind(1, Lab::key(1), 1);
  ASSERT_EQ(lab.record(Lab::key(1))->first, lab.id(0));
  leave(0);
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(1));
  EXPECT_EQ(lab.record(Lab::key(1))->first, binding::kNoServer);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST_F(ReplicationServerLeft, TheSweepWaitsForHoldersWithoutRoom) {
  lab.bind_confirmed(1, Lab::key(1), 0);
  leave(0);
  lab.fill_down(2);
  EXPECT_FALSE(lab.at(0).sweep(100));
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(0));
  lab.drain(2);
  EXPECT_TRUE(lab.at(0).sweep(100));
}

TEST_F(ReplicationServerLeft, AConnectionOfTheBindingIsStillCounted) {
  lab.bind_confirmed(1, Lab::key(1), 0);
  lab.open(2, Lab::key(1));
  leave(0);
  lab.settle();
  EXPECT_EQ(lab.find(2, Lab::key(1))->open, 1u);
}

TEST(ReplicationChange, AShorterTimeoutHoldsForLivingBindings) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.pass(seconds(50));
  lab.scope().timeout = seconds(50);
  lab.publish_to_all();
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

TEST(ReplicationChange, ALongerTimeoutHoldsForLivingBindings) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.pass(seconds(299));
  lab.scope().timeout = seconds(600);
  lab.publish_to_all();
  lab.pass(seconds(300));
  lab.settle();
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  lab.pass(seconds(1));
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

TEST(ReplicationChange, ATimeoutThatGrewWhileCopiesAreRecalledKeepsTheBinding) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.pass(seconds(300));
  lab.advance(0);
  ASSERT_EQ(lab.home(Lab::key(1)).asked, 0b110u);
  lab.scope().timeout = seconds(600);
  lab.publish_to_all();
  lab.settle();
  ASSERT_NE(lab.record(Lab::key(1)), nullptr) << "only the copies went";
  EXPECT_EQ(lab.home(Lab::key(1)).copies, 0u);
}

// --- deletion -----------------------------------------------------------------------------------

TEST(ReplicationDelete, AnAdministratorsOrderSparesNoConnection) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.open(1, Lab::key(1));
  lab.open(0, Lab::key(1));
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kDone);
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
  EXPECT_TRUE(lab.at(0).lost_counts());
  EXPECT_TRUE(lab.at(1).lost_counts());
  EXPECT_EQ(lab.at(0).counters().deleted.get(), 1u);
}

TEST(ReplicationDelete, TheClientsNextBindingIsAnotherLife) {
  Lab lab;
  const uint32_t serial = lab.bind_confirmed(1, Lab::key(1), 0).serial;
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kDone);
  lab.settle();
  EXPECT_NE(lab.bind(1, Lab::key(1), 2).serial, serial);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
  EXPECT_FALSE(lab.record(Lab::key(1))->confirmed);
}

TEST(ReplicationDelete, AClaimThatComesAfterItMakesANewBinding) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1), 0);
  lab.server(0).state = ServerState::kDown;
  lab.publish_to_all();
  ASSERT_TRUE(lab.claim(1, Lab::key(1), 2)) << "with what it still has";
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kDone);
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
  EXPECT_EQ(lab.record(Lab::key(1))->change, 0u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

// --- news from other engines --------------------------------------------------------------------

class ReplicationMerge : public testing::Test {
 protected:
  binding::Record live(uint64_t stamp, uint32_t server, uint32_t epoch = 0) {
    return {.stamp = Stamp{stamp},
            .epoch = epoch,
            .server = lab.id(server),
            .first = lab.id(server),
            .act = Stamp{stamp}};
  }
  void merge(const binding::Record& record, uint32_t key = 1) {
    ASSERT_TRUE(lab.rings.merges[0].push({.scope = lab.scope().slot,
                                          .version = lab.version(),
                                          .key = Lab::key(key),
                                          .record = record}));
    lab.settle();
  }
  uint64_t stamp() { return lab.home(Lab::key(1)).stamp.value; }

  Lab lab{{.limit = 4}};
};

TEST_F(ReplicationMerge, ABindingOfAPeerIsKnownEverywhereAndConfirmed) {
  merge(live(5, 2));
  ASSERT_NE(lab.record(Lab::key(1)), nullptr);
  EXPECT_TRUE(lab.record(Lab::key(1))->confirmed);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  EXPECT_EQ(lab.bindings.count(), 1u);
  const auto news = lab.news(0);
  ASSERT_EQ(news.size(), 1u);
  EXPECT_EQ(news[0].record.stamp.value, 5u);
}

TEST_F(ReplicationMerge, TheEarlierOfTwoLineagesWins) {
  lab.bind_confirmed(1, Lab::key(1), 0);
  merge(live(5, 2));
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
  EXPECT_EQ(stamp(), 5u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  merge(live(6, 1));
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2)) << "a later one does not";
  EXPECT_EQ(stamp(), 5u);
}

TEST_F(ReplicationMerge, AHigherEpochOfTheSameLineageMovesTheBinding) {
  merge(live(5, 2));
  lab.open(1, Lab::key(1));
  const uint32_t serial = lab.record(Lab::key(1))->serial;
  merge(live(5, 1, 1));
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(1));
  EXPECT_EQ(lab.record(Lab::key(1))->serial, serial);
  EXPECT_EQ(lab.record(Lab::key(1))->change, 1u);
  EXPECT_EQ(lab.find(1, Lab::key(1))->open, 1u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  merge(live(5, 0, 0));
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(1)) << "a lower one does not";
}

TEST_F(ReplicationMerge, OfEqualEpochsTheHigherServerWins) {
  ASSERT_LT(lab.id(0), lab.id(1));
  merge(live(5, 0, 3));
  merge(live(5, 1, 3));
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(1));
  merge(live(5, 0, 3));
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(1));
}

TEST_F(ReplicationMerge, WhatIsKnownAlreadyIsToldToNobody) {
  merge(live(5, 2));
  const uint64_t updates = lab.at(0).counters().updates;
  lab.news(0);
  merge(live(5, 2));
  EXPECT_EQ(lab.at(0).counters().updates.get(), updates);
  EXPECT_TRUE(lab.news(0).empty());
}

TEST_F(ReplicationMerge, ATombstoneKillsTheLineagesUpToItsStamp) {
  merge(live(5, 2));
  lab.open(1, Lab::key(1));
  merge({.deleted = Stamp{4}});
  EXPECT_TRUE(lab.everywhere(Lab::key(1))) << "not one made after it";
  merge({.deleted = Stamp{5}});
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
  EXPECT_TRUE(lab.at(1).lost_counts());
  EXPECT_EQ(lab.bindings.count(), 0u);
}

TEST_F(ReplicationMerge, ATombstoneForNobodyMakesNothing) {
  merge({.deleted = Stamp{5}});
  EXPECT_EQ(lab.bindings.count(), 0u);
}

TEST_F(ReplicationMerge, AnEmbryonicBindingIsReplacedByALaterOne) {
  lab.bind(1, Lab::key(1), 0);
  lab.open(1, Lab::key(1));
  merge(live(stamp() + 1, 2));
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
  EXPECT_TRUE(lab.record(Lab::key(1))->confirmed);
  EXPECT_EQ(lab.find(1, Lab::key(1))->open, 0u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST_F(ReplicationMerge, ATombstoneKillsAnEmbryonicBindingUpToItsStampOnly) {
  lab.bind(1, Lab::key(1), 0);
  merge({.deleted = Stamp{stamp() - 1}});
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  merge({.deleted = Stamp{stamp()}});
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

TEST_F(ReplicationMerge, ABindingWhoseTimeIsOverYieldsToALaterLineage) {
  merge(live(5, 0));
  for (const uint32_t c : {1u, 2u}) lab.at(c).table().erase(*lab.find(c, Lab::key(1)));
  lab.home(Lab::key(1)).copies = 0;
  lab.pass(seconds(300));
  ASSERT_TRUE(lab.rings.merges[0].push({.scope = lab.scope().slot,
                                        .version = lab.version(),
                                        .key = Lab::key(1),
                                        .record = live(6, 2)}));
  lab.serve(0);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
  EXPECT_EQ(lab.record(Lab::key(1))->last, lab.now);
}

TEST_F(ReplicationMerge, IntoAFullTableIsRefusedAndCounted) {
  for (uint32_t n = 10; n < 14; ++n) lab.bind_confirmed(1, Lab::key(n));
  merge(live(5, 2));
  EXPECT_EQ(lab.record(Lab::key(1)), nullptr);
  EXPECT_EQ(lab.at(0).counters().merges_refused.get(), 1u);
  EXPECT_EQ(lab.bindings.count(), 4u);
}

TEST_F(ReplicationMerge, AnEmbryonicBindingThatNobodyHasACopyOfGivesWayAlsoWithNoPurge) {
  Lab alone({.cores = 1, .limit = 1});
  alone.scope().purge = false;
  alone.publish_to_all();
  ASSERT_EQ(alone.create(0, Lab::key(14), 0, true).outcome, Outcome::kDone);
  const binding::Merge news{.scope = alone.scope().slot,
                            .version = alone.version(),
                            .key = Lab::key(1),
                            .record = live(5, 2)};
  ASSERT_TRUE(alone.rings.merges[0].push(news));
  alone.settle();
  EXPECT_EQ(alone.record(Lab::key(1)), nullptr);
  alone.pass(seconds(10));
  ASSERT_TRUE(alone.rings.merges[0].push(news));
  alone.settle();
  EXPECT_NE(alone.record(Lab::key(1)), nullptr);
  EXPECT_EQ(alone.record(Lab::key(14)), nullptr);
}

TEST_F(ReplicationMerge, ABindingMadeAfterwardsHasALaterStamp) {
  const uint64_t ahead = uint64_t{1} << 60;  // a peer whose clock is far ahead
  merge(live(ahead, 2), 2);
  lab.bind_confirmed(1, Lab::key(1));
  EXPECT_GT(stamp(), ahead);
}

TEST_F(ReplicationMerge, AServerThatNoDocumentHasNamedYetIsStoredAndUnusable) {
  binding::Record record = live(5, 0);
  record.server = record.first = binding::ServerId{77};
  merge(record);
  EXPECT_EQ(lab.find(1, Lab::key(1))->server, binding::ServerId{77});
  lab.bind(1, Lab::key(1), 2);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2)) << "a claim moves it";
}

}  // namespace
}  // namespace limpet::replication
