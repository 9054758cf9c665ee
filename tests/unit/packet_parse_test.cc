// What the golden tables cannot say: cuts at every length, device flags, segments, the seeded
// properties of checksums.
#include <gtest/gtest.h>

#include <algorithm>

#include "common/base/random.h"
#include "dataplane/packet/checksum.h"
#include "dataplane/packet/headers.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/rewrite.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"
#include "tests/support/parse_whole.h"

namespace limpet::packet {
namespace {

using namespace support;  // NOLINT

const Flow kUp4{"10.1.0.2", 40000, "10.1.0.100", 80};
const Flow kUp6{"fd00:1::2", 40000, "fd00:1::64", 80};

class Parse : public testing::Test {
 protected:
  ~Parse() override { EXPECT_EQ(pool_.in_use(), 0u); }

  // Parses `buffer` as received on one untagged port, and releases it.
  std::optional<DropReason> judge(Buffer* buffer, bool verify_checksums = true) {
    const Ingress ingress{.mac = mac(kEngineMac), .verify_checksums = verify_checksums};
    const auto verdict = parse_whole(buffer, {&ingress, 1});
    meta_ = meta(buffer);
    frame_ = bytes(buffer);
    release(buffer);
    return verdict;
  }
  std::optional<DropReason> judge(const Frame& frame, uint64_t flags, bool verify = true) {
    Buffer* buffer = make_buffer(pool_.pool(), frame.build());
    buffer->ol_flags |= flags;
    return judge(buffer, verify);
  }
  // The frame in a chain of segments of `segment_bytes` each.
  Buffer* chain_of(const Bytes& frame, std::size_t segment_bytes) {
    Buffer* head = nullptr;
    for (std::size_t at = 0; at < frame.size(); at += segment_bytes) {
      const std::size_t count = std::min(segment_bytes, frame.size() - at);
      Buffer* segment = make_buffer(pool_.pool(), std::span(frame).subspan(at, count));
      if (head == nullptr) {
        head = segment;
      } else {
        EXPECT_EQ(rte_pktmbuf_chain(head, segment), 0);
      }
    }
    return head;
  }

  HeapPool pool_{64};
  Meta meta_;
  Bytes frame_;
};

TEST_F(Parse, RefusesEveryCutOfAFrame) {
  const std::vector<Extension> extensions = {{kProtocolHopByHop, {1, 4, 0, 0, 0, 0}},
                                             {kProtocolRouting, {0, 0, 0, 0, 0, 0}}};
  const std::vector<Frame> frames = {
      udp(kUp4, "hello"),
      udp(kUp6, "hello"),
      udp(kUp6, "hello").with(&Frame::extensions, extensions),
      tcp(kUp4, kTcpSyn).with(&Frame::tcp_options, mss_option(1460)),
      tcp(kUp6, kTcpSyn).with(&Frame::vlan, 0),
      udp(kUp4, "x").with(&Frame::ip_options, Bytes{7, 7, 4, 0, 0, 0, 0}),
      echo_request(kUp4.source, kUp4.destination),
      echo_request(kUp6.source, kUp6.destination),
      icmp_error(kUp4.source, kUp4.destination, 3, 3, udp(kUp4, "x").build_ip()),
      icmp_error(kUp6.source, kUp6.destination, 1, 4, udp(kUp6, "x").build_ip()),
      neighbor_solicitation("fd00:1::2", "fd00:1::1"),
      arp_request("10.1.0.2", "10.1.0.1"),
  };
  for (const Frame& frame : frames) {
    const std::size_t whole = frame.build().size();
    for (std::size_t size = 0; size < whole; ++size) {
      Buffer* buffer = make_buffer_at_end(pool_.pool(), frame.resized(size).build());
      EXPECT_EQ(judge(buffer), DropReason::kTruncated) << size << " of " << describe(frame.build());
    }
  }
}

// The same, but the IP length admits the cut: then the transport is what is cut.
TEST_F(Parse, RefusesEveryCutOfATransportHeader) {
  for (const Frame& frame : {tcp(kUp4, kTcpSyn), tcp(kUp6, kTcpSyn), udp(kUp4), udp(kUp6)}) {
    const std::size_t header = frame.protocol == kProtocolTcp ? 20 : 8;
    for (std::size_t size = 0; size < header; ++size) {
      Frame cut = frame;
      cut.raw_l4 = Bytes(size, 1);
      EXPECT_EQ(judge(make_buffer_at_end(pool_.pool(), cut.build())), DropReason::kTruncated);
    }
  }
}

TEST_F(Parse, CutsPaddingOff) {
  EXPECT_FALSE(judge(udp(kUp4, "x").resized(60), 0));
  EXPECT_EQ(frame_, udp(kUp4, "x").build());
}

TEST_F(Parse, TakesPlainPacketsInOneGo) {
  const std::array ports = {Ingress{.mac = mac(kEngineMac)},
                            Ingress{.port = 1, .vlan = 100, .mac = mac(kEngineMac)}};
  for (const Frame& untagged :
       {udp(kUp4, "x"), tcp(kUp4, kTcpAck), udp(kUp6, "x"), tcp(kUp6, kTcpAck)}) {
    for (const bool tagged : {false, true}) {
      const Frame frame = tagged ? untagged.with(&Frame::vlan, 100) : untagged;
      Buffer* buffer = make_buffer(pool_.pool(), frame.resized(frame.build().size() + 6).build());
      EXPECT_TRUE(parse_plain(buffer, {ports.data(), 2}, any_hash())) << describe(frame.build());
      EXPECT_EQ(meta(buffer).port, tagged ? 1 : 0);
      EXPECT_EQ(bytes(buffer), frame.build()) << "padding is cut off";
      release(buffer);
    }
    Buffer* stripped = make_buffer(pool_.pool(), untagged.build());
    stripped->ol_flags |= RTE_MBUF_F_RX_VLAN_STRIPPED;
    stripped->vlan_tci = 100;
    EXPECT_TRUE(parse_plain(stripped, {ports.data(), 2}, any_hash()));
    EXPECT_EQ(meta(stripped).port, 1);
    release(stripped);
  }
}

TEST_F(Parse, BelievesTheDeviceAboutGoodChecksums) {
  const uint64_t good = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
  const Frame wrong = tcp(kUp4, kTcpAck).with(&Frame::l4_checksum, 1);
  EXPECT_FALSE(judge(wrong, good));
  EXPECT_FALSE(judge(wrong.with(&Frame::ip_checksum, 1), good));
  EXPECT_EQ(judge(wrong, RTE_MBUF_F_RX_IP_CKSUM_GOOD), DropReason::kBadChecksum);
  EXPECT_FALSE(judge(tcp(kUp6, kTcpAck).with(&Frame::l4_checksum, 1), good));
}

TEST_F(Parse, BelievesTheDeviceAboutBadChecksums) {
  EXPECT_EQ(judge(udp(kUp4, "x"), RTE_MBUF_F_RX_IP_CKSUM_BAD), DropReason::kBadChecksum);
  EXPECT_EQ(judge(udp(kUp4, "x"), RTE_MBUF_F_RX_L4_CKSUM_BAD), DropReason::kBadChecksum);
  EXPECT_EQ(judge(tcp(kUp6, kTcpSyn), RTE_MBUF_F_RX_L4_CKSUM_BAD), DropReason::kBadChecksum);
}

TEST_F(Parse, FillsAChecksumInThatTheDeviceSaysWasLeftOut) {
  for (const Frame& frame : {tcp(kUp4, kTcpAck, "data"), tcp(kUp6, kTcpAck, "data"),
                             udp(kUp4, "odd"), udp(kUp6, "odd")}) {
    EXPECT_FALSE(judge(frame.with(&Frame::l4_checksum, 0x1234), RTE_MBUF_F_RX_L4_CKSUM_NONE));
    EXPECT_EQ(frame_, frame.build());
  }
}

TEST_F(Parse, VerifiesNothingWhenToldSo) {
  EXPECT_FALSE(judge(tcp(kUp4, kTcpAck).with(&Frame::l4_checksum, 1).with(&Frame::ip_checksum, 1),
                     0, false));
}

TEST_F(Parse, TakesTheVlanTheDeviceStripped) {
  Buffer* buffer = make_buffer(pool_.pool(), udp(kUp4, "x").build());
  buffer->ol_flags |= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
  buffer->vlan_tci = 0x6000 | 7;
  const std::array ports = {Ingress{.port = 0, .mac = mac(kEngineMac)},
                            Ingress{.port = 1, .vlan = 7, .mac = mac(kEngineMac)}};
  EXPECT_FALSE(parse(buffer, {ports.data(), 2}));
  EXPECT_EQ(meta(buffer).port, 1);
  buffer->vlan_tci = 8;
  EXPECT_EQ(parse(buffer, {ports.data(), 2}), DropReason::kUnknownVlan);
  release(buffer);
}

TEST_F(Parse, JoinsFramesThatCameInSegments) {
  for (const Flow& flow : {kUp4, kUp6}) {
    for (std::size_t segment_bytes : {14u, 15u, 30u, 57u}) {
      const Bytes frame = tcp(flow, kTcpAck, "data in pieces").build();
      EXPECT_FALSE(judge(chain_of(frame, segment_bytes)));
      EXPECT_EQ(frame_, frame);
    }
  }
}

TEST_F(Parse, ReadsHeadersOfAChainThatCannotBeJoined) {
  for (const Flow& flow : {kUp4, kUp6}) {
    // 5,000 bytes do not fit the first segment, whose tail room holds the headers.
    const Bytes frame = udp(flow, std::string(5000, 'x')).build();
    Buffer* buffer = make_buffer(pool_.pool(), std::span(frame).first(21));
    for (std::size_t at = 21; at < frame.size(); at += 1999) {
      const std::size_t count = std::min<std::size_t>(1999, frame.size() - at);
      Buffer* segment = make_buffer(pool_.pool(), std::span(frame).subspan(at, count));
      ASSERT_EQ(rte_pktmbuf_chain(buffer, segment), 0);
    }
    EXPECT_FALSE(judge(buffer));
    EXPECT_EQ(meta_.destination_port, 80);
    EXPECT_EQ(frame_, frame);
  }
}

TEST_F(Parse, CutsPaddingOffAChain) {
  const Frame frame = udp(kUp4, std::string(3000, 'x'));
  const std::size_t size = frame.build().size();
  EXPECT_FALSE(judge(chain_of(frame.resized(size + 700).build(), 600)));
  EXPECT_EQ(frame_.size(), size);
}

TEST_F(Parse, RefusesAChainShorterThanItsIpLength) {
  EXPECT_EQ(judge(chain_of(udp(kUp4, std::string(3000, 'x')).resized(2900).build(), 600)),
            DropReason::kTruncated);
}

TEST(Checksum, IsTheSameInAnyNumberOfSegments) {
  HeapPool pool(64);
  base::Random random(7);
  for (int round = 0; round < 200; ++round) {
    Bytes data(1 + random.below(900));
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random.next());
    Buffer* chain = nullptr;
    for (std::size_t at = 0; at < data.size();) {
      const std::size_t count = std::min<std::size_t>(1 + random.below(64), data.size() - at);
      Buffer* segment = make_buffer(pool.pool(), std::span(data).subspan(at, count));
      if (chain == nullptr) {
        chain = segment;
      } else {
        ASSERT_EQ(rte_pktmbuf_chain(chain, segment), 0);
      }
      at += count;
      if (chain->nb_segs == 60) {
        data.resize(at);
      }
    }
    const auto offset = random.below(static_cast<uint32_t>(data.size()));
    const auto size = static_cast<uint32_t>(data.size()) - offset;
    EXPECT_EQ(checksum_of(sum_of(chain, offset, size)),
              net::byte_swap(reference_checksum(std::span(data).subspan(offset))));
    release(chain);
  }
}

TEST(Checksum, OfAnyLengthAgreesWithTheObviousOne) {
  base::Random random(8);
  Bytes data(1600);
  for (std::size_t size = 0; size <= data.size(); ++size) {
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random.next());
    const std::span<const uint8_t> part(data.data(), size);
    ASSERT_EQ(checksum_of(sum_of(part.data(), size)), net::byte_swap(reference_checksum(part)));
  }
}

TEST(Checksum, FoldsTheLargestSums) {
  EXPECT_EQ(fold(0), 0);
  EXPECT_EQ(fold(0xffffffffffffffffu), 0xffff);
  EXPECT_EQ(fold(0xffffffff00000001u), 1);
  EXPECT_EQ(fold(0x1fffe), 0xffff);
}

// RFC 1624: whatever is replaced, adjusting equals computing again.
template <net::Family F>
void translate_random_packets() {
  HeapPool pool(2);
  base::Random random(F == net::Family::kV4 ? 4 : 6);
  const auto any = [&random] {
    std::array<uint8_t, 16> b;
    for (uint8_t& byte : b) byte = static_cast<uint8_t>(random.next());
    b[0] = 0x20;  // no martian
    return F == net::Family::kV4 ? net::Address::v4(b.data()) : net::Address::v6(b.data());
  };
  const auto port = [&random] { return static_cast<uint16_t>(1 + random.below(65535)); };
  const Ingress ingress{.mac = mac(kEngineMac)};
  for (int round = 0; round < 5'000; ++round) {
    Frame frame = round % 2 == 0 ? udp(kUp4, "") : tcp(kUp4, kTcpSyn | kTcpAck);
    frame.source = any();
    frame.destination = any();
    frame.source_port = port();
    frame.destination_port = port();
    frame.ttl = static_cast<uint8_t>(1 + random.below(255));
    frame.ip_id = static_cast<uint16_t>(random.next());
    if (frame.protocol == kProtocolTcp) frame.tcp_options = mss_option(port());
    frame.payload.resize(random.below(40));
    for (uint8_t& byte : frame.payload) byte = static_cast<uint8_t>(random.next());
    Buffer* buffer = make_buffer(pool.pool(), frame.build());
    ASSERT_FALSE(parse(buffer, {&ingress, 1})) << describe(frame.build());
    const net::Address source = any();
    const net::Address destination = any();
    const uint16_t ports[2] = {port(), port()};
    clamp_mss(buffer, meta(buffer), 1400);
    const uint32_t delta =
        address_delta(meta(buffer).source, meta(buffer).destination, source, destination);
    translate<F>(buffer, meta(buffer), {source, destination, ports[0], ports[1]}, delta);
    ASSERT_EQ(sums_wrong(bytes(buffer)), "") << describe(bytes(buffer));
    ASSERT_FALSE(parse(buffer, {&ingress, 1}));
    ASSERT_EQ(meta(buffer).source, source);
    ASSERT_EQ(meta(buffer).destination_port, ports[1]);
    release(buffer);
  }
}

TEST(Translate, KeepsEveryChecksumRightV4) {
  translate_random_packets<net::Family::kV4>();
}

TEST(Translate, KeepsEveryChecksumRightV6) {
  translate_random_packets<net::Family::kV6>();
}

// A payload broken on the way stays detectably broken.
TEST(Translate, DoesNotHideDamage) {
  HeapPool pool(1);
  const Ingress ingress{.mac = mac(kEngineMac), .verify_checksums = false};
  Buffer* buffer = make_buffer(pool.pool(), tcp(kUp4, kTcpAck, "data").poke(56, 'X').build());
  ASSERT_FALSE(parse(buffer, {&ingress, 1}));
  const net::Address a = address("10.2.0.10");
  translate<net::Family::kV4>(buffer, meta(buffer), {a, a, 1, 2},
                              address_delta(meta(buffer).source, meta(buffer).destination, a, a));
  EXPECT_EQ(sums_wrong(bytes(buffer)), "tcp checksum");
  release(buffer);
}

}  // namespace
}  // namespace limpet::packet
