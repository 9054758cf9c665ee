// Golden tables of the data path: what a new configuration does to connections, and what happens
// when something is full.
#include <algorithm>

#include "tests/golden/forward_table.h"

namespace limpet::golden {
namespace {

using support::udp;

Step data_up(const Net& n, std::string what, std::string_view text = "more") {
  const Frame f = segment(n.up(), kTcpAck | kTcpPsh, 1001, 5001, text);
  return when(std::move(what), from_client(f), {to_server(translated(f, n.nat()))});
}
Step data_down(const Net& n, std::string what) {
  const Frame f = segment(n.answer(), kTcpAck | kTcpPsh, 5001, 1005, "an answer");
  return when(std::move(what), from_server(f), {to_client(translated(f, n.down()))});
}
// Both ends are told, with the numbers they expect after handshake() and nothing else.
std::vector<On> both_reset(const Net& n, uint32_t client_expects = 5001,
                           uint32_t server_expects = 1001) {
  return {to_client(reset(n.down(), client_expects, server_expects)),
          to_server(reset(n.nat(), server_expects, client_expects))};
}
void delete_services(World& w) {
  w.snapshot->virtual_services.clear();
  w.snapshot->listeners.clear();
}

// --- reloads ------------------------------------------------------------------------------------

Story reload_keeps_flows(const Net& n) {
  const auto add_servers = [n](World& w) {
    auto& servers = w.pool(n.family).servers;
    for (uint32_t i = 1; i < 4; ++i) {
      snapshot::Server s = servers[0];
      s.slot = snapshot::ServerSlot{500 + i};
      s.id = binding::ServerId{777 + i};
      servers.insert(servers.begin(), s);
    }
  };
  return {.steps =
              handshake(n) + std::vector<Step>{changes("three servers more, in front", add_servers),
                                               data_up(n, "goes on"), data_down(n, "and back"),
                                               changes("nothing new", [](World&) {}),
                                               data_up(n, "goes on still")}};
}

Story reload_marks_down(const Net& n) {
  return {.steps = handshake(n) + std::vector<Step>{changes("the server is down",
                                                            [n](World& w) {
                                                              w.server(n.family, 0).state =
                                                                  snapshot::ServerState::kDown;
                                                            }),
                                                    data_up(n, "established connections go on"),
                                                    data_down(n, "both ways"),
                                                    changes("it is draining",
                                                            [n](World& w) {
                                                              w.server(n.family, 0).state =
                                                                  snapshot::ServerState::kDisabled;
                                                            }),
                                                    data_up(n, "then too")}};
}

Story reload_removes_server(const Net& n) {
  return {.steps = handshake(n) +
                   std::vector<Step>{changes("gone, but its time is not over",
                                             [n](World& w) { w.remove_server(n.family, 0); }),
                                     data_up(n, "goes on"), data_down(n, "both ways"),
                                     changes(
                                         "graceful_disable_timeout is over",
                                         [n](World& w) {
                                           const uint32_t slot = n.v4() ? 0 : 1000;
                                           w.snapshot->servers_reset = {snapshot::ServerSlot{slot}};
                                         },
                                         both_reset(n, 5001, 1005))}};
}

Story reload_resets_disabled_server(const Net& n) {
  return {.steps = handshake(n) +
                   std::vector<Step>{
                       changes(
                           "graceful_disable_timeout is over",
                           [n](World& w) {
                             w.server(n.family, 0).state = snapshot::ServerState::kDisabled;
                             w.server(n.family, 0).reset_connections = true;
                           },
                           both_reset(n)),
                       when("nobody knows it", from_client(segment(n.up(), kTcpAck, 1001, 5001)),
                            {to_client(reset(n.down(), 5001))}, {DropReason::kNoFlow})}};
}

Story deletes_vs(const Net& n) {
  return {.steps = handshake(n) +
                   std::vector<Step>{
                       changes("the virtual service is deleted", delete_services, both_reset(n)),
                       when("its port has no listener", from_client(segment(n.up(), kTcpSyn, 1, 0)),
                            {to_client(reset(n.down(), 0, 2))}, {DropReason::kNoService})},
          .finally = [](CoreLab& lab) {
            EXPECT_EQ(lab.core().forwarder().flows().size(), 0u);
            EXPECT_EQ(lab.ports_in_use(), 0u);
          }};
}

Story deletes_vs_after_data(const Net& n) {
  const Frame ack = segment(n.up(), kTcpAck, 1005, 5010);
  return {.steps = handshake(n) +
                   std::vector<Step>{data_up(n, "data"), data_down(n, "answer"),
                                     when("acknowledged", from_client(ack),
                                          {to_server(translated(ack, n.nat()))}),
                                     changes("the virtual service is deleted", delete_services,
                                             both_reset(n, 5010, 1005))}};
}

Story deletes_vs_half_closed(const Net& n) {
  const Frame fin = segment(n.up(), kTcpFin | kTcpAck, 1001, 5001);
  return {.steps = handshake(n) +
                   std::vector<Step>{
                       when("FIN", from_client(fin), {to_server(translated(fin, n.nat()))}),
                       changes("the virtual service is deleted", delete_services, both_reset(n))}};
}

Story deletes_vs_preserved(const Net& n) {
  const Flow there{n.client, 40000, n.server, 8080};
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  const Frame syn_ack = segment(there.reversed(), kTcpSyn | kTcpAck, 5000, 1001);
  const Frame ack = segment(n.up(), kTcpAck, 1001, 5001);
  return {
      .world = [](World& w) { w.preserve_client(); },
      .steps = {
          when("SYN", from_client(syn), {to_server(translated(syn, there))}),
          when("SYN-ACK", from_server(syn_ack), {to_client(translated(syn_ack, n.down()))}),
          when("ACK", from_client(ack), {to_server(translated(ack, there))}),
          changes("the virtual service is deleted", delete_services,
                  {to_client(reset(n.down(), 5001, 1001)), to_server(reset(there, 1001, 5001))}),
      }};
}

Story disables_vs(const Net& n) {
  return {.steps = handshake(n) + std::vector<Step>{changes(
                                      "the virtual service is disabled",
                                      [n](World& w) {
                                        w.vs(n.family).served = false;
                                        std::erase_if(w.snapshot->listeners, [&](const auto& l) {
                                          return l.address.is_v4() == n.v4();
                                        });
                                      },
                                      both_reset(n))}};
}

Story deletes_vs_with_udp(const Net& n) {
  const Frame question = udp(n.up(), "a");
  return {
      .steps = {
          when("a datagram", from_client(question), {to_server(translated(question, n.nat()))}),
          changes("the virtual service is deleted", delete_services),
          when("the next", from_client(question),
               {to_client(engine_error(n.vip, n.client, n.v4() ? 3 : 1, n.v4() ? 3 : 4, question))},
               {DropReason::kNoService}),
      }};
}

Story deletes_vs_in_time_wait(const Net& n) {
  const Frame fin = segment(n.up(), kTcpFin | kTcpAck, 1001, 5001);
  const Frame fin_back = segment(n.answer(), kTcpFin | kTcpAck, 5001, 1002);
  return {
      .steps = handshake(n) +
               std::vector<Step>{
                   when("FIN", from_client(fin), {to_server(translated(fin, n.nat()))}),
                   when("FIN", from_server(fin_back), {to_client(translated(fin_back, n.down()))}),
                   changes("nobody is left to tell", delete_services)},
      .finally = [](CoreLab& lab) { EXPECT_EQ(lab.core().forwarder().flows().size(), 0u); }};
}

std::vector<Row> change_rows() {
  return {
      {.name = "v4/a reload keeps flows", .story = reload_keeps_flows(k4)},
      {.name = "v6/a reload keeps flows", .story = reload_keeps_flows(k6)},
      {.name = "v4/server down or draining", .story = reload_marks_down(k4)},
      {.name = "v6/server down or draining", .story = reload_marks_down(k6)},
      {.name = "v4/server removed", .story = reload_removes_server(k4)},
      {.name = "v6/server removed", .story = reload_removes_server(k6)},
      {.name = "v4/server's time is over", .story = reload_resets_disabled_server(k4)},
      {.name = "v6/server's time is over", .story = reload_resets_disabled_server(k6)},
      {.name = "v4/virtual service deleted", .story = deletes_vs(k4)},
      {.name = "v6/virtual service deleted", .story = deletes_vs(k6)},
      {.name = "v4/virtual service deleted after data", .story = deletes_vs_after_data(k4)},
      {.name = "v6/virtual service deleted after data", .story = deletes_vs_after_data(k6)},
      {.name = "v4/virtual service deleted, half closed", .story = deletes_vs_half_closed(k4)},
      {.name = "v6/virtual service deleted, half closed", .story = deletes_vs_half_closed(k6)},
      {.name = "v4/virtual service deleted, address kept", .story = deletes_vs_preserved(k4)},
      {.name = "v6/virtual service deleted, address kept", .story = deletes_vs_preserved(k6)},
      {.name = "v4/virtual service disabled", .story = disables_vs(k4)},
      {.name = "v6/virtual service disabled", .story = disables_vs(k6)},
      {.name = "v4/virtual service with udp deleted", .story = deletes_vs_with_udp(k4)},
      {.name = "v6/virtual service with udp deleted", .story = deletes_vs_with_udp(k6)},
      {.name = "v4/virtual service deleted in TIME_WAIT", .story = deletes_vs_in_time_wait(k4)},
      {.name = "v6/virtual service deleted in TIME_WAIT", .story = deletes_vs_in_time_wait(k6)},
  };
}

// --- full ---------------------------------------------------------------------------------------

On syn_from(const Net& n, uint16_t port) {
  return from_client(segment(n.up(port), kTcpSyn, 1000, 0));
}
On syn_at(const Net& n, uint16_t port, uint16_t source_port) {
  return to_server(translated(segment(n.up(port), kTcpSyn, 1000, 0), n.nat(source_port)));
}
On refusal(const Net& n, uint16_t port) {
  return to_client(reset(n.up(port).reversed(), 0, 1001));
}

Story source_ports_run_out(const Net& n) {
  const Flow there = n.nat(5001);
  const Frame rst = segment(there.reversed(), kTcpRst | kTcpAck, 0, 1001);
  return {.source_ports = 2,
          .steps =
              {
                  when("one", syn_from(n, 1000), {syn_at(n, 1000, 5000)}),
                  when("two", syn_from(n, 1001), {syn_at(n, 1001, 5001)}),
                  when("one too many", syn_from(n, 1002), {refusal(n, 1002)},
                       {DropReason::kSnatExhausted}),
                  when("one goes", from_server(rst),
                       {to_client(translated(rst, n.up(1001).reversed()))}),
                  when("its port serves at once when there is no other", syn_from(n, 1002),
                       {syn_at(n, 1002, 5001)}),
              },
          .finally = [n](CoreLab& lab) {
            const auto slot = lab.world.server(n.family, 0).slot;
            EXPECT_EQ(lab.core().forwarder().server(slot).snat_exhausted.get(), 1u);
            EXPECT_EQ(lab.core().forwarder().server(slot).snat_reused.get(), 1u);
          }};
}

Story source_ports_run_out_udp(const Net& n) {
  const Frame one = udp(n.up(1000), "a");
  const Frame two = udp(n.up(1001), "b");
  return {.source_ports = 1,
          .steps = {
              when("one", from_client(one), {to_server(translated(one, n.nat()))}),
              when("one too many", from_client(two),
                   {to_client(engine_error(n.vip, n.client, n.v4() ? 3 : 1, n.v4() ? 3 : 4, two))},
                   {DropReason::kSnatExhausted}),
          }};
}

// A refused connection must not leave a binding, a place in a limit or a port behind.
Story refusal_leaves_nothing(const Net& n) {
  return {.source_ports = 1,
          .world = [n](World& w) { w.server(n.family, 0).connections_max = 2; },
          .steps =
              {
                  when("one", syn_from(n, 1000), {syn_at(n, 1000, 5000)}),
                  when("refused",
                       from_client(segment({n.other_client, 1000, n.vip, 80}, kTcpSyn, 1000, 0)),
                       {to_client(reset({n.vip, 80, n.other_client, 1000}, 0, 1001))},
                       {DropReason::kSnatExhausted}),
              },
          .finally =
              [n](CoreLab& lab) {
                EXPECT_EQ(lab.core().table().size(), 1u);
                EXPECT_EQ(lab.core().forwarder().flows().size(), 1u);
                EXPECT_EQ(lab.shared().gauges.open(lab.world.server(n.family, 0).slot), 1u);
              }};
}

// Two virtual services, one server, clients keep their addresses: answers could not be told apart.
Story preserved_collision(const Net& n) {
  const Flow there{n.client, 1000, n.server, 8080};
  const Frame syn = segment(n.up(1000), kTcpSyn, 1000, 0);
  const Frame other = segment(n.up(1000, 81), kTcpSyn, 1000, 0);
  return {
      .world =
          [](World& w) {
            w.preserve_client();
            const auto listeners = w.snapshot->listeners;
            for (auto l : listeners) {
              l.first_port = l.last_port = 81;
              w.snapshot->listeners.push_back(l);
            }
          },
      .steps = {
          when("port 80", from_client(syn), {to_server(translated(syn, there))}),
          when("port 81, same client port", from_client(other),
               {to_client(reset({n.vip, 81, n.client, 1000}, 0, 1001))}, {DropReason::kTupleInUse}),
          when("port 80 is over",
               from_server(segment(there.reversed(), kTcpRst | kTcpAck, 0, 1001)),
               {to_client(translated(segment(there.reversed(), kTcpRst | kTcpAck, 0, 1001),
                                     n.down_of(1000)))}),
          when("port 81 once more", from_client(other), {to_server(translated(other, there))}),
      }};
}

Story table_full_of_half_open(const Net& n) {
  return {.options = {.flows = 2, .servers = 1},
          .steps =
              {
                  when("one", syn_from(n, 1000), {syn_at(n, 1000, 5000)}),
                  when("two", syn_from(n, 1001), {syn_at(n, 1001, 5001)}),
                  when("three takes a half open one's place", syn_from(n, 1002),
                       {syn_at(n, 1002, 5002)}),
              },
          .finally = [](CoreLab& lab) { EXPECT_EQ(lab.core().forwarder().flows().size(), 2u); }};
}

Story table_full_of_established(const Net& n) {
  return {.options = {.flows = 1, .servers = 1},
          .steps = handshake(n) + std::vector<Step>{
                                      when("no room", syn_from(n, 1001), {refusal(n, 1001)},
                                           {DropReason::kFlowTableFull}),
                                      data_up(n, "the one goes on"),
                                  }};
}

Story table_full_of_time_wait(const Net& n) {
  const Frame fin = segment(n.up(), kTcpFin | kTcpAck, 1001, 5001);
  const Frame fin_back = segment(n.answer(), kTcpFin | kTcpAck, 5001, 1002);
  return {
      .options = {.flows = 1, .servers = 1},
      .steps = handshake(n) +
               std::vector<Step>{
                   when("FIN", from_client(fin), {to_server(translated(fin, n.nat()))}),
                   when("FIN", from_server(fin_back), {to_client(translated(fin_back, n.down()))}),
                   when("a new one takes the place", syn_from(n, 1001), {syn_at(n, 1001, 5001)}),
               }};
}

Story table_full_of_udp(const Net& n) {
  const Frame question = udp(n.up(), "a");
  return {.options = {.flows = 1, .servers = 1},
          .steps = {
              when("a datagram", from_client(question), {to_server(translated(question, n.nat()))}),
              when("nobody has answered it", syn_from(n, 1001), {syn_at(n, 1001, 5000)}),
          }};
}

std::vector<Row> full_rows() {
  return {
      {.name = "v4/source ports run out", .story = source_ports_run_out(k4)},
      {.name = "v6/source ports run out", .story = source_ports_run_out(k6)},
      {.name = "v4/udp source ports run out", .story = source_ports_run_out_udp(k4)},
      {.name = "v6/udp source ports run out", .story = source_ports_run_out_udp(k6)},
      {.name = "v4/a refusal leaves nothing", .story = refusal_leaves_nothing(k4)},
      {.name = "v6/a refusal leaves nothing", .story = refusal_leaves_nothing(k6)},
      {.name = "v4/kept addresses collide", .story = preserved_collision(k4)},
      {.name = "v6/kept addresses collide", .story = preserved_collision(k6)},
      {.name = "v4/table full of half open flows", .story = table_full_of_half_open(k4)},
      {.name = "v6/table full of half open flows", .story = table_full_of_half_open(k6)},
      {.name = "v4/table full of established flows", .story = table_full_of_established(k4)},
      {.name = "v6/table full of established flows", .story = table_full_of_established(k6)},
      {.name = "v4/table full of flows in TIME_WAIT", .story = table_full_of_time_wait(k4)},
      {.name = "v6/table full of flows in TIME_WAIT", .story = table_full_of_time_wait(k6)},
      {.name = "v4/table full of udp", .story = table_full_of_udp(k4)},
      {.name = "v6/table full of udp", .story = table_full_of_udp(k6)},
  };
}

class ForwardChangeGolden : public testing::TestWithParam<std::vector<Row> (*)()> {};

TEST_P(ForwardChangeGolden, ChangesAsTheTableSays) {
  for (const Row& row : GetParam()()) live(row);
}

INSTANTIATE_TEST_SUITE_P(Tables, ForwardChangeGolden, testing::Values(change_rows, full_rows));

}  // namespace
}  // namespace limpet::golden
