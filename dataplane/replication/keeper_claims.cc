// What other cores ask a home and answer it.
#include <algorithm>

#include "dataplane/replication/keeper.h"

namespace limpet::replication {

using balance::Bound;
using balance::Judgement;
using balance::Reason;
using persist::Entry;
using persist::Home;
using snapshot::Pool;
using snapshot::Scope;
using snapshot::Server;
using Action = Judgement::Action;

void Keeper::on_answer(uint32_t from, const Answer& m) {
  teller_.heard_answer(from);
  Entry* record = book_.table.at(m.place, m.serial);
  if (record == nullptr || !record->is_home()) return;
  Home& home = book_.home(*record);
  const Bits bit = Bits{1} << from;
  if (m.last > record->last) {
    record->last = m.last;
    home.evicting = false;
  }
  record->datagram = record->datagram || m.datagram;
  if (m.held) Announcer::note_held(home);
  if (m.confirmed && !record->confirmed) announcer_.confirm(*record);
  home.asked &= ~bit;
  if (!m.yes) {
    home.evicting = false;
  } else if ((home.regranted & bit) == 0) {
    home.copies &= ~bit;
  }
  home.regranted &= ~bit;
  announcer_.answered(*record, m.held);
  records_.end_if_due(*record);
}

void Keeper::on_touch(const Claim& m, const Scope* scope) {
  Entry* record = scope == nullptr ? nullptr : book_.table.find(m.scope, m.key);
  if (record == nullptr || record->husk || record->serial != m.serial) return;
  record->last = std::max(record->last, m.sent);
  if (m.confirmed && !record->confirmed) announcer_.confirm(*record);
  if (!m.closed) return announcer_.active(*record);
  book_.home(*record).evicting = false;
  announcer_.closed(*record);
}

// False: not yet, it stays at the head of its ring.
bool Keeper::on_claim(uint32_t from, const Claim& m) {
  const Scope* scope = book_.scope_of(m.scope, m.version);
  if (m.kind == Claim::Kind::kTouch) {
    on_touch(m, scope);
    return true;
  }
  if (!teller_.room(Bits{1} << from)) return false;
  if (scope == nullptr || book_.now - m.sent > kLate) {
    teller_.refuse(from, m, Reason::kLate);
    return true;
  }
  Entry* record = find(*scope, m.key, book_.table.hash(scope->slot, m.key));
  if (record == nullptr && m.existing) {
    teller_.refuse(from, m, Reason::kNew);
    return true;
  }
  if (record == nullptr) return on_new_key(from, m, *scope);
  LIMPET_ASSERT(record->is_home());
  use(*record, m.datagram);
  return decide(from, m, *scope, *record);
}

// The asker proposes because it has the packet; home checks and chooses again if need be, by the
// asker's hash: what was hashed of the client the key does not tell.
Keeper::Chosen Keeper::choose(const Claim& m, const Scope& scope) {
  const Pool& pool = book_.snapshot->pools[scope.pool.value];
  const Server* proposed = pool.find(m.proposed);
  if (m.if_none && (proposed == nullptr || !balance::takes_new_clients(*proposed))) return {};
  if (m.exact) return {proposed};
  if (proposed != nullptr && balance::takes_new_clients(*proposed) &&
      (m.reserved || proposed->connections_max == 0)) {
    return {proposed};
  }
  const balance::Picked picked = picker_.pick(*book_.snapshot, pool, m.choice_hash);
  return {picked.server, picked.gauged, picked.limited ? Reason::kAtLimit : Reason::kNoServer};
}

void Keeper::give_back(const Chosen& chosen) {
  if (chosen.reserved_here) picker_.gauges().release(chosen.server->slot);
}

bool Keeper::on_new_key(uint32_t from, const Claim& m, const Scope& scope) {
  const Chosen chosen = choose(m, scope);
  if (chosen.server == nullptr) {
    teller_.refuse(from, m, chosen.why_not);
    return true;
  }
  const Made made = create(scope, m.key, chosen.server->id, {m.sent, from, m.datagram});
  if (made.outcome != Outcome::kDone) give_back(chosen);
  if (made.outcome == Outcome::kWait) return book_.wait();
  if (made.outcome == Outcome::kFull) {
    teller_.refuse(from, m, Reason::kTableFull);
    return true;
  }
  teller_.answer(from, *made.entry, book_.home(*made.entry), chosen.reserved());
  return true;
}

// A CLAIM for a key that has a binding: home judges by itself whether it has to move.
bool Keeper::decide(uint32_t from, const Claim& m, const Scope& scope, Entry& record) {
  Home& home = book_.home(record);
  const Bits asker = Bits{1} << from;
  Chosen chosen;
  if (m.exact && !m.if_none) {
    chosen = choose(m, scope);
    if (chosen.server == nullptr) {
      teller_.refuse(from, m, chosen.why_not);
      return true;
    }
  } else if (m.serial == record.serial && m.change == record.change) {
    const Bound bound{record.server, record.first};
    const Judgement j =
        judge(book_.snapshot->pools[scope.pool.value], &scope, &bound, picker_.gauges());
    if (j.reason == Reason::kHome) {
      chosen.server = j.server;
    } else if (j.action == Action::kPick) {
      chosen = choose(m, scope);
      if (chosen.server == nullptr) {
        teller_.refuse(from, m, chosen.why_not);
        return true;
      }
    }
  }
  if (chosen.server == nullptr || chosen.server->id == record.server) {
    // The asker's view was old, or nothing has to change.
    teller_.answer(from, record, home, chosen.reserved());
    return true;
  }
  if (!teller_.room(home.copies | asker)) {
    give_back(chosen);
    return false;
  }
  set_server(record, chosen.server->id);
  // The asker last: what it does next may be seen by a client that comes back to another core.
  teller_.tell_all(home.copies & ~asker, record, home);
  teller_.answer(from, record, home, chosen.reserved());
  announcer_.moved(record);
  return true;
}

}  // namespace limpet::replication
