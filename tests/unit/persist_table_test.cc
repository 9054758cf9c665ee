// persist::Table: stores and finds; capacities are exact, handles of what has gone are null.
#include "dataplane/persist/table.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace limpet::persist {
namespace {

constexpr binding::ScopeSlot kScope{0};
constexpr binding::ScopeSlot kOtherScope{1};

binding::Key key(uint32_t n) {
  return binding::Key::of(net::Address::v4_host(0x0a000000u + n));
}

class PersistTable : public testing::Test {
 protected:
  Table make(Table::Capacity capacity) {
    return Table(capacity, hash_, std::pmr::get_default_resource());
  }

  base::Random random_{1};
  base::KeyedHash hash_{random_};
};

TEST_F(PersistTable, FindsWhatWasInserted) {
  Table table = make({.entries = 8});
  Entry& e = table.insert(kScope, key(1));
  EXPECT_EQ(table.find(kScope, key(1)), &e);
}

TEST_F(PersistTable, ANewEntryIsACopyAndEmptyButForItsKey) {
  Table table = make({.entries = 8});
  const Entry& e = table.insert(kScope, key(1));
  EXPECT_EQ(e.key, key(1));
  EXPECT_EQ(e.scope, kScope);
  EXPECT_EQ(e.server, binding::kNoServer);
  EXPECT_EQ(e.open, 0u);
  EXPECT_FALSE(e.confirmed);
  EXPECT_FALSE(e.is_home());
}

TEST_F(PersistTable, FindsNothingInAnEmptyTable) {
  Table table = make({.entries = 8});
  EXPECT_EQ(table.find(kScope, key(1)), nullptr);
}

TEST_F(PersistTable, TheSameKeyInTwoScopesIsTwoEntries) {
  Table table = make({.entries = 8});
  Entry& one = table.insert(kScope, key(1));
  Entry& other = table.insert(kOtherScope, key(1));
  EXPECT_EQ(table.find(kScope, key(1)), &one);
  EXPECT_EQ(table.find(kOtherScope, key(1)), &other);
}

TEST_F(PersistTable, FindsNothingOfWhatWasErased) {
  Table table = make({.entries = 8});
  table.erase(table.insert(kScope, key(1)));
  EXPECT_EQ(table.find(kScope, key(1)), nullptr);
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(PersistTable, HoldsItsCapacityAgainAfterAllWereErased) {
  constexpr uint32_t kEntries = 100;
  Table table = make({.entries = kEntries});
  for (int round = 0; round < 2; ++round) {
    for (uint32_t n = 0; n < kEntries; ++n) table.insert(kScope, key(n));
    EXPECT_EQ(table.size(), kEntries);
    for (uint32_t n = 0; n < kEntries; ++n) table.erase(*table.find(kScope, key(n)));
  }
  EXPECT_EQ(table.places(), kEntries);
}

TEST_F(PersistTable, AnEntryInAUsedPlaceKnowsNothingOfTheOneBefore) {
  Table table = make({.entries = 1});
  Entry& first = table.insert(kScope, key(1));
  first.server = binding::ServerId{7};
  first.open = 3;
  table.erase(first);
  const Entry& second = table.insert(kScope, key(2));
  EXPECT_EQ(second.server, binding::kNoServer);
  EXPECT_EQ(second.open, 0u);
}

// --- batches ------------------------------------------------------------------------------------

TEST_F(PersistTable, ABatchFindsWhatSingleLookupsFind) {
  constexpr uint32_t kEntries = 1000;
  Table table = make({.entries = kEntries});
  for (uint32_t n = 0; n < kEntries; ++n) table.insert(kScope, key(2 * n));
  for (uint32_t first = 0; first < 2 * kEntries; first += Table::kBatchMax) {
    std::array<binding::Key, Table::kBatchMax> keys;
    for (uint32_t i = 0; i < keys.size(); ++i) keys[i] = key(first + i);
    Entry* found[Table::kBatchMax];
    table.find(kScope, keys, found);
    for (uint32_t i = 0; i < keys.size(); ++i) EXPECT_EQ(found[i], table.find(kScope, keys[i]));
  }
}

TEST_F(PersistTable, ABatchMayBeShort) {
  Table table = make({.entries = 8});
  Entry& e = table.insert(kScope, key(1));
  Entry* found[2] = {&e, &e};
  table.find(kScope, std::array{key(2)}, found);
  EXPECT_EQ(found[0], nullptr);
  EXPECT_EQ(found[1], &e) << "past the batch";
}

TEST_F(PersistTable, ABatchLooksInItsScopeOnly) {
  Table table = make({.entries = 8});
  table.insert(kOtherScope, key(1));
  Entry* found[1];
  table.find(kScope, std::array{key(1)}, found);
  EXPECT_EQ(found[0], nullptr);
}

// --- records ------------------------------------------------------------------------------------

TEST_F(PersistTable, ARecordAndItsHomeKnowEachOther) {
  Table table = make({.entries = 8, .homes = 8});
  Entry* record = table.insert_home(kScope, key(1));
  ASSERT_NE(record, nullptr);
  EXPECT_TRUE(record->is_home());
  EXPECT_EQ(table.home(*record).entry, table.place_of(*record));
  EXPECT_EQ(table.record_at(record->home), record);
  EXPECT_EQ(table.records(), 1u);
}

TEST_F(PersistTable, CopiesAreNoRecords) {
  Table table = make({.entries = 8, .homes = 8});
  table.insert(kScope, key(1));
  EXPECT_EQ(table.records(), 0u);
  EXPECT_EQ(table.home_places(), 0u);
}

TEST_F(PersistTable, AHomeThatIsFullRefusesARecordAndTakesACopy) {
  Table table = make({.entries = 8, .homes = 2});
  EXPECT_NE(table.insert_home(kScope, key(1)), nullptr);
  EXPECT_NE(table.insert_home(kScope, key(2)), nullptr);
  EXPECT_EQ(table.insert_home(kScope, key(3)), nullptr);
  EXPECT_EQ(table.find(kScope, key(3)), nullptr);
  EXPECT_FALSE(table.insert(kScope, key(3)).is_home());
}

TEST_F(PersistTable, AnErasedRecordMakesRoomForAnotherWithAHomeOfItsOwn) {
  Table table = make({.entries = 8, .homes = 1});
  Entry* record = table.insert_home(kScope, key(1));
  table.home(*record).copies = 3;
  const uint32_t home = record->home;
  table.erase(*record);
  EXPECT_EQ(table.record_at(home), nullptr);
  EXPECT_EQ(table.records(), 0u);
  record = table.insert_home(kScope, key(2));
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(table.home(*record).copies, 0u);
}

// --- handles ------------------------------------------------------------------------------------

TEST_F(PersistTable, AHandleFindsItsEntry) {
  Table table = make({.entries = 8});
  Entry& e = table.insert(kScope, key(1));
  e.serial = 5;
  EXPECT_EQ(table.at(table.place_of(e), 5), &e);
}

TEST_F(PersistTable, AHandleIsNullOnceItsEntryWasErased) {
  Table table = make({.entries = 8});
  Entry& e = table.insert(kScope, key(1));
  e.serial = 5;
  const uint32_t place = table.place_of(e);
  table.erase(e);
  EXPECT_EQ(table.at(place, 5), nullptr);
}

TEST_F(PersistTable, AHandleIsNullWhenItsPlaceHasAnotherEntry) {
  Table table = make({.entries = 8});
  Entry& e = table.insert(kScope, key(1));
  e.serial = 5;
  const uint32_t place = table.place_of(e);
  table.erase(e);
  Entry& next = table.insert(kScope, key(2));
  next.serial = 6;
  ASSERT_EQ(table.place_of(next), place);
  EXPECT_EQ(table.at(place, 5), nullptr);
}

TEST_F(PersistTable, AHandleIsNullWhenTheBindingBeganAnotherLife) {
  Table table = make({.entries = 8});
  Entry& e = table.insert(kScope, key(1));
  e.serial = 6;
  EXPECT_EQ(table.at(table.place_of(e), 5), nullptr);
}

TEST_F(PersistTable, AHandleOfAPlaceThatWasNeverUsedIsNull) {
  Table table = make({.entries = 8});
  EXPECT_EQ(table.at(3, 0), nullptr);
  EXPECT_EQ(table.at(UINT32_MAX, 5), nullptr);
}

TEST_F(PersistTable, AWalkOverPlacesSeesTheFreeOnesAsNull) {
  Table table = make({.entries = 8});
  Entry& one = table.insert(kScope, key(1));
  Entry& other = table.insert(kScope, key(2));
  const uint32_t free = table.place_of(one);
  table.erase(one);
  EXPECT_EQ(table.places(), 2u);
  EXPECT_EQ(table.entry_at(free), nullptr);
  EXPECT_EQ(table.entry_at(table.place_of(other)), &other);
}

// --- sizes --------------------------------------------------------------------------------------

TEST(HomesOf, ASmallTableHasOneHome) {
  EXPECT_EQ(homes_of(8, 1), 1u);
  EXPECT_EQ(homes_of(8, 1024), 1u);
  EXPECT_EQ(homes_of(8, 2047), 1u);
}

TEST(HomesOf, ALargeTableHasAHomeOnEachCore) {
  EXPECT_EQ(homes_of(8, 8 * 1024), 8u);
  EXPECT_EQ(homes_of(64, 1u << 20), 64u);
  EXPECT_EQ(homes_of(1, 1u << 20), 1u);
}

TEST(HomesOf, ATableInBetweenHasAHomeForEach1024Entries) {
  EXPECT_EQ(homes_of(8, 3 * 1024), 3u);
}

TEST(HomeRecordsOf, OneHomeHasRoomForAll) {
  EXPECT_EQ(home_records_of(1, 1u << 20), 1u << 20);
  EXPECT_EQ(home_records_of(8, 1000), 1000u);
}

TEST(HomeRecordsOf, EachOfSeveralHasItsShareAndEightStandardDeviations) {
  EXPECT_EQ(home_records_of(4, 40'000), 10'000u + 8 * 100 + 1);
}

TEST(HomeRecordsOf, IsNeverMoreThanThereAreBindings) {
  for (uint32_t limit = 2048; limit < 8192; limit += 512) {
    EXPECT_LE(home_records_of(8, limit), limit);
    EXPECT_GE(home_records_of(8, limit), limit / 8);
  }
}

TEST(HomeRecordsOf, SharesOfARealHashFit) {
  constexpr uint32_t kCores = 8, kBindings = 100'000;
  base::Random random(7);
  const base::KeyedHash hash(random);
  std::vector<uint32_t> records(kCores);
  for (uint32_t n = 0; n < kBindings; ++n)
    ++records[base::reduce(binding::hash_of(hash, kScope, key(n)), kCores)];
  for (const uint32_t count : records) EXPECT_LE(count, home_records_of(kCores, kBindings));
}

TEST_F(PersistTable, TakesNoMoreMemoryThanItSaid) {
  for (const uint32_t entries : {1u, 100u, 65536u}) {
    const Table::Capacity capacity{.entries = entries, .homes = entries};
    const std::size_t bytes = make(capacity).bytes();
    EXPECT_LE(bytes, Table::bytes_for(capacity));
    EXPECT_GE(bytes, entries * (sizeof(Entry) + sizeof(Home))) << "less than the entries take";
  }
}

}  // namespace
}  // namespace limpet::persist
