#include "control/engine/peers.h"

#include <fmt/core.h>

#include <algorithm>
#include <random>
#include <utility>

#include "control/api/prometheus.h"

namespace limpet::engine {

using telemetry::EventName;
using timing::Instant;

namespace {

mirroring::BootId new_boot_id() {
  std::random_device device;
  mirroring::BootId id;
  do {
    for (uint8_t& byte : id.bytes) byte = static_cast<uint8_t>(device());
  } while (id.is_none());
  return id;
}

// Ends of sessions that say that the other side was refused, not that it went.
constexpr mirroring::Reason kRefusals[] = {mirroring::Reason::kBadLength,
                                           mirroring::Reason::kBadMagic,
                                           mirroring::Reason::kBadValue,
                                           mirroring::Reason::kVersion,
                                           mirroring::Reason::kUnexpected,
                                           mirroring::Reason::kUnknownPeer,
                                           mirroring::Reason::kOwnName,
                                           mirroring::Reason::kWrongName,
                                           mirroring::Reason::kBadSequence,
                                           mirroring::Reason::kBadAck,
                                           mirroring::Reason::kTls,
                                           mirroring::Reason::kCrowded,
                                           mirroring::Reason::kHandshakeTimeout};
constexpr mirroring::Reason kOtherEnds[] = {
    mirroring::Reason::kShutdown, mirroring::Reason::kReplaced,    mirroring::Reason::kSilent,
    mirroring::Reason::kCut,      mirroring::Reason::kPeerSaidBye, mirroring::Reason::kUnreachable,
    mirroring::Reason::kResync};
static_assert(std::size(kRefusals) + std::size(kOtherEnds) + 1 == mirroring::kReasonNames.size());

uint64_t refusals(const mirroring::ReasonCounts& ended) {
  uint64_t sum = 0;
  for (const mirroring::Reason reason : kRefusals) sum += ended[reason];
  return sum;
}

bool is_synced(const mirroring::Session* session) {
  using State = mirroring::Session::State;
  return session != nullptr &&
         (session->state() == State::kSynced || session->state() == State::kLagging);
}

}  // namespace

// --- who they are
// ---------------------------------------------------------------------------------

Cluster::Cluster(const config::Bootstrap& bootstrap) : names_{bootstrap.name} {
  if (bootstrap.mirroring) {
    for (const config::PeerOptions& peer : bootstrap.mirroring->peers) names_.push_back(peer.name);
  }
  std::ranges::sort(names_);
  rank_ = static_cast<uint32_t>(std::ranges::lower_bound(names_, bootstrap.name) - names_.begin());
}

std::string Cluster::origin_of(binding::Stamp stamp) const {
  const uint32_t rank = binding::StampClock::rank_of(stamp);
  return rank < names_.size() ? names_[rank] : std::string();
}

uint32_t Cluster::control_maker() const {
  return binding::Maker::number_of_control(rank_);
}

base::Result<std::unique_ptr<Peers>> Peers::open(boost::asio::io_context& io,
                                                 const config::Bootstrap& bootstrap,
                                                 uint32_t table_limit,
                                                 mirroring::Exchange& exchange, MergeRings& rings,
                                                 Reporter& reporter, const timing::Clock& clock,
                                                 uint64_t seed) {
  const config::MirroringOptions& mirroring = *bootstrap.mirroring;
  mirroring::TransportOptions options;
  options.name = bootstrap.name;
  options.boot = new_boot_id();
  options.listen = mirroring.listen;
  options.secret_file = mirroring.secret_file;
  for (const config::PeerOptions& peer : mirroring.peers)
    options.peers.push_back({peer.name, peer.address});
  options.heartbeat = mirroring.heartbeat;
  options.heartbeat_misses = mirroring.heartbeat_misses;
  options.table_limit = table_limit;
  for (const config::PortOptions& port : bootstrap.ports) {
    for (const net::Prefix& prefix : port.addresses) options.addresses.push_back(prefix.address);
  }
  options.seed = seed;
  std::unique_ptr<Peers> peers(new Peers(exchange, rings, reporter, table_limit));
  mirroring::GroupListener& listener = *peers;
  auto transport =
      mirroring::Transport::open(io, options, exchange.list(), exchange, clock, &listener);
  if (!transport) return transport.errors();
  peers->transport_ = std::move(transport.value());
  peers->seen_.resize(options.peers.size());
  return peers;
}

failover::Election::Options Peers::election_options() const {
  const mirroring::Engine& own = transport_->engine();
  failover::Election::Options out{.name = own.name,
                                  .boot = own.boot,
                                  .peers = {},
                                  .heartbeat = own.heartbeat,
                                  .heartbeat_misses = own.heartbeat_misses};
  for (const mirroring::Peer& peer : own.peers) out.peers.push_back(peer.name);
  return out;
}

failover::SessionView Peers::session(std::size_t peer) const {
  const mirroring::Peer& p = transport_->engine().peers[peer];
  if (p.live == nullptr) return {};
  return {.open = true,
          .heard_at = p.live->heard_at(),
          .boot = p.received.boot,
          .has_snapshot = p.live->has_received_snapshot()};
}

// --- what goes on between them
// --------------------------------------------------------------------

void Peers::start(Heard heard) {
  heard_ = std::move(heard);
  transport_->start();
}

void Peers::tick(bool due) {
  if (heard_) {
    if (exchange_.take_resync()) transport_->resync();
    if (rings_.has_room_again()) transport_->retry();
    if (due) transport_->changed();
  }
  for (const mirroring::Peer& peer : transport_->engine().peers)
    watch(peer, &seen_[peer.index.value]);
}

bool Peers::have_told_all(Instant now) const {
  return std::ranges::all_of(transport_->engine().peers, [&](const mirroring::Peer& peer) {
    return peer.live == nullptr || exchange_.list().lag(peer.index, now, kLooks).entries == 0;
  });
}

void Peers::say_groups(std::size_t peer, std::span<const uint8_t> body) {
  transport_->say_groups(transport_->engine().peers[peer].index, body);
}

void Peers::hear(const mirroring::Peer& peer, std::span<const uint8_t> body, Instant now) {
  if (heard_) heard_(peer.index.value, body, now);
}

// Not of a resync: that is about old activity.
void Peers::note(const binding::Change& change, Instant now) {
  if (change.source.peer == binding::kNoPeer || change.told != binding::Told::kNobody) return;
  if (change.source.peer.value >= seen_.size()) return;
  Seen& seen = seen_[change.source.peer.value];
  if (seen.synced && seen.session == change.source.session) seen.lag.observe(now - change.act_at);
}

void Peers::watch(const mirroring::Peer& peer, Seen* seen) {
  const bool up = peer.live != nullptr;
  const bool replaced = up && seen->up && peer.session != seen->session;
  if (seen->up && (!up || replaced)) {
    const bool bye = peer.last_end == mirroring::Reason::kPeerSaidBye;
    const bool known = bye && peer.last_bye < mirroring::kReasonNames.size();
    reporter_.report(EventName::kPeerDown, peer.name,
                     fmt::format("{}{}{}", mirroring::name_of(peer.last_end), known ? ": " : "",
                                 known ? mirroring::kReasonNames[peer.last_bye] : ""));
    seen->up = seen->synced = false;
  }
  if (up && !seen->up) {
    const bool smaller = peer.table_limit < table_limit_;
    reporter_.report(EventName::kPeerUp, peer.name,
                     smaller
                         ? fmt::format("connected; its table has room for {} entries, ours for {}",
                                       peer.table_limit, table_limit_)
                         : "connected");
    seen->session = peer.session;
    seen->up = true;
    seen->synced = false;
  }
  const bool synced = is_synced(peer.live);
  if (synced && !seen->synced)
    reporter_.report(EventName::kPeerSynced, peer.name, "each has what the other knew");
  seen->synced = synced;
}

// --- what is said of them
// -------------------------------------------------------------------------

void Peers::add_status(api::StatusView* out) const {
  const auto rows = transport_->status();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const mirroring::PeerCounters& c = transport_->engine().peers[i].counters;
    out->peers.push_back({.name = rows[i].name,
                          .state = std::string(rows[i].state),
                          .synced = rows[i].synced,
                          .lag_entries = rows[i].lag.entries,
                          .lag_ms = rows[i].lag.ms,
                          .bytes_received = c.bytes_received,
                          .bytes_sent = c.bytes_sent,
                          .updates_received = c.updates_received,
                          .updates_sent = c.updates_sent,
                          .resyncs_full = c.snapshots_full,
                          .resyncs_resumed = c.snapshots_resumed,
                          .held_back = c.held_back,
                          .rejected = refusals(c.ended)});
  }
  for (const mirroring::Reason reason : kRefusals) {
    const uint64_t count = transport_->engine().ended[reason];
    if (count > 0) out->strangers.push_back({std::string(mirroring::name_of(reason)), count});
  }
}

void Peers::add_metrics(api::MetricsView* out) const {
  using Family = api::MetricFamily;
  constexpr auto kCounter = api::MetricType::kCounter;
  Family state{"limpet_peer_state", "1 for the state that the peer's session is in.", {}, {}};
  Family bytes{"limpet_peer_bytes_total", "Bytes of mirroring, before TLS.", kCounter, {}};
  Family updates{"limpet_peer_updates_total", "Bindings and tombstones.", kCounter, {}};
  Family resyncs{"limpet_peer_resyncs_total", "Sessions, by what the peer was sent.", kCounter, {}};
  Family held{"limpet_peer_held_back_total",
              "Times that an update waited for room at its home.",
              kCounter,
              {}};
  Family rejected{"limpet_peer_rejected_total",
                  "Connections and sessions that were refused; no peer: it was not known yet.",
                  kCounter,
                  {}};
  Family ended{"limpet_peer_sessions_ended_total", "Sessions that ended otherwise.", kCounter, {}};
  Family lag{"limpet_peer_apply_lag_seconds",
             "From activity at the peer until it was merged here, outside of resyncs.",
             api::MetricType::kHistogram,
             {}};
  const auto add = [](Family* family, std::string peer, const char* label, std::string_view value,
                      uint64_t count) {
    family->samples.push_back(
        {{{"peer", std::move(peer)}, {label, std::string(value)}}, static_cast<double>(count)});
  };
  const auto rows = transport_->status();
  for (const mirroring::Peer& peer : transport_->engine().peers) {
    const mirroring::PeerCounters& c = peer.counters;
    const mirroring::PeerStatus& row = rows[peer.index.value];
    out->peers.push_back({.name = peer.name,
                          .synced = row.synced,
                          .lag_seconds = row.lag.ms / 1000.0,
                          .lag_entries = row.lag.entries});
    add(&state, peer.name, "state", row.state, 1);
    add(&bytes, peer.name, "direction", "in", c.bytes_received);
    add(&bytes, peer.name, "direction", "out", c.bytes_sent);
    add(&updates, peer.name, "direction", "in", c.updates_received);
    add(&updates, peer.name, "direction", "out", c.updates_sent);
    add(&resyncs, peer.name, "kind", "full", c.snapshots_full);
    add(&resyncs, peer.name, "kind", "resumed", c.snapshots_resumed);
    held.samples.push_back({{{"peer", peer.name}}, static_cast<double>(c.held_back)});
    api::add(&lag, {{"peer", peer.name}}, seen_[peer.index.value].lag);
    for (const mirroring::Reason reason : kRefusals)
      add(&rejected, peer.name, "reason", mirroring::name_of(reason), c.ended[reason]);
    for (const mirroring::Reason reason : kOtherEnds)
      add(&ended, peer.name, "reason", mirroring::name_of(reason), c.ended[reason]);
  }
  for (const mirroring::Reason reason : kRefusals)
    add(&rejected, "", "reason", mirroring::name_of(reason), transport_->engine().ended[reason]);
  for (Family* family : {&state, &bytes, &updates, &resyncs, &held, &lag, &rejected, &ended})
    out->more.push_back(std::move(*family));
}

}  // namespace limpet::engine
