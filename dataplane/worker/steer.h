// Which core a packet belongs to: pure functions of the packet and the snapshot.
//
// Packets that could share a binding must meet on one core. Clients fall on cores by their address
// under the shortest `ip_mask` of the document; a server's answer to a translated address goes to
// the core whose slice holds the port. When a document needs a shorter mask than those before, what
// is already known stays where it is: a packet visits the cores of the older levels first, and they
// keep what they know (snapshot::Snapshot::steering).
//
// A service on a port that source NAT may use too, at an address that is both: only the flow table
// of the core whose slice holds the port can say whether a packet is an answer. It is asked first.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/keyed_hash.h"
#include "common/net/hash.h"
#include "dataplane/l4/source_ports.h"
#include "dataplane/packet/buffer.h"
#include "dataplane/packet/icmp_quote.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::worker {

class Steerer {
 public:
  // A persist table of up to 1,024 entries has one home, so that its eviction is exact.
  Steerer(uint32_t cores, uint32_t entries_max, const base::KeyedHash& hash)
      : cores_(cores), homes_(std::clamp(entries_max / 1024, 1u, cores)), hash_(hash) {}

  struct Target {
    uint32_t core = 0;
    uint8_t level = 0;       // of snapshot.steering
    bool tentative = false;  // for that core only if it knows the flow; else Meta::owner_asked
  };

  // Where the packet goes next, starting at its meta.steer_level.
  Target of(packet::Buffer* buffer, const snapshot::Snapshot& s) const {
    const packet::Meta& m = packet::meta(buffer);
    if (cores_ == 1) return {0, last(s)};
    if (m.kind == packet::Kind::kFragment) {
      const uint32_t h = net::hash_pair<net::Family::kV6>(hash_, m.source, m.destination,
                                                          m.fragment_id, m.protocol);
      return {base::reduce(h, cores_), last(s)};
    }
    if (m.kind == packet::Kind::kIcmpError) {
      const auto quote = packet::parse_quote(buffer);
      if (!quote) return {0, last(s)};
      // The quoted packet is ours: from a translated address to a server, or from a VIP to a
      // client.
      return of(quote->source, quote->source_port, quote->destination, quote->protocol, m, s);
    }
    return of(m.destination, m.destination_port, m.source, m.protocol, m, s);
  }

  // The core where a client's connections are judged at this level.
  uint32_t home(const net::Address& address, std::size_t level, const snapshot::Snapshot& s) const {
    return cores_ == 1 ? 0 : client(address, static_cast<uint8_t>(level), s).core;
  }

 private:
  static uint8_t last(const snapshot::Snapshot& s) {
    return static_cast<uint8_t>(s.steering.size() - 1);
  }

  // `ours` is the engine's end, `theirs` the far one.
  Target of(const net::Address& ours, uint16_t port, const net::Address& theirs, uint8_t protocol,
            const packet::Meta& m, const snapshot::Snapshot& s) const {
    const auto* own = s.own(ours);
    // A server's answer, client address kept.
    if (own == nullptr) return client(ours, m.steer_level, s);
    if (own->source && !m.owner_asked) {
      const bool service = s.find(ours, protocol, port) != nullptr;
      if (!service || port >= l4::kSourcePortFirst)
        return {l4::PortSlice::owner(port, cores_), last(s), service};
    }
    return client(theirs, m.steer_level, s);
  }

  Target client(const net::Address& address, uint8_t level, const snapshot::Snapshot& s) const {
    level = std::min(level, last(s));
    const snapshot::Steering& by = s.steering[level];
    const uint32_t h =
        net::hash_address(hash_, address.masked(address.is_v4() ? by.mask_v4 : by.mask_v6));
    return {base::reduce(h, homes_), level};
  }

  uint32_t cores_;
  uint32_t homes_;
  const base::KeyedHash& hash_;
};

}  // namespace limpet::worker
