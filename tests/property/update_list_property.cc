// The update list against a model that keeps, for each peer, the set of keys it is owed.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "common/base/random.h"
#include "control/mirroring/update_list.h"

namespace limpet::mirroring {
namespace {

using binding::Key;
using binding::Stamp;
using timing::Instant;

constexpr uint32_t kPeers = 3;
constexpr uint32_t kKeys = 6;
constexpr binding::ScopeId kScope{5};

Key key(uint32_t n) {
  return Key::of(net::Address::v4_host(n));
}

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) {
    for (uint32_t p = 0; p < kPeers; ++p) restart(p);
  }

  void step() {
    const uint32_t peer = random_.below(kPeers);
    switch (random_.below(10)) {
      case 0:
      case 1:
      case 2:
        return update(random_.below(kKeys));
      case 3:
        return remove(random_.below(kKeys));
      case 4:
      case 5:
        return send(peer);
      case 6:
        return acknowledge(peer);
      case 7:
        return reconnect(peer);
      case 8:
        return random_.below(4) == 0 ? restart(peer) : send(peer);
      default:
        lose(peer);
        return restart(peer);
    }
  }

  // Everything that is owed is sent, in order, and then nothing is owed.
  void finish() {
    for (uint32_t p = 0; p < kPeers; ++p) {
      while (send_one(p)) {
      }
      acknowledge(p);
      RC_ASSERT(peers_[p].owed.empty());
      RC_ASSERT(list_.lag(index(p), {}, 1000) == Lag{});
    }
  }

 private:
  struct Entry {
    uint64_t stamp = 0;
    Sequence sequence;
    std::set<uint32_t> sources;
  };
  struct Peer {
    uint8_t boot = 0;
    uint32_t session = 0;
    std::set<uint32_t> owed;                 // keys
    std::map<Sequence, uint32_t> in_flight;  // sequence → key
    Sequence received;
  };

  static PeerIndex index(uint32_t p) { return PeerIndex{static_cast<uint8_t>(p)}; }

  void relist(uint32_t n) { entries_[n].sequence = Sequence{++last_}; }

  void update(uint32_t n) {
    Update u{.scope = kScope, .key = key(n), .record = {.stamp = Stamp{++stamps_}}};
    u.told = static_cast<Told>(random_.below(3));
    const uint32_t from = random_.below(kPeers + 1);
    const bool foreign = from < kPeers;
    bool old = false;
    if (foreign) {
      old = random_.below(8) == 0;
      u.source = {index(from), SessionNumber{peers_[from].session - (old ? 1 : 0)}};
    }
    RC_ASSERT(list_.update(u, {}));
    Entry& e = entries_[n];
    e.stamp = stamps_;
    relist(n);
    if (u.told == Told::kAll || old) {
      for (Peer& p : peers_) p.owed.insert(n);
      e.sources.clear();
    } else if (foreign) {
      e.sources.insert(from);
      if (u.told == Told::kSender) peers_[from].owed.insert(n);
    }
  }

  void remove(uint32_t n) {
    list_.remove(kScope, key(n));
    entries_.erase(n);
    for (Peer& p : peers_) p.owed.erase(n);
  }

  bool send_one(uint32_t p) {
    Peer& peer = peers_[p];
    const auto next = list_.next(index(p), 1000);
    std::map<Sequence, uint32_t> expected;  // owed and not sent since it was listed
    for (const uint32_t n : peer.owed)
      if (!peer.in_flight.contains(entries_.at(n).sequence))
        expected.emplace(entries_.at(n).sequence, n);
    RC_ASSERT(next.news.has_value() == !expected.empty());
    if (!next.news) return false;
    const auto& binding = std::get<Binding>(*next.news);
    const auto [sequence, n] = *expected.begin();
    RC_ASSERT(binding.sequence == sequence);
    RC_ASSERT(binding.key == key(n));
    RC_ASSERT(binding.record.stamp.value == entries_.at(n).stamp);
    peer.in_flight.emplace(sequence, n);
    return true;
  }

  void send(uint32_t p) { send_one(p); }

  void confirm(uint32_t p, Sequence up_to) {
    Peer& peer = peers_[p];
    std::erase_if(peer.in_flight, [&](const auto& sent) {
      if (sent.first > up_to) return false;
      const auto entry = entries_.find(sent.second);
      if (entry != entries_.end() && entry->second.sequence == sent.first)
        peer.owed.erase(sent.second);
      return true;
    });
    peer.received = std::max(peer.received, up_to);
  }

  void acknowledge(uint32_t p) {
    Peer& peer = peers_[p];
    if (peer.in_flight.empty()) return;
    auto it = peer.in_flight.begin();
    std::advance(it, finishing_ ? peer.in_flight.size() - 1
                                : random_.below(static_cast<uint32_t>(peer.in_flight.size())));
    const Sequence up_to = it->first;
    RC_ASSERT(list_.acknowledge(index(p), up_to));
    confirm(p, up_to);
  }

  // Some of what is in flight was received, though its acknowledgement is lost with the link.
  void reconnect(uint32_t p) {
    Peer& peer = peers_[p];
    Sequence claimed = peer.received;
    if (!peer.in_flight.empty() && random_.below(2) == 0) claimed = peer.in_flight.begin()->first;
    lose(p);
    if (claimed.value == 0) return restart(p);
    confirm(p, claimed);
    peer.in_flight.clear();
    const auto begin = list_.begin(index(p), SessionNumber{++peer.session}, {{peer.boot}}, claimed);
    RC_ASSERT(begin.kind == SnapshotBegin::Kind::kResume);
    RC_ASSERT(begin.up_to.value == last_);
  }

  void restart(uint32_t p) {
    Peer& peer = peers_[p];
    peer = {.boot = static_cast<uint8_t>(peer.boot + 1 + 3 * p), .session = peer.session + 1};
    if (peer.boot == 0) peer.boot = 1;
    for (const auto& [n, entry] : entries_) peer.owed.insert(n);
    const auto begin =
        list_.begin(index(p), SessionNumber{peer.session}, {{peer.boot}}, peer.received);
    RC_ASSERT(begin.kind == SnapshotBegin::Kind::kFull);
  }

  void lose(uint32_t p) {
    list_.lost(index(p));
    for (bool more = true; more;) more = list_.work(1 + random_.below(3), {});
    // The list goes through its entries by place; the model learns the order from it.
    list_.for_each([&](binding::ScopeId, const Key* k, const binding::Record&) {
      for (auto& [n, entry] : entries_) {
        if (*k != key(n) || !entry.sources.contains(p)) continue;
        relist(n);
        for (uint32_t other = 0; other < kPeers; ++other)
          if (other != p || entry.sources.size() > 1) peers_[other].owed.insert(n);
        entry.sources.clear();
      }
    });
  }

 public:
  bool finishing_ = false;

 private:
  base::Random random_;
  base::KeyedHash hash_{random_};
  UpdateList list_{{.entries = kKeys, .tombstones = 0, .peers = kPeers},
                   hash_,
                   std::pmr::get_default_resource()};
  std::map<uint32_t, Entry> entries_;
  std::array<Peer, kPeers> peers_;
  uint64_t stamps_ = 0;
  uint64_t last_ = 0;
};

RC_GTEST_PROP(UpdateList, OwesEachPeerWhatTheModelOwes, ()) {
  Model model(*rc::gen::arbitrary<uint64_t>());
  const int steps = *rc::gen::inRange(1, 300);
  for (int i = 0; i < steps; ++i) model.step();
  model.finishing_ = true;
  model.finish();
}

}  // namespace
}  // namespace limpet::mirroring
