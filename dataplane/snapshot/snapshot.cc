#include "dataplane/snapshot/snapshot.h"

#include <algorithm>
#include <bit>
#include <tuple>

namespace limpet::snapshot {

void Pool::index() {
  by_id.assign(std::bit_ceil(2 * servers.size() + 1), 0);
  addresses.clear();
  const std::size_t mask = by_id.size() - 1;
  for (std::size_t i = 0; i < servers.size(); ++i) {
    std::size_t at = servers[i].id.value & mask;
    while (by_id[at] != 0) at = (at + 1) & mask;
    by_id[at] = static_cast<uint32_t>(i + 1);
    addresses.push_back(servers[i].address);
  }
  std::sort(addresses.begin(), addresses.end());
  equal_weights = std::all_of(servers.begin(), servers.end(),
                              [&](const Server& s) { return s.weight == servers.front().weight; });
}

const Snapshot::OwnAddress* Snapshot::own(const net::Address& address) const {
  const auto it = std::lower_bound(
      own_addresses.begin(), own_addresses.end(), address,
      [](const OwnAddress& own, const net::Address& wanted) { return own.address < wanted; });
  return it != own_addresses.end() && it->address == address ? &*it : nullptr;
}

const VirtualService* Snapshot::find(const net::Address& vip, uint8_t protocol,
                                     uint16_t port) const {
  // The last listener that starts at or before (vip, protocol, port) is the only one that can hold
  // it.
  const auto after =
      std::upper_bound(listeners.begin(), listeners.end(), std::tie(vip, protocol, port),
                       [](const auto& wanted, const Listener& l) {
                         return wanted < std::tie(l.address, l.protocol, l.first_port);
                       });
  if (after == listeners.begin()) return nullptr;
  const Listener& l = *std::prev(after);
  if (l.address != vip || l.protocol != protocol || port > l.last_port) return nullptr;
  return &virtual_services[l.virtual_service];
}

const Adoptable* Snapshot::adoptable(const net::Address& server, uint16_t port) const {
  const auto it = std::lower_bound(
      adoptables.begin(), adoptables.end(), std::tuple(server, port),
      [](const Adoptable& a, const auto& wanted) { return std::tuple(a.server, a.port) < wanted; });
  const bool found = it != adoptables.end() && it->server == server && it->port == port;
  return found ? &*it : nullptr;
}

void Snapshot::index_routes(const Snapshot* before) {
  if (before != nullptr && before->route_table != nullptr && before->ports == ports &&
      before->routes == routes) {
    route_table = before->route_table;
    routes_since = before->routes_since;
    return;
  }
  std::vector<Route> all;
  for (const Port& port : ports) {
    for (const net::Prefix& subnet : port.addresses)
      all.push_back({.prefix = subnet, .port = port.index, .next_hop = {}});
  }
  all.insert(all.end(), routes.begin(), routes.end());
  route_table = std::make_shared<const RouteTable>(all);
  routes_since = version;
}

}  // namespace limpet::snapshot
