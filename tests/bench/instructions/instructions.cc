// instructions: turns of one core, for scripts/bench instructions, which runs this under callgrind
// and has it count what happens in limpet_counted_turn(). One line of JSON: how many packets that
// were.
//
//   bench_instructions udp_established | udp6_established | tcp_preserve | first_packet_known |
//                      first_packet_none
//
// Counted: turns for bursts of 32 packets of as many connections; of established ones a burst from
// clients, and one from servers, in turns. Not counted: what a device does (frames, buffers, giving
// back those that were sent), connections before they are established, and a first round, in which
// the dynamic linker finds functions. Frames come as network devices deliver them: their checksums
// are vouched for. Nothing here goes by chance or by the time: counts are the same each time.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/instructions/turn.h"
#include "tests/support/core_lab.h"

namespace limpet::bench {
namespace {

using net::Family;
using packet::Buffer;
using support::CoreLab;
using support::Frame;

constexpr uint32_t kBurst = 32;
constexpr uint32_t kClients = 1024;
constexpr uint32_t kRounds = 4;  // a burst each way of each connection, or a new one of each client
constexpr timing::Duration kTurn{10'000};
constexpr std::string_view kRequest = "GET / HTTP/1.1\r\n\r\n";
constexpr std::string_view kAnswer = "HTTP/1.1 204 No Content\r\n\r\n";
static_assert(kClients % kBurst == 0);

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "bench instructions: %s\n", what);
  std::exit(1);
}

std::string client_address(Family family, uint32_t i) {
  if (family == Family::kV4)
    return "10.3." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
  return "fd00:3::" + std::to_string(i + 1);
}

uint16_t client_port(uint32_t i) {
  return static_cast<uint16_t>(20'000 + 7 * i);
}

class Bench {
 public:
  explicit Bench(bool preserve_client = false, bool persistence = true) {
    if (preserve_client) lab_.world.preserve_client();
    if (!persistence) lab_.world.without_persistence();
    lab_.publish();
  }

  uint64_t packets() const { return packets_; }

  void udp(Family family) {
    std::vector<CoreLab::Connection> flows;
    for (uint32_t i = 0; i < kClients; ++i) {
      const std::string client = client_address(family, i);
      flows.push_back(lab_.datagram({client, client_port(i)}));
      if (!flows.back().ok()) fail("a flow was not opened");
    }
    for (uint32_t round = 0; round <= kRounds; ++round) {
      for (uint32_t first = 0; first < kClients; first += kBurst) {
        const auto some = std::span(flows).subspan(first, kBurst);
        burst(round, some, 0, [](const auto& c) { return support::udp(c.up(), kRequest); });
        burst(round, some, 1, [](const auto& c) { return support::udp(c.down(), kAnswer); });
      }
    }
  }

  // Each side sends what comes next, and acknowledges all that it has got.
  void tcp() {
    std::vector<CoreLab::Connection> flows;
    for (uint32_t i = 0; i < kClients; ++i) {
      const std::string client = client_address(Family::kV4, i);
      flows.push_back(lab_.connect({client, client_port(i)}));
      if (!flows.back().ok()) fail("a connection was not opened");
    }
    constexpr uint8_t kFlags = packet::kTcpAck | packet::kTcpPsh;
    constexpr auto kRequestBytes = static_cast<uint32_t>(kRequest.size());
    constexpr auto kAnswerBytes = static_cast<uint32_t>(kAnswer.size());
    uint32_t asked = CoreLab::kClientSequence + 1;
    uint32_t answered = CoreLab::kServerSequence + 1;
    for (uint32_t round = 0; round <= kRounds; ++round) {
      for (uint32_t first = 0; first < kClients; first += kBurst) {
        const auto some = std::span(flows).subspan(first, kBurst);
        burst(round, some, 0, [&](const auto& c) {
          return c.from_client(kFlags, kRequest)
              .with(&Frame::sequence, asked)
              .with(&Frame::acknowledgment, answered);
        });
        burst(round, some, 1, [&](const auto& c) {
          return c.from_server(kFlags, kAnswer)
              .with(&Frame::sequence, answered)
              .with(&Frame::acknowledgment, asked + kRequestBytes);
        });
      }
      asked += kRequestBytes;
      answered += kAnswerBytes;
    }
  }

  // SYNs of clients whose connections before are over. Each is reset, which is not counted.
  void first_packets(bool known) {
    std::vector<std::string> clients;
    for (uint32_t i = 0; i < kClients; ++i) clients.push_back(client_address(Family::kV4, i));
    for (const std::string& client : known ? clients : std::vector<std::string>{}) {
      const CoreLab::Connection c = lab_.connect({client, 10'000});
      if (!c.ok()) fail("a connection was not opened");
      lab_.reset(c);
    }
    for (uint32_t round = 0; round <= kRounds; ++round) {
      for (uint32_t first = 0; first < kClients; first += kBurst) {
        const auto some = std::span(clients).subspan(first, kBurst);
        const auto flow = [&](const std::string& client) {
          const auto i = static_cast<uint32_t>(&client - clients.data());
          const auto port = static_cast<uint16_t>(client_port(i) + round);
          return support::Flow{client, port, support::kVip4, 80};
        };
        burst(round, some, 0,
              [&](const auto& c) { return support::tcp(flow(c), packet::kTcpSyn); });
        burst(0, some, 0, [&](const auto& c) {
          return support::tcp(flow(c), packet::kTcpRst)
              .with(&Frame::sequence, CoreLab::kClientSequence + 1);
        });
        if (lab_.core().forwarder().flows().size() != 0) fail("a connection was not reset");
      }
    }
  }

  void check() {
    if (lab_.core().table().size() != (lab_.running().scopes[0].live ? kClients : 0))
      fail("the clients do not have one binding each");
    if (lab_.buffers().in_use() != 0) fail("a buffer was kept");
  }

 private:
  // What `make` makes for each of `of` arrives by `port`; round 0 is not counted.
  template <class Each, class Make>
  void burst(uint32_t round, std::span<Each> of, uint8_t port, const Make& make) {
    lab_.clock.advance(kTurn);
    if (round == 0) {
      for (Each& each : of) lab_.arrive(0, make(each), port);
      if (lab_.turn(0).size() != kBurst) fail("a packet was not forwarded");
      return;
    }
    std::array<Buffer*, kBurst> frames;
    for (uint32_t i = 0; i < kBurst; ++i) frames[i] = delivered(make(of[i]), port);
    const packet::IngressSet ports{&ingress_[port], 1};
    limpet_counted_turn(lab_.core(), lab_.running(), lab_.clock.now(), frames, ports);
    packets_ += kBurst;
    take_sent(port == 0 ? 1 : 0);
  }

  // A buffer as a device makes it.
  Buffer* delivered(Frame f, uint8_t port) {
    if (port == 1) f.to = support::mac(support::kBackMac);
    Buffer* b = support::make_buffer(lab_.buffers().pool(), f.build());
    if (b == nullptr) fail("no buffers are left");
    b->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    return b;
  }

  void take_sent(uint8_t port) {
    auto& sent = lab_.core().output().tx(port);
    if (sent.size() != kBurst) fail("a packet was not forwarded");
    for (Buffer* b : sent) {
      if (!support::sums_wrong(support::bytes(b)).empty()) fail("a packet was damaged");
      packet::release(b);
    }
    sent.clear();
    binding::Change change;
    while (lab_.shared().rings.news[0].pop(&change)) {
    }
  }

  CoreLab lab_{{.flows = 4096, .entries = 4096}};
  const std::array<packet::Ingress, 2> ingress_{
      {{.port = 0, .mac = support::mac(support::kFrontMac)},
       {.port = 1, .mac = support::mac(support::kBackMac)}}};
  uint64_t packets_ = 0;
};

void run(std::string_view name) {
  Bench bench(name == "tcp_preserve", name != "first_packet_none");
  if (name == "udp_established") {
    bench.udp(Family::kV4);
  } else if (name == "udp6_established") {
    bench.udp(Family::kV6);
  } else if (name == "tcp_preserve") {
    bench.tcp();
  } else if (name == "first_packet_known" || name == "first_packet_none") {
    bench.first_packets(name == "first_packet_known");
  } else {
    fail("there is no such result");
  }
  bench.check();
  std::printf("{\"name\": \"%.*s\", \"packets\": %llu}\n", static_cast<int>(name.size()),
              name.data(), static_cast<unsigned long long>(bench.packets()));
}

}  // namespace
}  // namespace limpet::bench

int main(int argc, char** argv) {
  if (argc != 2) limpet::bench::fail("usage: bench_instructions NAME");
  limpet::bench::run(argv[1]);
  return 0;
}
