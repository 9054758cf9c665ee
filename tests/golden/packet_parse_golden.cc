// Golden table of the parser: a frame goes in, a verdict or a one-line summary of Meta comes out.
// Every IPv4 row has its IPv6 twin; scripts/check_golden_twins.py sees to it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "dataplane/packet/headers.h"
#include "dataplane/packet/parse.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"
#include "tests/support/parse_whole.h"

namespace limpet::packet {
namespace {

using namespace support;  // NOLINT: builders are the vocabulary of the tables

struct Row {
  std::string name;
  std::string no_twin;
  Bytes frame;
  std::string says;
};

std::string summary(const Meta& m) {
  constexpr std::array kKinds = {"flow", "icmp_error", "echo", "neighbor", "fragment", "other"};
  std::string out = fmt::format("{} port {} proto {} {} > {} l3 {}+{} l4 {}+{} ttl {}",
                                kKinds[static_cast<std::size_t>(m.kind)], m.port, m.protocol,
                                net::Endpoint{m.source, m.source_port}.to_string(),
                                net::Endpoint{m.destination, m.destination_port}.to_string(),
                                m.l3_offset, m.l3_bytes, m.l4_offset, m.l4_bytes, m.ttl);
  if (m.tcp_flags != 0) out += fmt::format(" flags {:#x}", m.tcp_flags);
  if (m.fragment_id != 0) out += fmt::format(" id {}", m.fragment_id);
  if (m.dont_fragment) out += " df";
  return out;
}

std::string parsed(Buffer* buffer) {
  const std::array ingress = {
      Ingress{.port = 3, .mac = mac(kEngineMac)},
      Ingress{.port = 4, .vlan = 100, .mac = mac("02:00:00:00:00:02")},
  };
  const auto verdict = parse_whole(buffer, {ingress.data(), static_cast<uint32_t>(ingress.size())});
  return verdict ? std::string(name(*verdict)) : summary(meta(buffer));
}

const Flow k4{"10.1.0.2", 40000, "10.1.0.100", 80};
const Flow k6{"fd00:1::2", 40000, "fd00:1::64", 80};
const net::Mac kVlanMac = mac("02:00:00:00:00:02");
constexpr auto kAllSystems = "01:00:5e:00:00:01";

Frame udp4() {
  return udp(k4, "hello");
}
Frame udp6() {
  return udp(k6, "hello");
}
Frame syn4() {
  return tcp(k4, kTcpSyn);
}
Frame syn6() {
  return tcp(k6, kTcpSyn);
}
Frame source4(std::string_view text) {
  return udp4().with(&Frame::source, address(text));
}
Frame source6(std::string_view text) {
  return udp6().with(&Frame::source, address(text));
}
Frame to4(std::string_view text) {
  return udp4().with(&Frame::destination, address(text));
}
Frame to6(std::string_view text) {
  return udp6().with(&Frame::destination, address(text));
}
Frame extended(std::vector<Extension> extensions) {
  return udp6().with(&Frame::extensions, std::move(extensions));
}
Frame fragment4(uint16_t units, bool more, std::size_t bytes) {
  return raw_ip(k4.source, k4.destination, 17, Bytes(bytes, 'x'))
      .with(&Frame::fragment_units, units)
      .with(&Frame::more_fragments, more);
}
// `offset_more`: offset in bytes, plus 1 when more follow.
Frame fragment6(uint16_t offset_more, std::size_t bytes, uint8_t protocol = 17) {
  const Bytes body = {
      static_cast<uint8_t>(offset_more >> 8), static_cast<uint8_t>(offset_more), 0, 0, 0x12, 0x34};
  return raw_ip(k6.source, k6.destination, protocol, Bytes(bytes, 'x'))
      .with(&Frame::extensions, std::vector<Extension>{{kProtocolFragment, body}});
}
const Extension kHopByHop{kProtocolHopByHop, {1, 4, 0, 0, 0, 0}};
const Extension kDestination{kProtocolDestinationOptions, {1, 4, 0, 0, 0, 0}};
const Extension kRouting{kProtocolRouting, {0, 0, 0, 0, 0, 0}};
const Extension kRoutingLeft{kProtocolRouting, {0, 1, 0, 0, 0, 0}};
const Extension kAtomic{kProtocolFragment, {0, 0, 0, 0, 0, 9}};

std::vector<Row> transport_rows() {
  const std::string udp4_says =
      "flow port 3 proto 17 10.1.0.2:40000 > 10.1.0.100:80 l3 14+33 l4 34+13 ttl 64";
  const std::string udp6_says =
      "flow port 3 proto 17 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 14+53 l4 54+13 ttl 64 df";
  const std::string syn4_says =
      "flow port 3 proto 6 10.1.0.2:40000 > 10.1.0.100:80 l3 14+40 l4 34+20 ttl 64 flags 0x2";
  const std::string syn6_says =
      "flow port 3 proto 6 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 14+60 l4 54+20 ttl 64 flags 0x2 "
      "df";
  const Bytes nops(40, 1);
  return {
      {.name = "v4/parse udp", .frame = udp4().build(), .says = udp4_says},
      {.name = "v6/parse udp", .frame = udp6().build(), .says = udp6_says},
      {.name = "v4/parse udp of a link-local address",
       .frame = udp({"169.254.0.2", 40000, "10.1.0.100", 80}).build(),
       .says = "flow port 3 proto 17 169.254.0.2:40000 > 10.1.0.100:80 l3 14+28 l4 34+8 ttl 64"},
      {.name = "v6/parse udp of a link-local address",
       .frame = udp({"fe80::2", 40000, "fd00:1::64", 80}).build(),
       .says = "flow port 3 proto 17 [fe80::2%4]:40000 > [fd00:1::64]:80 l3 14+48 l4 54+8 ttl 64 "
               "df"},
      {.name = "v4/parse udp between link-local addresses",
       .frame = udp({"169.254.0.2", 40000, "169.254.0.1", 80}).build(),
       .says = "flow port 3 proto 17 169.254.0.2:40000 > 169.254.0.1:80 l3 14+28 l4 34+8 ttl 64"},
      {.name = "v6/parse udp between link-local addresses",
       .frame = udp({"fe80::2", 40000, "fe80::1", 80}).build(),
       .says = "flow port 3 proto 17 [fe80::2%4]:40000 > [fe80::1%4]:80 l3 14+48 l4 54+8 ttl 64 "
               "df"},
      {.name = "v4/parse udp padded", .frame = udp4().resized(60).build(), .says = udp4_says},
      {.name = "v6/parse udp padded", .frame = udp6().resized(80).build(), .says = udp6_says},
      {.name = "v4/parse syn", .frame = syn4().build(), .says = syn4_says},
      {.name = "v6/parse syn", .frame = syn6().build(), .says = syn6_says},
      {.name = "v4/parse tcp all options",
       .frame = syn4().with(&Frame::tcp_options, nops).build(),
       .says = "flow port 3 proto 6 10.1.0.2:40000 > 10.1.0.100:80 l3 14+80 l4 34+60 ttl 64 flags "
               "0x2"},
      {.name = "v6/parse tcp all options",
       .frame = syn6().with(&Frame::tcp_options, nops).build(),
       .says = "flow port 3 proto 6 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 14+100 l4 54+60 ttl 64 "
               "flags 0x2 df"},
      {.name = "v4/parse udp without data",
       .frame = udp(k4).build(),
       .says = "flow port 3 proto 17 10.1.0.2:40000 > 10.1.0.100:80 l3 14+28 l4 34+8 ttl 64"},
      {.name = "v6/parse udp without data",
       .frame = udp(k6).build(),
       .says = "flow port 3 proto 17 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 14+48 l4 54+8 ttl 64 "
               "df"},
      {.name = "v4/parse udp checksum none",
       .frame = udp4().with(&Frame::l4_checksum, 0).build(),
       .says = udp4_says},
      {.name = "v6/parse udp checksum none",
       .frame = udp6().with(&Frame::l4_checksum, 0).build(),
       .says = "bad_checksum"},
      {.name = "v4/parse udp checksum wrong",
       .frame = udp4().with(&Frame::l4_checksum, 1).build(),
       .says = "bad_checksum"},
      {.name = "v6/parse udp checksum wrong",
       .frame = udp6().with(&Frame::l4_checksum, 1).build(),
       .says = "bad_checksum"},
      {.name = "v4/parse tcp checksum wrong",
       .frame = syn4().with(&Frame::l4_checksum, 1).build(),
       .says = "bad_checksum"},
      {.name = "v6/parse tcp checksum wrong",
       .frame = syn6().with(&Frame::l4_checksum, 1).build(),
       .says = "bad_checksum"},
      {.name = "v4/parse tcp checksum none",
       .frame = syn4().with(&Frame::l4_checksum, 0).build(),
       .says = "bad_checksum"},
      {.name = "v6/parse tcp checksum none",
       .frame = syn6().with(&Frame::l4_checksum, 0).build(),
       .says = "bad_checksum"},
      {.name = "v4/parse udp longer than its datagram",
       .frame = udp4().with(&Frame::udp_bytes, 14).build(),
       .says = "malformed"},
      {.name = "v6/parse udp longer than its datagram",
       .frame = udp6().with(&Frame::udp_bytes, 14).build(),
       .says = "malformed"},
      {.name = "v4/parse udp shorter than its header",
       .frame = udp4().with(&Frame::udp_bytes, 7).build(),
       .says = "malformed"},
      {.name = "v6/parse udp shorter than its header",
       .frame = udp6().with(&Frame::udp_bytes, 7).build(),
       .says = "malformed"},
      {.name = "v4/parse udp header cut by the ip length",
       .frame = udp4().with(&Frame::ip_bytes, 27).build(),
       .says = "truncated"},
      {.name = "v6/parse udp header cut by the ip length",
       .frame = udp6().with(&Frame::ip_bytes, 7).build(),
       .says = "truncated"},
      {.name = "v4/parse tcp header cut by the ip length",
       .frame = syn4().with(&Frame::ip_bytes, 39).build(),
       .says = "truncated"},
      {.name = "v6/parse tcp header cut by the ip length",
       .frame = syn6().with(&Frame::ip_bytes, 19).build(),
       .says = "truncated"},
      {.name = "v4/parse tcp data offset below five",
       .frame = syn4().with(&Frame::data_words, 4).build(),
       .says = "malformed"},
      {.name = "v6/parse tcp data offset below five",
       .frame = syn6().with(&Frame::data_words, 4).build(),
       .says = "malformed"},
      {.name = "v4/parse tcp data offset beyond the segment",
       .frame = syn4().with(&Frame::data_words, 15).build(),
       .says = "malformed"},
      {.name = "v6/parse tcp data offset beyond the segment",
       .frame = syn6().with(&Frame::data_words, 15).build(),
       .says = "malformed"},
      {.name = "v4/parse tcp null scan", .frame = tcp(k4, 0).build(), .says = "malformed"},
      {.name = "v6/parse tcp null scan", .frame = tcp(k6, 0).build(), .says = "malformed"},
      {.name = "v4/parse tcp syn fin",
       .frame = tcp(k4, kTcpSyn | kTcpFin).build(),
       .says = "malformed"},
      {.name = "v6/parse tcp syn fin",
       .frame = tcp(k6, kTcpSyn | kTcpFin).build(),
       .says = "malformed"},
      {.name = "v4/parse tcp syn rst",
       .frame = tcp(k4, kTcpSyn | kTcpRst).build(),
       .says = "malformed"},
      {.name = "v6/parse tcp syn rst",
       .frame = tcp(k6, kTcpSyn | kTcpRst).build(),
       .says = "malformed"},
      {.name = "v4/parse source port zero",
       .frame = syn4().with(&Frame::source_port, 0).build(),
       .says = "malformed"},
      {.name = "v4/parse udp source port zero",
       .frame = udp4().with(&Frame::source_port, 0).build(),
       .says = "flow port 3 proto 17 10.1.0.2:0 > 10.1.0.100:80 l3 14+33 l4 34+13 ttl 64"},
      {.name = "v6/parse source port zero",
       .frame = syn6().with(&Frame::source_port, 0).build(),
       .says = "malformed"},
      {.name = "v6/parse udp source port zero",
       .frame = udp6().with(&Frame::source_port, 0).build(),
       .says = "flow port 3 proto 17 [fd00:1::2]:0 > [fd00:1::64]:80 l3 14+53 l4 54+13 ttl 64 df"},
      {.name = "v4/parse destination port zero",
       .frame = syn4().with(&Frame::destination_port, 0).build(),
       .says = "malformed"},
      {.name = "v6/parse destination port zero",
       .frame = syn6().with(&Frame::destination_port, 0).build(),
       .says = "malformed"},
  };
}

std::vector<Row> ip_rows() {
  return {
      {.name = "v4/parse wrong version",
       .frame = udp4().with(&Frame::version_words, 0x65).build(),
       .says = "malformed"},
      {.name = "v6/parse wrong version",
       .frame = udp6().poke(14, 0x40).build(),
       .says = "malformed"},
      {.name = "v4/parse longer than the frame",
       .frame = udp4().with(&Frame::ip_bytes, 34).build(),
       .says = "truncated"},
      {.name = "v6/parse longer than the frame",
       .frame = udp6().with(&Frame::ip_bytes, 14).build(),
       .says = "truncated"},
      {.name = "v4/parse header length below five",
       .no_twin = "IPv6 has no header length, checksum or options in its header",
       .frame = udp4().with(&Frame::version_words, 0x44).build(),
       .says = "malformed"},
      {.name = "v4/parse header longer than the datagram",
       .no_twin = "IPv6 has no header length, checksum or options in its header",
       .frame = udp(k4).with(&Frame::version_words, 0x4f).build(),
       .says = "malformed"},
      {.name = "v4/parse header checksum wrong",
       .no_twin = "IPv6 has no header length, checksum or options in its header",
       .frame = udp4().with(&Frame::ip_checksum, 0x1234).build(),
       .says = "bad_checksum"},
      {.name = "v4/parse record route option",
       .no_twin = "IPv6 has no header length, checksum or options in its header",
       .frame = udp4().with(&Frame::ip_options, Bytes{7, 7, 4, 0, 0, 0, 0}).build(),
       .says = "flow port 3 proto 17 10.1.0.2:40000 > 10.1.0.100:80 l3 14+41 l4 42+13 ttl 64"},
      {.name = "v4/parse option longer than the header",
       .no_twin = "IPv6 has no header length, checksum or options in its header",
       .frame = udp4().with(&Frame::ip_options, Bytes{7, 9, 4, 0}).build(),
       .says = "malformed"},
      {.name = "v4/parse option of length zero",
       .no_twin = "IPv6 has no header length, checksum or options in its header",
       .frame = udp4().with(&Frame::ip_options, Bytes{7, 0, 4, 0}).build(),
       .says = "malformed"},
      {.name = "v4/parse sender chooses the route",
       .frame = udp4().with(&Frame::ip_options, Bytes{131, 7, 4, 10, 0, 0, 1}).build(),
       .says = "malformed"},
      {.name = "v6/parse sender chooses the route",
       .frame = extended({kRoutingLeft}).build(),
       .says = "malformed"},
      {.name = "v4/parse sender chooses the route strictly",
       .no_twin = "IPv6 has one kind of source routing",
       .frame = udp4().with(&Frame::ip_options, Bytes{137, 7, 4, 10, 0, 0, 1}).build(),
       .says = "malformed"},
      {.name = "v6/parse every extension header",
       .no_twin = "IPv4 has no extension headers",
       .frame = extended({kHopByHop, kDestination, kRouting, kDestination}).build(),
       .says = "flow port 3 proto 17 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 14+85 l4 86+13 ttl 64 "
               "df"},
      {.name = "v6/parse eight extension headers",
       .no_twin = "IPv4 has no extension headers",
       .frame = extended(std::vector(8, kDestination)).build(),
       .says = "flow port 3 proto 17 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 14+117 l4 118+13 ttl "
               "64 df"},
      {.name = "v6/parse nine extension headers",
       .no_twin = "IPv4 has no extension headers",
       .frame = extended(std::vector(9, kDestination)).build(),
       .says = "malformed"},
      {.name = "v6/parse hop-by-hop not first",
       .no_twin = "IPv4 has no extension headers",
       .frame = extended({kDestination, kHopByHop}).build(),
       .says = "malformed"},
      {.name = "v6/parse jumbo payload",
       .no_twin = "IPv4 has no jumbograms",
       .frame = extended({{kProtocolHopByHop, {0xc2, 4, 0, 1, 0, 0}}}).build(),
       .says = "malformed"},
      {.name = "v6/parse option longer than its header",
       .no_twin = "IPv4 has no extension headers",
       .frame = extended({{kProtocolDestinationOptions, {5, 5, 0, 0, 0, 0}}}).build(),
       .says = "malformed"},
      {.name = "v6/parse extension header longer than the datagram",
       .no_twin = "IPv4 has no extension headers",
       .frame = extended({kDestination}).poke(14 + 41, 9).build(),
       .says = "truncated"},
      {.name = "v4/parse other protocol",
       .frame = raw_ip(k4.source, k4.destination, 132, Bytes(12)).build(),
       .says = "other port 3 proto 132 10.1.0.2:0 > 10.1.0.100:0 l3 14+32 l4 34+12 ttl 64"},
      {.name = "v6/parse other protocol",
       .frame = raw_ip(k6.source, k6.destination, 132, Bytes(12)).build(),
       .says = "other port 3 proto 132 [fd00:1::2]:0 > [fd00:1::64]:0 l3 14+52 l4 54+12 ttl 64 df"},
      {.name = "v4/parse first fragment",
       .frame = fragment4(0, true, 16).build(),
       .says = "fragment port 3 proto 17 10.1.0.2:0 > 10.1.0.100:0 l3 14+36 l4 34+16 ttl 64 id "
               "4660"},
      {.name = "v6/parse first fragment",
       .frame = fragment6(1, 16).build(),
       .says = "fragment port 3 proto 17 [fd00:1::2]:0 > [fd00:1::64]:0 l3 14+64 l4 62+16 ttl 64 "
               "id 4660 df"},
      {.name = "v4/parse first fragment too short for ports",
       .frame = fragment4(0, true, 8).build(),
       .says = "fragment port 3 proto 17 10.1.0.2:0 > 10.1.0.100:0 l3 14+28 l4 34+8 ttl 64 id "
               "4660"},
      {.name = "v6/parse first fragment too short for ports",
       .frame = fragment6(1, 8).build(),
       .says = "fragment port 3 proto 17 [fd00:1::2]:0 > [fd00:1::64]:0 l3 14+56 l4 62+8 ttl 64 id "
               "4660 df"},
      {.name = "v4/parse last fragment of odd length",
       .frame = fragment4(2, false, 5).build(),
       .says = "fragment port 3 proto 17 10.1.0.2:0 > 10.1.0.100:0 l3 14+25 l4 34+5 ttl 64 id "
               "4660"},
      {.name = "v6/parse last fragment of odd length",
       .frame = fragment6(16, 5).build(),
       .says = "fragment port 3 proto 17 [fd00:1::2]:0 > [fd00:1::64]:0 l3 14+53 l4 62+5 ttl 64 id "
               "4660 df"},
      {.name = "v4/parse fragment not a multiple of eight",
       .frame = fragment4(0, true, 12).build(),
       .says = "fragment_invalid"},
      {.name = "v6/parse fragment not a multiple of eight",
       .frame = fragment6(1, 12).build(),
       .says = "fragment_invalid"},
      {.name = "v4/parse fragment without data",
       .frame = fragment4(2, false, 0).build(),
       .says = "fragment_invalid"},
      {.name = "v6/parse fragment without data",
       .frame = fragment6(16, 0).build(),
       .says = "fragment_invalid"},
      {.name = "v4/parse ping of death",
       .frame = fragment4(8191, false, 32).build(),
       .says = "fragment_invalid"},
      {.name = "v6/parse ping of death",
       .frame = fragment6(65528, 32).build(),
       .says = "fragment_invalid"},
      {.name = "v6/parse atomic fragment",
       .no_twin = "an IPv4 datagram without MF and offset is no fragment",
       .frame = extended({kAtomic}).build(),
       .says = "flow port 3 proto 17 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 14+61 l4 62+13 ttl 64 "
               "df"},
      {.name = "v6/parse two fragment headers",
       .no_twin = "IPv4 has no extension headers",
       .frame = extended({kAtomic, kAtomic}).build(),
       .says = "malformed"},
      {.name = "v6/parse hop-by-hop within a fragment",
       .no_twin = "IPv4 has no extension headers",
       .frame = fragment6(1, 16, kProtocolHopByHop).build(),
       .says = "malformed"},
  };
}

std::vector<Row> address_rows() {
  return {
      {.name = "v4/parse source multicast",
       .frame = source4("224.0.0.5").build(),
       .says = "martian_source"},
      {.name = "v6/parse source multicast",
       .frame = source6("ff02::5").build(),
       .says = "martian_source"},
      {.name = "v4/parse source loopback",
       .frame = source4("127.0.0.1").build(),
       .says = "martian_source"},
      {.name = "v6/parse source loopback",
       .frame = source6("::1").build(),
       .says = "martian_source"},
      {.name = "v4/parse source unspecified",
       .frame = source4("0.0.0.0").build(),
       .says = "martian_source"},
      {.name = "v6/parse source unspecified",
       .frame = source6("::").build(),
       .says = "martian_source"},
      {.name = "v4/parse source broadcast",
       .no_twin = "IPv6 has no broadcast",
       .frame = source4("255.255.255.255").build(),
       .says = "martian_source"},
      {.name = "v6/parse source mapped ipv4",
       .no_twin = "only IPv6 can carry a mapped address",
       .frame = udp6()
                    .poke(14 + 8, 0)
                    .poke(14 + 9, 0)
                    .poke(14 + 10, 0)
                    .poke(14 + 11, 0)
                    .poke(14 + 18, 0xff)
                    .poke(14 + 19, 0xff)
                    .build(),
       .says = "martian_source"},
      {.name = "v4/parse source is destination",
       .frame = source4("10.1.0.100").build(),
       .says = "martian_source"},
      {.name = "v6/parse source is destination",
       .frame = source6("fd00:1::64").build(),
       .says = "martian_source"},
      {.name = "v4/parse destination multicast",
       .frame = to4("224.0.0.1").build(),
       .says = "not_for_us"},
      {.name = "v6/parse destination multicast",
       .frame = to6("ff02::1").build(),
       .says = "not_for_us"},
      {.name = "v4/parse destination loopback",
       .frame = to4("127.0.0.1").build(),
       .says = "not_for_us"},
      {.name = "v6/parse destination loopback", .frame = to6("::1").build(), .says = "not_for_us"},
      {.name = "v4/parse destination broadcast",
       .no_twin = "IPv6 has no broadcast",
       .frame = to4("255.255.255.255").build(),
       .says = "not_for_us"},
      {.name = "v4/parse to another mac",
       .frame = udp4().with(&Frame::to, mac("02:00:00:00:00:99")).build(),
       .says = "not_for_us"},
      {.name = "v6/parse to another mac",
       .frame = udp6().with(&Frame::to, mac("02:00:00:00:00:99")).build(),
       .says = "not_for_us"},
      {.name = "v4/parse unicast in a multicast frame",
       .frame = udp4().with(&Frame::to, mac(kAllSystems)).build(),
       .says = "not_for_us"},
      {.name = "v6/parse unicast in a multicast frame",
       .frame = udp6().with(&Frame::to, mac("33:33:00:00:00:01")).build(),
       .says = "not_for_us"},
      {.name = "v4/parse unicast in a broadcast frame",
       .frame = udp4().with(&Frame::to, net::Mac::broadcast()).build(),
       .says = "not_for_us"},
      {.name = "v6/parse unicast in a broadcast frame",
       .frame = udp6().with(&Frame::to, net::Mac::broadcast()).build(),
       .says = "not_for_us"},
      {.name = "v4/parse multicast source mac",
       .frame = udp4().with(&Frame::from, mac(kAllSystems)).build(),
       .says = "martian_source"},
      {.name = "v6/parse multicast source mac",
       .frame = udp6().with(&Frame::from, mac(kAllSystems)).build(),
       .says = "martian_source"},
  };
}

std::vector<Row> link_rows() {
  return {
      {.name = "v4/parse vlan",
       .frame = udp4().with(&Frame::vlan, 100).with(&Frame::to, kVlanMac).build(),
       .says = "flow port 4 proto 17 10.1.0.2:40000 > 10.1.0.100:80 l3 18+33 l4 38+13 ttl 64"},
      {.name = "v6/parse vlan",
       .frame = udp6().with(&Frame::vlan, 100).with(&Frame::to, kVlanMac).build(),
       .says = "flow port 4 proto 17 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 18+53 l4 58+13 ttl 64 "
               "df"},
      {.name = "v4/parse vlan with priority",
       .frame = udp4().with(&Frame::vlan, 0xe064).with(&Frame::to, kVlanMac).build(),
       .says = "flow port 4 proto 17 10.1.0.2:40000 > 10.1.0.100:80 l3 18+33 l4 38+13 ttl 64"},
      {.name = "v6/parse vlan with priority",
       .frame = udp6().with(&Frame::vlan, 0xe064).with(&Frame::to, kVlanMac).build(),
       .says = "flow port 4 proto 17 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 18+53 l4 58+13 ttl 64 "
               "df"},
      {.name = "v4/parse priority tag only",
       .frame = udp4().with(&Frame::vlan, 0xe000).build(),
       .says = "flow port 3 proto 17 10.1.0.2:40000 > 10.1.0.100:80 l3 18+33 l4 38+13 ttl 64"},
      {.name = "v6/parse priority tag only",
       .frame = udp6().with(&Frame::vlan, 0xe000).build(),
       .says = "flow port 3 proto 17 [fd00:1::2]:40000 > [fd00:1::64]:80 l3 18+53 l4 58+13 ttl 64 "
               "df"},
      {.name = "v4/parse unknown vlan",
       .frame = udp4().with(&Frame::vlan, 101).build(),
       .says = "unknown_vlan"},
      {.name = "v6/parse unknown vlan",
       .frame = udp6().with(&Frame::vlan, 101).build(),
       .says = "unknown_vlan"},
      {.name = "v4/parse vlan to the untagged port's mac",
       .frame = udp4().with(&Frame::vlan, 100).build(),
       .says = "not_for_us"},
      {.name = "v6/parse vlan to the untagged port's mac",
       .frame = udp6().with(&Frame::vlan, 100).build(),
       .says = "not_for_us"},
      {.name = "v4/parse unknown ethertype",
       .frame = udp4().with(&Frame::ether_type, 0x88cc).build(),
       .says = "unknown_ethertype"},
      {.name = "v6/parse unknown ethertype",
       .frame = udp6().with(&Frame::ether_type, 0x88cc).build(),
       .says = "unknown_ethertype"},
      {.name = "v4/parse tag within a tag",
       .frame = udp4().with(&Frame::vlan, 0).with(&Frame::ether_type, kEtherVlan).build(),
       .says = "unknown_ethertype"},
      {.name = "v6/parse tag within a tag",
       .frame = udp6().with(&Frame::vlan, 0).with(&Frame::ether_type, kEtherVlan).build(),
       .says = "unknown_ethertype"},
  };
}

std::vector<Row> icmp_rows() {
  const std::string v6_says =
      " port 3 proto 58 [fd00:1::2]:0 > [fd00:1::64]:0 l3 14+52 l4 54+12 ttl 64 df";
  const std::string v4_says = " port 3 proto 1 10.1.0.2:0 > 10.1.0.100:0 l3 14+32 l4 34+12 ttl 64";
  const Frame echo4 = echo_request(k4.source, k4.destination);
  const Frame echo6 = echo_request(k6.source, k6.destination);
  const Bytes quote = {1, 2, 3, 4};
  return {
      {.name = "v4/parse echo", .frame = echo4.build(), .says = "echo" + v4_says},
      {.name = "v6/parse echo", .frame = echo6.build(), .says = "echo" + v6_says},
      {.name = "v4/parse echo reply",
       .frame = echo4.with(&Frame::icmp_type, kIcmpEchoReply).build(),
       .says = "other" + v4_says},
      {.name = "v6/parse echo reply",
       .frame = echo6.with(&Frame::icmp_type, kIcmpv6EchoReply).build(),
       .says = "other" + v6_says},
      {.name = "v4/parse icmp checksum wrong",
       .frame = echo4.with(&Frame::l4_checksum, 1).build(),
       .says = "bad_checksum"},
      {.name = "v6/parse icmp checksum wrong",
       .frame = echo6.with(&Frame::l4_checksum, 1).build(),
       .says = "bad_checksum"},
      {.name = "v4/parse icmp header cut",
       .frame = echo4.with(&Frame::ip_bytes, 27).build(),
       .says = "truncated"},
      {.name = "v6/parse icmp header cut",
       .frame = echo6.with(&Frame::ip_bytes, 7).build(),
       .says = "truncated"},
      {.name = "v4/parse unreachable",
       .frame = icmp_error(k4.source, k4.destination, 3, 3, quote).build(),
       .says = "icmp_error" + v4_says},
      {.name = "v6/parse unreachable",
       .frame = icmp_error(k6.source, k6.destination, 1, 4, quote).build(),
       .says = "icmp_error" + v6_says},
      {.name = "v4/parse too big",
       .frame = icmp_error(k4.source, k4.destination, 3, 4, quote, 1280).build(),
       .says = "icmp_error" + v4_says},
      {.name = "v6/parse too big",
       .frame = icmp_error(k6.source, k6.destination, 2, 0, quote, 1280).build(),
       .says = "icmp_error" + v6_says},
      {.name = "v4/parse time exceeded",
       .frame = icmp_error(k4.source, k4.destination, 11, 0, quote).build(),
       .says = "icmp_error" + v4_says},
      {.name = "v6/parse time exceeded",
       .frame = icmp_error(k6.source, k6.destination, 3, 0, quote).build(),
       .says = "icmp_error" + v6_says},
      {.name = "v4/parse parameter problem",
       .frame = icmp_error(k4.source, k4.destination, 12, 0, quote).build(),
       .says = "icmp_error" + v4_says},
      {.name = "v6/parse parameter problem",
       .frame = icmp_error(k6.source, k6.destination, 4, 1, quote).build(),
       .says = "icmp_error" + v6_says},
      {.name = "v4/parse redirect",
       .frame = icmp_error(k4.source, k4.destination, 5, 1, quote).build(),
       .says = "other" + v4_says},
      {.name = "v6/parse redirect",
       .frame = icmp_error(k6.source, k6.destination, 137, 0, quote).build(),
       .says = "other" + v6_says},
      {.name = "v4/parse icmp of the other family",
       .frame = raw_ip(k4.source, k4.destination, 58, Bytes(12)).build(),
       .says = "other port 3 proto 58 10.1.0.2:0 > 10.1.0.100:0 l3 14+32 l4 34+12 ttl 64"},
      {.name = "v6/parse icmp of the other family",
       .frame = raw_ip(k6.source, k6.destination, 1, Bytes(12)).build(),
       .says = "other port 3 proto 1 [fd00:1::2]:0 > [fd00:1::64]:0 l3 14+52 l4 54+12 ttl 64 df"},
  };
}

// ARP and neighbour discovery: who has it, who is it, probe, and all that must be refused.
std::vector<Row> neighbor_rows() {
  constexpr auto kMulticastMac = "03:00:00:00:00:01";
  const Frame request = arp_request("10.1.0.2", "10.1.0.1");
  const Frame solicitation = neighbor_solicitation("fd00:1::2", "fd00:1::1");
  const Frame advertisement =
      neighbor_advertisement("fd00:1::2", "fd00:1::1", "fd00:1::2", kClientMac);
  const Frame router = raw_ip("fe80::1", "ff02::1", 58, {})
                           .with(&Frame::ttl, 255)
                           .with(&Frame::raw_l4, std::nullopt)
                           .with(&Frame::to, mac("33:33:00:00:00:01"))
                           .with(&Frame::icmp_type, kIcmpv6RouterAdvertisement)
                           .with(&Frame::payload, Bytes(8));
  return {
      {.name = "v4/parse who has",
       .frame = request.resized(60).build(),
       .says = "neighbor port 3 proto 0 10.1.0.2:0 > 10.1.0.1:0 l3 14+28 l4 14+28 ttl 0"},
      {.name = "v6/parse who has",
       .frame = solicitation.build(),
       .says = "neighbor port 3 proto 58 [fd00:1::2]:0 > [ff02::1:ff00:1]:0 l3 14+72 l4 54+32 ttl "
               "255 df"},
      {.name = "v4/parse neighbor answer",
       .frame = arp_reply("10.1.0.2", kClientMac, "10.1.0.1", kEngineMac).build(),
       .says = "neighbor port 3 proto 0 10.1.0.2:0 > 10.1.0.1:0 l3 14+28 l4 14+28 ttl 0"},
      {.name = "v6/parse neighbor answer",
       .frame = advertisement.build(),
       .says = "neighbor port 3 proto 58 [fd00:1::2]:0 > [fd00:1::1]:0 l3 14+72 l4 54+32 ttl 255 "
               "df"},
      {.name = "v4/parse answer to an address probe",
       .no_twin = "a duplicate is advertised to all nodes: v6/parse announcement",
       .frame = arp_reply("10.1.0.2", kClientMac, "0.0.0.0", kEngineMac).build(),
       .says = "neighbor port 3 proto 0 10.1.0.2:0 > 0.0.0.0:0 l3 14+28 l4 14+28 ttl 0"},
      {.name = "v4/parse address probe",
       .frame = arp_request("0.0.0.0", "10.1.0.1").build(),
       .says = "neighbor port 3 proto 0 0.0.0.0:0 > 10.1.0.1:0 l3 14+28 l4 14+28 ttl 0"},
      {.name = "v6/parse address probe",
       .frame = neighbor_solicitation("::", "fd00:1::1").build(),
       .says = "neighbor port 3 proto 58 [::]:0 > [ff02::1:ff00:1]:0 l3 14+64 l4 54+24 ttl 255 df"},
      {.name = "v4/parse announcement",
       .frame = arp_request("10.1.0.2", "10.1.0.2").build(),
       .says = "neighbor port 3 proto 0 10.1.0.2:0 > 10.1.0.2:0 l3 14+28 l4 14+28 ttl 0"},
      {.name = "v6/parse announcement",
       .frame =
           neighbor_advertisement("fd00:1::2", "ff02::1", "fd00:1::2", kClientMac, 0x20).build(),
       .says = "neighbor port 3 proto 58 [fd00:1::2]:0 > [ff02::1]:0 l3 14+72 l4 54+32 ttl 255 df"},
      {.name = "v4/parse neighbor from multicast",
       .frame = arp_request("224.0.0.1", "10.1.0.1").build(),
       .says = "martian_source"},
      {.name = "v6/parse neighbor from multicast",
       .frame = neighbor_solicitation("ff02::1", "fd00:1::1").build(),
       .says = "martian_source"},
      {.name = "v4/parse neighbor answer from nowhere",
       .frame = arp_reply("0.0.0.0", kClientMac, "10.1.0.1", kEngineMac).build(),
       .says = "martian_source"},
      {.name = "v6/parse neighbor answer from nowhere",
       .frame = neighbor_advertisement("::", "fd00:1::1", "fd00:1::2", kClientMac).build(),
       .says = "martian_source"},
      {.name = "v4/parse neighbor target multicast",
       .frame = arp_request("10.1.0.2", "224.0.0.1").build(),
       .says = "malformed"},
      {.name = "v6/parse neighbor target multicast",
       .frame = neighbor_advertisement("fd00:1::2", "fd00:1::1", "ff02::9", kClientMac).build(),
       .says = "malformed"},
      {.name = "v4/parse neighbor header cut",
       .frame = request.resized(41).build(),
       .says = "truncated"},
      {.name = "v6/parse neighbor header cut",
       .frame = solicitation.with(&Frame::ip_bytes, 23).build(),
       .says = "truncated"},
      {.name = "v4/parse sender mac multicast",
       .no_twin = "option contents are judged by whoever uses them",
       .frame = request.poke(14 + 8, 3).build(),
       .says = "malformed"},
      {.name = "v4/parse arp frame from a multicast mac",
       .no_twin = "the twin is v6/parse multicast source mac: one check for all frames",
       .frame = arp_request("10.1.0.2", "10.1.0.1", kMulticastMac).build(),
       .says = "martian_source"},
      {.name = "v4/parse arp hardware wrong",
       .no_twin = "ARP has no such field",
       .frame = request.poke(15, 6).build(),
       .says = "malformed"},
      {.name = "v4/parse arp protocol wrong",
       .no_twin = "ARP has no such field",
       .frame = request.poke(16, 0x86).build(),
       .says = "malformed"},
      {.name = "v4/parse arp lengths wrong",
       .no_twin = "ARP has no such field",
       .frame = request.poke(19, 16).build(),
       .says = "malformed"},
      {.name = "v4/parse arp operation unknown",
       .no_twin = "ARP has no such field",
       .frame = request.poke(21, 3).build(),
       .says = "malformed"},
      {.name = "v6/parse neighbor from off the link",
       .no_twin = "ARP has no such field",
       .frame = solicitation.with(&Frame::ttl, 254).build(),
       .says = "malformed"},
      {.name = "v6/parse neighbor checksum wrong",
       .no_twin = "ARP has no checksum",
       .frame = solicitation.with(&Frame::l4_checksum, 1).build(),
       .says = "bad_checksum"},
      {.name = "v6/parse neighbor code not zero",
       .no_twin = "ARP has no such field",
       .frame = solicitation.with(&Frame::icmp_code, 1).build(),
       .says = "malformed"},
      {.name = "v6/parse neighbor option of length zero",
       .no_twin = "ARP has no options",
       .frame = neighbor_solicitation("::", "fd00:1::1")
                    .with(&Frame::payload,
                          [] {
                            Bytes b(24);
                            b[0] = 0xfd;
                            b[16] = 14;
                            return b;
                          }())
                    .build(),
       .says = "malformed"},
      {.name = "v6/parse probe that names its mac",
       .no_twin = "an ARP probe always does",
       .frame = solicitation.with(&Frame::source, net::Address{}).build(),
       .says = "malformed"},
      {.name = "v6/parse probe to one host",
       .no_twin = "who an ARP probe is sent to does not matter",
       .frame = neighbor_solicitation("::", "fd00:1::1")
                    .with(&Frame::destination, address("fd00:1::1"))
                    .build(),
       .says = "malformed"},
      {.name = "v6/parse solicited announcement to all",
       .no_twin = "ARP has no such field",
       .frame =
           neighbor_advertisement("fd00:1::2", "ff02::1", "fd00:1::2", kClientMac, 0x60).build(),
       .says = "malformed"},
      {.name = "v6/parse neighbor in a fragment header",
       .no_twin = "ARP is not fragmented",
       .frame = solicitation.with(&Frame::extensions, std::vector{kAtomic}).build(),
       .says = "malformed"},
      {.name = "v6/parse router advertisement",
       .no_twin = "ARP finds no routers",
       .frame = router.build(),
       .says = "neighbor port 3 proto 58 [fe80::1]:0 > [ff02::1]:0 l3 14+56 l4 54+16 ttl 255 df"},
      {.name = "v6/parse router advertisement from off the link",
       .no_twin = "ARP finds no routers",
       .frame = router.with(&Frame::source, address("fd00:1::2")).build(),
       .says = "malformed"},
  };
}

class PacketParseGolden : public testing::TestWithParam<std::vector<Row> (*)()> {};

TEST_P(PacketParseGolden, SaysWhatTheTableSays) {
  HeapPool pool(4);
  for (const Row& row : GetParam()()) {
    Buffer* buffer = make_buffer_at_end(pool.pool(), row.frame);
    ASSERT_NE(buffer, nullptr) << row.name;
    EXPECT_EQ(parsed(buffer), row.says) << row.name << "\n  " << describe(row.frame);
    release(buffer);
  }
  EXPECT_EQ(pool.in_use(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Tables, PacketParseGolden,
                         testing::Values(transport_rows, ip_rows, address_rows, link_rows,
                                         icmp_rows, neighbor_rows));

}  // namespace
}  // namespace limpet::packet
