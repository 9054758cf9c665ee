// Addresses, prefixes, MACs, endpoints. An Address is always 16 bytes; IPv4 is held mapped
// (::ffff:a.b.c.d, RFC 4291 2.5.5.2), so tables, keys and hashes are written once for both
// families.
//
// A link-local IPv6 address means one host on each link (RFC 4007 6): the link, its zone, is part
// of the address. It stands in the second 16 bits, which are zero on the wire (RFC 4291 2.5.6), so
// tables, keys and hashes need not know. The parser puts it in, whatever writes packets leaves it
// out. (IPv4's 169.254/16 has no such place, and hosts that use it on two links are advised
// against, RFC 3927 3: one address, one host.)
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace limpet::net {

enum class Family : uint8_t { kV4, kV6 };

class Address {
 public:
  // The IPv6 unspecified address.
  constexpr Address() = default;

  // `bytes` in wire order.
  static Address v4(const void* bytes) {
    Address a;
    a.bytes_[10] = a.bytes_[11] = 0xff;
    std::memcpy(&a.bytes_[12], bytes, 4);
    return a;
  }
  static Address v6(const void* bytes) {
    Address a;
    std::memcpy(a.bytes_.data(), bytes, 16);
    return a;
  }
  static constexpr Address v4_host(uint32_t host_order) {
    Address a;
    a.bytes_[10] = a.bytes_[11] = 0xff;
    for (std::size_t i = 0; i < 4; ++i)
      a.bytes_[12 + i] = static_cast<uint8_t>(host_order >> (24 - 8 * i));
    return a;
  }

  // Dotted quad or IPv6 text (RFC 4291 2.2) without a zone; nothing for anything else, fe80:1::2
  // included. A mapped IPv6 text yields the IPv4 address.
  static std::optional<Address> parse(std::string_view text);
  // The same; a link-local address may have its zone: "fe80::2%1" (RFC 4007 11.2).
  static std::optional<Address> parse_zoned(std::string_view text);

  // "10.0.0.1" or RFC 5952 text; with the zone, if it has one.
  std::string to_string() const;

  Family family() const { return is_v4() ? Family::kV4 : Family::kV6; }
  bool is_v4() const { return word(0) == 0 && word(1) == 0 && word(2) == kMappedWord; }

  // Wire-order bytes; v4_bytes() only for IPv4.
  const uint8_t* bytes() const { return bytes_.data(); }
  const uint8_t* v4_bytes() const { return &bytes_[12]; }
  // The bytes as they go on the wire of this family: 4 or 16.
  const uint8_t* wire() const { return is_v4() ? v4_bytes() : bytes(); }

  // The i-th 32-bit word as it lies in memory; for hashing and checksums.
  uint32_t word(std::size_t i) const {
    uint32_t w;
    std::memcpy(&w, &bytes_[4 * i], 4);
    return w;
  }
  uint32_t v4_word() const { return word(3); }

  // Keeps the first `bits` bits of the family's own length (32 or 128); more means all.
  Address masked(uint8_t bits) const;

  bool is_unspecified() const;  // 0.0.0.0 or ::
  bool is_multicast() const { return is_v4() ? (bytes_[12] >> 4) == 0xe : bytes_[0] == 0xff; }
  bool is_loopback() const;
  bool is_link_local() const {
    return is_v4() ? (bytes_[12] == 169 && bytes_[13] == 254)
                   : (bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80);
  }
  bool is_link_local_v6() const { return (word(0) & 0xc0ffu) == 0x80feu; }  // on little endian

  // Where a link-local IPv6 address is: zone_of() a port. 0: not said, or it is no such address.
  uint16_t zone() const {
    return is_link_local_v6() ? static_cast<uint16_t>(bytes_[2] << 8 | bytes_[3]) : uint16_t{0};
  }
  // A link-local IPv6 address in that zone, or in none (0); others are the same everywhere.
  Address in_zone(uint16_t zone) const {
    Address out = *this;
    if (!is_link_local_v6()) return out;
    out.bytes_[2] = static_cast<uint8_t>(zone >> 8);
    out.bytes_[3] = static_cast<uint8_t>(zone);
    return out;
  }

  bool is_broadcast() const { return is_v4() && word(3) == 0xffffffffu; }

  // The solicited-node multicast group of an IPv6 address (RFC 4291 2.7.1).
  Address solicited_node() const;

  // The next address in numeric order within its family; wraps.
  Address next() const;

  // Loads of words; the defaults would call memcmp() for each packet.
  friend constexpr std::strong_ordering operator<=>(const Address& a, const Address& b) {
    const auto x = std::bit_cast<Halves>(a.bytes_);
    const auto y = std::bit_cast<Halves>(b.bytes_);
    const std::size_t half = x[0] == y[0] ? 1 : 0;
    return __builtin_bswap64(x[half]) <=> __builtin_bswap64(y[half]);
  }
  friend constexpr bool operator==(const Address& a, const Address& b) {
    const auto x = std::bit_cast<Halves>(a.bytes_);
    const auto y = std::bit_cast<Halves>(b.bytes_);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
  }

 private:
  using Halves = std::array<uint64_t, 2>;

  static constexpr uint32_t kMappedWord = 0xffff0000u;  // bytes 00 00 ff ff on little endian

  alignas(8) std::array<uint8_t, 16> bytes_{};
};

static_assert(sizeof(Address) == 16 && alignof(Address) == 8);

// The zone that is the link of a port of this index.
constexpr uint16_t zone_of(uint8_t port) {
  return static_cast<uint16_t>(port + 1);
}
constexpr uint8_t port_of_zone(uint16_t zone) {
  return static_cast<uint8_t>(zone - 1);
}

constexpr uint8_t address_bits(Family family) {
  return family == Family::kV4 ? 32 : 128;
}

// An address with a prefix length. `address` may have host bits set (an interface address).
struct Prefix {
  Address address;
  uint8_t length = 0;

  // "10.0.0.1/24"; without a slash the whole address. Nothing for anything else, "/024" included.
  static std::optional<Prefix> parse(std::string_view text);
  // The same of an address that may have a zone: "fe80::%1/64" (RFC 4007 11.7).
  static std::optional<Prefix> parse_zoned(std::string_view text);
  std::string to_string() const;

  Family family() const { return address.family(); }
  Prefix network() const { return {address.masked(length), length}; }
  bool contains(const Address& other) const {
    return other.is_v4() == address.is_v4() && other.masked(length) == address.masked(length);
  }
  // The subnet's IPv4 broadcast address; nothing for IPv6 and for lengths above 30.
  std::optional<Address> broadcast() const;

  friend constexpr auto operator<=>(const Prefix&, const Prefix&) = default;
};

struct Mac {
  std::array<uint8_t, 6> bytes{};

  // "02:00:00:00:00:01", case-insensitive.
  static std::optional<Mac> parse(std::string_view text);
  std::string to_string() const;

  bool is_zero() const { return word() == 0; }
  bool is_multicast() const { return (bytes[0] & 1) != 0; }
  static constexpr Mac broadcast() { return {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}; }
  // The group MAC of a multicast address: RFC 1112 6.4, RFC 2464 7.
  static Mac of_multicast(const Address& group);

  // All six bytes in one integer, for comparing and hashing.
  uint64_t word() const {
    uint32_t low;
    uint16_t high;
    std::memcpy(&low, &bytes[0], 4);
    std::memcpy(&high, &bytes[4], 2);
    return low | uint64_t{high} << 32;
  }

  friend constexpr auto operator<=>(const Mac&, const Mac&) = default;
  // Two loads; the default would call memcmp() for each packet.
  friend bool operator==(const Mac& a, const Mac& b) { return a.word() == b.word(); }
};

static_assert(sizeof(Mac) == 6);

struct Endpoint {
  Address address;
  uint16_t port = 0;  // host order

  std::string to_string() const;  // "10.0.0.1:80", "[::1]:80"
  // Nothing for anything else, ports with leading zeros ("080") included.
  static std::optional<Endpoint> parse(std::string_view text);

  friend constexpr auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

}  // namespace limpet::net
