// RouteTable: longest prefix match in a logarithm of steps, for the packets that open a connection
// and whose client's router is not known otherwise.
//
// Made by the control side with a snapshot, or taken over from the one before; immutable.
// Invariants
//  1. The ranges of a family are sorted, and each holds from its first address to the next range's:
//     nested prefixes have been cut up, so one range says all about an address.
//  2. Two ranges a route at most, and one.
//
// Cost: 20 bytes a range, a binary search. Why not rte_rib or rte_fib: they take their memory from
// DPDK, the one walks a bit a step and the other takes tens of MB a table, for each live snapshot.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <span>
#include <vector>

#include "common/net/address.h"

namespace limpet::snapshot {

// How to reach an address that is not on a port's own subnet.
struct Route {
  net::Prefix prefix;
  uint8_t port = 0;
  net::Address next_hop;  // unspecified: on-link

  friend bool operator==(const Route&, const Route&) = default;
};

struct Hop {
  uint8_t port = 0;
  net::Address next_hop;  // whose MAC the frame needs
};

class RouteTable {
 public:
  RouteTable() = default;
  // Of routes with the same prefix the first counts.
  explicit RouteTable(std::span<const Route> routes);

  // False when there is no route.
  bool find(const net::Address& destination, Hop* hop) const;

  std::size_t ranges(net::Family family) const { return of(family).size(); }

 private:
  static constexpr uint32_t kNoWay = UINT32_MAX;

  // An address as a number.
  struct Point {
    uint64_t high = 0;
    uint64_t low = 0;
    friend constexpr auto operator<=>(const Point&, const Point&) = default;
  };
  struct Block;  // the addresses of a route
  struct Ranges {
    std::vector<Point> first;
    std::vector<uint32_t> way;  // index into ways_, or kNoWay

    std::size_t size() const { return first.size(); }
    void begin(const Point& at, uint32_t leads_by);
  };

  static Point point_of(const net::Address& address);
  static Point last_of(const Point& first, uint8_t host_bits);
  static Point after(const Point& point);
  static std::vector<Block> blocks_of(std::span<const Route> routes, net::Family family);
  static Ranges ranges_of(const std::vector<Block>& blocks);
  const Ranges& of(net::Family family) const { return ranges_[family == net::Family::kV4 ? 0 : 1]; }

  std::array<Ranges, 2> ranges_;  // by family
  std::vector<Route> ways_;
};

}  // namespace limpet::snapshot
