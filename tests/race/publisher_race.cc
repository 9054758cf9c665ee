// Real threads read snapshots while new ones are published: nobody reads one that was given back,
// versions never go backwards, and a passed token means what it says.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "dataplane/snapshot/publisher.h"

namespace limpet::snapshot {
namespace {

std::shared_ptr<const Snapshot> version(uint64_t n) {
  auto s = std::make_shared<Snapshot>();
  s->version = n;
  s->generation = n * 3;
  s->routes.resize(1 + n % 7);
  for (Route& r : s->routes) r.port = static_cast<uint8_t>(n);
  return s;
}

bool consistent(const Snapshot& s) {
  bool right = s.generation == s.version * 3 && s.routes.size() == 1 + s.version % 7;
  for (const Route& r : s.routes) right &= r.port == static_cast<uint8_t>(s.version);
  return right;
}

TEST(PublisherRace, ReadersHoldWhatTheyTookAndPassedTokensAreTrue) {
  constexpr uint32_t kReaders = 3;
  constexpr uint64_t kVersions = 3'000;
  Publisher publisher(version(1), kReaders);
  std::vector<Reader> readers;
  for (uint32_t i = 0; i < kReaders; ++i) readers.push_back(publisher.reader(i));
  std::atomic<bool> stop{false};
  std::atomic<uint32_t> wrong{0};

  const auto worker = [&](uint32_t me) {
    Reader& reader = readers[me];
    uint64_t last = 0;
    reader.online();
    for (uint64_t turn = 0; !stop.load(std::memory_order_relaxed); ++turn) {
      const Snapshot& s = reader.take();
      if (s.version < last || !consistent(s)) wrong.fetch_add(1, std::memory_order_relaxed);
      last = s.version;
      if (turn % 16 == me) std::this_thread::yield();
      if (!consistent(s)) wrong.fetch_add(1, std::memory_order_relaxed);
      if (turn % 64 == 0) {
        reader.offline();
        std::this_thread::yield();
        reader.online();
      }
    }
    reader.offline();
  };
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kReaders; ++i) threads.emplace_back(worker, i);

  std::weak_ptr<const Snapshot> before;
  for (uint64_t n = 2; n <= kVersions; ++n) {
    while (!publisher.can_publish()) std::this_thread::yield();
    before = publisher.current();
    const Token token = publisher.publish(version(n));
    if (n % 5 != 0) continue;
    while (!publisher.all_readers_passed(token)) std::this_thread::yield();
    publisher.reclaim();
    EXPECT_TRUE(before.expired());
    EXPECT_EQ(publisher.live(), 1u);
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  publisher.reclaim();
  EXPECT_EQ(publisher.live(), 1u);
  EXPECT_EQ(wrong.load(), 0u);
}

TEST(PublisherRace, ControlThreadReadsNothingOfAWorkerBeforeItPassed) {
  // What a worker wrote before its next turn is the control thread's to read once mark() passed.
  Publisher publisher(version(1), 1);
  Reader reader = publisher.reader(0);
  uint64_t plain = 0;  // not atomic on purpose
  std::atomic<uint32_t> stage{0};
  std::thread worker([&] {
    reader.online();
    reader.take();
    plain = 42;
    stage = 1;
    while (stage.load(std::memory_order_relaxed) != 2) {
      reader.take();
      std::this_thread::yield();
    }
    reader.offline();
  });
  while (stage.load(std::memory_order_relaxed) != 1) std::this_thread::yield();
  const Token token = publisher.mark();
  while (!publisher.all_readers_passed(token)) std::this_thread::yield();
  EXPECT_EQ(plain, 42u);
  stage = 2;
  worker.join();
}

}  // namespace
}  // namespace limpet::snapshot
