// Replica: one core's part in keeping bindings: its table of all bindings, and the records of the
// keys that have their home here. README.md in this folder is the protocol; R1-R4 and A1-A7 below
// are its rules and sections.
//
// Owner: the core's worker. Time is an argument. It knows no packets: whoever has them asks find(),
// and parks what has to wait for a home (affinity/pen.h).
//
// Invariants
//  1. The home alone creates, moves, merges and expires a binding; other cores have copies.
//  2. A core that has a copy, or to which an UPDATE is under way, is in the record's `copies`.
//  3. Nothing is taken out of a ring before everything that it causes fits (R1); so no message is
//     lost and no core waits for another.
//  4. RECALLs that a core has not answered never exceed its answers ring (credits): an ANSWER fits.
// The work of one call is bounded by the rings' sizes or by an argument; that of a turn's evictions
// by a constant (asserted).
//
// Cost: a hit sends nothing. A new binding costs an UPDATE to each other core, its end a RECALL and
// an ANSWER, a move an UPDATE to each holder.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <vector>

#include "common/base/limits.h"
#include "common/base/random.h"
#include "common/telemetry/counter.h"
#include "dataplane/balance/picker.h"
#include "dataplane/persist/table.h"
#include "dataplane/persist/tombstones.h"
#include "dataplane/replication/closes.h"
#include "dataplane/replication/rings.h"

namespace limpet::replication {

// A CLAIM that waited longer than this is refused, and so are the packets that wait for it.
inline constexpr timing::Duration kLate = timing::milliseconds(50);

// A client that opens another connection within this after a close is not taken for gone. Twice
// this is the most until its home looks.
inline constexpr timing::Duration kCloseDelay = timing::milliseconds(400);

struct Counters {
  telemetry::Counter created;
  telemetry::Counter moved;
  telemetry::Counter undone;  // made for a connection that could not be opened after all
  telemetry::Counter merged;
  telemetry::Counter merges_refused;      // no room
  telemetry::Counter merges_gone;         // their scope has gone
  telemetry::Counter merges_expired;      // of what was over when it came
  telemetry::Counter announced;           // activity, and the end of it
  telemetry::Counter rounds;              // of asking the holders
  telemetry::Counter husks;               // over, but others may know better
  telemetry::Counter revived;             // ... and did
  telemetry::Counter killed;              // by a tombstone of another engine
  telemetry::Counter tombstones_refused;  // no room
  telemetry::Counter expired;
  telemetry::Counter evicted_idle;
  telemetry::Counter evicted_embryonic;
  telemetry::Counter dropped;  // its scope went
  telemetry::Counter deleted;  // by an administrator
  telemetry::Counter claims;   // sent; the rest of the messages likewise
  telemetry::Counter touches;
  telemetry::Counter updates;
  telemetry::Counter refusals;
  telemetry::Counter recalls;
  telemetry::Counter answers_yes;
  telemetry::Counter answers_no;
  telemetry::Counter gones;
  telemetry::Counter news;
  telemetry::Counter waited;  // times that a message or a change had to wait for room
};

// What an attempt to change a record comes to.
enum class Outcome : uint8_t {
  kDone,
  kWait,  // not yet: something has no room; try again next turn
  kFull,  // the table is full and nothing may go
};

class Replica {
 public:
  struct Options {
    uint32_t core = 0;
    uint32_t node = 0;  // of the stamps made here: binding::Maker
    // Bindings of mirrored scopes are told to peers: part B of the protocol.
    bool peers = false;
    // The control thread keeps what it is told on disk: it hears of activity in every scope.
    bool disk = false;
    // What the wall clock showed at Instant zero.
    timing::WallTime wall_origin{};
    // New bindings are told to every core (else to the one that asked; others will ask).
    bool push = false;
  };

  // Of each core's table.
  static persist::Table::Capacity capacity_of(uint32_t cores, const Rings::Capacity& rings,
                                              uint32_t limit, bool activity = false) {
    return {.entries = limit + Rings::surplus(cores, rings),
            .homes = persist::home_records_of(cores, limit),
            .activity = activity};
  }
  // Of each core's closes, where activity is announced.
  static uint32_t closes_of(uint32_t cores, uint32_t limit) {
    return persist::home_records_of(cores, limit);
  }
  // Of each core's tombstones, where there are peers: a quarter of the bindings, and no fewer than
  // the control thread lets administrators make (mirroring::Exchange::tombstones_of).
  static uint32_t tombstones_of(uint32_t cores, uint32_t limit) {
    return persist::home_records_of(cores, std::max(limit / 4, 64u));
  }

  Replica(const Options& options, Rings& rings, persist::Bindings& bindings,
          balance::Picker& picker, const base::KeyedHash& hash, base::Random& random,
          std::pmr::memory_resource* memory);

  // Takes the snapshot and the time that everything until the next call goes by.
  void begin(const snapshot::Snapshot& s, timing::Instant now) {
    snapshot_ = &s;
    now_ = now;
  }

  // --- for packets -------------------------------------------------------------------------------

  uint32_t home_of(binding::ScopeSlot scope, const binding::Key& key) const {
    return base::reduce(table_.hash(scope, key), homes_);
  }
  bool is_home(binding::ScopeSlot scope, const binding::Key& key) const {
    return home_of(scope, key) == options_.core;
  }

  // What this core knows of the key; null: nothing. At home that is all there is to know, and a
  // record whose time is over and that nobody else has a copy of ends here.
  persist::Entry* find(const snapshot::Scope& scope, const binding::Key& key);

  // A connection is about to use the entry, perhaps of datagrams.
  void use(persist::Entry& entry, bool datagram = false) {
    if (datagram && !entry.confirmed && comes_again(entry)) confirm(entry);
    entry.last = now_;
    entry.datagram = entry.datagram || datagram;
    if (entry.is_home()) active(entry);
  }
  // Before use() of a copy: its home has to hear of it first if it believes that nobody holds it.
  // False: no room now.
  bool may_use(persist::Entry& copy, const snapshot::Scope& scope) {
    return !copy.told_idle || copy.is_home() || !announces(scope) || touch(copy);
  }
  // The last connection of the entry on this core has closed.
  void closed(persist::Entry& entry) {
    if (!announcing_ || !entry.confirmed) return;
    if (entry.is_home()) return note_close(entry);
    tell_close(entry);
  }
  // The handshake was seen, the server answered, or the client came again: not embryonic any more.
  void confirm(persist::Entry& entry);

  // At home: an embryonic binding for a key that has none.
  struct Made {
    Outcome outcome;
    persist::Entry* entry = nullptr;  // kDone
  };
  static constexpr uint32_t kNobody = UINT32_MAX;
  struct Need {
    timing::Instant since;     // when it arose: only what has been idle since then may give way
    uint32_t asker = kNobody;  // the core whose CLAIM it is: told by the answer
    bool datagram = false;     // not for a SYN: it lives its timeout
  };
  Made create(const snapshot::Scope& scope, const binding::Key& key, binding::ServerId server,
              const Need& need);
  // At home: another server, for whom use() would be called. kDone or kWait.
  Outcome move(persist::Entry& record, binding::ServerId server, bool datagram = false);
  // At home, by an administrator: forgets a binding, or what is left of one. kDone or kWait. Leaves
  // a tombstone where peers may know of it.
  Outcome remove(persist::Entry& record);
  // At home, by an administrator: a tombstone of all bindings of a scope that were made up to then.
  // They go by the sweep, or by remove_killed(): true when the record has gone or is a later one.
  void kill_scope(binding::ScopeSlot scope, binding::Stamp up_to);
  bool remove_killed(persist::Entry& record);
  // A stamp greater than all that were made or seen here.
  binding::Stamp next_stamp() { return stamps_.next(wall()); }
  // At home: takes back what create() has just made, unless others have heard of it already.
  void undo_create(persist::Entry& record);

  // Elsewhere: asks the home, which answers once. `have`: the copy, or null. False: no room.
  struct Proposal {
    binding::ServerId server;
    bool reserved = false;  // a place in its limit was taken
    bool exact = false;     // it has to be this server
    bool if_none = false;   // exact: only if there is no binding; what there is stands
    bool existing = false;  // nothing is to be made; Reason::kNew says that there is nothing
    bool datagram = false;  // not for a SYN
  };
  bool claim(const snapshot::Scope& scope, const binding::Key& key, persist::Entry* have,
             const Proposal& proposal);

  // --- stages of a turn --------------------------------------------------------------------------

  // Takes all that homes have sent by now (R2). `take()` begins the newest snapshot, when a message
  // comes from one that is newer than ours (R4). `heard(const Down&)` is told of every UPDATE and
  // REFUSE once it has been applied. True when there was something.
  template <class Take, class Heard>
  bool drain(Take&& take, Heard&& heard);

  // As home: takes answers, claims and merges, a bounded number.
  template <class Take>
  bool serve(Take&& take);

  // Deadlines, evictions, what is owed: looks at `records` records.
  void advance(uint32_t records);

  // After a new snapshot: looks at `records` records for scopes and servers that left. True when
  // all have been seen and told.
  void restart_sweep() {
    sweep_at_ = 0;
    tombstone_at_ = 0;
    tombstones_swept_ = false;
  }
  bool sweep(uint32_t records);

  // When the engine has stopped, by whoever stopped its workers: what was announced as held and is
  // so on no core any more is told to be over, as of the last close. `cores`: all of the engine's.
  // Looks at records from `*at` on; false: they have to be read before there is room for more.
  bool say_last(std::span<Replica* const> cores, uint32_t* at);

  // Whether entries with connections went, or began again, since the last call: flows that were
  // counted in them need not look any more.
  bool lost_counts() { return std::exchange(lost_counts_, false); }

  persist::Table& table() { return table_; }
  const persist::Table& table() const { return table_; }
  const Counters& counters() const { return counters_; }
  Counters& counters() { return counters_; }
  timing::Instant now() const { return now_; }
  const Options& options() const { return options_; }
  // Unanswered RECALLs to a core.
  uint32_t credits_used(uint32_t core) const { return credits_[core]; }
  // Of a record.
  bool expired(const persist::Entry& record, const snapshot::Scope& scope) const {
    return !record.kept() && now_ >= record.deadline(timeout_of(record, scope)) &&
           now_ >= deadline(record, scope);
  }
  // When it is over unless something happens; of a record, whatever engine it happens to.
  timing::Instant deadline(const persist::Entry& record, const snapshot::Scope& scope) const {
    const timing::Duration timeout = timeout_of(record, scope);
    const timing::Instant own = record.deadline(timeout);
    if (!record.confirmed || !shares(scope)) return own;
    const persist::Activity& a = table_.activity(record);
    // Its clock may have been behind: then its stamp was, but not its client.
    const timing::Instant others = a.others_held_at();
    const bool theirs_is_later = others > a.act_at + kHeldGrain;
    const timing::Instant act_at = theirs_is_later ? others : a.act_at;
    return std::max(own, act_at + timeout + slack(a.held || theirs_is_later, timeout, scope));
  }
  // The same without the time for what may not have been told yet, where nothing is left to be
  // told: what only we have said to be held is over T after its last close on any of our cores.
  // `record` alone knows of those at home and of what cores have said; they know of their own.
  timing::Instant known_deadline(const persist::Entry& record, const snapshot::Scope& scope) const;
  // Whether peers have to be told of the scope's bindings; whether the control thread has to be
  // told of their activity.
  bool shares(const snapshot::Scope& scope) const { return options_.peers && scope.mirrored; }
  bool announces(const snapshot::Scope& scope) const { return options_.disk || shares(scope); }
  const persist::Tombstones& tombstones() const { return tombstones_; }
  uint32_t husks() const { return husks_; }
  // At home: what others are told.
  binding::Record record_of(const persist::Entry& record) const;

 private:
  using Bits = uint64_t;
  static constexpr uint32_t kClaimsPerTurn = 256;  // of each core
  static constexpr uint32_t kMergesPerTurn = 64;
  static constexpr uint32_t kExactRecords = 1024;  // up to so many, eviction looks at all
  static constexpr uint32_t kSampleRecords = 64;
  static constexpr uint32_t kEvictionsMax = 32;
  static constexpr uint32_t kLooksPerTurn = 32768;  // at records, in search of one to give way
  static constexpr uint32_t kHuskLooks = 1024;      // the same, for a husk
  static constexpr uint32_t kClosesPerTurn = 32;
  // Of Activity::others_held_at().
  static constexpr timing::Duration kHeldGrain = timing::milliseconds(1);
  static constexpr uint32_t kEarlyRoundsMax = 3;  // in stock

  // As a core (copy.cc).
  void hear(uint32_t from, const Down& m);
  void adopt(const Down& m);
  void recalled(uint32_t from, const Down& m);
  bool touch(persist::Entry& copy);
  void pay_touches();
  void tell_close(persist::Entry& copy);

  // As home (home.cc).
  void on_answer(uint32_t from, const Answer& m);
  bool on_claim(uint32_t from, const Claim& m);
  bool on_new_key(uint32_t from, const Claim& m, const snapshot::Scope& scope);
  bool decide(uint32_t from, const Claim& m, const snapshot::Scope& scope, persist::Entry& record);
  struct Chosen {
    const snapshot::Server* server = nullptr;
    bool reserved_here = false;  // by this home, for the asker
    balance::Reason why_not = balance::Reason::kNoServer;
  };
  Chosen choose(const Claim& m, const snapshot::Scope& scope);
  void give_back(const Chosen& chosen);
  void refuse(uint32_t to, const Claim& m, balance::Reason reason);
  void tell(uint32_t to, const persist::Entry& record, persist::Home& home);
  void answer(uint32_t to, const persist::Entry& record, persist::Home& home, const Chosen& chosen);
  void send_update(uint32_t to, const persist::Entry& record, persist::Home& home, Down message);
  void tell_all(Bits cores, const persist::Entry& record, persist::Home& home);
  void push_to_others(const persist::Entry& record, persist::Home& home, Bits except);
  void set_server(persist::Entry& record, binding::ServerId server);
  persist::Entry* make(const snapshot::Scope& scope, const binding::Key& key);
  Outcome make_room(const snapshot::Scope& scope, timing::Instant since);
  struct Idle {
    persist::Entry* longest = nullptr;
    bool expiring = false;  // one is being recalled because its time is over
  };
  uint32_t looks_of_search() const {
    return table_.home_places() <= kExactRecords ? table_.home_places() : kSampleRecords;
  }
  // `expired_only`: where nothing is purged.
  Idle longest_idle(timing::Instant since, bool expired_only);
  bool is_doubtful(const persist::Entry& record, const snapshot::Scope* scope) const;
  void recall(persist::Entry& record, persist::Home& home);
  // How the mirror is told that a binding has gone: where it leaves a tombstone.
  struct Farewell {
    binding::Told told = binding::Told::kNobody;
    binding::Source source;
  };
  bool end(persist::Entry& record, telemetry::Counter& why, const Farewell& farewell);
  bool end(persist::Entry& record, telemetry::Counter& why) { return end(record, why, Farewell{}); }
  bool end_if_due(persist::Entry& record);
  bool forget(persist::Entry& record, telemetry::Counter& why, const Farewell& farewell);
  void stop_eviction(persist::Home& home) { home.evicting = false; }
  void go_on_evicting();
  bool look_at(persist::Entry& record);
  bool sweep_tombstones(uint32_t count);
  bool server_left(binding::ServerId server) const;
  void tell_mirror(const persist::Entry& record, persist::Home& home,
                   const Farewell& given = {binding::Told::kAll, {}});
  bool tell_mirror_gone(binding::ScopeSlot scope, const binding::Key& key,
                        const Farewell& farewell);

  // As home, for the sake of other engines (announce.cc).
  void active(persist::Entry& record) {
    persist::Home& home = table_.home(record);
    stop_eviction(home);
    home.heard = true;
    if (announcing_ && !home.holding) announce_activity(record, home);
  }
  void announce_activity(persist::Entry& record, persist::Home& home);
  struct Announcement {
    timing::Instant at;
    bool held = false;     // by somebody
    bool holding = false;  // by us
  };
  void announce(persist::Entry& record, const Announcement& what);
  void changed(persist::Entry& record);
  void confirm_record(persist::Entry& record);
  void note_close(const persist::Entry& record);
  void begin_early_rounds();
  bool may_begin_early(const persist::Entry& record) const;
  void begin_round(persist::Entry& record, bool early = false);
  void go_on_round(persist::Entry& record, persist::Home& home);
  void finish_round(persist::Entry& record, persist::Home& home);
  void announce_release(persist::Entry& record, persist::Home& home);
  bool others_may_hold(const persist::Activity& a, timing::Instant at, timing::Duration r) const;
  void look_at_activity(persist::Entry& record, const snapshot::Scope& scope);
  bool ask(persist::Entry& record, persist::Home& home, uint32_t core, bool give_up);
  bool become_husk(persist::Entry& record);
  void end_husk(persist::Entry& husk);
  bool look_at_husk(persist::Entry& husk);
  void continue_husk(persist::Entry& husk, binding::ServerId server);
  bool take_husks_place();
  bool husk_is_over(const persist::Entry& husk, const snapshot::Scope& scope) const;
  binding::Stamp killed_up_to(const snapshot::Scope& scope) const {
    if (killed_.empty() || killed_[scope.slot.value].scope != scope.id) return {};
    return killed_[scope.slot.value].up_to;
  }
  bool is_killed(const persist::Entry& record, const snapshot::Scope& scope) const {
    return !killed_.empty() && table_.home(record).stamp <= killed_up_to(scope);
  }
  void tell_if_spared(persist::Entry* record);

  // As home, what other engines know (merge.cc).
  struct Meeting;
  bool on_merge(const binding::Merge& m);
  bool merge_record(const binding::Merge& m, const snapshot::Scope& scope);
  bool bury(const Meeting& x, persist::Entry* record);
  persist::Entry* reserve_record(const snapshot::Scope& scope, const binding::Key& key);
  bool adopt_record(const Meeting& x);
  bool change_record(const Meeting& x, persist::Entry& record);
  bool change_husk(const Meeting& x, persist::Entry& husk);
  void store(const Meeting& x, persist::Entry& record);
  void raise_tombstone(const Meeting& x);
  void begin_life(persist::Entry& record);
  bool forget_tombstone(const binding::Merge& m);
  void answer_fence();
  uint32_t next_serial() { return ++serial_ == 0 ? ++serial_ : serial_; }
  // Whether a datagram that has just come is a second one of its client's, as far as is known here.
  bool comes_again(const persist::Entry& entry) const {
    if (!entry.datagram || entry.last == persist::kNoActivity) return false;
    const timing::Instant first = entry.is_home() ? table_.home(entry).created : entry.last;
    return now_ - first >= persist::kComesAgain;
  }
  bool room(Bits cores);
  bool wait() {
    ++counters_.waited;
    return false;
  }

  ring::Ring<Down>& down(uint32_t to) { return rings_.down.from(options_.core).to(to); }
  // The scope that the slot meant to the sender; null when it has gone since.
  const snapshot::Scope* scope_of(binding::ScopeSlot slot, uint64_t version) const {
    const snapshot::Scope* scope = snapshot_->scope(slot);
    return scope != nullptr && version >= scope->since ? scope : nullptr;
  }
  timing::WallTime wall() const { return wall(now_); }
  timing::WallTime wall(timing::Instant at) const {
    return options_.wall_origin + timing::Duration{at.ns};
  }
  timing::Duration timeout_of(const persist::Entry& record, const snapshot::Scope& scope) const {
    const uint32_t own = table_.home(record).timeout_ms;
    return own == 0 ? scope.timeout : timing::milliseconds(own);
  }
  // R: how long activity may go unannounced.
  static timing::Duration interval(timing::Duration timeout, const snapshot::Scope& scope) {
    const timing::Duration half = timeout / 2;
    return scope.update_interval.count() == 0 ? half : std::min(half, scope.update_interval);
  }
  // Made by this engine, perhaps in an earlier run.
  bool is_ours(binding::Stamp s) const {
    return binding::StampClock::rank_of(s) == binding::Maker::rank_of(options_.node);
  }
  // What a binding that somebody held when it was last heard of lives longer.
  timing::Instant idle_since(const persist::Entry& record) const {
    return announcing_ ? std::max(record.last, table_.activity(record).act_at) : record.last;
  }
  static timing::Duration slack(bool held, timing::Duration timeout, const snapshot::Scope& scope) {
    return held ? interval(timeout, scope) : timing::Duration::zero();
  }
  template <class F>
  static void each(Bits cores, F&& f) {
    for (; cores != 0; cores &= cores - 1) f(static_cast<uint32_t>(__builtin_ctzll(cores)));
  }

  const Options options_;
  const bool announcing_;  // somewhere
  Rings& rings_;
  persist::Bindings& bindings_;
  balance::Picker& picker_;
  base::Random& random_;
  const uint32_t homes_;
  persist::Table table_;
  persist::Tombstones tombstones_;
  struct Killed {
    binding::ScopeId scope;
    binding::Stamp up_to;
    bool sweeping = false;  // not all of its bindings have been looked at since
  };
  std::pmr::vector<Killed> killed_;  // by ScopeSlot
  uint32_t sweeping_ = 0;            // how many of them are
  std::optional<uint32_t> fence_;    // not answered yet
  binding::StampClock stamps_;
  Counters counters_;

  const snapshot::Snapshot* snapshot_ = nullptr;
  timing::Instant now_;
  uint32_t serial_;
  std::vector<uint32_t> credits_;  // by core: RECALLs unanswered
  struct Handle {
    uint32_t place;
    uint32_t serial;
  };
  std::vector<Handle> evicting_;
  Closes closes_;
  uint32_t looks_ = 0;  // in this turn
  // When nobody was found to give way: of all, of those that have expired.
  timing::Instant nobody_at_[2] = {timing::Instant::never(), timing::Instant::never()};
  uint32_t advance_at_ = 0;
  uint32_t sweep_at_ = 0;
  uint32_t tombstone_at_ = 0;
  bool tombstones_swept_ = false;
  uint32_t husks_ = 0;
  uint32_t husk_at_ = 0;
  uint32_t touches_owed_ = 0;
  uint32_t touch_at_ = 0;
  bool lost_counts_ = false;
};

template <class Take, class Heard>
bool Replica::drain(Take&& take, Heard&& heard) {
  looks_ = 0;
  bool any = false;
  for (const uint32_t peer : rings_.down.peers(options_.core)) {
    auto& ring = rings_.down.from(peer).to(options_.core);
    const uint32_t taken = ring.consume(ring.size(), [&](const Down& m) {
      if (m.version > snapshot_->version) take();
      hear(peer, m);
      if (m.kind == Down::Kind::kUpdate || m.kind == Down::Kind::kRefuse) heard(m);
      return true;
    });
    any = any || taken > 0;
  }
  return any;
}

template <class Take>
bool Replica::serve(Take&& take) {
  bool any = false;
  for (const uint32_t peer : rings_.answers.peers(options_.core)) {
    auto& answers = rings_.answers.from(peer).to(options_.core);
    const uint32_t answered = answers.consume(answers.size(), [&](const Answer& m) {
      if (m.version > snapshot_->version) take();
      on_answer(peer, m);
      return true;
    });
    auto& claims = rings_.claims.from(peer).to(options_.core);
    const uint32_t claimed = claims.consume(kClaimsPerTurn, [&](const Claim& m) {
      if (m.version > snapshot_->version) take();
      return on_claim(peer, m);
    });
    any = any || answered + claimed > 0;
  }
  const uint32_t merged = rings_.merges[options_.core].consume(
      kMergesPerTurn,
      [&](const binding::Merge& m) {
        if (m.version > snapshot_->version) take();
        return on_merge(m);
      },
      [&](const binding::Merge& m) { table_.prefetch_bucket(table_.hash(m.scope, m.key)); });
  if (fence_) answer_fence();
  return any || merged > 0;
}

}  // namespace limpet::replication
