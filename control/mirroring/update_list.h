// UpdateList: what is to be told to the peers: one entry for each (scope, key) that they may know
// of and for each scope with a tombstone, in the order of a local sequence. An entry that changes
// moves to the tail; so memory is bounded by the tables, and what changes often is sent once to
// those who are slow. README.md, "The update list", has the rules and the reasons.
//
// Owner: the control thread. It holds what the homes said last (with Mirror), never what a peer
// sent. Invariants
//  1. Sequences rise along the list; a peer's cursors stand on entries, or at the end.
//  2. A peer is due an entry when its target bit is set or the entry lies within the peer's full
//     resync. What is due and not acknowledged stays due when the entry moves.
//  3. A tombstone is due to every peer from when it was raised; so "nobody is due it" means that
//     all have acknowledged it.
//  4. `sources` of an entry: peers whose news is in it and that we have not told to all.
// Cost: 136 bytes an entry and 16 of index; two cache lines and one. Every operation is
// O(1) in the number of entries and O(peers); walks over entries that a peer is not due are cut
// into slices by a budget.
//
// Why not a queue a peer: memory would grow with peers times changes. Why not the latest source
// alone: two peers' news may meet in one entry, and that of the first would die with it.
#pragma once

#include <algorithm>
#include <array>
#include <memory_resource>
#include <optional>
#include <variant>
#include <vector>

#include "common/base/hash_index.h"
#include "common/base/keyed_hash.h"
#include "common/base/limits.h"
#include "common/base/prefetch.h"
#include "control/mirroring/frame.h"

namespace limpet::mirroring {

inline constexpr uint32_t kPeersMax = base::kPeersMax;

using binding::kNoPeer;
using binding::PeerIndex;  // 0 .. peers - 1
using binding::SessionNumber;
using binding::Source;
using binding::Told;

struct Update {
  binding::ScopeId scope;
  binding::Key key;
  binding::Record record;  // what home has now
  timing::Instant act_at;  // when record.act was, by our clock
  Told told = Told::kAll;
  Source source;
};

// What is sent to a peer.
using News = std::variant<Binding, ScopeTombstone>;

class UpdateList {
 public:
  struct Limits {
    uint32_t entries = 0;     // bindings and husks
    uint32_t tombstones = 0;  // of keys and scopes
    uint32_t peers = 0;       // configured; at most kPeersMax
  };

  UpdateList(const Limits& limits, const base::KeyedHash& hash, std::pmr::memory_resource* memory);
  UpdateList(const UpdateList&) = delete;
  UpdateList& operator=(const UpdateList&) = delete;
  static std::size_t bytes_for(const Limits& limits);

  // Update() of many keys: asks early for the memory that it will look at. First the index for all
  // of them, then the entries.
  void prefetch_index(binding::ScopeId scope, const binding::Key& key) const {
    index_.prefetch(hash_of(scope, key, false));
  }
  void prefetch_entry(binding::ScopeId scope, const binding::Key& key) const {
    const uint32_t place = index_.candidate(hash_of(scope, key, false));
    if (place != kNone) prefetch(place);
  }

  // Home's latest of a key. A record without stamp and tombstone removes the key. False: there is
  // no room for another entry; nothing has changed.
  bool update(const Update& update, timing::Instant now);
  // The binding has ended (expiry, eviction); peers find that out themselves.
  void remove(binding::ScopeId scope, const binding::Key& key);
  // A tombstone for all bindings of a scope; false: no room. An older one than is known is nothing.
  bool kill_scope(binding::ScopeId scope, binding::Stamp deleted, const Source& source,
                  timing::Instant now);
  // Tells everyone the scope's tombstone again, if it still has this stamp. False: somebody has not
  // acknowledged it yet; what was made beside it must not overtake it.
  bool repeat_scope(binding::ScopeId scope, binding::Stamp deleted, timing::Instant now);
  // Forgets the scope's tombstone if it still has this stamp.
  void forget_scope(binding::ScopeId scope, binding::Stamp deleted);

  const binding::Record* find(binding::ScopeId scope, const binding::Key& key) const;
  struct Known {
    binding::Record record;
    timing::Instant act_at;
  };
  std::optional<Known> entry(binding::ScopeId scope, const binding::Key& key) const;
  binding::Stamp killed_up_to(binding::ScopeId scope) const;
  uint32_t size() const { return index_.size(); }
  uint32_t tombstones() const { return static_cast<uint32_t>(tombstones_.size()); }
  bool room_for_tombstones(uint32_t count) const {
    return count <= limits_.tombstones && tombstones() <= limits_.tombstones - count;
  }
  // A peer whose acknowledgement tombstones wait for.
  std::optional<PeerIndex> tombstone_waits_for() const;
  Sequence last() const { return last_; }

  // A session with the peer begins: from where it has to be told. `boot` is the peer's, `claimed`
  // the position in this list of this run that it says it has (0: none).
  SnapshotBegin begin(PeerIndex peer, SessionNumber session, const BootId& boot, Sequence claimed);
  // It has ended: what came over it has to be told to the others (by work()), and what it had not
  // acknowledged will be sent again.
  void lost(PeerIndex peer);
  // One slice of telling the others what lost peers had told; true: there is more.
  bool work(uint32_t budget, timing::Instant now);

  struct Next {
    std::optional<News> news;
    bool more = false;  // without news: the budget ran out before the end of the list
  };
  // The next that the peer is due. Looks at no more than `budget` entries.
  Next next(PeerIndex peer, uint32_t budget);
  // Whether the peer's cursor is behind this sequence, so that all up to it was sent.
  bool passed(PeerIndex peer, Sequence sequence) const;
  // The peer was told that this is the end of a snapshot; it may acknowledge it.
  void snapshot_sent(PeerIndex peer, Sequence up_to);
  // False: acknowledges what was never sent.
  bool acknowledge(PeerIndex peer, Sequence sequence);
  Sequence acknowledged(PeerIndex peer) const { return at(peer).acked; }
  Sequence sent(PeerIndex peer) const { return at(peer).sent; }

  // What the peer is due and has not acknowledged, and how old the oldest of it is. Settles, so may
  // be too high for as many calls as the budget makes of the list.
  Lag lag(PeerIndex peer, timing::Instant now, uint32_t budget);

  // Looks at `budget` tombstones in turn; calls forget(scope, key or null, stamp) for those that
  // may be forgotten: acknowledged by all configured peers, and keep(scope) has passed since that
  // was first seen and since the last news. The list keeps them until update(), remove() or
  // forget_scope() says otherwise.
  template <class Keep, class Forget>
  void visit_tombstones(uint32_t budget, timing::Instant now, Keep&& keep, Forget&& forget);

  // Every entry, in the order of the list: visit(scope, key or null, record).
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (uint32_t i = head_; i != kNone; i = entries_[i].next)
      visit(entries_[i].scope, entries_[i].whole_scope ? nullptr : &entries_[i].key,
            entries_[i].record);
  }

  // Walks in slices: visit(scope, key or null, record, act_at) of a place in [0, places()), unless
  // it is free. An entry keeps its place while it lives.
  uint32_t places() const { return high_water_; }
  template <class Visit>
  void visit_place(uint32_t place, Visit&& visit) const {
    const Entry& e = entries_[place];
    if (e.used()) visit(e.scope, e.whole_scope ? nullptr : &e.key, e.record, e.act_at);
  }

 private:
  static constexpr uint32_t kNone = base::HashIndex::kNone;
  using Mask = uint16_t;  // a bit a peer
  static_assert(kPeersMax <= 16);

  struct alignas(64) Entry {
    // All that a walk over what is acknowledged looks at.
    binding::ScopeId scope;
    binding::Key key;
    Sequence sequence;      // none: the place is free
    timing::Instant since;  // listed; of a tombstone with `quiet_in`: acknowledged by all
    uint32_t previous = kNone;
    uint32_t next = kNone;
    uint32_t ahead = kNone;      // what was listed kAhead after it; perhaps it has moved
    uint32_t tombstone = kNone;  // where in tombstones_
    Mask targets = 0;
    Mask sources = 0;
    uint32_t whole_scope : 1 = 0;
    uint32_t quiet_in : 31 = 0;  // the generation_ in which that was noted; 0: it was not

    binding::Record record;  // of a scope's tombstone: `deleted` only
    timing::Instant act_at;

    bool used() const { return sequence.value != 0; }
  };
  static_assert(sizeof(Entry) == 128, "what limits.persistence_entries costs for a peer's sake");
  // The list goes all over the memory, and what comes next is known only from what is there: walks
  // ask for the memory of what comes so many entries later.
  static constexpr uint32_t kAhead = 16;

  struct Peer {
    BootId boot;  // of the run that acknowledged
    SessionNumber session;
    Sequence acked;
    Sequence sent;                              // the highest that it may acknowledge
    Sequence full_until;                        // of the full resync
    uint32_t to_send = kNone;                   // first entry that was not looked at for it
    uint32_t to_settle = kNone;                 // first entry that may count in `owed`
    uint32_t owed = 0;                          // entries from to_settle on that it is due
    std::optional<timing::Instant> full_since;  // when the full resync was first looked at
  };

  Peer& at(PeerIndex peer);
  const Peer& at(PeerIndex peer) const;
  static constexpr Mask bit(uint32_t peer) { return static_cast<Mask>(1u << peer); }
  Mask everyone() const { return static_cast<Mask>((1u << limits_.peers) - 1); }

  bool is_due(uint32_t peer, const Entry& entry) const {
    return (entry.targets & bit(peer)) != 0 || entry.sequence <= peers_[peer].full_until;
  }
  bool is_owed(uint32_t peer, const Entry& entry) const {
    return is_due(peer, entry) && entry.sequence > peers_[peer].acked;
  }
  bool is_counted(uint32_t peer, const Entry& entry) const;
  bool is_acknowledged_by_all(const Entry& entry) const;

  void prefetch(uint32_t place) const { base::prefetch_all(&entries_[place]); }
  uint32_t hash_of(binding::ScopeId scope, const binding::Key& key, bool whole_scope) const;
  uint32_t place_of(binding::ScopeId scope, const binding::Key& key, bool whole_scope) const;
  uint32_t make(binding::ScopeId scope, const binding::Key& key, bool whole_scope);
  void erase(uint32_t place);
  // Moves an entry (new ones too) to the tail for the targets and those it was owed to.
  void list(uint32_t place, Mask targets, timing::Instant now);
  void unlink(uint32_t place);
  void unlink_tombstone(uint32_t place);
  void link_tombstone(uint32_t place);
  bool is_old(const Source& source) const;
  void set_source(Entry* entry, const Source& source, Told told, Mask* targets) const;
  void settle(PeerIndex peer, uint32_t budget);

  Limits limits_;
  const base::KeyedHash& hash_;
  base::HashIndex index_;
  std::pmr::vector<Entry> entries_;
  std::pmr::vector<uint32_t> free_;
  uint32_t high_water_ = 0;
  uint32_t head_ = kNone;
  uint32_t tail_ = kNone;
  std::array<uint32_t, kAhead> recent_{};  // the places that were listed last
  std::pmr::vector<uint32_t> tombstones_;  // places, in no order
  uint32_t tombstone_to_visit_ = 0;        // in tombstones_
  uint32_t generation_ = 1;                // +1 when acknowledgements were lost; 31 bits, not 0
  Sequence last_;
  std::array<Peer, kPeersMax> peers_;
  Mask lost_ = 0;         // peers whose news work() passes on
  uint32_t lost_at_ = 0;  // next place work() looks at
};

template <class Keep, class Forget>
void UpdateList::visit_tombstones(uint32_t budget, timing::Instant now, Keep&& keep,
                                  Forget&& forget) {
  for (budget = std::min(budget, tombstones()); budget > 0; --budget) {
    if (tombstone_to_visit_ >= tombstones()) tombstone_to_visit_ = 0;
    Entry& entry = entries_[tombstones_[tombstone_to_visit_++]];
    if (!is_acknowledged_by_all(entry)) {
      entry.quiet_in = 0;
    } else if (entry.quiet_in != generation_) {
      entry.quiet_in = generation_ & UINT32_MAX >> 1;
      entry.since = now;
    } else if (now - entry.since >= keep(entry.scope)) {
      forget(entry.scope, entry.whole_scope ? nullptr : &entry.key, entry.record.deleted);
    }
  }
}

}  // namespace limpet::mirroring
