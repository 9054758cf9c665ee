#include "dataplane/packet/fragment.h"

#include <rte_ip_frag.h>

#include <algorithm>

#include "dataplane/packet/family.h"
#include "dataplane/packet/headers.h"

namespace limpet::packet {

namespace {

// Gives a piece its meta and identification and makes it one segment, so that any device and any
// later stage can take it.
bool finish_piece(Buffer* piece, const Meta& original, uint32_t id) {
  if (rte_pktmbuf_linearize(piece) != 0) return false;
  Meta& m = meta(piece);
  m = original;
  m.l3_offset = 0;
  m.l3_bytes = piece->pkt_len;
  m.kind = Kind::kFragment;
  m.fragment_id = id;
  if (original.family == Family::kV4) {
    auto& ip = *at<Ipv4Header>(piece, 0);
    const uint32_t header_bytes = (ip.version_words & 0xfu) * 4;
    ip.id = static_cast<uint16_t>(id);
    ip.checksum = 0;
    ip.checksum = checksum_of(sum_of(&ip, header_bytes));
    m.fragment_id = static_cast<uint16_t>(id);
    m.l4_offset = static_cast<uint16_t>(header_bytes);
  } else {
    at<Ipv6FragmentHeader>(piece, sizeof(Ipv6Header))->id = id;
    m.l4_offset = sizeof(Ipv6Header) + sizeof(Ipv6FragmentHeader);
  }
  m.l4_bytes = m.l3_bytes - m.l4_offset;
  return true;
}

}  // namespace

uint32_t fragment(Buffer* buffer, uint16_t mtu, uint32_t id, rte_mempool* pool, Buffer** pieces,
                  uint32_t pieces_max) {
  const Meta original = meta(buffer);
  rte_pktmbuf_adj(buffer, original.l3_offset);
  const auto room = static_cast<uint16_t>(std::min<uint32_t>(pieces_max, UINT16_MAX));
  const int made = original.family == Family::kV4
                       ? rte_ipv4_fragment_packet(buffer, pieces, room, mtu, pool, pool)
                       : rte_ipv6_fragment_packet(buffer, pieces, room, mtu, pool, pool);
  uint32_t count = made > 0 ? static_cast<uint32_t>(made) : 0;
  bool sound = true;
  for (uint32_t i = 0; i < count; ++i) sound = finish_piece(pieces[i], original, id) && sound;
  if (!sound) {
    for (uint32_t i = 0; i < count; ++i) release(pieces[i]);
    count = 0;
  }
  release(buffer);
  return count;
}

}  // namespace limpet::packet
