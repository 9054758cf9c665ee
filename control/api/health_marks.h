// The body of POST /v1/health-marks as typed values. Pure; called by the backend on its helper
// thread, and by replay for the marks of its events.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace limpet::api {

struct HealthMark {
  std::string pool;        // name or uuid
  std::string server;      // "ip:port", "ip:*", "ip", uuid or external_uuid
  std::optional<bool> up;  // absent: take the mark back
  std::string reason;
  std::string tenant{};  // of the pool; empty: any
};

// Reads a JSON array of {"pool", "server", "oper_status", "reason", "tenant"}; "reason" and
// "tenant" may be absent. Errors, all at once: not JSON, wrong types, unknown fields, unknown
// oper_status. `base` is put before each path. Whether pools and servers exist is not looked at.
base::Result<std::vector<HealthMark>> parse_health_marks(std::string_view body);
base::Result<std::vector<HealthMark>> read_health_marks(const nlohmann::json& marks,
                                                        const std::string& base = "");

}  // namespace limpet::api
