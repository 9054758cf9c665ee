// The parser: Ethernet and VLAN here, ARP, IPv4 and IPv6 in one function each, transports written
// once for both families in parse_transport.h. Nothing is read that was not first found to lie in
// the first segment; the offsets in Meta are only set to what was checked.
#include "dataplane/packet/parse.h"

#include <cstring>

#include "dataplane/packet/headers.h"
#include "dataplane/packet/parse_transport.h"
#include "dataplane/packet/plain.h"
#include "dataplane/packet/segments.h"

namespace limpet::packet {
namespace {

constexpr uint32_t kDatagramBytesMax = 65535;

// Copied, not constructed: compilers make `rep stos` of the latter, which takes 30 cycles to start.
constexpr Meta kFreshMeta{};

// The piece of a datagram that `m` describes must fit one (RFC 791 3.2, RFC 8200 4.5); `offset` in
// bytes.
Verdict judge_fragment(Meta& m, uint32_t offset, bool more, uint32_t header_bytes) {
  m.kind = Kind::kFragment;
  if (m.reassembled) return DropReason::kMalformed;  // fragments within fragments
  if (m.l4_bytes == 0 || (more && m.l4_bytes % 8 != 0)) return DropReason::kFragmentInvalid;
  if (offset + m.l4_bytes + header_bytes > kDatagramBytesMax) return DropReason::kFragmentInvalid;
  return kGoOn;
}

Verdict parse_arp(Buffer* buffer, Meta& m) {
  if (!pull_up(buffer, m.l3_offset + static_cast<uint32_t>(sizeof(ArpHeader))))
    return DropReason::kTruncated;
  const auto& arp = *at<ArpHeader>(buffer, m.l3_offset);
  const uint16_t hardware = arp.hardware;
  const uint16_t protocol = arp.protocol;
  if (hardware != 1 || protocol != kEtherIpv4 || arp.hardware_bytes != 6 || arp.protocol_bytes != 4)
    return DropReason::kMalformed;
  const uint16_t operation = arp.operation;
  if (operation != kArpRequest && operation != kArpReply) return DropReason::kMalformed;
  if (arp.sender_mac.is_multicast() || arp.sender_mac.is_zero()) return DropReason::kMalformed;
  m.kind = Kind::kNeighbor;
  m.source = net::Address::v4(arp.sender);
  m.destination = net::Address::v4(arp.target);
  m.l4_offset = m.l3_offset;
  m.l3_bytes = m.l4_bytes = sizeof(ArpHeader);
  trim_to(buffer, m.l3_offset + m.l3_bytes);
  const uint32_t target = net::byte_swap(m.destination.v4_word());
  // Who asks without an address of its own (RFC 5227 2.1.1) is answered at 0.0.0.0.
  const bool to_probe = target == 0 && operation == kArpReply;
  if (is_martian_v4(target) && !to_probe) return DropReason::kMalformed;
  // A probe asks from 0.0.0.0 (RFC 5227 2.1.1); nobody answers from there.
  const bool probe = m.source.v4_word() == 0 && operation == kArpRequest;
  if (!probe && is_martian_v4(net::byte_swap(m.source.v4_word())))
    return DropReason::kMartianSource;
  return kGoOn;
}

// Options are carried along unread, but for those that would let the sender choose the route
// (RFC 7126 4.3, 4.4) and those that do not fit.
bool ipv4_options_fit(const uint8_t* options, uint32_t bytes) {
  constexpr uint8_t kEnd = 0;
  constexpr uint8_t kNothing = 1;
  constexpr uint8_t kLooseSourceRoute = 131;
  constexpr uint8_t kStrictSourceRoute = 137;
  for (uint32_t i = 0; i < bytes;) {
    if (options[i] == kEnd) return true;
    if (options[i] == kNothing) {
      ++i;
      continue;
    }
    if (options[i] == kLooseSourceRoute || options[i] == kStrictSourceRoute) return false;
    if (i + 1 >= bytes || options[i + 1] < 2 || i + options[i + 1] > bytes) return false;
    i += options[i + 1];
  }
  return true;
}

Verdict parse_ipv4(Buffer* buffer, Meta& m, bool verify) {
  const uint32_t l3 = m.l3_offset;
  if (!pull_up(buffer, l3 + static_cast<uint32_t>(sizeof(Ipv4Header))))
    return DropReason::kTruncated;
  const auto& ip = *at<Ipv4Header>(buffer, l3);
  const uint32_t header_bytes = (ip.version_words & 0xfu) * 4;
  const uint32_t total_bytes = ip.total_bytes;
  if (ip.version_words >> 4 != 4 || header_bytes < sizeof(Ipv4Header) || total_bytes < header_bytes)
    return DropReason::kMalformed;
  if (total_bytes > buffer->pkt_len - l3) return DropReason::kTruncated;
  trim_to(buffer, l3 + total_bytes);
  if (header_bytes > sizeof(Ipv4Header)) {
    if (!pull_up(buffer, l3 + header_bytes)) return DropReason::kTruncated;
    if (!ipv4_options_fit(at<uint8_t>(buffer, l3 + sizeof(Ipv4Header)),
                          header_bytes - static_cast<uint32_t>(sizeof(Ipv4Header))))
      return DropReason::kMalformed;
  }

  const uint64_t vouched = buffer->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
  if (vouched == RTE_MBUF_F_RX_IP_CKSUM_BAD) return DropReason::kBadChecksum;
  if (verify && vouched != RTE_MBUF_F_RX_IP_CKSUM_GOOD && fold(sum_of(&ip, header_bytes)) != 0xffff)
    return DropReason::kBadChecksum;

  m.family = Family::kV4;
  m.source = net::Address::v4(ip.source);
  m.destination = net::Address::v4(ip.destination);
  m.protocol = ip.protocol;
  m.ttl = ip.ttl;
  m.l3_bytes = total_bytes;
  m.l4_offset = static_cast<uint16_t>(l3 + header_bytes);
  m.l4_bytes = total_bytes - header_bytes;
  if (is_martian_v4(net::byte_swap(m.source.v4_word())) ||
      m.source.v4_word() == m.destination.v4_word())
    return DropReason::kMartianSource;
  if (is_martian_v4(net::byte_swap(m.destination.v4_word()))) return DropReason::kNotForUs;

  const uint16_t fragment = ip.fragment;
  m.dont_fragment = (fragment & kIpv4DontFragment) != 0;
  if ((fragment & (kIpv4MoreFragments | kIpv4FragmentOffset)) != 0) [[unlikely]] {
    m.fragment_id = ip.id;
    return judge_fragment(m, (fragment & kIpv4FragmentOffset) * 8u,
                          (fragment & kIpv4MoreFragments) != 0, header_bytes);
  }
  return parse_transport<Family::kV4>(buffer, m, verify);
}

// Options of a hop-by-hop or destination header must fill it exactly (RFC 8200 4.2); a jumbo
// payload (RFC 2675) is refused.
bool ipv6_options_fit(const uint8_t* options, uint32_t bytes) {
  constexpr uint8_t kPad1 = 0;
  constexpr uint8_t kJumbo = 0xc2;
  for (uint32_t i = 0; i < bytes;) {
    if (options[i] == kPad1) {
      ++i;
      continue;
    }
    if (options[i] == kJumbo || i + 1 >= bytes || i + 2 + options[i + 1] > bytes) return false;
    i += 2u + options[i + 1];
  }
  return true;
}

// Where a walk over extension headers ended.
struct ExtensionWalk {
  uint32_t offset = 0;  // of the header that stopped it, in the frame
  uint8_t next = 0;     // what that header is
  bool fragment = false;
  bool atomic = false;  // passed a fragment header of a whole datagram (RFC 6946)
  uint16_t offset_more = 0;
  uint32_t id = 0;
};

Verdict walk_extensions(Buffer* buffer, ExtensionWalk& walk) {
  for (uint32_t count = 0;; ++count) {
    const uint8_t type = walk.next;
    if (type != kProtocolHopByHop && type != kProtocolRouting && type != kProtocolFragment &&
        type != kProtocolDestinationOptions)
      return kGoOn;
    if (count == kExtensionHeadersMax) return DropReason::kMalformed;
    if (type == kProtocolHopByHop && count != 0) return DropReason::kMalformed;
    if (!pull_up(buffer, walk.offset + 8)) return DropReason::kTruncated;
    const auto* header = at<uint8_t>(buffer, walk.offset);
    if (type == kProtocolFragment) {
      const auto& fragment = *at<Ipv6FragmentHeader>(buffer, walk.offset);
      const uint16_t offset_more = fragment.offset_more;
      if (walk.atomic || fragment.next_header == kProtocolHopByHop) return DropReason::kMalformed;
      walk.next = fragment.next_header;
      walk.offset += static_cast<uint32_t>(sizeof(Ipv6FragmentHeader));
      if ((offset_more & 0xfff9) != 0) {
        walk.fragment = true;
        walk.offset_more = offset_more;
        walk.id = fragment.id;
        return kGoOn;
      }
      walk.atomic = true;
      continue;
    }
    const uint32_t bytes = (header[1] + 1u) * 8;
    if (!pull_up(buffer, walk.offset + bytes)) return DropReason::kTruncated;
    if (type == kProtocolRouting) {
      if (header[3] != 0) return DropReason::kMalformed;  // segments left: the sender routes
    } else if (!ipv6_options_fit(header + 2, bytes - 2)) {
      return DropReason::kMalformed;
    }
    walk.next = header[0];
    walk.offset += bytes;
  }
}

// From here on the packet's link-local addresses are those of its port's link.
void put_in_zone(Meta& m) {
  const uint16_t zone = net::zone_of(m.port);
  m.source = m.source.in_zone(zone);
  m.destination = m.destination.in_zone(zone);
}

Verdict parse_ipv6(Buffer* buffer, Meta& m, bool verify) {
  const uint32_t l3 = m.l3_offset;
  if (!pull_up(buffer, l3 + static_cast<uint32_t>(sizeof(Ipv6Header))))
    return DropReason::kTruncated;
  const auto& ip = *at<Ipv6Header>(buffer, l3);
  if (*at<uint8_t>(buffer, l3) >> 4 != 6) return DropReason::kMalformed;
  const uint32_t total_bytes = static_cast<uint32_t>(sizeof(Ipv6Header)) + ip.payload_bytes;
  if (total_bytes > buffer->pkt_len - l3) return DropReason::kTruncated;
  trim_to(buffer, l3 + total_bytes);

  m.family = Family::kV6;
  m.source = net::Address::v6(ip.source);
  m.destination = net::Address::v6(ip.destination);
  m.ttl = ip.hop_limit;
  m.l3_bytes = total_bytes;
  m.dont_fragment = !m.reassembled;
  const Words source(ip.source);
  const Words destination(ip.destination);
  const bool unspecified = source.is_unspecified();  // only neighbour discovery may
  if ((!unspecified && source.is_martian()) || source == destination)
    return DropReason::kMartianSource;
  const bool link_local = source.is_link_local() || destination.is_link_local();
  const bool multicast = destination.is_multicast();
  if (!multicast && destination.is_martian()) return DropReason::kNotForUs;

  ExtensionWalk walk;
  walk.offset = l3 + static_cast<uint32_t>(sizeof(Ipv6Header));
  walk.next = ip.next_header;
  if (const Verdict verdict = walk_extensions(buffer, walk)) return verdict;
  m.protocol = walk.next;
  m.l4_offset = static_cast<uint16_t>(walk.offset);
  m.l4_bytes = l3 + total_bytes - walk.offset;
  if (walk.fragment) [[unlikely]] {
    if (unspecified) return DropReason::kMartianSource;
    if (multicast) return DropReason::kNotForUs;
    if (link_local) put_in_zone(m);
    m.fragment_id = walk.id;
    return judge_fragment(m, walk.offset_more & 0xfff8u, (walk.offset_more & 1) != 0, 0);
  }
  if (m.protocol == kProtocolIcmpv6) {
    const Verdict verdict = parse_icmpv6_neighbor(buffer, m, verify);
    if (verdict) return verdict;
    if (m.kind == Kind::kNeighbor)  // never in fragments, not even one (RFC 6980)
      return walk.atomic || m.reassembled ? Verdict{DropReason::kMalformed} : kGoOn;
  }
  if (unspecified) return DropReason::kMartianSource;
  if (multicast) return DropReason::kNotForUs;
  const Verdict verdict = parse_transport<Family::kV6>(buffer, m, verify);
  if (link_local && (m.kind == Kind::kFlow || m.kind == Kind::kIcmpError)) [[unlikely]]
    put_in_zone(m);
  return verdict;
}

}  // namespace

Verdict parse(Buffer* buffer, const IngressSet& ports) {
  // Devices rarely split frames; what cannot be joined is read as far as its first segment goes.
  if (buffer->nb_segs != 1) [[unlikely]]
    static_cast<void>(rte_pktmbuf_linearize(buffer));
  Meta& m = meta(buffer);
  std::memcpy(&m, &kFreshMeta, sizeof m);
  m.port = ports.first->port;  // what belongs to no port is counted on the device's first
  if (buffer->data_len < sizeof(EthernetHeader)) return DropReason::kTruncated;
  const auto& ethernet = *at<EthernetHeader>(buffer, 0);
  m.l3_offset = sizeof(EthernetHeader);
  m.source_mac = ethernet.source;
  uint16_t type = ethernet.type;
  uint16_t vlan = 0;
  if ((buffer->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
    vlan = buffer->vlan_tci & kVlanId;
  } else if (type == kEtherVlan) {
    if (buffer->data_len < sizeof(EthernetHeader) + sizeof(VlanTag)) return DropReason::kTruncated;
    const auto& tag = *at<VlanTag>(buffer, sizeof(EthernetHeader));
    vlan = tag.control & kVlanId;  // 0: priority only (IEEE 802.1Q 9.6)
    type = tag.type;
    m.l3_offset = sizeof(EthernetHeader) + sizeof(VlanTag);
  }
  const Ingress* ingress = find_ingress(ports, vlan);
  if (ingress == nullptr) return DropReason::kUnknownVlan;
  m.port = ingress->port;

  const bool to_group = ethernet.destination.is_multicast();
  if (!to_group && ethernet.destination != ingress->mac) return DropReason::kNotForUs;
  if (ethernet.source.is_multicast() || ethernet.source.is_zero())
    return DropReason::kMartianSource;

  Verdict verdict = DropReason::kUnknownEthertype;
  if (type == kEtherIpv4) {
    if (to_group) return DropReason::kNotForUs;
    verdict = parse_ipv4(buffer, m, ingress->verify_checksums);
  } else if (type == kEtherIpv6) {
    verdict = parse_ipv6(buffer, m, ingress->verify_checksums);
    if (to_group && !verdict && m.kind != Kind::kNeighbor) verdict = DropReason::kNotForUs;
  } else if (type == kEtherArp) {
    verdict = parse_arp(buffer, m);
  }
  return verdict;
}

bool transport_sum_right(Buffer* buffer) {
  Meta& m = meta(buffer);
  uint32_t bytes = m.l4_bytes;
  if (m.protocol == kProtocolUdp) bytes = at<UdpHeader>(buffer, m.l4_offset)->bytes;
  const bool right =
      with_family(m.family, [&]<Family F>() { return sum_right<F>(buffer, m, bytes); });
  m.sum_owed = !right;
  return right;
}

Verdict parse_datagram(Buffer* buffer, bool verify_checksums) {
  Meta& m = meta(buffer);
  Meta fresh;
  fresh.family = m.family;
  fresh.l3_offset = m.l3_offset;
  fresh.source_mac = m.source_mac;
  fresh.port = m.port;
  fresh.reassembled = m.reassembled;
  m = fresh;
  return m.family == Family::kV4 ? parse_ipv4(buffer, m, verify_checksums)
                                 : parse_ipv6(buffer, m, verify_checksums);
}

}  // namespace limpet::packet
