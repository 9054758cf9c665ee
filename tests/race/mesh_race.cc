// Real threads through a Mesh: what comes out is what went in, in order, whole, and the sanitizer
// sees no race.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "dataplane/ring/ring.h"

namespace limpet::ring {
namespace {

struct Message {
  uint32_t from = 0;
  uint32_t sequence = 0;
  uint64_t check = 0;
  const uint64_t* payload = nullptr;  // written by the producer just before

  static uint64_t check_of(uint32_t from, uint32_t sequence) {
    return (uint64_t{from} << 32 | sequence) * 0x9e3779b97f4a7c15u;
  }
};

TEST(MeshRace, EveryMessageArrivesOnceInOrderAndWhole) {
  constexpr uint32_t kMembers = 3;
  constexpr uint32_t kMessages = 40'000;  // per ordered pair
  Mesh<Message> mesh(kMembers, 61, std::pmr::new_delete_resource());
  std::array<std::vector<uint64_t>, kMembers> payloads;
  for (auto& p : payloads) p.resize(kMessages);
  std::atomic<uint32_t> wrong{0};

  const auto member = [&](uint32_t me) {
    std::array<uint32_t, kMembers> sent{};
    std::array<uint32_t, kMembers> received{};
    std::array<Message, 16> burst;
    uint32_t open = 2 * (kMembers - 1);
    // The payload of sequence s is written once, before the first message that carries it.
    uint32_t written = 0;
    while (open > 0) {
      bool moved = false;
      for (const uint32_t peer : mesh.peers(me)) {
        uint32_t count = 0;
        while (count < burst.size() && sent[peer] + count < kMessages) {
          const uint32_t sequence = sent[peer] + count;
          if (sequence == written) payloads[me][written++] = sequence + me;
          burst[count++] = {me, sequence, Message::check_of(me, sequence), &payloads[me][sequence]};
        }
        const uint32_t taken = mesh.from(me).to(peer).push(std::span(burst).first(count));
        sent[peer] += taken;
        moved |= taken > 0;
        if (taken > 0 && sent[peer] == kMessages) --open;

        const auto judge = [&](const Message& m) {
          const bool right = m.from == peer && m.sequence == received[peer] &&
                             m.check == Message::check_of(peer, m.sequence) &&
                             *m.payload == m.sequence + peer;
          if (!right) wrong.fetch_add(1, std::memory_order_relaxed);
          if (++received[peer] == kMessages) --open;
        };
        Ring<Message>& in = mesh.from(peer).to(me);
        if (received[peer] % 2 == 0) {
          uint32_t budget = 7;
          moved |= in.consume(9, [&](const Message& m) {
            if (budget-- == 0) return false;
            judge(m);
            return true;
          }) > 0;
        } else {
          std::array<Message, 8> got;
          const uint32_t n = in.pop(got);
          for (uint32_t i = 0; i < n; ++i) judge(got[i]);
          moved |= n > 0;
        }
      }
      if (!moved) std::this_thread::yield();
    }
  };

  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kMembers; ++i) threads.emplace_back(member, i);
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong.load(), 0u);
}

TEST(MeshRace, CountsErrOnTheSafeSide) {
  constexpr uint32_t kMessages = 200'000;
  Ring<uint32_t> ring(32, std::pmr::new_delete_resource());
  std::atomic<uint32_t> wrong{0};
  std::thread consumer([&] {
    uint32_t next = 0;
    while (next < kMessages) {
      const uint32_t there = ring.size();
      std::array<uint32_t, 32> got;
      const uint32_t count = ring.pop(got);
      if (count < there) wrong.fetch_add(1, std::memory_order_relaxed);
      for (uint32_t i = 0; i < count; ++i) {
        if (got[i] != next++) wrong.fetch_add(1, std::memory_order_relaxed);
      }
      if (count == 0) std::this_thread::yield();
    }
  });
  for (uint32_t next = 0; next < kMessages;) {
    const uint32_t room = ring.free_count();
    for (uint32_t i = 0; i < room && next < kMessages; ++i) {
      if (!ring.push(next++)) wrong.fetch_add(1, std::memory_order_relaxed);
    }
    if (room == 0) std::this_thread::yield();
  }
  consumer.join();
  EXPECT_EQ(wrong.load(), 0u);
}

}  // namespace
}  // namespace limpet::ring
