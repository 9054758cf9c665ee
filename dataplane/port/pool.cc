#include "dataplane/port/pool.h"

#include <fmt/format.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>

#include <algorithm>

#include "dataplane/port/eal.h"

namespace limpet::port {

namespace {

// Ethernet header, two VLAN tags, frame check sequence.
constexpr uint32_t kFrameOverheadBytes = 14 + 2 * 4 + 4;
constexpr uint32_t kDataBytesMin = 2048;

uint32_t element_bytes(uint16_t mtu_max) {
  return static_cast<uint32_t>(sizeof(rte_mbuf) + packet::kMetaBytes + RTE_PKTMBUF_HEADROOM +
                               BufferPool::data_bytes(mtu_max));
}

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
  const uint64_t caches = cache_buffers(options.buffers, options.lcores) == 0
                              ? 0
                              : uint64_t{RTE_MAX_LCORE} * sizeof(rte_mempool_cache);
  return uint64_t{options.buffers} * size.total_size + ring + caches + sizeof(rte_mempool);
}

base::Result<BufferPool> BufferPool::create(const BufferPoolOptions& options) {
  const auto failed = [&](int number) {
    return base::Error{"/memory/size_mb",
                       fmt::format("no memory for {} packet buffers ({} MB): {}", options.buffers,
                                   bytes_for(options) >> 20, error_text(number))};
  };
  // As rte_pktmbuf_pool_create() does, but for the flag: in the small pages that there are without
  // hugepages it would give every buffer a page of its own, 1.6 times the memory, so that none
  // crosses a physical boundary; addresses of devices are virtual then, and contiguous.
  const unsigned flags = rte_eal_has_hugepages() != 0 ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
  BufferPool made(rte_mempool_create_empty(
      options.name.c_str(), options.buffers, element_bytes(options.mtu_max),
      cache_buffers(options.buffers, options.lcores), sizeof(rte_pktmbuf_pool_private),
      options.numa_node, flags));
  rte_mempool* const pool = made.get();
  if (pool == nullptr) return failed(rte_errno);
  int error = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), nullptr);
  if (error != 0) return failed(error);
  rte_pktmbuf_pool_private layout{};
  layout.mbuf_data_room_size =
      static_cast<uint16_t>(RTE_PKTMBUF_HEADROOM + data_bytes(options.mtu_max));
  layout.mbuf_priv_size = packet::kMetaBytes;
  rte_pktmbuf_pool_init(pool, &layout);
  error = rte_mempool_populate_default(pool);
  if (error < 0) return failed(error);
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
  return made;
}

uint32_t BufferPool::available() const {
  return rte_mempool_avail_count(pool_.get());
}

uint32_t BufferPool::size() const {
  return pool_->populated_size;
}

}  // namespace limpet::port
