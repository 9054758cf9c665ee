// Session: the protocol with one peer over one connection (README.md, "A session"), as a state
// machine: bytes in, bytes out, and tick(now). No sockets, no clocks, no threads; a test joins two.
//
// Owner: the control thread. Invariants
//  1. Before both HELLOs were accepted nothing that arrived has any effect but to end the session.
//  2. The position (Peer::received) moves only when Home has taken what it stands for.
//  3. Memory is bounded: input by what one receive() brings and a frame, output by kOutputBytesMax
//     and a few control frames, what is unacknowledged by kUnacknowledgedMax.
//  4. A session ends once, with one counted reason.
// Cost: O(1) a frame; one call sends at most an output buffer full and looks at most kLooksMax
// entries of the list.
//
// Peer outlives its sessions: positions, numbers and counters are there.
#pragma once

#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/mirroring/frame.h"
#include "control/mirroring/reason.h"
#include "control/mirroring/update_list.h"

namespace limpet::mirroring {

inline constexpr std::size_t kInputBytesMax = 65'536;  // of one receive()
inline constexpr std::size_t kOutputBytesMax = 65'536;
inline constexpr std::size_t kUnacknowledgedMax = 4096;
inline constexpr uint32_t kLooksMax = 4096;  // entries of the list looked at in one call
inline constexpr timing::Duration kHandshakeTimeMax = timing::seconds(5);
inline constexpr uint32_t kLaggingMs = 1000;
// Updates are acknowledged together: at the latest when there are so many, or after that time.
inline constexpr uint32_t kAcknowledgedTogether = 512;
inline constexpr timing::Duration kAcknowledgeWithin = timing::milliseconds(5);
static_assert(kAcknowledgedTogether <= kUnacknowledgedMax / 4, "the sender never waits for it");

// What a peer told us, on its way to a home, unmerged.
struct Arrival {
  Source source;
  binding::ScopeId scope;
  bool whole_scope = false;  // a tombstone of all its bindings: record.deleted
  binding::Key key;
  binding::Record record;
  timing::Instant act_at;  // by our clock
};

// The way to the homes.
class Home {
 public:
  virtual ~Home() = default;
  // False: no room now; the session keeps it and tries again.
  virtual bool deliver(const Arrival& arrival) = 0;
};

struct Peer;

// Who listens to what peers say of groups of engines.
class GroupListener {
 public:
  virtual ~GroupListener() = default;
  virtual void hear(const Peer& peer, std::span<const uint8_t> body, timing::Instant now) = 0;
};

class Session;

struct PeerCounters {
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;
  uint64_t frames_received = 0;
  uint64_t frames_skipped = 0;  // types of a newer version
  uint64_t updates_received = 0;
  uint64_t updates_sent = 0;
  uint64_t held_back = 0;  // times that Home had no room
  uint64_t snapshots_full = 0;
  uint64_t snapshots_resumed = 0;
  ReasonCounts ended;
};

struct Peer {
  PeerIndex index;
  std::string name;
  Position received;  // of its list, passed to the homes
  SessionNumber session;
  Session* live = nullptr;
  // As of the latest HELLO.
  uint32_t table_limit = 0;
  std::vector<net::Address> addresses;
  PeerCounters counters;
  Reason last_end = Reason::kNone;
  uint32_t last_bye = 0;  // the reason that the peer gave
};

// What all sessions of an engine share.
struct Engine {
  std::string name;
  BootId boot;
  uint32_t table_limit = 0;
  std::vector<net::Address> addresses;
  timing::Duration heartbeat = timing::milliseconds(100);
  uint32_t heartbeat_misses = 5;
  std::vector<Peer> peers;  // index = PeerIndex; addresses of elements must not change
  UpdateList* list = nullptr;
  Home* home = nullptr;
  GroupListener* groups = nullptr;  // null: nobody listens
  ReasonCounts ended;               // of sessions whose peer was not known yet

  Peer* find(std::string_view peer);
  // The engine whose name sorts first connects.
  bool connects_to(const Peer& peer) const { return name < peer.name; }
};

// The other's clock against ours: the smallest difference seen in this and the previous minute. The
// smallest had the least delay; a minute, because clocks drift.
class ClockOffset {
 public:
  void observe(timing::Instant now, timing::Instant theirs);
  // A moment of the other's clock by ours, at most `now`.
  timing::Instant ours(timing::Instant theirs, timing::Instant now) const;

 private:
  timing::Instant since_;
  int64_t current_ns_ = INT64_MAX;
  int64_t previous_ns_ = INT64_MAX;
};

class Session {
 public:
  enum class State : uint8_t { kHandshake, kSnapshot, kSynced, kLagging, kClosed };

  // `called`: the peer that we connected to; null: somebody connected to us.
  Session(Engine& engine, Peer* called, timing::Instant now);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // False: what arrived must wait, Home has no room (or the session has ended).
  bool wants_input() const { return state_ != State::kClosed && !held_; }
  // At most kInputBytesMax, only when wants_input(); after the end it is ignored.
  void receive(std::span<const uint8_t> bytes, timing::Instant now);

  // What is to be sent; the caller has it from then on, and calls pump() when it is sent.
  std::vector<uint8_t> take_output();
  bool has_output() const { return !output_.empty(); }

  // Sends what the list has for the peer; call when the list has changed. True: its budget ran out,
  // call again soon.
  bool pump(timing::Instant now);
  // The same, if pump() had to stop before the end of the list; call when output was sent. What is
  // new since then waits for pump(): small pieces would cost more than what is in them.
  void go_on(timing::Instant now) {
    if (stopped_) pump(now);
  }
  // At least each heartbeat, better more often: deadlines, heartbeats, what was held back.
  void tick(timing::Instant now);
  // Says something of groups, in front of all updates that have not been given out yet. False: not
  // established, or the peer does not read.
  bool say_groups(std::span<const uint8_t> body);
  // Ends it; the peer is told why if it can be.
  void close(Reason reason);

  State state() const { return state_; }
  Reason reason() const { return reason_; }
  const Peer* peer() const { return peer_; }
  timing::Instant heard_at() const { return heard_at_; }  // the last input
  Lag lag() const { return lag_; }                        // of the peer behind us
  Lag incoming_lag() const { return peer_lag_; }          // of us behind the peer, as it says
  // All that the peer knew when the session began has been passed to the homes.
  bool has_received_snapshot() const { return snapshot_ == Snapshot::kReceived; }
  std::optional<timing::Duration> round_trip() const { return round_trip_; }

 private:
  enum class Snapshot : uint8_t { kNone, kBegun, kReceived };

  bool is_established() const { return begin_.has_value() && state_ != State::kClosed; }
  template <class Body>
  void write(const Body& frame) {
    encode(frame, &output_);
  }
  void write_hello(const Peer& to, timing::Instant now);
  void write_heartbeat(timing::Instant now);
  void write_acknowledgement(timing::Instant now);
  void process(timing::Instant now);
  bool retry_held();
  void handle(const Frame& frame, timing::Instant now);
  void accept(const Hello& hello, timing::Instant now);
  Reason refusal_of(const Hello& hello) const;
  void establish(Peer* peer, const Hello& hello, timing::Instant now);
  void accept(const Binding& binding, timing::Instant now);
  void accept(const ScopeTombstone& tombstone, timing::Instant now);
  void accept(const Ack& ack, timing::Instant now);
  void accept(const Heartbeat& beat, timing::Instant now);
  void accept(const SnapshotBegin& begin, timing::Instant now);
  void accept(const SnapshotEnd& end, timing::Instant now);
  void accept(const Bye& bye, timing::Instant now);
  void accept(const Groups& groups, timing::Instant now);
  bool is_next(Sequence sequence);
  void pass_on(Sequence sequence, const Arrival& arrival);
  void set_position(Sequence sequence);
  void send_update(const News& news);
  void judge_state(timing::Instant now);

  struct Held {
    Sequence sequence;
    Arrival arrival;
  };

  Engine& engine_;
  Peer* const called_;
  Peer* peer_ = nullptr;  // once its HELLO was accepted
  State state_ = State::kHandshake;
  Reason reason_ = Reason::kNone;

  std::vector<uint8_t> input_;
  std::optional<Held> held_;
  Snapshot snapshot_ = Snapshot::kNone;
  Sequence snapshot_up_to_;
  uint32_t to_acknowledge_ = 0;       // what has been passed on since the latest ACK
  bool acknowledge_at_once_ = false;  // the end of a snapshot is among it
  timing::Instant acknowledged_at_;

  std::vector<uint8_t> output_;
  std::optional<SnapshotBegin> begin_;  // ours; set when established
  bool end_sent_ = false;
  bool stopped_ = false;  // pump() did not come to the end of the list
  std::deque<Sequence> unacknowledged_;

  timing::Instant started_at_;
  timing::Instant heard_at_;
  timing::Instant ticked_at_;
  timing::Instant beat_at_;  // when the next heartbeat is due
  ClockOffset offset_;
  std::optional<timing::Instant> echo_;  // the peer's latest moment
  timing::Instant echo_at_;              // when it came
  std::optional<timing::Duration> round_trip_;
  Lag lag_;
  Lag peer_lag_;
};

// "handshake", "snapshot", "synced", "lagging", "closed".
std::string_view name_of(Session::State state);

}  // namespace limpet::mirroring
