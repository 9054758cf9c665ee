// OwnAddresses: the addresses the engine answers for, where it does, and when it has to tell the
// wire about them.
//
// Owner: the control thread.
//
// Invariants
//  1. An address of a port is answered on that port. A VIP or snat address is answered on the ports
//     whose subnet it lies in; if there are none, on all ports (a router sends us its packets).
//  2. An address that becomes ours is announced three times, a second apart (RFC 5227 2.3), on the
//     ports where it is answered. One that leaves in between is announced no more.
//  3. An address is defended at most every 10 seconds (RFC 5227 2.4 (b)).
//
// Cost: find() is a binary search. collect() sorts; update() is linear, and n log n in what is new.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/net/address.h"
#include "common/timing/time.h"
#include "control/slowpath/ports.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::slowpath {

// A set of ports, by index.
using PortSet = uint32_t;
static_assert(base::kPortsMax <= 32, "a PortSet has one bit for each port");
constexpr PortSet port_bit(uint8_t index) {
  return PortSet{1} << index;
}

class OwnAddresses {
 public:
  static constexpr uint8_t kAnnouncements = 3;
  static constexpr timing::Duration kAnnounceInterval = timing::seconds(1);
  static constexpr timing::Duration kDefendInterval = timing::seconds(10);

  struct Own {
    net::Address address{};
    PortSet ports = 0;          // where it is answered
    PortSet audible_ports = 0;  // of those, where it is announced
    bool is_router = false;     // a port's or group's address: neighbours may use it as a gateway
    bool is_floating = false;   // VIP, group's or snat
    // The announcement in progress.
    PortSet announce_ports = 0;  // every round goes there
    PortSet round_ports = 0;     // still to do in this round
    uint8_t rounds_left = 0;
    timing::Instant announce_at{};
    timing::Instant defend_from{};  // not again before
  };

  // The addresses that are to be ours, sorted: the ports' own ones and `served`, VIPs, snat and
  // groups' addresses. A pure function: the expensive half of an update.
  static std::vector<Own> collect(const Ports& ports,
                                  std::span<const snapshot::Snapshot::OwnAddress> served);
  // Takes what collect() made; announces those that are new.
  void update(std::vector<Own> collected, timing::Instant now);

  // Announces everything on one port anew: its link came up.
  void announce(uint8_t port, timing::Instant now);

  // Null when the address is not ours.
  const Own* find(const net::Address& address) const;
  // The address if it is ours and answered on this port, else null.
  const Own* find(const net::Address& address, uint8_t port) const {
    const Own* own = find(address);
    return own != nullptr && (own->ports & port_bit(port)) != 0 ? own : nullptr;
  }

  // Whether who has the address on this port's link would be us. A link-local address that is ours
  // on one link may be a neighbour's on another (RFC 4007 6).
  bool is_ours(const net::Address& address, uint8_t port) const {
    return is_ours(owned_, address, port);
  }
  // The same of addresses that collect() made.
  static bool is_ours(std::span<const Own> collected, const net::Address& address, uint8_t port);

  // Whether the address, which is ours, may be defended now; if so, that is noted.
  bool may_defend(const net::Address& address, timing::Instant now);

  struct Announcement {
    net::Address address;
    bool is_router = false;
    uint8_t port = 0;
  };
  // The next announcement that is due; taken. Nothing when none is.
  std::optional<Announcement> take_due(timing::Instant now);
  // When the next one is due; never() when all is said.
  timing::Instant next_due() const {
    return due_.empty() ? timing::Instant::never() : due_.begin()->first;
  }

  std::size_t size() const { return owned_.size(); }

 private:
  Own* find_mutable(const net::Address& address);
  void start(Own& own, PortSet ports, timing::Instant now);

  std::vector<Own> owned_;  // sorted by address
  std::set<std::pair<timing::Instant, net::Address>> due_;
};

}  // namespace limpet::slowpath
