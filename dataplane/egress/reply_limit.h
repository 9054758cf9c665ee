// ReplyLimit: how many answers anybody can make this engine send.
#pragma once

#include <cstdint>

#include "common/timing/time.h"

namespace limpet::egress {

// Replies that anybody can ask for (resets, ICMP errors) share a bucket of tokens.
class ReplyLimit {
 public:
  static constexpr int64_t kPerSecond = 10'000;
  static constexpr int64_t kBurst = 2'000;

  bool allow(timing::Instant now) {
    constexpr int64_t kCostNs = 1'000'000'000 / kPerSecond;
    const int64_t full = now.ns - kBurst * kCostNs;
    if (paid_until_ns_ < full) paid_until_ns_ = full;
    if (paid_until_ns_ + kCostNs > now.ns) return false;
    paid_until_ns_ += kCostNs;
    return true;
  }

 private:
  int64_t paid_until_ns_ = 0;
};

}  // namespace limpet::egress
