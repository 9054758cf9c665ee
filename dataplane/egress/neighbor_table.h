// NeighborTable: one core's copy of who has which MAC. Written only by NeighborUpdate messages of
// the control thread (slowpath resolves, ages and defends; cores just look up).
//
// A handle is a place and its generation, so a flow can keep one and notice, for the price of one
// load, that the neighbour went.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <vector>

#include "common/base/hash_index.h"
#include "common/base/limits.h"
#include "common/net/hash.h"
#include "dataplane/egress/neighbor_update.h"

namespace limpet::egress {

class NeighborTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  NeighborTable(const base::KeyedHash& hash, std::pmr::memory_resource* memory)
      : hash_(hash),
        index_(static_cast<uint32_t>(base::kNeighborsMax), memory),
        places_(base::kNeighborsMax, memory),
        free_(memory) {
    free_.reserve(base::kNeighborsMax);
    for (uint32_t i = base::kNeighborsMax; i-- > 0;) free_.push_back(i);
  }

  // Control keeps at most kNeighborsMax neighbours; should it send more, the surplus is ignored and
  // its packets keep being punted.
  void apply(const NeighborUpdate& update) {
    const uint32_t hash = hash_of(update.port, update.address);
    uint32_t at = find(update.port, update.address, hash);
    if (!update.valid) {
      if (at == base::HashIndex::kNone) return;
      index_.erase(hash, at);
      ++places_[at].generation;
      places_[at].valid = false;
      free_.push_back(at);
      return;
    }
    if (at == base::HashIndex::kNone) {
      if (free_.empty()) return;
      at = free_.back();
      free_.pop_back();
      places_[at].address = update.address;
      places_[at].port = update.port;
      places_[at].valid = true;
      index_.insert(hash, at);
    }
    places_[at].mac = update.mac;
  }

  // A handle for the neighbour; kNone when its MAC is not known.
  uint32_t look_up(uint8_t port, const net::Address& address) const {
    const uint32_t at = find(port, address, hash_of(port, address));
    return at == base::HashIndex::kNone ? kNone : at | uint32_t{places_[at].generation} << 16;
  }

  // The MAC behind a handle; null when the neighbour has gone since.
  const net::Mac* mac(uint32_t handle) const {
    if (handle == kNone) return nullptr;
    const Place& p = places_[handle & 0xffff];
    return p.valid && p.generation == handle >> 16 ? &p.mac : nullptr;
  }

 private:
  static_assert(base::kNeighborsMax < 0xffff);

  struct alignas(32) Place {
    net::Address address;
    net::Mac mac;
    uint16_t generation = 0;
    uint8_t port = 0;
    bool valid = false;
  };

  uint32_t hash_of(uint8_t port, const net::Address& address) const {
    return net::hash_address(hash_, address, port);
  }
  uint32_t find(uint8_t port, const net::Address& address, uint32_t hash) const {
    return index_.find(
        hash, [&](uint32_t i) { return places_[i].port == port && places_[i].address == address; });
  }

  const base::KeyedHash& hash_;
  base::HashIndex index_;
  std::pmr::vector<Place> places_;
  std::pmr::vector<uint32_t> free_;
};

}  // namespace limpet::egress
