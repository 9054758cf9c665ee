// The plain packet, which nearly all are: Ethernet to this port's own MAC with at most one VLAN
// tag, IPv4 without options or IPv6 without extension headers or link-local addresses, TCP or UDP,
// whole, in one segment, and nothing wrong with it. One straight piece of code; whatever else comes
// is for parse(), which knows why. Both say the same of a plain packet.
#pragma once

#include <cstring>

#include "common/base/keyed_hash.h"
#include "common/net/hash.h"
#include "dataplane/packet/family.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/segments.h"

namespace limpet::packet {

inline constexpr uint16_t kVlanId = 0x0fff;

// Neither a source nor a destination that is somebody: 0/8, 127/8, 224/4, 255.255.255.255 (RFC
// 1122 3.2.1.3).
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

// Neither 0/8 nor 127/8, and below 224/4, as it lies in memory. What is above is for parse().
inline bool is_unicast_v4(uint32_t word) {
  const auto first = static_cast<uint8_t>(word);
  return static_cast<uint8_t>(first - 1) < 0xdf && first != 127;
}

// The IPv4 or IPv6 header at `l3`, in `bytes` bytes; into `m`, its transport's place too.
template <Family F>
[[gnu::always_inline]] inline bool take_header(const Buffer* buffer, const uint8_t* l3,
                                               uint32_t bytes, bool verify, Meta& m) {
  if (bytes < FamilyTraits<F>::kHeaderBytes + sizeof(UdpHeader)) return false;
  const auto& ip = *reinterpret_cast<const typename FamilyTraits<F>::Header*>(l3);
  if constexpr (F == Family::kV4) {
    constexpr uint16_t kFragment =
        net::byte_swap(uint16_t{kIpv4MoreFragments | kIpv4FragmentOffset});
    const uint32_t total = ip.total_bytes;
    const uint32_t l4_bytes = total - static_cast<uint32_t>(sizeof ip);  // huge if it is shorter
    const auto fragment = load<uint16_t>(&ip.fragment);                  // as it lies in memory
    if (ip.version_words != 0x45 || l4_bytes > bytes - sizeof ip || (fragment & kFragment) != 0)
      return false;
    const uint64_t vouched = buffer->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    if (vouched != RTE_MBUF_F_RX_IP_CKSUM_GOOD) {
      if (vouched == RTE_MBUF_F_RX_IP_CKSUM_BAD) return false;
      if (verify &&
          fold(uint64_t{load<uint32_t>(l3)} + load<uint32_t>(l3 + 4) + load<uint32_t>(l3 + 8) +
               load<uint32_t>(l3 + 12) + load<uint32_t>(l3 + 16)) != 0xffff)
        return false;
    }
    const auto source = load<uint32_t>(ip.source);
    const auto destination = load<uint32_t>(ip.destination);
    if (!is_unicast_v4(source) || !is_unicast_v4(destination) || source == destination)
      return false;
    m.protocol = ip.protocol;
    m.ttl = ip.ttl;
    m.dont_fragment = (fragment & net::byte_swap(kIpv4DontFragment)) != 0;
    m.l3_bytes = total;
    m.l4_bytes = l4_bytes;
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

// The packet whose IP header begins `kL3` bytes behind the frame's start; `bytes` of it at most.
template <Family F, uint16_t kL3>
[[gnu::always_inline]] inline bool take(Buffer* buffer, const uint8_t* frame, uint32_t bytes,
                                        const Ingress& ingress, const base::KeyedHash& hash,
                                        Meta& m) {
  const uint8_t* l3 = frame + kL3;
  const uint8_t* l4 = l3 + FamilyTraits<F>::kHeaderBytes;
  if (!take_header<F>(buffer, l3, bytes, ingress.verify_checksums, m)) return false;
  uint8_t flags = 0;
  bool summed = true;
  if (m.protocol == kProtocolUdp) {
    const auto& udp = *reinterpret_cast<const UdpHeader*>(l4);
    const uint32_t udp_bytes = udp.bytes;
    if (udp_bytes < sizeof(UdpHeader) || udp_bytes > m.l4_bytes) return false;
    summed = udp.checksum != 0;
    if (F == Family::kV6 && !summed) return false;
  } else {
    if (m.protocol != kProtocolTcp || m.l4_bytes < sizeof(TcpHeader)) return false;
    const auto& tcp = *reinterpret_cast<const TcpHeader*>(l4);
    const uint32_t header_bytes = static_cast<uint32_t>(tcp.data_words >> 4) * 4;
    flags = tcp.flags;
    if (header_bytes < sizeof(TcpHeader) || header_bytes > m.l4_bytes ||
        uint16_t{tcp.source_port} == 0 || tcp_flags_absurd(flags))
      return false;
  }
  const uint64_t vouched = buffer->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
  bool owed = false;
  if (vouched != RTE_MBUF_F_RX_L4_CKSUM_GOOD && summed) {
    if (vouched != RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN) return false;
    owed = ingress.verify_checksums;
  }
  // Source port above, destination port below.
  const uint32_t ports = net::byte_swap(load<uint32_t>(l4));
  if ((ports & 0xffff) == 0) return false;
  m.sum_owed = owed;
  m.tcp_flags = flags;
  m.source_port = static_cast<uint16_t>(ports >> 16);
  m.destination_port = static_cast<uint16_t>(ports);
  m.l3_offset = kL3;
  m.l4_offset = kL3 + FamilyTraits<F>::kHeaderBytes;
  m.hash = net::hash_pair<F>(hash, m.source, m.destination, ports, m.protocol);
  m.kind = Kind::kFlow;
  m.port = ingress.port;
  m.owner_asked = false;
  m.reassembled = false;
  m.next_hop = {};
  std::memcpy(&m.source_mac, frame + sizeof(net::Mac), sizeof(net::Mac));
  const uint32_t whole = kL3 + m.l3_bytes;
  buffer->data_len = static_cast<uint16_t>(whole);
  buffer->pkt_len = whole;
  return true;
}

template <uint16_t kL3>
[[gnu::always_inline]] inline bool take_type(Buffer* buffer, const uint8_t* frame, uint16_t type,
                                             const Ingress& ingress, const base::KeyedHash& hash) {
  const uint32_t bytes = buffer->data_len - uint32_t{kL3};
  Meta& m = meta(buffer);
  if (type == net::byte_swap(kEtherIpv4))
    return take<Family::kV4, kL3>(buffer, frame, bytes, ingress, hash, m);
  return type == net::byte_swap(kEtherIpv6) &&
         take<Family::kV6, kL3>(buffer, frame, bytes, ingress, hash, m);
}

// With a tag in the frame, or one that the device has taken out.
[[gnu::noinline]] inline bool take_tagged(Buffer* buffer, const uint8_t* frame, uint16_t type,
                                          const IngressSet& ports, const base::KeyedHash& hash) {
  constexpr uint16_t kTagged = sizeof(EthernetHeader) + sizeof(VlanTag);
  const bool stripped = (buffer->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0;
  const uint16_t tag =
      stripped ? buffer->vlan_tci : net::byte_swap(load<uint16_t>(frame + sizeof(EthernetHeader)));
  const Ingress* ingress = find_ingress(ports, tag & kVlanId);
  if (ingress == nullptr || load<uint64_t>(frame) << 16 != ingress->mac.word() << 16) return false;
  if (stripped) return take_type<sizeof(EthernetHeader)>(buffer, frame, type, *ingress, hash);
  return take_type<kTagged>(buffer, frame, load<uint16_t>(frame + sizeof(EthernetHeader) + 2),
                            *ingress, hash);
}

}  // namespace plain

// True: the packet is plain, and meta(buffer) is filled, but for what only fragments have; with its
// flow's hash by `hash`. False: it is not plain, or something is wrong with it; the frame is as
// it was.
[[gnu::always_inline]] inline bool parse_plain(Buffer* buffer, const IngressSet& ports,
                                               const base::KeyedHash& hash) {
  constexpr uint32_t kTagged = sizeof(EthernetHeader) + sizeof(VlanTag);
  if (buffer->nb_segs != 1 || buffer->data_len < kTagged) [[unlikely]]
    return false;
  const auto* frame = at<uint8_t>(buffer, 0);
  // The source MAC, and the type behind it.
  const auto source_type = load<uint64_t>(frame + sizeof(net::Mac));
  const auto type = static_cast<uint16_t>(source_type >> 48);
  if ((source_type & 1) != 0 || source_type << 16 == 0) return false;  // a group's, or none
  const bool stripped = (buffer->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0;
  if (stripped || type == net::byte_swap(kEtherVlan)) [[unlikely]]
    return plain::take_tagged(buffer, frame, type, ports, hash);
  const Ingress& ingress = *ports.first;
  if (ingress.vlan != 0 || load<uint64_t>(frame) << 16 != ingress.mac.word() << 16) [[unlikely]] {
    return false;
  }
  return plain::take_type<sizeof(EthernetHeader)>(buffer, frame, type, ingress, hash);
}

}  // namespace limpet::packet
