// Packets the engine makes, most of them out of one it received: RST, ICMP errors. Those turn the
// given buffer into the reply in place, checksums set, addresses swapped, Ethernet header left to
// write_ethernet(). They return false when no reply may be sent (RFC 1122 3.2.2, RFC 4443 2.4e:
// never for an ICMP error, a multicast, a fragment other than the first, or a source that is no
// single host; never a RST for a RST); the buffer is then unchanged.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/packet/buffer.h"

namespace limpet::packet {

enum class IcmpReply : uint8_t {
  kPortUnreachable,
  kAdminProhibited,
  kTimeExceeded,
  kTooBig,  // v4: fragmentation needed; v6: packet too big. Carries `mtu`.
};

// RFC 9293 3.10.7.1: the reset a closed port answers with.
bool make_tcp_reset(Buffer* buffer);

// RFC 792, 1191, 1812 4.3.2.3 (as much of the datagram as fits 576 bytes); RFC 4443 (1,280 bytes).
// `source` is the address the error comes from.
bool make_icmp_error(Buffer* buffer, IcmpReply what, const net::Address& source, uint16_t mtu = 0);

// Turns an ICMP or ICMPv6 echo request into its reply.
bool make_echo_reply(Buffer* buffer);

// A bare RST of a connection, written into an empty buffer at headroom; `acknowledge` 0 sends none.
struct Reset {
  net::Address source;
  net::Address destination;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint32_t sequence = 0;
  uint32_t acknowledgment = 0;
};
void write_tcp_reset(Buffer* empty, const Reset& reset);

// A datagram, written into an empty buffer at headroom; addresses are of one family. False when
// there is no room for it.
struct Datagram {
  net::Address source;
  net::Address destination;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  std::span<const uint8_t> payload;
};
bool write_datagram(Buffer* empty, const Datagram& datagram);

}  // namespace limpet::packet
