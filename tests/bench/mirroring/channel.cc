// channel: mirroring alone, without homes and workers: two processes, each with an UpdateList and a
// Transport, over loopback sockets with TLS. The first has bindings, the second has none: what a
// full resync takes, in time, in bytes and in CPU time of both. One line of JSON.
//
//   bench_mirroring_channel [--entries N] [--rounds N] [--secret FILE] [--port N]
//
// The second puts what arrives into its own list, as an engine's control thread does when its homes
// have merged it. Without --secret: plaintext.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/limits.h"
#include "control/mirroring/transport.h"
#include "tests/bench/persist/cpu_time.h"

namespace limpet::bench {
namespace {

using mirroring::Arrival;
using mirroring::Session;
using mirroring::Transport;
using mirroring::UpdateList;

constexpr binding::ScopeId kScope{7};
constexpr int kGiveUpSeconds = 120;

class MonotonicClock final : public timing::Clock {
 public:
  timing::Instant now() const override {
    return {std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1)};
  }
  timing::WallTime wall() const override { return {}; }
};

struct Options {
  uint32_t entries = 1'000'000;
  uint32_t rounds = 5;
  uint16_t port = 19'090;
  std::optional<std::string> secret;
};

// What a round says of one process.
struct Usage {
  double seconds = 0;      // from the session's beginning until all was there
  double cpu_seconds = 0;  // of the process in that time
  uint64_t bytes = 0;      // sent by the first
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "channel: %s\n", what.c_str());
  std::_Exit(1);
}

binding::Key key_of(uint32_t n) {
  return binding::Key::of(net::Address::v4_host(0x0a000000u + n));
}

class Node final : public mirroring::Home {
 public:
  Node(const Options& options, bool first)
      : random_(first ? 1 : 2),
        hash_(random_),
        list_({.entries = options.entries, .tombstones = 1024, .peers = 1}, hash_,
              std::pmr::get_default_resource()) {
    options_.name = first ? "first" : "second";
    for (uint8_t& byte : options_.boot.bytes) byte = static_cast<uint8_t>(random_.next() | 1);
    // "first" sorts first: it connects.
    const auto loopback = *net::Address::parse("127.0.0.1");
    options_.listen = {loopback, first ? uint16_t{0} : options.port};
    options_.peers = {{first ? "second" : "first", {loopback, first ? options.port : uint16_t{1}}}};
    options_.table_limit = options.entries;
    if (options.secret) options_.secret_file = *options.secret;
  }

  // In the order of the list they lie all over the memory, as after a while of renewed activity.
  void fill(uint32_t entries) {
    binding::StampClock stamps(1);
    std::vector<uint32_t> order(entries);
    std::iota(order.begin(), order.end(), 0u);
    fill(order, stamps);
    for (uint32_t n = entries; n > 1; --n) std::swap(order[n - 1], order[random_.below(n)]);
    fill(order, stamps);
  }

  bool deliver(const Arrival& a) override {
    arrived_.push_back({.scope = a.scope,
                        .key = a.key,
                        .record = a.record,
                        .act_at = a.act_at,
                        .told = mirroring::Told::kNobody,
                        .source = a.source});
    if (arrived_.size() == base::kBurstPacketsMax) take_arrived();
    return true;
  }

  // Until `bindings` are on both sides.
  Usage run(uint32_t bindings) {
    auto opened = Transport::open(io_, options_, list_, *this, clock_);
    if (!opened.ok()) fail(opened.errors()[0].message);
    const auto transport = std::move(opened.value());
    transport->start();
    const mirroring::Peer& peer = transport->engine().peers[0];
    const auto give_up = clock_.now() + timing::seconds(kGiveUpSeconds);
    std::optional<timing::Instant> begun;
    double cpu = 0;
    while (!transport->status()[0].synced || list_.size() < bindings) {
      io_.run_one_for(timing::milliseconds(20));
      take_arrived();
      if (!begun && peer.live != nullptr) {
        begun = clock_.now();
        cpu = thread_cpu_seconds();
      }
      if (clock_.now() > give_up) fail("they do not sync");
    }
    const Usage used{static_cast<double>((clock_.now() - *begun).count()) / 1e9,
                     thread_cpu_seconds() - cpu, peer.counters.bytes_sent};
    // The other may not know yet that all is there.
    for (int i = 0; i < 20; ++i) io_.run_one_for(timing::milliseconds(10));
    transport->close();
    return used;
  }

 private:
  void fill(const std::vector<uint32_t>& order, binding::StampClock& stamps) {
    for (const uint32_t n : order) {
      const binding::Stamp stamp = stamps.next({1'800'000'000'000'000'000});
      const binding::ServerId server{1 + n % 16};
      arrived_.push_back(
          {.scope = kScope,
           .key = key_of(n),
           .record = {.stamp = stamp, .server = server, .first = server, .act = stamp},
           .act_at = clock_.now(),
           .source = {}});
      if (arrived_.size() == base::kBurstPacketsMax) take_arrived();
    }
    take_arrived();
  }

  // As an engine does with a burst of what its homes say.
  void take_arrived() {
    if (arrived_.empty()) return;
    const timing::Instant now = clock_.now();
    for (const auto& update : arrived_) list_.prefetch_index(update.scope, update.key);
    for (const auto& update : arrived_) list_.prefetch_entry(update.scope, update.key);
    for (const auto& update : arrived_)
      if (!list_.update(update, now)) fail("the list is full");
    arrived_.clear();
  }

  MonotonicClock clock_;
  base::Random random_;
  base::KeyedHash hash_;
  UpdateList list_;
  std::vector<mirroring::Update> arrived_;
  boost::asio::io_context io_;
  mirroring::TransportOptions options_;
};

// Runs a node in a child; what it used comes over a pipe.
int start(const Options& options, bool first, int* pid) {
  int ends[2];
  if (pipe(ends) != 0) fail("pipe");
  *pid = fork();
  if (*pid != 0) {
    close(ends[1]);
    return ends[0];
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Node node(options, first);
  if (first) node.fill(options.entries);
  const Usage used = node.run(options.entries);
  if (write(ends[1], &used, sizeof used) != sizeof used) fail("write");
  std::_Exit(0);
}

Usage finish(int end, int pid) {
  Usage used;
  const bool whole = read(end, &used, sizeof used) == sizeof used;
  close(end);
  int status = 0;
  waitpid(pid, &status, 0);
  if (!whole || status != 0) fail("a node failed");
  return used;
}

void measure(const Options& options) {
  std::vector<double> seconds, cpu_first, cpu_second;
  uint64_t bytes = 0;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    int pids[2];
    int ends[2];
    for (const bool first : {false, true}) ends[first] = start(options, first, &pids[first]);
    const Usage second = finish(ends[0], pids[0]);
    const Usage first = finish(ends[1], pids[1]);
    seconds.push_back(second.seconds);
    cpu_first.push_back(first.cpu_seconds);
    cpu_second.push_back(second.cpu_seconds);
    bytes = first.bytes;
  }
  const auto median = [](std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  };
  std::printf(
      "{\"name\": \"channel\", \"entries\": %u, \"seconds\": %.4f, \"best_seconds\": %.4f, "
      "\"sender_cpu_s\": %.4f, \"receiver_cpu_s\": %.4f, \"bytes\": %llu}\n",
      options.entries, median(seconds), *std::min_element(seconds.begin(), seconds.end()),
      median(cpu_first), median(cpu_second), static_cast<unsigned long long>(bytes));
}

}  // namespace
}  // namespace limpet::bench

int main(int argc, char** argv) {
  limpet::bench::Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    const auto number = static_cast<uint32_t>(std::strtoul(argv[i + 1], nullptr, 10));
    if (option == "--entries") options.entries = number;
    if (option == "--rounds") options.rounds = number;
    if (option == "--port") options.port = static_cast<uint16_t>(number);
    if (option == "--secret") options.secret = argv[i + 1];
  }
  limpet::bench::measure(options);
  return 0;
}
