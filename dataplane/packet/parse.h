// Bytes to meaning, once. After parse() says that the frame may go on, accessors at meta's offsets
// cannot run over.
//
// A packet that is only translated keeps its transport checksum, right or wrong: the change is
// added to it (RFC 1624), and the receiver judges. So parse() leaves a TCP or UDP checksum that the
// device does not vouch for unread, and whoever acts on the content asks transport_right() first.
// (What a connection's tracker notes of the numbers of a packet that passes is bounded by what was
// sent, and heals with the next.)
//
// Cost: one pass over the headers.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/packet/buffer.h"
#include "dataplane/packet/verdict.h"

namespace limpet::packet {

// Where a frame came in. A device with VLAN ports is several of these.
struct Ingress {
  uint8_t port = 0;
  uint16_t vlan = 0;  // 0: untagged
  net::Mac mac;
  bool verify_checksums = true;
};

// The ports that share one device, at most 4096; at least one. Packets are plain (plain.h) if the
// untagged one comes first.
struct IngressSet {
  const Ingress* first = nullptr;
  uint32_t count = 0;
};

// Parses the frame and fills meta(buffer). Returns nothing when it may go on (kind says where),
// else why it must be dropped; the caller releases it. Trailing Ethernet padding is cut off. IPv4
// options and IPv6 hop-by-hop, destination and routing headers are skipped, bounded; anything that
// could make a datagram be read past its end is an error. Multicast frames pass only for ARP and
// neighbour discovery, which are kNeighbor with protocol 0 and 58, validated as RFC 826, 5227 and
// 4861 say. An IPv6 fragment header on a whole datagram (RFC 6946) is skipped like any other.
// Link-local IPv6 addresses of kFlow, kIcmpError and kFragment are put in the zone of their port
// (common/net/address.h); what the control thread is asked about says its port beside them.
// Checksums the device calls BAD are believed; a transport checksum it says was never filled in
// (NONE) is written. ICMP checksums are looked at.
std::optional<DropReason> parse(Buffer* buffer, const IngressSet& ports);

// Whether the TCP or UDP checksum of a parsed packet is right, or nobody's business here
// (verify_checksums). Looks once.
bool transport_sum_right(Buffer* buffer);
inline bool transport_right(Buffer* buffer) {
  return !meta(buffer).sum_owed || transport_sum_right(buffer);
}

// Parses again from l3_offset on: after reassembly, when the datagram lies in a chain.
std::optional<DropReason> parse_datagram(Buffer* buffer, bool verify_checksums);

}  // namespace limpet::packet
