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

TEST(Pace, IsSlowWhenThereIsNothing) {
  Thread thread(1);
  EXPECT_EQ(thread.after(0, milliseconds(100)), Pace::kSlow);
}

TEST(Pace, IsSlowForAFew) {
  Thread thread(1);
  EXPECT_EQ(thread.after(10'000, milliseconds(100)), Pace::kSlow);
}

TEST(Pace, IsFastForMany) {
  Thread thread(1);
  EXPECT_EQ(thread.after(50'000, milliseconds(100)), Pace::kFast);
  EXPECT_EQ(thread.after(1'000'000, milliseconds(100)), Pace::kFast);
}

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

TEST(Pace, IsSlowSoonAfterTheLast) {
  Thread thread(1);
  thread.after(1'000'000, milliseconds(1000));
  EXPECT_EQ(thread.after(0, milliseconds(20)), Pace::kSlow);
}

TEST(Pace, IsSlowWithoutPeers) {
  Thread thread(0);
  EXPECT_EQ(thread.after(200'000, milliseconds(100)), Pace::kSlow);
}

TEST(Pace, TakesTheCostOfManyPeersIntoAccount) {
  Thread thread(15);
  EXPECT_EQ(thread.after(50'000, milliseconds(100)), Pace::kSlow);
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
