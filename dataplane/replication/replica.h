// Replica: one core's part in keeping bindings, for those who have packets, jobs or a turn to run.
// README.md in this folder is the protocol. Each of its parts has its own header, to be read alone;
// all go by one Book. An arrow is "calls"; nobody is called back:
//
//   Holder ───────────────────────────────────► Book   copies of other homes' bindings
//   Merger ─► Keeper                                    news of other engines; this core as a home
//      └───────┴─► Evictor ─► Records ─► Teller ─► Book   who gives way; how records end
//      └───────┴─► Announcer ───────────►┘                what others hear of activity
//
// Here it is said which part a call is for: an entry is a copy (Holder) or a record (Keeper).
//
// Owner: the core's worker. Time is an argument. It knows no packets: whoever has them asks find(),
// and parks what has to wait for a home (affinity/pen.h).
//
// Invariants
//  1. The home alone creates, moves, merges and expires a binding; other cores have copies.
//  2. A core that has a copy, or to which an UPDATE is under way, is in the record's `copies`.
//  3. Nothing is taken out of a ring before everything that it causes fits (R1); so no message is
//     lost and no core waits for another.
//  4. RECALLs that a core has not answered never exceed its answers ring (credits): an ANSWER fits.
// The work of one call is bounded by the rings' sizes or by an argument; that of a turn's evictions
// by a constant (asserted).
//
// Cost: a hit sends nothing. A new binding costs an UPDATE to who asked (with `push`: to each other
// core), its end a RECALL and an ANSWER, a move an UPDATE to each holder.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <span>
#include <utility>

#include "common/base/random.h"
#include "dataplane/balance/picker.h"
#include "dataplane/replication/announcer.h"
#include "dataplane/replication/book.h"
#include "dataplane/replication/evictor.h"
#include "dataplane/replication/holder.h"
#include "dataplane/replication/keeper.h"
#include "dataplane/replication/merger.h"
#include "dataplane/replication/records.h"
#include "dataplane/replication/teller.h"

namespace limpet::replication {

class Replica {
 public:
  using Options = replication::Options;
  using Made = Keeper::Made;
  using Need = Keeper::Need;
  using Proposal = Holder::Proposal;
  static constexpr uint32_t kNobody = Keeper::kNobody;

  // Of each core's table; of its closes, where activity is announced; of its tombstones, where
  // there are peers.
  static persist::Table::Capacity capacity_of(uint32_t cores, const Rings::Capacity& rings,
                                              uint32_t limit, bool activity = false) {
    return Book::capacity_of(cores, rings, limit, activity);
  }
  static uint32_t closes_of(uint32_t cores, uint32_t limit) {
    return Announcer::closes_of(cores, limit);
  }
  static uint32_t tombstones_of(uint32_t cores, uint32_t limit) {
    return Book::tombstones_of(cores, limit);
  }

  Replica(const Options& options, Rings& rings, persist::Bindings& bindings,
          balance::Picker& picker, const base::KeyedHash& hash, base::Random& random,
          std::pmr::memory_resource* memory);

  // Takes the snapshot and the time that everything until the next call goes by.
  void begin(const snapshot::Snapshot& s, timing::Instant now) { book_.begin(s, now); }

  // --- for packets -------------------------------------------------------------------------------

  uint32_t home_of(binding::ScopeSlot scope, const binding::Key& key) const {
    return book_.home_of(scope, key);
  }
  bool is_home(binding::ScopeSlot scope, const binding::Key& key) const {
    return book_.is_home(scope, key);
  }
  // By the hash of scope and key.
  bool is_home(uint32_t hash) const { return book_.is_home(hash); }

  // What this core knows of the key; null: nothing. At home that is all there is to know, and a
  // record whose time is over and that nobody else has a copy of ends here.
  persist::Entry* find(const snapshot::Scope& scope, const binding::Key& key) {
    return find(scope, key, book_.table.hash(scope.slot, key));
  }
  persist::Entry* find(const snapshot::Scope& scope, const binding::Key& key, uint32_t hash) {
    return keeper_.find(scope, key, hash);
  }
  // A connection is about to use the entry, perhaps of datagrams.
  void use(persist::Entry& entry, bool datagram = false) {
    if (entry.is_home()) return keeper_.use(entry, datagram);
    holder_.use(entry, datagram);
  }
  // Before use() of a copy: its home has to hear of it first if it believes that nobody holds it.
  // False: no room now.
  bool may_use(persist::Entry& copy, const snapshot::Scope& scope) {
    return copy.is_home() || holder_.may_use(copy, scope);
  }
  // The last connection of the entry on this core has closed.
  void closed(persist::Entry& entry) {
    if (!book_.announcing || !entry.confirmed) return;
    if (entry.is_home()) return announcer_.closed(entry);
    holder_.closed(entry);
  }
  // The handshake was seen, the server answered, or the client came again: not embryonic any more.
  void confirm(persist::Entry& entry) {
    if (entry.confirmed) return;
    if (entry.is_home()) return keeper_.confirm(entry);
    holder_.confirm(entry);
  }

  // At home: an embryonic binding for a key that has none.
  Made create(const snapshot::Scope& scope, const binding::Key& key, binding::ServerId server,
              const Need& need) {
    return keeper_.create(scope, key, server, need);
  }
  // At home: another server, for whom use() would be called. kDone or kWait.
  Outcome move(persist::Entry& record, binding::ServerId server, bool datagram = false) {
    return keeper_.move(record, server, datagram);
  }
  // At home: takes back what create() has just made, unless others have heard of it already.
  void undo_create(persist::Entry& record) { keeper_.undo_create(record); }

  // Elsewhere: asks the home, which answers once. `have`: the copy, or null. False: no room.
  bool claim(const snapshot::Scope& scope, const binding::Key& key, persist::Entry* have,
             const Proposal& proposal) {
    return holder_.claim(scope, key, have, proposal);
  }

  // --- for administrators, at home (keeper.h) ----------------------------------------------------

  Outcome remove(persist::Entry& record) { return keeper_.remove(record); }
  void kill_scope(binding::ScopeSlot scope, binding::Stamp up_to) {
    keeper_.kill_scope(scope, up_to);
  }
  bool remove_killed(persist::Entry& record) { return keeper_.remove_killed(record); }
  // A stamp greater than all that were made or seen here.
  binding::Stamp next_stamp() { return book_.next_stamp(); }

  // --- stages of a turn --------------------------------------------------------------------------

  // Takes all that homes have sent by now (R2). `take()` begins the newest snapshot, when a message
  // comes from one that is newer than ours (R4). `heard(const Down&)` is told of every UPDATE and
  // REFUSE once it has been applied. True when there was something.
  template <class Take, class Heard>
  bool drain(Take&& take, Heard&& heard) {
    evictor_.begin_turn();
    return holder_.drain(take, heard);
  }

  // As home: takes answers, claims and merges, a bounded number.
  template <class Take>
  bool serve(Take&& take) {
    const bool served = keeper_.serve(take);
    return merger_.serve(take) || served;
  }

  // Deadlines, evictions, what is owed: looks at `records` records.
  void advance(uint32_t records) {
    holder_.advance();
    keeper_.advance(records);
  }

  // After a new snapshot: looks at `records` records for scopes and servers that left. True when
  // all have been seen and told.
  void restart_sweep() { keeper_.restart_sweep(); }
  bool sweep(uint32_t records) { return keeper_.sweep(records); }

  // When the engine has stopped, by whoever stopped its workers: what was announced as held and is
  // so on no core any more is told to be over, as of the last close. `cores`: all of the engine's.
  // Looks at records from `*at` on; false: they have to be read before there is room for more.
  bool say_last(std::span<Replica* const> cores, uint32_t* at);

  // Whether entries with connections went, or began again, since the last call: flows that were
  // counted in them need not look any more.
  bool lost_counts() { return std::exchange(book_.lost_counts, false); }

  // --- what is known -----------------------------------------------------------------------------

  persist::Table& table() { return book_.table; }
  const persist::Table& table() const { return book_.table; }
  const Counters& counters() const { return book_.counters; }
  Counters& counters() { return book_.counters; }
  timing::Instant now() const { return book_.now; }
  const Options& options() const { return book_.options; }
  bool shares(const snapshot::Scope& scope) const { return book_.shares(scope); }
  const persist::Tombstones& tombstones() const { return book_.tombstones; }
  // Of a record.
  bool expired(const persist::Entry& record, const snapshot::Scope& scope) const {
    return book_.expired(record, scope);
  }
  timing::Instant deadline(const persist::Entry& record, const snapshot::Scope& scope) const {
    return book_.deadline(record, scope);
  }
  timing::Instant known_deadline(const persist::Entry& record, const snapshot::Scope& scope) const {
    return announcer_.known_deadline(record, scope);
  }
  binding::Record record_of(const persist::Entry& record) const { return book_.record_of(record); }
  uint32_t husks() const { return records_.husks(); }
  // Unanswered RECALLs to a core.
  uint32_t credits_used(uint32_t core) const { return teller_.credits_used(core); }

 private:
  Book book_;
  Holder holder_;
  Teller teller_;
  Announcer announcer_;
  Records records_;
  Evictor evictor_;
  Keeper keeper_;
  Merger merger_;
};

}  // namespace limpet::replication
