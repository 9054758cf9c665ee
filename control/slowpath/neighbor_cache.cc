#include "control/slowpath/neighbor_cache.h"

#include <algorithm>
#include <iterator>

#include "common/base/limits.h"

namespace limpet::slowpath {

using packet::DropReason;
using timing::Instant;

std::string_view to_string(NeighborState state) {
  switch (state) {
    case NeighborState::kIncomplete:
      return "INCOMPLETE";
    case NeighborState::kReachable:
      return "REACHABLE";
    case NeighborState::kStale:
      return "STALE";
    case NeighborState::kProbe:
      return "PROBE";
    case NeighborState::kUnreachable:
      return "UNREACHABLE";
    case NeighborState::kStatic:
      return "STATIC";
  }
  return "";
}

NeighborCache::~NeighborCache() {
  for (auto& [key, e] : entries_) {
    for (packet::Buffer* frame : e.frames) packet::release(frame);
  }
}

// What the outside asks for.

bool NeighborCache::add_static(const NeighborKey& key, const net::Mac& mac) {
  Entry* e = find(key);
  if (e == nullptr) e = make(key, {});
  if (e == nullptr) return false;
  if (e->state != NeighborState::kStatic && !e->pinned) unpinned_.erase(e->place);
  e->state = NeighborState::kStatic;
  if (e->mac != mac) e->told = false;
  e->mac = mac;
  schedule(*e, Instant::never());
  tell(*e);
  send_waiting(*e);
  return true;
}

void NeighborCache::pin(std::vector<NeighborKey> wanted, Instant now) {
  const std::vector<NeighborKey> before = std::exchange(pins_, std::move(wanted));
  std::vector<NeighborKey> changed;
  std::ranges::set_difference(before, pins_, std::back_inserter(changed));
  for (const NeighborKey& key : changed) {
    if (Entry* e = find(key)) set_pinned(*e, false, now);
  }
  changed.clear();
  std::ranges::set_difference(pins_, before, std::back_inserter(changed));
  for (const NeighborKey& key : changed) {
    if (Entry* e = find(key)) {
      set_pinned(*e, true, now);
    } else if (Entry* made = make(key, now)) {  // sees itself in pins_
      schedule(*made, now);
    }
  }
}

void NeighborCache::send(packet::Buffer* frame, Instant now) {
  const packet::Meta& m = packet::meta(frame);
  const NeighborKey key{m.port, m.next_hop};
  Entry* e = find(key);
  if (e == nullptr) {
    e = make(key, now);
    if (e == nullptr) return drop(frame, DropReason::kNoNeighbor);
    queue(*e, frame);
    return start_round(*e, NeighborState::kIncomplete, now);
  }
  touch(*e, now);
  switch (e->state) {
    case NeighborState::kIncomplete:
      return queue(*e, frame);
    case NeighborState::kUnreachable:
      queue(*e, frame);
      return start_round(*e, NeighborState::kIncomplete, now);
    case NeighborState::kStale:
      transmit(*e, frame);
      return start_round(*e, NeighborState::kProbe, now);
    case NeighborState::kReachable:
    case NeighborState::kProbe:
    case NeighborState::kStatic:
      return transmit(*e, frame);
  }
}

// RFC 4861 7.2.5, with two differences: an ARP statement counts as one that overrides, and a
// neighbour in use that has to be confirmed is asked at once instead of after five seconds.
void NeighborCache::learn(uint8_t port, const NeighborMessage& statement, Instant now) {
  Entry* e = find({port, statement.sender});
  if (e == nullptr) {
    ++counters_.unsolicited;
    return;
  }
  const net::Mac& mac = statement.sender_mac;
  if (e->state == NeighborState::kStatic) {
    if (!mac.is_zero() && mac != e->mac) ++counters_.static_spoofs;
    return;
  }
  const bool awaited = e->tries > 0 && e->state != NeighborState::kReachable;
  const bool known = e->state == NeighborState::kReachable || e->state == NeighborState::kProbe ||
                     e->state == NeighborState::kStale;
  if (mac.is_zero()) {  // only who has the MAC already leaves the option out
    if (known && awaited && statement.is_solicited) set_reachable(*e, now);
    return;
  }
  const bool changed = !known || mac != e->mac;
  if (known && changed && !statement.overrides) {
    if (e->state == NeighborState::kReachable) start_round(*e, NeighborState::kProbe, now);
    return;
  }
  if (changed) {
    e->mac = mac;
    e->told = false;
  }
  if (statement.is_solicited && awaited) {
    set_reachable(*e, now);
  } else if (changed) {
    set_suspect(*e, now);
  }
}

void NeighborCache::learn_asker(const NeighborKey& asker, const net::Mac& mac, Instant now) {
  if (Entry* e = find(asker)) {
    touch(*e, now);
    return learn(asker.port, {.overrides = true, .sender = asker.address, .sender_mac = mac}, now);
  }
  if (!ports_.on_link(asker.port, asker.address)) return;  // could never be a next hop
  Entry* made = make(asker, now);
  if (made == nullptr) return;
  made->mac = mac;
  set_suspect(*made, now);
}

void NeighborCache::tick(Instant now) {
  for (uint32_t i = 0; i < kActionsPerTick && !due_.empty(); ++i) {
    const auto [at, key] = *due_.begin();
    if (at > now || !act(*find(key), now)) return;
  }
}

Instant NeighborCache::next_deadline() const {
  if (due_.empty()) return Instant::never();
  // Whoever is due will nearly always ask, which has to wait for the pacer.
  return std::max(due_.begin()->first, pacer_.ready_at());
}

std::vector<NeighborView> NeighborCache::list() const {
  std::vector<NeighborView> views;
  views.reserve(entries_.size());
  for (const auto& [key, e] : entries_) {
    const bool known =
        e.state != NeighborState::kIncomplete && e.state != NeighborState::kUnreachable;
    views.push_back({.port = key.port,
                     .address = key.address,
                     .mac = known ? e.mac : net::Mac{},
                     .state = e.state});
  }
  return views;
}

// The table.

NeighborCache::Entry* NeighborCache::find(const NeighborKey& key) {
  const auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : &it->second;
}

NeighborCache::Entry* NeighborCache::make(const NeighborKey& key, Instant now) {
  if (entries_.size() == base::kNeighborsMax) {
    if (unpinned_.empty()) {
      ++counters_.refused;
      return nullptr;
    }
    ++counters_.evicted;
    erase(*unpinned_.front());
  }
  Entry& e = entries_[key];
  e.key = key;
  e.used = now;
  e.pinned = std::ranges::binary_search(pins_, key);
  if (!e.pinned) e.place = unpinned_.insert(unpinned_.end(), &e);
  return &e;
}

void NeighborCache::erase(Entry& e) {
  drop_waiting(e);
  withdraw(e);
  schedule(e, Instant::never());
  if (!e.pinned) unpinned_.erase(e.place);
  entries_.erase(e.key);
}

void NeighborCache::touch(Entry& e, Instant now) {
  e.used = now;
  if (e.pinned || e.state == NeighborState::kStatic) return;
  unpinned_.splice(unpinned_.end(), unpinned_, e.place);
  if (e.state == NeighborState::kStale) schedule(e, now + kIdleTimeout);
}

void NeighborCache::schedule(Entry& e, Instant due) {
  if (e.due != Instant::never()) due_.erase({e.due, e.key});
  e.due = due;
  if (due != Instant::never()) due_.emplace(due, e.key);
}

void NeighborCache::set_pinned(Entry& e, bool pinned, Instant now) {
  if (e.state == NeighborState::kStatic || e.pinned == pinned) return;
  e.pinned = pinned;
  e.used = now;
  if (pinned) {
    unpinned_.erase(e.place);
    if (e.state != NeighborState::kStale) return;
    // Asked, and told to the workers, at the next tick: there may be thousands.
    e.state = NeighborState::kProbe;
    e.tries = 0;
    return schedule(e, now);
  }
  e.place = unpinned_.insert(unpinned_.end(), &e);
  if (e.state == NeighborState::kUnreachable) erase(e);
}

// The state machine.

// What is due at a neighbour. False when it has to wait for the pacer; it is then still due.
bool NeighborCache::act(Entry& e, Instant now) {
  switch (e.state) {
    case NeighborState::kReachable:
      if (!e.pinned && now - e.used >= kUseAssumed) {
        withdraw(e);
        e.state = NeighborState::kStale;
        schedule(e, e.used + kIdleTimeout);
        return true;
      }
      e.state = NeighborState::kProbe;
      e.tries = 0;
      [[fallthrough]];
    case NeighborState::kIncomplete:
    case NeighborState::kProbe:
      if (e.tries == kTries) {
        give_up(e);
        return true;
      }
      if (e.state == NeighborState::kProbe) tell(e);
      if (!ask(e, now)) return false;
      schedule(e, now + kRetryInterval);
      return true;
    case NeighborState::kUnreachable:
      if (!ask(e, now)) return false;
      schedule(e, now + kSlowRetryInterval);
      return true;
    case NeighborState::kStale:
      erase(e);
      return true;
    case NeighborState::kStatic:
      schedule(e, Instant::never());
      return true;
  }
  return true;
}

// Asks the neighbour alone when its MAC is known, everybody when it is not.
bool NeighborCache::ask(Entry& e, Instant now) {
  if (!pacer_.take(now)) return false;
  e.asked = now;
  if (e.tries < kTries) ++e.tries;
  packet::Buffer* frame = link_.allocate();
  if (frame == nullptr) {
    link_.drop(DropReason::kNoBuffers);
    return true;
  }
  write_question(frame, ports_.egress(e.key.port),
                 {.source = ports_.source_for(e.key.port, e.key.address),
                  .target = e.key.address,
                  .mac = e.state == NeighborState::kProbe ? e.mac : net::Mac{}});
  ++counters_.questions;
  link_.transmit(frame);
  return true;
}

// A new round of questions; the first at once, but never within a second of the last one.
void NeighborCache::start_round(Entry& e, NeighborState state, Instant now) {
  e.state = state;
  e.tries = 0;
  if (state == NeighborState::kProbe) tell(e);
  schedule(e, std::max(now, e.asked + kRetryInterval));
  if (e.due <= now) act(e, now);
}

void NeighborCache::give_up(Entry& e) {
  ++counters_.failed;
  drop_waiting(e);
  withdraw(e);
  if (!e.pinned) return erase(e);
  e.state = NeighborState::kUnreachable;
  schedule(e, e.asked + kSlowRetryInterval);
}

void NeighborCache::set_reachable(Entry& e, Instant now) {
  if (e.state != NeighborState::kReachable && e.state != NeighborState::kProbe) {
    ++counters_.resolved;
  }
  e.state = NeighborState::kReachable;
  e.tries = 0;
  Instant due = now + kReachableTime;
  if (!e.pinned) due = std::min(due, e.used + kUseAssumed);
  schedule(e, due);
  tell(e);
  send_waiting(e);
}

// The MAC is what somebody said unasked: used if it is needed, but asked for.
void NeighborCache::set_suspect(Entry& e, Instant now) {
  const bool in_use = e.pinned || !e.frames.empty() || e.state == NeighborState::kReachable ||
                      e.state == NeighborState::kProbe;
  if (!in_use) {
    e.state = NeighborState::kStale;
    e.tries = 0;
    return schedule(e, e.used + kIdleTimeout);
  }
  send_waiting(e);
  start_round(e, NeighborState::kProbe, now);
}

// Workers.

void NeighborCache::tell(Entry& e) {
  if (e.told) return;
  e.told = true;
  link_.neighbor({.port = e.key.port, .address = e.key.address, .mac = e.mac, .valid = true});
}

void NeighborCache::withdraw(Entry& e) {
  if (!e.told) return;
  e.told = false;
  link_.neighbor({.port = e.key.port, .address = e.key.address, .mac = {}, .valid = false});
}

// Frames.

// When a neighbour's queue is full the oldest goes (RFC 4861 7.2.2): what is newer matters more.
void NeighborCache::queue(Entry& e, packet::Buffer* frame) {
  if (e.frames.size() == kFramesPerNeighbor) {
    drop(e.frames.front(), DropReason::kNeighborQueueFull);
    e.frames.erase(e.frames.begin());
    --frames_waiting_;
  }
  if (frames_waiting_ == kFramesMax) return drop(frame, DropReason::kNeighborQueueFull);
  e.frames.push_back(frame);
  ++frames_waiting_;
}

void NeighborCache::transmit(const Entry& e, packet::Buffer* frame) {
  if (!packet::write_ethernet(frame, ports_.egress(e.key.port), e.mac))
    return drop(frame, DropReason::kNoBuffers);
  link_.transmit(frame);
}

void NeighborCache::send_waiting(Entry& e) {
  frames_waiting_ -= e.frames.size();
  for (packet::Buffer* frame : e.frames) transmit(e, frame);
  e.frames.clear();
}

void NeighborCache::drop_waiting(Entry& e) {
  frames_waiting_ -= e.frames.size();
  for (packet::Buffer* frame : e.frames) drop(frame, DropReason::kNoNeighbor);
  e.frames.clear();
}

void NeighborCache::drop(packet::Buffer* frame, DropReason reason) {
  packet::release(frame);
  link_.drop(reason);
}

}  // namespace limpet::slowpath
