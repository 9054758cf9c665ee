// The election of owners: who takes a group, when, and who gives it up.
#include <gtest/gtest.h>

#include "tests/unit/failover_lab.h"

namespace limpet::failover {
namespace {

constexpr GroupId kGroup{7};

Cluster two(bool preempt = false) {
  return Cluster(2, {lab_group(7, {"a", "b"}, preempt)}, 1);
}

// Both run, have met, and the first owns the group.
Cluster settled(bool preempt = false) {
  Cluster c = two(preempt);
  c.start(0);
  c.start(1);
  c.run(seconds(3));
  EXPECT_EQ(c.owners(kGroup), std::vector<std::size_t>{0});
  return c;
}

using Engines = std::vector<std::size_t>;

TEST(Election, TheFirstOfTheListTakesTheGroupWhenAllStartTogether) {
  Cluster c = two();
  c.start(0);
  c.start(1);
  c.run(seconds(1));
  EXPECT_EQ(c.owners(kGroup), Engines{0});
  EXPECT_EQ(c.serving(kGroup), Engines{0});
  EXPECT_EQ(c.owner_seen_by(1, kGroup), "a");
  EXPECT_EQ(c.state(1, kGroup), State::kReady);
}

TEST(Election, AnEngineThatIsAloneTakesTheGroupAfterTheStartWait) {
  Cluster c = two();
  c.start(1);
  c.run(kStartWait - milliseconds(50));
  EXPECT_EQ(c.owners(kGroup), Engines{});
  c.run(milliseconds(200));
  EXPECT_EQ(c.owners(kGroup), Engines{1});
}

TEST(Election, AnEngineThatIsNotInTheListNeverTakesIt) {
  Cluster c(3, {lab_group(7, {"a", "b"})}, 1);
  c.start(2);
  c.run(seconds(30));
  EXPECT_EQ(c.owners(kGroup), Engines{});
  EXPECT_EQ(c.state(2, kGroup), State::kStandby);
}

TEST(Election, AStandbyTakesOverWithinASecondOfACrash) {
  Cluster c = settled();
  c.crash(0);
  c.run(milliseconds(500));
  EXPECT_EQ(c.serving(kGroup), Engines{1});
  ASSERT_FALSE(c.at(1).events.empty());
  EXPECT_TRUE(c.at(1).events.back().taken);
}

TEST(Election, AStandbyTakesOverWithinASecondOfBothPathsGoingSilent) {
  Cluster c = settled();
  c.pause(0, seconds(3));
  c.run(milliseconds(700));
  EXPECT_EQ(c.serving(kGroup), (Engines{0, 1})) << "the one that stands still cannot know";
  c.run(seconds(3));
  EXPECT_EQ(c.serving(kGroup), Engines{1});
}

TEST(Election, OnePathIsEnough) {
  for (const bool session : {true, false}) {
    Cluster c = settled();
    c.link(0, 1).session = session;
    c.link(0, 1).data = !session;
    c.run(seconds(20));
    EXPECT_EQ(c.owners(kGroup), Engines{0});
    EXPECT_EQ(c.at(0).events.size(), 1u);
    EXPECT_EQ(c.at(1).events.size(), 0u);
  }
}

TEST(Election, AClosedSessionAloneIsNoCrash) {
  Cluster c = settled();
  c.link(0, 1).session = false;
  c.link(0, 1).heard_at = c.now - seconds(1);
  c.run(seconds(3));
  EXPECT_EQ(c.owners(kGroup), Engines{0});
}

TEST(Election, AReturningEngineDoesNotTakeBackWithoutPreempt) {
  Cluster c = settled();
  c.crash(0);
  c.run(seconds(2));
  c.start(0);
  c.run(seconds(20));
  EXPECT_EQ(c.owners(kGroup), Engines{1});
  EXPECT_EQ(c.state(0, kGroup), State::kReady);
}

TEST(Election, AReturningEngineTakesBackWithPreemptOnceItIsSyncedAndTheGapIsShort) {
  Cluster c = settled(true);
  c.crash(0);
  c.run(seconds(2));
  ASSERT_EQ(c.owners(kGroup), Engines{1});
  c.start(0);
  c.link(0, 1).retry_at = c.now + seconds(1);  // not synced before
  Duration gap{};
  for (int i = 0; i < 3000 && c.serving(kGroup) != Engines{0}; ++i) {
    c.turn();
    ASSERT_LE(c.serving(kGroup).size(), 1u) << "it is released before it is taken";
    if (c.serving(kGroup).empty()) gap += kLabStep;
  }
  EXPECT_EQ(c.serving(kGroup), Engines{0});
  EXPECT_LE(gap, milliseconds(40));
  c.run(seconds(20));
  EXPECT_EQ(c.owners(kGroup), Engines{0});
}

TEST(Election, NothingIsTakenBeforeTheFenceHasPassed) {
  Cluster c = settled();
  c.fence_time = milliseconds(400);
  c.crash(0);
  c.run(milliseconds(600));
  EXPECT_EQ(c.state(1, kGroup), State::kTaking);
  EXPECT_EQ(c.serving(kGroup), Engines{});
  c.run(milliseconds(300));
  EXPECT_EQ(c.serving(kGroup), Engines{1});
}

TEST(Election, AFenceThatDoesNotPassIsGivenUpAndTriedAgain) {
  Cluster c = settled();
  c.fence_time = seconds(60);
  c.crash(0);
  c.run(seconds(2));
  EXPECT_EQ(c.state(1, kGroup), State::kTaking);
  c.run(milliseconds(700));
  EXPECT_NE(c.state(1, kGroup), State::kTaking);
  c.fence_time = milliseconds(5);
  c.run(milliseconds(1100));
  EXPECT_EQ(c.serving(kGroup), Engines{1});
}

TEST(Election, AnEngineThatIsNotSyncedLeavesTheGroupToAReadyOne) {
  Cluster c(3, {lab_group(7, {"a", "b", "c"})}, 1);
  for (std::size_t e = 0; e < 3; ++e) c.start(e);
  c.run(seconds(3));
  c.crash(1);
  c.run(seconds(1));
  c.start(1);
  c.run(seconds(1));
  c.link(1, 2).snapshot_after[0] = seconds(60);  // b is still being told
  c.crash(0);
  c.run(seconds(1));
  EXPECT_EQ(c.owners(kGroup), Engines{2});
}

TEST(Election, AnEngineThatCannotSyncTakesItInTheEnd) {
  Cluster c(3, {lab_group(7, {"a"})}, 1);
  c.start(0);
  c.start(1);
  c.turn();
  c.link(0, 1).snapshot_after[0] = seconds(60);
  c.run(kStartWait + kOwnerlessMax - seconds(3));
  EXPECT_EQ(c.owners(kGroup), Engines{});
  c.run(seconds(4));
  EXPECT_EQ(c.owners(kGroup), Engines{0});
}

TEST(Election, ASplitHasTwoOwnersAndHealsToOneThatAnnouncesItself) {
  Cluster c = settled();
  c.link(0, 1).session = c.link(0, 1).data = false;
  c.run(seconds(3));
  EXPECT_EQ(c.owners(kGroup), (Engines{0, 1}));
  c.link(0, 1).session = c.link(0, 1).data = true;
  c.run(seconds(2));
  EXPECT_EQ(c.owners(kGroup), Engines{1}) << "its term is higher";
  EXPECT_EQ(c.serving(kGroup), Engines{1});
  EXPECT_EQ(c.at(1).announced, 1u);
  EXPECT_EQ(c.at(0).announced, 0u);
}

TEST(Election, OfEqualTermsTheFirstInTheListStays) {
  Cluster c = two();
  c.link(0, 1).session = c.link(0, 1).data = false;
  c.start(0);
  c.start(1);
  c.run(seconds(4));
  EXPECT_EQ(c.owners(kGroup), (Engines{0, 1}));
  c.link(0, 1).session = c.link(0, 1).data = true;
  c.run(seconds(2));
  EXPECT_EQ(c.owners(kGroup), Engines{0});
}

TEST(Election, WhoHearsNobodyButIsHeardOfDoesNotTake) {
  // a and c do not hear each other; b hears both.
  Cluster c(3, {lab_group(7, {"a", "b", "c"})}, 1);
  for (std::size_t e = 0; e < 3; ++e) c.start(e);
  c.run(seconds(3));
  c.link(0, 2).session = c.link(0, 2).data = false;
  c.run(seconds(20));
  EXPECT_EQ(c.owners(kGroup), Engines{0});
}

TEST(Election, AnUnfitEngineReleasesWhatItHas) {
  Cluster c = settled();
  c.at(0).election->set_fit(false);
  c.run(seconds(1));
  EXPECT_EQ(c.owners(kGroup), Engines{1});
  EXPECT_EQ(c.state(0, kGroup), State::kStandby);
}

TEST(Election, WorkersThatDoNotConfirmARelaseDoNotKeepOthersFromTakingIt) {
  Cluster c = settled();
  c.at(0).election->set_fit(false);
  c.publish_time = seconds(60);
  c.run(milliseconds(100));
  EXPECT_EQ(c.state(0, kGroup), State::kReleasing);
  EXPECT_EQ(c.state(1, kGroup), State::kReady);
  c.run(milliseconds(900));
  EXPECT_EQ(c.state(0, kGroup), State::kStandby);
  EXPECT_EQ(c.state(1, kGroup), State::kTaking);
}

TEST(Election, AGroupThatLeavesTheDocumentIsForgotten) {
  Cluster c = settled();
  c.at(0).election->configure({}, c.now);
  EXPECT_TRUE(c.at(0).election->wanted().empty());
  EXPECT_TRUE(c.at(0).election->view().empty());
}

TEST(Election, AnEngineThatLeavesTheListReleases) {
  Cluster c = settled();
  for (std::size_t e = 0; e < 2; ++e) c.at(e).election->configure({lab_group(7, {"b"})}, c.now);
  c.run(seconds(1));
  EXPECT_EQ(c.owners(kGroup), Engines{1});
}

TEST(Election, AnOwnerThatRestartsAtOnceTakesItAgainOnlyWhenSynced) {
  Cluster c = settled();
  c.crash(0);
  c.start(0);
  c.turn();
  EXPECT_EQ(c.serving(kGroup), Engines{});
  c.run(seconds(1));
  EXPECT_EQ(c.owners(kGroup), Engines{0});
  c.crash(0);
  c.start(0);
  c.link(0, 1).retry_at = c.now + seconds(5);
  c.run(seconds(1));
  EXPECT_EQ(c.owners(kGroup), Engines{1});
}

TEST(Election, TwoGroupsAreOwnedByTwoEngines) {
  Cluster c(2, {lab_group(7, {"a", "b"}), lab_group(8, {"b", "a"})}, 1);
  c.start(0);
  c.start(1);
  c.run(seconds(2));
  EXPECT_EQ(c.owners(GroupId{7}), Engines{0});
  EXPECT_EQ(c.owners(GroupId{8}), Engines{1});
  c.crash(1);
  c.run(seconds(1));
  EXPECT_EQ(c.owners(GroupId{7}), Engines{0});
  EXPECT_EQ(c.owners(GroupId{8}), Engines{0});
}

// --- what is believed
// -----------------------------------------------------------------------------

class Believed : public ::testing::Test {
 protected:
  Beat beat_of_b(uint64_t boot, Duration moment) {
    return {.boot = lab_boot(boot),
            .moment = Instant{} + moment,
            .echo_boot = {},
            .echo = {},
            .name = "b",
            .claims = {{kGroup, Term{3}, State::kOwner, false}}};
  }
  Beat answered(Beat beat, Duration age) {
    beat.echo_boot = lab_boot(1);
    beat.echo = now - age;
    return beat;
  }

  Instant now{10'000'000'000};
  Election election{{.name = "a", .boot = lab_boot(1), .peers = {"b"}}, now};
};

TEST_F(Believed, ABootThatWasNeverHeardOfNeedsAnEchoByData) {
  EXPECT_EQ(election.hear(beat_of_b(5, seconds(1)), Path::kData, now), Heard::kUnverified);
  const Beat answer = election.beat(0, now);
  EXPECT_EQ(answer.echo_boot, lab_boot(5)) << "so that it can believe us";
  EXPECT_EQ(answer.echo, Instant{} + seconds(1));
  EXPECT_EQ(
      election.hear(answered(beat_of_b(5, seconds(2)), kEchoAgeMax + seconds(1)), Path::kData, now),
      Heard::kUnverified);
  EXPECT_EQ(election.hear(answered(beat_of_b(5, seconds(2)), milliseconds(100)), Path::kData, now),
            Heard::kAccepted);
}

TEST_F(Believed, ASessionNeedsNone) {
  EXPECT_EQ(election.hear(beat_of_b(5, seconds(1)), Path::kSession, now), Heard::kAccepted);
}

TEST_F(Believed, AnEchoOfTheFutureOrOfAnotherBootIsNone) {
  EXPECT_EQ(election.hear(answered(beat_of_b(5, seconds(2)), -seconds(1)), Path::kData, now),
            Heard::kUnverified);
  Beat other = answered(beat_of_b(5, seconds(2)), milliseconds(1));
  other.echo_boot = lab_boot(2);
  EXPECT_EQ(election.hear(other, Path::kData, now), Heard::kUnverified);
}

TEST_F(Believed, ABeatIsBelievedOnce) {
  const Beat beat = answered(beat_of_b(5, seconds(2)), milliseconds(1));
  EXPECT_EQ(election.hear(beat, Path::kData, now), Heard::kAccepted);
  EXPECT_EQ(election.hear(beat, Path::kData, now), Heard::kReplayed);
  EXPECT_EQ(election.hear(beat_of_b(5, seconds(1)), Path::kData, now), Heard::kReplayed);
  EXPECT_EQ(election.hear(beat_of_b(5, seconds(3)), Path::kData, now), Heard::kAccepted);
}

TEST_F(Believed, ABootThatWasGivenUpNeverComesBack) {
  EXPECT_EQ(election.hear(beat_of_b(5, seconds(1)), Path::kSession, now), Heard::kAccepted);
  EXPECT_EQ(election.hear(beat_of_b(6, seconds(1)), Path::kSession, now), Heard::kAccepted);
  EXPECT_EQ(election.hear(answered(beat_of_b(5, seconds(9)), milliseconds(1)), Path::kData, now),
            Heard::kReplayed);
  // Nor does a session that has not heard of it.
  election.observe(0, {.open = true, .heard_at = now, .boot = lab_boot(5), .has_snapshot = true},
                   now);
  EXPECT_EQ(election.hear(beat_of_b(6, seconds(2)), Path::kData, now), Heard::kAccepted);
}

TEST_F(Believed, OurOwnVoiceAndStrangersAreNot) {
  Beat beat = beat_of_b(5, seconds(1));
  beat.name = "a";
  EXPECT_EQ(election.hear(beat, Path::kSession, now), Heard::kOwnName);
  beat.name = "z";
  EXPECT_EQ(election.hear(beat, Path::kSession, now), Heard::kUnknownPeer);
}

TEST_F(Believed, AnOlderClaimByTheOtherPathDoesNotReplaceANewerOne) {
  election.configure({lab_group(7, {"a", "b"})}, now);
  EXPECT_EQ(election.hear(beat_of_b(5, seconds(3)), Path::kSession, now), Heard::kAccepted);
  Beat old = beat_of_b(5, seconds(2));
  old.claims[0].state = State::kReady;
  EXPECT_EQ(election.hear(old, Path::kData, now), Heard::kAccepted);
  election.step(now);
  EXPECT_EQ(election.view().at(0).owner, "b");
}

TEST_F(Believed, MomentsOfBeatsRiseWhateverTheClock) {
  const Beat one = election.beat(0, now);
  const Beat two = election.beat(0, now);
  EXPECT_GT(two.moment, one.moment);
}

}  // namespace
}  // namespace limpet::failover
