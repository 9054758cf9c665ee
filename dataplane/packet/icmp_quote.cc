#include "dataplane/packet/icmp_quote.h"

#include <algorithm>

#include "dataplane/packet/family.h"
#include "dataplane/packet/headers.h"

namespace limpet::packet {
namespace {

// Where the quoted packet lies and how much of it can be read: never past the error's first
// segment, nor past the quoted packet's own length.
struct Layout {
  uint32_t l3_offset = 0;
  uint32_t l4_offset = 0;
  uint32_t l4_bytes = 0;  // quoted, from l4_offset
  uint8_t protocol = 0;
};

std::optional<Layout> locate_ipv4(Buffer* buffer, uint32_t l3, uint32_t bytes) {
  if (bytes < sizeof(Ipv4Header)) return std::nullopt;
  const auto& ip = *at<Ipv4Header>(buffer, l3);
  const uint32_t header_bytes = (ip.version_words & 0xfu) * 4;
  if (ip.version_words >> 4 != 4 || header_bytes < sizeof(Ipv4Header)) return std::nullopt;
  const uint32_t readable = std::min<uint32_t>(bytes, ip.total_bytes);
  if (readable < header_bytes || (ip.fragment & kIpv4FragmentOffset) != 0) return std::nullopt;
  return Layout{l3, l3 + header_bytes, readable - header_bytes, ip.protocol};
}

std::optional<Layout> locate_ipv6(Buffer* buffer, uint32_t l3, uint32_t bytes) {
  if (bytes < sizeof(Ipv6Header) || *at<uint8_t>(buffer, l3) >> 4 != 6) return std::nullopt;
  const auto& ip = *at<Ipv6Header>(buffer, l3);
  uint8_t next = ip.next_header;
  uint32_t offset = l3 + static_cast<uint32_t>(sizeof(Ipv6Header));
  uint32_t left =
      std::min<uint32_t>(bytes - static_cast<uint32_t>(sizeof(Ipv6Header)), ip.payload_bytes);
  for (uint32_t count = 0; count <= kExtensionHeadersMax; ++count) {
    const bool fragment = next == kProtocolFragment;
    if (!fragment && next != kProtocolHopByHop && next != kProtocolRouting &&
        next != kProtocolDestinationOptions)
      return Layout{l3, offset, left, next};
    if (left < 8) return std::nullopt;
    if (fragment && (at<Ipv6FragmentHeader>(buffer, offset)->offset_more & 0xfff8) != 0)
      return std::nullopt;
    const auto* header = at<uint8_t>(buffer, offset);
    const uint32_t header_bytes = fragment ? 8 : (header[1] + 1u) * 8;
    if (header_bytes > left) return std::nullopt;
    next = header[0];
    offset += header_bytes;
    left -= header_bytes;
  }
  return std::nullopt;
}

std::optional<Layout> locate(Buffer* buffer, const Meta& m) {
  const uint32_t l3 = m.l4_offset + static_cast<uint32_t>(sizeof(IcmpHeader));
  const uint32_t end = std::min<uint32_t>(m.l4_offset + m.l4_bytes, buffer->data_len);
  if (end < l3) return std::nullopt;
  const auto layout = m.family == Family::kV4 ? locate_ipv4(buffer, l3, end - l3)
                                              : locate_ipv6(buffer, l3, end - l3);
  constexpr uint32_t kPortBytes = 4;
  if (!layout || layout->l4_bytes < kPortBytes) return std::nullopt;
  if (layout->protocol != kProtocolTcp && layout->protocol != kProtocolUdp) return std::nullopt;
  return layout;
}

// Rewrites the quoted packet and returns what that changed in sums over the whole quote.
template <Family F>
ChecksumDelta translate_inner(Buffer* buffer, const Layout& quote, const Translation& to) {
  using Traits = FamilyTraits<F>;
  auto& ip = *at<typename Traits::Header>(buffer, quote.l3_offset);
  auto* l4 = at<uint8_t>(buffer, quote.l4_offset);

  ChecksumDelta covered;  // by the quoted transport checksum
  replace_addresses<F>(ip, to.source, to.destination, covered);
  ChecksumDelta changed = covered;
  if constexpr (F == Family::kV4) {
    const uint16_t before = ip.checksum;
    Traits::adjust(ip, covered);
    changed.replace(before, ip.checksum);
  }

  ChecksumDelta ports;
  const auto before = load<uint32_t>(l4);
  const uint32_t after = net::byte_swap(static_cast<uint32_t>(to.source_port) << 16 |
                                        static_cast<uint32_t>(to.destination_port));
  ports.replace(before, after);
  std::memcpy(l4, &after, sizeof after);
  covered.add(ports);
  changed.add(ports);

  const std::size_t field = transport_checksum_offset(quote.protocol);
  if (field + sizeof(uint16_t) <= quote.l4_bytes) {
    const auto old_sum = load<uint16_t>(l4 + field);
    const uint16_t new_sum =
        quote.protocol == kProtocolUdp ? covered.apply_udp(old_sum) : covered.apply(old_sum);
    std::memcpy(l4 + field, &new_sum, sizeof new_sum);
    changed.replace(old_sum, new_sum);
  }
  return changed;
}

template <Family F>
void translate_error(Buffer* buffer, const Meta& m, const Layout& layout, const Translation& quote,
                     const net::Address& source, const net::Address& destination) {
  using Traits = FamilyTraits<F>;
  ChecksumDelta sum = translate_inner<F>(buffer, layout, quote);
  auto& ip = *at<typename Traits::Header>(buffer, m.l3_offset);
  ChecksumDelta outer;
  replace_addresses<F>(ip, source, destination, outer);
  if constexpr (Traits::kIcmpHasPseudoHeader) sum.add(outer);
  Traits::decrement_ttl(ip, outer);
  Traits::adjust(ip, outer);
  auto& icmp = *at<IcmpHeader>(buffer, m.l4_offset);
  icmp.checksum = sum.apply(icmp.checksum);
}

}  // namespace

std::optional<Quote> parse_quote(Buffer* buffer) {
  const Meta& m = meta(buffer);
  const auto layout = locate(buffer, m);
  if (!layout) return std::nullopt;
  Quote quote;
  with_family(m.family, [&]<Family F>() {
    const auto& ip = *at<typename FamilyTraits<F>::Header>(buffer, layout->l3_offset);
    // Where the error comes from the quoted packet went: no link-local one goes farther.
    const uint16_t zone = net::zone_of(m.port);
    quote.source = FamilyTraits<F>::source(ip).in_zone(zone);
    quote.destination = FamilyTraits<F>::destination(ip).in_zone(zone);
  });
  const auto* l4 = at<uint8_t>(buffer, layout->l4_offset);
  quote.source_port = net::byte_swap(load<uint16_t>(l4));
  quote.destination_port = net::byte_swap(load<uint16_t>(l4 + 2));
  quote.protocol = layout->protocol;
  return quote;
}

void translate_quote(Buffer* buffer, const Translation& quote, const net::Address& source,
                     const net::Address& destination) {
  const Meta& m = meta(buffer);
  const auto layout = locate(buffer, m);
  if (!layout) return;
  with_family(m.family, [&]<Family F>() {
    translate_error<F>(buffer, m, *layout, quote, source, destination);
  });
}

}  // namespace limpet::packet
