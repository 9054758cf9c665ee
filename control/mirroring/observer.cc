#include "control/mirroring/observer.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace limpet::mirroring {

using binding::Key;
using binding::Merged;
using binding::Record;
using binding::ScopeId;
using binding::Stamp;
using timing::Duration;
using timing::Instant;

// Past its deadline, or by so much more.
bool Observer::is_over(ScopeId scope, const Record& record, Instant act_at, Duration beyond) const {
  Times times = times_(scope);
  if (record.timeout_ms != 0) {
    times.timeout = timing::milliseconds(record.timeout_ms);
    times.update_interval = times.timeout / 2;
  }
  const Duration slack = record.held ? times.update_interval : Duration::zero();
  return clock_.now() >= act_at + times.timeout + slack + beyond;
}

bool Observer::deliver(const Arrival& arrival) {
  const Instant now = clock_.now();
  if (arrival.whole_scope) {
    if (!list_.kill_scope(arrival.scope, arrival.record.deleted, arrival.source, now))
      ++counters_.refused;
    return true;
  }
  binding::Meeting meeting{.theirs = arrival.record, .killed = list_.killed_up_to(arrival.scope)};
  Instant act_at = arrival.act_at;
  if (const auto mine = list_.entry(arrival.scope, arrival.key)) {
    meeting.mine = mine->record;
    meeting.expired.a = is_over(arrival.scope, mine->record, mine->act_at);
    act_at = mine->act_at;
  }
  meeting.expired.b = is_over(arrival.scope, arrival.record, arrival.act_at);
  const Merged merged = binding::meet(meeting);
  if (merged.ignored) ++counters_.ignored;
  if (merged.record.act != meeting.mine.act) act_at = arrival.act_at;
  if (merged.record == meeting.mine && merged.told == Told::kNobody) return true;
  const Update update{.scope = arrival.scope,
                      .key = arrival.key,
                      .record = merged.record,
                      .act_at = act_at,
                      .told = merged.told,
                      .source = arrival.source};
  ++(list_.update(update, now) ? counters_.merged : counters_.refused);
  return true;
}

void Observer::tick(uint32_t budget) {
  struct Gone {
    ScopeId scope;
    Key key;
    Stamp deleted;
  };
  std::vector<Gone> gone;
  for (uint32_t looks = std::min(budget, list_.places()); looks > 0; --looks) {
    place_ = place_ + 1 >= list_.places() ? 0 : place_ + 1;
    list_.visit_place(place_, [&](ScopeId scope, const Key* key, const Record& r, Instant act_at) {
      if (key == nullptr || !r.live()) return;
      const bool killed = r.stamp <= list_.killed_up_to(scope);
      // A little later than engines, so that it has what any of them may ask for.
      if (!killed && !is_over(scope, r, act_at, times_(scope).update_interval)) return;
      ++(killed ? counters_.killed : counters_.expired);
      gone.push_back({scope, *key, r.deleted});
    });
  }
  const Instant now = clock_.now();
  for (const Gone& g : gone) {
    // A tombstone stays.
    list_.update({.scope = g.scope,
                  .key = g.key,
                  .record = {.deleted = g.deleted},
                  .act_at = now,
                  .told = Told::kNobody,
                  .source = {}},
                 now);
  }
  gone.clear();
  const auto keep = [&](ScopeId scope) {
    return times_(scope).timeout + times_(scope).update_interval;
  };
  std::vector<Gone> scopes;
  list_.visit_tombstones(budget, now, keep, [&](ScopeId scope, const Key* key, Stamp deleted) {
    (key == nullptr ? scopes : gone).push_back({scope, key == nullptr ? Key{} : *key, deleted});
  });
  for (const Gone& g : scopes) list_.forget_scope(g.scope, g.deleted);
  for (const Gone& g : gone) {
    const auto entry = list_.entry(g.scope, g.key);
    if (!entry || entry->record.deleted != g.deleted) continue;
    Record left = entry->record;
    left.deleted = {};
    list_.update({.scope = g.scope,
                  .key = g.key,
                  .record = left,
                  .act_at = entry->act_at,
                  .told = Told::kNobody,
                  .source = {}},
                 now);
  }
}

}  // namespace limpet::mirroring
