// Which core a packet belongs to: pure functions of the packet and the snapshot.
//
// Clients' packets are spread by address and port, so that both directions of a connection that
// keeps its client's address meet; a server's answer to a translated address goes to the core whose
// slice holds the port. Bindings are on every core (replication), so any core will do.
//
// A service on a port that source NAT may use too, at an address that is both: only the flow table
// of the core whose slice holds the port can say whether a packet is an answer. It is asked first.
#pragma once

#include <cstdint>

#include "common/base/keyed_hash.h"
#include "common/net/hash.h"
#include "dataplane/egress/source_ports.h"
#include "dataplane/packet/buffer.h"
#include "dataplane/packet/icmp_quote.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::worker {

class Steerer {
 public:
  Steerer(uint32_t cores, const base::KeyedHash& hash) : cores_(cores), hash_(hash) {}

  struct Target {
    uint32_t core = 0;
    bool tentative = false;  // for that core only if it knows the flow; else Meta::owner_asked
  };

  // Where the packet goes next.
  Target of(packet::Buffer* buffer, const snapshot::Snapshot& s) const {
    const packet::Meta& m = packet::meta(buffer);
    if (cores_ == 1) return {};
    if (m.kind == packet::Kind::kFragment) {
      const uint32_t h = net::hash_pair<net::Family::kV6>(hash_, m.source, m.destination,
                                                          m.fragment_id, m.protocol);
      return {base::reduce(h, cores_)};
    }
    if (m.kind == packet::Kind::kIcmpError) {
      const auto quote = packet::parse_quote(buffer);
      if (!quote) return {};
      // The quoted packet is ours: from a translated address to a server, or from a VIP to a
      // client.
      return of(quote->source, quote->source_port, quote->destination, quote->destination_port,
                quote->protocol, m.owner_asked, s);
    }
    return of(m.destination, m.destination_port, m.source, m.source_port, m.protocol, m.owner_asked,
              s);
  }

 private:
  // `ours` is the engine's end, `theirs` the far one.
  Target of(const net::Address& ours, uint16_t our_port, const net::Address& theirs,
            uint16_t their_port, uint8_t protocol, bool owner_asked,
            const snapshot::Snapshot& s) const {
    const auto* own = s.own(ours);
    // A server's answer, client address kept.
    if (own == nullptr) return client(ours, our_port);
    if (own->source && !owner_asked) {
      const bool service = s.find(ours, protocol, our_port) != nullptr;
      if (!service || our_port >= egress::kSourcePortFirst)
        return {egress::PortSlice::owner(our_port, cores_), service};
    }
    return client(theirs, their_port);
  }

  Target client(const net::Address& address, uint16_t port) const {
    return {base::reduce(net::hash_address(hash_, address, port), cores_)};
  }

  const uint32_t cores_;
  const base::KeyedHash& hash_;
};

}  // namespace limpet::worker
