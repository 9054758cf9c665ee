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

// Of those virtual services for which `wanted`; sorted.
template <class Wanted>
std::vector<Listener> listeners_of(const Document& document, Wanted&& wanted) {
  std::vector<Listener> out;
  for (uint32_t v = 0; v < document.virtual_services.size(); ++v) {
    const VirtualService& vs = document.virtual_services[v];
    if (!wanted(vs)) continue;
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

template <class Wanted>
std::size_t count_listeners(const Document& document, Wanted&& wanted) {
  std::size_t count = 0;
  for (const VirtualService& vs : document.virtual_services) {
    if (wanted(vs)) count += vs.vips.size() * vs.services.size();
  }
  return count;
}

// Calls `report(earlier, later)` for each listener that overlaps one before it.
template <class Report>
void for_each_overlap(const std::vector<Listener>& listeners, Report&& report) {
  const Listener* reaches_furthest = nullptr;
  for (const Listener& one : listeners) {
    const bool same_vip = reaches_furthest != nullptr && reaches_furthest->vip == one.vip &&
                          reaches_furthest->protocol == one.protocol;
    if (same_vip && one.first <= reaches_furthest->last) report(*reaches_furthest, one);
    if (!same_vip || one.last > reaches_furthest->last) reaches_furthest = &one;
  }
}

// Calls `say(Path, message)`.
template <class Say>
void describe_overlap(const Draft& draft, const Listener& earlier, const Listener& later,
                      Say&& say) {
  const Header& header = draft.of(Target::kVirtualService)[later.virtual_service];
  const Document& document = draft.document;
  const Path model(draft.base(), header.key);
  const Path object(model, header.index);
  const Path services(object, "services");
  const VirtualService& vs = document.virtual_services[later.virtual_service];
  say(Path(services, vs.services[later.service].index),
      fmt::format("{} port {} of {} is already a service of virtual service {}",
                  to_string(later.protocol), later.first, later.vip.to_string(),
                  in_quotes(document.virtual_services[earlier.virtual_service].name)));
}

// Errors among those that are served. What is not served is in nobody's way yet; in another VRF it
// never is.
void check_overlaps(const Draft& draft, Problems* problems) {
  const Document& document = draft.document;
  const auto is_served = [](const VirtualService& vs) { return vs.served; };
  const std::size_t count = count_listeners(document, is_served);
  if (count > kListenersMax) {
    return problems->error(
        Path(draft.base(), draft.of(Target::kVirtualService).front().key),
        fmt::format("VIPs times services are {}: at most {} are allowed", count, kListenersMax));
  }
  for_each_overlap(
      listeners_of(document, is_served), [&](const Listener& earlier, const Listener& later) {
        describe_overlap(draft, earlier, later, [&](const Path& path, std::string message) {
          problems->error(path, std::move(message));
        });
      });

  const auto is_near = [](const VirtualService& vs) { return vs.vrf == kGlobalVrf; };
  if (count_listeners(document, is_near) > kListenersMax) return;
  const auto served = [&](const Listener& listener) {
    return document.virtual_services[listener.virtual_service].served;
  };
  for_each_overlap(
      listeners_of(document, is_near), [&](const Listener& earlier, const Listener& later) {
        if (served(earlier) && served(later)) return;
        describe_overlap(draft, earlier, later, [&](const Path& path, std::string message) {
          problems->warning(path, std::move(message));
        });
      });
}

void check_totals(const Draft& draft, Problems* problems) {
  std::size_t servers = 0;
  for (const Pool& pool : draft.document.pools) servers += pool.servers.size();
  if (servers > base::kServersMax) {
    problems->error(Path(draft.base(), draft.of(Target::kPool).front().key),
                    fmt::format("{} servers over all pools: at most {} are allowed", servers,
                                base::kServersMax));
  }
}

}  // namespace

void validate(Draft* draft) {
  check_totals(*draft, draft->problems);
  check_overlaps(*draft, draft->problems);
}

}  // namespace limpet::config
