#include "tests/sim/simulation.h"

#include <algorithm>

namespace limpet::sim {

using timing::Duration;
using timing::milliseconds;

Simulation::Simulation(uint64_t seed)
    : random_(seed),
      engine_(Shape::random(random_), clock_, random_),
      world_(random_),
      orders_(engine_, world_, trace_, clock_, random_),
      ledger_(engine_, world_, trace_),
      traffic_(world_, engine_, random_),
      stalled_until_(engine_.cores()),
      whole_turns_(random_.below(80)),
      traffic_share_(5 + random_.below(20)),
      orders_share_(chance(random_, 25) ? 0 : 1 + random_.below(4)),
      time_share_(1 + random_.below(12)),
      long_stalls_(chance(random_, 30) ? 0 : random_.below(30)) {
  for (int i = 0; i < 3; ++i) round();
}

void Simulation::run(uint32_t steps) {
  for (step_ = 1; step_ <= steps; ++step_) step();
  settle();
  wait_for_the_end();
}

void Simulation::step() {
  const uint32_t what = random_.below(100);
  if (what < traffic_share_) return traffic_.act();
  if (what < traffic_share_ + time_share_) return pass_time();
  if (what < traffic_share_ + time_share_ + orders_share_) return orders_.act(step_);
  if (what < traffic_share_ + time_share_ + orders_share_ + 3) {
    orders_.read_news();
    return orders_.poll();
  }
  if (random_.below(200) == 0) return stall();
  const uint32_t core = random_.below(engine_.cores());
  if (stalled_until_[core] > step_) return;
  uint32_t stages = chance(random_, whole_turns_) ? kStages : 1 + random_.below(3);
  while (stages-- > 0) step_core(core);
}

void Simulation::step_core(uint32_t core) {
  const Stage stage = engine_.stage(core);
  ledger_.before(core, stage, step_);
  engine_.step(
      core, [&](const support::Bytes& frame) { ledger_.received(frame); },
      [&](const Leaving& frame) {
        if (!finishing_) traffic_.left(frame);
      });
  ledger_.after(core, stage);
  check_invariants(engine_, world_, ledger_, orders_.mirror());
}

void Simulation::pass_time() {
  const uint32_t what = random_.below(100);
  const Duration by = what < 70   ? Duration(timing::milliseconds(random_.below(8)))
                      : what < 90 ? Duration(milliseconds(random_.below(120)))
                      : what < 98 ? Duration(milliseconds(random_.below(1500)))
                                  : Duration(milliseconds(random_.below(15000)));
  clock_.advance(by);
}

// A core loses its processor for a while.
void Simulation::stall() {
  const uint32_t core = random_.below(engine_.cores());
  const uint32_t steps = chance(random_, long_stalls_) ? 800 : 60;
  stalled_until_[core] = step_ + random_.below(steps);
}

// A turn of each core, all of it.
void Simulation::round() {
  for (uint32_t core = 0; core < engine_.cores(); ++core) {
    do step_core(core);
    while (engine_.stage(core) != Stage::kReceive);
  }
  orders_.read_news();
  orders_.poll();
}

// P6: when nobody stalls and nobody wants anything new, all that is under way arrives.
void Simulation::settle() {
  finishing_ = true;
  std::string left = "not tried";
  for (uint32_t i = 0; i < 2000 && !left.empty(); ++i) {
    clock_.advance(milliseconds(1));
    round();
    left = unfinished(engine_);
    if (left.empty() && !orders_.idle()) left = "a deletion does not end";
    if (left.empty() && !engine_.have_swept(world_.version())) left = "a sweep does not end";
  }
  if (!left.empty()) throw Violation{"P6", left, {}};
}

void Simulation::wait_for_the_end() {
  constexpr Duration kGrain = milliseconds(200);
  traffic_.finish();
  for (uint32_t i = 0; i < 20; ++i) {
    clock_.advance(milliseconds(5));
    round();
  }
  ledger_.clients_have_gone(clock_.now());
  // Flows end by idling, then bindings by their timeouts.
  for (uint32_t i = 0; i < 4000; ++i) {
    clock_.advance(kGrain);
    // Those who are held are asked again and again: with few credits or little room that takes
    // turns.
    const auto& rings = engine_.shape().rings;
    for (uint32_t r = 0; r <= 8 / std::min(rings.answers, rings.down); ++r) round();
    if (i % 4 == 0) ledger_.check_overdue(clock_.now(), kGrain);
    if (i % 16 == 0 && leaks(engine_, world_).empty() && unfinished(engine_).empty()) return;
  }
  std::string left = unfinished(engine_);
  if (!left.empty()) throw Violation{"P6", left, {}};
  left = leaks(engine_, world_);
  if (!left.empty()) throw Violation{"leak", left, {}};
}

void Simulation::count(std::map<std::string, uint64_t>& totals) {
  totals["openings"] += ledger_.openings();
  totals["deletions"] += orders_.deletions();
  totals["snapshots"] += world_.version();
  for (uint32_t c = 0; c < engine_.cores(); ++c) {
    const replication::Counters& n = engine_.core(c).replica().counters();
    totals["created"] += n.created;
    totals["moved"] += n.moved;
    totals["undone"] += n.undone;
    totals["merged"] += n.merged;
    totals["merges refused"] += n.merges_refused;
    totals["expired"] += n.expired;
    totals["evicted idle"] += n.evicted_idle;
    totals["evicted embryonic"] += n.evicted_embryonic;
    totals["dropped with their scope"] += n.dropped;
    totals["deleted"] += n.deleted;
    totals["claims"] += n.claims;
    totals["touches"] += n.touches;
    totals["updates"] += n.updates;
    totals["refusals"] += n.refusals;
    totals["recalls"] += n.recalls;
    totals["answers yes"] += n.answers_yes;
    totals["answers no"] += n.answers_no;
    totals["gones"] += n.gones;
    totals["news"] += n.news;
    totals["waited for room"] += n.waited;
    for (std::size_t p = 0; p < 2; ++p) {
      const auto dropped = [&](packet::DropReason reason) {
        return engine_.core(c).output().drops(p)[static_cast<std::size_t>(reason)].get();
      };
      totals["packets: late"] += dropped(packet::DropReason::kClaimLate);
      totals["packets: pen full"] += dropped(packet::DropReason::kPenFull);
      totals["packets: table full"] += dropped(packet::DropReason::kTableFull);
      totals["packets: at limit"] += dropped(packet::DropReason::kServerAtLimit);
      totals["packets: flow table full"] += dropped(packet::DropReason::kFlowTableFull);
      totals["packets: steering full"] += dropped(packet::DropReason::kSteerRingFull);
    }
  }
}

}  // namespace limpet::sim
