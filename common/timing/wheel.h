// A timer wheel for records that know their own deadline. The wheel only says when to look at a
// record again; pushing a deadline back costs nothing (the record is looked at, found early and put
// back), so a packet that keeps a flow alive writes one field.
//
// Owner: one thread. Links are kept in the records themselves; `links(id)` gives them.
//
// Invariants
//  1. A record is looked at no earlier than the end of its deadline's slot, so never too early.
//  2. advance() looks at most at `budget` records; what is left waits for the next call.
//
// Why not rte_timer: a skip list, O(log n) for each re-arm, and 64 bytes a timer.
#pragma once

#include <array>
#include <cstdint>

#include "common/base/assert.h"
#include "common/timing/time.h"

namespace limpet::timing {

// A point in time in units of 2^20 ns (about 1.05 ms), wrapping after 52 days; compare only times
// that are less than 26 days apart.
struct Tick {
  uint32_t value = 0;

  static constexpr Tick of(Instant t) { return {static_cast<uint32_t>(t.ns >> 20)}; }
  // The first tick at which `t` has certainly passed.
  static constexpr Tick after(Instant t) { return {static_cast<uint32_t>((t.ns >> 20) + 1)}; }
  friend constexpr bool operator==(Tick, Tick) = default;
  bool reached(Tick deadline) const { return static_cast<int32_t>(value - deadline.value) >= 0; }
};

struct WheelLinks {
  uint32_t previous = UINT32_MAX;  // record, or slot | kSlotFlag when first of its slot
  uint32_t next = UINT32_MAX;
};

class Wheel {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kSlots = 8192;
  static constexpr uint32_t kTicksPerSlot = 8;
  static constexpr uint32_t kSlotFlag = 1u << 31;  // so records are numbered below 2^31

  explicit Wheel(Tick now) : cursor_(now.value / kTicksPerSlot) { heads_.fill(kNone); }

  template <class Links>
  void add(uint32_t id, Tick deadline, Links&& links) {
    uint32_t slot = deadline.value / kTicksPerSlot;
    const auto ahead = static_cast<int32_t>((slot - cursor_) << 3) >> 3;  // 29-bit slot arithmetic
    if (ahead < 0) slot = cursor_;
    if (ahead > static_cast<int32_t>(kSlots) - 2)
      slot = cursor_ + kSlots - 2;  // - 2: look() runs with the cursor one ahead
    const uint32_t at = slot % kSlots;
    WheelLinks& mine = links(id);
    mine.previous = at | kSlotFlag;
    mine.next = heads_[at];
    if (mine.next != kNone) links(mine.next).previous = id;
    heads_[at] = id;
  }

  template <class Links>
  void remove(uint32_t id, Links&& links) {
    WheelLinks& mine = links(id);
    LIMPET_ASSERT(mine.previous != kNone);
    if ((mine.previous & kSlotFlag) != 0) {
      heads_[mine.previous & ~kSlotFlag] = mine.next;
    } else {
      links(mine.previous).next = mine.next;
    }
    if (mine.next != kNone) links(mine.next).previous = mine.previous;
    mine = {};
  }

  // Takes the records of the slots that are wholly over out of the wheel and calls `look(id)`,
  // which adds the record again or is done with it. At most `budget` records and kSlots slots a
  // call.
  template <class Links, class Look>
  void advance(Tick now, uint32_t budget, Links&& links, Look&& look) {
    const uint32_t current = now.value / kTicksPerSlot;
    for (uint32_t steps = 0; steps < kSlots; ++steps) {
      if (static_cast<int32_t>((current - cursor_) << 3) <= 0) return;
      const uint32_t at = cursor_ % kSlots;
      while (heads_[at] != kNone) {
        if (budget-- == 0) return;
        const uint32_t id = heads_[at];
        // Behind this slot already: a record that must wait longer does not come back to it.
        remove(id, links);
        ++cursor_;
        look(id);
        --cursor_;
      }
      ++cursor_;
      cursor_ &= kCursorMask;
    }
  }

 private:
  // Slots are numbered by tick / 8: 29 bits that wrap with the tick.
  static constexpr uint32_t kCursorMask = UINT32_MAX / kTicksPerSlot;

  uint32_t cursor_;
  std::array<uint32_t, kSlots> heads_;
};

}  // namespace limpet::timing
