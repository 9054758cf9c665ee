// Rules that concern several objects at once.
#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "common/base/limits.h"
#include "control/config/draft.h"

namespace limpet::config {
namespace {

// VIPs times services, over all virtual services: what the engine has to search for a new client.
constexpr std::size_t kListenersMax = 1'000'000;

struct Listener {
  net::Address vip;
  Protocol protocol;
  uint16_t first;
  uint16_t last;
  uint32_t virtual_service;
  uint32_t service;

  auto order() const { return std::tie(vip, protocol, first, virtual_service, service); }
};

const char* to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return "TCP";
    case Protocol::kUdp:
      return "UDP";
    case Protocol::kSctp:
      return "SCTP";
  }
  return "?";
}

// Sorted; nothing and a reported error when there are too many.
std::vector<Listener> listeners_of(const Document& document, Problems* problems) {
  std::size_t count = 0;
  for (const VirtualService& vs : document.virtual_services) {
    count += vs.vips.size() * vs.services.size();
  }
  if (count > kListenersMax) {
    const Path root;
    problems->error(
        Path(root, "VirtualService"),
        fmt::format("VIPs times services are {}: at most {} are allowed", count, kListenersMax));
    return {};
  }
  std::vector<Listener> out;
  out.reserve(count);
  for (uint32_t v = 0; v < document.virtual_services.size(); ++v) {
    const VirtualService& vs = document.virtual_services[v];
    for (uint32_t s = 0; s < vs.services.size(); ++s) {
      const Service& service = vs.services[s];
      for (const net::Address& vip : vs.vips) {
        out.push_back({vip, service.protocol, service.first_port, service.last_port, v, s});
      }
    }
  }
  std::sort(out.begin(), out.end(),
            [](const Listener& a, const Listener& b) { return a.order() < b.order(); });
  return out;
}

void report_overlap(const Draft& draft, const Listener& earlier, const Listener& later,
                    Problems* problems) {
  const Header& header = draft.of(Target::kVirtualService)[later.virtual_service];
  const Path root;
  const Path model(root, header.model);
  const Path object(model, header.index);
  const Path services(object, "services");
  const Path path(services, later.service);
  problems->error(
      path, fmt::format("{} port {} of {} is already a service of virtual service {}",
                        to_string(later.protocol), later.first, later.vip.to_string(),
                        in_quotes(draft.document.virtual_services[earlier.virtual_service].name)));
}

void check_overlaps(const Draft& draft, Problems* problems) {
  const auto listeners = listeners_of(draft.document, problems);
  const Listener* reaches_furthest = nullptr;
  for (const Listener& one : listeners) {
    const bool same_vip = reaches_furthest != nullptr && reaches_furthest->vip == one.vip &&
                          reaches_furthest->protocol == one.protocol;
    if (same_vip && one.first <= reaches_furthest->last) {
      report_overlap(draft, *reaches_furthest, one, problems);
    }
    if (!same_vip || one.last > reaches_furthest->last) reaches_furthest = &one;
  }
}

void check_totals(const Document& document, Problems* problems) {
  const Path root;
  std::size_t servers = 0;
  for (const Pool& pool : document.pools) servers += pool.servers.size();
  if (servers > base::kServersMax) {
    problems->error(Path(root, "Pool"),
                    fmt::format("{} servers over all pools: at most {} are allowed", servers,
                                base::kServersMax));
  }
}

}  // namespace

void validate(Draft* draft) {
  check_totals(draft->document, draft->problems);
  check_overlaps(*draft, draft->problems);
}

}  // namespace limpet::config
