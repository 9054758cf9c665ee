// BufferList: packets in order, up to a number that was said when it was made.
#pragma once

#include <cstdint>
#include <memory>

#include "common/base/assert.h"
#include "dataplane/packet/buffer.h"

namespace limpet::packet {

class BufferList {
 public:
  explicit BufferList(uint32_t capacity)
      : at_(std::make_unique<Buffer*[]>(capacity)), capacity_(capacity) {}

  // There must be room.
  void put(Buffer* buffer) {
    LIMPET_ASSERT(size_ < capacity_);
    at_[size_++] = buffer;
  }
  uint32_t room() const { return capacity_ - size_; }
  uint32_t size() const { return size_; }
  uint32_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  Buffer*& operator[](std::size_t i) { return at_[i]; }
  Buffer** begin() { return at_.get(); }
  Buffer** end() { return at_.get() + size_; }
  void clear() { size_ = 0; }
  // The first `n` of them.
  void keep(uint32_t n) { size_ = n; }

 private:
  std::unique_ptr<Buffer*[]> at_;
  uint32_t size_ = 0;
  uint32_t capacity_;
};

}  // namespace limpet::packet
