// Explainer: what the API asks about one client: where would it go, and why? Changes nothing.
//
// Owner: the control thread. Invariant: an answer is of one snapshot. Each core answers by the one
// that it has, and says which; if that is not the one in which the question was asked, it is asked
// again in the newest.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "control/engine/entries.h"

namespace limpet::engine {

class Explainer {
 public:
  using Answer = api::Answer<api::Outcome<api::Explanation>>;

  // `worker_cores`: the processor of each worker, as answers name it.
  Explainer(Questions& questions, const Entries& entries, const Configuration& running,
            const balance::Gauges& gauges, std::vector<uint32_t> worker_cores,
            const timing::Clock& clock)
      : questions_(questions),
        entries_(entries),
        running_(running),
        gauges_(gauges),
        worker_cores_(std::move(worker_cores)),
        clock_(clock) {}

  void explain(const api::ExplainRequest& request, Answer answer) { ask(request, answer, 0); }

 private:
  static constexpr uint32_t kTries = 1000;  // about a second of changes without pause

  void ask(const api::ExplainRequest& request, const Answer& answer, uint32_t tries);
  std::variant<std::size_t, api::Refusal> find(const api::ExplainRequest& request) const;
  void explain_binding(const Jobs& jobs, uint32_t home_index, const snapshot::Snapshot& s,
                       const snapshot::Scope* scope, api::Explanation* out) const;
  void explain_answer(const worker::Job& job, const snapshot::Snapshot& s,
                      const snapshot::VirtualService& service, bool tcp,
                      api::Explanation* out) const;

  Questions& questions_;
  const Entries& entries_;
  const Configuration& running_;
  const balance::Gauges& gauges_;
  const std::vector<uint32_t> worker_cores_;
  const timing::Clock& clock_;
};

}  // namespace limpet::engine
