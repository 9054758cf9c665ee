#include "tests/sim/ledger.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string>

#include "dataplane/balance/pick.h"
#include "dataplane/packet/headers.h"
#include "tests/sim/traffic.h"

namespace limpet::sim {

using l4::Flow;
using persist::Entry;
using replication::Down;
using timing::Duration;
using timing::Instant;

namespace {

KeyId key_of(const Entry& e) {
  return {e.scope.value, e.key};
}

std::string text(Version v) {
  return std::to_string(v.serial) + "." + std::to_string(v.change);
}

}  // namespace

Ledger::Ledger(Engine& engine, const World& world, Trace& trace, Witness* witness)
    : engine_(engine),
      world_(world),
      trace_(trace),
      witness_(witness),
      flows_(engine.cores()),
      records_(engine.cores()),
      heard_(engine.cores()),
      down_before_(engine.cores()),
      to_forward_(engine.cores()) {}

void Ledger::event(uint32_t core, const char* what, const KeyId& key, Version v, uint64_t detail) {
  trace_.add({step_, core, what, v.serial, v.change, detail, engine_.now(core).ns, key});
}

Ledger::Counts Ledger::counts_of(uint32_t core) {
  const auto& c = engine_.core(core).replica().counters();
  return {c.expired, c.evicted_idle + c.evicted_embryonic,
          c.dropped + c.deleted + c.killed + c.undone, c.merged + c.revived};
}

void Ledger::received(std::span<const uint8_t> frame) {
  const Wire wire = Wire::read(frame);
  if (wire.tag == 0 || !wire.opens()) return;
  if (arrived_.size() <= wire.tag) arrived_.resize(wire.tag + 1);
  arrived_[wire.tag] = moment_;
}

void Ledger::before(uint32_t core, Stage stage, uint32_t step) {
  step_ = step;
  counts_before_ = counts_of(core);
  drained_.clear();
  embryonic_.clear();
  openings_.clear();
  changed_.clear();
  claimed_.clear();
  if (stage != Stage::kReceive && stage != Stage::kBegin)
    snapshot_before_ = &engine_.core(core).snapshot();
  if (stage == Stage::kDrain) peek_down(core);
  if (stage == Stage::kServe) peek_served(core);
}

void Ledger::peek_served(uint32_t core) {
  auto& rings = engine_.shared().rings;
  for (const uint32_t from : rings.claims.peers(core)) {
    rings.claims.between(from, core).peek([&](const replication::Claim& m) {
      const KeyId key{m.scope.value, m.key};
      event(core, m.kind == replication::Claim::Kind::kClaim ? "sees CLAIM" : "sees TOUCH", key,
            {m.serial, m.change}, from);
      if (m.kind == replication::Claim::Kind::kClaim) claimed_.push_back({key, from, m.version});
    });
  }
}

// A home decides by what it knows, which is never older than the question (R4); it moves only
// clients whose servers may not be used, and gives nobody a server that takes no new clients.
void Ledger::check_moves(uint32_t core) {
  auto& rings = engine_.shared().rings;
  for (const Claimed& claim : claimed_) {
    rings.down.between(core, claim.from).peek([&](const Down& m) {
      if (!m.answer || KeyId{m.scope.value, m.key} != claim.key || m.version >= claim.version)
        return;
      throw Violation{"R4", "a home has answered by an older snapshot than the question",
                      claim.key};
    });
  }
  const snapshot::Snapshot& s = engine_.core(core).snapshot();
  if (counts_of(core).merged != counts_before_.merged || snapshot_before_ != &s) return;
  for (const Changed& c : changed_) {
    const snapshot::Scope* scope = s.scope(binding::ScopeSlot{c.key.scope});
    if (scope == nullptr || c.now == binding::kNoServer || c.now == c.before) continue;
    const snapshot::Pool& pool = s.pools[scope->pool.value];
    const snapshot::Server* server = pool.find(c.now);
    if (server == nullptr || !balance::takes_new_clients(*server))
      throw Violation{"P1 server", "a client was given a server that takes no new ones", c.key};
    const snapshot::Server* before = pool.find(c.before);
    if (before != nullptr && balance::takes_new_clients(*before) && !before->reset_connections &&
        before->connections_max == 0 && !scope->return_home) {
      throw Violation{"P1 server", "a client was moved away from a server that it may use", c.key};
    }
  }
}

void Ledger::peek_down(uint32_t core) {
  auto& rings = engine_.shared().rings;
  for (auto& list : down_before_) list.clear();
  for (const uint32_t home : rings.down.peers(core)) {
    rings.down.between(home, core).peek([&](const Down& m) {
      down_before_[home].push_back(m);
      if (m.kind != Down::Kind::kRecall || m.confirmed || !m.give_up) return;
      const Entry* e = engine_.core(core).table().find(m.scope, m.key);
      if (e != nullptr && !e->confirmed && (m.evicting || !(m.datagram || e->datagram)))
        embryonic_.push_back({key_of(*e), e->serial});
    });
  }
}

// What the core has taken from its down rings.
void Ledger::compare_down(uint32_t core) {
  static constexpr const char* kNames[] = {"takes UPDATE", "takes REFUSE", "takes RECALL",
                                           "takes GONE"};
  auto& rings = engine_.shared().rings;
  for (const uint32_t home : rings.down.peers(core)) {
    const auto& before = down_before_[home];
    const std::size_t taken = before.size() - rings.down.between(home, core).size();
    for (std::size_t i = 0; i < taken; ++i) {
      const Down& m = before[i];
      drained_.push_back(m);
      if (m.answer) heard_[core].push_back(m);
      event(core, kNames[static_cast<int>(m.kind)], {m.scope.value, m.key}, {m.serial, m.change},
            m.kind == Down::Kind::kUpdate ? m.server.value : m.version);
    }
  }
}

void Ledger::after(uint32_t core, Stage stage) {
  if (stage == Stage::kJudge) heard_[core].clear();
  if (stage == Stage::kDrain) compare_down(core);
  if (stage == Stage::kFlush) {
    for (const Opening& o : to_forward_[core]) {
      auto& list = forwarded_[o.key];
      const Version before = list.empty() ? Version{} : list.back().newest;
      list.push_back({moment_++, std::max(before, o.version)});
    }
    to_forward_[core].clear();
    return;
  }
  if (stage == Stage::kReceive || stage == Stage::kBegin) return;
  persist::Table& table = engine_.core(core).table();
  for (uint32_t i = 0; i < table.places(); ++i) {
    const Entry* e = table.entry_at(i);
    if (e != nullptr && !e->husk) observe(core, *e);
  }
  compare_flows(core);
  compare_records(core);
  check_moves(core);
  if (stage == Stage::kJudge) look_at_sent(core);
}

void Ledger::active(Life& life, Instant now) {
  life.activity = std::max(life.activity, now);
  if (witness_ != nullptr) witness_->active(life.key, now, life.confirmed);
}

bool Ledger::is_open(const KeyId& key) const {
  for (const auto& flows : flows_) {
    for (const FlowSeen& f : flows) {
      if (!f.counted || f.lost || f.serial == 0) continue;
      if (lives_.at(f.serial).key == key) return true;
    }
  }
  return false;
}

bool Ledger::is_held(const KeyId& key, Instant then) const {
  for (const auto& flows : flows_) {
    for (const FlowSeen& f : flows) {
      if (!f.counted || f.lost || f.serial == 0 || f.opened > then) continue;
      const Life& life = lives_.at(f.serial);
      if (life.key == key && life.confirmed) return true;
    }
  }
  return false;
}

// P1: a version of a binding has one server.
void Ledger::observe(uint32_t core, const Entry& e) {
  auto [it, fresh] = lives_.try_emplace(e.serial);
  Life& life = it->second;
  if (fresh) {
    life.key = key_of(e);
    // What a peer knew may be old already.
    const bool merged = counts_of(core).merged != counts_before_.merged;
    life.activity =
        witness_ != nullptr && merged ? persist::kNoActivity : Instant(engine_.now(core));
    life.home = engine_.core(core).replica().home_of(e.scope, e.key);
    event(core, "new life", life.key, {e.serial, e.change}, e.server.value);
  }
  if (life.key != key_of(e))
    throw Violation{"P1", "serial " + std::to_string(e.serial) + " names two keys", life.key};
  life.confirmed = life.confirmed || e.confirmed;
  for (auto server = life.servers.rbegin(); server != life.servers.rend(); ++server) {
    if (server->first != e.change) continue;
    if (server->second == e.server) return;
    throw Violation{"P1", "version " + text({e.serial, e.change}) + " has two servers", life.key};
  }
  if (e.is_home() && !fresh && life.servers.back().first + 1 == e.change)
    changed_.push_back({life.key, life.servers.back().second, e.server});
  if (e.is_home() && fresh) changed_.push_back({life.key, binding::kNoServer, e.server});
  life.servers.push_back({e.change, e.server});
  event(core, "has", life.key, {e.serial, e.change}, e.server.value);
}

void Ledger::compare_flows(uint32_t core) {
  auto& flows = engine_.core(core).forwarder().flows();
  auto& seen = flows_[core];
  if (seen.size() < flows.high_water()) seen.resize(flows.high_water());
  for (uint32_t i = 0; i < flows.high_water(); ++i) {
    const Flow& f = flows[i];
    FlowSeen& s = seen[i];
    const bool counted = f.used && f.counted;
    const bool same = counted && s.counted && s.client_port == f.client_port &&
                      s.source_port == f.source_port && s.serial == f.entry_serial &&
                      s.life == f.entry_life;
    if (s.counted && !same) closed(core, s);
    if (counted && !same) {
      // A binding that came and went within a stage was never seen.
      s = {.counted = true,
           .lost = !lives_.contains(f.entry_serial),
           .serial = f.entry_serial,
           .life = f.entry_life,
           .client_port = f.client_port,
           .source_port = f.source_port,
           .opened = engine_.now(core)};
      check_opening(core, f, i);
    }
    s.counted = counted;
    if (counted && s.serial != 0 && !s.lost) check_lost(core, f, s);
  }
}

void Ledger::closed(uint32_t core, const FlowSeen& flow) {
  if (flow.serial == 0 || flow.lost) return;
  Life& life = lives_[flow.serial];
  life.last_close = std::max(life.last_close, engine_.now(core));
  // One that is half open may have gone in this very stage, before the connection closed.
  if (life.confirmed || life.datagram) {
    active(life, engine_.now(core));
  } else if (witness_ != nullptr) {
    witness_->active(life.key, engine_.now(core), false);
  }
  event(core, "closed", life.key, {flow.serial, 0}, flow.client_port);
}

// P1: the connection goes where its binding says, and the binding's home has not ended it.
void Ledger::check_opening(uint32_t core, const Flow& flow, uint32_t index) {
  const auto found = lives_.find(flow.entry_serial);
  if (found == lives_.end()) return;
  ++openings_count_;
  Life& life = found->second;
  life.datagram = life.datagram || flow.protocol == packet::kProtocolUdp;
  active(life, engine_.now(core));
  const binding::ServerId server = world_.server_at(flow.server);
  Opening o{index, life.key, {flow.entry_serial, 0}, false};
  for (auto it = life.servers.rbegin(); it != life.servers.rend() && !o.known; ++it) {
    if (it->second != server) continue;
    o.version.change = it->first;
    o.known = true;
  }
  // A home may move a binding twice in one stage: the version between was not seen.
  if (core == life.home && o.version.change != life.servers.back().first) o.known = false;
  event(core, "opened", life.key, o.version, flow.client_port);
  if (!o.known && core != life.home)
    throw Violation{"P1", "a connection opened to a server that its binding never had", life.key};
  if (life.removed == Why::kExpired || life.removed == Why::kEvicted)
    throw Violation{"P1", "a connection opened on a binding that its home has removed", life.key};
  openings_.push_back(o);
  // A home uses its record itself, and may give up an embryonic one in the same stage.
  if (core == life.home) return;
  const Entry* record =
      engine_.core(life.home).table().find(binding::ScopeSlot{life.key.scope}, life.key.key);
  const bool current = record != nullptr && record->serial == flow.entry_serial;
  if (!current && !message_under_way(life.home, core, life.key, flow.entry_serial))
    throw Violation{"P5", "a connection opened on a binding that has gone", life.key};
}

bool Ledger::message_under_way(uint32_t home, uint32_t core, const KeyId& key, uint32_t serial) {
  if (home == core) return false;
  bool found = false;
  engine_.shared().rings.down.between(home, core).peek([&](const Down& m) {
    if (m.scope.value != key.scope || m.key != key.key) return;
    found = found || m.kind == Down::Kind::kGone ||
            (m.kind == Down::Kind::kUpdate && m.serial != serial);
  });
  return found;
}

// A count is lost only by a GONE, another life of the binding, or while it is half open or,
// embryonic, gives way.
void Ledger::check_lost(uint32_t core, const Flow& flow, FlowSeen& seen) {
  const Entry* e = engine_.core(core).table().at(flow.entry, flow.entry_serial);
  if (e != nullptr && e->life == flow.entry_life) return;
  const Life& life = lives_[seen.serial];
  bool excused = false;
  for (const Down& m : drained_) {
    if (m.scope.value != life.key.scope || m.key != life.key.key) continue;
    excused = excused || m.kind == Down::Kind::kGone ||
              (m.kind == Down::Kind::kUpdate && m.serial != seen.serial);
  }
  for (const auto& [key, serial] : embryonic_) excused = excused || serial == seen.serial;
  if (core == life.home) {
    const Counts now = counts_of(core);
    const Entry* record =
        engine_.core(core).table().find(binding::ScopeSlot{life.key.scope}, life.key.key);
    excused = excused || now.forced != counts_before_.forced || !life.confirmed ||
              (record != nullptr && !record->husk) ||
              (witness_ != nullptr && now.merged != counts_before_.merged);
  }
  if (!excused) throw Violation{"P2", "a connection lost its binding without a reason", life.key};
  seen.lost = true;
  event(core, "uncounted", life.key, {seen.serial, 0}, seen.client_port);
}

void Ledger::compare_records(uint32_t core) {
  persist::Table& table = engine_.core(core).table();
  std::vector<uint32_t> now;
  for (uint32_t i = 0; i < table.home_places(); ++i) {
    const Entry* e = table.record_at(i);
    if (e != nullptr && !e->husk) now.push_back(e->serial);
  }
  std::sort(now.begin(), now.end());
  auto& before = records_[core];
  Counts why = counts_of(core);
  why.expired -= counts_before_.expired;
  why.evicted -= counts_before_.evicted;
  why.forced -= counts_before_.forced;
  std::vector<uint32_t> gone;
  std::set_difference(before.begin(), before.end(), now.begin(), now.end(),
                      std::back_inserter(gone));
  for (const uint32_t serial : gone)
    removed(core, serial, why, gone.size() == why.expired + why.evicted);
  before = std::move(now);
}

// P2: not while connections are open, nor before the timeout after the last of them.
// `explained`: time or need of room removed all that went in this stage.
void Ledger::removed(uint32_t core, uint32_t serial, const Counts& why, bool explained) {
  ++removals_count_;
  Life& life = lives_[serial];
  const Entry* other =
      engine_.core(core).table().find(binding::ScopeSlot{life.key.scope}, life.key.key);
  // In one stage peers' news may replace a binding, and another may come and go.
  const bool replaced = witness_ != nullptr && other != nullptr && !other->husk &&
                        counts_of(core).merged != counts_before_.merged;
  const bool may_be_forced =
      replaced || (!explained && (why.forced > 0 || (other != nullptr && !other->husk)));
  const bool only_expired = why.expired > 0 && why.evicted == 0;
  life.removed = may_be_forced ? Why::kForced : only_expired ? Why::kExpired : Why::kEvicted;
  event(core,
        may_be_forced  ? "forgotten"
        : only_expired ? "expired"
                       : "evicted",
        life.key, {serial, 0});
  if (witness_ != nullptr && life.confirmed)
    witness_->ended(life.key, engine_.now(core),
                    may_be_forced
                        ? why.expired > 0 ? Witness::Ending::kUnclear : Witness::Ending::kForced
                    : only_expired ? Witness::Ending::kExpired
                                   : Witness::Ending::kEvicted);
  if (may_be_forced) return;
  const bool kept = life.confirmed || (life.datagram && only_expired);
  for (uint32_t c = 0; c < engine_.cores() && kept; ++c) {
    for (const FlowSeen& f : flows_[c]) {
      if (f.counted && !f.lost && f.serial == serial)
        throw Violation{"P2", "a binding went while a connection is open", life.key};
    }
  }
  if (!only_expired) return;
  const ScopeDocument& scope = world_.scopes()[life.key.scope];
  Duration timeout = std::min(scope.profile.timeout, scope.timeout_before);
  if (!life.confirmed && !life.datagram)
    timeout = std::min(timeout, Duration(persist::kEmbryonicTimeout));
  if (engine_.now(core) - life.activity < timeout) {
    throw Violation{"P2",
                    "a binding expired " +
                        std::to_string((engine_.now(core) - life.activity).count() / 1'000'000) +
                        " ms after its last activity, before its timeout of " +
                        std::to_string(timeout.count() / 1'000'000) + " ms",
                    life.key};
  }
}

// P1c: which frames of this turn opened connections, and what their clients may have seen before.
void Ledger::look_at_sent(uint32_t core) {
  auto& forwarder = engine_.core(core).forwarder();
  for (packet::Buffer* b : engine_.core(core).output().tx(1)) {
    const Wire wire = Wire::read(support::bytes(b));
    if (!wire.opens() || wire.tag == 0 || wire.tag >= arrived_.size()) continue;
    const l4::FlowKey answer{wire.destination, wire.source, wire.destination_port, wire.source_port,
                             wire.protocol};
    const l4::FlowRef ref = forwarder.flows().find(answer, forwarder.flows().hash(answer));
    if (!ref) continue;
    const Flow& flow = forwarder.flows()[ref.index];
    if (flow.look.per_packet && flow.entry_serial != 0) {
      const Entry* e = engine_.core(core).table().at(flow.entry, flow.entry_serial);
      if (e == nullptr) continue;
      Life& life = lives_[e->serial];
      life.datagram = true;
      active(life, engine_.now(core));
      const bool known = e->server == world_.server_at(flow.server);
      if (!known) continue;
      openings_.push_back({ref.index, key_of(*e), {e->serial, e->change}, true});
    }
    for (const Opening& o : openings_) {
      if (o.flow != ref.index || !o.known) continue;
      check_floor(core, wire.tag, o);
      to_forward_[core].push_back(o);
    }
  }
}

void Ledger::check_floor(uint32_t core, uint32_t tag, const Opening& opening) {
  const auto it = forwarded_.find(opening.key);
  if (it == forwarded_.end()) return;
  const auto& list = it->second;
  const auto after =
      std::lower_bound(list.begin(), list.end(), arrived_[tag],
                       [](const Forwarded& f, uint64_t moment) { return f.moment < moment; });
  if (after == list.begin()) return;
  const Version floor = std::prev(after)->newest;
  if (opening.version >= floor) return;
  throw Violation{"P1c",
                  "core " + std::to_string(core) + " opened a connection on version " +
                      text(opening.version) + ", but before it arrived one on " + text(floor) +
                      " had been forwarded",
                  opening.key};
}

std::string Ledger::overdue(uint32_t core, uint32_t serial, Duration for_how_long) const {
  persist::Table& table = engine_.core(core).table();
  std::string out = "a binding outlives its timeout: idle for " +
                    std::to_string(for_how_long.count() / 1'000'000) + " ms";
  for (uint32_t i = 0; i < table.home_places(); ++i) {
    const Entry* e = table.record_at(i);
    if (e == nullptr || e->serial != serial) continue;
    const persist::Home& home = table.home(*e);
    char state[160];
    std::snprintf(state, sizeof state,
                  "; home %u: last %lld ms, open %u, copies %llx, asked %llx, evicting %d, owed %d",
                  core, static_cast<long long>(e->last.ns / 1'000'000), e->open,
                  static_cast<unsigned long long>(home.copies),
                  static_cast<unsigned long long>(home.asked), home.evicting, home.owed);
    out += state;
  }
  return out;
}

// Beyond its timeout a binding may wait until its turn of the sweep has come and its holders have
// been asked and the mirror told, few at a time.
void Ledger::check_overdue(Instant now, Duration grain) const {
  for (uint32_t c = 0; c < engine_.cores(); ++c) {
    persist::Table& table = engine_.core(c).table();
    const replication::Rings::Capacity& rings = engine_.shape().rings;
    const uint32_t places = table.home_places();
    const uint32_t turns = 8 + places / worker::Core::kRecordsBusy + 2 * places / rings.answers +
                           2 * places / rings.news;
    for (const uint32_t serial : records_[c]) {
      const Life& life = lives_.at(serial);
      bool open = false;
      for (const auto& flows : flows_) {
        for (const FlowSeen& f : flows) open = open || (f.counted && f.serial == serial);
      }
      if (open) continue;
      const Instant since = std::max({life.activity, life.last_close, quiet_since_});
      const Duration timeout = world_.scopes()[life.key.scope].profile.timeout;
      if (now - since > timeout + turns * grain)
        throw Violation{"P3", overdue(c, serial, now - since), life.key};
    }
  }
}

}  // namespace limpet::sim
