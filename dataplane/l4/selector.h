// Selector: which server a new connection goes to, and what becomes of the client's binding.
//
// judge() is the policy of SPEC 2 as a pure function; Selector::choose() carries it out, and an
// explanation calls it and stops there, so both always agree.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/random.h"
#include "dataplane/balance/pick.h"
#include "dataplane/persist/table.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::l4 {

// Connections open on each server over all cores, by ServerSlot. Touched only where a limit is set.
class Gauges {
 public:
  explicit Gauges(std::size_t servers) : open_(servers) {}

  bool at_limit(const snapshot::Server& s) const {
    return s.connections_max != 0 &&
           open_[s.slot.value].load(std::memory_order_relaxed) >= s.connections_max;
  }
  // Takes a place; `exceed` takes one even beyond the limit.
  bool reserve(const snapshot::Server& s, bool exceed) {
    auto& open = open_[s.slot.value];
    if (open.fetch_add(1, std::memory_order_relaxed) < s.connections_max || exceed) return true;
    open.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  void release(snapshot::ServerSlot slot) {
    open_[slot.value].fetch_sub(1, std::memory_order_relaxed);
  }
  uint32_t open(snapshot::ServerSlot slot) const {
    return open_[slot.value].load(std::memory_order_relaxed);
  }

 private:
  std::vector<std::atomic<uint32_t>> open_;
};

enum class Reason : uint8_t {
  kNew,        // no binding: the algorithm chose
  kEntry,      // the binding's server
  kMoved,      // the binding's server may not be used: another one
  kHome,       // back to the first server
  kDown,       // refused by policy: server down
  kDraining,   // refused by policy: server disabled
  kAtLimit,    // refused: at the connection limit
  kTableFull,  // refused: no room for a binding
  kNoServer,   // refused: no usable server
};

struct Judgement {
  enum class Action : uint8_t { kUse, kPick, kRefuse } action;
  const snapshot::Server* server = nullptr;  // kUse
  Reason reason = Reason::kNew;
  bool exceed = false;  // kUse: the limit does not stop this client
};

// What SPEC 2.2-2.4 says of a client with this binding (null: none). Reads the gauges, changes
// nothing.
Judgement judge(const snapshot::Pool& pool, const snapshot::Scope* scope,
                const persist::Entry* entry, const Gauges& gauges);

struct Choice {
  const snapshot::Server* server = nullptr;  // null: refused, `reason` says why
  persist::Entry* entry = nullptr;           // null: no persistence
  Reason reason = Reason::kNew;
  bool gauged = false;   // a place in the server's limit was taken
  bool beyond = false;   // ... beyond the limit
  bool created = false;  // the entry is new
};

struct LookupCounters {
  telemetry::Counter hits;
  telemetry::Counter misses;
  telemetry::Counter moved;
  telemetry::Counter returned_home;
  telemetry::Counter refused;
};

class Selector {
 public:
  Selector(persist::Table& table, Gauges& gauges, std::span<balance::Load> loads,
           std::span<balance::Turn> turns, base::Random& random)
      : table_(table), gauges_(gauges), loads_(loads), turns_(turns), random_(random) {}

  // Decides and carries out: the binding is made or moved, a place in the limit is taken. The
  // caller opens the connection (Entry::open) or takes the choice back with undo().
  Choice choose(const snapshot::Snapshot& s, const snapshot::VirtualService& vs,
                const balance::Client& client, timing::Instant now);
  void undo(const Choice& choice);

  const LookupCounters& counters() const { return counters_; }

 private:
  bool reserve(const snapshot::Server& server, bool exceed, Choice* choice);
  Choice pick(const snapshot::Snapshot& s, const snapshot::Pool& pool, const snapshot::Scope* scope,
              persist::Entry* entry, const balance::Client& client, timing::Instant now,
              Reason reason);

  persist::Table& table_;
  Gauges& gauges_;
  std::span<balance::Load> loads_;
  std::span<balance::Turn> turns_;
  base::Random& random_;
  LookupCounters counters_;
};

}  // namespace limpet::l4
