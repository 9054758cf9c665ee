// A clock that stands still until it is moved: tests, simulations, and replay (where the packets'
// capture times move it).
#pragma once

#include "common/timing/time.h"

namespace limpet::timing {

class ManualClock final : public Clock {
 public:
  explicit ManualClock(Instant now = {}, WallTime wall = {}) : now_(now), wall_(wall) {}

  Instant now() const override { return now_; }
  WallTime wall() const override { return wall_; }

  // Moves both times forward; never back.
  void advance(Duration step) {
    if (step <= Duration::zero()) return;
    now_ = now_ + step;
    wall_ = wall_ + step;
  }

 private:
  Instant now_;
  WallTime wall_;
};

}  // namespace limpet::timing
