// Meaning back to bytes: NAT of known flows, MSS clamping, the Ethernet header.
#pragma once

#include <cstdint>

#include "dataplane/packet/buffer.h"
#include "dataplane/packet/headers.h"

namespace limpet::packet {

// What the addresses and ports become.
struct Translation {
  const net::Address& source;
  const net::Address& destination;
  uint16_t source_port;
  uint16_t destination_port;
};

// What new addresses change in a checksum over the old ones (RFC 1624), folded to 16 bits; of one
// family. For the way back: opposite().
uint16_t address_delta(const net::Address& source, const net::Address& destination,
                       const net::Address& new_source, const net::Address& new_destination);
constexpr uint32_t opposite(uint16_t delta) {
  return 2 * 0xffffu - delta;  // never zero, which would turn a sum of 0xffff into 0
}

// How frames leave a port.
struct Egress {
  uint8_t port = 0;
  uint16_t vlan = 0;  // 0: untagged
  net::Mac mac;
};

// Replaces addresses, of which `delta` is what they change, and ports, decrements TTL or hop limit,
// and adjusts every checksum incrementally (RFC 1624, eqn. 3), so an end-to-end checksum stays one.
// A UDP checksum of 0 over IPv4 stays 0, one that becomes 0 is sent as 0xffff. TCP and UDP, first
// fragment or whole datagram.
template <net::Family F>
void translate(Buffer* buffer, const Meta& m, const Translation& to, uint32_t delta);

// Lowers the MSS option of a SYN to at most `mss` (RFC 9293 3.7.1); leaves it alone when it is
// lower; adds none. Options that do not parse are left as they are.
void clamp_mss(Buffer* buffer, const Meta& m, uint16_t mss);

// The MSS that fits an IP packet of `mtu` bytes without options: minus 40 (v4) or 60 (v6).
constexpr uint16_t mss_of_mtu(net::Family family, uint16_t mtu) {
  return static_cast<uint16_t>(mtu - (family == net::Family::kV4 ? 40 : 60));
}

// Writes the Ethernet header (tagged or not) in front of l3_offset, moving the start of the frame
// when its size changes; updates meta's offsets and `port`. False when there is no headroom.
inline bool write_ethernet(Buffer* buffer, const Egress& out, const net::Mac& destination);

// The same of a packet that came with an untagged header and leaves with one: its type is there.
inline void write_macs(Buffer* buffer, const net::Mac& source, const net::Mac& destination);

}  // namespace limpet::packet

#include "dataplane/packet/rewrite_inl.h"
