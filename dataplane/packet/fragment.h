// Fragments: a datagram is cut towards a smaller MTU, over rte_ip_frag.
#pragma once

#include <cstdint>

#include "dataplane/packet/buffer.h"

struct rte_mempool;

namespace limpet::packet {

// Cuts the IP packet in `buffer` into pieces of at most `mtu` bytes (of IP; at least 68, for IPv6
// 1280), each one segment from `pool` that starts at its IP header (l3_offset 0) with headroom for
// write_ethernet(), and meta describing it; releases `buffer`. IPv4 must not have DF set. `id` is
// the identification to use for every piece: IPv4 low 16 bits, IPv6 all 32. Returns the number of
// pieces (0: out of buffers or more than `pieces_max`; the original is released all the same).
uint32_t fragment(Buffer* buffer, uint16_t mtu, uint32_t id, rte_mempool* pool, Buffer** pieces,
                  uint32_t pieces_max);

}  // namespace limpet::packet
