#include "control/engine/ownership.h"

#include <algorithm>

#include "control/compile/compile.h"

namespace limpet::engine {

using failover::GroupId;
using failover::Heard;
using telemetry::EventName;
using timing::Instant;

namespace {

// A worker without a turn for so long stands still.
constexpr timing::Duration kTurnMax = timing::seconds(1);
constexpr timing::Duration kOwnAgain = timing::seconds(1);

constexpr const char* kHeardNames[] = {"accepted", "own_name", "unknown_peer", "replayed",
                                       "unverified"};
static_assert(std::size(kHeardNames) == static_cast<std::size_t>(Heard::kCount));

// Of a group that this engine has no part in.
constexpr const char* kForeign = "foreign";

bool takes_part(const config::ServiceEngineGroup& group, const std::string& engine) {
  return std::ranges::find(group.engines, engine) != group.engines.end();
}

}  // namespace

Ownership::Ownership(const failover::Election::Options& options, std::optional<failover::Seal> seal,
                     const Cores& cores, Changes& changes, mirroring::Exchange& exchange,
                     Reporter& reporter, const timing::Clock& clock, Hooks hooks)
    : options_(options),
      seal_(std::move(seal)),
      cores_(cores),
      changes_(changes),
      exchange_(exchange),
      reporter_(reporter),
      clock_(clock),
      hooks_(std::move(hooks)),
      election_(options, clock.now()),
      heard_from_(options.peers.size()),
      worker_turns_(cores.count()) {
  configure();
}

void Ownership::configure() {
  std::vector<failover::Group> groups;
  for (const config::ServiceEngineGroup& group : changes_.running().document->document.groups) {
    if (group.engines.empty()) continue;
    groups.push_back({.id = GroupId{compile::group_id(group.uuid)},
                      .name = event_object(group.tenant, group.name),
                      .engines = group.engines,
                      .preempt = group.preempt});
  }
  election_.configure(std::move(groups), clock_.now());
}

void Ownership::tick() {
  const Instant now = clock_.now();
  for (std::size_t p = 0; p < options_.peers.size(); ++p)
    election_.observe(p, hooks_.session(p), now);
  election_.set_fit(workers_move(now));
  std::erase_if(fences_, [&](const auto& fence) {
    const bool passed = exchange_.has_passed(fence.second);
    if (passed) election_.fence_passed(fence.first);
    return passed;
  });
  if (!changing_) {
    std::vector<GroupId> owned;
    for (const uint64_t group : changes_.running().owned) owned.push_back(GroupId{group});
    election_.applied(owned, now);
  }
  carry_out(election_.step(now), now);
}

void Ownership::carry_out(const failover::Election::Step& step, Instant now) {
  if (step.fence) fences_.emplace_back(*step.fence, exchange_.begin_fence());
  for (const auto& event : step.events) {
    reporter_.report(event.taken ? EventName::kGroupTaken : EventName::kGroupReleased, event.group,
                     event.why);
  }
  if (step.announce) hooks_.announce();
  if (step.beat) {
    for (std::size_t p = 0; p < options_.peers.size(); ++p) send_beats(p, now);
  }
  bring_into_force();
}

// Before everything that is not being worked on: clients wait for it.
void Ownership::bring_into_force() {
  std::vector<uint64_t> wanted;
  for (const GroupId group : election_.wanted()) wanted.push_back(group.value);
  if (changing_ || wanted == changes_.running().owned || clock_.now() < not_before_) return;
  changing_ = true;
  changes_.add_first({.change = SetOwned{std::move(wanted)},
                      .applied = [this](const Prepared&) { changing_ = false; },
                      .refused =
                          [this](const Refused& refused) {
                            changing_ = false;
                            not_before_ = clock_.now() + kOwnAgain;
                            reporter_.report(EventName::kConfigRefused, options_.name,
                                             "groups: " + refused.errors.front().message);
                          }});
}

// Whether every worker has had a turn lately.
bool Ownership::workers_move(Instant now) {
  bool all = true;
  for (uint32_t w = 0; w < cores_.count(); ++w) {
    const uint64_t turns = cores_.core(w).stats().busy_ns + cores_.core(w).stats().idle_ns;
    WorkerTurns& seen = worker_turns_[w];
    if (turns != seen.turns || seen.at == Instant{}) seen = {turns, now};
    // A control thread that was stopped itself cannot tell.
    if (now - ticked_at_ > kTurnMax / 2) seen.at = now;
    all = all && now - seen.at < kTurnMax;
  }
  ticked_at_ = now;
  return all;
}

// By both paths.
void Ownership::send_beats(std::size_t peer, Instant now) {
  std::vector<uint8_t> body;
  failover::encode(election_.beat(peer, now), &body);
  hooks_.say(peer, body);
  if (!seal_) return;
  std::vector<net::Address> to = hooks_.addresses(peer);
  const auto& heard_from = heard_from_[peer];
  if (heard_from && std::ranges::find(to, *heard_from) == to.end()) to.push_back(*heard_from);
  // Each with a moment of its own: the same one twice would be a replay.
  for (const net::Address& address : to)
    hooks_.send(address, seal_->close(election_.beat(peer, now)));
}

void Ownership::hear(const net::Address& from, std::span<const uint8_t> datagram) {
  if (!seal_) return;
  bool malformed = false;
  const auto beat = seal_->open(datagram, &malformed);
  if (!beat) {
    ++(malformed ? malformed_ : forged_);
    return;
  }
  const Heard heard = election_.hear(*beat, failover::Path::kData, clock_.now());
  ++heard_[static_cast<std::size_t>(heard)];
  if (heard != Heard::kAccepted && heard != Heard::kUnverified) return;
  const auto name = std::ranges::find(options_.peers, beat->name);
  heard_from_[static_cast<std::size_t>(name - options_.peers.begin())] = from;
}

void Ownership::hear(std::size_t peer, std::span<const uint8_t> body, Instant now) {
  const auto beat = failover::decode(body);
  if (!beat || beat->name != options_.peers[peer]) {
    ++malformed_;
    return;
  }
  ++heard_[static_cast<std::size_t>(election_.hear(*beat, failover::Path::kSession, now))];
}

std::vector<api::GroupStatus> Ownership::status() const {
  std::vector<api::GroupStatus> out;
  const auto& groups = changes_.running().document->document.groups;
  for (const config::ServiceEngineGroup& group : groups) {
    if (group.engines.empty())
      out.push_back({event_object(group.tenant, group.name), options_.name, "owner"});
  }
  for (const failover::GroupView& view : election_.view()) {
    const auto group = std::ranges::find_if(
        groups, [&](const auto& g) { return compile::group_id(g.uuid) == view.id.value; });
    const bool ours = group == groups.end() || takes_part(*group, options_.name);
    out.push_back(
        {view.name, view.owner, ours ? std::string(failover::name_of(view.state)) : kForeign});
  }
  return out;
}

std::vector<api::GroupStatus> groups_without_election(const Configuration& running,
                                                      const std::string& engine, bool elects) {
  std::vector<api::GroupStatus> out;
  for (const config::ServiceEngineGroup& group : running.document->document.groups) {
    if (elects && !group.engines.empty()) continue;
    const std::string& owner = group.engines.empty() ? engine : group.engines.front();
    const char* state = owner == engine             ? "owner"
                        : takes_part(group, engine) ? "standby"
                                                    : kForeign;
    out.push_back({event_object(group.tenant, group.name), owner, state});
  }
  return out;
}

std::vector<api::MetricFamily> Ownership::metrics() const {
  using Family = api::MetricFamily;
  constexpr auto kCounter = api::MetricType::kCounter;
  Family owner{"limpet_group_owner", "1 if this engine owns the group.", {}, {}};
  Family term{"limpet_group_term", "Rises with each take-over.", {}, {}};
  for (const failover::GroupView& view : election_.view()) {
    const bool own = view.state == failover::State::kOwner;
    owner.samples.push_back({{{"group", view.name}}, own ? 1.0 : 0.0});
    term.samples.push_back({{{"group", view.name}}, static_cast<double>(view.term.value)});
  }
  Family alive{"limpet_peer_alive", "1 while the peer's heartbeats come.", {}, {}};
  for (std::size_t p = 0; p < options_.peers.size(); ++p)
    alive.samples.push_back({{{"peer", options_.peers[p]}}, election_.is_alive(p) ? 1.0 : 0.0});
  Family heard{"limpet_heartbeats_received_total",
               "Heartbeats of peers, by both paths.",
               kCounter,
               {{{}, static_cast<double>(heard_[0])}}};
  Family refused{
      "limpet_heartbeats_refused_total", "Heartbeats that were not believed.", kCounter, {}};
  const auto add = [&](const char* reason, uint64_t count) {
    refused.samples.push_back({{{"reason", reason}}, static_cast<double>(count)});
  };
  for (std::size_t i = 1; i < std::size(kHeardNames); ++i) add(kHeardNames[i], heard_[i]);
  add("malformed", malformed_);
  add("not_authentic", forged_);
  return {std::move(owner), std::move(term), std::move(alive), std::move(heard),
          std::move(refused)};
}

}  // namespace limpet::engine
