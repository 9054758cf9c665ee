// Usage: which objects of a document use which, and so which of them matter to what is served.
// Internal to the codec; one thread, one parse.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace limpet::config {

class Usage {
 public:
  // `user` has a reference to `used`; both are Header::id.
  void add(uint32_t user, uint32_t used) { uses_.emplace_back(user, used); }

  // By id: whether the object is one of `roots` or used by one of them, over any number of others.
  // Linear in the number of objects and references (but for sorting them).
  std::vector<bool> reachable(std::vector<uint32_t> roots, std::size_t objects);

 private:
  std::vector<std::pair<uint32_t, uint32_t>> uses_;
};

}  // namespace limpet::config
