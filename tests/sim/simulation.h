// Simulation: one world from one seed: who takes the next step, and how time passes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/timing/manual_clock.h"
#include "tests/sim/engine.h"
#include "tests/sim/invariants.h"
#include "tests/sim/ledger.h"
#include "tests/sim/orders.h"
#include "tests/sim/trace.h"
#include "tests/sim/traffic.h"
#include "tests/sim/world.h"

namespace limpet::sim {

class Simulation {
 public:
  explicit Simulation(uint64_t seed);

  // Throws a Violation.
  void run(uint32_t steps);
  const Trace& trace() const { return trace_; }
  // What has happened, by name; for a summary over seeds.
  void count(std::map<std::string, uint64_t>& totals);

 private:
  void step();
  void step_core(uint32_t core);
  void pass_time();
  void stall();
  void round();
  void settle();
  void wait_for_the_end();

  base::Random random_;
  timing::ManualClock clock_{timing::Instant{1'000'000'000'000}};
  Trace trace_;
  Engine engine_;
  World world_;
  Orders orders_;
  Ledger ledger_;
  Traffic traffic_;
  std::vector<uint32_t> stalled_until_;  // by core: step
  uint32_t step_ = 0;
  bool finishing_ = false;
  // This world's habits, in percent.
  uint32_t whole_turns_;
  uint32_t traffic_share_;
  uint32_t orders_share_;
  uint32_t time_share_;
  uint32_t long_stalls_;
};

}  // namespace limpet::sim
