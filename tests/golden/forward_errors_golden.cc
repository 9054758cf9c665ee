// Golden tables of the data path: hop limits, sizes, ICMP errors, VLANs, and what must be dropped.
#include <fmt/format.h>

#include "dataplane/packet/parse.h"
#include "tests/golden/forward_table.h"

namespace limpet::golden {
namespace {

using support::icmp_error;
using support::Sent;
using support::tcp;
using support::udp;

struct Icmp {
  uint8_t type, code;
};
Icmp unreachable(const Net& n) {
  return n.v4() ? Icmp{3, 3} : Icmp{1, 4};
}
Icmp time_exceeded(const Net& n) {
  return n.v4() ? Icmp{11, 0} : Icmp{3, 0};
}
Icmp too_big(const Net& n) {
  return n.v4() ? Icmp{3, 4} : Icmp{2, 0};
}

// --- hop limit ----------------------------------------------------------------------------------

Story ttl_from_client(const Net& n) {
  const Frame last = udp(n.up(), "a").with(&Frame::ttl, 1);
  const Frame two = udp(n.up(), "a").with(&Frame::ttl, 2);
  const auto [type, code] = time_exceeded(n);
  return {.steps = {
              when("its last hop", from_client(last),
                   {to_client(engine_error(n.front, n.client, type, code, last))},
                   {DropReason::kTtlExceeded}),
              when("one more", from_client(two), {to_server(translated(two, n.nat()))}),
              when("of a known flow", from_client(last),
                   {to_client(engine_error(n.front, n.client, type, code, last))},
                   {DropReason::kTtlExceeded}),
          }};
}

Story ttl_from_server(const Net& n) {
  const Frame question = udp(n.up(), "a");
  const Frame last = udp(n.answer(), "b").with(&Frame::ttl, 1);
  const auto [type, code] = time_exceeded(n);
  return {.steps = {
              when("question", from_client(question), {to_server(translated(question, n.nat()))}),
              when("an answer at its last hop", from_server(last),
                   {to_server(engine_error(n.back, n.server, type, code, last))},
                   {DropReason::kTtlExceeded}),
          }};
}

Story ttl_without_port_address(const Net& n) {
  const Frame last = udp(n.up(), "a").with(&Frame::ttl, 1);
  const auto [type, code] = time_exceeded(n);
  return {.world = [](World& w) { w.snapshot->ports[0].addresses.clear(); },
          .steps = {when("the address it was for answers", from_client(last),
                         {to_client(engine_error(n.vip, n.client, type, code, last))},
                         {DropReason::kTtlExceeded})}};
}

// --- sizes --------------------------------------------------------------------------------------

Story mss_clamped(const Net& n) {
  const uint16_t fits = n.v4() ? 1360 : 1340;
  const auto with_mss = [](const Frame& f, uint16_t mss) {
    return f.with(&Frame::tcp_options, support::mss_option(mss));
  };
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  const Frame syn_ack = segment(n.answer(), kTcpSyn | kTcpAck, 5000, 1001);
  const auto lowered = [&](const Frame& f, const Flow& to, uint16_t mss) {
    return translated(with_mss(f, mss), to);
  };
  return {
      .world = [](World& w) { w.snapshot->ports[1].mtu = 1400; },
      .steps = {
          when("SYN", from_client(with_mss(syn, 1460)), {to_server(lowered(syn, n.nat(), fits))}),
          when("SYN-ACK", from_server(with_mss(syn_ack, 8960)),
               {to_client(lowered(syn_ack, n.down(), fits))}),
      }};
}

Story mss_small_stays(const Net& n) {
  const Frame syn =
      segment(n.up(), kTcpSyn, 1000, 0).with(&Frame::tcp_options, support::mss_option(536));
  const Frame syn_ack = segment(n.answer(), kTcpSyn | kTcpAck, 5000, 1001)
                            .with(&Frame::tcp_options, support::mss_option(1220));
  return {.steps = {
              when("SYN", from_client(syn), {to_server(translated(syn, n.nat()))}),
              when("SYN-ACK", from_server(syn_ack), {to_client(translated(syn_ack, n.down()))}),
          }};
}

Story too_big_for_server_side(const Net& n) {
  const std::size_t headers = n.v4() ? 28 : 48;
  const Frame fits =
      udp(n.up(), std::string(1300 - headers, 'x')).with(&Frame::dont_fragment, true);
  const Frame over =
      udp(n.up(), std::string(1301 - headers, 'x')).with(&Frame::dont_fragment, true);
  const auto [type, code] = too_big(n);
  return {.world = [](World& w) { w.snapshot->ports[1].mtu = 1300; },
          .steps = {
              when("as large as may be", from_client(fits), {to_server(translated(fits, n.nat()))}),
              when("a byte more", from_client(over),
                   {to_client(engine_error(n.front, n.client, type, code, over, 1300))},
                   {DropReason::kTooBig}),
          }};
}

Story too_big_for_client_side(const Net& n) {
  const Frame question = udp(n.up(), "a");
  const Frame over = udp(n.answer(), std::string(1400, 'x')).with(&Frame::dont_fragment, true);
  const auto [type, code] = too_big(n);
  return {.world = [](World& w) { w.snapshot->ports[0].mtu = 1300; },
          .steps = {
              when("question", from_client(question), {to_server(translated(question, n.nat()))}),
              when("a large answer", from_server(over),
                   {to_server(engine_error(n.back, n.server, type, code, over, 1300))},
                   {DropReason::kTooBig}),
          }};
}

// The identification is the engine's own; the table says 9.
std::vector<Sent> with_literal_id(std::vector<Sent> sent) {
  for (Sent& s : sent) {
    s.bytes[18] = 0;
    s.bytes[19] = 9;
    s.bytes[24] = s.bytes[25] = 0;
    const uint16_t sum = support::reference_checksum(std::span(s.bytes).subspan(14, 20));
    s.bytes[24] = static_cast<uint8_t>(sum >> 8);
    s.bytes[25] = static_cast<uint8_t>(sum);
  }
  return sent;
}

Story fragmented(const Net& n) {
  const Frame large = udp(n.up(), std::string(1400, 'x'));
  const Frame there = translated(large, n.nat())
                          .with(&Frame::to, support::mac(kServerMac))
                          .with(&Frame::from, support::mac(support::kBackMac));
  std::vector<On> pieces;
  for (const Bytes& piece : support::fragments_of(there, 600 - 20, 9)) pieces.push_back({1, piece});
  return {.world = [](World& w) { w.snapshot->ports[1].mtu = 600; },
          .steps = {{"a large datagram that may be cut",
                     [large](CoreLab& lab) { return with_literal_id(lab.send(large)); },
                     pieces,
                     {}}}};
}

// --- ICMP errors about flows --------------------------------------------------------------------

// What the engine sent a side as the other side wrote it, one hop older: for quotes.
Bytes as_sent(const Frame& f) {
  return f.with(&Frame::ttl, 63).build_ip();
}

Story error_from_server_side(const Net& n, bool udp_flow) {
  const Frame f = udp_flow ? udp(n.up(), "question") : segment(n.up(), kTcpSyn, 1000, 0);
  const Bytes there = translated(f, n.nat()).build_ip();
  const auto frag = too_big(n);
  const auto port = unreachable(n);
  const Frame from_router = icmp_error(n.router, n.source, frag.type, frag.code, there, 1280);
  const Frame from_itself = icmp_error(n.server, n.source, port.type, port.code, there);
  return {
      .steps =
          {
              when("a packet", from_client(f), {to_server(translated(f, n.nat()))}),
              when("too big for a router behind", from_server(from_router),
                   {to_client(icmp_error(n.router, n.client, frag.type, frag.code, as_sent(f), 1280)
                                  .with(&Frame::ttl, 63))}),
              when("unreachable, says the server", from_server(from_itself),
                   {to_client(icmp_error(n.vip, n.client, port.type, port.code, as_sent(f))
                                  .with(&Frame::ttl, 63))}),
          },
      .finally = [](CoreLab& lab) {
        EXPECT_EQ(lab.core().forwarder().flows().size(), 1u) << "errors close nothing";
      }};
}

Story error_from_client_side(const Net& n) {
  const std::string_view router = n.v4() ? "10.1.0.254" : "fd00:1::fe";
  const Frame question = udp(n.up(), "question");
  const Frame answer = udp(n.answer(), "a longer answer");
  const Bytes here = translated(answer, n.down()).build_ip();
  const auto frag = too_big(n);
  const auto port = unreachable(n);
  return {
      .steps = {
          when("question", from_client(question), {to_server(translated(question, n.nat()))}),
          when("answer", from_server(answer), {to_client(translated(answer, n.down()))}),
          when("too big for a router before the client",
               from_client(icmp_error(router, n.vip, frag.type, frag.code, here, 1280)),
               {to_server(icmp_error(router, n.server, frag.type, frag.code, as_sent(answer), 1280)
                              .with(&Frame::ttl, 63))}),
          when("unreachable, says the client",
               from_client(icmp_error(n.client, n.vip, port.type, port.code, here)),
               {to_server(icmp_error(n.source, n.server, port.type, port.code, as_sent(answer))
                              .with(&Frame::ttl, 63))}),
      }};
}

Story error_preserved(const Net& n) {
  const Flow flow{n.client, 40000, n.server, 8080};
  const Frame question = udp(n.up(), "question");
  const Bytes there = translated(question, flow).build_ip();
  const auto [type, code] = unreachable(n);
  return {.world = [](World& w) { w.preserve_client(); },
          .steps = {
              when("question", from_client(question), {to_server(translated(question, flow))}),
              when("unreachable, says the server",
                   from_server(icmp_error(n.server, n.client, type, code, there)),
                   {to_client(icmp_error(n.vip, n.client, type, code, as_sent(question))
                                  .with(&Frame::ttl, 63))}),
          }};
}

// Eight bytes behind the IP header are all that RFC 792 promises.
Story error_short_quote(const Net& n) {
  const std::size_t headers = n.v4() ? 20 : 40;
  const Frame f = segment(n.up(), kTcpSyn, 1000, 0);
  const auto cut = [&](Bytes ip) {
    ip.resize(headers + 8);
    return ip;
  };
  const auto [type, code] = too_big(n);
  const Frame error =
      icmp_error(n.router, n.source, type, code, cut(translated(f, n.nat()).build_ip()), 1280);
  return {.steps = {
              when("a packet", from_client(f), {to_server(translated(f, n.nat()))}),
              when("the error", from_server(error),
                   {to_client(icmp_error(n.router, n.client, type, code, cut(as_sent(f)), 1280)
                                  .with(&Frame::ttl, 63))}),
          }};
}

Story error_about_nobody(const Net& n) {
  const auto [type, code] = unreachable(n);
  const Bytes stranger = udp(n.nat(), "x").build_ip();
  const Bytes nothing(8, 0);
  return {
      .steps = {
          when("no such flow", from_server(icmp_error(n.server, n.source, type, code, stranger)),
               {}, {DropReason::kNoFlow}),
          when("no packet in it", from_server(icmp_error(n.server, n.source, type, code, nothing)),
               {}, {DropReason::kUnhandled}),
      }};
}

Story error_at_its_last_hop(const Net& n) {
  const auto [type, code] = unreachable(n);
  const Frame question = udp(n.up(), "a");
  const Bytes there = translated(question, n.nat()).build_ip();
  return {
      .steps = {
          when("question", from_client(question), {to_server(translated(question, n.nat()))}),
          when("is never answered",
               from_server(icmp_error(n.server, n.source, type, code, there).with(&Frame::ttl, 1)),
               {}, {DropReason::kTtlExceeded}),
      }};
}

// --- VLAN ports ---------------------------------------------------------------------------------

// Frames of one device that carries both ports: front with `front` as its VLAN, back with `back`.
Step on_trunk(std::string what, const Frame& f, uint16_t front, uint16_t back,
              std::vector<On> leaves, std::vector<DropReason> drops = {}) {
  const auto act = [=](CoreLab& lab) {
    std::vector<packet::Ingress> ports = {
        {.port = 0, .vlan = front, .mac = support::mac(support::kFrontMac)},
        {.port = 1, .vlan = back, .mac = support::mac(support::kBackMac)}};
    if (front > back) std::swap(ports[0], ports[1]);
    lab.core().arrive(support::make_buffer(lab.buffers().pool(), f.build()),
                      {ports.data(), static_cast<uint32_t>(ports.size())});
    return lab.turn();
  };
  return {std::move(what), act, std::move(leaves), std::move(drops)};
}

Frame tagged(const Frame& f, uint16_t vlan) {
  return vlan == 0 ? f : f.with(&Frame::vlan, vlan);
}

Story trunk(const Net& n, uint16_t front, uint16_t back) {
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  const Frame syn_ack = segment(n.answer(), kTcpSyn | kTcpAck, 5000, 1001)
                            .with(&Frame::to, support::mac(support::kBackMac))
                            .with(&Frame::from, support::mac(kServerMac));
  const Frame stray = segment(n.up(40001, 81), kTcpSyn, 1000, 0);
  const Frame last = udp(n.up(), "a").with(&Frame::ttl, 1);
  const auto [type, code] = time_exceeded(n);
  return {
      .world =
          [=](World& w) {
            w.snapshot->ports[0].vlan = front;
            w.snapshot->ports[1].vlan = back;
          },
      .steps = {
          on_trunk("SYN", tagged(syn, front), front, back,
                   {to_server(tagged(translated(syn, n.nat()), back))}),
          on_trunk("SYN-ACK", tagged(syn_ack, back), front, back,
                   {to_client(tagged(translated(syn_ack, n.down()), front))}),
          on_trunk("a refusal", tagged(stray, front), front, back,
                   {to_client(tagged(reset({n.vip, 81, n.client, 40001}, 0, 1001), front))},
                   {DropReason::kNoService}),
          on_trunk("an ICMP error", tagged(last, front), front, back,
                   {to_client(tagged(engine_error(n.front, n.client, type, code, last), front))},
                   {DropReason::kTtlExceeded}),
          on_trunk("of another VLAN", tagged(syn, 300), front, back, {},
                   {DropReason::kUnknownVlan}),
      }};
}

std::vector<Row> error_rows() {
  return {
      {.name = "v4/last hop from the client", .story = ttl_from_client(k4)},
      {.name = "v6/last hop from the client", .story = ttl_from_client(k6)},
      {.name = "v4/last hop from the server", .story = ttl_from_server(k4)},
      {.name = "v6/last hop from the server", .story = ttl_from_server(k6)},
      {.name = "v4/last hop, port without address", .story = ttl_without_port_address(k4)},
      {.name = "v6/last hop, port without address", .story = ttl_without_port_address(k6)},
      {.name = "v4/mss is clamped both ways", .story = mss_clamped(k4)},
      {.name = "v6/mss is clamped both ways", .story = mss_clamped(k6)},
      {.name = "v4/a small mss stays", .story = mss_small_stays(k4)},
      {.name = "v6/a small mss stays", .story = mss_small_stays(k6)},
      {.name = "v4/too big towards the server", .story = too_big_for_server_side(k4)},
      {.name = "v6/too big towards the server", .story = too_big_for_server_side(k6)},
      {.name = "v4/too big towards the client", .story = too_big_for_client_side(k4)},
      {.name = "v6/too big towards the client", .story = too_big_for_client_side(k6)},
      {.name = "v4/fragmented", .no_twin = "IPv6 routers never fragment", .story = fragmented(k4)},
      {.name = "v4/icmp error from the server side, udp",
       .story = error_from_server_side(k4, true)},
      {.name = "v6/icmp error from the server side, udp",
       .story = error_from_server_side(k6, true)},
      {.name = "v4/icmp error from the server side, tcp",
       .story = error_from_server_side(k4, false)},
      {.name = "v6/icmp error from the server side, tcp",
       .story = error_from_server_side(k6, false)},
      {.name = "v4/icmp error from the client side", .story = error_from_client_side(k4)},
      {.name = "v6/icmp error from the client side", .story = error_from_client_side(k6)},
      {.name = "v4/icmp error, client address kept", .story = error_preserved(k4)},
      {.name = "v6/icmp error, client address kept", .story = error_preserved(k6)},
      {.name = "v4/icmp error with a short quote", .story = error_short_quote(k4)},
      {.name = "v6/icmp error with a short quote", .story = error_short_quote(k6)},
      {.name = "v4/icmp error about nobody", .story = error_about_nobody(k4)},
      {.name = "v6/icmp error about nobody", .story = error_about_nobody(k6)},
      {.name = "v4/icmp error at its last hop", .story = error_at_its_last_hop(k4)},
      {.name = "v6/icmp error at its last hop", .story = error_at_its_last_hop(k6)},
      {.name = "v4/both ports tagged", .story = trunk(k4, 100, 200)},
      {.name = "v6/both ports tagged", .story = trunk(k6, 100, 200)},
      {.name = "v4/untagged front, tagged back", .story = trunk(k4, 0, 200)},
      {.name = "v6/untagged front, tagged back", .story = trunk(k6, 0, 200)},
      {.name = "v4/tagged front, untagged back", .story = trunk(k4, 100, 0)},
      {.name = "v6/tagged front, untagged back", .story = trunk(k6, 100, 0)},
  };
}

// --- what must be dropped -----------------------------------------------------------------------

Story dropped(const Frame& f, DropReason why) {
  return {.steps = {when("arrives", from_client(f), {}, {why})}, .finally = [](CoreLab& lab) {
            EXPECT_EQ(lab.core().forwarder().flows().size(), 0u);
            EXPECT_EQ(lab.core().table().size(), 0u);
          }};
}

Frame syn(const Net& n) {
  return tcp(n.up(), kTcpSyn);
}
Frame datagram(const Net& n) {
  return udp(n.up(), "hello");
}
Frame from(const Net& n, std::string_view source) {
  return syn(n).with(&Frame::source, support::address(source));
}

std::vector<Row> truncated_rows() {
  using enum DropReason;
  return {
      {.name = "v4/runt", .story = dropped(syn(k4).resized(13), kTruncated)},
      {.name = "v6/runt", .story = dropped(syn(k6).resized(13), kTruncated)},
      {.name = "v4/no ip header", .story = dropped(syn(k4).resized(14), kTruncated)},
      {.name = "v6/no ip header", .story = dropped(syn(k6).resized(14), kTruncated)},
      {.name = "v4/cut in the ip header", .story = dropped(syn(k4).resized(33), kTruncated)},
      {.name = "v6/cut in the ip header", .story = dropped(syn(k6).resized(53), kTruncated)},
      {.name = "v4/cut in the tcp header", .story = dropped(syn(k4).resized(53), kTruncated)},
      {.name = "v6/cut in the tcp header", .story = dropped(syn(k6).resized(73), kTruncated)},
      {.name = "v4/cut in the payload", .story = dropped(datagram(k4).resized(46), kTruncated)},
      {.name = "v6/cut in the payload", .story = dropped(datagram(k6).resized(66), kTruncated)},
      {.name = "v4/longer by its own word",
       .story = dropped(datagram(k4).with(&Frame::ip_bytes, 34), kTruncated)},
      {.name = "v6/longer by its own word",
       .story = dropped(datagram(k6).with(&Frame::ip_bytes, 14), kTruncated)},
      {.name = "v4/shorter than tcp by its own word",
       .story = dropped(syn(k4).with(&Frame::ip_bytes, 39), kTruncated)},
      {.name = "v6/shorter than tcp by its own word",
       .story = dropped(syn(k6).with(&Frame::ip_bytes, 19), kTruncated)},
      {.name = "v4/shorter than udp by its own word",
       .story = dropped(datagram(k4).with(&Frame::ip_bytes, 27), kTruncated)},
      {.name = "v6/shorter than udp by its own word",
       .story = dropped(datagram(k6).with(&Frame::ip_bytes, 7), kTruncated)},
  };
}

std::vector<Row> malformed_rows() {
  using enum DropReason;
  const auto udp_bytes = [](const Net& n, uint16_t b) {
    return datagram(n).with(&Frame::udp_bytes, b);
  };
  const auto words = [](const Net& n, uint8_t w) { return syn(n).with(&Frame::data_words, w); };
  const Bytes source_route = {131, 7, 4, 10, 0, 0, 1};
  const std::vector<support::Extension> routed = {{packet::kProtocolRouting, {0, 1, 0, 0, 0, 0}}};
  return {
      {.name = "v4/wrong version", .story = dropped(syn(k4).poke(14, 0x65), kMalformed)},
      {.name = "v6/wrong version", .story = dropped(syn(k6).poke(14, 0x50), kMalformed)},
      {.name = "v4/header of 16 bytes",
       .no_twin = "the IPv6 header has no length",
       .story = dropped(syn(k4).with(&Frame::version_words, 0x44), kMalformed)},
      {.name = "v4/shorter than its header",
       .no_twin = "the IPv6 length does not count the header",
       .story = dropped(syn(k4).with(&Frame::ip_bytes, 19), kMalformed)},
      {.name = "v4/source route",
       .no_twin = "the routing header is IPv6's",
       .story = dropped(syn(k4).with(&Frame::ip_options, source_route), kMalformed)},
      {.name = "v6/routing header with segments left",
       .no_twin = "IPv4 has options for that",
       .story = dropped(syn(k6).with(&Frame::extensions, routed), kMalformed)},
      {.name = "v4/tcp header of 16 bytes", .story = dropped(words(k4, 0x40), kMalformed)},
      {.name = "v6/tcp header of 16 bytes", .story = dropped(words(k6, 0x40), kMalformed)},
      {.name = "v4/tcp header beyond the packet", .story = dropped(words(k4, 0x60), kMalformed)},
      {.name = "v6/tcp header beyond the packet", .story = dropped(words(k6, 0x60), kMalformed)},
      {.name = "v4/no flags", .story = dropped(tcp(k4.up(), 0), kMalformed)},
      {.name = "v6/no flags", .story = dropped(tcp(k6.up(), 0), kMalformed)},
      {.name = "v4/SYN and FIN", .story = dropped(tcp(k4.up(), kTcpSyn | kTcpFin), kMalformed)},
      {.name = "v6/SYN and FIN", .story = dropped(tcp(k6.up(), kTcpSyn | kTcpFin), kMalformed)},
      {.name = "v4/SYN and RST", .story = dropped(tcp(k4.up(), kTcpSyn | kTcpRst), kMalformed)},
      {.name = "v6/SYN and RST", .story = dropped(tcp(k6.up(), kTcpSyn | kTcpRst), kMalformed)},
      {.name = "v4/source port 0", .story = dropped(tcp(k4.up(0), kTcpSyn), kMalformed)},
      {.name = "v6/source port 0", .story = dropped(tcp(k6.up(0), kTcpSyn), kMalformed)},
      {.name = "v4/destination port 0", .story = dropped(tcp(k4.up(1, 0), kTcpSyn), kMalformed)},
      {.name = "v6/destination port 0", .story = dropped(tcp(k6.up(1, 0), kTcpSyn), kMalformed)},
      {.name = "v4/udp length 7", .story = dropped(udp_bytes(k4, 7), kMalformed)},
      {.name = "v6/udp length 7", .story = dropped(udp_bytes(k6, 7), kMalformed)},
      {.name = "v4/udp length beyond", .story = dropped(udp_bytes(k4, 14), kMalformed)},
      {.name = "v6/udp length beyond", .story = dropped(udp_bytes(k6, 14), kMalformed)},
  };
}

std::vector<Row> refused_rows() {
  using enum DropReason;
  const auto foreign = support::mac("02:00:00:00:00:77");
  const auto group = support::mac("01:00:00:00:00:77");
  const auto type = [](const Net& n, uint16_t t) { return syn(n).with(&Frame::ether_type, t); };
  const auto gre = [](const Net& n) { return support::raw_ip(n.client, n.vip, 47, Bytes(16, 0)); };
  return {
      {.name = "v4/ip checksum",
       .no_twin = "the IPv6 header has none",
       .story = dropped(syn(k4).with(&Frame::ip_checksum, 1), kBadChecksum)},
      {.name = "v4/tcp checksum", .story = dropped(syn(k4).poke(l4(k4) + 16, 1), kBadChecksum)},
      {.name = "v6/tcp checksum", .story = dropped(syn(k6).poke(l4(k6) + 16, 1), kBadChecksum)},
      {.name = "v4/udp checksum", .story = dropped(datagram(k4).poke(l4(k4) + 8, 1), kBadChecksum)},
      {.name = "v6/udp checksum", .story = dropped(datagram(k6).poke(l4(k6) + 8, 1), kBadChecksum)},
      {.name = "v6/udp without checksum",
       .no_twin = "over IPv4 it may be absent",
       .story = dropped(datagram(k6).with(&Frame::l4_checksum, 0), kBadChecksum)},
      {.name = "v4/source is destination", .story = dropped(from(k4, k4.vip), kMartianSource)},
      {.name = "v6/source is destination", .story = dropped(from(k6, k6.vip), kMartianSource)},
      {.name = "v4/source is the port's address",
       .story = dropped(from(k4, k4.front), kMartianSource)},
      {.name = "v6/source is the port's address",
       .story = dropped(from(k6, k6.front), kMartianSource)},
      {.name = "v4/source is the source NAT's",
       .story = dropped(from(k4, k4.source), kMartianSource)},
      {.name = "v6/source is the source NAT's",
       .story = dropped(from(k6, k6.source), kMartianSource)},
      {.name = "v4/source is another VIP",
       .story = dropped(udp({k4.vip, 80, k4.front, 53}, "x"), kMartianSource)},
      {.name = "v6/source is another VIP",
       .story = dropped(udp({k6.vip, 80, k6.front, 53}, "x"), kMartianSource)},
      {.name = "v4/source loopback", .story = dropped(from(k4, "127.0.0.1"), kMartianSource)},
      {.name = "v6/source loopback", .story = dropped(from(k6, "::1"), kMartianSource)},
      {.name = "v4/source multicast", .story = dropped(from(k4, "224.0.0.1"), kMartianSource)},
      {.name = "v6/source multicast", .story = dropped(from(k6, "ff02::1"), kMartianSource)},
      {.name = "v4/source unspecified", .story = dropped(from(k4, "0.0.0.0"), kMartianSource)},
      {.name = "v6/source unspecified", .story = dropped(from(k6, "::"), kMartianSource)},
      {.name = "v4/source mac of a group",
       .story = dropped(syn(k4).with(&Frame::from, group), kMartianSource)},
      {.name = "v6/source mac of a group",
       .story = dropped(syn(k6).with(&Frame::from, group), kMartianSource)},
      {.name = "v4/another's mac", .story = dropped(syn(k4).with(&Frame::to, foreign), kNotForUs)},
      {.name = "v6/another's mac", .story = dropped(syn(k6).with(&Frame::to, foreign), kNotForUs)},
      {.name = "v4/unknown ethertype", .story = dropped(type(k4, 0x88cc), kUnknownEthertype)},
      {.name = "v6/unknown ethertype", .story = dropped(type(k6, 0x88cc), kUnknownEthertype)},
      {.name = "v4/tag on an untagged port",
       .story = dropped(syn(k4).with(&Frame::vlan, uint16_t{7}), kUnknownVlan)},
      {.name = "v6/tag on an untagged port",
       .story = dropped(syn(k6).with(&Frame::vlan, uint16_t{7}), kUnknownVlan)},
      {.name = "v4/another protocol", .story = dropped(gre(k4), kUnsupportedProtocol)},
      {.name = "v6/another protocol", .story = dropped(gre(k6), kUnsupportedProtocol)},
      {.name = "v4/echo for an address of nobody here",
       .story = dropped(support::echo_request(k4.client, "10.1.0.9"), kNotForUs)},
      {.name = "v6/echo for an address of nobody here",
       .story = dropped(support::echo_request(k6.client, "fd00:1::9"), kNotForUs)},
  };
}

class ForwardErrorsGolden : public testing::TestWithParam<std::vector<Row> (*)()> {};

TEST_P(ForwardErrorsGolden, AnswersAndDropsAsTheTableSays) {
  for (const Row& row : GetParam()()) live(row);
}

INSTANTIATE_TEST_SUITE_P(Tables, ForwardErrorsGolden,
                         testing::Values(error_rows, truncated_rows, malformed_rows, refused_rows));

}  // namespace
}  // namespace limpet::golden
