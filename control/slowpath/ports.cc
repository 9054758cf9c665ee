#include "control/slowpath/ports.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"

namespace limpet::slowpath {
namespace {

bool is_link_local_v6(const net::Address& address) {
  return !address.is_v4() && address.is_link_local();
}

}  // namespace

net::Address link_local_of(const net::Mac& mac) {
  const auto& m = mac.bytes;
  const uint8_t bytes[16] = {
      0xfe, 0x80, 0,    0,    0,    0,    0,   0, static_cast<uint8_t>(m[0] ^ 2),
      m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]};
  return net::Address::v6(bytes);
}

Ports::Ports(std::vector<snapshot::Port> ports) : ports_(std::move(ports)) {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    const snapshot::Port& port = ports_[i];
    LIMPET_ASSERT(port.index < by_index_.size() && by_index_[port.index] == 0);
    by_index_[port.index] = static_cast<uint8_t>(i + 1);
    const auto configured =
        std::ranges::find_if(port.addresses, is_link_local_v6, &net::Prefix::address);
    link_locals_.push_back(configured != port.addresses.end() ? configured->address
                                                              : link_local_of(port.mac));
  }
}

packet::Egress Ports::egress(uint8_t index) const {
  const snapshot::Port& port = *find(index);
  return {.port = port.index, .vlan = port.vlan, .mac = port.mac};
}

bool Ports::on_link(uint8_t index, const net::Address& address) const {
  return is_link_local_v6(address) ||
         std::ranges::any_of(find(index)->addresses,
                             [&](const net::Prefix& subnet) { return subnet.contains(address); });
}

net::Address Ports::source_for(uint8_t index, const net::Address& target) const {
  for (const net::Prefix& subnet : find(index)->addresses) {
    if (subnet.contains(target)) return subnet.address;
  }
  return target.is_v4() ? net::Address::v4_host(0) : link_local(index);
}

bool Ports::has_ipv6(uint8_t index) const {
  return std::ranges::any_of(find(index)->addresses,
                             [](const net::Prefix& p) { return !p.address.is_v4(); });
}

bool Ports::is_own(const net::Mac& mac) const {
  return std::ranges::find(ports_, mac, &snapshot::Port::mac) != ports_.end();
}

}  // namespace limpet::slowpath
