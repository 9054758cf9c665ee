// Reporter: events of the engine, with the time at which they happened.
//
// Owner: the control thread. Cost: an event is a line on standard error, so of very many at once
// only some are told in a step.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include "common/telemetry/events.h"
#include "common/timing/time.h"

namespace limpet::engine {

class Reporter {
 public:
  static constexpr std::size_t kPerTick = 64;

  Reporter(telemetry::EventLog& log, const timing::Clock& clock) : log_(log), clock_(clock) {}

  void report(telemetry::EventName name, std::string_view object, std::string_view message) {
    log_.record(clock_.now(), clock_.wall(), name, object, message);
  }

  // One of many: told by the next tick(), unless too many wait.
  void add(telemetry::EventName name, std::string object, std::string message) {
    waiting_.push_back({name, clock_.wall(), std::move(object), std::move(message)});
  }
  void tick() {
    for (std::size_t i = 0; i < kPerTick && !waiting_.empty(); ++i) tell_first();
    log_.tell_suppressed(clock_.now(), kPerTick);
  }
  // Before the end.
  void tell_all() {
    while (!waiting_.empty()) tell_first();
    log_.tell_all_suppressed(clock_.now());
  }

 private:
  struct Waiting {
    telemetry::EventName name;
    timing::WallTime time;  // when it happened
    std::string object;
    std::string message;
  };

  void tell_first() {
    const Waiting& first = waiting_.front();
    log_.record(clock_.now(), first.time, first.name, first.object, first.message);
    waiting_.pop_front();
  }

  telemetry::EventLog& log_;
  const timing::Clock& clock_;
  std::deque<Waiting> waiting_;
};

}  // namespace limpet::engine
