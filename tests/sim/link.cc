#include "tests/sim/link.h"

#include <algorithm>
#include <utility>

#include "tests/sim/engine.h"

namespace limpet::sim {

using mirroring::Reason;
using mirroring::Session;
using timing::Duration;
using timing::Instant;
using timing::milliseconds;

namespace {

// As in transport.cc.
constexpr Duration kRetryMin = milliseconds(100);
constexpr Duration kRetryMax = timing::seconds(5);
constexpr Duration kGoodSession = timing::seconds(10);
constexpr Duration kByeTimeMax = timing::seconds(1);
constexpr uint32_t kReadBytes = 16'384;
// What the two kernels hold of one direction; little, so that sessions wait for each other.
constexpr std::size_t kWindowBytes = 3'000;

}  // namespace

Link::Link(const timing::Clock& time, base::Random& random)
    : time_(time), random_(random), wait_(kRetryMin), next_try_(time.now()) {}

void Link::attach(uint32_t side, Host* host) {
  hosts_[side] = host;
  if (side != 0) return;
  wait_ = kRetryMin;
  next_try_ = time_.now();
}

void Link::detach(uint32_t side, bool noticed) {
  for (Connection& c : connections_) {
    End& mine = c.ends[side];
    End& other = c.ends[1 - side];
    mine.session.reset();
    mine.over = true;
    mine.inbound.clear();
    if (noticed && !c.lost && !other.over) other.end_at = time_.now() + latency();
    if (!noticed) c.lost = true;
  }
  if (side == 0) dialled_ = nullptr;
  hosts_[side] = nullptr;
}

Duration Link::latency() {
  return Duration(random_.below(static_cast<uint32_t>(latency_max_.count() / 1000)) * 1000LL);
}

void Link::cut() {
  up_ = false;
  for (Connection& c : connections_) {
    c.lost = true;
    for (End& end : c.ends) {
      // Some of what was under way had arrived.
      while (!end.inbound.empty() && chance(random_, 60)) {
        end.inbound_bytes -= end.inbound.back().bytes.size();
        end.inbound.pop_back();
      }
      if (chance(random_, 60)) end.end_at = time_.now() + milliseconds(random_.below(700));
    }
  }
}

void Link::heal() {
  up_ = true;
  stalled_until_ = {};
}

void Link::stall(uint32_t towards, Duration how_long) {
  stalled_until_[towards] = time_.now() + how_long;
}

bool Link::is_stalled() const {
  return stalled_until_[0] > time_.now() || stalled_until_[1] > time_.now();
}

const Session* Link::session(uint32_t side) const {
  for (const Connection& c : connections_) {
    const Session* s = c.ends[side].session.get();
    if (s != nullptr && s->peer() != nullptr && s->peer()->live == s) return s;
  }
  return nullptr;
}

bool Link::is_quiet() const {
  // A connection that is lost, and neither side has noticed, delivers nothing.
  const auto half_open = [](const Connection& c) {
    return c.lost && !(c.ends[0].over && c.ends[1].over);
  };
  if (std::any_of(connections_.begin(), connections_.end(), half_open)) return false;
  for (uint32_t side = 0; side < 2; ++side) {
    const Session* s = session(side);
    if (s == nullptr || s->state() != Session::State::kSynced || s->lag().entries != 0)
      return false;
  }
  return true;
}

// --- connections --------------------------------------------------------------------------------

void Link::connect() {
  ++made_;
  Connection& c = connections_.emplace_back();
  c.since = time_.now();
  for (uint32_t side = 0; side < 2; ++side) {
    mirroring::Engine& engine = hosts_[side]->engine;
    mirroring::Peer* called = side == 0 ? engine.find(hosts_[1]->engine.name) : nullptr;
    c.ends[side].session = std::make_unique<Session>(engine, called, hosts_[side]->now());
  }
  dialled_ = &c;
}

void Link::dial() {
  if (dialled_ != nullptr && dialled_->ends[0].over) {
    const bool good = time_.now() - dialled_->since >= kGoodSession;
    dialled_ = nullptr;
    if (good) wait_ = kRetryMin;
    next_try_ = time_.now() + wait_ * (75 + random_.below(51)) / 100;
    wait_ = std::min(wait_ * 2, kRetryMax);
  }
  if (dialled_ != nullptr || time_.now() < next_try_) return;
  if (up_ && hosts_[1] != nullptr) return connect();
  next_try_ = time_.now() + wait_ * (75 + random_.below(51)) / 100;
  wait_ = std::min(wait_ * 2, kRetryMax);
}

void Link::tick(uint32_t side) {
  for (Connection& c : connections_) {
    End& end = c.ends[side];
    if (end.over) continue;
    end.session->tick(hosts_[side]->now());
    move(c, side);
  }
  if (side == 0) dial();
  std::erase_if(connections_, [&](const Connection& c) {
    return c.ends[0].over && c.ends[1].over && &c != dialled_;
  });
}

void Link::changed(uint32_t side) {
  for (Connection& c : connections_) {
    if (c.ends[side].over) continue;
    c.ends[side].session->pump(hosts_[side]->now());
    move(c, side);
  }
}

void Link::resync(uint32_t side) {
  for (Connection& c : connections_) {
    if (c.ends[side].over) continue;
    c.ends[side].session->close(Reason::kResync);
    move(c, side);
  }
}

void Link::move() {
  for (Connection& c : connections_) {
    for (uint32_t side = 0; side < 2; ++side) move(c, side);
  }
}

void Link::close(Connection& c, uint32_t side) {
  End& end = c.ends[side];
  end.over = true;
  end.session->close(Reason::kCut);
  end.session.reset();
  end.inbound.clear();
  if (!c.lost && !c.ends[1 - side].over && !c.ends[1 - side].end_at)
    c.ends[1 - side].end_at = time_.now() + latency();
}

// Starts what can be started: reading unless the session holds back, writing what it has.
void Link::move(Connection& c, uint32_t side) {
  End& end = c.ends[side];
  while (!end.over) {
    if (end.session->state() == Session::State::kClosed && !end.closed_at)
      end.closed_at = time_.now();
    if (write(c, side)) continue;
    if (end.closed_at && (!end.writing || time_.now() - *end.closed_at >= kByeTimeMax))
      return close(c, side);
    if (read(c, side)) continue;
    if (end.end_at && *end.end_at <= time_.now() && (end.inbound.empty() || c.lost))
      return close(c, side);
    return;
  }
}

bool Link::write(Connection& c, uint32_t side) {
  End& end = c.ends[side];
  if (end.writing && c.ends[1 - side].inbound_bytes <= kWindowBytes) {
    end.writing = false;
    end.session->pump(hosts_[side]->now());
    return true;
  }
  if (end.writing || !end.session->has_output()) return false;
  end.writing = true;
  send(c, side, end.session->take_output());
  return true;
}

void Link::send(Connection& c, uint32_t from, std::vector<uint8_t> bytes) {
  End& to = c.ends[1 - from];
  to.inbound_bytes += bytes.size();
  if (c.lost || to.over) return;  // nobody ever reads it
  std::size_t at = 0;
  while (at < bytes.size()) {
    std::size_t some = bytes.size() - at;
    if (some > 1 && chance(random_, 20)) some = 1 + random_.below(static_cast<uint32_t>(some - 1));
    Instant arrives = time_.now() + latency();
    if (!to.inbound.empty()) arrives = std::max(arrives, to.inbound.back().at);
    const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    to.inbound.push_back({arrives, {first, first + static_cast<std::ptrdiff_t>(some)}});
    at += some;
  }
}

bool Link::read(Connection& c, uint32_t side) {
  End& end = c.ends[side];
  if (!end.session->wants_input() || end.inbound.empty()) return false;
  if (end.inbound.front().at > time_.now() || stalled_until_[side] > time_.now()) return false;
  Piece& piece = end.inbound.front();
  const std::size_t some = std::min<std::size_t>(piece.bytes.size(), kReadBytes);
  const std::vector<uint8_t> bytes(piece.bytes.begin(),
                                   piece.bytes.begin() + static_cast<std::ptrdiff_t>(some));
  if (some == piece.bytes.size()) {
    end.inbound.pop_front();
  } else {
    piece.bytes.erase(piece.bytes.begin(), piece.bytes.begin() + static_cast<std::ptrdiff_t>(some));
  }
  end.inbound_bytes -= some;
  end.session->receive(bytes, hosts_[side]->now());
  return true;
}

}  // namespace limpet::sim
