// Closes: records whose last connection here may have closed just now, in the order in which their
// home is to look whether they are idle.
//
// Owner: the core's worker. Invariants
//  1. A record's place is in it at most once; so there is always room for another.
//  2. A place may have become another record's meanwhile: whoever takes it out looks.
// Cost: 8 bytes a record; O(1). No timer for each record: all wait equally long.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <vector>

#include "common/timing/time.h"

namespace limpet::replication {

class Closes {
 public:
  Closes(uint32_t records, std::pmr::memory_resource* memory)
      : due_ms_(records, memory), queue_(records, memory) {}
  static constexpr std::size_t bytes_for(uint32_t records) {
    return std::size_t{records} * 2 * sizeof(uint32_t);
  }

  // To be looked at then; nothing if it is in it.
  void add(uint32_t place, timing::Instant due) {
    if (due_ms_[place] != 0) return;
    due_ms_[place] = ms_of(due);
    queue_[wrapped(first_ + size_++)] = place;
  }
  // Takes the first out if its time has come.
  std::optional<uint32_t> take(timing::Instant now) {
    if (size_ == 0) return std::nullopt;
    const uint32_t place = queue_[first_];
    if (static_cast<int32_t>(ms_of(now) - due_ms_[place]) < 0) return std::nullopt;
    first_ = wrapped(first_ + 1);
    --size_;
    due_ms_[place] = 0;
    return place;
  }
  uint32_t size() const { return size_; }

 private:
  // Modulo 2^32, never 0.
  static uint32_t ms_of(timing::Instant at) {
    return std::max(static_cast<uint32_t>(at.ns / 1'000'000), 1u);
  }
  uint32_t wrapped(uint32_t at) const {
    return at < queue_.size() ? at : at - static_cast<uint32_t>(queue_.size());
  }

  std::pmr::vector<uint32_t> due_ms_;  // by place; 0: not in it
  std::pmr::vector<uint32_t> queue_;
  uint32_t first_ = 0;
  uint32_t size_ = 0;
};

}  // namespace limpet::replication
