// Merger: what a home does with what other engines know of its keys: takes news that the control
// thread passes on, makes one record of both (common/binding/change.h has the rules), and says who
// has to hear of it (README.md, "Between engines").
//
// Owner: the core's worker. Changes the Book and, by the roles below it, records: Records, Evictor,
// Announcer, Teller; scopes' tombstones are the Keeper's.
//
// Invariants
//  1. News is taken out of its ring when all that it causes fits (R1); else nothing has changed.
//  2. Of two live lineages the same wins on all engines, whatever the order in which they hear.
//  3. A change of a record that others hold is told to all holders in that step; another lineage
//     has another serial.
//  4. Nothing up to a tombstone comes back: of its key, or of its scope.
//  5. One fence is under way at most; it is answered when all before it has been told.
// Cost: a bounded number of news a turn, each constant but for the holders that are told, and a
// search of the Evictor's where the table is full.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/replication/announcer.h"
#include "dataplane/replication/book.h"
#include "dataplane/replication/evictor.h"
#include "dataplane/replication/keeper.h"
#include "dataplane/replication/records.h"
#include "dataplane/replication/teller.h"

namespace limpet::replication {

class Merger {
 public:
  struct Roles {
    Teller& teller;
    Announcer& announcer;
    Records& records;
    Evictor& evictor;
    Keeper& keeper;
  };
  Merger(Book& book, const Roles& roles);
  Merger(const Merger&) = delete;
  Merger& operator=(const Merger&) = delete;

  // Takes a bounded number of news.
  template <class Take>
  bool serve(Take&& take);

 private:
  static constexpr uint32_t kMergesPerTurn = 64;

  struct Meeting;
  bool on_merge(const binding::Merge& m);
  bool merge_record(const binding::Merge& m, const snapshot::Scope& scope);
  bool bury(const Meeting& x, persist::Entry* record);
  bool adopt_record(const Meeting& x);
  bool change_record(const Meeting& x, persist::Entry& record);
  bool change_husk(const Meeting& x, persist::Entry& husk);
  void store(const Meeting& x, persist::Entry& record);
  void raise_tombstone(const Meeting& x);
  bool forget_tombstone(const binding::Merge& m);
  void answer_fence();

  Book& book_;
  Teller& teller_;
  Announcer& announcer_;
  Records& records_;
  Evictor& evictor_;
  Keeper& keeper_;
  std::optional<uint32_t> fence_;  // not answered yet
};

template <class Take>
bool Merger::serve(Take&& take) {
  const uint32_t merged = book_.rings.merges[book_.options.core].consume(
      kMergesPerTurn,
      [&](const binding::Merge& m) {
        if (m.version > book_.snapshot->version) take();
        return on_merge(m);
      },
      [&](const binding::Merge& m) {
        book_.table.prefetch_bucket(book_.table.hash(m.scope, m.key));
      });
  if (fence_) answer_fence();
  return merged > 0;
}

}  // namespace limpet::replication
