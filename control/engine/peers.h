// Peers: the engines that this one mirrors with: the sockets, what is told of them as events, and
// what status and metrics say.
//
// Owner: the control thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/telemetry/histogram.h"
#include "control/api/backend.h"
#include "control/config/bootstrap.h"
#include "control/engine/home_rings.h"
#include "control/engine/reporter.h"
#include "control/failover/election.h"
#include "control/mirroring/exchange.h"
#include "control/mirroring/transport.h"
#include "dataplane/replication/replica.h"

namespace limpet::engine {

// The engines of a cluster by their ranks, which stamps carry: a rank is a name's place among all
// names, sorted.
class Cluster {
 public:
  Cluster(const config::Bootstrap& bootstrap);

  uint32_t rank() const { return rank_; }
  uint32_t peers() const { return static_cast<uint32_t>(names_.size()) - 1; }
  // Which engine made a stamp; empty: none that is known.
  std::string origin_of(binding::Stamp stamp) const;
  // The maker of stamps of this engine's control thread.
  uint32_t control_maker() const;

 private:
  std::vector<std::string> names_;
  uint32_t rank_ = 0;
};

class Peers final : private mirroring::GroupListener {
 public:
  // Of groups, over a session.
  using Heard =
      std::function<void(std::size_t peer, std::span<const uint8_t> body, timing::Instant now)>;

  // Errors: the socket, the secret.
  static base::Result<std::unique_ptr<Peers>> open(boost::asio::io_context& io,
                                                   const config::Bootstrap& bootstrap,
                                                   uint32_t table_limit,
                                                   mirroring::Exchange& exchange, MergeRings& rings,
                                                   Reporter& reporter, const timing::Clock& clock,
                                                   uint64_t seed);

  // From here on peers are told and listened to.
  void start(Heard heard);
  // `due`: peers are told of what is new (at the engine's pace: the loop turns after each
  // handler, and a few at a time would cost more in system calls than in what is told).
  void tick(bool due);
  void close() { transport_->close(); }
  // Whether those who are there have acknowledged all that they are to know.
  bool have_told_all(timing::Instant now) const;

  // What came from a peer is with its home now.
  void note(const binding::Change& change, timing::Instant now);

  std::size_t size() const { return seen_.size(); }
  const std::string& name(std::size_t peer) const { return transport_->engine().peers[peer].name; }
  failover::SessionView session(std::size_t peer) const;
  const std::vector<net::Address>& addresses(std::size_t peer) const {
    return transport_->engine().peers[peer].addresses;
  }
  void say_groups(std::size_t peer, std::span<const uint8_t> body);
  failover::Election::Options election_options() const;

  void add_status(api::StatusView* out) const;
  void add_metrics(api::MetricsView* out) const;

 private:
  static constexpr uint32_t kLooks = 4096;  // at entries that a peer has acknowledged
  // What was last seen of a peer.
  struct Seen {
    mirroring::SessionNumber session;
    bool up = false;
    bool synced = false;
    telemetry::DurationHistogram lag;  // from activity there until it was merged here
  };

  Peers(mirroring::Exchange& exchange, MergeRings& rings, Reporter& reporter, uint32_t table_limit)
      : exchange_(exchange), rings_(rings), reporter_(reporter), table_limit_(table_limit) {}

  void watch(const mirroring::Peer& peer, Seen* seen);

  // mirroring::GroupListener
  void hear(const mirroring::Peer& peer, std::span<const uint8_t> body,
            timing::Instant now) override;

  mirroring::Exchange& exchange_;
  MergeRings& rings_;
  Reporter& reporter_;
  const uint32_t table_limit_;
  std::unique_ptr<mirroring::Transport> transport_;
  std::vector<Seen> seen_;  // by PeerIndex
  Heard heard_;             // none: not started
};

}  // namespace limpet::engine
