#include "dataplane/replication/teller.h"

#include <utility>

namespace limpet::replication {

using binding::Change;
using binding::Told;
using persist::Entry;
using persist::Home;

bool Teller::room(Bits cores) {
  bool all = true;
  for_each_core(cores, [&](uint32_t c) { all = all && down(c).free_count() > 0; });
  return all || book_.wait();
}

void Teller::send_update(uint32_t to, const Entry& record, Home& home, Down m) {
  m.kind = Down::Kind::kUpdate;
  m.confirmed = record.confirmed;
  m.datagram = record.datagram;
  m.scope = record.scope;
  m.serial = record.serial;
  m.change = record.change;
  m.key = record.key;
  m.server = record.server;
  m.first = record.first;
  m.version = book_.snapshot->version;
  const bool sent = down(to).push(m);
  LIMPET_ASSERT(sent);  // R1
  ++book_.counters.updates;
  const Bits bit = Bits{1} << to;
  home.copies |= bit;
  if ((home.asked & bit) != 0) home.regranted |= bit;
}

void Teller::tell_all(Bits cores, const Entry& record, Home& home) {
  for_each_core(cores, [&](uint32_t c) { tell(c, record, home); });
}

void Teller::push_to_others(const Entry& record, Home& home, Bits except) {
  if (!book_.options.push) return;
  for (const uint32_t c : book_.rings.down.peers(book_.options.core)) {
    const auto& ring = down(c);
    if ((except >> c & 1) == 0 && 2 * ring.size() < ring.capacity()) tell(c, record, home);
  }
}

void Teller::answer(uint32_t to, const Entry& record, Home& home,
                    const snapshot::Server* reserved) {
  Down m{.answer = true, .reserved = reserved != nullptr};
  if (reserved != nullptr) m.place = reserved->slot.value;
  send_update(to, record, home, m);
}

void Teller::refuse(uint32_t to, const Claim& m, balance::Reason reason) {
  const bool sent = down(to).push({.kind = Down::Kind::kRefuse,
                                   .answer = true,
                                   .reason = reason,
                                   .scope = m.scope,
                                   .key = m.key,
                                   .version = book_.snapshot->version});
  LIMPET_ASSERT(sent);  // R1
  ++book_.counters.refusals;
}

void Teller::tell_gone(const Entry& record, Home& home) {
  for_each_core(std::exchange(home.copies, 0), [&](uint32_t c) {
    const bool sent = down(c).push({.kind = Down::Kind::kGone,
                                    .scope = record.scope,
                                    .key = record.key,
                                    .version = book_.snapshot->version});
    LIMPET_ASSERT(sent);  // R1
    ++book_.counters.gones;
  });
}

bool Teller::ask(const Entry& record, Home& home, uint32_t core, bool give_up) {
  if (credits_[core] >= book_.rings.capacity.answers || down(core).free_count() == 0)
    return book_.wait();
  const bool sent = down(core).push({.kind = Down::Kind::kRecall,
                                     .confirmed = record.confirmed,
                                     .give_up = give_up,
                                     .datagram = record.datagram,
                                     .evicting = home.evicting,
                                     .scope = record.scope,
                                     .place = book_.table.place_of(record),
                                     .serial = record.serial,
                                     .key = record.key,
                                     .version = book_.snapshot->version});
  LIMPET_ASSERT(sent);
  ++book_.counters.recalls;
  ++credits_[core];
  home.asked |= Bits{1} << core;
  return true;
}

void Teller::recall(const Entry& record, Home& home) {
  for_each_core(home.copies & ~home.asked, [&](uint32_t c) { ask(record, home, c, true); });
}

void Teller::tell_mirror(const Entry& record, Home& home, const Whom& given) {
  // What did not get through was perhaps for all: this brings it, so it is for all too.
  const Whom whom = home.owed ? Whom{Told::kAll, {}} : given;
  const Change change{.kind = Change::Kind::kPut,
                      .confirmed = record.confirmed,
                      .told = whom.told,
                      .source = whom.source,
                      .scope = record.scope,
                      .version = book_.snapshot->version,
                      .key = record.key,
                      .record = book_.record_of(record),
                      .act_at = book_.announcing ? book_.activity(record).act_at : record.last,
                      .created = home.created};
  home.owed = !news().push(change);
  ++(home.owed ? book_.counters.waited : book_.counters.news);
}

bool Teller::tell_mirror_gone(binding::ScopeSlot scope, const binding::Key& key, const Whom& whom) {
  Change change{.kind = Change::Kind::kRemove,
                .told = whom.told,
                .source = whom.source,
                .scope = scope,
                .version = book_.snapshot->version,
                .key = key};
  change.record.deleted = book_.tombstones.of_key(scope, key);
  if (change.record.deleted.value != 0) change.kind = Change::Kind::kPut;
  if (!news().push(change)) return book_.wait();
  ++book_.counters.news;
  return true;
}

bool Teller::tell_fence(uint32_t fence) {
  return news().push({.kind = Change::Kind::kFence, .fence = fence});
}

}  // namespace limpet::replication
