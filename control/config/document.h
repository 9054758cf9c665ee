// Document: what a validated configuration document says, with references resolved to indices,
// defaults filled in and identities given. The codec (codec.h) makes it from JSON; compile turns
// it, the bootstrap and the health marks into a Snapshot.
//
// Plain values, owned by whoever holds the Document; nothing here points outside of it.
//
// Invariants of a Document that parse_document returned
//  1. Every index is within its vector.
//  2. (model, tenant, cloud, name) and (model, uuid) are unique; `uuid` is never empty and equal on
//     every engine that got the same document (control/config/README.md, "Identities").
//  3. Server identities are unique within their pool and never 0.
//  4. The listeners of no two virtual services with `served` overlap: (VIP, protocol, port) is one
//     service's.
//  5. A virtual service with `served` has a pool, at least one VIP and one service; all its
//     services have a pool and are TCP_FAST_PATH or UDP_FAST_PATH, and the profile of each of its
//     pools, if any, is client IP.
//  6. What a virtual service with `served` uses, directly or over others, was right. In other
//     objects fields that were wrong have their defaults, and elements of lists that were wrong are
//     left out; 1 to 3 hold for them too, so all of a Document is safe to compile.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/strong.h"
#include "common/net/address.h"

namespace limpet::config {

using ServerId = base::Strong<struct DocumentServerIdTag, uint64_t>;
using ProfileIndex = base::Strong<struct ProfileIndexTag, uint32_t>;
using PoolIndex = base::Strong<struct DocumentPoolIndexTag, uint32_t>;
using NetworkProfileIndex = base::Strong<struct NetworkProfileIndexTag, uint32_t>;
using ApplicationProfileIndex = base::Strong<struct ApplicationProfileIndexTag, uint32_t>;
using HealthMonitorIndex = base::Strong<struct HealthMonitorIndexTag, uint32_t>;
using GroupIndex = base::Strong<struct GroupIndexTag, uint32_t>;

// Avi's CLIENT_IP_ADDRESS and CLIENT_IPV6_ADDRESS and NSX's LBSourceIpPersistenceProfile are all
// kClientIp.
enum class PersistenceType : uint8_t {
  kClientIp,
  kHttpCookie,
  kAppCookie,
  kCustomHeader,
  kTls,
  kGslbSite,
  kAppDiameter,
  kGeneric,
};

// "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS" and so on, as listings print it.
const char* to_string(PersistenceType type);

// What happens to a persisted client: dataplane/affinity/README.md, "A server that may not be
// used".
enum class Recovery : uint8_t { kPickNew, kContinue, kAbort };

// ApplicationPersistenceProfile and NSX's three persistence profiles.
struct Profile {
  std::string name;
  std::string uuid;
  std::string tenant;
  std::string model;  // "ApplicationPersistenceProfile", "LBSourceIpPersistenceProfile", ...
  PersistenceType type = PersistenceType::kClientIp;
  std::chrono::seconds timeout{300};  // 0: no persistence (client IP), no limit (cookie)
  std::optional<uint8_t> ip_mask;     // 0..128 as said; above 32 means 32 for IPv4
  Recovery down = Recovery::kPickNew;
  Recovery at_limit = Recovery::kPickNew;
  std::optional<Recovery> draining;  // absent: the pool's server_disable_type decides
  bool return_home = false;
  bool purge = true;  // FULL; false: NO_PURGE
  bool shared = false;
  bool mirrored = true;
  std::optional<std::chrono::minutes> update_interval;  // absent: half the timeout
  std::string key_name;  // of the cookie or header; empty for types without
};

enum class HealthMonitorType : uint8_t { kPing, kTcp, kUdp, kHttp, kHttps, kOther };

struct HealthMonitor {
  std::string name;
  std::string uuid;
  std::string tenant;
  HealthMonitorType type = HealthMonitorType::kTcp;
  std::string type_text;  // "HEALTH_MONITOR_TCP"
  std::chrono::seconds send_interval{10};
  std::chrono::seconds receive_timeout{4};
  uint32_t successful_checks = 2;
  uint32_t failed_checks = 2;
  std::optional<uint16_t> monitor_port;  // absent: the server's
};

struct Server {
  ServerId id;
  // Unspecified for a DNS-type server, which has no address and counts as down.
  net::Address address;
  bool dns = false;
  uint16_t port = 0;  // host order; 0: the port that the client used (use_service_port)
  uint16_t ratio = 1;
  bool enabled = true;
  std::string uuid;
  std::string external_uuid;
  std::string hostname;  // of a DNS-type server the name to resolve
};

enum class Algorithm : uint8_t { kRoundRobin, kLeastConnections, kRandom, kConsistentHash };
enum class HashInput : uint8_t { kSourceAddress, kSourceAddressAndPort };

struct Pool {
  std::string name;
  std::string uuid;
  std::string tenant;
  std::string cloud;
  std::string path;                                    // where it is in the text, a JSON pointer
  Algorithm algorithm = Algorithm::kLeastConnections;  // what runs, after any fallback
  HashInput hash_input = HashInput::kSourceAddress;
  std::optional<ProfileIndex> profile;
  std::vector<HealthMonitorIndex> health_monitors;
  uint32_t health_monitors_up_min = 0;  // min_health_monitors_up; 0: all of them
  bool enabled = true;                  // false: every server is disabled
  bool use_service_port = false;
  bool tls_to_servers = false;      // ssl_profile_ref is given
  bool ignore_server_port = false;  // consistent hash over the servers' addresses alone
  // ALLOW_NEW_CONNECTION_IF_PERSISTENCE_PRESENT; false: DISALLOW_NEW_CONNECTION.
  bool draining_serves_persisted = false;
  uint32_t connections_per_server_max = 0;  // 0: no limit
  // How long connections of a disabled or removed server live on; absent: for ever (-1).
  std::optional<std::chrono::minutes> graceful_disable_timeout = std::chrono::minutes(1);
  std::vector<Server> servers;
};

enum class ApplicationType : uint8_t { kL4, kHttp, kSsl, kDns, kSyslog, kSip };

struct ApplicationProfile {
  std::string name;
  std::string uuid;
  std::string tenant;
  ApplicationType type = ApplicationType::kHttp;
  bool preserve_client_ip = false;
  bool proxy_protocol = false;        // tcp_app_profile.proxy_protocol_enabled
  bool preserve_destination = false;  // preserve_dest_ip_port
};

enum class NetworkType : uint8_t {
  kTcpProxy,
  kTcpFastPath,
  kUdpFastPath,
  kUdpProxy,
  kSctpProxy,
  kSctpFastPath,
};

struct NetworkProfile {
  std::string name;
  std::string uuid;
  std::string tenant;
  NetworkType type = NetworkType::kTcpProxy;
  std::chrono::seconds session_idle_timeout{300};  // 0: never (TCP only)
  bool per_packet = false;                         // per_pkt_loadbalance
  bool snat = true;                                // udp_fast_path.snat
  bool direct_return = false;                      // dsr_profile: servers answer clients directly
};

struct ServiceEngineGroup {
  std::string name;
  std::string uuid;
  std::string tenant;
  std::string path;                  // where it is in the text; empty: a system object
  std::vector<std::string> engines;  // in order of preference; empty: every engine serves it
  bool preempt = false;
  std::vector<net::Address> floating_addresses;
};

enum class Protocol : uint8_t { kTcp = 6, kUdp = 17, kSctp = 132 };  // IP protocol numbers

// A port or range of ports that clients connect to, with its overrides applied. A service of which
// service_pool_select gives parts to other pools becomes several.
struct Service {
  uint16_t first_port = 0;
  uint16_t last_port = 0;
  Protocol protocol = Protocol::kTcp;
  NetworkProfileIndex network_profile;
  ApplicationProfileIndex application_profile;
  bool ssl = false;
  std::optional<PoolIndex> pool;  // service_pool_select's, else the virtual service's
  uint32_t index = 0;             // in the text's `services`
};

struct VirtualService {
  std::string name;
  std::string uuid;
  std::string tenant;
  std::string cloud;
  std::string path;  // where it is in the text, a JSON pointer
  std::string vrf;   // "global" but for those that are not served because of it
  // False: listed, not answered, and `why_not` says why in words: "disabled", "TCP proxy is not
  // built yet", ...
  bool served = true;
  std::string why_not;
  bool enabled = true;
  bool traffic_enabled = true;
  bool autogw = true;  // enable_autogw
  std::vector<net::Address> vips;
  std::vector<Service> services;  // in the order of the text, then of their ports
  std::optional<PoolIndex> pool;  // pool_ref, else that of the first service
  NetworkProfileIndex network_profile;
  ApplicationProfileIndex application_profile;
  GroupIndex group;
};

struct Document {
  std::vector<Profile> profiles;
  std::vector<HealthMonitor> health_monitors;
  std::vector<Pool> pools;
  std::vector<ApplicationProfile> application_profiles;
  std::vector<NetworkProfile> network_profiles;
  std::vector<ServiceEngineGroup> groups;
  std::vector<VirtualService> virtual_services;

  // The pools that the virtual service sends clients to: its own one first, each once.
  std::vector<PoolIndex> pools_of(const VirtualService& vs) const {
    std::vector<PoolIndex> out;
    std::set<PoolIndex> seen;
    const auto add = [&](const std::optional<PoolIndex>& pool) {
      if (pool && seen.insert(*pool).second) out.push_back(*pool);
    };
    add(vs.pool);
    for (const Service& service : vs.services) add(service.pool);
    return out;
  }
  const Profile* profile_of(const Pool& pool) const {
    return pool.profile ? &profiles[pool.profile->value] : nullptr;
  }
  const NetworkProfile& network_profile_of(const Service& service) const {
    return network_profiles[service.network_profile.value];
  }
  const ApplicationProfile& application_profile_of(const Service& service) const {
    return application_profiles[service.application_profile.value];
  }
  // Whether the server sees the client's address: preserve_client_ip or udp_fast_path.snat false.
  bool preserves_client(const Service& service) const {
    return application_profile_of(service).preserve_client_ip ||
           (service.protocol == Protocol::kUdp && !network_profile_of(service).snat);
  }
};

}  // namespace limpet::config
