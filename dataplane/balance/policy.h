// The policy as a pure function: what becomes of a client with a binding
// (dataplane/affinity/README.md, "A server that may not be used"). Whoever decides calls judge():
// the core that has the packet, the key's home, an explanation; so they agree as far as they see
// the same.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "dataplane/snapshot/snapshot.h"

namespace limpet::balance {

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
  kLate,       // dropped: the key's home did not answer in time
};

// What a binding says: where its client goes, and where it went first.
struct Bound {
  binding::ServerId server;
  binding::ServerId first;
};

struct Judgement {
  enum class Action : uint8_t { kUse, kPick, kRefuse } action;
  const snapshot::Server* server = nullptr;  // kUse
  Reason reason = Reason::kNew;
  bool exceed = false;  // kUse: the limit does not stop this client
};

// `bound`: null for a client without a binding. `settled`: the key's home has just decided in full
// knowledge of this very binding; neither a limit nor the way home are asked about again. Reads the
// gauges, changes nothing.
Judgement judge(const snapshot::Pool& pool, const snapshot::Scope* scope, const Bound* bound,
                const Gauges& gauges, bool settled = false);

}  // namespace limpet::balance
