// Chronicle: what was promised about a cluster (dataplane/replication/README.md, "Between
// engines"), seen from outside: what every engine has heard of every key and when clients were
// really active, in the world's own time. It knows the code under test by its results only: records
// of homes, what they tell, what peers deliver.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "tests/sim/member.h"

namespace limpet::sim {

class Chronicle {
 public:
  Chronicle(const timing::Clock& time, Trace& trace) : time_(time), trace_(trace) {}

  // --- what happens ------------------------------------------------------------------------------
  // A core has taken a stage.
  void look(Member& m, uint32_t core);
  // A home has told its control thread.
  void told(Member& m, const KeyId& key, const binding::Change& change);
  // A peer has told, and the exchange has taken it.
  void delivered(Member& m, const mirroring::Arrival& arrival);
  void active(Member& m, const KeyId& key, timing::Instant now, bool confirmed);
  void starts(Member& m) { alive_.push_back(&m); }
  void crashes(Member& m);
  void ended(Member& m, const KeyId& key, timing::Instant now, Witness::Ending ending);
  // An administrator has deleted what was made up to here.
  void deleted(binding::Stamp stamp) { moment_.try_emplace(stamp, time_.now()); }
  // From here on nobody opens connections.
  void clients_have_gone() { quiet_since_ = time_.now(); }
  // From here on everybody runs, and every link delivers at once; but one engine may crash.
  void all_is_well(std::vector<Member*> members) {
    well_since_ = time_.now();
    crashed_ = false;
    members_ = std::move(members);
  }
  void one_has_crashed(std::vector<Member*> others) {
    members_ = std::move(others);
    crashed_ = true;
  }
  void all_is_well_no_more() { well_since_ = timing::Instant::never(); }

  // --- what has to be true; each throws a Violation ----------------------------------------------
  // All of this has been merged: what this member has heard of it has, or better (P7). `when`: for
  // the message.
  void check_heard(Member& m, const Member::AllHeard& heard, const char* when);
  // Nothing is under way: all have the same (P4), and nothing that was deleted (P5).
  void check_equal(const std::vector<Member*>& members);
  // They hear of each other, and nothing is under way: of what both have it is one lineage.
  void check_agreed(Member& a, Member& b);
  // Nobody has been active for long: nothing is left (P3). `grain`: how far apart turns are.
  void check_overdue(const std::vector<Member*>& members, timing::Duration grain);

  // All is well: what nobody has used for its timeout is gone everywhere (P3, without the slack
  // that is for those who died before they told of the release).
  void check_prompt();

  uint64_t deliveries() const { return deliveries_; }
  uint64_t comparisons() const { return comparisons_; }
  uint64_t compared() const { return compared_; }
  uint64_t heard() const { return heard_; }
  timing::Duration offset_error() const { return offset_error_; }

 private:
  // What a home has of a key.
  struct Seen {
    binding::Record record;
    timing::Instant act_at;  // by its own clock
    bool confirmed = false;
    bool husk = false;
    bool used = false;  // by a client of this engine
  };
  using Table = std::unordered_map<GlobalKey, Seen, GlobalKeyHash>;

  void check_arrived(Member& m, uint32_t core, const GlobalKey& key, const Seen& s);
  void check_own(Member& m, const KeyId& local, timing::Instant now);
  void check_heard_of(Member& m, const KeyId& local, timing::Instant now);
  void check_others(Member& m, const GlobalKey& key);
  void own_news(Member& m, const GlobalKey& key, const Seen& s);
  timing::Instant last_use(const GlobalKey& key);
  bool used_by_several(const GlobalKey& key, timing::Instant since) const;
  static void know_own(Member& m, const GlobalKey& key, Member::Heard& h);
  timing::Instant end_of(const ScopeDocument& scope, timing::Instant last) const;
  void note_lineage(Member& m, const GlobalKey& key, const Seen& s);
  void check_lineage(Member& m, uint32_t core, const GlobalKey& key, const Seen& s);
  static Seen seen(Member& m, uint32_t core, const persist::Entry& record);
  static Table table(Member& m);
  void trace(Member& m, const char* what, const GlobalKey& key, const binding::Record& record);
  bool is_dead(binding::Stamp lineage, binding::Stamp deleted) const;
  static binding::Stamp killed(const Member& m, const GlobalKey& key);
  void compare(const Member& a, const Table& of_a, const Member& b, const Table& of_b);

  const timing::Clock& time_;
  Trace& trace_;
  // Of each activity of a key, in the world's time.
  std::unordered_map<GlobalKey, std::unordered_map<binding::Stamp, timing::Instant>, GlobalKeyHash>
      act_time_;
  std::unordered_map<GlobalKey, timing::Instant, GlobalKeyHash> last_active_;
  std::unordered_map<binding::Stamp, timing::Instant> moment_;  // of lineages and of deletions
  std::unordered_set<GlobalKey, GlobalKeyHash> evicted_;        // anywhere
  std::unordered_map<GlobalKey, std::array<timing::Instant, 4>, GlobalKeyHash> used_by_;  // by rank
  std::vector<Member*> alive_;
  struct Lineage {
    timing::Instant last;  // activity, of all that was ever known
    uint32_t epoch = 0;
  };
  std::unordered_map<GlobalKey, std::unordered_map<binding::Stamp, Lineage>, GlobalKeyHash>
      lineages_;
  // Of the key's other lineages those that were over when this one began, as they were then.
  std::unordered_map<binding::Stamp, std::unordered_map<binding::Stamp, Lineage>> over_;
  // When clients used confirmed bindings, oldest first, and whose.
  struct Use {
    timing::Instant at;
    uint32_t rank = 0;
  };
  std::unordered_map<GlobalKey, std::vector<Use>, GlobalKeyHash> held_;
  bool tombstones_refused_ = false;  // by anybody, ever
  timing::Instant well_since_ = timing::Instant::never();
  std::vector<Member*> members_;
  bool crashed_ = false;  // one of them, since
  timing::Instant quiet_since_ = timing::Instant::never();
  timing::Duration offset_error_{};  // the largest: how much too young activity was taken
  uint64_t deliveries_ = 0;
  uint64_t comparisons_ = 0;
  uint64_t compared_ = 0;
  uint64_t heard_ = 0;
};

}  // namespace limpet::sim
