#include "dataplane/replication/holder.h"

namespace limpet::replication {

using persist::Entry;

void Holder::hear(uint32_t from, const Down& m) {
  switch (m.kind) {
    case Down::Kind::kUpdate:
      return adopt(m);
    case Down::Kind::kRecall:
      return recalled(from, m);
    case Down::Kind::kGone:
      if (Entry* copy = book_.table.find(m.scope, m.key)) drop(*copy);
      return;
    case Down::Kind::kRefuse:
      return;
  }
}

// Its connections go on uncounted.
void Holder::drop(Entry& copy) {
  book_.lost_counts = book_.lost_counts || copy.open > 0;
  if (copy.touch_owed) --touches_owed_;
  book_.table.erase(copy);
}

// Of the binding: connections of the one before go on uncounted.
void Holder::begin_life(Entry& copy) {
  book_.lost_counts = book_.lost_counts || copy.open > 0;
  copy.open = 0;
  copy.last = persist::kNoActivity;
  copy.confirmed = copy.datagram = false;
  copy.told_close = false;
  if (copy.touch_owed) --touches_owed_;
  copy.touch_owed = false;
}

// Even if the scope has gone by this core's snapshot: what home tells of a key is all or nothing,
// and a GONE follows when home sees it too.
void Holder::adopt(const Down& m) {
  Entry* copy = book_.table.find(m.scope, m.key);
  if (copy == nullptr) {
    copy = &book_.table.insert(m.scope, m.key);
    copy->last = persist::kNoActivity;
    copy->told_idle = !m.answer;
  } else if (copy->serial != m.serial) {
    begin_life(*copy);
    copy->told_idle = !m.answer;
  }
  copy->serial = m.serial;
  copy->change = m.change;
  copy->server = m.server;
  copy->first = m.first;
  copy->confirmed = copy->confirmed || m.confirmed;
  copy->datagram = copy->datagram || m.datagram;
  // Whoever waits for the answer uses it in this turn: a RECALL behind it comes too early.
  if (m.answer) copy->last = book_.now;
}

void Holder::recalled(uint32_t from, const Down& m) {
  Entry* copy = book_.table.find(m.scope, m.key);
  if (copy != nullptr && copy->serial != m.serial) copy = nullptr;
  Answer answer{.place = m.place, .serial = m.serial, .version = book_.snapshot->version};
  answer.last = persist::kNoActivity;
  answer.yes = copy == nullptr;
  if (copy != nullptr) {
    // Half-open connections do not keep a binding that nobody has confirmed; nor do those of
    // datagrams when somebody needs its place.
    const bool embryonic = !m.confirmed && !copy->confirmed;
    const bool counts = !embryonic || (!m.evicting && (m.datagram || copy->datagram));
    const bool held = (copy->open > 0 && counts) || copy->last == book_.now;
    answer.yes = m.give_up && !held;
    answer.confirmed = copy->confirmed;
    answer.datagram = copy->datagram;
    answer.open = copy->open;
    answer.held = held;
    copy->told_idle = !held;
    copy->told_close = false;
    answer.last = held ? book_.now : copy->last;
  }
  if (answer.yes && copy != nullptr) drop(*copy);
  ++(answer.yes ? book_.counters.answers_yes : book_.counters.answers_no);
  const bool sent = book_.rings.answers.from(book_.options.core).to(from).push(answer);
  LIMPET_ASSERT(sent);  // credits
}

// What every message to the home of a key says. `have`: the copy, or null.
Claim Holder::message(Claim::Kind kind, binding::ScopeSlot scope, const binding::Key& key,
                      const Entry* have) const {
  Claim m{.kind = kind,
          .scope = scope,
          .key = key,
          .sent = book_.now,
          .version = book_.snapshot->version};
  if (have != nullptr) {
    m.serial = have->serial;
    m.change = have->change;
  }
  return m;
}

bool Holder::claim(const snapshot::Scope& scope, const binding::Key& key, Entry* have,
                   const Proposal& proposal) {
  Claim m = message(Claim::Kind::kClaim, scope.slot, key, have);
  m.exact = proposal.exact;
  m.if_none = proposal.if_none;
  m.reserved = proposal.reserved;
  m.existing = proposal.existing;
  m.datagram = proposal.datagram;
  m.choice_hash = proposal.choice_hash;
  m.proposed = proposal.server;
  if (!claims_to(scope.slot, key).push(m)) return book_.wait();
  ++book_.counters.claims;
  if (have != nullptr) have->told_idle = false;
  return true;
}

void Holder::confirm(Entry& copy) {
  copy.confirmed = true;
  if (touch(copy)) return;
  copy.touch_owed = true;
  ++touches_owed_;
}

Claim Holder::touch_of(const Entry& copy) const {
  Claim m = message(Claim::Kind::kTouch, copy.scope, copy.key, &copy);
  m.confirmed = copy.confirmed;
  return m;
}

bool Holder::touch(Entry& copy) {
  if (!claims_to(copy.scope, copy.key).push(touch_of(copy))) return book_.wait();
  ++book_.counters.touches;
  copy.told_idle = false;
  return true;
}

void Holder::tell_close(Entry& copy) {
  const snapshot::Scope* scope = book_.scope_of(copy);
  if (scope == nullptr || !book_.announces(*scope)) return;
  Claim m = touch_of(copy);
  m.closed = true;
  copy.told_close = claims_to(copy.scope, copy.key).push(m);
  ++(copy.told_close ? book_.counters.touches : book_.counters.waited);
}

// An ANSWER would tell it as well, but later.
void Holder::pay_touches() {
  for (uint32_t i = 0; i < kLooksPerTurn && touches_owed_ > 0; ++i) {
    if (touch_at_ >= book_.table.places()) touch_at_ = 0;
    Entry* copy = book_.table.entry_at(touch_at_);
    if (copy != nullptr && copy->touch_owed) {
      if (!touch(*copy)) return;
      copy->touch_owed = false;
      --touches_owed_;
    }
    ++touch_at_;
  }
}

}  // namespace limpet::replication
