// Assertions for programmer errors. They stay on in release builds; nothing that arrives from the
// network, a peer or a user may be able to fail one.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace limpet::base {

[[noreturn]] inline void assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace limpet::base

#define LIMPET_ASSERT(condition)      \
  ((condition) ? static_cast<void>(0) \
               : ::limpet::base::assertion_failed(#condition, __FILE__, __LINE__))
