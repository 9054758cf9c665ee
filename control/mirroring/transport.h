// Transport: the sockets of mirroring: listens, connects to the peers whose names sort behind ours,
// does TLS, and drives a Session over each connection (README.md, "Transport").
//
// Owner: the control thread; everything runs in handlers of its io_context. Invariants
//  1. Plaintext only without a secret, and only between loopback addresses.
//  2. Accepted connections whose handshake is not finished: from the address of configured peers at
//     most kPendingOfAPeerMax for each of them, from all others together kStrangersMax, none longer
//     than kHandshakeTimeMax. One too many costs the oldest of the same kind its place, so
//     strangers cannot keep a peer out, and those on a peer's own machine only by more than
//     kPendingOfAPeerMax connections in the milliseconds of its handshake. At most one connection
//     for each peer that we call, from the address that we listen on: it is what the peer knows us
//     by.
//  3. A connection holds one piece of input and one of output beside its session's.
// Cost: a timer tick each quarter of a heartbeat, O(peers).
//
// Wiring: make an UpdateList for options.peers.size() peers and a Home, open(), start(); call
// changed() when the list has changed, and retry() when a Home that refused has room again (a tick
// does it too). Both not from within deliver(). UpdateList::work() is done here, by the tick.
#pragma once

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "control/mirroring/session.h"

namespace limpet::mirroring {

inline constexpr std::size_t kStrangersMax = 16;
inline constexpr std::size_t kPendingOfAPeerMax = 8;
inline constexpr timing::Duration kRetryMin = timing::milliseconds(100);
// An engine that starts is called within this by peers that run (control/failover waits for that).
inline constexpr timing::Duration kRetryMax = timing::seconds(1);

struct TransportOptions {
  struct PeerAddress {
    std::string name;
    net::Endpoint address;
  };

  std::string name;  // this engine's
  BootId boot;       // random, new with each start
  net::Endpoint listen;
  std::optional<std::filesystem::path> secret_file;  // absent only on loopback
  std::vector<PeerAddress> peers;                    // index = PeerIndex
  timing::Duration heartbeat = timing::milliseconds(100);
  uint32_t heartbeat_misses = 5;
  uint32_t table_limit = 0;
  std::vector<net::Address> addresses;  // of our ports, told to peers
  uint64_t seed = 0;                    // scatters the times of retries
};

struct PeerStatus {
  std::string name;
  std::string_view state;  // "connecting", or as name_of(Session::State)
  bool synced = false;     // synced or lagging: all that it knew has been passed on
  Lag lag;                 // the larger of both directions
};

class Transport {
 public:
  virtual ~Transport() = default;

  // Listens. Who connects waits until start(). All errors carry a path in the bootstrap
  // (/mirroring/…).
  static base::Result<std::unique_ptr<Transport>> open(boost::asio::io_context& io,
                                                       const TransportOptions& options,
                                                       UpdateList& list, Home& home,
                                                       const timing::Clock& clock,
                                                       GroupListener* groups = nullptr);

  // Begins to connect and to accept: when the list has what this engine brings from its disk, so
  // that peers are not told that a snapshot without it is all there is.
  virtual void start() = 0;
  // The list may have changed: what is new goes out now, not with the next tick. Better once a
  // millisecond than with each change.
  virtual void changed() = 0;
  // Home has room again.
  virtual void retry() = 0;
  // Has all peers tell everything that they know again.
  virtual void resync() = 0;
  // Says something of groups to a peer; not when there is no session with it.
  virtual void say_groups(PeerIndex peer, std::span<const uint8_t> body) = 0;
  virtual std::vector<PeerStatus> status() const = 0;
  // Peers with their counters, and refusals before a peer was known.
  virtual const Engine& engine() const = 0;
  virtual uint16_t port() const = 0;  // that it listens on
  // Tells the peers, and ends everything; handlers that are left do nothing.
  virtual void close() = 0;
};

}  // namespace limpet::mirroring
