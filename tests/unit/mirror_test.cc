#include "control/mirroring/mirror.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace limpet::mirroring {
namespace {

using binding::Change;
using binding::Key;
using binding::ScopeSlot;
using binding::ServerId;

class MirrorTest : public testing::Test {
 protected:
  static Key key(uint32_t n) { return Key::of(net::Address::v4_host(n)); }
  static Change put(uint32_t n, uint64_t server, uint32_t scope = 0) {
    Change c;
    c.scope = ScopeSlot{scope};
    c.key = key(n);
    c.record.server = ServerId{server};
    return c;
  }
  static Change removal(uint32_t n, uint32_t scope = 0) {
    Change c = put(n, 0, scope);
    c.kind = Change::Kind::kRemove;
    return c;
  }

  base::Random random_{1};
  base::KeyedHash hash_{random_};
  Mirror mirror_{4, 2, hash_, std::pmr::get_default_resource()};
};

TEST_F(MirrorTest, HoldsWhatTheHomeSaidLast) {
  mirror_.apply(put(1, 7));
  mirror_.apply(put(1, 8));
  ASSERT_NE(mirror_.find(ScopeSlot{0}, key(1)), nullptr);
  EXPECT_EQ(mirror_.find(ScopeSlot{0}, key(1))->record.server, ServerId{8});
  EXPECT_EQ(mirror_.size(), 1u);
}

TEST_F(MirrorTest, ForgetsWhatWasRemoved) {
  mirror_.apply(put(1, 7));
  mirror_.apply(removal(1));
  EXPECT_EQ(mirror_.find(ScopeSlot{0}, key(1)), nullptr);
  EXPECT_EQ(mirror_.size(), 0u);
}

TEST_F(MirrorTest, RemovalOfWhatItNeverHeardOfIsNothing) {
  mirror_.apply(removal(1));
  EXPECT_EQ(mirror_.size(), 0u);
  EXPECT_EQ(mirror_.in_scope(ScopeSlot{0}), 0u);
}

TEST_F(MirrorTest, KeysOfTwoScopesAreTwoBindings) {
  mirror_.apply(put(1, 7, 0));
  mirror_.apply(put(1, 8, 1));
  EXPECT_EQ(mirror_.find(ScopeSlot{0}, key(1))->record.server, ServerId{7});
  EXPECT_EQ(mirror_.find(ScopeSlot{1}, key(1))->record.server, ServerId{8});
}

TEST_F(MirrorTest, CountsByServerAndScope) {
  mirror_.apply(put(1, 7));
  mirror_.apply(put(2, 7));
  mirror_.apply(put(3, 8, 1));
  mirror_.apply(put(2, 8));
  EXPECT_EQ(mirror_.bound_to(ServerId{7}), 1u);
  EXPECT_EQ(mirror_.bound_to(ServerId{8}), 2u);
  EXPECT_EQ(mirror_.in_scope(ScopeSlot{0}), 2u);
  mirror_.apply(removal(3, 1));
  EXPECT_EQ(mirror_.bound_to(ServerId{8}), 1u);
  EXPECT_EQ(mirror_.in_scope(ScopeSlot{1}), 0u);
}

TEST_F(MirrorTest, ABindingWithoutServerCountsInItsScopeOnly) {
  mirror_.apply(put(1, 7));
  mirror_.apply(put(1, binding::kNoServer.value));
  EXPECT_EQ(mirror_.bound_to(ServerId{7}), 0u);
  EXPECT_EQ(mirror_.in_scope(ScopeSlot{0}), 1u);
  EXPECT_EQ(mirror_.bound_in_scope(ScopeSlot{0}), 0u);
}

TEST_F(MirrorTest, ABindingKeepsItsPlaceWhileItLives) {
  mirror_.apply(put(1, 7));
  mirror_.apply(put(2, 7));
  mirror_.apply(removal(1));
  mirror_.apply(put(2, 8));
  EXPECT_EQ(mirror_.at(0), nullptr);
  ASSERT_NE(mirror_.at(1), nullptr);
  EXPECT_EQ(mirror_.at(1)->key, key(2));
  mirror_.apply(put(3, 7));
  EXPECT_EQ(mirror_.at(0)->key, key(3));
  EXPECT_EQ(mirror_.places(), 2u);
}

TEST_F(MirrorTest, HasPlacesForWhatIsUnderWayBeyondTheLimit) {
  for (uint32_t n = 0; n < 6; ++n) mirror_.apply(put(n, 7));
  EXPECT_EQ(mirror_.size(), 6u);
}

}  // namespace
}  // namespace limpet::mirroring
