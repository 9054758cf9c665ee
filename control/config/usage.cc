#include "control/config/usage.h"

#include <algorithm>

namespace limpet::config {

std::vector<bool> Usage::reachable(std::vector<uint32_t> roots, std::size_t objects) {
  std::sort(uses_.begin(), uses_.end());
  std::vector<bool> reached(objects, false);
  std::vector<uint32_t> next = std::move(roots);
  while (!next.empty()) {
    const uint32_t id = next.back();
    next.pop_back();
    if (reached[id]) continue;
    reached[id] = true;
    for (auto use = std::lower_bound(uses_.begin(), uses_.end(), std::pair(id, uint32_t{0}));
         use != uses_.end() && use->first == id; ++use) {
      next.push_back(use->second);
    }
  }
  return reached;
}

}  // namespace limpet::config
