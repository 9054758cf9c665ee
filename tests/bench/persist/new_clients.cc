// new_clients: what a client that is new costs the cores of an engine, in CPU time and messages,
// over the whole life of its binding: when every new binding is told to all cores (push), and when
// it is told to the core that asked, and others ask when they need it. One line of JSON for each.
//
//   bench_persist_new_clients [--clients N] [--rounds N] [--cores A,B] [--peers 1]
//
// One thread drives all cores in turn. A client opens a connection (SYN, SYN-ACK, ACK) and resets
// it; "once": that was all; "returning": it comes back four times, each time to another core than
// before. Then its time runs out, and the binding with all copies ends. Its first core has nothing
// to do with its home. Fifty thousand come, and as many connections close, in a second; with
// --peers activity and last closes are announced, and counted. One core, which sends nothing, shows
// what the packets alone cost.
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "tests/bench/persist/cpu_time.h"
#include "tests/bench/persist/engine.h"

namespace limpet::bench {
namespace {

using packet::Buffer;
using timing::Duration;
using timing::Instant;

constexpr uint32_t kReturns = 4;
constexpr uint32_t kGroup = 256;  // clients on their way at the same time
constexpr Duration kTimeout = timing::seconds(60);
constexpr Duration kTurn = timing::milliseconds(1);
// Rounds of turns until a new client's packet has left: CLAIM, UPDATE, judged again.
constexpr uint32_t kRoundsToOpen = 2;
constexpr uint32_t kRecordsPerTurn = 64;

// What was measured, for one client.
struct Cost {
  double open_ns = 0;      // connections, from the first SYN to the last RST
  double end_ns = 0;       // until nothing is left of the binding
  Messages messages;       // of all clients
  uint64_t announced = 0;  // the same, to peers

  double ns() const { return open_ns + end_ns; }
};

class Life {
 public:
  Life(uint32_t cores, uint32_t clients, bool push, bool peers = false)
      : clients_(clients),
        peers_(peers),
        engine_({.cores = cores,
                 .entries = clients + clients / 16 + 1024,
                 .flows = 4096,
                 .push = push,
                 .peers = peers,
                 .timeout = kTimeout}),
        buffers_(4 * kGroup) {
    for (uint32_t i = 0; i < clients; ++i) {
      uint16_t port = 1023;
      for (uint32_t k = 0; k <= kReturns; ++k) {
        port = engine_.port_for(i, core_of(i, k), static_cast<uint16_t>(port + 1));
        ports_.push_back(port);
      }
    }
  }

  // All clients come, each of them 1 + `returns` times, and their time runs out.
  Cost run(uint32_t returns) {
    const Messages before = engine_.messages();
    const uint64_t announced = engine_.announced();
    const double begin = thread_cpu_seconds();
    for (uint32_t k = 0; k <= returns; ++k) {
      for (uint32_t i = 0; i < clients_; i += kGroup) connect(i, std::min(i + kGroup, clients_), k);
    }
    const double middle = thread_cpu_seconds();
    end();
    const double end = thread_cpu_seconds();
    return {(middle - begin) * 1e9 / clients_, (end - middle) * 1e9 / clients_,
            engine_.messages() - before, engine_.announced() - announced};
  }

 private:
  uint32_t core_of(uint32_t client, uint32_t connection) const {
    return (client + connection) % engine_.cores();
  }

  // Connection `k` of the clients [first, last).
  void connect(uint32_t first, uint32_t last, uint32_t k) {
    from_clients(first, last, k, packet::kTcpSyn);
    rounds(kRoundsToOpen);
    for (uint32_t c = 0; c < engine_.cores(); ++c) {
      packet::BufferList& sent = engine_.core(c).output().tx(1);
      for (Buffer* b : sent) arriving_.push_back({c, b});
      sent.clear();
    }
    require(arriving_.size() == last - first, "a client was not let in");
    for (const auto& [c, b] : arriving_) {
      answer(b);
      engine_.arrive(c, b, 1);
    }
    arriving_.clear();
    rounds(1);
    take_sent(0, last - first);
    for (const uint8_t flags : {packet::kTcpAck, packet::kTcpRst}) {
      from_clients(first, last, k, flags);
      rounds(1);
      take_sent(1, last - first);
    }
  }

  void from_clients(uint32_t first, uint32_t last, uint32_t k, uint8_t flags) {
    for (uint32_t i = first; i < last; ++i) {
      const uint16_t port = ports_[i * (kReturns + 1) + k];
      engine_.arrive(core_of(i, k), buffers_.holding(engine_.frame(i, port, flags)));
    }
  }

  // Makes the server's SYN-ACK of a SYN that was sent to it.
  static void answer(Buffer* b) {
    auto* bytes = rte_pktmbuf_mtod(b, uint8_t*);
    std::swap_ranges(bytes, bytes + 6, bytes + 6);         // MAC addresses
    std::swap_ranges(bytes + 26, bytes + 30, bytes + 30);  // IPv4 addresses
    std::swap_ranges(bytes + 34, bytes + 36, bytes + 36);  // ports
    std::copy(bytes + 38, bytes + 42, bytes + 42);  // it acknowledges what it begins with itself
    ++bytes[45];
    bytes[47] = packet::kTcpSyn | packet::kTcpAck;
    b->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
  }

  void rounds(uint32_t count) {
    for (uint32_t round = 0; round < count; ++round) {
      for (uint32_t c = 0; c < engine_.cores(); ++c) engine_.turn(c, now_);
      now_ = now_ + kTurn;
    }
    engine_.drain_news();
  }

  void take_sent(uint8_t port, std::size_t count) {
    std::size_t sent = 0;
    for (uint32_t c = 0; c < engine_.cores(); ++c) {
      auto& frames = engine_.core(c).output().tx(port);
      sent += frames.size();
      for (Buffer* b : frames) buffers_.give_back(b);
      frames.clear();
    }
    require(sent == count, "a packet was not forwarded");
  }

  // Lets time run out until no core has anything. Where there are peers: first so much that last
  // closes, then that what is left for rounds has been told to them; and what is over for the cores
  // is kept for what peers may know.
  void end() {
    if (peers_) {
      for (const Duration by : {Duration::zero(), kTimeout / 2}) {
        now_ = now_ + by;
        for (uint32_t round = 0; round < std::max(1000u, clients_ / kRecordsPerTurn); ++round)
          replicate();
      }
    }
    now_ = now_ + (peers_ ? kTimeout * 3 / 2 : kTimeout) + timing::seconds(1);
    for (uint32_t round = 0; replicate() > 0; ++round)
      require(round < 1000 + clients_, "bindings do not end");
  }

  // Only what replication does, not whole turns: an engine's turns are there anyway. How many
  // entries the cores have.
  uint32_t replicate() {
    uint32_t left = 0;
    for (uint32_t c = 0; c < engine_.cores(); ++c) {
      worker::Core& core = engine_.core(c);
      const auto take = [&] { core.begin(engine_.snapshot(), now_); };
      take();
      core.drain(take);
      core.serve(take);
      core.replica().advance(kRecordsPerTurn);
      left += core.table().size();
    }
    engine_.drain_news();
    now_ = now_ + kTurn;
    return left;
  }

  static void require(bool holds, const char* what) {
    if (!holds) fail(what);
  }

  const uint32_t clients_;
  const bool peers_;
  Engine engine_;
  Buffers buffers_;
  std::vector<uint16_t> ports_;                         // of the connections of each client
  std::vector<std::pair<uint32_t, Buffer*>> arriving_;  // (core, answer)
  Instant now_{1'000'000'000};
};

// The median of runs by time; messages are the same in all of them, but for chance.
Cost median_of(std::vector<Cost> costs) {
  std::sort(costs.begin(), costs.end(),
            [](const Cost& a, const Cost& b) { return a.ns() < b.ns(); });
  return costs[costs.size() / 2];
}

struct Way {
  const char* name;
  bool push;
  std::unique_ptr<Life> life{};
  std::vector<Cost> once{};
  std::vector<Cost> returning{};
};

void print(const Way& way, const Way& other, uint32_t cores, uint32_t clients, double alone_ns) {
  const Cost once = median_of(way.once);
  const Cost returning = median_of(way.returning);
  const Cost reference = median_of(other.once);
  const auto each = [&](uint64_t count) { return static_cast<double>(count) / clients; };
  std::printf(
      "{\"name\": \"new_client_%s_%u\", \"value\": %.0f, \"unit\": \"ns/client\", "
      "\"reference\": \"%s\", \"reference_value\": %.0f, \"ratio\": %.4f, \"one_core\": %.0f",
      way.name, cores, once.ns(), other.name, reference.ns(), once.ns() / reference.ns(), alone_ns);
  for (const auto& [what, cost] : {std::pair{"once", once}, std::pair{"returning", returning}}) {
    const Messages& m = cost.messages;
    std::printf(
        ", \"%s\": {\"ns\": %.0f, \"ns_to_end\": %.0f, \"messages\": %.3f, \"claims\": %.3f, "
        "\"touches\": %.3f, \"updates\": %.3f, \"recalls\": %.3f, \"answers\": %.3f, "
        "\"announced\": %.3f}",
        what, cost.ns(), cost.end_ns, each(m.sum()), each(m.claims), each(m.touches),
        each(m.updates), each(m.recalls), each(m.answers), each(cost.announced));
  }
  std::printf("}\n");
  std::fflush(stdout);
}

void measure(uint32_t cores, uint32_t clients, uint32_t rounds, bool peers) {
  std::array<Way, 2> ways{{{"push_all", true}, {"asker_only", false}}};
  for (Way& way : ways) way.life = std::make_unique<Life>(cores, clients, way.push, peers);
  Life alone(1, clients, true);
  std::vector<double> alone_ns;
  for (uint32_t round = 0; round < rounds; ++round) {
    alone_ns.push_back(alone.run(0).ns());
    for (Way& way : ways) way.once.push_back(way.life->run(0));
    for (Way& way : ways) way.returning.push_back(way.life->run(kReturns));
  }
  print(ways[0], ways[1], cores, clients, median(alone_ns));
  print(ways[1], ways[0], cores, clients, median(alone_ns));
}

}  // namespace
}  // namespace limpet::bench

int main(int argc, char** argv) {
  uint32_t clients = 50'000;
  uint32_t rounds = 5;
  std::vector<uint32_t> cores{2, 4};
  bool peers = false;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    const auto number = static_cast<uint32_t>(std::strtoul(argv[i + 1], nullptr, 10));
    if (option == "--clients") clients = number;
    if (option == "--rounds") rounds = number;
    if (option == "--cores") cores = {number};
    if (option == "--peers") peers = number != 0;
  }
  for (const uint32_t n : cores) limpet::bench::measure(n, clients, rounds, peers);
  return 0;
}
