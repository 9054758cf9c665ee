#include "dataplane/affinity/selector.h"

#include <utility>

namespace limpet::affinity {

using balance::Bound;
using balance::Judgement;
using balance::Picked;
using persist::Entry;
using replication::Outcome;
using snapshot::Pool;
using snapshot::Scope;
using Action = Judgement::Action;
using Wait = Choice::Wait;

Choice Selector::choose(const snapshot::Snapshot& s, const Question& q, Grant& grant) {
  if (q.scope == nullptr) return pick_at_home(s, q, nullptr, Reason::kNew, grant);
  const Pool& pool = q.pool;
  const Scope* scope = q.scope;
  Entry* entry = replica_.find(*scope, q.key, q.hash);
  ++(entry != nullptr ? counters_.hits : counters_.misses);
  const bool at_home = entry != nullptr ? entry->is_home() : replica_.is_home(q.hash);
  if (entry == nullptr) {
    if (!at_home) return {.wait = Wait::kClaim};
    return pick_at_home(s, q, nullptr, Reason::kNew, grant);
  }
  const Bound bound{entry->server, entry->first};
  const bool settled =
      (grant.settled_serial == entry->serial && grant.settled_change == entry->change) ||
      (grant.reserved != nullptr && grant.reserved->id == entry->server);
  // Another core may take the last place of a limited server between the judgement and the
  // reservation; the second judgement then sees that.
  for (int attempt = 0; attempt < 2; ++attempt) {
    Judgement j = judge(pool, scope, &bound, picker_.gauges(), settled);
    // What fills the limit may be the very place that was taken for this client.
    if (j.reason == Reason::kAtLimit && grant.reserved != nullptr &&
        grant.reserved->id == entry->server) {
      j = {Action::kUse, grant.reserved, Reason::kEntry};
    }
    if (j.action == Action::kRefuse) {
      ++counters_.refused;
      return {.entry = entry, .reason = j.reason};
    }
    const bool changes = j.action == Action::kPick || j.reason == Reason::kHome;
    if (changes && !at_home) return {.entry = entry, .reason = j.reason, .wait = Wait::kClaim};
    if (j.action == Action::kPick) return pick_at_home(s, q, entry, j.reason, grant);
    if (!replica_.may_use(*entry, *scope)) return {.entry = entry, .wait = Wait::kRoom};
    Choice choice = use(j, entry, grant);
    if (choice.server == nullptr) continue;
    if (j.reason == Reason::kHome) {
      if (replica_.move(*entry, j.server->id) == Outcome::kWait) {
        undo(choice);
        return {.entry = entry, .wait = Wait::kRoom};
      }
      ++counters_.returned_home;
    }
    replica_.use(*entry, grant.datagram);
    return choice;
  }
  ++counters_.refused;
  return {.entry = entry, .reason = Reason::kAtLimit};
}

// Takes a place on the server of a judgement; a choice without a server: there is none any more.
Choice Selector::use(const Judgement& j, Entry* entry, Grant& grant) {
  Choice choice{.server = j.server, .entry = entry, .reason = j.reason};
  if (grant.reserved == j.server) {
    grant.reserved = nullptr;
    choice.gauged = true;
    return choice;
  }
  if (j.server->connections_max == 0) return choice;
  choice.beyond = j.exceed && picker_.gauges().at_limit(*j.server);
  choice.gauged = picker_.gauges().reserve(*j.server, j.exceed);
  if (!choice.gauged) choice.server = nullptr;
  return choice;
}

Choice Selector::pick_at_home(const snapshot::Snapshot& s, const Question& q, Entry* entry,
                              Reason reason, const Grant& grant) {
  const Picked picked = picker_.pick(s, q.pool, q.client);
  if (picked.server == nullptr) {
    ++counters_.refused;
    return {.entry = entry, .reason = picked.limited ? Reason::kAtLimit : Reason::kNoServer};
  }
  Choice choice{.server = picked.server, .entry = entry, .reason = reason, .gauged = picked.gauged};
  if (q.scope == nullptr) return choice;
  Outcome outcome = Outcome::kDone;
  if (entry != nullptr) {
    outcome = replica_.move(*entry, picked.server->id, grant.datagram);
  } else {
    const auto made = replica_.create(*q.scope, q.key, picked.server->id,
                                      {.since = grant.since, .datagram = grant.datagram});
    outcome = made.outcome;
    choice.entry = made.entry;
    choice.created = outcome == Outcome::kDone;
  }
  if (outcome == Outcome::kDone) return choice;
  if (choice.gauged) picker_.gauges().release(picked.server->slot);
  if (outcome == Outcome::kWait) return {.entry = entry, .wait = Wait::kRoom};
  ++counters_.refused;
  return {.reason = Reason::kTableFull};
}

void Selector::undo(const Choice& choice) {
  if (choice.gauged) picker_.gauges().release(choice.server->slot);
  if (choice.created) replica_.undo_create(*choice.entry);
}

}  // namespace limpet::affinity
