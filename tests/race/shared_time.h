// Time that one thread moves and all threads read.
#pragma once

#include <atomic>
#include <cstdint>

#include "common/timing/time.h"

namespace limpet {

// The control thread alone moves it.
class SharedTime {
 public:
  timing::Instant now() const { return {ns_.load(std::memory_order_relaxed)}; }
  void advance(timing::Duration by) { ns_.store(now().ns + by.count(), std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> ns_{1'000'000'000};
};

}  // namespace limpet
