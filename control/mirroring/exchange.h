// Exchange: what the control thread does between the homes of this engine and its peers. What homes
// say goes into the mirror and the update list; what peers say goes, unmerged, to the homes; what
// is about scopes that no document has named yet is kept until one does. It reads and fills the
// copy of the table on disk. No sockets and no clocks: the engine joins it with a Transport, a test
// or the simulator with sessions of its own.
//
// Owner: the control thread. Invariants
//  1. The mirror and the update list hold what homes said last, never what a peer sent. Only the
//     tombstones of whole scopes are put in the list here, whoever they come from.
//  2. What deliver() has taken is in the ring to its home, or waits in `unnamed_`, or was dropped
//     (counted): its scope is not mirrored, or there are limit + tombstones records there already.
//  3. A fence is sent behind all that was taken before, so also behind what waits for its scope's
//     homes.
//  4. What has to be told to homes and finds no room in their rings is tried again by tick().
//  5. A scope's tombstone is told to all peers again when homes have removed what it kills, and all
//     have acknowledged it: those who have forgotten it since may have heard of such a binding.
//  6. A scope that peers may have told us of while we could not keep it, is asked of them anew when
//     it can be kept (take_resync).
// Cost: O(1) for each Change and Arrival; tick() and slices of the walks are bounded. What is kept
// for unnamed scopes is on the heap, 160 bytes a record.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory_resource>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/binding/change.h"
#include "control/mirroring/mirror.h"
#include "control/mirroring/session.h"
#include "control/mirroring/update_list.h"

namespace limpet::mirroring {

// The rings to the homes.
class HomeRings {
 public:
  virtual ~HomeRings() = default;
  virtual uint32_t homes() const = 0;
  virtual uint32_t home_of(binding::ScopeSlot scope, const binding::Key& key) const = 0;
  // False: no room now.
  virtual bool send(uint32_t home, const binding::Merge& message) = 0;
};

// How long anything about a scope that no document ever named is kept: the longest timeout and
// update interval that a document may set.
inline constexpr timing::Duration kUnnamedKeep = timing::seconds(2'592'000) * 3 / 2;

struct ExchangeCounters {
  uint64_t not_mirrored = 0;          // news dropped: the scope is not mirrored here
  uint64_t unnamed_refused = 0;       // ... no document has named its scope, and there is no room
  uint64_t unnamed_expired = 0;       // ... and none did in time
  uint64_t tombstones_refused = 0;    // of whole scopes: the list has no room
  uint64_t unlisted = 0;              // what homes said and the list had no room for
  uint64_t disk_expired = 0;          // records on disk whose time was over
  uint64_t disk_restored = 0;         // ... that went on to their homes
  uint64_t tombstones_forgotten = 0;  // told to homes to be forgotten (again, until they say so)
};

class Exchange final : public Home {
 public:
  struct Options {
    uint32_t entries = 0;            // limits.persistence_entries
    uint32_t surplus = 0;            // Changes that may be in the homes' rings at once
    uint32_t peers = 0;              // configured; none: nothing is listed
    uint32_t node = 0;               // of the stamps made here; unique in the cluster
    timing::WallTime wall_origin{};  // what the wall clock showed at Instant zero
  };
  // A quarter of the table, and no fewer than the scopes of a small one: what administrators may
  // delete until peers have acknowledged it. Homes have room for as many.
  static uint32_t tombstones_of(const Options& o) { return std::max(o.entries / 4, 64u); }
  static UpdateList::Limits list_limits(const Options& o);
  // Of the memory that the constructor is given.
  static std::size_t bytes_for(const Options& o);

  Exchange(const Options& options, HomeRings& rings, const base::KeyedHash& hash,
           std::pmr::memory_resource* memory);

  struct Scope {
    binding::ScopeId id;
    binding::ScopeSlot slot;
    bool mirrored = true;
    timing::Duration keep;  // of tombstones after the last news: timeout and update interval
  };
  // The live scopes of the newest snapshot, and its version: before it is published, so that no
  // home can speak of a scope that is not known here. What waited for one of them goes to the
  // homes, in slices (tick). A slot may mean another scope when all news of the old one was read.
  void use(std::span<const Scope> scopes, uint64_t version, timing::Instant now);

  // What apply() will be called with: asks early for the memory that it looks at; some time later,
  // expect_soon() for what was found there.
  void expect(std::span<const binding::Change> changes) const;
  void expect_soon(std::span<const binding::Change> changes) const;
  // What a home said. True when the update list has changed.
  bool apply(const binding::Change& change, timing::Instant now);

  // Home: what a peer said, or (a source without peer) what was on disk. Of the latter the scopes
  // need not be mirrored.
  bool deliver(const Arrival& arrival) override;
  // What was on disk: as deliver(), unless its time is over.
  bool restore(const Arrival& arrival, timing::Instant now);

  // A bounded slice of what waits: unnamed scopes that were named, messages that found no room,
  // tombstones to be forgotten.
  void tick(timing::Instant now);

  // Whether peers have to tell us everything again: a scope is mirrored here from now on, and news
  // of it was dropped before. Once.
  bool take_resync() { return std::exchange(resync_, false); }

  // A fence: passed when every home has merged, and told of, all that was delivered before.
  uint32_t begin_fence();
  bool has_passed(uint32_t fence) const { return fences_.passed >= fence; }

  // Deleting all bindings of a scope, up to a stamp that is above all that its homes have made.
  // They are told by whoever calls. False: there is no room for the tombstone.
  bool kill_scope(binding::ScopeId scope, binding::Stamp up_to, timing::Instant now);
  // All homes have been told of kill_scope() with this stamp.
  void homes_know(binding::Stamp up_to);
  // Whether a scope's tombstone has to be told again.
  bool is_killing() const { return !killing_.empty(); }

  // A stamp above all that were seen here; and one that homes have to be above.
  binding::Stamp next_stamp(timing::Instant now);
  void observe(binding::Stamp seen);
  binding::Stamp latest_stamp() const { return latest_; }

  // Everything that has to survive a restart, in slices: visit(scope, key or null, record, act_at),
  // of a scope's tombstone `deleted` only. Bindings that come and go meanwhile may be missed: the
  // next walk has them. True when all has been seen.
  class Walk {
    friend class Exchange;
    using Place = std::pair<binding::ScopeId, binding::Key>;
    enum class Part : uint8_t { kMirror, kList, kUnnamed } part_ = Part::kMirror;
    uint32_t place_ = 0;
    std::optional<Place> after_;
  };
  template <class Visit>
  bool walk(Walk* walk, uint32_t budget, Visit&& visit) const;
  // +1 with everything that changes what a walk shows.
  uint64_t revision() const { return revision_; }

  const Mirror& mirror() const { return mirror_; }
  UpdateList& list() { return list_; }
  const UpdateList& list() const { return list_; }
  const ExchangeCounters& counters() const { return counters_; }
  uint32_t unnamed() const { return static_cast<uint32_t>(unnamed_.size()); }
  bool has_peers() const { return options_.peers > 0; }

 private:
  using Place = Walk::Place;
  static constexpr uint32_t kHandedOverPerTick = 1024;
  static constexpr uint32_t kTombstonesPerTick = 256;
  static constexpr uint32_t kRelistedPerTick = 4096;
  static constexpr uint32_t kAgedPerTick = 16;

  struct Known {
    binding::ScopeSlot slot;
    uint64_t version = 0;  // the latest that names it
    bool mirrored = false;
    timing::Duration keep{};
  };
  // What waits for a document to name its scope.
  struct Waiting {
    binding::Record record;
    timing::Instant act_at;
    Source source;     // of several peers: none, so that all will be told
    bool own = false;  // part of it was on disk
  };
  // Telling all homes one thing: those before `next` have been told.
  struct Telling {
    binding::ScopeId scope;
    binding::Stamp stamp;
    Source source;
    uint32_t next = 0;
  };
  // What homes remove because of a scope's tombstone. Until they have, they may tell peers of it.
  struct Killing {
    binding::ScopeId scope;
    binding::Stamp up_to;
    std::optional<uint32_t> fence;  // behind which it is done; none: not all have been told
  };

  // Null: the newest snapshot does not name it.
  const Known* find(binding::ScopeId scope) const;
  const binding::ScopeId* listed_scope(const binding::Change& change) const;
  bool waits(binding::ScopeId scope) const;
  bool is_listed(const Known& scope) const { return options_.peers > 0 && scope.mirrored; }
  timing::Duration keep_of(binding::ScopeId scope, const binding::Record& record) const;
  void apply_to_mirror(const binding::Change& change);
  void list(const binding::Change& change, binding::ScopeId scope);
  void observe_all(const binding::Record& record);
  bool send(const Known& scope, const Arrival& arrival);
  bool deliver_tombstone(const Known* scope, const Arrival& arrival);
  bool tell_all(Telling* telling, binding::Merge::Kind kind);
  void keep_unnamed(const Arrival& arrival);
  void miss(binding::ScopeId scope);
  void begin_relisting(bool rehoming);
  void hand_over();
  bool hand_over(binding::ScopeId scope, uint32_t* budget);
  void relist();
  bool relist_entry(uint32_t place);
  void relist_binding(uint32_t place);
  void age_unnamed();
  void begin_killing(const Killing& killing);
  bool is_killing(binding::ScopeId scope) const;
  void finish_killing();
  void forget_tombstones();
  void send_fences();

  const Options options_;
  HomeRings& rings_;
  Mirror mirror_;
  UpdateList list_;
  ExchangeCounters counters_;
  binding::StampClock clock_;
  binding::Stamp latest_;
  timing::Instant now_;

  uint64_t version_ = 0;
  using KnownScopes = std::unordered_map<binding::ScopeId, Known>;
  KnownScopes known_;
  mutable const KnownScopes::value_type* found_ = nullptr;  // by find(), the last
  std::vector<std::optional<binding::ScopeId>> slots_;      // the latest meaning of each

  std::map<Place, Waiting> unnamed_;
  std::optional<Place> aged_;             // the last that was looked at for its age
  std::deque<binding::ScopeId> named_;    // whose `unnamed_` and tombstones go to the homes now
  std::optional<Telling> named_telling_;  // the tombstone of named_.front()

  // By peer, then for the disk: a tombstone that some homes had no room for.
  std::array<std::optional<Telling>, kPeersMax + 1> telling_;
  std::optional<Telling> forgetting_;
  std::vector<Killing> killing_;
  // A scope began or ceased to be mirrored: what list and mirror have is looked through.
  bool relisting_ = false;
  // A scope has come (again): the list may have tombstones of its keys that homes do not. Until
  // they have been told, nothing that homes say makes the list forget one, and peers have to wait.
  bool rehoming_ = false;
  uint32_t relist_list_at_ = 0;
  uint32_t relist_mirror_at_ = 0;

  std::unordered_set<binding::ScopeId> missed_;  // scopes of which news was dropped
  bool missed_many_ = false;                     // more than can be remembered
  bool resync_ = false;

  // One is under way at a time; it is that of all who asked before it began.
  struct Fences {
    uint32_t wanted = 0;
    uint32_t under_way = 0;
    uint32_t passed = 0;
    uint32_t sent = 0;     // homes that it was sent to
    uint32_t answers = 0;  // homes that it came back from
  } fences_;
  uint64_t revision_ = 0;
};

template <class Visit>
bool Exchange::walk(Walk* walk, uint32_t budget, Visit&& visit) const {
  using Part = Walk::Part;
  uint32_t& place = walk->place_;
  if (walk->part_ == Part::kMirror) {
    for (; place < mirror_.places() && budget > 0; ++place, --budget) {
      const Mirror::Binding* b = mirror_.at(place);
      if (b == nullptr || !b->confirmed || b->scope.value >= slots_.size()) continue;
      if (const auto& scope = slots_[b->scope.value]) visit(*scope, &b->key, b->record, b->act_at);
    }
    if (place < mirror_.places()) return false;
    walk->part_ = Part::kList;
    place = 0;
  }
  if (walk->part_ == Part::kList) {
    for (; place < list_.places() && budget > 0; ++place, --budget) {
      list_.visit_place(place, [&](auto scope, const binding::Key* key, const binding::Record& r,
                                   timing::Instant act_at) {
        if (!r.live()) visit(scope, key, r, act_at);
      });
    }
    if (place < list_.places()) return false;
    walk->part_ = Part::kUnnamed;
  }
  auto it = walk->after_ ? unnamed_.upper_bound(*walk->after_) : unnamed_.begin();
  for (; it != unnamed_.end() && budget > 0; ++it, --budget) {
    visit(it->first.first, &it->first.second, it->second.record, it->second.act_at);
    walk->after_ = it->first;
  }
  return it == unnamed_.end();
}

}  // namespace limpet::mirroring
