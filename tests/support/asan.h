// LIMPET_TESTS_WITH_ASAN: defined when AddressSanitizer watches, so that memory can be poisoned.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define LIMPET_TESTS_WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LIMPET_TESTS_WITH_ASAN 1
#endif
#endif
#ifdef LIMPET_TESTS_WITH_ASAN
#include <sanitizer/asan_interface.h>
#endif
