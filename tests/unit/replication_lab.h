// ReplicationLab: the Replicas of one engine in one thread, without packets. Every stage of a turn
// is called by hand, so a test names the schedule that it is about; a core that is not called is
// stalled. Rings are small on purpose. The pool has three servers; the timeout is 300 s.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "dataplane/replication/replica.h"
#include "tests/support/core_lab.h"

namespace limpet::replication {

using binding::Key;
using persist::Entry;
using timing::Instant;

class ReplicationLab {
 public:
  // 2020-09-13.
  static constexpr timing::WallTime kWallOrigin{1'600'000'000'000'000'000};

  struct Options {
    uint32_t cores = 3;
    uint32_t limit = 1024;  // below 2,048 core 0 is the only home
    Rings::Capacity rings{.claims = 8, .answers = 8, .down = 16, .news = 64, .merges = 8};
    bool push = true;
    uint32_t rank = 0;  // of the engine
    bool peers = false;
    bool disk = false;
  };

  ReplicationLab() : ReplicationLab(Options{}) {}
  explicit ReplicationLab(const Options& o)
      : rings(o.cores, o.rings, std::pmr::get_default_resource()), bindings(o.limit) {
    for (uint32_t c = 0; c < o.cores; ++c) cores_.push_back(std::make_unique<Core>(*this, c, o));
    publish();
  }

  support::World world;
  Instant now{1'000'000'000};
  base::Random random{1};
  const base::KeyedHash hash{random};
  balance::Gauges gauges{base::kServersMax};
  Rings rings;
  persist::Bindings bindings;

  uint32_t cores() const { return static_cast<uint32_t>(cores_.size()); }
  Replica& at(uint32_t c) { return cores_[c]->replica; }
  // What drain() was told of on this core, UPDATEs and REFUSEs, since the last forget_heard().
  const std::vector<Down>& heard(uint32_t c) const { return cores_[c]->heard; }
  void forget_heard() {
    for (auto& core : cores_) core->heard.clear();
  }

  // --- the world ---------------------------------------------------------------------------------

  snapshot::Server& server(uint32_t i) { return world.server(net::Family::kV4, i); }
  binding::ServerId id(uint32_t i) const { return ids_[i]; }
  snapshot::Scope& scope() { return world.scope(net::Family::kV4); }
  // Makes a copy of `world` what begin() takes from now on; cores have what they had.
  void publish() {
    world.index();
    auto next = std::make_shared<snapshot::Snapshot>(*world.snapshot);
    next->version = snapshots_.size() + 1;
    next->servers_left = servers_left;
    snapshots_.push_back(std::move(next));
    if (snapshots_.size() > 1) return;
    for (uint32_t i = 0; i < 3; ++i) ids_[i] = server(i).id;
    for (uint32_t c = 0; c < cores(); ++c) begin(c);
  }
  std::vector<binding::ServerId> servers_left;
  uint64_t version() const { return snapshots_.size(); }
  // ... and lets all cores take it.
  void publish_to_all() {
    publish();
    for (uint32_t c = 0; c < cores(); ++c) begin(c);
  }
  // Time passes for all cores; nobody does anything.
  void pass(timing::Duration by) {
    now = now + by;
    for (auto& core : cores_) core->replica.begin(*core->snapshot, now);
  }

  // --- stages of a turn --------------------------------------------------------------------------

  void begin(uint32_t c) {
    Core& core = *cores_[c];
    if (core.snapshot != snapshots_.back().get()) core.replica.restart_sweep();
    core.snapshot = snapshots_.back().get();
    core.replica.begin(*core.snapshot, now);
  }
  bool drain(uint32_t c) {
    return at(c).drain([&] { begin(c); }, [&](const Down& m) { cores_[c]->heard.push_back(m); });
  }
  bool serve(uint32_t c) {
    return at(c).serve([&] { begin(c); });
  }
  void advance(uint32_t c) { at(c).advance(8192); }
  // All have stopped: what this one has still to say. False: it has no room, and goes on later.
  bool say_last(uint32_t c) {
    std::vector<Replica*> all;
    for (auto& core : cores_) all.push_back(&core->replica);
    return at(c).say_last(all, &said_last_);
  }
  // Every stage, on each core in turn, until no message is under way; time stands still.
  void settle() {
    for (int i = 0; i < 1'000; ++i) {
      bool moved = false;
      for (uint32_t c = 0; c < cores(); ++c) {
        begin(c);
        moved = drain(c) || moved;
        moved = serve(c) || moved;
        advance(c);
        at(c).sweep(8192);
      }
      if (!moved && messages() == 0) return;
    }
    ADD_FAILURE() << "messages do not come to rest";
  }
  // Messages in rings between cores.
  uint32_t messages() {
    uint32_t sum = 0;
    for (uint32_t a = 0; a < cores(); ++a) {
      for (const uint32_t b : rings.down.peers(a))
        sum += claims(a, b) + rings.answers.from(a).to(b).size() + down(a, b);
    }
    return sum;
  }
  uint32_t down(uint32_t from, uint32_t to) { return rings.down.from(from).to(to).size(); }
  uint32_t claims(uint32_t from, uint32_t to) { return rings.claims.from(from).to(to).size(); }
  std::vector<binding::Change> news(uint32_t c) {
    std::vector<binding::Change> out;
    binding::Change change;
    while (rings.news[c].pop(&change)) out.push_back(change);
    return out;
  }

  // --- what a core's packets would do ------------------------------------------------------------

  // The n-th client's key. With one home, core 0 is it.
  static Key key(uint32_t n) {
    return Key::of(
        support::address("10.9." + std::to_string(n / 250) + "." + std::to_string(n % 250 + 1)));
  }
  // Asks for `key`, with what core `c` has of it, proposing server `i`.
  bool claim(uint32_t c, const Key& key, uint32_t i = 0) {
    return claim(c, key, Replica::Proposal{.server = id(i)});
  }
  bool claim(uint32_t c, const Key& key, const Replica::Proposal& proposal) {
    return at(c).claim(running_scope(c), key, find(c, key), proposal);
  }
  // Home's own packet needs a binding to server `i`.
  Replica::Made create(uint32_t c, const Key& key, uint32_t i = 0, bool datagram = false) {
    return at(c).create(running_scope(c), key, id(i), {.since = now, .datagram = datagram});
  }
  // Makes a binding to server `i` by a claim of core `c` and lets everybody hear of it.
  Entry& bind(uint32_t c, const Key& key, uint32_t i = 0) {
    EXPECT_TRUE(claim(c, key, i));
    settle();
    return *find(c, key);
  }
  // ... whose handshake was seen.
  Entry& bind_confirmed(uint32_t c, const Key& key, uint32_t i = 0) {
    Entry& entry = bind(c, key, i);
    at(c).confirm(entry);
    settle();
    return entry;
  }
  // ... whose first packet was a datagram.
  Entry& bind_datagram(uint32_t c, const Key& key) {
    EXPECT_TRUE(claim(c, key, Replica::Proposal{.server = id(0), .datagram = true}));
    settle();
    return *find(c, key);
  }
  void open(uint32_t c, const Key& key, bool datagram = false) {
    Entry& entry = *find(c, key);
    at(c).use(entry, datagram);
    ++entry.open;
  }
  void close(uint32_t c, const Key& key) {
    Entry& entry = *find(c, key);
    --entry.open;
    entry.last = now;
    if (entry.open == 0) at(c).closed(entry);
  }
  // The answer to the CLAIM of core `c` among what it heard; fails unless there is exactly one.
  Down answer(uint32_t c) {
    Down found;
    uint32_t answers = 0;
    for (const Down& m : heard(c)) {
      if (!m.answer) continue;
      found = m;
      ++answers;
    }
    EXPECT_EQ(answers, 1u);
    return found;
  }

  // --- what is known -----------------------------------------------------------------------------

  Entry* find(uint32_t c, const Key& key) { return at(c).table().find(scope().slot, key); }
  uint32_t home_of(const Key& key) { return at(0).home_of(scope().slot, key); }
  Entry* record(const Key& key) { return find(home_of(key), key); }
  persist::Home& home(const Key& key) { return at(home_of(key)).table().home(*record(key)); }
  // Whether each core has what the home has.
  bool everywhere(const Key& key) {
    for (uint32_t c = 0; c < cores(); ++c) {
      const Entry* e = find(c, key);
      const Entry* r = record(key);
      if (e == nullptr || r == nullptr || e->serial != r->serial || e->change != r->change ||
          e->server != r->server || e->first != r->first)
        return false;
    }
    return true;
  }
  bool nowhere(const Key& key) {
    for (uint32_t c = 0; c < cores(); ++c) {
      if (find(c, key) != nullptr) return false;
    }
    return true;
  }
  // Fills what is free in the ring from core 0 to `to` with news that change nothing there.
  void fill_down(uint32_t to) {
    auto& ring = rings.down.from(0).to(to);
    while (ring.push(Down{.kind = Down::Kind::kGone, .scope = scope().slot, .key = key(9999)})) {
    }
  }

 private:
  struct Core {
    Core(ReplicationLab& lab, uint32_t c, const Options& o)
        : random(c + 2),
          picker(base::kServersMax, lab.gauges, random),
          replica({.core = c,
                   .node = binding::Maker{o.rank, c}.number(),
                   .peers = o.peers,
                   .disk = o.disk,
                   .wall_origin = kWallOrigin,
                   .push = o.push},
                  lab.rings, lab.bindings, picker, lab.hash, random,
                  std::pmr::get_default_resource()) {}

    base::Random random;
    balance::Picker picker;
    Replica replica;
    const snapshot::Snapshot* snapshot = nullptr;
    std::vector<Down> heard;
  };

  const snapshot::Scope& running_scope(uint32_t c) {
    return cores_[c]->snapshot->scopes[scope().slot.value];
  }

  std::vector<std::shared_ptr<const snapshot::Snapshot>> snapshots_;
  std::vector<std::unique_ptr<Core>> cores_;
  binding::ServerId ids_[3];
  uint32_t said_last_ = 0;  // the record from which say_last() goes on
};

}  // namespace limpet::replication
