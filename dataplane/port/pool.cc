#include "dataplane/port/pool.h"

#include <fmt/format.h>
#include <rte_errno.h>
#include <rte_mempool.h>

#include <algorithm>

#include "dataplane/port/eal.h"

namespace limpet::port {

namespace {

// Ethernet header, two VLAN tags, frame check sequence.
constexpr uint32_t kFrameOverheadBytes = 14 + 2 * 4 + 4;
constexpr uint32_t kDataBytesMin = 2048;

}  // namespace

void BufferPool::Free::operator()(rte_mempool* pool) const {
  rte_mempool_free(pool);
}

uint16_t BufferPool::data_bytes(uint16_t mtu_max) {
  const uint32_t frame = RTE_ALIGN_CEIL(mtu_max + kFrameOverheadBytes, 64u);
  return static_cast<uint16_t>(
      std::min<uint32_t>(std::max(frame, kDataBytesMin), UINT16_MAX - RTE_PKTMBUF_HEADROOM));
}

uint32_t BufferPool::cache_buffers(uint32_t buffers, uint32_t lcores) {
  constexpr uint32_t kCacheMax = 256;
  static_assert(kCacheMax <= RTE_MEMPOOL_CACHE_MAX_SIZE);
  return std::min(kCacheMax, buffers / 8 / std::max(lcores, 1u));
}

uint64_t BufferPool::bytes_for(const BufferPoolOptions& options) {
  const uint32_t element = static_cast<uint32_t>(
      sizeof(rte_mbuf) + packet::kMetaBytes + RTE_PKTMBUF_HEADROOM + data_bytes(options.mtu_max));
  rte_mempool_objsz size{};
  rte_mempool_calc_obj_size(element, 0, &size);
  // The pool's own ring of pointers is the next power of two.
  const uint64_t ring = uint64_t{rte_align32pow2(options.buffers + 1)} * sizeof(void*);
  return uint64_t{options.buffers} * size.total_size + ring + sizeof(rte_mempool);
}

base::Result<BufferPool> BufferPool::create(const BufferPoolOptions& options) {
  const auto room = static_cast<uint16_t>(RTE_PKTMBUF_HEADROOM + data_bytes(options.mtu_max));
  rte_mempool* pool = rte_pktmbuf_pool_create(options.name.c_str(), options.buffers,
                                              cache_buffers(options.buffers, options.lcores),
                                              packet::kMetaBytes, room, options.numa_node);
  if (pool == nullptr) {
    return base::Error{"",
                       fmt::format("no memory for {} packet buffers ({} MB): {}", options.buffers,
                                   bytes_for(options) >> 20, error_text(rte_errno))};
  }
  return BufferPool(pool);
}

uint32_t BufferPool::available() const {
  return rte_mempool_avail_count(pool_.get());
}

uint32_t BufferPool::size() const {
  return pool_->populated_size;
}

}  // namespace limpet::port
