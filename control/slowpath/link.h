// Link: what the slow path needs of the world around it. Virtual because it is the boundary: the
// engine puts rings to the workers behind it, tests a recorder.
//
// Owner: the control thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "dataplane/egress/neighbor_update.h"
#include "dataplane/packet/buffer.h"
#include "dataplane/packet/verdict.h"

namespace limpet::slowpath {

class Link {
 public:
  virtual ~Link() = default;

  // An empty buffer with headroom and room for 128 bytes; null when there is none.
  virtual packet::Buffer* allocate() = 0;
  // Sends a complete Ethernet frame by port meta.port. Takes the buffer, whatever becomes of it.
  virtual void transmit(packet::Buffer* frame) = 0;
  // Tells every worker. None may be lost and their order must stay: what does not fit has to wait.
  virtual void neighbor(const egress::NeighborUpdate& update) = 0;
  // Something people should know; `name` as in the list of events ("ADDRESS_CONFLICT").
  virtual void event(std::string_view name, std::string_view object, std::string_view message) = 0;
  // A heartbeat of another engine came, for one of the ports' addresses; nothing of it has been
  // judged.
  virtual void heartbeat(const net::Address& from, std::span<const uint8_t> datagram) = 0;
  // Counts a frame that was dropped; the slow path has released it.
  virtual void drop(packet::DropReason reason) = 0;
};

}  // namespace limpet::slowpath
