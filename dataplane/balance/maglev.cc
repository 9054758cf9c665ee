#include "dataplane/balance/maglev.h"

#include <algorithm>
#include <numeric>

#include "common/base/assert.h"

namespace limpet::balance {
namespace {

// The finalizer of splitmix64 (Steele, Lea and Flood 2014): a fixed bijection that spreads every
// input bit. Fixed because engines must agree; it hashes no traffic, so nobody can aim at it.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// A server while the table is filled. Its permutation of the slots is offset, offset + skip,
// offset + 2 * skip, … modulo the size: all slots, because the size is prime.
struct Claimant {
  std::size_t next;
  std::size_t skip;
  uint32_t weight;
  uint32_t credit = 0;
  uint16_t index;
};

}  // namespace

std::size_t maglev_size(std::span<const MaglevServer> servers) {
  uint64_t sum = 0;
  uint64_t divisor = 0;
  for (const MaglevServer& s : servers) {
    sum += s.weight;
    divisor = std::gcd(divisor, uint64_t{s.weight});
  }
  if (divisor == 0) return kMaglevSizes.front();
  for (const std::size_t size : kMaglevSizes) {
    if (size >= kMaglevSlotsPerWeight * (sum / divisor)) return size;
  }
  return kMaglevSizes.back();
}

std::vector<uint16_t> build_maglev(std::span<const MaglevServer> servers, std::size_t size) {
  LIMPET_ASSERT(std::find(kMaglevSizes.begin(), kMaglevSizes.end(), size) != kMaglevSizes.end());
  std::vector<MaglevServer> sorted;
  for (const MaglevServer& s : servers) {
    if (s.weight > 0) sorted.push_back(s);
  }
  if (sorted.empty()) return {};
  // Who claims first matters, so the order is one that every engine finds: a hash of the identity.
  // Not the identity itself, which would give the same servers precedence in every pool.
  std::sort(sorted.begin(), sorted.end(), [](const MaglevServer& a, const MaglevServer& b) {
    return mix(a.id.value) < mix(b.id.value);
  });

  std::vector<Claimant> claimants;
  claimants.reserve(sorted.size());
  uint32_t weight_max = 0;
  for (const MaglevServer& s : sorted) {
    const uint64_t first = mix(s.id.value);
    claimants.push_back({.next = first % size,
                         .skip = mix(first) % (size - 1) + 1,
                         .weight = s.weight,
                         .index = s.index});
    weight_max = std::max(weight_max, uint32_t{s.weight});
  }

  // Servers take turns; one claims in a turn when its credit, which grows by its weight each turn,
  // reaches the largest weight. So the heaviest claims every turn, one of half its weight every
  // other. (Claiming `weight` slots at once would tie the table to the weights' common factor.)
  std::vector<uint16_t> table(size);
  std::vector<bool> taken(size);
  for (std::size_t filled = 0;;) {
    for (Claimant& c : claimants) {
      c.credit += c.weight;
      if (c.credit < weight_max) continue;
      c.credit -= weight_max;
      while (taken[c.next]) {
        c.next += c.skip;
        if (c.next >= size) c.next -= size;
      }
      taken[c.next] = true;
      table[c.next] = c.index;
      if (++filled == size) return table;
    }
  }
}

}  // namespace limpet::balance
