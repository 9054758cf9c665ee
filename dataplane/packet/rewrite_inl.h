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
[[gnu::always_inline]] inline void translate(Buffer* buffer, const Meta& m, const Translation& to,
                                             uint32_t delta) {
  using Traits = FamilyTraits<F>;
  auto& ip = *at<typename Traits::Header>(buffer, m.l3_offset);
  auto* ports = at<uint8_t>(buffer, m.l4_offset);

  Traits::write_address(ip.source, to.source);
  Traits::write_address(ip.destination, to.destination);
  ChecksumDelta header(delta);
  Traits::decrement_ttl(ip, header);
  Traits::adjust(ip, header);

  ChecksumDelta transport(delta);
  const auto before = load<uint32_t>(ports);
  const uint32_t after = net::byte_swap(static_cast<uint32_t>(to.source_port) << 16 |
                                        static_cast<uint32_t>(to.destination_port));
  transport.replace(before, after);
  std::memcpy(ports, &after, sizeof after);

  uint8_t* field = ports + transport_checksum_offset(m.protocol);
  const auto checksum = load<uint16_t>(field);
  const uint16_t adjusted =
      m.protocol == kProtocolUdp ? transport.apply_udp(checksum) : transport.apply(checksum);
  std::memcpy(field, &adjusted, sizeof adjusted);
}

inline void write_macs(Buffer* buffer, const net::Mac& source, const net::Mac& destination) {
  auto& ethernet = *at<EthernetHeader>(buffer, 0);
  ethernet.destination = destination;
  ethernet.source = source;
}

// When the header's size changes, or it is no IP packet.
bool write_ethernet_anew(Buffer* buffer, const Egress& out, const net::Mac& destination);

inline bool write_ethernet(Buffer* buffer, const Egress& out, const net::Mac& destination) {
  Meta& m = meta(buffer);
  if (out.vlan != 0 || m.l3_offset != sizeof(EthernetHeader) || m.kind == Kind::kNeighbor)
      [[unlikely]]
    return write_ethernet_anew(buffer, out, destination);
  write_macs(buffer, out.mac, destination);
  at<EthernetHeader>(buffer, 0)->type = m.family == net::Family::kV4 ? kEtherIpv4 : kEtherIpv6;
  m.port = out.port;
  return true;
}

}  // namespace limpet::packet
