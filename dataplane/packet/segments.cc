#include "dataplane/packet/segments.h"

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "dataplane/packet/checksum.h"

namespace limpet::packet {

bool pull_up_chain(Buffer* buffer, uint32_t bytes) {
  if (bytes > buffer->pkt_len) return false;
  uint32_t missing = bytes - buffer->data_len;
  if (missing > rte_pktmbuf_tailroom(buffer) || !RTE_MBUF_DIRECT(buffer) ||
      rte_mbuf_refcnt_read(buffer) != 1)
    return false;
  while (missing > 0) {
    Buffer* next = buffer->next;
    const uint32_t count = std::min<uint32_t>(missing, next->data_len);
    std::memcpy(rte_pktmbuf_mtod_offset(buffer, uint8_t*, buffer->data_len),
                rte_pktmbuf_mtod(next, const uint8_t*), count);
    buffer->data_len = static_cast<uint16_t>(buffer->data_len + count);
    next->data_off = static_cast<uint16_t>(next->data_off + count);
    next->data_len = static_cast<uint16_t>(next->data_len - count);
    missing -= count;
    if (next->data_len == 0) {
      buffer->next = next->next;
      buffer->nb_segs = static_cast<uint16_t>(buffer->nb_segs - 1);
      next->next = nullptr;
      next->nb_segs = 1;
      rte_pktmbuf_free_seg(next);
    }
  }
  return true;
}

void trim_chain(Buffer* buffer, uint32_t bytes) {
  LIMPET_ASSERT(bytes <= buffer->pkt_len);
  uint32_t left = bytes;
  uint16_t segments = 1;
  Buffer* last = buffer;
  while (left > last->data_len) {
    left -= last->data_len;
    last = last->next;
    ++segments;
  }
  Buffer* rest = last->next;
  last->data_len = static_cast<uint16_t>(left);
  last->next = nullptr;
  buffer->pkt_len = bytes;
  buffer->nb_segs = segments;
  while (rest != nullptr) {
    Buffer* next = rest->next;
    rest->next = nullptr;
    rest->nb_segs = 1;
    rte_pktmbuf_free_seg(rest);
    rest = next;
  }
}

uint64_t sum_of_chain(const Buffer* buffer, uint32_t offset, uint32_t bytes) {
  const Buffer* segment = buffer;
  while (offset >= segment->data_len && bytes > 0) {
    offset -= segment->data_len;
    segment = segment->next;
    LIMPET_ASSERT(segment != nullptr);
  }
  uint64_t sum = 0;
  bool odd = false;
  while (bytes > 0) {
    LIMPET_ASSERT(segment != nullptr);
    const uint32_t count = std::min<uint32_t>(bytes, segment->data_len - offset);
    const uint64_t part = sum_of(rte_pktmbuf_mtod_offset(segment, const uint8_t*, offset), count);
    sum += odd ? __builtin_bswap16(fold(part)) : part;
    odd = odd != ((count & 1) != 0);
    bytes -= count;
    offset = 0;
    segment = segment->next;
  }
  return sum;
}

}  // namespace limpet::packet
