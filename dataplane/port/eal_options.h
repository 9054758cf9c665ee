// What an operator may pass on to DPDK: the bootstrap's `eal`. DPDK answers a wrong option with its
// whole help text and without saying which it was, and it takes options that undo what the engine
// relies on; so they are judged here before, by a table of those that DPDK 22.11 has. Pure.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"

namespace limpet::port {

// Every wrong element with its JSON pointer ("/eal/2"): unknown or ambiguous options, values that
// are missing, superfluous or not understood, options that the engine sets itself, and those that
// only print something and end the process. `hugepages`: the bootstrap's.
base::Errors check_eal_options(const std::vector<std::string>& options, bool hugepages);

}  // namespace limpet::port
