// The plain packet, which nearly all are: Ethernet to this port's own MAC with at most one VLAN tag,
// IPv4 without options or IPv6 without extension headers or link-local addresses, TCP or UDP, whole,
// in one segment, and nothing wrong with it. One straight piece of code; whatever else comes is for
// parse_any(), which knows why. Both make the same Meta of a plain packet.
#pragma once

#include <cstring>

#include "dataplane/packet/family.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/segments.h"

namespace limpet::packet {

inline constexpr uint16_t kVlanId = 0x0fff;

// Sources no packet may have: 0/8, 127/8, 224/4, 255.255.255.255 (RFC 1122 3.2.1.3).
inline bool is_martian_v4(uint32_t host_order) {
  const uint32_t first = host_order >> 24;
  return first == 0 || first == 127 || first >> 4 == 0xe || host_order == 0xffffffffu;
}

// An IPv6 address in two words, as they lie in memory.
struct Words {
  uint64_t high = 0;
  uint64_t low = 0;

  explicit Words(const uint8_t* bytes)
      : high(load<uint64_t>(bytes)), low(load<uint64_t>(bytes + 8)) {}
  friend bool operator==(const Words&, const Words&) = default;

  bool is_unspecified() const { return (high | low) == 0; }
  bool is_multicast() const { return (high & 0xff) == 0xff; }
  bool is_link_local() const { return (high & 0xc0ff) == 0x80fe; }
  // ff00::/8, ::, ::1, link-local with something where zones stand, and IPv4 in disguise
  // (::ffff:0:0/96), which must not come as IPv6.
  bool is_martian() const {
    if (high != 0) return is_multicast() || (is_link_local() && (high & 0xffff0000) != 0);
    return low == 0 || low == 0x0100000000000000u || (low & 0xffffffffu) == 0xffff0000u;
  }
};

// Flags no TCP sends: none at all, or SYN together with FIN or RST.
constexpr bool tcp_flags_absurd(uint8_t flags) {
  constexpr uint8_t kControl = 0x3f;
  return (flags & kControl) == 0 || ((flags & kTcpSyn) != 0 && (flags & (kTcpFin | kTcpRst)) != 0);
}

inline const Ingress* find_ingress(const IngressSet& ports, uint16_t vlan) {
  for (uint32_t i = 0; i < ports.count; ++i) {
    if (ports.first[i].vlan == vlan) return &ports.first[i];
  }
  return nullptr;
}

namespace plain {

// The IPv4 or IPv6 header at `l3`, in `bytes` bytes; into `m`, its transport's place too.
template <Family F>
[[gnu::always_inline]] inline bool take_header(const Buffer* buffer, const uint8_t* l3,
                                               uint32_t bytes, bool verify, Meta& m) {
  if (bytes < FamilyTraits<F>::kHeaderBytes + sizeof(UdpHeader)) return false;
  const auto& ip = *reinterpret_cast<const typename FamilyTraits<F>::Header*>(l3);
  if constexpr (F == Family::kV4) {
    const uint32_t total = ip.total_bytes;
    constexpr uint16_t kFragment = kIpv4MoreFragments | kIpv4FragmentOffset;
    const uint16_t fragment = ip.fragment;
    if (ip.version_words != 0x45 || total > bytes || (fragment & kFragment) != 0) return false;
    const uint64_t vouched = buffer->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    if (vouched != RTE_MBUF_F_RX_IP_CKSUM_GOOD) {
      if (vouched == RTE_MBUF_F_RX_IP_CKSUM_BAD) return false;
      if (verify && fold(uint64_t{load<uint32_t>(l3)} + load<uint32_t>(l3 + 4) +
                         load<uint32_t>(l3 + 8) + load<uint32_t>(l3 + 12) +
                         load<uint32_t>(l3 + 16)) != 0xffff)
        return false;
    }
    const auto source = load<uint32_t>(ip.source);
    const auto destination = load<uint32_t>(ip.destination);
    if (is_martian_v4(net::byte_swap(source)) || is_martian_v4(net::byte_swap(destination)) ||
        source == destination)
      return false;
    m.protocol = ip.protocol;
    m.ttl = ip.ttl;
    m.dont_fragment = (fragment & kIpv4DontFragment) != 0;
    m.l3_bytes = total;
    m.l4_bytes = total - static_cast<uint32_t>(sizeof(Ipv4Header));
  } else {
    const uint32_t l4_bytes = ip.payload_bytes;
    if (l3[0] >> 4 != 6 || l4_bytes + sizeof(Ipv6Header) > bytes) return false;
    const Words source(ip.source);
    const Words destination(ip.destination);
    if (source.is_martian() || source.is_link_local() || destination.is_martian() ||
        destination.is_link_local() || source == destination)
      return false;
    m.protocol = ip.next_header;
    m.ttl = ip.hop_limit;
    m.dont_fragment = true;
    m.l3_bytes = l4_bytes + static_cast<uint32_t>(sizeof(Ipv6Header));
    m.l4_bytes = l4_bytes;
  }
  m.source = FamilyTraits<F>::source(ip);
  m.destination = FamilyTraits<F>::destination(ip);
  m.family = F;
  return true;
}

template <Family F>
[[gnu::always_inline]] inline bool take(Buffer* buffer, uint8_t* l3, uint32_t bytes, bool verify,
                                        Meta& m) {
  if (!take_header<F>(buffer, l3, bytes, verify, m)) return false;
  const uint8_t* l4 = l3 + FamilyTraits<F>::kHeaderBytes;
  m.tcp_flags = 0;
  bool summed = true;
  if (m.protocol == kProtocolUdp) {
    const auto& udp = *reinterpret_cast<const UdpHeader*>(l4);
    const uint32_t udp_bytes = udp.bytes;
    if (udp_bytes < sizeof(UdpHeader) || udp_bytes > m.l4_bytes || uint16_t{udp.destination_port} == 0)
      return false;
    summed = udp.checksum != 0;
    if (F == Family::kV6 && !summed) return false;
  } else if (m.protocol == kProtocolTcp) {
    if (m.l4_bytes < sizeof(TcpHeader)) return false;
    const auto& tcp = *reinterpret_cast<const TcpHeader*>(l4);
    const uint32_t header_bytes = static_cast<uint32_t>(tcp.data_words >> 4) * 4;
    if (header_bytes < sizeof(TcpHeader) || header_bytes > m.l4_bytes || uint16_t{tcp.source_port} == 0 ||
        uint16_t{tcp.destination_port} == 0 || tcp_flags_absurd(tcp.flags))
      return false;
    m.tcp_flags = tcp.flags;
  } else {
    return false;
  }
  const uint64_t vouched = buffer->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
  if (summed && vouched != RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN &&
      vouched != RTE_MBUF_F_RX_L4_CKSUM_GOOD)
    return false;
  m.sum_owed = verify && summed && vouched == RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN;
  const auto ports = load<uint32_t>(l4);
  m.source_port = net::byte_swap(static_cast<uint16_t>(ports));
  m.destination_port = net::byte_swap(static_cast<uint16_t>(ports >> 16));
  m.l4_offset = static_cast<uint16_t>(m.l3_offset + FamilyTraits<F>::kHeaderBytes);
  return true;
}

}  // namespace plain

// True: the packet is plain, and meta(buffer) is filled. False: it is not, or something is wrong with
// it; the frame is as it was.
inline bool parse_plain(Buffer* buffer, const IngressSet& ports) {
  constexpr uint32_t kTagged = sizeof(EthernetHeader) + sizeof(VlanTag);
  if (buffer->nb_segs != 1 || buffer->data_len < kTagged) [[unlikely]]
    return false;
  Meta& m = meta(buffer);
  auto* frame = at<uint8_t>(buffer, 0);
  const auto& ethernet = *reinterpret_cast<const EthernetHeader*>(frame);
  auto type = load<uint16_t>(&ethernet.type);
  uint32_t l3_offset = sizeof(EthernetHeader);
  uint16_t vlan = 0;
  if ((buffer->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
    vlan = buffer->vlan_tci & kVlanId;
  } else if (type == net::byte_swap(kEtherVlan)) {
    vlan = net::byte_swap(load<uint16_t>(frame + sizeof(EthernetHeader))) & kVlanId;
    type = load<uint16_t>(frame + sizeof(EthernetHeader) + 2);
    l3_offset = kTagged;
  }
  const Ingress* ingress = ports.first;
  if (ingress->vlan != vlan) [[unlikely]]
    ingress = find_ingress(ports, vlan);
  if (ingress == nullptr || ethernet.destination != ingress->mac ||
      ethernet.destination.is_multicast() || ethernet.source.is_multicast() ||
      ethernet.source.is_zero()) [[unlikely]]
    return false;
  m.l3_offset = static_cast<uint16_t>(l3_offset);
  m.sum_owed = false;
  const uint32_t bytes = buffer->data_len - l3_offset;
  const bool verify = ingress->verify_checksums;
  const bool taken =
      type == net::byte_swap(kEtherIpv4)
          ? plain::take<Family::kV4>(buffer, frame + l3_offset, bytes, verify, m)
          : type == net::byte_swap(kEtherIpv6) &&
                plain::take<Family::kV6>(buffer, frame + l3_offset, bytes, verify, m);
  if (!taken) return false;
  m.kind = Kind::kFlow;
  m.port = ingress->port;
  m.fragment_id = 0;
  m.hash = 0;
  m.owner_asked = false;
  m.reassembled = false;
  m.source_mac = ethernet.source;
  m.next_hop = {};
  trim_to(buffer, l3_offset + m.l3_bytes);
  return true;
}

}  // namespace limpet::packet
