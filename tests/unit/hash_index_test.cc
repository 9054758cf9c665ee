// HashIndex against a std::unordered_multimap that is told the same, with few buckets and hashes
// that crowd them: what overflows must be found, and forgotten, like the rest.
#include "common/base/hash_index.h"

#include <gtest/gtest.h>

#include <memory_resource>
#include <unordered_map>
#include <vector>

#include "common/base/random.h"

namespace limpet::base {
namespace {

// A way to spoil hashes: which of them exist at all.
struct Crowd {
  const char* name;
  uint32_t (*hash_of)(uint32_t value, uint32_t noise);
};

// The hash whose bucket is the one at this part of the index: what undoes the multiplication.
constexpr uint32_t at(uint32_t where) {
  uint32_t inverse = HashIndex::kMultiplier;
  for (int i = 0; i < 4; ++i) inverse *= 2 - HashIndex::kMultiplier * inverse;
  return where * inverse;
}
static_assert(at(HashIndex::kMultiplier) == 1);

uint32_t spread(uint32_t value, uint32_t) {
  return value;
}
uint32_t one_bucket(uint32_t value, uint32_t) {
  return at(value % 97);  // all in the first bucket, 97 tags
}
uint32_t last_bucket(uint32_t value, uint32_t) {
  return at(UINT32_MAX - value % 3);  // overflow wraps to the first
}
uint32_t one_tag(uint32_t, uint32_t) {
  return 0x80000000u;
}
uint32_t four_buckets(uint32_t value, uint32_t noise) {
  return at((noise % 4) << 30 | (value & 0xff));
}

class HashIndexModel : public testing::TestWithParam<Crowd> {};

INSTANTIATE_TEST_SUITE_P(Crowds, HashIndexModel,
                         testing::Values(Crowd{"spread", spread}, Crowd{"one_bucket", one_bucket},
                                         Crowd{"last_bucket", last_bucket},
                                         Crowd{"one_tag", one_tag},
                                         Crowd{"four_buckets", four_buckets}),
                         [](const auto& p) { return std::string(p.param.name); });

TEST_P(HashIndexModel, AgreesWithAMapThroughFillingAndEmptying) {
  constexpr uint32_t kCapacity = 200;
  HashIndex index(kCapacity, std::pmr::get_default_resource());
  std::unordered_map<uint32_t, uint32_t> model;  // value -> hash
  std::vector<uint32_t> values;
  Random random(0x11d5);
  uint32_t next = 0;
  bool filling = true;
  for (int step = 0; step < 40'000; ++step) {
    if (values.size() == kCapacity) filling = false;
    if (values.empty()) filling = true;
    if (random.below(100) < (filling ? 60u : 40u) && values.size() < kCapacity) {
      const uint32_t value = next++;
      const uint32_t hash = GetParam().hash_of(value, static_cast<uint32_t>(random.next()));
      index.insert(hash, value);
      model[value] = hash;
      values.push_back(value);
    } else if (!values.empty()) {
      const uint32_t at = random.below(static_cast<uint32_t>(values.size()));
      index.erase(model[values[at]], values[at]);
      model.erase(values[at]);
      values[at] = values.back();
      values.pop_back();
    }
    ASSERT_EQ(index.size(), model.size());
    if (values.empty()) continue;
    const uint32_t value = values[random.below(static_cast<uint32_t>(values.size()))];
    ASSERT_EQ(index.find(model[value], [&](uint32_t v) { return v == value; }), value);
    const uint32_t gone = random.below(next);
    const uint32_t hash = model.contains(gone) ? model[gone] : GetParam().hash_of(gone, gone);
    ASSERT_EQ(index.find(hash, [&](uint32_t v) { return v == gone; }),
              model.contains(gone) ? gone : HashIndex::kNone);
  }
  for (const uint32_t value : values) {
    ASSERT_NE(index.find(model[value], [&](uint32_t v) { return v == value; }), HashIndex::kNone);
    index.erase(model[value], value);
  }
  EXPECT_EQ(index.size(), 0u);
}

TEST_P(HashIndexModel, AMissLooksAtNobodyOnceItIsEmptyAgain) {
  HashIndex index(64, std::pmr::get_default_resource());
  for (uint32_t v = 0; v < 64; ++v) index.insert(GetParam().hash_of(v, v), v);
  for (uint32_t v = 0; v < 64; ++v) index.erase(GetParam().hash_of(v, v), v);
  uint32_t asked = 0;
  for (uint32_t v = 0; v < 64; ++v) {
    const auto same = [&](uint32_t) { return ++asked > 0; };
    EXPECT_EQ(index.find(GetParam().hash_of(v, v), same), HashIndex::kNone);
    EXPECT_EQ(index.candidate(GetParam().hash_of(v, v)), HashIndex::kNone);
  }
  EXPECT_EQ(asked, 0u);
}

// Whatever part of all hashes is for this index, a search reads few buckets.
void expect_few_steps(HashIndex& index, const std::vector<uint32_t>& hashes) {
  for (uint32_t v = 0; v < hashes.size(); ++v) index.insert(hashes[v], v);
  uint64_t sum = 0;
  for (const uint32_t hash : hashes) {
    const uint32_t steps = index.steps(hash);
    ASSERT_LE(steps, 12u);
    sum += steps;
  }
  EXPECT_LT(static_cast<double>(sum), 1.2 * static_cast<double>(hashes.size()));
}

TEST(HashIndex, HashesThatChoseWhoseItIsDoNotCrowd) {
  constexpr uint32_t kCapacity = 100'000;
  for (const uint32_t members : {1u, 2u, 3u, 16u, 64u}) {
    HashIndex index(kCapacity, std::pmr::get_default_resource());
    Random random(members);
    std::vector<uint32_t> hashes;
    while (hashes.size() < kCapacity * 9 / 10) {
      const auto hash = static_cast<uint32_t>(random.next());
      if (reduce(hash, members) == members / 2) hashes.push_back(hash);
    }
    SCOPED_TRACE(members);
    expect_few_steps(index, hashes);
  }
}

TEST(HashIndex, HashesWithCommonLowBitsDoNotCrowd) {
  constexpr uint32_t kCapacity = 100'000;
  HashIndex index(kCapacity, std::pmr::get_default_resource());
  Random random(1);
  std::vector<uint32_t> hashes;
  while (hashes.size() < kCapacity * 9 / 10)
    hashes.push_back(static_cast<uint32_t>(random.next()) << 6 | 17);
  expect_few_steps(index, hashes);
}

TEST(HashIndex, HoldsItsCapacityWhateverThatIs) {
  for (uint32_t capacity = 1; capacity <= 40; ++capacity) {
    HashIndex index(capacity, std::pmr::get_default_resource());
    for (uint32_t v = 0; v < capacity; ++v) index.insert(UINT32_MAX, v);
    EXPECT_EQ(index.size(), capacity);
    for (uint32_t v = 0; v < capacity; ++v)
      EXPECT_EQ(index.find(UINT32_MAX, [&](uint32_t x) { return x == v; }), v);
  }
}

TEST(HashIndex, TakesNoMoreMemoryThanItSaid) {
  for (const uint32_t capacity : {1u, 3u, 4u, 5u, 1023u, 1024u, 1'000'000u}) {
    const std::size_t bytes = HashIndex(capacity, std::pmr::get_default_resource()).bytes();
    EXPECT_LE(bytes, HashIndex::bytes_for(capacity));
    EXPECT_GE(bytes, capacity * sizeof(uint32_t)) << "less than the values take";
    EXPECT_LE(HashIndex::bytes_for(capacity), std::size_t{16} * capacity + 128);
  }
}

TEST(HashIndex, ASlotIsUsedAgainAfterItsValueWent) {
  HashIndex index(8, std::pmr::get_default_resource());
  for (uint32_t round = 0; round < 1000; ++round) {
    for (uint32_t v = 0; v < 8; ++v) index.insert(0, v);
    for (uint32_t v = 8; v-- > 0;) index.erase(0, v);
  }
  EXPECT_EQ(index.size(), 0u);
}

}  // namespace
}  // namespace limpet::base
