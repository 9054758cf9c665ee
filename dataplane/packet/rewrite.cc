#include "dataplane/packet/rewrite.h"

#include <cstring>

namespace limpet::packet {

template void translate<net::Family::kV4>(Buffer*, const Meta&, const Translation&);
template void translate<net::Family::kV6>(Buffer*, const Meta&, const Translation&);

void clamp_mss(Buffer* buffer, const Meta& m, uint16_t mss) {
  constexpr uint8_t kEnd = 0;
  constexpr uint8_t kNothing = 1;
  constexpr uint8_t kMss = 2;
  if (m.protocol != kProtocolTcp || (m.tcp_flags & kTcpSyn) == 0) return;
  auto& tcp = *at<TcpHeader>(buffer, m.l4_offset);
  const std::size_t header_bytes = static_cast<std::size_t>(tcp.data_words >> 4) * 4;
  auto* bytes = at<uint8_t>(buffer, m.l4_offset);
  for (std::size_t i = sizeof(TcpHeader); i < header_bytes;) {
    const uint8_t kind = bytes[i];
    if (kind == kEnd) return;
    if (kind == kNothing) {
      ++i;
      continue;
    }
    if (i + 1 >= header_bytes) return;
    const std::size_t length = bytes[i + 1];
    if (length < 2 || i + length > header_bytes) return;
    if (kind == kMss && length == 4) {
      const auto before = load<uint16_t>(&bytes[i + 2]);
      const uint16_t after = net::byte_swap(mss);
      if (net::byte_swap(before) > mss) {
        ChecksumDelta delta;
        if (i % 2 == 0) {
          delta.replace(before, after);
        } else {
          delta.replace_odd(before, after);
        }
        std::memcpy(&bytes[i + 2], &after, sizeof after);
        tcp.checksum = delta.apply(tcp.checksum);
      }
      return;
    }
    i += length;
  }
}

bool write_ethernet(Buffer* buffer, const Egress& out, const net::Mac& destination) {
  Meta& m = meta(buffer);
  const uint16_t want = sizeof(EthernetHeader) + (out.vlan != 0 ? sizeof(VlanTag) : std::size_t{0});
  if (want > m.l3_offset) {
    const auto more = static_cast<uint16_t>(want - m.l3_offset);
    if (rte_pktmbuf_prepend(buffer, more) == nullptr) return false;
  } else if (want < m.l3_offset) {
    rte_pktmbuf_adj(buffer, static_cast<uint16_t>(m.l3_offset - want));
  }
  m.l4_offset = static_cast<uint16_t>(m.l4_offset + want - m.l3_offset);
  m.l3_offset = want;
  m.port = out.port;

  const uint16_t type = m.kind == Kind::kNeighbor && m.protocol == 0 ? kEtherArp
                        : m.family == net::Family::kV4               ? kEtherIpv4
                                                                     : kEtherIpv6;
  auto& ethernet = *at<EthernetHeader>(buffer, 0);
  ethernet.destination = destination;
  ethernet.source = out.mac;
  if (out.vlan == 0) {
    ethernet.type = type;
  } else {
    ethernet.type = kEtherVlan;
    auto& tag = *at<VlanTag>(buffer, sizeof(EthernetHeader));
    tag.control = out.vlan;
    tag.type = type;
  }
  return true;
}

}  // namespace limpet::packet
