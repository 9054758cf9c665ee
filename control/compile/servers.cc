#include "control/compile/servers.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <unordered_set>

#include "dataplane/balance/maglev.h"

namespace limpet::compile {
namespace {

using snapshot::NatId;
using snapshot::ServerState;

constexpr NatId kNoNat{UINT32_MAX};

snapshot::Algorithm algorithm(config::Algorithm a) {
  switch (a) {
    case config::Algorithm::kRoundRobin:
      return snapshot::Algorithm::kRoundRobin;
    case config::Algorithm::kLeastConnections:
      return snapshot::Algorithm::kLeastConnections;
    case config::Algorithm::kRandom:
      return snapshot::Algorithm::kRandom;
    case config::Algorithm::kConsistentHash:
      return snapshot::Algorithm::kConsistentHash;
  }
  return snapshot::Algorithm::kLeastConnections;
}

snapshot::HashInput hash_input(config::HashInput input) {
  return input == config::HashInput::kSourceAddress ? snapshot::HashInput::kSourceAddress
                                                    : snapshot::HashInput::kSourceAddressAndPort;
}

// 64 bits of an address, FNV-1a; fixed, because engines must agree.
uint64_t digest(const net::Address& address) {
  uint64_t hash = 14695981039346656037ULL;
  for (std::size_t i = 0; i < 16; ++i) hash = (hash ^ address.bytes()[i]) * 1099511628211ULL;
  return hash;
}

// With ignore_server_port a server's place in the Maglev table follows from its address alone, so
// pools with the same hosts on other ports agree. Servers on one host are told apart by their order
// of identity.
std::vector<balance::MaglevServer> maglev_servers(const snapshot::Pool& pool,
                                                  bool ignore_server_port) {
  std::vector<balance::MaglevServer> out;
  for (std::size_t i = 0; i < pool.servers.size(); ++i) {
    out.push_back({.id = pool.servers[i].id,
                   .weight = pool.servers[i].weight,
                   .index = static_cast<uint16_t>(i)});
  }
  if (!ignore_server_port) return out;
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  std::unordered_set<uint64_t> taken;
  for (balance::MaglevServer& s : out) {
    uint64_t id = digest(pool.servers[s.index].address);
    while (!taken.insert(id).second) ++id;
    s.id = binding::ServerId{id};
  }
  return out;
}

// The size follows from all servers, so that one that goes down does not change it.
std::vector<uint16_t> maglev(const snapshot::Pool& pool, bool ignore_server_port) {
  auto servers = maglev_servers(pool, ignore_server_port);
  const std::size_t size = balance::maglev_size(servers);
  std::erase_if(servers, [&](const balance::MaglevServer& s) {
    const snapshot::Server& server = pool.servers[s.index];
    return server.state != ServerState::kUp || !server.reachable;
  });
  return balance::build_maglev(servers, size);
}

}  // namespace

void Warnings::add(std::string path, std::string message) {
  if (seen_.emplace(path, message).second) list_.push_back({std::move(path), std::move(message)});
}

void PoolCompiler::full(const char* what, std::size_t max) {
  base::Error error{"", fmt::format("more than {} {}, counting those that left while connections "
                                    "or entries still use them",
                                    max, what)};
  if (std::find(errors_.begin(), errors_.end(), error) == errors_.end())
    errors_.push_back(std::move(error));
}

snapshot::Pool PoolCompiler::compile(const PoolUse& use) {
  const config::Pool& from = document_.pools[use.pool];
  snapshot::Pool pool{.name = from.name,
                      .tenant = from.tenant,
                      .uuid = from.uuid,
                      .algorithm = algorithm(from.algorithm),
                      .hash_input = hash_input(from.hash_input),
                      .servers = {},
                      .maglev = {},
                      .by_id = {},
                      .addresses = {}};
  if (from.servers.size() > UINT16_MAX) {
    errors_.push_back({from.path + "/servers", "too many servers for one pool"});
    return pool;
  }
  for (const config::Server& s : from.servers) {
    if (s.dns || !use.family || s.address.family() == *use.family)
      pool.servers.push_back(server(from, s, use));
  }
  pool.index();
  if (pool.algorithm == snapshot::Algorithm::kConsistentHash) {
    const snapshot::Pool* same = earlier(pool);
    pool.maglev = same != nullptr ? same->maglev : maglev(pool, from.ignore_server_port);
  }
  return pool;
}

// The pool as it was compiled before, if its table would be the same; else null.
const snapshot::Pool* PoolCompiler::earlier(const snapshot::Pool& pool) {
  if (environment_.earlier == nullptr) return nullptr;
  if (earlier_.empty()) {
    for (const snapshot::Pool& before : environment_.earlier->pools)
      earlier_.emplace(before.uuid, &before);
  }
  const auto alike = [](const snapshot::Server& a, const snapshot::Server& b) {
    return a.id == b.id && a.address == b.address && a.port == b.port && a.weight == b.weight &&
           a.state == b.state && a.reachable == b.reachable;
  };
  const auto [first, last] = earlier_.equal_range(pool.uuid);
  const auto it = std::find_if(first, last, [&](const auto& entry) {
    const snapshot::Pool& before = *entry.second;
    return before.algorithm == pool.algorithm &&
           std::equal(before.servers.begin(), before.servers.end(), pool.servers.begin(),
                      pool.servers.end(), alike);
  });
  return it == last ? nullptr : it->second;
}

snapshot::Server PoolCompiler::server(const config::Pool& pool, const config::Server& from,
                                      const PoolUse& use) {
  snapshot::Server server;
  server.id = binding::ServerId{from.id.value};
  server.address = from.address;
  server.port = from.port;
  server.weight = from.ratio;
  server.connections_max = pool.connections_per_server_max;
  server.tcp_nat = server.udp_nat = kNoNat;
  server.name = health::server_name(from);

  const bool enabled = pool.enabled && from.enabled;
  server.state = !environment_.health.state(from).up ? ServerState::kDown
                 : !enabled                          ? ServerState::kDisabled
                                                     : ServerState::kUp;
  server.reset_connections =
      !enabled && std::binary_search(environment_.graceful_over.begin(),
                                     environment_.graceful_over.end(), from.id);
  if (const auto slot = registry_.servers.acquire(server.id)) {
    server.slot = *slot;
  } else {
    full("servers", base::kServersMax);
  }
  if (from.dns) {
    server.reachable = false;
    unreachable_.emplace(from.id, "is a name: names are not resolved yet");
  } else if (use.family) {
    const std::string_view why = locate(use, server);
    server.reachable = why.empty();
    if (why.empty()) {
      reachable_.insert(from.id);
    } else {
      warnings_.add(pool.path, fmt::format("pool '{}': server {} {}; it counts as down", pool.name,
                                           server.name, why));
      unreachable_.emplace(from.id, why);
    }
  }
  return server;
}

std::map<config::ServerId, std::string> PoolCompiler::take_unreachable() {
  for (const config::ServerId id : reachable_) unreachable_.erase(id);
  return std::move(unreachable_);
}

// Finds the way to the server and, with source NAT, the addresses to come from.
std::string_view PoolCompiler::locate(const PoolUse& use, snapshot::Server& server) {
  if (snapshot_.own(server.address) != nullptr) return "has an address of this engine";
  if (!snapshot_.route(server.address, &server.hop)) return "cannot be reached: no route";
  if (use.preserve_client) return {};
  server.sources = sources(server);
  if (server.sources.empty()) {
    return "cannot be reached: its port has no address of this family and `snat` neither";
  }
  give_nats(use, server);
  return {};
}

std::vector<net::Address> PoolCompiler::sources(const snapshot::Server& server) const {
  const net::Family family = server.address.family();
  std::vector<net::Address> out;
  std::copy_if(environment_.snat.begin(), environment_.snat.end(), std::back_inserter(out),
               [&](const net::Address& a) { return a.family() == family; });
  if (!out.empty()) return out;

  const auto port =
      std::find_if(snapshot_.ports.begin(), snapshot_.ports.end(),
                   [&](const snapshot::Port& p) { return p.index == server.hop.port; });
  if (port == snapshot_.ports.end()) return out;
  // The address on the next hop's subnet. A link-local one reaches link-local servers only (RFC
  // 6724 rule 2), even if the way leads over a link-local router.
  const net::Address* best = nullptr;
  int best_length = -1;
  for (const net::Prefix& own : port->addresses) {
    if (own.family() != family) continue;
    if (own.address.is_link_local() && !server.address.is_link_local()) continue;
    const int length = own.contains(server.hop.next_hop) ? own.length : -1;
    if (best == nullptr || length > best_length) {
      best = &own.address;
      best_length = length;
    }
  }
  if (best != nullptr) out.push_back(*best);
  return out;
}

void PoolCompiler::give_nats(const PoolUse& use, snapshot::Server& server) {
  const auto give = [&](config::Protocol protocol, NatId& nat) {
    const auto first = registry_.nats.acquire(server.sources, static_cast<uint8_t>(protocol),
                                              server.address, server.port);
    if (first) {
      nat = *first;
    } else {
      full("pairs of a source NAT address and a server", base::kNatIdsMax);
    }
  };
  if (use.tcp) give(config::Protocol::kTcp, server.tcp_nat);
  if (use.udp) give(config::Protocol::kUdp, server.udp_nat);
}

}  // namespace limpet::compile
