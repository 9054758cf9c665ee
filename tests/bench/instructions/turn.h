// The turn whose instructions are counted: from arrive() to what lies in Output::tx() after end().
#pragma once

#include <span>

#include "dataplane/worker/core.h"

// worker::turn() for a burst from one device, without a Loop's devices and rings. callgrind is
// told to count in the function of this name: it has C's, and a file of its own, for the compiler
// neither to inline it nor to make others of it.
extern "C" void limpet_counted_turn(limpet::worker::Core& core, const limpet::snapshot::Snapshot& s,
                                    limpet::timing::Instant now,
                                    std::span<limpet::packet::Buffer* const> burst,
                                    const limpet::packet::IngressSet& ports);
