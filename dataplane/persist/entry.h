// Entry: one binding, key -> server, as one core has it: a copy, or at the key's home core the
// record itself. Home: what only a home needs to know of it, in a cache line of its own. Activity:
// what engines tell each other of its activity; only where somebody has to be told.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/assert.h"
#include "common/binding/change.h"
#include "common/binding/key.h"
#include "common/timing/time.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::persist {

// A binding is embryonic until it is confirmed: until a handshake was seen, or a server's datagram,
// or a client's that is not its first. One that only SYNs have used lives this long at most until
// then (or its timeout, if shorter).
inline constexpr timing::Duration kEmbryonicTimeout = timing::seconds(10);

// A client that sends a datagram again so much later is there: nobody forged the first.
inline constexpr timing::Duration kComesAgain = timing::seconds(1);

inline constexpr uint32_t kNoHome = UINT32_MAX;

struct Entry {
  binding::Key key;
  binding::ServerId server;  // identity, never an index; kNoServer: its server left the pool
  binding::ServerId first;   // the server at creation: where `return_home` goes back to
  // Home: latest activity known. Copy: the close of the last connection here, or never() below.
  timing::Instant last;
  binding::ScopeSlot scope;
  uint32_t serial = 0;          // from the home: a new one for each life of the binding; never 0
  uint32_t change = 0;          // +1 whenever the server changes
  uint32_t open = 0;            // connections of this serial open on this core
  uint32_t home = kNoHome;      // the Home of a record; kNoHome: a copy
  bool confirmed = false;       // not embryonic any more
  bool used : 1 = false;        // false: a free place
  bool touch_owed : 1 = false;  // copy: home has not been told that it is confirmed
  // copy: home believes that nobody holds it here, and wants to know when somebody does.
  bool told_idle : 1 = false;
  bool told_close : 1 = false;  // copy: home has been told of a close since it asked last
  // home: over, but a peer may know of later activity; nobody sees it.
  bool husk : 1 = false;
  bool datagram : 1 = false;  // a datagram used it: embryonic or not, it lives its timeout
  // +1 when the place is used anew. A copy that was given up may come back to its place with the
  // serial it had: connections that were counted in it before are not counted any more.
  uint8_t life = 0;

  bool is_home() const { return home != kNoHome; }
  // Only SYNs have used it.
  bool half_open() const { return !confirmed && !datagram; }
  // Does not give way.
  bool held() const { return open > 0 && confirmed; }
  // Does not expire.
  bool kept() const { return open > 0 && !half_open(); }
  // When it is over unless something happens, as far as this core alone knows.
  timing::Instant deadline(timing::Duration timeout) const {
    return last + (half_open() ? std::min(timeout, kEmbryonicTimeout) : timeout);
  }
};

static_assert(sizeof(Entry) == 64, "one cache line: a hit reads its bucket and its entry");

// No close was ever seen: earlier than every Instant that matters, and far from overflow.
inline constexpr timing::Instant kNoActivity{INT64_MIN / 2};

struct Home {
  uint64_t copies = 0;     // bit per core: may hold a copy
  uint64_t asked = 0;      // bit per core: a RECALL is unanswered
  uint64_t regranted = 0;  // bit per core: an UPDATE was sent after that RECALL
  uint64_t round = 0;      // bit per core: has to be asked in this round
  binding::Stamp stamp;
  timing::Instant created;
  uint32_t epoch = 0;  // how often it moved, over all engines
  uint32_t entry = UINT32_MAX;
  uint32_t timeout_ms = 0;  // its own; 0: the profile's
  bool used : 1 = false;
  bool evicting : 1 = false;
  bool owed : 1 = false;         // the mirror has not been told the latest
  bool heard : 1 = false;        // there was activity since the last announcement or round
  bool holding : 1 = false;      // what was announced last is that it is held here
  bool in_round : 1 = false;     // holders are being asked whether they hold it
  bool found_held : 1 = false;   // ... and one has said so
  bool early : 1 = false;        // the round was begun because of a close
  uint8_t early_rounds : 2 = 0;  // that were begun without R having passed for each
};

static_assert(sizeof(Home) == 64);

// The latest activity that engines have told each other.
struct Activity {
  binding::Stamp act;
  timing::Instant act_at = kNoActivity;        // by our clock
  timing::Instant announced_at = kNoActivity;  // our own last announcement
  uint64_t others_held_ms : 63 = 0;            // when another engine last did so; 0: never
  bool held : 1 = false;                       // somebody held the binding at `act`

  void note_others_held(timing::Instant at) {
    const auto ms = static_cast<uint64_t>(std::max<int64_t>(at.ns, 0)) / 1'000'000 + 1;
    if (ms > others_held_ms) others_held_ms = ms & UINT64_MAX >> 1;
  }
  timing::Instant others_held_at() const {
    return others_held_ms == 0 ? kNoActivity
                               : timing::Instant{static_cast<int64_t>(others_held_ms) * 1'000'000};
  }
};

static_assert(sizeof(Activity) == 32, "two of a cache line");

}  // namespace limpet::persist
