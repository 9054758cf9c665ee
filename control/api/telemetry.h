// DPDK telemetry: /limpet/status, /limpet/drops and /limpet/persistence for dpdk-telemetry.py and
// whoever reads DPDK's socket.
//
// Threads: DPDK runs the callbacks on threads of its own, and gives them no argument. So they read
// the views published last, through one shared, locked pointer; the control thread publishes new
// ones each second and never waits for more than the copy of a pointer.
#pragma once

#include "common/base/result.h"
#include "control/api/backend.h"

namespace limpet::api {

// Registers the three commands; once per process, after EAL's start.
base::Status register_telemetry();

// Replaces what the commands answer. Any thread.
void publish_telemetry(StatusView status, MetricsView metrics);

}  // namespace limpet::api
