#include "dataplane/affinity/pen.h"

#include <gtest/gtest.h>

#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::affinity {
namespace {

using binding::Key;
using timing::Instant;
using timing::milliseconds;

constexpr binding::ScopeSlot kScope{3};
constexpr Instant kNow{1'000'000};

Key key(uint64_t n) {
  return {{n, ~n}};
}

class PenTest : public testing::Test {
 protected:
  packet::Buffer* packet() { return packet::allocate(buffers.pool()); }
  static uint32_t hash(uint64_t n) { return static_cast<uint32_t>(n * 0x9e3779b9u); }
  Pen::Slot* add(uint64_t n) { return pen.add(hash(n), kScope, key(n), kNow); }
  Pen::Slot* find(uint64_t n) { return pen.find(hash(n), kScope, key(n)); }

  // Parks up to `count` packets; how many there was room for.
  uint32_t fill(Pen::Slot& slot, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      packet::Buffer* b = packet();
      if (pen.park(slot, b, kNow)) continue;
      packet::release(b);
      return i;
    }
    return count;
  }
  void empty(Pen::Slot& slot) {
    packet::Buffer* out[Pen::kPacketsPerKey];
    for (uint32_t i = pen.take(slot, out); i-- > 0;) packet::release(out[i]);
  }

  support::HeapPool buffers{Pen::kPackets + 8};
  Pen pen{Pen::kPackets, std::pmr::get_default_resource()};
};

TEST_F(PenTest, FindsTheSlotOfAKey) {
  EXPECT_EQ(find(1), nullptr);
  Pen::Slot* slot = add(1);
  ASSERT_NE(slot, nullptr);
  EXPECT_EQ(find(1), slot);
  EXPECT_EQ(find(2), nullptr);
  EXPECT_EQ(pen.size(), 1u);
}

TEST_F(PenTest, OneKeyInTwoScopesHasTwoSlots) {
  Pen::Slot* slot = add(1);
  Pen::Slot* other = pen.add(hash(1), binding::ScopeSlot{4}, key(1), kNow);
  EXPECT_NE(slot, other);
  EXPECT_EQ(find(1), slot);
  EXPECT_EQ(pen.find(hash(1), binding::ScopeSlot{4}, key(1)), other);
}

TEST_F(PenTest, KeysWithOneHashAreKeptApart) {
  Pen::Slot* slot = pen.add(7, kScope, key(1), kNow);
  Pen::Slot* other = pen.add(7, kScope, key(2), kNow);
  EXPECT_EQ(pen.find(7, kScope, key(1)), slot);
  EXPECT_EQ(pen.find(7, kScope, key(2)), other);
  pen.remove(7, *slot);
  EXPECT_EQ(pen.find(7, kScope, key(1)), nullptr);
  EXPECT_EQ(pen.find(7, kScope, key(2)), other);
}

TEST_F(PenTest, HasRoomForAsManyKeysAsItSays) {
  for (uint64_t n = 0; n < Pen::kKeys; ++n) ASSERT_NE(add(n), nullptr);
  EXPECT_EQ(add(Pen::kKeys), nullptr);
  EXPECT_EQ(pen.size(), Pen::kKeys);
  pen.remove(hash(5), *find(5));
  EXPECT_EQ(find(5), nullptr);
  EXPECT_NE(add(Pen::kKeys), nullptr);
  EXPECT_EQ(add(5), nullptr);
}

TEST_F(PenTest, GivesPacketsBackInTheirOrder) {
  Pen::Slot* slot = add(1);
  packet::Buffer* in[3] = {packet(), packet(), packet()};
  for (packet::Buffer* b : in) ASSERT_TRUE(pen.park(*slot, b, kNow));
  EXPECT_EQ(pen.packets(), 3u);
  packet::Buffer* out[Pen::kPacketsPerKey];
  ASSERT_EQ(pen.take(*slot, out), 3u);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(out[i], in[i]);
    packet::release(out[i]);
  }
  EXPECT_EQ(pen.packets(), 0u);
  EXPECT_EQ(find(1), slot) << "the slot stays until it is removed";
}

TEST_F(PenTest, HasRoomForManyPacketsOfAKeyButNotForAll) {
  EXPECT_EQ(fill(*add(1), 1000), 256u);
  EXPECT_EQ(pen.packets(), 256u);
}

TEST_F(PenTest, WhenItFillsAKeysShareGetsSmaller) {
  uint32_t last = 256;
  uint64_t keys = 0;
  while (last > 1) {
    const uint32_t got = fill(*add(keys++), 1000);
    ASSERT_LE(got, last);
    last = got;
  }
  EXPECT_GT(keys, 28u) << "so many have all that one may have";
}

TEST_F(PenTest, HoweverManyFloodItEveryKeyHasRoomForItsFirstPacket) {
  for (uint64_t n = 0; n < Pen::kKeys; ++n) ASSERT_GE(fill(*add(n), 1000), 1u) << n;
  EXPECT_LE(pen.packets(), Pen::kPackets);
}

TEST_F(PenTest, AKeyWithoutPacketsKeepsItsRoomForOne) {
  Pen::Slot* waits = add(0);
  ASSERT_EQ(fill(*waits, 1), 1u);
  empty(*waits);
  for (uint64_t n = 1; n < Pen::kKeys; ++n) fill(*add(n), 1000);
  EXPECT_EQ(fill(*waits, 1), 1u);
}

TEST_F(PenTest, WhatWasTakenOutIsRoomAgain) {
  for (int round = 0; round < 100; ++round) {
    Pen::Slot* slot = add(1);
    ASSERT_EQ(fill(*slot, 300), 256u);
    empty(*slot);
    pen.remove(hash(1), *slot);
    ASSERT_EQ(pen.packets(), 0u);
  }
}

TEST_F(PenTest, ASmallOneHasFewerKeysEachWithRoomForAPacket) {
  Pen small(16, std::pmr::get_default_resource());
  EXPECT_EQ(small.keys(), 8u);
  Pen::Slot* greedy = small.add(hash(0), kScope, key(0), kNow);
  for (packet::Buffer* b = packet();; b = packet()) {
    if (small.park(*greedy, b, kNow)) continue;
    packet::release(b);
    break;
  }
  EXPECT_GT(greedy->count, 1u);
  for (uint64_t n = 1; n < 8; ++n)
    ASSERT_TRUE(small.park(*small.add(hash(n), kScope, key(n), kNow), packet(), kNow));
  EXPECT_EQ(small.add(hash(8), kScope, key(8), kNow), nullptr);
}

TEST_F(PenTest, AKeyIsQueuedOnceAndInOrder) {
  Pen::Slot* a = add(1);
  Pen::Slot* b = add(2);
  for (int i = 0; i < 5; ++i) {
    pen.queue(*b);
    pen.queue(*a);
  }
  EXPECT_EQ(pen.queued(), 2u);
  EXPECT_EQ(&pen.next(), b);
  pen.queue(*b);
  EXPECT_EQ(&pen.next(), a);
  EXPECT_EQ(&pen.next(), b);
  EXPECT_EQ(pen.queued(), 0u);
}

TEST_F(PenTest, TheQueueHasRoomForAllKeysAlsoForThoseThatComeInAnothersPlace) {
  for (uint64_t n = 0; n < Pen::kKeys; ++n) pen.queue(*add(n));
  for (uint64_t n = 0; n < Pen::kKeys; ++n) {
    pen.remove(hash(n), *find(n));
    pen.queue(*add(Pen::kKeys + n));
  }
  EXPECT_EQ(pen.queued(), Pen::kKeys);
  while (pen.queued() > 0) EXPECT_TRUE(pen.next().used);
}

TEST_F(PenTest, RemembersSinceWhenTheOldestPacketWaits) {
  Pen::Slot* slot = add(1);
  ASSERT_TRUE(pen.park(*slot, packet(), kNow + milliseconds(1)));
  ASSERT_TRUE(pen.park(*slot, packet(), kNow + milliseconds(9)));
  EXPECT_EQ(slot->since, kNow + milliseconds(1));
  empty(*slot);
  ASSERT_TRUE(pen.park(*slot, packet(), kNow + milliseconds(20)));
  EXPECT_EQ(slot->since, kNow + milliseconds(20));
}

TEST_F(PenTest, ASlotThatIsUsedAgainRemembersNothing) {
  Pen::Slot* slot = add(1);
  slot->claimed = slot->answered = slot->reserved = true;
  slot->have_serial = 7;
  slot->version = 9;
  pen.remove(hash(1), *slot);
  Pen::Slot* next = add(2);
  EXPECT_EQ(next, slot);
  EXPECT_FALSE(next->claimed);
  EXPECT_FALSE(next->answered);
  EXPECT_FALSE(next->reserved);
  EXPECT_EQ(next->count, 0u);
  EXPECT_EQ(next->have_serial, 0u);
  EXPECT_EQ(next->version, 0u);
}

TEST_F(PenTest, GivesItsBuffersBackWhenItEnds) {
  {
    Pen short_lived(Pen::kPackets, std::pmr::get_default_resource());
    for (uint64_t n = 0; n < 4; ++n) {
      Pen::Slot* slot = short_lived.add(hash(n), kScope, key(n), kNow);
      ASSERT_TRUE(short_lived.park(*slot, packet(), kNow));
    }
    EXPECT_EQ(buffers.in_use(), 4u);
  }
  EXPECT_EQ(buffers.in_use(), 0u);
}

}  // namespace
}  // namespace limpet::affinity
