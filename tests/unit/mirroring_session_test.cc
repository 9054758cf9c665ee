#include "control/mirroring/session.h"

#include <gtest/gtest.h>

#include "tests/unit/mirroring_lab.h"

namespace limpet::mirroring {
namespace {

using binding::ScopeId;
using timing::Instant;
using timing::milliseconds;
using timing::seconds;
using State = Session::State;

constexpr ScopeId kScope{7};

// Engines "a" and "b" and their link; "a" connects.
class MirroringSessionTest : public testing::Test {
 protected:
  void connect() { link_.connect(now_); }
  // Time goes on in steps of 10 ms; whatever is written arrives at once.
  void run(timing::Duration time = milliseconds(300)) {
    for (const Instant end = now_ + time; now_ < end; now_ = now_ + milliseconds(10)) {
      link_.tick(now_);
      link_.move(now_);
    }
  }
  void run_synced() {
    connect();
    run();
    ASSERT_EQ(link_.caller().state(), State::kSynced);
    ASSERT_EQ(link_.listener().state(), State::kSynced);
  }
  // A listening session of "b", without a peer's session at its other end.
  std::unique_ptr<Session> listen() { return std::make_unique<Session>(b_.engine, nullptr, now_); }
  Hello hello_of_a() const { return {.boot = a_.engine.boot, .moment = now_, .name = "a"}; }
  void feed(Session& session, const Frame& frame) {
    std::vector<uint8_t> bytes;
    encode(frame, &bytes);
    session.receive(bytes, now_);
  }
  Binding binding(uint64_t sequence) const {
    return {.sequence = Sequence{sequence},
            .scope = kScope,
            .key = lab_key(1),
            .record = {.stamp = binding::Stamp{5}}};
  }
  // "b"'s end after a handshake and the begin of a full snapshot.
  std::unique_ptr<Session> established(uint64_t up_to = 100) {
    auto session = listen();
    feed(*session, hello_of_a());
    feed(*session, SnapshotBegin{Sequence{up_to}, SnapshotBegin::Kind::kFull});
    session->take_output();
    return session;
  }
  static std::vector<Frame> frames(const std::vector<uint8_t>& bytes) {
    std::vector<Frame> out;
    for (std::size_t at = 0; at < bytes.size();) {
      const Decoded decoded = decode(std::span(bytes).subspan(at));
      if (decoded.what != Decoded::What::kFrame) break;
      out.push_back(decoded.frame);
      at += decoded.bytes;
    }
    return out;
  }
  template <class T>
  static const T* find(const std::vector<Frame>& frames) {
    for (const Frame& frame : frames)
      if (const T* found = std::get_if<T>(&frame)) return found;
    return nullptr;
  }

  const std::vector<std::string> names_{"a", "b"};
  LabEngine a_{names_, 0, 1};
  LabEngine b_{names_, 1, 2};
  LabLink link_{a_, b_};
  Instant now_{5'000'000'000};
};

TEST_F(MirroringSessionTest, TwoEmptyEnginesAreSoonSynced) {
  connect();
  EXPECT_EQ(link_.caller().state(), State::kHandshake);
  run();
  EXPECT_EQ(link_.caller().state(), State::kSynced);
  EXPECT_EQ(link_.listener().state(), State::kSynced);
  EXPECT_TRUE(link_.listener().has_received_snapshot());
}

TEST_F(MirroringSessionTest, WhatWasKnownBeforeIsInTheSnapshot) {
  a_.home.create(kScope, 1, 11);
  b_.home.create(kScope, 2, 12);
  run_synced();
  EXPECT_EQ(a_.home.records, b_.home.records);
  EXPECT_EQ(a_.home.records.size(), 2u);
}

TEST_F(MirroringSessionTest, ChangesFollow) {
  run_synced();
  a_.home.create(kScope, 1, 11);
  run();
  EXPECT_EQ(b_.home.records, a_.home.records);
  b_.home.move(kScope, 1, 12);
  run();
  EXPECT_EQ(a_.home.records, b_.home.records);
}

class Listening final : public GroupListener {
 public:
  void hear(const Peer& peer, std::span<const uint8_t> body, Instant) override {
    heard.emplace_back(peer.name, std::vector<uint8_t>(body.begin(), body.end()));
  }

  std::vector<std::pair<std::string, std::vector<uint8_t>>> heard;
};

TEST_F(MirroringSessionTest, WhatIsSaidOfGroupsIsHeardAsItWasSaid) {
  Listening listening;
  b_.engine.groups = &listening;
  connect();
  EXPECT_FALSE(link_.caller().say_groups({})) << "before both HELLOs";
  run();
  const std::vector<uint8_t> body{1, 2, 3};
  EXPECT_TRUE(link_.caller().say_groups(body));
  EXPECT_TRUE(link_.caller().say_groups(std::vector<uint8_t>(kGroupsBytesMax, 9)));
  run();
  ASSERT_EQ(listening.heard.size(), 2u);
  EXPECT_EQ(listening.heard[0], std::pair(std::string("a"), body));
  EXPECT_EQ(listening.heard[1].second.size(), kGroupsBytesMax);
}

TEST_F(MirroringSessionTest, NobodyNeedsToListenToWhatIsSaidOfGroups) {
  run_synced();
  EXPECT_TRUE(link_.caller().say_groups(std::vector<uint8_t>{1}));
  run();
  EXPECT_EQ(link_.listener().state(), State::kSynced);
}

TEST_F(MirroringSessionTest, NothingOfGroupsIsHeardBeforeTheHandshake) {
  Listening listening;
  b_.engine.groups = &listening;
  const auto session = listen();
  feed(*session, Groups{{1}});
  EXPECT_EQ(session->reason(), Reason::kUnexpected);
  EXPECT_TRUE(listening.heard.empty());
}

TEST_F(MirroringSessionTest, ADeletionFollows) {
  a_.home.create(kScope, 1, 11);
  run_synced();
  a_.home.erase(kScope, 1);
  run();
  EXPECT_FALSE(b_.home.records.begin()->second.live());
}

TEST_F(MirroringSessionTest, AScopesDeletionFollows) {
  a_.home.create(kScope, 1, 11);
  run_synced();
  b_.home.kill(kScope);
  run();
  EXPECT_TRUE(a_.home.records.empty());
  EXPECT_EQ(a_.home.killed, b_.home.killed);
}

TEST_F(MirroringSessionTest, ASnapshotLargerThanTheWindowArrivesWhole) {
  for (uint32_t n = 0; n < 3000; ++n) a_.home.create(kScope, n, 11);
  connect();
  run(seconds(2));
  EXPECT_EQ(link_.listener().state(), State::kSynced);
  EXPECT_EQ(b_.home.records, a_.home.records);
}

TEST_F(MirroringSessionTest, IsNotSyncedBeforeTheSnapshotHasArrived) {
  for (uint32_t n = 0; n < 50; ++n) a_.home.create(kScope, n, 11);
  connect();
  for (int i = 0; i < 20; ++i) {
    link_.tick(now_);
    link_.move(now_, 200);
    now_ = now_ + milliseconds(10);
    if (b_.home.records.size() < 50) {
      ASSERT_NE(link_.listener().state(), State::kSynced);
    }
  }
  EXPECT_EQ(link_.listener().state(), State::kSnapshot);
  EXPECT_FALSE(link_.listener().has_received_snapshot());
  run();
  EXPECT_EQ(link_.listener().state(), State::kSynced);
}

TEST_F(MirroringSessionTest, ACutInTheMiddleOfAFrameLosesNothing) {
  run_synced();
  for (uint32_t n = 0; n < 10; ++n) a_.home.create(kScope, n, 11);
  link_.tick(now_);
  link_.move(now_, 3 * kShortBindingFrameBytes + 50);
  EXPECT_EQ(b_.home.records.size(), 3u);
  link_.cut();
  connect();
  run();
  EXPECT_EQ(b_.home.records, a_.home.records);
}

TEST_F(MirroringSessionTest, AReconnectGoesOnWhereItWas) {
  for (uint32_t n = 0; n < 10; ++n) a_.home.create(kScope, n, 11);
  run_synced();
  link_.cut();
  a_.home.create(kScope, 10, 11);
  b_.home.arrivals.clear();
  run_synced();
  EXPECT_EQ(b_.home.arrivals.size(), 1u);
  EXPECT_EQ(a_.peer("b").counters.snapshots_resumed, 1u);
  EXPECT_EQ(a_.peer("b").counters.snapshots_full, 1u);
}

TEST_F(MirroringSessionTest, ARestartedPeerGetsEverything) {
  for (uint32_t n = 0; n < 10; ++n) a_.home.create(kScope, n, 11);
  run_synced();
  link_.cut();
  LabEngine restarted(names_, 1, 3);
  LabLink link(a_, restarted);
  link.connect(now_);
  for (int i = 0; i < 20; ++i) {
    link.tick(now_);
    link.move(now_);
    now_ = now_ + milliseconds(10);
  }
  EXPECT_EQ(restarted.home.records, a_.home.records);
  EXPECT_EQ(a_.peer("b").counters.snapshots_full, 2u);
}

TEST_F(MirroringSessionTest, HeldBackUpdatesWaitAndAreNotLost) {
  run_synced();
  b_.home.full = true;
  for (uint32_t n = 0; n < 100; ++n) a_.home.create(kScope, n, 11);
  run();
  EXPECT_FALSE(link_.listener().wants_input());
  EXPECT_EQ(b_.home.records.size(), 0u);
  b_.home.full = false;
  run();
  EXPECT_EQ(b_.home.records, a_.home.records);
  EXPECT_GE(b_.peer("a").counters.held_back, 1u);
}

TEST_F(MirroringSessionTest, ASessionThatHoldsBackStaysAliveAtBothEnds) {
  run_synced();
  b_.home.full = true;
  a_.home.create(kScope, 1, 11);
  run(seconds(20));
  EXPECT_TRUE(link_.is_up());
  EXPECT_EQ(link_.caller().state(), State::kLagging);
}

TEST_F(MirroringSessionTest, ThePositionMovesOnlyWhenHomeHasTakenIt) {
  run_synced();
  const Position before = b_.peer("a").received;
  b_.home.full = true;
  a_.home.create(kScope, 1, 11);
  run();
  EXPECT_EQ(b_.peer("a").received, before);
  EXPECT_LT(a_.list.acknowledged(PeerIndex{0}), a_.list.last());
}

TEST_F(MirroringSessionTest, LagIsSeenAtBothEndsAndEnds) {
  run_synced();
  b_.home.full = true;
  for (uint32_t n = 0; n < 5; ++n) a_.home.create(kScope, n, 11);
  run(seconds(2));
  EXPECT_EQ(link_.caller().lag().entries, 5u);
  EXPECT_GE(link_.caller().lag().ms, 1900u);
  b_.home.full = false;
  run();
  EXPECT_EQ(link_.caller().lag(), Lag{});
  EXPECT_EQ(link_.caller().state(), State::kSynced);
  EXPECT_EQ(link_.listener().state(), State::kSynced);
}

TEST_F(MirroringSessionTest, ASilentPeerIsGivenUpAfterItsMisses) {
  run_synced();
  const Instant silent = now_;
  while (link_.caller().state() != State::kClosed) {
    link_.tick(now_);
    now_ = now_ + milliseconds(10);
    ASSERT_LT(now_ - silent, seconds(1));
  }
  EXPECT_GE(now_ - silent, milliseconds(400));  // it was heard up to a heartbeat before
  EXPECT_EQ(link_.caller().reason(), Reason::kSilent);
  EXPECT_EQ(a_.peer("b").counters.ended[Reason::kSilent], 1u);
  EXPECT_EQ(a_.peer("b").live, nullptr);
}

TEST_F(MirroringSessionTest, OurOwnStallIsNoSilenceOfThePeer) {
  run_synced();
  now_ = now_ + seconds(3);
  link_.tick(now_);
  EXPECT_EQ(link_.caller().state(), State::kSynced);
}

TEST_F(MirroringSessionTest, ActivityIsTakenByOurClockWhateverTheirsSays) {
  a_.skew = seconds(1000);
  run_synced();
  link_.tick(now_);
  link_.move(now_);
  a_.home.now = now_ + a_.skew - seconds(2);  // two seconds ago by the clock of "a"
  a_.home.create(kScope, 1, 11);
  run(milliseconds(20));
  ASSERT_EQ(b_.home.arrivals.size(), 1u);
  EXPECT_NEAR(static_cast<double>((now_ - b_.home.arrivals[0].act_at).count()), 2e9, 5e7);
}

TEST_F(MirroringSessionTest, ActivityIsNotMadeYoungerByWaitingInAQueue) {
  run_synced();
  const Instant act = now_;
  a_.home.now = act;
  a_.home.create(kScope, 1, 11);
  for (int i = 0; i < 30; ++i) {  // nothing arrives for 300 ms
    link_.tick(now_);
    link_.move(now_, 0);
    now_ = now_ + milliseconds(10);
  }
  run(milliseconds(20));
  ASSERT_EQ(b_.home.arrivals.size(), 1u);
  EXPECT_LE(b_.home.arrivals[0].act_at, act + milliseconds(10));
}

TEST_F(MirroringSessionTest, ActivityIsNeverInTheFuture) {
  auto session = established();
  Binding b = binding(1);
  b.act_at = now_ + seconds(1000);
  feed(*session, b);
  ASSERT_EQ(b_.home.arrivals.size(), 1u);
  EXPECT_EQ(b_.home.arrivals[0].act_at, now_);
}

TEST_F(MirroringSessionTest, MomentsAtTheEndsOfTheRangeAreHarmless) {
  auto session = listen();
  Hello hello = hello_of_a();
  hello.moment = Instant{-kMomentEnd + 1};
  feed(*session, hello);
  feed(*session, SnapshotBegin{Sequence{9}, SnapshotBegin::Kind::kFull});
  Binding b = binding(1);
  b.act_at = Instant{kMomentEnd - 1};
  feed(*session, b);
  feed(*session,
       Heartbeat{
           Instant{kMomentEnd - 1}, Instant{1 - kMomentEnd}, timing::Duration{1 - kMomentEnd}, {}});
  b = binding(2);
  b.act_at = Instant{1 - kMomentEnd};
  feed(*session, b);
  ASSERT_EQ(b_.home.arrivals.size(), 2u);
  EXPECT_LE(b_.home.arrivals[0].act_at, now_);
  EXPECT_LE(b_.home.arrivals[1].act_at, now_);
}

TEST_F(MirroringSessionTest, NothingButAHelloIsLookedAtFirst) {
  for (const Frame& frame : std::initializer_list<Frame>{
           binding(1), Ack{Sequence{1}}, Heartbeat{}, SnapshotBegin{}, SnapshotEnd{},
           ScopeTombstone{Sequence{1}, kScope, binding::Stamp{1}}}) {
    auto session = listen();
    feed(*session, frame);
    EXPECT_EQ(session->state(), State::kClosed);
    EXPECT_EQ(session->reason(), Reason::kUnexpected);
  }
  EXPECT_TRUE(b_.home.arrivals.empty());
  EXPECT_EQ(b_.engine.ended[Reason::kUnexpected], 6u);
}

TEST_F(MirroringSessionTest, TheListenerSaysNothingBeforeAHello) {
  auto session = listen();
  session->tick(now_ + seconds(1));
  session->pump(now_);
  EXPECT_FALSE(session->has_output());
  feed(*session, hello_of_a());
  EXPECT_TRUE(session->has_output());
}

TEST_F(MirroringSessionTest, AnUnknownNameIsRefused) {
  auto session = listen();
  Hello hello = hello_of_a();
  hello.name = "x";
  feed(*session, hello);
  EXPECT_EQ(session->reason(), Reason::kUnknownPeer);
  EXPECT_EQ(b_.engine.ended[Reason::kUnknownPeer], 1u);
  const auto sent = frames(session->take_output());
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0], Frame{Bye{static_cast<uint32_t>(Reason::kUnknownPeer)}});
}

TEST_F(MirroringSessionTest, OurOwnNameIsRefused) {
  auto session = listen();
  Hello hello = hello_of_a();
  hello.name = "b";
  feed(*session, hello);
  EXPECT_EQ(session->reason(), Reason::kOwnName);
}

TEST_F(MirroringSessionTest, AnotherNameThanTheOneCalledIsRefused) {
  Session session(a_.engine, &a_.peer("b"), now_);
  Hello hello = hello_of_a();
  hello.name = "c";
  feed(session, hello);
  EXPECT_EQ(session.reason(), Reason::kWrongName);
}

TEST_F(MirroringSessionTest, APeerThatShouldListenIsRefused) {
  Session session(a_.engine, nullptr, now_);
  Hello hello = hello_of_a();
  hello.name = "b";
  feed(session, hello);
  EXPECT_EQ(session.reason(), Reason::kWrongName);
}

TEST_F(MirroringSessionTest, ASecondHelloEndsTheSession) {
  auto session = established();
  feed(*session, hello_of_a());
  EXPECT_EQ(session->reason(), Reason::kUnexpected);
}

TEST_F(MirroringSessionTest, ANewerSessionOfAPeerReplacesTheOlder) {
  auto older = established();
  auto newer = listen();
  feed(*newer, hello_of_a());
  EXPECT_EQ(older->reason(), Reason::kReplaced);
  EXPECT_EQ(newer->state(), State::kSnapshot);
  EXPECT_EQ(b_.peer("a").live, newer.get());
  older.reset();
  EXPECT_EQ(b_.peer("a").live, newer.get());
}

TEST_F(MirroringSessionTest, VersionsWithoutCommonOnesAreRefused) {
  auto session = listen();
  Hello hello = hello_of_a();
  hello.versions = {2, 9};
  feed(*session, hello);
  EXPECT_EQ(session->reason(), Reason::kVersion);
}

TEST_F(MirroringSessionTest, ANewerPeerThatSpeaksOurVersionIsWelcome) {
  auto session = listen();
  Hello hello = hello_of_a();
  hello.versions = {1, 9};
  hello.features = UINT64_MAX;
  feed(*session, hello);
  EXPECT_EQ(session->state(), State::kSnapshot);
}

TEST_F(MirroringSessionTest, FramesOfANewerVersionAreSkipped) {
  auto session = established();
  std::vector<uint8_t> bytes;
  encode(Ack{}, &bytes);
  bytes[4] = 77;
  session->receive(bytes, now_);
  feed(*session, binding(1));
  EXPECT_EQ(b_.home.arrivals.size(), 1u);
  EXPECT_EQ(b_.peer("a").counters.frames_skipped, 1u);
}

TEST_F(MirroringSessionTest, GarbageEndsTheSession) {
  auto session = listen();
  session->receive(std::vector<uint8_t>(100, 'G'), now_);
  EXPECT_EQ(session->reason(), Reason::kBadLength);
  session->receive(std::vector<uint8_t>(100, 'G'), now_);  // what still arrives is ignored
}

TEST_F(MirroringSessionTest, UpdatesBeforeASnapshotBeginsAreRefused) {
  auto session = listen();
  feed(*session, hello_of_a());
  feed(*session, binding(1));
  EXPECT_EQ(session->reason(), Reason::kUnexpected);
}

TEST_F(MirroringSessionTest, SequencesThatDoNotRiseAreRefused) {
  auto session = established();
  feed(*session, binding(5));
  feed(*session, binding(5));
  EXPECT_EQ(session->reason(), Reason::kBadSequence);
  EXPECT_EQ(b_.home.arrivals.size(), 1u);
}

TEST_F(MirroringSessionTest, AnUpdateBeyondTheSnapshotWithinItIsRefused) {
  auto session = established(10);
  feed(*session, binding(11));
  EXPECT_EQ(session->reason(), Reason::kBadSequence);
}

TEST_F(MirroringSessionTest, AnotherEndThanTheSnapshotsIsRefused) {
  auto session = established(10);
  feed(*session, SnapshotEnd{Sequence{9}});
  EXPECT_EQ(session->reason(), Reason::kBadSequence);
}

TEST_F(MirroringSessionTest, ASecondSnapshotIsRefused) {
  auto session = established(10);
  feed(*session, SnapshotBegin{Sequence{10}, SnapshotBegin::Kind::kFull});
  EXPECT_EQ(session->reason(), Reason::kUnexpected);
}

TEST_F(MirroringSessionTest, ResumingWhatNeverWasIsRefused) {
  auto session = listen();
  feed(*session, hello_of_a());
  feed(*session, SnapshotBegin{Sequence{10}, SnapshotBegin::Kind::kResume});
  EXPECT_EQ(session->reason(), Reason::kUnexpected);
}

TEST_F(MirroringSessionTest, AnAcknowledgementOfWhatWasNotSentIsRefused) {
  auto session = established();
  feed(*session, Ack{Sequence{1}});
  EXPECT_EQ(session->reason(), Reason::kBadAck);
}

TEST_F(MirroringSessionTest, AFalsePositionIsAnsweredWithEverything) {
  b_.home.create(kScope, 1, 11);
  auto session = listen();
  Hello hello = hello_of_a();
  hello.received = {b_.engine.boot, Sequence{1'000'000}};
  feed(*session, hello);
  const auto sent = frames(session->take_output());
  ASSERT_NE(find<SnapshotBegin>(sent), nullptr);
  EXPECT_EQ(find<SnapshotBegin>(sent)->kind, SnapshotBegin::Kind::kFull);
  EXPECT_NE(find<Binding>(sent), nullptr);
}

TEST_F(MirroringSessionTest, AHandshakeThatIsNotFinishedEnds) {
  auto session = listen();
  session->tick(now_ + milliseconds(4999));
  EXPECT_EQ(session->state(), State::kHandshake);
  session->tick(now_ + seconds(5));
  EXPECT_EQ(session->reason(), Reason::kHandshakeTimeout);
}

TEST_F(MirroringSessionTest, AByeEndsItAndItsReasonIsKept) {
  auto session = established();
  feed(*session, Bye{1});
  EXPECT_EQ(session->reason(), Reason::kPeerSaidBye);
  EXPECT_EQ(b_.peer("a").last_bye, 1u);
  EXPECT_FALSE(session->has_output());
}

TEST_F(MirroringSessionTest, OutputAndWindowAreBounded) {
  for (uint32_t n = 0; n < 4000; ++n) b_.home.create(kScope, n, 11);
  auto session = listen();
  feed(*session, hello_of_a());
  for (int i = 0; i < 1000; ++i) {  // nothing is read by the other side
    now_ = now_ + milliseconds(10);
    feed(*session, Heartbeat{.moment = now_});
    session->tick(now_);
  }
  const std::size_t waits = session->take_output().size();
  EXPECT_GT(waits, kOutputBytesMax / 2);
  EXPECT_LE(waits, kOutputBytesMax + kHelloFrameBytes + 1000);
}

TEST_F(MirroringSessionTest, OneAcknowledgementAnswersAPieceOfInput) {
  auto session = established();
  std::vector<uint8_t> bytes;
  for (uint64_t s = 1; s <= 20; ++s) encode(binding(s), &bytes);
  session->receive(bytes, now_);
  int acks = 0;
  for (const Frame& frame : frames(session->take_output()))
    if (const Ack* ack = std::get_if<Ack>(&frame)) {
      ++acks;
      EXPECT_EQ(ack->sequence, Sequence{20});
    }
  EXPECT_EQ(acks, 1);
}

TEST_F(MirroringSessionTest, PiecesThatFollowCloselyAreAcknowledgedTogether) {
  auto session = established();
  const auto acknowledged = [&] {
    std::vector<uint64_t> out;
    for (const Frame& frame : frames(session->take_output()))
      if (const Ack* ack = std::get_if<Ack>(&frame)) out.push_back(ack->sequence.value);
    return out;
  };
  feed(*session, binding(1));
  EXPECT_EQ(acknowledged(), std::vector<uint64_t>{1});
  now_ = now_ + milliseconds(1);
  feed(*session, binding(2));
  feed(*session, binding(3));
  EXPECT_TRUE(acknowledged().empty());
  now_ = now_ + milliseconds(4);
  session->pump(now_);
  EXPECT_EQ(acknowledged(), std::vector<uint64_t>{3});
}

TEST_F(MirroringSessionTest, ManyUpdatesAreAcknowledgedAtOnce) {
  auto session = established(2 * kAcknowledgedTogether);
  feed(*session, binding(1));
  std::vector<uint8_t> bytes;
  for (uint64_t s = 2; s <= 1 + kAcknowledgedTogether; ++s) encode(binding(s), &bytes);
  session->take_output();
  session->receive(bytes, now_);
  const auto sent = frames(session->take_output());
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(std::get<Ack>(sent[0]).sequence, Sequence{1 + kAcknowledgedTogether});
}

TEST_F(MirroringSessionTest, TheEndOfASnapshotIsAcknowledgedAtOnce) {
  auto session = established(2);
  feed(*session, binding(1));
  feed(*session, binding(2));
  session->take_output();
  feed(*session, SnapshotEnd{Sequence{2}});
  const auto sent = frames(session->take_output());
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(std::get<Ack>(sent[0]).sequence, Sequence{2});
}

TEST_F(MirroringSessionTest, WhatIsNewWaitsForPump) {
  run_synced();
  const auto sent_before = a_.engine.peers[0].counters.updates_sent;
  a_.home.create(kScope, 1, 11);
  link_.caller().go_on(now_);
  EXPECT_EQ(a_.engine.peers[0].counters.updates_sent, sent_before);
  link_.caller().pump(now_);
  EXPECT_EQ(a_.engine.peers[0].counters.updates_sent, sent_before + 1);
}

TEST_F(MirroringSessionTest, TheRoundTripIsMeasuredByHeartbeats) {
  connect();
  for (int i = 0; i < 60; ++i) {
    link_.tick(now_);
    now_ = now_ + milliseconds(10);
    link_.move(now_);
  }
  ASSERT_TRUE(link_.caller().round_trip().has_value());
  EXPECT_LE(*link_.caller().round_trip(), milliseconds(30));
}

}  // namespace
}  // namespace limpet::mirroring
