// Questions: jobs for every core, and what to do when all are done. Also the one way by which
// messages go to the cores: in the order in which they were given, however long a ring is full.
//
// Owner: the control thread. Invariants
//  1. A question is answered once, and in the order of the questions: never from within ask().
//  2. A job lives until its core is done with it.
// Cost: a tick looks at the jobs of the oldest question.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "control/engine/cores.h"
#include "dataplane/worker/job.h"

namespace limpet::engine {

// By core.
using Jobs = std::vector<std::unique_ptr<worker::Job>>;

class Questions {
 public:
  explicit Questions(Cores& cores) : cores_(cores), waiting_(cores.count()) {}

  // A job for each core, made by `make(job)`.
  template <class Make>
  Jobs jobs(Make&& make) const {
    Jobs out;
    for (uint32_t w = 0; w < cores_.count(); ++w) {
      out.push_back(std::make_unique<worker::Job>());
      make(*out.back());
    }
    return out;
  }
  void ask(Jobs jobs, std::function<void(const Jobs&)> done);

  void send(uint32_t core, const worker::ControlMessage& message);
  void send_all(const worker::ControlMessage& message);

  // Sends what found no room before, and answers the questions whose jobs are done.
  void tick();
  bool idle() const { return questions_.empty(); }

 private:
  struct Question {
    Jobs jobs;
    std::function<void(const Jobs&)> done;
  };

  void flush(uint32_t core);

  Cores& cores_;
  std::vector<std::deque<worker::ControlMessage>> waiting_;  // by core: for room
  std::deque<Question> questions_;
};

}  // namespace limpet::engine
