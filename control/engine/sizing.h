// Sizing: the limits of the data plane: as the bootstrap sets them, or derived from memory.size_mb;
// and what they need.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/result.h"
#include "control/config/bootstrap.h"
#include "dataplane/port/memory.h"
#include "dataplane/port/pool.h"

namespace limpet::engine {

inline constexpr uint32_t kDatagramsMax = 1024;  // being reassembled, on each core

struct Limits {
  uint32_t entries = 0;  // persist entries, over all cores
  uint32_t flows_per_worker = 0;
  uint32_t buffers = 0;
};

// What is not configured is shared out from size_mb: a quarter for packet buffers, the rest for
// flows and entries, each at most what its default would be on a large machine.
Limits resolve_limits(const config::Bootstrap& bootstrap);

// One row a table.
std::vector<port::MemoryNeed> memory_needs(const config::Bootstrap& bootstrap,
                                           const Limits& limits);

// Whether memory.size_mb holds what resolve_limits() gives; the error lists what needs how much.
base::Status check_memory(const config::Bootstrap& bootstrap);

port::BufferPoolOptions pool_options(const config::Bootstrap& bootstrap, const Limits& limits);

}  // namespace limpet::engine
