// Engines that elect owners over links in memory: sessions that open, take their snapshot and
// break, datagrams that are lost, processes that crash, stand still and return. One clock, one
// seed.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "control/failover/election.h"

namespace limpet::failover {

using timing::Duration;
using timing::Instant;
using timing::milliseconds;
using timing::seconds;

inline constexpr Duration kLabStep = milliseconds(5);

inline Group lab_group(uint64_t id, std::vector<std::string> engines, bool preempt = false) {
  return {.id = GroupId{id},
          .name = "g" + std::to_string(id),
          .engines = std::move(engines),
          .preempt = preempt};
}

inline BootId lab_boot(uint64_t n) {
  BootId boot;
  for (std::size_t i = 0; i < 8; ++i) boot.bytes[i] = static_cast<uint8_t>(n >> (8 * i));
  boot.bytes[15] = 1;
  return boot;
}

// A cluster of engines "a", "b", …; all are peers of one another.
class Cluster {
 public:
  struct Engine {
    std::unique_ptr<Election> election;  // null: not running
    uint64_t boots = 0;
    Instant paused_until;
    std::deque<std::pair<Instant, uint32_t>> fences;  // when they pass
    std::optional<std::pair<Instant, std::vector<GroupId>>> applying;
    std::vector<GroupId> in_force;
    std::vector<Election::Event> events;
    uint32_t announced = 0;
    std::set<std::size_t> addresses;  // of the peers whose addresses it knows
  };
  struct Link {
    bool session = true;  // whether packets pass
    bool data = true;
    uint32_t loss_percent = 0;  // of data
    bool open = false;          // a session
    Instant opened_at;
    Instant heard_at;                 // by either end
    Duration snapshot_after[2] = {};  // at the end with the lower index, at the other
    Instant retry_at;
    Duration backoff = milliseconds(100);
  };

  Cluster(std::size_t engines, std::vector<Group> of, uint64_t seed)
      : groups(std::move(of)), random_(seed), engines_(engines) {
    for (std::size_t a = 0; a < engines; ++a) {
      for (std::size_t b = a + 1; b < engines; ++b) links_[{a, b}] = {};
    }
  }

  static std::string name(std::size_t engine) {
    return std::string(1, static_cast<char>('a' + engine));
  }
  std::size_t size() const { return engines_.size(); }
  Engine& at(std::size_t engine) { return engines_[engine]; }
  Link& link(std::size_t a, std::size_t b) { return links_.at(std::minmax(a, b)); }
  bool runs(std::size_t e) const { return engines_[e].election != nullptr; }
  bool paused(std::size_t e) const { return engines_[e].paused_until > now; }

  // Which peer index an engine has for another.
  static std::size_t index(std::size_t of, std::size_t peer) { return peer < of ? peer : peer - 1; }

  void start(std::size_t e) {
    Engine& engine = engines_[e];
    Election::Options options{.name = name(e), .boot = lab_boot(100 * (e + 1) + ++engine.boots)};
    for (std::size_t p = 0; p < size(); ++p) {
      if (p != e) options.peers.push_back(name(p));
    }
    engine.election = std::make_unique<Election>(options, now);
    engine.election->configure(groups, now);
    engine.addresses.clear();
  }
  void crash(std::size_t e) {
    const uint64_t boots = engines_[e].boots;
    engines_[e] = {.boots = boots};
    for (auto& [ends, link] : links_) {
      if (ends.first == e || ends.second == e) close(link);
    }
    std::erase_if(wire_, [&](const Message& m) { return m.from == e && m.path == Path::kSession; });
  }
  void pause(std::size_t e, Duration time) { engines_[e].paused_until = now + time; }

  void run(Duration time) {
    for (const Instant end = now + time; now < end;) turn();
  }
  void turn() {
    now = now + kLabStep;
    for (auto& [ends, link] : links_) turn_link(ends.first, ends.second, link);
    deliver();
    for (std::size_t e = 0; e < size(); ++e) {
      if (runs(e) && !paused(e)) turn_engine(e);
    }
  }

  // Who says that it owns the group.
  std::vector<std::size_t> owners(GroupId group) const {
    std::vector<std::size_t> out;
    for (std::size_t e = 0; e < size(); ++e) {
      if (runs(e) && state(e, group) == State::kOwner) out.push_back(e);
    }
    return out;
  }
  // Whose workers serve it.
  std::vector<std::size_t> serving(GroupId group) const {
    std::vector<std::size_t> out;
    for (std::size_t e = 0; e < size(); ++e) {
      if (runs(e) && std::ranges::binary_search(engines_[e].in_force, group)) out.push_back(e);
    }
    return out;
  }
  State state(std::size_t e, GroupId group) const {
    for (const GroupView& view : engines_[e].election->view()) {
      if (view.id == group) return view.state;
    }
    return State::kStandby;
  }
  std::string owner_seen_by(std::size_t e, GroupId group) const {
    for (const GroupView& view : engines_[e].election->view()) {
      if (view.id == group) return view.owner;
    }
    return "";
  }

  std::vector<Group> groups;
  Instant now{1'000'000'000};
  Duration fence_time = milliseconds(5);
  Duration publish_time = milliseconds(5);

 private:
  struct Message {
    Instant at;
    std::size_t from;
    std::size_t to;
    Path path;
    Beat beat;
  };

  void close(Link& link) {
    if (!link.open) return;
    link.open = false;
    link.retry_at = now + link.backoff;
  }

  void turn_link(std::size_t a, std::size_t b, Link& link) {
    const bool both = runs(a) && runs(b);
    const bool stopped = paused(a) || paused(b);
    if (!link.open) {
      if (now < link.retry_at) return;
      if (!both || stopped || !link.session) {
        link.backoff = std::min<Duration>(2 * link.backoff, seconds(1));
        link.retry_at = now + link.backoff;
        return;
      }
      link.open = true;
      link.opened_at = link.heard_at = now;
      link.backoff = milliseconds(100);
      for (Duration& after : link.snapshot_after) after = milliseconds(5 + random_.below(200));
      at(a).addresses.insert(b);
      at(b).addresses.insert(a);
      return;
    }
    if (link.session && !stopped) link.heard_at = now;
    // Silent: each end gives it up.
    if (now - link.heard_at > milliseconds(500)) close(link);
  }

  void deliver() {
    std::vector<Message> due;
    std::erase_if(wire_, [&](Message& m) {
      if (m.at > now) return false;
      due.push_back(std::move(m));
      return true;
    });
    for (Message& m : due) {
      if (!runs(m.to)) continue;
      if (paused(m.to)) {
        m.at = now + kLabStep;  // its sockets hold it
        wire_.push_back(std::move(m));
        continue;
      }
      if (m.path == Path::kData) at(m.to).addresses.insert(m.from);
      at(m.to).election->hear(m.beat, m.path, now);
    }
  }

  void turn_engine(std::size_t e) {
    Engine& engine = engines_[e];
    Election& election = *engine.election;
    for (std::size_t p = 0; p < size(); ++p) {
      if (p != e) election.observe(index(e, p), view_of(e, p), now);
    }
    std::erase_if(engine.fences, [&](const auto& fence) {
      if (fence.first <= now) election.fence_passed(fence.second);
      return fence.first <= now;
    });
    if (engine.applying && engine.applying->first <= now) {
      engine.in_force = std::move(engine.applying->second);
      engine.applying.reset();
    }
    if (!engine.applying) election.applied(engine.in_force, now);
    Election::Step step = election.step(now);
    if (step.fence) engine.fences.push_back({now + fence_time, *step.fence});
    if (!engine.applying && election.wanted() != engine.in_force)
      engine.applying = {now + publish_time, election.wanted()};
    if (step.announce) ++engine.announced;
    for (auto& event : step.events) engine.events.push_back(std::move(event));
    if (!step.beat) return;
    for (std::size_t p = 0; p < size(); ++p) {
      if (p != e) send(e, p);
    }
  }

  SessionView view_of(std::size_t e, std::size_t peer) {
    const Link& link = links_.at(std::minmax(e, peer));
    if (!link.open || !runs(peer)) return {};
    return {.open = true,
            .heard_at = link.heard_at,
            .boot = lab_boot(100 * (peer + 1) + engines_[peer].boots),
            .has_snapshot = now - link.opened_at >= link.snapshot_after[e < peer ? 0 : 1]};
  }

  void send(std::size_t from, std::size_t to) {
    const Beat beat = at(from).election->beat(index(from, to), now);
    std::vector<uint8_t> bytes;
    encode(beat, &bytes);
    const auto read = decode(bytes);
    LIMPET_ASSERT(read && *read == beat);
    const Link& link = links_.at(std::minmax(from, to));
    const Instant arrival = now + milliseconds(random_.below(3));
    if (link.open && link.session) wire_.push_back({arrival, from, to, Path::kSession, beat});
    const bool lost = !link.data || random_.below(100) < link.loss_percent;
    if (at(from).addresses.contains(to) && !lost)
      wire_.push_back({arrival, from, to, Path::kData, beat});
  }

  base::Random random_;
  std::vector<Engine> engines_;
  std::map<std::pair<std::size_t, std::size_t>, Link> links_;
  std::vector<Message> wire_;
};

}  // namespace limpet::failover
