// Strong<Tag, T>: an integer that does not mix with other integers. `using PortIndex =
// Strong<struct PortIndexTag, uint16_t>`.
#pragma once

#include <compare>
#include <cstddef>
#include <functional>

namespace limpet::base {

template <class Tag, class T>
struct Strong {
  using Value = T;
  T value{};

  constexpr Strong() = default;
  constexpr explicit Strong(T v) : value(v) {}
  friend constexpr auto operator<=>(Strong, Strong) = default;
};

}  // namespace limpet::base

template <class Tag, class T>
struct std::hash<limpet::base::Strong<Tag, T>> {
  std::size_t operator()(limpet::base::Strong<Tag, T> id) const noexcept {
    return std::hash<T>{}(id.value);
  }
};
