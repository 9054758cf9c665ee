// Frames for tests: built by naming what is in them, with every length and checksum right unless a
// test breaks it on purpose; and read back into one line of text.
//
//   const Flow up{"10.1.0.2", 40000, "10.1.0.100", 80};
//   tcp(up, kTcpSyn).with(&Frame::ttl, 1).build();
//   udp(up, "hello").with(&Frame::vlan, 100).poke(14 + 8, 0).build();   // breaks a byte
//
// Deliberately apart from dataplane/packet: it must not share that code's mistakes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/net/address.h"
#include "dataplane/packet/buffer.h"

namespace limpet::support {

using Bytes = std::vector<uint8_t>;

// The address or MAC that `text` says; a wrong text fails an assertion.
net::Address address(std::string_view text);
net::Mac mac(std::string_view text);
Bytes to_bytes(std::string_view text);

// One direction of a flow.
struct Flow {
  std::string_view source;
  uint16_t source_port = 0;
  std::string_view destination;
  uint16_t destination_port = 0;

  Flow reversed() const { return {destination, destination_port, source, source_port}; }
};

// An IPv6 extension header; `body` is everything after its two first bytes (next header, length)
// and is padded to a multiple of eight. For a fragment header (44): the six bytes that follow.
struct Extension {
  uint8_t type = 0;
  Bytes body;
};

inline constexpr std::string_view kEngineMac = "02:00:00:00:00:01";
inline constexpr std::string_view kClientMac = "02:00:00:00:00:c1";

struct Frame {
  // Ethernet
  net::Mac to = mac(kEngineMac);
  net::Mac from = mac(kClientMac);
  std::optional<uint16_t> vlan;        // the whole tag control word
  std::optional<uint16_t> ether_type;  // default: that of the family, or ARP

  // IP; the family is the source's
  net::Address source;
  net::Address destination;
  uint8_t ttl = 64;
  uint8_t traffic_class = 0;
  uint8_t protocol = 17;
  uint16_t ip_id = 0x1234;               // IPv4
  bool dont_fragment = false;            // IPv4
  bool more_fragments = false;           // IPv4
  uint16_t fragment_units = 0;           // IPv4: offset in eights of bytes
  Bytes ip_options;                      // IPv4: padded to a multiple of four
  std::vector<Extension> extensions;     // IPv6
  std::optional<uint8_t> version_words;  // IPv4: overrides version and header length
  std::optional<uint16_t> ip_bytes;      // overrides total length (v4), payload length (v6)
  std::optional<uint16_t> ip_checksum;   // IPv4

  // Transport
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint8_t tcp_flags = 0;
  uint32_t sequence = 0x01020304;
  uint32_t acknowledgment = 0;
  uint16_t window = 64240;
  Bytes tcp_options;                  // padded to a multiple of four
  std::optional<uint8_t> data_words;  // TCP: overrides the header length
  std::optional<uint16_t> udp_bytes;  // UDP: overrides the length
  uint8_t icmp_type = 0;
  uint8_t icmp_code = 0;
  uint32_t icmp_word = 0;               // the four bytes after the checksum
  std::optional<uint16_t> l4_checksum;  // overrides it (as written on the wire)
  Bytes payload;
  std::optional<Bytes> raw_l4;  // replaces transport header and payload
  std::optional<Bytes> raw_l3;  // replaces everything after the Ethernet header

  // Breaks
  std::vector<std::pair<std::size_t, uint8_t>> pokes;  // offset in the frame, value: applied last
  std::optional<std::size_t> frame_bytes;              // cuts or pads (with zeros) the frame

  // A copy with one member changed.
  template <class Member>
  Frame with(Member Frame::*member, std::type_identity_t<Member> value) const {
    Frame copy = *this;
    copy.*member = std::move(value);
    return copy;
  }
  // A copy with the byte at `offset` of the finished frame replaced, checksums left alone.
  Frame poke(std::size_t offset, uint8_t value) const;
  // A copy cut (or padded) to `count` bytes.
  Frame resized(std::size_t count) const { return with(&Frame::frame_bytes, count); }

  Bytes build() const;
  // The IP packet alone, without Ethernet: for quotes and for cutting into fragments.
  Bytes build_ip() const;
};

Frame udp(const Flow& flow, std::string_view payload = "");
Frame tcp(const Flow& flow, uint8_t flags, std::string_view payload = "");
Frame echo_request(std::string_view source, std::string_view destination, uint16_t id = 7,
                   uint16_t sequence = 1, std::string_view payload = "ping");
// An ICMP or ICMPv6 error that quotes `quoted` (an IP packet, see Frame::build_ip).
Frame icmp_error(std::string_view source, std::string_view destination, uint8_t type, uint8_t code,
                 const Bytes& quoted, uint32_t word = 0);
// An IP packet of another protocol.
Frame raw_ip(std::string_view source, std::string_view destination, uint8_t protocol,
             const Bytes& payload);

// "Who has `target`?", broadcast; `sender` "0.0.0.0" makes it a probe (RFC 5227).
Frame arp_request(std::string_view sender, std::string_view target,
                  std::string_view sender_mac = kClientMac);
Frame arp_reply(std::string_view sender, std::string_view sender_mac, std::string_view target,
                std::string_view target_mac);
// Neighbour solicitation to the solicited-node group; `source` "::" makes it duplicate address
// detection (no source link-layer option then).
Frame neighbor_solicitation(std::string_view source, std::string_view target,
                            std::string_view source_mac = kClientMac);
// `flags`: router 0x80, solicited 0x40, override 0x20.
Frame neighbor_advertisement(std::string_view source, std::string_view destination,
                             std::string_view target, std::string_view target_mac,
                             uint8_t flags = 0x60);

// A TCP MSS option (RFC 9293 3.7.1) followed by padding NOPs, for Frame::tcp_options.
Bytes mss_option(uint16_t mss);

// Cuts the datagram of `whole` into fragment frames of at most `payload_bytes` (rounded down to a
// multiple of eight) each; `id` is the identification.
std::vector<Bytes> fragments_of(const Frame& whole, std::size_t payload_bytes, uint32_t id);

// A buffer holding `frame`; null when the pool is empty or the frame does not fit. The second form
// puts it at the very end of the buffer, so that AddressSanitizer sees a read past the frame.
packet::Buffer* make_buffer(rte_mempool* pool, std::span<const uint8_t> frame);
packet::Buffer* make_buffer_at_end(rte_mempool* pool, std::span<const uint8_t> frame);
// The frame in `buffer`, whatever number of segments it has.
Bytes bytes(packet::Buffer* buffer);

// One line that says what a frame is, e.g.
// "02:00:00:00:00:c1 > 02:00:00:00:00:01 vlan 100 10.1.0.2:40000 > 10.1.0.100:80 tcp S seq 1 ack 0
//  win 64240 ttl 64 len 0 sums ok". Never fails; broken frames say where they stop making sense.
std::string describe(std::span<const uint8_t> frame);

// Empty when every length and checksum in the frame is right, else what is wrong. Fragments and
// unknown protocols are judged by their IP header only; ICMP errors with their quotes' IPv4 header.
std::string sums_wrong(std::span<const uint8_t> frame);

// A field of a frame, in host order.
inline uint16_t get16(std::span<const uint8_t> data, std::size_t offset) {
  return static_cast<uint16_t>(data[offset] << 8 | data[offset + 1]);
}

// The internet checksum (RFC 1071) of `data` with a start value, as it goes on the wire in host
// order; slow and obvious.
uint16_t reference_checksum(std::span<const uint8_t> data, uint32_t start = 0);

}  // namespace limpet::support
