// Cpus: on which processors a thread may run. A thread inherits them from the one that makes it.
#pragma once

#include <sched.h>

#include <cstdint>
#include <span>

namespace limpet::port {

class Cpus {
 public:
  // Those of the calling thread.
  static Cpus of_this_thread();

  // These without `taken`; only the first of `taken` when nothing would be left.
  Cpus without(std::span<const uint32_t> taken) const;
  bool has(uint32_t cpu) const { return cpu < CPU_SETSIZE && CPU_ISSET(cpu, &set_); }

 private:
  friend class OnCpus;
  Cpus() { CPU_ZERO(&set_); }

  cpu_set_t set_;
};

// While it lives the calling thread runs on these, and so does for ever each thread that it makes
// meanwhile.
class OnCpus {
 public:
  explicit OnCpus(const Cpus& cpus);
  ~OnCpus();
  OnCpus(const OnCpus&) = delete;
  OnCpus& operator=(const OnCpus&) = delete;

 private:
  const Cpus before_;
};

}  // namespace limpet::port
