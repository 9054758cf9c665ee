// What homes do for the sake of other engines: announcements, rounds, husks, merging, tombstones.
// Core 0 is the only home; the timeout T is 300 s, so R is 150 s.
#include <gtest/gtest.h>

#include "tests/unit/replication_lab.h"

namespace limpet::replication {
namespace {

using persist::Change;
using persist::Merge;
using persist::Record;
using persist::Source;
using persist::Stamp;
using persist::Told;
using timing::milliseconds;
using timing::seconds;
using Lab = ReplicationLab;

constexpr Source kPeer{persist::PeerIndex{3}, persist::SessionNumber{7}};
constexpr timing::Duration kT = seconds(300);
constexpr timing::Duration kR = seconds(150);
constexpr uint32_t kOurRank = 1;
constexpr uint32_t kPeersNode = 2 << Replica::Options::kCoreBits;

class ReplicationPeers : public testing::Test {
 protected:
  explicit ReplicationPeers(uint32_t limit = 1024, bool push = true) : lab(options(limit, push)) {
    lab.scope().mirrored = true;
    lab.publish_to_all();
    lab.news(0);
  }

  static Lab::Options options(uint32_t limit, bool push) {
    Lab::Options o;
    o.push = push;
    o.limit = limit;
    o.rank = kOurRank;
    o.peers = true;
    return o;
  }

  static Key key(uint32_t n = 1) { return Lab::key(n); }
  persist::Activity& activity(uint32_t n = 1) {
    return lab.at(0).table().activity(*lab.record(key(n)));
  }
  Record ours(uint32_t n = 1) { return lab.at(0).record_of(*lab.record(key(n))); }

  // A stamp of the peer's at a moment.
  static Stamp stamp(Instant at) {
    persist::StampClock clock(kPeersNode);
    return clock.at(Lab::kWallOrigin + timing::Duration{at.ns}, {});
  }
  Record live(uint32_t server, Instant created, bool held, Instant act_at) {
    return {.stamp = stamp(created),
            .held = held,
            .server = lab.id(server),
            .first = lab.id(server),
            .act = stamp(act_at)};
  }
  // A peer's news, merged; time stands still.
  void merge(const Record& record, Instant act_at, uint32_t n = 1, const Source& source = kPeer) {
    ASSERT_TRUE(lab.rings.merges[0].push({.source = source,
                                          .scope = lab.scope().slot,
                                          .version = lab.version(),
                                          .key = key(n),
                                          .record = record,
                                          .act_at = act_at}));
    lab.settle();
  }
  void order(Merge::Kind kind, Stamp deleted, uint32_t n = 1) {
    ASSERT_TRUE(lab.rings.merges[0].push({.kind = kind,
                                          .source = kPeer,
                                          .scope = lab.scope().slot,
                                          .version = lab.version(),
                                          .key = key(n),
                                          .record = {.deleted = deleted}}));
    lab.settle();
  }
  // The only news there is.
  Change the_news() {
    const auto all = lab.news(0);
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? Change{} : all.back();
  }
  // A client of core 1 with an open connection, announced.
  void hold(uint32_t n = 1, uint32_t core = 1) {
    lab.bind_confirmed(core, key(n));
    lab.open(core, key(n));
    lab.news(0);
  }
  void pass(timing::Duration by) {
    lab.pass(by);
    lab.settle();
  }
  bool gone(uint32_t n = 1) { return lab.record(key(n)) == nullptr; }
  bool is_husk(uint32_t n = 1) { return !gone(n) && lab.record(key(n))->husk; }

  Lab lab;
};

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
  EXPECT_EQ(news.source.peer, persist::kNoPeer);
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
  EXPECT_EQ(news.source.peer, persist::kNoPeer);
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

// --- whom to tell --------------------------------------------------------------------------------

TEST_F(ReplicationPeers, WhatIsNewIsToldToNobodyElse) {
  merge(live(0, lab.now, true, lab.now), lab.now);
  EXPECT_EQ(the_news().told, Told::kNobody);
}

TEST_F(ReplicationPeers, TheSenderOfAnOlderVersionIsToldOurs) {
  Record r = live(0, lab.now, true, lab.now);
  r.epoch = 2;
  merge(r, lab.now);
  lab.news(0);
  r.epoch = 1;
  r.server = lab.id(1);
  merge(r, lab.now);
  const Change news = the_news();
  EXPECT_EQ(news.told, Told::kSender);
  EXPECT_EQ(news.source.peer, kPeer.peer);
  EXPECT_EQ(news.record.epoch, 2u);
}

TEST_F(ReplicationPeers, TheSenderOfOlderActivityIsToldOfTheLater) {
  const Record r = live(0, lab.now, true, lab.now);
  merge(r, lab.now);
  lab.news(0);
  Record older = r;
  older.act = stamp(lab.now - seconds(1));
  merge(older, lab.now - seconds(1));
  const Change news = the_news();
  EXPECT_EQ(news.told, Told::kSender);
  EXPECT_EQ(news.record.act, r.act);
  EXPECT_EQ(news.act_at, lab.now);
}

TEST_F(ReplicationPeers, TheOutcomeOfAConflictIsToldToAll) {
  hold();
  merge(live(2, lab.now - seconds(100), true, lab.now), lab.now);
  EXPECT_EQ(lab.record(key())->server, lab.id(2)) << "the earlier one";
  EXPECT_TRUE(lab.everywhere(key()));
  auto news = lab.news(0);
  ASSERT_FALSE(news.empty());
  EXPECT_EQ(news.front().told, Told::kAll);
  merge(live(1, lab.now + seconds(100), true, lab.now), lab.now);
  EXPECT_EQ(lab.record(key())->server, lab.id(2));
  news = lab.news(0);
  ASSERT_EQ(news.size(), 1u);
  EXPECT_EQ(news[0].told, Told::kAll) << "also when ours won";
}

TEST_F(ReplicationPeers, WhatComesFromDiskIsToldToAll) {
  merge(live(0, lab.now, true, lab.now), lab.now, 1, {});
  EXPECT_EQ(the_news().told, Told::kAll);
}

TEST_F(ReplicationPeers, TheTimeOfKnownActivityIsNotRenewedByHearingOfItAgain) {
  const Record r = live(0, lab.now, true, lab.now);
  const Instant then = lab.now;
  merge(r, then);
  pass(seconds(10));
  merge(r, lab.now);
  EXPECT_EQ(activity().act_at, then);
}

TEST_F(ReplicationPeers, WhatHasExpiredOnArrivalIsIgnored) {
  lab.pass(seconds(1000));
  merge(live(0, lab.now - seconds(900), false, lab.now - kT), lab.now - kT);
  EXPECT_TRUE(gone());
  EXPECT_EQ(lab.at(0).counters().merges_expired.get(), 1u);
  EXPECT_TRUE(lab.news(0).empty());
}

TEST_F(ReplicationPeers, WhatHasExpiredOnArrivalDoesNotBeatALiveLineage) {
  lab.pass(seconds(1000));
  hold();
  const Stamp mine = ours().stamp;
  merge(live(2, lab.now - seconds(900), false, lab.now - kT), lab.now - kT);
  EXPECT_EQ(ours().stamp, mine);
  EXPECT_EQ(ours().server, lab.id(0));
}

TEST_F(ReplicationPeers, AnExpiredLineageYieldsToALaterOne) {
  merge(live(0, lab.now, false, lab.now), lab.now);
  pass(kT);
  ASSERT_TRUE(is_husk());
  merge(live(2, lab.now, true, lab.now), lab.now);
  EXPECT_FALSE(is_husk());
  EXPECT_EQ(ours().server, lab.id(2));
}

TEST_F(ReplicationPeers, TheLosersActivityIsKept) {
  hold();
  const Record before = ours();
  merge(live(2, lab.now - seconds(100), false, lab.now - seconds(50)), lab.now - seconds(50));
  EXPECT_EQ(ours().server, lab.id(2));
  EXPECT_GE(ours().act, before.act);
  EXPECT_EQ(activity().act_at, lab.now);
}

// --- what is held here and elsewhere ----------------------------------------------------------

TEST_F(ReplicationPeers, APeersMoveOfABindingThatWeHoldIsAnnouncedAsHeld) {
  hold();
  Record moved = ours();
  moved.epoch = 1;
  moved.server = lab.id(2);
  merge(moved, lab.now);
  const Change news = the_news();
  EXPECT_EQ(news.told, Told::kAll);
  EXPECT_TRUE(news.record.held);
  EXPECT_EQ(news.record.server, lab.id(2));
  EXPECT_GT(news.record.act, moved.act);
  EXPECT_EQ(lab.find(1, key())->open, 1u) << "the connection goes on, counted";
}

TEST_F(ReplicationPeers, AReplacedLineageBeginsARound) {
  hold();
  const uint64_t rounds = lab.at(0).counters().rounds;
  merge(live(2, lab.now - seconds(100), true, lab.now), lab.now);
  EXPECT_EQ(lab.at(0).counters().rounds.get(), rounds + 1);
  EXPECT_EQ(lab.find(1, key())->open, 0u);
}

TEST_F(ReplicationPeers, APeersReleaseOfWhatWeHoldIsContradicted) {
  hold();
  pass(seconds(10));
  Record released = ours();
  released.held = false;
  released.act = stamp(lab.now);
  merge(released, lab.now);
  const auto news = lab.news(0);
  ASSERT_FALSE(news.empty());
  EXPECT_TRUE(news.back().record.held);
  EXPECT_EQ(news.back().told, Told::kAll);
}

// The peer may have crashed while it held the binding, before it could contradict.
TEST_F(ReplicationPeers, OurReleaseStaysHeldWhereAPeerHeldItNotLongBefore) {
  hold();
  Record theirs = ours();
  pass(seconds(1));
  theirs.act = stamp(lab.now);
  merge(theirs, lab.now);
  lab.news(0);
  pass(kR - seconds(1));
  EXPECT_TRUE(the_news().record.held) << "by us, later";
  lab.close(1, key());
  pass(kR);
  for (const Change& c : lab.news(0)) EXPECT_TRUE(c.record.held);
  EXPECT_TRUE(activity().held);
}

TEST_F(ReplicationPeers, OurReleaseCountsWherePeersHaveHeldItLongBefore) {
  hold();
  Record theirs = ours();
  pass(seconds(1));
  theirs.act = stamp(lab.now);
  merge(theirs, lab.now);
  pass(kR - seconds(1));
  pass(kR);
  pass(kR);
  lab.close(1, key());
  lab.news(0);
  pass(kR);
  EXPECT_FALSE(the_news().record.held);
}

TEST_F(ReplicationPeers, OurStampsFollowAPeersClockHoweverLateItsNewsWas) {
  pass(seconds(10));
  const Instant then = lab.now - seconds(5);
  Record theirs = live(0, then + seconds(3600), true, then + seconds(3600));
  merge(theirs, then);
  hold(2);
  const auto made_at = persist::StampClock::made_at;
  EXPECT_GE(made_at(ours(2).act) - made_at(theirs.act), seconds(5));
}

// Whoever was active since has a clock that is behind; a stamp alone does not say what came later.
TEST_F(ReplicationPeers, AHuskYieldsToLaterActivityOfItsLineage) {
  const Record known = live(0, lab.now, false, lab.now);
  merge(known, lab.now);
  pass(kT);
  ASSERT_TRUE(is_husk());
  Record active = known;
  active.held = true;
  active.act = Stamp{known.act.value - (1 << 13)};
  merge(active, lab.now - seconds(5));
  EXPECT_FALSE(gone() || is_husk());
  EXPECT_EQ(ours().act, active.act);
}

TEST_F(ReplicationPeers, OurReleaseDoesNotCoverWhatAPeerHolds) {
  hold();
  pass(seconds(10));
  Record held = ours();
  held.act = stamp(lab.now);
  merge(held, lab.now);
  pass(seconds(10));
  lab.close(1, key());
  pass(kR - seconds(20));
  EXPECT_TRUE(ours().held) << "the peer's connection may still be open";
}

// --- tombstones ----------------------------------------------------------------------------------

TEST_F(ReplicationPeers, ADeletionLeavesATombstoneThatAllAreTold) {
  hold();
  const Stamp stamp = ours().stamp;
  ASSERT_EQ(lab.at(0).remove(*lab.record(key())), Outcome::kDone);
  lab.settle();
  EXPECT_TRUE(lab.nowhere(key()));
  const Change news = the_news();
  EXPECT_EQ(news.kind, Change::Kind::kPut);
  EXPECT_FALSE(news.record.live());
  EXPECT_GT(news.record.deleted, stamp);
  EXPECT_EQ(news.told, Told::kAll);
}

TEST_F(ReplicationPeers, ATombstoneTurnsBackWhatAPeerStillKnows) {
  hold();
  const Record before = ours();
  lab.at(0).remove(*lab.record(key()));
  lab.settle();
  lab.news(0);
  merge(before, lab.now);
  EXPECT_TRUE(gone());
  const Change news = the_news();
  EXPECT_EQ(news.told, Told::kSender);
  EXPECT_GT(news.record.deleted, before.stamp);
}

TEST_F(ReplicationPeers, ABindingMadeAfterItsDeletionLivesAndCarriesTheTombstone) {
  hold();
  lab.at(0).remove(*lab.record(key()));
  lab.settle();
  const Stamp deleted = lab.at(0).tombstones().of_key(lab.scope().slot, key());
  hold();
  EXPECT_GT(ours().stamp, deleted);
  EXPECT_EQ(ours().deleted, deleted);
}

TEST_F(ReplicationPeers, APeersTombstoneKillsAndIsToldToAll) {
  hold();
  merge({.deleted = Stamp{ours().stamp.value + 1}}, {});
  EXPECT_TRUE(lab.nowhere(key()));
  const Change news = the_news();
  EXPECT_EQ(news.told, Told::kAll);
  EXPECT_FALSE(news.record.live());
}

TEST_F(ReplicationPeers, ABindingThatAPeersTombstoneSparesIsToldToAll) {
  hold();
  merge({.deleted = Stamp{ours().stamp.value - 1}}, {});
  EXPECT_TRUE(lab.everywhere(key()));
  const Change news = the_news();
  EXPECT_EQ(news.told, Told::kAll);
  EXPECT_TRUE(news.record.live());
  EXPECT_NE(news.record.deleted, Stamp{});
}

TEST_F(ReplicationPeers, ATombstoneIsForgottenOnlyByItsStamp) {
  lab.bind_confirmed(1, key());
  lab.at(0).remove(*lab.record(key()));
  lab.settle();
  const Stamp deleted = lab.at(0).tombstones().of_key(lab.scope().slot, key());
  lab.news(0);
  order(Merge::Kind::kForget, Stamp{deleted.value - 1});
  EXPECT_EQ(lab.at(0).tombstones().size(), 1u);
  EXPECT_TRUE(lab.news(0).empty());
  order(Merge::Kind::kForget, deleted);
  EXPECT_EQ(lab.at(0).tombstones().size(), 0u);
  EXPECT_EQ(the_news().kind, Change::Kind::kRemove);
}

TEST_F(ReplicationPeers, ATombstoneThatFindsNoRoomKillsAndIsToldToNobody) {
  for (uint32_t n = 0; n < Replica::tombstones_of(lab.cores(), 1024); ++n) {
    merge({.deleted = Stamp{5}}, {}, 100 + n);
    lab.news(0);
  }
  hold();
  merge({.deleted = Stamp{ours().stamp.value + 1}}, {});
  EXPECT_TRUE(lab.nowhere(key()));
  const Change news = the_news();
  EXPECT_EQ(news.kind, Change::Kind::kRemove);
  EXPECT_EQ(news.told, Told::kNobody);
  EXPECT_EQ(lab.at(0).counters().tombstones_refused.get(), 1u);
}

TEST_F(ReplicationPeers, AScopesTombstoneKillsWhatWasMadeBeforeAndSparesTheRest) {
  hold(1);
  const Stamp between = lab.at(0).next_stamp();
  hold(2);
  order(Merge::Kind::kKillScope, between);
  EXPECT_TRUE(lab.nowhere(key(1)));
  EXPECT_FALSE(gone(2));
  const auto news = lab.news(0);
  ASSERT_EQ(news.size(), 2u);
  EXPECT_EQ(news[0].kind, Change::Kind::kRemove);
  EXPECT_EQ(news[1].kind, Change::Kind::kPut) << "peers may have dropped it";
  EXPECT_EQ(news[1].told, Told::kAll);
}

TEST_F(ReplicationPeers, AScopesTombstoneTurnsBackWhatComesLater) {
  const Record old = live(0, lab.now, true, lab.now);
  order(Merge::Kind::kKillScope, lab.at(0).next_stamp());
  order(Merge::Kind::kKillScope, Stamp{old.stamp.value + 1});
  merge(old, lab.now);
  EXPECT_TRUE(gone());
  order(Merge::Kind::kForgetScope, Stamp{old.stamp.value + 1});
  merge(old, lab.now);
  EXPECT_FALSE(gone());
}

TEST_F(ReplicationPeers, ADeletionRemovesHusksToo) {
  merge(live(0, lab.now, false, lab.now), lab.now);
  pass(kT);
  ASSERT_TRUE(is_husk());
  lab.news(0);
  ASSERT_EQ(lab.at(0).remove(*lab.record(key())), Outcome::kDone);
  EXPECT_TRUE(gone());
  EXPECT_EQ(the_news().told, Told::kAll);
}

// --- fences
// ---------------------------------------------------------------------------------------

TEST_F(ReplicationPeers, AFenceComesBackBehindWhatWasMergedBeforeIt) {
  lab.rings.merges[0].push({.source = kPeer,
                            .scope = lab.scope().slot,
                            .version = lab.version(),
                            .key = key(),
                            .record = live(0, lab.now, true, lab.now),
                            .act_at = lab.now});
  lab.rings.merges[0].push({.kind = Merge::Kind::kFence, .fence = 9});
  lab.settle();
  const auto news = lab.news(0);
  ASSERT_EQ(news.size(), 2u);
  EXPECT_EQ(news[1].kind, Change::Kind::kFence);
  EXPECT_EQ(news[1].fence, 9u);
}

TEST_F(ReplicationPeers, AFenceWaitsForRoom) {
  while (lab.rings.news[0].push(Change{.kind = Change::Kind::kRemove})) {
  }
  lab.rings.merges[0].push({.kind = Merge::Kind::kFence, .fence = 9});
  lab.serve(0);
  for (const Change& c : lab.news(0)) EXPECT_NE(c.kind, Change::Kind::kFence);
  lab.serve(0);
  EXPECT_EQ(the_news().fence, 9u);
}

TEST_F(ReplicationPeers, EachFenceIsAnswered) {
  for (const uint32_t fence : {9u, 10u, 11u})
    lab.rings.merges[0].push({.kind = Merge::Kind::kFence, .fence = fence});
  lab.settle();
  lab.settle();
  lab.settle();
  const auto news = lab.news(0);
  ASSERT_EQ(news.size(), 3u);
  for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(news[i].fence, 9 + i);
}

// A scope's tombstone is carried out by a sweep; until then peers may hear of what it kills.
TEST_F(ReplicationPeers, AFenceComesBackWhenWhatAScopesTombstoneKillsIsGone) {
  hold();
  lab.rings.merges[0].push({.kind = Merge::Kind::kKillScope,
                            .scope = lab.scope().slot,
                            .version = lab.version(),
                            .record = {.deleted = lab.home(key()).stamp}});
  lab.rings.merges[0].push({.kind = Merge::Kind::kFence, .fence = 9});
  lab.serve(0);
  EXPECT_TRUE(lab.news(0).empty());
  lab.settle();
  const auto news = lab.news(0);
  ASSERT_EQ(news.size(), 2u);
  EXPECT_EQ(news[0].kind, Change::Kind::kRemove);
  EXPECT_EQ(news[1].kind, Change::Kind::kFence);
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
