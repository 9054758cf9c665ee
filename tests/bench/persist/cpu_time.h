// The CPU time of a benchmark's thread: what others do on a shared machine does not count, though
// the caches they use do.
#pragma once

#include <ctime>

namespace limpet::bench {

inline double thread_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

}  // namespace limpet::bench
