// What holds of frames between engines, for any values and any bytes.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstring>
#include <memory>

#include "control/mirroring/frame.h"

namespace limpet::mirroring {
namespace {

using binding::Stamp;
using timing::Instant;

uint64_t any() {
  return *rc::gen::arbitrary<uint64_t>();
}

// Values of every magnitude: rapidcheck's own stay near zero.
uint64_t wide(uint64_t end) {
  return (any() >> *rc::gen::inRange(0, 64)) % end;
}

Instant any_moment() {
  const auto ns = static_cast<int64_t>(wide(static_cast<uint64_t>(kMomentEnd)));
  return Instant{*rc::gen::arbitrary<bool>() ? ns : -ns};
}

Sequence any_sequence(uint64_t min = 0) {
  return Sequence{min + wide(kSequenceMax.value - min)};
}

BootId any_boot() {
  BootId out;
  for (uint8_t& byte : out.bytes) byte = static_cast<uint8_t>(any());
  out.bytes[0] |= 1;
  return out;
}

Frame any_hello() {
  Hello out{.versions = {1, static_cast<uint16_t>(*rc::gen::inRange(1, 65536))},
            .table_limit = static_cast<uint32_t>(wide(UINT32_MAX)),
            .features = any(),
            .boot = any_boot(),
            .moment = any_moment(),
            .received = {any_boot(), any_sequence()},
            .name = std::string(static_cast<std::size_t>(*rc::gen::inRange(1, 64)), 'n')};
  const int addresses = *rc::gen::inRange(0, int{kAddressesMax} + 1);
  for (int i = 0; i < addresses; ++i)
    out.addresses.push_back(net::Address::v4_host(static_cast<uint32_t>(any())));
  return out;
}

Frame any_binding() {
  const uint64_t deleted = *rc::gen::arbitrary<bool>() ? 0 : 1 + wide(kStampEnd.value - 2);
  const uint64_t stamp = deleted + 1 + wide(kStampEnd.value - deleted - 1);
  const bool live = deleted == 0 || *rc::gen::arbitrary<bool>();
  // As most are: what is sent in short.
  const uint64_t server = any();
  if (*rc::gen::arbitrary<bool>()) {
    return Binding{
        .sequence = any_sequence(1),
        .scope = binding::ScopeId{any()},
        .key = *rc::gen::arbitrary<bool>()
                   ? binding::Key::of(net::Address::v4_host(static_cast<uint32_t>(any())))
                   : binding::Key{{any(), any()}},
        .record = {.stamp = Stamp{1 + wide(kStampEnd.value - 1)},
                   .epoch = static_cast<uint32_t>(wide(UINT32_MAX)),
                   .held = *rc::gen::arbitrary<bool>(),
                   .server = binding::ServerId{server},
                   .first = binding::ServerId{server},
                   .act = Stamp{wide(kStampEnd.value)}},
        .act_at = any_moment()};
  }
  return Binding{.sequence = any_sequence(1),
                 .scope = binding::ScopeId{any()},
                 .key = {{any(), any()}},
                 .record = {.stamp = Stamp{live ? stamp : 0},
                            .epoch = static_cast<uint32_t>(wide(UINT32_MAX)),
                            .held = *rc::gen::arbitrary<bool>(),
                            .server = binding::ServerId{any()},
                            .first = binding::ServerId{any()},
                            .timeout_ms = static_cast<uint32_t>(wide(UINT32_MAX)),
                            .deleted = Stamp{deleted},
                            .act = Stamp{wide(kStampEnd.value)}},
                 .act_at = any_moment()};
}

Frame any_frame() {
  switch (*rc::gen::inRange(0, 9)) {
    case 0:
      return any_hello();
    case 1:
      return any_binding();
    case 2:
      return ScopeTombstone{any_sequence(1), binding::ScopeId{any()},
                            Stamp{1 + wide(kStampEnd.value - 1)}};
    case 3:
      return Ack{any_sequence()};
    case 4:
      return Heartbeat{any_moment(),
                       any_moment(),
                       timing::Duration{any_moment().ns},
                       {static_cast<uint32_t>(any()), static_cast<uint32_t>(any())}};
    case 5:
      return SnapshotBegin{any_sequence(), *rc::gen::arbitrary<bool>()
                                               ? SnapshotBegin::Kind::kFull
                                               : SnapshotBegin::Kind::kResume};
    case 6:
      return SnapshotEnd{any_sequence()};
    case 7:
      return Groups{std::vector<uint8_t>(*rc::gen::inRange<std::size_t>(0, kGroupsBytesMax + 1),
                                         static_cast<uint8_t>(any()))};
    default:
      return Bye{static_cast<uint32_t>(any())};
  }
}

RC_GTEST_PROP(MirroringFrame, WhatIsEncodedIsDecoded, ()) {
  const Frame frame = any_frame();
  std::vector<uint8_t> bytes;
  encode(frame, &bytes);
  const Decoded decoded = decode(bytes);
  RC_ASSERT(decoded.what == Decoded::What::kFrame);
  RC_ASSERT(decoded.bytes == bytes.size());
  RC_ASSERT(decoded.frame == frame);
}

RC_GTEST_PROP(MirroringFrame, APrefixOfAFrameIsIncomplete, ()) {
  std::vector<uint8_t> bytes;
  encode(any_frame(), &bytes);
  bytes.resize(static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(bytes.size()))));
  RC_ASSERT(decode(bytes).what == Decoded::What::kIncomplete);
}

// A changed byte gives another frame, a refusal or a wait, and a frame that it gives is one that
// could have been sent.
RC_GTEST_PROP(MirroringFrame, ADamagedFrameIsJudgedWhole, ()) {
  std::vector<uint8_t> bytes;
  encode(any_frame(), &bytes);
  const int changes = *rc::gen::inRange(1, 4);
  for (int i = 0; i < changes; ++i)
    bytes[static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(bytes.size())))] =
        static_cast<uint8_t>(any());
  const auto exact = std::make_unique<uint8_t[]>(bytes.size());
  std::memcpy(exact.get(), bytes.data(), bytes.size());
  const Decoded decoded = decode({exact.get(), bytes.size()});
  RC_ASSERT(decoded.bytes <= bytes.size());
  if (decoded.what == Decoded::What::kBad) RC_ASSERT(decoded.reason != Reason::kNone);
  if (decoded.what != Decoded::What::kFrame) return;
  std::vector<uint8_t> again;
  encode(decoded.frame, &again);
  RC_ASSERT(decode(again).frame == decoded.frame);
}

}  // namespace
}  // namespace limpet::mirroring
