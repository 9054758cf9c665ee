// Who is bound to whom, by names that mean the same on every engine and after every restart
// (control/config/README.md, "Identities"), and the short ones that they have within one process.
#pragma once

#include <cstdint>

#include "common/base/strong.h"

namespace limpet::binding {

using ServerId = base::Strong<struct ServerIdTag, uint64_t>;
using ScopeId = base::Strong<struct ScopeIdTag, uint64_t>;
// A scope's place in snapshots and tables of this process.
using ScopeSlot = base::Strong<struct ScopeSlotTag, uint32_t>;

inline constexpr ScopeSlot kNoScope{UINT32_MAX};
inline constexpr ServerId kNoServer{0};

}  // namespace limpet::binding
