// EventLog: what happened to the engine, for people and controllers: numbered, bounded, and
// protected against floods.
//
// Owner: the control thread; nothing here is shared between threads.
//
// Invariants:
// 1. Sequence numbers start at 1 and have no gaps.
// 2. At most `kept` events are held; the oldest goes first.
// 3. At most one event per (name, object) in any second. Of those that are suppressed the latest is
//    told when the second is over, unless another one comes first; what is told next says how many
//    more there were.
// 4. Each recorded event is also one line of JSON on the stream given at construction.
// 5. The memory of the rate limit is bounded: beyond `kPairsMax` pairs of name and object the one
//    whose last event is oldest is forgotten, with what it owes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/timing/time.h"

namespace limpet::telemetry {

enum class EventName : uint8_t {
  kServerUp,
  kServerDown,
  kServerAtLimit,
  kVsUp,
  kVsDown,
  kPersistTableHigh,
  kConnDropMaxPersistTbl,
  kFlowTableFull,
  kSnatExhausted,
  kAddressConflict,
  kConfigApplied,
  kConfigRefused,
  kPeerUp,
  kPeerDown,
  kPeerSynced,
  kGroupTaken,
  kGroupReleased,
};

// The name as users see it, for example "SERVER_UP".
std::string_view to_string(EventName name);

struct Event {
  uint64_t seq = 0;
  timing::WallTime time;
  EventName name = EventName::kServerUp;
  std::string object;
  std::string message;
};

struct EventPage {
  std::vector<Event> events;
  uint64_t next = 0;  // pass this as `after` to go on
};

class EventLog {
 public:
  // `lines` gets one JSON line per event (null: none); it must outlive the log.
  explicit EventLog(std::ostream* lines, std::size_t kept = base::kEventsKept);

  // Records the event, or keeps it as suppressed. `now` drives the rate limit, `wall` is the
  // event's time. Returns whether it was recorded.
  bool record(timing::Instant now, timing::WallTime wall, EventName name, std::string_view object,
              std::string_view message);

  // Records what was suppressed last of each name and object whose second is over; its time is
  // that of its happening. To be called now and then.
  void tell_suppressed(timing::Instant now, std::size_t most = SIZE_MAX);

  // Records all of that without waiting, before the log ends.
  void tell_all_suppressed(timing::Instant now);

  // The oldest held events with a sequence number above `after`, at most `limit`, in order. `next`
  // is the last number given out, at most last_seq(); a `next` below `after` tells a reader that
  // the engine started anew since.
  EventPage after(uint64_t after, std::size_t limit) const;

  uint64_t last_seq() const { return next_seq_ - 1; }
  std::size_t size() const { return events_.size(); }

  static constexpr std::size_t kPairsMax = 16'384;

 private:
  using Pair = std::pair<EventName, std::string>;
  struct Recent {
    timing::Instant last;
    uint64_t suppressed = 0;
    timing::WallTime time;  // of the latest suppressed, if any
    std::string message;
    std::list<Pair>::iterator place;  // in order_
  };
  using Pairs = std::map<Pair, Recent>;

  void tell_first_owed(timing::Instant now);
  void tell(Pairs::iterator pair, timing::Instant now, timing::WallTime wall, std::string message,
            uint64_t more);

  std::ostream* lines_;
  std::size_t kept_;
  uint64_t next_seq_ = 1;
  std::deque<Event> events_;
  Pairs recent_;
  std::list<Pair> order_;  // by time of the last recorded event, oldest first
  std::set<std::pair<timing::Instant, Pair>> owed_;  // pairs with suppressed ones, by `last`
};

// {"seq", "time", "name", "object", "message"} as one line of JSON, without the line feed.
std::string to_json_line(const Event& event);

}  // namespace limpet::telemetry
