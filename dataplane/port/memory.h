// Memory of the data plane: where tables and rings get theirs, and whether all of it fits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string>

namespace limpet::port {

// What tables and rings are made in. With hugepages it is DPDK's heap (rte_malloc), on the NUMA
// node of whoever will use it. Without, DPDK's heap is a fixed piece of shared memory in 4 KiB
// pages; ordinary memory is better then, because the kernel may back it with transparent hugepages,
// which it is asked for.
//
// Thread: construction, allocation and destruction on the control thread. Tables do not allocate
// while they work. Throws std::bad_alloc like any memory_resource: at start, outside the data path.
class TableMemory final : public std::pmr::memory_resource {
 public:
  // `numa_node` is of the lcore that will use it (numa_node_of); ignored without hugepages.
  TableMemory(bool hugepages, int numa_node) : hugepages_(hugepages), numa_node_(numa_node) {}
  ~TableMemory() override;
  TableMemory(const TableMemory&) = delete;
  TableMemory& operator=(const TableMemory&) = delete;

  // Bytes given out and not given back.
  std::size_t in_use() const { return in_use_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t align) override;
  void do_deallocate(void* at, std::size_t bytes, std::size_t align) override;
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  const bool hugepages_;
  const int numa_node_;
  std::size_t in_use_ = 0;
};

// One line of what the configured limits need.
struct MemoryNeed {
  std::string name;  // "persist table, 2 workers x 1048576 entries"
  uint64_t bytes = 0;
};

struct MemoryCheck {
  uint64_t needed_bytes = 0;
  bool fits = false;
  // Each need and the sum against what there is, in MB, rounded up; one line each.
  std::string table;
};

// `size_mb` is the bootstrap's memory.size_mb: all memory of the data plane.
MemoryCheck check_memory(std::span<const MemoryNeed> needs, uint64_t size_mb);

// What DPDK itself and the drivers take from its heap for `devices` devices with `queues` queues in
// all, besides packet buffers: virtual ones took 0.1 to 1.5 MB each with DPDK 22.11; a NIC's
// descriptors are 1,024 a queue. Rounded up.
uint64_t eal_overhead_bytes(uint32_t devices, uint32_t queues);

}  // namespace limpet::port
