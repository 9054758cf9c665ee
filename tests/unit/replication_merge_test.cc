// What homes make of other engines' news: whom to tell, what is held elsewhere, tombstones, fences.
#include "tests/unit/replication_peers_fixture.h"

namespace limpet::replication {
namespace {

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
  hold_elsewhere_after(seconds(1));
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
  hold_elsewhere_after(seconds(1));
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
  const auto made_at = binding::StampClock::made_at;
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

}  // namespace
}  // namespace limpet::replication
