// Views: what status and metrics say, made when they are asked for, in slices: with fifty thousand
// servers one takes far longer than a step of the control thread may. Nothing here is computed
// without being asked for, but the small view of DPDK's telemetry.
//
// Owner: the control thread. Invariants
//  1. A view is of one configuration, the one that ran when its making began.
//  2. Views are made one after another, in the order in which they were asked for; what is asked
//     for while one of the same kind waits is answered with it.
// Cost: a tick makes the rows of at most kServersPerTick servers.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "control/api/backend.h"
#include "control/api/telemetry.h"
#include "control/engine/changes.h"
#include "control/engine/retirement.h"
#include "control/engine/watch.h"
#include "control/mirroring/mirror.h"

namespace limpet::engine {

// What views ask those who are not here always: devices, peers, disk.
struct ViewSources {
  std::function<std::vector<api::PortStatus>()> ports;  // but for what cores count
  std::function<void(api::StatusView*)> add_status;
  std::function<void(api::MetricsView*)> add_metrics;
};

class Views {
 public:
  static constexpr std::size_t kServersPerTick = 1024;

  struct Names {
    std::string engine;
    std::string version;
    std::vector<uint32_t> worker_cores;
  };

  Views(Names names, const Cores& cores, const Changes& changes, const Retirement& retirement,
        const Watch& watch, const mirroring::Mirror& mirror, const timing::Clock& clock,
        const Limits& limits, ViewSources sources)
      : names_(std::move(names)),
        cores_(cores),
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
  // None is being made: slots may be given to others.
  bool idle() const { return making_.empty(); }

  api::TelemetryView telemetry() const;

 private:
  // A view in the making.
  struct Making {
    std::variant<std::monostate, api::StatusView, api::MetricsView> view{};
    std::shared_ptr<const config::Parsed> document{};
    std::shared_ptr<const Inventory> inventory{};
    std::size_t service = 0;
    std::size_t pool = 0;
    std::size_t server = 0;
    std::vector<api::Answer<api::StatusView>> status_answers{};
    std::vector<api::Answer<api::MetricsView>> metrics_answers{};

    bool is_status() const { return !status_answers.empty(); }
  };

  void begin(Making* making) const;
  api::StatusView begin_status() const;
  api::MetricsView begin_metrics() const;
  // A slice; true when it is complete.
  bool go_on(Making* making, api::StatusView* view) const;
  bool go_on(Making* making, api::MetricsView* view) const;
  bool add_service_metrics(Making* making, api::MetricsView* view, std::size_t* left) const;
  api::ServerStatus server_status(const Making& making, std::size_t pool, std::size_t index) const;
  api::ServerMetrics server_metrics(const Making& making, std::size_t pool,
                                    std::size_t index) const;
  api::VirtualServiceStatus service_status(const Making& making) const;
  api::LookupCounts lookups(uint32_t worker) const;
  std::vector<api::ReasonCount> drops() const;
  uint64_t open(snapshot::VsSlot slot) const;
  uint64_t open(snapshot::ServerSlot slot) const;
  uint64_t uptime_s() const {
    return static_cast<uint64_t>((clock_.now() - started_) / timing::seconds(1));
  }

  const Names names_;
  const Cores& cores_;
  const Changes& changes_;
  const Retirement& retirement_;
  const Watch& watch_;
  const mirroring::Mirror& mirror_;
  const timing::Clock& clock_;
  const timing::Instant started_;
  const Limits limits_;
  const ViewSources sources_;
  std::deque<Making> making_;
};

}  // namespace limpet::engine
