#include "control/mirroring/mirror.h"

#include "common/base/assert.h"

namespace limpet::mirroring {

using binding::Change;
using binding::Key;
using binding::ScopeSlot;

uint32_t Mirror::place_of(ScopeSlot scope, const Key& key, uint32_t hash) const {
  return index_.find(
      hash, [&](uint32_t i) { return bindings_[i].key == key && bindings_[i].scope == scope; });
}

const Mirror::Binding* Mirror::find(ScopeSlot scope, const Key& key) const {
  const uint32_t at = place_of(scope, key, binding::hash_of(hash_, scope, key));
  return at == base::HashIndex::kNone ? nullptr : &bindings_[at];
}

void Mirror::count(const Binding& binding, bool add) {
  if (scopes_.size() <= binding.scope.value) scopes_.resize(binding.scope.value + 1);
  const uint32_t by = add ? 1u : UINT32_MAX;  // modulo 2^32
  Count& scope = scopes_[binding.scope.value];
  scope.all += by;
  if (binding.record.server == binding::kNoServer) return;
  scope.bound += by;
  bound_ += by;
  uint32_t& server = servers_[binding.record.server];
  server += by;
  if (server == 0) servers_.erase(binding.record.server);
}

void Mirror::apply(const Change& change) {
  const uint32_t hash = binding::hash_of(hash_, change.scope, change.key);
  uint32_t at = place_of(change.scope, change.key, hash);
  if (change.kind == Change::Kind::kRemove) {
    if (at == base::HashIndex::kNone) return;  // the home had no room to say that it was made
    count(bindings_[at], false);
    index_.erase(hash, at);
    bindings_[at].used = false;
    free_.push_back(at);
    return;
  }
  const bool known = at != base::HashIndex::kNone;
  const bool counted = known && bindings_[at].record.server == change.record.server;
  if (!known) {
    if (free_.empty()) {
      LIMPET_ASSERT(high_water_ < bindings_.size());
      at = high_water_++;
    } else {
      at = free_.back();
      free_.pop_back();
    }
    index_.insert(hash, at);
  } else if (!counted) {
    count(bindings_[at], false);
  }
  bindings_[at] = {.key = change.key,
                   .scope = change.scope,
                   .used = true,
                   .confirmed = change.confirmed,
                   .created = change.created,
                   .record = change.record,
                   .act_at = change.act_at};
  if (!counted) count(bindings_[at], true);
}

}  // namespace limpet::mirroring
