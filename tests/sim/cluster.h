// Cluster: engines that mirror each other over links that fail, engines that crash and come back,
// with and without their disks, and clients that are sent to one of them, to another after it, or
// to several: one world from one seed. In rounds: trouble, then everything heals, comes to rest and
// is compared; at the end clients go and everything has to be gone.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/timing/manual_clock.h"
#include "tests/sim/chronicle.h"
#include "tests/sim/link.h"
#include "tests/sim/member.h"

namespace limpet::sim {

class Cluster {
 public:
  explicit Cluster(uint64_t seed);
  ~Cluster();

  // Throws a Violation.
  void run(uint32_t steps);
  const Trace& trace() const { return trace_; }
  // What has happened, by name; for a summary over seeds.
  void count(std::map<std::string, uint64_t>& totals);

 private:
  // A node of the cluster: its engine while it runs, and what stays when it does not.
  struct Node {
    Place place;
    Shape shape;
    std::unique_ptr<Member> member;       // null: crashed
    timing::Instant disk_at;              // when the disk was written
    timing::Instant paused_until;         // nothing of it runs
    std::vector<uint32_t> stalled_until;  // by core: step
    bool serving = false;                 // clients come to it
    bool taking_over = false;
    uint32_t fence = 0;
    Member::AllHeard heard;  // before it
  };
  struct Wire {
    uint32_t a = 0;
    uint32_t b = 0;
    std::unique_ptr<Link> link;
  };

  void act_as(uint32_t n, const std::function<void(Member&)>& act);
  void start(uint32_t n, bool with_disk);
  void crash(uint32_t n, bool noticed);
  void stop(uint32_t n);
  void die_speaking(uint32_t n);
  void delete_again(uint32_t n);
  void step();
  void step_core();
  void turn(uint32_t n, bool all);
  void control(uint32_t n, bool all);
  void move_links();
  void traffic();
  void pass_time();
  void pass(timing::Duration by, bool all);
  uint32_t smallest_ring() const;
  void trouble();
  void trouble_with_links();
  void trouble_with_engines();
  void partition();
  void change_document();
  void begin_takeover();
  void poll_takeover(uint32_t n);
  bool is_synced(uint32_t n) const;
  void heal();
  void rest(const char* when);
  void rest_apart();
  void start_all();
  void calm();
  std::string restless(const Wire* but = nullptr);
  void wait_for_the_end();
  std::string leftovers();
  std::vector<Member*> alive();
  Member* member(uint32_t n) { return nodes_[n].member.get(); }
  uint32_t any_node() { return random_.below(static_cast<uint32_t>(nodes_.size())); }

  base::Random random_;
  timing::ManualClock time_{timing::Instant{1'000'000'000'000}};
  Trace trace_;
  World world_;
  std::shared_ptr<const World> document_;  // the newest
  Chronicle chronicle_{time_, trace_};
  std::vector<Node> nodes_;
  std::vector<Wire> wires_;
  uint32_t step_ = 0;
  // This world's habits, in percent.
  uint32_t whole_turns_;
  uint32_t traffic_share_;
  uint32_t time_share_;
  uint32_t trouble_share_;
  uint32_t changes_;
  uint32_t several_;  // clients come to several engines at once
  std::map<std::string, uint64_t> happened_;
};

}  // namespace limpet::sim
