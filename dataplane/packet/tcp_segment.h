// A TCP segment as connection tracking sees it, and its options (RFC 9293 3.1, 3.2).
#pragma once

#include <cstdint>

#include "dataplane/packet/buffer.h"
#include "dataplane/packet/headers.h"

namespace limpet::packet {

// No window scale option (RFC 7323 2.2); valid shifts are 0 to 14.
inline constexpr uint8_t kNoScale = 15;

struct TcpSegment {
  uint32_t sequence = 0;
  uint32_t acknowledgment = 0;  // with kTcpAck only
  uint32_t bytes = 0;           // of data
  uint16_t window = 0;          // not scaled
  uint8_t flags = 0;
  uint8_t scale = kNoScale;  // of a SYN

  bool has(uint8_t flag) const { return (flags & flag) != 0; }
  // What it takes of the sequence space: data, SYN and FIN.
  uint32_t length() const {
    return bytes + ((flags & kTcpSyn) != 0 ? 1 : 0) + ((flags & kTcpFin) != 0 ? 1 : 0);
  }
  uint32_t end() const { return sequence + length(); }
};

// Of a parsed packet with TCP.
TcpSegment tcp_segment(Buffer* buffer, const Meta& m);

// The first option of this kind and length (kind and length bytes included) of a parsed packet with
// TCP; null when there is none before what does not parse.
uint8_t* find_tcp_option(Buffer* buffer, const Meta& m, uint8_t kind, uint8_t length);

}  // namespace limpet::packet
