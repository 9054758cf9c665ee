#include "dataplane/port/cpus.h"

#include <pthread.h>

namespace limpet::port {

Cpus Cpus::of_this_thread() {
  Cpus out;
  pthread_getaffinity_np(pthread_self(), sizeof(out.set_), &out.set_);
  return out;
}

Cpus Cpus::without(std::span<const uint32_t> taken) const {
  Cpus out = *this;
  for (const uint32_t cpu : taken) {
    if (cpu < CPU_SETSIZE) CPU_CLR(cpu, &out.set_);
  }
  if (CPU_COUNT(&out.set_) == 0 && !taken.empty() && taken.front() < CPU_SETSIZE)
    CPU_SET(taken.front(), &out.set_);
  return out;
}

OnCpus::OnCpus(const Cpus& cpus) : before_(Cpus::of_this_thread()) {
  pthread_setaffinity_np(pthread_self(), sizeof(cpus.set_), &cpus.set_);
}

OnCpus::~OnCpus() {
  pthread_setaffinity_np(pthread_self(), sizeof(before_.set_), &before_.set_);
}

}  // namespace limpet::port
