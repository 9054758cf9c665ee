// Evictor: who gives way when the table is full: a husk, or the binding that has been idle longest,
// embryonic ones first (README.md, "Table full").
//
// Owner: the core's worker. Reads the Book, marks records *evicting*, has them recalled by the
// Teller and ended by Records; knows no other role.
//
// Invariants
//  1. What goes was confirmed by all its holders to be idle: activity takes the mark away, and then
//     somebody else is looked for.
//  2. Up to kExactRecords records one at a time gives way, and it is the longest idle of all;
//     beyond, up to kEvictionsMax, each the longest idle of a sample.
//  3. A turn looks at no more than kLooksPerTurn records (asserted).
// Cost: nothing while there is room.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/random.h"
#include "dataplane/replication/book.h"
#include "dataplane/replication/records.h"
#include "dataplane/replication/teller.h"

namespace limpet::replication {

class Evictor {
 public:
  Evictor(Book& book, Teller& teller, Records& records, base::Random& random);
  Evictor(const Evictor&) = delete;
  Evictor& operator=(const Evictor&) = delete;

  void begin_turn() { looks_ = 0; }
  // Goes on with those who have begun to give way.
  void advance() {
    if (!evicting_.empty()) go_on();
  }

  // Room for a binding of the scope, for whoever has waited since then. kDone: there is; kWait:
  // somebody is giving way; kFull: nobody may go.
  Outcome make_room(const snapshot::Scope& scope, timing::Instant since);
  // A husk goes at once. False: none was found among those that could be looked at now.
  bool take_husks_place();

  // The record to give way, of a bounded sample. `since`: a confirmed one that its holders have
  // said to be in use since then is no candidate again. `expired_only`: where nothing is purged.
  // Asked for only while may_search().
  struct Idle {
    persist::Entry* longest = nullptr;
    bool expiring = false;  // one is being recalled because its time is over
  };
  bool may_search() const { return looks_ + looks_of_search() <= kLooksPerTurn; }
  Idle longest_idle(timing::Instant since, bool expired_only);

 private:
  static constexpr uint32_t kExactRecords = 1024;  // up to so many, eviction looks at all
  static constexpr uint32_t kSampleRecords = 64;
  static constexpr uint32_t kEvictionsMax = 32;
  static constexpr uint32_t kLooksPerTurn = 32768;  // at records, in search of one to give way
  static constexpr uint32_t kHuskLooks = 1024;      // the same, for a husk

  void go_on();
  std::size_t evictions_wanted() const;
  bool is_doubtful(const persist::Entry& record, const snapshot::Scope* scope) const;
  uint32_t looks_of_search() const {
    return book_.table.home_places() <= kExactRecords ? book_.table.home_places() : kSampleRecords;
  }

  Book& book_;
  Teller& teller_;
  Records& records_;
  base::Random& random_;
  struct Handle {
    uint32_t place;
    uint32_t serial;
  };
  std::vector<Handle> evicting_;
  uint32_t looks_ = 0;  // in this turn
  uint32_t husk_at_ = 0;
  // When nobody was found to give way: of all, of those that have expired.
  timing::Instant nobody_at_[2] = {timing::Instant::never(), timing::Instant::never()};
};

}  // namespace limpet::replication
