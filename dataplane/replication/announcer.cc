#include "dataplane/replication/announcer.h"

#include <algorithm>

namespace limpet::replication {

using binding::Told;
using persist::Activity;
using persist::Entry;
using persist::Home;
using snapshot::Scope;
using timing::Duration;
using timing::Instant;

Announcer::Announcer(Book& book, Teller& teller, std::pmr::memory_resource* memory)
    : book_(book),
      teller_(teller),
      closes_(book.announcing ? closes_of(book.rings.cores(), book.bindings.limit()) : 0, memory) {}

void Announcer::announce(Entry& record, const Announcement& what) {
  Home& home = book_.home(record);
  Activity& a = book_.activity(record);
  const Scope* scope = book_.scope_of(record);
  if (home.early_rounds > 0 && scope != nullptr &&
      book_.now >= a.announced_at + book_.interval_of(record, *scope))
    --home.early_rounds;
  a.act = book_.stamps.at(book_.wall(what.at), a.act);
  a.act_at = what.at;
  a.held = what.held;
  a.announced_at = book_.now;
  home.holding = what.holding;
  // A round that is under way must not take this for nothing.
  home.heard = home.in_round;
  ++book_.counters.announced;
  teller_.tell_mirror(record, home);
}

void Announcer::announce_held(Entry& record) {
  announce(record, {.at = book_.now, .held = true, .holding = true});
}

// Activity of a binding that is announced as idle, or as another engine's: that is told at once.
void Announcer::announce_activity(Entry& record, Home& home) {
  if (home.in_round || !record.confirmed) return;
  const Scope* scope = book_.scope_of(record);
  if (scope == nullptr || !book_.announces(*scope)) return;
  announce_held(record);
}

void Announcer::moved(Entry& record) {
  const Scope* scope = book_.scope_of(record);
  if (scope != nullptr && book_.announces(*scope) && record.confirmed) return announce_held(record);
  teller_.tell_mirror(record, book_.home(record),
                      {record.confirmed ? Told::kAll : Told::kNobody, {}});
}

void Announcer::confirm(Entry& record) {
  record.confirmed = true;
  const Scope* scope = book_.scope_of(record);
  if (scope != nullptr && book_.announces(*scope)) return announce_held(record);
  teller_.tell_mirror(record, book_.home(record));
}

void Announcer::advance() {
  for (uint32_t i = 0; i < kClosesPerTurn; ++i) {
    const auto place = closes_.take(book_.now);
    if (!place) return;
    Entry* record = book_.table.record_at(*place);
    if (record == nullptr || record->husk || !may_begin_early(*record)) continue;
    const Instant due = record->last + kCloseDelay;
    if (book_.now < due) {
      closes_.add(*place, due);
    } else {
      begin_round(*record, /*early=*/true);
    }
  }
}

// Each R one for each binding, and a few in stock: a client that comes again and again costs no
// more. Not where others have held it too: that it is over would not be told.
bool Announcer::may_begin_early(const Entry& record) const {
  const Home& home = book_.home(record);
  const Scope* scope = book_.scope_of(record);
  if (!record.confirmed || record.open > 0 || !home.holding || home.in_round || home.asked != 0 ||
      home.evicting || home.early_rounds == kEarlyRoundsMax)
    return false;
  if (scope == nullptr || !book_.announces(*scope)) return false;
  return !others_may_hold(book_.activity(record), record.last, book_.interval_of(record, *scope));
}

void Announcer::answered(Entry& record, bool held) {
  Home& home = book_.home(record);
  if (home.in_round && (home.round | home.asked) == 0) finish_round(record, home);
  if (held) active(record);
}

void Announcer::begin_round(Entry& record, bool early) {
  Home& home = book_.home(record);
  home.in_round = true;
  home.early = early;
  if (early) ++home.early_rounds;
  home.found_held = home.heard = false;
  home.round = home.copies;
  ++book_.counters.rounds;
  go_on_round(record, home);
}

void Announcer::go_on_round(Entry& record, Home& home) {
  // Who is being asked to give it up will say as well whether it is held.
  home.round &= home.copies & ~home.asked;
  for_each_core(home.round, [&](uint32_t c) {
    if (teller_.ask(record, home, c, false)) home.round &= ~(Bits{1} << c);
  });
  if ((home.round | home.asked) == 0) finish_round(record, home);
}

void Announcer::finish_round(Entry& record, Home& home) {
  home.in_round = false;
  const bool held = home.found_held || home.heard || record.open > 0;
  home.found_held = home.heard = false;
  if (!held) return announce_release(record, home);
  // Of a round before its time nothing needs to be told, if that is what others know.
  const Activity& a = book_.activity(record);
  if (home.early && a.held && book_.is_ours(a.act)) return;
  announce_held(record);
}

// Whether another engine has said "held", later than what was last here, or less than two rounds
// of R before it.
bool Announcer::others_may_hold(const Activity& a, Instant at, Duration r) const {
  return (a.held && !book_.is_ours(a.act)) || at < a.others_held_at() + 2 * r;
}

Instant Announcer::known_deadline(const Entry& record, const Scope& scope) const {
  if (!record.confirmed || !book_.shares(scope) || !book_.home(record).holding)
    return book_.deadline(record, scope);
  const Activity& a = book_.activity(record);
  const Duration timeout = book_.timeout_of(record, scope);
  const Instant at = std::max(record.last, a.act_at);
  if (others_may_hold(a, at, book_.interval(timeout, scope))) return book_.deadline(record, scope);
  return std::max(record.deadline(timeout), a.act_at + timeout);
}

// Nobody holds it here. What another engine has announced later stands; where another has said
// "held", later or not long before, it is not for us to say that it is over: it may have crashed.
void Announcer::announce_release(Entry& record, Home& home) {
  home.holding = false;
  const Scope* scope = book_.scope_of(record);
  if (scope == nullptr) return;
  const Activity& a = book_.activity(record);
  const bool ours = book_.is_ours(a.act);
  const bool later = record.last > a.act_at;
  const Instant at = std::max(record.last, a.act_at);
  const bool by_others = others_may_hold(a, at, book_.interval_of(record, *scope));
  if (!later && (!ours || a.held == by_others)) return;
  announce(record, {.at = at, .held = by_others});
}

// Open connections may go on through another engine: those stay held. If there is none they have
// ended with this one.
bool Announcer::say_last(std::span<persist::Table* const> tables, uint32_t* at) {
  for (; *at < book_.table.home_places(); ++*at) {
    Entry* record = book_.table.record_at(*at);
    if (record == nullptr || record->husk || !record->confirmed) continue;
    Home& home = book_.home(*record);
    const Scope* scope = book_.scope_of(*record);
    if (!home.holding || scope == nullptr || !book_.announces(*scope)) continue;
    if (!teller_.room_for_news()) return book_.wait();
    uint32_t open = record->open;
    Instant last = record->last;
    for_each_core(home.copies, [&](uint32_t c) {
      const Entry* copy = tables[c]->find(record->scope, record->key);
      if (copy == nullptr || copy->serial != record->serial) return;
      open += copy->open;
      last = std::max(last, copy->last);
    });
    if (open > 0 && book_.shares(*scope)) continue;
    record->last = open > 0 ? book_.now : last;
    announce_release(*record, home);
  }
  return true;
}

void Announcer::look_at(Entry& record, const Scope& scope) {
  Home& home = book_.home(record);
  if (!record.confirmed || home.evicting || !book_.announces(scope)) return;
  if (home.in_round) return go_on_round(record, home);
  if (!home.holding && !home.heard) return;
  const Instant due = book_.activity(record).announced_at + book_.interval_of(record, scope);
  if (book_.now >= due && home.asked == 0) begin_round(record);
}

}  // namespace limpet::replication
