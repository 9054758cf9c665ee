// Pacer: lets at most one thing through per interval in the long run, and a burst of a few at once.
// It is the generic cell rate algorithm (ITU-T I.371 annex A): one instant is all its state.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/timing/time.h"

namespace limpet::slowpath {

class Pacer {
 public:
  // `burst` is at least 1.
  constexpr Pacer(timing::Duration interval, uint32_t burst)
      : interval_(interval), tolerance_(interval * (burst - 1)) {}

  // Whether one more may go now; if so, it is counted.
  bool take(timing::Instant now) {
    const timing::Instant from = std::max(paid_until_, now);
    if (from - now > tolerance_) return false;
    paid_until_ = from + interval_;
    return true;
  }

  // The earliest time at which take() says yes.
  timing::Instant ready_at() const { return paid_until_ - tolerance_; }

 private:
  timing::Duration interval_;
  timing::Duration tolerance_;
  timing::Instant paid_until_;
};

}  // namespace limpet::slowpath
