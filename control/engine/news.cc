#include "control/engine/news.h"

#include <algorithm>
#include <array>

namespace limpet::engine {

void News::read() {
  for (uint32_t core = 0; core < cores_.count(); ++core) read(core, kPerCore);
}

bool News::read(uint32_t core, uint32_t most) {
  std::array<binding::Change, base::kBurstPacketsMax> bursts[2];
  const timing::Instant now = clock_.now();
  auto& ring = cores_.shared().rings.news[core];
  bool changed = false;
  std::span<const binding::Change> burst;
  // While one is applied, the memory that the next one needs is on its way.
  for (uint32_t taken = 0, b = 0;; b ^= 1) {
    const std::span room =
        std::span(bursts[b]).first(std::min<std::size_t>(bursts[b].size(), most - taken));
    const uint32_t n = room.empty() ? 0 : ring.pop(room);
    const std::span<const binding::Change> next(bursts[b].data(), n);
    exchange_.expect(next);
    exchange_.expect_soon(burst);
    for (const binding::Change& change : burst) {
      changed = exchange_.apply(change, now) || changed;
      heard_(change, now);
    }
    if (n == 0) return changed;
    burst = next;
    taken += n;
  }
}

bool News::any() const {
  return std::ranges::any_of(cores_.shared().rings.news,
                             [](const auto& ring) { return ring.size() > 0; });
}

}  // namespace limpet::engine
