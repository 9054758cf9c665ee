// Invariants: what holds between cores after every step (dataplane/replication/README.md,
// "Invariants that the simulator checks at every step"), found out from tables, rings, pens and
// flows alone.
#pragma once

#include <string>
#include <unordered_map>

#include "tests/sim/engine.h"
#include "tests/sim/ledger.h"
#include "tests/sim/world.h"

namespace limpet::sim {

// What homes have told the control thread, all of it read.
using Told = std::unordered_map<KeyId, binding::Change, KeyIdHash>;

// Throws a Violation.
void check_invariants(Engine& engine, const World& world, const Ledger& ledger, const Told& mirror);

// When all messages have been delivered: nothing is under way, nothing waits (P6). Empty when so,
// else what is left.
std::string unfinished(Engine& engine);

// When all time is over: what is left.
std::string leaks(Engine& engine, const World& world);

}  // namespace limpet::sim
