// What the cores of an engine say to each other about bindings: messages and rules, one schedule a
// test. What they come to in the cases of life is in replication_full_test.cc and
// replication_case_test.cc.
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/replication_lab.h"

namespace limpet::replication {
namespace {

using balance::Reason;
using snapshot::ServerState;
using timing::milliseconds;
using timing::seconds;
using Lab = ReplicationLab;

// --- claims -------------------------------------------------------------------------------------

TEST(ReplicationClaim, CreatesTheBindingAndIsAnsweredOnce) {
  Lab lab;
  const Key key = Lab::key(1);
  ASSERT_TRUE(lab.claim(1, key, 2));
  lab.serve(0);
  lab.drain(1);
  ASSERT_EQ(lab.heard(1).size(), 1u);
  const Down answer = lab.answer(1);
  EXPECT_EQ(answer.kind, Down::Kind::kUpdate);
  EXPECT_EQ(answer.server, lab.id(2));
  ASSERT_NE(lab.record(key), nullptr);
  EXPECT_TRUE(lab.record(key)->is_home());
  EXPECT_EQ(lab.record(key)->server, lab.id(2));
  EXPECT_FALSE(lab.record(key)->confirmed);
  EXPECT_EQ(lab.bindings.count(), 1u);
}

TEST(ReplicationClaim, CostsOneUpdateForEachOtherCore) {
  Lab lab({.cores = 4});
  lab.bind(1, Lab::key(1));
  EXPECT_EQ(lab.at(1).counters().claims.get(), 1u);
  EXPECT_EQ(lab.at(0).counters().updates.get(), 3u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST(ReplicationClaim, IsAnsweredThroughARingOfOneMessage) {
  Lab lab({.rings = {.claims = 1, .answers = 1, .down = 1, .news = 8, .merges = 1}});
  lab.bind(1, Lab::key(1));
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.find(1, Lab::key(1))->server);
}

TEST(ReplicationClaim, WithoutPushOnlyTheAskerIsTold) {
  Lab lab({.push = false});
  lab.bind(1, Lab::key(1));
  EXPECT_NE(lab.find(1, Lab::key(1)), nullptr);
  EXPECT_EQ(lab.find(2, Lab::key(1)), nullptr);
  EXPECT_EQ(lab.home(Lab::key(1)).copies, 0b010u);
}

TEST(ReplicationClaim, OfACoreThatWasSkippedGetsTheSameBinding) {
  Lab lab({.rings = {.claims = 8, .answers = 8, .down = 4, .news = 64, .merges = 8}});
  for (uint32_t n = 0; n < 3; ++n) {
    ASSERT_TRUE(lab.claim(1, Lab::key(n), n));
    lab.serve(0);
    lab.drain(1);
  }
  EXPECT_EQ(lab.down(0, 2), 2u) << "half full: skipped";
  lab.drain(2);
  EXPECT_EQ(lab.find(2, Lab::key(2)), nullptr);
  ASSERT_TRUE(lab.claim(2, Lab::key(2), 0));
  lab.settle();
  EXPECT_EQ(lab.find(2, Lab::key(2))->server, lab.id(2));
  EXPECT_TRUE(lab.everywhere(Lab::key(2)));
  EXPECT_EQ(lab.at(0).counters().created.get(), 3u);
}

TEST(ReplicationClaim, OfTwoCoresForOneNewKeyMakesOneBinding) {
  Lab lab;
  ASSERT_TRUE(lab.claim(1, Lab::key(1), 1));
  ASSERT_TRUE(lab.claim(2, Lab::key(1), 2));
  lab.settle();
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  EXPECT_EQ(lab.answer(1).server, lab.answer(2).server);
  EXPECT_EQ(lab.bindings.count(), 1u);
}

TEST(ReplicationClaim, MovesABindingThatHomeJudgesMustMove) {
  Lab lab;
  lab.bind(1, Lab::key(1), 0);
  lab.server(0).state = ServerState::kDown;
  lab.publish_to_all();
  lab.bind(1, Lab::key(1), 2);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
  EXPECT_EQ(lab.record(Lab::key(1))->first, lab.id(0));
  EXPECT_EQ(lab.record(Lab::key(1))->change, 1u);
  EXPECT_EQ(lab.home(Lab::key(1)).epoch, 1u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST(ReplicationClaim, WithWhatAnotherClaimHadMovesItOnce) {
  Lab lab;
  lab.bind(1, Lab::key(1), 0);
  lab.server(0).state = ServerState::kDown;
  lab.publish_to_all();
  ASSERT_TRUE(lab.claim(1, Lab::key(1), 1));
  ASSERT_TRUE(lab.claim(2, Lab::key(1), 2));
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1))->change, 1u);
  EXPECT_EQ(lab.at(0).counters().moved.get(), 1u);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(1)) << "the first one's proposal";
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST(ReplicationClaim, OfAnOldViewIsAnsweredWithWhatThereIs) {
  Lab lab;
  lab.bind(1, Lab::key(1), 0);
  // Core 1 believes it has to move, home sees no reason.
  ASSERT_TRUE(lab.claim(1, Lab::key(1), 2));
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(0));
  EXPECT_EQ(lab.at(0).counters().moved.get(), 0u);
}

TEST(ReplicationClaim, IsDecidedByHomesServersNotByTheProposal) {
  Lab lab;
  lab.server(0).state = ServerState::kDown;
  lab.publish();
  lab.begin(0);
  ASSERT_TRUE(lab.claim(1, Lab::key(1), 0)) << "core 1 does not know yet";
  lab.serve(0);
  lab.drain(1);
  EXPECT_NE(lab.answer(1).server, lab.id(0));
  EXPECT_NE(lab.answer(1).server, binding::kNoServer);
}

TEST(ReplicationClaim, WithoutAUsableServerIsRefusedAndTheBindingStays) {
  Lab lab;
  lab.bind(1, Lab::key(1), 0);
  for (uint32_t i = 0; i < 3; ++i) lab.server(i).state = ServerState::kDown;
  lab.publish_to_all();
  lab.forget_heard();
  ASSERT_TRUE(lab.claim(1, Lab::key(1)));
  ASSERT_TRUE(lab.claim(2, Lab::key(2)));
  lab.settle();
  for (const uint32_t c : {1u, 2u}) {
    EXPECT_EQ(lab.answer(c).kind, Down::Kind::kRefuse);
    EXPECT_EQ(lab.answer(c).reason, Reason::kNoServer);
  }
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(0));
  EXPECT_EQ(lab.record(Lab::key(2)), nullptr);
}

TEST(ReplicationClaim, ForExactlyThisServerCreates) {
  Lab lab;
  ASSERT_TRUE(lab.claim(1, Lab::key(1), Replica::Proposal{.server = lab.id(2), .exact = true}));
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
}

TEST(ReplicationClaim, ForExactlyThisServerKeepsABindingToIt) {
  Lab lab;
  lab.bind(1, Lab::key(1), 2);
  ASSERT_TRUE(lab.claim(2, Lab::key(1), Replica::Proposal{.server = lab.id(2), .exact = true}));
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1))->change, 0u);
  EXPECT_EQ(lab.answer(2).server, lab.id(2));
}

TEST(ReplicationClaim, ForExactlyThisServerMovesABindingToAnother) {
  Lab lab;
  lab.bind(1, Lab::key(1), 0);
  ASSERT_TRUE(lab.claim(2, Lab::key(1), Replica::Proposal{.server = lab.id(2), .exact = true}));
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
  EXPECT_EQ(lab.record(Lab::key(1))->change, 1u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST(ReplicationClaim, ForAServerThatThePoolDoesNotHaveIsRefused) {
  Lab lab;
  const binding::ServerId stranger{77};
  ASSERT_TRUE(lab.claim(1, Lab::key(1), Replica::Proposal{.server = stranger, .exact = true}));
  lab.settle();
  EXPECT_EQ(lab.answer(1).reason, Reason::kNoServer);
  EXPECT_EQ(lab.bindings.count(), 0u);
}

TEST(ReplicationClaim, StaysInItsRingWhileTheAskersRingIsFull) {
  Lab lab;
  ASSERT_TRUE(lab.claim(1, Lab::key(1)));
  lab.fill_down(1);
  lab.serve(0);
  EXPECT_EQ(lab.claims(1, 0), 1u);
  EXPECT_EQ(lab.bindings.count(), 0u);
  EXPECT_EQ(lab.at(0).counters().waited.get(), 1u);
  lab.drain(1);
  lab.serve(0);
  EXPECT_EQ(lab.claims(1, 0), 0u);
  lab.drain(1);
  EXPECT_EQ(lab.answer(1).kind, Down::Kind::kUpdate);
}

TEST(ReplicationClaim, OlderThanFiftyMillisecondsIsRefusedAsLate) {
  Lab lab;
  ASSERT_TRUE(lab.claim(1, Lab::key(1)));
  lab.pass(milliseconds(50));
  ASSERT_TRUE(lab.claim(2, Lab::key(2)));
  lab.pass(milliseconds(1));
  lab.serve(0);
  lab.drain(1);
  EXPECT_EQ(lab.answer(1).kind, Down::Kind::kRefuse);
  EXPECT_EQ(lab.answer(1).reason, Reason::kLate);
  EXPECT_EQ(lab.record(Lab::key(1)), nullptr);
  EXPECT_NE(lab.record(Lab::key(2)), nullptr) << "this one is not";
}

TEST(ReplicationClaim, WithoutRoomIsNotSent) {
  Lab lab({.rings = {.claims = 1, .answers = 8, .down = 8, .news = 64, .merges = 8}});
  EXPECT_TRUE(lab.claim(1, Lab::key(1)));
  EXPECT_FALSE(lab.claim(1, Lab::key(2)));
  EXPECT_EQ(lab.at(1).counters().claims.get(), 1u);
}

TEST(ReplicationClaim, BringsAClientBackToItsFirstServer) {
  Lab lab;
  lab.scope().return_home = true;
  lab.publish_to_all();
  lab.bind(1, Lab::key(1), 0);
  lab.server(0).state = ServerState::kDown;
  lab.publish_to_all();
  lab.bind(1, Lab::key(1), 1);
  ASSERT_EQ(lab.record(Lab::key(1))->server, lab.id(1));
  lab.server(0).state = ServerState::kUp;
  lab.publish_to_all();
  lab.bind(2, Lab::key(1), 2);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(0));
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

// --- updates ------------------------------------------------------------------------------------

TEST(ReplicationUpdate, OfTheSameSerialKeepsTheCount) {
  Lab lab;
  lab.bind(1, Lab::key(1), 0);
  lab.open(2, Lab::key(1));
  lab.server(0).state = ServerState::kDown;
  lab.publish_to_all();
  lab.bind(1, Lab::key(1), 1);
  EXPECT_EQ(lab.find(2, Lab::key(1))->server, lab.id(1));
  EXPECT_EQ(lab.find(2, Lab::key(1))->open, 1u);
  EXPECT_FALSE(lab.at(2).lost_counts());
}

TEST(ReplicationUpdate, OfAnotherSerialRestartsTheCount) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1), 0);
  lab.open(2, Lab::key(1));
  const uint32_t serial = lab.record(Lab::key(1))->serial;
  // A peer made the binding earlier than we.
  const binding::Merge earlier{.scope = lab.scope().slot,
                               .version = lab.version(),
                               .key = Lab::key(1),
                               .record = {.stamp = binding::Stamp{1},
                                          .server = lab.id(2),
                                          .first = lab.id(2),
                                          .act = binding::Stamp{1}}};
  ASSERT_TRUE(lab.rings.merges[0].push(earlier));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1))->serial, serial);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
  EXPECT_EQ(lab.find(2, Lab::key(1))->open, 0u);
  EXPECT_TRUE(lab.at(2).lost_counts());
  EXPECT_FALSE(lab.at(1).lost_counts()) << "it had none";
}

TEST(ReplicationUpdate, MarksItsReceiverWhenItEntersTheRing) {
  Lab lab;
  ASSERT_TRUE(lab.claim(1, Lab::key(1)));
  lab.serve(0);
  EXPECT_EQ(lab.down(0, 2), 1u);
  EXPECT_EQ(lab.home(Lab::key(1)).copies, 0b110u);
}

// --- R1: nothing is done by halves --------------------------------------------------------------

TEST(ReplicationRoom, AMoveWaitsForOneHoldersRingAndThenHappensInOneStep) {
  Lab lab({.cores = 4});
  lab.bind(1, Lab::key(1), 0);
  lab.server(0).state = ServerState::kDown;
  lab.publish_to_all();
  ASSERT_TRUE(lab.claim(1, Lab::key(1), 1));
  lab.fill_down(3);
  lab.serve(0);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(0));
  EXPECT_EQ(lab.down(0, 1) + lab.down(0, 2), 0u) << "nobody hears half of it";
  EXPECT_EQ(lab.claims(1, 0), 1u);
  lab.drain(3);
  lab.serve(0);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(1));
  for (const uint32_t c : {1u, 2u, 3u}) EXPECT_EQ(lab.down(0, c), 1u);
}

TEST(ReplicationRoom, AMoveByHomesOwnPacketWaitsAsWell) {
  Lab lab;
  lab.bind(1, Lab::key(1), 0);
  lab.fill_down(2);
  EXPECT_EQ(lab.at(0).move(*lab.record(Lab::key(1)), lab.id(1)), Outcome::kWait);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(0));
  EXPECT_EQ(lab.down(0, 1), 0u);
  lab.drain(2);
  EXPECT_EQ(lab.at(0).move(*lab.record(Lab::key(1)), lab.id(1)), Outcome::kDone);
  lab.settle();
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST(ReplicationRoom, ADeletionWaitsForOneHoldersRingAndThenHappensInOneStep) {
  Lab lab;
  lab.bind(1, Lab::key(1), 0);
  lab.fill_down(2);
  EXPECT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kWait);
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
  EXPECT_EQ(lab.down(0, 1), 0u);
  lab.drain(2);
  EXPECT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kDone);
  EXPECT_EQ(lab.down(0, 1), 1u);
  EXPECT_EQ(lab.down(0, 2), 1u);
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
  EXPECT_EQ(lab.bindings.count(), 0u);
}

TEST(ReplicationRoom, ADeletionWaitsForRoomInTheRingToTheMirror) {
  Lab lab({.rings = {.claims = 8, .answers = 8, .down = 8, .news = 2, .merges = 8}});
  lab.bind(1, Lab::key(1));
  lab.bind(1, Lab::key(2));
  EXPECT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kWait);
  EXPECT_EQ(lab.down(0, 1) + lab.down(0, 2), 0u);
  lab.news(0);
  EXPECT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kDone);
}

TEST(ReplicationRoom, AMergeThatReplacesABindingWaitsForOneHoldersRing) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1), 0);
  const binding::Merge earlier{.scope = lab.scope().slot,
                               .version = lab.version(),
                               .key = Lab::key(1),
                               .record = {.stamp = binding::Stamp{1},
                                          .server = lab.id(2),
                                          .first = lab.id(2),
                                          .act = binding::Stamp{1}}};
  ASSERT_TRUE(lab.rings.merges[0].push(earlier));
  lab.fill_down(2);
  lab.serve(0);
  EXPECT_EQ(lab.rings.merges[0].size(), 1u);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(0));
  EXPECT_EQ(lab.down(0, 1), 0u);
  lab.drain(2);
  lab.serve(0);
  EXPECT_EQ(lab.record(Lab::key(1))->server, lab.id(2));
  EXPECT_EQ(lab.down(0, 1), 1u);
}

TEST(ReplicationRoom, WhatTheMirrorCouldNotBeToldIsToldLater) {
  Lab lab({.rings = {.claims = 8, .answers = 8, .down = 8, .news = 1, .merges = 8}});
  lab.bind(1, Lab::key(1));
  lab.bind(1, Lab::key(2));
  EXPECT_TRUE(lab.home(Lab::key(2)).owed);
  ASSERT_EQ(lab.news(0).size(), 1u);
  lab.advance(0);
  const auto later = lab.news(0);
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(later[0].key, Lab::key(2));
  EXPECT_FALSE(lab.home(Lab::key(2)).owed);
}

TEST(ReplicationRoom, UnansweredRecallsNeverExceedTheAnswersRing) {
  Lab lab({.rings = {.claims = 8, .answers = 2, .down = 16, .news = 64, .merges = 8}});
  for (uint32_t n = 0; n < 6; ++n) lab.bind(1, Lab::key(n));
  lab.pass(seconds(10));
  for (int i = 0; i < 5; ++i) lab.advance(0);
  EXPECT_EQ(lab.at(0).credits_used(1), 2u);
  EXPECT_EQ(lab.down(0, 1), 2u);
  lab.drain(1);
  EXPECT_EQ(lab.at(0).credits_used(1), 2u) << "in use until the answers are taken";
  lab.advance(0);
  EXPECT_EQ(lab.down(0, 1), 0u);
  lab.serve(0);
  EXPECT_EQ(lab.at(0).credits_used(1), 0u);
  lab.settle();
  EXPECT_EQ(lab.bindings.count(), 0u);
}

// --- recalls and answers ------------------------------------------------------------------------

TEST(ReplicationRecall, AnIdleCopyIsGivenUpAndTheBindingEnds) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.pass(seconds(300));
  lab.advance(0);
  EXPECT_NE(lab.record(Lab::key(1)), nullptr) << "others have it";
  lab.news(0);
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
  EXPECT_EQ(lab.at(0).counters().recalls.get(), 2u);
  EXPECT_EQ(lab.at(0).counters().expired.get(), 1u);
  EXPECT_EQ(lab.bindings.count(), 0u);
  const auto news = lab.news(0);
  ASSERT_EQ(news.size(), 1u);
  EXPECT_EQ(news[0].kind, binding::Change::Kind::kRemove);
}

TEST(ReplicationRecall, NothingEndsAfterTheFirstYes) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.pass(seconds(300));
  lab.advance(0);
  lab.drain(1);
  lab.serve(0);
  EXPECT_EQ(lab.find(1, Lab::key(1)), nullptr);
  ASSERT_NE(lab.record(Lab::key(1)), nullptr) << "core 2 has not answered";
  EXPECT_EQ(lab.home(Lab::key(1)).copies, 0b100u);
}

TEST(ReplicationRecall, ACopyWithAnOpenConnectionIsKeptAndKeepsTheBinding) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.open(1, Lab::key(1));
  for (int i = 0; i < 10; ++i) {
    lab.pass(seconds(300));
    lab.settle();
  }
  ASSERT_NE(lab.record(Lab::key(1)), nullptr);
  EXPECT_NE(lab.find(1, Lab::key(1)), nullptr);
  EXPECT_EQ(lab.find(2, Lab::key(1)), nullptr) << "it had no use for its copy";
  lab.close(1, Lab::key(1));
  // The last answer was given at this very moment.
  lab.pass(seconds(299));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
  lab.pass(seconds(1));
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

TEST(ReplicationRecall, HomesOwnConnectionsKeepTheBinding) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.open(0, Lab::key(1));
  lab.pass(seconds(3'000));
  lab.settle();
  EXPECT_EQ(lab.at(0).counters().recalls.get(), 0u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST(ReplicationRecall, AnEmbryonicBindingGoesAfterTenSecondsWithItsHalfOpenConnections) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  lab.open(1, Lab::key(1));
  lab.pass(seconds(9));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
  lab.pass(seconds(1));
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
  EXPECT_TRUE(lab.at(1).lost_counts()) << "its flow need not look any more";
}

TEST(ReplicationRecall, ACopyThatIsConfirmedIsHeldThoughHomeBelievesItEmbryonic) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  lab.open(1, Lab::key(1));
  lab.pass(seconds(10));
  lab.advance(0);
  ASSERT_EQ(lab.down(0, 1), 1u) << "recalled as embryonic";
  lab.at(1).confirm(*lab.find(1, Lab::key(1)));
  // The answer says so as well, should TOUCH come after it.
  lab.drain(1);
  ASSERT_EQ(lab.rings.answers.from(1).to(0).size(), 1u);
  lab.serve(0);
  ASSERT_NE(lab.record(Lab::key(1)), nullptr);
  EXPECT_TRUE(lab.record(Lab::key(1))->confirmed);
  lab.settle();
  EXPECT_NE(lab.find(1, Lab::key(1)), nullptr);
}

TEST(ReplicationRecall, TheAnswerCarriesTheLastCloseAndMovesTheDeadline) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.open(1, Lab::key(1));
  lab.pass(seconds(100));
  lab.close(1, Lab::key(1));
  const Instant closed = lab.now;
  lab.pass(seconds(200));
  lab.settle();
  ASSERT_NE(lab.record(Lab::key(1)), nullptr) << "100 s of its time are left";
  EXPECT_EQ(lab.record(Lab::key(1))->last, closed);
  EXPECT_EQ(lab.find(1, Lab::key(1)), nullptr);
  lab.pass(seconds(99));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
  lab.pass(seconds(1));
  lab.settle();
  EXPECT_EQ(lab.record(Lab::key(1)), nullptr);
}

TEST(ReplicationRecall, AnAnswerWithoutNewsDoesNotMoveTheDeadline) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  lab.pass(seconds(299));
  lab.settle();
  const Instant last = lab.record(Lab::key(1))->last;
  lab.pass(seconds(1));
  lab.advance(0);
  lab.drain(1);
  lab.serve(0);
  EXPECT_EQ(lab.record(Lab::key(1))->last, last);
}

TEST(ReplicationRecall, AYesDoesNotClearACopyThatWasGrantedAgain) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1), 0);
  lab.pass(seconds(300));
  lab.advance(0);
  // Before anybody answers, home's own packet moves the binding.
  ASSERT_EQ(lab.at(0).move(*lab.record(Lab::key(1)), lab.id(1)), Outcome::kDone);
  EXPECT_EQ(lab.home(Lab::key(1)).regranted, 0b110u);
  lab.drain(1);
  ASSERT_NE(lab.find(1, Lab::key(1)), nullptr) << "given up, then told anew";
  lab.serve(0);
  EXPECT_EQ(lab.home(Lab::key(1)).copies, 0b110u);
  EXPECT_EQ(lab.home(Lab::key(1)).asked, 0b100u);
  EXPECT_EQ(lab.home(Lab::key(1)).regranted, 0b100u);
  lab.settle();
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST(ReplicationRecall, AnAnswerToAnotherSerialIsIgnoredButItsCreditComesBack) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1), 0);
  lab.pass(seconds(300));
  lab.advance(0);
  lab.drain(1);
  lab.drain(2);
  // The answers are under way when the key begins another life.
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kDone);
  const auto made = lab.create(0, Lab::key(1), 2);
  ASSERT_EQ(made.outcome, Outcome::kDone);
  lab.serve(0);
  EXPECT_EQ(lab.at(0).credits_used(1), 0u);
  ASSERT_NE(lab.record(Lab::key(1)), nullptr);
  EXPECT_EQ(lab.home(Lab::key(1)).copies, 0b110u);
  lab.settle();
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST(ReplicationRecall, ANewLineageOwesNoAnswer) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1), 0);
  lab.open(1, Lab::key(1));
  lab.pass(seconds(300));
  lab.advance(0);
  ASSERT_EQ(lab.home(Lab::key(1)).asked, 0b110u);
  const binding::Merge earlier{.scope = lab.scope().slot,
                               .version = lab.version(),
                               .key = Lab::key(1),
                               .record = {.stamp = binding::Stamp{1},
                                          .server = lab.id(2),
                                          .first = lab.id(2),
                                          .act = binding::Stamp{1}}};
  ASSERT_TRUE(lab.rings.merges[0].push(earlier));
  lab.serve(0);
  EXPECT_EQ(lab.home(Lab::key(1)).asked, 0u);
  EXPECT_EQ(lab.home(Lab::key(1)).copies, 0b110u);
  EXPECT_EQ(lab.at(0).credits_used(1), 1u) << "the answer is still due";
  lab.settle();
  EXPECT_EQ(lab.at(0).credits_used(1), 0u);
  EXPECT_TRUE(lab.everywhere(Lab::key(1)));
}

TEST(ReplicationRecall, AClosedConnectionIsHeardOfWithoutAMessagePerClose) {
  Lab lab;
  lab.bind_confirmed(1, Lab::key(1));
  const uint64_t before = lab.at(1).counters().touches + lab.at(1).counters().claims;
  for (int i = 0; i < 100; ++i) {
    lab.open(1, Lab::key(1));
    lab.pass(seconds(1));
    lab.close(1, Lab::key(1));
    lab.settle();
  }
  EXPECT_EQ(lab.at(1).counters().touches + lab.at(1).counters().claims, before);
  lab.pass(seconds(299));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
}

// --- touches ------------------------------------------------------------------------------------

TEST(ReplicationTouch, ConfirmsTheBindingAtHome) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  lab.news(0);
  lab.at(1).confirm(*lab.find(1, Lab::key(1)));
  EXPECT_EQ(lab.at(1).counters().touches.get(), 1u);
  lab.settle();
  EXPECT_TRUE(lab.record(Lab::key(1))->confirmed);
  const auto news = lab.news(0);
  ASSERT_EQ(news.size(), 1u);
  EXPECT_TRUE(news[0].confirmed);
  lab.pass(seconds(299));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
}

TEST(ReplicationTouch, IsSentOnce) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  for (int i = 0; i < 3; ++i) lab.at(1).confirm(*lab.find(1, Lab::key(1)));
  lab.settle();
  EXPECT_EQ(lab.at(1).counters().touches.get(), 1u);
}

TEST(ReplicationTouch, WithoutRoomIsSentLater) {
  Lab lab({.rings = {.claims = 1, .answers = 8, .down = 8, .news = 64, .merges = 8}});
  lab.bind(1, Lab::key(1));
  ASSERT_TRUE(lab.claim(1, Lab::key(2)));
  lab.at(1).confirm(*lab.find(1, Lab::key(1)));
  EXPECT_TRUE(lab.find(1, Lab::key(1))->touch_owed);
  lab.serve(0);
  EXPECT_FALSE(lab.record(Lab::key(1))->confirmed);
  lab.advance(1);
  EXPECT_FALSE(lab.find(1, Lab::key(1))->touch_owed);
  lab.serve(0);
  EXPECT_TRUE(lab.record(Lab::key(1))->confirmed);
}

TEST(ReplicationTouch, OfAnotherSerialIsIgnored) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  lab.at(1).confirm(*lab.find(1, Lab::key(1)));
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kDone);
  ASSERT_EQ(lab.create(0, Lab::key(1), 0).outcome, Outcome::kDone);
  lab.serve(0);
  EXPECT_FALSE(lab.record(Lab::key(1))->confirmed);
}

// --- R4: snapshots ------------------------------------------------------------------------------

TEST(ReplicationSnapshot, ACoreThatIsBehindTakesTheSendersBeforeItActs) {
  Lab lab;
  lab.server(0).state = ServerState::kDown;
  lab.publish();
  lab.begin(1);
  // Home has the old one, in which server 0 is up; the asker's is newer.
  ASSERT_TRUE(lab.claim(1, Lab::key(1), 0));
  lab.serve(0);
  lab.drain(1);
  EXPECT_NE(lab.answer(1).server, lab.id(0));
  EXPECT_EQ(lab.answer(1).version, lab.version());
}

TEST(ReplicationSnapshot, MessagesFromBeforeAScopesSlotWasGivenAnewAreIgnored) {
  Lab lab;
  ASSERT_TRUE(lab.claim(1, Lab::key(1), 0));
  lab.serve(0);  // the answer and a push are under way with the old version
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kDone);
  ASSERT_TRUE(lab.claim(2, Lab::key(2), 0));
  ASSERT_TRUE(lab.rings.merges[0].push({.scope = lab.scope().slot,
                                        .version = lab.version(),
                                        .key = Lab::key(3),
                                        .record = {.stamp = binding::Stamp{1},
                                                   .server = lab.id(2),
                                                   .first = lab.id(2),
                                                   .act = binding::Stamp{1}}}));
  lab.scope().since = lab.version() + 1;
  lab.publish_to_all();
  lab.drain(1);
  EXPECT_EQ(lab.find(1, Lab::key(1)), nullptr);
  EXPECT_EQ(lab.answer(1).kind, Down::Kind::kUpdate) << "it is the answer all the same";
  lab.serve(0);
  lab.drain(2);
  EXPECT_EQ(lab.answer(2).reason, Reason::kLate);
  EXPECT_EQ(lab.record(Lab::key(2)), nullptr);
  EXPECT_EQ(lab.record(Lab::key(3)), nullptr);
  EXPECT_EQ(lab.at(0).counters().merges_gone.get(), 1u);
  lab.bind(2, Lab::key(2), 0);
  EXPECT_NE(lab.record(Lab::key(2)), nullptr) << "asked anew";
}

// --- homes --------------------------------------------------------------------------------------

TEST(ReplicationHome, KeysAreSharedOutOverAsManyHomesAsTheTableAllows) {
  Lab lab({.cores = 4, .limit = 4096});
  std::set<uint32_t> homes;
  std::set<uint32_t> serials;
  for (uint32_t n = 0; n < 60; ++n) {
    const Key key = Lab::key(n);
    const uint32_t home = lab.home_of(key);
    homes.insert(home);
    lab.bind((home + 1) % 4, key, n % 3);
    ASSERT_TRUE(lab.everywhere(key));
    EXPECT_TRUE(serials.insert(lab.record(key)->serial).second) << "unique over all homes";
  }
  EXPECT_EQ(homes.size(), 4u);
}

TEST(ReplicationHome, OfASmallTableIsOneCore) {
  Lab lab({.cores = 4, .limit = 2047});
  for (uint32_t n = 0; n < 60; ++n) EXPECT_EQ(lab.home_of(Lab::key(n)), 0u);
}

TEST(ReplicationHome, WhatNobodyElseHasHeardOfCanBeTakenBack) {
  Lab lab({.push = false});
  const auto made = lab.create(0, Lab::key(1), 0);
  ASSERT_EQ(made.outcome, Outcome::kDone);
  lab.at(0).undo_create(*made.entry);
  EXPECT_EQ(lab.record(Lab::key(1)), nullptr);
  EXPECT_EQ(lab.bindings.count(), 0u);
  EXPECT_EQ(lab.at(0).counters().undone.get(), 1u);
}

TEST(ReplicationHome, WhatOthersHaveHeardOfStaysEmbryonicInstead) {
  Lab lab;
  const auto made = lab.create(0, Lab::key(1), 0);
  lab.at(0).undo_create(*made.entry);
  ASSERT_NE(lab.record(Lab::key(1)), nullptr);
  lab.pass(seconds(10));
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

}  // namespace
}  // namespace limpet::replication
