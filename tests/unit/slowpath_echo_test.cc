// Echo requests to the engine's own addresses, and what the slow path does not want.
#include <gmock/gmock.h>

#include "dataplane/packet/fragment.h"
#include "tests/unit/slowpath_lab.h"

namespace limpet::slowpath {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class Echo : public SlowPathTest {
 protected:
  Frame request(std::string_view to, std::string_view payload = "ping") const {
    return support::echo_request(n.client, to, 7, 1, payload);
  }
  // What answers request(to): from there, back to the MAC it came from.
  Frame reply(std::string_view from, std::string_view payload = "ping") const {
    Frame f = support::echo_request(from, n.client, 7, 1, payload);
    f.icmp_type = lab.v4() ? packet::kIcmpEchoReply : packet::kIcmpv6EchoReply;
    f.to = mac(kClientMac);
    f.from = mac(kFrontMac);
    return f;
  }
};

TEST_P(Echo, IsAnsweredForAPortsAddressToTheMacItCameFrom) {
  lab.hear(request(n.front));
  ASSERT_THAT(lab.link.sent, SizeIs(1));
  EXPECT_EQ(support::describe(lab.link.sent[0].frame), support::describe(reply(n.front).build()));
  EXPECT_EQ(lab.link.sent[0].port, kFront);
  EXPECT_EQ(lab.slow->counters().echo_replies, 1u);
}

TEST_P(Echo, IsAnsweredForVipsAndSnatAddressesWhateverThePort) {
  lab.serve_quietly({.vips = {n.vip, n.routed_vip}, .snat = {n.snat}});
  for (auto to : {n.vip, n.routed_vip, n.snat, n.back}) {
    lab.clear();
    lab.hear(request(to));
    ASSERT_THAT(lab.link.sent, SizeIs(1)) << to;
    EXPECT_EQ(support::describe(lab.link.sent[0].frame), support::describe(reply(to).build()));
  }
}

TEST_P(Echo, IsNotAnsweredForAVipThatIsNotServed) {
  lab.hear(request(n.vip));
  EXPECT_THAT(lab.link.sent, IsEmpty());
  EXPECT_EQ(lab.drops(DropReason::kNotForUs), 1u);
}

TEST_P(Echo, FromAnAddressOfOursIsNotAnswered) {
  lab.hear(support::echo_request(n.back, n.front));
  EXPECT_THAT(lab.link.sent, IsEmpty());
  EXPECT_EQ(lab.drops(DropReason::kMartianSource), 1u);
}

TEST_P(Echo, KeepsTheVlan) {
  Lab tagged(n);
  auto ports = Lab::ports();
  ports[kFront].vlan = 100;
  tagged.start_with(ports);
  tagged.hear(request(n.front).with(&Frame::vlan, 100));
  ASSERT_THAT(tagged.link.sent, SizeIs(1));
  EXPECT_EQ(support::describe(tagged.link.sent[0].frame),
            support::describe(reply(n.front).with(&Frame::vlan, 100).build()));
}

TEST_P(Echo, RepliesAreBoundedInRate) {
  for (uint32_t i = 0; i < SlowPath::kEchoBurst + 10; ++i) lab.hear(request(n.front));
  EXPECT_THAT(lab.link.sent, SizeIs(SlowPath::kEchoBurst));
  EXPECT_EQ(lab.drops(DropReason::kRateLimited), 10u);
  lab.pass(seconds(1));
  lab.hear(request(n.front));
  EXPECT_THAT(lab.link.sent, SizeIs(SlowPath::kEchoBurst + 1));
}

TEST_P(Echo, LargerThanTheMtuIsAnsweredInFragments) {
  Lab small(n);
  auto ports = Lab::ports();
  ports[kFront].mtu = 1280;
  small.start_with(ports);
  small.hear(request(n.front, std::string(1400, 'x')));
  ASSERT_THAT(small.link.sent, SizeIs(2));
  std::size_t payload = 0;
  for (const Sent& s : small.link.sent) {
    EXPECT_LE(s.frame.size(), 14u + 1280u);
    EXPECT_NE(support::describe(s.frame).find(" fragment id "), std::string::npos);
    payload += s.frame.size() - (small.v4() ? 14u + 20u : 14u + 40u + 8u);
  }
  EXPECT_EQ(payload, 1408u);
}

TEST(EchoIpv6, ToALinkLocalAddressIsAnsweredOnItsPortOnly) {
  Lab lab(kNames6);
  lab.start();
  lab.hear(support::echo_request("fe80::2", kFrontLinkLocal), kFront);
  EXPECT_THAT(lab.link.sent, SizeIs(1));
  lab.hear(support::echo_request("fe80::2", kFrontLinkLocal).with(&Frame::to, mac(kBackMac)),
           kBack);
  EXPECT_THAT(lab.link.sent, SizeIs(1));
  EXPECT_EQ(lab.drops(DropReason::kNotForUs), 1u);
}

class Unwanted : public SlowPathTest {};

TEST_P(Unwanted, PacketsAreReleasedAndCounted) {
  lab.hear(support::udp({n.client, 1, n.front, 2}, "x"));
  EXPECT_EQ(lab.drops(DropReason::kUnhandled), 1u);
  EXPECT_THAT(lab.link.sent, IsEmpty());
}

TEST_P(Unwanted, PacketsOfAPortThatDoesNotExistAreReleasedAndCounted) {
  lab.need(n.server, 9);
  EXPECT_EQ(lab.drops(DropReason::kUnhandled), 1u);
}

TEST_P(Unwanted, TicksDoNothing) {
  lab.slow->tick(lab.now);
  EXPECT_THAT(lab.link.sent, IsEmpty());
  EXPECT_EQ(lab.slow->next_deadline(), Instant::never());
}

SLOWPATH_BOTH_FAMILIES(Echo);
SLOWPATH_BOTH_FAMILIES(Unwanted);

TEST(Pacer, LetsABurstThroughThenOneAnInterval) {
  Pacer pacer(milliseconds(10), 3);
  Instant now{seconds(5).count()};
  EXPECT_TRUE(pacer.take(now) && pacer.take(now) && pacer.take(now));
  EXPECT_FALSE(pacer.take(now));
  EXPECT_EQ(pacer.ready_at(), now + milliseconds(10));
  now = pacer.ready_at();
  EXPECT_TRUE(pacer.take(now));
  EXPECT_FALSE(pacer.take(now));
}

TEST(Pacer, SavesUpNoMoreThanABurst) {
  Pacer pacer(milliseconds(10), 2);
  const Instant later{seconds(1000).count()};
  EXPECT_TRUE(pacer.take(later) && pacer.take(later));
  EXPECT_FALSE(pacer.take(later));
}

}  // namespace
}  // namespace limpet::slowpath
