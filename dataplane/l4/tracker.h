// Tracker: what an engine in the middle knows of a TCP connection, from the segments that pass.
//
// A pure function of (state, direction, segment, what was seen): no clock, no packet, no flow. The
// endpoints judge segments; the tracker only believes what they would have to believe, and never
// stops anything: what it does not believe is forwarded and changes nothing.
//
//   state        SYN, client       SYN-ACK, server      ACK that fits   FIN          RST
//   kSynSent     the same number:  of our SYN:          -               -            of our SYN:
//   over
//                repeated; another: kSynReceived
//                new
//   kSynReceived as above          again: half open     client's:       with it      exact: over
//                                  anew                 kEstablished
//   kEstablished contested         -                    idle anew       kClientFin,  exact: over;
//                                                                       kServerFin   within the
//   kClientFin   new               -                    idle anew       the other's: window: short
//   kServerFin   new               -                    idle anew       kClosing
//   kClosing     new               -                    of both FINs:   -            as above
//                                                       kTimeWait
//   kTimeWait    new               -                    -               again: anew  - (RFC 1337)
//
// "Fits": the sequence number is one that the receiver may accept, the acknowledgment one of what
// was sent (RFC 9293 3.10.7.4). The client's ACK that completes the handshake has to acknowledge
// the server's SYN, which a blind sender does not know. "Exact": RFC 5961 3.2. "Contested": RFC
// 5961 4.2 would have the server challenge it; whether it gets there is for the caller to say.
// "New" is a connection of its own, whatever the old one was (RFC 6191, without the timestamps:
// towards the server it has a port of its own, or the server judges).
//
// Numbers wrap: they are compared by their distance (RFC 9293 3.4).
#pragma once

#include <cstdint>

#include "common/timing/time.h"
#include "dataplane/packet/tcp_segment.h"

namespace limpet::l4 {

enum class FlowState : uint8_t {
  kSynSent,      // the client's SYN was forwarded
  kSynReceived,  // the server's SYN-ACK was
  kEstablished,  // the client has acknowledged it
  kClientFin,    // half closed: the client has finished
  kServerFin,
  kClosing,     // both FINs passed; no open connection any more
  kTimeWait,    // ... and both are acknowledged
  kUnanswered,  // UDP: no datagram of the server yet
  kAnswered,
};

enum class Direction : uint8_t { kToServer, kToClient };

// How long a flow lives from now on. RFC 5382 REQ-5: half open and closing at most 4 minutes.
enum class Life : uint8_t {
  kAsBefore,
  kHalfOpen,
  kIdle,  // the profile's session_idle_timeout
  kClosing,
  kTimeWait,
  kShort,  // at most this long, unless traffic goes on
};
inline constexpr timing::Duration kHalfOpenTimeout = timing::seconds(63);  // SYN-ACKs: 1+2+..+32
inline constexpr timing::Duration kClosingTimeout = timing::seconds(240);
inline constexpr timing::Duration kTimeWaitTimeout = timing::seconds(60);
inline constexpr timing::Duration kShortTimeout = timing::seconds(10);

// What was seen of a connection's two sides.
struct Seen {
  struct Side {
    uint32_t next = 0;   // after the last it has sent; after its FIN nothing more counts
    uint32_t acked = 0;  // the next that it expects, as it last said
    uint32_t edge = 0;   // up to where it has let the other side send

    friend bool operator==(const Side&, const Side&) = default;
  };
  Side client;
  Side server;
  uint8_t client_scale : 4 = packet::kNoScale;
  uint8_t server_scale : 4 = packet::kNoScale;

  friend bool operator==(const Seen&, const Seen&) = default;
};

// How far the sender's windows are shifted: both sides have to have said so (RFC 7323 2.2).
inline uint32_t window_scale(const Seen& seen, Direction direction) {
  if (seen.client_scale == packet::kNoScale || seen.server_scale == packet::kNoScale) return 0;
  return direction == Direction::kToServer ? seen.client_scale : seen.server_scale;
}

// Numbers wrap: they are compared by their distance.
constexpr bool sequence_after(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b) > 0;
}
constexpr bool sequence_within(uint32_t x, uint32_t first, uint32_t last) {
  return x - first <= last - first;
}

// Of a connection that stands, a segment that opens and ends nothing: what it says is taken over
// where it can be true. The same as track(), which does the rest.
inline void note_plain(Direction direction, uint32_t sequence, uint32_t bytes,
                       uint32_t acknowledgment, uint16_t window, Seen* seen) {
  const bool to_server = direction == Direction::kToServer;
  Seen::Side& from = to_server ? seen->client : seen->server;
  Seen::Side& to = to_server ? seen->server : seen->client;
  const uint32_t end = sequence + bytes;
  if (sequence_within(sequence, to.acked - 1 - bytes, to.edge) && sequence_after(end, from.next))
    from.next = end;
  if (!sequence_within(acknowledgment, from.acked, to.next)) return;
  from.acked = acknowledgment;
  const uint32_t edge = acknowledgment + (uint32_t{window} << window_scale(*seen, direction));
  if (sequence_after(edge, from.edge)) from.edge = edge;
}

// What a client's SYN is to a flow that has its addresses and ports.
enum class Syn : uint8_t {
  kRepeated,   // the one that opened it
  kContested,  // perhaps a new connection, perhaps forged: the server knows
  kNew,        // the old connection is over, or never came about
};
Syn judge_syn(FlowState state, const packet::TcpSegment& syn, const Seen& seen);

// What the first segment says. Of a SYN; of a connection that goes on here and whose beginning was
// not seen.
Seen seen_opening(const packet::TcpSegment& syn);
Seen seen_going_on(Direction direction, const packet::TcpSegment& segment);

struct Step {
  enum class Effect : uint8_t {
    kNone,
    kConfirmed,  // the handshake is complete
    kClosed,     // both FINs have passed
    kOver,       // by a RST: the flow ends once this segment has gone
  };
  FlowState state;
  Life life = Life::kAsBefore;
  Effect effect = Effect::kNone;
};
// A client's SYN comes here only if it is passed on.
Step track(FlowState state, Direction direction, const packet::TcpSegment& segment, Seen* seen);

}  // namespace limpet::l4
