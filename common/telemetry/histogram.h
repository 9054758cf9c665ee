// DurationHistogram: how many of some durations were at most as long as each of a few bounds, from
// 0.1 ms to 10 s. One writer, who also reads. Costs a search among 19 bounds.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "common/timing/time.h"

namespace limpet::telemetry {

class DurationHistogram {
 public:
  // Upper bounds in microseconds, inclusive; what is longer is in the last bucket, which has none.
  static constexpr std::array<int64_t, 19> kBoundsUs = {
      100,    200,    500,     1'000,   2'000,   3'000,     4'000,     5'000,     7'500,     10'000,
      20'000, 50'000, 100'000, 200'000, 500'000, 1'000'000, 2'000'000, 5'000'000, 10'000'000};

  void observe(timing::Duration d) {
    // Round up: a bound's bucket holds nothing that is longer.
    const int64_t us = (std::max<int64_t>(d.count(), 0) + 999) / 1000;
    const auto at = std::lower_bound(kBoundsUs.begin(), kBoundsUs.end(), us);
    ++counts_[static_cast<std::size_t>(at - kBoundsUs.begin())];
    sum_ += std::max(d, timing::Duration::zero());
  }

  // How many were at most kBoundsUs[bound].
  uint64_t up_to(std::size_t bound) const {
    uint64_t sum = 0;
    for (std::size_t i = 0; i <= bound; ++i) sum += counts_[i];
    return sum;
  }
  uint64_t count() const { return up_to(kBoundsUs.size()); }
  timing::Duration sum() const { return sum_; }

 private:
  std::array<uint64_t, kBoundsUs.size() + 1> counts_{};
  timing::Duration sum_{};
};

}  // namespace limpet::telemetry
