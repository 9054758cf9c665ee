#include "common/net/address.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstdio>

namespace limpet::net {
namespace {

// Strict: one number has one spelling, since names of servers are compared as texts ("080" is not
// 80, and an octal number to some).
template <class Integer>
std::optional<Integer> parse_decimal(std::string_view text, unsigned max) {
  if (text.size() > 1 && text.front() == '0') return std::nullopt;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > max) return std::nullopt;
  return static_cast<Integer>(value);
}

}  // namespace

std::optional<Address> Address::parse(std::string_view text) {
  if (text.size() >= INET6_ADDRSTRLEN) return std::nullopt;
  if (text.find('\0') != std::string_view::npos) return std::nullopt;  // inet_pton() ends there
  const std::string copy(text);
  std::array<uint8_t, 16> raw{};
  if (inet_pton(AF_INET, copy.c_str(), raw.data()) == 1) return v4(raw.data());
  if (inet_pton(AF_INET6, copy.c_str(), raw.data()) != 1) return std::nullopt;
  const Address address = v6(raw.data());
  if (address.zone() != 0) return std::nullopt;
  return address;
}

std::optional<Address> Address::parse_zoned(std::string_view text) {
  const auto percent = text.find('%');
  const auto address = parse(text.substr(0, percent));
  if (!address || percent == std::string_view::npos) return address;
  const auto zone = parse_decimal<uint16_t>(text.substr(percent + 1), UINT16_MAX);
  if (!zone || *zone == 0 || !address->is_link_local_v6()) return std::nullopt;
  return address->in_zone(*zone);
}

std::string Address::to_string() const {
  char text[INET6_ADDRSTRLEN];
  if (is_v4()) {
    inet_ntop(AF_INET, v4_bytes(), text, sizeof text);
    return text;
  }
  const Address bare = in_zone(0);
  inet_ntop(AF_INET6, bare.bytes(), text, sizeof text);
  return zone() == 0 ? text : std::string(text) + "%" + std::to_string(zone());
}

Address Address::masked(uint8_t bits) const {
  const bool v4 = is_v4();
  std::size_t keep = bits;
  if (keep >= address_bits(family())) return *this;
  if (v4) keep += 96;
  Address out = *this;
  for (std::size_t i = 0; i < 16; ++i) {
    if (keep >= 8 * (i + 1)) continue;
    const std::size_t in_byte = keep > 8 * i ? keep - 8 * i : 0;
    out.bytes_[i] = static_cast<uint8_t>(out.bytes_[i] & (0xff00u >> in_byte));
  }
  return out;
}

bool Address::is_unspecified() const {
  return word(3) == 0 && word(0) == 0 && word(1) == 0 && (word(2) == 0 || word(2) == kMappedWord);
}

bool Address::is_loopback() const {
  if (is_v4()) return bytes_[12] == 127;
  return word(0) == 0 && word(1) == 0 && word(2) == 0 && word(3) == 0x01000000u;
}

Address Address::solicited_node() const {
  Address group;
  group.bytes_ = {0xff, 0x02, 0, 0, 0,    0,          0,          0,
                  0,    0,    0, 1, 0xff, bytes_[13], bytes_[14], bytes_[15]};
  return group;
}

Address Address::next() const {
  Address out = *this;
  const std::size_t first = is_v4() ? 12 : 0;
  for (std::size_t i = 16; i-- > first;) {
    if (++out.bytes_[i] != 0) break;
  }
  return out;
}

namespace {

// `slash` is where the address, which was read, ends.
std::optional<Prefix> with_length(const std::optional<Address>& address, std::string_view text,
                                  std::size_t slash) {
  if (!address) return std::nullopt;
  const uint8_t whole = address_bits(address->family());
  if (slash == std::string_view::npos) return Prefix{*address, whole};
  const auto length = parse_decimal<uint8_t>(text.substr(slash + 1), whole);
  if (!length) return std::nullopt;
  return Prefix{*address, *length};
}

}  // namespace

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const auto slash = text.find('/');
  return with_length(Address::parse(text.substr(0, slash)), text, slash);
}

std::optional<Prefix> Prefix::parse_zoned(std::string_view text) {
  const auto slash = text.find('/');
  return with_length(Address::parse_zoned(text.substr(0, slash)), text, slash);
}

std::string Prefix::to_string() const {
  return address.to_string() + "/" + std::to_string(length);
}

std::optional<Address> Prefix::broadcast() const {
  if (!address.is_v4() || length > 30) return std::nullopt;
  uint32_t word = __builtin_bswap32(address.v4_word());
  word |= length == 0 ? 0xffffffffu : (0xffffffffu >> length);
  return Address::v4_host(word);
}

std::optional<Mac> Mac::parse(std::string_view text) {
  Mac mac;
  if (text.size() != 17) return std::nullopt;
  for (std::size_t i = 0; i < 6; ++i) {
    const char* at = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(at, at + 2, mac.bytes[i], 16);
    if (error != std::errc{} || end != at + 2) return std::nullopt;
    if (i < 5 && at[2] != ':') return std::nullopt;
  }
  return mac;
}

std::string Mac::to_string() const {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2],
                bytes[3], bytes[4], bytes[5]);
  return text;
}

Mac Mac::of_multicast(const Address& group) {
  const uint8_t* b = group.bytes();
  if (group.is_v4()) return {{0x01, 0x00, 0x5e, static_cast<uint8_t>(b[13] & 0x7f), b[14], b[15]}};
  return {{0x33, 0x33, b[12], b[13], b[14], b[15]}};
}

std::string Endpoint::to_string() const {
  const std::string text = address.to_string();
  return (address.is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

std::optional<Endpoint> Endpoint::parse(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto port = parse_decimal<uint16_t>(text.substr(colon + 1), 65535);
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const auto address = Address::parse(host);
  if (!port || !address || bracketed == (host.find(':') == std::string_view::npos))
    return std::nullopt;
  return Endpoint{*address, *port};
}

}  // namespace limpet::net
