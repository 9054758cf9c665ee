#include "control/mirroring/exchange.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/base/random.h"

namespace limpet::mirroring {
namespace {

using binding::Change;
using binding::Key;
using binding::Merge;
using binding::Record;
using binding::ScopeId;
using binding::ScopeSlot;
using binding::ServerId;
using binding::Stamp;
using timing::Instant;
using timing::seconds;
using Kind = Merge::Kind;

constexpr ScopeId kScope{77};
constexpr ScopeId kOther{78};
constexpr ScopeSlot kSlot{3};
constexpr uint32_t kNode = binding::Maker::number_of_control(0);
constexpr Source kFromA{PeerIndex{0}, SessionNumber{1}};
constexpr Source kFromB{PeerIndex{1}, SessionNumber{1}};

class FakeHomes final : public HomeRings {
 public:
  uint32_t homes() const override { return 2; }
  uint32_t home_of(ScopeSlot, const Key& key) const override {
    return key.address().v4_bytes()[3] % 2u;
  }
  bool send(uint32_t home, const Merge& message) override {
    if (sent[home].size() >= room[home]) return false;
    sent[home].push_back(message);
    return true;
  }

  std::array<std::vector<Merge>, 2> sent;
  std::array<std::size_t, 2> room{1000, 1000};
};

class ExchangeTest : public testing::Test {
 protected:
  static Exchange::Options options(uint32_t peers) {
    return {.entries = 100, .surplus = 10, .peers = peers, .node = kNode};
  }

  explicit ExchangeTest(uint32_t peers = 2)
      : exchange_(options(peers), homes_, hash_, std::pmr::get_default_resource()) {
    for (uint32_t p = 0; p < peers; ++p)
      list().begin(PeerIndex{static_cast<uint8_t>(p)}, SessionNumber{1},
                   BootId{{static_cast<uint8_t>(p + 1)}}, {});
  }

  UpdateList& list() { return exchange_.list(); }
  static Key key(uint32_t n) { return Key::of(net::Address::v4_host(n)); }
  void name(std::vector<Exchange::Scope> scopes) { exchange_.use(scopes, ++version_, now_); }
  void name_one(bool mirrored = true) { name({{kScope, kSlot, mirrored, seconds(450)}}); }

  Change put(uint32_t n, uint64_t stamp, Told told = Told::kAll, Source source = {}) const {
    Change c{.confirmed = true, .told = told, .source = source, .scope = kSlot, .key = key(n)};
    c.version = version_;
    c.record = {.stamp = Stamp{stamp}, .server = ServerId{7}, .act = Stamp{stamp}};
    c.act_at = now_;
    return c;
  }
  Change tombstone(uint32_t n, uint64_t deleted) const {
    Change c = put(n, 0);
    c.record = {.deleted = Stamp{deleted}};
    return c;
  }
  Change removal(uint32_t n) const {
    Change c = put(n, 0);
    c.kind = Change::Kind::kRemove;
    c.record = {};
    return c;
  }
  Arrival arrival(uint32_t n, uint64_t stamp, Source source = kFromA,
                  ScopeId scope = kScope) const {
    Arrival a{.source = source, .scope = scope, .key = key(n), .act_at = now_};
    a.record = {.stamp = Stamp{stamp}, .server = ServerId{7}, .act = Stamp{stamp}};
    return a;
  }
  static Arrival scope_tombstone(uint64_t deleted, Source source = kFromA, ScopeId scope = kScope) {
    return {.source = source,
            .scope = scope,
            .whole_scope = true,
            .key = {},
            .record = {.deleted = Stamp{deleted}},
            .act_at = {}};
  }

  // The stamps (of a tombstone: `deleted`) that the peer is sent, to the end.
  std::vector<uint64_t> sent_to(uint8_t peer) {
    std::vector<uint64_t> out;
    for (;;) {
      const auto next = list().next(PeerIndex{peer}, 100);
      if (!next.news) return out;
      const auto* binding = std::get_if<Binding>(&*next.news);
      const Stamp deleted =
          binding ? binding->record.deleted : std::get<ScopeTombstone>(*next.news).deleted;
      out.push_back(binding && binding->record.live() ? binding->record.stamp.value
                                                      : deleted.value);
    }
  }
  void acknowledge_all() {
    for (const uint8_t p : {uint8_t{0}, uint8_t{1}}) {
      sent_to(p);
      ASSERT_TRUE(list().acknowledge(PeerIndex{p}, list().sent(PeerIndex{p})));
    }
  }
  std::vector<Merge>& at(uint32_t home) { return homes_.sent[home]; }
  std::size_t count(uint32_t home, Kind kind) {
    return static_cast<std::size_t>(std::count_if(at(home).begin(), at(home).end(),
                                                  [&](const Merge& m) { return m.kind == kind; }));
  }
  void answer(uint32_t fence) {
    Change c{.kind = Change::Kind::kFence, .fence = fence};
    exchange_.apply(c, now_);
  }

  using Stamps = std::vector<uint64_t>;

  base::Random random_{1};
  base::KeyedHash hash_{random_};
  FakeHomes homes_;
  Exchange exchange_;
  Instant now_{1'000'000'000};
  uint64_t version_ = 0;
};

class LonelyExchangeTest : public ExchangeTest {
 protected:
  LonelyExchangeTest() : ExchangeTest(0) {}
};

// --- from the homes ------------------------------------------------------------------------------

TEST_F(ExchangeTest, WhatAHomeSaysIsInTheMirrorAndToldToPeers) {
  name_one();
  EXPECT_TRUE(exchange_.apply(put(1, 101), now_));
  ASSERT_NE(exchange_.mirror().find(kSlot, key(1)), nullptr);
  EXPECT_EQ(exchange_.mirror().find(kSlot, key(1))->act_at, now_);
  EXPECT_EQ(sent_to(0), (Stamps{101}));
}

TEST_F(ExchangeTest, AnEmbryonicBindingIsInTheMirrorOnly) {
  name_one();
  Change embryonic = put(1, 101);
  embryonic.confirmed = false;
  EXPECT_FALSE(exchange_.apply(embryonic, now_));
  EXPECT_EQ(exchange_.mirror().size(), 1u);
  EXPECT_EQ(list().size(), 0u);
}

TEST_F(ExchangeTest, AnEmbryonicBindingBesideATombstoneLeavesTheTombstoneToBeTold) {
  name_one();
  exchange_.apply(tombstone(1, 90), now_);
  Change embryonic = put(1, 101);
  embryonic.confirmed = false;
  embryonic.record.deleted = Stamp{90};
  exchange_.apply(embryonic, now_);
  EXPECT_EQ(exchange_.mirror().size(), 1u);
  EXPECT_EQ(sent_to(0), (Stamps{90}));
}

TEST_F(ExchangeTest, AScopeThatIsNotMirroredIsInTheMirrorOnly) {
  name_one(false);
  EXPECT_FALSE(exchange_.apply(put(1, 101), now_));
  EXPECT_EQ(exchange_.mirror().size(), 1u);
  EXPECT_EQ(list().size(), 0u);
}

TEST_F(ExchangeTest, ATombstoneAloneLeavesTheMirrorAndStaysInTheList) {
  name_one();
  exchange_.apply(put(1, 101), now_);
  exchange_.apply(tombstone(1, 105), now_);
  EXPECT_EQ(exchange_.mirror().size(), 0u);
  EXPECT_EQ(sent_to(0), (Stamps{105}));
  EXPECT_EQ(list().tombstones(), 1u);
}

TEST_F(ExchangeTest, WhatEndedIsInNeither) {
  name_one();
  exchange_.apply(put(1, 101), now_);
  exchange_.apply(removal(1), now_);
  EXPECT_EQ(exchange_.mirror().size(), 0u);
  EXPECT_EQ(list().size(), 0u);
}

TEST_F(ExchangeTest, OnlyWhomTheHomeNamesIsTold) {
  name_one();
  EXPECT_TRUE(exchange_.apply(put(1, 101, Told::kSender, kFromB), now_));
  EXPECT_EQ(sent_to(0), Stamps{});
  EXPECT_EQ(sent_to(1), (Stamps{101}));
}

TEST_F(ExchangeTest, TheEndsOfAScopeThatHasLeftAreTakenOutOfTheList) {
  name_one();
  exchange_.apply(put(1, 101), now_);
  name({});
  exchange_.apply(removal(1), now_);
  EXPECT_EQ(exchange_.mirror().size(), 0u);
  EXPECT_EQ(list().size(), 0u);
}

TEST_F(LonelyExchangeTest, WithoutPeersNothingIsListed) {
  name_one();
  EXPECT_FALSE(exchange_.apply(put(1, 101), now_));
  EXPECT_EQ(exchange_.mirror().size(), 1u);
  EXPECT_EQ(list().size(), 0u);
}

// --- from peers ----------------------------------------------------------------------------------

TEST_F(ExchangeTest, APeersNewsGoesToItsHomeUnmerged) {
  name_one();
  EXPECT_TRUE(exchange_.deliver(arrival(3, 101)));
  ASSERT_EQ(at(1).size(), 1u);
  EXPECT_EQ(at(1)[0].kind, Kind::kRecord);
  EXPECT_EQ(at(1)[0].scope, kSlot);
  EXPECT_EQ(at(1)[0].version, version_);
  EXPECT_EQ(at(1)[0].record.stamp, Stamp{101});
  EXPECT_EQ(at(1)[0].act_at, now_);
  EXPECT_EQ(at(1)[0].source.peer, kFromA.peer);
  EXPECT_TRUE(at(0).empty());
  EXPECT_EQ(exchange_.mirror().size(), 0u);
  EXPECT_EQ(list().size(), 0u);
}

TEST_F(ExchangeTest, NewsForAFullHomeIsRefused) {
  name_one();
  homes_.room[1] = 0;
  EXPECT_FALSE(exchange_.deliver(arrival(3, 101)));
  EXPECT_TRUE(exchange_.deliver(arrival(4, 101)));
}

TEST_F(ExchangeTest, NewsOfAScopeThatIsNotMirroredHereIsDroppedAndCounted) {
  name_one(false);
  EXPECT_TRUE(exchange_.deliver(arrival(3, 101)));
  EXPECT_TRUE(exchange_.deliver(scope_tombstone(50)));
  EXPECT_TRUE(at(1).empty());
  EXPECT_EQ(exchange_.counters().not_mirrored, 2u);
}

TEST_F(ExchangeTest, AScopesTombstoneGoesToAllHomesAndToAllPeers) {
  name_one();
  EXPECT_TRUE(exchange_.deliver(scope_tombstone(50)));
  for (const uint32_t home : {0u, 1u}) {
    ASSERT_EQ(at(home).size(), 2u);
    EXPECT_EQ(at(home)[0].kind, Kind::kKillScope);
    EXPECT_EQ(at(home)[0].record.deleted, Stamp{50});
    EXPECT_EQ(at(home)[1].kind, Kind::kFence);
  }
  EXPECT_EQ(sent_to(0), (Stamps{50}));
  EXPECT_EQ(sent_to(1), (Stamps{50}));
}

TEST_F(ExchangeTest, AScopesTombstoneThatOneHomeHasNoRoomForIsResumedThere) {
  name_one();
  homes_.room[1] = 0;
  EXPECT_FALSE(exchange_.deliver(scope_tombstone(50)));
  EXPECT_EQ(list().killed_up_to(kScope), Stamp{});
  EXPECT_FALSE(exchange_.deliver(scope_tombstone(50)));
  homes_.room[1] = 1;
  EXPECT_TRUE(exchange_.deliver(scope_tombstone(50)));
  EXPECT_EQ(count(0, Kind::kKillScope), 1u);
  EXPECT_EQ(count(1, Kind::kKillScope), 1u);
  EXPECT_EQ(list().killed_up_to(kScope), Stamp{50});
}

TEST_F(ExchangeTest, AnotherPeersSameTombstoneDoesNotWaitForTheFirst) {
  name_one();
  homes_.room[1] = 0;
  EXPECT_FALSE(exchange_.deliver(scope_tombstone(50, kFromA)));
  homes_.room[1] = 1000;
  // A's session ends here; what it did not get through, B brings to all homes.
  EXPECT_TRUE(exchange_.deliver(scope_tombstone(50, kFromB)));
  EXPECT_EQ(count(1, Kind::kKillScope), 1u);
}

TEST_F(ExchangeTest, ATombstoneThatIsKnownIsNotToldAgain) {
  name_one();
  exchange_.deliver(scope_tombstone(50));
  EXPECT_TRUE(exchange_.deliver(scope_tombstone(50, kFromB)));
  EXPECT_TRUE(exchange_.deliver(scope_tombstone(49, kFromB)));
  EXPECT_EQ(count(0, Kind::kKillScope), 1u);
}

TEST_F(ExchangeTest, PeersCannotFillTheListWithTombstonesOfScopes) {
  for (uint32_t n = 0; n < 200; ++n)
    EXPECT_TRUE(exchange_.deliver(scope_tombstone(50, kFromA, ScopeId{1000 + n})));
  const uint32_t limit = Exchange::tombstones_of(options(2));
  EXPECT_EQ(list().tombstones(), limit);
  EXPECT_EQ(exchange_.counters().tombstones_refused, 200 - limit);
}

// --- scopes that no document has named -----------------------------------------------------------

TEST_F(ExchangeTest, NewsOfAnUnnamedScopeWaitsForItsName) {
  EXPECT_TRUE(exchange_.deliver(arrival(3, 101)));
  EXPECT_TRUE(exchange_.deliver(arrival(5, 102, kFromA, kOther)));
  EXPECT_EQ(exchange_.unnamed(), 2u);
  name_one();
  exchange_.tick(now_);
  ASSERT_EQ(at(1).size(), 1u);
  EXPECT_EQ(at(1)[0].record.stamp, Stamp{101});
  EXPECT_EQ(at(1)[0].source.peer, kFromA.peer);
  EXPECT_EQ(exchange_.unnamed(), 1u);
}

TEST_F(ExchangeTest, NewsOfAnUnnamedKeyIsMergedAndThenNobodysInParticular) {
  exchange_.deliver(arrival(3, 101, kFromA));
  exchange_.deliver(arrival(3, 99, kFromB));
  EXPECT_EQ(exchange_.unnamed(), 1u);
  name_one();
  exchange_.tick(now_);
  ASSERT_EQ(at(1).size(), 1u);
  EXPECT_EQ(at(1)[0].record.stamp, Stamp{99});
  EXPECT_EQ(at(1)[0].record.act, Stamp{101});
  EXPECT_EQ(at(1)[0].source.peer, kNoPeer);
}

TEST_F(ExchangeTest, ATombstoneOfAnUnnamedScopeReachesPeersAtOnceAndHomesWithTheName) {
  EXPECT_TRUE(exchange_.deliver(scope_tombstone(50)));
  EXPECT_EQ(sent_to(1), (Stamps{50}));
  name_one();
  exchange_.tick(now_);
  ASSERT_EQ(at(0).size(), 1u);
  EXPECT_EQ(at(0)[0].kind, Kind::kKillScope);
  ASSERT_EQ(at(1).size(), 1u);
}

TEST_F(ExchangeTest, WhatAnUnnamedScopesTombstoneKillsIsNotKept) {
  exchange_.deliver(scope_tombstone(50));
  exchange_.deliver(arrival(3, 49));
  EXPECT_EQ(exchange_.unnamed(), 0u);
}

TEST_F(ExchangeTest, UnnamedNewsIsLimitedAndWhatIsRefusedIsCounted) {
  const uint32_t limit = 100 + Exchange::tombstones_of(options(2));
  for (uint32_t n = 0; n < limit + 5; ++n) EXPECT_TRUE(exchange_.deliver(arrival(n, 101)));
  EXPECT_EQ(exchange_.unnamed(), limit);
  EXPECT_EQ(exchange_.counters().unnamed_refused, 5u);
  EXPECT_TRUE(exchange_.deliver(arrival(1, 95)));  // one that is there can still change
  EXPECT_EQ(exchange_.counters().unnamed_refused, 5u);
}

TEST_F(ExchangeTest, UnnamedNewsWaitsForRoomInItsHome) {
  for (uint32_t n = 0; n < 10; ++n) exchange_.deliver(arrival(2 * n + 1, 101 + n));
  homes_.room[1] = 4;
  name_one();
  exchange_.tick(now_);
  EXPECT_EQ(at(1).size(), 4u);
  homes_.room[1] = 100;
  exchange_.tick(now_);
  EXPECT_EQ(at(1).size(), 10u);
  EXPECT_EQ(exchange_.unnamed(), 0u);
}

TEST_F(ExchangeTest, UnnamedNewsOfWhatTurnsOutNotToBeMirroredIsDropped) {
  exchange_.deliver(arrival(3, 101));
  name_one(false);
  exchange_.tick(now_);
  EXPECT_EQ(exchange_.unnamed(), 0u);
  EXPECT_TRUE(at(1).empty());
  EXPECT_EQ(exchange_.counters().not_mirrored, 1u);
}

TEST_F(ExchangeTest, UnnamedNewsWhoseTimeIsOverIsDropped) {
  exchange_.deliver(arrival(3, 101));
  now_ = now_ + kUnnamedKeep;
  exchange_.tick(now_);
  EXPECT_EQ(exchange_.unnamed(), 0u);
  EXPECT_EQ(exchange_.counters().unnamed_expired, 1u);
}

// --- what begins and ceases to be mirrored -------------------------------------------------------

TEST_F(ExchangeTest, AScopeThatCeasesToBeMirroredLeavesTheList) {
  name_one();
  exchange_.apply(put(1, 101), now_);
  name_one(false);
  exchange_.tick(now_);
  EXPECT_EQ(list().size(), 0u);
  EXPECT_EQ(exchange_.mirror().size(), 1u);
}

TEST_F(ExchangeTest, AScopeThatBeginsToBeMirroredIsToldToAll) {
  name_one(false);
  exchange_.apply(put(1, 101), now_);
  name_one();
  exchange_.tick(now_);
  EXPECT_EQ(sent_to(0), (Stamps{101}));
  EXPECT_EQ(sent_to(1), (Stamps{101}));
}

TEST_F(ExchangeTest, AScopeThatComesBackIsAskedOfPeersAnew) {
  name_one();
  EXPECT_FALSE(exchange_.take_resync());
  name({});
  EXPECT_FALSE(exchange_.take_resync());
  name_one();
  EXPECT_TRUE(exchange_.take_resync());
  EXPECT_FALSE(exchange_.take_resync());
  name_one();
  EXPECT_FALSE(exchange_.take_resync());
}

TEST_F(ExchangeTest, AScopeOfWhichNewsWasDroppedIsAskedOfPeersWhenItIsMirrored) {
  name_one(false);
  exchange_.deliver(arrival(3, 101));
  name({{kOther, ScopeSlot{4}, true, seconds(450)}, {kScope, kSlot, false, seconds(450)}});
  EXPECT_FALSE(exchange_.take_resync());
  name_one(true);
  EXPECT_TRUE(exchange_.take_resync());
}

TEST_F(ExchangeTest, AScopeThatThereWasNoRoomForIsAskedOfPeersWhenItIsNamed) {
  for (uint32_t n = 0; n < 200; ++n) exchange_.deliver(arrival(n, 101, kFromA, ScopeId{n + 1000}));
  ASSERT_GT(exchange_.counters().unnamed_refused, 0u);
  name({{ScopeId{1000}, kSlot, true, seconds(450)}});
  EXPECT_FALSE(exchange_.take_resync());
  name({{ScopeId{1000}, kSlot, true, seconds(450)}, {ScopeId{1199}, ScopeSlot{4}}});
  EXPECT_TRUE(exchange_.take_resync());
}

TEST_F(ExchangeTest, HomesOfAScopeThatComesBackHearOfItsTombstonesBeforeAnythingElse) {
  name_one();
  exchange_.apply(tombstone(3, 105), now_);
  name({});
  exchange_.deliver(arrival(5, 200));
  name_one();
  EXPECT_FALSE(exchange_.deliver(arrival(7, 201)));
  homes_.room[1] = 0;
  exchange_.tick(now_);
  EXPECT_FALSE(exchange_.deliver(arrival(7, 201)));
  homes_.room[1] = 100;
  exchange_.tick(now_);
  ASSERT_EQ(at(1).size(), 2u);
  EXPECT_EQ(at(1)[0].key, key(3));
  EXPECT_EQ(at(1)[0].record.deleted, Stamp{105});
  EXPECT_EQ(at(1)[1].key, key(5));
  EXPECT_TRUE(exchange_.deliver(arrival(7, 201)));
}

TEST_F(ExchangeTest, AHomeThatDoesNotKnowATombstoneYetDoesNotMakeTheListForgetIt) {
  name_one();
  exchange_.apply(tombstone(3, 105), now_);
  name({});
  name_one();
  exchange_.apply(put(3, 110), now_);
  EXPECT_EQ(list().find(kScope, key(3))->deleted, Stamp{105});
  exchange_.apply(removal(3), now_);
  ASSERT_NE(list().find(kScope, key(3)), nullptr);
  EXPECT_EQ(list().find(kScope, key(3))->deleted, Stamp{105});
  exchange_.tick(now_);
  ASSERT_EQ(at(1).size(), 1u);
  EXPECT_EQ(at(1)[0].record.deleted, Stamp{105});
  exchange_.apply(removal(3), now_);
  EXPECT_EQ(list().find(kScope, key(3)), nullptr);
}

// --- tombstones to be forgotten ------------------------------------------------------------------

TEST_F(ExchangeTest, ATombstoneIsForgottenByItsHomeWhenAllHaveAcknowledgedItAndItsTimeIsOver) {
  name_one();
  exchange_.apply(tombstone(1, 105), now_);
  exchange_.tick(now_);
  now_ = now_ + seconds(1000);
  exchange_.tick(now_);
  EXPECT_TRUE(at(1).empty());  // nobody has acknowledged it
  acknowledge_all();
  exchange_.tick(now_);
  now_ = now_ + seconds(449);
  exchange_.tick(now_);
  EXPECT_TRUE(at(1).empty());
  now_ = now_ + seconds(1);
  exchange_.tick(now_);
  ASSERT_EQ(at(1).size(), 1u);
  EXPECT_EQ(at(1)[0].kind, Kind::kForget);
  EXPECT_EQ(at(1)[0].record.deleted, Stamp{105});
  EXPECT_EQ(list().tombstones(), 1u);  // until the home says so
  exchange_.apply(removal(1), now_);
  EXPECT_EQ(list().tombstones(), 0u);
}

TEST_F(ExchangeTest, AScopesTombstoneIsForgottenWhenAllHomesAreTold) {
  name_one();
  ASSERT_TRUE(exchange_.kill_scope(kScope, Stamp{50}, now_));
  exchange_.homes_know(Stamp{50});
  answer(1);
  answer(1);
  acknowledge_all();
  exchange_.tick(now_);
  acknowledge_all();
  at(0).clear();
  at(1).clear();
  exchange_.tick(now_);
  now_ = now_ + seconds(450);
  homes_.room[1] = 0;
  for (int i = 0; i < 3; ++i) exchange_.tick(now_);
  EXPECT_EQ(list().killed_up_to(kScope), Stamp{50});
  homes_.room[1] = 10;
  exchange_.tick(now_);
  ASSERT_EQ(at(0).size(), 1u);
  ASSERT_EQ(at(1).size(), 1u);
  EXPECT_EQ(at(1)[0].kind, Kind::kForgetScope);
  EXPECT_EQ(list().killed_up_to(kScope), Stamp{});
}

TEST_F(ExchangeTest, AScopesTombstoneIsNotForgottenBeforeItIsCarriedOut) {
  name_one();
  ASSERT_TRUE(exchange_.kill_scope(kScope, Stamp{50}, now_));
  acknowledge_all();
  exchange_.tick(now_);
  now_ = now_ + seconds(450);
  exchange_.tick(now_);
  EXPECT_TRUE(at(0).empty());
  EXPECT_EQ(list().killed_up_to(kScope), Stamp{50});
}

// A peer may have forgotten it, and have heard since of a binding that a home had not removed yet.
TEST_F(ExchangeTest, AScopesTombstoneIsToldAgainWhenItIsCarriedOut) {
  name_one();
  EXPECT_TRUE(exchange_.deliver(scope_tombstone(50)));
  acknowledge_all();
  exchange_.tick(now_);
  EXPECT_TRUE(exchange_.is_killing());
  EXPECT_EQ(sent_to(0), Stamps{});
  answer(1);
  answer(1);
  exchange_.tick(now_);
  EXPECT_FALSE(exchange_.is_killing());
  EXPECT_EQ(sent_to(0), Stamps{50});
  EXPECT_EQ(sent_to(1), Stamps{50});
}

TEST_F(ExchangeTest, AScopesTombstoneIsNotOvertakenByWhatWasMadeBesideIt) {
  name_one();
  ASSERT_TRUE(exchange_.kill_scope(kScope, Stamp{50}, now_));
  exchange_.homes_know(Stamp{50});
  exchange_.apply(put(1, 101), now_);
  answer(1);
  answer(1);
  exchange_.tick(now_);
  EXPECT_EQ(sent_to(0), (Stamps{50, 101}));
  EXPECT_TRUE(exchange_.is_killing());
}

TEST_F(ExchangeTest, ATombstoneOfAScopeThatHasLeftIsForgottenWithoutItsHomes) {
  name_one();
  exchange_.apply(tombstone(1, 105), now_);
  acknowledge_all();
  name({});
  exchange_.tick(now_);
  now_ = now_ + kUnnamedKeep;
  exchange_.tick(now_);
  EXPECT_EQ(list().size(), 0u);
  EXPECT_TRUE(at(1).empty());
}

// --- fences --------------------------------------------------------------------------------------

TEST_F(ExchangeTest, AFenceHasPassedWhenAllHomesHaveAnswered) {
  name_one();
  const uint32_t fence = exchange_.begin_fence();
  ASSERT_EQ(at(0).size(), 1u);
  EXPECT_EQ(at(0)[0].kind, Kind::kFence);
  answer(at(0)[0].fence);
  EXPECT_FALSE(exchange_.has_passed(fence));
  answer(at(1)[0].fence);
  EXPECT_TRUE(exchange_.has_passed(fence));
}

TEST_F(ExchangeTest, AFenceGoesBehindWhatWaitedForItsScope) {
  exchange_.deliver(arrival(3, 101));
  homes_.room[1] = 0;
  name_one();
  const uint32_t fence = exchange_.begin_fence();
  exchange_.tick(now_);
  EXPECT_TRUE(at(0).empty());
  homes_.room[1] = 10;
  exchange_.tick(now_);
  ASSERT_EQ(at(1).size(), 2u);
  EXPECT_EQ(at(1)[0].kind, Kind::kRecord);
  EXPECT_EQ(at(1)[1].kind, Kind::kFence);
  EXPECT_FALSE(exchange_.has_passed(fence));
}

TEST_F(ExchangeTest, AFenceThatIsAskedForWhileOneIsUnderWayBeginsAfterIt) {
  const uint32_t first = exchange_.begin_fence();
  const uint32_t second = exchange_.begin_fence();
  const uint32_t third = exchange_.begin_fence();
  answer(first);
  answer(first);
  EXPECT_TRUE(exchange_.has_passed(first));
  EXPECT_FALSE(exchange_.has_passed(second));
  exchange_.tick(now_);
  ASSERT_EQ(at(0).size(), 2u);
  answer(at(0)[1].fence);
  answer(at(1)[1].fence);
  EXPECT_TRUE(exchange_.has_passed(third));
}

TEST_F(ExchangeTest, AFenceTellsHomesTheHighestStampThatWasSeen) {
  exchange_.observe(Stamp{9000});
  exchange_.begin_fence();
  ASSERT_EQ(at(0).size(), 1u);
  EXPECT_EQ(at(0)[0].record.act, Stamp{9000});
}

// --- stamps --------------------------------------------------------------------------------------

TEST_F(ExchangeTest, StampsMadeHereAreAboveAllThatWereSeen) {
  name_one();
  const uint64_t far = uint64_t{1} << 62;
  exchange_.deliver(arrival(1, far));
  EXPECT_GT(exchange_.next_stamp(now_), Stamp{far});
  exchange_.apply(put(2, far + (1 << 30)), now_);
  EXPECT_GT(exchange_.next_stamp(now_), Stamp{far + (1 << 30)});
  EXPECT_EQ(exchange_.next_stamp(now_).value & (binding::StampClock::kNodesMax - 1), kNode);
}

// --- disk ----------------------------------------------------------------------------------------

TEST_F(ExchangeTest, AWalkShowsConfirmedBindingsTombstonesAndWhatIsUnnamed) {
  name({{kScope, kSlot, true, seconds(450)}, {kOther, ScopeSlot{4}, false, seconds(450)}});
  exchange_.apply(put(1, 101), now_);
  Change local = put(2, 102);
  local.scope = ScopeSlot{4};
  exchange_.apply(local, now_);
  Change embryonic = put(3, 103);
  embryonic.confirmed = false;
  exchange_.apply(embryonic, now_);
  exchange_.apply(tombstone(4, 104), now_);
  exchange_.kill_scope(kScope, Stamp{55}, now_);
  exchange_.deliver(arrival(5, 105, kFromA, ScopeId{79}));
  Exchange::Walk walk;
  std::vector<std::pair<uint64_t, uint64_t>> seen;
  const auto visit = [&](ScopeId scope, const Key*, const Record& r, Instant) {
    seen.emplace_back(scope.value, r.live() ? r.stamp.value : r.deleted.value);
  };
  while (!exchange_.walk(&walk, 1, visit)) {
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (std::vector<std::pair<uint64_t, uint64_t>>{
                      {77, 55}, {77, 101}, {77, 104}, {78, 102}, {79, 105}}));
}

TEST_F(ExchangeTest, WhatChangesTheDiskCountsAsARevisionAndEmbryonicBindingsDoNot) {
  name_one();
  const uint64_t before = exchange_.revision();
  Change embryonic = put(3, 103);
  embryonic.confirmed = false;
  exchange_.apply(embryonic, now_);
  exchange_.apply(removal(3), now_);
  EXPECT_EQ(exchange_.revision(), before);
  exchange_.apply(put(3, 103), now_);
  EXPECT_NE(exchange_.revision(), before);
}

TEST_F(ExchangeTest, RestoredNewsIsNobodysAndNeedsNoMirroredScope) {
  name_one(false);
  EXPECT_TRUE(exchange_.restore(arrival(3, 101), now_));
  ASSERT_EQ(at(1).size(), 1u);
  EXPECT_EQ(at(1)[0].source.peer, kNoPeer);
  EXPECT_EQ(exchange_.counters().disk_restored, 1u);
}

TEST_F(ExchangeTest, RestoredNewsWhoseTimeIsOverIsDropped) {
  name_one();
  const Arrival old = arrival(3, 101);
  EXPECT_TRUE(exchange_.restore(old, now_ + seconds(450)));
  EXPECT_TRUE(at(1).empty());
  EXPECT_EQ(exchange_.counters().disk_expired, 1u);
  EXPECT_TRUE(exchange_.restore(old, now_ + seconds(449)));
  EXPECT_EQ(at(1).size(), 1u);
}

TEST_F(ExchangeTest, ARestoredTombstoneOutlivesItsBinding) {
  name_one();
  Arrival old = arrival(3, 101);
  old.record.deleted = Stamp{50};
  EXPECT_TRUE(exchange_.restore(old, now_ + seconds(450)));
  ASSERT_EQ(at(1).size(), 1u);
  EXPECT_FALSE(at(1)[0].record.live());
  EXPECT_EQ(at(1)[0].record.deleted, Stamp{50});
}

TEST_F(ExchangeTest, RestoredActivityIsNeverInTheFuture) {
  name_one();
  Arrival news = arrival(3, 101);
  news.act_at = now_ + seconds(3600);
  EXPECT_TRUE(exchange_.restore(news, now_));
  EXPECT_EQ(at(1)[0].act_at, now_);
}

}  // namespace
}  // namespace limpet::mirroring
