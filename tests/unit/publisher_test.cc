#include "dataplane/snapshot/publisher.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

namespace limpet::snapshot {
namespace {

std::shared_ptr<const Snapshot> version(uint64_t n) {
  auto s = std::make_shared<Snapshot>();
  s->version = n;
  return s;
}

struct PublisherTest : testing::Test {
  Publisher publisher{version(1), 2};
  Reader a = publisher.reader(0);
  Reader b = publisher.reader(1);

  void both_online() {
    a.online();
    b.online();
    a.take();
    b.take();
  }
};

TEST_F(PublisherTest, ReadersSeeTheFirstSnapshot) {
  both_online();
  EXPECT_EQ(a.take().version, 1u);
}

TEST_F(PublisherTest, ReadersSeeWhatIsPublishedAtTheirNextTurn) {
  both_online();
  const Snapshot& held = a.take();
  publisher.publish(version(2));
  EXPECT_EQ(held.version, 1u);
  EXPECT_EQ(a.take().version, 2u);
  EXPECT_EQ(b.take().version, 2u);
}

TEST_F(PublisherTest, OldSnapshotLivesUntilTheLastReaderTookTheNew) {
  both_online();
  const std::weak_ptr<const Snapshot> old = publisher.current();
  const Token token = publisher.publish(version(2));
  publisher.reclaim();
  EXPECT_FALSE(old.expired());
  EXPECT_FALSE(publisher.all_readers_passed(token));
  a.take();
  EXPECT_EQ(publisher.reclaim(), 1u);
  EXPECT_FALSE(old.expired());
  b.take();
  EXPECT_TRUE(publisher.all_readers_passed(token));
  EXPECT_EQ(publisher.reclaim(), 0u);
  EXPECT_TRUE(old.expired());
}

TEST_F(PublisherTest, NobodyWaitsForAnOfflineReader) {
  both_online();
  b.offline();
  const std::weak_ptr<const Snapshot> old = publisher.current();
  const Token token = publisher.publish(version(2));
  a.take();
  EXPECT_TRUE(publisher.all_readers_passed(token));
  publisher.reclaim();
  EXPECT_TRUE(old.expired());
  b.online();
  EXPECT_EQ(b.take().version, 2u);
}

TEST_F(PublisherTest, GoingOfflineGivesBackTheSnapshot) {
  both_online();
  const Token token = publisher.publish(version(2));
  a.take();
  b.offline();
  EXPECT_TRUE(publisher.all_readers_passed(token));
}

TEST_F(PublisherTest, WithoutReadersOnlineThereIsNothingToWaitFor) {
  const Token token = publisher.publish(version(2));
  EXPECT_TRUE(publisher.all_readers_passed(token));
  EXPECT_EQ(publisher.reclaim(), 0u);
}

TEST_F(PublisherTest, StuckReaderBoundsTheLiveSnapshots) {
  both_online();
  uint64_t n = 2;
  while (publisher.can_publish()) {
    publisher.publish(version(n++));
    a.take();  // b never comes round
  }
  EXPECT_EQ(publisher.live(), Publisher::kLiveMax);
  b.take();
  EXPECT_TRUE(publisher.can_publish());
  EXPECT_EQ(publisher.live(), 1u);
}

TEST_F(PublisherTest, RetiredSnapshotsGoOldestFirst) {
  both_online();
  const std::weak_ptr<const Snapshot> first = publisher.current();
  publisher.publish(version(2));
  const std::weak_ptr<const Snapshot> second = publisher.current();
  a.take();
  b.take();
  publisher.publish(version(3));
  EXPECT_EQ(publisher.reclaim(), 1u);
  EXPECT_TRUE(first.expired());
  EXPECT_FALSE(second.expired());
}

TEST_F(PublisherTest, MarkIsPassedWhenEveryReaderBeganAnotherTurn) {
  both_online();
  const Token token = publisher.mark();
  a.take();
  EXPECT_FALSE(publisher.all_readers_passed(token));
  b.take();
  EXPECT_TRUE(publisher.all_readers_passed(token));
  EXPECT_EQ(a.take().version, 1u);
}

TEST_F(PublisherTest, SnapshotKeptElsewhereOutlivesItsRetirement) {
  both_online();
  const std::shared_ptr<const Snapshot> kept = publisher.current();
  publisher.publish(version(2));
  a.take();
  b.take();
  EXPECT_EQ(publisher.reclaim(), 0u);
  EXPECT_EQ(kept->version, 1u);
}

TEST_F(PublisherTest, ReaderThatEndedIsNotWaitedFor) {
  both_online();
  const Token token = publisher.publish(version(2));
  a.take();
  { const Reader ended = std::move(b); }
  EXPECT_TRUE(publisher.all_readers_passed(token));
  Reader again = publisher.reader(1);
  again.online();
  EXPECT_EQ(again.take().version, 2u);
}

using PublisherDeathTest = PublisherTest;

TEST_F(PublisherDeathTest, TakingWhileOfflineIsAProgrammerError) {
  EXPECT_DEATH(a.take(), "assertion failed");
}

TEST_F(PublisherDeathTest, PublishingBeyondTheBoundIsAProgrammerError) {
  both_online();
  while (publisher.can_publish()) publisher.publish(version(9));
  EXPECT_DEATH(publisher.publish(version(10)), "assertion failed");
}

}  // namespace
}  // namespace limpet::snapshot
