// The engine's side of mirroring: what it joins, in which order it begins, what it says of its
// peers, and the persist table on disk.
#include <fmt/core.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <random>
#include <utility>

#include "control/api/prometheus.h"
#include "control/engine/engine.h"

namespace limpet::engine {

using telemetry::EventName;
using timing::Instant;

namespace {

// Of the core's bits in the maker of a stamp: the control thread.
constexpr uint32_t kControlMaker = (1u << replication::Replica::Options::kCoreBits) - 1;

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

uint32_t Engine::rank() const {
  const auto at = std::lower_bound(engine_names_.begin(), engine_names_.end(), bootstrap_.name);
  return static_cast<uint32_t>(at - engine_names_.begin());
}

std::string Engine::origin_of(persist::Stamp stamp) const {
  const uint32_t rank = replication::Replica::Options::engine_of(stamp);
  return rank < engine_names_.size() ? engine_names_[rank] : std::string();
}

void Engine::make_exchange() {
  home_rings_ = std::make_unique<MergeRings>(shared_->rings, shared_->hash, limits_.entries);
  const auto workers = static_cast<uint32_t>(bootstrap_.worker_cores.size());
  exchange_ = std::make_unique<mirroring::Exchange>(
      mirroring::Exchange::Options{
          .entries = limits_.entries,
          .surplus = workers * shared_->rings.capacity.news,
          .peers = static_cast<uint32_t>(engine_names_.size() - 1),
          .node = rank() << replication::Replica::Options::kCoreBits | kControlMaker,
          .wall_origin = wall_origin()},
      *home_rings_, shared_->hash, memory_.back().get());
  use_scopes(*running_.snapshot);
}

// The table that was on disk; one that is of no use is as good as none.
base::Status Engine::open_table() {
  keeper_ = std::make_unique<TableKeeper>(*exchange_);
  auto loaded = state_->load(StateDirectory::kTable);
  if (loaded && !loaded.value()) return base::Done{};
  auto reader = loaded ? TableReader::open(std::move(*loaded.value())) : loaded.errors();
  if (reader) {
    keeper_->begin_restore(std::move(reader.value()), wall_origin());
  } else {
    emit(EventName::kConfigRefused, bootstrap_.name, reader.errors().front().message);
  }
  return base::Done{};
}

base::Status Engine::open_mirroring() {
  if (engine_names_.size() == 1) return base::Done{};
  const config::MirroringOptions& mirroring = *bootstrap_.mirroring;
  mirroring::TransportOptions options;
  options.name = bootstrap_.name;
  options.boot = new_boot_id();
  options.listen = mirroring.listen;
  options.secret_file = mirroring.secret_file;
  for (const config::PeerOptions& peer : mirroring.peers)
    options.peers.push_back({peer.name, peer.address});
  options.heartbeat = mirroring.heartbeat;
  options.heartbeat_misses = mirroring.heartbeat_misses;
  options.table_limit = limits_.entries;
  for (const config::PortOptions& port : bootstrap_.ports) {
    for (const net::Prefix& prefix : port.addresses) options.addresses.push_back(prefix.address);
  }
  options.seed = random_.next();
  peers_seen_.resize(options.peers.size());
  mirroring::GroupListener& listener = *this;
  auto transport =
      mirroring::Transport::open(io_, options, exchange_->list(), *exchange_, clock_, &listener);
  if (!transport) return transport.errors();
  transport_ = std::move(transport.value());
  if (mirroring.secret_file) {
    const auto key = mirroring::load_key(*mirroring.secret_file, failover::kHeartbeatLabel);
    if (!key) return key.errors();
    seal_.emplace(key.value());
  }
  return base::Done{};
}

void Engine::use_scopes(const snapshot::Snapshot& s) {
  std::vector<mirroring::Exchange::Scope> scopes;
  for (const snapshot::Scope& scope : s.scopes) {
    if (!scope.live) continue;
    const auto half = scope.timeout / 2;
    const bool fixed = scope.update_interval != timing::Duration::zero();
    scopes.push_back(
        {.id = scope.id,
         .slot = scope.slot,
         .mirrored = scope.mirrored,
         .keep = scope.timeout + (fixed ? std::min(scope.update_interval, half) : half)});
  }
  exchange_->use(scopes, s.version, clock_.now());
}

// What waits between homes and peers.
void Engine::exchange_news() {
  exchange_->tick(clock_.now());
  if (!transport_ || stage_ != Stage::kRunning) return;
  if (exchange_->take_resync()) transport_->resync();
  if (home_rings_->has_room_again()) transport_->retry();
  // What is new goes out together, once a millisecond: the loop turns after each handler, and a few
  // at a time would cost more in system calls than in what is told.
  if (std::exchange(telling_is_due_, false)) transport_->changed();
}

// --- the table on disk
// ----------------------------------------------------------------------------

// The next step of the start, or of keeping the table on disk.
void Engine::keep_table() {
  const Instant now = clock_.now();
  switch (stage_) {
    case Stage::kDocument:
      if (!operations_.empty() || preparing_ || prepared_ || published_) return;
      stage_ = Stage::kRestore;
      [[fallthrough]];
    case Stage::kRestore:
      if (keeper_ && !keeper_->restore(now)) return;
      fence_ = exchange_->begin_fence();
      stage_ = Stage::kFence;
      return;
    case Stage::kFence:
      if (!exchange_->has_passed(fence_)) return;
      stage_ = Stage::kRunning;
      if (transport_) {
        transport_->start();
        start_election();
      }
      return;
    case Stage::kRunning:
      if (!keeper_) return;
      if (auto pieces = keeper_->collect(now, wall_origin())) store_table(std::move(*pieces));
      return;
  }
}

void Engine::store_table(std::vector<std::string> pieces) {
  const auto content = std::make_shared<std::vector<std::string>>(std::move(pieces));
  boost::asio::post(disk_, [this, content] {
    const std::vector<std::string_view> views(content->begin(), content->end());
    const base::Status status = state_->save(StateDirectory::kTable, views);
    content->clear();  // here, for it takes time
    boost::asio::post(io_, [this, status] {
      keeper_->saved(status.ok(), clock_.now());
      if (!status) {
        emit(EventName::kConfigRefused, bootstrap_.name,
             "the persist table is not on disk: " + status.errors().front().message);
      }
    });
  });
}

// A clean stop: peers are told, and what homes have said last is on disk.
void Engine::shut_down() {
  if (transport_) transport_->close();
  helper_.join();
  disk_.join();
  stop_workers_ = true;
  workers_->join();
  const auto news = [this] {
    return std::any_of(shared_->rings.news.begin(), shared_->rings.news.end(),
                       [](const auto& ring) { return ring.size() > 0; });
  };
  while (news()) drain_news();
  if (!keeper_ || stage_ != Stage::kRunning) return;
  const std::vector<std::string> content = keeper_->collect_all(wall_origin());
  const std::vector<std::string_view> views(content.begin(), content.end());
  if (const auto status = state_->save(StateDirectory::kTable, views); !status) {
    emit(EventName::kConfigRefused, bootstrap_.name,
         "the persist table is not on disk: " + status.errors().front().message);
  }
}

// --- what is said of peers
// ------------------------------------------------------------------------

// What came from a peer is with its home now. Not of a resync: that is about old activity.
void Engine::note_lag(const persist::Change& change, Instant now) {
  if (change.source.peer == persist::kNoPeer || change.told != persist::Told::kNobody) return;
  if (change.source.peer.value >= peers_seen_.size()) return;
  PeerSeen& seen = peers_seen_[change.source.peer.value];
  if (seen.synced && seen.session == change.source.session) seen.lag.observe(now - change.act_at);
}

void Engine::watch_peers() {
  if (!transport_) return;
  for (const mirroring::Peer& peer : transport_->engine().peers)
    watch_peer(peer, &peers_seen_[peer.index.value]);
}

void Engine::watch_peer(const mirroring::Peer& peer, PeerSeen* seen) {
  const bool up = peer.live != nullptr;
  const bool replaced = up && seen->up && peer.session != seen->session;
  if (seen->up && (!up || replaced)) {
    const bool bye = peer.last_end == mirroring::Reason::kPeerSaidBye;
    const bool known = bye && peer.last_bye < mirroring::kReasonNames.size();
    emit(EventName::kPeerDown, peer.name,
         fmt::format("{}{}{}", mirroring::name_of(peer.last_end), known ? ": " : "",
                     known ? mirroring::kReasonNames[peer.last_bye] : ""));
    seen->up = seen->synced = false;
  }
  if (up && !seen->up) {
    const bool smaller = peer.table_limit < limits_.entries;
    emit(EventName::kPeerUp, peer.name,
         smaller ? fmt::format("connected; its table has room for {} entries, ours for {}",
                               peer.table_limit, limits_.entries)
                 : "connected");
    seen->session = peer.session;
    seen->up = true;
    seen->synced = false;
  }
  const bool synced = is_synced(peer.live);
  if (synced && !seen->synced)
    emit(EventName::kPeerSynced, peer.name, "each has what the other knew");
  seen->synced = synced;
}

void Engine::mirroring_status(api::StatusView* out) const {
  if (!transport_) return;
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

void Engine::mirroring_metrics(api::MetricsView* out) const {
  if (!transport_) return;
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
    api::add(&lag, {{"peer", peer.name}}, peers_seen_[peer.index.value].lag);
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

// What the control thread has between homes, peers and disk.
void Engine::exchange_metrics(api::MetricsView* out) const {
  const auto gauge = [&](const char* name, const char* help, double value) {
    out->more.push_back({name, help, api::MetricType::kGauge, {{{}, value}}});
  };
  const mirroring::ExchangeCounters& c = exchange_->counters();
  if (transport_) {
    const mirroring::UpdateList& list = exchange_->list();
    gauge("limpet_mirroring_entries", "Entries that peers are told of.", list.size());
    gauge("limpet_mirroring_tombstones", "Deletions that are kept until all peers know of them.",
          list.tombstones());
    gauge("limpet_mirroring_unnamed", "Entries of scopes that no document has named yet.",
          exchange_->unnamed());
    api::MetricFamily dropped{"limpet_mirroring_dropped_total",
                              "News that was dropped, by reason.",
                              api::MetricType::kCounter,
                              {}};
    for (const auto& [reason, count] : std::initializer_list<std::pair<const char*, uint64_t>>{
             {"not_mirrored", c.not_mirrored},
             {"unnamed_full", c.unnamed_refused},
             {"unnamed_expired", c.unnamed_expired},
             {"tombstones_full", c.tombstones_refused},
             {"list_full", c.unlisted}})
      dropped.samples.push_back({{{"reason", reason}}, static_cast<double>(count)});
    out->more.push_back(std::move(dropped));
  }
  if (!keeper_) return;
  api::MetricFamily restored{"limpet_table_restored_total",
                             "Entries of the table on disk, by what became of them.",
                             api::MetricType::kCounter,
                             {}};
  restored.samples = {{{{"result", "restored"}}, static_cast<double>(c.disk_restored)},
                      {{{"result", "expired"}}, static_cast<double>(c.disk_expired)}};
  out->more.push_back(std::move(restored));
  gauge("limpet_table_saved", "1 while the table on disk is the newest.", keeper_->is_saved());
}

}  // namespace limpet::engine
