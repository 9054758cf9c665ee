#include "control/compile/compile.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>
#include <tuple>
#include <utility>

#include "control/compile/servers.h"
#include "control/config/identity.h"

namespace limpet::compile {
namespace {

using binding::ScopeSlot;
using config::Document;
using net::Family;
using snapshot::PoolIndex;
using snapshot::ServerSlot;
using snapshot::Snapshot;

// A flow counts its idle time in 16 bits of seconds: 18 hours stand for "never".
constexpr timing::Duration kIdleMax = timing::seconds(UINT16_MAX);

timing::Duration idle_of(const config::NetworkProfile& profile) {
  const timing::Duration idle = profile.session_idle_timeout;
  return idle == timing::Duration::zero() ? kIdleMax : std::min(idle, kIdleMax);
}

// The first 64 bits of a uuid's text; never 0.
uint64_t number_of(std::string digits) {
  std::erase(digits, '-');
  uint64_t id = 0;
  std::from_chars(digits.data(), digits.data() + 16, id, 16);
  return std::max<uint64_t>(id, 1);
}

snapshot::Recovery recovery(config::Recovery r) {
  switch (r) {
    case config::Recovery::kContinue:
      return snapshot::Recovery::kContinue;
    case config::Recovery::kAbort:
      return snapshot::Recovery::kAbort;
    case config::Recovery::kPickNew:
      break;
  }
  return snapshot::Recovery::kPickNew;
}

// The leading bits of a client's address that make its key.
uint8_t mask_of(const config::Profile& profile, Family family) {
  const uint8_t whole = net::address_bits(family);
  return std::min(profile.ip_mask.value_or(whole), whole);
}

// What forms the profile's keys beside its type; empty for whole addresses.
std::string key_form(const config::Profile& profile, Family family) {
  if (profile.type != config::PersistenceType::kClientIp) return " " + profile.key_name;
  const uint8_t mask = mask_of(profile, family);
  return mask == net::address_bits(family) ? "" : fmt::format(" /{}", mask);
}

class Compiler {
 public:
  Compiler(const Document& document, const Environment& environment, Registry& registry)
      : document_(document), environment_(environment), registry_(registry) {}

  base::Result<Compiled> run();

 private:
  // A record of the virtual service in hand, and for which services it is.
  struct Record {
    uint32_t index;  // into Snapshot::virtual_services
    Family family;
    config::PoolIndex pool;
    bool preserve_client;
    const config::Service* tcp = nullptr;  // the first of the protocol
    const config::Service* udp = nullptr;
  };

  enum class Owner : uint8_t { kThisEngine, kAnother, kNever };
  Owner owner_of(const config::ServiceEngineGroup& group) const;
  std::string why_not_served(const config::VirtualService& vs) const;
  bool is_standby(uint32_t index) const;
  bool is_elected(const config::VirtualService& vs) const;
  void check_groups();
  void collect_addresses();
  void virtual_service(uint32_t index);
  Record& record_for(const config::VirtualService& vs, const snapshot::VirtualService& common,
                     Family family, const config::Service& service, std::vector<Record>& records);
  PoolIndex pool_for(const PoolUse& use);
  ScopeSlot scope_for(const config::VirtualService& vs, PoolIndex pool, Family family);
  void describe(snapshot::Scope& scope, const config::VirtualService& vs, const config::Pool& pool,
                const config::Profile& profile, Family family) const;
  void compile_pools();
  std::size_t count_served() const;
  void sort_listeners();
  void list_adoptables();
  void index_slots();

  const Document& document_;
  const Environment& environment_;
  Registry& registry_;
  Snapshot out_;
  std::vector<std::string> why_not_;  // by index of the virtual service; empty: served
  std::vector<PoolUse> uses_;         // by PoolIndex
  std::map<std::tuple<uint32_t, int, bool>, PoolIndex> pool_of_use_;
  Warnings warnings_;
  base::Errors errors_;
  std::map<config::ServerId, std::string> unreachable_;
};

base::Result<Compiled> Compiler::run() {
  registry_.begin();
  out_.generation = environment_.generation;
  out_.version = environment_.version;
  out_.ports = environment_.ports;
  out_.routes = environment_.routes;
  out_.index_routes(environment_.running.get());
  for (const config::VirtualService& vs : document_.virtual_services)
    why_not_.push_back(why_not_served(vs));
  check_groups();
  collect_addresses();
  for (uint32_t i = 0; i < document_.virtual_services.size(); ++i) virtual_service(i);
  compile_pools();
  sort_listeners();
  list_adoptables();
  if (!errors_.empty()) return errors_;
  registry_.finish();
  index_slots();
  return Compiled{.snapshot = std::make_shared<const Snapshot>(std::move(out_)),
                  .warnings = warnings_.take(),
                  .served = count_served(),
                  .virtual_services = document_.virtual_services.size(),
                  .unreachable = std::move(unreachable_)};
}

std::size_t Compiler::count_served() const {
  std::size_t served = 0;
  for (uint32_t i = 0; i < document_.virtual_services.size(); ++i) {
    if (why_not_[i].empty() || is_standby(i)) ++served;
  }
  return served;
}

// Who owns the group: this engine, another one of which it may take it over, or never this one.
Compiler::Owner Compiler::owner_of(const config::ServiceEngineGroup& group) const {
  const auto& engines = group.engines;
  if (engines.empty()) return Owner::kThisEngine;
  // One owner on the wire at any time: without an election it is the first.
  if (!environment_.elects)
    return engines.front() == environment_.engine ? Owner::kThisEngine : Owner::kNever;
  if (std::find(engines.begin(), engines.end(), environment_.engine) == engines.end())
    return Owner::kNever;
  const bool owned = std::binary_search(environment_.owned.begin(), environment_.owned.end(),
                                        group_id(group.uuid));
  return owned ? Owner::kThisEngine : Owner::kAnother;
}

// Why this engine does not serve the virtual service; empty when it does.
std::string Compiler::why_not_served(const config::VirtualService& vs) const {
  if (!vs.served) return vs.why_not.empty() ? "not served" : vs.why_not;
  if (!vs.pool) return "it has no pool";
  if (vs.group.value >= document_.groups.size()) return "";
  const config::ServiceEngineGroup& group = document_.groups[vs.group.value];
  if (owner_of(group) == Owner::kThisEngine) return "";
  if (!environment_.elects) return fmt::format("engine {} serves its group", group.engines.front());
  return fmt::format("another engine owns group {}", group.name);
}

// Whether engines take it over from one another.
bool Compiler::is_elected(const config::VirtualService& vs) const {
  return environment_.elects && vs.group.value < document_.groups.size() &&
         document_.groups[vs.group.value].engines.size() > 1;
}

// Not served here because another engine owns it, but perhaps soon.
bool Compiler::is_standby(uint32_t index) const {
  const config::VirtualService& vs = document_.virtual_services[index];
  return vs.served && vs.pool && vs.group.value < document_.groups.size() &&
         owner_of(document_.groups[vs.group.value]) == Owner::kAnother;
}

// What an election needs to be of use.
void Compiler::check_groups() {
  if (!environment_.elects) return;
  std::size_t elected = 0;
  for (std::size_t i = 0; i < document_.groups.size(); ++i) {
    const config::ServiceEngineGroup& group = document_.groups[i];
    if (!group.engines.empty()) ++elected;
    const auto is_known = [&](const std::string& name) {
      return name == environment_.engine ||
             std::find(environment_.peers.begin(), environment_.peers.end(), name) !=
                 environment_.peers.end();
    };
    for (std::size_t e = 0; e < group.engines.size(); ++e) {
      if (is_known(group.engines[e])) continue;
      warnings_.add(fmt::format("{}/engines/{}", group.path, e),
                    fmt::format("engine {} is no mirroring peer of this one: each would own the "
                                "group",
                                group.engines[e]));
    }
  }
  if (elected > base::kGroupsMax) {
    errors_.push_back(
        {"/ServiceEngineGroup", fmt::format("more than {} groups with engines", base::kGroupsMax)});
  }
}

void Compiler::collect_addresses() {
  using Kind = Snapshot::OwnAddress::Kind;
  auto& own = out_.own_addresses;
  for (const snapshot::Port& port : out_.ports) {
    for (const net::Prefix& prefix : port.addresses)
      own.push_back({prefix.address.in_zone(net::zone_of(port.index)), Kind::kPort, true});
  }
  for (const net::Address& address : environment_.snat) own.push_back({address, Kind::kSnat, true});
  for (std::size_t i = 0; i < document_.virtual_services.size(); ++i) {
    const config::VirtualService& vs = document_.virtual_services[i];
    if (!why_not_[i].empty()) continue;
    for (const net::Address& vip : vs.vips) {
      own.push_back({vip, Kind::kVip});
      if (std::find(environment_.snat.begin(), environment_.snat.end(), vip) !=
          environment_.snat.end()) {
        warnings_.add(vs.path, fmt::format("VIP {} is also a source NAT address of this engine",
                                           vip.to_string()));
      }
    }
  }
  // The servers' gateway moves with the group: it is answered for and announced, and has no
  // services.
  for (const config::ServiceEngineGroup& group : document_.groups) {
    if (owner_of(group) != Owner::kThisEngine) continue;
    for (const net::Address& address : group.floating_addresses)
      own.push_back({address, Kind::kFloating});
  }
  // An address once: what clients may connect to counts as a VIP, whatever else it is; it stays a
  // source of translations.
  const auto rank = [](Kind kind) {
    switch (kind) {
      case Kind::kVip:
        return 0;
      case Kind::kPort:
        return 1;
      case Kind::kFloating:
        return 2;
      case Kind::kSnat:
        break;
    }
    return 3;
  };
  std::sort(own.begin(), own.end(), [&](const auto& a, const auto& b) {
    return std::pair(a.address, rank(a.kind)) < std::pair(b.address, rank(b.kind));
  });
  std::vector<Snapshot::OwnAddress> once;
  for (const auto& address : own) {
    if (once.empty() || once.back().address != address.address) {
      once.push_back(address);
    } else {
      once.back().source = once.back().source || address.source;
    }
  }
  own = std::move(once);
}

void Compiler::virtual_service(uint32_t index) {
  const config::VirtualService& vs = document_.virtual_services[index];
  const auto slot = registry_.virtual_services.acquire(vs.uuid);
  if (!slot) {
    errors_.push_back(
        {vs.path, fmt::format("more than {} virtual services, counting deleted ones whose "
                              "connections are being reset",
                              base::kVirtualServicesMax)});
    return;
  }
  snapshot::VirtualService common;
  common.name = vs.name;
  common.tenant = vs.tenant;
  common.uuid = vs.uuid;
  common.slot = *slot;
  common.pool = PoolIndex{snapshot::kNoIndex};
  common.autogw = vs.autogw;
  common.served = why_not_[index].empty();
  common.why_not = why_not_[index];
  common.standby = is_standby(index);
  if (!common.served && !common.standby) {
    // Clients keep their bindings while their virtual service is switched off.
    for (const config::PoolIndex of : document_.pools_of(vs)) {
      const PoolIndex pool = pool_for({.pool = of.value, .family = std::nullopt});
      if (common.pool.value == snapshot::kNoIndex) common.pool = pool;
      for (const Family family : {Family::kV4, Family::kV6}) {
        if (std::none_of(vs.vips.begin(), vs.vips.end(),
                         [&](const net::Address& vip) { return vip.family() == family; })) {
          continue;
        }
        const ScopeSlot scope = scope_for(vs, pool, family);
        if (common.scope == binding::kNoScope) common.scope = scope;
      }
    }
    out_.virtual_services.push_back(std::move(common));
    return;
  }

  std::vector<Record> records;
  for (const net::Address& vip : vs.vips) {
    for (const config::Service& service : vs.services) {
      const Record& record = record_for(vs, common, vip.family(), service, records);
      if (common.standby) continue;
      out_.listeners.push_back({.address = vip,
                                .protocol = static_cast<uint8_t>(service.protocol),
                                .first_port = service.first_port,
                                .last_port = service.last_port,
                                .virtual_service = record.index});
    }
  }
  for (const Record& record : records) {
    const config::Pool& pool = document_.pools[record.pool.value];
    if (std::none_of(pool.servers.begin(), pool.servers.end(), [&](const config::Server& s) {
          return !s.dns && s.address.family() == record.family;
        })) {
      const char* family = record.family == Family::kV4 ? "IPv4" : "IPv6";
      warnings_.add(vs.path,
                    fmt::format("virtual service '{}' has an {} address, but pool '{}' has "
                                "no {} server to serve it",
                                vs.name, family, pool.name, family));
    }
  }
}

// The record of this virtual service that treats connections as `service` asks and sends them to
// its pool; a new one if none does.
Compiler::Record& Compiler::record_for(const config::VirtualService& vs,
                                       const snapshot::VirtualService& common, Family family,
                                       const config::Service& service,
                                       std::vector<Record>& records) {
  const bool tcp = service.protocol == config::Protocol::kTcp;
  const bool preserve = document_.preserves_client(service);
  const config::PoolIndex pool = *service.pool;
  const config::NetworkProfile& profile = document_.network_profile_of(service);
  const auto alike = [&](const config::Service* other) {
    if (other == nullptr) return true;
    const config::NetworkProfile& theirs = document_.network_profile_of(*other);
    return idle_of(theirs) == idle_of(profile) && (tcp || theirs.per_packet == profile.per_packet);
  };
  auto it = std::find_if(records.begin(), records.end(), [&](const Record& r) {
    return r.family == family && r.pool == pool && r.preserve_client == preserve &&
           alike(tcp ? r.tcp : r.udp);
  });
  if (it == records.end()) {
    const auto index = static_cast<uint32_t>(out_.virtual_services.size());
    records.push_back(
        {.index = index, .family = family, .pool = pool, .preserve_client = preserve});
    it = std::prev(records.end());
    snapshot::VirtualService record = common;
    record.preserve_client = preserve;
    record.adopts = preserve && is_elected(vs);
    record.pool = pool_for({.pool = pool.value, .family = family, .preserve_client = preserve});
    record.scope = scope_for(vs, record.pool, family);
    out_.virtual_services.push_back(std::move(record));
  }
  snapshot::VirtualService& record = out_.virtual_services[it->index];
  if (tcp) {
    it->tcp = &service;
    record.tcp_idle = idle_of(profile);
    uses_[record.pool.value].tcp = true;
  } else {
    it->udp = &service;
    record.udp_idle = idle_of(profile);
    record.per_packet = profile.per_packet;
    uses_[record.pool.value].udp = true;
  }
  return *it;
}

PoolIndex Compiler::pool_for(const PoolUse& use) {
  const int family = !use.family ? 0 : *use.family == Family::kV4 ? 4 : 6;
  const PoolIndex next{static_cast<uint32_t>(uses_.size())};
  const auto [it, fresh] =
      pool_of_use_.try_emplace(std::tuple(use.pool, family, use.preserve_client), next);
  if (fresh) uses_.push_back(use);
  return it->second;
}

// The scope in which the virtual service's clients of this family are bound; kNoScope without
// persistence.
ScopeSlot Compiler::scope_for(const config::VirtualService& vs, PoolIndex pool, Family family) {
  const config::Pool& from = document_.pools[uses_[pool.value].pool];
  const config::Profile* profile = document_.profile_of(from);
  if (profile == nullptr || profile->type != config::PersistenceType::kClientIp ||
      profile->timeout == profile->timeout.zero()) {
    return binding::kNoScope;
  }
  const binding::ScopeId id = scope_id(*profile, vs.uuid, from.uuid, family);
  const auto slot = registry_.scopes.acquire(id, environment_.version);
  if (!slot) {
    base::Error error{"", fmt::format("more than {} persistence scopes, counting those that left "
                                      "and are being emptied",
                                      base::kScopesMax)};
    if (errors_.empty() || errors_.back() != error) errors_.push_back(std::move(error));
    return binding::kNoScope;
  }
  if (out_.scopes.size() <= slot->value) out_.scopes.resize(slot->value + 1);
  snapshot::Scope& scope = out_.scopes[slot->value];
  if (!scope.live) {
    scope.id = id;
    scope.slot = *slot;
    scope.since = registry_.scopes.since(*slot);
    scope.pool = pool;
    describe(scope, vs, from, *profile, family);
    return *slot;
  }
  if (scope.virtual_service_uuid != vs.uuid) {
    scope.virtual_service.clear();
    scope.virtual_service_uuid.clear();
  }
  // Of the virtual services that share it one that is served knows where the servers are.
  if (!uses_[scope.pool.value].family) scope.pool = pool;
  return *slot;
}

void Compiler::describe(snapshot::Scope& scope, const config::VirtualService& vs,
                        const config::Pool& pool, const config::Profile& profile,
                        Family family) const {
  scope.live = true;
  scope.type = config::to_string(profile.type);
  scope.virtual_service = vs.name;
  scope.virtual_service_uuid = vs.uuid;
  scope.pool_name = pool.name;
  scope.profile = profile.name;
  scope.timeout = profile.timeout;
  if (profile.update_interval) scope.update_interval = *profile.update_interval;
  // Of the family that the scope does not have the mask stays whole.
  (family == Family::kV4 ? scope.mask_v4 : scope.mask_v6) = mask_of(profile, family);
  scope.down = recovery(profile.down);
  scope.at_limit = recovery(profile.at_limit);
  scope.draining = recovery(profile.draining.value_or(
      pool.draining_serves_persisted ? config::Recovery::kContinue : config::Recovery::kPickNew));
  scope.return_home = profile.return_home;
  scope.purge = profile.purge;
  scope.mirrored = profile.mirrored;
}

void Compiler::compile_pools() {
  PoolCompiler pools(document_, environment_, out_, registry_, warnings_, errors_);
  for (const PoolUse& use : uses_) out_.pools.push_back(pools.compile(use));
  unreachable_ = pools.take_unreachable();
}

void Compiler::sort_listeners() {
  auto& listeners = out_.listeners;
  std::sort(listeners.begin(), listeners.end(), [](const auto& a, const auto& b) {
    return std::tie(a.address, a.protocol, a.first_port) <
           std::tie(b.address, b.protocol, b.first_port);
  });
  // parse_document has refused this; a look-up that finds one of two would be a silent mistake.
  const auto overlap =
      std::adjacent_find(listeners.begin(), listeners.end(), [](const auto& a, const auto& b) {
        return a.address == b.address && a.protocol == b.protocol && b.first_port <= a.last_port;
      });
  if (overlap == listeners.end()) return;
  errors_.push_back({"", fmt::format("{} port {} is served twice", overlap->address.to_string(),
                                     std::next(overlap)->first_port)});
}

// Of which server's answers the VIP and port are certain: one listener, and no other virtual
// service uses the server in this way.
void Compiler::list_adoptables() {
  std::vector<uint32_t> ports(out_.virtual_services.size());  // TCP, of each record
  for (const snapshot::Listener& l : out_.listeners) {
    if (l.protocol == static_cast<uint8_t>(config::Protocol::kTcp))
      ports[l.virtual_service] += 1u + l.last_port - l.first_port;
  }
  auto& list = out_.adoptables;
  for (const snapshot::Listener& l : out_.listeners) {
    const snapshot::VirtualService& vs = out_.virtual_services[l.virtual_service];
    if (!vs.adopts || vs.scope == binding::kNoScope ||
        l.protocol != static_cast<uint8_t>(config::Protocol::kTcp))
      continue;
    for (const snapshot::Server& server : out_.pools[vs.pool.value].servers) {
      if (server.address.family() != l.address.family()) continue;
      const uint16_t port = server.port_for(l.first_port);
      list.push_back({server.address, port, l.virtual_service, l.address, l.first_port});
      // One that stands for the many others makes it uncertain.
      if (ports[l.virtual_service] > 1) list.push_back(list.back());
    }
  }
  const auto key = [](const snapshot::Adoptable& a) { return std::tuple(a.server, a.port); };
  std::sort(list.begin(), list.end(),
            [&](const auto& a, const auto& b) { return key(a) < key(b); });
  std::vector<snapshot::Adoptable> once;
  for (std::size_t i = 0; i < list.size();) {
    std::size_t end = i + 1;
    while (end < list.size() && key(list[end]) == key(list[i])) ++end;
    if (end == i + 1) once.push_back(list[i]);
    i = end;
  }
  list = std::move(once);
}

// After finish(): what left is known.
void Compiler::index_slots() {
  out_.scopes.resize(registry_.scopes.size());
  for (uint32_t i = 0; i < out_.scopes.size(); ++i) out_.scopes[i].slot = ScopeSlot{i};
  out_.vs_by_slot.assign(registry_.virtual_services.size(), snapshot::kNoIndex);
  for (std::size_t i = out_.virtual_services.size(); i-- > 0;) {
    out_.vs_by_slot[out_.virtual_services[i].slot.value] = static_cast<uint32_t>(i);
  }
  out_.server_by_slot.assign(registry_.servers.size(), {});
  // Of several pools that have a server one that is served is the one to name.
  for (const bool served : {false, true}) {
    for (uint32_t p = 0; p < out_.pools.size(); ++p) {
      if (uses_[p].family.has_value() != served) continue;
      for (uint32_t s = 0; s < out_.pools[p].servers.size(); ++s)
        out_.server_by_slot[out_.pools[p].servers[s].slot.value] = {.pool = p, .index = s};
    }
  }
  for (const config::ServerId id : environment_.graceful_over) {
    if (const auto slot = registry_.servers.retired_slot(binding::ServerId{id.value}))
      registry_.servers.doom(*slot);
  }
  out_.vs_reset = registry_.virtual_services.retired();
  out_.servers_reset = registry_.servers.retired(/*doomed_only=*/true);
  for (const ServerSlot slot : registry_.servers.retired()) {
    const binding::ServerId id = registry_.servers.key(slot);
    if (!registry_.servers.is_live(id)) out_.servers_left.push_back(id);
  }
  std::sort(out_.servers_left.begin(), out_.servers_left.end());
}

}  // namespace

uint64_t group_id(std::string_view uuid) {
  return number_of(config::object_uuid("group", "", uuid));
}

binding::ScopeId scope_id(const config::Profile& profile, std::string_view virtual_service_uuid,
                          std::string_view pool_uuid, Family family) {
  const std::string uuid = config::object_uuid(
      fmt::format("scope {} {}{}", config::to_string(profile.type), family == Family::kV4 ? 4 : 6,
                  key_form(profile, family)),
      profile.shared ? "" : virtual_service_uuid, fmt::format("{} {}", pool_uuid, profile.uuid));
  return binding::ScopeId{number_of(uuid)};
}

base::Result<Compiled> compile(const Document& document, const Environment& environment,
                               Registry& registry) {
  Registry next = registry;
  auto result = Compiler(document, environment, next).run();
  if (result) registry = std::move(next);
  return result;
}

}  // namespace limpet::compile
