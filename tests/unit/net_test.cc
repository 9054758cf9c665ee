#include <gtest/gtest.h>

#include <array>

#include "common/net/address.h"
#include "common/net/endian.h"
#include "common/net/hash.h"

namespace limpet::net {
namespace {

TEST(Address, PrintsWhatItParsed) {
  for (const char* text :
       {"10.1.0.100", "0.0.0.0", "255.255.255.255", "::", "fd00:1::64", "fe80::1"})
    EXPECT_EQ(Address::parse(text)->to_string(), text);
}

TEST(Address, RefusesWhatIsNoAddress) {
  for (const char* text : {"", "10.1.0", "10.1.0.256", "::g", "10.1.0.1 ", "1::2::3"})
    EXPECT_FALSE(Address::parse(text)) << text;
}

TEST(Address, ALinkLocalOneHasAZone) {
  const Address plain = *Address::parse("fe80::2");
  EXPECT_EQ(plain.zone(), 0);
  const Address zoned = plain.in_zone(zone_of(0));
  EXPECT_NE(zoned, plain);
  EXPECT_NE(zoned, plain.in_zone(zone_of(1)));
  EXPECT_EQ(zoned.zone(), 1);
  EXPECT_EQ(port_of_zone(zoned.zone()), 0);
  EXPECT_EQ(zoned.in_zone(0), plain);
  EXPECT_EQ(zoned.to_string(), "fe80::2%1");
  EXPECT_EQ(plain.in_zone(300).to_string(), "fe80::2%300");
  EXPECT_TRUE(zoned.is_link_local());
  for (const char* other : {"fd00::2", "fec0::2", "169.254.0.2", "::ffff:254.128.0.2", "ff02::1"}) {
    const Address a = *Address::parse(other);
    EXPECT_EQ(a.in_zone(7), a) << other;
    EXPECT_EQ(a.zone(), 0) << other;
  }
}

TEST(Address, ReadsZonesWhereTheyAreAllowed) {
  for (const char* text : {"fe80::2%1", "febf::2%65535", "fe80::2", "fd00::2", "10.0.0.1"})
    EXPECT_EQ(Address::parse_zoned(text)->to_string(), text);
  for (const char* text : {"fe80::2%", "fe80::2%0", "fe80::2%01", "fe80::2%65536", "fe80::2%eth0",
                           "fe80::2%1%1", "fd00::2%1", "10.0.0.1%1", "%1", "fe80:1::2"})
    EXPECT_FALSE(Address::parse_zoned(text)) << text;
  for (const char* text : {"fe80::2%1", "fe80:1::2"}) EXPECT_FALSE(Address::parse(text)) << text;
  EXPECT_EQ(Prefix::parse_zoned("fe80::%3/64")->to_string(), "fe80::%3/64");
  EXPECT_FALSE(Prefix::parse("fe80::%3/64"));
  EXPECT_FALSE(Endpoint::parse("[fe80::2%1]:80"));
}

TEST(Address, MaskKeepsTheLeadingBitsOfItsFamily) {
  EXPECT_EQ(Address::parse("10.1.2.3")->masked(24).to_string(), "10.1.2.0");
  EXPECT_EQ(Address::parse("10.1.2.3")->masked(128).to_string(), "10.1.2.3");
  EXPECT_EQ(Address::parse("10.1.255.3")->masked(17).to_string(), "10.1.128.0");
  EXPECT_EQ(Address::parse("10.1.2.3")->masked(0).to_string(), "0.0.0.0");
  EXPECT_EQ(Address::parse("fd00:1:2::3")->masked(40).to_string(), "fd00:1::");
  EXPECT_EQ(Address::parse("fd00::3")->masked(0).to_string(), "::");
}

TEST(Prefix, ContainsOnlyItsOwnFamily) {
  EXPECT_TRUE(Prefix::parse("10.1.0.1/24")->contains(*Address::parse("10.1.0.200")));
  EXPECT_FALSE(Prefix::parse("10.1.0.1/24")->contains(*Address::parse("10.1.1.1")));
  EXPECT_FALSE(Prefix::parse("::/0")->contains(*Address::parse("10.1.1.1")));
  EXPECT_FALSE(Prefix::parse("10.0.0.0/33"));
}

TEST(Address, EndsWhereItsTextEnds) {
  EXPECT_FALSE(Address::parse(std::string_view("10.1.0.1\0", 9)));
  EXPECT_FALSE(Address::parse(std::string_view("fd00::1\0x", 9)));
}

TEST(Address, RefusesLeadingZeros) {
  for (const char* text : {"10.1.0.01", "010.1.0.1", "10.1.00.1"})
    EXPECT_FALSE(Address::parse(text)) << text;
}

TEST(Prefix, RefusesLengthsWithLeadingZeros) {
  EXPECT_EQ(Prefix::parse("10.0.0.0/0")->length, 0);
  EXPECT_FALSE(Prefix::parse("10.0.0.0/08"));
  EXPECT_FALSE(Prefix::parse("10.0.0.0/00"));
  EXPECT_FALSE(Prefix::parse("fd00::/064"));
}

TEST(Endpoint, RefusesPortsWithLeadingZerosSignsAndSpaces) {
  EXPECT_EQ(Endpoint::parse("10.0.0.1:0")->port, 0);
  for (const char* text :
       {"10.0.0.1:080", "10.0.0.1:00", "[fd00::1]:080", "10.0.0.1:+80", "10.0.0.1:-1",
        "10.0.0.1: 80", "10.0.0.1:80 ", "10.0.0.1:0x50", "10.0.0.1:", "010.0.0.1:80"})
    EXPECT_FALSE(Endpoint::parse(text)) << text;
}

TEST(Endpoint, BracketsIpv6Only) {
  EXPECT_EQ(Endpoint::parse("[fd00::1]:80")->to_string(), "[fd00::1]:80");
  EXPECT_EQ(Endpoint::parse("10.0.0.1:80")->to_string(), "10.0.0.1:80");
  EXPECT_FALSE(Endpoint::parse("fd00::1:80"));
  EXPECT_FALSE(Endpoint::parse("[10.0.0.1]:80"));
  EXPECT_FALSE(Endpoint::parse("10.0.0.1:65536"));
}

TEST(Mac, RoundTripsAndKnowsItsGroups) {
  EXPECT_EQ(Mac::parse("02:00:00:00:00:aF")->to_string(), "02:00:00:00:00:af");
  EXPECT_FALSE(Mac::parse("02:00:00:00:00"));
  EXPECT_EQ(Mac::of_multicast(*Address::parse("224.1.2.3")).to_string(), "01:00:5e:01:02:03");
  EXPECT_EQ(Mac::of_multicast(Address::parse("fd00::12:3456")->solicited_node()).to_string(),
            "33:33:ff:12:34:56");
}

TEST(StableHash, IsTheSameInEveryProcess) {
  EXPECT_EQ(stable_hash(*Address::parse("10.1.0.2")), 0xffcdf29cu);
  EXPECT_EQ(stable_hash(*Address::parse("fd00:1::2")), 0x8c843e4fu);
}

TEST(StableHash, SpreadsNeighbours) {
  for (const char* text : {"10.1.0.0", "fd00:1::"}) {
    std::array<int, 4> share{};
    Address a = *Address::parse(text);
    for (int i = 0; i < 4000; ++i, a = a.next()) ++share[stable_hash(a) >> 30];
    for (const int n : share) EXPECT_NEAR(n, 1000, 150) << text;
  }
}

TEST(Be, IsBigEndianInMemory) {
  const Be16 port = 80;
  EXPECT_EQ(reinterpret_cast<const unsigned char*>(&port)[1], 80);
  EXPECT_EQ(static_cast<uint16_t>(port), 80);
}

}  // namespace
}  // namespace limpet::net
