// Ownership: which groups of virtual services this engine serves. Joins the election
// (control/failover) with what it hears by, and has what it wants brought into force as a change of
// the configuration.
//
// Owner: the control thread. Invariant: one change of what is owned is under way at a time, before
// all others that wait.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "control/api/backend.h"
#include "control/engine/changes.h"
#include "control/engine/reporter.h"
#include "control/failover/beat.h"
#include "control/failover/election.h"
#include "control/mirroring/exchange.h"

namespace limpet::engine {

class Ownership {
 public:
  struct Hooks {
    // What is known of the session with a peer.
    std::function<failover::SessionView(std::size_t peer)> session;
    // Over that session; not when there is none.
    std::function<void(std::size_t peer, std::span<const uint8_t> body)> say;
    // Of the peer's ports, as it has told.
    std::function<std::vector<net::Address>(std::size_t peer)> addresses;
    // On the data network.
    std::function<void(const net::Address& to, std::span<const uint8_t> datagram)> send;
    // The engine's addresses again: another one had them too.
    std::function<void()> announce;
  };

  Ownership(const failover::Election::Options& options, std::optional<failover::Seal> seal,
            const Cores& cores, Changes& changes, mirroring::Exchange& exchange, Reporter& reporter,
            const timing::Clock& clock, Hooks hooks);

  // The groups of the document that runs.
  void configure();
  void tick();

  // What came by data, and over a session.
  void hear(const net::Address& from, std::span<const uint8_t> datagram);
  void hear(std::size_t peer, std::span<const uint8_t> body, timing::Instant now);

  std::vector<api::GroupStatus> status() const;
  std::vector<api::MetricFamily> metrics() const;

 private:
  struct WorkerTurns {
    uint64_t turns = 0;
    timing::Instant at;
  };

  void carry_out(const failover::Election::Step& step, timing::Instant now);
  void bring_into_force();
  bool workers_move(timing::Instant now);
  void send_beats(std::size_t peer, timing::Instant now);

  const failover::Election::Options options_;
  std::optional<failover::Seal> seal_;  // with a secret
  const Cores& cores_;
  Changes& changes_;
  mirroring::Exchange& exchange_;
  Reporter& reporter_;
  const timing::Clock& clock_;
  const Hooks hooks_;

  failover::Election election_;
  std::vector<std::optional<net::Address>> heard_from_;  // by peer: its last heartbeat by data
  std::deque<std::pair<uint32_t, uint32_t>> fences_;     // the election's number, exchange's
  bool changing_ = false;
  timing::Instant not_before_;  // of the next change, after one that was refused
  std::vector<WorkerTurns> worker_turns_;
  timing::Instant ticked_at_;
  std::array<uint64_t, static_cast<std::size_t>(failover::Heard::kCount)> heard_{};
  uint64_t malformed_ = 0;
  uint64_t forged_ = 0;
};

// What there is to say of groups without an election; if there will be one, nothing of those that
// it decides.
std::vector<api::GroupStatus> groups_without_election(const Configuration& running,
                                                      const std::string& engine, bool elects);

}  // namespace limpet::engine
