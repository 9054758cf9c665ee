#include "control/engine/questions.h"

#include <algorithm>
#include <utility>

namespace limpet::engine {

void Questions::ask(Jobs jobs, std::function<void(const Jobs&)> done) {
  for (uint32_t w = 0; w < jobs.size(); ++w)
    send(w, {.kind = worker::ControlMessage::Kind::kJob, .job = jobs[w].get()});
  questions_.push_back({std::move(jobs), std::move(done)});
}

void Questions::send(uint32_t core, const worker::ControlMessage& message) {
  waiting_[core].push_back(message);
  flush(core);
}

void Questions::send_all(const worker::ControlMessage& message) {
  for (uint32_t w = 0; w < waiting_.size(); ++w) send(w, message);
}

void Questions::flush(uint32_t core) {
  auto& waiting = waiting_[core];
  while (!waiting.empty() && cores_.send(core, waiting.front())) waiting.pop_front();
}

void Questions::tick() {
  for (uint32_t w = 0; w < waiting_.size(); ++w) flush(w);
  const auto is_done = [](const auto& job) { return job->done.load(std::memory_order_acquire); };
  while (!questions_.empty() && std::ranges::all_of(questions_.front().jobs, is_done)) {
    const Question question = std::move(questions_.front());
    questions_.pop_front();
    question.done(question.jobs);
  }
}

}  // namespace limpet::engine
