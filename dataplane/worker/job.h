// Job: a question about its persist table, or an order to forget part of it, that the control
// thread sends a core. The core works on it in slices, a bounded number of entries a turn.
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
#include "dataplane/l4/selector.h"
#include "dataplane/persist/entry.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::worker {

struct EntryFilter {
  std::vector<bool> scopes;                 // by ScopeSlot
  std::optional<net::Address> client;       // the entry that this client would use
  std::optional<net::Prefix> clients;       // keys within
  std::vector<snapshot::ServerId> servers;  // sorted; empty: all
  timing::Instant created_until = timing::Instant::never();

  bool matches(const snapshot::Snapshot& s, const persist::Entry& e) const {
    if (e.scope.value >= scopes.size() || !scopes[e.scope.value]) return false;
    if (e.created > created_until) return false;
    if (client && s.scope(e.scope)->key_of(*client) != e.key) return false;
    if (clients && !clients->contains(e.key)) return false;
    return servers.empty() || std::binary_search(servers.begin(), servers.end(), e.server);
  }
};

struct Job {
  enum class Kind : uint8_t { kList, kDelete, kExplain, kCensus } kind = Kind::kList;
  std::atomic<bool> done{false};

  // kList, kDelete. `at` is the place to look at next: kList counts from the start but keeps rows
  // from `from` on, at most `limit`; `rows` has room for them.
  EntryFilter filter;
  uint32_t at = 0;
  uint32_t from = 0;
  uint32_t limit = 0;
  struct Row {
    persist::Entry entry;
    uint32_t place = 0;
  };
  std::vector<Row> rows;
  uint32_t matched = 0;
  uint32_t next = 0;  // kList: the place after the last row
  bool more = false;  // kList: entries beyond `limit` matched

  // kCensus: entries by ScopeSlot and ServerSlot; sized by the control thread.
  std::vector<uint32_t> by_scope;
  std::vector<uint32_t> by_server;

  // kExplain
  uint32_t virtual_service = 0;  // index in the snapshot
  net::Address client;
  uint16_t client_port = 0;
  std::optional<persist::Entry> entry;
  l4::Judgement::Action action = l4::Judgement::Action::kPick;
  l4::Reason reason = l4::Reason::kNew;
  std::optional<snapshot::ServerSlot> server;
  bool table_full = false;
};

}  // namespace limpet::worker
