// Replay: runs captures through one core in one thread, with the packets' capture times as the
// clock and fixed seeds, so that two runs give identical files (control/engine/README.md,
// "Replay").
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "control/config/bootstrap.h"

namespace limpet::engine {

// `events`: the path of the EVENTS file. Errors are of the configuration (exit status 1) unless
// `device_failure` is set (3).
base::Status replay(const config::Bootstrap& bootstrap, std::optional<std::string> document,
                    const std::optional<std::filesystem::path>& events, bool* device_failure);

}  // namespace limpet::engine
