// Wire formats, as they stand in the frame: RFC 791, 8200, 9293, 768, 792, 4443, 826, 4861.
#pragma once

#include <cstdint>

#include "common/net/address.h"
#include "common/net/endian.h"

namespace limpet::packet {

using net::Be16;
using net::Be32;

inline constexpr uint16_t kEtherIpv4 = 0x0800;
inline constexpr uint16_t kEtherArp = 0x0806;
inline constexpr uint16_t kEtherVlan = 0x8100;
inline constexpr uint16_t kEtherIpv6 = 0x86dd;

inline constexpr uint8_t kProtocolHopByHop = 0;
inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolUdp = 17;
inline constexpr uint8_t kProtocolRouting = 43;
inline constexpr uint8_t kProtocolFragment = 44;
inline constexpr uint8_t kProtocolIcmpv6 = 58;
inline constexpr uint8_t kProtocolDestinationOptions = 60;

// A packet with more before its transport is malformed.
inline constexpr uint32_t kExtensionHeadersMax = 8;

struct EthernetHeader {
  net::Mac destination;
  net::Mac source;
  Be16 type;
};
static_assert(sizeof(EthernetHeader) == 14 && alignof(EthernetHeader) == 1);

struct VlanTag {
  Be16 control;  // priority and VLAN id
  Be16 type;
};
static_assert(sizeof(VlanTag) == 4);

struct Ipv4Header {
  uint8_t version_words;  // version 4 bits, header length in 32-bit words 4 bits
  uint8_t tos;
  Be16 total_bytes;
  Be16 id;
  Be16 fragment;  // 0, DF, MF, offset in 8 bytes
  uint8_t ttl;
  uint8_t protocol;
  uint16_t checksum;  // raw
  uint8_t source[4];
  uint8_t destination[4];
};
static_assert(sizeof(Ipv4Header) == 20 && alignof(Ipv4Header) == 2);
inline constexpr uint16_t kIpv4DontFragment = 0x4000;
inline constexpr uint16_t kIpv4MoreFragments = 0x2000;
inline constexpr uint16_t kIpv4FragmentOffset = 0x1fff;

struct Ipv6Header {
  Be32 version_class_flow;
  Be16 payload_bytes;
  uint8_t next_header;
  uint8_t hop_limit;
  uint8_t source[16];
  uint8_t destination[16];
};
static_assert(sizeof(Ipv6Header) == 40 && alignof(Ipv6Header) == 1);

struct Ipv6FragmentHeader {
  uint8_t next_header;
  uint8_t reserved;
  Be16 offset_more;  // offset in 8 bytes << 3 | M
  Be32 id;
};
static_assert(sizeof(Ipv6FragmentHeader) == 8);

struct TcpHeader {
  Be16 source_port;
  Be16 destination_port;
  Be32 sequence;
  Be32 acknowledgment;
  uint8_t data_words;  // header length in 32-bit words << 4
  uint8_t flags;
  Be16 window;
  uint16_t checksum;  // raw
  Be16 urgent;
};
static_assert(sizeof(TcpHeader) == 20 && alignof(TcpHeader) == 2);
inline constexpr uint8_t kTcpFin = 0x01;
inline constexpr uint8_t kTcpSyn = 0x02;
inline constexpr uint8_t kTcpRst = 0x04;
inline constexpr uint8_t kTcpPsh = 0x08;
inline constexpr uint8_t kTcpAck = 0x10;

struct UdpHeader {
  Be16 source_port;
  Be16 destination_port;
  Be16 bytes;
  uint16_t checksum;  // raw; 0 over IPv4: none
};
static_assert(sizeof(UdpHeader) == 8 && alignof(UdpHeader) == 2);

struct IcmpHeader {  // ICMP and ICMPv6 alike
  uint8_t type;
  uint8_t code;
  uint16_t checksum;  // raw
  Be16 word1;         // echo: identifier; v4 "fragmentation needed": unused; v6 too big: MTU high
  Be16 word2;         // echo: sequence;   v4 "fragmentation needed": MTU;    v6 too big: MTU low
};
static_assert(sizeof(IcmpHeader) == 8 && alignof(IcmpHeader) == 2);
inline constexpr uint8_t kIcmpEchoReply = 0;
inline constexpr uint8_t kIcmpUnreachable = 3;
inline constexpr uint8_t kIcmpEchoRequest = 8;
inline constexpr uint8_t kIcmpTimeExceeded = 11;
inline constexpr uint8_t kIcmpParameterProblem = 12;
inline constexpr uint8_t kIcmpv6Unreachable = 1;
inline constexpr uint8_t kIcmpv6PacketTooBig = 2;
inline constexpr uint8_t kIcmpv6TimeExceeded = 3;
inline constexpr uint8_t kIcmpv6ParameterProblem = 4;
inline constexpr uint8_t kIcmpv6EchoRequest = 128;
inline constexpr uint8_t kIcmpv6EchoReply = 129;
inline constexpr uint8_t kIcmpv6RouterSolicitation = 133;
inline constexpr uint8_t kIcmpv6RouterAdvertisement = 134;
inline constexpr uint8_t kIcmpv6NeighborSolicitation = 135;
inline constexpr uint8_t kIcmpv6NeighborAdvertisement = 136;

struct ArpHeader {  // Ethernet/IPv4
  Be16 hardware;
  Be16 protocol;
  uint8_t hardware_bytes;
  uint8_t protocol_bytes;
  Be16 operation;
  net::Mac sender_mac;
  uint8_t sender[4];
  net::Mac target_mac;
  uint8_t target[4];
};
static_assert(sizeof(ArpHeader) == 28 && alignof(ArpHeader) == 1);
inline constexpr uint16_t kArpRequest = 1;
inline constexpr uint16_t kArpReply = 2;

}  // namespace limpet::packet
