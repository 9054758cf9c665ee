// KeyedHash over addresses. The mapped part of an IPv4 address is constant and skipped.
#pragma once

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

}  // namespace limpet::net
