// Buffer: a packet in memory (rte_mbuf) and what the parser found in it, kept in the mbuf's private
// area so that a packet handed to another core is never parsed twice. Frames are one segment,
// except datagrams that were reassembled: those are chains whose first segment holds all headers.
#pragma once

#include <rte_mbuf.h>

#include <cstddef>
#include <cstdint>

#include "common/base/prefetch.h"
#include "common/net/address.h"

namespace limpet::packet {

using Buffer = rte_mbuf;

enum class Kind : uint8_t {
  kFlow,       // TCP or UDP, whole, ports known
  kIcmpError,  // ICMP or ICMPv6 error; its quote has not been judged yet
  kEcho,       // ICMP or ICMPv6 echo request
  kNeighbor,   // ARP, or ICMPv6 neighbour discovery
  kFragment,   // a piece of a datagram
  kOther,      // IP, for us to refuse
};

// What the parser found. Offsets count from the start of the frame.
struct Meta {
  // The first line is what a packet of a known flow is judged by.
  net::Address source;
  net::Address destination;
  uint16_t source_port = 0;  // host order; 0 where the protocol has none
  uint16_t destination_port = 0;
  uint16_t l3_offset = 0;  // IP header (or ARP header)
  uint16_t l4_offset = 0;  // after the IP header and all extension headers
  uint32_t l3_bytes = 0;   // the IP packet, header included
  uint32_t l4_bytes = 0;   // from l4_offset to the end of the IP packet
  uint32_t hash = 0;       // kFlow: of the flow key
  net::Family family = net::Family::kV4;
  Kind kind = Kind::kOther;
  uint8_t protocol = 0;  // of the transport header (IPPROTO_*)
  uint8_t tcp_flags = 0;
  uint8_t ttl = 0;
  uint8_t port = 0;            // index of the port it came in by; frames to send: goes out by
  bool owner_asked = false;    // the core whose slice holds the port does not know the flow
  bool dont_fragment = false;  // IPv4 DF; always true for IPv6 that arrived whole
  bool reassembled = false;
  bool sum_owed = false;     // the TCP or UDP checksum was not looked at yet: transport_right()
  net::Mac source_mac;       // from here on the second line
  uint32_t fragment_id = 0;  // kFragment: identification
  net::Address next_hop;     // frames punted for neighbour resolution
};
static_assert(offsetof(Meta, source_mac) <= 64);

inline constexpr std::size_t kMetaBytes =
    128;  // mbuf private area; a multiple of RTE_MBUF_PRIV_ALIGN
static_assert(sizeof(Meta) <= kMetaBytes && kMetaBytes % RTE_MBUF_PRIV_ALIGN == 0);

inline Meta& meta(Buffer* buffer) {
  return *static_cast<Meta*>(rte_mbuf_to_priv(buffer));
}

inline const Meta& meta(const Buffer* buffer) {
  return meta(const_cast<Buffer*>(buffer));  // NOLINT: rte_mbuf_to_priv() takes no const
}

template <class Header>
Header* at(Buffer* buffer, std::size_t offset) {
  return rte_pktmbuf_mtod_offset(buffer, Header*, offset);
}

// Bytes of the whole frame, over all segments.
inline uint32_t length(const Buffer* buffer) {
  return rte_pktmbuf_pkt_len(buffer);
}

// An empty buffer with headroom; null when the pool is empty.
inline Buffer* allocate(rte_mempool* pool) {
  return rte_pktmbuf_alloc(pool);
}

// Brings a frame's first line into the cache.
inline void prefetch(const Buffer* buffer) {
  base::prefetch(rte_pktmbuf_mtod(buffer, const void*));
}

inline void release(Buffer* buffer) {
  rte_pktmbuf_free(buffer);
}

}  // namespace limpet::packet
