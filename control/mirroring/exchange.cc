#include "control/mirroring/exchange.h"

#include "common/base/assert.h"

namespace limpet::mirroring {

using binding::Change;
using binding::Key;
using binding::Merge;
using binding::Record;
using binding::ScopeId;
using binding::Stamp;
using timing::Duration;
using timing::Instant;

UpdateList::Limits Exchange::list_limits(const Options& o) {
  if (o.peers == 0) return {};
  // News of one home may be read before that of another, which makes room for it.
  return {.entries = o.entries + o.surplus, .tombstones = tombstones_of(o), .peers = o.peers};
}

std::size_t Exchange::bytes_for(const Options& o) {
  return Mirror::bytes_for(o.entries, o.surplus) +
         (o.peers == 0 ? 0 : UpdateList::bytes_for(list_limits(o)));
}

Exchange::Exchange(const Options& options, HomeRings& rings, const base::KeyedHash& hash,
                   std::pmr::memory_resource* memory)
    : options_(options),
      rings_(rings),
      mirror_(options.entries, options.surplus, hash, memory),
      list_(list_limits(options), hash, memory),
      clock_(options.node) {}

// --- the clock
// ------------------------------------------------------------------------------------

void Exchange::observe(Stamp seen) {
  if (seen <= latest_) return;  // the clock is ahead of it
  clock_.observe(seen, options_.wall_origin + Duration{now_.ns});
  latest_ = seen;
}

void Exchange::observe_all(const Record& record) {
  observe(std::max({record.stamp, record.deleted, record.act}));
}

Stamp Exchange::next_stamp(Instant now) {
  const Stamp made = clock_.next(options_.wall_origin + Duration{now.ns});
  latest_ = std::max(latest_, made);
  return made;
}

// --- scopes
// ---------------------------------------------------------------------------------------

const Exchange::Known* Exchange::find(ScopeId scope) const {
  if (found_ != nullptr && found_->first == scope) return &found_->second;
  const auto it = known_.find(scope);
  if (it == known_.end() || it->second.version != version_) return nullptr;
  found_ = &*it;
  return &it->second;
}

bool Exchange::waits(ScopeId scope) const {
  const auto it = unnamed_.lower_bound({scope, Key{}});
  return it != unnamed_.end() && it->first.first == scope;
}

Duration Exchange::keep_of(ScopeId scope, const Record& record) const {
  if (record.timeout_ms != 0) return timing::milliseconds(record.timeout_ms) * 3 / 2;
  const auto it = known_.find(scope);
  return it == known_.end() ? kUnnamedKeep : it->second.keep;
}

void Exchange::use(std::span<const Scope> scopes, uint64_t version, Instant now) {
  now_ = now;
  found_ = nullptr;
  const uint64_t before = version_;
  version_ = version;
  for (const Scope& scope : scopes) {
    const auto [it, fresh] = known_.try_emplace(scope.id);
    const Known old = it->second;
    it->second = {scope.slot, version, scope.mirrored, scope.keep};
    if (slots_.size() <= scope.slot.value) slots_.resize(scope.slot.value + 1);
    slots_[scope.slot.value] = scope.id;
    const Stamp killed = list_.killed_up_to(scope.id);
    if (!scope.mirrored) list_.forget_scope(scope.id, killed);
    const bool comes = fresh || old.version != before || old.slot != scope.slot;
    if (comes) {
      if (waits(scope.id) || killed.value != 0) named_.push_back(scope.id);
      if (list_.tombstones() > 0) begin_relisting(true);
    } else if (old.mirrored != scope.mirrored && options_.peers > 0) {
      begin_relisting(false);
      if (old.mirrored) miss(scope.id);
    }
    const bool missed = missed_.contains(scope.id) || (missed_many_ && comes);
    if (!scope.mirrored || !missed) continue;
    missed_.erase(scope.id);
    resync_ = true;
  }
  std::erase_if(known_, [&](const auto& known) {
    const auto& [id, scope] = known;
    // Homes drop what they have of it.
    if (scope.version == before && before != version_ && scope.mirrored) miss(id);
    return scope.version != version_ && list_.killed_up_to(id).value == 0 && !waits(id);
  });
}

// --- from the homes
// -------------------------------------------------------------------------------

// The scope whose entries the list has for the change; null: it has none.
const ScopeId* Exchange::listed_scope(const Change& change) const {
  if (options_.peers == 0 || change.scope.value >= slots_.size()) return nullptr;
  const auto& scope = slots_[change.scope.value];
  return scope ? &*scope : nullptr;
}

void Exchange::expect(std::span<const Change> changes) const {
  for (const Change& change : changes) {
    mirror_.prefetch_index(change.scope, change.key);
    if (const ScopeId* scope = listed_scope(change)) list_.prefetch_index(*scope, change.key);
  }
}

void Exchange::expect_soon(std::span<const Change> changes) const {
  for (const Change& change : changes) {
    mirror_.prefetch_binding(change.scope, change.key);
    if (const ScopeId* scope = listed_scope(change)) list_.prefetch_entry(*scope, change.key);
  }
}

bool Exchange::apply(const Change& change, Instant now) {
  now_ = now;
  if (change.kind == Change::Kind::kFence) {
    if (change.fence == fences_.under_way && ++fences_.answers == rings_.homes())
      fences_.passed = fences_.under_way;
    return false;
  }
  observe_all(change.record);
  apply_to_mirror(change);
  if (options_.peers == 0) return false;
  const ScopeId* scope = listed_scope(change);
  if (scope == nullptr) {
    ++counters_.unlisted;
    return false;
  }
  const Sequence before = list_.last();
  list(change, *scope);
  return list_.last() != before;
}

void Exchange::apply_to_mirror(const Change& change) {
  const bool bound = change.kind == Change::Kind::kPut && change.record.live();
  if (bound) {
    if (change.confirmed) ++revision_;
    return mirror_.apply(change);
  }
  const Mirror::Binding* binding = mirror_.find(change.scope, change.key);
  // An embryonic binding is not on disk either.
  if (change.record.deleted.value != 0 || (binding != nullptr && binding->confirmed)) ++revision_;
  Change gone = change;
  gone.kind = Change::Kind::kRemove;
  mirror_.apply(gone);
}

void Exchange::list(const Change& change, ScopeId scope) {
  const Record* listed = rehoming_ ? list_.find(scope, change.key) : nullptr;
  const Stamp deleted = listed == nullptr ? Stamp{} : listed->deleted;
  if (change.kind == Change::Kind::kRemove && deleted.value == 0)
    return list_.remove(scope, change.key);
  const Known* known = find(scope);
  // Of a scope that has gone, or is not mirrored any more, homes have more to say.
  if (known == nullptr || !is_listed(*known)) return;
  Update update{.scope = scope,
                .key = change.key,
                .record = change.record,
                .act_at = change.act_at,
                .told = change.told,
                .source = change.source};
  if (change.record.live() && !change.confirmed) {
    // Embryonic: only a tombstone that it was made beside is for others.
    const Record& r = change.record;
    update.record = {.held = r.held, .deleted = r.deleted, .act = r.act};
    update.told = Told::kNobody;
  }
  update.record.deleted = std::max(update.record.deleted, deleted);
  if (!list_.update(update, now_)) ++counters_.unlisted;
}

// --- from peers and from disk
// ---------------------------------------------------------------------

bool Exchange::deliver(const Arrival& arrival) {
  observe_all(arrival.record);
  const Known* scope = find(arrival.scope);
  if (rehoming_ && scope != nullptr) return false;
  if (arrival.whole_scope) return deliver_tombstone(scope, arrival);
  if (scope != nullptr) return send(*scope, arrival);
  keep_unnamed(arrival);
  return true;
}

bool Exchange::restore(const Arrival& arrival, Instant now) {
  now_ = now;
  Arrival news = arrival;
  news.source = {};
  news.act_at = std::min(arrival.act_at, now);  // the wall clock may have been set back
  const Duration keep = keep_of(arrival.scope, arrival.record);
  if (news.record.live() && now - news.act_at >= keep) {
    news.record = {.deleted = arrival.record.deleted};
    if (news.record.deleted.value == 0) {
      ++counters_.disk_expired;
      return true;
    }
  }
  if (!deliver(news)) return false;
  ++counters_.disk_restored;
  return true;
}

// To the key's home; true also when it is not for this engine.
bool Exchange::send(const Known& scope, const Arrival& arrival) {
  Merge merge{.kind = Merge::Kind::kRecord,
              .source = arrival.source,
              .scope = scope.slot,
              .version = version_,
              .key = arrival.key,
              .record = arrival.record,
              .act_at = arrival.act_at};
  if (!is_listed(scope)) {
    merge.record.deleted = {};
    if (arrival.source.peer != kNoPeer || !merge.record.live()) {
      ++counters_.not_mirrored;
      miss(arrival.scope);
      return true;
    }
  }
  return rings_.send(rings_.home_of(scope.slot, arrival.key), merge);
}

// The list has it only when all homes were told: so what the list has, they know, or (scopes that
// were named just now) will be told before the next fence.
bool Exchange::deliver_tombstone(const Known* scope, const Arrival& arrival) {
  if (options_.peers == 0 || (scope != nullptr && !scope->mirrored)) {
    ++counters_.not_mirrored;
    miss(arrival.scope);
    return true;
  }
  const Stamp deleted = arrival.record.deleted;
  const Stamp known = list_.killed_up_to(arrival.scope);
  if (deleted <= known) return true;
  if (known.value == 0 && !list_.room_for_tombstones(1)) {
    ++counters_.tombstones_refused;
    miss(arrival.scope);
    return true;
  }
  const Source& source = arrival.source;
  auto& telling = telling_[source.peer == kNoPeer ? kPeersMax : source.peer.value];
  if (!telling || telling->scope != arrival.scope || telling->stamp != deleted)
    telling = Telling{arrival.scope, deleted, source, 0};
  telling->source = source;
  if (!tell_all(&*telling, Merge::Kind::kKillScope)) return false;
  telling.reset();
  if (!list_.kill_scope(arrival.scope, deleted, source, now_)) ++counters_.unlisted;
  if (scope != nullptr) begin_killing({arrival.scope, deleted, begin_fence()});
  ++revision_;
  return true;
}

// True when all homes have been told, or nobody needs to be.
bool Exchange::tell_all(Telling* telling, Merge::Kind kind) {
  const Known* scope = find(telling->scope);
  if (scope == nullptr) return true;
  for (; telling->next < rings_.homes(); ++telling->next) {
    const bool sent = rings_.send(telling->next, {.kind = kind,
                                                  .source = telling->source,
                                                  .scope = scope->slot,
                                                  .version = version_,
                                                  .key = {},
                                                  .record = {.deleted = telling->stamp},
                                                  .act_at = now_});
    if (!sent) return false;
  }
  return true;
}

bool Exchange::kill_scope(ScopeId scope, Stamp up_to, Instant now) {
  now_ = now;
  observe(up_to);
  if (list_.killed_up_to(scope).value == 0 && !list_.room_for_tombstones(1)) return false;
  ++revision_;
  begin_killing({scope, up_to, std::nullopt});
  return list_.kill_scope(scope, up_to, {}, now);
}

void Exchange::begin_killing(const Killing& killing) {
  std::erase_if(killing_, [&](const Killing& k) { return k.scope == killing.scope; });
  killing_.push_back(killing);
}

void Exchange::homes_know(Stamp up_to) {
  for (Killing& k : killing_) {
    if (k.up_to == up_to && !k.fence) k.fence = begin_fence();
  }
}

bool Exchange::is_killing(ScopeId scope) const {
  return std::any_of(killing_.begin(), killing_.end(),
                     [&](const Killing& k) { return k.scope == scope; });
}

void Exchange::finish_killing() {
  std::erase_if(killing_, [&](const Killing& k) {
    return k.fence && has_passed(*k.fence) && list_.repeat_scope(k.scope, k.up_to, now_);
  });
}

// --- what no document has named yet
// ---------------------------------------------------------------

void Exchange::keep_unnamed(const Arrival& arrival) {
  const Record& record = arrival.record;
  if (record.deleted.value == 0 && record.stamp <= list_.killed_up_to(arrival.scope)) return;
  const bool own = arrival.source.peer == kNoPeer;
  const auto it = unnamed_.find({arrival.scope, arrival.key});
  if (it == unnamed_.end()) {
    if (unnamed_.size() >= std::size_t{options_.entries} + tombstones_of(options_)) {
      ++counters_.unnamed_refused;
      return miss(arrival.scope);
    }
    unnamed_[{arrival.scope, arrival.key}] = {record, arrival.act_at, arrival.source, own};
  } else {
    Waiting& waiting = it->second;
    const Record merged = binding::merge(waiting.record, record);
    if (merged.act != waiting.record.act) waiting.act_at = arrival.act_at;
    waiting.record = merged;
    waiting.source = waiting.source.peer == arrival.source.peer ? arrival.source : Source{};
    waiting.own = waiting.own || own;
  }
  ++revision_;
}

void Exchange::miss(ScopeId scope) {
  if (options_.peers == 0) return;
  if (missed_.size() < base::kScopesMax) {
    missed_.insert(scope);
  } else {
    missed_many_ = true;
  }
}

void Exchange::hand_over() {
  if (rehoming_) return;
  uint32_t budget = kHandedOverPerTick;
  while (!named_.empty() && hand_over(named_.front(), &budget)) {
    named_.pop_front();
    named_telling_.reset();
  }
}

// True when nothing of the scope waits any more.
bool Exchange::hand_over(ScopeId scope, uint32_t* budget) {
  const Known* known = find(scope);
  if (known == nullptr) return true;  // it has left again
  const Stamp killed = list_.killed_up_to(scope);
  if (is_listed(*known) && killed.value != 0) {
    if (!named_telling_ || named_telling_->stamp != killed)
      named_telling_ = Telling{scope, killed, {}, 0};
    if (!tell_all(&*named_telling_, Merge::Kind::kKillScope)) return false;
  }
  auto it = unnamed_.lower_bound({scope, Key{}});
  for (; it != unnamed_.end() && it->first.first == scope; --*budget) {
    const Waiting& waiting = it->second;
    if (*budget == 0) return false;
    if (!send(*known, {.source = waiting.own ? Source{} : waiting.source,
                       .scope = scope,
                       .key = it->first.second,
                       .record = waiting.record,
                       .act_at = waiting.act_at}))
      return false;
    it = unnamed_.erase(it);
  }
  return true;
}

// Looks at a few: what nobody named in time has expired.
void Exchange::age_unnamed() {
  auto it = aged_ ? unnamed_.upper_bound(*aged_) : unnamed_.begin();
  aged_.reset();
  for (uint32_t i = 0; i < kAgedPerTick && it != unnamed_.end(); ++i) {
    aged_ = it->first;
    const auto& [place, waiting] = *it;
    const bool over = now_ - waiting.act_at >= keep_of(place.first, waiting.record);
    counters_.unnamed_expired += over ? 1 : 0;
    it = over ? unnamed_.erase(it) : std::next(it);
  }
}

// --- in slices
// ------------------------------------------------------------------------------------

void Exchange::tick(Instant now) {
  now_ = now;
  relist();
  hand_over();
  age_unnamed();
  finish_killing();
  forget_tombstones();
  send_fences();
}

void Exchange::begin_relisting(bool rehoming) {
  relisting_ = true;
  rehoming_ = rehoming_ || rehoming;
  relist_list_at_ = relist_mirror_at_ = 0;
}

void Exchange::relist() {
  if (!relisting_) return;
  uint32_t budget = kRelistedPerTick;
  for (; relist_list_at_ < list_.places() && budget > 0; ++relist_list_at_, --budget)
    if (!relist_entry(relist_list_at_)) return;
  if (budget == 0) return;
  rehoming_ = false;
  for (; relist_mirror_at_ < mirror_.places() && budget > 0; ++relist_mirror_at_, --budget)
    relist_binding(relist_mirror_at_);
  relisting_ = budget == 0;
}

// Takes out of the list what peers are not to be told any more, and tells homes that know nothing
// of a scope which of its keys were deleted. False: no room now.
bool Exchange::relist_entry(uint32_t place) {
  std::optional<std::pair<ScopeId, Key>> out;
  bool told = true;
  list_.visit_place(place, [&](ScopeId scope, const Key* key, const Record& record, Instant) {
    const Known* known = find(scope);
    if (key == nullptr || known == nullptr) return;
    if (!known->mirrored) out.emplace(scope, *key);
    if (!rehoming_ || !known->mirrored || record.deleted.value == 0) return;
    told = send(*known, {.source = {},
                         .scope = scope,
                         .key = *key,
                         .record = {.deleted = record.deleted},
                         .act_at = now_});
  });
  if (out) list_.remove(out->first, out->second);
  return told;
}

// Puts into the list what peers are to be told from now on.
void Exchange::relist_binding(uint32_t place) {
  const Mirror::Binding* b = mirror_.at(place);
  if (b == nullptr || !b->confirmed || b->scope.value >= slots_.size()) return;
  const auto& scope = slots_[b->scope.value];
  const Known* known = scope ? find(*scope) : nullptr;
  if (known == nullptr || !known->mirrored || list_.find(*scope, b->key) != nullptr) return;
  const Update update{
      .scope = *scope, .key = b->key, .record = b->record, .act_at = b->act_at, .source = {}};
  if (!list_.update(update, now_)) ++counters_.unlisted;
}

void Exchange::forget_tombstones() {
  if (forgetting_ && tell_all(&*forgetting_, Merge::Kind::kForgetScope)) {
    list_.forget_scope(forgetting_->scope, forgetting_->stamp);
    ++counters_.tombstones_forgotten;
    ++revision_;
    forgetting_.reset();
  }
  struct Old {
    ScopeId scope;
    std::optional<Key> key;
    Stamp stamp;
  };
  std::vector<Old> old;
  list_.visit_tombstones(
      kTombstonesPerTick, now_, [&](ScopeId scope) { return keep_of(scope, {}); },
      [&](ScopeId scope, const Key* key, Stamp stamp) {
        old.push_back({scope, key != nullptr ? std::optional(*key) : std::nullopt, stamp});
      });
  for (const Old& o : old) {
    const Known* scope = find(o.scope);
    if (!o.key) {
      if (!forgetting_ && !is_killing(o.scope)) forgetting_ = Telling{o.scope, o.stamp, {}, 0};
    } else if (scope == nullptr) {
      // Its homes have dropped the scope and all that was in it.
      list_.remove(o.scope, *o.key);
    } else if (rings_.send(rings_.home_of(scope->slot, *o.key), {.kind = Merge::Kind::kForget,
                                                                 .source = {},
                                                                 .scope = scope->slot,
                                                                 .version = version_,
                                                                 .key = *o.key,
                                                                 .record = {.deleted = o.stamp},
                                                                 .act_at = now_})) {
      ++counters_.tombstones_forgotten;
    }
  }
}

// --- fences
// ---------------------------------------------------------------------------------------

uint32_t Exchange::begin_fence() {
  ++fences_.wanted;
  send_fences();
  return fences_.wanted;
}

void Exchange::send_fences() {
  Fences& f = fences_;
  if (f.under_way == f.passed) {
    if (f.wanted == f.passed || !named_.empty() || rehoming_) return;
    f.under_way = f.wanted;
    f.sent = f.answers = 0;
  }
  for (; f.sent < rings_.homes(); ++f.sent) {
    const bool sent = rings_.send(f.sent, {.kind = Merge::Kind::kFence,
                                           .source = {},
                                           .scope = {},
                                           .fence = f.under_way,
                                           .version = version_,
                                           .key = {},
                                           .record = {.act = latest_},
                                           .act_at = now_});
    if (!sent) return;
  }
}

}  // namespace limpet::mirroring
