// Workers: one thread a worker, on the logical core that Eal made for it.
//
// Thread: the control thread. A function that was launched runs until it returns; asking it to is
// the caller's business (a flag it looks at each turn).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "common/base/result.h"

namespace limpet::port {

class Workers {
 public:
  // `count` as in EalOptions::worker_cores.
  explicit Workers(uint32_t count) : functions_(count), running_(count, false) {}
  // Waits for all of them.
  ~Workers() { join(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Runs `function` on worker `w`'s core. Error: it is still busy, or Eal has no such core.
  base::Status launch(uint32_t w, std::function<void()> function);
  // Returns when every function that was launched has returned.
  void join();

 private:
  std::vector<std::function<void()>> functions_;  // by worker
  std::vector<bool> running_;
  std::atomic<uint32_t> returned_{0};  // functions that have returned, ever
};

// The NUMA node of worker `w`'s core, for TableMemory; of the control thread's for kControl.
inline constexpr uint32_t kControl = UINT32_MAX;
int numa_node_of(uint32_t w);

}  // namespace limpet::port
