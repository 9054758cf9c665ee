// Reassembly and fragmentation. The table takes its memory from DPDK, so this binary starts a small
// EAL: no huge pages, no devices, nothing shared.
#include <gtest/gtest.h>
#include <rte_eal.h>

#include <algorithm>

#include "dataplane/packet/fragment.h"
#include "dataplane/packet/headers.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/rewrite.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::packet {
namespace {

using namespace support;  // NOLINT
using timing::Instant;
using timing::seconds;

const Flow kUp4{"10.1.0.2", 40000, "10.1.0.100", 80};
const Flow kUp6{"fd00:1::2", 40000, "fd00:1::64", 80};
constexpr Instant kStart{1'000'000'000};

class SmallEal : public testing::Environment {
 public:
  void SetUp() override {
    std::vector<std::string> words = {
        "packet_fragment_test", "--no-huge", "--no-pci", "--no-shconf",      "-m", "64",
        "--no-telemetry",       "-l",        "0",        "--log-level=error"};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    ASSERT_GE(rte_eal_init(static_cast<int>(arguments.size()), arguments.data()), 0);
  }
  void TearDown() override { rte_eal_cleanup(); }
};

const auto* const kEal = testing::AddGlobalTestEnvironment(new SmallEal);

std::string text_of(std::size_t size) {
  std::string text(size, ' ');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  return text;
}

class Fragments : public testing::TestWithParam<Flow> {
 protected:
  ~Fragments() override {
    reassembler_.reset();
    EXPECT_EQ(pool_.in_use(), 0u);
  }

  bool is_v4() const { return address(GetParam().source).is_v4(); }

  Buffer* received(const Bytes& frame) {
    const Ingress ingress{.port = 5, .mac = mac(kEngineMac)};
    Buffer* buffer = make_buffer(pool_.pool(), frame);
    const auto verdict = parse(buffer, {&ingress, 1});
    EXPECT_FALSE(verdict) << name(*verdict);
    EXPECT_EQ(meta(buffer).kind, Kind::kFragment);
    return buffer;
  }
  Buffer* offer(const Bytes& frame, Instant now = kStart) {
    return reassembler_->add(received(frame), now);
  }
  // Offers all; returns the datagram the last of them completes.
  Buffer* offer_all(const std::vector<Bytes>& frames) {
    Buffer* whole = nullptr;
    for (const Bytes& frame : frames) {
      EXPECT_EQ(whole, nullptr);
      whole = offer(frame);
    }
    return whole;
  }
  // As it must come out: the fragment header gone, DF off, the identification kept.
  Bytes expected(Frame whole, uint32_t id) const {
    whole.ip_id = static_cast<uint16_t>(id);
    return whole.build();
  }

  HeapPool pool_{64};
  std::unique_ptr<Reassembler> reassembler_ = std::make_unique<Reassembler>(4, seconds(2), 0);
};

TEST_P(Fragments, InOrderMakeTheDatagram) {
  const Frame whole = udp(GetParam(), text_of(3000));
  Buffer* buffer = offer_all(fragments_of(whole, 800, 77));
  ASSERT_NE(buffer, nullptr);
  EXPECT_EQ(bytes(buffer), expected(whole, 77));
  EXPECT_TRUE(meta(buffer).reassembled);
  ASSERT_FALSE(parse_datagram(buffer, true));
  EXPECT_EQ(meta(buffer).kind, Kind::kFlow);
  EXPECT_EQ(meta(buffer).destination_port, 80);
  EXPECT_EQ(meta(buffer).port, 5);
  EXPECT_TRUE(meta(buffer).reassembled);
  EXPECT_FALSE(meta(buffer).dont_fragment);
  EXPECT_EQ(reassembler_->pending(), 0u);
  release(buffer);
}

TEST_P(Fragments, InAnyOrderMakeTheDatagram) {
  const Frame whole = udp(GetParam(), text_of(100));
  std::vector<Bytes> pieces = fragments_of(whole, 32, 78);
  ASSERT_EQ(pieces.size(), 4u);
  std::vector<std::size_t> order = {0, 1, 2, 3};
  do {
    std::vector<Bytes> shuffled;
    for (const std::size_t i : order) shuffled.push_back(pieces[i]);
    Buffer* buffer = offer_all(shuffled);
    ASSERT_NE(buffer, nullptr);
    EXPECT_EQ(bytes(buffer), expected(whole, 78));
    EXPECT_EQ(buffer->nb_segs, 1);
    release(buffer);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_P(Fragments, TooShortForATransportHeaderMakeTheDatagram) {
  const Frame whole = tcp(GetParam(), kTcpAck, text_of(30));
  Buffer* buffer = offer_all(fragments_of(whole, 8, 79));
  ASSERT_NE(buffer, nullptr);
  ASSERT_FALSE(parse_datagram(buffer, true));
  EXPECT_EQ(meta(buffer).tcp_flags, kTcpAck);
  release(buffer);
}

TEST_P(Fragments, OfSeveralDatagramsStayApart) {
  const Frame a = udp(GetParam(), text_of(60));
  const Frame b = udp(GetParam(), text_of(80));
  const auto of_a = fragments_of(a, 40, 1);
  const auto of_b = fragments_of(b, 48, 2);
  EXPECT_EQ(offer(of_a[0]), nullptr);
  EXPECT_EQ(offer(of_b[1]), nullptr);
  EXPECT_EQ(reassembler_->pending(), 2u);
  Buffer* second = offer(of_b[0]);
  Buffer* first = offer(of_a[1]);
  ASSERT_TRUE(first != nullptr && second != nullptr);
  EXPECT_EQ(bytes(first), expected(a, 1));
  EXPECT_EQ(bytes(second), expected(b, 2));
  release(first);
  release(second);
}

TEST_P(Fragments, ThatOverlapAreGivenUp) {
  const Frame whole = udp(GetParam(), text_of(100));
  const auto a = fragments_of(whole, 48, 3);
  const auto b = fragments_of(whole, 40, 3);
  EXPECT_EQ(offer(a[0]), nullptr);  // 0..48
  EXPECT_EQ(offer(b[1]), nullptr);  // 40..80
  EXPECT_EQ(offer(a[2]), nullptr);  // 96..108
  EXPECT_EQ(offer(a[1]), nullptr);  // 48..96: now there is too much
  EXPECT_EQ(reassembler_->invalid(), 4u);
  EXPECT_EQ(reassembler_->pending(), 0u);
}

TEST_P(Fragments, SentTwiceAsFirstAreGivenUp) {
  const auto pieces = fragments_of(udp(GetParam(), text_of(100)), 48, 4);
  EXPECT_EQ(offer(pieces[0]), nullptr);
  EXPECT_EQ(offer(pieces[0]), nullptr);
  EXPECT_EQ(reassembler_->invalid(), 2u);
}

TEST_P(Fragments, MoreThanEightAreGivenUp) {
  const auto pieces = fragments_of(udp(GetParam(), text_of(200)), 16, 5);
  ASSERT_GT(pieces.size(), 8u);
  for (const Bytes& piece : pieces) EXPECT_EQ(offer(piece), nullptr);
  EXPECT_EQ(reassembler_->invalid(), 8u);  // what still comes is a datagram of its own
  EXPECT_EQ(reassembler_->pending(), pieces.size() - 8);
}

TEST_P(Fragments, ThatComeTooLateAreGivenUp) {
  const auto pieces = fragments_of(udp(GetParam(), text_of(60)), 40, 6);
  EXPECT_EQ(offer(pieces[0], kStart), nullptr);
  EXPECT_EQ(offer(pieces[1], kStart + seconds(3)), nullptr);
  EXPECT_EQ(reassembler_->invalid(), 1u);
  EXPECT_EQ(reassembler_->pending(), 1u);
}

TEST_P(Fragments, ExpireWithoutBeingAskedAgain) {
  for (uint32_t id = 10; id < 13; ++id)
    EXPECT_EQ(offer(fragments_of(udp(GetParam(), text_of(60)), 40, id)[0]), nullptr);
  reassembler_->release_expired(kStart + seconds(1), 64);
  EXPECT_EQ(reassembler_->pending(), 3u);
  reassembler_->release_expired(kStart + seconds(3), 64);
  EXPECT_EQ(reassembler_->pending(), 0u);
  EXPECT_EQ(reassembler_->invalid(), 3u);
  EXPECT_EQ(pool_.in_use(), 0u);
}

TEST_P(Fragments, FindTheTableFull) {
  for (uint32_t id = 20; id < 24; ++id)
    EXPECT_EQ(offer(fragments_of(udp(GetParam(), text_of(60)), 40, id)[0]), nullptr);
  EXPECT_EQ(reassembler_->table_full(), 0u);
  EXPECT_EQ(offer(fragments_of(udp(GetParam(), text_of(60)), 40, 24)[0]), nullptr);
  EXPECT_EQ(reassembler_->table_full(), 1u);
  EXPECT_EQ(reassembler_->invalid(), 0u);
  EXPECT_EQ(reassembler_->pending(), 4u);
}

TEST_P(Fragments, OfABrokenDatagramFailItsChecksum) {
  auto pieces = fragments_of(udp(GetParam(), text_of(60)), 40, 30);
  pieces[1].back() ^= 1;
  Buffer* buffer = offer_all(pieces);
  ASSERT_NE(buffer, nullptr);
  EXPECT_EQ(parse_datagram(buffer, true), DropReason::kBadChecksum);
  release(buffer);
}

// A datagram that does not fit one buffer stays a chain and is translated all the same.
TEST_P(Fragments, OfALargeDatagramAreTranslatedAsAChain) {
  const Frame whole = udp(GetParam(), text_of(6001));
  Buffer* buffer = offer_all(fragments_of(whole, 1201, 31));
  ASSERT_NE(buffer, nullptr);
  EXPECT_GT(buffer->nb_segs, 1);
  ASSERT_FALSE(parse_datagram(buffer, true));
  const Flow to = is_v4() ? Flow{"10.2.0.10", 1024, "10.2.0.2", 8080}
                          : Flow{"fd00:2::a", 1024, "fd00:2::2", 8080};
  const net::Address source = address(to.source);
  const net::Address destination = address(to.destination);
  const Translation t{source, destination, to.source_port, to.destination_port};
  if (is_v4()) {
    translate<net::Family::kV4>(buffer, meta(buffer), t);
  } else {
    translate<net::Family::kV6>(buffer, meta(buffer), t);
  }
  EXPECT_EQ(sums_wrong(bytes(buffer)), "");
  release(buffer);
}

TEST_P(Fragments, CutAgainToTheNextMtu) {
  const Frame whole = udp(GetParam(), text_of(4001));
  Buffer* buffer = offer_all(fragments_of(whole, 1400, 32));
  ASSERT_NE(buffer, nullptr);
  ASSERT_FALSE(parse_datagram(buffer, true));
  std::array<Buffer*, 8> pieces{};
  const uint32_t count = fragment(buffer, 1300, 0x12345678, pool_.pool(), pieces.data(), 8);
  ASSERT_EQ(count, 4u);
  EXPECT_EQ(pool_.in_use(), 4u);
  Reassembler other(4, seconds(2), 0);
  Buffer* again = nullptr;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t size = pieces[i]->pkt_len;
    EXPECT_LE(size, 1300u);
    EXPECT_EQ(pieces[i]->nb_segs, 1);
    ASSERT_TRUE(write_ethernet(pieces[i], {.port = 1, .mac = mac(kClientMac)}, mac(kEngineMac)));
    EXPECT_EQ(sums_wrong(bytes(pieces[i])), "") << describe(bytes(pieces[i]));
    const Meta made = meta(pieces[i]);
    const Ingress ingress{.mac = mac(kEngineMac)};
    ASSERT_FALSE(parse(pieces[i], {&ingress, 1}));
    const Meta& read = meta(pieces[i]);
    EXPECT_EQ(read.kind, made.kind);
    EXPECT_EQ(read.fragment_id, is_v4() ? 0x5678u : 0x12345678u);
    EXPECT_EQ(made.fragment_id, read.fragment_id);
    EXPECT_EQ(made.l4_offset, read.l4_offset);
    EXPECT_EQ(made.l4_bytes, read.l4_bytes);
    again = other.add(pieces[i], kStart);
  }
  ASSERT_NE(again, nullptr);
  ASSERT_FALSE(parse_datagram(again, true));
  EXPECT_EQ(meta(again).l4_bytes, 4009u);
  release(again);
}

TEST_P(Fragments, CutOneBufferInPieces) {
  HeapPool large(1, 9000);
  const Ingress ingress{.mac = mac(kEngineMac)};
  Buffer* buffer = make_buffer(large.pool(), udp(GetParam(), text_of(5000)).build());
  ASSERT_FALSE(parse(buffer, {&ingress, 1}));
  std::array<Buffer*, 8> pieces{};
  const uint32_t count = fragment(buffer, 1500, 9, pool_.pool(), pieces.data(), 8);
  ASSERT_EQ(count, 4u);
  EXPECT_EQ(large.in_use(), 0u);
  for (uint32_t i = 0; i < count; ++i) {
    ASSERT_TRUE(write_ethernet(pieces[i], {.vlan = 9, .mac = mac(kClientMac)}, mac(kEngineMac)));
    EXPECT_EQ(sums_wrong(bytes(pieces[i])), "") << describe(bytes(pieces[i]));
    release(pieces[i]);
  }
}

TEST_P(Fragments, LeakNothingWhenThereIsNoRoom) {
  for (const uint32_t room : {1u, 2u}) {
    Buffer* buffer = offer_all(fragments_of(udp(GetParam(), text_of(4001)), 1400, 40));
    ASSERT_FALSE(parse_datagram(buffer, true));
    std::array<Buffer*, 2> pieces{};
    EXPECT_EQ(fragment(buffer, 1300, 1, pool_.pool(), pieces.data(), room), 0u);
    EXPECT_EQ(pool_.in_use(), 0u);
  }
  for (uint32_t buffers = 0; buffers < 8; ++buffers) {
    HeapPool few(buffers);
    Buffer* buffer = offer_all(fragments_of(udp(GetParam(), text_of(4001)), 1400, 41));
    ASSERT_FALSE(parse_datagram(buffer, true));
    std::array<Buffer*, 8> pieces{};
    const uint32_t made = fragment(buffer, 1300, 1, few.pool(), pieces.data(), 8);
    for (uint32_t i = 0; i < made; ++i) release(pieces[i]);
    EXPECT_EQ(pool_.in_use(), 0u);
    EXPECT_EQ(few.in_use(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Fragments, testing::Values(kUp4, kUp6), [](const auto& param) {
  return address(param.param.source).is_v4() ? "V4" : "V6";
});

using FragmentsV6 = Fragments;

TEST_P(FragmentsV6, BehindOtherHeadersLoseThem) {
  const std::vector<Extension> before = {{kProtocolHopByHop, {1, 4, 0, 0, 0, 0}},
                                         {kProtocolDestinationOptions, Bytes(14)}};
  const Frame whole = udp(GetParam(), text_of(100));
  Buffer* buffer = offer_all(fragments_of(whole.with(&Frame::extensions, before), 48, 50));
  ASSERT_NE(buffer, nullptr);
  EXPECT_EQ(bytes(buffer), whole.build());
  ASSERT_FALSE(parse_datagram(buffer, true));
  release(buffer);
}

TEST_P(FragmentsV6, WithinFragmentsAreMalformed) {
  Frame inner = udp(GetParam(), text_of(40));
  inner.extensions = {{kProtocolFragment, {0, 1, 0, 0, 0, 1}}};
  const Bytes ip = inner.build_ip();
  Frame outer = udp(GetParam());
  outer.protocol = kProtocolFragment;
  outer.raw_l4 = Bytes(ip.begin() + 40, ip.end());
  Buffer* buffer = offer_all(fragments_of(outer, 24, 51));
  ASSERT_NE(buffer, nullptr);
  EXPECT_EQ(parse_datagram(buffer, true), DropReason::kMalformed);
  release(buffer);
}

TEST_P(FragmentsV6, NeverCarryNeighborDiscovery) {
  const Frame whole = neighbor_advertisement(GetParam().source, GetParam().destination,
                                             GetParam().source, kClientMac);
  Buffer* buffer = offer_all(fragments_of(whole, 16, 52));
  ASSERT_NE(buffer, nullptr);
  EXPECT_EQ(parse_datagram(buffer, true), DropReason::kMalformed);
  release(buffer);
}

INSTANTIATE_TEST_SUITE_P(Only, FragmentsV6, testing::Values(kUp6));

using FragmentsV4 = Fragments;

TEST_P(FragmentsV4, OfDifferentProtocolsDoNotMix) {
  const auto a = fragments_of(udp(GetParam(), text_of(60)), 40, 60);
  const auto b = fragments_of(udp(GetParam(), text_of(60)).with(&Frame::protocol, 6), 40, 60);
  EXPECT_EQ(offer(a[0]), nullptr);
  Buffer* buffer = offer(b[1]);
  EXPECT_EQ(buffer, nullptr);
  EXPECT_EQ(reassembler_->invalid() + reassembler_->pending(), 2u);
}

TEST_P(FragmentsV4, WithDontFragmentMayBeCutAgain) {
  const Frame whole = udp(GetParam(), text_of(2000)).with(&Frame::dont_fragment, true);
  Buffer* buffer = offer_all(fragments_of(whole, 800, 61));
  ASSERT_NE(buffer, nullptr);
  ASSERT_FALSE(parse_datagram(buffer, true));
  EXPECT_FALSE(meta(buffer).dont_fragment);
  std::array<Buffer*, 8> pieces{};
  const uint32_t count = fragment(buffer, 1000, 1, pool_.pool(), pieces.data(), 8);
  EXPECT_EQ(count, 3u);
  for (uint32_t i = 0; i < count; ++i) release(pieces[i]);
}

TEST_P(FragmentsV4, OptionsAreCopiedOnlyWhereTheySayso) {
  const Bytes options = {7, 7, 4, 0, 0, 0, 0, 1};  // record route: first piece only
  HeapPool large(1, 9000);
  const Ingress ingress{.mac = mac(kEngineMac)};
  Buffer* buffer = make_buffer(
      large.pool(), udp(GetParam(), text_of(2000)).with(&Frame::ip_options, options).build());
  ASSERT_FALSE(parse(buffer, {&ingress, 1}));
  std::array<Buffer*, 8> pieces{};
  const uint32_t count = fragment(buffer, 1500, 9, pool_.pool(), pieces.data(), 8);
  ASSERT_EQ(count, 2u);
  for (uint32_t i = 0; i < count; ++i) {
    ASSERT_TRUE(write_ethernet(pieces[i], {.mac = mac(kClientMac)}, mac(kEngineMac)));
    EXPECT_EQ(sums_wrong(bytes(pieces[i])), "") << describe(bytes(pieces[i]));
    EXPECT_EQ(*at<uint8_t>(pieces[i], 14), i == 0 ? 0x47 : 0x45);
    release(pieces[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Only, FragmentsV4, testing::Values(kUp4));

}  // namespace
}  // namespace limpet::packet
