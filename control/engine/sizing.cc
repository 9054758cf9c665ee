#include "control/engine/sizing.h"

#include <fmt/core.h>

#include <algorithm>
#include <unordered_set>

#include "control/mirroring/exchange.h"
#include "dataplane/egress/source_ports.h"
#include "dataplane/l4/flow_table.h"
#include "dataplane/l4/forwarder.h"
#include "dataplane/persist/table.h"
#include "dataplane/worker/loop.h"

namespace limpet::engine {
namespace {

constexpr uint32_t kEntriesDefaultMax = 1u << 20;
constexpr uint32_t kFlowsDefaultMax = 1u << 20;
constexpr uint32_t kBuffersDefaultMax = 1u << 16;
constexpr uint32_t kGrain = 1024;
constexpr uint32_t kParkedMin = 16;
// With fewer an engine could not serve anything worth the name.
constexpr std::size_t kSourcePortBlocksMin = 16;

// How many records of `bytes` fit a budget, in steps of kGrain, at least one step.
uint32_t fitting(uint64_t budget, uint64_t bytes, uint32_t max) {
  const uint64_t n = std::min<uint64_t>(budget / bytes, max) / kGrain * kGrain;
  return static_cast<uint32_t>(std::max<uint64_t>(n, kGrain));
}

// Per-core tables whose size no limit of the operator's sets.
uint64_t fixed_bytes_per_core(const Limits& limits) {
  return affinity::Pen::bytes_for(limits.parked_per_worker) +
         base::kServersMax *
             (sizeof(balance::Load) + sizeof(balance::Turn) + sizeof(l4::ServerCounters)) +
         base::kVirtualServicesMax * sizeof(l4::VsCounters) + base::kNatIdsMax * sizeof(void*) +
         base::kNeighborsMax * 64;
}

uint32_t peers_of(const config::Bootstrap& bootstrap) {
  return bootstrap.mirroring ? static_cast<uint32_t>(bootstrap.mirroring->peers.size()) : 0;
}

// Whether homes keep activity: for peers, or for the disk.
bool keeps_activity(const config::Bootstrap& bootstrap) {
  return peers_of(bootstrap) > 0 || bootstrap.state_directory.has_value();
}

// What a worker's share of the persist table takes.
uint64_t table_bytes(const config::Bootstrap& bootstrap, const Limits& limits) {
  const auto workers = static_cast<uint32_t>(bootstrap.worker_cores.size());
  const auto rings = replication::Rings::Capacity::for_cores(workers);
  const uint64_t tombstones =
      peers_of(bootstrap) == 0 ? 0
                               : persist::Tombstones::bytes_for(
                                     replication::Replica::tombstones_of(workers, limits.entries));
  const uint64_t closes =
      keeps_activity(bootstrap)
          ? replication::Closes::bytes_for(replication::Replica::closes_of(workers, limits.entries))
          : 0;
  return tombstones + closes +
         persist::Table::bytes_for(replication::Replica::capacity_of(workers, rings, limits.entries,
                                                                     keeps_activity(bootstrap)));
}

// Of one source address, protocol and server, over all cores.
uint64_t source_port_block_bytes(const config::Bootstrap& bootstrap) {
  return egress::SourcePorts::bytes_for(static_cast<uint32_t>(bootstrap.worker_cores.size()));
}

uint64_t megabytes(uint64_t bytes) {
  return (bytes + (1u << 20) - 1) >> 20;
}

}  // namespace

packet::Reassembler::Options reassembly_options(uint32_t workers, const Limits& limits) {
  constexpr uint32_t kPiecesMax = 8192;
  return {.datagrams_max = 1024,
          .pieces_max =
              std::clamp(limits.buffers / 4 / workers, packet::Reassembler::kPiecesMax, kPiecesMax),
          .timeout = timing::seconds(2)};
}

port::BufferPoolOptions pool_options(const config::Bootstrap& bootstrap, const Limits& limits) {
  port::BufferPoolOptions options;
  options.buffers = limits.buffers;
  options.lcores = static_cast<uint32_t>(bootstrap.worker_cores.size()) + 1;
  for (const config::PortOptions& p : bootstrap.ports)
    options.mtu_max = std::max(options.mtu_max, p.mtu);
  return options;
}

Limits resolve_limits(const config::Bootstrap& bootstrap) {
  const uint64_t all = uint64_t{bootstrap.memory.size_mb} << 20;
  const uint64_t workers = bootstrap.worker_cores.size();
  const uint64_t per_buffer =
      port::BufferPool::bytes_for(pool_options(bootstrap, {.buffers = kGrain})) / kGrain;
  Limits out;
  out.buffers =
      bootstrap.limits.packet_buffers.value_or(fitting(all / 4, per_buffer, kBuffersDefaultMax));
  out.parked_per_worker = static_cast<uint32_t>(
      std::clamp<uint64_t>(out.buffers / 4 / workers, kParkedMin, affinity::Pen::kPackets));
  out.flows_per_worker = bootstrap.limits.flows_per_worker.value_or(
      fitting(all * 5 / 16 / workers, l4::FlowTable::bytes_for(kGrain) / kGrain, kFlowsDefaultMax));
  const uint32_t peers = peers_of(bootstrap);
  const uint64_t per_entry =
      (workers * persist::Table::bytes_for({.entries = kGrain, .homes = 0}) +
       persist::Table::bytes_for(
           {.entries = 0, .homes = kGrain, .activity = keeps_activity(bootstrap)}) +
       (keeps_activity(bootstrap) ? replication::Closes::bytes_for(kGrain) : 0) +
       (peers > 0 ? persist::Tombstones::bytes_for(kGrain / 4) : 0) +
       mirroring::Exchange::bytes_for({.entries = kGrain, .peers = peers})) /
      kGrain;
  out.entries = bootstrap.limits.persistence_entries.value_or(
      fitting(all / 8, per_entry, kEntriesDefaultMax));
  return out;
}

std::vector<port::MemoryNeed> memory_needs(const config::Bootstrap& bootstrap,
                                           const Limits& limits) {
  const auto ports = static_cast<uint32_t>(bootstrap.ports.size());
  const auto workers = static_cast<uint32_t>(bootstrap.worker_cores.size());
  const auto rings = replication::Rings::Capacity::for_cores(workers);
  const uint32_t peers = peers_of(bootstrap);
  const mirroring::Exchange::Options exchange{
      .entries = limits.entries, .surplus = workers * rings.news, .peers = peers};
  return {
      {fmt::format("{} packet_buffers", limits.buffers),
       port::BufferPool::bytes_for(pool_options(bootstrap, limits))},
      {fmt::format("{} flows_per_worker x {} workers", limits.flows_per_worker, workers),
       workers * uint64_t{l4::FlowTable::bytes_for(limits.flows_per_worker)}},
      {fmt::format("{} persistence_entries x {} workers", limits.entries, workers),
       workers * table_bytes(bootstrap, limits)},
      {fmt::format("{} persistence_entries, the control thread's replica{}", limits.entries,
                   peers > 0 ? " and what peers are told" : ""),
       mirroring::Exchange::bytes_for(exchange)},
      {fmt::format("source ports, the least that there must be ({} addresses of servers)",
                   kSourcePortBlocksMin),
       kSourcePortBlocksMin * source_port_block_bytes(bootstrap)},
      {fmt::format("counters, neighbours and packets that wait, {} workers", workers),
       workers * fixed_bytes_per_core(limits)},
      {fmt::format("rings between {} workers", workers),
       worker::Wiring::bytes_for(workers) + replication::Rings::bytes_for(workers, rings)},
      {"DPDK and its drivers", port::eal_overhead_bytes(ports, workers * ports)},
  };
}

base::Status check_memory(const config::Bootstrap& bootstrap) {
  const auto memory = port::check_memory(memory_needs(bootstrap, resolve_limits(bootstrap)),
                                         bootstrap.memory.size_mb);
  if (memory.fits) return base::Done{};
  return base::Error{"/memory/size_mb", fmt::format("{} MB do not hold what the limits need:\n{}",
                                                    bootstrap.memory.size_mb, memory.table)};
}

SourcePortShare source_port_share(const config::Bootstrap& bootstrap) {
  uint64_t needed = 0;
  for (const port::MemoryNeed& need : memory_needs(bootstrap, resolve_limits(bootstrap)))
    needed += need.bytes;
  const uint64_t all = uint64_t{bootstrap.memory.size_mb} << 20;
  const uint64_t left = all > needed ? all - needed : 0;
  const uint64_t each = source_port_block_bytes(bootstrap);
  return {.blocks_max = kSourcePortBlocksMin + left / each, .block_bytes = each};
}

std::size_t source_port_blocks(const snapshot::Snapshot& snapshot) {
  std::unordered_set<uint32_t> ids;
  for (const snapshot::Pool& pool : snapshot.pools) {
    for (const snapshot::Server& server : pool.servers) {
      for (const snapshot::NatId first : {server.tcp_nat, server.udp_nat}) {
        if (first == l4::kNoNat) continue;
        for (uint32_t i = 0; i < server.sources.size(); ++i) ids.insert(first.value + i);
      }
    }
  }
  return ids.size();
}

base::Status check_source_ports(const SourcePortShare& share, std::size_t blocks) {
  if (blocks <= share.blocks_max) return base::Done{};
  return base::Error{
      "/Pool",
      fmt::format("source ports towards the servers need {} MB ({} blocks of {} KB, one for each "
                  "server, protocol and source address), memory.size_mb leaves {} MB ({} blocks): "
                  "raise it by {}, lower `limits`, or use fewer `snat` addresses",
                  megabytes(blocks * share.block_bytes), blocks, share.block_bytes / 1000,
                  (share.blocks_max * share.block_bytes) >> 20, share.blocks_max,
                  megabytes((blocks - share.blocks_max) * share.block_bytes))};
}

}  // namespace limpet::engine
