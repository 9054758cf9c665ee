#include "control/compile/drains.h"

#include <algorithm>

#include "common/base/limits.h"

namespace limpet::compile {

using config::ServerId;
using timing::Instant;

void Drains::update(const config::Document& document, Instant now) {
  std::unordered_map<ServerId, Known> next;
  for (const config::Pool& pool : document.pools) {
    for (const config::Server& server : pool.servers) {
      Known known{.timeout = pool.graceful_disable_timeout, .disabled = std::nullopt};
      if (!pool.enabled || !server.enabled) {
        const auto before = known_.find(server.id);
        known.disabled =
            before != known_.end() && before->second.disabled ? before->second.disabled : now;
      }
      next.emplace(server.id, known);
      removed_.erase(server.id);
    }
  }
  for (const auto& [id, known] : known_) {
    if (next.contains(id) || !known.timeout) continue;
    removed_.emplace(id, Draining{known.disabled.value_or(now), known.timeout});
  }
  known_ = std::move(next);

  if (removed_.size() <= base::kServersMax) return;
  std::vector<std::pair<Instant, ServerId>> deadlines;
  for (const auto& [id, draining] : removed_) deadlines.emplace_back(draining.deadline(), id);
  const auto excess = static_cast<std::ptrdiff_t>(removed_.size() - base::kServersMax);
  std::nth_element(deadlines.begin(), deadlines.begin() + excess, deadlines.end());
  for (auto it = deadlines.begin(); it != deadlines.begin() + excess; ++it) {
    Draining& draining = removed_.at(it->second);
    draining.timeout = std::min(*draining.timeout, now - draining.since);
  }
}

std::vector<ServerId> Drains::due(Instant now) const {
  std::vector<ServerId> out;
  for (const auto& [id, known] : known_) {
    if (known.disabled && Draining{*known.disabled, known.timeout}.deadline() <= now)
      out.push_back(id);
  }
  for (const auto& [id, draining] : removed_) {
    if (draining.deadline() <= now) out.push_back(id);
  }
  std::sort(out.begin(), out.end());
  return out;
}

void Drains::settle(Instant now) {
  std::erase_if(removed_, [&](const auto& r) { return r.second.deadline() <= now; });
}

Instant Drains::next_deadline(Instant now) const {
  Instant next = Instant::never();
  const auto consider = [&](Instant deadline) {
    if (deadline > now) next = std::min(next, deadline);
  };
  for (const auto& [id, known] : known_) {
    if (known.disabled) consider(Draining{*known.disabled, known.timeout}.deadline());
  }
  for (const auto& [id, draining] : removed_) consider(draining.deadline());
  return next;
}

}  // namespace limpet::compile
