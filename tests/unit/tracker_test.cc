// The TCP tracker, state by state: what each segment of either side, right or forged, makes of a
// connection. Numbers near the wrap, so that every comparison is one over it.
#include "dataplane/l4/tracker.h"

#include <gtest/gtest.h>

namespace limpet::l4 {
namespace {

using packet::kTcpAck;
using packet::kTcpFin;
using packet::kTcpRst;
using packet::kTcpSyn;
using packet::TcpSegment;
using Effect = Step::Effect;

constexpr uint32_t kClient = UINT32_MAX - 1;  // initial sequence numbers
constexpr uint32_t kServer = UINT32_MAX - 3;
constexpr auto kUp = Direction::kToServer;
constexpr auto kDown = Direction::kToClient;

// A connection and the numbers that its sides would use.
class TrackerTest : public testing::Test {
 protected:
  FlowState state = FlowState::kSynSent;
  Seen seen;
  uint32_t client = kClient + 1;  // next to send
  uint32_t server = kServer + 1;

  void begin_anew() {
    state = FlowState::kSynSent;
    client = kClient + 1;
    server = kServer + 1;
  }
  Step pass(Direction direction, const TcpSegment& s) {
    const Step step = track(state, direction, s, &seen);
    state = step.state;
    return step;
  }
  // A segment that fits; takes its numbers.
  Step send(Direction direction, uint8_t flags, uint32_t bytes = 0) {
    const TcpSegment s = fitting(direction, flags, bytes);
    (direction == kUp ? client : server) = s.end();
    return pass(direction, s);
  }
  TcpSegment fitting(Direction direction, uint8_t flags, uint32_t bytes = 0) const {
    return {.sequence = direction == kUp ? client : server,
            .acknowledgment = direction == kUp ? server : client,
            .bytes = bytes,
            .window = 1000,
            .flags = flags};
  }
  static TcpSegment syn(uint32_t sequence = kClient, uint8_t scale = packet::kNoScale) {
    return {.sequence = sequence, .window = 1000, .flags = kTcpSyn, .scale = scale};
  }
  static TcpSegment syn_ack(uint32_t acknowledgment = kClient + 1,
                            uint8_t scale = packet::kNoScale) {
    return {.sequence = kServer,
            .acknowledgment = acknowledgment,
            .window = 1000,
            .flags = kTcpSyn | kTcpAck,
            .scale = scale};
  }
  void open(uint8_t scale = packet::kNoScale) { seen = seen_opening(syn(kClient, scale)); }
  void answer(uint8_t scale = packet::kNoScale) { pass(kDown, syn_ack(kClient + 1, scale)); }
  void establish(uint8_t scale = packet::kNoScale) {
    open(scale);
    answer(scale);
    send(kUp, kTcpAck);
    ASSERT_EQ(state, FlowState::kEstablished);
  }
  // Passes and leaves no trace.
  void expect_ignored(Direction direction, const TcpSegment& s, const char* what) {
    const Seen before = seen;
    const FlowState was = state;
    const Step step = pass(direction, s);
    EXPECT_EQ(step.state, was) << what;
    EXPECT_EQ(step.life, Life::kAsBefore) << what;
    EXPECT_EQ(step.effect, Effect::kNone) << what;
    EXPECT_EQ(seen, before) << what;
  }
};

// --- opening -----------------------------------------------------------------------------------

TEST_F(TrackerTest, AHandshakeOpens) {
  open();
  const Step answered = pass(kDown, syn_ack());
  EXPECT_EQ(answered.state, FlowState::kSynReceived);
  EXPECT_EQ(answered.life, Life::kHalfOpen);
  const Step confirmed = send(kUp, kTcpAck);
  EXPECT_EQ(confirmed.state, FlowState::kEstablished);
  EXPECT_EQ(confirmed.life, Life::kIdle);
  EXPECT_EQ(confirmed.effect, Effect::kConfirmed);
}

TEST_F(TrackerTest, TheAckOfTheHandshakeMayCarryDataOrAFin) {
  open();
  answer();
  const Step step = send(kUp, kTcpAck | kTcpFin, 10);
  EXPECT_EQ(step.state, FlowState::kClientFin);
  EXPECT_EQ(step.effect, Effect::kConfirmed);
}

TEST_F(TrackerTest, ASynAckHasToAcknowledgeTheSyn) {
  open();
  expect_ignored(kDown, syn_ack(kClient), "too low");
  expect_ignored(kDown, syn_ack(kClient + 2), "too high");
  expect_ignored(kDown, fitting(kDown, kTcpAck), "a challenge of what was there before");
  expect_ignored(kUp, fitting(kUp, kTcpAck, 5), "data before the answer");
  answer();
  EXPECT_EQ(state, FlowState::kSynReceived);
}

TEST_F(TrackerTest, ASynWithDataMayBeAcknowledgedWithOrWithoutThem) {  // RFC 7413
  for (const uint32_t accepted : {0u, 60u, 100u}) {
    TcpSegment s = syn();
    s.bytes = 100;
    state = FlowState::kSynSent;
    seen = seen_opening(s);
    EXPECT_EQ(pass(kDown, syn_ack(kClient + 1 + accepted)).state, FlowState::kSynReceived);
  }
}

TEST_F(TrackerTest, ABlindAckConfirmsNothing) {
  open();
  answer();
  for (const uint32_t off : {uint32_t{0x7fffffff}, uint32_t{0x80000000}, UINT32_MAX, 1u, 2u}) {
    TcpSegment s = fitting(kUp, kTcpAck, 10);
    s.acknowledgment += off;
    expect_ignored(kUp, s, "wrong acknowledgment");
  }
  TcpSegment far = fitting(kUp, kTcpAck);
  far.sequence += 0x40000000;
  expect_ignored(kUp, far, "a sequence number the server cannot accept");
  TcpSegment none = fitting(kUp, 0, 10);
  expect_ignored(kUp, none, "no acknowledgment");
  expect_ignored(kDown, fitting(kDown, kTcpAck, 10), "the server's data are no proof");
  EXPECT_EQ(send(kUp, kTcpAck).effect, Effect::kConfirmed);
}

TEST_F(TrackerTest, ARepeatedSynAckKeepsItHalfOpen) {
  open();
  answer();
  EXPECT_EQ(pass(kDown, syn_ack()).life, Life::kHalfOpen);
  EXPECT_EQ(pass(kUp, syn()).life, Life::kHalfOpen) << "the client's SYN again";
  // The server begins anew: the client has to acknowledge that.
  TcpSegment anew = syn_ack();
  anew.sequence = 77;
  pass(kDown, anew);
  expect_ignored(kUp, fitting(kUp, kTcpAck), "of the SYN before");
  server = 78;
  EXPECT_EQ(send(kUp, kTcpAck).effect, Effect::kConfirmed);
}

TEST_F(TrackerTest, ASynIsJudgedByTheState) {
  open();
  EXPECT_EQ(judge_syn(state, syn(), seen), Syn::kRepeated);
  EXPECT_EQ(judge_syn(state, syn(5), seen), Syn::kNew);
  answer();
  EXPECT_EQ(judge_syn(state, syn(), seen), Syn::kRepeated);
  EXPECT_EQ(judge_syn(state, syn(5), seen), Syn::kNew);
  send(kUp, kTcpAck);
  EXPECT_EQ(judge_syn(state, syn(), seen), Syn::kContested);
  EXPECT_EQ(judge_syn(state, syn(5), seen), Syn::kContested);
  for (const FlowState over :
       {FlowState::kClientFin, FlowState::kServerFin, FlowState::kClosing, FlowState::kTimeWait})
    EXPECT_EQ(judge_syn(over, syn(5), seen), Syn::kNew);
}

TEST_F(TrackerTest, AContestedSynThatIsPassedOnChangesNothing) {
  establish();
  expect_ignored(kUp, syn(5), "the client's");
  expect_ignored(kUp, syn(client), "in the window");
  expect_ignored(kDown, syn_ack(), "the server's answer again");
  // The challenge goes to a client that does not know the connection: its reset is exact.
  send(kDown, kTcpAck);
  EXPECT_EQ(pass(kUp, {.sequence = client, .flags = kTcpRst}).effect, Effect::kOver);
}

// --- established -------------------------------------------------------------------------------

TEST_F(TrackerTest, TrafficKeepsItIdleForAsLongAsTheProfileSays) {
  establish();
  EXPECT_EQ(send(kUp, kTcpAck, 100).life, Life::kIdle);
  EXPECT_EQ(send(kDown, kTcpAck, 100).life, Life::kIdle);
  TcpSegment probe = fitting(kUp, kTcpAck);
  --probe.sequence;  // RFC 9293 3.8.4
  EXPECT_EQ(pass(kUp, probe).life, Life::kIdle);
}

TEST_F(TrackerTest, OnlyAnExactResetEndsIt) {
  for (const Direction d : {kUp, kDown}) {
    establish();
    send(kUp, kTcpAck, 300);
    send(kDown, kTcpAck, 200);
    const uint32_t next = d == kUp ? client : server;
    expect_ignored(d, {.sequence = next + 1001, .flags = kTcpRst}, "beyond the window");
    expect_ignored(d, {.sequence = next - 301, .flags = kTcpRst}, "long acknowledged");
    expect_ignored(d, {.sequence = next + 0x70000000, .flags = kTcpRst}, "far away");
    const Step near = pass(d, {.sequence = next + 5, .flags = kTcpRst});
    EXPECT_EQ(near.effect, Effect::kNone);
    EXPECT_EQ(near.life, Life::kShort) << "within the window: the receiver challenges it";
    EXPECT_EQ(send(d, kTcpAck, 1).life, Life::kIdle) << "it goes on";
    EXPECT_EQ(pass(d, {.sequence = next + 1, .flags = kTcpRst | kTcpAck}).effect, Effect::kOver);
    begin_anew();
  }
}

TEST_F(TrackerTest, AResetThatAnswersASegmentIsExact) {
  // The server has forgotten the connection: its reset carries what the client has acknowledged,
  // though more of the server's may have passed and been lost.
  establish();
  const uint32_t acknowledged = server;
  send(kDown, kTcpAck, 500);
  EXPECT_EQ(pass(kDown, {.sequence = acknowledged, .flags = kTcpRst}).effect, Effect::kOver);
}

TEST_F(TrackerTest, AResetOfASynHasToAcknowledgeIt) {
  open();
  expect_ignored(kDown, {.sequence = 0, .flags = kTcpRst}, "without an acknowledgment");
  expect_ignored(kDown, {.sequence = 0, .acknowledgment = kClient, .flags = kTcpRst | kTcpAck},
                 "of something else");
  expect_ignored(kUp, {.sequence = 4711, .flags = kTcpRst}, "the client's, of something else");
  EXPECT_EQ(pass(kDown, {.acknowledgment = kClient + 1, .flags = kTcpRst | kTcpAck}).effect,
            Effect::kOver);
  EXPECT_EQ(pass(kUp, {.sequence = kClient + 1, .flags = kTcpRst}).effect, Effect::kOver);
  answer();
  EXPECT_EQ(pass(kUp, {.sequence = kClient + 1, .flags = kTcpRst}).effect, Effect::kOver);
  EXPECT_EQ(pass(kDown, {.sequence = kServer + 1, .flags = kTcpRst}).effect, Effect::kOver);
}

TEST_F(TrackerTest, ForgedNumbersAreNotBelieved) {
  establish();
  const Seen before = seen;
  TcpSegment data = fitting(kUp, kTcpAck, 10);
  data.sequence += 0x20000000;
  pass(kUp, data);
  TcpSegment ack = fitting(kUp, kTcpAck);
  ack.acknowledgment += 1;  // of what was never sent
  pass(kUp, ack);
  ack.acknowledgment -= 100;  // of what is long acknowledged
  pass(kUp, ack);
  EXPECT_EQ(seen, before);
}

TEST_F(TrackerTest, WindowsAreScaledIfBothSidesSaidSo) {
  establish(4);
  TcpSegment far = fitting(kDown, kTcpRst);
  far.sequence += 15'000;  // of 1,000 << 4
  EXPECT_EQ(pass(kDown, far).life, Life::kShort);
  begin_anew();
  open(4);
  answer();  // the server does not scale: nobody does
  send(kUp, kTcpAck);
  far = fitting(kDown, kTcpRst);
  far.sequence += 15'000;
  expect_ignored(kDown, far, "beyond 1,000");
}

// --- closing -----------------------------------------------------------------------------------

TEST_F(TrackerTest, ItClosesWhenBothHaveFinishedAndWaitsWhenBothAreAcknowledged) {
  establish();
  Step step = send(kUp, kTcpAck | kTcpFin, 10);
  EXPECT_EQ(step.state, FlowState::kClientFin);
  EXPECT_EQ(step.life, Life::kIdle) << "half closed lives as established";
  EXPECT_EQ(send(kDown, kTcpAck, 5000).life, Life::kIdle);
  EXPECT_EQ(send(kUp, kTcpAck).life, Life::kIdle);
  step = send(kDown, kTcpAck | kTcpFin);
  EXPECT_EQ(step.state, FlowState::kClosing);
  EXPECT_EQ(step.life, Life::kClosing);
  EXPECT_EQ(step.effect, Effect::kClosed);
  TcpSegment stale = fitting(kUp, kTcpAck);
  stale.acknowledgment -= 1;
  EXPECT_EQ(pass(kUp, stale).state, FlowState::kClosing) << "the last FIN is not acknowledged yet";
  step = send(kUp, kTcpAck);
  EXPECT_EQ(step.state, FlowState::kTimeWait);
  EXPECT_EQ(step.life, Life::kTimeWait);
  EXPECT_EQ(step.effect, Effect::kNone) << "closed once";
}

TEST_F(TrackerTest, BothMayFinishAtOnce) {
  establish();
  TcpSegment last = fitting(kDown, kTcpAck | kTcpFin);
  send(kUp, kTcpAck | kTcpFin);
  EXPECT_EQ(pass(kDown, last).effect, Effect::kClosed);
  server = last.end();
  EXPECT_EQ(send(kUp, kTcpAck).state, FlowState::kClosing);
  EXPECT_EQ(send(kDown, kTcpAck).state, FlowState::kTimeWait);
}

TEST_F(TrackerTest, AFinSentAgainFinishesNobodyElse) {
  establish();
  const TcpSegment fin = fitting(kDown, kTcpAck | kTcpFin, 3);
  send(kDown, kTcpAck | kTcpFin, 3);
  EXPECT_EQ(state, FlowState::kServerFin);
  EXPECT_EQ(pass(kDown, fin).state, FlowState::kServerFin);
  EXPECT_EQ(send(kUp, kTcpAck, 100).state, FlowState::kServerFin) << "the client goes on";
}

TEST_F(TrackerTest, AFinFarOutOfTheWindowFinishesNobody) {
  establish();
  for (const uint32_t off : {2000u, 0x40000000u, uint32_t(-2000)}) {
    TcpSegment fin = fitting(kUp, kTcpAck | kTcpFin);
    fin.sequence += off;
    const Seen before = seen;
    EXPECT_EQ(pass(kUp, fin).state, FlowState::kEstablished);
    EXPECT_EQ(seen, before);
  }
}

TEST_F(TrackerTest, WhatIsSentAgainExtendsTimeWait) {
  establish();
  send(kUp, kTcpAck | kTcpFin);
  const TcpSegment fin = fitting(kDown, kTcpAck | kTcpFin);
  send(kDown, kTcpAck | kTcpFin);
  send(kUp, kTcpAck);
  ASSERT_EQ(state, FlowState::kTimeWait);
  EXPECT_EQ(pass(kDown, fin).life, Life::kTimeWait) << "the last acknowledgment was lost";
  expect_ignored(kUp, fitting(kUp, kTcpAck), "the acknowledgment");
  expect_ignored(kUp, {.sequence = client, .flags = kTcpRst}, "RFC 1337");
  expect_ignored(kDown, {.sequence = server, .flags = kTcpRst}, "RFC 1337");
}

// --- adopted -----------------------------------------------------------------------------------

TEST_F(TrackerTest, AConnectionWhoseBeginningWasNotSeenGoesOnAndCloses) {
  for (const Direction first : {kUp, kDown}) {
    client = 5000;
    server = 9000;
    state = FlowState::kEstablished;
    const TcpSegment s = fitting(first, kTcpAck, 10);
    seen = seen_going_on(first, s);
    (first == kUp ? client : server) += 10;
    EXPECT_EQ(pass(first, s).life, Life::kIdle);
    EXPECT_EQ(send(kUp, kTcpAck, 1'000'000).life, Life::kIdle) << "windows are not known";
    EXPECT_EQ(send(kDown, kTcpAck, 1000).life, Life::kIdle);
    send(kUp, kTcpAck | kTcpFin);
    EXPECT_EQ(send(kDown, kTcpAck | kTcpFin).effect, Effect::kClosed);
    EXPECT_EQ(send(kUp, kTcpAck).state, FlowState::kTimeWait);
  }
}

}  // namespace
}  // namespace limpet::l4
