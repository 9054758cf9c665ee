// HeapPool: packet buffers for tests, without an EAL. A hand-made rte_mempool whose operations are
// a free list, so rte_pktmbuf_alloc() and rte_pktmbuf_free() work as they do in the engine.
//
// Every buffer is its own heap allocation and is poisoned while it is free: AddressSanitizer sees
// what runs past a buffer's end and who uses one after giving it back. Safe to use from several
// threads (a mutex; tests do not measure allocation).
#pragma once

#include <cstdint>
#include <memory>

struct rte_mempool;

namespace limpet::support {

class HeapPool {
 public:
  // `buffers` of 128 bytes headroom and `data_bytes` (at most 65,000) behind it, with a private
  // area of packet::kMetaBytes.
  explicit HeapPool(uint32_t buffers = 256, uint16_t data_bytes = 2048);
  ~HeapPool();
  HeapPool(const HeapPool&) = delete;
  HeapPool& operator=(const HeapPool&) = delete;

  rte_mempool* pool();
  // Buffers allocated and not given back: 0 at the end of a test that leaks nothing.
  uint32_t in_use() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace limpet::support
