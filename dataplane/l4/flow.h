// Flow: one connection through the engine, both directions, either family.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "common/net/address.h"
#include "common/timing/wheel.h"
#include "dataplane/l4/tracker.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::l4 {

// What packets of a direction carry when they arrive:
//   kToServer: (client, vip), kToClient: (server, source);
// and when they leave, the other pair turned round.
// `source` is the client's own address and port when it is preserved.
struct alignas(64) Flow {
  // First line: what packets are known by, and become.
  net::Address client;
  net::Address vip;
  net::Address server;
  net::Address source;

  // Second line: what a packet of either direction reads and changes besides.
  uint16_t client_port = 0;  // all ports in host order
  uint16_t vip_port = 0;
  uint16_t server_port = 0;
  uint16_t source_port = 0;
  uint8_t protocol = 0;
  FlowState state = FlowState::kSynSent;
  uint8_t client_interface = 0;  // port index towards the client
  uint8_t server_interface = 0;
  net::Mac client_mac;                    // all zero without enable_autogw
  uint16_t idle_s = 0;                    // session_idle_timeout
  uint32_t neighbor = UINT32_MAX;         // NeighborTable handle of the server's next hop
  uint32_t client_neighbor = UINT32_MAX;  // ... of the client's, without enable_autogw
  timing::Tick expires;
  Seen seen;  // TCP
  // What new addresses change in checksums towards the server (packet::address_delta()).
  uint16_t delta = 0;
  // Why every packet is looked at, and none just passes.
  struct Look {
    bool per_packet : 1 = false;     // a translation only: every datagram is judged by itself
    bool learns_client : 1 = false;  // enable_autogw, and no packet of the client has come yet
    bool unbound : 1 =
        false;  // open, its binding went before it was confirmed: it asks for it anew
    bool unproved : 1 = false;  // adopted, and the server may be another one than its own
    uint8_t none : 4 = 0;

    bool any() const { return std::bit_cast<uint8_t>(*this) != 0; }
  };
  Look look;
  bool gauged : 1 = false;   // holds a place in the server's connection limit
  bool counted : 1 = false;  // an open connection in counters and in its entry
  bool used : 1 = false;
  bool confirmed : 1 = false;     // UDP: its binding is; with the first answer at the latest
  bool lately_freed : 1 = false;  // its source port was, when it was taken

  // Third line: what opening, closing and time need.
  snapshot::ServerSlot server_slot;
  uint32_t entry = UINT32_MAX;  // persist entry, valid while it has this serial and life
  uint32_t entry_serial = 0;
  snapshot::VsSlot virtual_service;
  uint8_t entry_life = 0;
  timing::WheelLinks links;
  timing::WheelLinks order;         // among those that give way, by their kind
  timing::Tick opened;              // UDP
  snapshot::NatId nat{UINT32_MAX};  // whose source port to give back; kNoNat: nobody's

  bool is_udp() const { return protocol == packet::kProtocolUdp; }
  // A connection that peers could go on with: the server sees the client's own address.
  bool keeps_client() const { return source == client; }
};

static_assert(sizeof(Flow) == 192 && alignof(Flow) == 64);
static_assert(offsetof(Flow, client_port) == 64, "a packet touches the first two lines");
static_assert(offsetof(Flow, server_slot) == 128);
static_assert(offsetof(Flow, vip) == offsetof(Flow, client) + 16 &&
                  offsetof(Flow, server) == offsetof(Flow, client) + 32 &&
                  offsetof(Flow, source) == offsetof(Flow, client) + 48 &&
                  offsetof(Flow, vip_port) == offsetof(Flow, client_port) + 2 &&
                  offsetof(Flow, server_port) == offsetof(Flow, client_port) + 4 &&
                  offsetof(Flow, source_port) == offsetof(Flow, client_port) + 6,
              "FlowTable::is() takes a pair of them by its direction");

inline constexpr snapshot::NatId kNoNat{UINT32_MAX};

}  // namespace limpet::l4
