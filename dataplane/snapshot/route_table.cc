#include "dataplane/snapshot/route_table.h"

#include <algorithm>
#include <cstring>
#include <tuple>

namespace limpet::snapshot {

using net::Address;
using net::Family;

struct RouteTable::Block {
  Point first;
  Point last;
  uint8_t length = 0;
  uint32_t way = 0;
};

RouteTable::RouteTable(std::span<const Route> routes) : ways_(routes.begin(), routes.end()) {
  for (const Family family : {Family::kV4, Family::kV6})
    ranges_[family == Family::kV4 ? 0 : 1] = ranges_of(blocks_of(routes, family));
}

RouteTable::Point RouteTable::point_of(const Address& address) {
  static_assert(std::endian::native == std::endian::little);
  Point p;
  std::memcpy(&p.high, address.bytes(), 8);
  std::memcpy(&p.low, address.bytes() + 8, 8);
  return {__builtin_bswap64(p.high), __builtin_bswap64(p.low)};
}

RouteTable::Point RouteTable::last_of(const Point& first, uint8_t host_bits) {
  constexpr auto ones = [](unsigned bits) { return bits == 0 ? 0 : UINT64_MAX >> (64 - bits); };
  return {first.high | ones(host_bits > 64 ? host_bits - 64u : 0u),
          first.low | ones(std::min<unsigned>(host_bits, 64))};
}

// Wraps to zero.
RouteTable::Point RouteTable::after(const Point& point) {
  return {point.high + (point.low == UINT64_MAX ? 1 : 0), point.low + 1};
}

// Sorted, the enclosing ones first; never two of one prefix.
std::vector<RouteTable::Block> RouteTable::blocks_of(std::span<const Route> routes, Family family) {
  std::vector<Block> out;
  for (uint32_t i = 0; i < routes.size(); ++i) {
    const net::Prefix prefix = routes[i].prefix.network();
    if (prefix.family() != family) continue;
    const Point first = point_of(prefix.address);
    const auto host_bits = static_cast<uint8_t>(net::address_bits(family) - prefix.length);
    out.push_back({first, last_of(first, host_bits), prefix.length, i});
  }
  std::sort(out.begin(), out.end(), [](const Block& a, const Block& b) {
    return std::tie(a.first, a.length, a.way) < std::tie(b.first, b.length, b.way);
  });
  const auto same = [](const Block& a, const Block& b) {
    return a.first == b.first && a.length == b.length;
  };
  out.erase(std::unique(out.begin(), out.end(), same), out.end());
  return out;
}

void RouteTable::Ranges::begin(const Point& at, uint32_t leads_by) {
  if (!first.empty() && first.back() == at) {
    way.back() = leads_by;
  } else {
    first.push_back(at);
    way.push_back(leads_by);
  }
}

// Where a block ends, the one around it goes on.
RouteTable::Ranges RouteTable::ranges_of(const std::vector<Block>& blocks) {
  Ranges out;
  out.begin({}, kNoWay);
  std::vector<const Block*> around;
  const auto leave = [&] {
    const Point next = after(around.back()->last);
    around.pop_back();
    if (next != Point{}) out.begin(next, around.empty() ? kNoWay : around.back()->way);
  };
  for (const Block& block : blocks) {
    while (!around.empty() && around.back()->last < block.first) leave();
    out.begin(block.first, block.way);
    around.push_back(&block);
  }
  while (!around.empty()) leave();
  return out;
}

bool RouteTable::find(const Address& destination, Hop* hop) const {
  const Ranges& ranges = of(destination.family());
  if (ranges.size() == 0) return false;
  const auto behind =
      std::upper_bound(ranges.first.begin(), ranges.first.end(), point_of(destination));
  const auto at = static_cast<std::size_t>(behind - ranges.first.begin()) - 1;
  if (ranges.way[at] == kNoWay) return false;
  const Route& route = ways_[ranges.way[at]];
  *hop = {route.port, route.next_hop.is_unspecified() ? destination : route.next_hop};
  return true;
}

}  // namespace limpet::snapshot
