// TscClock: the engine's clock. Reading it costs a few nanoseconds and no system call.
//
// Threads: immutable after construction; any thread may read it.
//
// Invariant: now() never goes back on a machine whose TSC is invariant (the kernel's `nonstop_tsc`
// and `constant_tsc`); on any other, now() is CLOCK_MONOTONIC, 25 ns a reading.
//
// Why not rte_get_tsc_hz(): where the processor does not name its rate (many virtual machines) DPDK
// rounds its measurement to 10 MHz, up to 0.2 %, which is 40 s in a timeout of six hours.
#pragma once

#include <rte_cycles.h>

#include <cstdint>

#include "common/timing/time.h"

namespace limpet::port {

// Ticks to nanoseconds by one 64 x 64 -> 128 bit multiplication: exact to 1 ns per 4 s, and no
// overflow in 500 years.
class TickRate {
 public:
  constexpr explicit TickRate(uint64_t hz)
      : multiplier_(static_cast<uint64_t>((Wide{1'000'000'000} << kShift) / hz)) {}

  constexpr int64_t nanoseconds(uint64_t ticks) const {
    return static_cast<int64_t>((Wide{ticks} * multiplier_) >> kShift);
  }

 private:
  __extension__ using Wide = unsigned __int128;
  static constexpr int kShift = 32;

  uint64_t multiplier_;
};

class TscClock final : public timing::Clock {
 public:
  // Measures the rate of the TSC against CLOCK_MONOTONIC for 50 ms.
  TscClock();

  // Zero at construction.
  timing::Instant now() const override {
    if (!invariant_) return monotonic();
    return {rate_.nanoseconds(rte_rdtsc() - origin_)};
  }
  // CLOCK_REALTIME, so it follows what sets the host's time.
  timing::WallTime wall() const override;

 private:
  timing::Instant monotonic() const;

  bool invariant_;
  uint64_t origin_;  // ticks
  int64_t origin_ns_;
  TickRate rate_;
};

// The time that the calling thread has had a processor, since it began.
timing::Duration thread_time();

// In a loop that waits for another thread: lets the other hyperthread run.
void pause();

// Gives the CPU away for about `duration`; a worker does so after many empty polls when
// `idle_sleep_us` says so. The caller must be offline at its snapshot::Reader.
void idle_sleep(timing::Duration duration);

}  // namespace limpet::port
