#include "control/mirroring/update_list.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace limpet::mirroring {
namespace {

using binding::Key;
using binding::Record;
using binding::ScopeId;
using binding::Stamp;
using timing::Instant;
using timing::seconds;
using Kind = SnapshotBegin::Kind;

constexpr PeerIndex kA{0};
constexpr PeerIndex kB{1};
constexpr PeerIndex kC{2};
constexpr SessionNumber kFirst{1};
constexpr SessionNumber kSecond{2};
constexpr ScopeId kScope{77};

BootId boot(uint8_t n) {
  return {{n}};
}

Key key(uint32_t n) {
  return Key::of(net::Address::v4_host(n));
}

class UpdateListTest : public testing::Test {
 protected:
  UpdateListTest() {
    for (const PeerIndex p : {kA, kB, kC}) list_.begin(p, kFirst, boot(p.value + 1), {});
  }

  static Update of(uint32_t n, uint64_t stamp, Told told = Told::kAll, Source source = {}) {
    Update u;
    u.scope = kScope;
    u.key = key(n);
    u.record.stamp = Stamp{stamp};
    u.told = told;
    u.source = source;
    return u;
  }
  static Update tombstone(uint32_t n, uint64_t deleted, Source source = {}) {
    Update u = of(n, 0, Told::kNobody, source);
    u.record.deleted = Stamp{deleted};
    return u;
  }

  void put(const Update& update) { ASSERT_TRUE(list_.update(update, now_)); }

  // The stamps (of a tombstone: `deleted`) that the peer is sent, to the end.
  std::vector<uint64_t> sent_to(PeerIndex peer) {
    std::vector<uint64_t> out;
    for (;;) {
      const auto next = list_.next(peer, 100);
      if (!next.news) return out;
      if (const auto* binding = std::get_if<Binding>(&*next.news)) {
        const Record& r = binding->record;
        out.push_back(r.live() ? r.stamp.value : r.deleted.value);
      } else {
        out.push_back(std::get<ScopeTombstone>(*next.news).deleted.value);
      }
    }
  }
  void acknowledge_all(PeerIndex peer) {
    sent_to(peer);
    ASSERT_TRUE(list_.acknowledge(peer, list_.sent(peer)));
  }
  // The tombstones that may be forgotten now, looking at all.
  std::vector<uint64_t> forgettable(timing::Duration keep = seconds(10)) {
    std::vector<uint64_t> out;
    list_.visit_tombstones(
        1000, now_, [&](ScopeId) { return keep; },
        [&](ScopeId, const Key*, Stamp stamp) { out.push_back(stamp.value); });
    return out;
  }

  using Stamps = std::vector<uint64_t>;

  base::Random random_{1};
  base::KeyedHash hash_{random_};
  UpdateList list_{
      {.entries = 4, .tombstones = 2, .peers = 3}, hash_, std::pmr::get_default_resource()};
  Instant now_{1'000'000'000};
};

TEST_F(UpdateListTest, IsSentInTheOrderOfChanges) {
  put(of(1, 101));
  put(of(2, 102));
  put(of(3, 103));
  EXPECT_EQ(sent_to(kA), (Stamps{101, 102, 103}));
}

TEST_F(UpdateListTest, AChangedEntryMovesToTheTailAndIsSentOnce) {
  put(of(1, 101));
  put(of(2, 102));
  put(of(1, 111));
  EXPECT_EQ(sent_to(kA), (Stamps{102, 111}));
  EXPECT_EQ(list_.size(), 2u);
}

TEST_F(UpdateListTest, AnEntrySentBeforeItChangesIsSentAgain) {
  put(of(1, 101));
  EXPECT_EQ(sent_to(kA), (Stamps{101}));
  put(of(1, 111));
  EXPECT_EQ(sent_to(kA), (Stamps{111}));
}

TEST_F(UpdateListTest, ToldNobodyIsSentToNobody) {
  put(of(1, 101, Told::kNobody, {kB, kFirst}));
  for (const PeerIndex p : {kA, kB, kC}) EXPECT_EQ(sent_to(p), Stamps{});
}

TEST_F(UpdateListTest, ToldSenderIsSentToTheSenderOnly) {
  put(of(1, 101, Told::kSender, {kB, kFirst}));
  EXPECT_EQ(sent_to(kA), Stamps{});
  EXPECT_EQ(sent_to(kB), (Stamps{101}));
}

TEST_F(UpdateListTest, WhatWaitsForAPeerIsNotLostByAMergeToldToNobody) {
  put(of(1, 101));
  put(of(1, 111, Told::kNobody, {kB, kFirst}));
  EXPECT_EQ(sent_to(kA), (Stamps{111}));
}

TEST_F(UpdateListTest, WhatWasSentButNotAcknowledgedIsNotLostEither) {
  put(of(1, 101));
  sent_to(kA);
  put(of(1, 111, Told::kNobody, {kB, kFirst}));
  EXPECT_EQ(sent_to(kA), (Stamps{111}));
}

TEST_F(UpdateListTest, WhatWasAcknowledgedIsNotSentAgainByAMergeToldToNobody) {
  put(of(1, 101));
  acknowledge_all(kA);
  put(of(1, 111, Told::kNobody, {kB, kFirst}));
  EXPECT_EQ(sent_to(kA), Stamps{});
}

TEST_F(UpdateListTest, NewsThatChangesNothingDoesNotMoveAnEntryThatIsUnderWay) {
  put(of(1, 101));
  sent_to(kA);
  put(of(1, 101, Told::kNobody, {kA, kFirst}));
  EXPECT_EQ(sent_to(kA), Stamps{});
}

TEST_F(UpdateListTest, AnEndedBindingIsNotSent) {
  put(of(1, 101));
  put(of(2, 102));
  list_.remove(kScope, key(1));
  EXPECT_EQ(sent_to(kA), (Stamps{102}));
  EXPECT_EQ(list_.size(), 1u);
}

TEST_F(UpdateListTest, ARecordThatSaysNothingIsRemoved) {
  put(of(1, 101));
  put(of(1, 0));
  EXPECT_EQ(list_.find(kScope, key(1)), nullptr);
}

TEST_F(UpdateListTest, ACursorOnARemovedEntryGoesOnBehindIt) {
  for (uint32_t n = 1; n <= 3; ++n) put(of(n, 100 + n));
  EXPECT_TRUE(list_.next(kA, 10).news.has_value());
  list_.remove(kScope, key(2));
  EXPECT_EQ(sent_to(kA), (Stamps{103}));
}

TEST_F(UpdateListTest, HasRoomForItsLimitsAndNoMore) {
  for (uint32_t n = 1; n <= 6; ++n) put(of(n, 100 + n));
  EXPECT_FALSE(list_.update(of(7, 107), now_));
  EXPECT_TRUE(list_.update(of(1, 111), now_));
  list_.remove(kScope, key(2));
  EXPECT_TRUE(list_.update(of(7, 107), now_));
}

TEST_F(UpdateListTest, ResumesFromWhatThePeerHas) {
  put(of(1, 101));
  put(of(2, 102));
  list_.next(kA, 10);
  const Sequence has = list_.sent(kA);
  list_.lost(kA);
  const SnapshotBegin begin = list_.begin(kA, kSecond, boot(1), has);
  EXPECT_EQ(begin.kind, Kind::kResume);
  EXPECT_EQ(begin.up_to, list_.last());
  EXPECT_EQ(sent_to(kA), (Stamps{102}));
}

TEST_F(UpdateListTest, SendsAgainWhatWasNotReceived) {
  put(of(1, 101));
  acknowledge_all(kA);
  const Sequence has = list_.acknowledged(kA);
  put(of(2, 102));
  sent_to(kA);
  list_.lost(kA);
  list_.begin(kA, kSecond, boot(1), has);
  EXPECT_EQ(sent_to(kA), (Stamps{102}));
}

TEST_F(UpdateListTest, ARestartedPeerIsToldEverything) {
  put(of(1, 101));
  put(of(2, 102, Told::kNobody, {kB, kFirst}));
  acknowledge_all(kA);
  const Sequence has = list_.acknowledged(kA);
  EXPECT_EQ(list_.begin(kA, kSecond, boot(9), has).kind, Kind::kFull);
  EXPECT_EQ(list_.acknowledged(kA), Sequence{});
  EXPECT_EQ(sent_to(kA), (Stamps{101, 102}));
}

TEST_F(UpdateListTest, APositionThatWasNeverSentIsAnsweredWithEverything) {
  put(of(1, 101));
  EXPECT_EQ(list_.begin(kA, kSecond, boot(1), Sequence{1}).kind, Kind::kFull);
}

TEST_F(UpdateListTest, APositionBeforeTheAcknowledgedIsAnsweredWithEverything) {
  put(of(1, 101));
  put(of(2, 102));
  acknowledge_all(kA);
  EXPECT_EQ(list_.begin(kA, kSecond, boot(1), Sequence{1}).kind, Kind::kFull);
}

TEST_F(UpdateListTest, WhatChangesDuringAFullResyncIsStillTold) {
  put(of(1, 101, Told::kNobody, {kB, kFirst}));
  put(of(2, 102, Told::kNobody, {kB, kFirst}));
  list_.begin(kA, kSecond, boot(9), {});
  put(of(1, 111, Told::kNobody, {kB, kFirst}));
  EXPECT_EQ(sent_to(kA), (Stamps{102, 111}));
}

TEST_F(UpdateListTest, AFullResyncGoesOnAfterACut) {
  put(of(1, 101, Told::kNobody, {kB, kFirst}));
  put(of(2, 102, Told::kNobody, {kB, kFirst}));
  list_.begin(kA, kSecond, boot(9), {});
  list_.next(kA, 10);
  EXPECT_EQ(list_.begin(kA, SessionNumber{3}, boot(9), Sequence{1}).kind, Kind::kResume);
  EXPECT_EQ(sent_to(kA), (Stamps{102}));
}

TEST_F(UpdateListTest, ASnapshotEndsWhenItsSequenceIsPassed) {
  put(of(1, 101));
  put(of(2, 102));
  const SnapshotBegin begin = list_.begin(kA, kSecond, boot(9), {});
  put(of(1, 111));
  EXPECT_FALSE(list_.passed(kA, begin.up_to));
  list_.next(kA, 10);
  EXPECT_TRUE(list_.passed(kA, begin.up_to));
}

TEST_F(UpdateListTest, AnAcknowledgementOfWhatWasNotSentIsRefused) {
  put(of(1, 101));
  EXPECT_FALSE(list_.acknowledge(kA, Sequence{1}));
  sent_to(kA);
  EXPECT_TRUE(list_.acknowledge(kA, Sequence{1}));
}

TEST_F(UpdateListTest, TheEndOfASnapshotMayBeAcknowledged) {
  put(of(1, 101, Told::kNobody, {kB, kFirst}));
  list_.snapshot_sent(kA, Sequence{1});
  EXPECT_TRUE(list_.acknowledge(kA, Sequence{1}));
}

TEST_F(UpdateListTest, LagIsWhatIsNotAcknowledgedAndItsAge) {
  put(of(1, 101));
  now_ = now_ + seconds(2);
  put(of(2, 102));
  now_ = now_ + seconds(1);
  EXPECT_EQ(list_.lag(kA, now_, 100), (Lag{2, 3000}));
  list_.next(kA, 10);
  list_.acknowledge(kA, list_.sent(kA));
  EXPECT_EQ(list_.lag(kA, now_, 100), (Lag{1, 1000}));
  acknowledge_all(kA);
  EXPECT_EQ(list_.lag(kA, now_, 100), Lag{});
}

TEST_F(UpdateListTest, OldNewsIsLateSinceAFullResyncBegan) {
  put(of(1, 101));
  sent_to(kA);
  list_.acknowledge(kA, list_.sent(kA));
  now_ = now_ + seconds(100);
  list_.begin(kA, kSecond, boot(9), {});
  EXPECT_EQ(list_.lag(kA, now_, 100), (Lag{1, 0}));
  now_ = now_ + seconds(2);
  EXPECT_EQ(list_.lag(kA, now_, 100), (Lag{1, 2000}));
}

TEST_F(UpdateListTest, ASearchStopsWhenItsBudgetIsSpent) {
  for (uint32_t n = 1; n <= 4; ++n) put(of(n, 100 + n, Told::kSender, {kB, kFirst}));
  put(of(5, 105));
  int searches = 1;
  for (; !list_.next(kA, 1).news; ++searches) ASSERT_LT(searches, 10);
  EXPECT_GT(searches, 1);
}

TEST_F(UpdateListTest, WhatALostPeerToldIsToldToTheOthers) {
  put(of(1, 101, Told::kNobody, {kB, kFirst}));
  list_.lost(kB);
  EXPECT_FALSE(list_.work(1000, now_));
  EXPECT_EQ(sent_to(kA), (Stamps{101}));
  EXPECT_EQ(sent_to(kC), (Stamps{101}));
  EXPECT_EQ(sent_to(kB), Stamps{});
}

TEST_F(UpdateListTest, WhatALostPeerToldIsToldThoughAnotherPeersNewsCameLater) {
  put(of(1, 101, Told::kNobody, {kB, kFirst}));
  put(of(1, 111, Told::kNobody, {kC, kFirst}));
  list_.lost(kB);
  list_.work(1000, now_);
  EXPECT_EQ(sent_to(kA), (Stamps{111}));
  EXPECT_EQ(sent_to(kC), (Stamps{111}));
}

TEST_F(UpdateListTest, WhatWasToldToAllIsNotToldAgainWhenItsSourceIsLost) {
  put(of(1, 101, Told::kAll, {kB, kFirst}));
  acknowledge_all(kA);
  list_.lost(kB);
  list_.work(1000, now_);
  EXPECT_EQ(sent_to(kA), Stamps{});
}

TEST_F(UpdateListTest, NewsThatCameOverAnOlderSessionIsToldToAll) {
  list_.lost(kB);
  list_.begin(kB, kSecond, boot(2), {});
  put(of(1, 101, Told::kNobody, {kB, kFirst}));
  EXPECT_EQ(sent_to(kA), (Stamps{101}));
}

TEST_F(UpdateListTest, PassingOnIsDoneInSlices) {
  for (uint32_t n = 1; n <= 4; ++n) put(of(n, 100 + n, Told::kNobody, {kB, kFirst}));
  list_.lost(kB);
  EXPECT_TRUE(list_.work(3, now_));
  EXPECT_FALSE(list_.work(3, now_));
  EXPECT_EQ(sent_to(kA).size(), 4u);
}

TEST_F(UpdateListTest, ATombstoneIsToldToAllWhoeverToldUs) {
  put(tombstone(1, 50, {kB, kFirst}));
  EXPECT_EQ(sent_to(kA), (Stamps{50}));
  EXPECT_EQ(sent_to(kB), (Stamps{50}));
}

TEST_F(UpdateListTest, ATombstoneIsForgottenWhenAllHaveAcknowledgedAndTimeHasPassed) {
  put(tombstone(1, 50));
  for (const PeerIndex p : {kA, kB}) acknowledge_all(p);
  now_ = now_ + seconds(60);
  EXPECT_EQ(forgettable(), Stamps{});
  EXPECT_EQ(list_.tombstone_waits_for(), kC);
  acknowledge_all(kC);
  EXPECT_EQ(list_.tombstone_waits_for(), std::nullopt);
  EXPECT_EQ(forgettable(), Stamps{});
  now_ = now_ + seconds(9);
  EXPECT_EQ(forgettable(), Stamps{});
  now_ = now_ + seconds(1);
  EXPECT_EQ(forgettable(), (Stamps{50}));
}

TEST_F(UpdateListTest, NewsOfTheKeyKeepsItsTombstone) {
  put(tombstone(1, 50));
  for (const PeerIndex p : {kA, kB, kC}) acknowledge_all(p);
  forgettable();
  now_ = now_ + seconds(9);
  put(tombstone(1, 50, {kA, kFirst}));
  forgettable();
  now_ = now_ + seconds(9);
  EXPECT_EQ(forgettable(), Stamps{});
  now_ = now_ + seconds(1);
  EXPECT_EQ(forgettable(), (Stamps{50}));
}

TEST_F(UpdateListTest, ARestartedPeerHasAcknowledgedNoTombstone) {
  put(tombstone(1, 50));
  for (const PeerIndex p : {kA, kB, kC}) acknowledge_all(p);
  forgettable();
  now_ = now_ + seconds(60);
  list_.begin(kB, kSecond, boot(9), {});
  EXPECT_EQ(forgettable(), Stamps{});
  acknowledge_all(kB);
  EXPECT_EQ(forgettable(), Stamps{});
  now_ = now_ + seconds(10);
  EXPECT_EQ(forgettable(), (Stamps{50}));
}

TEST_F(UpdateListTest, AnEntryWhoseTombstoneWasForgottenIsNone) {
  put(tombstone(1, 50));
  EXPECT_EQ(list_.tombstones(), 1u);
  put(of(1, 60));
  EXPECT_EQ(list_.tombstones(), 0u);
}

TEST_F(UpdateListTest, TombstonesHaveALimitOfTheirOwn) {
  EXPECT_TRUE(list_.room_for_tombstones(2));
  EXPECT_FALSE(list_.room_for_tombstones(3));
  put(tombstone(1, 50));
  EXPECT_FALSE(list_.room_for_tombstones(2));
}

TEST_F(UpdateListTest, AScopesTombstoneIsAnEntryOfItsOwn) {
  EXPECT_TRUE(list_.kill_scope(kScope, Stamp{70}, {}, now_));
  EXPECT_EQ(list_.killed_up_to(kScope), Stamp{70});
  EXPECT_EQ(list_.tombstones(), 1u);
  EXPECT_EQ(sent_to(kA), (Stamps{70}));
}

TEST_F(UpdateListTest, AnOlderTombstoneOfAScopeIsNothing) {
  list_.kill_scope(kScope, Stamp{70}, {}, now_);
  sent_to(kA);
  EXPECT_TRUE(list_.kill_scope(kScope, Stamp{60}, {}, now_));
  EXPECT_EQ(list_.killed_up_to(kScope), Stamp{70});
  EXPECT_EQ(sent_to(kA), Stamps{});
}

TEST_F(UpdateListTest, AScopesTombstoneIsForgottenOnlyByItsStamp) {
  list_.kill_scope(kScope, Stamp{70}, {}, now_);
  list_.forget_scope(kScope, Stamp{60});
  EXPECT_EQ(list_.tombstones(), 1u);
  list_.forget_scope(kScope, Stamp{70});
  EXPECT_EQ(list_.tombstones(), 0u);
  EXPECT_EQ(list_.size(), 0u);
}

TEST(UpdateListWithoutPeers, KeepsTombstonesForTheirTimeOnly) {
  base::Random random(1);
  base::KeyedHash hash(random);
  UpdateList list({.entries = 1, .tombstones = 1, .peers = 0}, hash,
                  std::pmr::get_default_resource());
  list.kill_scope(kScope, Stamp{70}, {}, {});
  int forgotten = 0;
  const auto visit = [&](Instant now) {
    list.visit_tombstones(
        10, now, [](ScopeId) { return timing::Duration(5); },
        [&](ScopeId, const Key* k, Stamp) { forgotten += k == nullptr; });
  };
  visit({0});
  visit({5});
  EXPECT_EQ(forgotten, 1);
}

}  // namespace
}  // namespace limpet::mirroring
