#include "dataplane/replication/records.h"

namespace limpet::replication {

using binding::Told;
using persist::Entry;
using persist::Home;
using snapshot::Scope;

Entry* Records::reserve_and_make(const Scope& scope, const binding::Key& key) {
  if (!book_.bindings.reserve()) return nullptr;
  Entry* record = make(scope, key);
  if (record == nullptr) book_.bindings.release();
  return record;
}

Entry* Records::make(const Scope& scope, const binding::Key& key) {
  Entry* record = book_.table.insert_home(scope.slot, key);
  if (record == nullptr) return nullptr;
  record->serial = book_.next_serial();
  record->last = book_.now;
  book_.home(*record).created = book_.now;
  return record;
}

bool Records::end(Entry& record, telemetry::Counter& why, const Whom& whom) {
  LIMPET_ASSERT(book_.home(record).copies == 0 && !record.husk);
  if (!teller_.tell_mirror_gone(record.scope, record.key, whom)) return false;
  ++why;
  book_.lost_counts = book_.lost_counts || record.open > 0;
  book_.table.erase(record);
  book_.bindings.release();
  return true;
}

bool Records::end_if_due(Entry& record) {
  const Home& home = book_.home(record);
  if (home.copies != 0) return false;
  if (home.evicting && !record.held())
    return end(record,
               record.confirmed ? book_.counters.evicted_idle : book_.counters.evicted_embryonic);
  const Scope* scope = book_.scope_of(record);
  if (scope == nullptr || !book_.expired(record, *scope)) return false;
  if (record.confirmed && book_.shares(*scope) && !husk_is_over(record, *scope))
    return become_husk(record);
  return end(record, book_.counters.expired);
}

// Of a husk holders and mirror know nothing any more, whatever has become of its scope.
bool Records::forget(Entry& record, telemetry::Counter& why, const Whom& whom) {
  if (record.husk) {
    if (whom.told != Told::kNobody && !teller_.tell_mirror_gone(record.scope, record.key, whom))
      return false;
    end_husk(record);
    return true;
  }
  Home& home = book_.home(record);
  if (!teller_.room(home.copies)) return false;
  if (!teller_.room_for_news()) return book_.wait();
  teller_.tell_gone(record, home);
  const bool ended = end(record, why, whom);
  LIMPET_ASSERT(ended);
  return true;
}

void Records::begin_life(Entry& record) {
  Home& home = book_.home(record);
  book_.lost_counts = book_.lost_counts || record.open > 0;
  record.serial = book_.next_serial();
  record.change = 0;
  record.open = 0;
  home.asked = home.regranted = home.round = 0;
  home.evicting = home.owed = home.heard = home.holding = home.in_round = home.found_held = false;
  home.created = book_.now;
}

// Its time is over, nobody here holds it; but others may know better.
bool Records::become_husk(Entry& record) {
  if (!teller_.tell_mirror_gone(record.scope, record.key, {})) return false;
  Home& home = book_.home(record);
  record.husk = true;
  record.serial = book_.next_serial();  // whoever knows it by its handle knows it no more
  home.evicting = home.owed = home.heard = home.holding = home.in_round = false;
  home.round = 0;
  ++husks_;
  ++book_.counters.husks;
  ++book_.counters.expired;
  return true;
}

void Records::end_husk(Entry& husk) {
  LIMPET_ASSERT(husk.husk && husk.open == 0 && book_.home(husk).copies == 0);
  --husks_;
  book_.table.erase(husk);
  book_.bindings.release();
}

void Records::revive(Entry& husk) {
  --husks_;
  husk.husk = false;
  begin_life(husk);
}

}  // namespace limpet::replication
