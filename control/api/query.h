// The request target: path and query of RFC 3986 / the WHATWG form encoding, and the values that
// the API's parameters have.
//
// Everything is checked here, so that the backend gets typed values; all errors of a query are
// found at once.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "control/api/backend.h"

namespace limpet::api {

// A decoded target. Parameters are in the order of the request.
struct Target {
  std::string path;
  std::vector<std::pair<std::string, std::string>> query;
};

// Reads an origin-form or absolute-form target (RFC 9112 3.2). Errors (path "/query" or empty): not
// such a target, or a "%" without two hexadecimal digits.
base::Result<Target> parse_target(std::string_view text);

// "%41" → "A", and "+" → " " when `plus_is_space`; nothing when a "%" is not followed by two
// hexadecimal digits.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space);

// "10.2.0.3", "10.2.0.3:80", "10.2.0.3:*", "fd00::3", "[fd00::3]", "[fd00::3]:80", "[fd00::3]:*";
// nothing for anything else. "*" is any port: listings print it for a server that has no own.
std::optional<ServerFilter> parse_server(std::string_view text);

// Takes parameters out of a query, each at most once, and collects what is wrong.
class QueryReader {
 public:
  // Unknown and repeated parameters are errors. `known` lists all names the endpoint has.
  QueryReader(const Target& target, std::initializer_list<std::string_view> known);

  // The value, or nothing when absent or empty.
  std::optional<std::string> text(std::string_view name) const;
  // The same; absent or empty is an error.
  std::string required_text(std::string_view name);
  // A decimal number in [min, max], or `absent`.
  uint64_t number(std::string_view name, uint64_t min, uint64_t max, uint64_t absent);
  // "true" or "false"; absent: false.
  bool flag(std::string_view name);
  // The five filters of a persistence table.
  EntryFilter entry_filter();
  net::Address required_address(std::string_view name);

  // Makes a parameter that is there without a value an error: for requests that destroy, where a
  // script's empty variable must not mean "everything".
  void refuse_empty();

  const base::Errors& errors() const { return errors_; }

 private:
  void fail(std::string_view name, std::string message);
  // A link-local client has to say on which port it is.
  void check_zone(std::string_view name, const net::Prefix& clients);

  const Target& target_;
  base::Errors errors_;
};

}  // namespace limpet::api
