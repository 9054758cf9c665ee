// The bootstrap parser: any bytes give errors or a Bootstrap that keeps its invariants
// (bootstrap.h).
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "common/base/limits.h"
#include "control/config/bootstrap_codec.h"
#include "tests/fuzz/checks.h"

namespace limpet::config {
namespace {

void check(const Bootstrap& b) {
  LIMPET_ASSERT(!b.name.empty() && b.name.find('/') == std::string::npos);
  LIMPET_ASSERT(!b.worker_cores.empty() && b.worker_cores.size() <= base::kWorkersMax);
  LIMPET_ASSERT(!b.ports.empty() && b.ports.size() <= base::kPortsMax);
  for (const PortOptions& port : b.ports) LIMPET_ASSERT(!port.name.empty() && !port.device.empty());
  for (const RouteOptions& route : b.routes) {
    LIMPET_ASSERT(route.port < b.ports.size() && route.prefix == route.prefix.network());
    LIMPET_ASSERT(route.next_hop.family() == route.prefix.family());
  }
  for (const NeighborOptions& neighbor : b.neighbors) LIMPET_ASSERT(neighbor.port < b.ports.size());
  LIMPET_ASSERT(b.snat.size() <= base::kSnatAddressesMax);
  LIMPET_ASSERT(std::adjacent_find(b.snat.begin(), b.snat.end(), std::greater_equal<>()) ==
                b.snat.end());
  const auto* tcp = std::get_if<net::Endpoint>(&b.api.listen);
  LIMPET_ASSERT(tcp == nullptr || tcp->address.is_loopback() || b.api.tls);
  LIMPET_ASSERT(!b.mirroring || b.mirroring->secret_file ||
                b.mirroring->listen.address.is_loopback());
  LIMPET_ASSERT(!b.document || b.document->is_absolute());
}

}  // namespace
}  // namespace limpet::config

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto result = limpet::config::parse_bootstrap(text, "/etc/limpet");
  if (result.ok()) {
    limpet::fuzz::check_problems(result.value().warnings);
    limpet::config::check(result.value().bootstrap);
  } else {
    limpet::fuzz::check_problems(result.errors());
  }
  return 0;
}
