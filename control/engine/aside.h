// Aside: where the control thread has done what takes longer than its steps may: reading documents,
// compiling, writing to disk, giving large things back to the system.
//
// Virtual because a thread is outside of the parts that use one: tests and the simulator do the
// work when they choose to.
#pragma once

#include <functional>
#include <memory>
#include <utility>

namespace limpet::engine {

class Aside {
 public:
  virtual ~Aside() = default;

  // Has `work` done elsewhere, one after another in the order of the calls, then `done` called on
  // the control thread, where both are destroyed in the end.
  virtual void run(std::function<void()> work, std::function<void()> done) = 0;

  // Has what only the caller refers to destroyed elsewhere.
  template <class Garbage>
  void dispose(Garbage garbage) {
    auto held = std::make_shared<Garbage>(std::move(garbage));
    run([held] { *held = Garbage(); }, [] {});
  }
};

}  // namespace limpet::engine
