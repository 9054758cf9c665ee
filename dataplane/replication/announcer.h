// Announcer: sees to it that others (peers, the copy on disk) know whether a home's bindings are
// held: announcements of activity, rounds of asking the holders, releases (README.md, "Between
// engines").
//
// Owner: the core's worker. Reads and writes the Book, asks and tells by the Teller, knows no other
// role. It neither makes nor ends a record, nor changes its server.
//
// Invariants, of a record where activity is announced
//  1. `holding`: what was announced last says that it is held here. While it is, or was `heard` of,
//     a round begins R after the last announcement at the latest, as room allows.
//  2. `in_round`: cores in `round` have still to be asked, those in `asked` to answer. The round
//     ends when both are empty: by "held", by a release, or by silence where nothing has changed.
//  3. A release never says more than is known here: another engine's later "held" stands.
//  4. Rounds before their time: one for each R, and kEarlyRoundsMax in stock.
// Cost: an announcement a binding and R, while it is held; advance() looks at so many closes.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <span>

#include "dataplane/replication/book.h"
#include "dataplane/replication/closes.h"
#include "dataplane/replication/teller.h"

namespace limpet::replication {

// A client that opens another connection within this after a close is not taken for gone. Twice
// this is the most until its home looks.
inline constexpr timing::Duration kCloseDelay = timing::milliseconds(400);

class Announcer {
 public:
  // Of its closes, where activity is announced.
  static uint32_t closes_of(uint32_t cores, uint32_t limit) {
    return persist::home_records_of(cores, limit);
  }

  Announcer(Book& book, Teller& teller, std::pmr::memory_resource* memory);
  Announcer(const Announcer&) = delete;
  Announcer& operator=(const Announcer&) = delete;

  // --- what has happened to a record -------------------------------------------------------------

  // It is in use; so it gives way to nobody.
  void active(persist::Entry& record) {
    persist::Home& home = book_.home(record);
    home.evicting = false;
    home.heard = true;
    if (book_.announcing && !home.holding) announce_activity(record, home);
  }
  // The last connection on a core has closed.
  void closed(const persist::Entry& record) {
    if (book_.home(record).holding) closes_.add(record.home, book_.now + kCloseDelay);
  }
  // It is embryonic no more: others may know of it.
  void confirm(persist::Entry& record);
  // Its server is another one, by a client that has come.
  void moved(persist::Entry& record);
  // A core that was asked says that it holds it; before that is acted upon.
  static void note_held(persist::Home& home) { home.heard = home.found_held = true; }
  // A core has answered, and `asked` says so: perhaps a round ends.
  void answered(persist::Entry& record, bool held);
  // Another engine has changed the epoch of what is held here: that it is held is told anew.
  void announce_held(persist::Entry& record);

  // --- rounds ------------------------------------------------------------------------------------

  void begin_round(persist::Entry& record, bool early = false);
  // Begins and goes on with what is due.
  void look_at(persist::Entry& record, const snapshot::Scope& scope);
  // Rounds before their time, for what is idle since kCloseDelay.
  void advance();

  // When the engine has stopped, by whoever stopped its workers: what was announced as held and is
  // so on no core any more is told to be over, as of the last close. `tables`: of all cores. Looks
  // at records from `*at` on; false: news has to be read before there is room for more.
  bool say_last(std::span<persist::Table* const> tables, uint32_t* at);

  // Book::deadline() without the time for what may not have been told yet, where nothing is left to
  // be told: what only we have said to be held is over T after its last close on any of our cores.
  // `record` alone knows of those at home and of what cores have said; they know of their own.
  timing::Instant known_deadline(const persist::Entry& record, const snapshot::Scope& scope) const;

 private:
  static constexpr uint32_t kClosesPerTurn = 32;
  static constexpr uint32_t kEarlyRoundsMax = 3;  // in stock

  struct Announcement {
    timing::Instant at;
    bool held = false;     // by somebody
    bool holding = false;  // by us
  };
  void announce(persist::Entry& record, const Announcement& what);
  void announce_activity(persist::Entry& record, persist::Home& home);
  void announce_release(persist::Entry& record, persist::Home& home);
  bool may_begin_early(const persist::Entry& record) const;
  void go_on_round(persist::Entry& record, persist::Home& home);
  void finish_round(persist::Entry& record, persist::Home& home);
  bool others_may_hold(const persist::Activity& a, timing::Instant at, timing::Duration r) const;

  Book& book_;
  Teller& teller_;
  Closes closes_;
};

}  // namespace limpet::replication
