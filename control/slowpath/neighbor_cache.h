// NeighborCache: who has which MAC behind which port, how sure that is, and the frames that wait
// for an answer. ARP and neighbour discovery alike: what they say arrives as NeighborMessage.
//
// Owner: the control thread. Workers know a subset, by NeighborUpdate messages.
//
//              frame, pin                 answer
//   (nothing) ───────────► incomplete ───────────► reachable ◄────── answer ──────┐
//       │                      │ 3 tries             │  30 s, or another MAC said  │
//       │ its own question     ▼                     └────────────────────────► probe
//       └──► stale ──frame──► probe      unpinned: gone ◄── 3 tries ── pinned: unreachable
//                                                                      (asked every 3 s)
//
// Workers do not report which neighbours they use. So an unpinned one that no punted frame has
// named for kUseAssumed is taken from the workers and becomes stale: if it is in use the next frame
// for it is punted, goes out at once and brings it back; else it is forgotten at kIdleTimeout.
//
// Invariants
//  1. At most base::kNeighborsMax neighbours; the one unused longest and not pinned goes first. At
//     most kFramesPerNeighbor frames wait for one, kFramesMax for all.
//  2. Workers know exactly the neighbours whose `told` is set, and the same MAC.
//  3. A static neighbour never changes. Nothing is learned from who was not asked, except about
//     neighbours that are known, and from who asks us.
//  4. Frames wait only at incomplete neighbours; so no longer than three tries take.
//
// Cost: each call for one frame or message: O(log n). tick(): at most kActionsPerTick of that.
//
// Why not a hash table: a listing in order, replays that repeat, and nobody can aim at it; at a few
// thousand control-side lookups a second the difference does not show.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "common/net/address.h"
#include "common/timing/time.h"
#include "control/slowpath/counters.h"
#include "control/slowpath/link.h"
#include "control/slowpath/neighbor_message.h"
#include "control/slowpath/pacer.h"
#include "control/slowpath/ports.h"
#include "dataplane/packet/buffer.h"

namespace limpet::slowpath {

struct NeighborKey {
  uint8_t port = 0;
  net::Address address;

  friend constexpr auto operator<=>(const NeighborKey&, const NeighborKey&) = default;
};

enum class NeighborState : uint8_t {
  kIncomplete,   // asked, no answer yet
  kReachable,    // has answered
  kStale,        // heard of; not confirmed, not used
  kProbe,        // used while it is asked whether it is still there
  kUnreachable,  // pinned, and did not answer
  kStatic,       // configured
};

// "INCOMPLETE", …
std::string_view to_string(NeighborState state);

// A line of the listing.
struct NeighborView {
  uint8_t port = 0;
  net::Address address;
  net::Mac mac;  // zero: not known
  NeighborState state = NeighborState::kIncomplete;
};

class NeighborCache {
 public:
  static constexpr std::size_t kFramesPerNeighbor = 16;
  static constexpr std::size_t kFramesMax = 1024;
  static constexpr uint8_t kTries = 3;
  static constexpr uint32_t kActionsPerTick =
      64;  // one frame sent, or one neighbour given up, each
  static constexpr timing::Duration kRetryInterval = timing::seconds(1);
  static constexpr timing::Duration kSlowRetryInterval = timing::seconds(3);
  static constexpr timing::Duration kReachableTime = timing::seconds(30);
  static constexpr timing::Duration kUseAssumed = timing::minutes(4);
  static constexpr timing::Duration kIdleTimeout = timing::minutes(5);
  // Questions: 10,000 a second, so thousands of next hops are asked for without a burst.
  static constexpr timing::Duration kQuestionInterval = std::chrono::microseconds(100);
  static constexpr uint32_t kQuestionBurst = 64;

  // All must outlive the cache.
  NeighborCache(const Ports& ports, Link& link, Counters& counters)
      : ports_(ports), link_(link), counters_(counters) {}
  ~NeighborCache();
  NeighborCache(const NeighborCache&) = delete;
  NeighborCache& operator=(const NeighborCache&) = delete;

  // A neighbour by configuration; the port must exist. False when the table is full.
  bool add_static(const NeighborKey& key, const net::Mac& mac);

  // Exactly these (sorted, no doubles) are resolved ahead of use and kept fresh. tick() asks.
  void pin(std::vector<NeighborKey> wanted, timing::Instant now);

  // Sends a frame that lacks only its Ethernet header to meta.next_hop behind meta.port, which must
  // exist; at once, or when the MAC is known. Takes the frame.
  void send(packet::Buffer* frame, timing::Instant now);

  // A neighbour said what its MAC is. Not for addresses of ours.
  void learn(uint8_t port, const NeighborMessage& statement, timing::Instant now);
  // A neighbour that has this address and MAC asked for an address of ours.
  void learn_asker(const NeighborKey& asker, const net::Mac& mac, timing::Instant now);

  // Forgets those whose key `is_gone` names, static ones excepted.
  template <class IsGone>
  void forget_if(IsGone&& is_gone) {
    for (auto it = entries_.begin(); it != entries_.end();) {
      Entry& e = (it++)->second;
      if (e.state != NeighborState::kStatic && is_gone(e.key)) erase(e);
    }
  }

  void tick(timing::Instant now);
  // When tick() has something to do; never() when it has not.
  timing::Instant next_deadline() const;

  std::vector<NeighborView> list() const;  // in order of port and address
  std::size_t size() const { return entries_.size(); }
  std::size_t frames_waiting() const { return frames_waiting_; }

 private:
  struct Entry {
    NeighborKey key;
    net::Mac mac;
    NeighborState state = NeighborState::kIncomplete;
    bool pinned = false;
    bool told = false;  // workers know it, with `mac`
    uint8_t tries = 0;  // of the present round of questions
    timing::Instant due = timing::Instant::never();
    timing::Instant asked{INT64_MIN / 2};
    timing::Instant used;
    std::vector<packet::Buffer*> frames;
    std::list<Entry*>::iterator place;  // in unpinned_, unless pinned or static
  };

  Entry* find(const NeighborKey& key);
  Entry* make(const NeighborKey& key, timing::Instant now);  // null when there is no room
  void erase(Entry& e);
  void touch(Entry& e, timing::Instant now);
  void schedule(Entry& e, timing::Instant due);

  bool act(Entry& e, timing::Instant now);
  bool ask(Entry& e, timing::Instant now);
  void start_round(Entry& e, NeighborState state, timing::Instant now);
  void give_up(Entry& e);
  void set_reachable(Entry& e, timing::Instant now);
  void set_suspect(Entry& e, timing::Instant now);
  void set_pinned(Entry& e, bool pinned, timing::Instant now);

  void tell(Entry& e);
  void withdraw(Entry& e);
  void queue(Entry& e, packet::Buffer* frame);
  void transmit(const Entry& e, packet::Buffer* frame);
  void send_waiting(Entry& e);
  void drop_waiting(Entry& e);
  void drop(packet::Buffer* frame, packet::DropReason reason);

  const Ports& ports_;
  Link& link_;
  Counters& counters_;
  Pacer pacer_{kQuestionInterval, kQuestionBurst};
  std::map<NeighborKey, Entry> entries_;
  std::set<std::pair<timing::Instant, NeighborKey>> due_;
  std::list<Entry*> unpinned_;  // longest unused first
  std::vector<NeighborKey> pins_;
  std::size_t frames_waiting_ = 0;
};

}  // namespace limpet::slowpath
