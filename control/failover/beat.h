// Beat: what an engine tells another about the groups, and how that is written, authenticated and
// read. Layout and limits are in README.md, "What a beat looks like".
//
// decode() and Seal::open() are total: any bytes give a beat or nothing, and nothing beyond the
// input is read. What they return has passed every check that needs no state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/base/strong.h"
#include "common/timing/time.h"
#include "control/mirroring/frame.h"
#include "control/mirroring/tls.h"

namespace limpet::failover {

using GroupId = base::Strong<struct GroupIdTag, uint64_t>;  // of its uuid, equal on all engines
using Term = base::Strong<struct TermTag, uint64_t>;        // 0: never owned
using mirroring::BootId;

using base::kGroupsMax;
inline constexpr std::size_t kBeatHeaderBytes = 120;
inline constexpr std::size_t kClaimBytes = 24;
inline constexpr std::size_t kBeatBytesMax = 2048;  // of a body; a newer version's may be longer
inline constexpr std::size_t kSealBytes = 8 + 32;   // what a datagram has beside the body
inline constexpr Term kTermEnd{uint64_t{1} << 62};
inline constexpr std::string_view kHeartbeatLabel = "limpet heartbeat 1";

enum class State : uint8_t { kStandby, kReady, kTaking, kOwner, kReleasing };

// "standby", "ready", "taking", "owner", "releasing".
std::string_view name_of(State state);

constexpr bool holds(State state) {
  return state >= State::kTaking;
}

struct Claim {
  GroupId group;
  Term term;
  State state = State::kStandby;
  bool sees_holder = false;  // a live peer of the sender holds the group

  friend constexpr bool operator==(const Claim&, const Claim&) = default;
};

struct Beat {
  BootId boot;
  timing::Instant moment;  // the sender's clock
  BootId echo_boot;        // of the receiver, as last heard; none: never
  timing::Instant echo;    // its moment then
  std::string name;        // the sender's
  std::vector<Claim> claims;

  friend bool operator==(const Beat&, const Beat&) = default;
};

// Appends the body. Its values must be what decode() lets through.
void encode(const Beat& beat, std::vector<uint8_t>* out);
std::optional<Beat> decode(std::span<const uint8_t> body);

// Datagrams: the body between a magic and its HMAC. One for all beats of an engine.
class Seal {
 public:
  // `key`: derived from the cluster's secret with kHeartbeatLabel.
  explicit Seal(const mirroring::DerivedKey& key) : key_(key) {}

  std::vector<uint8_t> close(const Beat& beat) const;
  // Nothing: not a datagram of ours, or not made with our secret; `malformed`: it was, and still
  // says what no engine says.
  std::optional<Beat> open(std::span<const uint8_t> datagram, bool* malformed) const;

 private:
  std::array<uint8_t, 32> mac_of(std::span<const uint8_t> bytes) const;

  mirroring::DerivedKey key_;
};

}  // namespace limpet::failover
