// Where an API is: http://host:port, https://host:port, or unix:PATH.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace limpet::cli {

struct Location {
  bool tls = false;
  std::string host;  // without brackets; empty for a unix socket
  uint16_t port = 0;
  std::string unix_path;

  bool is_unix() const { return !unix_path.empty(); }
  // What the Host header says.
  std::string authority() const;
  std::string to_string() const;
};

inline constexpr uint16_t kDefaultPort = 9080;

// Nothing for anything else: other schemes, paths behind the host, ports outside 1..65535. Without
// a port: kDefaultPort.
std::optional<Location> parse_location(std::string_view url);

// `text` for use as a query value (RFC 3986 2.3: only unreserved characters stay).
std::string percent_encode(std::string_view text);

}  // namespace limpet::cli
