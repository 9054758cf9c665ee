// Holder: what a core does with the copies that it has of other homes' bindings: takes what homes
// send (R2), answers RECALLs, asks for what it does not have, and says when a copy is in use again
// or no more.
//
// Owner: the core's worker. Reads and writes the Book; knows no other role. It writes the core's
// claims and answers rings.
//
// Invariants
//  1. A copy comes, changes and goes by messages of its home only (R3): nothing here expires.
//  2. A RECALL is answered at once, exactly once. By yes the copy is gone.
//  3. `told_idle`: home believes that nobody holds the copy. Where activity is announced, a
//     connection uses it only after home has been told otherwise.
//  4. A copy whose confirmation home has not been told yet is `touch_owed`; they are counted.
// Cost: a hit sends nothing. drain() does as much as was in the rings when it began.
#pragma once

#include <cstdint>

#include "dataplane/replication/book.h"

namespace limpet::replication {

class Holder {
 public:
  explicit Holder(Book& book) : book_(book) {}
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  // --- for packets -------------------------------------------------------------------------------

  // A connection is about to use the copy, perhaps of datagrams.
  void use(persist::Entry& copy, bool datagram) {
    if (datagram && !copy.confirmed && book_.comes_again(copy)) confirm(copy);
    copy.last = book_.now;
    copy.datagram = copy.datagram || datagram;
  }
  // Before use(): its home has to hear of it first if it believes that nobody holds it. False: no
  // room now.
  bool may_use(persist::Entry& copy, const snapshot::Scope& scope) {
    return !copy.told_idle || !book_.announces(scope) || touch(copy);
  }
  // The last connection of the copy on this core has closed: its home may want to look. Once until
  // it asks; not if there is no room.
  void closed(persist::Entry& copy) {
    if (!copy.told_close) tell_close(copy);
  }
  void confirm(persist::Entry& copy);

  // Asks the home, which answers once. `have`: the copy, or null. False: no room.
  struct Proposal {
    binding::ServerId server;
    bool reserved = false;  // a place in its limit was taken
    bool exact = false;     // it has to be this server
    bool if_none = false;   // exact: only if there is no binding; what there is stands
    bool existing = false;  // nothing is to be made; Reason::kNew says that there is nothing
    bool datagram = false;  // not for a SYN
    // The client's consistent_hash(): unless it is `exact` or `existing` home may have to choose.
    uint32_t choice_hash = 0;
  };
  bool claim(const snapshot::Scope& scope, const binding::Key& key, persist::Entry* have,
             const Proposal& proposal);

  // --- stages of a turn --------------------------------------------------------------------------

  // See Replica::drain().
  template <class Take, class Heard>
  bool drain(Take&& take, Heard&& heard);

  // Sends what confirm() had no room for.
  void advance() {
    if (touches_owed_ > 0) pay_touches();
  }

 private:
  static constexpr uint32_t kLooksPerTurn = 64;  // in search of touches that are owed

  void hear(uint32_t from, const Down& m);
  void adopt(const Down& m);
  void recalled(uint32_t from, const Down& m);
  void drop(persist::Entry& copy);
  void begin_life(persist::Entry& copy);
  bool touch(persist::Entry& copy);
  void tell_close(persist::Entry& copy);
  void pay_touches();
  // TOUCH.
  Claim message(Claim::Kind kind, binding::ScopeSlot scope, const binding::Key& key,
                const persist::Entry* have) const;
  Claim touch_of(const persist::Entry& copy) const;
  ring::Ring<Claim>& claims_to(binding::ScopeSlot scope, const binding::Key& key) {
    return book_.rings.claims.from(book_.options.core).to(book_.home_of(scope, key));
  }

  Book& book_;
  uint32_t touches_owed_ = 0;
  uint32_t touch_at_ = 0;
};

template <class Take, class Heard>
bool Holder::drain(Take&& take, Heard&& heard) {
  bool any = false;
  for (const uint32_t peer : book_.rings.down.peers(book_.options.core)) {
    auto& ring = book_.rings.down.from(peer).to(book_.options.core);
    const uint32_t taken = ring.consume(ring.size(), [&](const Down& m) {
      if (m.version > book_.snapshot->version) take();
      hear(peer, m);
      if (m.kind == Down::Kind::kUpdate || m.kind == Down::Kind::kRefuse) heard(m);
      return true;
    });
    any = any || taken > 0;
  }
  return any;
}

}  // namespace limpet::replication
