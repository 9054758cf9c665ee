// Beats: whatever is written is read the same; whatever bytes come, nothing but a beat or a
// refusal.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <rapidcheck/gtest.h>

#include "control/failover/beat.h"

namespace limpet::failover {
namespace {

BootId any_boot(bool may_be_none) {
  BootId boot;
  const auto bytes = *rc::gen::container<std::vector<uint8_t>>(16, rc::gen::arbitrary<uint8_t>());
  std::copy(bytes.begin(), bytes.end(), boot.bytes.begin());
  if (!may_be_none && boot.is_none()) boot.bytes[0] = 1;
  return boot;
}

timing::Instant any_moment() {
  return {*rc::gen::inRange<int64_t>(1 - mirroring::kMomentEnd, mirroring::kMomentEnd)};
}

Beat any_beat() {
  Beat beat{.boot = any_boot(false),
            .moment = any_moment(),
            .echo_boot = any_boot(true),
            .echo = any_moment()};
  const auto length = *rc::gen::inRange<std::size_t>(1, mirroring::kEngineNameBytesMax + 1);
  beat.name = *rc::gen::container<std::string>(length, rc::gen::inRange<char>('!', '~'));
  const auto claims = *rc::gen::inRange<std::size_t>(0, kGroupsMax + 1);
  for (std::size_t i = 0; i < claims; ++i) {
    beat.claims.push_back({.group = GroupId{*rc::gen::arbitrary<uint64_t>()},
                           .term = Term{*rc::gen::inRange<uint64_t>(1, kTermEnd.value)},
                           .state = static_cast<State>(*rc::gen::inRange(0, 5)),
                           .sees_holder = *rc::gen::arbitrary<bool>()});
  }
  return beat;
}

RC_GTEST_PROP(BeatProperty, IsReadAsItWasWritten, ()) {
  const Beat beat = any_beat();
  std::vector<uint8_t> body;
  encode(beat, &body);
  const auto read = decode(body);
  RC_ASSERT(read.has_value());
  RC_ASSERT(*read == beat);
}

// Nearly right bytes: what is read from them can be written, and is then read the same.
RC_GTEST_PROP(BeatProperty, WithChangedBytesIsRefusedOrMeansSomething, ()) {
  std::vector<uint8_t> body;
  encode(any_beat(), &body);
  const auto changes = *rc::gen::inRange(1, 6);
  for (int i = 0; i < changes; ++i) {
    const auto at = *rc::gen::inRange<std::size_t>(0, std::min<std::size_t>(body.size(), 160));
    body[at] = *rc::gen::arbitrary<uint8_t>();
  }
  if (*rc::gen::arbitrary<bool>()) body.resize(*rc::gen::inRange<std::size_t>(0, body.size() + 1));
  const auto read = decode(body);
  if (!read) return;
  std::vector<uint8_t> again;
  encode(*read, &again);
  RC_ASSERT(decode(again) == read);
}

RC_GTEST_PROP(BeatProperty, OfAnyBytesIsReadWithoutHarm, (std::vector<uint8_t> bytes)) {
  const std::vector<uint8_t> secret(32, 7);
  const Seal seal(mirroring::derive_key(secret, kHeartbeatLabel));
  bool malformed = false;
  decode(bytes);
  RC_ASSERT(!seal.open(bytes, &malformed).has_value());
}

}  // namespace
}  // namespace limpet::failover
