// Beats as bytes, and their seal.
#include <gtest/gtest.h>

#include <numeric>

#include "control/failover/beat.h"

namespace limpet::failover {
namespace {

Beat sample(std::size_t claims) {
  Beat beat{.boot = {},
            .moment = timing::Instant{123'456},
            .echo_boot = {},
            .echo = timing::Instant{-5},
            .name = "se1"};
  std::iota(beat.boot.bytes.begin(), beat.boot.bytes.end(), uint8_t{1});
  std::iota(beat.echo_boot.bytes.begin(), beat.echo_boot.bytes.end(), uint8_t{101});
  for (std::size_t i = 0; i < claims; ++i) {
    beat.claims.push_back({.group = GroupId{0x0102030405060708 + i},
                           .term = Term{i + 1},
                           .state = static_cast<State>(i % 5),
                           .sees_holder = i % 2 == 1});
  }
  return beat;
}

std::vector<uint8_t> body_of(const Beat& beat) {
  std::vector<uint8_t> out;
  encode(beat, &out);
  return out;
}

mirroring::DerivedKey key(uint8_t fill) {
  return mirroring::derive_key(std::vector<uint8_t>(32, fill), kHeartbeatLabel);
}

TEST(Beat, IsReadAsItWasWritten) {
  for (const std::size_t claims : {std::size_t{0}, std::size_t{1}, kGroupsMax}) {
    const auto read = decode(body_of(sample(claims)));
    ASSERT_TRUE(read);
    EXPECT_EQ(*read, sample(claims));
  }
}

TEST(Beat, HasTheLayoutOfTheReadme) {
  const auto body = body_of(sample(2));
  ASSERT_EQ(body.size(), 120u + 48u);
  EXPECT_EQ(body[0], 1);
  EXPECT_EQ(body[2], 2);
  EXPECT_EQ(body[4], 24);
  EXPECT_EQ(body[6], 120);
  EXPECT_EQ(body[8], 1) << "boot id";
  EXPECT_EQ(body[24], 0x40) << "123456 little endian";
  EXPECT_EQ(body[32], 101) << "echo boot id";
  EXPECT_EQ(body[56], 's');
  EXPECT_EQ(body[120], 0x08) << "group id";
  EXPECT_EQ(body[128], 1) << "term";
  EXPECT_EQ(body[144 + 16], 1) << "ready";
  EXPECT_EQ(body[144 + 17], 1) << "sees a holder";
}

TEST(Beat, OfANewerVersionIsReadAsFarAsItIsKnown) {
  // Longer header and claims.
  const auto body = body_of(sample(2));
  std::vector<uint8_t> longer(body.begin(), body.begin() + 120);
  longer[0] = 2;
  longer[4] = 32;
  longer[6] = 128;
  longer.resize(128, 0xee);
  for (std::size_t i = 0; i < 2; ++i) {
    longer.insert(longer.end(), body.begin() + 120 + 24 * static_cast<long>(i),
                  body.begin() + 144 + 24 * static_cast<long>(i));
    longer.resize(longer.size() + 8, 0xee);
  }
  longer.resize(longer.size() + 40, 0xee);
  const auto read = decode(longer);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, sample(2));
}

TEST(Beat, CutAnywhereIsRefused) {
  const auto body = body_of(sample(3));
  for (std::size_t n = 0; n < body.size(); ++n)
    EXPECT_FALSE(decode(std::span(body).first(n))) << n << " bytes";
}

TEST(Beat, WithAValueThatNoEngineSendsIsRefused) {
  const auto with = [](std::size_t at, uint8_t value) {
    auto body = body_of(sample(3));
    body[at] = value;
    return decode(body).has_value();
  };
  EXPECT_FALSE(with(2, 49)) << "claims";
  EXPECT_FALSE(with(4, 23)) << "bytes of a claim";
  EXPECT_FALSE(with(6, 119)) << "bytes of the header";
  EXPECT_FALSE(with(31, 0x7f)) << "moment";
  EXPECT_FALSE(with(55, 0x7f)) << "echo";
  EXPECT_FALSE(with(56, 0)) << "name";
  EXPECT_FALSE(with(120 + 15, 0x40)) << "term";
  EXPECT_FALSE(with(120 + 16, 5)) << "state";
  EXPECT_FALSE(with(144 + 24 + 8, 0)) << "a holder without a term";
  auto nameless = body_of(sample(0));
  std::fill(nameless.begin() + 56, nameless.begin() + 120, uint8_t{'x'});
  EXPECT_FALSE(decode(nameless)) << "name without end";
  auto bootless = body_of(sample(0));
  std::fill(bootless.begin() + 8, bootless.begin() + 24, uint8_t{0});
  EXPECT_FALSE(decode(bootless));
  auto huge = body_of(sample(0));
  huge.resize(kBeatBytesMax + 1);
  EXPECT_FALSE(decode(huge));
}

TEST(Seal, OpensWhatItClosed) {
  const Seal seal(key(1));
  bool malformed = true;
  const auto beat = seal.open(seal.close(sample(3)), &malformed);
  ASSERT_TRUE(beat);
  EXPECT_EQ(*beat, sample(3));
  EXPECT_FALSE(malformed);
}

TEST(Seal, RefusesEveryChangedByteAndEveryLength) {
  const Seal seal(key(1));
  const auto good = seal.close(sample(1));
  bool malformed = false;
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto bad = good;
    bad[i] ^= 0x10;
    EXPECT_FALSE(seal.open(bad, &malformed)) << "byte " << i;
    EXPECT_FALSE(malformed);
    EXPECT_FALSE(seal.open(std::span(good).first(i), &malformed)) << i << " bytes";
  }
  auto longer = good;
  longer.push_back(0);
  EXPECT_FALSE(seal.open(longer, &malformed));
}

TEST(Seal, RefusesAnotherSecret) {
  bool malformed = false;
  EXPECT_FALSE(Seal(key(2)).open(Seal(key(1)).close(sample(1)), &malformed));
}

}  // namespace
}  // namespace limpet::failover
