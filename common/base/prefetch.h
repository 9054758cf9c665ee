// Asking for memory some time before it is read.
#pragma once

namespace limpet::base {

// The cache line of this address, for reading and writing; any address may be asked for.
// Not __builtin_prefetch: gcc 12 takes a function that does nothing else for one without effects,
// and drops the calls to it.
// DPDK's rte_prefetch0() does the same, where DPDK may be included.
inline void prefetch(const void* at) {
#if defined(__x86_64__)
  asm volatile("prefetcht0 (%0)" : : "r"(at));
#elif defined(__aarch64__)
  asm volatile("prfm pldl1keep, [%0]" : : "r"(at));
#else
  __builtin_prefetch(at);
#endif
}

// All of an object that begins on a cache line, or of the lines that it begins on.
template <class T>
void prefetch_all(const T* object) {
  for (unsigned at = 0; at < sizeof(T); at += 64)
    prefetch(reinterpret_cast<const char*>(object) + at);
}

}  // namespace limpet::base
