// TableKeeper: the copy of the persist table on disk: read once at start and handed to the homes as
// news from nobody; written anew while something changes. It neither reads nor writes files: the
// engine does, on the thread for the disk.
//
// Owner: the control thread. Invariants
//  1. What changed is in a content that was taken at most kIntervalMax and the time that collecting
//     and writing take after the change.
//  2. One content at a time is collected or written; work that is started ends with saved().
// Cost: a slice of a few thousand places a tick; a content is 88 bytes a binding, in pieces.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control/engine/table_file.h"
#include "control/mirroring/exchange.h"

namespace limpet::engine {

class TableKeeper {
 public:
  // From the beginning of one collection to that of the next; twenty times what one took, within
  // these.
  static constexpr timing::Duration kIntervalMin = timing::seconds(1);
  static constexpr timing::Duration kIntervalMax = timing::seconds(4);

  explicit TableKeeper(mirroring::Exchange& exchange) : exchange_(exchange) {}

  // What was on disk. The wall clock showed `wall_origin` at Instant zero (here and below: as it
  // goes now, for it may be set while the engine runs).
  void begin_restore(TableReader reader, timing::WallTime wall_origin);
  // Hands a slice to the homes; true when all of it has been.
  bool restore(timing::Instant now);

  // Collects a slice; gives the content out when it is complete.
  std::optional<std::vector<std::string>> collect(timing::Instant now,
                                                  timing::WallTime wall_origin);
  // What collect() gave out is on disk, or could not be written.
  void saved(bool good, timing::Instant now);
  // Does not wait for the interval: something changed that must not be undone by a crash.
  void hurry() { hurry_ = true; }
  // All that there is, at once.
  std::vector<std::string> collect_all(timing::WallTime wall_origin) const;

  bool is_saved() const { return saved_revision_ == exchange_.revision(); }

 private:
  static constexpr uint32_t kRestoredPerTick = 1024;
  static constexpr uint32_t kPlacesPerTick = 16384;

  struct Collection {
    Collection(timing::Instant began_at, uint64_t revision_then)
        : began(began_at), revision(revision_then) {}

    mirroring::Exchange::Walk walk;
    TableWriter writer;
    timing::Instant began;
    uint64_t revision;
    bool given_out = false;
  };

  mirroring::Exchange& exchange_;
  std::optional<TableReader> reader_;
  timing::WallTime restore_origin_;
  uint64_t restored_ = 0;

  std::optional<Collection> collection_;
  std::optional<uint64_t> saved_revision_;
  timing::Instant next_at_;
  bool hurry_ = false;
};

}  // namespace limpet::engine
