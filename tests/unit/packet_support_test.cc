// The test support itself: a pool that leaked or a builder that lied would hide real bugs.
#include <gtest/gtest.h>

#include "dataplane/packet/headers.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::support {
namespace {

const Flow kFlow{"10.1.0.2", 40000, "10.1.0.100", 80};
const Flow kFlow6{"fd00:1::2", 40000, "fd00:1::64", 80};

TEST(HeapPool, CountsWhatIsOutAndRunsDry) {
  HeapPool pool(2);
  packet::Buffer* a = make_buffer(pool.pool(), udp(kFlow, "a").build());
  packet::Buffer* b = rte_pktmbuf_alloc(pool.pool());
  ASSERT_TRUE(a != nullptr && b != nullptr);
  EXPECT_EQ(pool.in_use(), 2u);
  EXPECT_EQ(rte_pktmbuf_alloc(pool.pool()), nullptr);
  packet::release(a);
  packet::release(b);
  EXPECT_EQ(pool.in_use(), 0u);
}

TEST(HeapPool, BuffersHaveHeadroomRoomAndMeta) {
  HeapPool pool(1, 9000);
  packet::Buffer* b = rte_pktmbuf_alloc(pool.pool());
  EXPECT_EQ(rte_pktmbuf_headroom(b), 128);
  EXPECT_EQ(rte_pktmbuf_tailroom(b), 9000);
  packet::meta(b).fragment_id = 3;
  EXPECT_EQ(packet::meta(b).fragment_id, 3);
  packet::release(b);
}

TEST(HeapPool, ReleasesChains) {
  HeapPool pool(2);
  packet::Buffer* a = make_buffer(pool.pool(), to_bytes("first"));
  packet::Buffer* b = make_buffer(pool.pool(), to_bytes("second"));
  ASSERT_EQ(rte_pktmbuf_chain(a, b), 0);
  EXPECT_EQ(bytes(a), to_bytes("firstsecond"));
  packet::release(a);
  EXPECT_EQ(pool.in_use(), 0u);
}

TEST(Frames, AreDescribedInOneLine) {
  EXPECT_EQ(describe(udp(kFlow, "hello").with(&Frame::vlan, 100).build()),
            "02:00:00:00:00:c1 > 02:00:00:00:00:01 vlan 100 10.1.0.2:40000 > 10.1.0.100:80 udp "
            "ttl 64 len 5 sums ok");
  EXPECT_EQ(describe(tcp(kFlow6, packet::kTcpSyn)
                         .with(&Frame::tcp_options, mss_option(1440))
                         .with(&Frame::sequence, 9u)
                         .build()),
            "02:00:00:00:00:c1 > 02:00:00:00:00:01 [fd00:1::2]:40000 > [fd00:1::64]:80 tcp S seq 9 "
            "ack 0 win 64240 ttl 64 mss 1440 len 0 sums ok");
}

TEST(Frames, SumsAreRightUnlessBroken) {
  for (const Flow& flow : {kFlow, kFlow6}) {
    const Frame quoted = udp(flow.reversed(), "x");
    for (const Frame& f :
         {udp(flow, "odd"), tcp(flow, packet::kTcpAck, "even"),
          echo_request(flow.source, flow.destination),
          icmp_error(flow.source, flow.destination, 3, 4, quoted.build_ip(), 1280),
          neighbor_solicitation("fe80::1", "fd00::2"), arp_request("10.1.0.1", "10.1.0.2")})
      EXPECT_EQ(sums_wrong(f.build()), "");
    EXPECT_EQ(sums_wrong(udp(flow, "odd").with(&Frame::l4_checksum, 1).build()), "udp checksum");
    EXPECT_NE(sums_wrong(tcp(flow, packet::kTcpAck, "even").resized(40).build()), "");
  }
}

TEST(Frames, FragmentsCoverTheDatagram) {
  for (const Flow& flow : {kFlow, kFlow6}) {
    const Frame whole = udp(flow, std::string(100, 'x'));
    const auto pieces = fragments_of(whole, 40, 77);
    ASSERT_EQ(pieces.size(), 3u);
    EXPECT_NE(describe(pieces[2]).find("id 77 proto 17 offset 80"), std::string::npos)
        << describe(pieces[2]);
    for (const Bytes& piece : pieces) EXPECT_EQ(sums_wrong(piece), "");
  }
}

}  // namespace
}  // namespace limpet::support
