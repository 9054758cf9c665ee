// SourcePortMemory: where the rings of one core's SourcePorts lie. All are of one size; there may
// be tens of thousands of them, too large for an allocator to put many into one mapping, and a
// process may have 65,530 mappings. So they come in slabs, few and large, and a block that was
// given back is used again.
//
// Thread: the control thread. A block's bytes are not touched here: untouched ones cost nothing
// where memory is mapped lazily.
#pragma once

#include <cstddef>
#include <memory_resource>
#include <vector>

#include "dataplane/egress/source_ports.h"

namespace limpet::egress {

class SourcePortMemory final : public std::pmr::memory_resource {
 public:
  // Slabs come from `upstream`; from ordinary memory when that has no more, because a document that
  // was accepted has to be carried out.
  SourcePortMemory(PortSlice slice, std::pmr::memory_resource* upstream);
  ~SourcePortMemory() override;
  SourcePortMemory(const SourcePortMemory&) = delete;
  SourcePortMemory& operator=(const SourcePortMemory&) = delete;

  // The next `blocks` allocations need nothing from upstream.
  void reserve(std::size_t blocks);

  std::size_t slabs() const { return slabs_.size(); }
  std::size_t blocks() const { return blocks_; }  // of all slabs
  std::size_t in_use() const { return blocks_ - free_.size(); }

 private:
  struct Slab {
    void* at;
    std::size_t bytes;
    std::pmr::memory_resource* from;
  };

  void* do_allocate(std::size_t bytes, std::size_t align) override;
  void do_deallocate(void* at, std::size_t bytes, std::size_t align) override;
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  const std::size_t block_bytes_;
  std::pmr::memory_resource* const upstream_;
  std::vector<Slab> slabs_;
  std::vector<void*> free_;
  std::size_t blocks_ = 0;
};

}  // namespace limpet::egress
