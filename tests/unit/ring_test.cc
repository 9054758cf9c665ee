#include "dataplane/ring/ring.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>

namespace limpet::ring {
namespace {

struct Message {
  uint16_t a = 0;
  uint16_t b = 0;
  uint64_t c = 0;
  friend bool operator==(const Message&, const Message&) = default;
};

std::pmr::memory_resource* heap() {
  return std::pmr::new_delete_resource();
}

// Counts what is allocated and not given back.
class CountingMemory final : public std::pmr::memory_resource {
 public:
  std::size_t in_use = 0;

 private:
  void* do_allocate(std::size_t bytes, std::size_t align) override {
    in_use += bytes;
    return heap()->allocate(bytes, align);
  }
  void do_deallocate(void* at, std::size_t bytes, std::size_t align) override {
    in_use -= bytes;
    heap()->deallocate(at, bytes, align);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

TEST(Ring, HoldsExactlyItsCapacity) {
  for (const uint32_t capacity : {1u, 2u, 3u, 4u, 7u, 8u, 100u}) {
    Ring<uint32_t> ring(capacity, heap());
    EXPECT_EQ(ring.capacity(), capacity);
    for (uint32_t i = 0; i < capacity; ++i) EXPECT_TRUE(ring.push(i));
    EXPECT_FALSE(ring.push(9));
    EXPECT_EQ(ring.size(), capacity);
    EXPECT_EQ(ring.free_count(), 0u);
  }
}

TEST(Ring, GivesBackInOrderAcrossTheWrap) {
  Ring<uint64_t> ring(5, heap());
  uint64_t in = 0;
  uint64_t out = 0;
  for (int round = 0; round < 50; ++round) {
    std::array<uint64_t, 4> burst{};
    std::iota(burst.begin(), burst.end(), in);
    in += ring.push(burst);
    std::array<uint64_t, 3> got{};
    const uint32_t count = ring.pop(got);
    for (uint32_t i = 0; i < count; ++i) EXPECT_EQ(got[i], out++);
  }
  EXPECT_GT(out, 100u);
  EXPECT_EQ(in - out, ring.size());
}

TEST(Ring, TakesThePartOfABurstThatFits) {
  Ring<uint32_t> ring(3, heap());
  const std::array<uint32_t, 5> burst{1, 2, 3, 4, 5};
  EXPECT_EQ(ring.push(burst), 3u);
  std::array<uint32_t, 5> got{};
  EXPECT_EQ(ring.pop(got), 3u);
  EXPECT_EQ(got[0], 1u);
  EXPECT_EQ(got[2], 3u);
}

TEST(Ring, EmptyGivesNothing) {
  Ring<uint32_t> ring(3, heap());
  uint32_t element = 7;
  EXPECT_TRUE(ring.empty());
  EXPECT_FALSE(ring.pop(&element));
  EXPECT_EQ(element, 7u);
  EXPECT_EQ(ring.consume(4, [](const uint32_t&) { return true; }), 0u);
}

TEST(Ring, EmptyBurstsAreNothing) {
  Ring<uint32_t> ring(3, heap());
  EXPECT_TRUE(ring.push(1));
  EXPECT_EQ(ring.push(std::span<const uint32_t>()), 0u);
  EXPECT_EQ(ring.pop(std::span<uint32_t>()), 0u);
  EXPECT_EQ(ring.size(), 1u);
}

TEST(Ring, CarriesStructsWhole) {
  Ring<Message> ring(4, heap());
  EXPECT_TRUE(ring.push(Message{.a = 1, .b = 2, .c = 0x0102030405060708}));
  Message got;
  EXPECT_TRUE(ring.pop(&got));
  EXPECT_EQ(got, (Message{.a = 1, .b = 2, .c = 0x0102030405060708}));
}

TEST(Ring, CarriesPointers) {
  Ring<Message*> ring(4, heap());
  Message message;
  EXPECT_TRUE(ring.push(&message));
  Message* got = nullptr;
  EXPECT_TRUE(ring.pop(&got));
  EXPECT_EQ(got, &message);
}

TEST(Ring, ConsumeLeavesWhatWasRefusedAtTheHead) {
  Ring<uint32_t> ring(8, heap());
  for (uint32_t i = 0; i < 6; ++i) EXPECT_TRUE(ring.push(i));
  EXPECT_EQ(ring.consume(8, [](const uint32_t& e) { return e < 2; }), 2u);
  EXPECT_EQ(ring.size(), 4u);
  uint32_t element = 0;
  EXPECT_TRUE(ring.pop(&element));
  EXPECT_EQ(element, 2u);
}

TEST(Ring, ConsumeStopsAtItsBound) {
  Ring<uint32_t> ring(8, heap());
  for (uint32_t i = 0; i < 6; ++i) EXPECT_TRUE(ring.push(i));
  uint32_t seen = 0;
  EXPECT_EQ(ring.consume(4, [&](const uint32_t&) { return ++seen, true; }), 4u);
  EXPECT_EQ(seen, 4u);
  EXPECT_EQ(ring.size(), 2u);
}

TEST(Ring, ConsumeCrossesTheWrap) {
  Ring<uint32_t> ring(4, heap());
  uint32_t next = 0;
  for (uint32_t round = 0; round < 20; ++round) {
    for (uint32_t i = 0; i < 3; ++i) EXPECT_TRUE(ring.push(round * 3 + i));
    EXPECT_EQ(ring.consume(3, [&](const uint32_t& e) { return e == next++; }), 3u);
  }
  EXPECT_EQ(next, 60u);
}

TEST(Ring, TakesItsMemoryFromTheResourceAndGivesItBack) {
  CountingMemory memory;
  {
    Ring<Message> ring(100, &memory);
    EXPECT_EQ(memory.in_use, Ring<Message>::bytes_for(100));
    Ring<Message> moved(std::move(ring));
    EXPECT_TRUE(moved.push(Message{}));
    EXPECT_EQ(memory.in_use, Ring<Message>::bytes_for(100));
  }
  EXPECT_EQ(memory.in_use, 0u);
}

TEST(Mesh, HasOneRingForEveryOrderedPair) {
  CountingMemory memory;
  Mesh<uint32_t> mesh(4, 16, &memory);
  EXPECT_EQ(memory.in_use, Mesh<uint32_t>::bytes_for(4, 16));
  for (uint32_t i = 0; i < 4; ++i) {
    for (const uint32_t j : mesh.peers(i)) EXPECT_TRUE(mesh.from(i).to(j).push(i * 10 + j));
  }
  for (uint32_t i = 0; i < 4; ++i) {
    for (const uint32_t j : mesh.peers(i)) {
      Ring<uint32_t>& ring = mesh.from(j).to(i);
      uint32_t got = 0;
      EXPECT_TRUE(ring.pop(&got));
      EXPECT_EQ(got, j * 10 + i);
      EXPECT_TRUE(ring.empty());
    }
  }
}

TEST(Mesh, PeersAreAllTheOthers) {
  Mesh<uint32_t> mesh(3, 4, heap());
  EXPECT_EQ(std::vector<uint32_t>(mesh.peers(1).begin(), mesh.peers(1).end()),
            (std::vector<uint32_t>{0, 2}));
}

TEST(Mesh, OfOneHasNoPeers) {
  Mesh<uint32_t> mesh(1, 4, heap());
  EXPECT_TRUE(mesh.peers(0).empty());
}

}  // namespace
}  // namespace limpet::ring
