// Pace: how often the control thread looks for what the homes have to say and tells the peers.
//
// A look costs a wakeup, telling a peer a system call and a wakeup of it, whether one binding is in
// it or a hundred. So the control thread looks as often as it may expect some for each peer, within
// limits: often when much is new, and an engine without clients rests. One that is told of bindings
// looks as often as the one that tells it, for in its list as much changes.
//
// Why not woken by the homes: their cores would need a system call for it.
//
// Owner: the control thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/timing/time.h"
#include "control/mirroring/frame.h"

namespace limpet::engine {

class Pace {
 public:
  static constexpr timing::Duration kSlow = timing::milliseconds(1);
  static constexpr timing::Duration kFast = kSlow / 3;
  // What is expected for each peer before the next look.
  static constexpr int64_t kTogether = 16;

  // Without peers nobody waits for news.
  explicit Pace(uint32_t peers) : peers_(peers) {}

  // The time until the next look. `last`: the newest of the update list. (Not what homes say: that
  // is more, and not for peers while a binding is embryonic.)
  timing::Duration next(mirroring::Sequence last, timing::Instant now) {
    // Means over the last few looks: clients come in bursts.
    fresh_ = fresh_ * 3 / 4 +
             kUnit * static_cast<int64_t>(std::min(last.value - last_.value, kFreshMax));
    elapsed_ = elapsed_ * 3 / 4 + std::min(now - looked_at_, kElapsedMax);
    last_ = last;
    looked_at_ = now;
    if (fresh_ < kUnit || peers_ == 0) return kSlow;
    return std::clamp(elapsed_ * (kUnit * kTogether * peers_) / fresh_, kFast, kSlow);
  }

 private:
  static constexpr int64_t kUnit = 16;  // of fresh_: parts of one update
  static constexpr uint64_t kFreshMax = 1 << 20;
  static constexpr timing::Duration kElapsedMax = timing::seconds(1);

  const int64_t peers_;
  mirroring::Sequence last_;
  timing::Instant looked_at_;
  int64_t fresh_ = 0;
  timing::Duration elapsed_{};
};

}  // namespace limpet::engine
