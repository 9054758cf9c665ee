#include "tests/sim/invariants.h"

#include <algorithm>
#include <string>
#include <vector>

namespace limpet::sim {

using persist::Entry;
using persist::Home;
using replication::Answer;
using replication::Claim;
using replication::Down;

namespace {

// A key's copy on a core, once all that is under way to it has arrived.
struct Expected {
  const Entry* record = nullptr;  // its home's; null: none
  KeyId key;
  bool holds = false;
  uint32_t serial = 0;
  uint32_t change = 0;
  binding::ServerId server;
  binding::ServerId first;
};

// A RECALL or an ANSWER in the rings of a pair.
struct Outstanding {
  uint32_t place = 0;
  uint32_t serial = 0;
};

class Checker {
 public:
  Checker(Engine& engine, const World& world, const Ledger& ledger, const Told& mirror)
      : engine_(engine),
        world_(world),
        ledger_(ledger),
        mirror_(mirror),
        rings_(engine.shared().rings) {}

  void run();

 private:
  void pair(uint32_t home, uint32_t core);
  void apply(const Down& m);
  Expected& expected_of(const KeyId& key);
  void check_copies(uint32_t home, uint32_t core);
  void check_asked(uint32_t home, uint32_t core);
  void check_counts(uint32_t core);
  void check_pen(uint32_t core);
  void check_mirror(uint32_t home);
  void check_limit();
  void check_gauges();
  [[noreturn]] static void fail(const char* checker, std::string what, const KeyId& key = {}) {
    throw Violation{checker, std::move(what), key};
  }

  Engine& engine_;
  const World& world_;
  const Ledger& ledger_;
  const Told& mirror_;
  const replication::Rings& rings_;
  std::vector<Expected> expected_;
  std::vector<Outstanding> outstanding_;
  std::vector<KeyId> asked_for_[64];  // by core: keys whose CLAIM or its answer is under way
};

std::string on(uint32_t home, uint32_t core) {
  return " (home " + std::to_string(home) + ", core " + std::to_string(core) + ")";
}

void Checker::run() {
  const uint32_t cores = engine_.cores();
  for (uint32_t home = 0; home < cores; ++home) {
    for (uint32_t core = 0; core < cores; ++core) {
      if (core != home) pair(home, core);
    }
  }
  for (uint32_t core = 0; core < cores; ++core) {
    check_counts(core);
    check_pen(core);
    check_mirror(core);
  }
  check_limit();
  check_gauges();
}

Expected& Checker::expected_of(const KeyId& key) {
  for (Expected& e : expected_) {
    if (e.key == key) return e;
  }
  expected_.push_back({.key = key});
  return expected_.back();
}

void Checker::apply(const Down& m) {
  if (m.kind == Down::Kind::kRefuse) return;
  if (m.kind == Down::Kind::kRecall) {
    outstanding_.push_back({m.place, m.serial});
    return;
  }
  Expected& e = expected_of({m.scope.value, m.key});
  e.holds = m.kind == Down::Kind::kUpdate;
  e.serial = m.serial;
  e.change = m.change;
  e.server = m.server;
  e.first = m.first;
}

void Checker::pair(uint32_t home, uint32_t core) {
  expected_.clear();
  outstanding_.clear();
  persist::Table& table = engine_.core(core).table();
  for (uint32_t i = 0; i < table.places(); ++i) {
    const Entry* e = table.entry_at(i);
    if (e == nullptr || e->is_home()) continue;
    if (engine_.core(core).replica().home_of(e->scope, e->key) != home) continue;
    expected_.push_back({.key = {e->scope.value, e->key},
                         .holds = true,
                         .serial = e->serial,
                         .change = e->change,
                         .server = e->server,
                         .first = e->first});
  }
  rings_.down.between(home, core).peek([&](const Down& m) {
    apply(m);
    if (m.answer) asked_for_[core].push_back({m.scope.value, m.key});
  });
  rings_.answers.between(core, home).peek([&](const Answer& m) {
    outstanding_.push_back({m.place, m.serial});
  });
  rings_.claims.between(core, home).peek([&](const Claim& m) {
    if (m.kind == Claim::Kind::kClaim) asked_for_[core].push_back({m.scope.value, m.key});
  });
  if (outstanding_.size() != engine_.core(home).replica().credits_used(core))
    fail("credits", "credits in use are not the RECALLs and ANSWERs under way" + on(home, core));
  check_copies(home, core);
  check_asked(home, core);
}

// Who holds a copy, or will, is in `copies`; and the copy is what home has (P4).
void Checker::check_copies(uint32_t home, uint32_t core) {
  persist::Table& table = engine_.core(home).table();
  for (const Expected& e : expected_) {
    if (!e.holds) continue;
    const Entry* record = table.find(binding::ScopeSlot{e.key.scope}, e.key.key);
    if (record == nullptr)
      fail("holder", "a copy whose home has no record" + on(home, core), e.key);
    if ((table.home(*record).copies >> core & 1) == 0)
      fail("holder", "a copy that its home does not know of" + on(home, core), e.key);
    if (e.serial != record->serial || e.change != record->change || e.server != record->server ||
        e.first != record->first) {
      fail("P4", "a copy that will not become what its home has" + on(home, core), e.key);
    }
  }
}

void Checker::check_asked(uint32_t home, uint32_t core) {
  persist::Table& table = engine_.core(home).table();
  for (const Outstanding& o : outstanding_) {
    const Entry* record = table.at(o.place, o.serial);
    if (record == nullptr || !record->is_home()) continue;
    const KeyId key{record->scope.value, record->key};
    const auto same = std::count_if(outstanding_.begin(), outstanding_.end(),
                                    [&](const auto& x) { return x.serial == o.serial; });
    if (same != 1) fail("asked", "asked twice" + on(home, core), key);
    if ((table.home(*record).asked >> core & 1) == 0)
      fail("asked", "a question under way that home has forgotten" + on(home, core), key);
  }
  for (uint32_t i = 0; i < table.home_places(); ++i) {
    const Entry* record = table.record_at(i);
    if (record == nullptr || (table.home(*record).asked >> core & 1) == 0) continue;
    const bool found = std::any_of(outstanding_.begin(), outstanding_.end(),
                                   [&](const auto& x) { return x.serial == record->serial; });
    if (!found) {
      fail("asked", "home waits for an answer that nobody owes it" + on(home, core),
           {record->scope.value, record->key});
    }
  }
}

// An entry's count is that of the open flows of its serial.
void Checker::check_counts(uint32_t core) {
  persist::Table& table = engine_.core(core).table();
  std::vector<uint32_t> open(table.places());
  auto& flows = engine_.core(core).forwarder().flows();
  for (uint32_t i = 0; i < flows.high_water(); ++i) {
    const l4::Flow& f = flows[i];
    if (!f.used || !f.counted) continue;
    const Entry* e = table.at(f.entry, f.entry_serial);
    if (e != nullptr && e->life == f.entry_life) ++open[f.entry];
  }
  for (uint32_t i = 0; i < table.places(); ++i) {
    const Entry* e = table.entry_at(i);
    if (e == nullptr || e->open == open[i]) continue;
    fail("count",
         "core " + std::to_string(core) + " counts " + std::to_string(e->open) +
             " connections where " + std::to_string(open[i]) + " are open",
         {e->scope.value, e->key});
  }
}

// One question at a time, and none without a slot that waits for its answer.
void Checker::check_pen(uint32_t core) {
  for (const Down& m : ledger_.heard(core)) {
    if (m.answer) asked_for_[core].push_back({m.scope.value, m.key});
  }
  const affinity::Pen& pen = engine_.core(core).forwarder().pen();
  uint32_t left = pen.size();
  uint32_t packets = 0;
  std::size_t claimed = 0;
  for (uint32_t i = 0; i < pen.keys() && left > 0; ++i) {
    const affinity::Pen::Slot& slot = pen.slot(i);
    if (!slot.used) continue;
    --left;
    packets += slot.count;
    if (!slot.claimed) continue;
    ++claimed;
    const KeyId key{slot.scope.value, slot.key};
    const auto n = std::count(asked_for_[core].begin(), asked_for_[core].end(), key);
    if (n != 1) {
      fail("claim",
           "core " + std::to_string(core) + " waits for an answer and " + std::to_string(n) +
               " are under way",
           key);
    }
  }
  if (claimed != asked_for_[core].size()) {
    fail("claim", "a claim or its answer that core " + std::to_string(core) + " does not await",
         asked_for_[core].front());
  }
  if (packets != pen.packets()) fail("pen", "the pen has lost count of its packets");
}

// What homes have told the mirror, all of it read, is what they have (P4).
void Checker::check_mirror(uint32_t home) {
  std::vector<KeyId> unread;
  rings_.news[home].peek([&](const binding::Change& c) {
    unread.push_back({c.scope.value, c.key});
  });
  persist::Table& table = engine_.core(home).table();
  for (uint32_t i = 0; i < table.home_places(); ++i) {
    const Entry* e = table.record_at(i);
    if (e == nullptr || e->husk) continue;
    const KeyId key{e->scope.value, e->key};
    const Home& h = table.home(*e);
    if (h.owed || std::find(unread.begin(), unread.end(), key) != unread.end()) continue;
    const binding::Record record = engine_.core(home).replica().record_of(*e);
    const auto it = mirror_.find(key);
    if (it == mirror_.end()) fail("P4 mirror", "a record that the mirror does not have", key);
    if (it->second.record != record || it->second.confirmed != e->confirmed)
      fail("P4 mirror", "the mirror has something else than home", key);
  }
  for (const auto& [key, change] : mirror_) {
    const binding::ScopeSlot scope{key.scope};
    if (engine_.core(home).replica().home_of(scope, key.key) != home) continue;
    if (std::find(unread.begin(), unread.end(), key) != unread.end()) continue;
    const Entry* e = table.find(scope, key.key);
    if ((e == nullptr || e->husk) && change.record.live())
      fail("P4 mirror", "the mirror has a binding that went", key);
    // Those of a scope that has gone are dropped with it.
    if (engine_.core(home).snapshot().scope(scope) == nullptr) continue;
    if (e != nullptr && table.home(*e).owed) continue;
    const auto deleted = engine_.core(home).replica().tombstones().of_key(scope, key.key);
    if (change.record.deleted != deleted)
      fail("P4 mirror",
           "the mirror has a tombstone of " + std::to_string(change.record.deleted.value) +
               ", home of " + std::to_string(deleted.value),
           key);
  }
}

void Checker::check_limit() {
  uint32_t records = engine_.shape().ballast;
  for (uint32_t c = 0; c < engine_.cores(); ++c) records += engine_.core(c).table().records();
  if (records > engine_.shape().limit) fail("limit", "more bindings than the limit allows");
  if (records != engine_.shared().bindings.count())
    fail("limit", "the count of bindings is not that of the records");
}

// Places taken in connection limits: by flows, by claims, by answers to them.
void Checker::check_gauges() {
  std::vector<uint32_t> taken(world_.server_slots());
  for (uint32_t c = 0; c < engine_.cores(); ++c) {
    auto& forwarder = engine_.core(c).forwarder();
    auto& flows = forwarder.flows();
    for (uint32_t i = 0; i < flows.high_water(); ++i) {
      if (flows[i].used && flows[i].gauged) ++taken[flows[i].server_slot.value];
    }
    uint32_t left = forwarder.pen().size();
    for (uint32_t i = 0; i < forwarder.pen().keys() && left > 0; ++i) {
      const affinity::Pen::Slot& slot = forwarder.pen().slot(i);
      if (!slot.used) continue;
      --left;
      if (slot.reserved) ++taken[slot.server_slot.value];
    }
    const auto promised = [&](const Down& m) {
      if (m.kind == Down::Kind::kUpdate && m.reserved) ++taken[m.place];
    };
    for (const Down& m : ledger_.heard(c)) promised(m);
    for (const uint32_t home : rings_.down.peers(c)) rings_.down.between(home, c).peek(promised);
  }
  for (uint32_t slot = 0; slot < taken.size(); ++slot) {
    const uint32_t open = engine_.shared().gauges.open(snapshot::ServerSlot{slot});
    if (open != taken[slot]) {
      fail("gauges", "server slot " + std::to_string(slot) + ": " + std::to_string(open) +
                         " places are taken, " + std::to_string(taken[slot]) + " are used");
    }
  }
  for (const PoolDocument& pool : world_.pools()) {
    if (pool.limit_changed || pool.connections_max == 0) continue;
    for (const ServerDocument& s : pool.servers) {
      if (s.slot.value >= taken.size()) continue;
      uint64_t beyond = 0;
      for (uint32_t c = 0; c < engine_.cores(); ++c)
        beyond += engine_.core(c).forwarder().server(s.slot).over_limit;
      if (taken[s.slot.value] > pool.connections_max + beyond)
        fail("connection limit", "new clients exceed the connection limit of a server");
    }
  }
}

}  // namespace

void check_invariants(Engine& engine, const World& world, const Ledger& ledger,
                      const Told& mirror) {
  Checker(engine, world, ledger, mirror).run();
}

std::string unfinished(Engine& engine) {
  const auto& rings = engine.shared().rings;
  for (uint32_t i = 0; i < engine.cores(); ++i) {
    const std::string core = " of core " + std::to_string(i);
    for (const uint32_t j : rings.down.peers(i)) {
      if (!rings.claims.between(i, j).empty()) return "claims are left in a ring" + core;
      if (!rings.answers.between(i, j).empty()) return "answers are left in a ring" + core;
      if (!rings.down.between(i, j).empty()) return "messages are left in a down ring" + core;
    }
    if (!rings.news[i].empty()) return "news are left in the ring" + core;
    if (!rings.merges[i].empty()) return "merges are left in the ring" + core;
    if (engine.core(i).forwarder().pen().size() != 0) return "packets wait in the pen" + core;
    persist::Table& table = engine.core(i).table();
    for (uint32_t r = 0; r < table.home_places(); ++r) {
      const Entry* e = table.record_at(r);
      if (e != nullptr && table.home(*e).owed) return "the mirror is owed a record" + core;
    }
  }
  if (engine.waiting_frames() != 0) return "frames wait";
  return "";
}

std::string leaks(Engine& engine, const World& world) {
  for (uint32_t c = 0; c < engine.cores(); ++c) {
    if (engine.core(c).table().size() != 0) return "bindings are left";
    if (engine.core(c).forwarder().flows().size() != 0) return "flows are left";
    for (const auto& load : engine.core(c).forwarder().loads()) {
      if (load.open != 0) return "a server's load is left";
    }
    for (uint32_t other = 0; other < engine.cores(); ++other) {
      if (engine.core(c).replica().credits_used(other) != 0) return "credits are left";
    }
  }
  if (engine.shared().bindings.count() != engine.shape().ballast)
    return "the count of bindings is not zero";
  for (uint32_t slot = 0; slot < world.server_slots(); ++slot) {
    if (engine.shared().gauges.open(snapshot::ServerSlot{slot}) != 0)
      return "places in a connection limit are left";
  }
  if (engine.ports_in_use() != 0) return "source ports are left";
  if (engine.buffers().in_use() != 0) return "buffers are left";
  return "";
}

}  // namespace limpet::sim
