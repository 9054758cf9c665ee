// Teller: what a home says to the cores that hold copies, and to the mirror. It alone writes a
// core's down rings and its news ring; what is to be said is decided by whoever calls.
//
// Owner: the core's worker. Reads and writes the Book only.
//
// Invariants
//  1. A core to which an UPDATE was put into a ring is in the record's `copies` from then on, and
//     in `regranted` if a RECALL to it is unanswered.
//  2. RECALLs that a core has not answered, its credits, are never more than its answers ring
//     holds: so an ANSWER always fits. Whoever was asked of this life of a record is in `asked`.
//  3. Who tells has asked for room before (R1): what is sent by tell(), answer(), refuse() and
//     tell_gone() fits (asserted). ask() and the mirror are told later if there is none.
// Cost: a message to a core is a copy into its ring.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/balance/policy.h"
#include "dataplane/replication/book.h"

namespace limpet::replication {

class Teller {
 public:
  explicit Teller(Book& book) : book_(book), credits_(book.rings.cores()) {}
  Teller(const Teller&) = delete;
  Teller& operator=(const Teller&) = delete;

  // --- to cores ----------------------------------------------------------------------------------

  // Whether a message to each of them fits; false is counted.
  bool room(Bits cores);

  // UPDATE.
  void tell(uint32_t to, const persist::Entry& record, persist::Home& home) {
    send_update(to, record, home, {});
  }
  void tell_all(Bits cores, const persist::Entry& record, persist::Home& home);
  // ... to all but `except`, where that is the policy (Options::push); whoever is skipped because
  // it is behind will ask.
  void push_to_others(const persist::Entry& record, persist::Home& home, Bits except);
  // ... to a core's CLAIM. `reserved`: the server in whose limit home took a place for it, or null.
  void answer(uint32_t to, const persist::Entry& record, persist::Home& home,
              const snapshot::Server* reserved);
  void refuse(uint32_t to, const Claim& m, balance::Reason reason);
  // GONE to all that may have a copy; then nobody has.
  void tell_gone(const persist::Entry& record, persist::Home& home);
  // RECALL. False: not yet, no credit or no room.
  bool ask(const persist::Entry& record, persist::Home& home, uint32_t core, bool give_up);
  // ... to give it up, to all that may have a copy and are not being asked.
  void recall(const persist::Entry& record, persist::Home& home);
  // An ANSWER has come: the credit is back.
  void heard_answer(uint32_t from) {
    LIMPET_ASSERT(credits_[from] > 0);
    --credits_[from];
  }
  uint32_t credits_used(uint32_t core) const { return credits_[core]; }

  // --- to the mirror -----------------------------------------------------------------------------

  // Whom the mirror is to tell, and whose news it was.
  struct Whom {
    binding::Told told = binding::Told::kNobody;
    binding::Source source;
  };
  bool room_for_news() const { return news().free_count() > 0; }
  // What the record is now. Without room it is owed.
  void tell_mirror(const persist::Entry& record, persist::Home& home,
                   const Whom& given = {binding::Told::kAll, {}});
  // There is no binding any more, but perhaps a tombstone. False: no room.
  bool tell_mirror_gone(binding::ScopeSlot scope, const binding::Key& key, const Whom& whom);
  // All that came before it has been told. False: no room.
  bool tell_fence(uint32_t fence);

 private:
  void send_update(uint32_t to, const persist::Entry& record, persist::Home& home, Down m);
  ring::Ring<Down>& down(uint32_t to) { return book_.rings.down.from(book_.options.core).to(to); }
  ring::Ring<binding::Change>& news() const { return book_.rings.news[book_.options.core]; }

  Book& book_;
  std::vector<uint32_t> credits_;  // by core: RECALLs unanswered
};

}  // namespace limpet::replication
