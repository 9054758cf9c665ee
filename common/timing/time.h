// Monotonic and wall time are two types; nobody reads a clock but the Clock that is passed in.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>

namespace limpet::timing {

using Duration = std::chrono::nanoseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// A point of monotonic time: nanoseconds since an origin that means nothing.
struct Instant {
  int64_t ns = 0;

  friend constexpr auto operator<=>(Instant, Instant) = default;
  friend constexpr Instant operator+(Instant t, Duration d) { return {t.ns + d.count()}; }
  friend constexpr Instant operator-(Instant t, Duration d) { return {t.ns - d.count()}; }
  friend constexpr Duration operator-(Instant a, Instant b) { return Duration{a.ns - b.ns}; }

  static constexpr Instant never() { return {INT64_MAX}; }
};

// A point of calendar time: nanoseconds since 1970-01-01T00:00:00Z.
struct WallTime {
  int64_t ns = 0;

  friend constexpr auto operator<=>(WallTime, WallTime) = default;
  friend constexpr WallTime operator+(WallTime t, Duration d) { return {t.ns + d.count()}; }
  friend constexpr Duration operator-(WallTime a, WallTime b) { return Duration{a.ns - b.ns}; }
};

// The outside world's clock; virtual because it is read once per turn, not per packet.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() const = 0;
  virtual WallTime wall() const = 0;
};

}  // namespace limpet::timing
