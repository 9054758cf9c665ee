// Key: what a binding is found by within its scope: 16 bytes, a client's address (masked, IPv4 held
// mapped) or a 128-bit keyed hash of a string (persist/string_hash.h).
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "common/base/keyed_hash.h"
#include "common/binding/identity.h"
#include "common/net/address.h"

namespace limpet::binding {

struct Key {
  std::array<uint64_t, 2> words{};

  static Key of(const net::Address& address) { return std::bit_cast<Key>(address); }
  // What of() was given.
  net::Address address() const { return std::bit_cast<net::Address>(*this); }

  friend constexpr auto operator<=>(const Key&, const Key&) = default;
  friend constexpr bool operator==(const Key& a, const Key& b) {
    return ((a.words[0] ^ b.words[0]) | (a.words[1] ^ b.words[1])) == 0;
  }
};

static_assert(sizeof(Key) == 16);

// Places a key in tables and at its home core; equal on all cores of an engine, which share `hash`.
inline uint32_t hash_of(const base::KeyedHash& hash, ScopeSlot scope, const Key& key) {
  return hash(std::array{
      static_cast<uint32_t>(key.words[0]), static_cast<uint32_t>(key.words[0] >> 32),
      static_cast<uint32_t>(key.words[1]), static_cast<uint32_t>(key.words[1] >> 32), scope.value});
}

}  // namespace limpet::binding
