// Cores: the workers as the control thread reaches them: messages, snapshots, and counters that are
// read. The engine's are threads (worker_threads.h); the simulator's and the tests' take their
// turns when they are told to. Virtual because what drives a core is outside of the parts that ask
// it something.
//
// Owner: the control thread. Whoever holds a Cores does to its workers nothing but this.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "dataplane/snapshot/publisher.h"
#include "dataplane/worker/core.h"

namespace limpet::engine {

class Cores {
 public:
  virtual ~Cores() = default;

  virtual uint32_t count() const = 0;
  // Its counters; everything else is its worker's.
  virtual const worker::Core& core(uint32_t w) const = 0;
  virtual worker::Shared& shared() = 0;
  virtual const worker::Shared& shared() const = 0;

  // False: there is no room now. What the message points to stays where it is until the core is
  // done with it.
  virtual bool send(uint32_t w, const worker::ControlMessage& message) = 0;

  // A slice of what the workers need to have before they see this snapshot; true when they have
  // it. Called again and again with the same snapshot until then.
  virtual bool provide(const snapshot::Snapshot& next) = 0;
  // As snapshot::Publisher.
  virtual bool can_publish() = 0;
  virtual snapshot::Token publish(std::shared_ptr<const snapshot::Snapshot> next) = 0;
  virtual snapshot::Token mark() = 0;
  virtual bool have_passed(snapshot::Token token) = 0;

  // Whether all have carried out what the snapshot with this version ended.
  bool have_swept(uint64_t version) const {
    return all_of([&](const worker::Core& core) { return core.stats().swept_version >= version; });
  }
  template <class Test>
  bool all_of(Test&& test) const {
    for (uint32_t w = 0; w < count(); ++w) {
      if (!test(core(w))) return false;
    }
    return true;
  }
  // The sum of what `of` says of each core.
  template <class Of>
  uint64_t sum(Of&& of) const {
    uint64_t all = 0;
    for (uint32_t w = 0; w < count(); ++w) all += of(core(w));
    return all;
  }
};

}  // namespace limpet::engine
