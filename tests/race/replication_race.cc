// Real threads, each with its Replica, over shared rings, while snapshots change and the control
// thread drains news, posts merges and orders deletions. The sanitizer sees no race; afterwards,
// when every message was taken, every copy is what its home has and nothing is counted.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <latch>
#include <map>
#include <memory>
#include <thread>
#include <tuple>
#include <vector>

#include "dataplane/snapshot/publisher.h"
#include "tests/race/shared_time.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using balance::Judgement;
using balance::Reason;
using binding::Key;
using binding::ServerId;
using net::Family;
using persist::Entry;
using replication::Down;
using replication::Outcome;
using replication::Replica;
using replication::Rings;
using snapshot::ServerState;
using snapshot::Snapshot;
using timing::milliseconds;

struct Setting {
  const char* name;
  bool push;  // Replica::Options
  uint32_t limit;
  uint32_t keys;
  uint32_t operations;  // of each core
  bool peers = false;   // other engines are told
};

// What the replicas share.
struct Engine {
  static constexpr uint32_t kCores = 3;

  Engine(const Setting& setting, std::shared_ptr<const Snapshot> first)
      : push(setting.push),
        peers(setting.peers),
        rings(kCores, {.claims = 8, .answers = 4, .down = 16, .news = 32, .merges = 4},
              std::pmr::new_delete_resource()),
        bindings(setting.limit),
        publisher(std::move(first), kCores) {
    for (uint32_t c = 0; c < kCores; ++c)
      deletions.emplace_back(16, std::pmr::new_delete_resource());
    for (uint32_t n = 0; n < setting.keys; ++n)
      keys.push_back(
          Key::of(support::address("10." + std::to_string(n / 62500 + 9) + "." +
                                   std::to_string(n / 250 % 250) + "." + std::to_string(n % 250))));
  }

  // In all rings to and from cores but the news.
  uint32_t messages() {
    uint32_t sum = 0;
    for (uint32_t a = 0; a < kCores; ++a) {
      for (const uint32_t b : rings.down.peers(a)) {
        sum += rings.claims.from(a).to(b).size() + rings.answers.from(a).to(b).size() +
               rings.down.from(a).to(b).size();
      }
      sum += rings.merges[a].size() + deletions[a].size();
    }
    return sum;
  }

  const bool push;
  const bool peers;
  base::Random seed{1};
  const base::KeyedHash hash{seed};
  balance::Gauges gauges{base::kServersMax};
  Rings rings;
  persist::Bindings bindings;
  snapshot::Publisher publisher;
  SharedTime time;
  std::vector<ring::Ring<uint32_t>> deletions;  // by core: which key its home is to forget
  std::vector<Key> keys;
  std::latch start{kCores};  // so that nobody is done before others begin
  std::atomic<uint32_t> busy{kCores};
  std::atomic<bool> stop{false};
};

// One core: it opens, confirms and closes connections as a forwarder would.
class Worker {
 public:
  Worker(Engine& engine, uint32_t core)
      : engine_(engine),
        core_(core),
        random_(core + 10),
        picker_(base::kServersMax, engine.gauges, random_),
        replica_({.core = core, .node = core, .peers = engine.peers, .push = engine.push},
                 engine.rings, engine.bindings, picker_, engine.hash, random_,
                 std::pmr::new_delete_resource()),
        reader_(engine.publisher.reader(core)),
        pending_(engine.keys.size()) {}

  void run(uint32_t operations) {
    engine_.start.arrive_and_wait();
    reader_.online();
    for (uint32_t done = 0; done < operations;) {
      begin_turn();
      for (int i = 0; i < 4; ++i, ++done) operate();
      end_turn();
      if (done % 64 == 0) std::this_thread::yield();
    }
    close_all();
    engine_.busy.fetch_sub(1, std::memory_order_relaxed);
    while (!engine_.stop.load(std::memory_order_relaxed)) {
      turn();
      std::this_thread::yield();
    }
    reader_.offline();
  }

  // Also after run(), by whoever joined its thread.
  void turn() {
    reader_.online();
    begin_turn();
    end_turn();
  }

  void close_all() {
    while (!connections_.empty()) close(connections_.size() - 1);
  }
  Replica& replica() { return replica_; }
  uint32_t waiting() const { return waiting_; }
  uint32_t wrong() const { return wrong_; }
  // The server of each version of each binding, as this core saw it.
  using Version = std::tuple<Key, uint32_t, uint32_t>;
  const std::map<Version, ServerId>& seen() const { return seen_; }

 private:
  struct Connection {
    uint32_t place;
    uint32_t serial;
    uint8_t life;
    bool gauged;
    snapshot::ServerSlot server;
  };
  // An unanswered CLAIM.
  struct Pending {
    bool claimed = false;
    bool reserved = false;
    ServerId server;
    snapshot::ServerSlot slot;
  };

  void begin_turn() {
    take();
    replica_.drain([this] { take(); }, [this](const Down& m) { hear(m); });
  }

  void end_turn() {
    replica_.serve([this] { take(); });
    replica_.advance(16);
    replica_.sweep(64);
    if (replica_.lost_counts()) {
      // Their place in the table may be another binding's one day.
      for (Connection& c : connections_) {
        if (entry_of(c) == nullptr) c.place = UINT32_MAX;
      }
    }
    engine_.deletions[core_].consume(1, [this](uint32_t key) {
      Entry* record = replica_.table().find(scope().slot, engine_.keys[key]);
      return record == nullptr || replica_.remove(*record) != Outcome::kWait;
    });
  }

  // The binding that the connection is counted in; null: none any more.
  Entry* entry_of(const Connection& c) {
    Entry* entry = replica_.table().at(c.place, c.serial);
    return entry != nullptr && entry->life == c.life ? entry : nullptr;
  }

  void take() {
    const Snapshot& s = reader_.take();
    if (&s != snapshot_) replica_.restart_sweep();
    snapshot_ = &s;
    replica_.begin(s, engine_.time.now());
  }

  const snapshot::Scope& scope() const { return snapshot_->scopes[0]; }
  const snapshot::Pool& pool() const { return snapshot_->pools[0]; }

  void hear(const Down& m) {
    if (m.kind == Down::Kind::kUpdate) see(m.key, m.serial, m.change, m.server);
    if (!m.answer) return;
    const auto at = static_cast<std::size_t>(
        std::lower_bound(engine_.keys.begin(), engine_.keys.end(), m.key) - engine_.keys.begin());
    Pending& pending = pending_[at];
    if (!pending.claimed) ++wrong_;
    pending.claimed = false;
    --waiting_;
    bool place = false;
    if (pending.reserved) {
      pending.reserved = false;
      if (m.kind == Down::Kind::kUpdate && m.server == pending.server) {
        place = true;
      } else {
        engine_.gauges.release(pending.slot);
      }
    }
    if (m.reserved) {
      place = true;
      pending.slot = snapshot::ServerSlot{m.place};
    }
    Entry* entry = m.kind == Down::Kind::kUpdate ? replica_.find(scope(), m.key) : nullptr;
    if (entry != nullptr && entry->server == m.server) {
      open(*entry, place, pending.slot);
    } else if (place) {
      engine_.gauges.release(pending.slot);
    }
  }

  void see(const Key& key, uint32_t serial, uint32_t change, ServerId server) {
    const auto [it, fresh] = seen_.emplace(Version{key, serial, change}, server);
    if (!fresh && it->second != server) ++wrong_;
  }

  void open(Entry& entry, bool gauged, snapshot::ServerSlot server) {
    replica_.use(entry);
    ++entry.open;
    connections_.push_back(
        {replica_.table().place_of(entry), entry.serial, entry.life, gauged, server});
  }

  void close(std::size_t at) {
    const Connection c = connections_[at];
    connections_[at] = connections_.back();
    connections_.pop_back();
    if (c.gauged) engine_.gauges.release(c.server);
    Entry* entry = entry_of(c);
    if (entry == nullptr) return;
    if (entry->open == 0) {
      ++wrong_;
      return;
    }
    --entry->open;
    entry->last = replica_.now();
  }

  void operate() {
    const uint32_t what = random_.below(16);
    if (!connections_.empty() && (what < 6 || connections_.size() > 40))
      return close(random_.below(static_cast<uint32_t>(connections_.size())));
    if (!connections_.empty() && what < 9) {
      const Connection& c = connections_[random_.below(static_cast<uint32_t>(connections_.size()))];
      if (Entry* entry = entry_of(c)) replica_.confirm(*entry);
      return;
    }
    // Half of all is for a few keys.
    const auto all = static_cast<uint32_t>(engine_.keys.size());
    arrive(random_.below(what % 2 == 0 ? 16 : all));
  }

  // A packet of this key that opens a connection.
  void arrive(uint32_t n) {
    const Key& key = engine_.keys[n];
    Entry* entry = replica_.find(scope(), key);
    const bool home = replica_.is_home(scope().slot, key);
    if (entry != nullptr) {
      const balance::Bound bound{entry->server, entry->first};
      const Judgement j = balance::judge(pool(), &scope(), &bound, engine_.gauges);
      if (j.action == Judgement::Action::kRefuse) return;
      if (j.action == Judgement::Action::kUse && j.reason != Reason::kHome) {
        if (!replica_.may_use(*entry, scope())) return;
        const bool gauged =
            j.server->connections_max != 0 && engine_.gauges.reserve(*j.server, true);
        return open(*entry, gauged, j.server->slot);
      }
    }
    if (!home && pending_[n].claimed) return;  // it would be parked
    const balance::Picked picked = picker_.pick(*snapshot_, pool(), {key.address(), 1});
    if (picked.server == nullptr) return;
    const snapshot::ServerSlot slot = picked.server->slot;
    if (!home) {
      if (!replica_.claim(scope(), key, entry, {picked.server->id, picked.gauged})) {
        if (picked.gauged) engine_.gauges.release(slot);
        return;
      }
      pending_[n] = {true, picked.gauged, picked.server->id, slot};
      ++waiting_;
      return;
    }
    Outcome outcome = Outcome::kDone;
    if (entry != nullptr) {
      outcome = replica_.move(*entry, picked.server->id);
    } else {
      const auto made = replica_.create(scope(), key, picked.server->id, {.since = replica_.now()});
      outcome = made.outcome;
      entry = made.entry;
    }
    if (outcome == Outcome::kDone) {
      see(key, entry->serial, entry->change, entry->server);
      open(*entry, picked.gauged, slot);
    } else if (picked.gauged) {
      engine_.gauges.release(slot);
    }
  }

  Engine& engine_;
  const uint32_t core_;
  base::Random random_;
  balance::Picker picker_;
  Replica replica_;
  snapshot::Reader reader_;
  const Snapshot* snapshot_ = nullptr;
  std::vector<Pending> pending_;  // by key
  std::vector<Connection> connections_;
  std::map<Version, ServerId> seen_;
  uint32_t waiting_ = 0;
  uint32_t wrong_ = 0;
};

// The control thread: what the homes said last, news from peers, orders, snapshots.
class Control {
 public:
  Control(Engine& engine, support::World& world) : engine_(engine), world_(world) {}

  void turn() {
    engine_.time.advance(milliseconds(1));
    drain_news();
    ++turns_;
    if (turns_ % 4 == 0) merge();
    if (turns_ % 8 == 0) order_deletion();
    if (turns_ % 64 == 0 && engine_.publisher.can_publish()) publish();
  }

  void drain_news() {
    for (uint32_t c = 0; c < Engine::kCores; ++c) {
      binding::Change change;
      while (engine_.rings.news[c].pop(&change)) {
        if (change.kind == binding::Change::Kind::kFence) {
          ++fences_;
        } else if (change.record.live()) {
          records_[change.key] = change.record;
        } else {
          records_.erase(change.key);
        }
      }
    }
  }
  const std::map<Key, binding::Record>& records() const { return records_; }
  uint64_t fences() const { return fences_; }
  uint64_t fences_sent() const { return fences_sent_; }

 private:
  // Somebody else made a binding earlier than we, moved one, or an administrator deleted one.
  void merge() {
    const Key& key = engine_.keys[random_.below(static_cast<uint32_t>(engine_.keys.size()))];
    binding::Merge m{.scope = world_.scope(Family::kV4).slot,
                     .version = engine_.publisher.current()->version,
                     .key = key,
                     .record = {}};
    const auto known = records_.find(key);
    m.record.server = m.record.first = world_.server(Family::kV4, random_.below(3)).id;
    m.record.act = m.record.stamp = binding::Stamp{1 + random_.next() % 1'000'000};
    if (known != records_.end() && random_.below(2) == 0) {
      m.record.stamp = known->second.stamp;
      m.record.epoch = known->second.epoch + 1;
    }
    m.record.held = random_.below(2) == 0;
    m.act_at = engine_.time.now();
    m.source = {binding::PeerIndex{1}, binding::SessionNumber{1}};
    if (random_.below(4) == 0) m.record = {.deleted = m.record.stamp};
    if (engine_.peers) make_special(&m);
    const bool sent = engine_.rings.merges[home_of(key)].push(m);
    if (sent && m.kind == binding::Merge::Kind::kFence) ++fences_sent_;
  }

  // Now and then a fence, a tombstone of the scope, or the end of one.
  void make_special(binding::Merge* m) {
    using Kind = binding::Merge::Kind;
    constexpr std::array kKinds{Kind::kFence, Kind::kKillScope, Kind::kForgetScope, Kind::kForget};
    const uint32_t which = random_.below(40);
    if (which >= kKinds.size()) return;
    m->kind = kKinds[which];
    if (m->record.deleted.value == 0) m->record.deleted = m->record.stamp;
  }

  void order_deletion() {
    const uint32_t n = random_.below(static_cast<uint32_t>(engine_.keys.size()));
    engine_.deletions[home_of(engine_.keys[n])].push(n);
  }

  void publish() {
    snapshot::Server& server = world_.server(Family::kV4, random_.below(3));
    constexpr std::array kStates{ServerState::kUp, ServerState::kUp, ServerState::kDown,
                                 ServerState::kDisabled};
    server.state = kStates[random_.below(4)];
    world_.server(Family::kV4, 0).connections_max = random_.below(2) == 0 ? 30 : 0;
    world_.scope(Family::kV4).timeout = milliseconds(20 + random_.below(200));
    world_.index();
    auto next = std::make_shared<Snapshot>(*world_.snapshot);
    next->version = engine_.publisher.current()->version + 1;
    engine_.publisher.publish(std::move(next));
  }

  uint32_t home_of(const Key& key) const {
    return base::reduce(binding::hash_of(engine_.hash, world_.snapshot->scopes[0].slot, key),
                        persist::homes_of(Engine::kCores, engine_.bindings.limit()));
  }

  Engine& engine_;
  support::World& world_;
  base::Random random_{99};
  std::map<Key, binding::Record> records_;
  uint64_t turns_ = 0;
  uint64_t fences_ = 0;
  uint64_t fences_sent_ = 0;
};

class ReplicationRace : public testing::TestWithParam<Setting> {};

INSTANTIATE_TEST_SUITE_P(Tables, ReplicationRace,
                         testing::Values(Setting{"roomy", false, 4096, 1500, 160'000},
                                         Setting{"full", false, 64, 120, 160'000},
                                         Setting{"roomy_pushed", true, 4096, 1500, 160'000},
                                         Setting{"full_pushed", true, 64, 120, 160'000},
                                         Setting{"roomy_peers", false, 4096, 1500, 160'000, true},
                                         Setting{"full_peers", true, 64, 120, 160'000, true}),
                         [](const auto& p) { return p.param.name; });

TEST_P(ReplicationRace, EveryCopyIsWhatItsHomeHasOnceAllIsTaken) {
  support::World world(3);
  world.scope(Family::kV4).timeout = milliseconds(100);
  world.index();
  auto first = std::make_shared<Snapshot>(*world.snapshot);
  first->version = 1;
  Engine engine(GetParam(), std::move(first));
  std::sort(engine.keys.begin(), engine.keys.end());
  std::vector<std::unique_ptr<Worker>> workers;
  for (uint32_t c = 0; c < Engine::kCores; ++c)
    workers.push_back(std::make_unique<Worker>(engine, c));
  Control control(engine, world);

  std::vector<std::thread> threads;
  for (auto& w : workers) threads.emplace_back([&w] { w->run(GetParam().operations); });
  while (engine.busy.load(std::memory_order_relaxed) > 0) {
    control.turn();
    std::this_thread::yield();
  }
  engine.stop = true;
  for (std::thread& t : threads) t.join();

  // Turns take hardly any time; what is in the rings is taken, and what could not be told is.
  uint32_t quiet_turns = 0;
  for (int i = 0; i < 100'000 && quiet_turns < 500; ++i) {
    engine.time.advance(std::chrono::microseconds(1));
    for (auto& w : workers) {
      w->close_all();
      w->turn();
      control.drain_news();
    }
    quiet_turns = engine.messages() == 0 ? quiet_turns + 1 : 0;
  }
  ASSERT_GE(quiet_turns, 500u) << "messages do not come to rest";

  std::map<Worker::Version, ServerId> seen;
  uint32_t records = 0;
  uint64_t created = 0;
  uint64_t claims = 0;
  uint64_t rounds = 0;
  uint32_t husks = 0;
  for (auto& w : workers) {
    EXPECT_EQ(w->wrong(), 0u);
    EXPECT_EQ(w->waiting(), 0u) << "every claim was answered";
    for (const auto& [version, server] : w->seen())
      EXPECT_EQ(seen.emplace(version, server).first->second, server);
    persist::Table& table = w->replica().table();
    records += table.records();
    for (uint32_t c = 0; c < Engine::kCores; ++c) EXPECT_EQ(w->replica().credits_used(c), 0u);
    for (uint32_t at = 0; at < table.places(); ++at) {
      const Entry* entry = table.entry_at(at);
      if (entry == nullptr) continue;
      EXPECT_EQ(entry->open, 0u);
      const uint32_t home = w->replica().home_of(entry->scope, entry->key);
      persist::Table& homes = workers[home]->replica().table();
      const Entry* record = homes.find(entry->scope, entry->key);
      ASSERT_NE(record, nullptr);
      EXPECT_TRUE(record->is_home());
      EXPECT_EQ(record->serial, entry->serial);
      EXPECT_EQ(record->change, entry->change);
      EXPECT_EQ(record->server, entry->server);
      EXPECT_EQ(record->first, entry->first);
      if (entry == record) continue;
      EXPECT_NE(homes.home(*record).copies >> w->replica().options().core & 1, 0u);
    }
    created += w->replica().counters().created;
    claims += w->replica().counters().claims;
    rounds += w->replica().counters().rounds;
    husks += w->replica().husks();
  }
  EXPECT_EQ(rounds > 0, GetParam().peers);
  EXPECT_EQ(control.fences(), control.fences_sent());
  EXPECT_GT(created, 0u);
  EXPECT_GT(claims, 0u);
  EXPECT_EQ(engine.bindings.count(), records);
  EXPECT_EQ(control.records().size(), records - husks);
  for (uint32_t i = 0; i < 3; ++i)
    EXPECT_EQ(engine.gauges.open(world.server(Family::kV4, i).slot), 0u);
}

}  // namespace
}  // namespace limpet
