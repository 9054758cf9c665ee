#include "dataplane/l4/tracker.h"

#include <utility>

namespace limpet::l4 {

using packet::kTcpAck;
using packet::kTcpFin;
using packet::kTcpRst;
using packet::kTcpSyn;
using packet::TcpSegment;
using Effect = Step::Effect;

namespace {

// The largest window (RFC 7323 2.3): what is assumed where the handshake was not seen.
constexpr uint8_t kScaleMax = 14;

// The connection as the sender of a segment sees it.
struct View {
  Seen::Side& from;
  Seen::Side& to;
  uint32_t scale;  // of the sender's window
  bool finished;   // the sender's FIN was seen before
};

View view(Seen& seen, Direction direction, FlowState state) {
  const bool closing = state == FlowState::kClosing || state == FlowState::kTimeWait;
  if (direction == Direction::kToServer)
    return {seen.client, seen.server, window_scale(seen, direction),
            closing || state == FlowState::kClientFin};
  return {seen.server, seen.client, window_scale(seen, direction),
          closing || state == FlowState::kServerFin};
}

// Whether the receiver may accept it: it ends no earlier than what the receiver has acknowledged
// (again is allowed, and a keepalive one number below) and begins no later than its window.
bool acceptable(const View& v, const TcpSegment& s) {
  return sequence_within(s.sequence, v.to.acked - 1 - s.length(), v.to.edge);
}

// Takes over what the segment says, where it can be true.
void note(View& v, const TcpSegment& s) {
  if (!v.finished && acceptable(v, s) && sequence_after(s.end(), v.from.next))
    v.from.next = s.end();
  if (!s.has(kTcpAck) || !sequence_within(s.acknowledgment, v.from.acked, v.to.next)) return;
  v.from.acked = s.acknowledgment;
  const uint32_t edge = s.acknowledgment + (uint32_t{s.window} << v.scale);
  if (sequence_after(edge, v.from.edge)) v.from.edge = edge;
}

Step on_reset(FlowState state, Direction direction, const TcpSegment& s, const View& v) {
  const Step over{state, Life::kAsBefore, Effect::kOver};
  switch (state) {
    case FlowState::kTimeWait:
      return {state};
    case FlowState::kSynSent:
      if (direction == Direction::kToClient)  // RFC 9293 3.10.7.3
        return s.has(kTcpAck) && sequence_within(s.acknowledgment, v.from.acked, v.to.next)
                   ? over
                   : Step{state};
      break;
    default:
      break;
  }
  if (s.sequence == v.from.next || s.sequence == v.to.acked) return over;
  const bool in_window =
      sequence_within(s.sequence, v.to.acked, v.to.edge) && s.sequence != v.to.edge;
  return {state, in_window ? Life::kShort : Life::kAsBefore};
}

// The server's answer to the SYN, once or again; again it may come from a server that has begun
// anew.
Step on_syn_ack(FlowState state, const TcpSegment& s, Seen& seen) {
  if (state != FlowState::kSynSent && state != FlowState::kSynReceived)
    return {state, Life::kAsBefore};
  Seen::Side& server = seen.server;
  Seen::Side& client = seen.client;
  if (!sequence_within(s.acknowledgment, server.acked, client.next)) return {state};
  server.next = s.end();
  server.edge = s.acknowledgment + s.window;
  const uint32_t client_window = client.edge - client.acked;  // the SYN's
  client.acked = s.sequence + 1;
  client.edge = client.acked + client_window;
  seen.server_scale = s.scale & 0xf;
  return {FlowState::kSynReceived, Life::kHalfOpen};
}

Step on_fin(FlowState state, Direction direction) {
  const bool client = direction == Direction::kToServer;
  const FlowState own = client ? FlowState::kClientFin : FlowState::kServerFin;
  const FlowState other = client ? FlowState::kServerFin : FlowState::kClientFin;
  if (state == FlowState::kEstablished) return {own, Life::kIdle};
  if (state == other) return {FlowState::kClosing, Life::kClosing, Effect::kClosed};
  return {state, state == own ? Life::kIdle : Life::kAsBefore};
}

// Both FINs are acknowledged: the last of them may have been so before it was seen to be one.
Step settle(Step step, const Seen& seen) {
  if (step.state != FlowState::kClosing || seen.client.acked != seen.server.next ||
      seen.server.acked != seen.client.next)
    return step;
  return {FlowState::kTimeWait, Life::kTimeWait, step.effect};
}

Step with_confirmation(Step step) {
  step.effect = Effect::kConfirmed;
  return step;
}

}  // namespace

Syn judge_syn(FlowState state, const TcpSegment& syn, const Seen& seen) {
  switch (state) {
    case FlowState::kSynSent:
    case FlowState::kSynReceived:
      return syn.end() == seen.client.next ? Syn::kRepeated : Syn::kNew;
    case FlowState::kEstablished:
      return Syn::kContested;
    default:
      return Syn::kNew;
  }
}

Seen seen_opening(const TcpSegment& syn) {
  Seen seen;
  seen.client = {.next = syn.end(), .acked = 0, .edge = syn.window};
  // What the server will expect, if it lives.
  seen.server = {.next = 0, .acked = syn.sequence + 1, .edge = syn.end()};
  seen.client_scale = syn.scale & 0xf;
  return seen;
}

Seen seen_going_on(Direction direction, const TcpSegment& s) {
  const Seen::Side from{s.end(), s.acknowledgment,
                        s.acknowledgment + (uint32_t{s.window} << kScaleMax)};
  const Seen::Side to{s.acknowledgment, s.sequence, s.end() + (UINT16_MAX << kScaleMax)};
  Seen seen;
  seen.client = direction == Direction::kToServer ? from : to;
  seen.server = direction == Direction::kToServer ? to : from;
  seen.client_scale = seen.server_scale = kScaleMax;
  return seen;
}

Step track(FlowState state, Direction direction, const TcpSegment& s, Seen* seen) {
  View v = view(*seen, direction, state);
  if (s.has(kTcpRst)) return on_reset(state, direction, s, v);
  if (s.has(kTcpSyn)) {
    if (direction == Direction::kToClient && s.has(kTcpAck)) return on_syn_ack(state, s, *seen);
    // The client's, repeated. (A server that opens at the same time is no server.)
    const bool half_open = state == FlowState::kSynSent || state == FlowState::kSynReceived;
    return {state,
            half_open && direction == Direction::kToServer ? Life::kHalfOpen : Life::kAsBefore};
  }
  Step step{state, Life::kIdle};
  switch (state) {
    case FlowState::kSynSent:
      return {state};
    case FlowState::kSynReceived:
      if (direction == Direction::kToClient) return {state};
      if (!s.has(kTcpAck) || !acceptable(v, s) ||
          !sequence_within(s.acknowledgment, seen->client.acked, seen->server.next))
        return {state};
      note(v, s);
      step.state = FlowState::kEstablished;
      if (s.has(kTcpFin)) step = on_fin(step.state, direction);
      return with_confirmation(step);
    case FlowState::kTimeWait:
      // A FIN or data again: its acknowledgment was lost.
      return {state, s.length() > 0 && acceptable(v, s) ? Life::kTimeWait : Life::kAsBefore};
    case FlowState::kClosing:
      step.life = Life::kClosing;
      break;
    default:
      break;
  }
  const bool fits = acceptable(v, s);
  note(v, s);
  if (s.has(kTcpFin) && fits && !v.finished) step = on_fin(state, direction);
  return settle(step, *seen);
}

}  // namespace limpet::l4
