#include "control/slowpath/neighbor_message.h"

#include <cstring>

#include "common/base/assert.h"
#include "dataplane/packet/checksum.h"
#include "dataplane/packet/family.h"
#include "dataplane/packet/headers.h"

namespace limpet::slowpath {
namespace {

using packet::ArpHeader;
using packet::IcmpHeader;
using packet::Ipv6Header;

constexpr uint16_t kArpEthernet = 1;
constexpr uint8_t kHopLimit = 255;
constexpr uint8_t kSourceLinkLayer = 1;
constexpr uint8_t kTargetLinkLayer = 2;
constexpr uint16_t kRouterFlag = 0x8000;  // of the first half of the flags word
constexpr uint16_t kSolicitedFlag = 0x4000;
constexpr uint16_t kOverrideFlag = 0x2000;

// A solicitation or advertisement with its one option (RFC 4861 4.3, 4.4, 4.6.1).
struct NeighborDiscovery {
  IcmpHeader icmp;  // word1: flags
  uint8_t target[16];
  uint8_t option_type;
  uint8_t option_eights;
  net::Mac option_mac;
};
static_assert(sizeof(NeighborDiscovery) == 32);
constexpr std::size_t kOptionsOffset = offsetof(NeighborDiscovery, option_type);

void read_arp(packet::Buffer* frame, const net::Mac& port_mac, NeighborMessage* message) {
  const auto& arp = *packet::at<ArpHeader>(frame, packet::meta(frame).l3_offset);
  const auto sender = net::Address::v4(arp.sender);
  const auto target = net::Address::v4(arp.target);
  const bool is_request = arp.operation == packet::kArpRequest;
  *message = {.is_question = is_request && (sender != target || sender.is_unspecified()),
              .is_solicited = !is_request && arp.target_mac == port_mac,
              .overrides = true,
              .sender = sender,
              .sender_mac = arp.sender_mac,
              .target = target};
}

// The MAC in the first option of this type; zero when there is none.
net::Mac option_mac(const uint8_t* options, std::size_t bytes, uint8_t type) {
  net::Mac mac;
  for (std::size_t i = 0; i + 8 <= bytes && options[i + 1] != 0; i += options[i + 1] * 8u) {
    if (options[i] != type) continue;
    std::memcpy(mac.bytes.data(), options + i + 2, sizeof mac);
    break;
  }
  return mac;
}

Reading read_discovery(packet::Buffer* frame, NeighborMessage* message) {
  const packet::Meta& m = packet::meta(frame);
  const auto& icmp = *packet::at<IcmpHeader>(frame, m.l4_offset);
  const bool is_question = icmp.type == packet::kIcmpv6NeighborSolicitation;
  if (!is_question && icmp.type != packet::kIcmpv6NeighborAdvertisement) return Reading::kIgnored;
  const auto* bytes = packet::at<const uint8_t>(frame, m.l4_offset);
  const auto target = net::Address::v6(bytes + offsetof(NeighborDiscovery, target));
  const net::Mac mac = option_mac(bytes + kOptionsOffset, m.l4_bytes - kOptionsOffset,
                                  is_question ? kSourceLinkLayer : kTargetLinkLayer);
  if (mac.is_multicast()) return Reading::kMalformed;
  *message = {.is_question = is_question,
              .is_solicited = !is_question && (icmp.word1 & kSolicitedFlag) != 0,
              .overrides = is_question || (icmp.word1 & kOverrideFlag) != 0,
              .sender = is_question ? m.source : target,
              .sender_mac = mac,
              .target = target};
  return Reading::kMessage;
}

// Room for `bytes` behind an Ethernet header that is yet to be written.
uint8_t* begin(packet::Buffer* empty, uint16_t bytes, net::Family family) {
  packet::Meta& m = packet::meta(empty);
  m = packet::Meta{};
  m.l3_bytes = bytes;
  m.family = family;
  m.kind = packet::Kind::kNeighbor;
  if (family == net::Family::kV6) m.protocol = packet::kProtocolIcmpv6;
  auto* data = reinterpret_cast<uint8_t*>(rte_pktmbuf_append(empty, bytes));
  LIMPET_ASSERT(data != nullptr);  // Link::allocate() promises that much room
  std::memset(data, 0, bytes);
  return data;
}

void finish(packet::Buffer* frame, const packet::Egress& out, const net::Mac& destination) {
  LIMPET_ASSERT(packet::write_ethernet(frame, out, destination));
}

struct ArpFields {
  uint16_t operation;
  const net::Address& sender;
  const net::Address& target;
  net::Mac target_mac;   // zero in questions
  net::Mac destination;  // of the frame
};

void write_arp(packet::Buffer* empty, const packet::Egress& out, const ArpFields& fields) {
  auto& arp = *reinterpret_cast<ArpHeader*>(begin(empty, sizeof(ArpHeader), net::Family::kV4));
  arp.hardware = kArpEthernet;
  arp.protocol = packet::kEtherIpv4;
  arp.hardware_bytes = sizeof(net::Mac);
  arp.protocol_bytes = sizeof arp.sender;
  arp.operation = fields.operation;
  arp.sender_mac = out.mac;
  std::memcpy(arp.sender, fields.sender.v4_bytes(), sizeof arp.sender);
  arp.target_mac = fields.target_mac;
  std::memcpy(arp.target, fields.target.v4_bytes(), sizeof arp.target);
  finish(empty, out, fields.destination);
}

struct DiscoveryFields {
  uint8_t type;
  uint16_t flags;
  const net::Address& source;
  net::Address destination;
  net::Mac destination_mac;
  const net::Address& target;
};

void write_discovery(packet::Buffer* empty, const packet::Egress& out,
                     const DiscoveryFields& fields) {
  using Traits = packet::FamilyTraits<net::Family::kV6>;
  constexpr std::size_t kBytes = sizeof(NeighborDiscovery);
  uint8_t* data = begin(empty, sizeof(Ipv6Header) + kBytes, net::Family::kV6);
  auto& ip = *reinterpret_cast<Ipv6Header*>(data);
  Traits::write(ip, fields.source, fields.destination, packet::kProtocolIcmpv6, kBytes, 0);
  ip.hop_limit = kHopLimit;
  auto& body = *reinterpret_cast<NeighborDiscovery*>(data + sizeof ip);
  body.icmp.type = fields.type;
  body.icmp.word1 = fields.flags;
  std::memcpy(body.target, fields.target.bytes(), sizeof body.target);
  body.option_type =
      fields.type == packet::kIcmpv6NeighborSolicitation ? kSourceLinkLayer : kTargetLinkLayer;
  body.option_eights = 1;
  body.option_mac = out.mac;
  body.icmp.checksum =
      packet::checksum_of(packet::sum_of(&body, kBytes) +
                          packet::pseudo_sum<net::Family::kV6>(fields.source, fields.destination,
                                                               packet::kProtocolIcmpv6, kBytes));
  finish(empty, out, fields.destination_mac);
}

net::Address all_nodes() {
  const uint8_t bytes[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return net::Address::v6(bytes);
}

}  // namespace

Reading read_neighbor(packet::Buffer* frame, const net::Mac& port_mac, NeighborMessage* message) {
  if (packet::meta(frame).family == net::Family::kV6) return read_discovery(frame, message);
  read_arp(frame, port_mac, message);
  return Reading::kMessage;
}

void write_question(packet::Buffer* empty, const packet::Egress& out, const Question& question) {
  const bool everybody = question.mac.is_zero();
  if (question.target.is_v4()) {
    return write_arp(empty, out,
                     {.operation = packet::kArpRequest,
                      .sender = question.source,
                      .target = question.target,
                      .target_mac = {},
                      .destination = everybody ? net::Mac::broadcast() : question.mac});
  }
  const net::Address to = everybody ? question.target.solicited_node() : question.target;
  write_discovery(empty, out,
                  {.type = packet::kIcmpv6NeighborSolicitation,
                   .flags = 0,
                   .source = question.source,
                   .destination = to,
                   .destination_mac = everybody ? net::Mac::of_multicast(to) : question.mac,
                   .target = question.target});
}

void write_statement(packet::Buffer* empty, const packet::Egress& out, const Statement& statement) {
  const bool announcement = statement.to_mac.is_zero();
  if (statement.address.is_v4()) {
    return write_arp(empty, out,
                     {.operation = announcement ? packet::kArpRequest : packet::kArpReply,
                      .sender = statement.address,
                      .target = announcement ? statement.address : statement.to,
                      .target_mac = statement.to_mac,
                      .destination = announcement ? net::Mac::broadcast() : statement.to_mac});
  }
  const bool everybody = announcement || statement.to.is_unspecified();
  const net::Address to = everybody ? all_nodes() : statement.to;
  uint16_t flags = kOverrideFlag;
  if (statement.is_router) flags |= kRouterFlag;
  if (!everybody) flags |= kSolicitedFlag;
  write_discovery(empty, out,
                  {.type = packet::kIcmpv6NeighborAdvertisement,
                   .flags = flags,
                   .source = statement.address,
                   .destination = to,
                   .destination_mac = everybody ? net::Mac::of_multicast(to) : statement.to_mac,
                   .target = statement.address});
}

}  // namespace limpet::slowpath
