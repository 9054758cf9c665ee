#include "tests/sim/chronicle.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace limpet::sim {

using binding::Record;
using binding::Stamp;
using persist::Entry;
using timing::Duration;
using timing::Instant;

namespace {

// Two engines know the time of an activity up to the delay of the link, and look once a turn.
constexpr Duration kMargin = timing::milliseconds(60);
// What a round of asking and the news of it take when all is well.
constexpr Duration kLag = timing::milliseconds(200);

Instant deadline(const ScopeDocument& scope, const Record& r, Instant act_at) {
  // Its cores may still go by the document before.
  const Duration slack = std::min(scope.profile.update_interval, scope.update_interval_before);
  return act_at + std::min(scope.profile.timeout, scope.timeout_before) +
         (r.held ? slack : Duration::zero());
}

// Whether what `a` names is the better version of the key's binding.
bool is_better(const Record& a, const Record& b) {
  if (a.stamp != b.stamp) return a.stamp < b.stamp;
  return std::pair(a.epoch, a.server) > std::pair(b.epoch, b.server);
}

std::string text(const Record& r) {
  char out[200];
  std::snprintf(out, sizeof out,
                "stamp %llx epoch %u server %llx first %llx deleted %llx act %llx held %d",
                static_cast<unsigned long long>(r.stamp.value), r.epoch,
                static_cast<unsigned long long>(r.server.value),
                static_cast<unsigned long long>(r.first.value),
                static_cast<unsigned long long>(r.deleted.value),
                static_cast<unsigned long long>(r.act.value), r.held);
  return out;
}

// What a home knows of a binding.
std::string state(Member& m, const KeyId& key) {
  const binding::ScopeSlot slot{key.scope};
  const uint32_t core = m.home_of(slot, key.key);
  persist::Table& table = m.cores().core(core).table();
  const Entry* e = table.find(slot, key.key);
  if (e == nullptr) return "";
  const persist::Home& home = table.home(*e);
  const auto ago = [&](Instant t) {
    return static_cast<long long>((m.now() - t).count() / 1'000'000);
  };
  const snapshot::Scope* scope = m.cores().core(core).snapshot().scope(slot);
  const uint32_t other = core == 0 ? 1 : 0;
  char out[300];
  std::snprintf(
      out, sizeof out,
      "(T %lld ms, confirmed %d, evicting %d, turns %llu credits of core %u %u, places %u, limits "
      "%u %u, last %lld ms ago, act %lld, open %u, copies %llx, asked %llx, round %d, owed %d) ",
      scope == nullptr ? 0LL : static_cast<long long>(scope->timeout.count() / 1'000'000),
      e->confirmed, home.evicting, static_cast<unsigned long long>(m.cores().turns(core)), other,
      other < m.cores().cores() ? m.cores().core(core).replica().credits_used(other) : 0,
      table.home_places(), m.cores().shape().rings.answers, m.cores().shape().rings.news,
      ago(e->last), ago(table.activity(*e).act_at), e->open,
      static_cast<unsigned long long>(home.copies), static_cast<unsigned long long>(home.asked),
      home.in_round, home.owed);
  return out;
}

// The key's record at its home, and that core; null: none.
struct AtHome {
  uint32_t core = 0;
  const Entry* entry = nullptr;
};

AtHome at_home(Member& m, const GlobalKey& key) {
  const auto local = m.local(key);
  if (!local) return {};
  const binding::ScopeSlot slot{local->scope};
  const uint32_t core = m.home_of(slot, key.key);
  return {core, m.cores().core(core).table().find(slot, key.key)};
}

std::string name(const Member& m) {
  return m.place().names[m.place().rank];
}

// As keys are named in the trace.
KeyId traced(const Member& m, const GlobalKey& key) {
  const auto local = m.local(key);
  if (!local) return {};
  return {local->scope - m.place().slots, local->key};
}

[[noreturn]] void fail(const Member& m, const char* checker, std::string what,
                       const GlobalKey& key) {
  throw Violation{checker, name(m) + ": " + std::move(what), traced(m, key)};
}

}  // namespace

Chronicle::Seen Chronicle::seen(Member& m, uint32_t core, const Entry& record) {
  const replication::Replica& replica = m.cores().core(core).replica();
  return {.record = replica.record_of(record),
          .act_at = replica.table().activity(record).act_at,
          .confirmed = record.confirmed,
          .husk = record.husk,
          .used = record.last != persist::kNoActivity || record.open > 0};
}

Chronicle::Table Chronicle::table(Member& m) {
  Table out;
  for (uint32_t c = 0; c < m.cores().cores(); ++c) {
    persist::Table& table = m.cores().core(c).table();
    for (uint32_t i = 0; i < table.home_places(); ++i) {
      const Entry* e = table.record_at(i);
      if (e != nullptr) out.emplace(m.global({e->scope.value, e->key}), seen(m, c, *e));
    }
  }
  return out;
}

Stamp Chronicle::killed(const Member& m, const GlobalKey& key) {
  const auto it = m.killed.find(key);
  const Stamp of_key = it == m.killed.end() ? Stamp{} : it->second;
  return std::max(of_key, m.exchange().list().killed_up_to(key.scope));
}

void Chronicle::trace(Member& m, const char* what, const GlobalKey& key, const Record& r) {
  const auto local = m.local(key);
  // Stamps of one world differ in their lower bits.
  trace_.add({.what = what,
              .serial = static_cast<uint32_t>(r.stamp.value),
              .change = r.epoch,
              .detail = r.act.value << 1 | (r.held ? 1u : 0u),
              .now_ns = m.now().ns,
              .key = local ? *local : KeyId{m.place().slots, key.key}});
}

bool Chronicle::is_dead(Stamp lineage, Stamp deleted) const {
  if (lineage > deleted) return false;
  // An engine that has lost its memory, and has not met the others yet, may make older stamps.
  const auto born = moment_.find(lineage);
  const auto died = moment_.find(deleted);
  return born != moment_.end() && died != moment_.end() && born->second < died->second;
}

// --- what happens -------------------------------------------------------------------------------

void Chronicle::look(Member& m, uint32_t core) {
  persist::Table& table = m.cores().core(core).table();
  m.looks.resize(m.cores().cores());
  const uint64_t last_look = m.looks[core]++;
  for (uint32_t i = 0; i < table.home_places(); ++i) {
    const Entry* e = table.record_at(i);
    if (e == nullptr) continue;
    const Seen s = seen(m, core, *e);
    const GlobalKey key = m.global({e->scope.value, e->key});
    if (std::exchange(m.seen_in[key], m.looks[core]) != last_look) check_arrived(m, core, key, s);
    const Instant act_time = m.true_time(s.act_at);
    const bool active = act_time_[key].try_emplace(s.record.act, act_time).second;
    if (active) own_news(m, key, s);
    if (moment_.try_emplace(s.record.stamp, time_.now()).second || active) note_lineage(m, key, s);
    if (s.confirmed && !s.husk) {
      Member::Known& known = m.known[key];
      if (known.record != s.record) check_lineage(m, core, key, s);
      known = {s.record, s.act_at};
    }
    if (m.killed.empty() || s.husk) continue;
    const auto killed = m.killed.find(key);
    if (killed != m.killed.end() && is_dead(s.record.stamp, killed->second))
      fail(m, "P5", "a binding that was deleted is back: " + text(s.record), key);
  }
}

// After that a binding that was active then is over for everybody, by the documents of now.
Instant Chronicle::end_of(const ScopeDocument& scope, Instant last) const {
  return last + std::max(scope.profile.timeout, scope.timeout_before) +
         std::max(scope.profile.update_interval, scope.update_interval_before) + offset_error_ +
         kMargin;
}

// What was over when it was heard of does not come into a table that has nothing of the key.
void Chronicle::check_arrived(Member& m, uint32_t core, const GlobalKey& key, const Seen& s) {
  const ScopeDocument* scope = m.scope_of(key.scope);
  if (scope == nullptr || !scope->profile.mirrored || !s.confirmed || s.husk || s.used) return;
  // What came first in this stage may have been alive, and released by what came next.
  if (m.under_way(*m.local(key)) > 1) return;
  const Duration slack = std::max(scope->profile.update_interval, scope->update_interval_before);
  const Instant over = s.act_at + std::max(scope->profile.timeout, scope->timeout_before) +
                       (s.record.held ? slack : Duration::zero());
  if (m.cores().now(core) > over)
    fail(m, "P5", "a binding that had ended is taken from a peer: " + text(s.record), key);
}

void Chronicle::note_lineage(Member& m, const GlobalKey& key, const Seen& s) {
  const ScopeDocument* scope = m.scope_of(key.scope);
  if (scope == nullptr) return;
  auto& lineages = lineages_[key];
  const auto [it, born] = lineages.try_emplace(s.record.stamp);
  if (born) {
    for (const auto& [stamp, lineage] : lineages) {
      if (stamp == s.record.stamp || end_of(*scope, lineage.last) >= time_.now()) continue;
      const auto has = [&, other = stamp](Member* member) {
        const auto [core, e] = at_home(*member, key);
        return e != nullptr && !e->husk &&
               member->cores().core(core).table().home(*e).stamp == other;
      };
      if (std::any_of(alive_.begin(), alive_.end(), has)) continue;
      over_[s.record.stamp].emplace(stamp, lineage);
    }
  }
  const Instant act_at = m.true_time(s.act_at);
  it->second.last = born ? act_at : std::max(it->second.last, act_at);
  it->second.epoch = std::max(it->second.epoch, s.record.epoch);
}

// A binding that has ended does not take the place of a later one that it has heard of.
void Chronicle::check_lineage(Member& m, uint32_t core, const GlobalKey& key, const Seen& s) {
  const auto heard = m.heard.find(key);
  if (heard == m.heard.end()) return;
  const auto over = over_.find(heard->second.best.stamp);
  if (over == over_.end()) return;
  const auto it = over->second.find(s.record.stamp);
  if (it == over->second.end() || it->second.epoch != s.record.epoch) return;
  // Not over by the clock of a core that has stood still in its turn, or by a newer document.
  const ScopeDocument* scope = m.scope_of(key.scope);
  // Nor while another core has a copy, which that one has given out: it may be in use.
  const AtHome home = at_home(m, key);
  const bool given_out =
      home.entry != nullptr && m.cores().core(core).table().home(*home.entry).copies != 0;
  if (scope == nullptr || given_out ||
      m.true_time(m.cores().now(core)) <= end_of(*scope, it->second.last)) {
    over->second.erase(it);
    return;
  }
  fail(m, "P7",
       "it has " + text(s.record) +
           ", which had ended before what it had heard of began: " + text(heard->second.best),
       key);
}

// It has announced something itself: that counts from then on.
void Chronicle::own_news(Member& m, const GlobalKey& key, const Seen& s) {
  trace(m, "active, held: +1", key, s.record);
  const auto it = m.heard.find(key);
  if (it == m.heard.end() || !s.confirmed || s.record.act <= it->second.latest.act) return;
  it->second.latest = s.record;
  it->second.latest_act_at = s.act_at;
}

// What it has announced itself before it heard of others.
void Chronicle::know_own(Member& m, const GlobalKey& key, Member::Heard& h) {
  const auto [home, e] = at_home(m, key);
  if (e == nullptr) return;
  const Seen s = seen(m, home, *e);
  if (!s.confirmed || s.record.act <= h.latest.act) return;
  h.latest = s.record;
  h.latest_act_at = s.act_at;
}

void Chronicle::told(Member& m, const KeyId& key, const binding::Change& change) {
  static constexpr const char* kWhom[] = {"tells nobody", "tells the sender", "tells all"};
  trace(m, kWhom[static_cast<int>(change.told)], m.global(key), change.record);
  // Of several in one stage only the last was seen at home.
  act_time_[m.global(key)].try_emplace(change.record.act, m.true_time(change.act_at));
  if (change.record.deleted.value == 0) return;
  deleted(change.record.deleted);
  Stamp& killed = m.killed[m.global(key)];
  killed = std::max(killed, change.record.deleted);
}

void Chronicle::delivered(Member& m, const mirroring::Arrival& arrival) {
  ++deliveries_;
  const Record& r = arrival.record;
  const GlobalKey key{arrival.scope, arrival.key};
  if (r.deleted.value != 0) deleted(r.deleted);
  if (r.deleted.value != 0)
    trace(m, "hears of deletion", key, {.stamp = r.stamp, .deleted = {}, .act = r.deleted});
  if (arrival.whole_scope) return;
  if (r.live()) trace(m, "hears of", key, r);
  Instant act_at = arrival.act_at;
  if (r.act.value != 0) {
    const auto really = act_time_[key].find(r.act);
    if (really == act_time_[key].end())
      fail(m, "P7 act", "activity that nobody saw: " + text(r), key);
    const Duration error = m.true_time(arrival.act_at) - really->second;
    if (error < -timing::milliseconds(1))
      fail(m, "P7 act", "activity is taken for older than it is", key);
    offset_error_ = std::max(offset_error_, error);
    act_at = really->second + m.place().skew;
  }
  const ScopeDocument* scope = m.scope_of(arrival.scope);
  // What waits for a document is compared when all is quiet.
  if (scope == nullptr || scope->was_mirrored) return;
  if (!scope->profile.mirrored) fail(m, "local", "a scope that is not mirrored was told", key);
  if (!r.live() || r.stamp <= killed(m, key)) return;
  if (m.now() >= deadline(*scope, r, act_at)) {
    // What is over joins what is there, and nothing else.
    const auto it = m.heard.find(key);
    if (it != m.heard.end() && r.act > it->second.latest.act) {
      it->second.latest = r;
      it->second.latest_act_at = act_at;
    }
    return;
  }
  ++heard_;
  const auto [it, fresh] = m.heard.try_emplace(key);
  Member::Heard& h = it->second;
  const bool over = !fresh && m.now() >= deadline(*scope, h.best, h.best_act_at);
  if (fresh || over || is_better(r, h.best)) {
    h.best = r;
    h.best_act_at = act_at;
  } else if (r.stamp == h.best.stamp &&
             std::pair(r.act, r.held) > std::pair(h.best.act, h.best.held)) {
    h.best.act = r.act;
    h.best.held = r.held;
    h.best_act_at = act_at;
  }
  if (fresh || std::pair(r.act, r.held) > std::pair(h.latest.act, h.latest.held)) {
    h.latest = r;
    h.latest_act_at = act_at;
  }
  if (fresh) know_own(m, key, h);
}

void Chronicle::crashes(Member& m) {
  std::erase(alive_, &m);
  tombstones_refused_ = tombstones_refused_ || m.has_refused_tombstones();
  // What it did in its last moments nobody need have heard of.
  for (auto& [key, uses] : held_)
    std::erase_if(uses, [&](const Use& use) {
      return use.rank == m.place().rank && use.at > time_.now() - kLag;
    });
  for (const auto& [key, s] : table(m)) {
    const auto local = m.local(key);
    if (local && m.ledger().is_open(*local))
      active(m, *local, m.now(), m.ledger().is_held(*local, m.now() - kLag));
  }
}

void Chronicle::active(Member& m, const KeyId& key, Instant now, bool confirmed) {
  const GlobalKey global = m.global(key);
  Instant& last = last_active_[global];
  last = std::max(last, m.true_time(now));
  used_by_[global][m.place().rank] = m.true_time(now);
  if (confirmed) held_[global].push_back({m.true_time(now), m.place().rank});
}

void Chronicle::ended(Member& m, const KeyId& local, Instant now, Witness::Ending ending) {
  using Ending = Witness::Ending;
  const GlobalKey key = m.global(local);
  const uint32_t core = m.home_of(binding::ScopeSlot{local.scope}, local.key);
  const auto known = m.known.find(key);
  if (ending == Ending::kEvicted) evicted_.insert(key);  // of which nobody is told
  if (ending == Ending::kForced && m.is_deleting(core, local) && known != m.known.end())
    m.deleted_lineages.insert(known->second.record.stamp);
  if (ending != Ending::kExpired) {
    m.heard.erase(key);
    return;
  }
  const ScopeDocument* scope = m.scope_of(key.scope);
  if (scope == nullptr || !scope->profile.mirrored) return;
  check_own(m, local, now);
  check_heard_of(m, local, now);
  check_others(m, key);
}

// Whoever announced it: the time that this gave it is over; and while others may know
// better, there is a husk.
void Chronicle::check_own(Member& m, const KeyId& local, Instant now) {
  const GlobalKey key = m.global(local);
  const ScopeDocument& scope = *m.scope_of(key.scope);
  const binding::ScopeSlot slot{local.scope};
  const uint32_t home = m.home_of(slot, key.key);
  const Entry* e = m.cores().core(home).table().find(slot, key.key);
  if (e != nullptr && e->husk) {
    const Seen s = seen(m, home, *e);
    if (now < deadline(scope, s.record, s.act_at))
      fail(m, "P7 early", "a binding expired before its own deadline: " + text(s.record), key);
  }
  const auto known = m.known.find(key);
  if (e != nullptr || known == m.known.end()) return;
  // Nor is there of what was deleted, in this very stage or before.
  const persist::Tombstones& tombstones = m.cores().core(home).replica().tombstones();
  const Stamp deleted = std::max(killed(m, key), tombstones.of_key(slot, key.key));
  if (known->second.record.stamp <= deleted || m.under_way(local) > 0) return;
  const worker::Shared& shared = m.cores().shared();
  if (shared.bindings.count() + 2 >= shared.bindings.limit()) return;  // husks give way
  Record held = known->second.record;
  held.held = true;
  if (now < deadline(scope, held, known->second.act_at))
    fail(m, "P7 husk", "a binding expired, peers may know better, and there is no husk", key);
}

// P7: nor does it end before the time that peers' news gave it.
void Chronicle::check_heard_of(Member& m, const KeyId& local, Instant now) {
  const GlobalKey key = m.global(local);
  const ScopeDocument& scope = *m.scope_of(key.scope);
  const auto it = m.heard.find(key);
  if (it == m.heard.end() || m.has_lost_for_room()) return;
  Member::Heard& h = it->second;
  know_own(m, key, h);  // it may have announced something in this very stage
  if (h.latest.stamp <= killed(m, key)) return;
  const Instant until = deadline(scope, h.latest, h.latest_act_at);
  if (now >= until) {
    m.heard.erase(it);
    return;
  }
  if (m.under_way(local) > 0) return;
  fail(m, "P7 early",
       "a binding expired " + std::to_string((until - now).count() / 1'000'000) +
           " ms before the time that a peer's news gave it: " + text(h.latest),
       key);
}

// P7: nor while its connections live elsewhere, or closed less than its timeout ago, or lived
// when that engine crashed; as long as news is quick.
void Chronicle::check_others(Member& m, const GlobalKey& key) {
  const ScopeDocument& scope = *m.scope_of(key.scope);
  if (well_since_ == Instant::never() || evicted_.contains(key)) return;
  if (killed(m, key).value != 0) return;
  // What has happened just now nobody need have heard of.
  const Instant known = time_.now() - kLag;
  Instant last{};
  bool quiet = true;
  for (const Use& use : held_[key]) {
    if (use.at <= known) last = std::max(last, use.at);
    quiet = quiet && use.at <= known;
  }
  for (Member* other : members_) {
    if (other->has_lost_for_room()) return;
    const auto there = other->local(key);
    if (quiet && there && other->ledger().is_held(*there)) last = known;
  }
  const Duration timeout = std::min(scope.profile.timeout, scope.timeout_before);
  if (last < well_since_ + timeout) return;
  if (time_.now() < last + timeout - kLag) {
    fail(m, "P7 early",
         "a binding expired " + std::to_string((time_.now() - last).count() / 1'000'000) +
             " ms after its client was active elsewhere",
         key);
  }
}

// --- what has to be true ------------------------------------------------------------------------

void Chronicle::check_heard(Member& m, const Member::AllHeard& heard, const char* when) {
  if (m.has_lost_for_room() || !m.is_idle()) return;
  const Table mine = table(m);
  for (const auto& [key, h] : heard) {
    const ScopeDocument* scope = m.scope_of(key.scope);
    if (scope == nullptr || scope->was_mirrored || h.best.stamp <= killed(m, key)) continue;
    const Instant until = std::min(deadline(*scope, h.best, h.best_act_at),
                                   deadline(*scope, h.latest, h.latest_act_at));
    if (m.now() + kMargin >= until) continue;
    const auto it = mine.find(key);
    if (it == mine.end() || it->second.husk)
      fail(m, "P7", std::string(when) + " it has not what it had heard of: " + text(h.best), key);
    const Record& r = it->second.record;
    if (is_better(h.best, r)) {
      fail(m, "P7", std::string(when) + " it has " + text(r) + " and had heard of " + text(h.best),
           key);
    }
  }
}

void Chronicle::compare(const Member& a, const Table& of_a, const Member& b, const Table& of_b) {
  for (const auto& [key, s] : of_a) {
    const ScopeDocument* scope = a.scope_of(key.scope);
    if (scope == nullptr || !scope->profile.mirrored || !s.confirmed || s.husk) continue;
    ++compared_;
    if (is_dead(s.record.stamp, killed(b, key)) || b.deleted_lineages.contains(s.record.stamp)) {
      fail(a, "P5", "it has what was deleted, as " + name(b) + " knows: " + text(s.record), key);
    }
    if (evicted_.contains(key)) continue;
    const auto it = of_b.find(key);
    const bool has = it != of_b.end() && it->second.confirmed && !it->second.husk;
    const auto about_to_go = [&](const Member& m, const Seen& x) {
      return m.now() + kMargin + offset_error_ >= deadline(*scope, x.record, x.act_at);
    };
    if (!has) {
      // It knew of the release, and ended the binding before it could tell.
      if (it != of_b.end() && it->second.husk && it->second.record.act > s.record.act) continue;
      if (about_to_go(a, s) || a.has_lost_for_room() || b.has_lost_for_room()) continue;
      fail(a, "P4", "it has what " + name(b) + " has not: " + text(s.record), key);
    }
    // When a tombstone may be forgotten each finds out by itself.
    Record theirs = it->second.record;
    theirs.deleted = s.record.deleted;
    if (theirs == s.record || (about_to_go(a, s) || about_to_go(b, it->second))) continue;
    fail(a, "P4",
         "it has " + text(s.record) + " and " + name(b) + " has " + text(it->second.record), key);
  }
}

void Chronicle::check_agreed(Member& a, Member& b) {
  if (a.has_lost_for_room() || b.has_lost_for_room()) return;
  const Table of_b = table(b);
  for (const auto& [key, mine] : table(a)) {
    const ScopeDocument* scope = a.scope_of(key.scope);
    const auto theirs = of_b.find(key);
    if (scope == nullptr || !scope->profile.mirrored || theirs == of_b.end()) continue;
    const auto counts = [&](const Member& m, const Seen& s) {
      return s.confirmed && !s.husk &&
             m.now() + kMargin + offset_error_ < deadline(*scope, s.record, s.act_at);
    };
    if (!counts(a, mine) || !counts(b, theirs->second)) continue;
    if (mine.record.stamp == theirs->second.record.stamp) continue;
    fail(a, "P4 apart",
         "it has " + text(mine.record) + " and " + name(b) + " has " + text(theirs->second.record),
         key);
  }
}

void Chronicle::check_equal(const std::vector<Member*>& members) {
  // What was deleted and could not be remembered may be back, here and there.
  for (const Member* m : members)
    tombstones_refused_ = tombstones_refused_ || m->has_refused_tombstones();
  if (tombstones_refused_) return;
  ++comparisons_;
  std::vector<Table> tables;
  for (Member* m : members) tables.push_back(table(*m));
  for (std::size_t a = 0; a < members.size(); ++a) {
    for (std::size_t b = 0; b < members.size(); ++b) {
      if (a != b) compare(*members[a], tables[a], *members[b], tables[b]);
    }
  }
}

// Also by clients that opened no connection, because of a policy or for want of a place.
Instant Chronicle::last_use(const GlobalKey& key) {
  Instant last = persist::kNoActivity;
  for (Member* m : members_) {
    const Entry* e = at_home(*m, key).entry;
    if (e != nullptr) last = std::max(last, m->true_time(e->last));
  }
  return last;
}

bool Chronicle::used_by_several(const GlobalKey& key, Instant since) const {
  const auto& used = used_by_.at(key);
  return std::count_if(used.begin(), used.end(), [&](Instant at) { return at > since; }) > 1;
}

void Chronicle::check_prompt() {
  if (well_since_ == Instant::never() || crashed_) return;
  for (Member* m : members_) {
    if (m->has_lost_for_room()) return;
  }
  for (Member* m : members_) {
    for (const auto& entry : table(*m)) {
      const auto& key = entry.first;
      const auto& s = entry.second;
      const ScopeDocument* scope = m->scope_of(key.scope);
      if (scope == nullptr || s.husk || !s.confirmed) continue;
      const auto it = last_active_.find(key);
      // Of what was before not everybody need have known.
      if (it == last_active_.end() || it->second < well_since_ + scope->profile.timeout) continue;
      const bool open = std::any_of(members_.begin(), members_.end(), [&](Member* other) {
        const auto there = other->local(key);
        return there && other->ledger().is_open(*there);
      });
      const Duration idle = time_.now() - std::max(it->second, last_use(key));
      Duration allowed = scope->profile.timeout + 2 * kLag;
      // What another engine has held is not for those who are left to release; nor what that
      // one took over from a third.
      const Duration slack =
          std::max(scope->profile.update_interval, scope->update_interval_before);
      if (used_by_several(key, it->second - scope->profile.timeout - 8 * slack)) allowed += slack;
      if (open || idle <= allowed) continue;
      fail(*m, "P3",
           "a binding outlives its timeout of " +
               std::to_string(scope->profile.timeout.count() / 1'000'000) + " ms by " +
               std::to_string((idle - scope->profile.timeout).count() / 1'000'000) +
               " ms: " + state(*m, *m->local(key)) + text(s.record),
           key);
    }
  }
}

void Chronicle::check_overdue(const std::vector<Member*>& members, Duration grain) {
  if (quiet_since_ == Instant::never()) return;
  for (Member* m : members) {
    const auto& rings = m->cores().shape().rings;
    const Table all = table(*m);
    uint32_t n = 0;
    for (uint32_t c = 0; c < m->cores().cores(); ++c)
      n = std::max(n, m->cores().core(c).table().home_places());
    // Those that are held are asked too.
    const uint32_t turns =
        8 + n / worker::Core::kRecordsBusy + 4 * n / rings.answers + 2 * n / rings.news;
    for (const auto& entry : all) {
      const auto& key = entry.first;
      const auto& s = entry.second;
      const ScopeDocument* scope = m->scope_of(key.scope);
      const auto local = m->local(key);
      if (scope == nullptr || !local) continue;
      const bool open = std::any_of(members.begin(), members.end(), [&](Member* other) {
        const auto there = other->local(key);
        return there && other->ledger().is_open(*there);
      });
      if (open) continue;
      const auto it = last_active_.find(key);
      Instant since = quiet_since_;
      if (it != last_active_.end()) since = std::max(since, it->second);
      const Duration allowed =
          scope->profile.timeout + scope->profile.update_interval + offset_error_ + turns * grain;
      if (time_.now() - since > allowed) {
        fail(*m, "P3",
             "a binding outlives its time: idle for " +
                 std::to_string((time_.now() - since).count() / 1'000'000) + " ms, allowed " +
                 std::to_string(allowed.count() / 1'000'000) + (s.husk ? ": husk " : ": ") +
                 state(*m, *local) + text(s.record),
             key);
      }
    }
  }
}

}  // namespace limpet::sim
