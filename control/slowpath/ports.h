// Ports: the engine's ports as ARP and neighbour discovery see them: what a frame leaves with,
// which addresses are on the wire behind a port, and what to ask with.
//
// Every port has an IPv6 link-local address: the configured one, else the one derived from its MAC
// (RFC 4291 appendix A), because neighbour discovery towards routers needs one.
//
// Never changes after construction.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/base/limits.h"
#include "common/net/address.h"
#include "dataplane/packet/rewrite.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::slowpath {

class Ports {
 public:
  Ports() = default;
  // Port indices are below base::kPortsMax and unique (asserted).
  explicit Ports(std::vector<snapshot::Port> ports);

  const std::vector<snapshot::Port>& all() const { return ports_; }
  // The port with this index; null when there is none.
  const snapshot::Port* find(uint8_t index) const {
    return index < by_index_.size() && by_index_[index] != 0 ? &ports_[by_index_[index] - 1u]
                                                             : nullptr;
  }

  // The following need the index of a port that exists.
  packet::Egress egress(uint8_t index) const;
  net::Address link_local(uint8_t index) const { return link_locals_[by_index_[index] - 1u]; }
  // Whether the address is on the wire behind the port: in one of its subnets, or link-local IPv6.
  bool on_link(uint8_t index, const net::Address& address) const;
  // The address to ask for `target` with: the port's in that subnet; else 0.0.0.0 (RFC 5227 2.1.1),
  // or the link-local one.
  net::Address source_for(uint8_t index, const net::Address& target) const;
  // Whether the port has an IPv6 address by configuration.
  bool has_ipv6(uint8_t index) const;

  bool is_own(const net::Mac& mac) const;

 private:
  std::vector<snapshot::Port> ports_;
  std::vector<net::Address> link_locals_;            // beside ports_
  std::array<uint8_t, base::kPortsMax> by_index_{};  // place in ports_ + 1; 0: none
};

// fe80::/64 and the MAC as modified EUI-64.
net::Address link_local_of(const net::Mac& mac);

}  // namespace limpet::slowpath
