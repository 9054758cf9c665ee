// SourcePorts: which ports of one source address are free towards one server (address, protocol,
// server ip:port), for one core. Cores share the range 1024-65535 in slices, so a reply's
// destination port names its owner.
//
// Made by the control thread, then owned by its worker. Order of use: the port that was freed
// longest ago, if the server cannot be in TIME_WAIT for it any more; else one that was never used.
// When no address has either, the one freed longest ago all the same; if nothing comes of that
// connection it is the next again, so that who tries again spoils no other port.
//
// Invariants
//  1. The ring holds the freed ports in the order in which they were freed. The first `old_` of
//     them are over TIME_WAIT; how many of the rest were freed in which second is in `lately_`, for
//     the seconds from `oldest_` to `latest_`, which are 61 at most. So no port needs a time of its
//     own. A port that was put back counts as freed when the next one was: rather too late.
//
// Cost: 2 bytes a port of the slice, of which only what was ever freed is touched, and three cache
// lines. Every call is O(1): a second is left behind once, however many calls there are in it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory_resource>

#include "common/base/random.h"
#include "common/telemetry/counter.h"
#include "common/timing/time.h"

namespace limpet::egress {

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

// Aligned, because those of several workers lie side by side.
class alignas(64) SourcePorts {
 public:
  // `memory` is asked once, for ring_bytes(slice), and must outlive this.
  SourcePorts(PortSlice slice, base::Random& random,
              std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : ring_(static_cast<uint16_t*>(memory->allocate(ring_bytes(slice), alignof(uint16_t)))),
        memory_(memory),
        slice_(slice),
        count_(ports_of(slice)),
        start_(random.below(count_)) {}
  SourcePorts(const SourcePorts&) = delete;
  SourcePorts& operator=(const SourcePorts&) = delete;
  ~SourcePorts() { memory_->deallocate(ring_, ring_bytes(slice_), alignof(uint16_t)); }

  static constexpr std::size_t ring_bytes(PortSlice slice) {
    return ports_of(slice) * sizeof(uint16_t);
  }
  // What one source address towards one server costs over all cores.
  static constexpr std::size_t bytes_for(uint32_t cores);

  // A port that the server cannot be in TIME_WAIT for, or 0: there is none. `now` never goes back.
  uint16_t take(timing::Instant now) {
    if (queued_ > 0) {
      age(second_of(now));
      if (old_ > 0) return take_longest_freed();
    }
    if (never_used_ == count_) return 0;
    const uint32_t offset = start_ + never_used_++;
    ++in_use_;
    return static_cast<uint16_t>(slice_.first + (offset >= count_ ? offset - count_ : offset));
  }

  // After that: the port freed longest ago, or 0 when all are in use.
  uint16_t take_lately_freed() { return queued_ == 0 ? uint16_t{0} : take_longest_freed(); }

  void give_back(uint16_t port, timing::Instant now) {
    age(second_of(now));
    uint32_t tail = head_ + queued_;
    if (tail >= count_) tail -= count_;
    ring_[tail] = port;
    ++lately(latest_);
    ++queued_;
    --in_use_;
  }

  // One of take_lately_freed() whose connection never came about.
  void put_back(uint16_t port, timing::Instant now) {
    age(second_of(now));
    head_ = head_ == 0 ? count_ - 1 : head_ - 1;
    ring_[head_] = port;
    if (old_ > 0) {
      ++old_;
    } else {
      ++lately(queued_ == 0 ? latest_ : first_lately());
    }
    ++queued_;
    --in_use_;
  }

  uint32_t in_use() const { return in_use_; }
  uint32_t capacity() const { return count_; }

 private:
  static constexpr int64_t kSeconds = kServerTimeWait / timing::seconds(1);
  static constexpr int64_t kBeforeAll = std::numeric_limits<int64_t>::min() / 2;

  static constexpr uint32_t ports_of(PortSlice slice) { return slice.last - slice.first + 1u; }
  static constexpr int64_t second_of(timing::Instant t) { return t.ns / 1'000'000'000; }

  uint16_t& lately(int64_t second) {
    return lately_[static_cast<uint64_t>(second) % lately_.size()];
  }

  // It is `second` now: what was freed more than kSeconds before is over TIME_WAIT.
  void age(int64_t second) {
    if (second <= latest_) return;
    const int64_t first_kept = second - kSeconds;
    for (; oldest_ < first_kept && oldest_ <= latest_; ++oldest_) {
      old_ += lately(oldest_);
      lately(oldest_) = 0;
    }
    if (oldest_ < first_kept) oldest_ = first_kept;
    latest_ = second;
  }

  // The second in which the first of the ring was freed; none of it is over TIME_WAIT.
  int64_t first_lately() {
    while (lately(oldest_) == 0) ++oldest_;
    return oldest_;
  }

  uint16_t take_longest_freed() {
    if (old_ > 0) {
      --old_;
    } else {
      --lately(first_lately());
    }
    const uint16_t port = ring_[head_];
    head_ = head_ + 1 == count_ ? 0 : head_ + 1;
    --queued_;
    ++in_use_;
    return port;
  }

  uint16_t* ring_;  // uninitialised beyond what was freed
  std::pmr::memory_resource* memory_;
  PortSlice slice_;
  uint32_t count_;
  uint32_t start_;           // where never-used ports begin: not guessable, as RFC 6056 asks
  uint32_t never_used_ = 0;  // counts up
  uint32_t head_ = 0;
  uint32_t queued_ = 0;
  uint32_t old_ = 0;
  telemetry::Counter32 in_use_;  // the control thread reads it
  int64_t oldest_ = kBeforeAll;
  int64_t latest_ = kBeforeAll;
  std::array<uint16_t, 64> lately_{};  // by second: how many were freed in it
};
static_assert(sizeof(SourcePorts) == 3 * 64);
static_assert(kServerTimeWait / timing::seconds(1) < 64, "each second has its own place");
static_assert(kSourcePortLast - kSourcePortFirst < 0xffff, "all ports may be freed in one second");

constexpr std::size_t SourcePorts::bytes_for(uint32_t cores) {
  std::size_t bytes = 0;
  for (uint32_t core = 0; core < cores; ++core)
    bytes += ring_bytes(PortSlice::of(core, cores)) + sizeof(SourcePorts);
  return bytes;
}

}  // namespace limpet::egress
