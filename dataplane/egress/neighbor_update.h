// NeighborUpdate: what the control thread tells every worker about a neighbour: it has this MAC, or
// it is no longer to be used. Travels by value over the message rings, in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "common/net/address.h"

namespace limpet::egress {

struct NeighborUpdate {
  uint8_t port = 0;  // index of the port behind which it is
  net::Address address;
  net::Mac mac;        // meaningless when not valid
  bool valid = false;  // false: forget it; frames to it are punted until it is valid again
};

// Two of them share a cache line in a ring.
static_assert(sizeof(NeighborUpdate) == 32);
static_assert(std::is_trivially_copyable_v<NeighborUpdate>);

}  // namespace limpet::egress
