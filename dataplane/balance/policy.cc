#include "dataplane/balance/policy.h"

#include "dataplane/balance/pick.h"

namespace limpet::balance {

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

Judgement judge(const Pool& pool, const Scope* scope, const Bound* bound, const Gauges& gauges,
                bool settled) {
  if (scope == nullptr || bound == nullptr) return {Action::kPick, nullptr, Reason::kNew};
  if (scope->return_home && bound->first != bound->server && !settled) {
    const Server* home = pool.find(bound->first);
    if (home != nullptr && takes_new_clients(*home) && !gauges.at_limit(*home))
      return {Action::kUse, home, Reason::kHome};
  }
  const Server* server = pool.find(bound->server);
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
  if (gauges.at_limit(*server)) {
    const Judgement j = by_policy(scope->at_limit, *server, Reason::kAtLimit);
    if (j.action != Action::kPick || !settled) return j;
    return {Action::kUse, server, Reason::kEntry, true};
  }
  return {Action::kUse, server, Reason::kEntry};
}

}  // namespace limpet::balance
