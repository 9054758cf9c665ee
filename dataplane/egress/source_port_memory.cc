#include "dataplane/egress/source_port_memory.h"

#include <algorithm>
#include <new>

#include "common/base/assert.h"

namespace limpet::egress {
namespace {

constexpr std::size_t kCacheLine = 64;
// A slab has at least an eighth of what there is, so their number grows with the logarithm.
constexpr std::size_t kGrowth = 8;

}  // namespace

SourcePortMemory::SourcePortMemory(PortSlice slice, std::pmr::memory_resource* upstream)
    : block_bytes_((SourcePorts::ring_bytes(slice) + kCacheLine - 1) / kCacheLine * kCacheLine),
      upstream_(upstream) {}

SourcePortMemory::~SourcePortMemory() {
  LIMPET_ASSERT(in_use() == 0);
  for (const Slab& slab : slabs_) slab.from->deallocate(slab.at, slab.bytes, kCacheLine);
}

void SourcePortMemory::reserve(std::size_t blocks) {
  if (blocks <= free_.size()) return;
  const std::size_t more = std::max(blocks - free_.size(), blocks_ / kGrowth);
  Slab slab{nullptr, more * block_bytes_, upstream_};
  free_.reserve(free_.size() + more);
  slabs_.reserve(slabs_.size() + 1);
  try {
    slab.at = slab.from->allocate(slab.bytes, kCacheLine);
  } catch (const std::bad_alloc&) {
    slab.from = std::pmr::new_delete_resource();
    slab.at = slab.from->allocate(slab.bytes, kCacheLine);
  }
  slabs_.push_back(slab);
  blocks_ += more;
  // The first block is given first.
  for (std::size_t i = more; i-- > 0;)
    free_.push_back(static_cast<std::byte*>(slab.at) + i * block_bytes_);
}

void* SourcePortMemory::do_allocate(std::size_t bytes, std::size_t align) {
  LIMPET_ASSERT(bytes <= block_bytes_ && align <= kCacheLine);
  reserve(1);
  void* const at = free_.back();
  free_.pop_back();
  return at;
}

void SourcePortMemory::do_deallocate(void* at, std::size_t, std::size_t) {
  free_.push_back(at);
}

}  // namespace limpet::egress
