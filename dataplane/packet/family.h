// Everything in which IPv4 and IPv6 packets differ once they are parsed. Code below the parser is
// written once over FamilyTraits<F>.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/net/address.h"
#include "dataplane/packet/checksum.h"
#include "dataplane/packet/headers.h"

namespace limpet::packet {

using net::Address;
using net::Family;

inline constexpr uint8_t kReplyTtl = 64;  // of packets the engine makes itself (RFC 1700's default)

template <Family F>
struct FamilyTraits;

template <>
struct FamilyTraits<Family::kV4> {
  using Header = Ipv4Header;
  static constexpr std::size_t kHeaderBytes = sizeof(Ipv4Header);
  static constexpr std::size_t kAddressWords = 1;
  static constexpr uint16_t kEtherType = kEtherIpv4;
  static constexpr uint8_t kIcmp = kProtocolIcmp;
  static constexpr uint8_t kEchoReply = kIcmpEchoReply;
  static constexpr bool kIcmpHasPseudoHeader = false;
  static constexpr std::size_t kErrorBytesMax = 576;  // RFC 1812 4.3.2.3

  static Address source(const Header& h) { return Address::v4(h.source); }
  static Address destination(const Header& h) { return Address::v4(h.destination); }
  static uint32_t word(const Address& a, std::size_t) { return a.v4_word(); }
  static void write_address(uint8_t* to, const Address& a) { std::memcpy(to, a.v4_bytes(), 4); }
  static void set_length(Header& h, std::size_t l4_bytes) {
    h.total_bytes = static_cast<uint16_t>(kHeaderBytes + l4_bytes);
  }
  static uint8_t& ttl(Header& h) { return h.ttl; }

  // The header's own checksum after its covered words changed.
  static void adjust(Header& h, const ChecksumDelta& delta) {
    h.checksum = delta.apply(h.checksum);
  }
  // TTL is the low byte of its word as it lies in memory: one less there.
  static void decrement_ttl(Header& h, ChecksumDelta& delta) {
    --h.ttl;
    delta.subtract_one();
  }

  // A header without options in front of `l4_bytes`; never to be fragmented, so its
  // identification means nothing (RFC 6864 4.1).
  static void write(Header& h, const Address& source, const Address& destination, uint8_t protocol,
                    std::size_t l4_bytes, uint8_t tos) {
    h = Header{};
    h.version_words = 0x45;
    h.tos = tos;
    set_length(h, l4_bytes);
    h.fragment = kIpv4DontFragment;
    h.ttl = kReplyTtl;
    h.protocol = protocol;
    write_address(h.source, source);
    write_address(h.destination, destination);
    h.checksum = checksum_of(sum_of(&h, kHeaderBytes));
  }
};

template <>
struct FamilyTraits<Family::kV6> {
  using Header = Ipv6Header;
  static constexpr std::size_t kHeaderBytes = sizeof(Ipv6Header);
  static constexpr std::size_t kAddressWords = 4;
  static constexpr uint16_t kEtherType = kEtherIpv6;
  static constexpr uint8_t kIcmp = kProtocolIcmpv6;
  static constexpr uint8_t kEchoReply = kIcmpv6EchoReply;
  static constexpr bool kIcmpHasPseudoHeader = true;
  static constexpr std::size_t kErrorBytesMax = 1280;  // RFC 4443 2.4(c)

  static Address source(const Header& h) { return Address::v6(h.source); }
  static Address destination(const Header& h) { return Address::v6(h.destination); }
  // As it goes on the wire: without a zone.
  static uint32_t word(const Address& a, std::size_t i) {
    return i == 0 && a.is_link_local_v6() ? a.word(0) & 0xffffu : a.word(i);
  }
  static void write_address(uint8_t* to, const Address& a) {
    std::memcpy(to, a.bytes(), 16);
    if (a.is_link_local_v6()) to[2] = to[3] = 0;
  }
  static void set_length(Header& h, std::size_t l4_bytes) {
    h.payload_bytes = static_cast<uint16_t>(l4_bytes);
  }
  static uint8_t& ttl(Header& h) { return h.hop_limit; }

  static void adjust(Header&, const ChecksumDelta&) {}  // has none
  static void decrement_ttl(Header& h, ChecksumDelta&) {
    h.hop_limit = static_cast<uint8_t>(h.hop_limit - 1);
  }

  static void write(Header& h, const Address& source, const Address& destination, uint8_t protocol,
                    std::size_t l4_bytes, uint8_t traffic_class) {
    h.version_class_flow = 0x60000000u | static_cast<uint32_t>(traffic_class) << 20;
    set_length(h, l4_bytes);
    h.next_header = protocol;
    h.hop_limit = kReplyTtl;
    write_address(h.source, source);
    write_address(h.destination, destination);
  }
};

// Replaces source and destination in a header; what that changes in sums over it goes into `delta`.
template <Family F>
void replace_addresses(typename FamilyTraits<F>::Header& header, const Address& source,
                       const Address& destination, ChecksumDelta& delta) {
  using Traits = FamilyTraits<F>;
  for (std::size_t i = 0; i < Traits::kAddressWords; ++i) {
    delta.replace(load<uint32_t>(&header.source[4 * i]), Traits::word(source, i));
    delta.replace(load<uint32_t>(&header.destination[4 * i]), Traits::word(destination, i));
  }
  Traits::write_address(header.source, source);
  Traits::write_address(header.destination, destination);
}

// The sum of the pseudo header in front of a transport (RFC 9293 3.1, RFC 8200 8.1).
template <Family F>
uint64_t pseudo_sum(const Address& source, const Address& destination, uint8_t protocol,
                    uint32_t l4_bytes) {
  using Traits = FamilyTraits<F>;
  uint64_t sum = net::byte_swap(l4_bytes);
  sum += static_cast<uint64_t>(protocol) << 8;
  for (std::size_t i = 0; i < Traits::kAddressWords; ++i)
    sum += uint64_t{Traits::word(source, i)} + Traits::word(destination, i);
  return sum;
}

// Calls `f.template operator()<F>()` for the family of a packet.
template <class Function>
decltype(auto) with_family(Family family, Function&& f) {
  return family == Family::kV4 ? f.template operator()<Family::kV4>()
                               : f.template operator()<Family::kV6>();
}

}  // namespace limpet::packet
