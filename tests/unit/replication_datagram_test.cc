// Bindings that a datagram has used: embryonic until they are confirmed, but they live their
// timeout.
#include <gtest/gtest.h>

#include "tests/unit/replication_lab.h"

namespace limpet::replication {
namespace {

using balance::Reason;
using snapshot::ServerState;
using timing::milliseconds;
using timing::seconds;
using Lab = ReplicationLab;

TEST(ReplicationDatagram, AnEmbryonicBindingLivesItsTimeout) {
  for (const uint32_t core : {0u, 1u}) {  // home itself, and one that asks it
    Lab lab;
    if (core == 0) {
      ASSERT_EQ(lab.create(0, Lab::key(1), 0, true).outcome, Outcome::kDone);
    } else {
      lab.bind_datagram(1, Lab::key(1));
    }
    lab.pass(seconds(299));
    lab.settle();
    ASSERT_NE(lab.record(Lab::key(1)), nullptr);
    EXPECT_FALSE(lab.record(Lab::key(1))->confirmed);
    lab.pass(seconds(1));
    lab.settle();
    EXPECT_TRUE(lab.nowhere(Lab::key(1)));
  }
}

TEST(ReplicationDatagram, ItsFlowKeepsAnEmbryonicBinding) {
  Lab lab;
  lab.bind_datagram(1, Lab::key(1));
  lab.open(1, Lab::key(1), true);
  lab.pass(seconds(400));
  lab.settle();
  ASSERT_NE(lab.record(Lab::key(1)), nullptr);
  lab.close(1, Lab::key(1));
  const Instant closed = lab.now;
  lab.pass(seconds(299));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
  lab.pass(seconds(1));
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1))) << "closed at " << closed.ns;
}

TEST(ReplicationDatagram, HomesOwnFlowKeepsAnEmbryonicBinding) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  lab.open(0, Lab::key(1), true);
  lab.pass(seconds(1'000));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
}

TEST(ReplicationDatagram, ThatUsesACopyOfAHalfOpenBindingGivesItItsTimeout) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  lab.open(2, Lab::key(1), true);  // told to nobody
  lab.pass(seconds(5));
  lab.close(2, Lab::key(1));
  lab.pass(seconds(5));
  lab.settle();
  ASSERT_NE(lab.record(Lab::key(1)), nullptr) << "the copy that was recalled has said so";
  lab.pass(seconds(294));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
  lab.pass(seconds(1));
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

TEST(ReplicationDatagram, ThatUsesACopyOfAHalfOpenBindingHoldsItThere) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  lab.open(2, Lab::key(1), true);
  lab.pass(seconds(10));
  lab.settle();
  EXPECT_NE(lab.find(2, Lab::key(1)), nullptr);
  EXPECT_EQ(lab.find(1, Lab::key(1)), nullptr);
}

TEST(ReplicationDatagram, WhoseClaimFindsAHalfOpenBindingGivesItItsTimeout) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  ASSERT_TRUE(lab.claim(2, Lab::key(1), {.server = lab.id(0), .datagram = true}));
  lab.settle();
  lab.pass(seconds(299));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
}

TEST(ReplicationDatagram, ThatMovesAHalfOpenBindingGivesItItsTimeout) {
  Lab lab;
  lab.bind(1, Lab::key(1));
  ASSERT_EQ(lab.at(0).move(*lab.record(Lab::key(1)), lab.id(1), true), Outcome::kDone);
  lab.pass(seconds(299));
  lab.settle();
  EXPECT_NE(lab.record(Lab::key(1)), nullptr);
}

TEST(ReplicationDatagram, OfTheLifeBeforeSaysNothingAboutTheNext) {
  Lab lab;
  lab.bind_datagram(1, Lab::key(1));
  ASSERT_EQ(lab.at(0).remove(*lab.record(Lab::key(1))), Outcome::kDone);
  lab.bind(1, Lab::key(1));
  lab.pass(seconds(10));
  lab.settle();
  EXPECT_TRUE(lab.nowhere(Lab::key(1)));
}

}  // namespace
}  // namespace limpet::replication
