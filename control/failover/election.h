// Election: decides for each ServiceEngineGroup with `engines` which engine owns it (README.md: the
// rules, by their letters, and why they give one owner). A state machine: what was heard and the
// time go in, what to do comes out; no sockets, no clocks.
//
// Owner: the control thread. How it is driven, every few milliseconds:
//   observe() for each peer's session, hear() for each beat that came,
//   step(): sends beats, begins a fence, or has the workers' configuration changed to wanted();
//   fence_passed() and applied() when that is done.
//
// Invariants
//  1. A group is in wanted() only in kTaking after its fence, or in kOwner.
//  2. The term of what we hold is greater than any we had heard when we took it.
//  3. A claim of a peer is believed only while it is alive and has the boot id that made it.
// Cost: O(groups × peers) a step; no more than kGroupsMax and 16.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/timing/time.h"
#include "control/failover/beat.h"

namespace limpet::failover {

inline constexpr timing::Duration kStartWait = timing::seconds(2);
inline constexpr timing::Duration kReadyWait = timing::milliseconds(300);
inline constexpr timing::Duration kNewGroupWait = timing::seconds(2);
inline constexpr timing::Duration kOwnerlessMax = timing::seconds(5);
inline constexpr timing::Duration kFenceMax = timing::seconds(2);
inline constexpr timing::Duration kFenceRetry = timing::seconds(1);
inline constexpr timing::Duration kPreemptWait = timing::seconds(3);
inline constexpr timing::Duration kReleaseMax = timing::milliseconds(500);
inline constexpr timing::Duration kClosedAlarm = timing::seconds(1);
inline constexpr timing::Duration kEchoAgeMax = timing::seconds(2);
inline constexpr std::size_t kBootsKept = 16;  // of each peer, that were given up

// A group as the document has it.
struct Group {
  GroupId id;
  std::string name;
  std::vector<std::string> engines;  // in order of preference, not empty
  bool preempt = false;
};

enum class Path : uint8_t { kSession, kData };

// What became of a beat.
enum class Heard : uint8_t {
  kAccepted,
  kOwnName,
  kUnknownPeer,
  kReplayed,
  kUnverified,  // authentic, but of a boot that we do not know yet
  kCount,
};

struct SessionView {
  bool open = false;          // both HELLOs are accepted
  timing::Instant heard_at;   // the last input
  BootId boot;                // of its HELLO
  bool has_snapshot = false;  // all that it knew has been passed to the homes
};

struct GroupView {
  GroupId id;
  std::string name;
  std::string owner;  // empty: nobody that we hear of
  State state = State::kStandby;
  Term term;  // of our claim; the highest known when we hold nothing
};

class Election {
 public:
  struct Options {
    std::string name;
    BootId boot;
    std::vector<std::string> peers;  // index = the mirroring PeerIndex
    timing::Duration heartbeat = timing::milliseconds(100);
    uint32_t heartbeat_misses = 5;
  };
  Election(const Options& options, timing::Instant now);

  // The groups of the document that is in force, at most kGroupsMax. One that is gone is forgotten;
  // whoever applied the document serves it no more.
  void configure(std::vector<Group> groups, timing::Instant now);

  void observe(std::size_t peer, const SessionView& session, timing::Instant now);
  Heard hear(const Beat& beat, Path path, timing::Instant now);
  // Whether this engine can serve: all workers have their turns, the disk has been merged.
  void set_fit(bool fit) { fit_ = fit; }

  struct Event {
    std::string group;
    bool taken = false;  // else released
    std::string why;
  };
  struct Step {
    bool beat = false;              // send beat() to every peer, by both paths
    std::optional<uint32_t> fence;  // begin one, and say fence_passed() with this number
    bool wanted_changed = false;    // since the last step
    bool announce = false;          // our addresses again: another engine had them too
    std::vector<Event> events;
  };
  Step step(timing::Instant now);

  void fence_passed(uint32_t fence);
  // The groups that are to be in force on all workers; sorted.
  const std::vector<GroupId>& wanted() const { return wanted_; }
  // What is in force on all workers (sorted); each turn, unless a change of it is under way.
  void applied(const std::vector<GroupId>& owned, timing::Instant now);

  // What to tell a peer now. Each has a greater moment than the one before.
  Beat beat(std::size_t peer, timing::Instant now);

  bool is_alive(std::size_t peer) const { return peers_[peer].alive; }
  std::vector<GroupView> view() const;

 private:
  struct Peer {
    std::string name;
    BootId boot;  // none: never heard of
    timing::Instant boot_at;
    std::deque<BootId> given_up;
    timing::Instant session_at;  // last heard over a session
    timing::Instant data_at;     // last heard by data
    bool heard = false;          // at all
    bool open = false;
    std::optional<timing::Instant> closed_at;
    bool alive = false;
    bool synced = false;  // we have what it knew
    bool has_claims = false;
    timing::Instant claims_moment;
    timing::Instant data_moment;
    std::vector<Claim> claims;
    // What to echo: the latest authentic beat, believed or not.
    BootId echo_boot;
    timing::Instant echo;
  };
  struct Entry {
    Group group;
    std::optional<std::size_t> rank;      // ours in `engines`
    std::vector<std::size_t> peer_ranks;  // by peer: index in `engines`, or its size
    State state = State::kStandby;
    Term known;  // the highest term heard of or used
    Term held;   // holding: the claim's
    bool sees_holder = false;
    std::optional<timing::Instant> ownerless_since;
    timing::Instant since;                                    // of the state
    uint32_t fence = 0;                                       // kTaking: that has to pass
    bool fenced = false;                                      // ... has passed
    timing::Instant not_before;                               // of the next attempt
    std::string why;                                          // of the last decision
    bool contested = false;                                   // kOwner: another holds it too
    std::vector<std::optional<timing::Instant>> ready_since;  // by peer, rule P
  };

  const Claim* claim_of(const Peer& peer, GroupId group) const;
  void start_over(Peer& peer, const BootId& boot, timing::Instant now);
  void note(Peer& peer, const Beat& beat, timing::Instant now);
  void judge_peers(timing::Instant now);
  bool is_synced() const;

  struct Holder {
    Term term;
    std::size_t rank;
    std::string_view name;

    bool stronger_than(const Holder& other) const;
  };
  std::optional<Holder> strongest_holder(const Entry& e) const;
  bool is_vouched(const Entry& e) const;
  bool may_take(Entry& e, timing::Instant now) const;
  bool must_wait_for(const Entry& e, timing::Instant now) const;
  bool must_yield(Entry& e, timing::Instant now);
  void decide(Entry& e, Step& out, timing::Instant now);
  void decide_holder(Entry& e, Step& out, timing::Instant now);
  void take(Entry& e, Step& out, timing::Instant now);
  void release(Entry& e, std::string why, timing::Instant now);
  void rest(Entry& e, timing::Instant now);
  void set_state(Entry& e, State state, timing::Instant now);
  static Term term_of(const Entry& e) { return holds(e.state) ? e.held : e.known; }
  std::vector<Claim> claims() const;

  const Options options_;
  std::vector<Peer> peers_;
  std::vector<Entry> entries_;
  std::vector<GroupId> wanted_;
  std::vector<Claim> said_;  // in the last beat
  std::vector<Event> events_;
  bool fit_ = true;
  uint32_t fences_ = 0;
  timing::Instant started_at_;
  timing::Instant stepped_at_;
  timing::Instant beat_at_;  // when the next is due
  timing::Instant moment_;   // of the last beat
};

}  // namespace limpet::failover
