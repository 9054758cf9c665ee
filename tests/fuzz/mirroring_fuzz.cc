// Any bytes as frames between engines. Oracles: AddressSanitizer, no assertion, and every frame
// that is let through encodes to bytes that decode to the same frame.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "common/base/assert.h"
#include "control/mirroring/frame.h"

namespace limpet::mirroring {
namespace {

void run(std::span<const uint8_t> input) {
  for (;;) {
    const Decoded decoded = decode(input);
    LIMPET_ASSERT(decoded.bytes <= input.size() && decoded.bytes <= kFrameBytesMax);
    if (decoded.what == Decoded::What::kBad) LIMPET_ASSERT(decoded.reason != Reason::kNone);
    if (decoded.what == Decoded::What::kFrame) {
      std::vector<uint8_t> again;
      encode(decoded.frame, &again);
      LIMPET_ASSERT(again.size() <= decoded.bytes);
      const Decoded second = decode(again);
      LIMPET_ASSERT(second.what == Decoded::What::kFrame && second.frame == decoded.frame);
    }
    if (decoded.bytes == 0) return;
    input = input.subspan(decoded.bytes);
  }
}

}  // namespace
}  // namespace limpet::mirroring

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The input's end is the buffer's end.
  const auto exact = std::make_unique<uint8_t[]>(size);
  if (size > 0) std::memcpy(exact.get(), data, size);
  limpet::mirroring::run({exact.get(), size});
  return 0;
}
