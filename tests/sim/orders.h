// Orders: what comes to an engine from outside of its cores: documents, deletions by
// administrators, what peers know. The parts of the control thread that carry them out are the
// engine's own (control/engine): its questions, its deletions, its reading of what homes tell.
#pragma once

#include <cstdint>
#include <vector>

#include "common/binding/change.h"
#include "common/timing/manual_clock.h"
#include "control/engine/deletions.h"
#include "control/engine/home_rings.h"
#include "control/engine/news.h"
#include "control/engine/questions.h"
#include "control/mirroring/exchange.h"
#include "tests/sim/engine.h"
#include "tests/sim/invariants.h"
#include "tests/sim/trace.h"
#include "tests/sim/world.h"

namespace limpet::sim {

class Orders {
 public:
  Orders(Engine& engine, World& world, Trace& trace, const timing::ManualClock& clock,
         base::Random& random);

  // Something: a change, a deletion, a peer's news.
  void act(uint32_t step);
  // Reads some of what homes have told.
  void read_news();
  // Looks after a deletion that is under way.
  void poll();
  bool idle() const { return deletions_.idle() && questions_.idle(); }

  const Told& mirror() const { return mirror_; }
  uint64_t deletions() const { return deletions_begun_; }
  uint64_t merges() const { return merges_; }

 private:
  void publish();
  void change();
  void begin_deletion();
  void check_deleted(const worker::EntryFilter& filter, const std::vector<uint32_t>& newest) const;
  void merge();
  binding::Record invent(const KeyId& key, const PoolDocument& pool);
  void note(const binding::Change& change);
  // By home.
  std::vector<uint32_t> newest_serials() const;

  Engine& engine_;
  World& world_;
  Trace& trace_;
  base::Random& random_;
  engine::MergeRings rings_;
  mirroring::Exchange exchange_;
  engine::Questions questions_;
  engine::News news_;
  engine::Deletions deletions_;
  Told mirror_;
  std::vector<std::pair<KeyId, binding::Record>> heard_of_;  // records that homes have told
  binding::StampClock peer_clock_;
  // This world's habits: of a hundred acts so many are changes, so many deletions; the rest merges.
  uint32_t changes_;
  uint32_t deletions_wanted_;
  uint32_t step_ = 0;
  uint64_t deletions_begun_ = 0;
  uint64_t merges_ = 0;
};

}  // namespace limpet::sim
