// Reads pools and their servers.
#include <fmt/format.h>

#include <map>
#include <set>

#include "common/base/limits.h"
#include "control/config/draft.h"
#include "control/config/identity.h"

namespace limpet::config {
namespace {

using std::chrono::minutes;

constexpr int64_t kServersPerPoolMax = 5'000;  // Avi's schema

enum class LbAlgorithm : uint8_t { kRoundRobin, kLeastConnections, kRandom, kHash, kOther };
constexpr std::array<Choice<LbAlgorithm>, 11> kAlgorithms = {{
    {"LB_ALGORITHM_LEAST_CONNECTIONS", LbAlgorithm::kLeastConnections},
    {"LB_ALGORITHM_ROUND_ROBIN", LbAlgorithm::kRoundRobin},
    {"LB_ALGORITHM_RANDOM", LbAlgorithm::kRandom},
    {"LB_ALGORITHM_CONSISTENT_HASH", LbAlgorithm::kHash},
    {"LB_ALGORITHM_FASTEST_RESPONSE", LbAlgorithm::kOther},
    {"LB_ALGORITHM_LEAST_LOAD", LbAlgorithm::kOther},
    {"LB_ALGORITHM_FEWEST_SERVERS", LbAlgorithm::kOther},
    {"LB_ALGORITHM_FEWEST_TASKS", LbAlgorithm::kOther},
    {"LB_ALGORITHM_NEAREST_SERVER", LbAlgorithm::kOther},
    {"LB_ALGORITHM_CORE_AFFINITY", LbAlgorithm::kOther},
    {"LB_ALGORITHM_TOPOLOGY", LbAlgorithm::kOther},
}};

enum class HashChoice : uint8_t { kAddress, kAddressAndPort, kOther };
constexpr std::array<Choice<HashChoice>, 6> kHashes = {{
    {"LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS", HashChoice::kAddress},
    {"LB_ALGORITHM_CONSISTENT_HASH_SOURCE_IP_ADDRESS_AND_PORT", HashChoice::kAddressAndPort},
    {"LB_ALGORITHM_CONSISTENT_HASH_URI", HashChoice::kOther},
    {"LB_ALGORITHM_CONSISTENT_HASH_CUSTOM_HEADER", HashChoice::kOther},
    {"LB_ALGORITHM_CONSISTENT_HASH_CUSTOM_STRING", HashChoice::kOther},
    {"LB_ALGORITHM_CONSISTENT_HASH_CALLID", HashChoice::kOther},
}};

constexpr std::array<Choice<bool>, 2> kDisableTypes = {{
    {"DISALLOW_NEW_CONNECTION", false},
    {"ALLOW_NEW_CONNECTION_IF_PERSISTENCE_PRESENT", true},
}};

void warn_fallback(const Fields& fields, std::string_view key) {
  fields.problems().warning(fields.at(key),
                            fmt::format("{} is not built yet: least connections is used instead",
                                        fields.text(key).value_or("")));
}

void read_algorithm(const Fields& fields, Pool* pool) {
  const auto algorithm =
      fields.choice("lb_algorithm", kAlgorithms).value_or(LbAlgorithm::kLeastConnections);
  // Of other algorithms it means nothing.
  const Problems::Lenience unused(&fields.problems(), algorithm != LbAlgorithm::kHash);
  const auto hash = fields.choice("lb_algorithm_hash", kHashes).value_or(HashChoice::kAddress);
  switch (algorithm) {
    case LbAlgorithm::kRoundRobin:
      pool->algorithm = Algorithm::kRoundRobin;
      break;
    case LbAlgorithm::kLeastConnections:
      break;
    case LbAlgorithm::kRandom:
      pool->algorithm = Algorithm::kRandom;
      break;
    case LbAlgorithm::kHash:
      if (hash == HashChoice::kOther) {
        warn_fallback(fields, "lb_algorithm_hash");
        break;
      }
      pool->algorithm = Algorithm::kConsistentHash;
      pool->hash_input = hash == HashChoice::kAddress ? HashInput::kSourceAddress
                                                      : HashInput::kSourceAddressAndPort;
      break;
    case LbAlgorithm::kOther:
      warn_fallback(fields, "lb_algorithm");
      break;
  }
}

// A server's port: its own, else the pool's; 0 when the client's is used.
uint16_t port_of(const Fields& fields, const Pool& pool, uint16_t default_port) {
  const auto own = fields.integer("port", {0, 65'535}).value_or(0);
  if (pool.use_service_port) return 0;
  return own == 0 ? default_port : static_cast<uint16_t>(own);
}

// False when the server has no address that can be used; that was reported.
bool read_address(const Fields& fields, Server* server) {
  fields.require("ip");
  const Fields ip = fields.object("ip");
  const auto address = ip ? read_ip(ip, Names::kAllowed) : std::nullopt;
  const auto hostname = fields.text("hostname").value_or(std::string_view());
  if (!address) return false;
  server->address = address->address;
  server->dns = !address->name.empty();
  server->hostname = server->dns ? std::string_view(address->name) : hostname;
  if (server->dns) {
    fields.problems().warning(
        fields.at("ip"),
        fmt::format("{} is a name: names are not resolved yet, the server counts as down",
                    in_quotes(server->hostname)));
  }
  return true;
}

std::optional<Server> read_server(const Fields& fields, const Pool& pool, uint16_t default_port) {
  Server server;
  server.enabled = fields.boolean("enabled").value_or(true);
  server.ratio = static_cast<uint16_t>(fields.integer("ratio", {1, 20}).value_or(1));
  server.port = port_of(fields, pool, default_port);
  server.uuid = fields.text("uuid").value_or("");
  server.external_uuid = fields.text("external_uuid").value_or("");
  fields.ignore({"description", "static", "verify_network", "resolve_server_by_dns",
                 "rewrite_host_header", "prst_hdr_val", "server_node", "availability_zone",
                 "location", "nw_ref", "vm_ref", "mac_address"});
  if (!read_address(fields, &server)) return std::nullopt;
  server.id = server_id(pool.uuid, server);
  return server;
}

void read_servers(const Fields& fields, uint16_t default_port, Pool* pool) {
  const auto servers = fields.array("servers", {0, kServersPerPoolMax});
  const Path list = fields.at("servers");
  std::map<ServerId, std::size_t> seen;
  std::size_t index = 0;
  for (const Json& item : servers) {
    const Path path(list, index);
    const Fields one(item, path, &fields.problems(), Strictness::kTolerant);
    auto server = one ? read_server(one, *pool, default_port) : std::nullopt;
    if (server) {
      const auto [same, is_new] = seen.emplace(server->id, index);
      if (is_new) {
        pool->servers.push_back(std::move(*server));
      } else {
        fields.problems().error(path, fmt::format("is the same server as number {}", same->second));
      }
    }
    ++index;
  }
}

// The addresses of the group as servers. A controller may have written them into `servers` too.
void add_group_servers(const AddressGroup& group, uint16_t default_port, Pool* pool) {
  std::set<ServerId> known;
  for (const Server& server : pool->servers) known.insert(server.id);
  for (const AddressGroup::Range& range : group.ranges) {
    for (net::Address address = range.first;; address = address.next()) {
      Server server;
      server.address = address;
      server.port = pool->use_service_port ? uint16_t{0} : default_port;
      server.id = server_id(pool->uuid, server);
      if (is_host_address(address) && known.insert(server.id).second)
        pool->servers.push_back(std::move(server));
      if (address == range.last) break;
    }
  }
}

// Reads `ipaddrgroup_ref`. `servers` counts those of all pools, so that a short text with many
// pools of one large group costs no more memory than one that lists its servers.
void read_group(const Draft& draft, const Fields& fields, const Header& header,
                uint16_t default_port, std::size_t servers, Pool* pool, PoolNeeds* needs) {
  constexpr std::string_view kKey = "ipaddrgroup_ref";
  const auto found = resolve(draft, fields, kKey, Target::kIpAddrGroup, header);
  if (!found) return;
  const AddressGroup& group = draft.address_groups[*found];
  if (!group.missing.empty()) {
    needs->feature = fmt::format("{} of the pool's address group", group.missing);
  } else if (group.addresses > kGroupAddressesMax) {
    fields.error(kKey, fmt::format("the group has more than {} addresses", kGroupAddressesMax));
  } else if (servers + pool->servers.size() + group.addresses > base::kServersMax) {
    fields.error(kKey, fmt::format("with the group's addresses there are more than {} servers over "
                                   "all pools",
                                   base::kServersMax));
  } else {
    add_group_servers(group, default_port, pool);
  }
}

void read_timeouts_and_limits(const Fields& fields, Pool* pool) {
  if (const auto minutes_left = fields.integer("graceful_disable_timeout", {-1, 7'200})) {
    pool->graceful_disable_timeout =
        *minutes_left < 0 ? std::nullopt : std::make_optional(minutes(*minutes_left));
  }
  const auto limit = fields.integer("max_concurrent_connections_per_server", {0, INT32_MAX});
  pool->connections_per_server_max = static_cast<uint32_t>(limit.value_or(0));
  const auto monitors = fields.integer("min_health_monitors_up", {0, 65'535});
  pool->health_monitors_up_min = static_cast<uint32_t>(monitors.value_or(0));
}

enum class FailAction : uint8_t { kClose, kHttp, kBackupPool };
constexpr std::array<Choice<FailAction>, 4> kFailActions = {{
    {"FAIL_ACTION_CLOSE_CONN", FailAction::kClose},
    {"FAIL_ACTION_HTTP_REDIRECT", FailAction::kHttp},
    {"FAIL_ACTION_HTTP_LOCAL_RSP", FailAction::kHttp},
    {"FAIL_ACTION_BACKUP_POOL", FailAction::kBackupPool},
}};

// What the pool says of where clients go that is not built, the most telling first; "" if nothing.
std::string_view missing_feature(const Fields& fields) {
  struct Feature {
    std::string_view key;
    std::string_view name;
  };
  constexpr Feature kFeatures[] = {
      {"nsx_securitygroup", "NSX security groups (nsx_securitygroup of the pool)"},
      {"apic_epg_name", "APIC endpoint groups (apic_epg_name of the pool)"},
      {"ab_pool", "A/B pools (ab_pool of the pool)"},
      {"a_pool", "A/B pools (a_pool of the pool)"},
      {"gslb_sp_enabled", "GSLB site persistence (gslb_sp_enabled of the pool)"},
      {"sp_gs_info", "GSLB site persistence (sp_gs_info of the pool)"},
      {"routing_pool", "routing pools (routing_pool of the pool)"},
      {"max_conn_rate_per_server",
       "limits of the connection rate (max_conn_rate_per_server of the pool)"},
  };
  std::string_view found;
  for (const Feature& feature : kFeatures) {
    if (fields.asks(feature.key) && found.empty()) found = feature.name;
  }
  const Fields action = fields.object("fail_action");
  action.ignore({"redirect", "local_rsp"});
  const bool named = action.asks("backup_pool");
  const bool backup = action.choice("type", kFailActions) == FailAction::kBackupPool;
  if ((backup || named) && found.empty()) {
    found = "backup pools (fail_action of the pool)";
  }
  return found;
}

void read_tls(const Draft& draft, const Fields& fields, const Header& header, Pool* pool) {
  pool->tls_to_servers = fields.asks("ssl_profile_ref");
  // TLS to servers is not built: what they refer to means nothing until then.
  const Problems::Lenience unused(draft.problems);
  resolve(draft, fields, "ssl_profile_ref", Target::kSslProfile, header);
  resolve(draft, fields, "ssl_key_and_certificate_ref", Target::kSslKeyAndCertificate, header);
}

Pool read_pool(const Draft& draft, const Fields& fields, const Header& header, std::size_t servers,
               PoolNeeds* needs) {
  auto pool = object_of<Pool>(header);
  pool.cloud = header.place.cloud;
  pool.path = pointer_of(draft, header);
  pool.enabled = fields.boolean("enabled").value_or(true);
  pool.use_service_port = fields.boolean("use_service_port").value_or(false);
  pool.ignore_server_port = fields.boolean("ignore_server_port").value_or(false);
  pool.draining_serves_persisted =
      fields.choice("server_disable_type", kDisableTypes).value_or(false);
  read_tls(draft, fields, header, &pool);
  read_algorithm(fields, &pool);
  read_timeouts_and_limits(fields, &pool);
  const auto profile = resolve(draft, fields, "application_persistence_profile_ref",
                               Target::kPersistenceProfile, header);
  if (profile) pool.profile = ProfileIndex(static_cast<uint32_t>(*profile));
  for (const std::size_t monitor :
       resolve_all(draft, fields, "health_monitor_refs", Target::kHealthMonitor, header)) {
    pool.health_monitors.push_back(HealthMonitorIndex(static_cast<uint32_t>(monitor)));
  }
  if (!pool.health_monitors.empty()) {
    fields.problems().warning(
        fields.at("health_monitor_refs"),
        "health monitors are not run yet: servers count as up unless they are marked");
  }
  needs->vrf = vrf_of(draft, fields, "vrf_ref");
  needs->feature = missing_feature(fields);
  const auto given_port = fields.integer("default_server_port", {1, 65'535}).value_or(80);
  const auto default_port = static_cast<uint16_t>(given_port);
  read_servers(fields, default_port, &pool);
  read_group(draft, fields, header, default_port, servers, &pool, needs);
  return pool;
}

}  // namespace

void read_pools(Draft* draft) {
  std::size_t servers = 0;
  for_each_object(*draft, Target::kPool, [&](Fields& fields, const Header& header) {
    PoolNeeds needs;
    draft->document.pools.push_back(read_pool(*draft, fields, header, servers, &needs));
    draft->pool_needs.push_back(std::move(needs));
    servers += draft->document.pools.back().servers.size();
  });
}

}  // namespace limpet::config
