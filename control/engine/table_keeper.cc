#include "control/engine/table_keeper.h"

#include <algorithm>

#include "common/base/assert.h"

namespace limpet::engine {

using timing::Duration;
using timing::Instant;
using timing::WallTime;

namespace {

// Adds a slice of the walk; true when it has come to its end.
bool collect_slice(const mirroring::Exchange& exchange, mirroring::Exchange::Walk* walk,
                   uint32_t places, WallTime wall_origin, TableWriter* out) {
  return exchange.walk(walk, places,
                       [&](binding::ScopeId scope, const binding::Key* key,
                           const binding::Record& record, Instant act_at) {
                         out->add({.scope = scope,
                                   .whole_scope = key == nullptr,
                                   .key = key != nullptr ? *key : binding::Key{},
                                   .record = record,
                                   .act_at = wall_origin + Duration{act_at.ns}});
                       });
}

}  // namespace

void TableKeeper::begin_restore(TableReader reader, WallTime wall_origin) {
  exchange_.observe(reader.clock());
  reader_.emplace(std::move(reader));
  restore_origin_ = wall_origin;
}

bool TableKeeper::restore(Instant now) {
  if (!reader_) return true;
  for (uint32_t i = 0; i < kRestoredPerTick && restored_ < reader_->count(); ++i, ++restored_) {
    const SavedRecord saved = reader_->at(restored_);
    if (!exchange_.restore({.source = {},
                            .scope = saved.scope,
                            .whole_scope = saved.whole_scope,
                            .key = saved.key,
                            .record = saved.record,
                            .act_at = Instant{} + (saved.act_at - restore_origin_)},
                           now))
      return false;
  }
  if (restored_ < reader_->count()) return false;
  reader_.reset();
  return true;
}

std::optional<std::vector<std::string>> TableKeeper::collect(Instant now, WallTime wall_origin) {
  if (!collection_) {
    if (is_saved() || (now < next_at_ && !hurry_)) return std::nullopt;
    hurry_ = false;
    collection_.emplace(now, exchange_.revision());
  }
  Collection& c = *collection_;
  if (c.given_out || !collect_slice(exchange_, &c.walk, kPlacesPerTick, wall_origin, &c.writer))
    return std::nullopt;
  c.given_out = true;
  return c.writer.finish(exchange_.latest_stamp());
}

void TableKeeper::saved(bool good, Instant now) {
  LIMPET_ASSERT(collection_ && collection_->given_out);
  if (good) saved_revision_ = collection_->revision;
  const Duration took = now - collection_->began;
  next_at_ = collection_->began + std::clamp<Duration>(took * 20, kIntervalMin, kIntervalMax);
  collection_.reset();
}

std::vector<std::string> TableKeeper::collect_all(WallTime wall_origin) const {
  mirroring::Exchange::Walk walk;
  TableWriter writer;
  while (!collect_slice(exchange_, &walk, kPlacesPerTick, wall_origin, &writer)) {
  }
  return writer.finish(exchange_.latest_stamp());
}

}  // namespace limpet::engine
