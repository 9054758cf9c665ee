// Ledger: what was promised to whom. It watches every stage of every core from outside: which
// connections opened on which version of which binding, what clients have seen, when the last of
// them closed; and says when a promise (P1, P1c, P2 or P3 of dataplane/replication/README.md) is
// broken.
//
// It knows the code under test by its results only: tables, flows, frames, the messages in rings.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/sim/engine.h"
#include "tests/sim/trace.h"
#include "tests/sim/world.h"

namespace limpet::sim {

// (serial, change): a later one of the same key is greater.
struct Version {
  uint32_t serial = 0;
  uint32_t change = 0;
  friend auto operator<=>(const Version&, const Version&) = default;
};

// Who wants to know what a ledger sees: of a cluster.
class Witness {
 public:
  // kUnclear: forced, or by its time: both happened to some in that stage.
  enum class Ending : uint8_t { kExpired, kEvicted, kForced, kUnclear };
  virtual ~Witness() = default;
  // A client used the binding, or its last packet ended a connection.
  virtual void active(const KeyId& key, timing::Instant now, bool confirmed) = 0;
  // Its home ended a confirmed binding.
  virtual void ended(const KeyId& key, timing::Instant now, Ending ending) = 0;
};

class Ledger {
 public:
  // With a witness: an engine of a cluster, where bindings come from others too.
  Ledger(Engine& engine, const World& world, Trace& trace, Witness* witness = nullptr);

  // Around each stage of a core.
  void before(uint32_t core, Stage stage, uint32_t step);
  void after(uint32_t core, Stage stage);
  // A device hands over a frame; called before the core sees it.
  void received(std::span<const uint8_t> frame);

  // From here on nobody opens connections: P3 is checked by check_overdue(),
  // which is told how far apart turns are.
  void clients_have_gone(timing::Instant now) { quiet_since_ = now; }
  void check_overdue(timing::Instant now, timing::Duration grain) const;

  // UPDATEs and REFUSEs that this core has taken and not judged by yet.
  const std::vector<replication::Down>& heard(uint32_t core) const { return heard_[core]; }
  // Whether connections are open that count in a binding; in a confirmed one, and were open then.
  bool is_open(const KeyId& key) const;
  bool is_held(const KeyId& key, timing::Instant then = timing::Instant::never()) const;
  uint64_t openings() const { return openings_count_; }
  uint64_t removals() const { return removals_count_; }

 private:
  enum class Why : uint8_t { kNotYet, kExpired, kEvicted, kForced, kUnknown };
  // One life of a binding, by serial.
  struct Life {
    KeyId key;
    uint32_t home = 0;
    timing::Instant activity;  // latest that counts
    timing::Instant last_close;
    bool confirmed = false;
    bool datagram = false;  // a datagram used it
    Why removed = Why::kNotYet;
    std::vector<std::pair<uint32_t, binding::ServerId>> servers;  // by change
  };
  struct FlowSeen {
    bool counted = false;
    bool lost = false;  // its binding went and it goes on uncounted
    uint32_t serial = 0;
    uint8_t life = 0;  // of the entry: a flow may be counted anew in what came back
    uint16_t client_port = 0;
    uint16_t source_port = 0;
    timing::Instant opened;
  };
  struct Opening {
    uint32_t flow = 0;
    KeyId key;
    Version version;
    bool known = false;  // the version
  };
  struct Forwarded {
    uint64_t moment = 0;
    Version newest;
  };
  struct Counts {
    uint64_t expired = 0, evicted = 0, forced = 0, merged = 0;
  };

  void event(uint32_t core, const char* what, const KeyId& key, Version v, uint64_t detail = 0);
  Counts counts_of(uint32_t core);
  void peek_down(uint32_t core);
  void compare_down(uint32_t core);
  void peek_served(uint32_t core);
  void compare_flows(uint32_t core);
  void check_moves(uint32_t core);
  void closed(uint32_t core, const FlowSeen& flow);
  void check_opening(uint32_t core, const l4::Flow& flow, uint32_t index);
  void check_lost(uint32_t core, const l4::Flow& flow, FlowSeen& seen);
  void compare_records(uint32_t core);
  void observe(uint32_t core, const persist::Entry& e);
  void active(Life& life, timing::Instant now);
  void removed(uint32_t core, uint32_t serial, const Counts& why, bool explained);
  void look_at_sent(uint32_t core);
  void check_floor(uint32_t core, uint32_t tag, const Opening& opening);
  std::string overdue(uint32_t core, uint32_t serial, timing::Duration for_how_long) const;
  bool message_under_way(uint32_t home, uint32_t core, const KeyId& key, uint32_t serial);

  Engine& engine_;
  const World& world_;
  Trace& trace_;
  Witness* witness_;
  uint32_t step_ = 0;

  std::unordered_map<uint32_t, Life> lives_;           // by serial
  std::vector<std::vector<FlowSeen>> flows_;           // by core and flow
  std::vector<std::vector<uint32_t>> records_;         // by core: serials of its records
  std::vector<std::vector<replication::Down>> heard_;  // by core
  // What was in the core's down rings before it drained them, by home; then what it took.
  std::vector<std::vector<replication::Down>> down_before_;
  std::vector<replication::Down> drained_;
  std::vector<std::pair<KeyId, uint32_t>> embryonic_;  // copies that a RECALL may take: serials
  Counts counts_before_;
  const snapshot::Snapshot* snapshot_before_ = nullptr;
  // Changes of bindings that the home has made in this stage: what they were before.
  struct Changed {
    KeyId key;
    binding::ServerId before;  // none: a new binding
    binding::ServerId now;
  };
  std::vector<Changed> changed_;
  // Claims that the home is about to look at.
  struct Claimed {
    KeyId key;
    uint32_t from = 0;
    uint64_t version = 0;
  };
  std::vector<Claimed> claimed_;
  std::vector<Opening> openings_;                 // in the stage in hand
  std::vector<std::vector<Opening>> to_forward_;  // by core: judged, not yet sent
  std::unordered_map<KeyId, std::vector<Forwarded>, KeyIdHash> forwarded_;
  std::vector<uint64_t> arrived_;  // by tag: moment
  uint64_t moment_ = 1;            // +1 whenever something leaves
  timing::Instant quiet_since_ = timing::Instant::never();
  uint64_t openings_count_ = 0;
  uint64_t removals_count_ = 0;
};

}  // namespace limpet::sim
