// SlowPath: what the control thread does with packets: answers ARP, neighbour discovery and echo
// requests for the engine's addresses, announces and defends those, and finds out the MACs of next
// hops for the workers. Logic only: time is an argument, the world is behind Link.
//
// Owner: the control thread.
//
// Frames come in by receive() as workers punt them, parsed:
//   meta.next_hop set  a translated packet that only lacks its MAC; leaves by meta.port
//   kNeighbor          ARP and neighbour discovery, as it came in by meta.port
//   kEcho              an echo request for an address of ours
//   kFlow              a heartbeat of another engine (control/failover)
//
// Invariants
//  1. Every frame given to receive() is sent, held (bounded, see neighbor_cache.h) or released;
//     what is lost of it is counted, here or through Link::drop.
//  2. A neighbour is never learned for an address of ours, whatever is said on the wire. Somebody
//     else's MAC for it is an ADDRESS_CONFLICT event and a defence (RFC 5227 2.4, RFC 4861 7.2.6).
//  3. One frame received causes at most one sent, apart from an echo reply that must be fragmented,
//     and the frames that waited for its answer.
//
// Cost: receive(): O(log n). tick(): at most kAnnouncementsPerTick announcements and
// NeighborCache::kActionsPerTick questions, whatever is due. plan() sorts own addresses and next
// hops: tens of milliseconds for the largest document, so it belongs on the helper thread. update()
// merges two sorted lists into two others, and sends nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/random.h"
#include "common/timing/time.h"
#include "control/slowpath/counters.h"
#include "control/slowpath/link.h"
#include "control/slowpath/neighbor_cache.h"
#include "control/slowpath/own_addresses.h"
#include "control/slowpath/pacer.h"
#include "control/slowpath/ports.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::slowpath {

struct StaticNeighbor {
  uint8_t port = 0;
  net::Address address;
  net::Mac mac;
};

class SlowPath {
 public:
  static constexpr uint32_t kAnnouncementsPerTick = 32;
  // 10,000 a second: a switch must learn every VIP of a full document, within two seconds.
  static constexpr timing::Duration kAnnouncementInterval = std::chrono::microseconds(100);
  // Echo replies: enough for any monitoring, too few to matter to the control thread.
  static constexpr timing::Duration kEchoInterval = std::chrono::microseconds(200);
  static constexpr uint32_t kEchoBurst = 128;
  static constexpr uint32_t kEchoFragmentsMax = 64;
  static constexpr uint32_t kHeartbeatFragmentsMax = 4;

  // `link` must outlive the slow path; `random` is for fragment identifications.
  SlowPath(Link& link, base::Random random) : link_(link), random_(random) {}

  // Once, before anything else: the ports with their final MACs, and the bootstrap's neighbours;
  // one on an unknown port or with an address of ours is left out. Tells the workers of them, and
  // announces the ports' addresses.
  void configure(std::vector<snapshot::Port> ports, std::span<const StaticNeighbor> neighbors,
                 timing::Instant now);

  // What a snapshot means for the slow path. Reads nothing that changes after configure(), so any
  // thread may call it.
  struct Plan {
    std::vector<OwnAddresses::Own> own;  // sorted
    std::vector<NeighborKey> next_hops;  // sorted; servers' and routes', none of them ours
  };
  Plan plan(const snapshot::Snapshot& snapshot) const;

  // A snapshot was published, and this is its plan: VIPs and snat addresses come and go, and so do
  // the next hops that are resolved ahead of use.
  void update(Plan plan, timing::Instant now);
  void update(const std::shared_ptr<const snapshot::Snapshot>& snapshot, timing::Instant now) {
    update(plan(*snapshot), now);
  }

  // Everything on all ports again: somebody else had it too.
  void announce_again(timing::Instant now) {
    for (const snapshot::Port& port : ports_.all()) own_.announce(port.index, now);
  }
  // The link of a port came up: what was announced before nobody heard.
  void link_up(uint8_t port, timing::Instant now) { own_.announce(port, now); }

  // Takes a frame that a worker punted.
  void receive(packet::Buffer* frame, timing::Instant now);

  // Sends a heartbeat from the address of `port` that faces the next hop. False: the port has none
  // of the family, or there was no buffer.
  bool send_heartbeat(const snapshot::Hop& hop, const net::Address& to, uint16_t udp_port,
                      std::span<const uint8_t> datagram, timing::Instant now);

  void tick(timing::Instant now);
  // When tick() has work; it may be called earlier, and has to be called again at once when this is
  // not later than now. never() when there is none.
  timing::Instant next_deadline() const;

  std::vector<NeighborView> neighbors() const { return cache_.list(); }
  const Counters& counters() const { return counters_; }
  std::size_t frames_waiting() const { return cache_.frames_waiting(); }

 private:
  void resolve(packet::Buffer* frame, timing::Instant now);
  void handle_neighbor(packet::Buffer* frame, timing::Instant now);
  void handle_question(const packet::Meta& m, const NeighborMessage& question, timing::Instant now);
  void handle_claim(uint8_t port, const net::Address& address, const net::Mac& mac,
                    timing::Instant now);
  void handle_echo(packet::Buffer* frame, timing::Instant now);
  void send_echo_reply(packet::Buffer* frame, const snapshot::Port& port, const net::Mac& to);
  void handle_heartbeat(packet::Buffer* frame);
  bool say(uint8_t port, const Statement& statement);
  void announce(const OwnAddresses::Announcement& announcement);
  void drop(packet::Buffer* frame, packet::DropReason reason);

  Link& link_;
  base::Random random_;
  Counters counters_;
  Ports ports_;
  OwnAddresses own_;
  NeighborCache cache_{ports_, link_, counters_};
  Pacer announcement_pacer_{kAnnouncementInterval, kAnnouncementsPerTick};
  Pacer echo_pacer_{kEchoInterval, kEchoBurst};
};

}  // namespace limpet::slowpath
