// Entry: one binding, key -> server, as one core has it: a copy, or at the key's home core the
// record itself. Home: what only a home needs to know of it, in a cache line of its own.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/assert.h"
#include "common/timing/time.h"
#include "dataplane/persist/change.h"
#include "dataplane/persist/key.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::persist {

// An L4 TCP binding made by a SYN is embryonic until the handshake was seen, a UDP binding until
// the server answered; until then it lives this long at most (or its timeout, if shorter).
inline constexpr timing::Duration kEmbryonicTimeout = timing::seconds(10);

inline constexpr uint32_t kNoHome = UINT32_MAX;

struct Entry {
  Key key;
  snapshot::ServerId server;  // identity, never an index; kNoServer: its server left the pool
  snapshot::ServerId first;   // the server at creation: where `return_home` goes back to
  // Home: latest activity known. Copy: the close of the last connection here, or never() below.
  timing::Instant last;
  snapshot::ScopeSlot scope;
  uint32_t serial = 0;      // from the home: a new one for each life of the binding; never 0
  uint32_t change = 0;      // +1 whenever the server changes
  uint32_t open = 0;        // connections of this serial open on this core
  uint32_t home = kNoHome;  // the Home of a record; kNoHome: a copy
  bool confirmed = false;   // not embryonic any more
  bool used = false;        // false: a free place
  bool touch_owed = false;  // copy: home has not been told that it is confirmed
  // +1 when the place is used anew. A copy that was given up may come back to its place with the
  // serial it had: connections that were counted in it before are not counted any more.
  uint8_t life = 0;

  bool is_home() const { return home != kNoHome; }
  // Keeps the binding alive on this core.
  bool held() const { return open > 0 && confirmed; }
  // When it is over unless something happens.
  timing::Instant deadline(timing::Duration timeout) const {
    return last + (confirmed ? timeout : std::min(timeout, kEmbryonicTimeout));
  }
};

static_assert(sizeof(Entry) == 64, "one cache line: a hit reads its bucket and its entry");

// No close was ever seen: earlier than every Instant that matters, and far from overflow.
inline constexpr timing::Instant kNoActivity{INT64_MIN / 2};

struct Home {
  uint64_t copies = 0;     // bit per core: may hold a copy
  uint64_t asked = 0;      // bit per core: a RECALL is unanswered
  uint64_t regranted = 0;  // bit per core: an UPDATE was sent after that RECALL
  Stamp stamp;
  timing::Instant created;
  Stamp act;
  uint32_t epoch = 0;  // how often it moved, over all engines
  uint32_t entry = UINT32_MAX;
  bool evicting = false;
  bool owed = false;  // the mirror has not been told the latest
  bool held = false;
  bool used = false;
};

static_assert(sizeof(Home) == 64);

}  // namespace limpet::persist
