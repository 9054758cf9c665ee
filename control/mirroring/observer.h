// Observer: a peer that serves no clients and only keeps a copy: a controller. It hears of every
// binding by the same protocol as engines do, so it can give all back to an engine that has lost
// its own memory and its peers. It has no homes and merges itself, into its update list.
//
// Owner: the thread of its Transport. Invariants
//  1. It makes no bindings, moves none and announces no activity: what it has was told to it.
//  2. What is past its deadline, on any engine, goes; so does what a tombstone has killed.
// Cost: O(1) for each Arrival; tick() looks at a bounded number of entries.
#pragma once

#include <cstdint>
#include <functional>

#include "control/mirroring/session.h"
#include "control/mirroring/update_list.h"

namespace limpet::mirroring {

class Observer final : public Home {
 public:
  // Of the profile that a scope belongs to.
  struct Times {
    timing::Duration timeout;
    timing::Duration update_interval;  // the smaller of half the timeout and what is configured
  };
  struct Counters {
    uint64_t merged = 0;
    uint64_t ignored = 0;  // over when it came
    uint64_t refused = 0;  // no room
    uint64_t expired = 0;
    uint64_t killed = 0;  // by a tombstone of its scope
  };

  // `times` of a scope that no document names: the longest that there are.
  Observer(UpdateList& list, std::function<Times(binding::ScopeId)> times,
           const timing::Clock& clock)
      : list_(list), times_(std::move(times)), clock_(clock) {}

  bool deliver(const Arrival& arrival) override;
  // Looks at `budget` entries for their time, and at as many tombstones.
  void tick(uint32_t budget);

  const Counters& counters() const { return counters_; }

 private:
  bool is_over(binding::ScopeId scope, const binding::Record& record, timing::Instant act_at,
               timing::Duration beyond = {}) const;

  UpdateList& list_;
  std::function<Times(binding::ScopeId)> times_;
  const timing::Clock& clock_;
  Counters counters_;
  uint32_t place_ = 0;
};

}  // namespace limpet::mirroring
