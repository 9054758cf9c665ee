// Real threads, each with a whole Core and the clients and servers of its frames, while snapshots
// change and the control thread gives them jobs. The sanitizer sees no race; afterwards nothing is
// counted and no buffer, flow or port is left.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "dataplane/packet/headers.h"
#include "dataplane/snapshot/publisher.h"
#include "dataplane/worker/turn.h"
#include "tests/race/shared_time.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using persist::Entry;
using snapshot::ServerState;
using snapshot::Snapshot;

// One core with the clients and servers of its frames, which answer what it sends. IPv4 clients
// keep their addresses and their servers stay up; IPv6 clients are translated, their servers come
// and go.
class CoreWorker {
 public:
  static constexpr uint32_t kClients = 60;

  CoreWorker(support::CoreLab& lab, ring::Mesh<packet::Buffer*>& steered,
             ring::Ring<worker::ControlMessage>& messages, snapshot::Publisher& publisher,
             const SharedTime& time, uint32_t core)
      : lab_(lab),
        core_(lab.core(core)),
        steered_(steered),
        messages_(messages),
        reader_(publisher.reader(core)),
        time_(time),
        random_(core + 77) {}

  void run(uint32_t connections, std::atomic<uint32_t>& busy, const std::atomic<bool>& stop) {
    for (uint32_t made = 0; made < connections; ++made) {
      if (made % 4 == 0) std::this_thread::yield();
      connect();
      turn();
    }
    busy.fetch_sub(1, std::memory_order_relaxed);
    while (!stop.load(std::memory_order_relaxed)) {
      turn();
      std::this_thread::yield();
    }
    reader_.offline();
  }

  // Also after run(), by whoever joined its thread.
  void turn() {
    reader_.online();
    worker::turn(core_, *this);
  }

  // For the turn.
  bool receive() {
    std::vector<support::Bytes> arriving;
    arriving.swap(arriving_);
    for (const support::Bytes& frame : arriving) arrive(frame);
    return !arriving.empty();
  }
  bool collect() {
    bool found = false;
    packet::Buffer* buffers[base::kBurstPacketsMax];
    for (const uint32_t peer : steered_.peers(core_.index())) {
      const uint32_t n = steered_.from(peer).to(core_.index()).pop(std::span(buffers));
      for (uint32_t i = 0; i < n; ++i) core_.collect(buffers[i]);
      found = found || n > 0;
    }
    return found;
  }
  void take() { core_.begin(reader_.take(), time_.now()); }
  void messages() {
    worker::ControlMessage message;
    while (messages_.pop(&message)) core_.message(message);
  }
  // To other cores, and to the far ends.
  void flush() {
    for (const uint32_t peer : steered_.peers(core_.index())) {
      auto& out = core_.steered(peer);
      const uint32_t n =
          steered_.from(core_.index()).to(peer).push(std::span<packet::Buffer* const>(out));
      for (std::size_t i = n; i < out.size(); ++i) packet::release(out[i]);
      out.clear();
    }
    for (uint8_t port = 0; port < 2; ++port) {
      for (packet::Buffer* b : core_.output().tx(port)) {
        react(port, support::bytes(b));
        packet::release(b);
      }
      core_.output().tx(port).clear();
    }
    for (packet::Buffer* b : core_.output().punted()) packet::release(b);
    core_.output().punted().clear();
  }

  // The servers to which this core sent the SYNs of each IPv4 client.
  const std::map<std::string, std::set<std::string>>& servers() const { return servers_; }
  uint32_t established() const { return established_; }

 private:
  void arrive(const support::Bytes& frame) {
    packet::Buffer* b = support::make_buffer(lab_.buffers().pool(), frame);
    if (b == nullptr) return;
    const bool front = support::parts(frame).to_mac == support::kFrontMac;
    const packet::Ingress port =
        front ? packet::Ingress{.port = 0, .mac = support::mac(support::kFrontMac)}
              : packet::Ingress{.port = 1, .mac = support::mac(support::kBackMac)};
    core_.arrive(b, {&port, 1});
  }

  void connect() {
    const bool v4 = random_.below(2) == 0;
    const std::string client =
        (v4 ? "10.1.0." : "fd00:1::") + std::to_string(2 + random_.below(kClients));
    const auto port = static_cast<uint16_t>(1024 + random_.below(60'000));
    const support::Flow up{client, port, v4 ? support::kVip4 : support::kVip6, 80};
    arriving_.push_back(support::tcp(up, packet::kTcpSyn).build());
    if (random_.below(16) == 0) arriving_.push_back(arriving_.back());  // sent again
  }

  // What the far end does about a frame: handshakes, and three of four connections are reset.
  void react(uint8_t port, const support::Bytes& frame) {
    const support::Parts p = support::parts(frame);
    if (p.protocol != packet::kProtocolTcp || (p.tcp_flags & packet::kTcpSyn) == 0) return;
    const support::Flow back{p.destination, p.destination_port, p.source, p.source_port};
    if (port == 1) {
      if (support::address(p.source).is_v4()) servers_[p.source].insert(p.destination);
      auto answer = support::tcp(back, packet::kTcpSyn | packet::kTcpAck);
      answer.to = support::mac(support::kBackMac);
      arriving_.push_back(answer.build());
      return;
    }
    ++established_;
    arriving_.push_back(support::tcp(back, packet::kTcpAck).build());
    if (random_.below(4) != 0) arriving_.push_back(support::tcp(back, packet::kTcpRst).build());
  }

  support::CoreLab& lab_;
  worker::Core& core_;
  ring::Mesh<packet::Buffer*>& steered_;
  ring::Ring<worker::ControlMessage>& messages_;
  snapshot::Reader reader_;
  const SharedTime& time_;
  base::Random random_;
  std::vector<support::Bytes> arriving_;
  std::map<std::string, std::set<std::string>> servers_;
  uint32_t established_ = 0;
};

// One order after the other to every core, each read when it is done: some delete the bindings of
// IPv6 clients, others explain.
class Jobs {
 public:
  explicit Jobs(uint32_t cores) : jobs_(cores) {
    for (uint32_t c = 0; c < cores; ++c) messages.emplace_back(16, std::pmr::new_delete_resource());
  }

  std::vector<ring::Ring<worker::ControlMessage>> messages;  // by core

  void turn() {
    for (uint32_t c = 0; c < jobs_.size(); ++c) {
      if (jobs_[c] != nullptr && !jobs_[c]->done.load(std::memory_order_acquire)) continue;
      if (jobs_[c] != nullptr) ++finished_;
      jobs_[c] = std::make_unique<worker::Job>();
      jobs_[c]->kind =
          ++started_ % 4 == 0 ? worker::Job::Kind::kDelete : worker::Job::Kind::kExplain;
      jobs_[c]->filter.scopes = {false, true};
      jobs_[c]->client = support::address("fd00:1::2");
      jobs_[c]->vip = support::address(support::kVip6);
      jobs_[c]->protocol = packet::kProtocolTcp;
      jobs_[c]->vip_port = 80;
      messages[c].push({.kind = worker::ControlMessage::Kind::kJob, .job = jobs_[c].get()});
    }
  }
  uint32_t finished() const { return finished_; }

 private:
  std::vector<std::unique_ptr<worker::Job>> jobs_;
  uint32_t started_ = 0;
  uint32_t finished_ = 0;
};

TEST(CoreRace, ClientsKeepTheirServersAndNothingLeaks) {
  constexpr uint32_t kCores = 3;
  constexpr uint32_t kConnections = 10'000;  // of each core
  support::CoreLab lab({.cores = kCores, .flows = 8192, .entries = 8192, .buffers = 4096});
  support::World& world = lab.world;
  world.vs(Family::kV4).preserve_client = true;
  for (auto& s : world.pool(Family::kV4).servers) s.sources.clear();
  uint64_t version = lab.running().version;
  const auto next = [&] {
    world.index();
    auto s = std::make_shared<Snapshot>(*world.snapshot);
    s->version = ++version;
    return s;
  };
  snapshot::Publisher publisher(next(), kCores);
  SharedTime time;
  time.advance(lab.clock.now() - time.now());
  ring::Mesh<packet::Buffer*> steered(kCores, 64, std::pmr::new_delete_resource());
  Jobs jobs(kCores);
  std::vector<std::unique_ptr<CoreWorker>> workers;
  for (uint32_t c = 0; c < kCores; ++c)
    workers.push_back(
        std::make_unique<CoreWorker>(lab, steered, jobs.messages[c], publisher, time, c));
  const auto drain_news = [&] {
    binding::Change change;
    for (auto& ring : lab.shared().rings.news) {
      while (ring.pop(&change)) {
      }
    }
  };

  std::atomic<uint32_t> busy{kCores};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (auto& w : workers) threads.emplace_back([&] { w->run(kConnections, busy, stop); });
  base::Random random(5);
  for (uint64_t turn = 0; busy.load(std::memory_order_relaxed) > 0; ++turn) {
    // Far from the ten seconds after which a binding without a handshake ends.
    time.advance(timing::Duration{20'000});
    drain_news();
    jobs.turn();
    if (turn % 32 == 0 && publisher.can_publish()) {
      auto& server = world.server(Family::kV6, random.below(3));
      server.state = random.below(3) == 0 ? ServerState::kDown : ServerState::kUp;
      server.connections_max = random.below(4) == 0 ? 50 : 0;
      publisher.publish(next());
    }
    std::this_thread::yield();
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  EXPECT_GT(jobs.finished(), 0u);

  std::map<std::string, std::set<std::string>> servers;
  uint32_t established = 0;
  for (auto& w : workers) {
    established += w->established();
    for (const auto& [client, of] : w->servers()) servers[client].insert(of.begin(), of.end());
  }
  EXPECT_GT(established, kConnections);
  EXPECT_EQ(servers.size(), CoreWorker::kClients);
  for (const auto& [client, of] : servers) EXPECT_EQ(of.size(), 1u) << client;

  const auto run = [&](int turns) {
    for (int i = 0; i < turns; ++i) {
      for (auto& w : workers) w->turn();
      drain_news();
    }
  };
  run(1'000);
  uint32_t records = 0;
  for (uint32_t c = 0; c < kCores; ++c) {
    persist::Table& table = lab.core(c).table();
    records += table.records();
    EXPECT_EQ(lab.core(c).forwarder().pen().size(), 0u);
    for (uint32_t at = 0; at < table.places(); ++at) {
      const Entry* entry = table.entry_at(at);
      if (entry == nullptr) continue;
      const uint32_t home = lab.core(c).replica().home_of(entry->scope, entry->key);
      const Entry* record = lab.core(home).table().find(entry->scope, entry->key);
      ASSERT_NE(record, nullptr);
      EXPECT_EQ(record->serial, entry->serial);
      EXPECT_EQ(record->change, entry->change);
      EXPECT_EQ(record->server, entry->server);
    }
  }
  EXPECT_EQ(lab.shared().bindings.count(), records);

  // Connections that nobody closed end by their idle timeout, bindings after theirs.
  for (int i = 0; i < 80; ++i) {
    time.advance(timing::seconds(10));
    run(200);
  }
  EXPECT_EQ(lab.shared().bindings.count(), 0u);
  for (uint32_t c = 0; c < kCores; ++c) {
    EXPECT_EQ(lab.core(c).table().size(), 0u);
    EXPECT_EQ(lab.core(c).forwarder().flows().size(), 0u);
  }
  for (const Family f : {Family::kV4, Family::kV6}) {
    for (uint32_t i = 0; i < 3; ++i)
      EXPECT_EQ(lab.shared().gauges.open(world.server(f, i).slot), 0u);
  }
  EXPECT_EQ(lab.buffers().in_use(), 0u);
  EXPECT_EQ(lab.ports_in_use(), 0u);
}

}  // namespace
}  // namespace limpet
