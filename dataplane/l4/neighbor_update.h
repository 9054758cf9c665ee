// What the control thread tells every core about a neighbour.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/net/address.h"

namespace limpet::l4 {

struct NeighborUpdate {
  net::Address address;
  net::Mac mac;
  uint8_t port = 0;
  bool valid = false;  // false: forget it
};

static_assert(sizeof(NeighborUpdate) == 24 && std::is_trivially_copyable_v<NeighborUpdate>,
              "copied through a ring");

}  // namespace limpet::l4
