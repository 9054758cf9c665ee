// Runs simulations of a whole engine, each from one seed: real cores, frames and rings, every stage
// of every core in an order that the seed decides.
//
//   sim --seed S [--steps N]                          one world
//   sim --seeds N [--first F] [--steps N] [--budget CPU_SECONDS]
//   ... --cluster                                     several engines that mirror each other
//   ... --go-on                                       past seeds that fail
//   ... --verbose                                     what has happened, in numbers
//
// A seed that fails says which promise was broken, what happened to that key before, and the
// command that does it again. Exit status 0: nothing was violated; 2: nothing was run.
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "tests/sim/cluster.h"
#include "tests/sim/simulation.h"

namespace limpet::sim {
namespace {

struct Options {
  uint64_t first = 1;
  uint64_t seeds = 1;
  uint32_t steps = 0;  // 0: as many as are usual
  double budget_s = 1e9;
  bool cluster = false;
  bool verbose = false;
  bool go_on = false;
};

// What the handler of a failed assertion needs.
struct Running {
  uint64_t seed = 0;
  uint32_t steps = 0;
  bool cluster = false;
  const Trace* trace = nullptr;
} running;

void report(const char* checker, const char* what, const KeyId& key) {
  std::fprintf(stderr, "seed %llu: VIOLATED %s: %s\n",
               static_cast<unsigned long long>(running.seed), checker, what);
  if (running.trace != nullptr) std::fputs(running.trace->text(key).c_str(), stderr);
  std::fprintf(stderr, "again: build/tests/sim/sim%s --seed %llu --steps %u\n",
               running.cluster ? " --cluster" : "", static_cast<unsigned long long>(running.seed),
               running.steps);
}

void assertion_failed(int) {
  report("assertion", "see above", {});
  _exit(1);
}

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_utime.tv_sec) +
         static_cast<double>(used.ru_utime.tv_usec) / 1e6;
}

template <class World>
bool run_one(uint64_t seed, const Options& options, std::map<std::string, uint64_t>& totals) {
  running = {seed, options.steps, options.cluster, nullptr};
  bool good = true;
  try {
    World world(seed);
    running.trace = &world.trace();
    try {
      world.run(options.steps);
    } catch (const Violation& v) {
      report(v.checker.c_str(), v.what.c_str(), v.key);
      good = false;
    }
    world.count(totals);
    running.trace = nullptr;
  } catch (const Violation& v) {
    report(v.checker.c_str(), v.what.c_str(), v.key);
    good = false;
  }
  return good;
}

}  // namespace

int run(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const auto is = [&](const char* name) { return std::strcmp(argv[i], name) == 0; };
    if (is("--verbose")) {
      options.verbose = true;
      continue;
    }
    if (is("--go-on")) {
      options.go_on = true;
      continue;
    }
    if (is("--cluster")) {
      options.cluster = true;
      continue;
    }
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (is("--seed") || is("--first")) {
      options.first = std::strtoull(value, nullptr, 10);
    } else if (is("--seeds")) {
      options.seeds = std::strtoull(value, nullptr, 10);
    } else if (is("--steps")) {
      options.steps = static_cast<uint32_t>(std::strtoul(value, nullptr, 10));
    } else if (is("--budget")) {
      options.budget_s = std::strtod(value, nullptr);
    } else {
      std::fprintf(stderr, "sim: no such option: %s\n", argv[i]);
      return 2;
    }
    ++i;
  }
  if (options.steps == 0) options.steps = options.cluster ? 6000 : 8000;
  std::signal(SIGABRT, assertion_failed);
  std::map<std::string, uint64_t> totals;
  uint64_t done = 0;
  uint64_t failed = 0;
  for (; done < options.seeds && cpu_seconds() < options.budget_s; ++done) {
    const uint64_t seed = options.first + done;
    const bool good = options.cluster ? run_one<Cluster>(seed, options, totals)
                                      : run_one<Simulation>(seed, options, totals);
    failed += good ? 0 : 1;
    if (!good && !options.go_on) return 1;
  }
  if (done == 0) {
    std::fprintf(stderr, "sim: no seed was run\n");
    return 2;
  }
  for (const auto& [name, n] : totals) {
    if (options.verbose)
      std::printf("%-26s %12llu\n", name.c_str(), static_cast<unsigned long long>(n));
  }
  if (failed != 0) {
    std::printf("%llu of %llu seeds from %llu on failed\n", static_cast<unsigned long long>(failed),
                static_cast<unsigned long long>(done),
                static_cast<unsigned long long>(options.first));
    return 1;
  }
  std::printf("%llu seeds from %llu on, %.0f s of processor: nothing was violated\n",
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(options.first),
              cpu_seconds());
  return 0;
}

}  // namespace limpet::sim

int main(int argc, char** argv) {
  return limpet::sim::run(argc, argv);
}
