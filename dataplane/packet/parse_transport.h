// The part of the parser above IP: UDP, TCP, ICMP and neighbour discovery. Internal to parse.cc,
// which has filled in everything of Meta up to l4_bytes.
#pragma once

#include <optional>

#include "dataplane/packet/family.h"
#include "dataplane/packet/headers.h"
#include "dataplane/packet/plain.h"
#include "dataplane/packet/segments.h"
#include "dataplane/packet/verdict.h"

namespace limpet::packet {

using Verdict = std::optional<DropReason>;
inline constexpr Verdict kGoOn = std::nullopt;

template <Family F>
bool sum_right(const Buffer* buffer, const Meta& m, uint32_t bytes) {
  return fold(pseudo_sum<F>(m.source, m.destination, m.protocol, bytes) +
              sum_of(buffer, m.l4_offset, bytes)) == 0xffff;
}

// A device that says NONE vouches for the data but not for the field (a virtual machine on the same
// host left it to hardware that never was): the field is filled in.
template <Family F>
[[gnu::noinline, gnu::cold]] Verdict fill_transport_sum(const Buffer* buffer, const Meta& m,
                                                        uint32_t bytes, uint16_t& field) {
  if (sum_right<F>(buffer, m, bytes)) return kGoOn;
  field = 0;
  const uint16_t sum = checksum_of(pseudo_sum<F>(m.source, m.destination, m.protocol, bytes) +
                                   sum_of(buffer, m.l4_offset, bytes));
  field = sum == 0 && m.protocol == kProtocolUdp ? uint16_t{0xffff} : sum;
  return kGoOn;
}

// Judges a TCP or UDP checksum at `field` over `bytes` bytes from l4_offset by the device's word;
// where it gave none, that is left for later.
template <Family F>
Verdict judge_transport_sum(const Buffer* buffer, Meta& m, uint32_t bytes, uint16_t& field,
                            bool verify) {
  const uint64_t vouched = buffer->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
  if (vouched == RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN) [[likely]] {
    m.sum_owed = verify;
    return kGoOn;
  }
  if (vouched == RTE_MBUF_F_RX_L4_CKSUM_GOOD) return kGoOn;
  if (vouched == RTE_MBUF_F_RX_L4_CKSUM_BAD) return DropReason::kBadChecksum;
  return fill_transport_sum<F>(buffer, m, bytes, field);
}

template <Family F>
Verdict parse_udp(Buffer* buffer, Meta& m, bool verify) {
  if (m.l4_bytes < sizeof(UdpHeader) ||
      !pull_up(buffer, m.l4_offset + static_cast<uint32_t>(sizeof(UdpHeader))))
    return DropReason::kTruncated;
  auto& udp = *at<UdpHeader>(buffer, m.l4_offset);
  m.source_port = udp.source_port;
  m.destination_port = udp.destination_port;
  const uint32_t bytes = udp.bytes;
  // A source port of 0 says that no answer is wanted (RFC 768).
  if (bytes < sizeof(UdpHeader) || bytes > m.l4_bytes || m.destination_port == 0)
    return DropReason::kMalformed;
  m.kind = Kind::kFlow;
  if (udp.checksum == 0) {
    if constexpr (F == Family::kV6) return DropReason::kBadChecksum;  // RFC 8200 8.1
    return kGoOn;
  }
  return judge_transport_sum<F>(buffer, m, bytes, udp.checksum, verify);
}

template <Family F>
Verdict parse_tcp(Buffer* buffer, Meta& m, bool verify) {
  if (m.l4_bytes < sizeof(TcpHeader) ||
      !pull_up(buffer, m.l4_offset + static_cast<uint32_t>(sizeof(TcpHeader))))
    return DropReason::kTruncated;
  auto& tcp = *at<TcpHeader>(buffer, m.l4_offset);
  m.source_port = tcp.source_port;
  m.destination_port = tcp.destination_port;
  m.tcp_flags = tcp.flags;
  const uint32_t header_bytes = static_cast<uint32_t>(tcp.data_words >> 4) * 4;
  if (header_bytes < sizeof(TcpHeader) || header_bytes > m.l4_bytes || m.source_port == 0 ||
      m.destination_port == 0 || tcp_flags_absurd(tcp.flags))
    return DropReason::kMalformed;
  if (!pull_up(buffer, m.l4_offset + header_bytes)) return DropReason::kTruncated;
  m.kind = Kind::kFlow;
  return judge_transport_sum<F>(buffer, m, m.l4_bytes, tcp.checksum, verify);
}

// Devices say nothing of ICMP checksums, so these are always looked at.
template <Family F>
Verdict judge_icmp(Buffer* buffer, const Meta& m, bool verify) {
  if (m.l4_bytes < sizeof(IcmpHeader) ||
      !pull_up(buffer, m.l4_offset + static_cast<uint32_t>(sizeof(IcmpHeader))))
    return DropReason::kTruncated;
  if (!verify) return kGoOn;
  const bool right = FamilyTraits<F>::kIcmpHasPseudoHeader
                         ? sum_right<F>(buffer, m, m.l4_bytes)
                         : fold(sum_of(buffer, m.l4_offset, m.l4_bytes)) == 0xffff;
  return right ? kGoOn : Verdict{DropReason::kBadChecksum};
}

constexpr Kind icmp_kind(Family family, uint8_t type, uint8_t code) {
  if (family == Family::kV4) {
    if (type == kIcmpEchoRequest && code == 0) return Kind::kEcho;
    return type == kIcmpUnreachable || type == kIcmpTimeExceeded || type == kIcmpParameterProblem
               ? Kind::kIcmpError
               : Kind::kOther;
  }
  if (type == kIcmpv6EchoRequest && code == 0) return Kind::kEcho;
  return type >= kIcmpv6Unreachable && type <= kIcmpv6ParameterProblem ? Kind::kIcmpError
                                                                       : Kind::kOther;
}

template <Family F>
Verdict parse_transport(Buffer* buffer, Meta& m, bool verify) {
  if (m.protocol == kProtocolUdp) return parse_udp<F>(buffer, m, verify);
  if (m.protocol == kProtocolTcp) return parse_tcp<F>(buffer, m, verify);
  m.kind = Kind::kOther;
  if (m.protocol == FamilyTraits<F>::kIcmp) {
    if (const Verdict verdict = judge_icmp<F>(buffer, m, verify)) return verdict;
    const auto& icmp = *at<IcmpHeader>(buffer, m.l4_offset);
    m.kind = icmp_kind(F, icmp.type, icmp.code);
  }
  return kGoOn;
}

// Validates router and neighbour messages as RFC 4861 6.1 and 7.1 say and sets kNeighbor; leaves
// other ICMPv6 alone. (In parse_neighbor.cc: off the hot path.)
Verdict parse_icmpv6_neighbor(Buffer* buffer, Meta& m, bool verify);

}  // namespace limpet::packet
