#include "control/api/health_marks.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/assert.h"

namespace limpet::api {
namespace {

using nlohmann::json;

// A string field of `mark`; an error when it is missing and `required`, or is not a string.
std::string string_field(const json& mark, const char* name, bool required, const std::string& path,
                         base::Errors& errors) {
  const auto found = mark.find(name);
  if (found == mark.end()) {
    if (required) errors.push_back({path + "/" + name, "is required"});
    return "";
  }
  if (!found->is_string() || (required && found->get_ref<const std::string&>().empty())) {
    errors.push_back({path + "/" + name, required ? "must be a text" : "must be a string"});
    return "";
  }
  return found->get<std::string>();
}

std::optional<bool> oper_status(const json& mark, const std::string& path, base::Errors& errors) {
  const auto found = mark.find("oper_status");
  if (found == mark.end()) {
    errors.push_back({path + "/oper_status", "is required (null takes the mark back)"});
  } else if (*found == "OPER_UP") {
    return true;
  } else if (*found == "OPER_DOWN") {
    return false;
  } else if (!found->is_null()) {
    errors.push_back({path + "/oper_status", "must be OPER_UP, OPER_DOWN or null"});
  }
  return std::nullopt;
}

// RFC 6901: "~" and "/" inside a name.
std::string pointer_token(const std::string& name) {
  std::string token;
  for (const char c : name) {
    if (c == '~') {
      token += "~0";
    } else if (c == '/') {
      token += "~1";
    } else {
      token += c;
    }
  }
  return token;
}

}  // namespace

base::Result<std::vector<HealthMark>> read_health_marks(const json& marks,
                                                        const std::string& base) {
  if (!marks.is_array()) return base::Error{base, "must be an array of marks"};
  base::Errors errors;
  std::vector<HealthMark> result;
  result.reserve(marks.size());
  for (std::size_t i = 0; i < marks.size(); ++i) {
    const std::string path = fmt::format("{}/{}", base, i);
    const json& mark = marks[i];
    if (!mark.is_object()) {
      errors.push_back({path, "must be an object"});
      continue;
    }
    for (const auto& [name, value] : mark.items())
      if (name != "pool" && name != "server" && name != "oper_status" && name != "reason" &&
          name != "tenant")
        errors.push_back({path + "/" + pointer_token(name), "unknown field"});
    result.push_back({.pool = string_field(mark, "pool", true, path, errors),
                      .server = string_field(mark, "server", true, path, errors),
                      .up = oper_status(mark, path, errors),
                      .reason = string_field(mark, "reason", false, path, errors),
                      .tenant = string_field(mark, "tenant", false, path, errors)});
  }
  if (!errors.empty()) return errors;
  return result;
}

base::Result<std::vector<HealthMark>> parse_health_marks(std::string_view body) {
  try {
    return read_health_marks(json::parse(body));
  } catch (const json::parse_error& error) {
    return base::Error{"", fmt::format("not JSON: {}", error.what())};
  }
}

}  // namespace limpet::api
