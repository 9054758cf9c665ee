// Frames between engines: what they say, and bytes. Layouts, limits and the meaning of every field
// are in README.md; the layouts are asserted in frame.cc.
//
// decode() is total: any bytes give a frame, "not yet whole", "skip this" or a reason, and nothing
// beyond the input is read. What it returns has passed every check that needs no state, so the
// session looks at meaning only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "common/base/strong.h"
#include "common/binding/change.h"
#include "common/net/address.h"
#include "common/timing/time.h"
#include "control/mirroring/reason.h"

namespace limpet::mirroring {

using Sequence = base::Strong<struct SequenceTag, uint64_t>;  // 0: none

inline constexpr std::size_t kFrameBytesMax = 4096;
inline constexpr std::size_t kFrameHeaderBytes = 8;
inline constexpr std::size_t kBindingFrameBytes = kFrameHeaderBytes + 96;
inline constexpr std::size_t kShortBindingFrameBytes = kFrameHeaderBytes + 60;
inline constexpr std::size_t kHelloFrameBytes = kFrameHeaderBytes + 1200;
inline constexpr std::size_t kGroupsBytesMax = kFrameBytesMax - kFrameHeaderBytes;
inline constexpr std::size_t kAddressesMax = 64;
inline constexpr std::size_t kEngineNameBytesMax = 63;
inline constexpr uint16_t kVersion = 1;
inline constexpr Sequence kSequenceMax{INT64_MAX};
inline constexpr binding::Stamp kStampEnd{0xf000'0000'0000'0000};
inline constexpr int64_t kMomentEnd = int64_t{1} << 62;

// Names one run of an engine.
struct BootId {
  std::array<uint8_t, 16> bytes{};

  bool is_none() const { return *this == BootId{}; }
  friend constexpr auto operator<=>(const BootId&, const BootId&) = default;
};

// What one has of another engine's list.
struct Position {
  BootId boot;  // of the engine whose list it is; none: nothing was ever heard from it
  Sequence sequence;

  friend constexpr bool operator==(const Position&, const Position&) = default;
};

struct Hello {
  struct Versions {
    uint16_t min = kVersion;
    uint16_t max = kVersion;

    friend constexpr bool operator==(const Versions&, const Versions&) = default;
  } versions;
  uint32_t table_limit = 0;
  uint64_t features = 0;
  BootId boot;
  timing::Instant moment;  // the sender's clock, as all moments in frames
  Position received;       // of the receiver's list
  std::string name;
  std::vector<net::Address> addresses;

  friend bool operator==(const Hello&, const Hello&) = default;
};

struct Binding {
  Sequence sequence;
  binding::ScopeId scope;
  binding::Key key;
  binding::Record record;
  timing::Instant act_at;

  friend bool operator==(const Binding&, const Binding&) = default;
};

struct ScopeTombstone {
  Sequence sequence;
  binding::ScopeId scope;
  binding::Stamp deleted;

  friend constexpr bool operator==(const ScopeTombstone&, const ScopeTombstone&) = default;
};

struct Ack {
  Sequence sequence;

  friend constexpr bool operator==(const Ack&, const Ack&) = default;
};

struct Lag {
  uint32_t entries = 0;
  uint32_t ms = 0;

  friend constexpr bool operator==(const Lag&, const Lag&) = default;
};

struct Heartbeat {
  timing::Instant moment;
  timing::Instant echo;
  timing::Duration echo_age{};
  Lag lag;

  friend constexpr bool operator==(const Heartbeat&, const Heartbeat&) = default;
};

struct SnapshotBegin {
  enum class Kind : uint32_t { kResume = 0, kFull = 1 };
  Sequence up_to;
  Kind kind = Kind::kResume;

  friend constexpr bool operator==(const SnapshotBegin&, const SnapshotBegin&) = default;
};

struct SnapshotEnd {
  Sequence sequence;

  friend constexpr bool operator==(const SnapshotEnd&, const SnapshotEnd&) = default;
};

struct Bye {
  uint32_t reason = 0;  // a Reason, or a newer version's

  friend constexpr bool operator==(const Bye&, const Bye&) = default;
};

// What the sender says of groups of engines: a beat of control/failover, which reads it.
struct Groups {
  std::vector<uint8_t> body;  // at most kGroupsBytesMax

  friend bool operator==(const Groups&, const Groups&) = default;
};

// The first is what an empty one holds: a small one, for Decoded is made for each frame.
using Frame = std::variant<Ack, Hello, Binding, ScopeTombstone, Heartbeat, SnapshotBegin,
                           SnapshotEnd, Bye, Groups>;

struct Decoded {
  enum class What : uint8_t {
    kIncomplete,  // more bytes are needed
    kFrame,
    kSkipped,  // a type of a newer version
    kBad,      // end the session; `reason`
  } what = What::kIncomplete;
  std::size_t bytes = 0;  // of the input that are done with: the whole frame, or 0
  Frame frame;
  Reason reason = Reason::kNone;
};

// The first frame of the input.
Decoded decode(std::span<const uint8_t> input);

// Appends the frame. Its values must be what decode() lets through.
void encode(const Frame& frame, std::vector<uint8_t>* out);
void encode(const Binding& binding, std::vector<uint8_t>* out);  // the most common

// A name that HELLO can carry: 1 to 63 bytes, none of them zero.
bool is_engine_name(std::string_view name);

}  // namespace limpet::mirroring
