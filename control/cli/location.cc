#include "control/cli/location.h"

#include <fmt/format.h>

#include <charconv>

namespace limpet::cli {
namespace {

std::optional<uint16_t> parse_port(std::string_view text) {
  if (text.starts_with('0')) return std::nullopt;
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return port;
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::string Location::authority() const {
  if (is_unix()) return "localhost";
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

std::string Location::to_string() const {
  if (is_unix()) return "unix:" + unix_path;
  return (tls ? "https://" : "http://") + authority();
}

std::optional<Location> parse_location(std::string_view url) {
  Location location;
  if (take_prefix(url, "unix:")) {
    if (url.empty()) return std::nullopt;
    location.unix_path = url;
    return location;
  }
  location.tls = take_prefix(url, "https://");
  if (!location.tls && !take_prefix(url, "http://")) return std::nullopt;
  if (url.ends_with('/')) url.remove_suffix(1);
  if (url.find_first_of("/?#@ ") != std::string_view::npos) return std::nullopt;

  std::string_view port;
  if (take_prefix(url, "[")) {
    const auto end = url.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    location.host = url.substr(0, end);
    port = url.substr(end + 1);
  } else {
    const auto colon = url.find(':');
    location.host = url.substr(0, colon);
    if (colon != std::string_view::npos) port = url.substr(colon);
  }
  if (location.host.empty()) return std::nullopt;
  location.port = kDefaultPort;
  if (!port.empty()) {
    if (!take_prefix(port, ":")) return std::nullopt;
    const auto number = parse_port(port);
    if (!number) return std::nullopt;
    location.port = *number;
  }
  return location;
}

std::string percent_encode(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool digit = c >= '0' && c <= '9';
    if (letter || digit || c == '-' || c == '.' || c == '_' || c == '~') {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace limpet::cli
