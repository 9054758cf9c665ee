// Golden tables of what the engine makes of packets: NAT, MSS, Ethernet, resets, ICMP errors and
// their quotes, echo replies. A frame goes in, parsed as it would be; the exact frame expected, or
// "unchanged", comes out. What goes in lies at the end of its buffer, so AddressSanitizer sees a
// read past it; replies that need room in front have it.
#include <gtest/gtest.h>

#include <functional>

#include "dataplane/packet/headers.h"
#include "dataplane/packet/icmp_quote.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/reply.h"
#include "dataplane/packet/rewrite.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::packet {
namespace {

using namespace support;  // NOLINT: builders are the vocabulary of the tables

using Act = std::function<bool(Buffer*)>;  // false: the packet must be unchanged

struct Row {
  std::string name;
  std::string no_twin;
  Bytes frame;
  Act act;
  Bytes becomes;  // empty: unchanged, and the act says false
};

// Client to virtual service, and what source NAT makes of it; the ways back.
const Flow k4{"10.1.0.2", 40000, "10.1.0.100", 80};
const Flow k6{"fd00:1::2", 40000, "fd00:1::64", 80};
const Flow kNat4{"10.2.0.10", 1024, "10.2.0.2", 8080};
const Flow kNat6{"fd00:2::a", 1024, "fd00:2::2", 8080};

Frame forwarded(Frame f, const Flow& to) {
  f.source = address(to.source);
  f.destination = address(to.destination);
  f.source_port = to.source_port;
  f.destination_port = to.destination_port;
  --f.ttl;
  return f;
}

Act nat(const Flow& to) {
  return [to](Buffer* buffer) {
    const Meta& m = meta(buffer);
    const net::Address source = address(to.source);
    const net::Address destination = address(to.destination);
    const Translation t{source, destination, to.source_port, to.destination_port};
    const uint32_t delta =
        address_delta(meta(buffer).source, meta(buffer).destination, source, destination);
    if (m.family == net::Family::kV4) {
      translate<net::Family::kV4>(buffer, m, t, delta);
    } else {
      translate<net::Family::kV6>(buffer, m, t, delta);
    }
    return true;
  };
}

Act clamp(uint16_t mss) {
  return [mss](Buffer* buffer) {
    const Bytes before = bytes(buffer);
    clamp_mss(buffer, meta(buffer), mss);
    return bytes(buffer) != before;
  };
}

Act ethernet(uint16_t vlan) {
  return [vlan](Buffer* buffer) {
    return write_ethernet(buffer, {.port = 1, .vlan = vlan, .mac = mac("02:00:00:00:00:0e")},
                          mac(kClientMac));
  };
}

// A frame as write_ethernet() of `ethernet` leaves it.
Frame out(const Frame& f) {
  return f.with(&Frame::to, mac(kClientMac)).with(&Frame::from, mac("02:00:00:00:00:0e"));
}

// Replies leave the Ethernet header to write_ethernet(), so the rows apply it too.
Act reply(bool (*make)(Buffer*)) {
  return [make](Buffer* buffer) { return make(buffer) && ethernet(0)(buffer); };
}
Act error(IcmpReply what, std::string_view source, uint16_t mtu = 0) {
  return [=](Buffer* buffer) {
    return make_icmp_error(buffer, what, address(source), mtu) && ethernet(0)(buffer);
  };
}
Act requote(const Flow& quoted, std::string_view source, std::string_view destination) {
  return [=](Buffer* buffer) {
    if (!parse_quote(buffer)) return false;
    const net::Address a = address(quoted.source);
    const net::Address b = address(quoted.destination);
    translate_quote(buffer, {a, b, quoted.source_port, quoted.destination_port}, address(source),
                    address(destination));
    return true;
  };
}

std::vector<Row> translate_rows() {
  const Frame udp4 = udp(k4, "hello");
  const Frame udp6 = udp(k6, "hello");
  const Frame tcp4 = tcp(k4, kTcpAck | kTcpPsh, "some data");
  const Frame tcp6 = tcp(k6, kTcpAck | kTcpPsh, "some data");
  const Frame none = udp4.with(&Frame::l4_checksum, 0);
  const std::vector<Extension> extensions = {{kProtocolDestinationOptions, {1, 4, 0, 0, 0, 0}}};
  const Frame extended = udp6.with(&Frame::extensions, extensions);
  const Bytes route = {7, 7, 4, 0, 0, 0, 0};
  const Frame options = udp4.with(&Frame::ip_options, route);
  // Payload chosen so that the translated checksum comes out as zero, which UDP sends as 0xffff.
  const auto zero_sum = [](Frame f, const Flow& to) {
    Frame translated = forwarded(f, to);
    translated.payload = {0, 0};
    const uint16_t sum = [&] {
      const Bytes ip = translated.build_ip();
      return static_cast<uint16_t>(ip[ip.size() - 4] << 8 | ip[ip.size() - 3]);
    }();
    f.payload = {static_cast<uint8_t>(sum >> 8), static_cast<uint8_t>(sum)};
    return f;
  };
  const Frame zero4 = zero_sum(udp(k4), kNat4);
  const Frame zero6 = zero_sum(udp(k6), kNat6);
  return {
      {.name = "v4/translate udp",
       .frame = udp4.build(),
       .act = nat(kNat4),
       .becomes = forwarded(udp4, kNat4).build()},
      {.name = "v6/translate udp",
       .frame = udp6.build(),
       .act = nat(kNat6),
       .becomes = forwarded(udp6, kNat6).build()},
      {.name = "v4/translate tcp",
       .frame = tcp4.build(),
       .act = nat(kNat4),
       .becomes = forwarded(tcp4, kNat4).build()},
      {.name = "v6/translate tcp",
       .frame = tcp6.build(),
       .act = nat(kNat6),
       .becomes = forwarded(tcp6, kNat6).build()},
      {.name = "v4/translate udp without a checksum",
       .no_twin = "UDP over IPv6 must have one (RFC 8200 8.1)",
       .frame = none.build(),
       .act = nat(kNat4),
       .becomes = forwarded(none, kNat4).build()},
      {.name = "v4/translate udp to checksum zero",
       .frame = zero4.build(),
       .act = nat(kNat4),
       .becomes = forwarded(zero4.with(&Frame::l4_checksum, 0xffff), kNat4).build()},
      {.name = "v6/translate udp to checksum zero",
       .frame = zero6.build(),
       .act = nat(kNat6),
       .becomes = forwarded(zero6.with(&Frame::l4_checksum, 0xffff), kNat6).build()},
      {.name = "v4/translate behind options",
       .frame = options.build(),
       .act = nat(kNat4),
       .becomes = forwarded(options, kNat4).build()},
      {.name = "v6/translate behind options",
       .frame = extended.build(),
       .act = nat(kNat6),
       .becomes = forwarded(extended, kNat6).build()},
      {.name = "v4/translate to itself only decrements the ttl",
       .frame = tcp4.build(),
       .act = nat(k4),
       .becomes = tcp4.with(&Frame::ttl, 63).build()},
      {.name = "v6/translate to itself only decrements the ttl",
       .frame = tcp6.build(),
       .act = nat(k6),
       .becomes = tcp6.with(&Frame::ttl, 63).build()},
  };
}

std::vector<Row> mss_rows() {
  const auto syn = [](const Flow& flow, Bytes options) {
    return tcp(flow, kTcpSyn).with(&Frame::tcp_options, std::move(options));
  };
  const auto odd = [](uint16_t mss) {
    return Bytes{1, 2, 4, static_cast<uint8_t>(mss >> 8), static_cast<uint8_t>(mss), 1, 1, 1};
  };
  const Bytes cut = {1, 1, 2, 9};
  return {
      {.name = "v4/mss lowered",
       .frame = syn(k4, mss_option(1460)).build(),
       .act = clamp(mss_of_mtu(net::Family::kV4, 1400)),
       .becomes = syn(k4, mss_option(1360)).build()},
      {.name = "v6/mss lowered",
       .frame = syn(k6, mss_option(1440)).build(),
       .act = clamp(mss_of_mtu(net::Family::kV6, 1400)),
       .becomes = syn(k6, mss_option(1340)).build()},
      {.name = "v4/mss lowered at an odd offset",
       .frame = syn(k4, odd(1460)).build(),
       .act = clamp(1360),
       .becomes = syn(k4, odd(1360)).build()},
      {.name = "v6/mss lowered at an odd offset",
       .frame = syn(k6, odd(1440)).build(),
       .act = clamp(1340),
       .becomes = syn(k6, odd(1340)).build()},
      {.name = "v4/mss never raised",
       .frame = syn(k4, mss_option(536)).build(),
       .act = clamp(1460)},
      {.name = "v6/mss never raised",
       .frame = syn(k6, mss_option(1220)).build(),
       .act = clamp(1440)},
      {.name = "v4/mss option not added", .frame = syn(k4, {}).build(), .act = clamp(1460)},
      {.name = "v6/mss option not added", .frame = syn(k6, {}).build(), .act = clamp(1440)},
      {.name = "v4/mss behind an option that does not fit",
       .frame = syn(k4, cut).build(),
       .act = clamp(1000)},
      {.name = "v6/mss behind an option that does not fit",
       .frame = syn(k6, cut).build(),
       .act = clamp(1000)},
      {.name = "v4/mss left alone after the handshake",
       .frame = tcp(k4, kTcpAck).with(&Frame::tcp_options, mss_option(1460)).build(),
       .act = clamp(1000)},
      {.name = "v6/mss left alone after the handshake",
       .frame = tcp(k6, kTcpAck).with(&Frame::tcp_options, mss_option(1460)).build(),
       .act = clamp(1000)},
  };
}

std::vector<Row> ethernet_rows() {
  const Frame u4 = udp(k4, "hello");
  const Frame u6 = udp(k6, "hello");
  const auto tagged = [](const Frame& f) { return f.with(&Frame::vlan, 200); };
  return {
      {.name = "v4/ethernet stays untagged",
       .frame = u4.build(),
       .act = ethernet(0),
       .becomes = out(u4).build()},
      {.name = "v6/ethernet stays untagged",
       .frame = u6.build(),
       .act = ethernet(0),
       .becomes = out(u6).build()},
      {.name = "v4/ethernet gets a tag",
       .frame = u4.build(),
       .act = ethernet(200),
       .becomes = tagged(out(u4)).build()},
      {.name = "v6/ethernet gets a tag",
       .frame = u6.build(),
       .act = ethernet(200),
       .becomes = tagged(out(u6)).build()},
      {.name = "v4/ethernet loses its tag",
       .frame = u4.with(&Frame::vlan, 0).build(),
       .act = ethernet(0),
       .becomes = out(u4).build()},
      {.name = "v6/ethernet loses its tag",
       .frame = u6.with(&Frame::vlan, 0).build(),
       .act = ethernet(0),
       .becomes = out(u6).build()},
  };
}

// A reset to `flow`'s receiver, as the engine writes it.
Frame reset_frame(const Flow& flow, uint8_t flags, uint32_t sequence, uint32_t acknowledgment) {
  return tcp(flow, flags)
      .with(&Frame::sequence, sequence)
      .with(&Frame::acknowledgment, acknowledgment)
      .with(&Frame::window, 0)
      .with(&Frame::ip_id, 0)
      .with(&Frame::dont_fragment, true);
}

std::vector<Row> reset_rows() {
  const auto in = [](const Flow& flow, uint8_t flags, std::string_view data = "") {
    return tcp(flow, flags, data).with(&Frame::sequence, 1000u).with(&Frame::acknowledgment, 2000u);
  };
  const Act make = reply(make_tcp_reset);
  const uint8_t both = kTcpRst | kTcpAck;
  const std::vector<Extension> extensions = {{kProtocolDestinationOptions, {1, 4, 0, 0, 0, 0}}};
  return {
      {.name = "v4/reset a syn",
       .frame = in(k4, kTcpSyn).with(&Frame::acknowledgment, 0u).build(),
       .act = make,
       .becomes = out(reset_frame(k4.reversed(), both, 0, 1001)).build()},
      {.name = "v6/reset a syn",
       .frame = in(k6, kTcpSyn).with(&Frame::acknowledgment, 0u).build(),
       .act = make,
       .becomes = out(reset_frame(k6.reversed(), both, 0, 1001)).build()},
      {.name = "v4/reset data",
       .frame = in(k4, kTcpAck, "hello").build(),
       .act = make,
       .becomes = out(reset_frame(k4.reversed(), kTcpRst, 2000, 0)).build()},
      {.name = "v6/reset data",
       .frame = in(k6, kTcpAck, "hello").build(),
       .act = make,
       .becomes = out(reset_frame(k6.reversed(), kTcpRst, 2000, 0)).build()},
      {.name = "v4/reset a fin without ack",
       .frame = in(k4, kTcpFin, "hello").build(),
       .act = make,
       .becomes = out(reset_frame(k4.reversed(), both, 0, 1006)).build()},
      {.name = "v6/reset a fin without ack",
       .frame = in(k6, kTcpFin, "hello").build(),
       .act = make,
       .becomes = out(reset_frame(k6.reversed(), both, 0, 1006)).build()},
      {.name = "v4/reset drops all options",
       .frame = in(k4, kTcpAck)
                    .with(&Frame::ip_options, Bytes{7, 7, 4, 0, 0, 0, 0})
                    .with(&Frame::tcp_options, Bytes(40, 1))
                    .build(),
       .act = make,
       .becomes = out(reset_frame(k4.reversed(), kTcpRst, 2000, 0)).build()},
      {.name = "v6/reset drops all options",
       .frame = in(k6, kTcpAck)
                    .with(&Frame::extensions, extensions)
                    .with(&Frame::tcp_options, Bytes(40, 1))
                    .build(),
       .act = make,
       .becomes = out(reset_frame(k6.reversed(), kTcpRst, 2000, 0)).build()},
      {.name = "v4/reset never answers a reset", .frame = in(k4, kTcpRst).build(), .act = make},
      {.name = "v6/reset never answers a reset", .frame = in(k6, kTcpRst).build(), .act = make},
      {.name = "v4/reset never answers udp", .frame = udp(k4, "x").build(), .act = make},
      {.name = "v6/reset never answers udp", .frame = udp(k6, "x").build(), .act = make},
  };
}

// An ICMP error of the engine.
Frame engine_error(std::string_view to, uint8_t type, uint8_t code, Bytes quoted,
                   uint32_t word = 0) {
  const bool v4 = address(to).is_v4();
  return icmp_error(v4 ? "10.1.0.1" : "fd00:1::1", to, type, code, quoted, word)
      .with(&Frame::traffic_class, v4 ? 0xc0 : 0)
      .with(&Frame::ip_id, 0)
      .with(&Frame::dont_fragment, true);
}

std::vector<Row> error_rows() {
  const std::string_view from4 = "10.1.0.1";
  const std::string_view from6 = "fd00:1::1";
  const Frame u4 = udp(k4, "hello");
  const Frame u6 = udp(k6, "hello");
  const Frame long4 = udp(k4, std::string(1400, 'x'));
  const Frame long6 = udp(k6, std::string(1400, 'x'));
  const auto first = [](const Frame& f, std::size_t bytes) {
    Bytes ip = f.build_ip();
    ip.resize(bytes);
    return ip;
  };
  const Frame error4 = icmp_error(k4.source, k4.destination, 3, 3, u4.build_ip());
  const Frame error6 = icmp_error(k6.source, k6.destination, 1, 4, u6.build_ip());
  const auto pieces4 = fragments_of(udp(k4, std::string(64, 'x')), 40, 9);
  const auto pieces6 = fragments_of(udp(k6, std::string(64, 'x')), 40, 9);
  const auto behind = [](const Bytes& frame) { return Bytes(frame.begin() + 14, frame.end()); };
  const Act port4 = error(IcmpReply::kPortUnreachable, from4);
  const Act port6 = error(IcmpReply::kPortUnreachable, from6);
  return {
      {.name = "v4/error port unreachable",
       .frame = u4.build(),
       .act = port4,
       .becomes = out(engine_error(k4.source, 3, 3, u4.build_ip())).build()},
      {.name = "v6/error port unreachable",
       .frame = u6.build(),
       .act = port6,
       .becomes = out(engine_error(k6.source, 1, 4, u6.build_ip())).build()},
      {.name = "v4/error admin prohibited",
       .frame = u4.build(),
       .act = error(IcmpReply::kAdminProhibited, from4),
       .becomes = out(engine_error(k4.source, 3, 13, u4.build_ip())).build()},
      {.name = "v6/error admin prohibited",
       .frame = u6.build(),
       .act = error(IcmpReply::kAdminProhibited, from6),
       .becomes = out(engine_error(k6.source, 1, 1, u6.build_ip())).build()},
      {.name = "v4/error time exceeded",
       .frame = u4.with(&Frame::ttl, 1).build(),
       .act = error(IcmpReply::kTimeExceeded, from4),
       .becomes = out(engine_error(k4.source, 11, 0, u4.with(&Frame::ttl, 1).build_ip())).build()},
      {.name = "v6/error time exceeded",
       .frame = u6.with(&Frame::ttl, 1).build(),
       .act = error(IcmpReply::kTimeExceeded, from6),
       .becomes = out(engine_error(k6.source, 3, 0, u6.with(&Frame::ttl, 1).build_ip())).build()},
      {.name = "v4/error too big quotes what fits",
       .frame = long4.build(),
       .act = error(IcmpReply::kTooBig, from4, 1280),
       .becomes = out(engine_error(k4.source, 3, 4, first(long4, 576 - 28), 1280)).build()},
      {.name = "v6/error too big quotes what fits",
       .frame = long6.build(),
       .act = error(IcmpReply::kTooBig, from6, 1280),
       .becomes = out(engine_error(k6.source, 2, 0, first(long6, 1280 - 48), 1280)).build()},
      {.name = "v4/error about a first fragment",
       .frame = pieces4[0],
       .act = error(IcmpReply::kTimeExceeded, from4),
       .becomes = out(engine_error(k4.source, 11, 0, behind(pieces4[0]))).build()},
      {.name = "v6/error about a first fragment",
       .frame = pieces6[0],
       .act = error(IcmpReply::kTimeExceeded, from6),
       .becomes = out(engine_error(k6.source, 3, 0, behind(pieces6[0]))).build()},
      {.name = "v4/error about a later fragment", .frame = pieces4[1], .act = port4},
      {.name = "v6/error about a later fragment", .frame = pieces6[1], .act = port6},
      {.name = "v4/error about an error", .frame = error4.build(), .act = port4},
      {.name = "v6/error about an error", .frame = error6.build(), .act = port6},
      {.name = "v4/error about a redirect",
       .frame = error4.with(&Frame::icmp_type, 5).build(),
       .act = port4},
      {.name = "v6/error about a redirect",
       .frame = error6.with(&Frame::icmp_type, 137).build(),
       .act = port6},
      {.name = "v4/error about who has",
       .frame = arp_request("10.1.0.2", "10.1.0.1").build(),
       .act = port4},
      {.name = "v6/error about who has",
       .frame = neighbor_solicitation("fd00:1::2", "fd00:1::1").build(),
       .act = port6},
      {.name = "v4/error from the other family", .frame = u4.build(), .act = port6},
      {.name = "v6/error from the other family", .frame = u6.build(), .act = port4},
  };
}

std::vector<Row> echo_rows() {
  const auto answer = [](Frame f) {
    std::swap(f.source, f.destination);
    f.icmp_type = f.source.is_v4() ? kIcmpEchoReply : kIcmpv6EchoReply;
    f.ttl = 64;
    return out(f);
  };
  const Frame e4 = echo_request(k4.source, k4.destination).with(&Frame::ttl, 7);
  const Frame e6 = echo_request(k6.source, k6.destination).with(&Frame::ttl, 7);
  const Act make = reply(make_echo_reply);
  return {
      {.name = "v4/echo answered", .frame = e4.build(), .act = make, .becomes = answer(e4).build()},
      {.name = "v6/echo answered", .frame = e6.build(), .act = make, .becomes = answer(e6).build()},
      {.name = "v4/echo reply not answered",
       .frame = e4.with(&Frame::icmp_type, kIcmpEchoReply).build(),
       .act = make},
      {.name = "v6/echo reply not answered",
       .frame = e6.with(&Frame::icmp_type, kIcmpv6EchoReply).build(),
       .act = make},
  };
}

// A router between engine and server says something of a packet the engine sent; the client must
// hear it of the packet it sent.
std::vector<Row> quote_rows() {
  struct Side {
    Flow client, server;
    std::string_view router, engine, vip;
    uint8_t type, code;
  };
  const Side s4{k4, kNat4, "10.2.0.254", "10.2.0.10", "10.1.0.100", 3, 4};
  const Side s6{k6, kNat6, "fd00:2::fe", "fd00:2::a", "fd00:1::64", 2, 0};
  const auto cut = [](const Frame& f, std::size_t bytes) {
    Bytes ip = f.build_ip();
    ip.resize(std::min(bytes, ip.size()));
    return ip;
  };
  // What comes in about `quoted` of the server side, and what must go out.
  const auto in = [](const Side& s, const Bytes& quoted) {
    return icmp_error(s.router, s.engine, s.type, s.code, quoted, 1280).build();
  };
  const auto becomes = [](const Side& s, const Bytes& quoted) {
    return icmp_error(s.vip, s.client.source, s.type, s.code, quoted, 1280)
        .with(&Frame::ttl, 63)
        .build();
  };
  const auto act = [](const Side& s) { return requote(s.client, s.vip, s.client.source); };
  const auto u = [](const Flow& f) { return udp(f, "some data of the flow"); };
  const auto t = [](const Flow& f) { return tcp(f, kTcpAck, "some data of the flow"); };
  const auto piece = [](const Flow& f, std::size_t i) {
    const Bytes frame = fragments_of(udp(f, std::string(64, 'x')), 40, 9)[i];
    return Bytes(frame.begin() + 14, frame.end());
  };
  const Frame other4 = raw_ip(kNat4.source, kNat4.destination, 132, Bytes(12));
  const Frame other6 = raw_ip(kNat6.source, kNat6.destination, 132, Bytes(12));
  const std::vector<Extension> extensions = {{kProtocolDestinationOptions, {1, 4, 0, 0, 0, 0}}};
  const auto opt4 = [&](const Flow& f) {
    return u(f).with(&Frame::ip_options, Bytes{7, 7, 4, 0, 0, 0, 0});
  };
  const auto opt6 = [&](const Flow& f) { return u(f).with(&Frame::extensions, extensions); };
  return {
      {.name = "v4/quote of udp",
       .frame = in(s4, u(kNat4).build_ip()),
       .act = act(s4),
       .becomes = becomes(s4, u(k4).build_ip())},
      {.name = "v6/quote of udp",
       .frame = in(s6, u(kNat6).build_ip()),
       .act = act(s6),
       .becomes = becomes(s6, u(k6).build_ip())},
      {.name = "v4/quote of tcp",
       .frame = in(s4, t(kNat4).build_ip()),
       .act = act(s4),
       .becomes = becomes(s4, t(k4).build_ip())},
      {.name = "v6/quote of tcp",
       .frame = in(s6, t(kNat6).build_ip()),
       .act = act(s6),
       .becomes = becomes(s6, t(k6).build_ip())},
      {.name = "v4/quote of eight bytes of tcp",
       .frame = in(s4, cut(t(kNat4), 28)),
       .act = act(s4),
       .becomes = becomes(s4, cut(t(k4), 28))},
      {.name = "v6/quote of eight bytes of tcp",
       .frame = in(s6, cut(t(kNat6), 48)),
       .act = act(s6),
       .becomes = becomes(s6, cut(t(k6), 48))},
      {.name = "v4/quote cut behind the checksum of udp",
       .frame = in(s4, cut(u(kNat4), 28)),
       .act = act(s4),
       .becomes = becomes(s4, cut(u(k4), 28))},
      {.name = "v6/quote cut behind the checksum of udp",
       .frame = in(s6, cut(u(kNat6), 48)),
       .act = act(s6),
       .becomes = becomes(s6, cut(u(k6), 48))},
      {.name = "v4/quote behind options",
       .frame = in(s4, opt4(kNat4).build_ip()),
       .act = act(s4),
       .becomes = becomes(s4, opt4(k4).build_ip())},
      {.name = "v6/quote behind options",
       .frame = in(s6, opt6(kNat6).build_ip()),
       .act = act(s6),
       .becomes = becomes(s6, opt6(k6).build_ip())},
      {.name = "v4/quote of a first fragment",
       .frame = in(s4, piece(kNat4, 0)),
       .act = act(s4),
       .becomes = becomes(s4, piece(k4, 0))},
      {.name = "v6/quote of a first fragment",
       .frame = in(s6, piece(kNat6, 0)),
       .act = act(s6),
       .becomes = becomes(s6, piece(k6, 0))},
      {.name = "v4/quote of a later fragment", .frame = in(s4, piece(kNat4, 1)), .act = act(s4)},
      {.name = "v6/quote of a later fragment", .frame = in(s6, piece(kNat6, 1)), .act = act(s6)},
      {.name = "v4/quote cut before the ports", .frame = in(s4, cut(u(kNat4), 23)), .act = act(s4)},
      {.name = "v6/quote cut before the ports", .frame = in(s6, cut(u(kNat6), 43)), .act = act(s6)},
      {.name = "v4/quote cut within the ip header",
       .frame = in(s4, cut(u(kNat4), 19)),
       .act = act(s4)},
      {.name = "v6/quote cut within the ip header",
       .frame = in(s6, cut(u(kNat6), 39)),
       .act = act(s6)},
      {.name = "v4/quote of another protocol", .frame = in(s4, other4.build_ip()), .act = act(s4)},
      {.name = "v6/quote of another protocol", .frame = in(s6, other6.build_ip()), .act = act(s6)},
      {.name = "v4/quote of the other family", .frame = in(s4, u(k6).build_ip()), .act = act(s4)},
      {.name = "v6/quote of the other family", .frame = in(s6, u(k4).build_ip()), .act = act(s6)},
      {.name = "v4/quote without a packet", .frame = in(s4, {}), .act = act(s4)},
      {.name = "v6/quote without a packet", .frame = in(s6, {}), .act = act(s6)},
  };
}

class PacketRewriteGolden : public testing::TestWithParam<std::vector<Row> (*)()> {};

TEST_P(PacketRewriteGolden, MakesWhatTheTableSays) {
  HeapPool pool(4);
  const Ingress ingress{.mac = mac(kEngineMac)};
  for (const Row& row : GetParam()()) {
    SCOPED_TRACE(row.name);
    Buffer* buffer = make_buffer_at_end(pool.pool(), row.frame);
    ASSERT_NE(buffer, nullptr);
    const auto verdict = parse(buffer, {&ingress, 1});
    ASSERT_FALSE(verdict) << name(*verdict) << "\n  " << describe(row.frame);
    const bool acted = row.act(buffer);
    EXPECT_EQ(acted, !row.becomes.empty());
    const Bytes& expected = acted ? row.becomes : row.frame;
    EXPECT_EQ(bytes(buffer), expected)
        << "  in:       " << describe(row.frame) << "\n  out:      " << describe(bytes(buffer))
        << "\n  expected: " << describe(expected);
    release(buffer);
  }
  EXPECT_EQ(pool.in_use(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Tables, PacketRewriteGolden,
                         testing::Values(translate_rows, mss_rows, ethernet_rows, reset_rows,
                                         error_rows, echo_rows, quote_rows));

}  // namespace
}  // namespace limpet::packet
