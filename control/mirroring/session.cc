#include "control/mirroring/session.h"

#include <algorithm>

#include "common/base/assert.h"

namespace limpet::mirroring {

using timing::Duration;
using timing::Instant;

namespace {

constexpr timing::Duration kOffsetWindow = timing::seconds(60);

// Whether there is anybody to tell why the session ends.
bool is_told(Reason reason) {
  switch (reason) {
    case Reason::kNone:
    case Reason::kCut:
    case Reason::kPeerSaidBye:
    case Reason::kTls:
    case Reason::kCrowded:
    case Reason::kUnreachable:
      return false;
    default:
      return true;
  }
}

}  // namespace

Peer* Engine::find(std::string_view peer) {
  const auto it = std::find_if(peers.begin(), peers.end(), [&](auto& p) { return p.name == peer; });
  return it == peers.end() ? nullptr : &*it;
}

void ClockOffset::observe(Instant now, Instant theirs) {
  const int64_t difference = now.ns - theirs.ns;  // moments in frames are below 2^62
  if (current_ns_ == INT64_MAX || now - since_ >= kOffsetWindow) {
    previous_ns_ = current_ns_;
    current_ns_ = difference;
    since_ = now;
  } else {
    current_ns_ = std::min(current_ns_, difference);
  }
}

Instant ClockOffset::ours(Instant theirs, Instant now) const {
  int64_t sum = 0;
  // A peer may say anything; what does not fit is as old, or as new, as can be.
  if (__builtin_add_overflow(theirs.ns, std::min(current_ns_, previous_ns_), &sum))
    sum = theirs.ns > 0 ? now.ns : -kMomentEnd;
  return Instant{std::clamp(sum, -kMomentEnd, std::max(now.ns, -kMomentEnd))};
}

std::string_view name_of(Session::State state) {
  switch (state) {
    case Session::State::kHandshake:
      return "handshake";
    case Session::State::kSnapshot:
      return "snapshot";
    case Session::State::kSynced:
      return "synced";
    case Session::State::kLagging:
      return "lagging";
    case Session::State::kClosed:
      return "closed";
  }
  return "";
}

Session::Session(Engine& engine, Peer* called, Instant now)
    : engine_(engine), called_(called), started_at_(now), heard_at_(now), ticked_at_(now) {
  if (called_ != nullptr) write_hello(*called_, now);
}

Session::~Session() {
  close(Reason::kCut);
}

void Session::write_hello(const Peer& to, Instant now) {
  Hello hello{.table_limit = engine_.table_limit,
              .boot = engine_.boot,
              .moment = now,
              .received = to.received,
              .name = engine_.name,
              .addresses = engine_.addresses};
  if (hello.addresses.size() > kAddressesMax) hello.addresses.resize(kAddressesMax);
  write(hello);
}

void Session::write_heartbeat(Instant now) {
  beat_at_ = now + engine_.heartbeat;
  // Who does not read does not miss it, and it must not pile up.
  if (output_.size() > kOutputBytesMax) return;
  write(Heartbeat{.moment = now,
                  .echo = echo_.value_or(Instant{}),
                  .echo_age = echo_ ? now - echo_at_ : Duration::zero(),
                  .lag = lag_});
}

// Small ones together: each would wake the peer for nothing that it waits for.
void Session::write_acknowledgement(Instant now) {
  if (to_acknowledge_ == 0 || !is_established()) return;
  if (!acknowledge_at_once_ && to_acknowledge_ < kAcknowledgedTogether &&
      now - acknowledged_at_ < kAcknowledgeWithin)
    return;
  to_acknowledge_ = 0;
  acknowledge_at_once_ = false;
  acknowledged_at_ = now;
  write(Ack{peer_->received.sequence});
}

void Session::receive(std::span<const uint8_t> bytes, Instant now) {
  if (state_ == State::kClosed) return;
  LIMPET_ASSERT(!held_ && bytes.size() <= kInputBytesMax);
  heard_at_ = now;
  if (peer_ != nullptr) peer_->counters.bytes_received += bytes.size();
  input_.insert(input_.end(), bytes.begin(), bytes.end());
  process(now);
  go_on(now);
}

void Session::process(Instant now) {
  std::size_t done = 0;
  while (state_ != State::kClosed && !held_) {
    const Decoded decoded = decode(std::span(input_).subspan(done));
    if (decoded.what == Decoded::What::kIncomplete) break;
    if (decoded.what == Decoded::What::kBad) {
      close(decoded.reason);
      break;
    }
    done += decoded.bytes;
    if (decoded.what == Decoded::What::kFrame) {
      handle(decoded.frame, now);
    } else if (peer_ == nullptr) {
      close(Reason::kUnexpected);
    } else {
      ++peer_->counters.frames_skipped;
    }
  }
  input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(done));
  write_acknowledgement(now);
}

void Session::handle(const Frame& frame, Instant now) {
  const bool first = std::holds_alternative<Hello>(frame) || std::holds_alternative<Bye>(frame);
  if (peer_ == nullptr && !first) return close(Reason::kUnexpected);
  if (peer_ != nullptr) ++peer_->counters.frames_received;
  std::visit([&](const auto& known) { accept(known, now); }, frame);
}

Reason Session::refusal_of(const Hello& hello) const {
  if (hello.versions.min > kVersion || hello.versions.max < kVersion) return Reason::kVersion;
  if (hello.name == engine_.name) return Reason::kOwnName;
  if (called_ != nullptr) return hello.name == called_->name ? Reason::kNone : Reason::kWrongName;
  const Peer* peer = engine_.find(hello.name);
  if (peer == nullptr) return Reason::kUnknownPeer;
  return engine_.connects_to(*peer) ? Reason::kWrongName : Reason::kNone;
}

void Session::accept(const Hello& hello, Instant now) {
  if (peer_ != nullptr) return close(Reason::kUnexpected);
  const Reason refusal = refusal_of(hello);
  if (refusal != Reason::kNone) return close(refusal);
  Peer* peer = called_ != nullptr ? called_ : engine_.find(hello.name);
  if (called_ == nullptr) write_hello(*peer, now);
  establish(peer, hello, now);
}

void Session::establish(Peer* peer, const Hello& hello, Instant now) {
  if (peer->live != nullptr) peer->live->close(Reason::kReplaced);
  peer_ = peer;
  peer->live = this;
  peer->session = SessionNumber{peer->session.value + 1};
  peer->table_limit = hello.table_limit;
  peer->addresses = hello.addresses;
  if (peer->received.boot != hello.boot) peer->received = {hello.boot, {}};
  offset_.observe(now, hello.moment);
  echo_ = hello.moment;
  echo_at_ = now;
  const bool ours = hello.received.boot == engine_.boot;
  begin_ = engine_.list->begin(peer->index, peer->session, hello.boot,
                               ours ? hello.received.sequence : Sequence{});
  ++(begin_->kind == SnapshotBegin::Kind::kFull ? peer->counters.snapshots_full
                                                : peer->counters.snapshots_resumed);
  state_ = State::kSnapshot;
  write_heartbeat(now);
  write(*begin_);
  stopped_ = true;
}

// Whether an update with this sequence may come now; if not, the session has ended.
bool Session::is_next(Sequence sequence) {
  if (snapshot_ == Snapshot::kNone) {
    close(Reason::kUnexpected);
    return false;
  }
  const bool rises = sequence > peer_->received.sequence;
  if (!rises || (snapshot_ == Snapshot::kBegun && sequence > snapshot_up_to_)) {
    close(Reason::kBadSequence);
    return false;
  }
  return true;
}

void Session::accept(const Binding& binding, Instant now) {
  if (!is_next(binding.sequence)) return;
  pass_on(binding.sequence, {.source = {peer_->index, peer_->session},
                             .scope = binding.scope,
                             .key = binding.key,
                             .record = binding.record,
                             .act_at = offset_.ours(binding.act_at, now)});
}

void Session::accept(const ScopeTombstone& tombstone, Instant now) {
  if (!is_next(tombstone.sequence)) return;
  pass_on(tombstone.sequence, {.source = {peer_->index, peer_->session},
                               .scope = tombstone.scope,
                               .whole_scope = true,
                               .record = {.deleted = tombstone.deleted},
                               .act_at = now});
}

void Session::pass_on(Sequence sequence, const Arrival& arrival) {
  if (engine_.home->deliver(arrival)) {
    ++peer_->counters.updates_received;
    return set_position(sequence);
  }
  ++peer_->counters.held_back;
  held_ = Held{sequence, arrival};
}

bool Session::retry_held() {
  if (!engine_.home->deliver(held_->arrival)) return false;
  ++peer_->counters.updates_received;
  set_position(held_->sequence);
  held_.reset();
  return true;
}

void Session::set_position(Sequence sequence) {
  peer_->received.sequence = sequence;
  ++to_acknowledge_;
}

void Session::accept(const Ack& ack, Instant now) {
  if (!engine_.list->acknowledge(peer_->index, ack.sequence)) return close(Reason::kBadAck);
  while (!unacknowledged_.empty() && unacknowledged_.front() <= ack.sequence)
    unacknowledged_.pop_front();
  judge_state(now);
}

void Session::accept(const Heartbeat& beat, Instant now) {
  offset_.observe(now, beat.moment);
  echo_ = beat.moment;
  echo_at_ = now;
  peer_lag_ = beat.lag;
  // Only what can be: the peer may say anything, and has nothing to echo at first.
  if (beat.echo < started_at_ || beat.echo > now) return;
  const Duration since_echo = now - beat.echo;
  if (beat.echo_age >= Duration::zero() && beat.echo_age <= since_echo)
    round_trip_ = since_echo - beat.echo_age;
}

void Session::accept(const SnapshotBegin& begin, Instant) {
  if (snapshot_ != Snapshot::kNone) return close(Reason::kUnexpected);
  if (begin.kind == SnapshotBegin::Kind::kFull) {
    peer_->received.sequence = {};
  } else if (peer_->received.sequence.value == 0) {
    return close(Reason::kUnexpected);  // there is nothing to resume
  }
  if (begin.up_to < peer_->received.sequence) return close(Reason::kBadSequence);
  snapshot_ = Snapshot::kBegun;
  snapshot_up_to_ = begin.up_to;
}

void Session::accept(const SnapshotEnd& end, Instant now) {
  if (snapshot_ != Snapshot::kBegun) return close(Reason::kUnexpected);
  if (end.sequence != snapshot_up_to_) return close(Reason::kBadSequence);
  snapshot_ = Snapshot::kReceived;
  set_position(end.sequence);
  acknowledge_at_once_ = true;
  judge_state(now);
}

void Session::accept(const Groups& groups, Instant now) {
  if (engine_.groups != nullptr) engine_.groups->hear(*peer_, groups.body, now);
}

bool Session::say_groups(std::span<const uint8_t> body) {
  // Like heartbeats: what is said next time is newer.
  if (!is_established() || output_.size() > kOutputBytesMax) return false;
  write(Groups{{body.begin(), body.end()}});
  return true;
}

void Session::accept(const Bye& bye, Instant) {
  if (Peer* by = peer_ != nullptr ? peer_ : called_) by->last_bye = bye.reason;
  close(Reason::kPeerSaidBye);
}

std::vector<uint8_t> Session::take_output() {
  std::vector<uint8_t> out;
  out.swap(output_);
  output_.reserve(out.size());  // it will be as much again
  if (peer_ != nullptr) peer_->counters.bytes_sent += out.size();
  return out;
}

bool Session::pump(Instant now) {
  if (!is_established()) return false;
  UpdateList& list = *engine_.list;
  uint32_t looks = kLooksMax;
  write_acknowledgement(now);
  stopped_ = true;
  while (output_.size() < kOutputBytesMax && unacknowledged_.size() < kUnacknowledgedMax) {
    if (!end_sent_ && list.passed(peer_->index, begin_->up_to)) {
      end_sent_ = true;
      list.snapshot_sent(peer_->index, begin_->up_to);
      write(SnapshotEnd{begin_->up_to});
    }
    const uint32_t some = std::min(looks, 64u);
    if (some == 0) return true;
    const UpdateList::Next next = list.next(peer_->index, some);
    if (next.news) {
      send_update(*next.news);
    } else if (next.more) {
      looks -= some;
    } else if (end_sent_) {
      stopped_ = false;
      break;
    }
  }
  judge_state(now);
  return false;
}

void Session::send_update(const News& news) {
  ++peer_->counters.updates_sent;
  std::visit(
      [&](const auto& update) {
        unacknowledged_.push_back(update.sequence);
        write(update);
      },
      news);
}

void Session::judge_state(Instant now) {
  if (!is_established()) return;
  lag_ = engine_.list->lag(peer_->index, now, kLooksMax);
  if (state_ == State::kSnapshot) {
    const bool theirs = snapshot_ == Snapshot::kReceived;
    const bool ours = end_sent_ && engine_.list->acknowledged(peer_->index) >= begin_->up_to;
    if (!theirs || !ours) return;
  }
  const bool lags = lag_.ms > kLaggingMs || peer_lag_.ms > kLaggingMs;
  state_ = lags ? State::kLagging : State::kSynced;
}

void Session::tick(Instant now) {
  if (state_ == State::kClosed) return;
  // Time in which nobody called us is no silence of the peer.
  const Duration stall = now - ticked_at_ - engine_.heartbeat;
  if (stall > Duration::zero()) heard_at_ = std::min(now, heard_at_ + stall);
  ticked_at_ = now;
  if (!is_established()) {
    if (now - started_at_ >= kHandshakeTimeMax) close(Reason::kHandshakeTimeout);
    return;
  }
  if (held_) {
    heard_at_ = now;  // we did not listen
    if (retry_held()) process(now);
    if (state_ == State::kClosed) return;
  }
  if (now - heard_at_ >= engine_.heartbeat * engine_.heartbeat_misses)
    return close(Reason::kSilent);
  judge_state(now);
  if (now >= beat_at_) write_heartbeat(now);
  pump(now);
}

void Session::close(Reason reason) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  reason_ = reason;
  held_.reset();
  Peer* counted = peer_ != nullptr ? peer_ : called_;
  (counted != nullptr ? counted->counters.ended : engine_.ended).count(reason);
  if (counted != nullptr) counted->last_end = reason;
  if (is_told(reason)) write(Bye{static_cast<uint32_t>(reason)});
  if (peer_ == nullptr) return;
  LIMPET_ASSERT(peer_->live == this);
  peer_->live = nullptr;
  engine_.list->lost(peer_->index);
}

}  // namespace limpet::mirroring
