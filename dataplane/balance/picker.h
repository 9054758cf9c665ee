// Picker: one core's choice of a server for a client that needs one, and a place in the server's
// connection limit taken with it.
//
// Owner: the core's worker; the gauges alone are shared.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/limits.h"
#include "dataplane/balance/pick.h"
#include "dataplane/balance/policy.h"

namespace limpet::balance {

struct Picked {
  const snapshot::Server* server = nullptr;  // null: nobody takes new clients
  bool gauged = false;                       // a place in its limit was taken
  bool limited = false;                      // a server was passed over because of its limit
};

class Picker {
 public:
  Picker(std::size_t servers, Gauges& gauges, base::Random& random)
      : gauges_(gauges), random_(random), loads_(servers), turns_(servers) {}

  // `pool` is one of s.pools.
  Picked pick(const snapshot::Snapshot& s, const snapshot::Pool& pool, const Client& client) {
    return pick(s, pool, choice_hash_of(pool, client));
  }
  // ... for whoever knows of the client only its consistent_hash().
  Picked pick(const snapshot::Snapshot& s, const snapshot::Pool& pool, uint32_t choice_hash) {
    Picked out;
    Turn& turn = turns_[static_cast<std::size_t>(&pool - s.pools.data())];
    // Another core may take the last place between the look and the reservation.
    for (int attempt = 0; attempt < 3; ++attempt) {
      const uint32_t at = balance::pick(pool, choice_hash, loads_, turn, random_, [&](uint32_t i) {
        const snapshot::Server& server = pool.servers[i];
        if (!takes_new_clients(server)) return false;
        if (!gauges_.at_limit(server)) return true;
        out.limited = true;
        return false;
      });
      if (at == kNobody) return out;
      const snapshot::Server& server = pool.servers[at];
      out.gauged = server.connections_max != 0;
      if (out.gauged && !gauges_.reserve(server, false)) continue;
      out.server = &server;
      return out;
    }
    out.gauged = false;
    return out;
  }

  Gauges& gauges() { return gauges_; }
  const Gauges& gauges() const { return gauges_; }
  std::vector<Load>& loads() { return loads_; }
  const std::vector<Load>& loads() const { return loads_; }

 private:
  Gauges& gauges_;
  base::Random& random_;
  std::vector<Load> loads_;  // by ServerSlot
  std::vector<Turn> turns_;  // by pool
};

}  // namespace limpet::balance
