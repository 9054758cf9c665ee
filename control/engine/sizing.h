// Sizing: the limits of the data plane: as the bootstrap sets them, or derived from memory.size_mb;
// and what they need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/base/limits.h"
#include "common/base/result.h"
#include "control/config/bootstrap.h"
#include "dataplane/packet/reassembler.h"
#include "dataplane/port/memory.h"
#include "dataplane/port/pool.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::engine {

struct Limits {
  uint32_t entries = 0;  // persist entries, over all cores
  uint32_t flows_per_worker = 0;
  uint32_t buffers = 0;
  uint32_t parked_per_worker = 0;  // packets that wait for a home: of the buffers
};

// What is not configured is shared out from size_mb: a quarter for packet buffers, the rest for
// flows and entries, each at most what its default would be on a large machine. Source ports get
// what is left, for which a sixteenth is left out. A quarter of the buffers may be parked, over all
// workers: the others are for queues and rings.
Limits resolve_limits(const config::Bootstrap& bootstrap);

// One row a table.
std::vector<port::MemoryNeed> memory_needs(const config::Bootstrap& bootstrap,
                                           const Limits& limits);

// Whether memory.size_mb holds what resolve_limits() gives; the error lists what needs how much.
base::Status check_memory(const config::Bootstrap& bootstrap);

// Memory for source ports. A block is the ports of one source address towards one server by one
// protocol, on all cores. All of it counts, though one that few connect through is hardly touched:
// how many connections there will be is not ours to say, and memory that is promised twice is
// missing under load.
struct SourcePortShare {
  std::size_t blocks_max = base::kNatIdsMax;
  uint64_t block_bytes = 0;
};

// What the limits leave of memory.size_mb.
SourcePortShare source_port_share(const config::Bootstrap& bootstrap);

// How many blocks a snapshot needs. Pools that have a server in common share its blocks.
std::size_t source_port_blocks(const snapshot::Snapshot& snapshot);

// Whether a document that needs this many blocks can be served; the error says what they need, what
// there is, and what to raise.
base::Status check_source_ports(const SourcePortShare& share, std::size_t blocks);

// Of each core's. Pieces that wait for others have a quarter of all buffers, if that is enough for
// a datagram on each core.
packet::Reassembler::Options reassembly_options(uint32_t workers, const Limits& limits);

port::BufferPoolOptions pool_options(const config::Bootstrap& bootstrap, const Limits& limits);

}  // namespace limpet::engine
