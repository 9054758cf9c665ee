// Ring: a bounded queue from exactly one thread to exactly one other, over rte_ring. Mesh: one ring
// for every ordered pair of N members. Besides the Snapshot and the counters, this is all that
// crosses threads.
//
// Threads. A ring has one producer (push, free_count) and one consumer (pop, consume, size); either
// may read the other's count, which is then old at once, but errs on the safe side: a producer
// never sees too much room, a consumer never too many elements. Construction and destruction happen
// while neither runs.
//
// Invariants
//  1. A ring holds exactly `capacity` elements, whatever the power of two around it is.
//  2. Elements come out in the order they went in; one that was pushed is never lost.
//  3. push() publishes a burst as a whole: the consumer sees what the producer wrote before it.
//
// Cost: a burst costs one release store each way, and a cache miss on the other's index. No system
// call, no allocation after construction, no EAL: the memory is the caller's.
//
// Why the zero-copy calls of rte_ring: its copying calls move elements as 32-bit words, through
// pointers that the compiler may assume never alias T.
#pragma once

#include <rte_ring.h>
#include <rte_ring_peek_zc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <memory_resource>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/base/assert.h"

namespace limpet::ring {

template <class T>
class Ring {
  static_assert(std::is_trivially_copyable_v<T>);
  static_assert(sizeof(T) % sizeof(uint32_t) == 0, "rte_ring counts elements in 32-bit words");
  static_assert(alignof(T) <= RTE_CACHE_LINE_SIZE);

 public:
  // At most this many elements.
  static constexpr uint32_t kCapacityMax = 1u << 20;
  // How many elements before visit() consume() shows one to expect().
  static constexpr uint32_t kExpected = 8;

  // `capacity` elements, 1 to kCapacityMax; `memory` outlives the ring.
  Ring(uint32_t capacity, std::pmr::memory_resource* memory)
      : memory_(memory), bytes_(bytes_for(capacity)) {
    LIMPET_ASSERT(capacity >= 1 && capacity <= kCapacityMax);
    ring_ = static_cast<rte_ring*>(memory_->allocate(bytes_, RTE_CACHE_LINE_SIZE));
    const int error =
        rte_ring_init(ring_, "limpet", capacity, RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
    LIMPET_ASSERT(error == 0 && rte_ring_get_capacity(ring_) == capacity);
  }
  Ring(Ring&& other) noexcept
      : memory_(other.memory_), bytes_(other.bytes_), ring_(std::exchange(other.ring_, nullptr)) {}
  Ring& operator=(Ring&&) = delete;
  ~Ring() {
    if (ring_ != nullptr) memory_->deallocate(ring_, bytes_, RTE_CACHE_LINE_SIZE);
  }

  // Bytes of memory that a ring takes.
  static std::size_t bytes_for(uint32_t capacity) {
    const ssize_t bytes = rte_ring_get_memsize_elem(sizeof(T), rte_align32pow2(capacity + 1));
    LIMPET_ASSERT(bytes > 0);
    return static_cast<std::size_t>(bytes);
  }

  // Producer. Takes the first elements that fit; returns how many.
  uint32_t push(std::span<const T> elements) {
    if (elements.empty()) return 0;
    rte_ring_zc_data room;
    const uint32_t count = rte_ring_enqueue_zc_burst_elem_start(
        ring_, sizeof(T), static_cast<uint32_t>(elements.size()), &room, nullptr);
    if (count == 0) return 0;
    const uint32_t first = std::min<uint32_t>(room.n1, count);
    std::memcpy(room.ptr1, elements.data(), first * sizeof(T));
    if (count > first) std::memcpy(room.ptr2, &elements[first], (count - first) * sizeof(T));
    rte_ring_enqueue_zc_elem_finish(ring_, count);
    return count;
  }
  // Producer. False: full.
  bool push(const T& element) { return push(std::span<const T>(&element, 1)) == 1; }

  // Consumer. Takes the oldest elements, as many as there are and fit; returns how many.
  uint32_t pop(std::span<T> elements) {
    if (elements.empty()) return 0;
    rte_ring_zc_data found;
    const uint32_t count = rte_ring_dequeue_zc_burst_elem_start(
        ring_, sizeof(T), static_cast<uint32_t>(elements.size()), &found, nullptr);
    if (count == 0) return 0;
    const uint32_t first = std::min<uint32_t>(found.n1, count);
    std::memcpy(elements.data(), found.ptr1, first * sizeof(T));
    if (count > first) std::memcpy(&elements[first], found.ptr2, (count - first) * sizeof(T));
    rte_ring_dequeue_zc_elem_finish(ring_, count);
    return count;
  }
  // Consumer. False: empty.
  bool pop(T* element) { return pop(std::span<T>(element, 1)) == 1; }

  // Consumer. Shows `visit(const T&)` at most `count` elements, oldest first, until it answers
  // false: that one stays at the head of the ring. Returns how many were taken. For messages that
  // may be taken only once everything they cause fits.
  template <class Visit>
  uint32_t consume(uint32_t count, Visit&& visit) {
    return consume(count, visit, [](const T&) {});
  }
  // `expect(const T&)` sees each a few elements before: to ask for memory that `visit` will read.
  template <class Visit, class Expect>
  uint32_t consume(uint32_t count, Visit&& visit, Expect&& expect) {
    if (count == 0) return 0;
    rte_ring_zc_data found;
    count = rte_ring_dequeue_zc_burst_elem_start(ring_, sizeof(T), count, &found, nullptr);
    if (count == 0) return 0;
    const auto element = [&](uint32_t i) {
      const char* at = i < found.n1
                           ? static_cast<const char*>(found.ptr1) + i * sizeof(T)
                           : static_cast<const char*>(found.ptr2) + (i - found.n1) * sizeof(T);
      T out;
      std::memcpy(&out, at, sizeof(T));
      return out;
    };
    for (uint32_t i = 0; i < std::min(count, kExpected); ++i) expect(element(i));
    uint32_t taken = 0;
    for (; taken < count; ++taken) {
      if (taken + kExpected < count) expect(element(taken + kExpected));
      const T next = element(taken);
      if (!visit(next)) break;
    }
    rte_ring_dequeue_zc_elem_finish(ring_, taken);
    return taken;
  }

  // Shows `visit(const T&)` all elements, oldest first, and takes none; while neither end is at
  // work.
  template <class Visit>
  void peek(Visit&& visit) const {
    const char* elements = reinterpret_cast<const char*>(&ring_[1]);
    const uint32_t first = ring_->cons.tail;
    for (uint32_t i = 0; i < size(); ++i) {
      T element;
      std::memcpy(&element, elements + ((first + i) & ring_->mask) * sizeof(T), sizeof(T));
      visit(std::as_const(element));
    }
  }

  // Atomic loads, which rte_ring_count() does not use: it may be hoisted out of a waiting loop.
  uint32_t size() const {
    const uint32_t out = __atomic_load_n(&ring_->cons.tail, __ATOMIC_ACQUIRE);
    const uint32_t in = __atomic_load_n(&ring_->prod.tail, __ATOMIC_ACQUIRE);
    return std::min(in - out, capacity());
  }
  uint32_t free_count() const { return capacity() - size(); }
  bool empty() const { return size() == 0; }
  uint32_t capacity() const { return rte_ring_get_capacity(ring_); }

 private:
  std::pmr::memory_resource* memory_;
  std::size_t bytes_;
  rte_ring* ring_ = nullptr;
};

// Member i pushes to from(i).to(j) and pops from from(j).to(i), for every j in peers(i); nobody has
// a ring to itself.
template <class T>
class Mesh {
 public:
  class Row {
   public:
    Ring<T>& to(uint32_t j) const { return mesh_.ring(i_, j); }

   private:
    friend Mesh;
    Row(Mesh& mesh, uint32_t i) : mesh_(mesh), i_(i) {}

    Mesh& mesh_;
    uint32_t i_;
  };

  // `members` * (`members` - 1) rings of `capacity` elements.
  Mesh(uint32_t members, uint32_t capacity, std::pmr::memory_resource* memory) : members_(members) {
    LIMPET_ASSERT(members >= 1);
    rings_.reserve(std::size_t{members} * (members - 1));
    for (uint32_t i = 0; i < members * (members - 1); ++i) rings_.emplace_back(capacity, memory);
    for (uint32_t i = 0; i < members; ++i) {
      for (uint32_t j = 0; j < members; ++j) {
        if (j != i) peers_.push_back(j);
      }
    }
  }
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  static std::size_t bytes_for(uint32_t members, uint32_t capacity) {
    return std::size_t{members} * (members - 1) * Ring<T>::bytes_for(capacity);
  }

  uint32_t members() const { return members_; }
  Row from(uint32_t i) { return Row(*this, i); }
  const Ring<T>& between(uint32_t i, uint32_t j) const {
    return const_cast<Mesh*>(this)->ring(i, j);
  }
  // Everyone but `i`, in ascending order.
  std::span<const uint32_t> peers(uint32_t i) const {
    LIMPET_ASSERT(i < members_);
    return std::span(peers_).subspan(std::size_t{i} * (members_ - 1), members_ - 1);
  }

 private:
  Ring<T>& ring(uint32_t i, uint32_t j) {
    LIMPET_ASSERT(i < members_ && j < members_ && i != j);
    return rings_[std::size_t{i} * (members_ - 1) + (j > i ? j - 1 : j)];
  }

  uint32_t members_;
  std::vector<Ring<T>> rings_;   // [i][j], without the diagonal
  std::vector<uint32_t> peers_;  // [i], without i
};

}  // namespace limpet::ring
