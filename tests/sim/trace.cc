#include "tests/sim/trace.h"

#include <algorithm>
#include <cstdio>

namespace limpet::sim {

std::string Trace::text(const KeyId& key, std::size_t lines) const {
  std::vector<const Event*> chosen;
  const std::size_t first = added_ > kEvents ? added_ - kEvents : 0;
  for (std::size_t i = added_; i > first && chosen.size() < lines; --i) {
    const Event& e = events_[(i - 1) % kEvents];
    if (key.none() || e.key.none() || e.key == key) chosen.push_back(&e);
  }
  std::reverse(chosen.begin(), chosen.end());
  std::string out;
  for (const Event* e : chosen) {
    char line[200];
    std::snprintf(line, sizeof line,
                  "  step %6u core %3u at %.3f s: %-16s %u.%u detail %llx key %u/%s\n", e->step,
                  e->core, static_cast<double>(e->now_ns) / 1e9, e->what, e->serial, e->change,
                  static_cast<unsigned long long>(e->detail), e->key.scope,
                  e->key.none() ? "-" : e->key.key.address().to_string().c_str());
    out += line;
  }
  return out;
}

}  // namespace limpet::sim
