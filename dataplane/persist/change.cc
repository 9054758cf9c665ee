#include "dataplane/persist/change.h"

#include <tuple>

namespace limpet::persist {

Record merge(const Record& a, const Record& b, bool a_expired) {
  const Stamp deleted = std::max(a.deleted, b.deleted);
  const bool a_lives = a.stamp > deleted;
  const bool b_lives = b.stamp > deleted;
  const auto version = [](const Record& r) {
    return std::tuple(r.epoch, r.server, r.first, r.timeout_ms);
  };
  bool a_wins = a_lives;
  if (a_lives && b_lives) {
    a_wins = a.stamp == b.stamp ? version(a) >= version(b) : a.stamp < b.stamp && !a_expired;
  }
  Record out = a_wins ? a : b;
  if (!a_lives && !b_lives) out = {};
  out.deleted = deleted;
  // At equal moments "held" is the safer belief.
  const Record& latest = std::tuple(a.act, a.held) >= std::tuple(b.act, b.held) ? a : b;
  out.act = latest.act;
  out.held = latest.held;
  return out;
}

}  // namespace limpet::persist
