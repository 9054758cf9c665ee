// Chooses a server for a client that has none: pure functions of a pool, the client and what the
// calling core knows of the servers' load.
//
// Round robin and least connections honour weights (`ratio`). Loads are the calling core's own:
// cores never ask one another, and with clients spread evenly the sums agree.
#pragma once

#include <cstdint>
#include <span>

#include "common/base/keyed_hash.h"
#include "common/base/random.h"
#include "common/net/address.h"
#include "common/telemetry/counter.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::balance {

inline constexpr uint32_t kNobody = UINT32_MAX;

// A core's memory of whose turn it is, one per pool and core.
struct Turn {
  uint32_t next = 0;
};

// A core's memory of a server, by ServerSlot.
struct Load {
  telemetry::Counter32 open;  // connections open on this core
  int32_t credit = 0;         // smooth weighted round robin
};

struct Client {
  const net::Address& address;
  uint16_t port;
};

inline bool takes_new_clients(const snapshot::Server& s) {
  return s.state == snapshot::ServerState::kUp && s.reachable;
}

// The hash of consistent hashing. Not keyed: engines that never heard of each other must agree, and
// a client that aims at one server reaches only that.
uint32_t consistent_hash(const Client& client, snapshot::HashInput input);

// What a pool picks this client's server by, if its algorithm is consistent hashing; else 0.
inline uint32_t choice_hash_of(const snapshot::Pool& pool, const Client& client) {
  return pool.algorithm == snapshot::Algorithm::kConsistentHash
             ? consistent_hash(client, pool.hash_input)
             : 0;
}

// The index of the chosen server; kNobody when `usable(index)` holds for none. `choice_hash` is the
// client's consistent_hash(); only that algorithm reads it.
//
// Smooth weighted round robin is nginx's: every server earns its weight each turn, the richest is
// chosen and pays the sum. With equal weights that is plain round robin, which needs no pass over
// the pool.
template <class Usable>
uint32_t pick(const snapshot::Pool& pool, uint32_t choice_hash, std::span<Load> loads, Turn& turn,
              base::Random& random, Usable&& usable) {
  const auto n = static_cast<uint32_t>(pool.servers.size());
  const auto load_of = [&](uint32_t i) -> Load& { return loads[pool.servers[i].slot.value]; };
  if (n == 0) return kNobody;
  switch (pool.algorithm) {
    case snapshot::Algorithm::kConsistentHash: {
      const auto cells = static_cast<uint32_t>(pool.maglev.size());
      if (cells == 0) return kNobody;
      uint32_t cell = base::reduce(choice_hash, cells);
      // The table holds every server that takes new clients; usually the first cell decides. One
      // that is at its limit passes its clients on to the following cells' servers.
      for (uint32_t i = 0; i < cells; ++i, cell = cell + 1 == cells ? 0 : cell + 1) {
        if (usable(pool.maglev[cell])) return pool.maglev[cell];
      }
      return kNobody;
    }
    case snapshot::Algorithm::kRandom: {
      uint32_t sum = 0;
      for (uint32_t i = 0; i < n; ++i) sum += usable(i) ? pool.servers[i].weight : 0u;
      if (sum == 0) return kNobody;
      uint32_t left = random.below(sum);
      uint32_t last = kNobody;  // decides when another core filled a server up in between
      for (uint32_t i = 0; i < n; ++i) {
        if (!usable(i)) continue;
        if (left < pool.servers[i].weight) return i;
        left -= pool.servers[i].weight;
        last = i;
      }
      return last;
    }
    case snapshot::Algorithm::kRoundRobin: {
      if (pool.equal_weights) {
        uint32_t i = turn.next < n ? turn.next : 0;
        for (uint32_t k = 0; k < n; ++k, i = i + 1 == n ? 0 : i + 1) {
          if (!usable(i)) continue;
          turn.next = i + 1;
          return i;
        }
        return kNobody;
      }
      uint32_t best = kNobody;
      int32_t sum = 0;
      for (uint32_t i = 0; i < n; ++i) {
        if (!usable(i)) continue;
        Load& load = load_of(i);
        load.credit += pool.servers[i].weight;
        sum += pool.servers[i].weight;
        if (best == kNobody || load.credit > load_of(best).credit) best = i;
      }
      if (best != kNobody) load_of(best).credit -= sum;
      return best;
    }
    case snapshot::Algorithm::kLeastConnections: {
      uint32_t best = kNobody;
      const uint32_t start = turn.next < n ? turn.next : 0;
      for (uint32_t k = 0, i = start; k < n; ++k, i = i + 1 == n ? 0 : i + 1) {
        if (!usable(i)) continue;
        if (best == kNobody || uint64_t{load_of(i).open.get()} * pool.servers[best].weight <
                                   uint64_t{load_of(best).open.get()} * pool.servers[i].weight) {
          best = i;
        }
      }
      if (best != kNobody) turn.next = best + 1;
      return best;
    }
  }
  return kNobody;
}

template <class Usable>
uint32_t pick(const snapshot::Pool& pool, const Client& client, std::span<Load> loads, Turn& turn,
              base::Random& random, Usable&& usable) {
  return pick(pool, choice_hash_of(pool, client), loads, turn, random, usable);
}

}  // namespace limpet::balance
