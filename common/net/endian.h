// Typed byte order: Be<T> holds an integer as it stands on the wire, at any alignment.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace limpet::net {

static_assert(std::endian::native == std::endian::little, "written for little-endian hosts");

constexpr uint16_t byte_swap(uint16_t v) {
  return __builtin_bswap16(v);
}
constexpr uint32_t byte_swap(uint32_t v) {
  return __builtin_bswap32(v);
}
constexpr uint64_t byte_swap(uint64_t v) {
  return __builtin_bswap64(v);
}

template <class T>
class [[gnu::packed]] Be {
 public:
  constexpr Be() = default;
  constexpr Be(T host) : raw_(byte_swap(host)) {}           // NOLINT: implicit by design
  constexpr operator T() const { return byte_swap(raw_); }  // NOLINT
  constexpr T raw() const { return raw_; }                  // the wire bytes as they lie in memory
  static constexpr Be from_raw(T raw) {
    Be be;
    be.raw_ = raw;
    return be;
  }
  friend constexpr bool operator==(Be a, Be b) { return a.raw_ == b.raw_; }
  friend constexpr bool operator==(Be a, T host) { return T{a} == host; }

 private:
  T raw_ = 0;
};

using Be16 = Be<uint16_t>;
using Be32 = Be<uint32_t>;

static_assert(sizeof(Be16) == 2 && alignof(Be16) == 1);
static_assert(sizeof(Be32) == 4 && alignof(Be32) == 1);

}  // namespace limpet::net
