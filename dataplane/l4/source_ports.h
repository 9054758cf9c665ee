// SourcePorts: which ports of one source address are free towards one server (address, protocol,
// server ip:port), for one core. Cores share the range 1024-65535 in slices, so a reply's
// destination port names its owner.
//
// Made by the control thread, then owned by its worker. Order of use: the port that was freed
// longest ago, if the server cannot be in TIME_WAIT for it any more; else one that was never used;
// else, when nothing else is left, the one freed longest ago all the same.
//
// Cost: 6 bytes a port of the slice, of which only what was ever freed is touched; every call O(1).
#pragma once

#include <cstdint>
#include <memory>

#include "common/base/random.h"
#include "common/telemetry/counter.h"
#include "common/timing/time.h"

namespace limpet::l4 {

inline constexpr uint16_t kSourcePortFirst = 1024;
inline constexpr uint16_t kSourcePortLast = 65535;
inline constexpr timing::Duration kServerTimeWait = timing::seconds(60);

// The ports of core `core` out of `cores`.
struct PortSlice {
  uint16_t first = 0;
  uint16_t last = 0;

  static constexpr PortSlice of(uint32_t core, uint32_t cores) {
    const uint32_t all = kSourcePortLast - kSourcePortFirst + 1u;
    return {static_cast<uint16_t>(kSourcePortFirst + all * core / cores),
            static_cast<uint16_t>(kSourcePortFirst + all * (core + 1) / cores - 1)};
  }
  // The core whose slice holds `port`; a port below 1024 belongs to core 0.
  static constexpr uint32_t owner(uint16_t port, uint32_t cores) {
    if (port < kSourcePortFirst) return 0;
    const uint32_t all = kSourcePortLast - kSourcePortFirst + 1u;
    uint32_t core = (port - kSourcePortFirst) * cores / all;
    while (core + 1 < cores && port > of(core, cores).last) ++core;
    while (core > 0 && port < of(core, cores).first) --core;
    return core;
  }
};

class SourcePorts {
 public:
  SourcePorts(PortSlice slice, base::Random& random)
      : slice_(slice),
        count_(slice.last - slice.first + 1u),
        start_(random.below(count_)),
        freed_(new Freed[count_]) {}

  // A port, or 0 when all are in use.
  uint16_t take(timing::Instant now) {
    if (queued_ > 0 && (never_used_ == count_ || over(freed_[head_], now))) {
      const uint16_t port = freed_[head_].port;
      head_ = head_ + 1 == count_ ? 0 : head_ + 1;
      --queued_;
      ++in_use_;
      return port;
    }
    if (never_used_ == count_) return 0;
    const uint32_t offset = start_ + never_used_++;
    ++in_use_;
    return static_cast<uint16_t>(slice_.first + (offset >= count_ ? offset - count_ : offset));
  }

  void give_back(uint16_t port, timing::Instant now) {
    uint32_t tail = head_ + queued_;
    if (tail >= count_) tail -= count_;
    freed_[tail] = {port, static_cast<uint16_t>(seconds_of(now)),
                    static_cast<uint16_t>(seconds_of(now) >> 16)};
    ++queued_;
    --in_use_;
  }

  uint32_t in_use() const { return in_use_; }
  uint32_t capacity() const { return count_; }

 private:
  struct Freed {
    uint16_t port;
    uint16_t at_low;
    uint16_t at_high;
  };

  static uint32_t seconds_of(timing::Instant t) {
    return static_cast<uint32_t>(t.ns / 1'000'000'000);
  }
  static bool over(const Freed& f, timing::Instant now) {
    const uint32_t at = uint32_t{f.at_high} << 16 | f.at_low;
    return seconds_of(now) - at > kServerTimeWait / timing::seconds(1);
  }

  PortSlice slice_;
  uint32_t count_;
  uint32_t start_;           // where never-used ports begin: not guessable, as RFC 6056 asks
  uint32_t never_used_ = 0;  // counts up
  uint32_t head_ = 0;
  uint32_t queued_ = 0;
  telemetry::Counter32 in_use_;     // the control thread reads it
  std::unique_ptr<Freed[]> freed_;  // a ring; uninitialised beyond what was freed
};

}  // namespace limpet::l4
