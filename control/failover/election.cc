#include "control/failover/election.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"

namespace limpet::failover {

using timing::Duration;
using timing::Instant;

Election::Election(const Options& options, Instant now)
    : options_(options), started_at_(now), stepped_at_(now), beat_at_(now), moment_(now) {
  for (const std::string& name : options_.peers) peers_.push_back({.name = name});
}

void Election::configure(std::vector<Group> groups, Instant now) {
  LIMPET_ASSERT(groups.size() <= kGroupsMax);
  std::vector<Entry> next;
  for (Group& group : groups) {
    const auto known =
        std::ranges::find(entries_, group.id, [](const Entry& e) { return e.group.id; });
    Entry e;
    if (known != entries_.end()) {
      e = std::move(*known);
    } else {
      e.since = now;
      for (const Peer& peer : peers_) {
        if (const Claim* claim = claim_of(peer, group.id)) e.known = std::max(e.known, claim->term);
      }
    }
    const auto rank_of = [&](const std::string& name) {
      return static_cast<std::size_t>(std::ranges::find(group.engines, name) -
                                      group.engines.begin());
    };
    const std::size_t own = rank_of(options_.name);
    e.rank = own < group.engines.size() ? std::optional(own) : std::nullopt;
    e.peer_ranks.clear();
    for (const Peer& peer : peers_) e.peer_ranks.push_back(rank_of(peer.name));
    e.ready_since.resize(peers_.size());
    e.group = std::move(group);
    next.push_back(std::move(e));
  }
  entries_ = std::move(next);
  std::erase_if(wanted_, [&](GroupId id) {
    return std::ranges::find(entries_, id, [](const Entry& e) { return e.group.id; }) ==
           entries_.end();
  });
}

// --- what is heard
// --------------------------------------------------------------------------------

const Claim* Election::claim_of(const Peer& peer, GroupId group) const {
  const auto it = std::ranges::find(peer.claims, group, &Claim::group);
  return it == peer.claims.end() ? nullptr : &*it;
}

// The peer has restarted: what the run before said is void.
void Election::start_over(Peer& peer, const BootId& boot, Instant now) {
  if (!peer.boot.is_none()) {
    peer.given_up.push_back(peer.boot);
    if (peer.given_up.size() > kBootsKept) peer.given_up.pop_front();
  }
  peer.boot = boot;
  peer.boot_at = now;
  peer.claims.clear();
  peer.has_claims = false;
  peer.claims_moment = peer.data_moment = Instant{INT64_MIN};
}

void Election::observe(std::size_t index, const SessionView& session, Instant now) {
  Peer& peer = peers_[index];
  // The session of a run that is over has not heard of it yet.
  const bool over = std::ranges::find(peer.given_up, session.boot) != peer.given_up.end();
  const bool open = session.open && !over;
  if (peer.open && !open) peer.closed_at = now;
  peer.open = open;
  if (!open) return;
  if (session.boot != peer.boot) start_over(peer, session.boot, now);
  peer.heard = true;
  peer.session_at = std::max(peer.session_at, std::min(session.heard_at, now));
  peer.synced = session.has_snapshot;
}

Heard Election::hear(const Beat& beat, Path path, Instant now) {
  if (beat.name == options_.name) return Heard::kOwnName;
  const auto it = std::ranges::find(peers_, beat.name, &Peer::name);
  if (it == peers_.end()) return Heard::kUnknownPeer;
  Peer& peer = *it;
  const bool given_up = std::ranges::find(peer.given_up, beat.boot) != peer.given_up.end();
  if (given_up) return Heard::kReplayed;
  if (beat.boot != peer.boot) {
    peer.echo_boot = beat.boot;
    peer.echo = beat.moment;
    const bool fresh =
        beat.echo_boot == options_.boot && beat.echo <= now && now - beat.echo <= kEchoAgeMax;
    if (path == Path::kData && !fresh) return Heard::kUnverified;
    start_over(peer, beat.boot, now);
  }
  if (path == Path::kData) {
    if (beat.moment <= peer.data_moment) return Heard::kReplayed;
    peer.data_moment = beat.moment;
    peer.data_at = now;
  } else {
    peer.session_at = now;
  }
  peer.heard = true;
  note(peer, beat, now);
  return Heard::kAccepted;
}

// Takes the claims of a beat unless newer ones came by the other path.
void Election::note(Peer& peer, const Beat& beat, Instant) {
  if (peer.echo_boot != beat.boot || beat.moment > peer.echo) {
    peer.echo_boot = beat.boot;
    peer.echo = beat.moment;
  }
  if (beat.moment <= peer.claims_moment) return;
  peer.claims_moment = beat.moment;
  peer.claims = beat.claims;
  peer.has_claims = true;
  for (Entry& e : entries_) {
    if (const Claim* claim = claim_of(peer, e.group.id)) e.known = std::max(e.known, claim->term);
  }
}

void Election::judge_peers(Instant now) {
  // While we did not listen nobody was silent.
  const Duration gap = now - stepped_at_;
  if (gap > 2 * options_.heartbeat) {
    for (Peer& peer : peers_) {
      peer.session_at = std::min(peer.session_at + gap, now);
      peer.data_at = std::min(peer.data_at + gap, now);
    }
  }
  stepped_at_ = now;
  const uint32_t misses = options_.heartbeat_misses;
  for (Peer& peer : peers_) {
    const bool just_closed = !peer.open && peer.closed_at && now - *peer.closed_at < kClosedAlarm;
    const uint32_t bearable = just_closed ? std::max(misses, 4u) - 2 : misses;
    peer.alive = peer.heard &&
                 now - std::max(peer.session_at, peer.data_at) <= options_.heartbeat * bearable;
  }
}

bool Election::is_synced() const {
  return std::ranges::all_of(peers_, [](const Peer& peer) { return !peer.alive || peer.synced; });
}

// --- rules
// ----------------------------------------------------------------------------------------

bool Election::Holder::stronger_than(const Holder& other) const {
  if (term != other.term) return term > other.term;
  return rank != other.rank ? rank < other.rank : name < other.name;
}

std::optional<Election::Holder> Election::strongest_holder(const Entry& e) const {
  std::optional<Holder> strongest;
  for (std::size_t p = 0; p < peers_.size(); ++p) {
    const Peer& peer = peers_[p];
    const Claim* claim = peer.alive ? claim_of(peer, e.group.id) : nullptr;
    if (claim == nullptr || !holds(claim->state)) continue;
    const Holder holder{claim->term, e.peer_ranks[p], peer.name};
    if (!strongest || holder.stronger_than(*strongest)) strongest = holder;
  }
  return strongest;
}

bool Election::is_vouched(const Entry& e) const {
  return std::ranges::any_of(peers_, [&](const Peer& peer) {
    const Claim* claim = peer.alive ? claim_of(peer, e.group.id) : nullptr;
    return claim != nullptr && claim->sees_holder;
  });
}

// Rule T: whether others have to be given time, or are to take it.
bool Election::must_wait_for(const Entry& e, Instant now) const {
  const Duration ownerless = now - *e.ownerless_since;
  if (ownerless >= kOwnerlessMax) return false;
  if (e.state != State::kReady) return true;
  for (std::size_t p = 0; p < peers_.size(); ++p) {
    const Peer& peer = peers_[p];
    if (!peer.alive || e.peer_ranks[p] >= *e.rank) continue;
    const Claim* claim = claim_of(peer, e.group.id);
    if (claim != nullptr && claim->state == State::kReady) return true;
    const Duration patience = e.known.value == 0 ? kNewGroupWait : kReadyWait;
    if (ownerless < patience) return true;
  }
  return false;
}

bool Election::may_take(Entry& e, Instant now) const {
  if (!fit_ || now < e.not_before) return false;
  for (std::size_t p = 0; p < peers_.size(); ++p) {
    const Peer& peer = peers_[p];
    if (e.peer_ranks[p] >= e.group.engines.size()) continue;
    if (!peer.heard && now - started_at_ < kStartWait) return false;
    // What it holds it says with its first beat.
    if (peer.alive && !peer.has_claims && now - peer.boot_at < kStartWait) return false;
  }
  return !must_wait_for(e, now);
}

// Rule P.
bool Election::must_yield(Entry& e, Instant now) {
  bool yield = false;
  for (std::size_t p = 0; p < peers_.size(); ++p) {
    const Peer& peer = peers_[p];
    const Claim* claim = peer.alive ? claim_of(peer, e.group.id) : nullptr;
    const bool could = e.state == State::kOwner && e.group.preempt && e.peer_ranks[p] < *e.rank &&
                       claim != nullptr && claim->state == State::kReady && claim->term >= e.held &&
                       claim->sees_holder;
    auto& since = e.ready_since[p];
    if (!could) {
      since.reset();
    } else if (!since) {
      since = now;
    } else {
      yield = yield || now - *since >= kPreemptWait;
    }
  }
  return yield;
}

void Election::set_state(Entry& e, State state, Instant now) {
  if (e.state == state) return;
  e.state = state;
  e.since = now;
}

void Election::take(Entry& e, Step& out, Instant now) {
  if (!out.fence) out.fence = ++fences_;
  e.fence = *out.fence;
  e.fenced = false;
  e.contested = false;
  e.known = e.held = Term{e.known.value + 1};
  set_state(e, State::kTaking, now);
}

void Election::release(Entry& e, std::string why, Instant now) {
  e.why = std::move(why);
  set_state(e, State::kReleasing, now);
}

// Holding nothing.
void Election::rest(Entry& e, Instant now) {
  e.contested = false;
  e.ownerless_since.reset();
  const bool ready = e.rank && fit_ && is_synced();
  set_state(e, ready ? State::kReady : State::kStandby, now);
}

void Election::decide_holder(Entry& e, Step& out, Instant now) {
  const auto rival = strongest_holder(e);
  if (!e.rank) return release(e, "this engine is not in its list any more", now);
  if (!fit_) return release(e, "a worker stands still", now);
  if (rival && rival->stronger_than({e.held, *e.rank, options_.name}))
    return release(e, std::string(rival->name) + " has it", now);
  if (must_yield(e, now)) return release(e, "an engine before this one is ready", now);
  if (e.state == State::kTaking && !e.fenced && now - e.since > kFenceMax) {
    e.not_before = now + kFenceRetry;
    return release(e, "the homes did not merge in time", now);
  }
  if (e.contested && !rival) out.announce = true;
  e.contested = rival.has_value();
}

void Election::decide(Entry& e, Step& out, Instant now) {
  e.sees_holder = strongest_holder(e).has_value();
  if (e.state == State::kTaking || e.state == State::kOwner) return decide_holder(e, out, now);
  if (e.state == State::kReleasing) {
    // Workers that stand still must not keep others from taking it.
    if (now - e.since > kReleaseMax) {
      events_.push_back({e.group.name, false, e.why + "; workers have not confirmed it"});
      rest(e, now);
    }
    return;
  }
  const auto ownerless = e.ownerless_since;
  rest(e, now);
  if (!e.rank || e.sees_holder || is_vouched(e)) return;
  e.ownerless_since = ownerless.value_or(now);
  if (!may_take(e, now)) return;
  e.why = e.known.value == 0 ? "nobody had it" : "nobody has it any more";
  take(e, out, now);
}

Election::Step Election::step(Instant now) {
  Step out;
  judge_peers(now);
  for (Entry& e : entries_) decide(e, out, now);
  std::vector<GroupId> wanted;
  for (const Entry& e : entries_) {
    if (e.state == State::kOwner || (e.state == State::kTaking && e.fenced))
      wanted.push_back(e.group.id);
  }
  std::ranges::sort(wanted);
  out.wanted_changed = wanted != wanted_;
  wanted_ = std::move(wanted);
  out.events = std::exchange(events_, {});
  if (now >= beat_at_ || claims() != said_) {
    out.beat = true;
    said_ = claims();
    // A steady rhythm, whatever the steps' own; after a pause from now on.
    beat_at_ = std::max(beat_at_ + options_.heartbeat, now + options_.heartbeat / 2);
  }
  return out;
}

void Election::fence_passed(uint32_t fence) {
  for (Entry& e : entries_) {
    if (e.state == State::kTaking && e.fence == fence) e.fenced = true;
  }
}

void Election::applied(const std::vector<GroupId>& owned, Instant now) {
  for (Entry& e : entries_) {
    const bool in_force = std::ranges::binary_search(owned, e.group.id);
    if (e.state == State::kTaking && e.fenced && in_force) {
      set_state(e, State::kOwner, now);
      events_.push_back({e.group.name, true, e.why});
    } else if (e.state == State::kReleasing && !in_force) {
      events_.push_back({e.group.name, false, e.why});
      rest(e, now);
    }
  }
}

// --- what is said
// ---------------------------------------------------------------------------------

std::vector<Claim> Election::claims() const {
  std::vector<Claim> out;
  for (const Entry& e : entries_) out.push_back({e.group.id, term_of(e), e.state, e.sees_holder});
  return out;
}

Beat Election::beat(std::size_t index, Instant now) {
  const Peer& peer = peers_[index];
  moment_ = std::max(now, Instant{moment_.ns + 1});
  return {.boot = options_.boot,
          .moment = moment_,
          .echo_boot = peer.echo_boot,
          .echo = peer.echo,
          .name = options_.name,
          .claims = claims()};
}

std::vector<GroupView> Election::view() const {
  std::vector<GroupView> out;
  for (const Entry& e : entries_) {
    GroupView view{.id = e.group.id, .name = e.group.name, .state = e.state, .term = term_of(e)};
    if (e.state == State::kOwner || e.state == State::kTaking) {
      view.owner = options_.name;
    } else if (const auto holder = strongest_holder(e)) {
      view.owner = holder->name;
    }
    out.push_back(std::move(view));
  }
  return out;
}

}  // namespace limpet::failover
