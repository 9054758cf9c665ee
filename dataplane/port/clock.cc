#include "dataplane/port/clock.h"

#include <rte_cpuflags.h>
#include <rte_pause.h>
#include <time.h>

#include <cerrno>

namespace limpet::port {

namespace {

constexpr int64_t kMeasureNs = 50'000'000;

int64_t read_ns(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// The same moment on both clocks.
struct Pair {
  uint64_t ticks = 0;
  int64_t ns = 0;
};

// Of several tries the one with the fewest ticks around the system clock's reading, so that being
// interrupted in between does not matter.
Pair read_pair() {
  Pair best;
  uint64_t best_gap = UINT64_MAX;
  for (int i = 0; i < 16; ++i) {
    const uint64_t before = rte_rdtsc_precise();
    const int64_t ns = read_ns(CLOCK_MONOTONIC);
    const uint64_t gap = rte_rdtsc_precise() - before;
    if (gap >= best_gap) continue;
    best_gap = gap;
    best = {before + gap / 2, ns};
  }
  return best;
}

uint64_t measure_hz() {
  const Pair begin = read_pair();
  while (read_ns(CLOCK_MONOTONIC) - begin.ns < kMeasureNs) rte_pause();
  const Pair end = read_pair();
  const double ticks = static_cast<double>(end.ticks - begin.ticks);
  return static_cast<uint64_t>(ticks * 1e9 / static_cast<double>(end.ns - begin.ns));
}

bool tsc_is_invariant() {
#ifdef RTE_ARCH_X86
  return rte_cpu_get_flag_enabled(RTE_CPUFLAG_INVTSC) == 1;
#else
  return true;  // elsewhere rte_rdtsc() reads an architected counter of constant rate
#endif
}

}  // namespace

TscClock::TscClock()
    : invariant_(tsc_is_invariant()),
      origin_(rte_rdtsc()),
      origin_ns_(read_ns(CLOCK_MONOTONIC)),
      rate_(invariant_ ? measure_hz() : 1'000'000'000) {}

timing::Instant TscClock::monotonic() const {
  return {read_ns(CLOCK_MONOTONIC) - origin_ns_};
}

timing::WallTime TscClock::wall() const {
  return {read_ns(CLOCK_REALTIME)};
}

timing::Duration thread_time() {
  return timing::Duration(read_ns(CLOCK_THREAD_CPUTIME_ID));
}

void pause() {
  rte_pause();
}

void idle_sleep(timing::Duration duration) {
  constexpr int64_t kSecond = 1'000'000'000;
  const timespec wait{.tv_sec = duration.count() / kSecond, .tv_nsec = duration.count() % kSecond};
  nanosleep(&wait, nullptr);  // a signal ends it early, which is as good
}

}  // namespace limpet::port
