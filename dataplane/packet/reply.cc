#include "dataplane/packet/reply.h"

#include <algorithm>

#include "dataplane/packet/family.h"
#include "dataplane/packet/headers.h"
#include "dataplane/packet/segments.h"

namespace limpet::packet {
namespace {

// Precedence "internetwork control" of ICMP errors (RFC 1812 4.3.2.5).
constexpr uint8_t kErrorTos = 0xc0;
constexpr uint8_t kIcmpv6ErrorTypesEnd = 128;  // below are errors (RFC 4443 2.1)
constexpr uint8_t kIcmpv6Redirect = 137;
constexpr uint8_t kIcmpSourceQuench = 4;
constexpr uint8_t kIcmpRedirect = 5;

// Writes a TCP segment without options or data behind an IP header, both at m.l3_offset; the frame
// must already end behind it.
template <Family F>
void write_reset_at(Buffer* buffer, uint32_t l3, const Reset& reset, uint8_t flags) {
  using Traits = FamilyTraits<F>;
  Traits::write(*at<typename Traits::Header>(buffer, l3), reset.source, reset.destination,
                kProtocolTcp, sizeof(TcpHeader), 0);
  auto& tcp = *at<TcpHeader>(buffer, l3 + Traits::kHeaderBytes);
  tcp = TcpHeader{};
  tcp.source_port = reset.source_port;
  tcp.destination_port = reset.destination_port;
  tcp.sequence = reset.sequence;
  tcp.acknowledgment = reset.acknowledgment;
  tcp.data_words = sizeof(TcpHeader) / 4 << 4;
  tcp.flags = flags;
  tcp.checksum =
      checksum_of(pseudo_sum<F>(reset.source, reset.destination, kProtocolTcp, sizeof(TcpHeader)) +
                  sum_of(&tcp, sizeof tcp));
}

// Meta of a packet the engine made, whose l3_offset, family and origin stand.
template <Family F>
void describe_reply(Meta& m, Kind kind, uint8_t protocol, std::size_t l4_bytes) {
  m.l4_offset = static_cast<uint16_t>(m.l3_offset + FamilyTraits<F>::kHeaderBytes);
  m.l4_bytes = static_cast<uint32_t>(l4_bytes);
  m.l3_bytes = static_cast<uint32_t>(FamilyTraits<F>::kHeaderBytes + l4_bytes);
  m.family = F;
  m.kind = kind;
  m.protocol = protocol;
  m.ttl = kReplyTtl;
  m.dont_fragment = true;
  m.reassembled = false;
  m.fragment_id = 0;
}

template <Family F>
void reset_in_place(Buffer* buffer, Meta& m, const Reset& reset, uint8_t flags) {
  constexpr uint32_t kBytes = FamilyTraits<F>::kHeaderBytes + sizeof(TcpHeader);
  trim_to(buffer, m.l3_offset + kBytes);
  write_reset_at<F>(buffer, m.l3_offset, reset, flags);
  describe_reply<F>(m, Kind::kFlow, kProtocolTcp, sizeof(TcpHeader));
}

// Whether an ICMP error may answer this packet at all.
bool may_be_answered(Buffer* buffer, const Meta& m) {
  switch (m.kind) {
    case Kind::kFlow:
    case Kind::kEcho:
      return true;
    case Kind::kIcmpError:
    case Kind::kNeighbor:
      return false;
    case Kind::kFragment:
      if (m.family == Family::kV4)
        return (at<Ipv4Header>(buffer, m.l3_offset)->fragment & kIpv4FragmentOffset) == 0;
      return (at<Ipv6FragmentHeader>(buffer, m.l4_offset - sizeof(Ipv6FragmentHeader))
                  ->offset_more &
              0xfff8) == 0;
    case Kind::kOther:
      break;
  }
  if (m.family == Family::kV4 ? m.protocol != kProtocolIcmp : m.protocol != kProtocolIcmpv6)
    return true;
  const uint8_t type = at<IcmpHeader>(buffer, m.l4_offset)->type;
  return m.family == Family::kV4 ? type != kIcmpSourceQuench && type != kIcmpRedirect
                                 : type >= kIcmpv6ErrorTypesEnd && type != kIcmpv6Redirect;
}

// A first fragment that carries an ICMP error is one too, though its kind does not say so.
bool is_fragmented_icmp(const Meta& m) {
  return m.kind == Kind::kFragment &&
         m.protocol == (m.family == Family::kV4 ? kProtocolIcmp : kProtocolIcmpv6);
}

struct TypeCode {
  uint8_t type = 0;
  uint8_t code = 0;
};

constexpr TypeCode type_code(Family family, IcmpReply what) {
  const bool v4 = family == Family::kV4;
  switch (what) {
    case IcmpReply::kPortUnreachable:
      return v4 ? TypeCode{kIcmpUnreachable, 3} : TypeCode{kIcmpv6Unreachable, 4};
    case IcmpReply::kAdminProhibited:
      return v4 ? TypeCode{kIcmpUnreachable, 13} : TypeCode{kIcmpv6Unreachable, 1};
    case IcmpReply::kTimeExceeded:
      return v4 ? TypeCode{kIcmpTimeExceeded, 0} : TypeCode{kIcmpv6TimeExceeded, 0};
    case IcmpReply::kTooBig:
      break;
  }
  return v4 ? TypeCode{kIcmpUnreachable, 4} : TypeCode{kIcmpv6PacketTooBig, 0};
}

template <Family F>
bool error_in_place(Buffer* buffer, Meta& m, IcmpReply what, const net::Address& from,
                    uint16_t mtu) {
  using Traits = FamilyTraits<F>;
  constexpr uint32_t kHeaders = Traits::kHeaderBytes + sizeof(IcmpHeader);
  const net::Address to = m.source;
  // The new headers go in front of the quoted packet: over the old Ethernet header and headroom.
  if (rte_pktmbuf_prepend(buffer, kHeaders) == nullptr) return false;
  const uint32_t quoted =
      std::min<uint32_t>(m.l3_bytes, static_cast<uint32_t>(Traits::kErrorBytesMax) - kHeaders);
  trim_to(buffer, m.l3_offset + kHeaders + quoted);

  const uint32_t l4_bytes = static_cast<uint32_t>(sizeof(IcmpHeader)) + quoted;
  Traits::write(*at<typename Traits::Header>(buffer, m.l3_offset), from, to, Traits::kIcmp,
                l4_bytes, F == Family::kV4 ? kErrorTos : 0);
  describe_reply<F>(m, Kind::kIcmpError, Traits::kIcmp, l4_bytes);
  m.source = from;
  m.destination = to;
  m.source_port = m.destination_port = 0;
  m.tcp_flags = 0;

  auto& icmp = *at<IcmpHeader>(buffer, m.l4_offset);
  const TypeCode kind = type_code(F, what);
  icmp = IcmpHeader{};
  icmp.type = kind.type;
  icmp.code = kind.code;
  if (what == IcmpReply::kTooBig) icmp.word2 = mtu;
  uint64_t sum = sum_of(buffer, m.l4_offset, l4_bytes);
  if constexpr (Traits::kIcmpHasPseudoHeader)
    sum += pseudo_sum<F>(from, to, Traits::kIcmp, l4_bytes);
  icmp.checksum = checksum_of(sum);
  return true;
}

template <Family F>
void echo_in_place(Buffer* buffer, Meta& m) {
  using Traits = FamilyTraits<F>;
  auto& ip = *at<typename Traits::Header>(buffer, m.l3_offset);
  auto& icmp = *at<IcmpHeader>(buffer, m.l4_offset);
  ChecksumDelta header;  // swapping addresses changes no sum; the new TTL changes IPv4's
  replace_addresses<F>(ip, m.destination, m.source, header);
  if constexpr (F == Family::kV4) {
    const auto before = load<uint16_t>(&ip.ttl);
    ip.ttl = kReplyTtl;
    header.replace(before, load<uint16_t>(&ip.ttl));
  } else {
    ip.hop_limit = kReplyTtl;
  }
  Traits::adjust(ip, header);
  ChecksumDelta type;
  const auto before = load<uint16_t>(&icmp.type);
  icmp.type = Traits::kEchoReply;
  type.replace(before, load<uint16_t>(&icmp.type));
  icmp.checksum = type.apply(icmp.checksum);
  std::swap(m.source, m.destination);
  m.kind = Kind::kOther;
  m.ttl = kReplyTtl;
}

}  // namespace

bool make_tcp_reset(Buffer* buffer) {
  Meta& m = meta(buffer);
  if (m.kind != Kind::kFlow || m.protocol != kProtocolTcp || (m.tcp_flags & kTcpRst) != 0)
    return false;
  const auto& tcp = *at<TcpHeader>(buffer, m.l4_offset);
  Reset reset{.source = m.destination,
              .destination = m.source,
              .source_port = m.destination_port,
              .destination_port = m.source_port};
  uint8_t flags = kTcpRst;
  if ((m.tcp_flags & kTcpAck) != 0) {
    reset.sequence = tcp.acknowledgment;
  } else {
    const uint32_t header_bytes = static_cast<uint32_t>(tcp.data_words >> 4) * 4;
    const uint32_t length = m.l4_bytes - header_bytes + ((m.tcp_flags & kTcpSyn) != 0 ? 1u : 0u) +
                            ((m.tcp_flags & kTcpFin) != 0 ? 1u : 0u);
    reset.acknowledgment = tcp.sequence + length;
    flags |= kTcpAck;
  }
  with_family(m.family, [&]<Family F>() { reset_in_place<F>(buffer, m, reset, flags); });
  m.source = reset.source;
  m.destination = reset.destination;
  m.source_port = reset.source_port;
  m.destination_port = reset.destination_port;
  m.tcp_flags = flags;
  return true;
}

bool make_icmp_error(Buffer* buffer, IcmpReply what, const net::Address& source, uint16_t mtu) {
  Meta& m = meta(buffer);
  if (source.family() != m.family || is_fragmented_icmp(m) || !may_be_answered(buffer, m))
    return false;
  return with_family(m.family,
                     [&]<Family F>() { return error_in_place<F>(buffer, m, what, source, mtu); });
}

bool make_echo_reply(Buffer* buffer) {
  Meta& m = meta(buffer);
  if (m.kind != Kind::kEcho) return false;
  with_family(m.family, [&]<Family F>() { echo_in_place<F>(buffer, m); });
  return true;
}

void write_tcp_reset(Buffer* empty, const Reset& reset) {
  const uint8_t flags = reset.acknowledgment != 0 ? kTcpRst | kTcpAck : kTcpRst;
  Meta& m = meta(empty);
  m = Meta{};
  m.l3_offset = sizeof(EthernetHeader);
  with_family(reset.source.family(), [&]<Family F>() {
    constexpr uint16_t kBytes =
        sizeof(EthernetHeader) + FamilyTraits<F>::kHeaderBytes + sizeof(TcpHeader);
    empty->data_len = kBytes;
    empty->pkt_len = kBytes;
    *at<EthernetHeader>(empty, 0) = EthernetHeader{};
    write_reset_at<F>(empty, m.l3_offset, reset, flags);
    describe_reply<F>(m, Kind::kFlow, kProtocolTcp, sizeof(TcpHeader));
  });
  m.source = reset.source;
  m.destination = reset.destination;
  m.source_port = reset.source_port;
  m.destination_port = reset.destination_port;
  m.tcp_flags = flags;
}

bool write_datagram(Buffer* empty, const Datagram& d) {
  Meta& m = meta(empty);
  m = Meta{};
  m.l3_offset = sizeof(EthernetHeader);
  return with_family(d.source.family(), [&]<Family F>() {
    using Traits = FamilyTraits<F>;
    const std::size_t l4_bytes = sizeof(UdpHeader) + d.payload.size();
    const std::size_t bytes = m.l3_offset + Traits::kHeaderBytes + l4_bytes;
    if (bytes > UINT16_MAX || rte_pktmbuf_append(empty, static_cast<uint16_t>(bytes)) == nullptr)
      return false;
    *at<EthernetHeader>(empty, 0) = EthernetHeader{};
    Traits::write(*at<typename Traits::Header>(empty, m.l3_offset), d.source, d.destination,
                  kProtocolUdp, l4_bytes, 0);
    auto& udp = *at<UdpHeader>(empty, m.l3_offset + Traits::kHeaderBytes);
    udp = UdpHeader{};
    udp.source_port = d.source_port;
    udp.destination_port = d.destination_port;
    udp.bytes = static_cast<uint16_t>(l4_bytes);
    std::memcpy(&udp + 1, d.payload.data(), d.payload.size());
    udp.checksum = checksum_of(
        pseudo_sum<F>(d.source, d.destination, kProtocolUdp, static_cast<uint32_t>(l4_bytes)) +
        sum_of(&udp, l4_bytes));
    if (udp.checksum == 0) udp.checksum = 0xffff;
    describe_reply<F>(m, Kind::kFlow, kProtocolUdp, l4_bytes);
    m.source = d.source;
    m.destination = d.destination;
    m.source_port = d.source_port;
    m.destination_port = d.destination_port;
    return true;
  });
}

}  // namespace limpet::packet
