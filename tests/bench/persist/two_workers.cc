// two_workers: connections per second of one core and of two, each on a CPU of its own, when every
// client has its binding already. One line of JSON.
//
//   bench_persist_two_workers [--clients N] [--seconds N] [--rounds N] [--cpus A,B]
//
// Every client opens and resets one connection for each of two cores in a pass, in random order:
// one core gets all of them, of two each gets those that the steerer gives it. A rate is per second
// of a worker's own CPU time, so that others on the machine take nothing off it but caches; that of
// two workers is the sum. That every connection was a hit, and that hits sent no message, is
// checked by counters. Clients keep their addresses: two cores would share out the source ports of
// a translation, and each work with half as many.
//
// Two CPUs may be threads of one core, and share caches, memory and power in any case: one alone is
// then faster than each of two, whatever they run. So one worker is measured twice: alone, and
// beside the one worker of another engine, with which it has nothing in common but the machine. The
// ratio is to the latter: what is lost then is lost by what the workers of an engine share.
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <latch>
#include <string_view>
#include <thread>

#include "dataplane/port/clock.h"
#include "tests/bench/persist/cpu_time.h"
#include "tests/bench/persist/engine.h"

namespace limpet::bench {
namespace {

struct Settings {
  uint32_t clients = 65536;
  double seconds = 0.25;
  uint32_t rounds = 15;
  std::array<int, 2> cpus{0, 1};
};

struct Connection {
  uint32_t client;
  uint16_t port;
};

// One core's thread: the connections that come to it, and buffers for a burst of packets.
class Worker {
 public:
  Worker(Engine& engine, uint32_t core, const timing::Clock& clock)
      : engine_(engine), core_(core), clock_(clock) {}

  void add(const Connection& c) { connections_.push_back(c); }
  void shuffle(base::Random& random) {
    for (std::size_t i = connections_.size(); i > 1; --i)
      std::swap(connections_[i - 1], connections_[random.below(static_cast<uint32_t>(i))]);
  }

  void run(std::latch& ready, const std::atomic<bool>& stop) {
    for (std::size_t i = 0; i < connections_.size(); i += kConnectionsPerBurst) burst();
    ready.arrive_and_wait();
    const uint64_t before = engine_.connections(core_);
    const double begin = thread_cpu_seconds();
    while (!stop.load(std::memory_order_relaxed)) burst();
    const double seconds = thread_cpu_seconds() - begin;
    rate_ = static_cast<double>(engine_.connections(core_) - before) / seconds;
  }
  double rate() const { return rate_; }

 private:
  static constexpr uint32_t kConnectionsPerBurst = base::kBurstPacketsMax / 2;

  void burst() {
    worker::Core& core = engine_.core(core_);
    for (uint32_t i = 0; i < kConnectionsPerBurst; ++i) {
      const Connection& c = connections_[at_];
      at_ = at_ + 1 == connections_.size() ? 0 : at_ + 1;
      for (const uint8_t flags : {packet::kTcpSyn, packet::kTcpRst})
        engine_.arrive(core_, buffers_.holding(engine_.frame(c.client, c.port, flags)));
    }
    engine_.turn(core_, clock_.now());
    auto& sent = core.output().tx(1);
    if (sent.size() != base::kBurstPacketsMax) fail("a packet was not forwarded");
    for (packet::Buffer* b : sent) buffers_.give_back(b);
    sent.clear();
  }

  Engine& engine_;
  const uint32_t core_;
  const timing::Clock& clock_;
  Buffers buffers_{base::kBurstPacketsMax};
  std::vector<Connection> connections_;
  std::size_t at_ = 0;
  double rate_ = 0;
};

// An engine of `cores` cores and what comes to it.
class Side {
 public:
  Side(uint32_t cores, const Settings& settings, const timing::Clock& clock)
      : engine_({.cores = cores,
                 .entries = settings.clients,
                 .flows = 1024,
                 .preserve_client = true,
                 .timeout = timing::seconds(36000)}) {
    engine_.bind(settings.clients, clock.now());
    for (uint32_t c = 0; c < cores; ++c)
      workers_.push_back(std::make_unique<Worker>(engine_, c, clock));
    base::Random random(7);
    for (uint32_t i = 0; i < settings.clients; ++i) {
      uint16_t port = 1023;
      for (uint32_t n = 0; n < 2; ++n) {
        port = engine_.port_for(i, n % cores, static_cast<uint16_t>(port + 1));
        workers_[n % cores]->add({i, port});
      }
    }
    for (auto& worker : workers_) worker->shuffle(random);
  }

  Engine& engine() { return engine_; }
  Worker& worker(uint32_t w) { return *workers_[w]; }
  uint64_t connections() const {
    uint64_t sum = 0;
    for (uint32_t c = 0; c < engine_.cores(); ++c) sum += engine_.connections(c);
    return sum;
  }

 private:
  Engine engine_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Lets workers run at the same time, each on its CPU; afterwards they have their rates.
void work(const Settings& settings, const std::vector<Worker*>& workers) {
  std::latch ready(static_cast<std::ptrdiff_t>(workers.size()) + 1);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (std::size_t w = 0; w < workers.size(); ++w) {
    threads.emplace_back([&, w] {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(static_cast<std::size_t>(settings.cpus[w]), &set);
      if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0) fail("no such CPU");
      workers[w]->run(ready, stop);
    });
  }
  ready.arrive_and_wait();
  std::this_thread::sleep_for(std::chrono::duration<double>(settings.seconds));
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
}

void run(const Settings& settings) {
  const port::TscClock clock;
  Side one(1, settings, clock), neighbor(1, settings, clock), two(2, settings, clock);
  const Messages before = two.engine().messages();
  const uint64_t news = two.engine().news();
  std::vector<double> alone, beside, twos, ratios;
  for (uint32_t round = 0; round < settings.rounds; ++round) {
    work(settings, {&one.worker(0)});
    alone.push_back(one.worker(0).rate());
    work(settings, {&one.worker(0), &neighbor.worker(0)});
    beside.push_back(one.worker(0).rate());
    work(settings, {&two.worker(0), &two.worker(1)});
    twos.push_back(two.worker(0).rate() + two.worker(1).rate());
    ratios.push_back(twos.back() / beside.back());
  }
  const uint64_t messages = (two.engine().messages() - before).sum() + two.engine().news() - news;
  if (messages != 0) fail("hits sent " + std::to_string(messages) + " messages");
  std::printf(
      "{\"name\": \"two_workers\", \"value\": %.0f, \"unit\": \"connections/s\", \"reference\": "
      "\"one "
      "worker beside another engine's\", \"reference_value\": %.0f, \"ratio\": %.4f, \"alone\": "
      "%.0f, "
      "\"connections\": %llu, \"messages\": %llu}\n",
      median(twos), median(beside), median(ratios), median(alone),
      static_cast<unsigned long long>(two.connections()),
      static_cast<unsigned long long>(messages));
}

}  // namespace
}  // namespace limpet::bench

int main(int argc, char** argv) {
  limpet::bench::Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    const char* value = argv[i + 1];
    if (option == "--clients") settings.clients = static_cast<uint32_t>(std::atoi(value));
    if (option == "--seconds") settings.seconds = std::atof(value);
    if (option == "--rounds") settings.rounds = static_cast<uint32_t>(std::atoi(value));
    if (option == "--cpus" &&
        std::sscanf(value, "%d,%d", &settings.cpus[0], &settings.cpus[1]) != 2)
      limpet::bench::fail("--cpus is A,B");
  }
  limpet::bench::run(settings);
  return 0;
}
