// Hashes of addresses: keyed, of which the mapped part of an IPv4 address is constant and skipped;
// and one that is the same in every process.
#pragma once

#include <cstring>

#include "common/base/keyed_hash.h"
#include "common/net/address.h"

namespace limpet::net {

// Two addresses and one more word (ports, a protocol, a scope).
template <Family F>
uint32_t hash_pair(const base::KeyedHash& hash, const Address& a, const Address& b, uint32_t x,
                   uint32_t y) {
  if constexpr (F == Family::kV4) {
    return hash(std::array{a.v4_word(), b.v4_word(), x, y});
  } else {
    return hash(std::array{a.word(0), a.word(1), a.word(2), a.word(3), b.word(0), b.word(1),
                           b.word(2), b.word(3), x, y});
  }
}

inline uint32_t hash_address(const base::KeyedHash& hash, const Address& a, uint32_t x = 0) {
  return hash(std::array{a.word(0), a.word(1), a.word(2), a.word(3), x});
}

// Whoever may choose the address can aim at a value. Finalizer of MurmurHash3 (Appleby), twice.
inline uint32_t stable_hash(const Address& a) {
  const auto mix = [](uint64_t x) {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdULL;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ULL;
    return x ^ x >> 33;
  };
  uint64_t halves[2];
  std::memcpy(halves, a.bytes(), sizeof halves);
  return static_cast<uint32_t>(mix(mix(halves[0]) ^ halves[1]) >> 32);
}

}  // namespace limpet::net
