// Views: what status and metrics say, made when they are asked for. The control thread reads the
// numbers, in slices: with fifty thousand servers all at once would be far too long a step. The
// rows are made of them aside: so many pieces of memory hold up whoever makes or frees them.
// Nothing here is computed without being asked for, but the small view of DPDK's telemetry.
//
// Owner: the control thread. Invariants
//  1. A view is of one configuration, the one that ran when its making began.
//  2. Views are made one after another, in the order in which they were asked for; what is asked
//     for while one of the same kind waits is answered with it.
// Cost: a tick reads the counters of at most kPerTick services and servers.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "control/api/backend.h"
#include "control/api/telemetry.h"
#include "control/engine/aside.h"
#include "control/engine/changes.h"
#include "control/engine/retirement.h"
#include "control/engine/watch.h"
#include "control/mirroring/mirror.h"

namespace limpet::engine {

// What views ask those who are not here always: devices, peers, disk.
struct ViewSources {
  std::function<std::vector<api::PortStatus>()> ports;          // but for drops
  std::function<packet::DropCounts(std::size_t)> device_drops;  // by port
  std::function<std::vector<api::ReasonCount>()> drops;  // of all: devices, cores, control thread
  std::function<void(api::StatusView*)> add_status;
  std::function<void(api::MetricsView*)> add_metrics;
};

class Views {
 public:
  static constexpr std::size_t kPerTick = 1024;

  struct Names {
    std::string engine;
    std::string version;
    std::vector<uint32_t> worker_cores;
  };

  Views(Names names, const Cores& cores, Aside& aside, const Changes& changes,
        const Retirement& retirement, const Watch& watch, const mirroring::Mirror& mirror,
        const timing::Clock& clock, const Limits& limits, ViewSources sources)
      : names_(std::move(names)),
        cores_(cores),
        aside_(aside),
        changes_(changes),
        retirement_(retirement),
        watch_(watch),
        mirror_(mirror),
        clock_(clock),
        started_(clock.now()),
        limits_(limits),
        sources_(std::move(sources)) {}

  void status(api::Answer<api::StatusView> answer);
  void metrics(api::Answer<api::MetricsView> answer);
  void tick();
  // One is being made of a configuration that does not run any more, whose slots must keep their
  // owners until then.
  bool is_behind() const {
    return !making_.empty() && making_.front()->has_begun() &&
           making_.front()->inventory != changes_.running().inventory;
  }

  api::TelemetryView telemetry() const;

 private:
  struct ServiceNumbers {
    uint64_t connections = 0;
    uint64_t connections_total = 0;
    uint64_t entries = 0;
  };
  struct ServerNumbers {
    uint64_t connections = 0;
    uint64_t connections_total = 0;
    uint64_t entries = 0;
    uint64_t snat_exhausted = 0;
    uint64_t snat_reused = 0;
    uint64_t over_limit = 0;
  };
  // A view in the making.
  struct Making {
    std::vector<api::Answer<api::StatusView>> status_answers{};
    std::vector<api::Answer<api::MetricsView>> metrics_answers{};
    api::StatusView status{};    // what is of no service or server; then all
    api::MetricsView metrics{};  // the same
    // For those who asked after the first.
    std::vector<api::StatusView> more_statuses{};
    std::vector<api::MetricsView> more_metrics{};
    std::shared_ptr<const config::Parsed> document{};
    std::shared_ptr<const Inventory> inventory{};
    std::vector<ServiceNumbers> services{};   // as the document has them
    std::vector<std::size_t> first_server{};  // by pool: index into `servers`
    std::vector<ServerNumbers> servers{};     // of all pools, one after another
    std::size_t pool = 0;                     // where reading goes on
    bool complete = false;                    // read; the rows are being made

    bool is_status() const { return !status_answers.empty(); }
    bool has_begun() const { return document != nullptr; }
  };

  void begin(Making* making) const;
  api::StatusView begin_status() const;
  api::MetricsView begin_metrics() const;
  // A slice; true when all is read.
  bool read(Making* making) const;
  ServiceNumbers read(const Inventory::Service& service) const;
  ServerNumbers read(const config::Server& from, const Inventory::Server& server) const;
  // Aside: the rows.
  static void add_rows(Making* making, api::StatusView* view);
  static void add_rows(Making* making, api::MetricsView* view);
  api::LookupCounts lookups(uint32_t worker) const;
  uint64_t open(snapshot::VsSlot slot) const;
  uint64_t open(snapshot::ServerSlot slot) const;
  uint64_t uptime_s() const {
    return static_cast<uint64_t>((clock_.now() - started_) / timing::seconds(1));
  }

  const Names names_;
  const Cores& cores_;
  Aside& aside_;
  const Changes& changes_;
  const Retirement& retirement_;
  const Watch& watch_;
  const mirroring::Mirror& mirror_;
  const timing::Clock& clock_;
  const timing::Instant started_;
  const Limits limits_;
  const ViewSources sources_;
  std::deque<std::shared_ptr<Making>> making_;
};

}  // namespace limpet::engine
