// Changes: the queue of what changes the configuration, and the change in hand, which passes these
// stations:
//
//   preparing    away from the control thread: read, compiled, checked
//   waiting      until the workers have carried out what the last snapshot ended (so that a new
//                server at a used address inherits nobody) and old snapshots are given back
//   providing    the workers are given what they need before they see the snapshot
//   published    until every worker has taken it
//   storing      away again, of what has to outlive a restart; the next change is begun meanwhile
//
// Owner: the control thread. Invariants
//  1. The change in hand belongs to whoever works on it: it is in no queue, and nothing that is
//     added touches it.
//  2. running() is replaced only when all workers have taken the next one, and is read elsewhere
//     only while a change is prepared, when it stays as it is.
//  3. Each change is answered once, `applied` or `refused`, unless the engine ends before.
//  4. Nothing large is destroyed here: what running() was goes aside.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "control/engine/aside.h"
#include "control/engine/configurator.h"
#include "control/engine/cores.h"

namespace limpet::engine {

class Changes {
 public:
  // What of a change has to outlive a restart: not what came from disk itself.
  enum class Keep : uint8_t { kAll, kDocument, kNothing };

  struct Operation {
    Change change;
    Keep keep = Keep::kAll;
    std::function<void(const Prepared&)> applied{};
    std::function<void(const Refused&)> refused{};
  };

  // What others do with a change. All but `plan` are called on the control thread.
  struct Hooks {
    // Away from the control thread: adds to what was prepared.
    std::function<void(Prepared*)> plan = [](Prepared*) {};
    // It is published next.
    std::function<void(Prepared&)> publishing = [](Prepared&) {};
    // All workers have it, and it is running().
    std::function<void(const Change&, const Prepared&)> applied = [](const Change&,
                                                                     const Prepared&) {};
    // A document or marks were refused, or (500) applied but not stored.
    std::function<void(const Change&, const Refused&)> refused = [](const Change&, const Refused&) {
    };
    // Away from the control thread, on the disk's: none: nothing outlives a restart. Null: what was
    // stored last is still right.
    std::function<base::Status(const std::string* document, const std::string* marks)> store{};
  };

  // `spare`: where what is not needed any more is destroyed.
  Changes(Cores& cores, Aside& helper, Aside& disk, Aside& spare, const Surroundings& around,
          Configuration first, const timing::Clock& clock, Hooks hooks)
      : cores_(cores),
        helper_(helper),
        disk_(disk),
        spare_(spare),
        around_(around),
        clock_(clock),
        hooks_(std::move(hooks)),
        running_(std::move(first)) {}

  const Configuration& running() const { return running_; }
  // The registry may be written (recycled) while nothing is copied from running().
  compile::Registry* registry() { return in_hand_ ? nullptr : &running_.registry; }

  void add(Operation operation);
  // Before everything that is not being worked on.
  void add_first(Operation operation);

  // The next step of the change in hand, if it can be taken now.
  void tick();
  // Nothing waits or is being worked on (but for the disk).
  bool idle() const { return !in_hand_ && queue_.empty(); }

 private:
  // The change in hand. Shared with the helper while it is being prepared.
  struct InHand {
    Operation operation;
    std::optional<std::variant<Prepared, Refused>> outcome{};
    bool provided = false;
    std::optional<snapshot::Token> published{};

    Prepared& prepared() { return std::get<Prepared>(*outcome); }
  };

  void begin(Operation operation);
  void refuse();
  void advance();
  void finish();
  void store(const std::shared_ptr<InHand>& done);
  void answer(const std::shared_ptr<InHand>& done, const base::Status& status);

  Cores& cores_;
  Aside& helper_;
  Aside& disk_;
  Aside& spare_;
  const Surroundings& around_;
  const timing::Clock& clock_;
  const Hooks hooks_;
  Configuration running_;
  std::deque<Operation> queue_;
  std::shared_ptr<InHand> in_hand_;
};

}  // namespace limpet::engine
