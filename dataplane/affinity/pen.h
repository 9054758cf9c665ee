// Pen: packets that open a connection and wait for the home of their key, and with them the memory
// of what this core has asked: one CLAIM per key at a time.
//
// Owner: the core's worker. Invariants
//  1. At most keys() keys, and as many packets as the constructor was told.
//  2. A key's first packet always has room: what no key may take beyond its first is one place for
//     each key that has none. Of the rest a key may hold a quarter of what is free, and never more
//     than kPacketsPerKey: a flood of one client, or of a few, leaves room for others.
//  3. A slot whose CLAIM is unanswered stays, without packets if need be; the answer frees it.
//  4. A place in a connection limit that was taken for a CLAIM is named in its slot until the
//     answer.
//  5. A slot is in the queue of those to be judged once at most, so the queue has room.
//
// Cost: every call is O(1), but for take(): the packets of a key.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "common/base/assert.h"
#include "common/base/hash_index.h"
#include "common/binding/key.h"
#include "common/timing/time.h"
#include "dataplane/packet/buffer.h"
#include "dataplane/replication/message.h"

namespace limpet::affinity {

class Pen {
 public:
  static constexpr uint32_t kKeys = 1024;
  static constexpr uint32_t kPackets = 8192;
  static constexpr uint32_t kPacketsPerKey = 256;

  static constexpr uint32_t kNoFlow = UINT32_MAX;

  struct Slot {
    binding::Key key;
    binding::ScopeSlot scope;
    bool used = false;
    bool claimed = false;   // its CLAIM is unanswered, or the answer not judged yet
    bool answered = false;  // `answer` is there
    bool reserved = false;  // a place was taken in the limit of `server_slot`
    bool queued = false;    // to be judged; stays when the slot is given to another key
    uint16_t count = 0;     // packets
    uint32_t first = 0;     // places of its packets, when there are any
    uint32_t last = 0;
    uint32_t have_serial = 0;  // what the CLAIM said this core had
    uint32_t have_change = 0;
    binding::ServerId server;
    snapshot::ServerSlot server_slot;
    uint64_t version = 0;     // the snapshot of the CLAIM
    uint32_t flow = kNoFlow;  // that asks for its binding anew; no packet waits for that
    timing::Instant since;    // of the oldest packet
    replication::Down answer{};
  };

  // Room for `packets`, of half as many keys at most.
  Pen(uint32_t packets, std::pmr::memory_resource* memory)
      : keys_(keys_of(packets)),
        index_(keys_, memory),
        slots_(keys_, memory),
        free_(keys_, memory),
        queue_(keys_, memory),
        places_(packets, memory),
        free_slots_(keys_) {
    LIMPET_ASSERT(packets >= 2);
    for (uint32_t i = 0; i < keys_; ++i) free_[i] = keys_ - 1 - i;
    for (uint32_t i = 0; i < packets; ++i) places_[i].next = i + 1;
  }
  ~Pen() {
    for (Slot& s : slots_) {
      while (s.used && s.count > 0) packet::release(pop(s));
    }
  }
  Pen(const Pen&) = delete;
  Pen& operator=(const Pen&) = delete;

  static std::size_t bytes_for(uint32_t packets) {
    return keys_of(packets) * (sizeof(Slot) + 2 * sizeof(uint32_t)) + packets * sizeof(Place) +
           base::HashIndex::bytes_for(keys_of(packets));
  }

  // `hash` is of (scope, key).
  Slot* find(uint32_t hash, binding::ScopeSlot scope, const binding::Key& key) {
    if (size() == 0) return nullptr;
    const uint32_t at = index_.find(
        hash, [&](uint32_t i) { return slots_[i].key == key && slots_[i].scope == scope; });
    return at == base::HashIndex::kNone ? nullptr : &slots_[at];
  }
  // A slot for a key that has none; null: full.
  Slot* add(uint32_t hash, binding::ScopeSlot scope, const binding::Key& key,
            timing::Instant since) {
    if (free_slots_ == 0) return nullptr;
    const uint32_t at = free_[--free_slots_];
    index_.insert(hash, at);
    const bool queued = slots_[at].queued;
    slots_[at] = {.key = key, .scope = scope, .used = true, .queued = queued, .since = since};
    return &slots_[at];
  }
  // False: full. `since`: when the packet arrived; parking it again makes it no younger.
  bool park(Slot& slot, packet::Buffer* buffer, timing::Instant since) {
    if (slot.count > 0 && slot.count >= share()) return false;
    slot.since = slot.count == 0 ? since : std::min(slot.since, since);
    push(slot, buffer);
    return true;
  }
  // Takes the packets out, kPacketsPerKey at most; returns how many. The slot stays.
  uint32_t take(Slot& slot, packet::Buffer** out) {
    const uint32_t n = slot.count;
    for (uint32_t i = 0; i < n; ++i) out[i] = pop(slot);
    return n;
  }
  void remove(uint32_t hash, Slot& slot) {
    LIMPET_ASSERT(slot.count == 0);
    const uint32_t at = index_of(slot);
    index_.erase(hash, at);
    slot.used = false;
    free_[free_slots_++] = at;
  }

  // To be judged; may be in the queue already.
  void queue(Slot& slot) {
    if (slot.queued) return;
    slot.queued = true;
    const uint32_t tail = queue_first_ + queued_;
    queue_[tail >= keys_ ? tail - keys_ : tail] = index_of(slot);
    ++queued_;
  }
  // The one queued first; it may have been removed since, or be another key's now.
  Slot& next() {
    LIMPET_ASSERT(queued_ > 0);
    Slot& slot = slots_[queue_[queue_first_]];
    queue_first_ = queue_first_ + 1 == keys_ ? 0 : queue_first_ + 1;
    --queued_;
    slot.queued = false;
    return slot;
  }
  uint32_t queued() const { return queued_; }

  uint32_t keys() const { return keys_; }
  uint32_t size() const { return keys_ - free_slots_; }
  uint32_t packets() const { return packets_; }
  Slot& slot(uint32_t i) { return slots_[i]; }
  const Slot& slot(uint32_t i) const { return slots_[i]; }

 private:
  static constexpr uint32_t kShareOfFree = 4;

  struct Place {
    packet::Buffer* buffer = nullptr;
    uint32_t next = 0;  // of the slot's packets, or of the free places
  };

  static uint32_t keys_of(uint32_t packets) { return std::min(kKeys, packets / 2); }
  uint32_t index_of(const Slot& slot) const { return static_cast<uint32_t>(&slot - slots_.data()); }
  // How many packets a key may have.
  uint32_t share() const {
    const uint32_t free = static_cast<uint32_t>(places_.size()) - packets_;
    const uint32_t kept = keys_ - keys_waiting_;
    return std::min(kPacketsPerKey, (free - kept + kShareOfFree - 1) / kShareOfFree);
  }
  void push(Slot& slot, packet::Buffer* buffer) {
    const uint32_t at = free_places_head_;
    free_places_head_ = places_[at].next;
    places_[at].buffer = buffer;
    if (slot.count++ == 0) {
      slot.first = at;
      ++keys_waiting_;
    } else {
      places_[slot.last].next = at;
    }
    slot.last = at;
    ++packets_;
  }
  packet::Buffer* pop(Slot& slot) {
    const uint32_t at = slot.first;
    slot.first = places_[at].next;
    places_[at].next = free_places_head_;
    free_places_head_ = at;
    if (--slot.count == 0) --keys_waiting_;
    --packets_;
    return places_[at].buffer;
  }

  const uint32_t keys_;
  base::HashIndex index_;
  std::pmr::vector<Slot> slots_;
  std::pmr::vector<uint32_t> free_;   // slots, the first free_slots_ of them
  std::pmr::vector<uint32_t> queue_;  // slots, a ring
  std::pmr::vector<Place> places_;
  uint32_t free_slots_;
  uint32_t free_places_head_ = 0;
  uint32_t queue_first_ = 0;
  uint32_t queued_ = 0;
  uint32_t packets_ = 0;
  uint32_t keys_waiting_ = 0;  // that have packets
};

}  // namespace limpet::affinity
