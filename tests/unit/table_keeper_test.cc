#include "control/engine/table_keeper.h"

#include <gtest/gtest.h>

#include <map>

#include "common/base/random.h"

namespace limpet::engine {
namespace {

using binding::Change;
using binding::Key;
using binding::Merge;
using binding::Record;
using binding::ScopeId;
using binding::ScopeSlot;
using binding::ServerId;
using binding::Stamp;
using mirroring::Exchange;
using timing::Instant;
using timing::milliseconds;
using timing::seconds;
using timing::WallTime;

constexpr ScopeId kScope{77};
constexpr ScopeSlot kSlot{0};

Key key(uint32_t n) {
  return Key::of(net::Address::v4_host(n));
}

std::string joined(const std::vector<std::string>& pieces) {
  std::string out;
  for (const std::string& piece : pieces) out += piece;
  return out;
}

SavedRecord saved(uint32_t n) {
  return {.scope = ScopeId{n},
          .key = key(n + 1),
          .record = {.stamp = Stamp{100 + n},
                     .epoch = 5,
                     .held = n % 2 == 1,
                     .server = ServerId{7},
                     .first = ServerId{8},
                     .timeout_ms = 9,
                     .deleted = Stamp{50},
                     .act = Stamp{200}},
          .act_at = WallTime{1'800'000'000'000'000'000 + n}};
}

std::string content_of(uint32_t records) {
  TableWriter writer;
  for (uint32_t n = 0; n < records; ++n) writer.add(saved(n));
  return joined(writer.finish(Stamp{999}));
}

// --- the file ------------------------------------------------------------------------------------

TEST(TableFile, WhatIsWrittenIsRead) {
  const auto reader = TableReader::open(content_of(3));
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader.value().clock(), Stamp{999});
  ASSERT_EQ(reader.value().count(), 3u);
  for (uint32_t n = 0; n < 3; ++n) EXPECT_EQ(reader.value().at(n), saved(n));
}

TEST(TableFile, AScopesTombstoneIsToldFromABinding) {
  TableWriter writer;
  const SavedRecord tombstone{
      .scope = kScope, .whole_scope = true, .key = {}, .record = {.deleted = Stamp{5}}};
  writer.add(tombstone);
  const auto reader = TableReader::open(joined(writer.finish({})));
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader.value().at(0), tombstone);
}

TEST(TableFile, ManyRecordsComeInPiecesOfBoundedSize) {
  TableWriter writer;
  for (uint32_t n = 0; n < 30'000; ++n) writer.add(saved(n));
  const auto pieces = writer.finish({});
  EXPECT_GT(pieces.size(), 2u);
  for (const std::string& piece : pieces) EXPECT_LE(piece.size(), 1u << 20);
  const auto reader = TableReader::open(joined(pieces));
  ASSERT_TRUE(reader);
  ASSERT_EQ(reader.value().count(), 30'000u);
  EXPECT_EQ(reader.value().at(29'999), saved(29'999));
}

TEST(TableFile, AnotherLengthIsRefused) {
  const std::string good = content_of(2);
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes)
    EXPECT_FALSE(TableReader::open(good.substr(0, bytes))) << bytes;
  const auto longer = TableReader::open(good + "x");
  ASSERT_FALSE(longer);
  EXPECT_NE(longer.errors()[0].message.find("its length is wrong"), std::string::npos);
  EXPECT_TRUE(TableReader::open(good));
}

TEST(TableFile, AnotherVersionIsRefusedWithItsNumber) {
  std::string content = content_of(1);
  content[0] = 2;
  const auto reader = TableReader::open(content);
  ASSERT_FALSE(reader);
  EXPECT_NE(reader.errors()[0].message.find("version 2"), std::string::npos);
}

TEST(TableFile, ValuesThatNoEngineWritesAreRefused) {
  const auto with = [](std::size_t at, uint64_t value) {
    std::string content = content_of(1);
    content.replace(at, sizeof(value), reinterpret_cast<const char*>(&value), sizeof(value));
    return TableReader::open(content).ok();
  };
  constexpr std::size_t kFirst = 24;                            // after the header
  EXPECT_FALSE(with(8, ~uint64_t{0}));                          // clock
  EXPECT_FALSE(with(kFirst + 24, mirroring::kStampEnd.value));  // stamp
  EXPECT_FALSE(with(kFirst + 48, mirroring::kStampEnd.value));  // deleted
  EXPECT_FALSE(with(kFirst + 64, uint64_t{1} << 62));           // when it was active
  EXPECT_TRUE(with(kFirst + 64, (uint64_t{1} << 62) - 1));
}

// --- the keeper ----------------------------------------------------------------------------------

class FakeHome final : public mirroring::HomeRings {
 public:
  uint32_t homes() const override { return 1; }
  uint32_t home_of(ScopeSlot, const Key&) const override { return 0; }
  bool send(uint32_t, const Merge& message) override {
    if (sent.size() >= room) return false;
    sent.push_back(message);
    return true;
  }

  std::vector<Merge> sent;
  std::size_t room = 100'000;
};

// An engine that keeps its table: exchange and keeper, whose Instant zero was at `origin`.
class Keeping {
 public:
  explicit Keeping(WallTime wall_origin) : origin(wall_origin) {
    const Exchange::Scope scope{kScope, kSlot, true, seconds(450)};
    exchange.use(std::span(&scope, 1), 1, now);
  }

  void put(uint32_t n, timing::Instant act_at) {
    Change c{.confirmed = true, .scope = kSlot, .key = key(n)};
    c.record = {.stamp = Stamp{1000 + n}, .server = ServerId{7}, .act = Stamp{1000 + n}};
    c.act_at = act_at;
    exchange.apply(c, now);
  }
  std::string collect_all() const { return joined(keeper.collect_all(origin)); }
  void restore(const std::string& content) {
    auto reader = TableReader::open(content);
    ASSERT_TRUE(reader);
    keeper.begin_restore(std::move(reader.value()), origin);
  }
  // How many ticks it took; 0: it did not come to its end.
  int restore_to_the_end() {
    for (int tick = 1; tick < 1000; ++tick)
      if (keeper.restore(now)) return tick;
    return 0;
  }
  bool collects() { return keeper.collect(now, origin).has_value(); }

  WallTime origin;
  base::Random random{1};
  base::KeyedHash hash{random};
  FakeHome home;
  Exchange exchange{{.entries = 20'000,
                     .surplus = 10,
                     .peers = 1,
                     .node = binding::Maker::number_of_control(0),
                     .wall_origin = origin},
                    home,
                    hash,
                    std::pmr::get_default_resource()};
  TableKeeper keeper{exchange};
  Instant now = Instant{} + seconds(5000);
};

constexpr WallTime kYesterday{1'800'000'000'000'000'000};

TEST(TableKeeper, TheNextRunGetsWhatThisOneHadAtTheSameMoments) {
  Keeping before(kYesterday);
  before.put(1, before.now - seconds(100));
  // Ten seconds later a machine whose monotonic clock began at another moment.
  Keeping after(before.origin + seconds(5000 + 10 - 20));
  after.now = Instant{} + seconds(20);
  after.restore(before.collect_all());
  EXPECT_EQ(after.restore_to_the_end(), 1);
  ASSERT_EQ(after.home.sent.size(), 1u);
  EXPECT_EQ(after.home.sent[0].record.stamp, Stamp{1001});
  EXPECT_EQ(after.home.sent[0].act_at, after.now - seconds(110));
  EXPECT_EQ(after.home.sent[0].source.peer, binding::kNoPeer);
}

TEST(TableKeeper, WhatExpiredMeanwhileDoesNotComeBack) {
  Keeping before(kYesterday);
  before.put(1, before.now - seconds(100));
  before.put(2, before.now - seconds(50));
  Keeping after(before.origin + seconds(375));
  after.restore(before.collect_all());
  EXPECT_EQ(after.restore_to_the_end(), 1);
  ASSERT_EQ(after.home.sent.size(), 1u);
  EXPECT_EQ(after.home.sent[0].key, key(2));
}

TEST(TableKeeper, TheClockIsAboveAllThatWasSeen) {
  Keeping before(kYesterday);
  before.put(1, before.now);
  before.exchange.observe(Stamp{uint64_t{1} << 62});
  Keeping after(kYesterday);
  after.restore(before.collect_all());
  EXPECT_GT(after.exchange.next_stamp(after.now), Stamp{uint64_t{1} << 62});
}

TEST(TableKeeper, RestoringGoesInSlicesAndWaitsForRoom) {
  Keeping before(kYesterday);
  for (uint32_t n = 0; n < 5000; ++n) before.put(n, before.now);
  Keeping after(kYesterday);
  after.home.room = 100;
  after.restore(before.collect_all());
  EXPECT_FALSE(after.keeper.restore(after.now));
  EXPECT_EQ(after.home.sent.size(), 100u);
  after.home.room = 100'000;
  EXPECT_FALSE(after.keeper.restore(after.now));
  EXPECT_LE(after.home.sent.size(), 2000u);
  EXPECT_GT(after.restore_to_the_end(), 1);
  std::map<Key, int> seen;
  for (const Merge& m : after.home.sent) ++seen[m.key];
  EXPECT_EQ(seen.size(), 5000u);
  EXPECT_EQ(after.home.sent.size(), 5000u);
}

TEST(TableKeeper, WithoutAFileThereIsNothingToRestore) {
  Keeping keeping(kYesterday);
  EXPECT_TRUE(keeping.keeper.restore(keeping.now));
}

TEST(TableKeeper, WritesWhenSomethingHasChangedAndNotOtherwise) {
  Keeping keeping(kYesterday);
  keeping.put(1, keeping.now);
  EXPECT_TRUE(keeping.collects());
  keeping.keeper.saved(true, keeping.now);
  EXPECT_TRUE(keeping.keeper.is_saved());
  keeping.now = keeping.now + seconds(100);
  EXPECT_FALSE(keeping.collects());
  keeping.put(2, keeping.now);
  EXPECT_FALSE(keeping.keeper.is_saved());
  EXPECT_TRUE(keeping.collects());
}

TEST(TableKeeper, OneContentAtATimeIsWritten) {
  Keeping keeping(kYesterday);
  keeping.put(1, keeping.now);
  EXPECT_TRUE(keeping.collects());
  keeping.put(2, keeping.now);
  keeping.now = keeping.now + seconds(100);
  EXPECT_FALSE(keeping.collects());
  keeping.keeper.saved(true, keeping.now);
  EXPECT_FALSE(keeping.keeper.is_saved());
  keeping.now = keeping.now + TableKeeper::kIntervalMax;
  EXPECT_TRUE(keeping.collects());
}

TEST(TableKeeper, QuickContentsComeEverySecondAndSlowOnesEveryFour) {
  Keeping keeping(kYesterday);
  keeping.put(1, keeping.now);
  EXPECT_TRUE(keeping.collects());
  keeping.keeper.saved(true, keeping.now + milliseconds(5));
  keeping.put(2, keeping.now);
  keeping.now = keeping.now + milliseconds(999);
  EXPECT_FALSE(keeping.collects());
  keeping.now = keeping.now + milliseconds(1);
  EXPECT_TRUE(keeping.collects());
  keeping.keeper.saved(true, keeping.now + milliseconds(900));
  keeping.put(3, keeping.now);
  keeping.now = keeping.now + milliseconds(3999);
  EXPECT_FALSE(keeping.collects());
  keeping.now = keeping.now + milliseconds(1);
  EXPECT_TRUE(keeping.collects());
}

TEST(TableKeeper, ADeletionDoesNotWait) {
  Keeping keeping(kYesterday);
  keeping.put(1, keeping.now);
  EXPECT_TRUE(keeping.collects());
  keeping.keeper.saved(true, keeping.now);
  keeping.put(2, keeping.now);
  keeping.keeper.hurry();
  EXPECT_TRUE(keeping.collects());
}

TEST(TableKeeper, WhatCouldNotBeWrittenIsWrittenAgain) {
  Keeping keeping(kYesterday);
  keeping.put(1, keeping.now);
  EXPECT_TRUE(keeping.collects());
  keeping.keeper.saved(false, keeping.now);
  keeping.now = keeping.now + TableKeeper::kIntervalMin;
  EXPECT_TRUE(keeping.collects());
}

}  // namespace
}  // namespace limpet::engine
