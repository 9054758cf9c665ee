#include "control/mirroring/update_list.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"

namespace limpet::mirroring {

using binding::Key;
using binding::Record;
using binding::ScopeId;
using binding::Stamp;
using timing::Instant;

UpdateList::UpdateList(const Limits& limits, const base::KeyedHash& hash,
                       std::pmr::memory_resource* memory)
    : limits_(limits),
      hash_(hash),
      index_(limits.entries + limits.tombstones, memory),
      entries_(std::size_t{limits.entries} + limits.tombstones, memory),
      free_(memory),
      tombstones_(memory) {
  LIMPET_ASSERT(limits.peers <= kPeersMax);
  free_.reserve(entries_.size());
  tombstones_.reserve(entries_.size());
}

std::size_t UpdateList::bytes_for(const Limits& limits) {
  const uint32_t all = limits.entries + limits.tombstones;
  return std::size_t{all} * (sizeof(Entry) + 2 * sizeof(uint32_t)) + alignof(Entry) +
         base::HashIndex::bytes_for(all);
}

UpdateList::Peer& UpdateList::at(PeerIndex peer) {
  LIMPET_ASSERT(peer.value < limits_.peers);
  return peers_[peer.value];
}

const UpdateList::Peer& UpdateList::at(PeerIndex peer) const {
  LIMPET_ASSERT(peer.value < limits_.peers);
  return peers_[peer.value];
}

bool UpdateList::is_counted(uint32_t peer, const Entry& entry) const {
  const uint32_t from = peers_[peer].to_settle;
  return from != kNone && entry.sequence >= entries_[from].sequence && is_due(peer, entry);
}

bool UpdateList::is_acknowledged_by_all(const Entry& entry) const {
  for (uint32_t p = 0; p < limits_.peers; ++p)
    if (is_owed(p, entry)) return false;
  return true;
}

uint32_t UpdateList::hash_of(ScopeId scope, const Key& key, bool whole_scope) const {
  const auto low = [](uint64_t word) { return static_cast<uint32_t>(word); };
  const auto high = [](uint64_t word) { return static_cast<uint32_t>(word >> 32); };
  return hash_(std::array{low(key.words[0]), high(key.words[0]), low(key.words[1]),
                          high(key.words[1]), low(scope.value), high(scope.value),
                          uint32_t{whole_scope}});
}

uint32_t UpdateList::place_of(ScopeId scope, const Key& key, bool whole_scope) const {
  return index_.find(hash_of(scope, key, whole_scope), [&](uint32_t i) {
    const Entry& e = entries_[i];
    return e.key == key && e.scope == scope && e.whole_scope == whole_scope;
  });
}

const Record* UpdateList::find(ScopeId scope, const Key& key) const {
  const uint32_t place = place_of(scope, key, false);
  return place == kNone ? nullptr : &entries_[place].record;
}

std::optional<UpdateList::Known> UpdateList::entry(ScopeId scope, const Key& key) const {
  const uint32_t place = place_of(scope, key, false);
  if (place == kNone) return std::nullopt;
  return Known{entries_[place].record, entries_[place].act_at};
}

Stamp UpdateList::killed_up_to(ScopeId scope) const {
  const uint32_t place = place_of(scope, {}, true);
  return place == kNone ? Stamp{} : entries_[place].record.deleted;
}

// An entry that is in the index but not in the list yet; kNone when there is no room.
uint32_t UpdateList::make(ScopeId scope, const Key& key, bool whole_scope) {
  uint32_t place = high_water_;
  if (!free_.empty()) {
    place = free_.back();
    free_.pop_back();
  } else if (high_water_ < entries_.size()) {
    ++high_water_;
  } else {
    return kNone;
  }
  entries_[place] = {.scope = scope, .key = key, .whole_scope = whole_scope};
  index_.insert(hash_of(scope, key, whole_scope), place);
  return place;
}

void UpdateList::erase(uint32_t place) {
  Entry& entry = entries_[place];
  unlink(place);
  unlink_tombstone(place);
  index_.erase(hash_of(entry.scope, entry.key, entry.whole_scope), place);
  free_.push_back(place);
}

void UpdateList::unlink(uint32_t place) {
  Entry& entry = entries_[place];
  if (entry.sequence.value == 0) return;
  for (uint32_t p = 0; p < limits_.peers; ++p) {
    Peer& peer = peers_[p];
    if (is_counted(p, entry)) --peer.owed;
    if (peer.to_send == place) peer.to_send = entry.next;
    if (peer.to_settle == place) peer.to_settle = entry.next;
  }
  (entry.previous == kNone ? head_ : entries_[entry.previous].next) = entry.next;
  (entry.next == kNone ? tail_ : entries_[entry.next].previous) = entry.previous;
  entry.sequence = {};
}

void UpdateList::list(uint32_t place, Mask targets, Instant now) {
  Entry& entry = entries_[place];
  if (entry.sequence.value != 0) {
    for (uint32_t p = 0; p < limits_.peers; ++p)
      if (is_owed(p, entry)) targets |= bit(p);
    unlink(place);
  }
  entry.targets = targets;
  last_ = Sequence{last_.value + 1};
  LIMPET_ASSERT(last_ <= kSequenceMax);
  entry.sequence = last_;
  entry.since = now;
  entry.previous = tail_;
  entry.next = kNone;
  (tail_ == kNone ? head_ : entries_[tail_].next) = place;
  tail_ = place;
  uint32_t& recent = recent_[last_.value % kAhead];
  entries_[recent].ahead = place;
  recent = place;
  for (uint32_t p = 0; p < limits_.peers; ++p) {
    Peer& peer = peers_[p];
    if (peer.to_send == kNone) peer.to_send = place;
    if (peer.to_settle == kNone) peer.to_settle = place;
    if (is_due(p, entry)) ++peer.owed;
  }
}

void UpdateList::unlink_tombstone(uint32_t place) {
  const uint32_t at = std::exchange(entries_[place].tombstone, kNone);
  if (at == kNone) return;
  const uint32_t last = tombstones_.back();
  tombstones_.pop_back();
  if (last == place) return;
  tombstones_[at] = last;
  entries_[last].tombstone = at;
}

void UpdateList::link_tombstone(uint32_t place) {
  Entry& entry = entries_[place];
  LIMPET_ASSERT(entry.tombstone == kNone);
  entry.quiet_in = 0;
  entry.tombstone = tombstones();
  tombstones_.push_back(place);
}

// What came over a session that has ended was not there when that session's news was passed on.
bool UpdateList::is_old(const Source& source) const {
  return source.peer != kNoPeer && at(source.peer).session != source.session;
}

// Adds to the targets whom home said to tell, and keeps in mind whose news it was until all are.
void UpdateList::set_source(Entry* entry, const Source& source, Told told, Mask* targets) const {
  const bool foreign = source.peer != kNoPeer;
  if (told == Told::kAll || is_old(source)) *targets = everyone();
  if (told == Told::kSender && foreign) *targets |= bit(source.peer.value);
  if (*targets == everyone()) {
    entry->sources = 0;
  } else if (foreign) {
    entry->sources |= bit(source.peer.value);
  }
}

bool UpdateList::update(const Update& update, Instant now) {
  const Record& record = update.record;
  if (!record.live() && record.deleted.value == 0) {
    remove(update.scope, update.key);
    return true;
  }
  uint32_t place = place_of(update.scope, update.key, false);
  if (place == kNone) place = make(update.scope, update.key, false);
  if (place == kNone) return false;
  Entry& entry = entries_[place];
  Mask targets = 0;
  const bool raised = record.deleted > entry.record.deleted;
  const Source& source = update.source;
  entry.act_at = update.act_at;
  if (update.told == Told::kNobody && record == entry.record && !is_old(source)) {
    // Nothing new. If it moved, two engines whose updates of a key cross would go on for ever.
    entry.quiet_in = 0;
    return true;
  }
  set_source(&entry, source, raised ? Told::kAll : update.told, &targets);
  entry.record = record;
  unlink_tombstone(place);
  list(place, targets, now);
  if (record.deleted.value != 0) link_tombstone(place);
  return true;
}

void UpdateList::remove(ScopeId scope, const Key& key) {
  const uint32_t place = place_of(scope, key, false);
  if (place != kNone) erase(place);
}

bool UpdateList::kill_scope(ScopeId scope, Stamp deleted, const Source& source, Instant now) {
  if (deleted.value == 0) return true;
  uint32_t place = place_of(scope, {}, true);
  if (place == kNone) place = make(scope, {}, true);
  if (place == kNone) return false;
  Entry& entry = entries_[place];
  if (deleted <= entry.record.deleted) return true;
  Mask targets = 0;
  set_source(&entry, source, Told::kAll, &targets);
  entry.record.deleted = deleted;
  unlink_tombstone(place);
  list(place, targets, now);
  link_tombstone(place);
  return true;
}

bool UpdateList::repeat_scope(ScopeId scope, Stamp deleted, Instant now) {
  const uint32_t place = place_of(scope, {}, true);
  if (place == kNone || entries_[place].record.deleted != deleted) return true;
  if (!is_acknowledged_by_all(entries_[place])) return false;
  unlink_tombstone(place);
  list(place, everyone(), now);
  link_tombstone(place);
  return true;
}

void UpdateList::forget_scope(ScopeId scope, Stamp deleted) {
  const uint32_t place = place_of(scope, {}, true);
  if (place != kNone && entries_[place].record.deleted == deleted) erase(place);
}

std::optional<PeerIndex> UpdateList::tombstone_waits_for() const {
  // Others are acknowledged and wait for time only.
  constexpr uint32_t kLooks = 65'536;
  for (uint32_t i = 0; i < std::min(tombstones(), kLooks); ++i) {
    for (uint32_t p = 0; p < limits_.peers; ++p)
      if (is_owed(p, entries_[tombstones_[i]])) return PeerIndex{static_cast<uint8_t>(p)};
  }
  return std::nullopt;
}

SnapshotBegin UpdateList::begin(PeerIndex index, SessionNumber session, const BootId& boot,
                                Sequence claimed) {
  Peer& peer = at(index);
  peer.session = session;
  if (peer.boot == boot && claimed.value != 0 && claimed >= peer.acked && claimed <= peer.sent) {
    peer.acked = claimed;
    peer.to_send = peer.to_settle;
    return {.up_to = last_, .kind = SnapshotBegin::Kind::kResume};
  }
  peer = {.boot = boot,
          .session = session,
          .full_until = last_,
          .to_send = head_,
          .to_settle = head_,
          .owed = size()};
  generation_ = generation_ % (UINT32_MAX >> 1) + 1;
  return {.up_to = last_, .kind = SnapshotBegin::Kind::kFull};
}

void UpdateList::lost(PeerIndex index) {
  at(index).session = {};
  lost_ |= bit(index.value);
  lost_at_ = 0;
}

bool UpdateList::work(uint32_t budget, Instant now) {
  if (lost_ == 0) return false;
  for (; lost_at_ < high_water_ && budget > 0; ++lost_at_, --budget) {
    Entry& entry = entries_[lost_at_];
    const auto gone = static_cast<Mask>(entry.sources & lost_);
    if (!entry.used() || gone == 0) continue;
    // If another's news is in it too, the lost one may lack that.
    const bool several = (entry.sources & (entry.sources - 1)) != 0;
    entry.sources = 0;
    list(lost_at_, several ? everyone() : static_cast<Mask>(everyone() & ~gone), now);
  }
  if (lost_at_ < high_water_) return true;
  lost_ = 0;
  return false;
}

UpdateList::Next UpdateList::next(PeerIndex index, uint32_t budget) {
  Peer& peer = at(index);
  settle(index, budget);
  for (; peer.to_send != kNone && budget > 0; --budget) {
    const Entry& entry = entries_[peer.to_send];
    peer.to_send = entry.next;
    if (entry.ahead != kNone) prefetch(entry.ahead);
    if (!is_owed(index.value, entry)) continue;
    peer.sent = std::max(peer.sent, entry.sequence);
    if (entry.whole_scope)
      return {.news = ScopeTombstone{entry.sequence, entry.scope, entry.record.deleted}};
    return {.news = Binding{.sequence = entry.sequence,
                            .scope = entry.scope,
                            .key = entry.key,
                            .record = entry.record,
                            .act_at = entry.act_at}};
  }
  return {.more = peer.to_send != kNone};
}

bool UpdateList::passed(PeerIndex index, Sequence sequence) const {
  const uint32_t next = at(index).to_send;
  return next == kNone || entries_[next].sequence > sequence;
}

void UpdateList::snapshot_sent(PeerIndex index, Sequence up_to) {
  LIMPET_ASSERT(up_to <= last_);
  at(index).sent = std::max(at(index).sent, up_to);
}

bool UpdateList::acknowledge(PeerIndex index, Sequence sequence) {
  Peer& peer = at(index);
  if (sequence > peer.sent) return false;
  peer.acked = std::max(peer.acked, sequence);
  return true;
}

// Moves to_settle over what is acknowledged or not due.
void UpdateList::settle(PeerIndex index, uint32_t budget) {
  Peer& peer = at(index);
  for (; peer.to_settle != kNone && budget > 0; --budget) {
    const uint32_t place = peer.to_settle;
    const Entry& entry = entries_[place];
    if (is_owed(index.value, entry)) return;
    if (is_due(index.value, entry)) --peer.owed;
    if (entry.ahead != kNone) base::prefetch(&entries_[entry.ahead]);
    peer.to_settle = entry.next;
    if (peer.to_send == place) peer.to_send = entry.next;
  }
}

Lag UpdateList::lag(PeerIndex index, Instant now, uint32_t budget) {
  settle(index, budget);
  Peer& peer = at(index);
  if (peer.owed == 0 || peer.to_settle == kNone) return {};
  const Entry& oldest = entries_[peer.to_settle];
  Instant since = oldest.since;
  if (oldest.sequence <= peer.full_until) {
    // Old news: it is late since the peer was there to be told.
    if (!peer.full_since) peer.full_since = now;
    since = std::max(since, *peer.full_since);
  }
  const auto age = (now - since) / timing::milliseconds(1);
  return {peer.owed, static_cast<uint32_t>(std::clamp<int64_t>(age, 0, UINT32_MAX))};
}

}  // namespace limpet::mirroring
