// binding::merge() lets engines converge, for any input.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/binding/change.h"

namespace limpet::binding {
namespace {

// What one engine may know of a key: small numbers, so that records meet. Through merge(), which
// leaves no lineage that its own tombstone has killed.
Record any_record() {
  Record r;
  r.stamp = Stamp{*rc::gen::inRange<uint64_t>(0, 6)};
  r.epoch = *rc::gen::inRange(0u, 3u);
  r.held = *rc::gen::arbitrary<bool>();
  r.server = ServerId{*rc::gen::inRange<uint64_t>(0, 4)};
  r.first = ServerId{*rc::gen::inRange<uint64_t>(0, 4)};
  r.deleted = Stamp{*rc::gen::inRange<uint64_t>(0, 6)};
  r.act = Stamp{*rc::gen::inRange<uint64_t>(0, 4)};
  return merge(r, r);
}

// Whether a tombstone kills one of the lineages and not another. The earlier may then have beaten
// the later before its tombstone comes, or come after it: which one it was, the merged record does
// not say. Such engines agree because whoever has a binding beside a tombstone tells all.
bool tombstone_between(const std::vector<Record>& records) {
  Stamp deleted;
  for (const Record& r : records) deleted = std::max(deleted, r.deleted);
  const auto killed = [&](const Record& r) { return r.live() && r.stamp <= deleted; };
  const auto lives = [&](const Record& r) { return r.live() && r.stamp > deleted; };
  return std::any_of(records.begin(), records.end(), killed) &&
         std::any_of(records.begin(), records.end(), lives);
}

// Two lineages that no tombstone has killed, the earlier first.
std::pair<Record, Record> two_lineages() {
  Record a = any_record(), b = any_record();
  a.stamp = Stamp{*rc::gen::inRange<uint64_t>(6, 8)};
  b.stamp = Stamp{*rc::gen::inRange<uint64_t>(8, 10)};
  return {a, b};
}

RC_GTEST_PROP(Merge, IsCommutative, ()) {
  const Record a = any_record(), b = any_record();
  RC_ASSERT(merge(a, b) == merge(b, a));
}

RC_GTEST_PROP(Merge, IsAssociative, ()) {
  const Record a = any_record(), b = any_record(), c = any_record();
  RC_PRE(!tombstone_between({a, b, c}));
  RC_ASSERT(merge(merge(a, b), c) == merge(a, merge(b, c)));
}

RC_GTEST_PROP(Merge, IsIdempotent, ()) {
  const Record a = any_record(), b = any_record();
  RC_ASSERT(merge(a, a) == a);
  RC_ASSERT(merge(merge(a, b), b) == merge(a, b));
}

RC_GTEST_PROP(Merge, AnyOrderAndRepetitionComesToTheSame, ()) {
  std::vector<Record> records;
  const int count = *rc::gen::inRange(1, 5);
  for (int i = 0; i < count; ++i) records.push_back(any_record());
  RC_PRE(!tombstone_between(records));
  Record expected;
  for (const Record& r : records) expected = merge(expected, r);
  base::Random random(*rc::gen::arbitrary<uint64_t>());
  std::vector<Record> shuffled = records;
  for (const Record& r : records) {
    if (random.below(2) == 0) shuffled.push_back(r);  // came twice
  }
  for (std::size_t i = shuffled.size(); i > 1; --i)
    std::swap(shuffled[i - 1], shuffled[random.below(static_cast<uint32_t>(i))]);
  Record got;
  for (const Record& r : shuffled) got = merge(got, r);
  RC_ASSERT(got == expected);
}

RC_GTEST_PROP(Merge, ATombstoneSparesALaterLineageThatItMeets, ()) {
  const auto [a, b] = two_lineages();
  Record deletion;
  deletion.deleted = a.stamp;
  RC_ASSERT(merge(merge(deletion, a), b).stamp == b.stamp);
  RC_ASSERT(merge(merge(deletion, b), a).stamp == b.stamp);
}

RC_GTEST_PROP(Merge, NothingKnownChangesNothing, ()) {
  const Record a = any_record();
  RC_ASSERT(merge(a, {}) == a);
  RC_ASSERT(merge({}, a) == a);
}

RC_GTEST_PROP(Merge, TheEarlierOfTwoLiveLineagesWins, ()) {
  const auto [a, b] = two_lineages();
  const Record merged = merge(a, b);
  RC_ASSERT(merged.stamp == a.stamp && merged.server == a.server && merged.epoch == a.epoch);
}

RC_GTEST_PROP(Merge, AnExpiredLineageYields, ()) {
  const auto [a, b] = two_lineages();
  RC_ASSERT(merge(a, b, {.a = true}).stamp == b.stamp);
}

RC_GTEST_PROP(Merge, ATombstoneKillsEveryLineageUpToIt, ()) {
  const Record a = any_record(), b = any_record();
  const Record merged = merge(a, b);
  RC_ASSERT(merged.deleted == std::max(a.deleted, b.deleted));
  RC_ASSERT(!merged.live() || merged.stamp > merged.deleted);
}

RC_GTEST_PROP(Merge, TheLatestActivityStaysWhoeverWins, ()) {
  const Record a = any_record(), b = any_record();
  const Record merged = merge(a, b);
  RC_ASSERT(merged.act == (merged.live() ? std::max(a.act, b.act) : Stamp{}));
}

}  // namespace
}  // namespace limpet::binding
