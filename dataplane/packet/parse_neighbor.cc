// Neighbour discovery, validated: a message that fails one test of RFC 4861 is dropped, so that
// whoever reads it later need not ask again.
#include "dataplane/packet/parse_transport.h"

namespace limpet::packet {
namespace {

constexpr uint8_t kHopLimit = 255;  // nobody off the link can send that
constexpr uint8_t kSourceLinkLayer = 1;
constexpr uint8_t kAdvertisementSolicited = 0x40;

// Bytes in front of the options.
constexpr uint32_t fixed_bytes(uint8_t type) {
  switch (type) {
    case kIcmpv6RouterSolicitation:
      return 8;
    case kIcmpv6RouterAdvertisement:
      return 16;
    default:
      return 24;  // a target follows the first eight
  }
}

struct Options {
  bool fit = true;
  bool source_link_layer = false;
};

Options read_options(const uint8_t* options, uint32_t bytes) {
  Options found;
  for (uint32_t i = 0; i < bytes;) {
    if (i + 2 > bytes) return {.fit = false};
    const uint32_t length = options[i + 1] * 8u;
    if (length == 0 || i + length > bytes) return {.fit = false};
    if (options[i] == kSourceLinkLayer) found.source_link_layer = true;
    i += length;
  }
  return found;
}

bool is_solicited_node(const net::Address& a) {
  return a == a.solicited_node();
}

}  // namespace

Verdict parse_icmpv6_neighbor(Buffer* buffer, Meta& m, bool verify) {
  if (m.l4_bytes < sizeof(IcmpHeader) ||
      !pull_up(buffer, m.l4_offset + static_cast<uint32_t>(sizeof(IcmpHeader))))
    return DropReason::kTruncated;
  const uint8_t type = at<IcmpHeader>(buffer, m.l4_offset)->type;
  if (type < kIcmpv6RouterSolicitation || type > kIcmpv6NeighborAdvertisement) return kGoOn;
  const uint32_t fixed = fixed_bytes(type);
  if (m.l4_bytes < fixed || !pull_up(buffer, m.l4_offset + m.l4_bytes))
    return DropReason::kTruncated;
  if (const Verdict verdict = judge_icmp<Family::kV6>(buffer, m, verify)) return verdict;
  const auto& icmp = *at<IcmpHeader>(buffer, m.l4_offset);
  const auto* bytes = at<uint8_t>(buffer, m.l4_offset);
  if (m.ttl != kHopLimit || icmp.code != 0) return DropReason::kMalformed;
  const Options options = read_options(bytes + fixed, m.l4_bytes - fixed);
  if (!options.fit) return DropReason::kMalformed;

  const bool unspecified = m.source == net::Address{};
  if (unspecified && options.source_link_layer) return DropReason::kMalformed;
  switch (type) {
    case kIcmpv6RouterSolicitation:
      break;
    case kIcmpv6RouterAdvertisement:
      if (!m.source.is_link_local()) return DropReason::kMalformed;
      break;
    case kIcmpv6NeighborSolicitation:
      if (unspecified && !is_solicited_node(m.destination)) return DropReason::kMalformed;
      break;
    default:  // neighbour advertisement
      if (unspecified) return DropReason::kMartianSource;
      if (m.destination.is_multicast() && (bytes[4] & kAdvertisementSolicited) != 0)
        return DropReason::kMalformed;
  }
  if (fixed == 24 && (bytes[8] == 0xff || net::Address::v6(bytes + 8) == net::Address{}))
    return DropReason::kMalformed;  // the target is one host
  m.kind = Kind::kNeighbor;
  return kGoOn;
}

}  // namespace limpet::packet
