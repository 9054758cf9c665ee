// Allocations: how often this program has asked for memory. Whoever links it has an operator new
// of its own.
#pragma once

#include <cstdint>

namespace limpet::support {

// So far, by any thread.
uint64_t allocations();

}  // namespace limpet::support
