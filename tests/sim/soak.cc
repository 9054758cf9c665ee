// Soak: a million connections through one core in memory, from one seed, with a model beside it.
//
//   soak [--connections N] [--seed S]
//
// Clients of both families open TCP connections and UDP flows, finish them, reset them, or walk
// away; servers answer, refuse or stay silent; time passes in uneven steps; servers go down and
// come back. Checked at every step: one client, one server, while its binding lives; at the end,
// when all time is over: no flow, source port, buffer, binding or count is left.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using support::CoreLab;
using timing::Duration;
using timing::Instant;
using timing::milliseconds;
using timing::seconds;

constexpr uint32_t kClientsPerFamily = 2000;
constexpr Duration kTimeout = seconds(30);
constexpr Duration kUdpIdle = seconds(10);

void require(bool holds, const char* what, uint64_t connection) {
  if (holds) return;
  std::fprintf(stderr, "connection %llu: %s\n", static_cast<unsigned long long>(connection), what);
  std::exit(1);
}

// What a client may rely on: until `until` its new connections reach `server`.
struct Expected {
  std::string server;
  uint32_t open = 0;
  Instant until;
};

class Soak {
 public:
  explicit Soak(uint64_t seed)
      : random_(seed), lab_({.flows = 16384, .entries = 8192, .buffers = 256, .servers = 5}) {
    for (const Family f : {Family::kV4, Family::kV6}) {
      lab_.world.scope(f).timeout = kTimeout;
      lab_.world.vs(f).udp_idle = kUdpIdle;
      lab_.world.vs(f).tcp_idle = seconds(14400);  // open connections stay open in this world
    }
    lab_.publish();
  }

  void run(uint64_t connections) {
    for (uint64_t n = 0; n < connections; ++n) {
      number_ = n;
      one();
      if (random_.below(64) == 0) lab_.advance(milliseconds(1 + random_.below(400)));
      if (random_.below(2000) == 0) toggle_server();
      while (open_.size() > 4000) close(random_.below(static_cast<uint32_t>(open_.size())));
      require(lab_.buffers().in_use() == 0, "a buffer leaked", n);
    }
    drain();
  }

 private:
  std::string client(uint32_t c, Family f) const {
    return f == Family::kV4
               ? "10.1." + std::to_string(1 + c / 250) + "." + std::to_string(1 + c % 250)
               : "fd00:1::1:" + std::to_string(1 + c);
  }

  // A port this client has no open connection on.
  uint16_t next_port(const std::string& client) {
    for (;;) {
      const auto port = static_cast<uint16_t>(1024 + ++next_port_ % 60000);
      if (!ports_open_.contains({client, port})) return port;
    }
  }

  void one() {
    const Family f = random_.below(2) == 0 ? Family::kV4 : Family::kV6;
    const std::string address = client(random_.below(kClientsPerFamily), f);
    const uint16_t port = next_port(address);
    const bool tcp = random_.below(4) != 0;
    Expected& e = expected_[address];
    const bool bound = e.open > 0 || (!e.server.empty() && lab_.clock.now() < e.until);

    const uint32_t ending = random_.below(8);
    CoreLab::Connection c;
    if (!tcp) {
      c = lab_.datagram({address, port});
    } else if (ending < 2) {
      return half_open(address, port, bound ? e.server : "");
    } else {
      c = lab_.connect({address, port});
    }
    require(c.ok(), "a client was refused", number_);
    if (bound) require_same(address, e, c.server);
    e.server = c.server;
    if (!tcp) {
      // The client walks away; the flow closes by itself when it has been idle.
      e.until = std::max(e.until, lab_.clock.now() + kUdpIdle + kTimeout);
      return;
    }
    ++e.open;
    ports_open_.insert({address, port});
    open_.push_back(c);
    if (ending < 6) close(static_cast<uint32_t>(open_.size() - 1));
  }

  // A SYN that the server answers with a reset, or nobody answers: the binding is only embryonic,
  // so nothing may be relied on afterwards, but it must not break what was there.
  void half_open(const std::string& address, uint16_t port, const std::string& bound) {
    const bool v4 = address.find(':') == std::string::npos;
    const support::Flow up{address, port, v4 ? support::kVip4 : support::kVip6, 80};
    const auto out = lab_.send(support::tcp(up, packet::kTcpSyn));
    require(out.size() == 1 && out[0].port == 1, "a client was refused", number_);
    const auto p = support::parts(out[0].bytes);
    Expected& e = expected_[address];
    if (!bound.empty()) require_same(address, e, p.destination);
    if (e.open > 0) {
      e.server = p.destination;
    } else if (!bound.empty()) {
      // Its close is an activity of a confirmed binding; when nobody answers, that is 10 s from
      // now.
      e.server = p.destination;
      e.until = std::max(e.until, lab_.clock.now() + kTimeout);
    }
    if (random_.below(2) == 0) {
      const support::Flow down{p.destination, p.destination_port, p.source, p.source_port};
      lab_.send(support::tcp(down, packet::kTcpRst | packet::kTcpAck), 1);
    }
  }

  void require_same(const std::string& client, const Expected& e, const std::string& got) {
    if (got == e.server || down_[e.server]) return;
    std::fprintf(stderr, "%s: expected %s, got %s; %u open, bound until %lld, now %lld ns\n",
                 client.c_str(), e.server.c_str(), got.c_str(), e.open,
                 static_cast<long long>(e.until.ns), static_cast<long long>(lab_.clock.now().ns));
    require(false, "a client changed server", number_);
  }

  void close(uint32_t which) {
    const CoreLab::Connection c = open_[which];
    open_[which] = open_.back();
    open_.pop_back();
    Expected& e = expected_[c.client];
    require(e.open > 0, "the model lost count", number_);
    --e.open;
    ports_open_.erase({c.client, c.client_port});
    if (random_.below(3) == 0) {
      lab_.reset(c);
    } else {
      lab_.finish(c);
    }
    e.until = std::max(e.until, lab_.clock.now() + kTimeout);
  }

  void toggle_server() {
    const Family f = random_.below(2) == 0 ? Family::kV4 : Family::kV6;
    auto& server = lab_.world.server(f, random_.below(4));  // the fifth is always up
    const bool down = server.state == snapshot::ServerState::kUp;
    server.state = down ? snapshot::ServerState::kDown : snapshot::ServerState::kUp;
    const std::string address = server.address.to_string();
    down_[address] = down;
    lab_.publish();
    if (!down) return;
    // Its UDP flows end now.
    for (auto& [client, e] : expected_) {
      if (e.server == address) e.until = std::min(e.until, lab_.clock.now() + kTimeout);
    }
  }

  void drain() {
    while (!open_.empty()) close(static_cast<uint32_t>(open_.size() - 1));
    lab_.advance(seconds(130), milliseconds(20));
    auto& forwarder = lab_.core().forwarder();
    require(forwarder.flows().size() == 0, "flows are left", number_);
    require(lab_.ports_in_use() == 0, "source ports are left", number_);
    require(lab_.core().table().size() == 0, "bindings are left", number_);
    require(lab_.shared().bindings.count() == 0, "the count of bindings is not zero", number_);
    require(lab_.buffers().in_use() == 0, "buffers are left", number_);
    for (const Family f : {Family::kV4, Family::kV6}) {
      require(forwarder.vs(lab_.world.vs(f).slot).open == 0, "connections are counted", number_);
      for (uint32_t i = 0; i < 5; ++i) {
        const auto slot = lab_.world.server(f, i).slot;
        require(forwarder.loads()[slot.value].open == 0, "a server's load is left", number_);
      }
    }
  }

  base::Random random_;
  CoreLab lab_;
  std::unordered_map<std::string, Expected> expected_;
  std::unordered_map<std::string, bool> down_;
  std::vector<CoreLab::Connection> open_;
  std::set<std::pair<std::string, uint16_t>> ports_open_;
  uint32_t next_port_ = 0;
  uint64_t number_ = 0;
};

}  // namespace
}  // namespace limpet

int main(int argc, char** argv) {
  uint64_t connections = 1'000'000;
  uint64_t seed = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--connections") == 0)
      connections = std::strtoull(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--seed") == 0) seed = std::strtoull(argv[i + 1], nullptr, 10);
  }
  if (connections == 0) {
    std::fprintf(stderr, "soak: no connection was asked for\n");
    return 2;
  }
  limpet::Soak(seed).run(connections);
  std::printf("%llu connections, seed %llu: nothing leaked, no client changed server\n",
              static_cast<unsigned long long>(connections), static_cast<unsigned long long>(seed));
  return 0;
}
