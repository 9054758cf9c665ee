// Pen: packets that open a connection and wait for the home of their key, and with them the memory
// of what this core has asked: one CLAIM per key at a time.
//
// Owner: the core's worker. Invariants
//  1. At most kKeys keys, kPacketsPerKey packets each.
//  2. A slot whose CLAIM is unanswered stays, without packets if need be; the answer frees it.
//  3. A place in a connection limit that was taken for a CLAIM is named in its slot until the
//  answer.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "common/base/hash_index.h"
#include "common/timing/time.h"
#include "dataplane/packet/buffer.h"
#include "dataplane/persist/key.h"

namespace limpet::l4 {

class Pen {
 public:
  static constexpr uint32_t kKeys = 1024;
  static constexpr uint32_t kPacketsPerKey = 8;

  static constexpr uint32_t kNoFlow = UINT32_MAX;

  struct Slot {
    persist::Key key;
    snapshot::ScopeSlot scope;
    bool used = false;
    bool claimed = false;      // its CLAIM is unanswered
    bool reserved = false;     // a place was taken in the limit of `server_slot`
    uint8_t count = 0;         // packets
    uint32_t have_serial = 0;  // what the CLAIM said this core had
    uint32_t have_change = 0;
    snapshot::ServerId server;
    snapshot::ServerSlot server_slot;
    uint64_t version = 0;     // the snapshot of the CLAIM
    uint32_t flow = kNoFlow;  // that asks for its binding anew; no packet waits for that
    timing::Instant since;    // of the oldest packet
    std::array<packet::Buffer*, kPacketsPerKey> packets;
  };

  explicit Pen(std::pmr::memory_resource* memory) : index_(kKeys, memory), slots_(kKeys, memory) {
    free_.reserve(kKeys);
    for (uint32_t i = kKeys; i-- > 0;) free_.push_back(i);
  }
  ~Pen() {
    for (Slot& s : slots_) {
      for (uint32_t i = 0; s.used && i < s.count; ++i) packet::release(s.packets[i]);
    }
  }

  // `hash` is of (scope, key).
  Slot* find(uint32_t hash, snapshot::ScopeSlot scope, const persist::Key& key) {
    if (size() == 0) return nullptr;
    const uint32_t at = index_.find(
        hash, [&](uint32_t i) { return slots_[i].key == key && slots_[i].scope == scope; });
    return at == base::HashIndex::kNone ? nullptr : &slots_[at];
  }
  // A slot for a key that has none; null: full.
  Slot* add(uint32_t hash, snapshot::ScopeSlot scope, const persist::Key& key,
            timing::Instant since) {
    if (free_.empty()) return nullptr;
    const uint32_t at = free_.back();
    free_.pop_back();
    index_.insert(hash, at);
    slots_[at] = {.key = key, .scope = scope, .used = true, .since = since, .packets = {}};
    return &slots_[at];
  }
  // False: full. `since`: when the packet arrived; parking it again makes it no younger.
  bool park(Slot& slot, packet::Buffer* buffer, timing::Instant since) {
    if (slot.count == kPacketsPerKey) return false;
    slot.since = slot.count == 0 ? since : std::min(slot.since, since);
    slot.packets[slot.count++] = buffer;
    ++packets_;
    return true;
  }
  // Takes the packets out; returns how many. The slot stays.
  uint32_t take(Slot& slot, packet::Buffer** out) {
    const uint32_t n = slot.count;
    for (uint32_t i = 0; i < n; ++i) out[i] = slot.packets[i];
    slot.count = 0;
    packets_ -= n;
    return n;
  }
  void remove(uint32_t hash, Slot& slot) {
    const auto at = static_cast<uint32_t>(&slot - slots_.data());
    index_.erase(hash, at);
    slot.used = false;
    free_.push_back(at);
  }

  uint32_t size() const { return kKeys - static_cast<uint32_t>(free_.size()); }
  uint32_t packets() const { return packets_; }
  Slot& slot(uint32_t i) { return slots_[i]; }
  const Slot& slot(uint32_t i) const { return slots_[i]; }
  uint32_t index_of(const Slot& slot) const { return static_cast<uint32_t>(&slot - slots_.data()); }

 private:
  base::HashIndex index_;
  std::pmr::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  uint32_t packets_ = 0;
};

}  // namespace limpet::l4
