#include "common/binding/change.h"

#include <tuple>

namespace limpet::binding {

Record merge(const Record& a, const Record& b, Expired expired) {
  const Stamp deleted = std::max(a.deleted, b.deleted);
  const bool a_lives = a.stamp > deleted;
  const bool b_lives = b.stamp > deleted;
  const auto version = [](const Record& r) {
    return std::tuple(r.epoch, r.server, r.first, r.timeout_ms);
  };
  bool a_wins = a_lives;
  if (a_lives && b_lives) {
    if (a.stamp == b.stamp) {
      a_wins = version(a) >= version(b);
    } else if (expired.a != expired.b) {
      a_wins = expired.b;
    } else {
      a_wins = a.stamp < b.stamp;
    }
  }
  if (!a_lives && !b_lives) return {.deleted = deleted};  // whose activity does not matter
  Record out = a_wins ? a : b;
  out.deleted = deleted;
  // At equal moments "held" is the safer belief.
  const Record& latest = std::tuple(a.act, a.held) >= std::tuple(b.act, b.held) ? a : b;
  out.act = latest.act;
  out.held = latest.held;
  return out;
}

Merged meet(const Meeting& m) {
  const Record& mine = m.mine;
  const bool ignored = m.theirs.live() && m.expired.b && !mine.live();
  const Record theirs = ignored ? Record{.deleted = m.theirs.deleted} : m.theirs;
  Record a = mine;
  a.deleted = std::max(mine.deleted, m.killed);
  Merged out{.record = merge(a, theirs, m.expired), .told = Told::kNobody, .ignored = ignored};
  const Stamp deleted = out.record.deleted;
  out.record.deleted = std::max(mine.deleted, theirs.deleted);
  out.raised = out.record.deleted > mine.deleted;
  if (!out.record.live()) {
    if (out.record.deleted > theirs.deleted) out.told = Told::kSender;
  } else {
    if (out.record != theirs) out.told = Told::kSender;
    const bool conflict = mine.live() && theirs.live() && mine.stamp != theirs.stamp &&
                          std::min(mine.stamp, theirs.stamp) > deleted;
    const bool changed = out.record != mine;
    if (conflict || (changed && (deleted.value != 0 || m.from_disk))) out.told = Told::kAll;
  }
  if (out.raised) out.told = Told::kAll;
  return out;
}

}  // namespace limpet::binding
