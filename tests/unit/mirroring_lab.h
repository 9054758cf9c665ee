// Engines for tests of mirroring, without a data plane: a toy home that merges as homes do, the
// list, and sessions joined by links in memory that delay, refuse and are cut anywhere.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "control/mirroring/session.h"

namespace limpet::mirroring {

inline binding::Key lab_key(uint32_t n) {
  return binding::Key::of(net::Address::v4_host(n));
}

// One engine's home cores in one: merges what arrives, tells the list.
class ToyHome final : public Home {
 public:
  using Place = std::pair<binding::ScopeId, binding::Key>;

  ToyHome(UpdateList& list, uint32_t node) : list_(list), clock_(node) {}

  bool deliver(const Arrival& arrival) override {
    if (full) return false;
    arrivals.push_back(arrival);
    clock_.observe(arrival.record.stamp, wall);
    clock_.observe(arrival.record.deleted, wall);
    clock_.observe(arrival.record.act, wall);
    arrival.whole_scope ? kill(arrival.scope, arrival.record.deleted, arrival.source)
                        : merge(arrival);
    return true;
  }

  void create(binding::ScopeId scope, uint32_t n, uint64_t server) {
    binding::Record& r = records[{scope, lab_key(n)}];
    if (r.live()) return move(scope, n, server);
    r.stamp = r.act = clock_.next(wall);
    r.epoch = 0;
    r.server = r.first = binding::ServerId{server};
    list({scope, lab_key(n)}, Told::kAll, {});
  }
  void move(binding::ScopeId scope, uint32_t n, uint64_t server) {
    const auto it = records.find({scope, lab_key(n)});
    if (it == records.end() || !it->second.live()) return;
    ++it->second.epoch;
    it->second.server = binding::ServerId{server};
    list(it->first, Told::kAll, {});
  }
  void touch(binding::ScopeId scope, uint32_t n, bool held) {
    const auto it = records.find({scope, lab_key(n)});
    if (it == records.end() || !it->second.live()) return;
    it->second.act = clock_.next(wall);
    it->second.held = held;
    list(it->first, Told::kAll, {});
  }
  void erase(binding::ScopeId scope, uint32_t n) {
    const auto it = records.find({scope, lab_key(n)});
    if (it == records.end() || !it->second.live()) return;
    it->second = without_binding(it->second);
    it->second.deleted = clock_.next(wall);
    list(it->first, Told::kAll, {});
  }
  void kill(binding::ScopeId scope) { kill(scope, clock_.next(wall), {}); }

  std::map<Place, binding::Record> records;
  std::map<binding::ScopeId, binding::Stamp> killed;
  std::vector<Arrival> arrivals;
  bool full = false;
  timing::WallTime wall{1'800'000'000'000'000'000};
  timing::Instant now;

 private:
  // Activity belongs to the key, whatever becomes of its binding.
  static binding::Record without_binding(const binding::Record& r) {
    return {.held = r.held, .deleted = r.deleted, .act = r.act};
  }

  binding::Stamp killed_up_to(binding::ScopeId scope) const {
    const auto it = killed.find(scope);
    return it == killed.end() ? binding::Stamp{} : it->second;
  }

  void list(const Place& place, Told told, const Source& source) {
    Update u{.scope = place.first, .key = place.second, .record = records.at(place)};
    u.act_at = now;
    u.told = told;
    u.source = source;
    LIMPET_ASSERT(list_.update(u, now));
  }

  void kill(binding::ScopeId scope, binding::Stamp deleted, const Source& source) {
    if (deleted <= killed_up_to(scope)) return;
    killed[scope] = deleted;
    LIMPET_ASSERT(list_.kill_scope(scope, deleted, source, now));
    for (auto it = records.begin(); it != records.end();) {
      binding::Record& r = it->second;
      if (it->first.first != scope || !r.live() || r.stamp > deleted) {
        // It stands beside a tombstone now: somebody may have lost it to one that was killed.
        if (it->first.first == scope && r.live()) list(it->first, Told::kAll, source);
        ++it;
        continue;
      }
      r = without_binding(r);
      if (r.deleted.value != 0) {
        list(it->first, Told::kAll, source);
        ++it;
      } else {
        list_.remove(it->first.first, it->first.second);
        it = records.erase(it);
      }
    }
  }

  void merge(const Arrival& arrival) {
    binding::Record theirs = arrival.record;
    const Place place{arrival.scope, arrival.key};
    // The sender's scope is told of the tombstone anyway.
    if (theirs.stamp <= killed_up_to(arrival.scope)) theirs = without_binding(theirs);
    const auto it = records.find(place);
    if (!theirs.live() && theirs.deleted.value == 0 && it == records.end()) return;
    const binding::Record known = it == records.end() ? binding::Record{} : it->second;
    const binding::Record merged = binding::merge(known, theirs);
    Told told = merged == arrival.record ? Told::kNobody : Told::kSender;
    const bool conflict = known.live() && theirs.live() && known.stamp != theirs.stamp;
    const bool beside_tombstone =
        merged.live() && (merged.deleted.value != 0 || killed_up_to(arrival.scope).value != 0);
    if (conflict || (beside_tombstone && merged != known)) told = Told::kAll;
    records[place] = merged;
    list(place, told, arrival.source);
  }

  UpdateList& list_;
  binding::StampClock clock_;
};

// An engine: peers are all others of the names given.
struct LabEngine {
  LabEngine(const std::vector<std::string>& names, uint32_t self, uint64_t seed)
      : random(seed),
        hash(random),
        list(
            {.entries = 4096, .tombstones = 1024, .peers = static_cast<uint32_t>(names.size() - 1)},
            hash, std::pmr::get_default_resource()),
        home(list, self) {
    engine.name = names[self];
    for (uint8_t& byte : engine.boot.bytes) byte = static_cast<uint8_t>(random.next() | 1);
    engine.table_limit = 4096;
    engine.list = &list;
    engine.home = &home;
    for (uint32_t i = 0; i < names.size(); ++i) {
      if (i == self) continue;
      engine.peers.push_back(
          {.index = PeerIndex{static_cast<uint8_t>(engine.peers.size())}, .name = names[i]});
    }
  }

  Peer& peer(const std::string& name) { return *engine.find(name); }

  base::Random random;
  base::KeyedHash hash;
  UpdateList list;
  ToyHome home;
  Engine engine;
  timing::Duration skew{};  // its clock against the lab's
};

// The connection of two engines, the first of which connects.
class LabLink {
 public:
  LabLink(LabEngine& caller, LabEngine& listener) : ends_{End{&caller}, End{&listener}} {}

  void connect(timing::Instant now) {
    cut();
    LabEngine& caller = *ends_[0].engine;
    ends_[0].session = std::make_unique<Session>(
        caller.engine, &caller.peer(ends_[1].engine->engine.name), now + caller.skew);
    ends_[1].session =
        std::make_unique<Session>(ends_[1].engine->engine, nullptr, now + ends_[1].engine->skew);
  }
  // Loses what is under way.
  void cut() {
    for (End& end : ends_) {
      if (end.session) end.session->close(Reason::kCut);
      end.session.reset();
      end.inbound.clear();
    }
  }
  bool is_up() const {
    return ends_[0].session && ends_[0].session->state() != Session::State::kClosed &&
           ends_[1].session->state() != Session::State::kClosed;
  }

  Session& caller() { return *ends_[0].session; }
  Session& listener() { return *ends_[1].session; }
  // Bytes under way to the listener, as they would be seen on the wire.
  std::vector<uint8_t>& to_listener() { return ends_[1].inbound; }

  // What is written is under way; at most `bytes` of it arrive at each end.
  void move(timing::Instant now, std::size_t bytes = SIZE_MAX) {
    if (!ends_[0].session) return;
    for (std::size_t i = 0; i < 2; ++i) {
      const auto out = ends_[i].session->take_output();
      auto& inbound = ends_[1 - i].inbound;
      inbound.insert(inbound.end(), out.begin(), out.end());
    }
    for (End& end : ends_) arrive(end, now + end.engine->skew, bytes);
  }
  void tick(timing::Instant now) {
    for (End& end : ends_)
      if (end.session) end.session->tick(now + end.engine->skew);
  }

 private:
  struct End {
    LabEngine* engine = nullptr;
    std::unique_ptr<Session> session;
    std::vector<uint8_t> inbound;
  };

  static void arrive(End& end, timing::Instant now, std::size_t bytes) {
    end.engine->home.now = now;
    while (bytes > 0 && !end.inbound.empty() && end.session->wants_input()) {
      const std::size_t some = std::min({bytes, end.inbound.size(), std::size_t{1000}});
      const std::vector<uint8_t> chunk(end.inbound.begin(),
                                       end.inbound.begin() + static_cast<std::ptrdiff_t>(some));
      end.inbound.erase(end.inbound.begin(),
                        end.inbound.begin() + static_cast<std::ptrdiff_t>(some));
      end.session->receive(chunk, now);
      bytes -= some;
    }
    end.session->pump(now);
  }

  std::array<End, 2> ends_;
};

}  // namespace limpet::mirroring
