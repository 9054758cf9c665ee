// The event log: numbering, bounds, the one-per-second rule, and the lines it writes.
#include "common/telemetry/events.h"

#include <gtest/gtest.h>

#include <sstream>

#include "common/telemetry/timestamp.h"

namespace limpet::telemetry {
namespace {

constexpr timing::Instant at_ms(int64_t ms) {
  return {ms * 1'000'000};
}
constexpr timing::WallTime kNoon{1'769'860'800'000'000'000};  // 2026-01-31T12:00:00Z

TEST(Timestamp, is_utc_with_milliseconds_rounded_down) {
  EXPECT_EQ(rfc3339(kNoon), "2026-01-31T12:00:00.000Z");
  EXPECT_EQ(rfc3339({kNoon.ns + 1'999'999}), "2026-01-31T12:00:00.001Z");
  EXPECT_EQ(rfc3339({0}), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(rfc3339({-1}), "1969-12-31T23:59:59.999Z");
  EXPECT_EQ(rfc3339({951'782'400'000'000'000}), "2000-02-29T00:00:00.000Z");
}

TEST(EventLog, numbers_events_from_one) {
  EventLog log(nullptr);
  EXPECT_EQ(log.last_seq(), 0u);
  EXPECT_TRUE(log.record(at_ms(0), kNoon, EventName::kServerUp, "10.2.0.2:80", "up"));
  EXPECT_TRUE(log.record(at_ms(0), kNoon, EventName::kServerUp, "10.2.0.3:80", "up"));
  const EventPage page = log.after(0, 10);
  ASSERT_EQ(page.events.size(), 2u);
  EXPECT_EQ(page.events[0].seq, 1u);
  EXPECT_EQ(page.events[1].seq, 2u);
  EXPECT_EQ(page.events[1].object, "10.2.0.3:80");
  EXPECT_EQ(page.next, 2u);
}

TEST(EventLog, gives_pages_in_order_until_nothing_is_left) {
  EventLog log(nullptr);
  for (int i = 0; i < 5; ++i)
    log.record(at_ms(0), kNoon, EventName::kVsUp, std::to_string(i), "up");
  EXPECT_EQ(log.after(0, 2).next, 2u);
  EXPECT_EQ(log.after(2, 2).events[0].object, "2");
  EXPECT_EQ(log.after(4, 2).events.size(), 1u);
  EXPECT_TRUE(log.after(5, 2).events.empty());
  EXPECT_EQ(log.after(5, 2).next, 5u);
}

TEST(EventLog, tells_a_reader_from_before_a_restart_where_it_stands) {
  EventLog log(nullptr);
  log.record(at_ms(0), kNoon, EventName::kVsUp, "web", "up");
  EXPECT_TRUE(log.after(500, 10).events.empty());
  EXPECT_EQ(log.after(500, 10).next, 1u);
  EXPECT_EQ(log.after(UINT64_MAX, 10).next, 1u);
}

TEST(EventLog, keeps_the_last_events_only) {
  EventLog log(nullptr, 3);
  for (int i = 0; i < 5; ++i)
    log.record(at_ms(0), kNoon, EventName::kVsUp, std::to_string(i), "up");
  EXPECT_EQ(log.size(), 3u);
  const EventPage page = log.after(0, 10);
  ASSERT_EQ(page.events.size(), 3u);
  EXPECT_EQ(page.events[0].seq, 3u);
  EXPECT_EQ(log.after(3, 10).events[0].seq, 4u);
}

TEST(EventLog, records_one_event_per_name_and_object_and_second) {
  EventLog log(nullptr);
  EXPECT_TRUE(log.record(at_ms(0), kNoon, EventName::kServerDown, "a", "down"));
  EXPECT_FALSE(log.record(at_ms(999), kNoon, EventName::kServerDown, "a", "down"));
  EXPECT_TRUE(log.record(at_ms(999), kNoon, EventName::kServerUp, "a", "up"));
  EXPECT_TRUE(log.record(at_ms(999), kNoon, EventName::kServerDown, "b", "down"));
  EXPECT_TRUE(log.record(at_ms(1000), kNoon, EventName::kServerDown, "a", "down"));
}

TEST(EventLog, counts_what_was_suppressed_into_the_next_event) {
  EventLog log(nullptr);
  log.record(at_ms(0), kNoon, EventName::kSnatExhausted, "a", "no port");
  log.record(at_ms(1), kNoon, EventName::kSnatExhausted, "a", "no port");
  log.record(at_ms(2), kNoon, EventName::kSnatExhausted, "a", "no port");
  log.record(at_ms(1500), kNoon, EventName::kSnatExhausted, "a", "no port");
  log.record(at_ms(2500), kNoon, EventName::kSnatExhausted, "a", "no port");
  const EventPage page = log.after(0, 10);
  ASSERT_EQ(page.events.size(), 3u);
  EXPECT_EQ(page.events[1].message, "no port (2 more suppressed)");
  EXPECT_EQ(page.events[2].message, "no port");
}

// A table that is full again within a second: nobody heard of it, ever.
TEST(EventLog, tells_the_latest_suppressed_event_when_its_second_is_over) {
  EventLog log(nullptr);
  const auto record = [&](int ms, std::string_view object, std::string_view message) {
    log.record(at_ms(ms), kNoon + timing::milliseconds(ms), EventName::kPersistTableHigh, object,
               message);
  };
  record(0, "a", "a 1");
  record(100, "b", "b 1");
  record(200, "b", "b 2");
  record(300, "a", "a 2");
  record(400, "a", "a 3");
  log.tell_suppressed(at_ms(999));
  EXPECT_EQ(log.size(), 2u);
  log.tell_suppressed(at_ms(1050));
  log.tell_suppressed(at_ms(1060));
  ASSERT_EQ(log.size(), 3u);
  const Event told = log.after(2, 1).events[0];
  EXPECT_EQ(told.message, "a 3 (1 more suppressed)");
  EXPECT_EQ(told.time, kNoon + timing::milliseconds(400));
  // It counts as one of its second; an event that comes first tells what is owed.
  record(1900, "a", "a 4");
  record(1950, "b", "b 3");
  log.tell_suppressed(at_ms(5000));
  log.tell_suppressed(at_ms(9000));
  const EventPage page = log.after(3, 10);
  ASSERT_EQ(page.events.size(), 2u);
  EXPECT_EQ(page.events[0].message, "b 3 (1 more suppressed)");
  EXPECT_EQ(page.events[1].message, "a 4");
}

TEST(EventLog, tells_what_it_owes_before_it_ends) {
  EventLog log(nullptr);
  for (const char* object : {"a", "b"}) {
    for (const char* message : {"1", "2", "3"})
      log.record(at_ms(10), kNoon, EventName::kServerUp, object, message);
  }
  log.tell_all_suppressed(at_ms(20));
  const EventPage page = log.after(2, 10);
  ASSERT_EQ(page.events.size(), 2u);
  EXPECT_EQ(page.events[0].object + page.events[0].message, "a3 (1 more suppressed)");
  EXPECT_EQ(page.events[1].object + page.events[1].message, "b3 (1 more suppressed)");
  log.tell_all_suppressed(at_ms(30));
  EXPECT_EQ(log.size(), 4u);
}

TEST(EventLog, forgets_the_oldest_pair_when_too_many_are_remembered) {
  EventLog log(nullptr);
  for (std::size_t i = 0; i <= EventLog::kPairsMax; ++i)
    EXPECT_TRUE(log.record(at_ms(0), kNoon, EventName::kVsUp, std::to_string(i), ""));
  EXPECT_TRUE(log.record(at_ms(0), kNoon, EventName::kVsUp, "0", ""));
  EXPECT_FALSE(log.record(at_ms(0), kNoon, EventName::kVsUp, "2", ""));
  // With what it owes.
  EXPECT_TRUE(log.record(at_ms(1), kNoon, EventName::kVsDown, "", ""));
  EXPECT_TRUE(log.record(at_ms(1), kNoon, EventName::kVsUp, "1", ""));
  const uint64_t told = log.last_seq();
  log.tell_suppressed(at_ms(2000));
  EXPECT_EQ(log.last_seq(), told);
}

TEST(EventLog, writes_each_event_as_one_json_line) {
  std::ostringstream lines;
  EventLog log(&lines);
  log.record(at_ms(0), kNoon, EventName::kAddressConflict, "10.1.0.100", "seen \"at\"\n\xff");
  log.record(at_ms(0), kNoon, EventName::kAddressConflict, "10.1.0.100", "suppressed");
  EXPECT_EQ(lines.str(),
            "{\"seq\":1,\"time\":\"2026-01-31T12:00:00.000Z\",\"name\":\"ADDRESS_CONFLICT\","
            "\"object\":\"10.1.0.100\",\"message\":\"seen \\\"at\\\"\\n\xEF\xBF\xBD\"}\n");
}

TEST(EventLog, has_the_names_users_know) {
  EXPECT_EQ(to_string(EventName::kConnDropMaxPersistTbl), "CONN_DROP_MAX_PERSIST_TBL");
  EXPECT_EQ(to_string(EventName::kGroupReleased), "GROUP_RELEASED");
}

}  // namespace
}  // namespace limpet::telemetry
