#include "tests/support/heap_pool.h"

#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string_view>
#include <vector>

#include "common/base/assert.h"
#include "dataplane/packet/buffer.h"
#include "tests/support/asan.h"

namespace limpet::support {

struct HeapPool::Impl {
  uint32_t object_bytes = 0;  // of the mbuf, its private area and its data
  rte_mempool* pool = nullptr;
  std::vector<void*> allocations;
  mutable std::mutex mutex;
  std::vector<void*> free;
};

namespace {

void poison([[maybe_unused]] void* object, [[maybe_unused]] std::size_t bytes) {
#ifdef LIMPET_TESTS_WITH_ASAN
  ASAN_POISON_MEMORY_REGION(object, bytes);
#endif
}

void unpoison([[maybe_unused]] void* object, [[maybe_unused]] std::size_t bytes) {
#ifdef LIMPET_TESTS_WITH_ASAN
  ASAN_UNPOISON_MEMORY_REGION(object, bytes);
#endif
}

HeapPool::Impl& impl_of(const rte_mempool* pool) {
  return *static_cast<HeapPool::Impl*>(pool->pool_data);
}

int pool_alloc(rte_mempool*) {
  return 0;
}

void pool_free(rte_mempool*) {}

int pool_enqueue(rte_mempool* pool, void* const* objects, unsigned count) {
  HeapPool::Impl& impl = impl_of(pool);
  const std::lock_guard lock(impl.mutex);
  for (unsigned i = 0; i < count; ++i) {
    poison(objects[i], impl.object_bytes);
    impl.free.push_back(objects[i]);
  }
  return 0;
}

int pool_dequeue(rte_mempool* pool, void** objects, unsigned count) {
  HeapPool::Impl& impl = impl_of(pool);
  const std::lock_guard lock(impl.mutex);
  if (impl.free.size() < count) return -ENOBUFS;
  for (unsigned i = 0; i < count; ++i) {
    objects[i] = impl.free.back();
    impl.free.pop_back();
    unpoison(objects[i], impl.object_bytes);
  }
  return 0;
}

unsigned pool_count(const rte_mempool* pool) {
  HeapPool::Impl& impl = impl_of(pool);
  const std::lock_guard lock(impl.mutex);
  return static_cast<unsigned>(impl.free.size());
}

// The table of operations is DPDK's and belongs to the process, so it is asked, not remembered.
int register_operations() {
  static constexpr std::string_view kName = "limpet_test_heap";
  for (uint32_t i = 0; i < rte_mempool_ops_table.num_ops; ++i) {
    if (kName == rte_mempool_ops_table.ops[i].name) return static_cast<int>(i);
  }
  rte_mempool_ops operations{};
  kName.copy(operations.name, sizeof operations.name - 1);
  operations.alloc = pool_alloc;
  operations.free = pool_free;
  operations.enqueue = pool_enqueue;
  operations.dequeue = pool_dequeue;
  operations.get_count = pool_count;
  const int index = rte_mempool_register_ops(&operations);
  LIMPET_ASSERT(index >= 0);
  return index;
}

void* aligned_zeros(std::size_t bytes) {
  const std::size_t rounded = RTE_ALIGN_CEIL(bytes, std::size_t{RTE_CACHE_LINE_SIZE});
  void* memory = std::aligned_alloc(RTE_CACHE_LINE_SIZE, rounded);
  LIMPET_ASSERT(memory != nullptr);
  std::memset(memory, 0, rounded);
  return memory;
}

}  // namespace

HeapPool::HeapPool(uint32_t buffers, uint16_t data_bytes) : impl_(std::make_unique<Impl>()) {
  const auto room = static_cast<uint16_t>(RTE_PKTMBUF_HEADROOM + data_bytes);
  impl_->object_bytes = static_cast<uint32_t>(sizeof(rte_mbuf) + packet::kMetaBytes + room);

  auto* pool = static_cast<rte_mempool*>(
      aligned_zeros(sizeof(rte_mempool) + sizeof(rte_pktmbuf_pool_private)));
  impl_->pool = pool;
  std::strcpy(pool->name, "heap");
  pool->pool_data = impl_.get();
  pool->flags = RTE_MEMPOOL_F_NO_IOVA_CONTIG;
  pool->socket_id = 0;
  pool->size = pool->populated_size = buffers;
  pool->elt_size = impl_->object_bytes;
  pool->header_size = RTE_CACHE_LINE_SIZE;
  pool->private_data_size = sizeof(rte_pktmbuf_pool_private);
  pool->ops_index = register_operations();
  auto* layout = static_cast<rte_pktmbuf_pool_private*>(rte_mempool_get_priv(pool));
  layout->mbuf_data_room_size = room;
  layout->mbuf_priv_size = packet::kMetaBytes;

  impl_->allocations.reserve(buffers);
  impl_->free.reserve(buffers);
  for (uint32_t i = 0; i < buffers; ++i) {
    void* memory = aligned_zeros(RTE_CACHE_LINE_SIZE + impl_->object_bytes);
    impl_->allocations.push_back(memory);
    auto* object = static_cast<char*>(memory) + RTE_CACHE_LINE_SIZE;
    reinterpret_cast<rte_mempool_objhdr*>(object - sizeof(rte_mempool_objhdr))->mp = pool;
    rte_pktmbuf_init(pool, nullptr, object, i);
    poison(object, impl_->object_bytes);
    impl_->free.push_back(object);
  }
}

HeapPool::~HeapPool() {
  for (void* memory : impl_->allocations) {
    unpoison(memory, RTE_CACHE_LINE_SIZE + impl_->object_bytes);
    std::free(memory);
  }
  std::free(impl_->pool);
}

rte_mempool* HeapPool::pool() {
  return impl_->pool;
}

uint32_t HeapPool::in_use() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->pool->size - static_cast<uint32_t>(impl_->free.size());
}

}  // namespace limpet::support
