#include "tests/sim/world.h"

#include <algorithm>
#include <bit>
#include <string>
#include <tuple>

#include "dataplane/balance/maglev.h"
#include "dataplane/balance/pick.h"
#include "dataplane/packet/headers.h"
#include "tests/sim/engine.h"

namespace limpet::sim {

using net::Family;
using snapshot::Recovery;
using snapshot::ServerState;
using snapshot::Snapshot;

namespace {

constexpr uint32_t kServersPerPool = 5;

Recovery random_recovery(base::Random& random) {
  return static_cast<Recovery>(chance(random, 60) ? 0u : random.below(3));
}

}  // namespace

World::World(base::Random& random, Of of) : random_(random), of_(of) {
  const uint32_t families = random.below(3);  // both, v4, v6
  for (const Family f : {Family::kV4, Family::kV6}) {
    if ((families == 1 && f == Family::kV6) || (families == 2 && f == Family::kV4)) continue;
    make_clients(f);
    const uint32_t pools = 1 + random.below(2);
    for (uint32_t p = 0; p < pools; ++p) {
      make_pool(f);
      const auto pool = static_cast<uint32_t>(pools_.size() - 1);
      const uint32_t services = 1 + random.below(2);
      uint32_t shared = UINT32_MAX;
      for (uint32_t s = 0; s < services; ++s) {
        if (shared == UINT32_MAX || chance(random, 50)) shared = new_scope(pool);
        make_service(f, pool, chance(random, 6) ? UINT32_MAX : shared);
      }
    }
  }
}

World::World(const World& document, uint32_t slots, uint64_t versions) : World(document) {
  version_ += versions;
  for (ScopeDocument& s : scopes_) s.since += versions;
  scopes_.insert(scopes_.begin(), slots, ScopeDocument{});
  for (ServiceDocument& vs : services_) {
    if (vs.scope != UINT32_MAX) vs.scope += slots;
  }
}

void World::make_clients(Family f) {
  const uint32_t many = of_ == Of::kEngine ? 30 : 10;
  const uint32_t clients = 1 + random_.below(chance(random_, 50) ? 4 : many);
  for (uint32_t i = 0; i < clients; ++i) {
    const std::string text =
        f == Family::kV4 ? "10.1." + std::to_string(1 + i / 4) + "." + std::to_string(2 + i)
                         : "fd00:1::" + std::to_string(1 + i / 4) + ":" + std::to_string(2 + i);
    clients_[f == Family::kV4 ? 0 : 1].push_back(support::address(text));
  }
}

void World::make_pool(Family family) {
  const auto p = static_cast<uint32_t>(pools_.size());
  PoolDocument pool{.family = family,
                    .algorithm = static_cast<snapshot::Algorithm>(random_.below(4)),
                    .preserve_client = chance(random_, 30),
                    .connections_max = chance(random_, 30) ? 1 + random_.below(4) : 0,
                    .servers = {}};
  const uint32_t servers = 1 + random_.below(kServersPerPool);
  for (uint32_t i = 0; i < servers; ++i) {
    const std::string text = family == Family::kV4
                                 ? "10.2." + std::to_string(p) + "." + std::to_string(2 + i)
                                 : "fd00:2::" + std::to_string(p) + ":" + std::to_string(2 + i);
    pool.servers.push_back({.id = binding::ServerId{0x123456789abc0001ULL * (8 * p + i + 1)},
                            .address = support::address(text),
                            .slot = snapshot::ServerSlot{next_server_slot_++},
                            .nat = snapshot::NatId{2 * (8 * p + i)},
                            .weight = static_cast<uint16_t>(1 + random_.below(2))});
  }
  pools_.push_back(std::move(pool));
}

void World::make_service(Family family, uint32_t pool, uint32_t scope) {
  const auto n = static_cast<uint16_t>(services_.size());
  services_.push_back(
      {.family = family,
       .vip = support::address(family == Family::kV4 ? "10.1.0.100" : "fd00:1::100"),
       .port = static_cast<uint16_t>(80 + n),
       .slot = next_service_slot_++,
       .pool = pool,
       .scope = scope,
       .per_packet = chance(random_, 20),
       .tcp_idle = timing::seconds(2 + random_.below(chance(random_, 50) ? 8 : 90)),
       .udp_idle = timing::seconds(1 + random_.below(chance(random_, 50) ? 4 : 30))});
  if (of_ == Of::kEngine) return;
  services_.back().tcp_idle = timing::milliseconds(1500 + random_.below(4000));
  services_.back().udp_idle = timing::milliseconds(500 + random_.below(2000));
}

Profile World::random_profile() {
  Profile p;
  p.timeout = timing::milliseconds(500 + random_.below(chance(random_, 60) ? 4000 : 40000));
  p.mask_v4 = chance(random_, 70) ? 32 : chance(random_, 50) ? 24 : 31;
  p.mask_v6 = chance(random_, 70) ? 128 : chance(random_, 50) ? 112 : 127;
  p.down = random_recovery(random_);
  p.at_limit = random_recovery(random_);
  p.draining = random_recovery(random_);
  p.return_home = chance(random_, 30);
  p.purge = chance(random_, 70);
  p.update_interval = p.timeout / 2;
  if (of_ == Of::kEngine) return p;
  p.timeout = timing::milliseconds(600 + random_.below(chance(random_, 70) ? 1500 : 6000));
  p.update_interval = p.timeout / (chance(random_, 70) ? 2 : 3 + random_.below(3));
  p.mirrored = chance(random_, 88);
  return p;
}

// A free slot, as the registry would give it, with a profile of its own.
uint32_t World::new_scope(uint32_t pool) {
  auto at = std::find_if(scopes_.begin(), scopes_.end(), [](const ScopeDocument& s) {
    return s.state == ScopeDocument::State::kFree;
  });
  if (at == scopes_.end()) at = scopes_.insert(scopes_.end(), ScopeDocument{});
  *at = {
      .state = ScopeDocument::State::kLive,
      .id = binding::ScopeId{1000 * static_cast<uint64_t>(at - scopes_.begin() + 1) + version_ + 1},
      .since = version_ + 1,
      .pool = pool,
      .profile = random_profile()};
  at->timeout_before = at->profile.timeout;
  at->update_interval_before = at->profile.update_interval;
  return static_cast<uint32_t>(at - scopes_.begin());
}

binding::ServerId World::server_at(const net::Address& address) const {
  for (const PoolDocument& pool : pools_) {
    for (const ServerDocument& s : pool.servers) {
      if (s.address == address) return s.id;
    }
  }
  return binding::kNoServer;
}

bool World::may_exceed(const PoolDocument& pool) const {
  return pool.limit_changed;
}

// --- changes ------------------------------------------------------------------------------------

ServerDocument& World::any_server() {
  PoolDocument& pool = pools_[random_.below(static_cast<uint32_t>(pools_.size()))];
  return pool.servers[random_.below(static_cast<uint32_t>(pool.servers.size()))];
}

void World::change() {
  for (ScopeDocument& s : scopes_) {
    s.timeout_before = s.profile.timeout;
    s.update_interval_before = s.profile.update_interval;
  }
  const uint32_t what = random_.below(10);
  if (what < 4) return change_server();
  if (what < 6) return change_membership();
  if (what < 8) return change_profile();
  change_service();
}

void World::change_server() {
  ServerDocument& s = any_server();
  switch (random_.below(6)) {
    case 0:
      s.reachable = !s.reachable;
      return;
    case 1:
      s.state = ServerState::kDisabled;
      s.reset = chance(random_, 30);
      return;
    case 2:
    case 3:
      s.state = ServerState::kDown;
      s.reset = false;
      return;
    default:
      s.state = ServerState::kUp;
      s.reachable = true;
      s.reset = false;
  }
}

void World::change_membership() {
  ServerDocument& s = any_server();
  const auto slot_of = [&](const RetiredServer& r) { return r.slot == s.slot; };
  const auto retired = std::find_if(retired_servers_.begin(), retired_servers_.end(), slot_of);
  if (s.present) {
    s.present = false;
    retired_servers_.push_back({s.id, s.slot});
  } else if (retired != retired_servers_.end() && chance(random_, 30)) {
    retired->doomed = true;
  } else {
    s.present = true;
    s.state = ServerState::kUp;
    s.reset = false;
    if (retired != retired_servers_.end() && !retired->doomed) {
      retired_servers_.erase(retired);
    } else {
      s.slot = snapshot::ServerSlot{next_server_slot_++};
    }
  }
}

void World::change_profile() {
  ScopeDocument& s = scopes_[random_.below(static_cast<uint32_t>(scopes_.size()))];
  const Profile other = random_profile();
  switch (random_.below(5)) {
    case 0:
      s.profile.timeout = other.timeout;
      s.profile.update_interval = other.update_interval;
      return;
    case 1:
      s.profile.down = other.down;
      s.profile.at_limit = other.at_limit;
      s.profile.draining = other.draining;
      return;
    case 2:
      s.profile.return_home = other.return_home;
      s.profile.purge = other.purge;
      if (of_ == Of::kEngine || !s.profile.mirrored || !chance(random_, 30)) return;
      s.profile.mirrored = false;
      s.was_mirrored = true;
      return;
    case 3: {
      PoolDocument& pool = pools_[random_.below(static_cast<uint32_t>(pools_.size()))];
      pool.connections_max = chance(random_, 50) ? 0 : 1 + random_.below(4);
      pool.limit_changed = true;
      return;
    }
    default:
      if (chance(random_, 30)) change_mask(static_cast<uint32_t>(&s - scopes_.data()), other);
  }
}

// Another mask makes another scope, in which the old one's entries are not.
void World::change_mask(uint32_t scope, const Profile& other) {
  const ScopeDocument before = scopes_[scope];
  if (before.state != ScopeDocument::State::kLive) return;
  if (before.profile.mask_v4 == other.mask_v4 && before.profile.mask_v6 == other.mask_v6) return;
  const uint32_t after = new_scope(before.pool);
  scopes_[after].profile = before.profile;
  scopes_[after].profile.mask_v4 = other.mask_v4;
  scopes_[after].profile.mask_v6 = other.mask_v6;
  scopes_[after].timeout_before = before.profile.timeout;
  scopes_[after].update_interval_before = before.profile.update_interval;
  for (ServiceDocument& vs : services_) {
    if (vs.scope == scope) vs.scope = after;
  }
  retire_unused_scopes();
}

void World::retire_unused_scopes() {
  for (uint32_t i = 0; i < scopes_.size(); ++i) {
    const bool wanted = std::any_of(services_.begin(), services_.end(),
                                    [&](const auto& v) { return v.present && v.scope == i; });
    if (scopes_[i].state == ScopeDocument::State::kLive && !wanted)
      scopes_[i].state = ScopeDocument::State::kRetired;
  }
}

void World::change_service() {
  ServiceDocument& vs = services_[random_.below(static_cast<uint32_t>(services_.size()))];
  if (chance(random_, 25)) {
    vs.present = !vs.present;
    if (vs.present) vs.slot = next_service_slot_++;
    if (!vs.present) retired_services_.push_back(snapshot::VsSlot{vs.slot});
  } else {
    vs.scope = chance(random_, 10) ? UINT32_MAX : new_scope(vs.pool);
  }
  retire_unused_scopes();
  // A service that returns gets other scopes than those that are being emptied.
  for (ServiceDocument& v : services_) {
    if (v.present && v.scope != UINT32_MAX &&
        (scopes_[v.scope].state != ScopeDocument::State::kLive ||
         scopes_[v.scope].pool != v.pool)) {
      v.scope = new_scope(v.pool);
    }
  }
}

void World::recycle(const std::function<bool(snapshot::ServerSlot)>& server_unused,
                    const std::function<bool(binding::ScopeSlot)>& scope_unused) {
  std::erase_if(retired_servers_, [&](const RetiredServer& r) { return server_unused(r.slot); });
  for (PoolDocument& pool : pools_) {
    for (ServerDocument& s : pool.servers) {
      const bool retired = std::any_of(retired_servers_.begin(), retired_servers_.end(),
                                       [&](const RetiredServer& r) { return r.slot == s.slot; });
      // Its identity gets a slot that was never used; ours are plenty.
      if (!s.present && !retired) s.slot = snapshot::ServerSlot{UINT32_MAX};
    }
  }
  for (uint32_t i = 0; i < scopes_.size(); ++i) {
    if (scopes_[i].state == ScopeDocument::State::kRetired && scope_unused(binding::ScopeSlot{i}))
      scopes_[i].state = ScopeDocument::State::kFree;
  }
}

// --- the snapshot -------------------------------------------------------------------------------

snapshot::Server World::compile_server(const PoolDocument& pool,
                                       const ServerDocument& server) const {
  snapshot::Server s;
  s.id = server.id;
  s.slot = server.slot;
  s.address = server.address;
  s.port = 8080;
  s.weight = server.weight;
  s.state = server.state;
  s.reset_connections = server.reset;
  s.reachable = server.reachable;
  s.connections_max = pool.connections_max;
  s.hop = {1, server.address};
  if (!pool.preserve_client)
    s.sources = {support::address(pool.family == Family::kV4 ? "10.2.255.1" : "fd00:2::1")};
  s.tcp_nat = server.nat;
  s.udp_nat = snapshot::NatId{server.nat.value + 1};
  s.name = server.address.to_string();
  return s;
}

std::shared_ptr<const Snapshot> World::compile() {
  auto out = std::make_shared<Snapshot>();
  out->version = ++version_;
  out->ports = {{.name = "front", .index = 0, .mac = support::mac(kFrontMac)},
                {.name = "back", .index = 1, .mac = support::mac(kBackMac)}};
  out->ports[0].addresses = {*net::Prefix::parse("10.1.0.1/16"),
                             *net::Prefix::parse("fd00:1::1/64")};
  out->ports[1].addresses = {*net::Prefix::parse("10.2.255.1/16"),
                             *net::Prefix::parse("fd00:2::1/64")};
  for (const auto& port : out->ports) {
    for (const auto& prefix : port.addresses) {
      out->own_addresses.push_back(
          {prefix.address, snapshot::Snapshot::OwnAddress::Kind::kPort, true});
    }
  }
  for (const PoolDocument& from : pools_) {
    snapshot::Pool pool{.name = "pool", .algorithm = from.algorithm};
    for (const ServerDocument& s : from.servers) {
      if (s.present) pool.servers.push_back(compile_server(from, s));
    }
    out->pools.push_back(std::move(pool));
  }
  for (const ServiceDocument& from : services_) {
    if (!from.present) continue;
    const auto index = static_cast<uint32_t>(out->virtual_services.size());
    out->virtual_services.push_back({.name = "web",
                                     .slot = snapshot::VsSlot{from.slot},
                                     .pool = snapshot::PoolIndex{from.pool},
                                     .scope = binding::ScopeSlot{from.scope},
                                     .preserve_client = pools_[from.pool].preserve_client,
                                     .per_packet = from.per_packet,
                                     .tcp_idle = from.tcp_idle,
                                     .udp_idle = from.udp_idle});
    for (const uint8_t protocol : {packet::kProtocolTcp, packet::kProtocolUdp})
      out->listeners.push_back({from.vip, protocol, from.port, from.port, index});
    const snapshot::Snapshot::OwnAddress own{from.vip, snapshot::Snapshot::OwnAddress::Kind::kVip};
    if (std::find(out->own_addresses.begin(), out->own_addresses.end(), own) ==
        out->own_addresses.end()) {
      out->own_addresses.push_back(own);
    }
  }
  for (uint32_t i = 0; i < scopes_.size(); ++i) {
    const ScopeDocument& from = scopes_[i];
    snapshot::Scope scope{.id = from.id,
                          .slot = binding::ScopeSlot{i},
                          .live = from.state == ScopeDocument::State::kLive,
                          .since = from.since,
                          .pool = snapshot::PoolIndex{from.pool}};
    scope.timeout = from.profile.timeout;
    scope.mask_v4 = from.profile.mask_v4;
    scope.mask_v6 = from.profile.mask_v6;
    scope.down = from.profile.down;
    scope.at_limit = from.profile.at_limit;
    scope.draining = from.profile.draining;
    scope.return_home = from.profile.return_home;
    scope.purge = from.profile.purge;
    scope.mirrored = from.profile.mirrored;
    scope.update_interval = from.profile.update_interval;
    out->scopes.push_back(std::move(scope));
  }
  compile_slots(*out);
  out->index_routes(newest_.get());
  return newest_ = out;
}

void World::compile_slots(Snapshot& out) const {
  out.server_by_slot.assign(next_server_slot_, {});
  out.vs_by_slot.assign(next_service_slot_, snapshot::kNoIndex);
  for (uint32_t p = 0; p < out.pools.size(); ++p) {
    snapshot::Pool& pool = out.pools[p];
    pool.index();
    std::vector<balance::MaglevServer> up;
    for (uint32_t i = 0; i < pool.servers.size(); ++i) {
      const snapshot::Server& s = pool.servers[i];
      out.server_by_slot[s.slot.value] = {p, i};
      if (balance::takes_new_clients(s)) up.push_back({s.id, s.weight, static_cast<uint16_t>(i)});
    }
    if (pool.algorithm == snapshot::Algorithm::kConsistentHash && !up.empty())
      pool.maglev = balance::build_maglev(up, balance::kMaglevSizes.front());
  }
  for (uint32_t i = 0; i < out.virtual_services.size(); ++i)
    out.vs_by_slot[out.virtual_services[i].slot.value] = i;
  out.vs_reset = retired_services_;
  std::sort(out.vs_reset.begin(), out.vs_reset.end());
  for (const RetiredServer& r : retired_servers_) {
    if (r.doomed) out.servers_reset.push_back(r.slot);
    bool live = false;
    for (const PoolDocument& pool : pools_) {
      for (const ServerDocument& s : pool.servers) live = live || (s.id == r.id && s.present);
    }
    if (!live) out.servers_left.push_back(r.id);
  }
  std::sort(out.servers_left.begin(), out.servers_left.end());
  std::sort(out.servers_reset.begin(), out.servers_reset.end());
  std::sort(out.own_addresses.begin(), out.own_addresses.end());
  std::sort(out.listeners.begin(), out.listeners.end(), [](const auto& a, const auto& b) {
    return std::tie(a.address, a.protocol, a.first_port) <
           std::tie(b.address, b.protocol, b.first_port);
  });
}

}  // namespace limpet::sim
