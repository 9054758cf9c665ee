// Keeper: a core as the home of its keys. It alone creates, moves and removes their bindings: for
// its own packets, for the CLAIMs of other cores, for administrators, and when time or the snapshot
// say so.
//
// Owner: the core's worker. Below it are Records (how one is made and ends), the Evictor (who gives
// way), the Announcer (what others hear of activity) and the Teller (messages); none of them calls
// back.
//
// Invariants
//  1. A core that has a copy, or to which an UPDATE is under way, is in the record's `copies`.
//  2. A change of a record is committed only when all of `copies`, and the asker, can be told; then
//     all are told in that step, the asker last (R1).
//  3. A CLAIM is answered exactly once. One that cannot be answered yet stays at the head of its
//     ring, and changes nothing.
//  4. An ANSWER clears a core's bit in `copies` only if no UPDATE was sent to it after the RECALL.
//  5. Only servers that the home's own snapshot and gauges allow are chosen. A place in a limit
//     that was taken here travels with the answer or is given back.
// Cost: a new binding one UPDATE (or one to each other core), a move one to each holder.
#pragma once

#include <cstdint>

#include "dataplane/balance/picker.h"
#include "dataplane/replication/announcer.h"
#include "dataplane/replication/book.h"
#include "dataplane/replication/evictor.h"
#include "dataplane/replication/records.h"
#include "dataplane/replication/teller.h"

namespace limpet::replication {

// A CLAIM that waited longer than this is refused, and so are the packets that wait for it.
inline constexpr timing::Duration kLate = timing::milliseconds(50);

class Keeper {
 public:
  struct Roles {
    Teller& teller;
    Announcer& announcer;
    Records& records;
    Evictor& evictor;
  };
  Keeper(Book& book, const Roles& roles, balance::Picker& picker);
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // --- for packets -------------------------------------------------------------------------------

  // Whatever this core knows of the key, a copy too; null: nothing. A record whose time is over and
  // that nobody else has a copy of ends here.
  persist::Entry* find(const snapshot::Scope& scope, const binding::Key& key, uint32_t hash);
  // A connection is about to use the record, perhaps of datagrams.
  void use(persist::Entry& record, bool datagram) {
    if (datagram && !record.confirmed && book_.comes_again(record)) confirm(record);
    record.last = book_.now;
    record.datagram = record.datagram || datagram;
    announcer_.active(record);
  }
  // What was half open may have been giving way.
  void confirm(persist::Entry& record) {
    book_.home(record).evicting = false;
    announcer_.confirm(record);
  }

  // An embryonic binding for a key that has none.
  struct Made {
    Outcome outcome;
    persist::Entry* entry = nullptr;  // kDone
  };
  static constexpr uint32_t kNobody = UINT32_MAX;
  struct Need {
    timing::Instant since;     // when it arose: only what has been idle since then may give way
    uint32_t asker = kNobody;  // the core whose CLAIM it is: told by the answer
    bool datagram = false;     // not for a SYN: it lives its timeout
  };
  Made create(const snapshot::Scope& scope, const binding::Key& key, binding::ServerId server,
              const Need& need);
  // Takes back what create() has just made, unless others have heard of it already.
  void undo_create(persist::Entry& record);
  // Another server, for whom use() would be called. kDone or kWait.
  Outcome move(persist::Entry& record, binding::ServerId server, bool datagram);

  // --- for administrators ------------------------------------------------------------------------

  // Forgets a binding, or what is left of one. kDone or kWait. Leaves a tombstone where peers may
  // know of it.
  Outcome remove(persist::Entry& record);
  // A tombstone of all bindings of a scope that were made up to then. They go by the sweep, or by
  // remove_killed(): true when the record has gone or is a later one.
  void kill_scope(binding::ScopeSlot slot, binding::Stamp up_to);
  bool remove_killed(persist::Entry& record);

  // --- stages of a turn --------------------------------------------------------------------------

  // Takes all answers, and of each core a bounded number of claims.
  template <class Take>
  bool serve(Take&& take);
  // Deadlines, evictions, what is owed: looks at `records` records.
  void advance(uint32_t records);
  // After a new snapshot or tombstone: looks at `records` records for scopes and servers that left
  // and for what was killed. True when all have been seen and told.
  void restart_sweep() {
    sweep_at_ = 0;
    tombstone_at_ = 0;
    tombstones_swept_ = false;
  }
  bool sweep(uint32_t records);

 private:
  static constexpr uint32_t kClaimsPerTurn = 256;  // of each core

  // What cores ask and answer (keeper_claims.cc).
  void on_answer(uint32_t from, const Answer& m);
  void on_touch(const Claim& m, const snapshot::Scope* scope);
  bool on_claim(uint32_t from, const Claim& m);
  bool on_new_key(uint32_t from, const Claim& m, const snapshot::Scope& scope);
  bool decide(uint32_t from, const Claim& m, const snapshot::Scope& scope, persist::Entry& record);
  struct Chosen {
    const snapshot::Server* server = nullptr;
    bool reserved_here = false;  // by this home, for the asker
    balance::Reason why_not = balance::Reason::kNoServer;

    const snapshot::Server* reserved() const { return reserved_here ? server : nullptr; }
  };
  Chosen choose(const Claim& m, const snapshot::Scope& scope);
  void give_back(const Chosen& chosen);

  void set_server(persist::Entry& record, binding::ServerId server);
  void continue_husk(persist::Entry& husk, binding::ServerId server, const Need& need);
  bool look_at(persist::Entry& record);
  void look_at_husk(persist::Entry& husk);
  void tell_if_spared(persist::Entry* record);
  bool sweep_tombstones(uint32_t count);
  bool server_left(binding::ServerId server) const;

  Book& book_;
  Teller& teller_;
  Announcer& announcer_;
  Records& records_;
  Evictor& evictor_;
  balance::Picker& picker_;
  uint32_t advance_at_ = 0;
  uint32_t sweep_at_ = 0;
  uint32_t tombstone_at_ = 0;
  bool tombstones_swept_ = false;
};

template <class Take>
bool Keeper::serve(Take&& take) {
  bool any = false;
  for (const uint32_t peer : book_.rings.answers.peers(book_.options.core)) {
    auto& answers = book_.rings.answers.from(peer).to(book_.options.core);
    const uint32_t answered = answers.consume(answers.size(), [&](const Answer& m) {
      if (m.version > book_.snapshot->version) take();
      on_answer(peer, m);
      return true;
    });
    auto& claims = book_.rings.claims.from(peer).to(book_.options.core);
    const uint32_t claimed = claims.consume(kClaimsPerTurn, [&](const Claim& m) {
      if (m.version > book_.snapshot->version) take();
      return on_claim(peer, m);
    });
    any = any || answered + claimed > 0;
  }
  return any;
}

}  // namespace limpet::replication
