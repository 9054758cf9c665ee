// How often the control thread looks for news, by how much there is.
#include "control/engine/pace.h"

#include <gtest/gtest.h>

namespace limpet::engine {
namespace {

using timing::Duration;
using timing::Instant;
using timing::milliseconds;

// A control thread that is never late.
struct Thread {
  explicit Thread(uint32_t peers) : pace(peers) {}

  // So many a second for so long; the time between the last two looks.
  Duration after(uint64_t per_second, Duration time) {
    Duration wait{};
    for (const Instant end = now + time; now < end;) {
      wait = pace.next(last, now);
      now = now + wait;
      owed += per_second * static_cast<uint64_t>(wait.count());
      last.value += owed / 1'000'000'000;
      owed %= 1'000'000'000;
    }
    return wait;
  }

  Pace pace;
  Instant now;
  mirroring::Sequence last;
  uint64_t owed = 0;  // in 10^-9
};

struct Case {
  const char* name;
  uint32_t peers;
  uint64_t before;  // a second, for a second
  uint64_t per_second;
  Duration time;
  Duration wait;
};

class PaceOf : public testing::TestWithParam<Case> {};

TEST_P(PaceOf, SoMany) {
  Thread thread(GetParam().peers);
  thread.after(GetParam().before, milliseconds(1000));
  EXPECT_EQ(thread.after(GetParam().per_second, GetParam().time), GetParam().wait);
}

constexpr Case kCases[] = {
    {"nothing", 1, 0, 0, milliseconds(100), Pace::kSlow},
    {"a_few", 1, 0, 10'000, milliseconds(100), Pace::kSlow},
    {"many", 1, 0, 50'000, milliseconds(100), Pace::kFast},
    {"very_many", 1, 50'000, 1'000'000, milliseconds(100), Pace::kFast},
    {"soon_after_the_last", 1, 1'000'000, 0, milliseconds(20), Pace::kSlow},
    {"nobody_to_tell", 0, 0, 200'000, milliseconds(100), Pace::kSlow},
    {"many_peers_cost_much", 15, 0, 50'000, milliseconds(100), Pace::kSlow},
};

INSTANTIATE_TEST_SUITE_P(Cases, PaceOf, testing::ValuesIn(kCases),
                         [](const auto& p) { return p.param.name; });

TEST(Pace, WaitsForSomeToTellTogether) {
  Thread thread(1);
  const Duration wait = thread.after(32'000, milliseconds(100));
  EXPECT_GE(wait, Pace::kSlow * 2 / 5);
  EXPECT_LE(wait, Pace::kSlow * 3 / 5);
}

TEST(Pace, IsFastSoonAfterTheFirst) {
  Thread thread(1);
  thread.after(0, milliseconds(1000));
  EXPECT_LE(thread.after(50'000, milliseconds(5)), Pace::kSlow / 2);
}

TEST(Pace, KeepsItsLimitsAfterAYearWithoutALook) {
  Pace pace(16);
  pace.next({}, Instant{});
  const Instant late = Instant{} + timing::seconds(365 * 86'400);
  const Duration wait = pace.next(mirroring::kSequenceMax, late);
  EXPECT_GE(wait, Pace::kFast);
  EXPECT_LE(wait, Pace::kSlow);
}

}  // namespace
}  // namespace limpet::engine
