// Member: one run of one engine of a cluster, from its start to its crash: cores, traffic of its
// own, and the parts of the control thread between homes and peers, without sockets and files.
// A member's clocks, slots and versions are not those of others; documents reach it late.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/timing/manual_clock.h"
#include "control/engine/deletions.h"
#include "control/engine/news.h"
#include "control/engine/questions.h"
#include "control/mirroring/exchange.h"
#include "tests/sim/engine.h"
#include "tests/sim/invariants.h"
#include "tests/sim/ledger.h"
#include "tests/sim/link.h"
#include "tests/sim/trace.h"
#include "tests/sim/traffic.h"
#include "tests/sim/world.h"

namespace limpet::sim {

// A key as all engines know it.
struct GlobalKey {
  binding::ScopeId scope;
  binding::Key key;

  friend bool operator==(const GlobalKey&, const GlobalKey&) = default;
};

struct GlobalKeyHash {
  std::size_t operator()(const GlobalKey& k) const {
    return (k.key.words[0] ^ k.key.words[1] * 0x9e3779b97f4a7c15ULL) * 31 + k.scope.value;
  }
};

// The table as it was on disk.
struct DiskCopy {
  struct Entry {
    binding::ScopeId scope;
    bool whole_scope = false;
    binding::Key key;
    binding::Record record;
    timing::WallTime act;
  };
  std::vector<Entry> entries;
  binding::Stamp clock;
};

// What outlives a run of an engine.
struct Place {
  uint32_t rank = 0;  // among the names
  std::vector<std::string> names;
  timing::Duration skew{};  // of its clock against the world's
  timing::WallTime wall_origin;
  uint32_t slots = 0;  // its scopes' slots come after as many others
  std::optional<DiskCopy> disk;
};

class Chronicle;

class Member final : public mirroring::Home, public mirroring::HomeRings, public Witness {
 public:
  Member(const Place& place, const Shape& shape, std::shared_ptr<const World> document,
         Chronicle& chronicle, Trace& trace, const timing::Clock& time, base::Random& random);
  ~Member() override = default;

  // Merges what was on disk, before any peer is heard.
  void restore();

  // --- time and steps ----------------------------------------------------------------------------
  void advance(timing::Duration by) { clock_.advance(by); }
  timing::Instant now() const { return clock_.now(); }
  timing::Instant true_time(timing::Instant mine) const { return mine - place_.skew; }
  // The next stage of a core.
  void step_core(uint32_t core, uint32_t step);
  // What is left of a core's turn; of all cores'.
  void finish_turn(uint32_t core, uint32_t step);
  void turn(uint32_t step);
  // What the control thread does besides its links. `all`: reads all news there are. True when the
  // update list has changed.
  bool control(uint32_t step, bool all);
  // Reads what homes have told by now.
  bool read_news(bool all);

  // --- orders ------------------------------------------------------------------------------------
  void offer(std::shared_ptr<const World> document) { documents_.push_back(std::move(document)); }
  bool is_up_to_date() const;
  // False: it is busy with another deletion, or there is no room for the tombstones.
  bool start_deletion(uint32_t step);
  // Of the bindings of this client alone.
  bool start_deletion(uint32_t step, const net::Address& client);
  // A client with this key opens a connection; none: nobody has it, or no service uses the scope.
  std::optional<net::Address> come(const GlobalKey& key);
  // A tombstone that is about to be forgotten: its home has not been reached.
  std::optional<GlobalKey> forgetting();
  bool is_idle() const { return deletions_.idle(); }
  void stop_clients();
  // Its cores do nothing more, and what homes have still to say has been read.
  void stop(uint32_t step);
  DiskCopy write_disk() const;

  // --- parts -------------------------------------------------------------------------------------
  Engine& cores() { return engine_; }
  Ledger& ledger() { return ledger_; }
  Traffic& traffic() { return *traffic_; }
  mirroring::Exchange& exchange() { return exchange_; }
  const mirroring::Exchange& exchange() const { return exchange_; }
  Host& host() { return host_; }
  const World& world() const { return *world_; }
  const Place& place() const { return place_; }
  const Told& mirror() const { return mirror_; }
  uint64_t deletions() const { return deletions_begun_; }
  GlobalKey global(const KeyId& key) const;
  std::optional<KeyId> local(const GlobalKey& key) const;
  const ScopeDocument* scope_of(binding::ScopeId id) const;
  // Bindings went for want of room, or were never let in.
  bool has_lost_for_room() const;
  // There was no room for what administrators deleted, here or elsewhere.
  bool has_refused_tombstones() const;
  // So much news of it was on its way to its home when the stage in hand began.
  std::ptrdiff_t under_way(const KeyId& key) const {
    return std::count(under_way_.begin(), under_way_.end(), key);
  }
  // The stage in hand has carried out an administrator's deletion, which may be of this key.
  bool is_deleting(uint32_t core, const KeyId& key) const;
  // The mirror and the update list are what homes have told.
  void check_told();
  // Nothing is under way between its cores, its control thread and itself.
  std::string unfinished();

  // What it has heard from peers, by chronicle.cc.
  struct Heard {
    binding::Record best;         // the binding that others must not have in vain
    timing::Instant best_act_at;  // by its clock
    binding::Record latest;       // the latest activity
    timing::Instant latest_act_at;
  };
  using AllHeard = std::unordered_map<GlobalKey, Heard, GlobalKeyHash>;
  AllHeard heard;
  std::unordered_map<GlobalKey, binding::Stamp, GlobalKeyHash> killed;
  // What its homes had when they were last looked at, and what administrators have deleted here.
  struct Known {
    binding::Record record;
    timing::Instant act_at;
  };
  std::unordered_map<GlobalKey, Known, GlobalKeyHash> known;
  std::unordered_set<binding::Stamp> deleted_lineages;
  // How often its homes were looked at, and in which look a key was last there, husks included.
  std::vector<uint64_t> looks;
  std::unordered_map<GlobalKey, uint64_t, GlobalKeyHash> seen_in;

  // mirroring::Home
  bool deliver(const mirroring::Arrival& arrival) override;
  // mirroring::HomeRings
  uint32_t homes() const override { return engine_.shape().homes(); }
  uint32_t home_of(binding::ScopeSlot scope, const binding::Key& key) const override;
  bool send(uint32_t home, const binding::Merge& message) override;
  // Witness
  void active(const KeyId& key, timing::Instant now, bool confirmed) override;
  void ended(const KeyId& key, timing::Instant now, Ending ending) override;

 private:
  worker::EntryFilter random_filter() const;
  bool start_deletion(uint32_t step, worker::EntryFilter filter);
  void show();  // whose events the trace gets
  void take_document();
  void note(const binding::Change& change);
  Shape shape_of(const Shape& shape) const;
  mirroring::Exchange::Options options_of(const Shape& shape) const;

  const Place place_;
  Chronicle& chronicle_;
  Trace& trace_;
  base::Random& random_;
  timing::ManualClock clock_;
  Engine engine_;
  std::optional<World> world_;
  Ledger ledger_;
  std::unique_ptr<Traffic> traffic_;
  mirroring::Exchange exchange_;
  engine::Questions questions_;
  engine::News news_;
  engine::Deletions deletions_;
  Host host_;
  Told mirror_;
  std::deque<std::shared_ptr<const World>> documents_;  // not published yet
  uint64_t used_version_ = 0;                           // whose scopes the exchange knows
  std::optional<worker::EntryFilter> deleting_;
  uint64_t versions_;  // how far its versions are ahead
  uint64_t deletions_begun_ = 0;
  std::vector<KeyId> under_way_;
  bool was_full_ = false;
  uint64_t deleted_before_ = 0;  // the stage in hand
  uint32_t step_ = 0;
};

}  // namespace limpet::sim
