#include "dataplane/port/queues.h"

#include <algorithm>

#include "common/base/assert.h"

namespace limpet::port {

Queues assign_queues(std::span<const QueueCounts> devices, uint32_t workers) {
  LIMPET_ASSERT(workers > 0);
  Queues queues;
  queues.receive.resize(workers);
  queues.transmit.resize(devices.size());
  for (uint32_t d = 0; d < devices.size(); ++d) {
    LIMPET_ASSERT(devices[d].receive > 0 && devices[d].transmit > 0);
    for (uint32_t q = 0; q < devices[d].receive; ++q) {
      queues.receive[(d + q) % workers].push_back(
          {static_cast<uint16_t>(d), static_cast<uint16_t>(q)});
    }
    const uint32_t shift = d % workers;
    const uint32_t used = std::min<uint32_t>(devices[d].transmit, workers);
    for (uint32_t w = 0; w < workers; ++w) {
      const uint32_t queue = (w + workers - shift) % workers % used;
      queues.transmit[d].push_back(
          {static_cast<uint16_t>((shift + queue) % workers), static_cast<uint16_t>(queue)});
    }
  }
  return queues;
}

}  // namespace limpet::port
