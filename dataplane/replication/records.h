// Records: the records of the keys that have their home on this core, as things that are made, end,
// become husks and live again. When that has to happen is decided by others.
//
// Owner: the core's worker. Reads and writes the Book, tells by the Teller; knows no other role.
//
// Invariants
//  1. As many bindings are reserved as there are records and husks: each is released when it ends.
//  2. A record ends for good only when nobody has a copy, and when the mirror could be told (R1).
//  3. A husk (over, but a peer may know better) has no copies and no connections, and its mirror
//     and holders know nothing of it; `husks()` of them are there.
//  4. Another life of a key has another serial: answers and connections of the one before say
//     nothing about it.
// Cost: constant, and a GONE for each holder.
#pragma once

#include <cstdint>

#include "dataplane/replication/book.h"
#include "dataplane/replication/teller.h"

namespace limpet::replication {

class Records {
 public:
  using Whom = Teller::Whom;

  Records(Book& book, Teller& teller) : book_(book), teller_(teller) {}
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;

  // A record for a key that has none, used now; null: no binding, or no record here, is free. Which
  // of the two matters to create() only, which asks in two steps.
  persist::Entry* reserve_and_make(const snapshot::Scope& scope, const binding::Key& key);
  // ... whose binding is reserved. Null: this home's share is full.
  persist::Entry* make(const snapshot::Scope& scope, const binding::Key& key);

  // Ends one that nobody has a copy of. False: the mirror has no room.
  bool end(persist::Entry& record, telemetry::Counter& why, const Whom& whom = {});
  // R3: if its time is over, or it has to give way, and nobody holds a copy, it ends or becomes a
  // husk. True: it did.
  bool end_if_due(persist::Entry& record);
  // Ends it whoever holds it: all are told in one step. False: not yet, something has no room.
  bool forget(persist::Entry& record, telemetry::Counter& why, const Whom& whom);
  // Another life of the key.
  void begin_life(persist::Entry& record);

  // --- husks -------------------------------------------------------------------------------------

  uint32_t husks() const { return husks_; }
  // Until then a peer may tell of activity that keeps it alive.
  bool husk_is_over(const persist::Entry& husk, const snapshot::Scope& scope) const {
    const timing::Duration timeout = book_.timeout_of(husk, scope);
    return book_.now >= book_.activity(husk).act_at + timeout + Book::interval(timeout, scope);
  }
  void end_husk(persist::Entry& husk);
  // It is a record again.
  void revive(persist::Entry& husk);

 private:
  bool become_husk(persist::Entry& record);

  Book& book_;
  Teller& teller_;
  uint32_t husks_ = 0;
};

}  // namespace limpet::replication
