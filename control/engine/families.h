// Families: metrics of what cores say to each other about bindings, and of what the control thread
// has between homes, peers and disk.
#pragma once

#include <cstdint>
#include <vector>

#include "control/api/backend.h"
#include "control/engine/cores.h"
#include "control/engine/table_keeper.h"
#include "control/mirroring/exchange.h"

namespace limpet::engine {

// Bindings that ended, by reason, over all cores.
std::vector<api::ReasonCount> ends(const Cores& cores);
void add_replication(const Cores& cores, const std::vector<uint32_t>& worker_cores,
                     api::MetricsView* out);
// `keeper`: null without a state directory.
void add_exchange(const mirroring::Exchange& exchange, const TableKeeper* keeper,
                  api::MetricsView* out);

}  // namespace limpet::engine
