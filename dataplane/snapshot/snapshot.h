// Snapshot: everything a worker needs to know of the configuration, resolved and immutable. The
// control side compiles one from a document, the bootstrap and the health marks, and publishes it
// (publisher.h); workers take the newest at the start of a turn.
//
// Invariants
//  1. Nothing in a Snapshot changes after it was published.
//  2. Slots (VsSlot, ServerSlot, ScopeSlot, NatId) are handles that the control side's registry
//     gives to identities. A slot keeps its meaning for as long as a flow, an entry or a snapshot
//     uses it.
//  3. Names are here for listings and explanations; no packet reads one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/strong.h"
#include "common/binding/identity.h"
#include "common/net/address.h"
#include "common/timing/time.h"
#include "dataplane/snapshot/route_table.h"

namespace limpet::snapshot {

using VsSlot = base::Strong<struct VsSlotTag, uint16_t>;
using ServerSlot = base::Strong<struct ServerSlotTag, uint32_t>;
using NatId = base::Strong<struct NatIdTag, uint32_t>;
using PoolIndex = base::Strong<struct PoolIndexTag, uint32_t>;

inline constexpr uint32_t kNoIndex = UINT32_MAX;

// A port of the engine as packets see it.
struct Port {
  std::string name;
  uint8_t index = 0;
  uint16_t vlan = 0;
  uint16_t mtu = 1500;
  net::Mac mac;
  std::vector<net::Prefix> addresses;  // with host bits: 10.1.0.1/24

  friend bool operator==(const Port&, const Port&) = default;
};

enum class ServerState : uint8_t {
  kUp,        // takes new clients
  kDown,      // mark, monitor
  kDisabled,  // draining: no new clients; policy `draining` decides for persisted ones
};

struct Server {
  binding::ServerId id;
  ServerSlot slot;
  net::Address address;
  uint16_t port = 0;    // host order; 0: the port that the client used (use_service_port)
  uint16_t weight = 1;  // `ratio`
  ServerState state = ServerState::kUp;
  bool reset_connections = false;  // graceful_disable_timeout is over: established ones are reset
  bool reachable = true;           // false: no route; then treated as down
  uint32_t connections_max = 0;    // 0: no limit
  Hop hop;
  // Source NAT: the addresses to use towards this server and the first of as many NatIds, one per
  // address, for TCP and for UDP. Empty when clients keep their addresses.
  std::vector<net::Address> sources;
  NatId tcp_nat;
  NatId udp_nat;
  std::string name;  // "10.2.0.2:80", as listings print it

  // Where clients of this port are served.
  uint16_t port_for(uint16_t used) const { return port != 0 ? port : used; }
};

enum class Algorithm : uint8_t { kRoundRobin, kLeastConnections, kRandom, kConsistentHash };
enum class HashInput : uint8_t { kSourceAddress, kSourceAddressAndPort };

// What to do with a persisted client: dataplane/affinity/README.md, "A server that may not be
// used".
enum class Recovery : uint8_t { kPickNew, kContinue, kAbort };

struct Pool {
  std::string name;
  std::string tenant;
  std::string uuid;
  Algorithm algorithm = Algorithm::kLeastConnections;
  HashInput hash_input = HashInput::kSourceAddress;
  std::vector<Server> servers;
  bool equal_weights = false;  // of all servers
  // Maglev table over the servers that take new clients: indices into `servers`; empty when the
  // algorithm is another or no server qualifies.
  std::vector<uint16_t> maglev;
  // Of index(). Open addressing, power of two, at most half full: ServerId -> index + 1; 0 is
  // empty.
  std::vector<uint32_t> by_id;
  std::vector<net::Address> addresses;  // of the servers, sorted

  // Makes what find(), has_address() and `equal_weights` go by; to be called when `servers` stands.
  void index();

  // Whether a server of the pool has this address.
  bool has_address(const net::Address& address) const {
    return std::binary_search(addresses.begin(), addresses.end(), address);
  }
  // The server with this identity; null when it is not in the pool.
  const Server* find(binding::ServerId id) const {
    if (by_id.empty()) return nullptr;
    const std::size_t mask = by_id.size() - 1;
    for (std::size_t i = id.value & mask;; i = (i + 1) & mask) {
      if (by_id[i] == 0) return nullptr;
      if (servers[by_id[i] - 1].id == id) return &servers[by_id[i] - 1];
    }
  }
};

// One persist scope: (VS, pool, profile), or (pool, profile) when shared.
struct Scope {
  binding::ScopeId id;
  binding::ScopeSlot slot;
  bool live = false;            // false: a gap; its entries are being dropped
  uint64_t since = 0;           // the version that gave it the slot
  std::string type;             // "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS"
  std::string virtual_service;  // empty when shared by several
  std::string virtual_service_uuid;
  std::string pool_name;
  std::string profile;
  PoolIndex pool;
  timing::Duration timeout{};
  // How often other engines are told that a binding is in use, if more often than twice in a
  // timeout; zero: that is often enough.
  timing::Duration update_interval{};
  uint8_t mask_v4 = 32;
  uint8_t mask_v6 = 128;
  Recovery down = Recovery::kPickNew;
  Recovery at_limit = Recovery::kPickNew;
  Recovery draining = Recovery::kPickNew;
  bool return_home = false;
  bool purge = true;  // FULL; false: NO_PURGE
  bool mirrored = true;

  net::Address key_of(const net::Address& client) const {
    return client.masked(client.is_v4() ? mask_v4 : mask_v6);
  }
};

struct VirtualService {
  std::string name;
  std::string tenant;
  std::string uuid;
  VsSlot slot;
  PoolIndex pool;
  binding::ScopeSlot scope = binding::kNoScope;
  bool preserve_client = false;
  bool autogw = true;
  bool per_packet = false;  // per_pkt_loadbalance
  bool served = true;       // false: known (listed in status), not served; `why_not` says why
  // Not served, because another engine owns its group: clients and servers go on without us.
  bool standby = false;
  // A connection that was opened through another engine goes on here: engines take it over from one
  // another, and clients keep their addresses.
  bool adopts = false;
  std::string why_not;
  timing::Duration tcp_idle = timing::seconds(300);
  timing::Duration udp_idle = timing::seconds(10);
};

// A range of ports of a VIP and protocol; sorted by (address, protocol, first), never overlapping.
struct Listener {
  net::Address address;
  uint8_t protocol = 0;  // IPPROTO_TCP or IPPROTO_UDP
  uint16_t first_port = 0;
  uint16_t last_port = 0;
  uint32_t virtual_service = 0;  // index into virtual_services
};

// A server of which all connections that may be adopted are of one VIP and port.
struct Adoptable {
  net::Address server;
  uint16_t port = 0;
  uint32_t virtual_service = 0;  // index into virtual_services
  net::Address vip;
  uint16_t vip_port = 0;
};

struct Snapshot {
  uint64_t generation = 0;  // of the document
  uint64_t version = 0;     // +1 with each publication, whatever caused it

  std::vector<Port> ports;
  std::vector<Route> routes;
  // What route() looks into. Snapshots with the same ports and routes share it.
  std::shared_ptr<const RouteTable> route_table;
  uint64_t routes_since = 0;  // the version that changed ports or routes last
  std::vector<Pool> pools;
  std::vector<VirtualService> virtual_services;
  std::vector<Listener> listeners;
  std::vector<Scope> scopes;          // by ScopeSlot
  std::vector<Adoptable> adoptables;  // sorted by (server, port), which are unique

  // By ServerSlot and VsSlot; kNoIndex for what this snapshot does not have.
  struct ServerRef {
    uint32_t pool = kNoIndex;
    uint32_t index = kNoIndex;
  };
  std::vector<ServerRef> server_by_slot;
  std::vector<uint32_t> vs_by_slot;
  // Slots that left and whose connections are due: reset them (VS deleted; removed server whose
  // graceful_disable_timeout is over). Sorted.
  std::vector<VsSlot> vs_reset;
  std::vector<ServerSlot> servers_reset;
  // Servers that left their pool, for as long as anything may still name them: their bindings name
  // nobody from now on, so that a new server at a used address inherits none. Sorted.
  std::vector<binding::ServerId> servers_left;

  // Addresses that are ours: ports' (link-local ones in their zones), served VIPs', owned groups',
  // snat. Sorted, for binary search.
  struct OwnAddress {
    net::Address address;
    enum class Kind : uint8_t { kPort, kVip, kSnat, kFloating } kind;
    // Servers may see it as the source of translated connections. A VIP can be that too.
    bool source = false;
    friend auto operator<=>(const OwnAddress&, const OwnAddress&) = default;
  };
  std::vector<OwnAddress> own_addresses;

  const OwnAddress* own(const net::Address& address) const;
  // The virtual service that serves this address, protocol and port; null when none does.
  const VirtualService* find(const net::Address& vip, uint8_t protocol, uint16_t port) const;
  // The virtual service whose connection an answer of this server must belong to; null when that is
  // not certain.
  const Adoptable* adoptable(const net::Address& server, uint16_t port) const;
  // Whether any virtual service serves this address.
  bool is_vip(const net::Address& address) const {
    const OwnAddress* o = own(address);
    return o != nullptr && o->kind == OwnAddress::Kind::kVip;
  }
  // Longest prefix match over the ports' subnets and the routes, of which the subnets win ties;
  // false when there is none. What is in a zone is there, and nowhere else.
  bool route(const net::Address& destination, Hop* hop) const {
    if (const uint16_t zone = destination.zone(); zone != 0) {
      *hop = {net::port_of_zone(zone), destination.in_zone(0)};
      return true;
    }
    return route_table != nullptr && route_table->find(destination, hop);
  }
  // To be called when ports, routes and version are complete. `before`: the snapshot that this one
  // follows; null: none.
  void index_routes(const Snapshot* before);

  const Scope* scope(binding::ScopeSlot slot) const {
    return slot.value < scopes.size() && scopes[slot.value].live ? &scopes[slot.value] : nullptr;
  }
  const Server* server(ServerSlot slot) const {
    if (slot.value >= server_by_slot.size()) return nullptr;
    const ServerRef ref = server_by_slot[slot.value];
    return ref.pool == kNoIndex ? nullptr : &pools[ref.pool].servers[ref.index];
  }
  // Whose server a slot is; kNoIndex: nobody's.
  PoolIndex pool_of(ServerSlot slot) const {
    return PoolIndex{slot.value < server_by_slot.size() ? server_by_slot[slot.value].pool
                                                        : kNoIndex};
  }
  const VirtualService* virtual_service(VsSlot slot) const {
    if (slot.value >= vs_by_slot.size() || vs_by_slot[slot.value] == kNoIndex) return nullptr;
    return &virtual_services[vs_by_slot[slot.value]];
  }
};

}  // namespace limpet::snapshot
