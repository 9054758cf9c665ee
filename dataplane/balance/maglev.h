// Maglev: a look-up table for consistent hashing (Eisenbud et al., "Maglev: A Fast and Reliable
// Software Network Load Balancer", NSDI 2016, section 3.4). Pure functions; called by whoever
// compiles a configuration, never by a worker, who only indexes the result.
//
// Invariants
//  1. The table depends on the servers' identities, weights and the size alone: not on their order
//     nor on the engine. Every engine builds the same table.
//  2. Over any prefix of a server's permutation it claims slots at a rate proportional to its
//     weight, so its share is within two slots of size * weight / sum(weights).
//  3. When a server leaves, its slots go to others, and only a few others move with them.
//
// Invariant 3 needs the size to stay: it is taken from what is configured (maglev_size over all
// servers of the pool), not from who is up at the moment. Sizes grow by a factor of four, so that a
// growing pool meets a new size, which moves nearly everyone, seldom.
//
// Cost: about size * ln(size) steps of one load each; 131071 slots take some 10 ms.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/snapshot/snapshot.h"

namespace limpet::balance {

struct MaglevServer {
  binding::ServerId id;
  uint16_t weight = 1;  // 0: gets no slot
  uint16_t index = 0;   // what the table holds for it
};

// Primes. The smallest fits pools of up to 40 servers of equal weight.
inline constexpr std::array<std::size_t, 4> kMaglevSizes{4093, 16381, 65537, 131071};

// Slots for each unit of weight (after division by the weights' common divisor) that keep the
// difference between servers near one percent: the paper's "M larger than 100 * N".
inline constexpr uint64_t kMaglevSlotsPerWeight = 100;

// The smallest size with at least kMaglevSlotsPerWeight slots for each unit of weight. Beyond the
// largest size a server has fewer: 26 with 5000 servers of equal weight.
std::size_t maglev_size(std::span<const MaglevServer> servers);

// `size` indices: slot `hash % size` names the server for that hash. Empty when no server has a
// weight. `size` is one of kMaglevSizes; identities are distinct.
std::vector<uint16_t> build_maglev(std::span<const MaglevServer> servers, std::size_t size);

}  // namespace limpet::balance
