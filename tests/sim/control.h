// Control: what the control thread does to an engine: publishes changes of the configuration when
// the one before has been swept (control/engine/changes.cc, pump), deletes bindings, keeps a
// replica of them (the mirror) from what homes tell, and passes on what peers know.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "dataplane/persist/change.h"
#include "tests/sim/engine.h"
#include "tests/sim/invariants.h"
#include "tests/sim/trace.h"
#include "tests/sim/world.h"

namespace limpet::sim {

class Control {
 public:
  Control(Engine& engine, World& world, Trace& trace, base::Random& random);

  // Something: a change, a deletion, a peer's news.
  void act(uint32_t step);
  // Reads some of what homes have told.
  void read_news();
  // Looks after a deletion that is under way.
  void poll();
  void publish_when_swept();
  bool idle() const { return deletion_ == nullptr; }

  const Told& mirror() const { return mirror_; }
  uint64_t deletions() const { return deletions_; }
  uint64_t merges() const { return merges_; }

 private:
  struct Deletion {
    std::vector<std::unique_ptr<worker::Job>> jobs;
    std::vector<uint32_t> newest_serial;  // by home, when it was ordered
    std::vector<uint64_t> turns;          // by core, when all homes had reported
    bool reported = false;
  };

  void change();
  void start_deletion();
  void check_deleted();
  void merge();
  persist::Record invent(const KeyId& key, const PoolDocument& pool);

  Engine& engine_;
  World& world_;
  Trace& trace_;
  base::Random& random_;
  Told mirror_;
  std::vector<std::pair<KeyId, persist::Record>> heard_of_;  // records that homes have told
  std::unique_ptr<Deletion> deletion_;
  std::vector<std::unique_ptr<Deletion>> done_;  // cores may still look at their jobs
  persist::StampClock peer_clock_;
  timing::Instant peer_now_;
  // This world's habits: of a hundred acts so many are changes, so many deletions; the rest merges.
  uint32_t changes_;
  uint32_t deletions_wanted_;
  uint32_t step_ = 0;
  uint64_t deletions_ = 0;
  uint64_t merges_ = 0;
};

}  // namespace limpet::sim
