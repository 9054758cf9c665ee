#include "dataplane/l4/pen.h"

#include <gtest/gtest.h>

#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::l4 {
namespace {

using persist::Key;
using timing::Instant;
using timing::milliseconds;

constexpr snapshot::ScopeSlot kScope{3};
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

  support::HeapPool buffers{64};
  Pen pen{std::pmr::get_default_resource()};
};

TEST_F(PenTest, FindsTheSlotOfAKey) {
  EXPECT_EQ(find(1), nullptr);
  Pen::Slot* slot = add(1);
  ASSERT_NE(slot, nullptr);
  EXPECT_EQ(find(1), slot);
  EXPECT_EQ(find(2), nullptr);
  EXPECT_EQ(&pen.slot(pen.index_of(*slot)), slot);
  EXPECT_EQ(pen.size(), 1u);
}

TEST_F(PenTest, OneKeyInTwoScopesHasTwoSlots) {
  Pen::Slot* slot = add(1);
  Pen::Slot* other = pen.add(hash(1), snapshot::ScopeSlot{4}, key(1), kNow);
  EXPECT_NE(slot, other);
  EXPECT_EQ(find(1), slot);
  EXPECT_EQ(pen.find(hash(1), snapshot::ScopeSlot{4}, key(1)), other);
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

TEST_F(PenTest, HasRoomForAFewPacketsOfAKey) {
  Pen::Slot* slot = add(1);
  for (uint32_t i = 0; i < Pen::kPacketsPerKey; ++i) ASSERT_TRUE(pen.park(*slot, packet(), kNow));
  packet::Buffer* one_more = packet();
  EXPECT_FALSE(pen.park(*slot, one_more, kNow));
  EXPECT_EQ(pen.packets(), Pen::kPacketsPerKey);
  packet::release(one_more);
}

TEST_F(PenTest, RemembersSinceWhenTheOldestPacketWaits) {
  Pen::Slot* slot = add(1);
  ASSERT_TRUE(pen.park(*slot, packet(), kNow + milliseconds(1)));
  ASSERT_TRUE(pen.park(*slot, packet(), kNow + milliseconds(9)));
  EXPECT_EQ(slot->since, kNow + milliseconds(1));
  packet::Buffer* out[Pen::kPacketsPerKey];
  for (uint32_t i = pen.take(*slot, out); i-- > 0;) packet::release(out[i]);
  ASSERT_TRUE(pen.park(*slot, packet(), kNow + milliseconds(20)));
  EXPECT_EQ(slot->since, kNow + milliseconds(20));
}

TEST_F(PenTest, ASlotThatIsUsedAgainRemembersNothing) {
  Pen::Slot* slot = add(1);
  slot->claimed = slot->reserved = true;
  slot->have_serial = 7;
  slot->version = 9;
  pen.remove(hash(1), *slot);
  Pen::Slot* next = add(2);
  EXPECT_EQ(next, slot);
  EXPECT_FALSE(next->claimed);
  EXPECT_FALSE(next->reserved);
  EXPECT_EQ(next->count, 0u);
  EXPECT_EQ(next->have_serial, 0u);
  EXPECT_EQ(next->version, 0u);
}

TEST_F(PenTest, GivesItsBuffersBackWhenItEnds) {
  {
    Pen short_lived(std::pmr::get_default_resource());
    for (uint64_t n = 0; n < 4; ++n) {
      Pen::Slot* slot = short_lived.add(hash(n), kScope, key(n), kNow);
      ASSERT_TRUE(short_lived.park(*slot, packet(), kNow));
    }
    EXPECT_EQ(buffers.in_use(), 4u);
  }
  EXPECT_EQ(buffers.in_use(), 0u);
}

}  // namespace
}  // namespace limpet::l4
