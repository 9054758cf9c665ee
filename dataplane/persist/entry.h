// Entry: one binding, key -> server, in one core's persist table.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/net/address.h"
#include "common/timing/time.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::persist {

// An L4 TCP binding made by a SYN is embryonic until the handshake was seen, a UDP binding until
// the server answered; until then it lives this long at most (or its timeout, if shorter).
inline constexpr timing::Duration kEmbryonicTimeout = timing::seconds(10);

struct Entry {
  net::Address key;           // masked as the scope says
  snapshot::ServerId server;  // identity, never an index
  snapshot::ServerId first;   // the server at creation: where `return_home` goes back to
  timing::Instant last;       // latest activity: an open, or the close of the last connection
  timing::Instant created;
  snapshot::ScopeSlot scope;
  uint32_t open = 0;       // connections open on it
  uint32_t serial = 0;     // names this entry among all that ever had its place; never 0
  uint16_t epoch = 0;      // how often it moved
  bool confirmed = false;  // not embryonic any more
  bool used = false;       // false: a free place

  // When it is over unless something happens; never while connections are open.
  timing::Instant deadline(timing::Duration timeout) const {
    if (!confirmed) return last + std::min(timeout, kEmbryonicTimeout);
    return open > 0 ? timing::Instant::never() : last + timeout;
  }
  // May give way to a new client.
  bool idle() const { return open == 0 || !confirmed; }
};

static_assert(sizeof(Entry) == 64, "one cache line: a hit reads its bucket and its entry");

}  // namespace limpet::persist
