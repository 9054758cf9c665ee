// Calendar time as people and JSON read it.
#pragma once

#include <string>

#include "common/timing/time.h"

namespace limpet::telemetry {

// RFC 3339 UTC with milliseconds, rounded down: "2026-01-31T12:00:00.000Z". Always 24 characters:
// what 64-bit nanoseconds can hold lies between the years 1677 and 2262.
std::string rfc3339(timing::WallTime time);

}  // namespace limpet::telemetry
