// The rings to the homes of an engine, as the mirroring side sees them.
#pragma once

#include "control/mirroring/exchange.h"
#include "dataplane/persist/table.h"
#include "dataplane/replication/rings.h"

namespace limpet::engine {

class MergeRings final : public mirroring::HomeRings {
 public:
  MergeRings(replication::Rings& rings, const base::KeyedHash& hash, uint32_t entries)
      : rings_(rings), hash_(hash), homes_(persist::homes_of(rings.cores(), entries)) {}

  uint32_t homes() const override { return homes_; }
  uint32_t home_of(binding::ScopeSlot scope, const binding::Key& key) const override {
    return homes_ == 1 ? 0 : base::reduce(binding::hash_of(hash_, scope, key), homes_);
  }
  bool send(uint32_t home, const binding::Merge& message) override {
    if (rings_.merges[home].push(message)) return true;
    full_ |= uint64_t{1} << home;
    return false;
  }

  // Whether a home that had no room has some again, since the last call.
  bool has_room_again() {
    uint64_t again = 0;
    for (uint32_t home = 0; home < homes_; ++home) {
      const bool was_full = (full_ >> home & 1) != 0;
      if (was_full && rings_.merges[home].free_count() > 0) again |= uint64_t{1} << home;
    }
    full_ &= ~again;
    return again != 0;
  }

 private:
  static_assert(base::kWorkersMax <= 64, "a bit a home");

  replication::Rings& rings_;
  const base::KeyedHash& hash_;
  const uint32_t homes_;
  uint64_t full_ = 0;  // homes that had no room
};

}  // namespace limpet::engine
