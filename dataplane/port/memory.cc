#include "dataplane/port/memory.h"

#include <fmt/format.h>
#include <rte_malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <new>

#include "common/base/assert.h"

namespace limpet::port {

namespace {

constexpr std::size_t kMb = std::size_t{1} << 20;
constexpr std::size_t kHugepageBytes = 2 * kMb;
// Smaller pieces come from the ordinary heap: a mapping each would waste a page and be slow.
constexpr std::size_t kMappedBytesMin = kMb;

std::size_t round_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

uint64_t megabytes(uint64_t bytes) {
  return (bytes + kMb - 1) / kMb;
}

// Whole hugepages, aligned to one, so that the kernel can use them.
void* map(std::size_t bytes) {
  const std::size_t wanted = round_up(bytes, kHugepageBytes);
  const std::size_t mapped = wanted + kHugepageBytes;
  void* at = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  char* begin = static_cast<char*>(at);
  const std::size_t skip = round_up(reinterpret_cast<uintptr_t>(begin), kHugepageBytes) -
                           reinterpret_cast<uintptr_t>(at);
  if (skip > 0) munmap(begin, skip);
  if (mapped - skip > wanted) munmap(begin + skip + wanted, mapped - skip - wanted);
  madvise(begin + skip, wanted, MADV_HUGEPAGE);  // advice: without it, small pages
  return begin + skip;
}

}  // namespace

TableMemory::~TableMemory() {
  LIMPET_ASSERT(in_use_ == 0);
}

void* TableMemory::do_allocate(std::size_t bytes, std::size_t align) {
  LIMPET_ASSERT(align <= kHugepageBytes);
  void* at = nullptr;
  if (hugepages_) {
    at = rte_malloc_socket("limpet", bytes, static_cast<unsigned>(align), numa_node_);
    if (at == nullptr) throw std::bad_alloc();
  } else if (bytes >= kMappedBytesMin) {
    at = map(bytes);
  } else {
    at = std::pmr::new_delete_resource()->allocate(bytes, align);
  }
  in_use_ += bytes;
  return at;
}

void TableMemory::do_deallocate(void* at, std::size_t bytes, std::size_t align) {
  in_use_ -= bytes;
  if (hugepages_) {
    rte_free(at);
  } else if (bytes >= kMappedBytesMin) {
    munmap(at, round_up(bytes, kHugepageBytes));
  } else {
    std::pmr::new_delete_resource()->deallocate(at, bytes, align);
  }
}

MemoryCheck check_memory(std::span<const MemoryNeed> needs, uint64_t size_mb) {
  MemoryCheck check;
  std::size_t width = 5;
  for (const MemoryNeed& need : needs) {
    check.needed_bytes += need.bytes;
    width = std::max(width, need.name.size());
  }
  check.fits = check.needed_bytes <= size_mb * kMb;
  for (const MemoryNeed& need : needs)
    check.table += fmt::format("  {:<{}}  {:>8} MB\n", need.name, width, megabytes(need.bytes));
  check.table += fmt::format("  {:<{}}  {:>8} MB of {} MB (memory.size_mb)\n", "total", width,
                             megabytes(check.needed_bytes), size_mb);
  return check;
}

uint64_t eal_overhead_bytes(uint32_t devices, uint32_t queues) {
  return 8 * kMb + devices * 2 * kMb + queues * (kMb / 2);
}

}  // namespace limpet::port
