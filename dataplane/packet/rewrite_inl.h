// The hot half of rewrite.h, inlined into the forwarding loop.
#pragma once

#include "dataplane/packet/checksum.h"
#include "dataplane/packet/family.h"
#include "dataplane/packet/rewrite.h"

namespace limpet::packet {

// Offset of the checksum in a TCP or UDP header.
constexpr std::size_t transport_checksum_offset(uint8_t protocol) {
  return protocol == kProtocolTcp ? 16 : 6;
}

template <net::Family F>
void translate(Buffer* buffer, const Meta& m, const Translation& to) {
  using Traits = FamilyTraits<F>;
  auto& ip = *at<typename Traits::Header>(buffer, m.l3_offset);
  auto* ports = at<uint8_t>(buffer, m.l4_offset);

  ChecksumDelta addresses;  // in both the IP header and the transport's pseudo header
  replace_addresses<F>(ip, to.source, to.destination, addresses);

  ChecksumDelta header = addresses;
  Traits::decrement_ttl(ip, header);
  Traits::adjust(ip, header);

  const auto before = load<uint32_t>(ports);
  const uint32_t after = net::byte_swap(static_cast<uint32_t>(to.source_port) << 16 |
                                        static_cast<uint32_t>(to.destination_port));
  addresses.replace(before, after);
  std::memcpy(ports, &after, sizeof after);

  uint8_t* field = ports + transport_checksum_offset(m.protocol);
  const auto checksum = load<uint16_t>(field);
  const uint16_t adjusted =
      m.protocol == kProtocolUdp ? addresses.apply_udp(checksum) : addresses.apply(checksum);
  std::memcpy(field, &adjusted, sizeof adjusted);
}

}  // namespace limpet::packet
