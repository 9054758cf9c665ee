// Which worker polls which receive queue and sends by which transmit queue. A device may have fewer
// queues than there are workers; every queue has exactly one worker, and a worker without a
// transmit queue on a device hands its frames over the ring to the worker that has one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace limpet::port {

struct QueueCounts {
  uint16_t receive = 1;
  uint16_t transmit = 1;
};

struct ReceiveQueue {
  uint16_t device = 0;
  uint16_t queue = 0;
  friend bool operator==(const ReceiveQueue&, const ReceiveQueue&) = default;
};

struct TransmitQueue {
  uint16_t worker = 0;  // who may use the queue: oneself, or to whom frames are handed
  uint16_t queue = 0;
  friend bool operator==(const TransmitQueue&, const TransmitQueue&) = default;
};

struct Queues {
  std::vector<std::vector<ReceiveQueue>> receive;    // by worker
  std::vector<std::vector<TransmitQueue>> transmit;  // by device, then worker
};

// Receive queue q of device d belongs to worker (d + q) mod `workers`; so does transmit queue q,
// of which at most one a worker is used. Workers without one are spread over those with one.
// `workers` and all counts are at least 1.
Queues assign_queues(std::span<const QueueCounts> devices, uint32_t workers);

}  // namespace limpet::port
