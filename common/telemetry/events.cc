// The log proper, and the rate limit: an index from (name, object) to the time of its last event,
// with a list in the order of those times to know whom to forget.
#include "common/telemetry/events.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base/assert.h"
#include "common/telemetry/timestamp.h"

namespace limpet::telemetry {

namespace {

constexpr timing::Duration kInterval = timing::seconds(1);  // of events of one name and object

}  // namespace

std::string_view to_string(EventName name) {
  switch (name) {
    case EventName::kServerUp:
      return "SERVER_UP";
    case EventName::kServerDown:
      return "SERVER_DOWN";
    case EventName::kServerAtLimit:
      return "SERVER_AT_LIMIT";
    case EventName::kVsUp:
      return "VS_UP";
    case EventName::kVsDown:
      return "VS_DOWN";
    case EventName::kPersistTableHigh:
      return "PERSIST_TABLE_HIGH";
    case EventName::kConnDropMaxPersistTbl:
      return "CONN_DROP_MAX_PERSIST_TBL";
    case EventName::kFlowTableFull:
      return "FLOW_TABLE_FULL";
    case EventName::kSnatExhausted:
      return "SNAT_EXHAUSTED";
    case EventName::kAddressConflict:
      return "ADDRESS_CONFLICT";
    case EventName::kConfigApplied:
      return "CONFIG_APPLIED";
    case EventName::kConfigRefused:
      return "CONFIG_REFUSED";
    case EventName::kPeerUp:
      return "PEER_UP";
    case EventName::kPeerDown:
      return "PEER_DOWN";
    case EventName::kPeerSynced:
      return "PEER_SYNCED";
    case EventName::kGroupTaken:
      return "GROUP_TAKEN";
    case EventName::kGroupReleased:
      return "GROUP_RELEASED";
  }
  return "UNKNOWN";
}

EventLog::EventLog(std::ostream* lines, std::size_t kept) : lines_(lines), kept_(kept) {
  LIMPET_ASSERT(kept > 0);
}

bool EventLog::record(timing::Instant now, timing::WallTime wall, EventName name,
                      std::string_view object, std::string_view message) {
  Pair pair{name, std::string(object)};
  auto found = recent_.find(pair);
  if (found != recent_.end()) {
    Recent& recent = found->second;
    if (now - recent.last < kInterval) {
      if (recent.suppressed++ == 0) owed_.emplace(recent.last, std::move(pair));
      recent.time = wall;
      recent.message = message;
      return false;
    }
  } else {
    if (recent_.size() >= kPairsMax) {
      const auto oldest = recent_.find(order_.front());
      owed_.erase({oldest->second.last, oldest->first});
      recent_.erase(oldest);
      order_.pop_front();
    }
    const auto place = order_.insert(order_.end(), pair);
    found = recent_.emplace(std::move(pair), Recent{.last = now, .place = place}).first;
  }
  tell(found, now, wall, std::string(message), found->second.suppressed);
  return true;
}

void EventLog::tell_suppressed(timing::Instant now, std::size_t most) {
  for (; most > 0 && !owed_.empty() && now - owed_.begin()->first >= kInterval; --most)
    tell_first_owed(now);
}

void EventLog::tell_all_suppressed(timing::Instant now) {
  while (!owed_.empty()) tell_first_owed(now);
}

void EventLog::tell_first_owed(timing::Instant now) {
  const auto pair = recent_.find(owed_.begin()->second);
  Recent& recent = pair->second;
  tell(pair, now, recent.time, std::move(recent.message), recent.suppressed - 1);
}

void EventLog::tell(Pairs::iterator pair, timing::Instant now, timing::WallTime wall,
                    std::string message, uint64_t more) {
  Recent& recent = pair->second;
  if (recent.suppressed > 0) owed_.erase({recent.last, pair->first});
  recent.suppressed = 0;
  recent.message.clear();
  recent.last = now;
  order_.splice(order_.end(), order_, recent.place);

  if (more > 0) message += fmt::format(" ({} more suppressed)", more);
  if (events_.size() >= kept_) events_.pop_front();
  events_.push_back(Event{.seq = next_seq_++,
                          .time = wall,
                          .name = pair->first.first,
                          .object = pair->first.second,
                          .message = std::move(message)});
  if (lines_ != nullptr) *lines_ << to_json_line(events_.back()) << '\n' << std::flush;
}

EventPage EventLog::after(uint64_t after, std::size_t limit) const {
  EventPage page;
  page.next = std::min(after, last_seq());
  if (events_.empty() || after >= last_seq()) return page;
  const uint64_t first_held = events_.front().seq;
  std::size_t index = after < first_held ? 0 : static_cast<std::size_t>(after + 1 - first_held);
  for (; index < events_.size() && page.events.size() < limit; ++index)
    page.events.push_back(events_[index]);
  if (!page.events.empty()) page.next = page.events.back().seq;
  return page;
}

std::string to_json_line(const Event& event) {
  const nlohmann::ordered_json line = {{"seq", event.seq},
                                       {"time", rfc3339(event.time)},
                                       {"name", to_string(event.name)},
                                       {"object", event.object},
                                       {"message", event.message}};
  // Names come from documents and peers: text that is not UTF-8 must not throw.
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace limpet::telemetry
