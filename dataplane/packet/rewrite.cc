#include "dataplane/packet/rewrite.h"

#include <cstring>

#include "dataplane/packet/tcp_segment.h"

namespace limpet::packet {

uint16_t address_delta(const net::Address& source, const net::Address& destination,
                       const net::Address& new_source, const net::Address& new_destination) {
  return with_family(source.family(), [&]<net::Family F>() {
    using Traits = FamilyTraits<F>;
    uint64_t sum = 0;
    const auto replace = [&](const net::Address& before, const net::Address& after) {
      for (std::size_t i = 0; i < Traits::kAddressWords; ++i)
        sum += uint64_t{static_cast<uint32_t>(~Traits::word(before, i))} + Traits::word(after, i);
    };
    replace(source, new_source);
    replace(destination, new_destination);
    return fold(sum);
  });
}

void clamp_mss(Buffer* buffer, const Meta& m, uint16_t mss) {
  constexpr uint8_t kMss = 2;
  if (m.protocol != kProtocolTcp || (m.tcp_flags & kTcpSyn) == 0) return;
  uint8_t* option = find_tcp_option(buffer, m, kMss, 4);
  if (option == nullptr) return;
  const auto before = load<uint16_t>(&option[2]);
  const uint16_t after = net::byte_swap(mss);
  if (net::byte_swap(before) <= mss) return;
  ChecksumDelta delta;
  if ((option - at<uint8_t>(buffer, m.l4_offset)) % 2 == 0) {
    delta.replace(before, after);
  } else {
    delta.replace_odd(before, after);
  }
  std::memcpy(&option[2], &after, sizeof after);
  auto& tcp = *at<TcpHeader>(buffer, m.l4_offset);
  tcp.checksum = delta.apply(tcp.checksum);
}

bool write_ethernet_anew(Buffer* buffer, const Egress& out, const net::Mac& destination) {
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
