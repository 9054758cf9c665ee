#include "tests/support/frames.h"

#include <rte_mbuf.h>

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "dataplane/packet/headers.h"
#include "tests/support/asan.h"

namespace limpet::support {
namespace {

using net::Address;
using net::Family;

void put8(Bytes& out, uint8_t value) {
  out.push_back(value);
}
void put16(Bytes& out, uint16_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}
void put32(Bytes& out, uint32_t value) {
  put16(out, static_cast<uint16_t>(value >> 16));
  put16(out, static_cast<uint16_t>(value));
}
void put(Bytes& out, std::span<const uint8_t> data) {
  out.insert(out.end(), data.begin(), data.end());
}
void set16(Bytes& out, std::size_t offset, uint16_t value) {
  out[offset] = static_cast<uint8_t>(value >> 8);
  out[offset + 1] = static_cast<uint8_t>(value);
}
void pad(Bytes& out, std::size_t multiple, uint8_t value = 0) {
  while (out.size() % multiple != 0) out.push_back(value);
}
void put_address(Bytes& out, const Address& a) {
  put(out, {a.wire(), a.is_v4() ? 4u : 16u});
}

uint32_t pseudo_sum(const Address& source, const Address& destination, uint8_t protocol,
                    std::size_t l4_bytes) {
  Bytes pseudo;
  put_address(pseudo, source);
  put_address(pseudo, destination);
  put32(pseudo, static_cast<uint32_t>(l4_bytes));
  put32(pseudo, protocol);
  uint32_t sum = 0;
  for (std::size_t i = 0; i < pseudo.size(); i += 2) sum += get16(pseudo, i);
  return sum;
}

bool is_v4(const Frame& f) {
  return f.source.is_v4();
}

Bytes build_l4(const Frame& f) {
  if (f.raw_l4) return *f.raw_l4;
  Bytes out;
  std::size_t checksum_at = 0;
  bool pseudo = true;
  switch (f.protocol) {
    case packet::kProtocolUdp:
      put16(out, f.source_port);
      put16(out, f.destination_port);
      put16(out, f.udp_bytes.value_or(static_cast<uint16_t>(8 + f.payload.size())));
      put16(out, 0);
      checksum_at = 6;
      break;
    case packet::kProtocolTcp: {
      Bytes options = f.tcp_options;
      pad(options, 4);
      put16(out, f.source_port);
      put16(out, f.destination_port);
      put32(out, f.sequence);
      put32(out, f.acknowledgment);
      const auto words = f.data_words.value_or(static_cast<uint8_t>(5 + options.size() / 4));
      put8(out, static_cast<uint8_t>(words << 4));
      put8(out, f.tcp_flags);
      put16(out, f.window);
      put16(out, 0);
      put16(out, 0);
      put(out, options);
      checksum_at = 16;
      break;
    }
    case packet::kProtocolIcmp:
    case packet::kProtocolIcmpv6:
      put8(out, f.icmp_type);
      put8(out, f.icmp_code);
      put16(out, 0);
      put32(out, f.icmp_word);
      checksum_at = 2;
      pseudo = f.protocol == packet::kProtocolIcmpv6;
      break;
    default:
      put(out, f.payload);
      return out;
  }
  put(out, f.payload);
  uint16_t sum = reference_checksum(
      out, pseudo ? pseudo_sum(f.source, f.destination, f.protocol, out.size()) : 0);
  if (f.protocol == packet::kProtocolUdp && sum == 0) sum = 0xffff;
  set16(out, checksum_at, f.l4_checksum.value_or(sum));
  return out;
}

Bytes build_ipv4(const Frame& f, const Bytes& l4) {
  Bytes options = f.ip_options;
  pad(options, 4);
  Bytes out;
  put8(out, f.version_words.value_or(static_cast<uint8_t>(0x45 + options.size() / 4)));
  put8(out, f.traffic_class);
  put16(out, f.ip_bytes.value_or(static_cast<uint16_t>(20 + options.size() + l4.size())));
  put16(out, f.ip_id);
  put16(out, static_cast<uint16_t>((f.dont_fragment ? packet::kIpv4DontFragment : 0) |
                                   (f.more_fragments ? packet::kIpv4MoreFragments : 0) |
                                   f.fragment_units));
  put8(out, f.ttl);
  put8(out, f.protocol);
  put16(out, 0);
  put_address(out, f.source);
  put_address(out, f.destination);
  put(out, options);
  set16(out, 10, f.ip_checksum.value_or(reference_checksum(out)));
  put(out, l4);
  return out;
}

Bytes build_ipv6(const Frame& f, const Bytes& l4) {
  Bytes extensions;
  for (std::size_t i = 0; i < f.extensions.size(); ++i) {
    const Extension& e = f.extensions[i];
    Bytes one;
    put8(one, i + 1 < f.extensions.size() ? f.extensions[i + 1].type : f.protocol);
    put8(one, 0);
    put(one, e.body);
    pad(one, 8);
    if (e.type != packet::kProtocolFragment) one[1] = static_cast<uint8_t>(one.size() / 8 - 1);
    put(extensions, one);
  }
  Bytes out;
  put32(out, 0x60000000u | static_cast<uint32_t>(f.traffic_class) << 20);
  put16(out, f.ip_bytes.value_or(static_cast<uint16_t>(extensions.size() + l4.size())));
  put8(out, f.extensions.empty() ? f.protocol : f.extensions.front().type);
  put8(out, f.ttl);
  put_address(out, f.source);
  put_address(out, f.destination);
  put(out, extensions);
  put(out, l4);
  return out;
}

Bytes ethernet_of(const Frame& f) {
  Bytes out;
  put(out, f.to.bytes);
  put(out, f.from.bytes);
  if (f.vlan) {
    put16(out, packet::kEtherVlan);
    put16(out, *f.vlan);
  }
  put16(out, f.ether_type.value_or(is_v4(f) ? packet::kEtherIpv4 : packet::kEtherIpv6));
  return out;
}

Frame between(std::string_view source, std::string_view destination, uint8_t protocol) {
  Frame f;
  f.source = address(source);
  f.destination = address(destination);
  f.protocol = protocol;
  return f;
}

Frame arp(uint16_t operation, std::string_view sender, std::string_view sender_mac,
          std::string_view target, const net::Mac& target_mac, const net::Mac& to) {
  Frame f;
  f.source = address(sender);
  f.destination = address(target);
  f.to = to;
  f.from = mac(sender_mac);
  f.ether_type = packet::kEtherArp;
  Bytes l3;
  put16(l3, 1);
  put16(l3, packet::kEtherIpv4);
  put8(l3, 6);
  put8(l3, 4);
  put16(l3, operation);
  put(l3, f.from.bytes);
  put_address(l3, f.source);
  put(l3, target_mac.bytes);
  put_address(l3, f.destination);
  f.raw_l3 = std::move(l3);
  return f;
}

// The pool unpoisons a buffer whenever it hands it out.
void poison_behind([[maybe_unused]] packet::Buffer* buffer, [[maybe_unused]] std::size_t offset) {
#ifdef LIMPET_TESTS_WITH_ASAN
  ASAN_POISON_MEMORY_REGION(static_cast<char*>(buffer->buf_addr) + offset,
                            buffer->buf_len - offset);
#endif
}

void put_link_layer_option(Bytes& out, uint8_t type, const net::Mac& m) {
  put8(out, type);
  put8(out, 1);
  put(out, m.bytes);
}

}  // namespace

uint16_t reference_checksum(std::span<const uint8_t> data, uint32_t start) {
  uint64_t sum = start;
  for (std::size_t i = 0; i + 1 < data.size(); i += 2) sum += get16(data, i);
  if (data.size() % 2 != 0) sum += static_cast<uint64_t>(data.back()) << 8;
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

Address address(std::string_view text) {
  const auto a = Address::parse(text);
  LIMPET_ASSERT(a.has_value());
  return *a;
}

net::Mac mac(std::string_view text) {
  const auto m = net::Mac::parse(text);
  LIMPET_ASSERT(m.has_value());
  return *m;
}

Bytes to_bytes(std::string_view text) {
  return {text.begin(), text.end()};
}

Frame Frame::poke(std::size_t offset, uint8_t value) const {
  Frame copy = *this;
  copy.pokes.emplace_back(offset, value);
  return copy;
}

Bytes Frame::build_ip() const {
  const Bytes l4 = build_l4(*this);
  return is_v4(*this) ? build_ipv4(*this, l4) : build_ipv6(*this, l4);
}

Bytes Frame::build() const {
  Bytes out = ethernet_of(*this);
  put(out, raw_l3 ? *raw_l3 : build_ip());
  for (const auto& [offset, value] : pokes) out.at(offset) = value;
  if (frame_bytes) out.resize(*frame_bytes);
  return out;
}

Frame udp(const Flow& flow, std::string_view payload) {
  Frame f = between(flow.source, flow.destination, packet::kProtocolUdp);
  f.source_port = flow.source_port;
  f.destination_port = flow.destination_port;
  f.payload = to_bytes(payload);
  return f;
}

Frame tcp(const Flow& flow, uint8_t flags, std::string_view payload) {
  Frame f = udp(flow, payload);
  f.protocol = packet::kProtocolTcp;
  f.tcp_flags = flags;
  return f;
}

Frame echo_request(std::string_view source, std::string_view destination, uint16_t id,
                   uint16_t sequence, std::string_view payload) {
  Frame f = between(source, destination, packet::kProtocolIcmp);
  f.icmp_type = packet::kIcmpEchoRequest;
  if (!is_v4(f)) {
    f.protocol = packet::kProtocolIcmpv6;
    f.icmp_type = packet::kIcmpv6EchoRequest;
  }
  f.icmp_word = static_cast<uint32_t>(id) << 16 | sequence;
  f.payload = to_bytes(payload);
  return f;
}

Frame icmp_error(std::string_view source, std::string_view destination, uint8_t type, uint8_t code,
                 const Bytes& quoted, uint32_t word) {
  Frame f = between(source, destination, packet::kProtocolIcmp);
  if (!is_v4(f)) f.protocol = packet::kProtocolIcmpv6;
  f.icmp_type = type;
  f.icmp_code = code;
  f.icmp_word = word;
  f.payload = quoted;
  return f;
}

Frame raw_ip(std::string_view source, std::string_view destination, uint8_t protocol,
             const Bytes& payload) {
  Frame f = between(source, destination, protocol);
  f.raw_l4 = payload;
  return f;
}

Frame arp_request(std::string_view sender, std::string_view target, std::string_view sender_mac) {
  return arp(packet::kArpRequest, sender, sender_mac, target, net::Mac{}, net::Mac::broadcast());
}

Frame arp_reply(std::string_view sender, std::string_view sender_mac, std::string_view target,
                std::string_view target_mac) {
  return arp(packet::kArpReply, sender, sender_mac, target, mac(target_mac), mac(target_mac));
}

Frame neighbor_solicitation(std::string_view source, std::string_view target,
                            std::string_view source_mac) {
  Frame f = between(source, target, packet::kProtocolIcmpv6);
  f.destination = f.destination.solicited_node();
  f.to = net::Mac::of_multicast(f.destination);
  f.from = mac(source_mac);
  f.ttl = 255;
  f.icmp_type = packet::kIcmpv6NeighborSolicitation;
  put_address(f.payload, address(target));
  if (!f.source.is_unspecified()) put_link_layer_option(f.payload, 1, f.from);
  return f;
}

Frame neighbor_advertisement(std::string_view source, std::string_view destination,
                             std::string_view target, std::string_view target_mac, uint8_t flags) {
  Frame f = between(source, destination, packet::kProtocolIcmpv6);
  if (f.destination.is_multicast()) f.to = net::Mac::of_multicast(f.destination);
  f.from = mac(target_mac);
  f.ttl = 255;
  f.icmp_type = packet::kIcmpv6NeighborAdvertisement;
  f.icmp_word = static_cast<uint32_t>(flags) << 24;
  put_address(f.payload, address(target));
  put_link_layer_option(f.payload, 2, f.from);
  return f;
}

Bytes mss_option(uint16_t mss) {
  return {2, 4, static_cast<uint8_t>(mss >> 8), static_cast<uint8_t>(mss)};
}

std::vector<Bytes> fragments_of(const Frame& whole, std::size_t payload_bytes, uint32_t id) {
  const Bytes l4 = build_l4(whole);
  const std::size_t step = payload_bytes / 8 * 8;
  LIMPET_ASSERT(step > 0);
  std::vector<Bytes> out;
  for (std::size_t at = 0; at < l4.size(); at += step) {
    const std::size_t count = std::min(step, l4.size() - at);
    const bool more = at + count < l4.size();
    Frame piece = whole;
    piece.raw_l4 = Bytes(l4.begin() + static_cast<std::ptrdiff_t>(at),
                         l4.begin() + static_cast<std::ptrdiff_t>(at + count));
    if (is_v4(whole)) {
      piece.ip_id = static_cast<uint16_t>(id);
      piece.more_fragments = more;
      piece.fragment_units = static_cast<uint16_t>(at / 8);
    } else {
      Bytes body;
      put16(body, static_cast<uint16_t>(at | (more ? 1 : 0)));
      put32(body, id);
      piece.extensions.push_back({packet::kProtocolFragment, body});
    }
    out.push_back(piece.build());
  }
  return out;
}

packet::Buffer* make_buffer(rte_mempool* pool, std::span<const uint8_t> frame) {
  packet::Buffer* buffer = rte_pktmbuf_alloc(pool);
  if (buffer == nullptr) return nullptr;
  char* data = rte_pktmbuf_append(buffer, static_cast<uint16_t>(frame.size()));
  if (data == nullptr || frame.size() > UINT16_MAX) {
    rte_pktmbuf_free(buffer);
    return nullptr;
  }
  if (!frame.empty()) std::memcpy(data, frame.data(), frame.size());
  packet::meta(buffer) = packet::Meta{};
  return buffer;
}

packet::Buffer* make_buffer_at_end(rte_mempool* pool, std::span<const uint8_t> frame) {
  packet::Buffer* buffer = rte_pktmbuf_alloc(pool);
  if (buffer == nullptr) return nullptr;
  if (frame.size() > buffer->buf_len) {
    rte_pktmbuf_free(buffer);
    return nullptr;
  }
  // Devices place frames at even addresses, and headers rely on it: one byte may be left over.
  buffer->data_off = static_cast<uint16_t>((buffer->buf_len - frame.size()) & ~std::size_t{1});
  poison_behind(buffer, buffer->data_off + frame.size());
  buffer->data_len = static_cast<uint16_t>(frame.size());
  buffer->pkt_len = buffer->data_len;
  if (!frame.empty()) std::memcpy(rte_pktmbuf_mtod(buffer, char*), frame.data(), frame.size());
  packet::meta(buffer) = packet::Meta{};
  return buffer;
}

Bytes bytes(packet::Buffer* buffer) {
  Bytes out;
  for (packet::Buffer* segment = buffer; segment != nullptr; segment = segment->next) {
    const auto* data = rte_pktmbuf_mtod(segment, const uint8_t*);
    out.insert(out.end(), data, data + segment->data_len);
  }
  return out;
}

}  // namespace limpet::support
