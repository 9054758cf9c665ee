// HashIndex: finds a record number by its hash. The records themselves (flows, persist entries,
// neighbours) live elsewhere; their owner compares full keys.
//
// One bucket is one cache line: seven 32-bit tags, seven 32-bit values, a mask of the slots in use
// and a count of the values that wanted this bucket and had to go on. A lookup reads one line
// unless that count says otherwise.
//
// Invariants
//  1. A value sits in its home bucket or, when that was full, in the next bucket that had room.
//  2. `passed` of a bucket is the number of values whose search goes on behind it. So deletion
//     leaves no tombstones and a miss ends at the first bucket that nobody passed.
//  3. Never more values than `capacity` (asserted); at that point 4/7 of the slots are in use.
//
// The hash itself often chose whose index it is: the key's home core, the core that a client is
// steered to. Then all hashes here lie in one part of their range; so the bucket is chosen by a
// multiple of the hash, to whose high bits the low ones of the hash contribute most (Knuth, TAOCP
// 3, 6.4: Fibonacci hashing).
//
// Cost: 16 bytes a value at capacity. Why not rte_hash: it stores the key a second time, and its
// cuckoo moves make a full table's insert unbounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "common/base/assert.h"
#include "common/base/keyed_hash.h"
#include "common/base/prefetch.h"

namespace limpet::base {

class HashIndex {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kMultiplier = 0x9e3779b1u;  // odd, so different hashes stay different

  HashIndex(uint32_t capacity, std::pmr::memory_resource* memory)
      : capacity_(capacity),
        count_(
            static_cast<uint32_t>((uint64_t{capacity} + kValuesPerBucket - 1) / kValuesPerBucket) +
            1),
        buckets_(count_, memory) {}

  uint32_t size() const { return size_; }
  uint32_t capacity() const { return capacity_; }
  std::size_t bytes() const { return buckets_.size() * sizeof(Bucket); }
  static constexpr std::size_t bytes_for(uint32_t capacity) {
    return (uint64_t{capacity} / kValuesPerBucket + 2) * sizeof(Bucket);
  }

  // How many buckets a search for this hash reads, if it is in vain.
  uint32_t steps(uint32_t hash) const {
    uint32_t n = 1;
    for (uint32_t i = home(hash); buckets_[i].passed != 0; i = after(i)) ++n;
    return n;
  }

  void prefetch(uint32_t hash) const { base::prefetch(&buckets_[home(hash)]); }

  // The first value in the home bucket with this hash, unverified: worth prefetching. kNone if
  // none; the next bucket is then asked for if the search goes on there.
  uint32_t candidate(uint32_t hash) const {
    const uint32_t i = home(hash);
    const Bucket& b = buckets_[i];
    const uint32_t found = b.matching(hash);
    if (found != 0) return b.values[__builtin_ctz(found)];
    if (b.passed != 0) base::prefetch(&buckets_[after(i)]);
    return kNone;
  }

  // The value with this hash for which `same(value)` holds; kNone when there is none.
  template <class Same>
  uint32_t find(uint32_t hash, Same&& same) const {
    for (uint32_t i = home(hash);; i = after(i)) {
      const Bucket& b = buckets_[i];
      for (uint32_t found = b.matching(hash); found != 0; found &= found - 1) {
        const uint32_t value = b.values[__builtin_ctz(found)];
        if (same(value)) return value;
      }
      if (b.passed == 0) return kNone;
    }
  }

  // `value` must not be in the index under this hash.
  void insert(uint32_t hash, uint32_t value) {
    LIMPET_ASSERT(size_ < capacity_);
    ++size_;
    uint32_t i = home(hash);
    while (buckets_[i].used == kAllUsed) {
      ++buckets_[i].passed;
      i = after(i);
    }
    Bucket& b = buckets_[i];
    const auto slot = static_cast<uint32_t>(__builtin_ctz(~b.used));
    b.tags[slot] = hash;
    b.values[slot] = value;
    b.used |= 1u << slot;
  }

  // Removes (hash, value), which must be there.
  void erase(uint32_t hash, uint32_t value) {
    for (uint32_t i = home(hash);; i = after(i)) {
      Bucket& b = buckets_[i];
      for (uint32_t found = b.matching(hash); found != 0; found &= found - 1) {
        const auto slot = static_cast<uint32_t>(__builtin_ctz(found));
        if (b.values[slot] != value) continue;
        b.used &= ~(1u << slot);
        --size_;
        for (uint32_t p = home(hash); p != i; p = after(p)) --buckets_[p].passed;
        return;
      }
      LIMPET_ASSERT(b.passed != 0);
    }
  }

 private:
  static constexpr uint32_t kSlots = 7;
  static constexpr uint32_t kValuesPerBucket = 4;
  static constexpr uint32_t kAllUsed = (1u << kSlots) - 1;

  struct alignas(64) Bucket {
    uint32_t tags[kSlots] = {};
    uint32_t used = 0;  // eighth lane of the tags: its comparison is masked out
    uint32_t values[kSlots] = {};
    uint32_t passed = 0;

    // Bit i: slot i is in use and has this tag.
    uint32_t matching(uint32_t tag) const {
#if defined(__SSE2__)
      const __m128i wanted = _mm_set1_epi32(static_cast<int>(tag));
      const auto* lanes = reinterpret_cast<const __m128i*>(tags);
      const int low = _mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(lanes[0], wanted)));
      const int high = _mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(lanes[1], wanted)));
      return static_cast<uint32_t>(low | high << 4) & used;
#else
      uint32_t found = 0;
      for (uint32_t i = 0; i < kSlots; ++i) found |= uint32_t{tags[i] == tag} << i;
      return found & used;
#endif
    }
  };
  static_assert(sizeof(Bucket) == 64, "a lookup reads one cache line");

  uint32_t home(uint32_t hash) const {
    return reduce(hash * kMultiplier, count_);
  }
  uint32_t after(uint32_t i) const {
    return i + 1 == count_ ? 0 : i + 1;
  }

  uint32_t capacity_;
  uint32_t count_;  // of buckets
  uint32_t size_ = 0;
  std::pmr::vector<Bucket> buckets_;
};

}  // namespace limpet::base
