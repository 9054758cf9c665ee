// Engines that create, move, delete and refresh bindings while their links delay, hold back and are
// cut anywhere; when all is quiet and connected, all know the same. Each seed is a story.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "tests/unit/mirroring_lab.h"

namespace limpet::mirroring {
namespace {

using binding::ScopeId;
using timing::Instant;
using timing::milliseconds;

constexpr uint32_t kKeys = 8;
constexpr uint32_t kScopes = 2;
constexpr int kSteps = 400;

class Cluster {
 public:
  Cluster(uint32_t engines, uint64_t seed, bool crashes) : crashes_(crashes), random_(seed) {
    for (uint32_t i = 0; i < engines; ++i) names_.push_back("se" + std::to_string(i));
    for (uint32_t i = 0; i < engines; ++i) boot(i);
    for (uint32_t i = 0; i < engines; ++i)
      for (uint32_t j = i + 1; j < engines; ++j) add_link(i, j);
  }

  void step() {
    now_ = now_ + milliseconds(1 + random_.below(20));
    act(*engines_[random_.below(static_cast<uint32_t>(engines_.size()))]);
    if (crashes_ && random_.below(100) == 0)
      crash(random_.below(static_cast<uint32_t>(engines_.size())));
    for (auto& link : links_) disturb(link);
    for (auto& engine : engines_) engine->list.work(random_.below(8), now_);
  }

  // Everything heals; enough time for all to be told.
  void settle() {
    for (auto& engine : engines_) engine->home.full = false;
    for (int i = 0; i < 300; ++i) {
      now_ = now_ + milliseconds(10);
      for (auto& link : links_) {
        if (!link.wire->is_up()) link.wire->connect(now_);
        link.wire->tick(now_);
        link.wire->move(now_);
      }
      for (auto& engine : engines_) engine->list.work(1000, now_);
    }
  }

  void expect_equal() {
    const LabEngine& first = *engines_[0];
    for (const auto& engine : engines_) {
      EXPECT_TRUE(bindings(*engine) == bindings(first));
      EXPECT_EQ(engine->home.killed, first.home.killed);
      EXPECT_TRUE(contents(*engine) == contents(first));
    }
    for (auto& link : links_) {
      EXPECT_EQ(link.wire->caller().state(), Session::State::kSynced);
      EXPECT_EQ(link.wire->listener().state(), Session::State::kSynced);
      EXPECT_EQ(link.wire->caller().lag(), Lag{});
    }
  }

 private:
  struct Link {
    std::unique_ptr<LabLink> wire;
    uint32_t from = 0;
    uint32_t to = 0;
  };
  using Contents = std::map<std::pair<ScopeId, std::optional<binding::Key>>, binding::Record>;

  // The activity of a binding that is gone means nothing; a tombstone of the scope drops it.
  static binding::Record meaning(const binding::Record& r) {
    return r.live() ? r : binding::Record{.deleted = r.deleted};
  }

  static std::map<ToyHome::Place, binding::Record> bindings(const LabEngine& engine) {
    std::map<ToyHome::Place, binding::Record> out;
    for (const auto& [place, record] : engine.home.records) out[place] = meaning(record);
    return out;
  }

  static Contents contents(const LabEngine& engine) {
    Contents out;
    engine.list.for_each([&](ScopeId scope, const binding::Key* key, const binding::Record& r) {
      out[{scope, key ? std::optional(*key) : std::nullopt}] = meaning(r);
    });
    return out;
  }

  void boot(uint32_t i) {
    engines_.resize(std::max<std::size_t>(engines_.size(), i + 1));
    engines_[i] = std::make_unique<LabEngine>(names_, i, random_.next());
    engines_[i]->skew = milliseconds(random_.below(1'000'000));
  }

  void add_link(uint32_t i, uint32_t j) {
    links_.push_back({std::make_unique<LabLink>(*engines_[i], *engines_[j]), i, j});
  }

  // It forgets everything; its next run has another boot id.
  void crash(uint32_t i) {
    std::erase_if(links_, [&](const Link& link) { return link.from == i || link.to == i; });
    boot(i);
    for (uint32_t j = 0; j < engines_.size(); ++j)
      if (j != i) add_link(std::min(i, j), std::max(i, j));
  }

  void act(LabEngine& engine) {
    engine.home.wall = {1'800'000'000'000'000'000 + now_.ns};
    engine.home.now = now_ + engine.skew;
    const ScopeId scope{1 + random_.below(kScopes)};
    const uint32_t key = random_.below(kKeys);
    const uint32_t server = 1 + random_.below(9);
    switch (random_.below(24)) {
      case 0:
        return engine.home.erase(scope, key);
      case 1:
        return random_.below(4) == 0 ? engine.home.kill(scope) : void();
      case 2:
        engine.home.full = !engine.home.full;
        return;
      case 3:
      case 4:
      case 5:
      case 6:
        return engine.home.touch(scope, key, random_.below(2) == 0);
      case 7:
      case 8:
      case 9:
        return engine.home.move(scope, key, server);
      case 10:
      case 11:
      case 12:
        return engine.home.create(scope, key, server);
      default:
        return;
    }
  }

  void disturb(Link& link) {
    if (!link.wire->is_up()) {
      if (random_.below(8) == 0) link.wire->connect(now_);
    } else if (random_.below(30) == 0) {
      link.wire->move(now_, random_.below(600));  // in the middle of a frame
      link.wire->cut();
      return;
    }
    link.wire->tick(now_);
    if (random_.below(3) != 0) link.wire->move(now_, random_.below(2000));
  }

  bool crashes_;
  base::Random random_;
  std::vector<std::string> names_;
  std::vector<std::unique_ptr<LabEngine>> engines_;
  std::vector<Link> links_;
  Instant now_{1'000'000'000};
};

// LIMPET_SEEDS=N tries more; LIMPET_SEED=N one story.
uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

void run_stories(bool crashes) {
  const uint64_t first = from_environment("LIMPET_SEED", 1);
  const uint64_t count = from_environment("LIMPET_SEEDS", 60);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster(2 + static_cast<uint32_t>(seed % 3), seed, crashes);
    for (int i = 0; i < kSteps; ++i) cluster.step();
    cluster.settle();
    cluster.expect_equal();
    if (testing::Test::HasFailure()) return;
  }
}

TEST(MirroringConvergence, AllEnginesKnowTheSameWhenAllIsQuiet) {
  run_stories(false);
}

TEST(MirroringConvergence, WhatAnyoneHeardFromACrashedEngineAllKnow) {
  run_stories(true);
}

}  // namespace
}  // namespace limpet::mirroring
