// Sender: how frames of one core leave: the next hop and its MAC, the Ethernet header, what is too
// large for the port, and the answers owed to packets that go nowhere.
//
// Owner: the core's worker; time is an argument. Each buffer given to it ends in the Output, once:
// sent, punted for its next hop to be resolved, or dropped with a reason.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <vector>

#include "common/base/random.h"
#include "common/timing/time.h"
#include "dataplane/egress/neighbor_table.h"
#include "dataplane/egress/output.h"
#include "dataplane/egress/reply_limit.h"
#include "dataplane/packet/reply.h"
#include "dataplane/packet/rewrite.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::egress {

// Out by a port to a neighbour.
struct Way {
  uint8_t port = 0;
  const net::Mac* mac = nullptr;  // null: ask the control thread to resolve `next_hop`
  net::Address next_hop;
};

class Sender {
 public:
  struct Options {
    uint32_t core = 0;
    uint32_t cores = 1;
  };

  Sender(const Options& options, const base::KeyedHash& hash, base::Random& random,
         rte_mempool* pool, Output& output, std::pmr::memory_resource* memory)
      : cores_(options.cores),
        pool_(pool),
        output_(output),
        neighbors_(hash, memory),
        datagram_id_(static_cast<uint32_t>(random.next()) / options.cores * options.cores +
                     options.core) {
    ports_.reserve(base::kPortsMax);
  }

  // Takes the snapshot that everything until the next call goes by.
  void use(const snapshot::Snapshot& s);

  uint16_t mtu(uint8_t port) const { return ports_[port].mtu; }
  // How many frames the port takes this turn yet.
  uint32_t room(uint8_t port) const { return output_.room(port); }
  NeighborTable& neighbors() { return neighbors_; }
  const NeighborTable& neighbors() const { return neighbors_; }
  Output& output() { return output_; }
  // An empty buffer with headroom; null when the pool is empty.
  packet::Buffer* allocate() { return packet::allocate(pool_); }

  // A complete IP packet: in pieces when it is larger than the port's MTU.
  void send(packet::Buffer* buffer, const Way& way) {
    const packet::Meta& m = packet::meta(buffer);
    if (m.l3_bytes > mtu(way.port)) [[unlikely]]
      return send_pieces(buffer, way);
    send_frame(buffer, way, m.port);
  }
  // The same of a packet that was translated where it lay, fits, and whose next hop is known.
  void send_plain(packet::Buffer* buffer, uint8_t port, const net::Mac& mac) {
    packet::Meta& m = packet::meta(buffer);
    const packet::Egress& egress = ports_[port].egress;
    if (m.l3_offset != sizeof(packet::EthernetHeader) || egress.vlan != 0) [[unlikely]]
      return send_frame(buffer, {.port = port, .mac = &mac}, m.port);
    packet::write_macs(buffer, egress.mac, mac);
    m.port = port;
    output_.send(buffer, port);
  }

  // A packet that may not go on is answered before it changes anything (RFC 1812 4.3.3, RFC 4443
  // 3.2, 3.3). True: it was, or dropped; it is no longer the caller's.
  bool bounce(packet::Buffer* buffer, uint16_t mtu, timing::Instant now) {
    const packet::Meta& m = packet::meta(buffer);
    if (m.ttl > 1 && (m.l3_bytes <= mtu || !m.dont_fragment || m.reassembled)) [[likely]]
      return false;
    answer_error(buffer, mtu, now);
    return true;
  }
  // Sends back what a packet that nobody wants is owed: a reset or an ICMP error (rate-limited),
  // and counts the reason.
  void refuse(packet::Buffer* buffer, packet::DropReason reason, timing::Instant now);

  // The port's own address that `to` can answer; null: it has none. A link-local one is known on
  // its link only (RFC 6724 rule 2).
  const net::Address* own_address(uint8_t port, const net::Address& to) const;

 private:
  struct alignas(16) Port {
    uint16_t mtu = 0;
    packet::Egress egress;
  };

  static constexpr uint32_t kPiecesMax = 64;

  void send_pieces(packet::Buffer* buffer, const Way& way);
  void send_frame(packet::Buffer* buffer, const Way& way, uint8_t arrived);
  void answer_error(packet::Buffer* buffer, uint16_t mtu, timing::Instant now);
  // A packet of our own to a neighbour on the link it came by.
  void reply(packet::Buffer* buffer, uint8_t port, net::Mac to);

  const uint32_t cores_;
  rte_mempool* pool_;
  Output& output_;
  const snapshot::Snapshot* snapshot_ = nullptr;
  uint64_t version_ = 0;     // its
  std::vector<Port> ports_;  // its
  NeighborTable neighbors_;
  ReplyLimit reply_limit_;
  uint32_t datagram_id_;  // of pieces: different on all cores
};

}  // namespace limpet::egress
