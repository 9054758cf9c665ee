// Watch: what the control thread looks at between changes, and tells as events: limits that are
// reached and connections refused because of them, tables that fill, links that come up.
//
// Owner: the control thread. Invariant: everything is looked at ten times a second, or as often as
// a walk over all servers in slices allows. Cost: a slice a tick.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "control/engine/configurator.h"
#include "control/engine/cores.h"
#include "control/engine/reporter.h"
#include "control/engine/sizing.h"

namespace limpet::engine {

class Watch {
 public:
  static constexpr timing::Duration kInterval = timing::milliseconds(100);

  struct Hooks {
    // By port, in their order; null: no devices.
    std::function<bool(uint8_t port)> link_up = [](uint8_t) { return false; };
    // The link of a port came up.
    std::function<void(uint8_t port)> came_up = [](uint8_t) {};
  };

  Watch(const Cores& cores, const Configuration& running, Reporter& reporter, std::string engine,
        const Limits& limits, uint8_t ports, Hooks hooks)
      : cores_(cores),
        running_(running),
        reporter_(reporter),
        engine_(std::move(engine)),
        limits_(limits),
        hooks_(std::move(hooks)),
        link_up_(ports, false),
        busy_(cores.count()) {}

  void tick(timing::Instant now);
  // The persist table, now: one that is full again after a deletion is an event again.
  void watch_table();

  // Share of the last second that a worker was busy, 0..1.
  double busy_ratio(uint32_t core) const { return busy_[core].ratio; }

 private:
  static constexpr std::size_t kServicesPerTick = 512;
  static constexpr std::size_t kServersPerTick = 1024;

  struct Busy {
    uint64_t busy_ns = 0;
    uint64_t idle_ns = 0;
    double ratio = 0;
  };

  void watch_links();
  void watch_flow_tables();
  void watch_busy();
  bool watch_services();
  bool watch_servers();
  void watch_server(const snapshot::Pool& pool, const snapshot::Server& server);
  void watch_source_ports(const snapshot::Pool& pool, const snapshot::Server& server);
  std::string last_reused(const snapshot::Server& server) const;

  const Cores& cores_;
  const Configuration& running_;
  Reporter& reporter_;
  const std::string engine_;
  const Limits limits_;
  const Hooks hooks_;

  timing::Instant watched_;
  timing::Instant busy_at_;
  std::vector<bool> link_up_;  // by port
  std::vector<Busy> busy_;     // by core
  bool table_high_ = false;
  uint64_t merges_refused_ = 0;
  uint64_t flow_table_full_ = 0;
  bool walking_ = false;     // a round over services and servers is not at its end
  std::size_t service_ = 0;  // the next of the snapshot's
  std::size_t pool_ = 0;
  std::size_t server_ = 0;
  std::vector<uint64_t> refused_;    // by VsSlot
  std::vector<uint64_t> exhausted_;  // by ServerSlot
  std::vector<uint64_t> reused_;
  std::vector<bool> at_limit_;
};

}  // namespace limpet::engine
