// Why a session between engines ended. Each end is counted by its reason (README, "Reasons"); the
// numbers are on the wire, in BYE.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace limpet::mirroring {

enum class Reason : uint8_t {
  kNone = 0,
  kShutdown = 1,
  kBadLength = 2,
  kBadMagic = 3,
  kBadValue = 4,
  kVersion = 5,
  kUnexpected = 6,
  kUnknownPeer = 7,
  kOwnName = 8,
  kWrongName = 9,
  kReplaced = 10,
  kBadSequence = 11,
  kBadAck = 12,
  kSilent = 13,
  kHandshakeTimeout = 14,
  kCut = 15,
  kPeerSaidBye = 16,
  kTls = 17,
  kCrowded = 18,
  kUnreachable = 19,
  kResync = 20,
};

inline constexpr std::array<std::string_view, 21> kReasonNames = {
    "none",     "shutdown",      "bad_length",   "bad_magic", "bad_value",
    "version",  "unexpected",    "unknown_peer", "own_name",  "wrong_name",
    "replaced", "bad_sequence",  "bad_ack",      "silent",    "handshake_timeout",
    "cut",      "peer_said_bye", "tls",          "crowded",   "unreachable",
    "resync"};

constexpr std::string_view name_of(Reason reason) {
  return kReasonNames[static_cast<std::size_t>(reason)];
}

// How often sessions ended for each reason.
class ReasonCounts {
 public:
  void count(Reason reason) { ++counts_[static_cast<std::size_t>(reason)]; }
  uint64_t operator[](Reason reason) const { return counts_[static_cast<std::size_t>(reason)]; }

 private:
  std::array<uint64_t, kReasonNames.size()> counts_{};
};

}  // namespace limpet::mirroring
