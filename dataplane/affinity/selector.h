// Selector: which server a new connection goes to, and what becomes of the client's binding.
//
// Where this core is the key's home, or its copy may be used as it is, the choice is made at once.
// Else the home has to be asked; the caller parks the packet and calls propose().
#pragma once

#include <cstdint>

#include "dataplane/affinity/question.h"
#include "dataplane/balance/picker.h"
#include "dataplane/replication/replica.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::affinity {

using balance::Reason;

// What a packet that opens a connection brings along; the most if it waited for its key's home.
struct Grant {
  timing::Instant since;  // when it arrived
  // The home has just looked at the binding of this serial and change and left it so.
  uint32_t settled_serial = 0;
  uint32_t settled_change = 0;
  // The home has just said that it knows no binding of the key.
  bool nothing = false;
  bool datagram = false;  // no SYN
  // A place in the connection limit of this server is taken for it; null: none.
  const snapshot::Server* reserved = nullptr;
};

struct Choice {
  enum class Wait : uint8_t {
    kNo,
    kClaim,  // its home has to be asked
    kRoom,   // this home cannot do it yet
  };

  const snapshot::Server* server = nullptr;  // null: refused, `reason` says why; or it has to wait
  persist::Entry* entry = nullptr;           // null: no persistence
  Reason reason = Reason::kNew;
  Wait wait = Wait::kNo;
  bool gauged = false;   // a place in the server's limit was taken
  bool beyond = false;   // ... beyond the limit
  bool created = false;  // the entry is new
};

struct LookupCounters {
  telemetry::Counter hits;
  telemetry::Counter misses;
  telemetry::Counter returned_home;
  telemetry::Counter refused;
};

class Selector {
 public:
  Selector(replication::Replica& replica, balance::Picker& picker)
      : replica_(replica), picker_(picker) {}

  // Decides and carries out: the binding is made or moved, a place in the limit is taken. The
  // caller opens the connection (Entry::open) or takes the choice back with undo(). A place that
  // `grant` brought is used up (and cleared) when the choice falls on its server.
  Choice choose(const snapshot::Snapshot& s, const Question& question, Grant& grant);
  void undo(const Choice& choice);

  // After Choice::Wait::kClaim: what to ask the home for.
  balance::Picked propose(const snapshot::Snapshot& s, const Question& question,
                          uint32_t choice_hash) {
    return picker_.pick(s, question.pool, choice_hash);
  }

  const LookupCounters& counters() const { return counters_; }
  void count_refused() { ++counters_.refused; }

 private:
  Choice use(const balance::Judgement& judgement, persist::Entry* entry, Grant& grant);
  Choice pick_at_home(const snapshot::Snapshot& s, const Question& question, persist::Entry* entry,
                      Reason reason, const Grant& grant);

  replication::Replica& replica_;
  balance::Picker& picker_;
  LookupCounters counters_;
};

}  // namespace limpet::affinity
