// ICMP errors that quote a packet of a flow: RFC 5508 (NAT behaviour for ICMP), RFC 1191, 4443.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/packet/buffer.h"
#include "dataplane/packet/rewrite.h"

namespace limpet::packet {

// The packet that an ICMP error quotes.
struct Quote {
  net::Address source;
  net::Address destination;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint8_t protocol = 0;
};

// Reads the quote of a kIcmpError, link-local addresses in the zone of its port; nothing when it is
// cut before the ports, is itself a later fragment, or carries no TCP or UDP. Never reads past the
// packet.
std::optional<Quote> parse_quote(Buffer* buffer);

// Rewrites an error so that it says what the other side sent: the quoted addresses and ports become
// `quote`'s, the outer ones `source` and `destination`; TTL is decremented; all checksums that can
// be right are right afterwards (the quoted transport checksum too, when it is within the quote).
void translate_quote(Buffer* buffer, const Translation& quote, const net::Address& source,
                     const net::Address& destination);

}  // namespace limpet::packet
