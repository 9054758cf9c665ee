// What homes announce for the sake of other engines: activity, rounds, deadlines, husks.
#include "tests/unit/replication_peers_fixture.h"

namespace limpet::replication {
namespace {

// --- announcing activity
// --------------------------------------------------------------------------

TEST_F(ReplicationPeers, AnEmbryonicBindingIsToldToNobody) {
  lab.bind(1, key());
  const Change news = the_news();
  EXPECT_FALSE(news.confirmed);
  EXPECT_EQ(news.told, Told::kNobody);
}

TEST_F(ReplicationPeers, AConfirmedBindingIsToldToAllAsHeldNow) {
  lab.bind(1, key());
  lab.news(0);
  lab.pass(milliseconds(5));
  lab.at(1).confirm(*lab.find(1, key()));
  lab.settle();
  const Change news = the_news();
  EXPECT_TRUE(news.confirmed);
  EXPECT_EQ(news.told, Told::kAll);
  EXPECT_TRUE(news.record.held);
  EXPECT_EQ(news.act_at, lab.now);
  EXPECT_EQ(news.source.peer, binding::kNoPeer);
}

TEST_F(ReplicationPeers, ActivityOfAnAnnouncedBindingIsNotToldAgainBeforeItsTime) {
  hold();
  for (int i = 0; i < 5; ++i) {
    pass(seconds(20));
    lab.open(1, key());
    lab.claim(2, key());
    lab.settle();
  }
  EXPECT_TRUE(lab.news(0).empty());
}

TEST_F(ReplicationPeers, ARoundAnnouncesWhatIsStillHeld) {
  hold();
  pass(kR);
  const Change news = the_news();
  EXPECT_TRUE(news.record.held);
  EXPECT_EQ(news.act_at, lab.now);
  EXPECT_EQ(news.told, Told::kAll);
  EXPECT_EQ(lab.at(0).counters().rounds.get(), 1u);
}

TEST_F(ReplicationPeers, ARoundAnnouncesTheReleaseAsOfTheLastClose) {
  hold();
  pass(seconds(40));
  lab.close(1, key());
  const Instant closed = lab.now;
  pass(kR - seconds(40));
  const Change news = the_news();
  EXPECT_FALSE(news.record.held);
  EXPECT_EQ(news.act_at, closed);
  EXPECT_GT(news.record.act, news.record.stamp);
  pass(kR);
  EXPECT_TRUE(lab.news(0).empty()) << "nothing new";
}

TEST_F(ReplicationPeers, AReleasedBindingIsAnnouncedAtOnceWhenAClientComes) {
  hold();
  lab.close(1, key());
  pass(kR);
  lab.news(0);
  pass(seconds(10));
  ASSERT_TRUE(lab.find(1, key())->told_idle);
  ASSERT_TRUE(lab.at(1).may_use(*lab.find(1, key()), lab.scope()));
  lab.open(1, key());
  lab.settle();
  const Change news = the_news();
  EXPECT_TRUE(news.record.held);
  EXPECT_EQ(news.act_at, lab.now);
}

TEST_F(ReplicationPeers, ACopyThatWasSaidToBeIdleWaitsForRoomToTellItsHome) {
  hold();
  lab.close(1, key());
  pass(kR);
  uint32_t filled = 0;
  while (lab.claim(1, key(100 + filled))) ++filled;
  EXPECT_FALSE(lab.at(1).may_use(*lab.find(1, key()), lab.scope()));
  lab.serve(0);
  EXPECT_TRUE(lab.at(1).may_use(*lab.find(1, key()), lab.scope()));
  EXPECT_TRUE(lab.at(1).may_use(*lab.find(1, key()), lab.scope())) << "once is enough";
  EXPECT_EQ(lab.claims(1, 0), 1u);
}

TEST_F(ReplicationPeers, APushedCopyBeginsAsIdleAndAnAnsweredOneDoesNot) {
  lab.bind_confirmed(1, key());
  EXPECT_FALSE(lab.find(1, key())->told_idle);
  EXPECT_TRUE(lab.find(2, key())->told_idle);
}

// --- closes are told soon ------------------------------------------------------------------------

TEST_F(ReplicationPeers, ALastCloseAtHomeIsToldWithinASecond) {
  hold_at_home();
  pass(seconds(40));
  lab.close(0, key());
  const Instant closed = lab.now;
  pass(kCloseDelay - milliseconds(1));
  EXPECT_TRUE(lab.news(0).empty()) << "the client may be back at once";
  pass(milliseconds(1));
  const Change news = the_news();
  EXPECT_FALSE(news.record.held);
  EXPECT_EQ(news.act_at, closed);
  EXPECT_EQ(news.told, Told::kAll);
  pass(kT);
  EXPECT_TRUE(is_husk());
}

TEST_F(ReplicationPeers, ALastCloseOnAnotherCoreIsToldWithinASecond) {
  hold();
  pass(seconds(40));
  lab.close(1, key());
  const Instant closed = lab.now;
  pass(milliseconds(1));
  pass(kCloseDelay);
  const Change news = the_news();
  EXPECT_FALSE(news.record.held);
  EXPECT_EQ(news.act_at, closed);
  EXPECT_TRUE(lab.find(1, key())->told_idle) << "who comes has to be told at once";
}

TEST_F(ReplicationPeers, ACloseOnOneCoreTellsNothingWhileAnotherHoldsIt) {
  hold();
  lab.claim(2, key());
  lab.settle();
  lab.open(2, key());
  lab.close(1, key());
  pass(milliseconds(1));
  pass(kCloseDelay);
  EXPECT_TRUE(lab.news(0).empty());
  pass(kR);
  EXPECT_TRUE(the_news().record.held);
}

TEST_F(ReplicationPeers, WhoComesBackAtOnceIsNotTakenForGone) {
  hold_at_home();
  for (int i = 0; i < 20; ++i) {
    lab.close(0, key());
    pass(kCloseDelay / 2);
    lab.open(0, key());
    pass(kCloseDelay / 2);
  }
  EXPECT_TRUE(lab.news(0).empty());
  EXPECT_EQ(lab.at(0).counters().rounds.get(), 0u);
}

TEST_F(ReplicationPeers, TheDelayIsFromTheLastClose) {
  hold_at_home();
  lab.close(0, key());
  pass(kCloseDelay * 3 / 4);
  lab.open(0, key());
  lab.close(0, key());
  const Instant closed = lab.now;
  pass(kCloseDelay / 2);
  EXPECT_TRUE(lab.news(0).empty());
  pass(kCloseDelay / 2);
  EXPECT_EQ(the_news().act_at, closed);
}

// Three in stock, then one in each R; the rest is told by rounds, as before.
TEST_F(ReplicationPeers, ClosesOfAClientThatComesAndGoesCostOneAnnouncementInEachR) {
  hold();
  const uint64_t before = lab.at(0).counters().announced.get();
  constexpr int kRounds = 10;
  for (Instant end = lab.now + kRounds * kR; lab.now < end;) {
    lab.close(1, key());
    lab.settle();
    pass(seconds(1));
    if (lab.find(1, key())->told_idle) {
      ASSERT_TRUE(lab.at(1).may_use(*lab.find(1, key()), lab.scope()));
    }
    lab.open(1, key());
    pass(seconds(1));
  }
  const uint64_t announced = lab.at(0).counters().announced.get() - before;
  // A round's "held", an early release and the return that contradicts it.
  EXPECT_LE(announced, 3u * kRounds + 2 * 3);
  EXPECT_GE(announced, 3u * kRounds - 3) << "each R has earned one";
  // Of the messages between cores as many: a close and a return, a question and its answer.
  EXPECT_LE(lab.at(1).counters().touches.get(), 4u * kRounds + 4 * 3);
}

TEST_F(ReplicationPeers, ACloseOfWhatAPeerHeldNotLongAgoWaitsForTheRound) {
  hold();
  hold_elsewhere_after(seconds(10));
  lab.news(0);
  lab.close(1, key());
  pass(milliseconds(1));
  pass(kCloseDelay);
  EXPECT_TRUE(lab.news(0).empty());
  EXPECT_EQ(lab.at(0).counters().rounds.get(), 0u);
}

// A round that was begun early and finds the binding held tells nothing; but what a peer has said
// meanwhile must not stand.
TEST_F(ReplicationPeers, APeersReleaseDuringAnEarlyRoundIsContradicted) {
  hold();
  lab.claim(2, key());
  lab.settle();
  lab.open(2, key());
  lab.close(1, key());
  lab.pass(milliseconds(1));
  lab.serve(0);
  lab.pass(kCloseDelay);
  lab.advance(0);  // asks cores 1 and 2
  ASSERT_TRUE(lab.home(key()).in_round);
  Record theirs = ours();
  theirs.act = stamp(lab.now);
  theirs.held = false;
  merge(theirs, lab.now);
  const auto news = lab.news(0);
  ASSERT_FALSE(news.empty());
  EXPECT_TRUE(news.back().record.held);
  EXPECT_GT(news.back().record.act, theirs.act);
}

TEST_F(ReplicationPeers, ACloseThatFindsNoRoomIsToldByTheRound) {
  hold();
  uint32_t filled = 0;
  while (lab.claim(1, key(100 + filled))) ++filled;
  lab.close(1, key());
  const Instant closed = lab.now;
  EXPECT_FALSE(lab.find(1, key())->told_close);
  lab.settle();
  pass(kR);
  const auto news = lab.news(0);
  EXPECT_TRUE(std::any_of(news.begin(), news.end(), [&](const Change& change) {
    return change.key == key() && !change.record.held && change.act_at == closed;
  }));
}

// --- a clean stop --------------------------------------------------------------------------------

TEST_F(ReplicationPeers, AStopTellsTheLastCloses) {
  hold();
  pass(seconds(40));
  lab.close(1, key());
  const Instant closed = lab.now;
  lab.pass(milliseconds(100));
  EXPECT_TRUE(lab.say_last(0));
  const Change news = the_news();
  EXPECT_FALSE(news.record.held);
  EXPECT_EQ(news.act_at, closed);
  EXPECT_EQ(news.told, Told::kAll);
}

TEST_F(ReplicationPeers, WhatIsOpenAtAStopMayGoOnElsewhere) {
  hold();
  pass(seconds(40));
  EXPECT_TRUE(lab.say_last(0));
  EXPECT_TRUE(lab.news(0).empty());
}

TEST_F(ReplicationPeers, ACopyOfAnEarlierLifeSaysNothingAtAStop) {
  hold();
  lab.find(1, key())->serial += 1;
  EXPECT_TRUE(lab.say_last(0));
  EXPECT_FALSE(the_news().record.held);
}

TEST_F(ReplicationPeers, WhatAPeerHeldNotLongBeforeAStopStaysHeld) {
  hold();
  hold_elsewhere_after(seconds(10));
  lab.news(0);
  lab.close(1, key());
  EXPECT_TRUE(lab.say_last(0));
  EXPECT_TRUE(ours().held);
}

TEST_F(ReplicationPeers, AStopWaitsForRoomAndGoesOnWhereItWas) {
  hold(1);
  hold(2);
  lab.close(1, key(1));
  lab.close(1, key(2));
  while (lab.rings.news[0].free_count() > 1)
    ASSERT_TRUE(lab.rings.news[0].push(Change{.kind = Change::Kind::kFence}));
  EXPECT_FALSE(lab.say_last(0));
  EXPECT_FALSE(lab.news(0).back().record.held);
  EXPECT_TRUE(lab.say_last(0));
  EXPECT_FALSE(the_news().record.held);
}

TEST_F(ReplicationPeers, ATouchDuringARoundKeepsItHeld) {
  hold();
  lab.close(1, key());
  lab.pass(kR);
  lab.advance(0);  // asks cores 1 and 2
  lab.drain(1);    // not held
  lab.drain(2);
  ASSERT_TRUE(lab.at(2).may_use(*lab.find(2, key()), lab.scope()));
  lab.open(2, key());
  // The touch came first: home takes answers before claims, so the round's end is before it.
  lab.settle();
  const auto news = lab.news(0);
  ASSERT_FALSE(news.empty());
  EXPECT_TRUE(news.back().record.held);
}

// Who has answered the round before it came would not be asked again for as long as it stays.
TEST_F(ReplicationPeers, WhoMovesABindingDuringARoundHoldsItAfterTheRound) {
  hold();
  lab.close(1, key());
  lab.server(0).state = snapshot::ServerState::kDown;
  lab.publish_to_all();
  lab.pass(kR);
  lab.advance(0);  // asks cores 1 and 2
  lab.drain(1);    // not held
  ASSERT_TRUE(lab.claim(1, key(), 1));
  lab.serve(0);  // core 1's answer, then the move, which is announced
  ASSERT_TRUE(lab.home(key()).in_round) << "core 2 has not answered";
  lab.drain(1);
  lab.open(1, key());
  lab.settle();
  EXPECT_TRUE(lab.news(0).back().record.held);
  pass(kR);
  const Change news = the_news();
  EXPECT_TRUE(news.record.held);
  EXPECT_EQ(news.act_at, lab.now);
}

TEST_F(ReplicationPeers, AMoveIsToldToAll) {
  hold();
  lab.server(0).state = snapshot::ServerState::kDown;
  lab.publish_to_all();
  lab.claim(1, key(), 1);
  lab.settle();
  const Change news = the_news();
  EXPECT_EQ(news.record.epoch, 1u);
  EXPECT_EQ(news.record.server, lab.id(1));
  EXPECT_EQ(news.told, Told::kAll);
}

TEST_F(ReplicationPeers, WhatTheMirrorHadNoRoomForIsToldToAllLater) {
  const Record first = live(0, lab.now, true, lab.now);
  merge(first, lab.now);
  while (lab.rings.news[0].push(Change{.kind = Change::Kind::kFence})) {
  }
  Record moved = first;
  moved.epoch = 1;
  moved.server = lab.id(1);
  merge(moved, lab.now);
  EXPECT_TRUE(lab.home(key()).owed);
  lab.news(0);
  lab.advance(0);
  const Change news = the_news();
  EXPECT_EQ(news.record.epoch, 1u);
  EXPECT_EQ(news.told, Told::kAll);
  EXPECT_EQ(news.source.peer, binding::kNoPeer);
}

TEST_F(ReplicationPeers, WhatIsToldAfterNewsThatFoundNoRoomIsForAllToo) {
  hold();
  while (lab.rings.news[0].push(Change{.kind = Change::Kind::kFence})) {
  }
  Record moved = ours();
  moved.epoch = 1;
  moved.server = lab.id(1);
  merge(moved, lab.now);  // an announcement at once, for all
  ASSERT_TRUE(lab.home(key()).owed);
  lab.news(0);
  moved.epoch = 0;
  merge(moved, lab.now);  // for its sender
  EXPECT_EQ(lab.news(0).front().told, Told::kAll);
}

// --- deadlines and husks ------------------------------------------------------------------------

TEST_F(ReplicationPeers, WhatAPeerHeldLivesTAndRFromItsLastNews) {
  merge(live(0, lab.now, true, lab.now), lab.now);
  pass(kT + kR - milliseconds(1));
  EXPECT_FALSE(gone() || is_husk());
  pass(milliseconds(1));
  EXPECT_TRUE(gone());
}

TEST_F(ReplicationPeers, WhatAPeerReleasedIsOverAfterTAndAHuskUntilR) {
  merge(live(0, lab.now, false, lab.now), lab.now);
  lab.news(0);
  pass(kT - milliseconds(1));
  EXPECT_FALSE(is_husk());
  pass(milliseconds(1));
  EXPECT_TRUE(is_husk());
  EXPECT_EQ(the_news().kind, Change::Kind::kRemove);
  EXPECT_EQ(lab.at(0).find(lab.scope(), key()), nullptr) << "nobody sees it";
  EXPECT_EQ(lab.bindings.count(), 1u);
  pass(kR);
  EXPECT_TRUE(gone());
  EXPECT_EQ(lab.bindings.count(), 0u);
  EXPECT_TRUE(lab.news(0).empty());
}

TEST_F(ReplicationPeers, TheCreatorGivesItselfTheSameTime) {
  hold();
  lab.close(1, key());
  const Instant closed = lab.now;
  pass(kR);
  lab.news(0);
  pass(closed + kT - lab.now - milliseconds(1));
  EXPECT_FALSE(gone() || is_husk());
  pass(milliseconds(1));
  EXPECT_TRUE(is_husk());
}

// The peer's clock is behind ours, and it has not heard of us yet.
TEST_F(ReplicationPeers, WhatAPeerHeldLaterCountsThoughItsStampIsLower) {
  Record theirs = live(0, lab.now, true, lab.now);
  hold();
  const Instant held = lab.now + seconds(1);
  pass(seconds(2));
  theirs.stamp = ours().stamp;
  ASSERT_LT(theirs.act, ours().act);
  merge(theirs, held);
  lab.close(1, key());
  EXPECT_EQ(ours().act, activity().act) << "ours is what is told";
  EXPECT_GE(lab.at(0).deadline(*lab.record(key()), lab.scope()), held + kT + kR);
}

TEST_F(ReplicationPeers, WhatWeAloneHeldIsListedByItsLastClose) {
  hold_at_home();
  const Instant held = lab.now;
  pass(seconds(40));
  lab.close(0, key());
  const Entry& record = *lab.record(key());
  EXPECT_EQ(lab.at(0).known_deadline(record, lab.scope()), lab.now + kT);
  EXPECT_EQ(lab.at(0).deadline(record, lab.scope()), held + kT + kR) << "others do not know yet";
}

TEST_F(ReplicationPeers, WhatAPeerHeldNotLongAgoIsListedWithItsTime) {
  hold();
  hold_elsewhere_after(seconds(10));
  lab.close(1, key());
  const Entry& record = *lab.record(key());
  EXPECT_EQ(lab.at(0).known_deadline(record, lab.scope()), lab.now + kT + kR);
}

TEST_F(ReplicationPeers, WhatWasHeldBeforeACrashIsListedWithItsTime) {
  Record before = live(0, lab.now, true, lab.now);
  binding::StampClock ours(binding::Maker{kOurRank, 0}.number());
  before.act = ours.at(Lab::kWallOrigin + timing::Duration{lab.now.ns}, {});
  merge(before, lab.now, 1, {});
  EXPECT_EQ(lab.at(0).known_deadline(*lab.record(key()), lab.scope()), lab.now + kT + kR);
}

TEST_F(ReplicationPeers, NewsRevivesAHuskAndIsToldToAll) {
  const Record before = live(0, lab.now, false, lab.now);
  merge(before, lab.now);
  pass(kT);
  ASSERT_TRUE(is_husk());
  const uint32_t serial = lab.record(key())->serial;
  lab.news(0);
  Record later = before;
  later.act = stamp(lab.now);
  merge(later, lab.now - seconds(1));
  EXPECT_FALSE(gone() || is_husk());
  EXPECT_NE(lab.record(key())->serial, serial);
  const Change news = the_news();
  EXPECT_EQ(news.told, Told::kAll);
  EXPECT_EQ(news.act_at, lab.now - seconds(1));
  EXPECT_EQ(lab.at(0).husks(), 0u);
}

TEST_F(ReplicationPeers, OldNewsDoesNotReviveAHusk) {
  const Record before = live(0, lab.now, false, lab.now);
  merge(before, lab.now);
  pass(kT);
  lab.news(0);
  merge(before, lab.now - kT);
  EXPECT_TRUE(is_husk());
  EXPECT_TRUE(lab.news(0).empty());
}

// The next document says that the scope is not mirrored, and the sweep has not come there yet.
class ReplicationHuskOfYesterday : public ReplicationPeers {
 protected:
  ReplicationHuskOfYesterday() {
    merge(live(0, lab.now, false, lab.now), lab.now);
    pass(kT);
    EXPECT_TRUE(is_husk());
    lab.news(0);
    lab.scope().mirrored = false;
    lab.publish_to_all();
  }
  ~ReplicationHuskOfYesterday() override {
    EXPECT_TRUE(gone());
    EXPECT_EQ(lab.at(0).husks(), 0u);
    EXPECT_EQ(lab.bindings.count(), 0u);
  }
};

TEST_F(ReplicationHuskOfYesterday, IsDeletedByAnAdministratorAndNobodyIsTold) {
  EXPECT_EQ(lab.at(0).remove(*lab.record(key())), Outcome::kDone);
  EXPECT_TRUE(lab.news(0).empty());
  EXPECT_EQ(lab.at(0).tombstones().size(), 0u);
}

TEST_F(ReplicationHuskOfYesterday, IsKilledByATombstoneThatWasUnderWay) {
  const Record tombstone{.deleted = stamp(lab.now)};
  ASSERT_TRUE(lab.rings.merges[0].push({.source = kPeer,
                                        .scope = lab.scope().slot,
                                        .version = lab.version() - 1,
                                        .key = key(),
                                        .record = tombstone,
                                        .act_at = lab.now}));
  EXPECT_TRUE(lab.serve(0));
}

TEST_F(ReplicationHuskOfYesterday, IsKilledWithItsScope) {
  lab.at(0).kill_scope(lab.scope().slot, stamp(lab.now));
  EXPECT_TRUE(lab.at(0).remove_killed(*lab.record(key())));
}

TEST_F(ReplicationHuskOfYesterday, IsContinuedByAClientAndEndsLikeAnyBinding) {
  ASSERT_EQ(lab.create(0, key(), 1).outcome, Outcome::kDone);
  lab.at(0).confirm(*lab.record(key()));
  lab.news(0);
  EXPECT_EQ(lab.at(0).remove(*lab.record(key())), Outcome::kDone);
  EXPECT_EQ(the_news().kind, Change::Kind::kRemove);
}

TEST_F(ReplicationHuskOfYesterday, GoesWithTheSweep) {
  lab.settle();
  EXPECT_TRUE(lab.news(0).empty());
}

TEST_F(ReplicationPeers, AClientOfAHuskContinuesItsLineageAsMoved) {
  const Record before = live(0, lab.now, false, lab.now);
  merge(before, lab.now);
  pass(kT);
  ASSERT_TRUE(is_husk());
  lab.bind_confirmed(1, key(), 2);
  EXPECT_FALSE(is_husk());
  const Record after = ours();
  EXPECT_EQ(after.stamp, before.stamp);
  EXPECT_EQ(after.epoch, 1u);
  EXPECT_EQ(after.server, lab.id(2));
  EXPECT_EQ(lab.bindings.count(), 1u);
}

class ReplicationPeersFull : public ReplicationPeers {
 protected:
  ReplicationPeersFull() : ReplicationPeers(4, false) {}
};

TEST_F(ReplicationPeersFull, AHuskGivesWayToANewBinding) {
  merge(live(0, lab.now, false, lab.now), lab.now);
  pass(kT);
  for (uint32_t n = 2; n < 5; ++n) hold(n);
  ASSERT_EQ(lab.bindings.count(), 4u);
  hold(5);
  EXPECT_TRUE(gone(1));
  EXPECT_FALSE(gone(5));
  EXPECT_EQ(lab.bindings.count(), 4u);
}

TEST_F(ReplicationPeersFull, AHuskGivesWayToAPeersBinding) {
  merge(live(0, lab.now, false, lab.now), lab.now);
  pass(kT);
  for (uint32_t n = 2; n < 5; ++n) hold(n);
  merge(live(1, lab.now, true, lab.now), lab.now, 6);
  EXPECT_TRUE(gone(1));
  EXPECT_FALSE(gone(6));
}

TEST_F(ReplicationPeersFull, APeersBindingIsRefusedWhenNothingMayGo) {
  for (uint32_t n = 2; n < 6; ++n) hold(n);
  merge(live(1, lab.now, true, lab.now), lab.now, 6);
  EXPECT_TRUE(gone(6));
  EXPECT_EQ(lab.at(0).counters().merges_refused.get(), 1u);
  EXPECT_TRUE(lab.news(0).empty()) << "the sender is not answered";
}

TEST_F(ReplicationPeersFull, APeersBindingTakesThePlaceOfOneThatHasBeenIdleLonger) {
  for (uint32_t n = 1; n < 5; ++n) {
    merge(live(0, lab.now, false, lab.now), lab.now, n);
    pass(seconds(1));
  }
  lab.news(0);
  merge(live(1, lab.now, true, lab.now), lab.now, 6);
  EXPECT_TRUE(gone(1));
  EXPECT_FALSE(gone(6));
  EXPECT_EQ(lab.bindings.count(), 4u);
  const auto news = lab.news(0);
  ASSERT_EQ(news.size(), 2u);
  EXPECT_EQ(news[0].kind, Change::Kind::kRemove);
}

TEST_F(ReplicationPeersFull, APeersBindingDoesNotTakeThePlaceOfOneThatWasActiveLater) {
  for (uint32_t n = 1; n < 5; ++n) merge(live(0, lab.now, false, lab.now), lab.now, n);
  merge(live(1, lab.now, true, lab.now - seconds(1)), lab.now - seconds(1), 6);
  EXPECT_TRUE(gone(6));
  EXPECT_EQ(lab.at(0).counters().merges_refused.get(), 1u);
}

TEST_F(ReplicationPeersFull, NothingIsPurgedForAPeersBindingWhereNothingIsForClients) {
  lab.scope().purge = false;
  lab.publish_to_all();
  for (uint32_t n = 1; n < 5; ++n) merge(live(0, lab.now, false, lab.now), lab.now, n);
  pass(seconds(1));
  merge(live(1, lab.now, true, lab.now), lab.now, 6);
  EXPECT_TRUE(gone(6));
}

TEST_F(ReplicationPeersFull, EvictionLeavesNoHusk) {
  for (uint32_t n = 1; n < 5; ++n) {
    hold(n);
    lab.close(1, key(n));
    pass(seconds(1));
  }
  hold(5);
  EXPECT_TRUE(gone(1));
  EXPECT_EQ(lab.at(0).husks(), 0u);
}

// --- scopes that are not mirrored
// -----------------------------------------------------------------

class ReplicationDisk : public ReplicationPeers {
 protected:
  ReplicationDisk() {
    Lab::Options o;
    o.disk = true;
    disk = std::make_unique<Lab>(o);
  }
  std::unique_ptr<Lab> disk;
};

TEST_F(ReplicationDisk, ActivityIsAnnouncedAndTheTimeIsExact) {
  disk->bind_confirmed(1, key());
  disk->news(0);
  disk->open(1, key());
  disk->pass(kR);
  disk->settle();
  EXPECT_EQ(disk->news(0).size(), 1u);
  disk->close(1, key());
  disk->pass(kT - milliseconds(1));
  disk->settle();
  EXPECT_NE(disk->record(key()), nullptr);
  disk->pass(milliseconds(1));
  disk->settle();
  EXPECT_EQ(disk->record(key()), nullptr) << "and no husk";
}

TEST_F(ReplicationDisk, WhatIsOpenAtAStopEndsWithIt) {
  disk->bind_confirmed(1, key());
  disk->open(1, key());
  disk->news(0);
  disk->pass(seconds(40));
  EXPECT_TRUE(disk->say_last(0));
  const auto news = disk->news(0);
  ASSERT_EQ(news.size(), 1u);
  EXPECT_FALSE(news[0].record.held);
  EXPECT_EQ(news[0].act_at, disk->now);
}

TEST_F(ReplicationDisk, ADeletionLeavesNoTombstone) {
  disk->bind_confirmed(1, key());
  disk->at(0).remove(*disk->record(key()));
  disk->settle();
  EXPECT_EQ(disk->news(0).back().kind, Change::Kind::kRemove);
}

TEST_F(ReplicationDisk, WhatWasHeldWhenItWasSavedLivesTAndRFromThen) {
  disk->rings.merges[0].push({.scope = disk->scope().slot,
                              .version = disk->version(),
                              .key = key(),
                              .record = live(0, disk->now, true, disk->now),
                              .act_at = disk->now});
  disk->settle();
  disk->pass(kT + kR - milliseconds(1));
  disk->settle();
  EXPECT_NE(disk->record(key()), nullptr);
  disk->pass(milliseconds(1));
  disk->settle();
  EXPECT_EQ(disk->record(key()), nullptr);
}

TEST_F(ReplicationPeers, AScopeThatIsNotMirroredIsNotAnnounced) {
  lab.scope().mirrored = false;
  lab.publish_to_all();
  hold();
  pass(kR);
  EXPECT_TRUE(lab.news(0).empty());
  lab.close(1, key());
  pass(kT);
  EXPECT_TRUE(gone());
}

}  // namespace
}  // namespace limpet::replication
