// Frames of several segments: what the parser and the replies need to treat them like one.
#pragma once

#include <cstdint>

#include "dataplane/packet/buffer.h"

namespace limpet::packet {

// Makes the first `bytes` bytes of a chain lie in its first segment. False when the frame is
// shorter, or the segment has no room or is shared.
bool pull_up_chain(Buffer* buffer, uint32_t bytes);

inline bool pull_up(Buffer* buffer, uint32_t bytes) {
  return bytes <= buffer->data_len || (buffer->nb_segs > 1 && pull_up_chain(buffer, bytes));
}

// Cuts the frame to `bytes` bytes, which must not be more than it has; releases segments that are
// no longer needed.
void trim_chain(Buffer* buffer, uint32_t bytes);

inline void trim_to(Buffer* buffer, uint32_t bytes) {
  if (buffer->nb_segs == 1) [[likely]] {
    buffer->data_len = static_cast<uint16_t>(bytes);
    buffer->pkt_len = bytes;
  } else {
    trim_chain(buffer, bytes);
  }
}

}  // namespace limpet::packet
