// Flow: one connection through the engine, both directions, either family.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/net/address.h"
#include "common/timing/wheel.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::l4 {

enum class FlowState : uint8_t {
  kSynSent,      // the client's SYN was forwarded; UDP: no answer from the server yet
  kSynReceived,  // the server's SYN-ACK was
  kEstablished,  // handshake complete; UDP: the server answered
  kClientFin,    // half closed: the client has finished
  kServerFin,
  kTimeWait,  // both FINs passed; no open connection any more
};

enum class Direction : uint8_t { kToServer, kToClient };

// What packets of a direction carry when they arrive:
//   kToServer: (client, vip), kToClient: (server, source).
// `source` is the client's own address and port when it is preserved.
struct Flow {
  net::Address client;
  net::Address vip;
  net::Address server;
  net::Address source;

  uint16_t client_port = 0;  // all ports in host order
  uint16_t vip_port = 0;
  uint16_t server_port = 0;
  uint16_t source_port = 0;

  uint8_t protocol = 0;
  FlowState state = FlowState::kSynSent;
  uint8_t client_interface = 0;  // port index towards the client
  uint8_t server_interface = 0;
  net::Mac client_mac;  // all zero without enable_autogw
  snapshot::VsSlot virtual_service;

  uint32_t neighbor = UINT32_MAX;  // NeighborTable handle of the server's next hop
  snapshot::ServerSlot server_slot;
  uint32_t entry = UINT32_MAX;  // persist entry, valid while it has this serial and life
  uint32_t entry_serial = 0;
  timing::Tick expires;
  timing::WheelLinks links;
  uint32_t client_ack = 0;  // latest acknowledgment numbers: the sequence number that a reset
  uint32_t server_ack = 0;  // towards that side must carry (RFC 5961 3.2)
  snapshot::NatId nat{UINT32_MAX};  // whose source port to give back; kNone when preserved
  uint16_t idle_s = 0;              // session_idle_timeout
  bool gauged : 1 = false;          // holds a place in the server's connection limit
  bool counted : 1 = false;         // an open connection in counters and in its entry
  bool per_packet : 1 = false;      // a translation only: every datagram is judged by itself
  bool learns_client : 1 = false;   // enable_autogw, and no packet of the client has come yet
  bool used : 1 = false;
  uint8_t entry_life = 0;
};

static_assert(sizeof(Flow) == 128, "two cache lines for both directions of either family");
static_assert(offsetof(Flow, client_port) == 64, "addresses fill the first line");

inline constexpr snapshot::NatId kNoNat{UINT32_MAX};

}  // namespace limpet::l4
