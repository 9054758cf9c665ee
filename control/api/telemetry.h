// DPDK telemetry: /limpet/status, /limpet/drops and /limpet/persistence for dpdk-telemetry.py and
// whoever reads DPDK's socket.
//
// Threads: DPDK runs the callbacks on threads of its own, and gives them no argument. So they read
// the view published last, through one shared, locked pointer; the control thread publishes a new
// one each second and never waits for more than the copy of a pointer.
//
// The view has nothing for each virtual service or server, so what it costs each second, asked for
// or not, does not grow with the document.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "control/api/backend.h"

namespace limpet::api {

// Registers the three commands; once per process, after EAL's start.
base::Status register_telemetry();

struct TelemetryPort {
  std::string name;
  std::string mac;
  bool link_up = false;
  uint64_t rx_packets = 0;
  uint64_t tx_packets = 0;
};

// What the three commands answer. Counters count from the engine's start.
struct TelemetryView {
  std::string name;
  std::string version;
  uint64_t generation = 0;
  uint64_t uptime_s = 0;
  std::vector<TelemetryPort> ports;
  std::vector<WorkerStatus> workers;
  uint64_t virtual_services = 0;
  uint64_t virtual_services_up = 0;
  uint64_t connections = 0;  // open now, of all virtual services

  std::vector<ReasonCount> drops;  // over all ports and workers

  uint64_t entries = 0;
  uint64_t entries_max = 0;
  uint64_t entry_bytes = 0;
  LookupCounts lookups;  // of all workers
  std::vector<ReasonCount> evictions;
};

// Replaces what the commands answer. Any thread.
void publish_telemetry(TelemetryView view);

}  // namespace limpet::api
