// The document parser: any bytes give errors or a Document that keeps its invariants (document.h)
// and that compile() takes.
#include <algorithm>
#include <cstdint>
#include <set>
#include <string_view>
#include <tuple>
#include <vector>

#include "control/compile/compile.h"
#include "control/config/codec.h"
#include "tests/fuzz/checks.h"

namespace limpet::config {
namespace {

void check_pools(const Document& d) {
  for (const Pool& pool : d.pools) {
    LIMPET_ASSERT(!pool.name.empty() && !pool.uuid.empty() && !pool.path.empty());
    if (pool.profile) LIMPET_ASSERT(pool.profile->value < d.profiles.size());
    for (const HealthMonitorIndex i : pool.health_monitors) {
      LIMPET_ASSERT(i.value < d.health_monitors.size());
    }
    std::set<ServerId> ids;
    for (const Server& server : pool.servers) {
      LIMPET_ASSERT(server.id.value != 0 && ids.insert(server.id).second);
      LIMPET_ASSERT(server.dns == server.address.is_unspecified());
      LIMPET_ASSERT(pool.use_service_port == (server.port == 0));
    }
  }
}

void check_virtual_service(const Document& d, const VirtualService& vs) {
  LIMPET_ASSERT(!vs.name.empty() && !vs.uuid.empty());
  LIMPET_ASSERT(vs.served == vs.why_not.empty());
  LIMPET_ASSERT(vs.group.value < d.groups.size());
  LIMPET_ASSERT(!vs.pool || vs.pool->value < d.pools.size());
  for (const Service& service : vs.services) {
    LIMPET_ASSERT(service.first_port <= service.last_port && service.last_port != 0);
    const NetworkType network = d.network_profile_of(service).type;
    const ApplicationType application = d.application_profile_of(service).type;
    LIMPET_ASSERT(!service.pool || service.pool->value < d.pools.size());
    if (!vs.served) continue;
    LIMPET_ASSERT(service.pool.has_value());
    LIMPET_ASSERT(!service.ssl && application == ApplicationType::kL4);
    LIMPET_ASSERT(network == NetworkType::kTcpFastPath || network == NetworkType::kUdpFastPath);
  }
  if (!vs.served) return;
  LIMPET_ASSERT(vs.enabled && vs.traffic_enabled && vs.pool);
  LIMPET_ASSERT(!vs.vips.empty() && !vs.services.empty());
  for (const PoolIndex pool : d.pools_of(vs)) {
    const Profile* profile = d.profile_of(d.pools[pool.value]);
    LIMPET_ASSERT(profile == nullptr || profile->type == PersistenceType::kClientIp);
  }
}

void check_listeners(const Document& d) {
  std::vector<std::tuple<net::Address, Protocol, uint16_t, uint16_t>> all;
  for (const VirtualService& vs : d.virtual_services) {
    if (!vs.served) continue;
    for (const Service& service : vs.services) {
      for (const net::Address& vip : vs.vips) {
        all.emplace_back(vip, service.protocol, service.first_port, service.last_port);
      }
    }
  }
  std::sort(all.begin(), all.end());
  for (std::size_t i = 1; i < all.size(); ++i) {
    const auto& [vip, protocol, first, last] = all[i - 1];
    const auto& [next_vip, next_protocol, next_first, next_last] = all[i];
    LIMPET_ASSERT(vip != next_vip || protocol != next_protocol || last < next_first);
  }
}

void check_compiled(const Document& d) {
  compile::Environment environment;
  environment.engine = "se1";
  environment.ports = {
      {.name = "port",
       .index = 0,
       .mac = {},
       .addresses = {*net::Prefix::parse("10.1.0.1/8"), *net::Prefix::parse("fd00:1::1/64")}}};
  compile::Registry registry;
  const auto compiled = compile::compile(d, environment, registry);
  if (!compiled.ok()) return fuzz::check_problems(compiled.errors());
  fuzz::check_problems(compiled.value().warnings);
  LIMPET_ASSERT(compiled.value().served <= compiled.value().virtual_services);
}

}  // namespace
}  // namespace limpet::config

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto result = limpet::config::parse_document(text);
  if (!result.ok()) {
    limpet::fuzz::check_problems(result.errors());
    return 0;
  }
  const auto& parsed = result.value();
  LIMPET_ASSERT(parsed.text == text);
  limpet::fuzz::check_problems(parsed.warnings);
  limpet::config::check_pools(parsed.document);
  for (const auto& vs : parsed.document.virtual_services) {
    limpet::config::check_virtual_service(parsed.document, vs);
  }
  limpet::config::check_listeners(parsed.document);
  limpet::config::check_compiled(parsed.document);
  return 0;
}
