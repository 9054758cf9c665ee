#include "control/mirroring/frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

namespace limpet::mirroring {
namespace {

using binding::Stamp;
using timing::Instant;
using Bytes = std::vector<uint8_t>;
using What = Decoded::What;

Hello hello() {
  return {.table_limit = 1000,
          .boot = {{1, 2, 3}},
          .moment = Instant{77},
          .received = {{{9}}, Sequence{12}},
          .name = "se1",
          .addresses = {*net::Address::parse("10.1.0.1"), *net::Address::parse("fd00::1")}};
}

Binding binding() {
  return {.sequence = Sequence{5},
          .scope = binding::ScopeId{0x1122334455667788},
          .key = binding::Key::of(*net::Address::parse("10.1.0.2")),
          .record = {.stamp = Stamp{100},
                     .epoch = 3,
                     .held = true,
                     .server = binding::ServerId{7},
                     .first = binding::ServerId{8},
                     .timeout_ms = 60'000,
                     .deleted = Stamp{50},
                     .act = Stamp{120}},
          .act_at = Instant{-5}};
}

Bytes bytes_of(const Frame& frame) {
  Bytes out;
  encode(frame, &out);
  return out;
}

// Decodes from a buffer that ends where the bytes end, so that a sanitizer sees a read beyond.
Decoded decode_exact(const Bytes& bytes) {
  const auto exact = std::make_unique<uint8_t[]>(bytes.size());
  if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
  return decode({exact.get(), bytes.size()});
}

void put64(Bytes* bytes, std::size_t body_offset, uint64_t value) {
  for (std::size_t i = 0; i < 8; ++i)
    (*bytes)[kFrameHeaderBytes + body_offset + i] = static_cast<uint8_t>(value >> (8 * i));
}

void put_length(Bytes* bytes, uint32_t length) {
  for (std::size_t i = 0; i < 4; ++i) (*bytes)[i] = static_cast<uint8_t>(length >> (8 * i));
}

Reason refusal(const Bytes& bytes) {
  const Decoded decoded = decode_exact(bytes);
  EXPECT_EQ(decoded.what, What::kBad);
  EXPECT_EQ(decoded.bytes, 0u);
  return decoded.reason;
}

TEST(MirroringFrame, EachKindSurvivesTheWire) {
  for (const Frame& frame : std::initializer_list<Frame>{
           hello(), binding(), ScopeTombstone{Sequence{1}, binding::ScopeId{2}, Stamp{3}},
           Ack{Sequence{9}}, Heartbeat{Instant{1}, Instant{-2}, timing::Duration{3}, {4, 5}},
           SnapshotBegin{Sequence{7}, SnapshotBegin::Kind::kFull}, SnapshotEnd{Sequence{7}},
           Bye{1}}) {
    const Bytes bytes = bytes_of(frame);
    const Decoded decoded = decode_exact(bytes);
    ASSERT_EQ(decoded.what, What::kFrame) << frame.index();
    EXPECT_EQ(decoded.bytes, bytes.size());
    EXPECT_EQ(decoded.frame, frame) << frame.index();
  }
}

TEST(MirroringFrame, IntegersAreLittleEndian) {
  const Bytes bytes = bytes_of(Ack{Sequence{0x0102030405060708}});
  const Bytes expected = {16, 0, 0, 0, 4, 1, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1};
  EXPECT_EQ(bytes, expected);
}

TEST(MirroringFrame, FieldsOfABindingAreWhereTheReadmeSays) {
  const Bytes bytes = bytes_of(binding());
  ASSERT_EQ(bytes.size(), 104u);
  const uint8_t* body = bytes.data() + 8;
  EXPECT_EQ(body[0], 5);        // sequence
  EXPECT_EQ(body[8], 0x88);     // scope
  EXPECT_EQ(body[16 + 15], 2);  // key: the address's last byte
  EXPECT_EQ(body[32], 100);     // stamp
  EXPECT_EQ(body[40], 7);       // server
  EXPECT_EQ(body[48], 8);       // first
  EXPECT_EQ(body[56], 50);      // deleted
  EXPECT_EQ(body[64], 120);     // act
  EXPECT_EQ(body[72], 0xfb);    // act moment
  EXPECT_EQ(body[80], 3);       // epoch
  EXPECT_EQ(body[84], 0x60);    // timeout
  EXPECT_EQ(body[88], 1);       // held
}

Binding short_binding(std::string_view client) {
  Binding out = binding();
  out.key = binding::Key::of(*net::Address::parse(client));
  out.record.first = out.record.server;
  out.record.timeout_ms = 0;
  out.record.deleted = {};
  return out;
}

TEST(MirroringFrame, FieldsOfAShortBindingAreWhereTheReadmeSays) {
  const Bytes v4 = bytes_of(short_binding("10.1.0.2"));
  ASSERT_EQ(v4.size(), 68u);
  EXPECT_EQ(v4[4], 10);
  const uint8_t* body = v4.data() + 8;
  EXPECT_EQ(body[0], 5);       // sequence
  EXPECT_EQ(body[8], 0x88);    // scope
  EXPECT_EQ(body[16], 100);    // stamp
  EXPECT_EQ(body[24], 7);      // server
  EXPECT_EQ(body[32], 120);    // act
  EXPECT_EQ(body[40], 0xfb);   // act moment
  EXPECT_EQ(body[48], 3);      // epoch
  EXPECT_EQ(body[52], 1 | 2);  // held, IPv4
  EXPECT_EQ(body[56], 10);     // key
  EXPECT_EQ(body[59], 2);
  const Bytes v6 = bytes_of(short_binding("fd00::1:2"));
  ASSERT_EQ(v6.size(), 80u);
  EXPECT_EQ(v6[8 + 52], 1);
  EXPECT_EQ(v6[8 + 59], 2);
  EXPECT_EQ(v6[8 + 60], 0xfd);
}

TEST(MirroringFrame, ShortBindingsSurviveTheWire) {
  for (const auto* client : {"10.1.0.2", "fd00::1:2"}) {
    const Binding sent = short_binding(client);
    EXPECT_EQ(decode_exact(bytes_of(sent)).frame, Frame{sent});
    Binding idle = sent;
    idle.record.held = false;
    EXPECT_EQ(decode_exact(bytes_of(idle)).frame, Frame{idle});
  }
}

TEST(MirroringFrame, WhatAShortBindingCannotSayIsSaidAtLength) {
  const Binding known = short_binding("10.1.0.2");
  for (uint32_t field = 0; field < 3; ++field) {
    Binding sent = known;
    if (field == 0) sent.record.first = binding::ServerId{9};
    if (field == 1) sent.record.deleted = Stamp{50};
    if (field == 2) sent.record.timeout_ms = 1;
    EXPECT_EQ(bytes_of(sent).size(), 104u);
    EXPECT_EQ(decode_exact(bytes_of(sent)).frame, Frame{sent});
  }
}

TEST(MirroringFrame, AShortBindingWithoutItsKeyIsRefused) {
  Bytes bytes = bytes_of(short_binding("fd00::1:2"));
  bytes.pop_back();
  put_length(&bytes, 79);
  EXPECT_EQ(refusal(bytes), Reason::kBadLength);
  bytes = bytes_of(short_binding("10.1.0.2"));
  put64(&bytes, 16, 0);
  EXPECT_EQ(refusal(bytes), Reason::kBadValue) << "no stamp";
}

TEST(MirroringFrame, EveryShorterInputIsIncomplete) {
  const Bytes bytes = bytes_of(binding());
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const Decoded decoded = decode_exact({bytes.begin(), bytes.begin() + static_cast<long>(n)});
    EXPECT_EQ(decoded.what, What::kIncomplete) << n;
    EXPECT_EQ(decoded.bytes, 0u);
  }
}

TEST(MirroringFrame, OnlyTheFirstOfTwoFramesIsTaken) {
  Bytes bytes = bytes_of(Ack{Sequence{1}});
  encode(Bye{2}, &bytes);
  const Decoded decoded = decode_exact(bytes);
  EXPECT_EQ(decoded.bytes, 16u);
  EXPECT_EQ(decoded.frame, Frame{Ack{Sequence{1}}});
}

TEST(MirroringFrame, UnknownTrailingFieldsAreSkipped) {
  Bytes bytes = bytes_of(binding());
  bytes.resize(bytes.size() + 24, 0xaa);
  put_length(&bytes, static_cast<uint32_t>(bytes.size()));
  const Decoded decoded = decode_exact(bytes);
  ASSERT_EQ(decoded.what, What::kFrame);
  EXPECT_EQ(decoded.bytes, bytes.size());
  EXPECT_EQ(decoded.frame, Frame{binding()});
}

TEST(MirroringFrame, UnknownTypesAreSkipped) {
  Bytes bytes = bytes_of(Ack{Sequence{1}});
  for (const uint8_t type : std::initializer_list<uint8_t>{0, 11, 200, 255}) {
    bytes[4] = type;
    const Decoded decoded = decode_exact(bytes);
    EXPECT_EQ(decoded.what, What::kSkipped);
    EXPECT_EQ(decoded.bytes, 16u);
  }
}

TEST(MirroringFrame, FlagsVersionAndUnknownBitsAreNoMatter) {
  Bytes bytes = bytes_of(binding());
  bytes[5] = 99;
  bytes[6] = bytes[7] = 0xff;
  bytes[8 + 88] = 0xff;
  EXPECT_EQ(decode_exact(bytes).frame, Frame{binding()});
}

TEST(MirroringFrame, ALengthBelowTheHeaderIsRefused) {
  Bytes bytes = bytes_of(Ack{Sequence{1}});
  for (const uint32_t length : {0u, 1u, 7u}) {
    put_length(&bytes, length);
    EXPECT_EQ(refusal(bytes), Reason::kBadLength);
  }
}

TEST(MirroringFrame, ALengthAboveTheMaximumIsRefusedAtTheHeader) {
  Bytes bytes(kFrameHeaderBytes);
  put_length(&bytes, kFrameBytesMax + 1);
  EXPECT_EQ(refusal(bytes), Reason::kBadLength);
  put_length(&bytes, UINT32_MAX);
  EXPECT_EQ(refusal(bytes), Reason::kBadLength);
}

TEST(MirroringFrame, ABodyShorterThanItsLayoutIsRefused) {
  for (const Frame& frame : std::initializer_list<Frame>{
           hello(), binding(), ScopeTombstone{Sequence{1}, {}, Stamp{3}}, Ack{Sequence{9}},
           Heartbeat{}, SnapshotBegin{}, SnapshotEnd{}, Bye{}}) {
    Bytes bytes = bytes_of(frame);
    bytes.pop_back();
    put_length(&bytes, static_cast<uint32_t>(bytes.size()));
    EXPECT_EQ(refusal(bytes), Reason::kBadLength) << frame.index();
  }
}

TEST(MirroringFrame, HelloWithoutTheMagicIsRefused) {
  Bytes bytes = bytes_of(hello());
  bytes[8] = 'l';
  EXPECT_EQ(refusal(bytes), Reason::kBadMagic);
}

TEST(MirroringFrame, HelloWithoutANameIsRefused) {
  Bytes bytes = bytes_of(hello());
  std::memset(bytes.data() + 8 + 72, 0, 64);
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
}

TEST(MirroringFrame, HelloWhoseNameDoesNotEndIsRefused) {
  Bytes bytes = bytes_of(hello());
  std::memset(bytes.data() + 8 + 72, 'x', 64);
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
}

TEST(MirroringFrame, HelloWithoutABootIdIsRefused) {
  Bytes bytes = bytes_of(hello());
  std::memset(bytes.data() + 8 + 24, 0, 16);
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
}

TEST(MirroringFrame, HelloWithTooManyAddressesIsRefused) {
  Bytes bytes = bytes_of(hello());
  bytes[8 + 136] = kAddressesMax + 1;
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
}

TEST(MirroringFrame, HelloWithAnEmptyVersionRangeIsRefused) {
  Hello wrong = hello();
  wrong.versions = {3, 2};
  EXPECT_EQ(refusal(bytes_of(wrong)), Reason::kBadValue);
}

TEST(MirroringFrame, BindingWithoutSequenceIsRefused) {
  Bytes bytes = bytes_of(binding());
  put64(&bytes, 0, 0);
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
}

TEST(MirroringFrame, BindingThatSaysNothingIsRefused) {
  Bytes bytes = bytes_of(binding());
  put64(&bytes, 32, 0);
  put64(&bytes, 56, 0);
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
}

TEST(MirroringFrame, BindingThatItsOwnTombstoneKillsIsRefused) {
  Bytes bytes = bytes_of(binding());
  put64(&bytes, 56, 100);
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
}

TEST(MirroringFrame, AKeysTombstoneAloneIsABinding) {
  Binding tombstone = binding();
  tombstone.record = {.deleted = Stamp{100}};
  EXPECT_EQ(decode_exact(bytes_of(tombstone)).frame, Frame{tombstone});
}

TEST(MirroringFrame, StampsAtTheEndOfTimeAreRefused) {
  for (const std::size_t offset : {32u, 56u, 64u}) {
    Bytes bytes = bytes_of(binding());
    put64(&bytes, offset, kStampEnd.value);
    EXPECT_EQ(refusal(bytes), Reason::kBadValue) << offset;
  }
}

TEST(MirroringFrame, MomentsBeyondTheRangeAreRefused) {
  Bytes bytes = bytes_of(binding());
  put64(&bytes, 72, static_cast<uint64_t>(kMomentEnd));
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
  put64(&bytes, 72, static_cast<uint64_t>(INT64_MIN));
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
  Bytes beat = bytes_of(Heartbeat{});
  put64(&beat, 0, static_cast<uint64_t>(INT64_MAX));
  EXPECT_EQ(refusal(beat), Reason::kBadValue);
}

TEST(MirroringFrame, SequencesBeyondTheRangeAreRefused) {
  for (const Frame& frame :
       std::initializer_list<Frame>{binding(), ScopeTombstone{Sequence{1}, {}, Stamp{3}}, Ack{},
                                    SnapshotBegin{}, SnapshotEnd{}}) {
    Bytes bytes = bytes_of(frame);
    put64(&bytes, 0, UINT64_MAX);
    EXPECT_EQ(refusal(bytes), Reason::kBadValue) << frame.index();
  }
}

TEST(MirroringFrame, ScopeTombstoneWithoutAStampIsRefused) {
  Bytes bytes = bytes_of(ScopeTombstone{Sequence{1}, {}, Stamp{3}});
  put64(&bytes, 16, 0);
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
}

TEST(MirroringFrame, SnapshotOfUnknownKindIsRefused) {
  Bytes bytes = bytes_of(SnapshotBegin{});
  bytes[8 + 8] = 2;
  EXPECT_EQ(refusal(bytes), Reason::kBadValue);
}

}  // namespace
}  // namespace limpet::mirroring
