// Wheel: who is looked at when, and how often, against deadlines kept beside it.
#include "common/timing/wheel.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "common/base/random.h"

namespace limpet::timing {
namespace {

// Records with deadlines and what became of them.
class Records {
  struct Record {
    WheelLinks links;
    Tick deadline;
    bool waiting = false;
  };
  auto links() {
    return [this](uint32_t id) -> WheelLinks& { return records_[id].links; };
  }

 public:
  Records(uint32_t count, Tick now)
      : wheel_(std::make_unique<Wheel>(now)), now_(now), records_(count) {}

  void add(uint32_t id, Tick deadline) {
    records_[id].deadline = deadline;
    records_[id].waiting = true;
    wheel_->add(id, deadline, links());
  }
  void remove(uint32_t id) {
    wheel_->remove(id, links());
    records_[id].waiting = false;
  }
  // Moves time to `now` in one call; the ids looked at whose time had come are done.
  uint32_t advance(Tick now, uint32_t budget = UINT32_MAX - 1) {
    now_ = now;
    uint32_t looks = 0;
    wheel_->advance(now, budget, links(), [&](uint32_t id) {
      ++looks;
      Record& r = records_[id];
      EXPECT_TRUE(r.waiting) << id;
      if (now.reached(r.deadline)) {
        r.waiting = false;
        ++done_;
      } else {
        wheel_->add(id, r.deadline, links());
      }
    });
    return looks;
  }

  bool waiting(uint32_t id) const { return records_[id].waiting; }
  void postpone(uint32_t id, Tick deadline) { records_[id].deadline = deadline; }
  uint32_t done() const { return done_; }
  std::size_t size() const { return records_.size(); }
  Tick deadline(uint32_t id) const { return records_[id].deadline; }

 private:
  std::unique_ptr<Wheel> wheel_;
  Tick now_;
  std::vector<Record> records_;
  uint32_t done_ = 0;
};

constexpr uint32_t kTurn = Wheel::kSlots * Wheel::kTicksPerSlot;  // ticks once around

TEST(Wheel, NobodyIsLookedAtBeforeItsDeadline) {
  for (uint32_t offset = 0; offset < 20; ++offset) {
    Records r(1, {1000});
    r.add(0, {1000 + offset});
    for (uint32_t t = 1000; t < 1000 + offset; ++t) {
      EXPECT_EQ(r.advance({t}), 0u) << "deadline +" << offset << ", now +" << t - 1000;
    }
    r.advance({1000 + offset + 2 * Wheel::kTicksPerSlot});
    EXPECT_FALSE(r.waiting(0));
  }
}

TEST(Wheel, ADeadlineIsSeenAtMostOneSlotLate) {
  Records r(1, {0});
  r.add(0, {803});
  r.advance({807});
  EXPECT_TRUE(r.waiting(0));
  r.advance({808});
  EXPECT_FALSE(r.waiting(0));
}

TEST(Wheel, ADeadlineThatPassedAlreadyIsSeenSoon) {
  Records r(1, {10'000});
  r.add(0, {3});
  r.advance({10'000 + Wheel::kTicksPerSlot});
  EXPECT_FALSE(r.waiting(0));
}

TEST(Wheel, AFarDeadlineGoesAroundUntilItsTime) {
  Records r(1, {77});
  const Tick deadline{77 + 20 * kTurn + 5};
  r.add(0, deadline);
  uint32_t looks = 0;
  for (uint32_t t = 77; !Tick{t}.reached(deadline); t += 100) looks += r.advance({t});
  EXPECT_TRUE(r.waiting(0));
  EXPECT_GE(looks, 19u);
  EXPECT_LE(looks, 21u);
  r.advance({deadline.value + 2 * Wheel::kTicksPerSlot});
  EXPECT_FALSE(r.waiting(0));
}

TEST(Wheel, APostponedDeadlineIsPutBack) {
  Records r(1, {0});
  r.add(0, {100});
  r.postpone(0, {5000});
  r.advance({200});
  EXPECT_TRUE(r.waiting(0));
  r.advance({5008});
  EXPECT_FALSE(r.waiting(0));
}

TEST(Wheel, OneCallLooksAtNoMoreThanItsBudget) {
  Records r(1000, {0});
  for (uint32_t i = 0; i < 1000; ++i) r.add(i, Tick{i % 50});
  uint32_t calls = 0;
  while (r.done() < 1000) {
    EXPECT_LE(r.advance({100}, 64), 64u);
    ASSERT_LT(++calls, 20u);
  }
  EXPECT_EQ(calls, 16u);
}

TEST(Wheel, RemovingTakesTheFirstTheLastAndTheMiddleOut) {
  for (uint32_t gone = 0; gone < 3; ++gone) {
    Records r(3, {0});
    for (uint32_t i = 0; i < 3; ++i) r.add(i, {40});
    r.remove(gone);
    r.advance({48});
    EXPECT_EQ(r.done(), 2u);
    EXPECT_FALSE(r.waiting((gone + 1) % 3) || r.waiting((gone + 2) % 3));
  }
}

TEST(Wheel, TheTickMayWrap) {
  for (const uint32_t start : {UINT32_MAX - 100, UINT32_MAX - kTurn / 2, UINT32_MAX - 3 * kTurn}) {
    Records r(300, {start});
    for (uint32_t i = 0; i < 300; ++i) r.add(i, {start + i * (kTurn / 50)});
    for (uint32_t t = 0; t <= 7 * kTurn; t += 500) {
      r.advance({start + t});
      for (uint32_t i = 0; i < 300; ++i) {
        const uint32_t due = i * (kTurn / 50);
        if (t < due) {
          ASSERT_TRUE(r.waiting(i)) << start << "+" << t;
        } else if (t >= due + 2 * Wheel::kTicksPerSlot) {
          ASSERT_FALSE(r.waiting(i)) << start << "+" << t;
        }
      }
    }
  }
}

TEST(Wheel, ALongPauseLosesNobody) {
  Records r(100, {0});
  for (uint32_t i = 0; i < 100; ++i) r.add(i, {i * 1000});
  for (int call = 0; call < 4; ++call) r.advance({3 * kTurn});
  EXPECT_EQ(r.done(), 100u);
}

TEST(Wheel, RandomUseAgreesWithTheDeadlines) {
  Records r(500, {UINT32_MAX - 200'000});
  base::Random random(0x3ee1);
  uint32_t now = UINT32_MAX - 200'000;
  for (int step = 0; step < 30'000; ++step) {
    const uint32_t id = random.below(500);
    switch (random.below(4)) {
      case 0:
      case 1:
        if (!r.waiting(id)) r.add(id, {now + random.below(random.below(4) == 0 ? 400'000 : 500)});
        break;
      case 2:
        if (r.waiting(id)) r.remove(id);
        break;
      default:
        now += random.below(40);
        r.advance({now});
        break;
    }
    if (r.waiting(id)) {
      ASSERT_FALSE(Tick{now}.reached({r.deadline(id).value + 2 * Wheel::kTicksPerSlot + 40}));
    }
  }
}

}  // namespace
}  // namespace limpet::timing
