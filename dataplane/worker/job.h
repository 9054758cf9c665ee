// Job: a question about bindings, or an order to forget some, that the control thread sends a core.
// The core works on it in slices, a bounded number of entries a turn.
//
// Owner: the control thread makes it, the worker alone touches it until `done` is set (release),
// then it is the control thread's again.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/net/address.h"
#include "dataplane/balance/policy.h"
#include "dataplane/persist/entry.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::worker {

struct EntryFilter {
  std::vector<bool> scopes;                // by ScopeSlot
  uint64_t version = UINT64_MAX;           // of the snapshot in which the slots mean that
  std::optional<net::Address> client;      // the entry that this client would use
  std::optional<net::Prefix> clients;      // keys within
  std::vector<binding::ServerId> servers;  // sorted; empty: all

  // A slot may have got another meaning since.
  bool has(const snapshot::Scope& scope) const {
    return scope.live && scope.slot.value < scopes.size() && scopes[scope.slot.value] &&
           scope.since <= version;
  }
  bool matches(const snapshot::Snapshot& s, binding::ScopeSlot slot, const binding::Key& key,
               binding::ServerId server) const {
    const snapshot::Scope* scope = s.scope(slot);
    if (scope == nullptr || !has(*scope)) return false;
    if (client && binding::Key::of(scope->key_of(*client)) != key) return false;
    if (clients && !clients->contains(key.address())) return false;
    return servers.empty() || std::binary_search(servers.begin(), servers.end(), server);
  }
};

struct Job {
  enum class Kind : uint8_t {
    kDelete,   // forget bindings whose home is this core
    kInspect,  // what this core has of some keys
    kExplain,  // what this core has of one key, and what would become of its client
    kClock,    // a stamp that is above all that this core has made or seen
  } kind = Kind::kInspect;
  std::atomic<bool> done{false};
  Job* next = nullptr;  // of the core's

  // kDelete
  EntryFilter filter;
  // What peers know too goes up to this stamp, by a tombstone of each scope; else key by key.
  bool whole_scopes = false;
  binding::Stamp up_to;
  uint32_t matched = 0;

  // kInspect: by the control thread's order; `seen` is sized by it.
  struct Wanted {
    binding::ScopeSlot scope;
    binding::Key key;
  };
  struct Seen {
    bool present = false;
    uint32_t open = 0;
    timing::Instant deadline;  // as far as this core knows
  };
  std::vector<Wanted> wanted;
  std::vector<Seen> seen;

  // kClock
  binding::Stamp clock;

  // kExplain: of whoever serves this address, protocol and port in the core's own snapshot, whose
  // version it says. Indices of another one would mean something else there.
  net::Address vip;
  uint8_t protocol = 0;
  uint16_t vip_port = 0;
  uint64_t version = 0;
  net::Address client;
  uint16_t client_port = 0;
  uint32_t home_core = 0;
  std::optional<persist::Entry> entry;
  std::optional<persist::Home> home;  // with the entry, at its home
  timing::Instant deadline;           // of the entry, as far as this core knows
  balance::Judgement::Action action = balance::Judgement::Action::kPick;
  balance::Reason reason = balance::Reason::kNew;
  std::optional<snapshot::ServerSlot> server;
  bool table_full = false;

  uint32_t at = 0;  // where the next slice begins
};

}  // namespace limpet::worker
