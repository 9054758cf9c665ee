// mirroring::Observer: holds a copy, and gives it back to an engine that has lost its own.
#include "control/mirroring/observer.h"

#include <gtest/gtest.h>

#include "common/timing/manual_clock.h"
#include "tests/unit/mirroring_lab.h"

namespace limpet::mirroring {
namespace {

using binding::Record;
using binding::Stamp;
using timing::seconds;

constexpr binding::ScopeId kWatched{7};
constexpr Observer::Times kTimes{seconds(300), seconds(150)};

class ObserverTest : public testing::Test {
 protected:
  ObserverTest() { controller.engine.home = &observer; }

  static Record binding(uint64_t stamp, uint64_t server, uint64_t act, bool held = false) {
    return {.stamp = Stamp{stamp},
            .held = held,
            .server = binding::ServerId{server},
            .first = binding::ServerId{server},
            .act = Stamp{act}};
  }
  void hear(const Record& record, uint32_t n = 1, timing::Duration ago = {}) {
    EXPECT_TRUE(observer.deliver({.source = {PeerIndex{0}, controller.engine.peers[0].session},
                                  .scope = kWatched,
                                  .key = lab_key(n),
                                  .record = record,
                                  .act_at = clock.now() - ago}));
  }
  const Record* known(uint32_t n = 1) const { return controller.list.find(kWatched, lab_key(n)); }
  void pass(timing::Duration by) {
    clock.advance(by);
    observer.tick(1000);
  }

  timing::ManualClock clock{timing::Instant{1'000'000'000'000}};
  LabEngine controller{{"controller", "se1", "se2"}, 0, 1};
  Observer observer{controller.list, [](binding::ScopeId) { return kTimes; }, clock};
};

TEST_F(ObserverTest, KeepsWhatItHears) {
  hear(binding(10, 2, 10));
  ASSERT_NE(known(), nullptr);
  EXPECT_EQ(*known(), binding(10, 2, 10));
  EXPECT_EQ(observer.counters().merged, 1u);
}

TEST_F(ObserverTest, MergesAsHomesDo) {
  hear(binding(10, 2, 10));
  hear(binding(12, 3, 30));
  EXPECT_EQ(known()->stamp, Stamp{10}) << "the earlier lineage";
  EXPECT_EQ(known()->act, Stamp{30}) << "the later activity";
}

TEST_F(ObserverTest, ForgetsWhatIsOverForEveryEngine) {
  hear(binding(10, 2, 10, true));
  pass(seconds(300 + 150 + 150 - 1));
  EXPECT_NE(known(), nullptr);
  pass(seconds(1));
  EXPECT_EQ(known(), nullptr);
  EXPECT_EQ(observer.counters().expired, 1u);
}

TEST_F(ObserverTest, IgnoresWhatIsOverWhenItComes) {
  hear(binding(10, 2, 10), 1, seconds(300));
  EXPECT_EQ(known(), nullptr);
  EXPECT_EQ(observer.counters().ignored, 1u);
}

TEST_F(ObserverTest, KeepsTheTimeOfActivityThatItKnows) {
  hear(binding(10, 2, 10));
  pass(seconds(200));
  hear(binding(10, 2, 10));
  pass(seconds(250));
  EXPECT_EQ(known(), nullptr);
}

TEST_F(ObserverTest, ATombstoneOfTheScopeKillsWhatWasMadeBefore) {
  hear(binding(10, 2, 10), 1);
  hear(binding(20, 2, 20), 2);
  observer.deliver({.source = {PeerIndex{0}, controller.engine.peers[0].session},
                    .scope = kWatched,
                    .whole_scope = true,
                    .key = {},
                    .record = {.deleted = Stamp{15}},
                    .act_at = clock.now()});
  pass({});
  EXPECT_EQ(known(1), nullptr);
  EXPECT_NE(known(2), nullptr);
  hear(binding(11, 2, 11), 3);
  EXPECT_EQ(known(3), nullptr);
}

// An engine that comes back with nothing is told everything that the other engine had made.
TEST_F(ObserverTest, GivesAllBackToAnEngineThatHasLostItsMemory) {
  LabEngine first({"controller", "se1", "se2"}, 1, 2);
  const auto meet = [&](LabEngine& engine) {
    LabLink link(controller, engine);
    link.connect(clock.now());
    for (int i = 0; i < 200; ++i) {
      link.move(clock.now());
      link.tick(clock.now());
      clock.advance(timing::milliseconds(1));
    }
    EXPECT_TRUE(link.caller().has_received_snapshot());
    EXPECT_TRUE(link.listener().has_received_snapshot());
  };
  first.home.now = clock.now();
  for (uint32_t n = 0; n < 500; ++n) first.home.create(kWatched, n, 5 + n % 3);
  meet(first);
  LabEngine again({"controller", "se1", "se2"}, 1, 3);
  meet(again);
  EXPECT_EQ(again.home.records, first.home.records);
}

}  // namespace
}  // namespace limpet::mirroring
