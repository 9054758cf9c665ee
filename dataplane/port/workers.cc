#include "dataplane/port/workers.h"

#include <fmt/format.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include <utility>

#include "common/base/assert.h"
#include "dataplane/port/eal.h"

namespace limpet::port {

namespace {

unsigned lcore_of(uint32_t w) {
  return w == kControl ? 0 : w + 1;
}

int run(void* function) {
  (*static_cast<std::function<void()>*>(function))();
  return 0;
}

}  // namespace

base::Status Workers::launch(uint32_t w, std::function<void()> function) {
  LIMPET_ASSERT(w < functions_.size());
  if (running_[w]) {
    if (rte_eal_get_lcore_state(lcore_of(w)) == RUNNING)
      return base::Error{"", fmt::format("worker {} is still running", w)};
    rte_eal_wait_lcore(lcore_of(w));
  }
  // What a worker wrote is the joining thread's to read; DPDK's own hand-over is inside a library
  // that the thread sanitizer cannot see into.
  functions_[w] = [this, function = std::move(function)] {
    function();
    returned_.fetch_add(1, std::memory_order_release);
  };
  const int error = rte_eal_remote_launch(run, &functions_[w], lcore_of(w));
  if (error != 0)
    return base::Error{fmt::format("/worker_cores/{}", w),
                       fmt::format("worker {} does not start: {}", w, error_text(error))};
  running_[w] = true;
  return base::Done{};
}

void Workers::join() {
  for (uint32_t w = 0; w < functions_.size(); ++w) {
    if (!running_[w]) continue;
    rte_eal_wait_lcore(lcore_of(w));
    running_[w] = false;
  }
  static_cast<void>(returned_.load(std::memory_order_acquire));
}

int numa_node_of(uint32_t w) {
  return static_cast<int>(rte_lcore_to_socket_id(lcore_of(w)));
}

}  // namespace limpet::port
