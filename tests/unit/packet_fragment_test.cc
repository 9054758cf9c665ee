// Reassembly and fragmentation.
#include <gtest/gtest.h>

#include <algorithm>

#include "dataplane/packet/fragment.h"
#include "dataplane/packet/headers.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/reassembler.h"
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

  HeapPool pool_{256};
  base::Random random_{1};
  const base::KeyedHash hash_{random_};
  const Reassembler::Options options_{.datagrams_max = 4, .pieces_max = 100, .timeout = seconds(2)};
  std::unique_ptr<Reassembler> reassembler_ = std::make_unique<Reassembler>(options_, hash_);
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

TEST_P(Fragments, InNoOrderAtAllMakeTheDatagram) {
  const Frame whole = udp(GetParam(), text_of(2000));
  std::vector<Bytes> pieces = fragments_of(whole, 48, 79);
  for (int round = 0; round < 50; ++round) {
    for (std::size_t i = pieces.size(); i > 1; --i)
      std::swap(pieces[i - 1], pieces[random_.below(static_cast<uint32_t>(i))]);
    Buffer* buffer = offer_all(pieces);
    ASSERT_NE(buffer, nullptr);
    EXPECT_EQ(bytes(buffer), expected(whole, 79));
    release(buffer);
  }
}

TEST_P(Fragments, OfTheLargestDatagramMakeIt) {
  const std::size_t headers = is_v4() ? 28 : 8;
  const Frame whole = udp(GetParam(), text_of(65'535 - headers));
  const auto pieces = fragments_of(whole, 1232, 80);
  EXPECT_EQ(pieces.size(), 54u);
  Buffer* buffer = offer_all(pieces);
  ASSERT_NE(buffer, nullptr);
  EXPECT_EQ(bytes(buffer), expected(whole, 80));
  ASSERT_FALSE(parse_datagram(buffer, true));
  EXPECT_EQ(meta(buffer).kind, Kind::kFlow);
  release(buffer);
}

TEST_P(Fragments, ThatOverlapEndTheDatagramAndAllThatComesOfIt) {
  const Frame whole = udp(GetParam(), text_of(100));
  const auto a = fragments_of(whole, 48, 3);
  const auto b = fragments_of(whole, 40, 3);
  EXPECT_EQ(offer(a[0]), nullptr);  // 0..48
  EXPECT_EQ(offer(b[1]), nullptr);  // 40..80
  EXPECT_EQ(reassembler_->invalid(), 2u);
  for (const Bytes& piece : a) EXPECT_EQ(offer(piece), nullptr);
  EXPECT_EQ(reassembler_->invalid(), 5u);
  EXPECT_EQ(reassembler_->pending(), 0u);
  Buffer* later = nullptr;  // when the first would have timed out, the name is free again
  for (const Bytes& piece : a) later = offer(piece, kStart + seconds(3));
  ASSERT_NE(later, nullptr);
  release(later);
}

TEST_P(Fragments, ThatOverlapInAnyOrderMakeNothing) {
  const Frame whole = udp(GetParam(), text_of(300));
  const auto a = fragments_of(whole, 48, 3);
  const auto b = fragments_of(whole, 40, 3);
  for (uint32_t round = 0; round < 200; ++round) {
    // Two pieces of either cut that are not the same bytes, then the others of the first.
    std::vector<Bytes> pieces(a.begin(), a.end());
    pieces.push_back(b[1 + round % (b.size() - 2)]);
    for (std::size_t i = pieces.size(); i > 1; --i)
      std::swap(pieces[i - 1], pieces[random_.below(static_cast<uint32_t>(i))]);
    const Instant now = kStart + seconds(3 * round);
    uint32_t made = 0;
    for (const Bytes& piece : pieces) {
      Buffer* buffer = offer(piece, now);
      if (buffer == nullptr) continue;
      ++made;  // what overlaps came after all the others
      EXPECT_EQ(bytes(buffer), expected(whole, 3));
      EXPECT_EQ(piece, pieces[pieces.size() - 2]);
      release(buffer);
    }
    EXPECT_LE(made, 1u);
    reassembler_->release_expired(now + seconds(3), 100);
    EXPECT_EQ(reassembler_->pending(), 0u);
  }
}

// Pieces of datagrams of one name but several lengths and cuts, at random: what is made of them is
// the beginning of the bytes that all have in common, to the end of one of them.
TEST_P(Fragments, OfWhateverMixtureMakeOnlyWhatWasSent) {
  const std::string text = text_of(400);
  std::vector<std::vector<Bytes>> cuts;
  for (const std::size_t length : {96u, 200u, 393u}) {
    Frame whole = udp(GetParam(), "");
    whole.raw_l4 = Bytes(text.begin(), text.begin() + static_cast<long>(length));
    for (const std::size_t cut : {16u, 48u, 88u}) cuts.push_back(fragments_of(whole, cut, 9));
  }
  const auto any = [&](const auto& list) {
    return list[random_.below(static_cast<uint32_t>(list.size()))];
  };
  uint32_t made = 0;
  for (uint32_t round = 0; round < 2000; ++round) {
    std::vector<Bytes> pieces = any(cuts);
    for (uint32_t more = random_.below(4); more > 0; --more) pieces.push_back(any(any(cuts)));
    for (std::size_t i = pieces.size(); i > 1; --i)
      std::swap(pieces[i - 1], pieces[random_.below(static_cast<uint32_t>(i))]);
    for (const Bytes& piece : pieces) {
      Buffer* buffer = offer(piece, kStart + seconds(3 * round));
      EXPECT_LE(reassembler_->pending(), pieces.size());
      EXPECT_EQ(pool_.in_use(),
                reassembler_->pending() + (buffer == nullptr ? 0 : buffer->nb_segs));
      if (buffer == nullptr) continue;
      ++made;
      const Bytes whole = bytes(buffer);
      const std::string found(whole.begin() + (is_v4() ? 34 : 54), whole.end());
      EXPECT_TRUE(found.size() == 96 || found.size() == 200 || found.size() == 393);
      EXPECT_EQ(found, text.substr(0, found.size()));
      release(buffer);
    }
  }
  EXPECT_GT(made, 500u);
  EXPECT_LT(made, 2000u);
}

TEST_P(Fragments, SentTwiceAreTakenOnce) {
  const Frame whole = udp(GetParam(), text_of(100));
  const auto pieces = fragments_of(whole, 48, 4);
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(offer(pieces[0]), nullptr);
  EXPECT_EQ(offer(pieces[0]), nullptr);
  EXPECT_EQ(offer(pieces[2]), nullptr);
  EXPECT_EQ(offer(pieces[2]), nullptr);
  EXPECT_EQ(reassembler_->invalid(), 2u);
  Buffer* buffer = offer(pieces[1]);
  ASSERT_NE(buffer, nullptr);
  EXPECT_EQ(bytes(buffer), expected(whole, 4));
  release(buffer);
}

TEST_P(Fragments, BehindTheLastOneAreGivenUp) {
  const auto longer = fragments_of(udp(GetParam(), text_of(300)), 48, 4);
  const auto shorter = fragments_of(udp(GetParam(), text_of(100)), 48, 4);
  EXPECT_EQ(offer(shorter.back()), nullptr);
  EXPECT_EQ(offer(longer[4]), nullptr);
  EXPECT_EQ(reassembler_->invalid(), 2u);
  EXPECT_EQ(offer(longer[0], kStart + seconds(3)), nullptr);
  EXPECT_EQ(offer(longer[4], kStart + seconds(3)), nullptr);
  EXPECT_EQ(offer(shorter.back(), kStart + seconds(3)), nullptr);
  EXPECT_EQ(reassembler_->invalid(), 5u);
  EXPECT_EQ(reassembler_->pending(), 0u);
}

TEST_P(Fragments, MoreThanSixtyFourAreGivenUp) {
  const auto pieces = fragments_of(udp(GetParam(), text_of(65 * 16 - 8)), 16, 5);
  ASSERT_EQ(pieces.size(), 65u);
  for (const Bytes& piece : pieces) EXPECT_EQ(offer(piece), nullptr);
  EXPECT_EQ(reassembler_->invalid(), 65u);
  EXPECT_EQ(reassembler_->pending(), 0u);
}

TEST_P(Fragments, AreHeldUpToALimitOverAllDatagrams) {
  for (uint32_t id = 0; id < 3; ++id) {
    const auto pieces = fragments_of(udp(GetParam(), text_of(800)), 16, id);
    ASSERT_GT(pieces.size(), 40u);
    for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(offer(pieces[i]), nullptr);
  }
  EXPECT_EQ(reassembler_->pending(), 100u);
  EXPECT_EQ(reassembler_->table_full(), 20u);
  EXPECT_EQ(reassembler_->invalid(), 0u);
}

TEST_P(Fragments, OfDatagramsThatTimedOutMakeRoom) {
  for (uint32_t id = 20; id < 28; ++id) {
    const auto now = kStart + seconds(id < 24 ? 0 : 3);
    EXPECT_EQ(offer(fragments_of(udp(GetParam(), text_of(60)), 40, id)[0], now), nullptr);
  }
  EXPECT_EQ(reassembler_->table_full(), 0u);
  EXPECT_EQ(reassembler_->invalid(), 4u);
  EXPECT_EQ(reassembler_->pending(), 4u);
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
  EXPECT_FALSE(parse_datagram(buffer, true));
  EXPECT_FALSE(transport_right(buffer));
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
  const uint32_t delta =
      address_delta(meta(buffer).source, meta(buffer).destination, source, destination);
  if (is_v4()) {
    translate<net::Family::kV4>(buffer, meta(buffer), t, delta);
  } else {
    translate<net::Family::kV6>(buffer, meta(buffer), t, delta);
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
  Reassembler other(options_, hash_);
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
  EXPECT_EQ(offer(b[1]), nullptr);
  Buffer* buffer = offer(a[1]);
  ASSERT_NE(buffer, nullptr);
  EXPECT_FALSE(parse_datagram(buffer, true));
  EXPECT_EQ(reassembler_->pending(), 1u);
  release(buffer);
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
