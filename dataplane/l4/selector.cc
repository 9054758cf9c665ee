#include "dataplane/l4/selector.h"

namespace limpet::l4 {

using persist::Entry;
using snapshot::Pool;
using snapshot::Recovery;
using snapshot::Scope;
using snapshot::Server;
using snapshot::ServerState;
using Action = Judgement::Action;

namespace {

Judgement by_policy(Recovery recovery, const Server& server, Reason refusal) {
  switch (recovery) {
    case Recovery::kContinue:
      return {Action::kUse, &server, Reason::kEntry, true};
    case Recovery::kAbort:
      return {Action::kRefuse, nullptr, refusal};
    case Recovery::kPickNew:
      break;
  }
  return {Action::kPick, nullptr, Reason::kMoved};
}

}  // namespace

Judgement judge(const Pool& pool, const Scope* scope, const Entry* entry, const Gauges& gauges) {
  if (scope == nullptr || entry == nullptr) return {Action::kPick, nullptr, Reason::kNew};
  if (scope->return_home && entry->first != entry->server) {
    const Server* home = pool.find(entry->first);
    if (home != nullptr && balance::takes_new_clients(*home) && !gauges.at_limit(*home))
      return {Action::kUse, home, Reason::kHome};
  }
  const Server* server = pool.find(entry->server);
  if (server == nullptr) return {Action::kPick, nullptr, Reason::kNew};
  // Without a route there is no way to go on with it, whatever the policy.
  if (!server->reachable && scope->down == Recovery::kContinue)
    return {Action::kRefuse, nullptr, Reason::kDown};
  if (server->state == ServerState::kDown || !server->reachable)
    return by_policy(scope->down, *server, Reason::kDown);
  // Its time is over: whom it keeps would be reset at once.
  if (server->reset_connections) return {Action::kPick, nullptr, Reason::kMoved};
  if (server->state == ServerState::kDisabled)
    return by_policy(scope->draining, *server, Reason::kDraining);
  if (gauges.at_limit(*server)) return by_policy(scope->at_limit, *server, Reason::kAtLimit);
  return {Action::kUse, server, Reason::kEntry};
}

bool Selector::reserve(const Server& server, bool exceed, Choice* choice) {
  if (server.connections_max == 0) return true;
  choice->beyond = exceed && gauges_.at_limit(server);
  if (!gauges_.reserve(server, exceed)) return false;
  choice->gauged = true;
  return true;
}

Choice Selector::choose(const snapshot::Snapshot& s, const snapshot::VirtualService& vs,
                        const balance::Client& client, timing::Instant now) {
  const Pool& pool = s.pools[vs.pool.value];
  const Scope* scope = s.scope(vs.scope);
  Entry* entry = nullptr;
  if (scope != nullptr) {
    entry = table_.find(s, *scope, scope->key_of(client.address), now);
    ++(entry != nullptr ? counters_.hits : counters_.misses);
  }
  // Another core may take the last place of a limited server between the judgement and the
  // reservation; the second judgement then sees that.
  for (int attempt = 0; attempt < 2; ++attempt) {
    const Judgement j = judge(pool, scope, entry, gauges_);
    if (j.action == Action::kPick) return pick(s, pool, scope, entry, client, now, j.reason);
    Choice choice{.entry = entry, .reason = j.reason};
    if (j.action == Action::kRefuse) {
      ++counters_.refused;
      return choice;
    }
    if (!reserve(*j.server, j.exceed, &choice)) continue;
    choice.server = j.server;
    if (j.reason == Reason::kHome) {
      ++counters_.returned_home;
      ++entry->epoch;
      entry->server = j.server->id;
    }
    entry->last = now;
    return choice;
  }
  ++counters_.refused;
  return {.entry = entry, .reason = Reason::kAtLimit};
}

Choice Selector::pick(const snapshot::Snapshot& s, const Pool& pool, const Scope* scope,
                      Entry* entry, const balance::Client& client, timing::Instant now,
                      Reason reason) {
  Choice choice{.entry = entry, .reason = reason};
  bool limited = false;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const uint32_t at = balance::pick(pool, client, loads_,
                                      turns_[static_cast<std::size_t>(&pool - s.pools.data())],
                                      random_, [&](uint32_t i) {
                                        const Server& server = pool.servers[i];
                                        if (!balance::takes_new_clients(server)) return false;
                                        if (!gauges_.at_limit(server)) return true;
                                        limited = true;
                                        return false;
                                      });
    if (at == balance::kNobody) break;
    if (!reserve(pool.servers[at], false, &choice)) continue;
    choice.server = &pool.servers[at];
    break;
  }
  if (choice.server == nullptr) {
    ++counters_.refused;
    choice.reason = limited ? Reason::kAtLimit : Reason::kNoServer;
    return choice;
  }
  if (scope == nullptr) return choice;
  if (entry != nullptr) {
    ++counters_.moved;
    ++entry->epoch;
    entry->server = choice.server->id;
    entry->last = now;
    return choice;
  }
  choice.entry = table_.create(s, *scope, scope->key_of(client.address), choice.server->id, now);
  choice.created = choice.entry != nullptr;
  if (choice.entry == nullptr) {
    if (choice.gauged) gauges_.release(choice.server->slot);
    ++counters_.refused;
    return {.reason = Reason::kTableFull};
  }
  return choice;
}

void Selector::undo(const Choice& choice) {
  if (choice.gauged) gauges_.release(choice.server->slot);
  if (choice.created) table_.remove(choice.entry);
}

}  // namespace limpet::l4
