// The engine's side of failover: what the election hears and says, and how what it wants comes into
// force. Who owns what: control/failover.
#include <fmt/core.h>

#include <algorithm>

#include "control/compile/compile.h"
#include "control/engine/engine.h"

namespace limpet::engine {

using failover::GroupId;
using failover::Heard;
using telemetry::EventName;
using timing::Instant;

namespace {

// A worker without a turn for so long stands still.
constexpr timing::Duration kTurnMax = timing::seconds(1);

constexpr const char* kHeardNames[] = {"accepted", "own_name", "unknown_peer", "replayed",
                                       "unverified"};
static_assert(std::size(kHeardNames) == static_cast<std::size_t>(Heard::kCount));

std::vector<uint64_t> numbers(const std::vector<GroupId>& groups) {
  std::vector<uint64_t> out;
  for (const GroupId group : groups) out.push_back(group.value);
  return out;
}

}  // namespace

// Peers can be heard from now on.
void Engine::start_election() {
  const mirroring::Engine& own = transport_->engine();
  failover::Election::Options options{.name = own.name,
                                      .boot = own.boot,
                                      .peers = around_.peers,
                                      .heartbeat = own.heartbeat,
                                      .heartbeat_misses = own.heartbeat_misses};
  peer_addresses_.resize(around_.peers.size());
  worker_turns_.resize(cores_.size());
  election_.emplace(options, clock_.now());
  configure_election();
}

// The groups of the document that runs.
void Engine::configure_election() {
  if (!election_) return;
  std::vector<failover::Group> groups;
  for (const config::ServiceEngineGroup& group : running_.document->document.groups) {
    if (group.engines.empty()) continue;
    groups.push_back({.id = GroupId{compile::group_id(group.uuid)},
                      .name = group.name,
                      .engines = group.engines,
                      .preempt = group.preempt});
  }
  election_->configure(std::move(groups), clock_.now());
}

// The election's turn.
void Engine::elect() {
  if (!election_) return;
  const Instant now = clock_.now();
  for (const mirroring::Peer& peer : transport_->engine().peers) {
    failover::SessionView view;
    if (peer.live != nullptr) {
      view = {.open = true,
              .heard_at = peer.live->heard_at(),
              .boot = peer.received.boot,
              .has_snapshot = peer.live->has_received_snapshot()};
    }
    election_->observe(peer.index.value, view, now);
  }
  election_->set_fit(workers_move(now));
  std::erase_if(election_fences_, [&](const auto& fence) {
    const bool passed = exchange_->has_passed(fence.second);
    if (passed) election_->fence_passed(fence.first);
    return passed;
  });
  if (!ownership_changing_) {
    std::vector<GroupId> owned;
    for (const uint64_t group : running_.owned) owned.push_back(GroupId{group});
    election_->applied(owned, now);
  }
  carry_out(election_->step(now), now);
}

void Engine::carry_out(const failover::Election::Step& step, Instant now) {
  if (step.fence) election_fences_.emplace_back(*step.fence, exchange_->begin_fence());
  for (const auto& event : step.events)
    emit(event.taken ? EventName::kGroupTaken : EventName::kGroupReleased, event.group, event.why);
  if (step.announce) slow_path_->announce_again(now);
  if (step.beat) {
    for (const mirroring::Peer& peer : transport_->engine().peers) send_beats(peer, now);
  }
  const auto wanted = numbers(election_->wanted());
  if (wanted == running_.owned || ownership_changing_) return;
  ownership_changing_ = true;
  const auto done = [this](const auto&) { ownership_changing_ = false; };
  // Before everything that is not being worked on: clients wait for it.
  const bool busy = preparing_ || prepared_ || published_;
  operations_.insert(operations_.begin() + (busy ? 1 : 0), Operation{SetOwned{wanted}, done, done});
  pump();
}

// Whether every worker has had a turn lately.
bool Engine::workers_move(Instant now) {
  bool all = true;
  for (uint32_t w = 0; w < cores_.size(); ++w) {
    const uint64_t turns = cores_[w]->stats().busy_ns + cores_[w]->stats().idle_ns;
    WorkerTurns& seen = worker_turns_[w];
    if (turns != seen.turns || seen.at == Instant{}) seen = {turns, now};
    // A control thread that was stopped itself cannot tell.
    if (now - elected_at_ > kTurnMax / 2) seen.at = now;
    all = all && now - seen.at < kTurnMax;
  }
  elected_at_ = now;
  return all;
}

// By both paths.
void Engine::send_beats(const mirroring::Peer& peer, Instant now) {
  const std::size_t index = peer.index.value;
  std::vector<uint8_t> body;
  failover::encode(election_->beat(index, now), &body);
  transport_->say_groups(peer.index, body);
  if (!seal_) return;
  std::vector<net::Address> to = peer.addresses;
  const auto& heard_from = peer_addresses_[index];
  if (heard_from && std::find(to.begin(), to.end(), *heard_from) == to.end())
    to.push_back(*heard_from);
  for (const net::Address& address : to) {
    snapshot::Hop hop;
    if (address.is_link_local() || !running_.snapshot->route(address, &hop)) continue;
    // Each with a moment of its own: the same one twice would be a replay.
    slow_path_->send_heartbeat(hop, address, base::kHeartbeatPort,
                               seal_->close(election_->beat(index, now)), now);
  }
}

// slowpath::Link: by data.
void Engine::heartbeat(const net::Address& from, std::span<const uint8_t> datagram) {
  if (!election_ || !seal_) return;
  bool malformed = false;
  const auto beat = seal_->open(datagram, &malformed);
  if (!beat) {
    ++(malformed ? beats_malformed_ : beats_forged_);
    return;
  }
  const Heard heard = election_->hear(*beat, failover::Path::kData, clock_.now());
  ++beats_heard_[static_cast<std::size_t>(heard)];
  if (heard != Heard::kAccepted && heard != Heard::kUnverified) return;
  const auto name = std::find(around_.peers.begin(), around_.peers.end(), beat->name);
  peer_addresses_[static_cast<std::size_t>(name - around_.peers.begin())] = from;
}

// mirroring::GroupListener: over a session.
void Engine::hear(const mirroring::Peer& peer, std::span<const uint8_t> body, Instant now) {
  const auto beat = failover::decode(body);
  if (!beat || beat->name != peer.name) {
    ++beats_malformed_;
    return;
  }
  ++beats_heard_[static_cast<std::size_t>(election_->hear(*beat, failover::Path::kSession, now))];
}

void Engine::group_status(api::StatusView* out) const {
  for (const config::ServiceEngineGroup& group : running_.document->document.groups) {
    if (!group.engines.empty() && transport_) continue;
    const std::string& owner = group.engines.empty() ? bootstrap_.name : group.engines.front();
    out->groups.push_back({group.name, owner, owner == bootstrap_.name ? "owner" : "standby"});
  }
  if (!election_) return;
  for (const failover::GroupView& view : election_->view())
    out->groups.push_back({view.name, view.owner, std::string(failover::name_of(view.state))});
}

void Engine::group_metrics(api::MetricsView* out) const {
  if (!election_) return;
  using Family = api::MetricFamily;
  constexpr auto kCounter = api::MetricType::kCounter;
  Family owner{"limpet_group_owner", "1 if this engine owns the group.", {}, {}};
  Family term{"limpet_group_term", "Rises with each take-over.", {}, {}};
  for (const failover::GroupView& view : election_->view()) {
    const bool own = view.state == failover::State::kOwner;
    owner.samples.push_back({{{"group", view.name}}, own ? 1.0 : 0.0});
    term.samples.push_back({{{"group", view.name}}, static_cast<double>(view.term.value)});
  }
  Family alive{"limpet_peer_alive", "1 while the peer's heartbeats come.", {}, {}};
  for (std::size_t p = 0; p < around_.peers.size(); ++p)
    alive.samples.push_back({{{"peer", around_.peers[p]}}, election_->is_alive(p) ? 1.0 : 0.0});
  Family heard{"limpet_heartbeats_received_total",
               "Heartbeats of peers, by both paths.",
               kCounter,
               {{{}, static_cast<double>(beats_heard_[0])}}};
  Family sent{"limpet_heartbeats_sent_total",
              "Heartbeats on the data network.",
              kCounter,
              {{{}, static_cast<double>(slow_path_->counters().heartbeats_sent)}}};
  Family refused{
      "limpet_heartbeats_refused_total", "Heartbeats that were not believed.", kCounter, {}};
  const auto add = [&](const char* reason, uint64_t count) {
    refused.samples.push_back({{{"reason", reason}}, static_cast<double>(count)});
  };
  for (std::size_t i = 1; i < std::size(kHeardNames); ++i) add(kHeardNames[i], beats_heard_[i]);
  add("malformed", beats_malformed_);
  add("not_authentic", beats_forged_);
  Family adopted{"limpet_flows_readopted_total",
                 "Connections opened through another engine that go on through this one.",
                 kCounter,
                 {}};
  uint64_t sum = 0;
  for (const auto& core : cores_) sum += core->forwarder().readopted();
  adopted.samples.push_back({{}, static_cast<double>(sum)});
  for (Family* family : {&owner, &term, &alive, &heard, &sent, &refused, &adopted})
    out->more.push_back(std::move(*family));
}

}  // namespace limpet::engine
