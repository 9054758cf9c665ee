// EngineLab: the parts of the control thread on the simulator's cores, by hand: nothing happens
// aside, on a core or in time until a test says so. The world is that of a document: virtual
// services of UDP on 10.1.0.100 and after, servers 10.2.0.2 and after.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "control/engine/changes.h"
#include "control/engine/deletions.h"
#include "control/engine/entries.h"
#include "control/engine/explainer.h"
#include "control/engine/home_rings.h"
#include "control/engine/news.h"
#include "control/engine/ownership.h"
#include "control/engine/questions.h"
#include "control/engine/retirement.h"
#include "control/engine/views.h"
#include "control/engine/watch.h"
#include "dataplane/packet/headers.h"
#include "tests/sim/engine.h"
#include "tests/support/core_lab.h"
#include "tests/support/frames.h"

namespace limpet::engine {

class ManualAside final : public Aside {
 public:
  void run(std::function<void()> work, std::function<void()> done) override {
    waiting_.push_back({std::move(work), std::move(done)});
  }
  // The oldest piece of work; its end is told by tell().
  void work() {
    waiting_.front().first();
    waiting_.front().first = nullptr;
    done_.push_back(std::move(waiting_.front().second));
    waiting_.pop_front();
  }
  void tell() {
    const auto done = std::move(done_.front());
    done_.pop_front();
    done();
  }
  void finish() {
    while (!waiting_.empty() || !done_.empty()) {
      if (!waiting_.empty()) work();
      if (!done_.empty()) tell();
    }
  }
  std::size_t waiting() const { return waiting_.size(); }

 private:
  std::deque<std::pair<std::function<void()>, std::function<void()>>> waiting_;
  std::deque<std::function<void()>> done_;
};

// What a document of a test says.
struct DocumentOptions {
  uint32_t services = 1;
  uint32_t servers = 3;  // of each pool
  uint32_t timeout_s = 60;
  std::string first_server = "10.2.0.2";
  std::string pool_more;     // further fields, with a comma in front
  std::string service_more;  // the same
  std::string client_more;   // the same, of what says how clients are told apart
  std::string objects;       // further models, with a comma behind
};

inline std::string document(const DocumentOptions& o = {}) {
  std::string pools;
  std::string services;
  net::Address server = *net::Address::parse(o.first_server);
  net::Address vip = *net::Address::parse("10.1.0.100");
  for (uint32_t i = 0; i < o.services; ++i) {
    std::string servers;
    for (uint32_t n = 0; n < o.servers; ++n, server = server.next()) {
      servers += fmt::format(R"({}{{"ip": {{"addr": "{}", "type": "V4"}}}})", n == 0 ? "" : ",",
                             server.to_string());
    }
    const char* comma = i == 0 ? "" : ",";
    pools += fmt::format(
        R"({}{{"name": "pool{}", "default_server_port": 80, "lb_algorithm":
            "LB_ALGORITHM_ROUND_ROBIN", "application_persistence_profile_ref":
            "/api/applicationpersistenceprofile/?name=sticky", "servers": [{}]{}}})",
        comma, i, servers, o.pool_more);
    services += fmt::format(
        R"({}{{"name": "web{}", "services": [{{"port": 80}}], "vip": [{{"vip_id": "0",
            "ip_address": {{"addr": "{}", "type": "V4"}}}}], "pool_ref": "/api/pool/?name=pool{}",
            "application_profile_ref": "/api/applicationprofile/?name=System-L4-Application",
            "network_profile_ref": "/api/networkprofile/?name=System-UDP-Fast-Path"{}}})",
        comma, i, vip.to_string(), i, o.service_more);
    vip = vip.next();
  }
  return fmt::format(
      R"({{{}"ApplicationPersistenceProfile": [{{"name": "sticky", "persistence_type":
            "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS", "ip_persistence_profile":
            {{"timeout_seconds": {}{}}}}}], "Pool": [{}], "VirtualService": [{}]}})",
      o.objects, o.timeout_s, o.client_more, pools, services);
}

inline sim::Shape lab_shape(uint32_t cores, uint32_t entries, bool peers) {
  sim::Shape shape;
  shape.cores = cores;
  shape.limit = entries;
  shape.peers = peers;
  shape.rings = replication::Rings::Capacity::for_cores(cores);
  return shape;
}

inline Surroundings lab_surroundings(std::vector<std::string> peers) {
  Surroundings around;
  around.engine = "se1";
  around.peers = std::move(peers);
  around.ports = {
      {.name = "front",
       .index = 0,
       .mac = support::mac(support::kEngineMac),
       .addresses = {*net::Prefix::parse("10.1.0.1/16"), *net::Prefix::parse("fd00:1::1/64")}},
      {.name = "back",
       .index = 1,
       .mac = support::mac("02:00:00:00:00:02"),
       .addresses = {*net::Prefix::parse("10.2.0.1/16"), *net::Prefix::parse("fd00:2::1/64")}}};
  return around;
}

class EngineLab {
 public:
  struct Options {
    uint32_t cores = 2;
    uint32_t entries = 64;
    std::vector<std::string> peers;
    bool stores = false;
  };
  explicit EngineLab(const Options& o)
      : around(lab_surroundings(o.peers)),
        cores(lab_shape(o.cores, o.entries, !o.peers.empty()), clock, random),
        rings(cores.shared().rings, cores.shared().hash, o.entries),
        exchange({.entries = o.entries,
                  .surplus = 1024,
                  .peers = static_cast<uint32_t>(o.peers.size()),
                  .node = binding::Maker::number_of_control(0),
                  .wall_origin = sim::kWallOrigin},
                 rings, cores.shared().hash, std::pmr::get_default_resource()),
        changes(cores, helper, disk, spare, around, Configuration::empty(around), clock,
                hooks(o.stores)),
        questions(cores),
        news(cores, exchange, clock, [](const auto&, timing::Instant) {}),
        entries(questions, exchange.mirror(), changes.running(), clock,
                {[this] { news.read(); }, [](binding::Stamp) { return "se1"; }}),
        deletions(cores, questions, exchange, clock, deletion_hooks(o.peers)),
        explainer(questions, entries, changes.running(), cores.shared().gauges, {4, 7}, clock),
        retirement(cores, changes, exchange.mirror(),
                   {[](compile::NatBlock) { return 0; }, [](compile::NatBlock) {}}),
        watch(cores, changes.running(), reporter, "se1", limits_of(o), 2,
              {[this](uint8_t port) { return links[port]; },
               [this](uint8_t port) { came_up.push_back(port); }}),
        views({"se1", "1.0", {4, 7}}, cores, spare, changes, retirement, watch, exchange.mirror(),
              clock, limits_of(o),
              {[this] { return ports; }, [this](std::size_t port) { return device_drops[port]; },
               [] { return std::vector<api::ReasonCount>{}; }, [](api::StatusView*) {},
               [](api::MetricsView*) {}}) {
    cores.publish(changes.running().snapshot);
    turn();
  }
  EngineLab() : EngineLab(Options{}) {}

  timing::ManualClock clock{timing::Instant{1'000'000'000}, sim::kWallOrigin};
  base::Random random{1};
  ManualAside helper;
  ManualAside disk;
  ManualAside spare;
  std::ostringstream log;
  telemetry::EventLog events{&log};
  Reporter reporter{events, clock};
  Surroundings around;
  std::vector<bool> links{false, false};
  std::vector<api::PortStatus> ports;                // of the status
  std::array<packet::DropCounts, 2> device_drops{};  // by port
  std::vector<uint8_t> came_up;
  base::Status stored = base::Done{};  // what the disk answers
  std::vector<std::string> documents_stored;
  std::vector<std::string> marks_stored;
  std::vector<std::string> applied;  // what has been, in order
  sim::Engine cores;
  MergeRings rings;
  mirroring::Exchange exchange;
  Changes changes;
  Questions questions;
  News news;
  Entries entries;
  Deletions deletions;
  Explainer explainer;
  Retirement retirement;
  Watch watch;
  Views views;

  const Configuration& running() const { return changes.running(); }

  // A turn of one core, or of all.
  void turn(uint32_t core) {
    do {
      cores.step(
          core, [](const support::Bytes&) {},
          [this](const sim::Leaving& frame) { sent.push_back(frame); });
    } while (cores.stage(core) != sim::Stage::kReceive);
  }
  void turn() {
    for (uint32_t c = 0; c < cores.cores(); ++c) turn(c);
  }
  // What the control thread does in a turn of its loop.
  void tick() {
    changes.tick();
    news.read();
    exchange.tick(clock.now());
    questions.tick();
    entries.tick();
    deletions.tick();
    retirement.tick(clock.now());
    watch.tick(clock.now());
    views.tick();
    reporter.tick();
  }
  // Until nothing more comes of it.
  void settle() {
    for (int i = 0; i < 12; ++i) {
      tick();
      turn();
      helper.finish();
      disk.finish();
      spare.finish();
    }
  }
  void advance(timing::Duration by) {
    clock.advance(by);
    settle();
  }

  // Has it carried out; whether it was applied.
  bool change(Change what) {
    std::optional<bool> done;
    changes.add({.change = std::move(what),
                 .applied = [&](const Prepared&) { done = true; },
                 .refused =
                     [&](const Refused& refused) {
                       last_refused = refused;
                       done = false;
                     }});
    settle();
    EXPECT_TRUE(done.has_value()) << "not answered";
    return done.value_or(false);
  }
  bool put(std::string text, bool if_serving = false) {
    return change(PutDocument{std::move(text), if_serving});
  }
  bool mark(const std::string& pool, const std::string& server, const std::string& status) {
    return change(SetMarks{fmt::format(R"([{{"pool": "{}", "server": "{}", "oper_status": "{}"}}])",
                                       pool, server, status)});
  }
  // All cores take the newest snapshot; none comes to the end of its turn, where it sweeps.
  void take_without_sweeping() {
    for (uint32_t c = 0; c < cores.cores(); ++c) {
      while (cores.stage(c) != sim::Stage::kDrain)
        cores.step(
            c, [](const auto&) {}, [](const auto&) {});
    }
  }
  Refused last_refused;

  // A datagram of a client to a VIP, by a core's device; which server it went to, "" if none.
  std::string datagram(const std::string& client, const std::string& vip = "10.1.0.100",
                       uint32_t core = 0) {
    for (const config::Pool& pool : running().document->document.pools) {
      for (const config::Server& server : pool.servers) know(server.address);
    }
    sent.clear();
    cores.arrive(core, {0, support::udp({client, 5000, vip, 80}).build()});
    settle();
    return sent.empty() ? "" : support::parts(sent.back().bytes).destination;
  }

  // The server answers what was sent last.
  void answer() {
    const support::Parts p = support::parts(sent.back().bytes);
    support::Frame reply =
        support::udp({p.destination, p.destination_port, p.source, p.source_port});
    reply.to = support::mac("02:00:00:00:00:02");
    for (uint32_t core = 0; core < cores.cores(); ++core) {
      if (egress::PortSlice::owner(p.source_port, cores.cores()) == core)
        cores.arrive(core, {1, reply.build()});
    }
    settle();
  }

  api::EntryPage list(const api::EntryFilter& filter = {}, const api::PageRequest& page = {}) {
    std::optional<api::Outcome<api::EntryPage>> out;
    entries.list(filter, page, [&](api::Outcome<api::EntryPage> o) { out = std::move(o); });
    settle();
    EXPECT_TRUE(out && std::holds_alternative<api::EntryPage>(*out));
    return out && std::holds_alternative<api::EntryPage>(*out) ? std::get<api::EntryPage>(*out)
                                                               : api::EntryPage{};
  }

  std::vector<sim::Leaving> sent;

 private:
  Limits limits_of(const Options& o) const {
    return {.entries = o.entries, .flows_per_worker = 64, .buffers = 64};
  }
  void know(const net::Address& server) {
    worker::ControlMessage m;
    m.neighbor.port = 1;
    m.neighbor.address = server;
    m.neighbor.mac = support::mac("02:00:00:00:02:02");
    m.neighbor.valid = true;
    questions.send_all(m);
  }
  Changes::Hooks hooks(bool stores) {
    Changes::Hooks out;
    out.publishing = [this](Prepared& prepared) {
      std::vector<mirroring::Exchange::Scope> scopes;
      for (const snapshot::Scope& s : prepared.next.snapshot->scopes) {
        if (s.live) scopes.push_back({s.id, s.slot, s.mirrored, s.timeout});
      }
      exchange.use(scopes, prepared.next.snapshot->version, clock.now());
    };
    out.applied = [this](const Change& change, const Prepared&) {
      const char* names[] = {"document", "marks", "recompiled", "owned"};
      applied.emplace_back(names[change.index()]);
    };
    if (stores) {
      out.store = [this](const std::string* text, const std::string* marks) {
        if (text != nullptr) documents_stored.push_back(*text);
        if (marks != nullptr) marks_stored.push_back(*marks);
        return stored;
      };
    }
    return out;
  }
  Deletions::Hooks deletion_hooks(const std::vector<std::string>& peers) {
    Deletions::Hooks out{.snapshot = [this] { return changes.running().snapshot; },
                         .read_news = [this] { news.read(); }};
    if (!peers.empty()) out.peer_name = [peers](mirroring::PeerIndex p) { return peers[p.value]; };
    return out;
  }
};

}  // namespace limpet::engine
