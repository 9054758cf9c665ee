#include "control/failover/beat.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "common/base/assert.h"

namespace limpet::failover {
namespace {

using timing::Instant;

constexpr std::array<uint8_t, 8> kMagic = {'L', 'I', 'M', 'P', 'E', 'T', 'H', 0};
constexpr std::size_t kMacBytes = 32;
constexpr uint16_t kVersion = 1;
constexpr uint8_t kSeesHolderBit = 1;

// Offsets of the body (README.md).
constexpr std::size_t kBootAt = 8;
constexpr std::size_t kMomentAt = 24;
constexpr std::size_t kEchoBootAt = 32;
constexpr std::size_t kEchoAt = 48;
constexpr std::size_t kNameAt = 56;
constexpr std::size_t kNameBytes = mirroring::kEngineNameBytesMax + 1;
static_assert(kNameAt + kNameBytes == kBeatHeaderBytes);
static_assert(kBeatHeaderBytes + kGroupsMax * kClaimBytes <= kBeatBytesMax);

template <class T>
void put(uint8_t* at, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i)
    at[i] = static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i));
}

template <class T>
T get(const uint8_t* at) {
  uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= uint64_t{at[i]} << (8 * i);
  return static_cast<T>(value);
}

BootId boot_at(const uint8_t* at) {
  BootId boot;
  std::copy_n(at, boot.bytes.size(), boot.bytes.begin());
  return boot;
}

bool is_moment(int64_t ns) {
  return ns > -mirroring::kMomentEnd && ns < mirroring::kMomentEnd;
}

std::optional<Claim> claim_at(const uint8_t* at) {
  Claim claim{.group = GroupId{get<uint64_t>(at)}, .term = Term{get<uint64_t>(at + 8)}};
  if (claim.term >= kTermEnd || at[16] > static_cast<uint8_t>(State::kReleasing))
    return std::nullopt;
  claim.state = static_cast<State>(at[16]);
  claim.sees_holder = (at[17] & kSeesHolderBit) != 0;
  // Who holds has taken, with a term.
  if (holds(claim.state) && claim.term.value == 0) return std::nullopt;
  return claim;
}

}  // namespace

std::string_view name_of(State state) {
  switch (state) {
    case State::kStandby:
      return "standby";
    case State::kReady:
      return "ready";
    case State::kTaking:
      return "taking";
    case State::kOwner:
      return "owner";
    case State::kReleasing:
      return "releasing";
  }
  return "";
}

void encode(const Beat& beat, std::vector<uint8_t>* out) {
  LIMPET_ASSERT(mirroring::is_engine_name(beat.name) && beat.claims.size() <= kGroupsMax);
  const std::size_t begin = out->size();
  out->resize(begin + kBeatHeaderBytes + beat.claims.size() * kClaimBytes);
  uint8_t* body = out->data() + begin;
  put(body, kVersion);
  put(body + 2, static_cast<uint16_t>(beat.claims.size()));
  put(body + 4, static_cast<uint16_t>(kClaimBytes));
  put(body + 6, static_cast<uint16_t>(kBeatHeaderBytes));
  std::ranges::copy(beat.boot.bytes, body + kBootAt);
  put(body + kMomentAt, beat.moment.ns);
  std::ranges::copy(beat.echo_boot.bytes, body + kEchoBootAt);
  put(body + kEchoAt, beat.echo.ns);
  std::ranges::copy(beat.name, body + kNameAt);
  uint8_t* at = body + kBeatHeaderBytes;
  for (const Claim& claim : beat.claims) {
    put(at, claim.group.value);
    put(at + 8, claim.term.value);
    at[16] = static_cast<uint8_t>(claim.state);
    at[17] = claim.sees_holder ? kSeesHolderBit : 0;
    at += kClaimBytes;
  }
}

std::optional<Beat> decode(std::span<const uint8_t> body) {
  if (body.size() < kBeatHeaderBytes || body.size() > kBeatBytesMax) return std::nullopt;
  const std::size_t claims = get<uint16_t>(body.data() + 2);
  const std::size_t claim_bytes = get<uint16_t>(body.data() + 4);
  const std::size_t header_bytes = get<uint16_t>(body.data() + 6);
  if (claims > kGroupsMax || claim_bytes < kClaimBytes || header_bytes < kBeatHeaderBytes ||
      header_bytes + claims * claim_bytes > body.size())
    return std::nullopt;
  Beat beat{.boot = boot_at(body.data() + kBootAt),
            .moment = Instant{get<int64_t>(body.data() + kMomentAt)},
            .echo_boot = boot_at(body.data() + kEchoBootAt),
            .echo = Instant{get<int64_t>(body.data() + kEchoAt)}};
  const auto* name = reinterpret_cast<const char*>(body.data() + kNameAt);
  const char* end = std::find(name, name + kNameBytes, '\0');
  if (end == name + kNameBytes) return std::nullopt;
  beat.name.assign(name, end);
  if (!mirroring::is_engine_name(beat.name) || beat.boot.is_none() || !is_moment(beat.moment.ns) ||
      !is_moment(beat.echo.ns))
    return std::nullopt;
  for (std::size_t i = 0; i < claims; ++i) {
    const auto claim = claim_at(body.data() + header_bytes + i * claim_bytes);
    if (!claim) return std::nullopt;
    beat.claims.push_back(*claim);
  }
  return beat;
}

std::array<uint8_t, 32> Seal::mac_of(std::span<const uint8_t> bytes) const {
  std::array<uint8_t, kMacBytes> mac{};
  unsigned int length = 0;
  const auto key = key_.bytes();
  const auto* made = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes.data(),
                          bytes.size(), mac.data(), &length);
  LIMPET_ASSERT(made != nullptr && length == mac.size());
  return mac;
}

std::vector<uint8_t> Seal::close(const Beat& beat) const {
  std::vector<uint8_t> out(kMagic.begin(), kMagic.end());
  encode(beat, &out);
  const auto mac = mac_of(out);
  out.insert(out.end(), mac.begin(), mac.end());
  return out;
}

std::optional<Beat> Seal::open(std::span<const uint8_t> datagram, bool* malformed) const {
  *malformed = false;
  if (datagram.size() < kSealBytes || datagram.size() > kSealBytes + kBeatBytesMax ||
      !std::ranges::equal(datagram.first(kMagic.size()), kMagic))
    return std::nullopt;
  const auto said = datagram.first(datagram.size() - kMacBytes);
  const auto mac = mac_of(said);
  if (CRYPTO_memcmp(mac.data(), datagram.data() + said.size(), mac.size()) != 0)
    return std::nullopt;
  auto beat = decode(said.subspan(kMagic.size()));
  *malformed = !beat;
  return beat;
}

}  // namespace limpet::failover
