// Targets are split before they are decoded, so an encoded "&" or "?" stays part of its value.
#include "control/api/query.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace limpet::api {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// "http://host/path" → "/path".
std::optional<std::string_view> strip_authority(std::string_view text) {
  if (text.starts_with('/')) return text;
  const auto scheme = text.find("://");
  if (scheme == std::string_view::npos) return std::nullopt;
  const auto path = text.find('/', scheme + 3);
  return path == std::string_view::npos ? std::string_view("/") : text.substr(path);
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      decoded += ' ';
    } else if (text[i] != '%') {
      decoded += text[i];
    } else {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = hex_digit(text[i + 1]);
      const int low = hex_digit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      decoded += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return decoded;
}

base::Result<Target> parse_target(std::string_view text) {
  const auto origin = strip_authority(text);
  if (!origin) return base::Error{"", "the request target is not a path"};
  if (origin->find('#') != std::string_view::npos)
    return base::Error{"", "the request target contains '#'"};
  const auto question = origin->find('?');
  const auto path = percent_decode(origin->substr(0, question), false);
  if (!path) return base::Error{"", "the request path has a malformed percent-encoding"};

  Target target{.path = *path, .query = {}};
  if (question == std::string_view::npos) return target;
  std::string_view rest = origin->substr(question + 1);
  while (!rest.empty()) {
    const auto end = rest.find('&');
    const std::string_view pair = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (pair.empty()) continue;
    const auto equals = pair.find('=');
    const auto name = percent_decode(pair.substr(0, equals), true);
    const auto value = equals == std::string_view::npos
                           ? std::optional<std::string>("")
                           : percent_decode(pair.substr(equals + 1), true);
    if (!name || !value)
      return base::Error{"/query", fmt::format("malformed percent-encoding in \"{}\"", pair)};
    target.query.emplace_back(*name, *value);
  }
  return target;
}

std::optional<ServerFilter> parse_server(std::string_view text) {
  if (text.ends_with(":*")) {
    // With some port in its place it is an endpoint, brackets and all.
    const auto endpoint = net::Endpoint::parse(std::string(text.substr(0, text.size() - 1)) + "0");
    if (!endpoint) return std::nullopt;
    return ServerFilter{endpoint->address, std::nullopt};
  }
  if (const auto address = net::Address::parse(text)) return ServerFilter{*address, std::nullopt};
  if (const auto endpoint = net::Endpoint::parse(text))
    return ServerFilter{endpoint->address, endpoint->port};
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    const auto address = net::Address::parse(text.substr(1, text.size() - 2));
    if (address && !address->is_v4()) return ServerFilter{*address, std::nullopt};
  }
  return std::nullopt;
}

QueryReader::QueryReader(const Target& target, std::initializer_list<std::string_view> known)
    : target_(target) {
  for (auto i = target.query.begin(); i != target.query.end(); ++i) {
    if (std::find(known.begin(), known.end(), i->first) == known.end()) {
      fail(i->first, "unknown parameter");
    } else if (std::any_of(target.query.begin(), i,
                           [&](const auto& earlier) { return earlier.first == i->first; })) {
      fail(i->first, "given more than once");
    }
  }
}

void QueryReader::fail(std::string_view name, std::string message) {
  errors_.push_back({fmt::format("/query/{}", name), std::move(message)});
}

std::optional<std::string> QueryReader::text(std::string_view name) const {
  for (const auto& [key, value] : target_.query)
    if (key == name && !value.empty()) return value;
  return std::nullopt;
}

std::string QueryReader::required_text(std::string_view name) {
  const auto value = text(name);
  if (!value) fail(name, "is required");
  return value.value_or("");
}

uint64_t QueryReader::number(std::string_view name, uint64_t min, uint64_t max, uint64_t absent) {
  const auto value = text(name);
  if (!value) return absent;
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), number);
  if (error != std::errc() || end != value->data() + value->size() || number < min ||
      number > max) {
    fail(name, fmt::format("must be a number from {} to {}", min, max));
    return absent;
  }
  return number;
}

bool QueryReader::flag(std::string_view name) {
  const auto value = text(name);
  if (value && *value != "true" && *value != "false") fail(name, "must be true or false");
  return value == "true";
}

net::Address QueryReader::required_address(std::string_view name) {
  const std::string value = required_text(name);
  if (value.empty()) return {};
  const auto address = net::Address::parse_zoned(value);
  if (!address) fail(name, fmt::format("\"{}\" is not an IP address", value));
  if (address) check_zone(name, {*address, net::address_bits(address->family())});
  return address.value_or(net::Address{});
}

void QueryReader::check_zone(std::string_view name, const net::Prefix& clients) {
  constexpr uint8_t kBitsBeforeZone = 16;
  const net::Address& address = clients.address;
  if (clients.length <= kBitsBeforeZone || !address.is_link_local_v6() || address.zone() != 0)
    return;
  fail(name, fmt::format("\"{0}\" is another client on each port: {0}%1 on the first",
                         address.to_string()));
}

EntryFilter QueryReader::entry_filter() {
  EntryFilter filter;
  filter.virtual_service = text("virtual_service");
  filter.pool = text("pool");
  filter.tenant = text("tenant");
  if (const auto client = text("client")) {
    const auto prefix = net::Prefix::parse_zoned(*client);
    if (!prefix) {
      fail("client", fmt::format("\"{}\" is neither an IP address nor a prefix", *client));
    } else if (check_zone("client", *prefix); client->find('/') == std::string::npos) {
      filter.client = prefix->address;
    } else {
      filter.client = prefix->network();
    }
  }
  if (const auto server = text("server")) {
    filter.server = parse_server(*server);
    if (!filter.server)
      fail("server", fmt::format("\"{}\" is neither an IP address nor ip:port", *server));
  }
  return filter;
}

void QueryReader::refuse_empty() {
  for (const auto& [name, value] : target_.query)
    if (value.empty()) fail(name, "must not be empty");
}

}  // namespace limpet::api
