// Elections under schedules from seeds: crashes, restarts, processes that stand still, cut paths,
// lost datagrams. After each phase whose faults stay the same: an owner wherever somebody could be,
// and no group that moves for no reason; when all is well again exactly one, known to all.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

#include "tests/support/asan.h"
#include "tests/unit/failover_lab.h"

namespace limpet::failover {
namespace {

// A sanitizer makes them many times slower.
#ifdef LIMPET_TESTS_WITH_ASAN
constexpr uint64_t kStories = 8;
constexpr uint64_t kCuts = 20;
#else
constexpr uint64_t kStories = 80;
constexpr uint64_t kCuts = 200;
#endif

class Story {
 public:
  explicit Story(uint64_t seed) : random_(seed), cluster_(make(seed)) {}

  void play(int phases) {
    for (std::size_t e = 0; e < cluster_.size(); ++e) {
      if (random_.below(4) > 0) cluster_.start(e);
    }
    for (int p = 0; p < phases && !::testing::Test::HasFailure(); ++p) {
      disturb();
      settle();
      check_available();
    }
    heal();
    cluster_.run(seconds(15));
    check_agreement();
    check_quiet();
  }

 private:
  Cluster make(uint64_t seed) {
    const std::size_t n = 2 + random_.below(3);
    std::vector<std::string> names;
    for (std::size_t e = 0; e < n; ++e) names.push_back(Cluster::name(e));
    std::vector<Group> groups;
    for (uint64_t g = 1; g <= 2; ++g) {
      for (std::size_t i = n; i-- > 1;)
        std::swap(names[i], names[random_.below(static_cast<uint32_t>(i + 1))]);
      const std::size_t members = std::max<std::size_t>(2, n - random_.below(2));
      groups.push_back(
          lab_group(g, {names.begin(), names.begin() + static_cast<std::ptrdiff_t>(members)},
                    random_.below(2) == 0));
    }
    return Cluster(n, std::move(groups), seed ^ 0x5eed);
  }

  std::size_t any() { return random_.below(static_cast<uint32_t>(cluster_.size())); }

  // Some seconds in which things happen.
  void disturb() {
    for (uint32_t i = 1 + random_.below(6); i > 0; --i) {
      const std::size_t a = any();
      const std::size_t b = any();
      switch (random_.below(9)) {
        case 0:
        case 1:
          if (cluster_.runs(a)) cluster_.crash(a);
          break;
        case 2:
        case 3:
          if (!cluster_.runs(a)) cluster_.start(a);
          break;
        case 4:
          if (cluster_.runs(a)) cluster_.pause(a, milliseconds(100 + random_.below(2500)));
          break;
        case 5:
          if (a != b) cluster_.link(a, b).session = random_.below(2) == 0;
          break;
        case 6:
          if (a != b) cluster_.link(a, b).data = random_.below(2) == 0;
          break;
        case 7:
          for (std::size_t p = 0; p < cluster_.size(); ++p) {
            if (p != a) cluster_.link(a, p).session = cluster_.link(a, p).data = false;
          }
          break;
        case 8:
          heal();
          if (a != b) cluster_.link(a, b).loss_percent = random_.below(6);
          break;
      }
      cluster_.fence_time = milliseconds(random_.below(40));
      cluster_.publish_time = milliseconds(random_.below(40));
      cluster_.run(milliseconds(random_.below(2000)));
    }
  }

  void heal() {
    for (std::size_t a = 0; a < cluster_.size(); ++a) {
      if (!cluster_.runs(a)) cluster_.start(a);
      for (std::size_t b = 0; b < a; ++b) {
        Cluster::Link& link = cluster_.link(a, b);
        link.session = link.data = true;
        link.loss_percent = 0;
      }
    }
  }

  // Until what happened has had its consequences; then nothing moves any more.
  void settle() {
    cluster_.run(seconds(16));
    const auto before = changes();
    cluster_.run(seconds(6));
    EXPECT_EQ(changes(), before) << "a group moves for no reason";
  }

  std::size_t changes() {
    std::size_t n = 0;
    for (std::size_t e = 0; e < cluster_.size(); ++e) n += cluster_.at(e).events.size();
    return n;
  }

  bool connected(std::size_t a, std::size_t b) {
    return cluster_.runs(a) && cluster_.runs(b) &&
           (cluster_.link(a, b).session ||
            (cluster_.link(a, b).data && cluster_.at(a).addresses.contains(b) &&
             cluster_.at(b).addresses.contains(a)));
  }
  // Whoever is reached over any number of links.
  std::set<std::size_t> island(std::size_t from) {
    std::set<std::size_t> out{from};
    std::function<void(std::size_t)> visit = [&](std::size_t a) {
      for (std::size_t b = 0; b < cluster_.size(); ++b) {
        if (a != b && connected(a, b) && out.insert(b).second) visit(b);
      }
    };
    visit(from);
    return out;
  }

  void check_available() {
    for (const Group& group : cluster_.groups) {
      const auto serving = cluster_.serving(group.id);
      for (std::size_t e = 0; e < cluster_.size(); ++e) {
        const bool member =
            std::ranges::find(group.engines, Cluster::name(e)) != group.engines.end();
        if (!cluster_.runs(e) || !member) continue;
        const auto reached = island(e);
        const auto there =
            std::ranges::count_if(serving, [&](std::size_t s) { return reached.contains(s); });
        EXPECT_GE(there, 1) << group.name << " has no owner where " << Cluster::name(e) << " is";
        const bool all_meet = std::ranges::all_of(reached, [&](std::size_t a) {
          return std::ranges::all_of(reached,
                                     [&](std::size_t b) { return a == b || connected(a, b); });
        });
        if (all_meet) {
          EXPECT_EQ(there, 1) << group.name << " where " << Cluster::name(e) << " is";
        }
      }
    }
  }

  void check_agreement() {
    for (const Group& group : cluster_.groups) {
      const auto owners = cluster_.owners(group.id);
      ASSERT_EQ(owners.size(), 1u) << group.name;
      EXPECT_EQ(cluster_.serving(group.id), owners);
      for (std::size_t e = 0; e < cluster_.size(); ++e)
        EXPECT_EQ(cluster_.owner_seen_by(e, group.id), Cluster::name(owners[0]));
      if (group.preempt) {
        SCOPED_TRACE(describe(group.id));
        EXPECT_EQ(Cluster::name(owners[0]), group.engines[0]);
      }
    }
  }

  std::string describe(GroupId group) {
    std::string out;
    for (std::size_t e = 0; e < cluster_.size(); ++e) {
      out += Cluster::name(e) + ": ";
      for (const GroupView& view : cluster_.at(e).election->view()) {
        if (view.id != group) continue;
        out += std::string(name_of(view.state)) + ", term " + std::to_string(view.term.value) +
               ", owner " + view.owner;
      }
      out += "; hears";
      for (std::size_t p = 0; p < cluster_.size(); ++p) {
        if (p != e && cluster_.at(e).election->is_alive(Cluster::index(e, p)))
          out += " " + Cluster::name(p);
      }
      out += "\n";
    }
    return out;
  }

  void check_quiet() {
    const auto before = changes();
    cluster_.run(seconds(30));
    EXPECT_EQ(changes(), before) << "a group moves for no reason";
  }

  base::Random random_;
  Cluster cluster_;
};

TEST(ElectionSimulation, HasOneOwnerWhenAllIsWellAndAnOwnerWhereverSomebodyIs) {
  const auto number = [](const char* name, uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
  };
  const uint64_t first = number("LIMPET_SEED", 1);
  const uint64_t last = first + number("LIMPET_SEEDS", kStories) - 1;
  for (uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE("LIMPET_SEED=" + std::to_string(seed));
    Story(seed).play(4);
    if (HasFailure()) break;
  }
}

TEST(ElectionSimulation, ACrashOfASettledOwnerIsOverInASecond) {
  for (uint64_t seed = 1; seed <= kCuts; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    base::Random random(seed);
    const std::size_t n = 2 + random.below(3);
    std::vector<std::string> names;
    for (std::size_t e = 0; e < n; ++e) names.push_back(Cluster::name(e));
    Cluster c(n, {lab_group(1, names)}, seed);
    for (std::size_t e = 0; e < n; ++e) c.start(e);
    c.run(seconds(3) + milliseconds(random.below(1000)));
    ASSERT_EQ(c.serving(GroupId{1}), std::vector<std::size_t>{0});
    c.fence_time = milliseconds(20);
    c.publish_time = milliseconds(20);
    c.crash(0);
    c.run(milliseconds(700));
    ASSERT_EQ(c.serving(GroupId{1}), std::vector<std::size_t>{1});
  }
}

}  // namespace
}  // namespace limpet::failover
