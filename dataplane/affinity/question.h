// Question: whom does this client belong to? Made once for a packet or a request that opens
// something: looking up, choosing, parking and asking go by its one key and hash.
#pragma once

#include <cstdint>

#include "common/binding/key.h"
#include "dataplane/balance/pick.h"
#include "dataplane/persist/table.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::affinity {

struct Question {
  const snapshot::VirtualService& service;
  const snapshot::Pool& pool;
  const snapshot::Scope* scope;  // null: no persistence, and no key
  binding::Key key;
  uint32_t hash;           // of scope and key: where tables and homes look
  balance::Client client;  // refers to an address that has to stay

  // What consistent hashing picks by. Goes with a CLAIM whatever the algorithm: by the home's
  // snapshot it may be another.
  uint32_t choice_hash() const { return balance::consistent_hash(client, pool.hash_input); }

  // Of a client that is known by its address.
  static Question of(const snapshot::Snapshot& s, const snapshot::VirtualService& service,
                     const balance::Client& client, const persist::Table& table) {
    const snapshot::Pool& pool = s.pools[service.pool.value];
    const snapshot::Scope* scope = s.scope(service.scope);
    binding::Key key;
    uint32_t hash = 0;
    if (scope != nullptr) {
      key = binding::Key::of(scope->key_of(client.address));
      hash = table.hash(scope->slot, key);
    }
    return {service, pool, scope, key, hash, client};
  }
};

}  // namespace limpet::affinity
