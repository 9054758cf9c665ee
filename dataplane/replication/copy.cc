// What a core does as a holder of copies.
#include "dataplane/replication/replica.h"

namespace limpet::replication {

using binding::Key;
using persist::Entry;
using timing::Instant;

void Replica::hear(uint32_t from, const Down& m) {
  switch (m.kind) {
    case Down::Kind::kUpdate:
      return adopt(m);
    case Down::Kind::kRecall:
      return recalled(from, m);
    case Down::Kind::kGone:
      if (Entry* copy = table_.find(m.scope, m.key)) {
        lost_counts_ = lost_counts_ || copy->open > 0;
        if (copy->touch_owed) --touches_owed_;
        table_.erase(*copy);
      }
      return;
    case Down::Kind::kRefuse:
      return;
  }
}

// Even if the scope has gone by this core's snapshot: what home tells of a key is all or nothing,
// and a GONE follows when home sees it too.
void Replica::adopt(const Down& m) {
  Entry* copy = table_.find(m.scope, m.key);
  if (copy == nullptr) {
    copy = &table_.insert(m.scope, m.key);
    copy->last = persist::kNoActivity;
    copy->told_idle = !m.answer;
  } else if (copy->serial != m.serial) {
    // Another life of the binding: connections of the one before go on uncounted.
    lost_counts_ = lost_counts_ || copy->open > 0;
    copy->open = 0;
    copy->last = persist::kNoActivity;
    copy->confirmed = copy->datagram = false;
    copy->told_close = false;
    if (copy->touch_owed) --touches_owed_;
    copy->touch_owed = false;
    copy->told_idle = !m.answer;
  }
  copy->serial = m.serial;
  copy->change = m.change;
  copy->server = m.server;
  copy->first = m.first;
  copy->confirmed = copy->confirmed || m.confirmed;
  copy->datagram = copy->datagram || m.datagram;
  // Whoever waits for the answer uses it in this turn: a RECALL behind it comes too early.
  if (m.answer) copy->last = now_;
}

void Replica::recalled(uint32_t from, const Down& m) {
  Entry* copy = table_.find(m.scope, m.key);
  if (copy != nullptr && copy->serial != m.serial) copy = nullptr;
  Answer answer{.place = m.place, .serial = m.serial, .version = snapshot_->version};
  answer.last = persist::kNoActivity;
  answer.yes = copy == nullptr;
  if (copy != nullptr) {
    // Half-open connections do not keep a binding that nobody has confirmed; nor do those of
    // datagrams when somebody needs its place.
    const bool embryonic = !m.confirmed && !copy->confirmed;
    const bool counts = !embryonic || (!m.evicting && (m.datagram || copy->datagram));
    const bool held = (copy->open > 0 && counts) || copy->last == now_;
    answer.yes = m.give_up && !held;
    answer.confirmed = copy->confirmed;
    answer.datagram = copy->datagram;
    answer.open = copy->open;
    answer.held = held;
    copy->told_idle = !held;
    copy->told_close = false;
    answer.last = held ? now_ : copy->last;
  }
  if (answer.yes && copy != nullptr) {
    lost_counts_ = lost_counts_ || copy->open > 0;
    if (copy->touch_owed) --touches_owed_;
    table_.erase(*copy);
  }
  ++(answer.yes ? counters_.answers_yes : counters_.answers_no);
  const bool sent = rings_.answers.from(options_.core).to(from).push(answer);
  LIMPET_ASSERT(sent);  // credits
}

bool Replica::claim(const snapshot::Scope& scope, const Key& key, Entry* have,
                    const Proposal& proposal) {
  Claim m{.kind = Claim::Kind::kClaim,
          .exact = proposal.exact,
          .if_none = proposal.if_none,
          .reserved = proposal.reserved,
          .existing = proposal.existing,
          .datagram = proposal.datagram,
          .scope = scope.slot,
          .key = key,
          .proposed = proposal.server,
          .sent = now_,
          .version = snapshot_->version};
  if (have != nullptr) {
    m.serial = have->serial;
    m.change = have->change;
  }
  if (!rings_.claims.from(options_.core).to(home_of(scope.slot, key)).push(m)) return wait();
  ++counters_.claims;
  if (have != nullptr) have->told_idle = false;
  return true;
}

void Replica::confirm(Entry& entry) {
  if (entry.confirmed) return;
  if (entry.is_home()) {
    // What was half open may have been giving way.
    stop_eviction(table_.home(entry));
    return confirm_record(entry);
  }
  entry.confirmed = true;
  if (touch(entry)) return;
  entry.touch_owed = true;
  ++touches_owed_;
}

bool Replica::touch(Entry& copy) {
  const Claim m{.kind = Claim::Kind::kTouch,
                .confirmed = copy.confirmed,
                .scope = copy.scope,
                .serial = copy.serial,
                .change = copy.change,
                .key = copy.key,
                .sent = now_,
                .version = snapshot_->version};
  if (!rings_.claims.from(options_.core).to(home_of(copy.scope, copy.key)).push(m)) return wait();
  ++counters_.touches;
  copy.told_idle = false;
  return true;
}

// Sends what confirm() had no room for. An ANSWER would tell it as well, but later.
void Replica::pay_touches() {
  for (uint32_t i = 0; i < kSampleRecords && touches_owed_ > 0; ++i) {
    if (touch_at_ >= table_.places()) touch_at_ = 0;
    Entry* copy = table_.entry_at(touch_at_);
    if (copy != nullptr && copy->touch_owed) {
      if (!touch(*copy)) return;
      copy->touch_owed = false;
      --touches_owed_;
    }
    ++touch_at_;
  }
}

}  // namespace limpet::replication
