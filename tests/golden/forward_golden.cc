// Golden tables of the data path: connections from their first packet to their last.
#include <fmt/format.h>
#include <gtest/gtest-spi.h>

#include "tests/golden/forward_table.h"

namespace limpet::golden {
namespace {

using support::tcp;
using support::udp;

// --- new flows, translated and not --------------------------------------------------------------

Story tcp_connection(const Net& n) {
  const Frame data = segment(n.up(), kTcpAck | kTcpPsh, 1001, 5001, "GET /");
  const Frame reply = segment(n.answer(), kTcpAck | kTcpPsh, 5001, 1006, "200 OK");
  return {
      .steps = handshake(n) +
               std::vector<Step>{
                   when("data", from_client(data), {to_server(translated(data, n.nat()))}),
                   when("an answer", from_server(reply), {to_client(translated(reply, n.down()))}),
               },
      .finally = [](CoreLab& lab) { EXPECT_EQ(lab.core().forwarder().flows().size(), 1u); }};
}

Story udp_exchange(const Net& n) {
  const Frame question = udp(n.up(), "question");
  const Frame answer = udp(n.answer(), "answer");
  return {.steps = {
              when("a datagram", from_client(question), {to_server(translated(question, n.nat()))}),
              when("its answer", from_server(answer), {to_client(translated(answer, n.down()))}),
              when("the next", from_client(question), {to_server(translated(question, n.nat()))}),
          }};
}

// What is only translated stays as wrong as it was; the receiver judges.
Story damage_stays(const Net& n) {
  const Frame question = udp(n.up(), "question");
  const Frame answer = udp(n.answer(), "answer");
  const Frame damaged = question.poke(l4(n) + 8, 'X');
  const Frame damaged_answer = answer.poke(l4(n) + 8, 'X');
  return {
      .steps = {
          when("one that opens", from_client(damaged), {}, {DropReason::kBadChecksum}),
          when("the same, whole", from_client(question),
               {to_server(translated(question, n.nat()))}),
          when("the first answer", from_server(damaged_answer), {}, {DropReason::kBadChecksum}),
          when("the same, whole", from_server(answer), {to_client(translated(answer, n.down()))}),
          when("on the way there", from_client(damaged), {to_server(translated(damaged, n.nat()))}),
          when("on the way back", from_server(damaged_answer),
               {to_client(translated(damaged_answer, n.down()))}),
      }};
}

Story udp_empty(const Net& n) {
  const Frame question = udp(n.up());
  return {.steps = {when("no payload", from_client(question),
                         {to_server(translated(question, n.nat()))})}};
}

Story tcp_preserved(const Net& n) {
  const Flow there{n.client, 40000, n.server, 8080};
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  const Frame syn_ack = segment(there.reversed(), kTcpSyn | kTcpAck, 5000, 1001);
  const Frame ack = segment(n.up(), kTcpAck, 1001, 5001);
  return {.world = [](World& w) { w.preserve_client(); },
          .steps = {
              when("SYN", from_client(syn), {to_server(translated(syn, there))}),
              when("SYN-ACK", from_server(syn_ack), {to_client(translated(syn_ack, n.down()))}),
              when("ACK", from_client(ack), {to_server(translated(ack, there))}),
          }};
}

Story udp_preserved(const Net& n) {
  const Flow there{n.client, 40000, n.server, 8080};
  const Frame question = udp(n.up(), "question");
  const Frame answer = udp(there.reversed(), "answer");
  return {.world = [](World& w) { w.preserve_client(); },
          .steps = {
              when("a datagram", from_client(question), {to_server(translated(question, there))}),
              when("its answer", from_server(answer), {to_client(translated(answer, n.down()))}),
          }};
}

Story two_clients_two_ports(const Net& n) {
  const Flow other{n.other_client, 40000, n.vip, 80};
  const Frame first = udp(n.up(), "a");
  const Frame second = udp(other, "b");
  const Frame answer = udp(n.answer(5001), "c");
  return {.steps = {
              when("one", from_client(first), {to_server(translated(first, n.nat()))}),
              when("another", from_client(second), {to_server(translated(second, n.nat(5001)))}),
              when("the other's answer", from_server(answer),
                   {to_client(translated(answer, other.reversed()))}),
          }};
}

// TCP and UDP have source ports of their own.
Story tcp_and_udp_do_not_meet(const Net& n) {
  const Frame question = udp(n.up(), "a");
  const Frame syn = tcp(n.up(), kTcpSyn);
  return {.steps = {
              when("UDP", from_client(question), {to_server(translated(question, n.nat()))}),
              when("TCP", from_client(syn), {to_server(translated(syn, n.nat()))}),
          }};
}

Story several_source_addresses(const Net& n) {
  const std::string_view second = n.v4() ? "10.2.0.10" : "fd00:2::10";
  const Frame a = udp(n.up(1000), "a");
  const Frame b = udp(n.up(1001), "b");
  const Frame c = udp({n.other_client, 1000, n.vip, 80}, "c");
  return {
      .world =
          [=](World& w) {
            // The second address's ports are those of another server's NatId.
            w.server(n.family, 0).sources.push_back(support::address(second));
          },
      .steps = {
          checks("ports of the second address",
                 [n](CoreLab& lab) {
                   auto& nats = lab.core().forwarder().nats();
                   const uint32_t id = lab.world.server(n.family, 0).udp_nat.value;
                   nats[id + 1] = nats[id - 1];  // TCP's serve
                 }),
          when("one", from_client(a), {to_server(translated(a, {second, 5000, n.server, 8080}))}),
          when("the same address for the same client", from_client(b),
               {to_server(translated(b, {second, 5001, n.server, 8080}))}),
          when("another client", from_client(c), {to_server(translated(c, n.nat()))}),
      }};
}

Story use_service_port(const Net& n) {
  const Frame syn = tcp(n.up(40000, 8443), kTcpSyn);
  const Frame beyond = segment(n.up(40000, 9001), kTcpSyn, 1000, 0);
  return {.world =
              [=](World& w) {
                for (auto& l : w.snapshot->listeners) {
                  l.first_port = 8000;
                  l.last_port = 9000;
                }
                w.server(n.family, 0).port = 0;
              },
          .steps = {
              when("a port of the range", from_client(syn),
                   {to_server(translated(syn, n.nat(kSourcePort, 8443)))}),
              when("the port after it", from_client(beyond),
                   {to_client(reset({n.vip, 9001, n.client, 40000}, 0, 1001))},
                   {DropReason::kNoService}),
          }};
}

Story service_port_first_and_last(const Net& n) {
  const Frame first = tcp(n.up(40000, 8000), kTcpSyn);
  const Frame last = tcp(n.up(40001, 9000), kTcpSyn);
  const auto there = [&](uint16_t source_port) { return n.nat(source_port); };
  return {.world =
              [](World& w) {
                for (auto& l : w.snapshot->listeners) {
                  l.first_port = 8000;
                  l.last_port = 9000;
                }
              },
          .steps = {
              when("first", from_client(first), {to_server(translated(first, there(5000)))}),
              when("last", from_client(last), {to_server(translated(last, there(5001)))}),
          }};
}

// Client and server on one port: what comes in by it leaves by it.
Story one_armed(const Net& n) {
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  const Frame syn_ack = segment(n.answer(), kTcpSyn | kTcpAck, 5000, 1001);
  On there = to_server(translated(syn, n.nat()));
  there = {0, translated(syn, n.nat())
                  .with(&Frame::to, support::mac(kServerMac))
                  .with(&Frame::from, support::mac(support::kFrontMac))
                  .build()};
  const On arrives{0, syn_ack.with(&Frame::from, support::mac(kServerMac)).build()};
  return {.world = [n](World& w) { w.server(n.family, 0).hop.port = 0; },
          .steps = {
              checks("the server is on the first port",
                     [n](CoreLab& lab) {
                       lab.neighbor(0, support::address(n.server), true);
                       lab.turn();
                     }),
              when("SYN", from_client(syn), {there}),
              when("SYN-ACK", arrives, {to_client(translated(syn_ack, n.down()))}),
          }};
}

// --- autogw -------------------------------------------------------------------------------------

Story answers_follow_the_client(const Net& n) {
  const auto moved = support::mac("02:00:00:00:00:c9");
  const Frame question = udp(n.up(), "a");
  const Frame answer = udp(n.answer(), "b");
  On back = to_client(translated(answer, n.down()));
  std::copy(moved.bytes.begin(), moved.bytes.end(), back.bytes.begin());
  return {
      .steps = {
          when("by one router", from_client(question), {to_server(translated(question, n.nat()))}),
          when("by another", from_client(question.with(&Frame::from, moved)),
               {to_server(translated(question, n.nat()))}),
          when("the answer", from_server(answer), {back}),
      }};
}

Story without_autogw_routes_decide(const Net& n) {
  const std::string_view gateway = n.v4() ? "10.1.0.254" : "fd00:1::fe";
  const std::string_view far = n.v4() ? "192.0.2.7" : "2001:db8::7";
  const Flow up{far, 40000, n.vip, 80};
  const Frame question = udp(up, "a");
  const Frame answer = udp(n.answer(), "b");
  On back = to_client(translated(answer, up.reversed()));
  const auto gateway_mac = support::mac("02:00:00:00:02:02");
  std::copy(gateway_mac.bytes.begin(), gateway_mac.bytes.end(), back.bytes.begin());
  return {.world =
              [=](World& w) {
                w.vs(n.family).autogw = false;
                w.snapshot->routes = {{*net::Prefix::parse(n.v4() ? "0.0.0.0/0" : "::/0"), 0,
                                       support::address(gateway)}};
              },
          .steps = {
              when("a datagram", from_client(question), {to_server(translated(question, n.nat()))}),
              when("no neighbour yet", from_server(answer), {}),
              checks("it was punted",
                     [=](CoreLab& lab) {
                       ASSERT_EQ(lab.punted().size(), 1u);
                       lab.neighbor(0, support::address(gateway), true);
                       lab.turn();
                     }),
              when("the gateway is known", from_server(answer), {back}),
          }};
}

Story without_autogw_and_route(const Net& n) {
  const std::string_view far = n.v4() ? "192.0.2.7" : "2001:db8::7";
  const Flow up{far, 40000, n.vip, 80};
  const Frame syn = segment(up, kTcpSyn, 1000, 0);
  return {.world = [n](World& w) { w.vs(n.family).autogw = false; },
          .steps =
              {
                  when("nobody knows the way back", from_client(syn),
                       {to_client(reset(up.reversed(), 0, 1001))}, {DropReason::kNoRoute}),
              },
          .finally =
              [](CoreLab& lab) {
                EXPECT_EQ(lab.core().forwarder().flows().size(), 0u);
                EXPECT_EQ(lab.core().table().size(), 0u);
              }};
}

// --- neighbours ---------------------------------------------------------------------------------

Story server_neighbor_unknown(const Net& n) {
  const Frame question = udp(n.up(), "a");
  return {.steps = {
              checks("the server is not resolved",
                     [n](CoreLab& lab) {
                       lab.neighbor(1, support::address(n.server), false);
                       lab.turn();
                     }),
              when("a datagram waits", from_client(question), {}),
              checks("with the control thread",
                     [n](CoreLab& lab) {
                       EXPECT_EQ(lab.punted().size(), 1u);
                       lab.neighbor(1, support::address(n.server), true);
                       lab.turn();
                     }),
              when("resolved", from_client(question), {to_server(translated(question, n.nat()))}),
          }};
}

Story server_neighbor_goes_and_comes(const Net& n) {
  const Frame question = udp(n.up(), "a");
  const On there = to_server(translated(question, n.nat()));
  return {.steps = {
              when("known", from_client(question), {there}),
              checks("gone",
                     [n](CoreLab& lab) {
                       lab.neighbor(1, support::address(n.server), false);
                       lab.turn();
                     }),
              when("unknown", from_client(question), {}),
              checks("back",
                     [n](CoreLab& lab) {
                       EXPECT_EQ(lab.punted().size(), 1u);
                       lab.neighbor(1, support::address(n.server), true);
                       lab.turn();
                     }),
              when("known again", from_client(question), {there}),
          }};
}

std::vector<Row> opening_rows() {
  return {
      {.name = "v4/tcp connection by source NAT", .story = tcp_connection(k4)},
      {.name = "v6/tcp connection by source NAT", .story = tcp_connection(k6)},
      {.name = "v4/udp by source NAT", .story = udp_exchange(k4)},
      {.name = "v6/udp by source NAT", .story = udp_exchange(k6)},
      {.name = "v4/damage stays what it was", .story = damage_stays(k4)},
      {.name = "v6/damage stays what it was", .story = damage_stays(k6)},
      {.name = "v4/udp without payload", .story = udp_empty(k4)},
      {.name = "v6/udp without payload", .story = udp_empty(k6)},
      {.name = "v4/tcp keeps the client address", .story = tcp_preserved(k4)},
      {.name = "v6/tcp keeps the client address", .story = tcp_preserved(k6)},
      {.name = "v4/udp keeps the client address", .story = udp_preserved(k4)},
      {.name = "v6/udp keeps the client address", .story = udp_preserved(k6)},
      {.name = "v4/two clients get two source ports", .story = two_clients_two_ports(k4)},
      {.name = "v6/two clients get two source ports", .story = two_clients_two_ports(k6)},
      {.name = "v4/tcp and udp source ports are apart", .story = tcp_and_udp_do_not_meet(k4)},
      {.name = "v6/tcp and udp source ports are apart", .story = tcp_and_udp_do_not_meet(k6)},
      {.name = "v4/a client keeps a source address", .story = several_source_addresses(k4)},
      {.name = "v6/a client keeps a source address", .story = several_source_addresses(k6)},
      {.name = "v4/range of ports, server at the port used", .story = use_service_port(k4)},
      {.name = "v6/range of ports, server at the port used", .story = use_service_port(k6)},
      {.name = "v4/range of ports, both ends", .story = service_port_first_and_last(k4)},
      {.name = "v6/range of ports, both ends", .story = service_port_first_and_last(k6)},
      {.name = "v4/one armed", .story = one_armed(k4)},
      {.name = "v6/one armed", .story = one_armed(k6)},
      {.name = "v4/answers follow the client's router", .story = answers_follow_the_client(k4)},
      {.name = "v6/answers follow the client's router", .story = answers_follow_the_client(k6)},
      {.name = "v4/without autogw routes decide", .story = without_autogw_routes_decide(k4)},
      {.name = "v6/without autogw routes decide", .story = without_autogw_routes_decide(k6)},
      {.name = "v4/without autogw and route", .story = without_autogw_and_route(k4)},
      {.name = "v6/without autogw and route", .story = without_autogw_and_route(k6)},
      {.name = "v4/server not resolved", .story = server_neighbor_unknown(k4)},
      {.name = "v6/server not resolved", .story = server_neighbor_unknown(k6)},
      {.name = "v4/server's neighbour goes and comes", .story = server_neighbor_goes_and_comes(k4)},
      {.name = "v6/server's neighbour goes and comes", .story = server_neighbor_goes_and_comes(k6)},
  };
}

// --- the life of a TCP connection ---------------------------------------------------------------

Step up(const Net& n, std::string what, uint8_t flags, uint32_t seq, uint32_t ack,
        std::string_view data = "") {
  const Frame f = segment(n.up(), flags, seq, ack, data);
  return when(std::move(what), from_client(f), {to_server(translated(f, n.nat()))});
}
Step down(const Net& n, std::string what, uint8_t flags, uint32_t seq, uint32_t ack,
          std::string_view data = "") {
  const Frame f = segment(n.answer(), flags, seq, ack, data);
  return when(std::move(what), from_server(f), {to_client(translated(f, n.down()))});
}
// A segment of the client that nobody knows any more.
Step stranger(const Net& n, std::string what, uint32_t ack) {
  return when(std::move(what), from_client(segment(n.up(), kTcpAck, 1001, ack, "late")),
              {to_client(reset(n.down(), ack))}, {DropReason::kNoFlow});
}
Step open_connections(uint32_t expected) {
  return checks(fmt::format("{} open", expected), [expected](CoreLab& lab) {
    uint32_t open = 0;
    for (const auto& vs : lab.world.snapshot->virtual_services)
      open += lab.core().forwarder().vs(vs.slot).open;
    EXPECT_EQ(open, expected);
  });
}
Step flows(uint32_t expected) {
  return checks(fmt::format("{} flows", expected), [expected](CoreLab& lab) {
    EXPECT_EQ(lab.core().forwarder().flows().size(), expected);
  });
}

std::vector<Step> closing(const Net& n) {
  return {
      up(n, "client FIN", kTcpFin | kTcpAck, 1001, 5001),
      down(n, "server ACK", kTcpAck, 5001, 1002),
      down(n, "server data still passes", kTcpAck, 5001, 1002, "rest"),
      down(n, "server FIN", kTcpFin | kTcpAck, 5005, 1002),
      up(n, "last ACK", kTcpAck, 1002, 5006),
  };
}

Story closes_both_ways(const Net& n) {
  return {.steps = handshake(n) + std::vector<Step>{open_connections(1)} + closing(n) +
                   std::vector<Step>{
                       open_connections(0), flows(1),
                       down(n, "FIN again in TIME_WAIT", kTcpFin | kTcpAck, 5005, 1002),
                       up(n, "ACK again", kTcpAck, 1002, 5006), passes(seconds(59)), flows(1),
                       passes(seconds(2)), flows(0), stranger(n, "after TIME_WAIT", 5006)}};
}

Story server_closes_first(const Net& n) {
  return {.steps = handshake(n) +
                   std::vector<Step>{down(n, "server FIN", kTcpFin | kTcpAck, 5001, 1001),
                                     down(n, "server FIN again", kTcpFin | kTcpAck, 5001, 1001),
                                     open_connections(1), up(n, "ACK", kTcpAck, 1001, 5002),
                                     up(n, "client FIN", kTcpFin | kTcpAck, 1001, 5002),
                                     open_connections(0)}};
}

Story half_closed_timeout(const Net& n) {
  return {.steps = handshake(n) +
                   std::vector<Step>{
                       up(n, "client FIN", kTcpFin | kTcpAck, 1001, 5001), passes(seconds(100)),
                       down(n, "data keeps it", kTcpAck, 5001, 1002, "x"), passes(seconds(299)),
                       flows(1), passes(seconds(2)), flows(0), open_connections(0)}};
}

Story port_reused_in_time_wait(const Net& n) {
  const Frame syn = segment(n.up(), kTcpSyn, 9000, 0);
  return {.steps = handshake(n) + closing(n) +
                   std::vector<Step>{when("a new SYN", from_client(syn),
                                          {to_server(translated(syn, n.nat(5001)))}),
                                     flows(1), open_connections(1)}};
}

Story client_reset(const Net& n) {
  return {.steps = handshake(n) + std::vector<Step>{up(n, "RST passes", kTcpRst, 1001, 0), flows(0),
                                                    open_connections(0),
                                                    stranger(n, "then nobody knows it", 5001)}};
}

Story server_reset(const Net& n) {
  return {.steps =
              handshake(n) + std::vector<Step>{down(n, "RST passes", kTcpRst | kTcpAck, 5001, 1001),
                                               flows(0), open_connections(0)}};
}

Story server_refuses(const Net& n) {
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  return {.steps = {when("SYN", from_client(syn), {to_server(translated(syn, n.nat()))}),
                    down(n, "RST, ACK", kTcpRst | kTcpAck, 0, 1001), flows(0),
                    when("again", from_client(syn), {to_server(translated(syn, n.nat(5001)))})}};
}

Story half_open_timeout(const Net& n) {
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  const On there = to_server(translated(syn, n.nat()));
  return {.steps = {when("SYN", from_client(syn), {there}),
                    when("again", from_client(syn), {there}), passes(seconds(62)), flows(1),
                    passes(seconds(2)), flows(0), open_connections(0)}};
}

Story no_ack_timeout(const Net& n) {
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  return {.steps = {when("SYN", from_client(syn), {to_server(translated(syn, n.nat()))}),
                    passes(seconds(8)), down(n, "SYN-ACK", kTcpSyn | kTcpAck, 5000, 1001),
                    passes(seconds(62)), down(n, "SYN-ACK again", kTcpSyn | kTcpAck, 5000, 1001),
                    passes(seconds(62)), flows(1), passes(seconds(2)), flows(0)}};
}

Story tcp_idle_timeout(const Net& n) {
  return {
      .world = [n](World& w) { w.vs(n.family).tcp_idle = seconds(30); },
      .steps = handshake(n) + std::vector<Step>{passes(seconds(29)), flows(1),
                                                up(n, "client data", kTcpAck, 1001, 5001, "x"),
                                                passes(seconds(29)), flows(1),
                                                down(n, "server data", kTcpAck, 5001, 1002, "y"),
                                                passes(seconds(29)), flows(1), passes(seconds(2)),
                                                flows(0), stranger(n, "after it", 5002)}};
}

Story udp_idle_timeout(const Net& n) {
  const Frame question = udp(n.up(), "a");
  const Frame answer = udp(n.answer(), "b");
  return {
      .world = [n](World& w) { w.vs(n.family).udp_idle = seconds(5); },
      .steps = {when("question", from_client(question), {to_server(translated(question, n.nat()))}),
                passes(seconds(4)),
                when("answer", from_server(answer), {to_client(translated(answer, n.down()))}),
                passes(seconds(4)), flows(1), passes(seconds(2)), flows(0),
                when("the next is new", from_client(question),
                     {to_server(translated(question, n.nat(5001)))})}};
}

Story data_with_the_handshake(const Net& n) {
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  return {
      .steps = {when("SYN", from_client(syn), {to_server(translated(syn, n.nat()))}),
                down(n, "SYN-ACK", kTcpSyn | kTcpAck, 5000, 1001),
                up(n, "FIN with data as first ACK", kTcpFin | kTcpAck | kTcpPsh, 1001, 5001, "x"),
                open_connections(1), down(n, "server FIN", kTcpFin | kTcpAck, 5001, 1003),
                open_connections(0)}};
}

// --- nobody there -------------------------------------------------------------------------------

Story no_listener_tcp(const Net& n) {
  const Frame syn = segment(n.up(40000, 81), kTcpSyn, 1000, 0);
  return {.steps = {when("SYN to another port", from_client(syn),
                         {to_client(reset({n.vip, 81, n.client, 40000}, 0, 1001))},
                         {DropReason::kNoService})}};
}
Story no_listener_udp(const Net& n) {
  const Frame question = udp(n.up(40000, 81), "anybody?");
  return {.steps = {when(
              "datagram to another port", from_client(question),
              {to_client(engine_error(n.vip, n.client, n.v4() ? 3 : 1, n.v4() ? 3 : 4, question))},
              {DropReason::kNoService})}};
}
Story no_listener_port_address(const Net& n) {
  const Flow up{n.client, 40000, n.front, 22};
  return {
      .steps = {when("SYN to the port's own address", from_client(segment(up, kTcpSyn, 1000, 0)),
                     {to_client(reset(up.reversed(), 0, 1001))}, {DropReason::kNoService})}};
}
Story not_for_us(const Net& n) {
  const Flow up{n.client, 40000, n.v4() ? "10.1.0.77" : "fd00:1::77", 80};
  return {.steps = {when("SYN", from_client(tcp(up, kTcpSyn)), {}, {DropReason::kNotForUs}),
                    when("datagram", from_client(udp(up, "x")), {}, {DropReason::kNotForUs})}};
}
Story no_flow(const Net& n) {
  const auto arrives = [&](uint8_t flags, std::string_view data = "") {
    return from_client(segment(n.up(), flags, 7000, 9000, data));
  };
  const Frame fin = segment(n.up(), kTcpFin, 7000, 0, "abc");
  return {
      .steps = {
          when("ACK", arrives(kTcpAck), {to_client(reset(n.down(), 9000))}, {DropReason::kNoFlow}),
          when("data", arrives(kTcpAck | kTcpPsh, "hello"), {to_client(reset(n.down(), 9000))},
               {DropReason::kNoFlow}),
          when("SYN-ACK", arrives(kTcpSyn | kTcpAck), {to_client(reset(n.down(), 9000))},
               {DropReason::kNoFlow}),
          when("FIN without ACK", from_client(fin), {to_client(reset(n.down(), 0, 7004))},
               {DropReason::kNoFlow}),
          when("RST is never answered", arrives(kTcpRst), {}, {DropReason::kNoFlow}),
      }};
}
Story late_server_segment(const Net& n) {
  const Frame late = segment(n.answer(), kTcpAck, 7000, 9000, "late");
  On back{1, reset(n.nat(), 9000)
                 .with(&Frame::to, support::mac(kServerMac))
                 .with(&Frame::from, support::mac(support::kBackMac))
                 .build()};
  return {.steps = {when("for a source port of nobody", from_server(late), {back},
                         {DropReason::kNoFlow})}};
}
Story vs_not_served(const Net& n) {
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  return {.world = [n](World& w) { w.server(n.family, 0).state = snapshot::ServerState::kDown; },
          .steps = {when("TCP", from_client(syn), {to_client(reset(n.down(), 0, 1001))},
                         {DropReason::kNoServer}),
                    when("UDP", from_client(udp(n.up(), "x")),
                         {to_client(engine_error(n.vip, n.client, n.v4() ? 3 : 1, n.v4() ? 3 : 4,
                                                 udp(n.up(), "x")))},
                         {DropReason::kNoServer})}};
}

std::vector<Row> tcp_rows() {
  return {
      {.name = "v4/closes both ways", .story = closes_both_ways(k4)},
      {.name = "v6/closes both ways", .story = closes_both_ways(k6)},
      {.name = "v4/server closes first", .story = server_closes_first(k4)},
      {.name = "v6/server closes first", .story = server_closes_first(k6)},
      {.name = "v4/half closed timeout", .story = half_closed_timeout(k4)},
      {.name = "v6/half closed timeout", .story = half_closed_timeout(k6)},
      {.name = "v4/port reused in TIME_WAIT", .story = port_reused_in_time_wait(k4)},
      {.name = "v6/port reused in TIME_WAIT", .story = port_reused_in_time_wait(k6)},
      {.name = "v4/client resets", .story = client_reset(k4)},
      {.name = "v6/client resets", .story = client_reset(k6)},
      {.name = "v4/server resets", .story = server_reset(k4)},
      {.name = "v6/server resets", .story = server_reset(k6)},
      {.name = "v4/server refuses", .story = server_refuses(k4)},
      {.name = "v6/server refuses", .story = server_refuses(k6)},
      {.name = "v4/half open timeout", .story = half_open_timeout(k4)},
      {.name = "v6/half open timeout", .story = half_open_timeout(k6)},
      {.name = "v4/no ACK after SYN-ACK", .story = no_ack_timeout(k4)},
      {.name = "v6/no ACK after SYN-ACK", .story = no_ack_timeout(k6)},
      {.name = "v4/tcp idle timeout", .story = tcp_idle_timeout(k4)},
      {.name = "v6/tcp idle timeout", .story = tcp_idle_timeout(k6)},
      {.name = "v4/udp idle timeout", .story = udp_idle_timeout(k4)},
      {.name = "v6/udp idle timeout", .story = udp_idle_timeout(k6)},
      {.name = "v4/FIN with the first ACK", .story = data_with_the_handshake(k4)},
      {.name = "v6/FIN with the first ACK", .story = data_with_the_handshake(k6)},
      {.name = "v4/tcp to a port without listener", .story = no_listener_tcp(k4)},
      {.name = "v6/tcp to a port without listener", .story = no_listener_tcp(k6)},
      {.name = "v4/udp to a port without listener", .story = no_listener_udp(k4)},
      {.name = "v6/udp to a port without listener", .story = no_listener_udp(k6)},
      {.name = "v4/tcp to a port's own address", .story = no_listener_port_address(k4)},
      {.name = "v6/tcp to a port's own address", .story = no_listener_port_address(k6)},
      {.name = "v4/address of nobody here", .story = not_for_us(k4)},
      {.name = "v6/address of nobody here", .story = not_for_us(k6)},
      {.name = "v4/segments without a flow", .story = no_flow(k4)},
      {.name = "v6/segments without a flow", .story = no_flow(k6)},
      {.name = "v4/server segment without a flow", .story = late_server_segment(k4)},
      {.name = "v6/server segment without a flow", .story = late_server_segment(k6)},
      {.name = "v4/no usable server", .story = vs_not_served(k4)},
      {.name = "v6/no usable server", .story = vs_not_served(k6)},
  };
}

class ForwardGolden : public testing::TestWithParam<std::vector<Row> (*)()> {};

TEST_P(ForwardGolden, ForwardsAsTheTableSays) {
  for (const Row& row : GetParam()()) live(row);
}

INSTANTIATE_TEST_SUITE_P(Tables, ForwardGolden, testing::Values(opening_rows, tcp_rows));

// The tables are worth what their keeper is: a wrong byte, a frame too many, a drop that nobody
// named.
Story never_true(const Net& n, std::string_view payload, std::vector<DropReason> drops) {
  const Frame f = udp(n.up(), "a");
  return {
      .steps = {when("a datagram", from_client(f),
                     {to_server(translated(udp(n.up(), payload), n.nat()))}, std::move(drops))}};
}

TEST(ForwardGoldenKeeper, NoticesAWrongByte) {
  EXPECT_NONFATAL_FAILURE(live({.name = "wrong", .story = never_true(k4, "b", {})}), "expected:");
}

TEST(ForwardGoldenKeeper, NoticesADropThatWasNotCounted) {
  EXPECT_NONFATAL_FAILURE(
      live({.name = "wrong", .story = never_true(k6, "a", {DropReason::kNoFlow})}), "no_flow");
}

}  // namespace
}  // namespace limpet::golden
