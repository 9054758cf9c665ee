// Calendar arithmetic by <chrono>'s own civil calendar, so that neither the time zone nor the
// locale of the process matters.
#include "common/telemetry/timestamp.h"

#include <fmt/format.h>

#include <chrono>

namespace limpet::telemetry {

std::string rfc3339(timing::WallTime time) {
  using std::chrono::days;
  using std::chrono::milliseconds;
  const auto since_epoch = std::chrono::floor<milliseconds>(std::chrono::nanoseconds{time.ns});
  const auto whole_days = std::chrono::floor<days>(since_epoch);
  const std::chrono::year_month_day date{std::chrono::sys_days{whole_days}};
  const std::chrono::hh_mm_ss<milliseconds> clock{since_epoch - whole_days};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

}  // namespace limpet::telemetry
