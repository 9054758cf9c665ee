// Fragments through whole cores: put together, forwarded with their flow, cut again where the next
// link needs it.
#include <gtest/gtest.h>

#include <algorithm>

#include "dataplane/packet/headers.h"
#include "tests/support/core_lab.h"

namespace limpet {
namespace {

using net::Family;
using packet::DropReason;
using support::Bytes;
using support::CoreLab;
using support::Frame;
using support::Sent;
using timing::seconds;

std::string text_of(std::size_t size) {
  std::string text(size, ' ');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  return text;
}

class ForwarderFragments : public testing::TestWithParam<Family> {
 protected:
  bool v4() const { return GetParam() == Family::kV4; }
  std::string client(uint32_t n) const {
    return (v4() ? "10.1.0." : "fd00:1::") + std::to_string(n + 2);
  }
  std::string_view vip() const { return v4() ? support::kVip4 : support::kVip6; }
  std::size_t ip_header() const { return v4() ? 20 : 40; }

  std::vector<Sent> send_in_pieces(CoreLab& lab, const Frame& whole, uint8_t port,
                                   bool backwards = false, std::size_t bytes = 600) {
    Frame f = whole;
    if (port == 1) f.to = support::mac(support::kBackMac);
    auto pieces = support::fragments_of(f, bytes, 77);
    if (backwards) std::reverse(pieces.begin(), pieces.end());
    std::vector<Sent> out;
    for (const Bytes& piece : pieces) {  // one by one: of different lengths, at different cores
      for (Sent& s : lab.send({piece}, port)) out.push_back(std::move(s));
    }
    return out;
  }
  // The end of a whole UDP frame.
  static std::string payload(const Bytes& frame, std::size_t bytes) {
    return {frame.end() - static_cast<long>(bytes), frame.end()};
  }
};

INSTANTIATE_TEST_SUITE_P(Families, ForwarderFragments, testing::Values(Family::kV4, Family::kV6),
                         [](const auto& p) { return p.param == Family::kV4 ? "v4" : "v6"; });

TEST_P(ForwarderFragments, ReachTheServerOfTheirFlowWhateverCoreTheyArriveAt) {
  CoreLab lab({.cores = 4, .entries = 65536, .reassemble = true});
  for (uint32_t n = 0; n < 10; ++n) {
    const std::string address = client(n);
    const auto c = lab.datagram({address, 1000});
    ASSERT_TRUE(c.ok());
    const std::string text = text_of(1300);
    for (const bool backwards : {false, true}) {
      const auto up = send_in_pieces(lab, support::udp(c.up(), text), 0, backwards);
      ASSERT_EQ(up.size(), 1u);
      EXPECT_EQ(up[0].port, 1);
      EXPECT_EQ(support::parts(up[0].bytes).destination, c.server);
      EXPECT_EQ(support::parts(up[0].bytes).source_port, c.source_port);
      EXPECT_EQ(payload(up[0].bytes, text.size()), text);
      EXPECT_EQ(support::sums_wrong(up[0].bytes), "");
      const auto down = send_in_pieces(lab, support::udp(c.down(), text), 1, backwards);
      ASSERT_EQ(down.size(), 1u);
      EXPECT_EQ(support::parts(down[0].bytes).destination, address);
      EXPECT_EQ(payload(down[0].bytes, text.size()), text);
      EXPECT_EQ(support::sums_wrong(down[0].bytes), "");
    }
  }
  EXPECT_EQ(lab.buffers().in_use(), 0u);
}

TEST_P(ForwarderFragments, OpenAFlowLikeAnyDatagram) {
  CoreLab lab({.cores = 2, .entries = 65536, .reassemble = true});
  const std::string address = client(0);
  const auto out = send_in_pieces(lab, support::udp({address, 1000, vip(), 80}, text_of(1300)), 0);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(lab.core(0).forwarder().flows().size() + lab.core(1).forwarder().flows().size(), 1u);
}

// What arrived in pieces may leave in pieces, IPv6 too: the engine sends them as its own.
TEST_P(ForwarderFragments, AreCutAgainWhereTheLinkNeedsIt) {
  CoreLab lab({.reassemble = true});
  const std::string address = client(0);
  const auto c = lab.datagram({address, 1000});
  const std::string text = text_of(3000);
  const auto out = send_in_pieces(lab, support::udp(c.up(), text), 0);
  ASSERT_EQ(out.size(), 3u);
  for (const Sent& s : out) {
    EXPECT_LE(s.bytes.size(), 1514u);
    EXPECT_EQ(support::parts(s.bytes).destination, c.server);
    EXPECT_EQ(support::sums_wrong(s.bytes), "");
  }
  // Back through another engine's eyes: they are one datagram for the server.
  std::string joined;
  for (const Sent& s : out) {
    const std::size_t headers = 14 + ip_header() + (v4() ? 0 : 8);
    joined.append(s.bytes.begin() + static_cast<long>(headers), s.bytes.end());
  }
  EXPECT_EQ(joined.substr(8), text);
  EXPECT_EQ(lab.buffers().in_use(), 0u);
}

TEST_P(ForwarderFragments, OfTheLargestDatagramPass) {
  CoreLab lab({.cores = 2, .reassemble = true});
  const std::string text = text_of(65'535 - 48);
  const auto out =
      send_in_pieces(lab, support::udp({client(0), 1000, vip(), 80}, text), 0, false, 1280);
  std::string arrived;
  for (const Sent& s : out) {
    EXPECT_EQ(support::sums_wrong(s.bytes), "");
    EXPECT_LE(s.bytes.size(), 1514u);
    const std::size_t headers = 14 + (v4() ? 20 : 48) + (arrived.empty() ? 8 : 0);
    arrived.append(s.bytes.begin() + static_cast<long>(headers), s.bytes.end());
  }
  EXPECT_EQ(arrived, text);
}

TEST_P(ForwarderFragments, OfATcpSegmentReachItsFlow) {
  CoreLab lab({.reassemble = true});
  const std::string address = client(0);
  const auto c = lab.connect({address, 1000});
  const auto out = send_in_pieces(lab, support::tcp(c.up(), packet::kTcpAck, text_of(1300)), 0);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(support::parts(out[0].bytes).destination, c.server);
  EXPECT_EQ(support::sums_wrong(out[0].bytes), "");
}

TEST_P(ForwarderFragments, ThatNeverCompleteAreGivenUp) {
  CoreLab lab({.reassemble = true});
  const std::string address = client(0);
  auto pieces =
      support::fragments_of(support::udp({address, 1000, vip(), 80}, text_of(1300)), 600, 5);
  pieces.pop_back();
  for (const Bytes& piece : pieces) EXPECT_EQ(lab.send({piece}, 0).size(), 0u);
  EXPECT_EQ(lab.core().fragments_pending(), pieces.size());
  lab.advance(seconds(5));
  EXPECT_EQ(lab.core().fragments_pending(), 0u);
  EXPECT_EQ(lab.drops(DropReason::kFragmentInvalid), pieces.size());
  EXPECT_EQ(lab.buffers().in_use(), 0u);
}

TEST_P(ForwarderFragments, ThatOverlapAreDropped) {
  CoreLab lab({.reassemble = true});
  const std::string address = client(0);
  const Frame whole = support::udp({address, 1000, vip(), 80}, text_of(1300));
  const auto wide = support::fragments_of(whole, 800, 5);
  const auto narrow = support::fragments_of(whole, 400, 5);
  std::vector<Sent> out;
  for (const auto& piece : {wide[0], narrow[1], narrow[2], wide.back()}) {
    for (Sent& s : lab.send({piece}, 0)) out.push_back(std::move(s));
  }
  EXPECT_EQ(out.size(), 0u);
  lab.advance(seconds(5));
  EXPECT_EQ(lab.buffers().in_use(), 0u);
  EXPECT_GT(lab.drops(DropReason::kFragmentInvalid), 0u);
}

}  // namespace
}  // namespace limpet
