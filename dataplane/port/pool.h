// BufferPool: the engine's packet buffers, one pool for all ports and cores.
//
// Thread: construction and destruction on the control thread; buffers may be taken and given back
// by any lcore. Needs a running Eal.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "dataplane/packet/buffer.h"

struct rte_mempool;

namespace limpet::port {

struct BufferPoolOptions {
  std::string name = "limpet";  // at most 25 characters
  uint32_t buffers = 65536;
  uint16_t mtu_max = 1500;  // of all ports: frames are one segment
  uint32_t lcores = 1;      // that use it, the control thread included
  int numa_node = -1;       // any
};

class BufferPool {
 public:
  static base::Result<BufferPool> create(const BufferPoolOptions& options);

  rte_mempool* get() const { return pool_.get(); }
  // Buffers that nobody holds. An estimate while others work.
  uint32_t available() const;
  uint32_t size() const;

  // Bytes of memory that create() would take, within some pages. For the memory check.
  static uint64_t bytes_for(const BufferPoolOptions& options);
  // Bytes of a buffer behind its headroom: the largest tagged frame, at least 2,048.
  static uint16_t data_bytes(uint16_t mtu_max);
  // Buffers that each lcore keeps for itself: a burst or more, but never more than an eighth of the
  // pool over all of them, so that a small pool is not stranded in caches.
  static uint32_t cache_buffers(uint32_t buffers, uint32_t lcores);

 private:
  struct Free {
    void operator()(rte_mempool* pool) const;
  };
  explicit BufferPool(rte_mempool* pool) : pool_(pool) {}

  std::unique_ptr<rte_mempool, Free> pool_;
};

}  // namespace limpet::port
