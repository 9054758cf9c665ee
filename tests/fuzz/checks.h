// What holds for every answer of a parser, whatever it was given.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "common/base/assert.h"
#include "common/base/result.h"

namespace limpet::fuzz {

// Each has a message, and can be sent as JSON: dump() aborts the target when it is no UTF-8.
inline void check_problems(const std::vector<base::Error>& problems) {
  for (const base::Error& problem : problems) {
    LIMPET_ASSERT(!problem.message.empty());
    LIMPET_ASSERT(problem.path.empty() || problem.path.front() == '/');
    const nlohmann::json answer = {{"path", problem.path}, {"message", problem.message}};
    LIMPET_ASSERT(!answer.dump().empty());
  }
}

}  // namespace limpet::fuzz
