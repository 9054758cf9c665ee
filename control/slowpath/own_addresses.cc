#include "control/slowpath/own_addresses.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace limpet::slowpath {
namespace {

using Own = OwnAddresses::Own;

void sort_and_merge(std::vector<Own>& owned) {
  std::ranges::sort(owned, {}, &Own::address);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < owned.size(); ++i) {
    if (kept == 0 || owned[kept - 1].address != owned[i].address) {
      owned[kept++] = owned[i];
      continue;
    }
    Own& into = owned[kept - 1];
    into.ports |= owned[i].ports;
    into.audible_ports |= owned[i].audible_ports;
    into.is_router |= owned[i].is_router;
    into.is_floating |= owned[i].is_floating;
  }
  owned.resize(kept);
}

// Marks the floating addresses of each subnet: they lie side by side in the sorted list.
void place_floating(std::vector<Own>& owned, const Ports& ports) {
  PortSet all = 0;
  for (const snapshot::Port& port : ports.all()) {
    all |= port_bit(port.index);
    for (const net::Prefix& subnet : port.addresses) {
      const net::Address first = subnet.address.masked(subnet.length);
      for (auto it = std::ranges::lower_bound(owned, first, {}, &Own::address);
           it != owned.end() && subnet.contains(it->address); ++it) {
        if (!it->is_floating) continue;
        it->ports |= port_bit(port.index);
        it->audible_ports |= port_bit(port.index);
      }
    }
  }
  for (Own& own : owned) {
    if (own.ports == 0) own.ports = own.audible_ports = all;
  }
}

}  // namespace

std::vector<Own> OwnAddresses::collect(const Ports& ports,
                                       std::span<const snapshot::Snapshot::OwnAddress> served) {
  std::vector<Own> owned;
  owned.reserve(served.size() + 3 * ports.all().size());
  for (const snapshot::Port& port : ports.all()) {
    const PortSet bit = port_bit(port.index);
    for (const net::Prefix& p : port.addresses)
      owned.push_back(
          {.address = p.address, .ports = bit, .audible_ports = bit, .is_router = true});
    // Nobody on a wire without IPv6 needs to hear of the link-local address.
    owned.push_back({.address = ports.link_local(port.index),
                     .ports = bit,
                     .audible_ports = ports.has_ipv6(port.index) ? bit : PortSet{0},
                     .is_router = true});
  }
  for (const auto& address : served) {
    using Kind = snapshot::Snapshot::OwnAddress::Kind;
    if (address.kind == Kind::kPort) continue;
    owned.push_back({.address = address.address,
                     .is_router = address.kind == Kind::kFloating,
                     .is_floating = true});
  }
  sort_and_merge(owned);
  place_floating(owned, ports);
  return owned;
}

void OwnAddresses::update(std::vector<Own> collected, timing::Instant now) {
  const std::vector<Own> before = std::exchange(owned_, std::move(collected));
  auto old = before.begin();
  for (Own& own : owned_) {
    for (; old != before.end() && old->address < own.address; ++old)
      due_.erase({old->announce_at, old->address});
    PortSet known = 0;
    if (old != before.end() && old->address == own.address) {
      known = old->ports;
      own.announce_ports = old->announce_ports;
      own.round_ports = old->round_ports;
      own.rounds_left = old->rounds_left;
      own.announce_at = old->announce_at;
      own.defend_from = old->defend_from;
      ++old;
    }
    const PortSet added = own.ports & ~known;
    if (added != 0) start(own, added, now);
  }
  for (; old != before.end(); ++old) due_.erase({old->announce_at, old->address});
}

void OwnAddresses::announce(uint8_t port, timing::Instant now) {
  for (Own& own : owned_) {
    if ((own.ports & port_bit(port)) != 0) start(own, port_bit(port), now);
  }
}

void OwnAddresses::start(Own& own, PortSet ports, timing::Instant now) {
  if (own.rounds_left != 0) {
    due_.erase({own.announce_at, own.address});
  } else {
    own.announce_ports = own.round_ports = 0;
  }
  const PortSet audible = ports & own.audible_ports;
  own.announce_ports |= audible;
  own.round_ports |= audible;
  own.rounds_left = own.announce_ports == 0 ? uint8_t{0} : kAnnouncements;
  if (own.rounds_left == 0) return;
  own.announce_at = now;
  due_.emplace(now, own.address);
}

const OwnAddresses::Own* OwnAddresses::find(const net::Address& address) const {
  const auto it = std::ranges::lower_bound(owned_, address, {}, &Own::address);
  return it != owned_.end() && it->address == address ? &*it : nullptr;
}

bool OwnAddresses::is_ours(std::span<const Own> collected, const net::Address& address,
                           uint8_t port) {
  const auto it = std::ranges::lower_bound(collected, address, {}, &Own::address);
  if (it == collected.end() || it->address != address) return false;
  return !address.is_link_local_v6() || (it->ports & port_bit(port)) != 0;
}

OwnAddresses::Own* OwnAddresses::find_mutable(const net::Address& address) {
  return const_cast<Own*>(find(address));
}

bool OwnAddresses::may_defend(const net::Address& address, timing::Instant now) {
  Own* own = find_mutable(address);
  if (own == nullptr || now < own->defend_from) return false;
  own->defend_from = now + kDefendInterval;
  return true;
}

std::optional<OwnAddresses::Announcement> OwnAddresses::take_due(timing::Instant now) {
  if (due_.empty() || due_.begin()->first > now) return std::nullopt;
  // What is due is owned and has a port left in its round.
  Own& own = *find_mutable(due_.begin()->second);
  const auto port = static_cast<uint8_t>(std::countr_zero(own.round_ports));
  own.round_ports &= own.round_ports - 1;
  if (own.round_ports == 0) {
    due_.erase(due_.begin());
    own.round_ports = own.announce_ports;
    if (--own.rounds_left != 0) {
      own.announce_at = now + kAnnounceInterval;
      due_.emplace(own.announce_at, own.address);
    }
  }
  return Announcement{.address = own.address, .is_router = own.is_router, .port = port};
}

}  // namespace limpet::slowpath
