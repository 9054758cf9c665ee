// Longest prefix match, against a walk over all routes.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "common/base/limits.h"
#include "common/base/random.h"
#include "dataplane/snapshot/route_table.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::snapshot {
namespace {

using net::Address;
using net::Family;

// Few bits differ, at both ends of the address and at the bounds of words, so that prefixes nest
// and touch.
Address any_address(base::Random& random, Family family) {
  uint8_t bytes[16] = {};
  for (const uint32_t at : {0u, 1u, 3u, 7u, 8u, 15u}) {
    constexpr uint8_t kValues[] = {0x00, 0x01, 0x80, 0xfe, 0xff};
    bytes[at] = kValues[random.below(std::size(kValues))];
  }
  if (family == Family::kV4) return Address::v4(&bytes[random.below(2)]);
  bytes[2] = 0x20;  // else it might be IPv4
  return Address::v6(bytes).in_zone(0);
}

Route any_route(base::Random& random, Family family) {
  const auto bits = static_cast<uint8_t>(random.below(net::address_bits(family) + 1u));
  const net::Prefix prefix{any_address(random, family), bits};
  return {.prefix = prefix,
          .port = static_cast<uint8_t>(random.below(32)),
          .next_hop = random.below(3) == 0 ? Address{} : any_address(random, family)};
}

Family any_family(base::Random& random) {
  return random.below(2) == 0 ? Family::kV4 : Family::kV6;
}

// The first of the longest ones.
const Route* walk(const std::vector<Route>& routes, const Address& to) {
  const Route* best = nullptr;
  for (const Route& r : routes) {
    if (r.prefix.contains(to) && (best == nullptr || r.prefix.length > best->prefix.length))
      best = &r;
  }
  return best;
}

void expect_same(const Route* expected, bool found, const Hop& hop, const Address& to) {
  RC_ASSERT(found == (expected != nullptr));
  if (!found) return;
  RC_ASSERT(hop.port == expected->port);
  RC_ASSERT(hop.next_hop == (expected->next_hop.is_unspecified() ? to : expected->next_hop));
}

RC_GTEST_PROP(RouteTable, FindsWhatAWalkOverAllRoutesFinds, ()) {
  base::Random random(*rc::gen::arbitrary<uint64_t>());
  std::vector<Route> routes;
  for (uint32_t n = random.below(40); n > 0; --n)
    routes.push_back(any_route(random, any_family(random)));
  const RouteTable table(routes);
  for (const Family family : {Family::kV4, Family::kV6}) {
    for (int i = 0; i < 100; ++i) {
      const Address to = any_address(random, family);
      Hop hop;
      const bool found = table.find(to, &hop);
      expect_same(walk(routes, to), found, hop, to);
    }
  }
}

// Where a prefix begins and ends is where a mistake would be.
RC_GTEST_PROP(RouteTable, FindsItAtTheEdgesOfEveryPrefix, ()) {
  base::Random random(*rc::gen::arbitrary<uint64_t>());
  std::vector<Route> routes;
  for (uint32_t n = random.below(12) + 1; n > 0; --n)
    routes.push_back(any_route(random, any_family(random)));
  const RouteTable table(routes);
  for (const Route& r : routes) {
    const Address first = r.prefix.network().address;
    std::vector<Address> edges{first, first.next()};
    if (r.prefix.family() == Family::kV4 && r.prefix.broadcast()) {
      edges.push_back(*r.prefix.broadcast());
      edges.push_back(r.prefix.broadcast()->next());
    }
    for (const Address& to : edges) {
      if (to.family() != r.prefix.family()) continue;
      Hop hop;
      const bool found = table.find(to, &hop);
      expect_same(walk(routes, to), found, hop, to);
    }
  }
}

RC_GTEST_PROP(Snapshot, APortsOwnSubnetWinsOverARouteOfTheSameLength, ()) {
  base::Random random(*rc::gen::arbitrary<uint64_t>());
  const Family family = any_family(random);
  Snapshot s;
  std::vector<Route> all;
  for (uint8_t i = 0; i < 3; ++i) {
    s.ports.push_back({.index = i, .addresses = {any_route(random, family).prefix}});
    all.push_back({.prefix = s.ports.back().addresses.front(), .port = i, .next_hop = {}});
  }
  for (int i = 0; i < 10; ++i) {
    s.routes.push_back(any_route(random, family));
    if (random.below(2) == 0) s.routes.back().prefix = all[random.below(3)].prefix.network();
    all.push_back(s.routes.back());
  }
  s.index_routes(nullptr);
  for (int i = 0; i < 100; ++i) {
    const Address to = any_address(random, family);
    Hop hop;
    const bool found = s.route(to, &hop);
    expect_same(walk(all, to), found, hop, to);
  }
}

// A search halves the ranges: thirteen steps.
RC_GTEST_PROP(RouteTable, HasTwoRangesARouteAtMost, ()) {
  base::Random random(*rc::gen::arbitrary<uint64_t>());
  const Family family = any_family(random);
  std::vector<Route> routes;
  for (uint32_t n = random.below(base::kRoutesMax + 1); n > 0; --n)
    routes.push_back(any_route(random, family));
  const RouteTable table(routes);
  RC_ASSERT(table.ranges(family) <= 2 * routes.size() + 1);
}

}  // namespace
}  // namespace limpet::snapshot
