// Replies beyond the golden tables: bare resets, meta after a reply, no room, chains.
#include <gtest/gtest.h>

#include "dataplane/packet/headers.h"
#include "dataplane/packet/icmp_quote.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/reply.h"
#include "dataplane/packet/rewrite.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::packet {
namespace {

using namespace support;  // NOLINT

const Flow kUp4{"10.1.0.2", 40000, "10.1.0.100", 80};
const Flow kUp6{"fd00:1::2", 40000, "fd00:1::64", 80};

class Reply : public testing::Test {
 protected:
  ~Reply() override { EXPECT_EQ(pool_.in_use(), 0u); }

  Buffer* received(const Frame& frame) {
    const Ingress ingress{.port = 5, .mac = mac(kEngineMac)};
    Buffer* buffer = make_buffer(pool_.pool(), frame.build());
    EXPECT_FALSE(parse(buffer, {&ingress, 1}));
    return buffer;
  }

  HeapPool pool_{8};
};

TEST_F(Reply, BareResetIsWrittenIntoAnEmptyBuffer) {
  for (const Flow& flow : {kUp4, kUp6}) {
    Buffer* buffer = rte_pktmbuf_alloc(pool_.pool());
    write_tcp_reset(buffer, {.source = address(flow.source),
                             .destination = address(flow.destination),
                             .source_port = flow.source_port,
                             .destination_port = flow.destination_port,
                             .sequence = 77,
                             .acknowledgment = 88});
    ASSERT_TRUE(write_ethernet(buffer, {.port = 2, .mac = mac(kEngineMac)}, mac(kClientMac)));
    EXPECT_EQ(bytes(buffer), tcp(flow, kTcpRst | kTcpAck)
                                 .with(&Frame::sequence, 77u)
                                 .with(&Frame::acknowledgment, 88u)
                                 .with(&Frame::window, 0)
                                 .with(&Frame::ip_id, 0)
                                 .with(&Frame::dont_fragment, true)
                                 .with(&Frame::to, mac(kClientMac))
                                 .with(&Frame::from, mac(kEngineMac))
                                 .build());
    EXPECT_EQ(meta(buffer).port, 2);
    release(buffer);
  }
}

TEST_F(Reply, BareResetWithoutAcknowledgmentHasNoAckFlag) {
  Buffer* buffer = rte_pktmbuf_alloc(pool_.pool());
  write_tcp_reset(buffer, {.source = address("10.0.0.1"),
                           .destination = address("10.0.0.2"),
                           .source_port = 1,
                           .destination_port = 2,
                           .sequence = 3});
  EXPECT_EQ(meta(buffer).tcp_flags, kTcpRst);
  release(buffer);
}

TEST_F(Reply, LeavesMetaAsParsingTheReplyWould) {
  for (const Flow& flow : {kUp4, kUp6}) {
    for (const bool reset : {true, false}) {
      Buffer* buffer = received(tcp(flow, kTcpAck, "data").with(&Frame::vlan, 0));
      ASSERT_TRUE(
          reset ? make_tcp_reset(buffer)
                : make_icmp_error(buffer, IcmpReply::kTimeExceeded, address(flow.destination)));
      ASSERT_TRUE(write_ethernet(buffer, {.mac = mac(kClientMac)}, mac(kEngineMac)));
      const Meta made = meta(buffer);
      const Ingress ingress{.mac = mac(kEngineMac)};
      ASSERT_FALSE(parse(buffer, {&ingress, 1}));
      const Meta& read = meta(buffer);
      EXPECT_EQ(made.source, read.source);
      EXPECT_EQ(made.destination, read.destination);
      EXPECT_EQ(made.source_port, read.source_port);
      EXPECT_EQ(made.destination_port, read.destination_port);
      EXPECT_EQ(made.l3_offset, read.l3_offset);
      EXPECT_EQ(made.l4_offset, read.l4_offset);
      EXPECT_EQ(made.l3_bytes, read.l3_bytes);
      EXPECT_EQ(made.l4_bytes, read.l4_bytes);
      EXPECT_EQ(made.kind, read.kind);
      EXPECT_EQ(made.protocol, read.protocol);
      EXPECT_EQ(made.tcp_flags, read.tcp_flags);
      EXPECT_EQ(made.ttl, read.ttl);
      EXPECT_EQ(made.dont_fragment, read.dont_fragment);
      release(buffer);
    }
  }
}

TEST_F(Reply, NeedsRoomInFrontForAnError) {
  Buffer* buffer = received(udp(kUp4, "x"));
  ASSERT_NE(rte_pktmbuf_prepend(buffer, 101), nullptr);
  meta(buffer).l3_offset = static_cast<uint16_t>(meta(buffer).l3_offset + 101);
  meta(buffer).l4_offset = static_cast<uint16_t>(meta(buffer).l4_offset + 101);
  EXPECT_FALSE(make_icmp_error(buffer, IcmpReply::kPortUnreachable, address("10.1.0.1")));
  release(buffer);
}

TEST_F(Reply, QuotesADatagramThatLiesInAChain) {
  for (const Flow& flow : {kUp4, kUp6}) {
    const Bytes frame = udp(flow, std::string(5000, 'x')).build();
    HeapPool many(32);
    Buffer* buffer = make_buffer(many.pool(), std::span(frame).first(401));
    for (std::size_t at = 401; at < frame.size(); at += 401) {
      Buffer* segment = make_buffer(
          many.pool(), std::span(frame).subspan(at, std::min<std::size_t>(401, frame.size() - at)));
      ASSERT_EQ(rte_pktmbuf_chain(buffer, segment), 0);
    }
    const Ingress ingress{.mac = mac(kEngineMac)};
    ASSERT_FALSE(parse(buffer, {&ingress, 1}));
    ASSERT_TRUE(make_icmp_error(buffer, IcmpReply::kPortUnreachable, address(flow.destination)));
    ASSERT_TRUE(write_ethernet(buffer, {.mac = mac(kEngineMac)}, mac(kClientMac)));
    EXPECT_EQ(sums_wrong(bytes(buffer)), "");
    EXPECT_EQ(meta(buffer).l3_bytes, flow.source == kUp4.source ? 576u : 1280u);
    release(buffer);
    EXPECT_EQ(many.in_use(), 0u);
  }
}

TEST_F(Reply, EthernetNeedsRoomForATag) {
  Buffer* buffer = received(udp(kUp4, "x"));
  ASSERT_NE(rte_pktmbuf_prepend(buffer, 126), nullptr);
  meta(buffer).l3_offset = 14;
  EXPECT_FALSE(write_ethernet(buffer, {.vlan = 7}, mac(kClientMac)));
  release(buffer);
}

TEST_F(Reply, EthernetTypeFollowsTheKind) {
  Buffer* buffer = received(arp_request("10.1.0.2", "10.1.0.1"));
  ASSERT_TRUE(write_ethernet(buffer, {.vlan = 7, .mac = mac(kEngineMac)}, mac(kClientMac)));
  EXPECT_EQ(describe(bytes(buffer)),
            "02:00:00:00:00:01 > 02:00:00:00:00:c1 vlan 7 arp request 10.1.0.2 at "
            "02:00:00:00:00:c1 for 10.1.0.1 at 00:00:00:00:00:00 sums ok");
  release(buffer);
}

TEST_F(Reply, QuoteNamesTheFlow) {
  for (const Flow& flow : {kUp4, kUp6}) {
    const bool v4 = address(flow.source).is_v4();
    Buffer* buffer = received(icmp_error(flow.destination, flow.source, v4 ? 3 : 1, v4 ? 3 : 4,
                                         udp(flow, "x").build_ip()));
    const auto quote = parse_quote(buffer);
    ASSERT_TRUE(quote);
    EXPECT_EQ(quote->source, address(flow.source));
    EXPECT_EQ(quote->destination, address(flow.destination));
    EXPECT_EQ(quote->source_port, 40000);
    EXPECT_EQ(quote->destination_port, 80);
    EXPECT_EQ(quote->protocol, kProtocolUdp);
    release(buffer);
  }
}

}  // namespace
}  // namespace limpet::packet
