// The engine's own addresses on the wire: answered, announced, defended.
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/unit/slowpath_lab.h"

namespace limpet::slowpath {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class Answers : public SlowPathTest {};
class Announcements : public SlowPathTest {};
class Conflicts : public SlowPathTest {};

// Answers.

TEST_P(Answers, AreGivenForThePortsOwnAddress) {
  lab.hear(lab.question(n.client, kClientMac, n.front));
  EXPECT_THAT(lab.link.sent,
              ElementsAre(by(kFront, lab.answer(n.front, kFrontMac, n.client, kClientMac, true))));
  EXPECT_EQ(lab.slow->counters().answers, 1u);
}

TEST_P(Answers, AreNotGivenForAnotherPortsAddress) {
  lab.hear(lab.question(n.client, kClientMac, n.back), kFront);
  EXPECT_THAT(lab.link.sent, IsEmpty());
  EXPECT_EQ(lab.slow->counters().not_ours, 1u);
}

TEST_P(Answers, AreGivenForAVipOnThePortWhoseSubnetHasIt) {
  lab.serve_quietly({.vips = {n.vip}});
  lab.hear(lab.question(n.client, kClientMac, n.vip), kFront);
  EXPECT_THAT(lab.link.sent,
              ElementsAre(by(kFront, lab.answer(n.vip, kFrontMac, n.client, kClientMac))));
  lab.clear();
  lab.hear(lab.question(n.server, kServerMac, n.vip).with(&Frame::from, mac(kServerMac)), kBack);
  EXPECT_THAT(lab.link.sent, IsEmpty());
}

TEST_P(Answers, AreGivenForASnatAddressTowardsTheServers) {
  lab.serve_quietly({.snat = {n.snat}});
  lab.hear(lab.question(n.server, kServerMac, n.snat), kBack);
  EXPECT_THAT(lab.link.sent,
              ElementsAre(by(kBack, lab.answer(n.snat, kBackMac, n.server, kServerMac))));
  lab.clear();
  lab.hear(lab.question(n.client, kClientMac, n.snat), kFront);
  EXPECT_THAT(lab.link.sent, IsEmpty());
}

TEST_P(Answers, AreGivenOnEveryPortForAVipOnNobodysSubnet) {
  lab.serve_quietly({.vips = {n.routed_vip}});
  lab.hear(lab.question(n.client, kClientMac, n.routed_vip), kFront);
  lab.hear(lab.question(n.server, kServerMac, n.routed_vip), kBack);
  EXPECT_THAT(lab.link.sent,
              ElementsAre(by(kFront, lab.answer(n.routed_vip, kFrontMac, n.client, kClientMac)),
                          by(kBack, lab.answer(n.routed_vip, kBackMac, n.server, kServerMac))));
}

TEST_P(Answers, AreNotGivenForAVipBeforeOrAfterItIsServed) {
  lab.hear(lab.question(n.client, kClientMac, n.vip));
  lab.serve_quietly({.vips = {n.vip}});
  lab.serve({});
  lab.hear(lab.question(n.client, kClientMac, n.vip));
  EXPECT_THAT(lab.link.sent, IsEmpty());
  EXPECT_EQ(lab.slow->counters().not_ours, 2u);
}

TEST_P(Answers, AreNotGivenForOthersAddresses) {
  lab.hear(lab.question(n.client, kClientMac, n.gateway));
  EXPECT_THAT(lab.link.sent, IsEmpty());
  EXPECT_THAT(lab.slow->neighbors(), IsEmpty()) << "nor is anything learned from it";
}

TEST_P(Answers, TellAHostThatProbesForOurAddressThatItIsTaken) {
  lab.serve_quietly({.vips = {n.vip}});
  lab.hear(lab.question(n.unspecified, kRogueMac, n.vip));
  const Frame expected = lab.v4() ? lab.answer(n.vip, kFrontMac, n.unspecified, kRogueMac)
                                  : lab.announcement(n.vip, kFrontMac);
  EXPECT_THAT(lab.link.sent, ElementsAre(by(kFront, expected)));
  EXPECT_THAT(lab.slow->neighbors(), IsEmpty()) << "who has no address is no neighbour";
}

TEST_P(Answers, ReachWhoAskedFromAnotherSubnetButItIsNotLearned) {
  lab.hear(lab.question(n.stranger, kClientMac, n.front));
  EXPECT_THAT(
      lab.link.sent,
      ElementsAre(by(kFront, lab.answer(n.front, kFrontMac, n.stranger, kClientMac, true))));
  EXPECT_THAT(lab.slow->neighbors(), IsEmpty());
}

TEST_P(Answers, AreCountedAsLostWhenThereIsNoBuffer) {
  lab.link.dry = true;
  lab.hear(lab.question(n.client, kClientMac, n.front));
  EXPECT_EQ(lab.drops(DropReason::kNoBuffers), 1u);
  EXPECT_EQ(lab.slow->counters().answers, 0u);
}

TEST_P(Answers, CarryTheVlanTagOfTheirPort) {
  Lab tagged(n);
  auto ports = Lab::ports();
  ports[kFront].vlan = 100;
  tagged.start_with(ports);
  tagged.clear();
  tagged.hear(tagged.question(n.client, kClientMac, n.front).with(&Frame::vlan, 100));
  EXPECT_THAT(tagged.link.sent,
              ElementsAre(by(kFront, tagged.answer(n.front, kFrontMac, n.client, kClientMac, true)
                                         .with(&Frame::vlan, 100))));
}

TEST_P(Answers, AreGivenOnThePortItselfWhenAVipIsThePortsAddress) {
  lab.serve_quietly({.vips = {n.front}});
  lab.hear(lab.question(n.client, kClientMac, n.front), kFront);
  EXPECT_THAT(lab.link.sent, SizeIs(1));
  lab.hear(lab.question(n.server, kServerMac, n.front), kBack);
  EXPECT_THAT(lab.link.sent, SizeIs(1));
}

// IPv6 alone: IPv4 has no link-local address a router would ask for, and ARP no missing options.
TEST(AnswersIpv6, AreGivenForTheLinkLocalAddressOfThePortsMac) {
  Lab lab(kNames6);
  lab.start();
  lab.hear(lab.question("fe80::2", kClientMac, kFrontLinkLocal));
  EXPECT_THAT(
      lab.link.sent,
      ElementsAre(by(kFront, lab.answer(kFrontLinkLocal, kFrontMac, "fe80::2", kClientMac, true))));
  lab.clear();
  lab.hear(lab.question("fe80::2", kClientMac, kBackLinkLocal), kFront);
  EXPECT_THAT(lab.link.sent, IsEmpty());
}

TEST(AnswersIpv6, AreGivenForAConfiguredLinkLocalAddressInstead) {
  Lab lab(kNames6);
  auto ports = Lab::ports();
  ports[kFront].addresses.push_back(*net::Prefix::parse("fe80::1/64"));
  lab.start_with(ports);
  lab.pass(seconds(3));
  lab.clear();
  lab.hear(lab.question("fe80::2", kClientMac, "fe80::1"));
  EXPECT_THAT(lab.link.sent, SizeIs(1));
  lab.hear(lab.question("fe80::2", kClientMac, kFrontLinkLocal));
  EXPECT_THAT(lab.link.sent, SizeIs(1));
}

TEST(AnswersIpv6, GoToTheFramesSenderWhenTheQuestionNamesNoMac) {
  Lab lab(kNames6);
  lab.start();
  Frame bare = lab.question_to(kFrontMac, kNames6.client, kClientMac, kNames6.front);
  bare.payload.resize(16);  // the target, without the option
  lab.hear(bare);
  EXPECT_THAT(lab.link.sent, ElementsAre(by(kFront, lab.answer(kNames6.front, kFrontMac,
                                                               kNames6.client, kClientMac, true))));
  EXPECT_THAT(lab.slow->neighbors(), IsEmpty());
}

TEST(AnswersIpv6, AreNotGivenToAGroupsMac) {
  Lab lab(kNames6);
  lab.start();
  lab.hear(lab.question(kNames6.client, "33:33:00:00:00:01", kNames6.front)
               .with(&Frame::from, mac(kClientMac)));
  EXPECT_THAT(lab.link.sent, IsEmpty());
  EXPECT_EQ(lab.drops(DropReason::kMalformed), 1u);
}

TEST(AnswersIpv6, AreNotGivenToRouterSolicitations) {
  Lab lab(kNames6);
  lab.start();
  Frame f = lab.question_to(kFrontMac, "fe80::2", kClientMac, kFrontLinkLocal);
  f.icmp_type = packet::kIcmpv6RouterSolicitation;
  f.payload.clear();
  lab.hear(f);
  EXPECT_THAT(lab.link.sent, IsEmpty());
  EXPECT_EQ(lab.slow->counters().ignored, 1u);
}

// Announcements.

// Frames that left by `port` and announce `address`.
std::size_t announced(const Lab& lab, std::string_view address, std::string_view port_mac,
                      uint8_t port) {
  return static_cast<std::size_t>(
      std::ranges::count(lab.link.sent, by(port, lab.announcement(address, port_mac))));
}

TEST_P(Announcements, OfThePortsAddressesAreMadeAtStartThreeTimesASecondApart) {
  Lab fresh(n);
  fresh.start_with(Lab::ports());
  const std::vector<Sent> round = {by(kFront, fresh.announcement(n.front, kFrontMac, true)),
                                   by(kBack, fresh.announcement(n.back, kBackMac, true))};
  const auto heard = [&] {
    std::size_t count = 0;
    for (const Sent& s : round)
      count += static_cast<std::size_t>(std::ranges::count(fresh.link.sent, s));
    return count;
  };
  EXPECT_EQ(heard(), 0u) << "configure() itself sends nothing";
  fresh.pass(milliseconds(10));
  EXPECT_EQ(heard(), 2u);
  fresh.pass(milliseconds(980));
  EXPECT_EQ(heard(), 2u);
  fresh.pass(milliseconds(20));
  EXPECT_EQ(heard(), 4u);
  fresh.pass(seconds(1));
  EXPECT_EQ(heard(), 6u);
  fresh.pass(seconds(60));
  EXPECT_EQ(heard(), 6u);
}

TEST_P(Announcements, AreMadeThreeTimesWhenAVipBecomesServed) {
  lab.serve({.vips = {n.vip}});
  EXPECT_THAT(lab.link.sent, IsEmpty());
  lab.pass(milliseconds(1));
  EXPECT_THAT(lab.link.sent, ElementsAre(by(kFront, lab.announcement(n.vip, kFrontMac))));
  lab.pass(seconds(10));
  EXPECT_THAT(lab.link.sent, SizeIs(3));
  EXPECT_EQ(announced(lab, n.vip, kFrontMac, kFront), 3u);
}

TEST_P(Announcements, OfASnatAddressGoToItsPort) {
  lab.serve({.snat = {n.snat}});
  lab.pass(milliseconds(1));
  EXPECT_THAT(lab.link.sent, ElementsAre(by(kBack, lab.announcement(n.snat, kBackMac))));
}

TEST_P(Announcements, OfAVipOnNobodysSubnetGoToAllPorts) {
  lab.serve({.vips = {n.routed_vip}});
  lab.pass(seconds(5));
  EXPECT_EQ(announced(lab, n.routed_vip, kFrontMac, kFront), 3u);
  EXPECT_EQ(announced(lab, n.routed_vip, kBackMac, kBack), 3u);
  EXPECT_THAT(lab.link.sent, SizeIs(6));
}

TEST_P(Announcements, AreNotRepeatedForAVipThatWasServedBefore) {
  lab.serve_quietly({.vips = {n.vip}});
  lab.serve({.vips = {n.vip, n.routed_vip}});
  lab.pass(seconds(5));
  EXPECT_EQ(announced(lab, n.vip, kFrontMac, kFront), 0u);
  EXPECT_EQ(announced(lab, n.routed_vip, kFrontMac, kFront), 3u);
}

TEST_P(Announcements, GoOnWhenADocumentComesInBetween) {
  lab.serve({.vips = {n.vip}});
  lab.pass(milliseconds(500));
  lab.serve({.vips = {n.vip}});
  lab.pass(seconds(5));
  EXPECT_EQ(announced(lab, n.vip, kFrontMac, kFront), 3u);
}

TEST_P(Announcements, StopWhenTheVipIsNoLongerServed) {
  lab.serve({.vips = {n.vip}});
  lab.pass(milliseconds(500));
  lab.serve({});
  lab.pass(seconds(5));
  EXPECT_EQ(announced(lab, n.vip, kFrontMac, kFront), 1u);
}

TEST_P(Announcements, AreMadeAnewWhenAVipComesBack) {
  lab.serve_quietly({.vips = {n.vip}});
  lab.serve({});
  lab.serve({.vips = {n.vip}});
  lab.pass(seconds(5));
  EXPECT_EQ(announced(lab, n.vip, kFrontMac, kFront), 3u);
}

TEST_P(Announcements, AreMadeAnewOnAPortWhoseLinkComesUp) {
  lab.serve_quietly({.vips = {n.vip, n.routed_vip}});
  lab.slow->link_up(kFront, lab.now);
  lab.pass(seconds(5));
  EXPECT_EQ(announced(lab, n.vip, kFrontMac, kFront), 3u);
  EXPECT_EQ(announced(lab, n.routed_vip, kFrontMac, kFront), 3u);
  EXPECT_THAT(lab.link.sent, testing::Each(testing::Field(&Sent::port, kFront)));
}

TEST_P(Announcements, OfManyVipsArePaced) {
  std::vector<std::string> texts;
  for (int i = 0; i < 1000; ++i) {
    texts.push_back(lab.v4() ? "198.18." + std::to_string(i / 250) + "." + std::to_string(i % 250)
                             : "2001:db8:1::" + std::to_string(1000 + i));
  }
  Lab::World world;
  world.vips.assign(texts.begin(), texts.end());
  lab.serve(world);
  lab.slow->tick(lab.now);
  EXPECT_THAT(lab.link.sent, SizeIs(SlowPath::kAnnouncementsPerTick));
  lab.slow->tick(lab.now);
  EXPECT_THAT(lab.link.sent, SizeIs(SlowPath::kAnnouncementsPerTick)) << "not before time passes";
  EXPECT_GT(lab.slow->next_deadline(), lab.now);
  lab.pass(milliseconds(100));
  EXPECT_LE(lab.link.sent.size(), 1000u + SlowPath::kAnnouncementsPerTick);
  lab.pass(seconds(10));
  EXPECT_THAT(lab.link.sent, SizeIs(1000 * 2 * 3));
  for (const std::string& text : {texts.front(), texts.back()}) {
    EXPECT_EQ(announced(lab, text, kFrontMac, kFront), 3u);
    EXPECT_EQ(announced(lab, text, kBackMac, kBack), 3u);
  }
}

TEST(AnnouncementsIpv6, OfLinkLocalAddressesAreMadeOnlyWhereIpv6IsConfigured) {
  Lab lab(kNames6);
  auto ports = Lab::ports();
  ports[kBack].addresses = {*net::Prefix::parse("10.2.0.1/24")};
  lab.start_with(ports);
  lab.pass(seconds(3));
  EXPECT_EQ(std::ranges::count(lab.link.sent,
                               by(kFront, lab.announcement(kFrontLinkLocal, kFrontMac, true))),
            3);
  EXPECT_EQ(std::ranges::count(lab.link.sent,
                               by(kBack, lab.announcement(kBackLinkLocal, kBackMac, true))),
            0);
}

TEST(AnnouncementsIpv6, OfOneLinkLocalAddressOnTwoVlansGoToBoth) {
  Lab lab(kNames6);
  auto ports = Lab::ports();
  ports[kBack].mac = ports[kFront].mac;
  ports[kBack].vlan = 200;
  lab.start_with(ports);
  lab.pass(milliseconds(10));
  const Frame plain = lab.announcement(kFrontLinkLocal, kFrontMac, true);
  EXPECT_EQ(std::ranges::count(lab.link.sent, by(kFront, plain)), 1);
  EXPECT_EQ(std::ranges::count(lab.link.sent, by(kBack, plain.with(&Frame::vlan, 200))), 1);
}

// Conflicts.

TEST_P(Conflicts, AreReportedAndTheAddressIsDefended) {
  lab.serve_quietly({.vips = {n.vip}});
  lab.hear(lab.announcement(n.vip, kRogueMac));
  EXPECT_THAT(lab.link.events, ElementsAre("ADDRESS_CONFLICT " + std::string(n.vip) +
                                           ": 02:00:00:00:66:66 on port front uses it too"));
  EXPECT_THAT(lab.link.sent, ElementsAre(by(kFront, lab.announcement(n.vip, kFrontMac))));
  EXPECT_EQ(lab.slow->counters().conflicts, 1u);
}

TEST_P(Conflicts, AreSeenInAnswersAndQuestionsToo) {
  lab.hear(lab.answer(n.front, kRogueMac, n.gateway, kFrontMac));
  EXPECT_EQ(lab.slow->counters().conflicts, 1u);
  lab.hear(lab.question(n.front, kRogueMac, n.gateway));
  EXPECT_EQ(lab.slow->counters().conflicts, 2u);
}

TEST_P(Conflicts, AreDefendedAtMostEveryTenSeconds) {
  for (int i = 0; i < 100; ++i) {
    lab.hear(lab.announcement(n.front, kRogueMac));
    lab.pass(milliseconds(99));
  }
  EXPECT_THAT(lab.link.events, SizeIs(1));
  EXPECT_THAT(lab.link.sent, SizeIs(1));
  EXPECT_EQ(lab.slow->counters().conflicts, 100u);
  lab.pass(milliseconds(100));
  lab.hear(lab.announcement(n.front, kRogueMac));
  EXPECT_THAT(lab.link.events, SizeIs(2));
  EXPECT_THAT(lab.link.sent, SizeIs(2));
}

TEST_P(Conflicts, OfTwoAddressesAreDefendedEach) {
  lab.serve_quietly({.vips = {n.vip}});
  lab.hear(lab.announcement(n.front, kRogueMac));
  lab.hear(lab.announcement(n.vip, kRogueMac));
  EXPECT_THAT(lab.link.events, SizeIs(2));
}

TEST_P(Conflicts, TeachNothingSoASpoofedVipHasNoEffect) {
  lab.serve_quietly({.vips = {n.vip}});
  lab.hear(lab.announcement(n.vip, kRogueMac));
  lab.hear(lab.answer(n.vip, kRogueMac, n.front, kFrontMac));
  lab.hear(lab.question(n.vip, kRogueMac, n.front));
  EXPECT_THAT(lab.slow->neighbors(), IsEmpty());
  EXPECT_THAT(lab.link.told, IsEmpty());
  lab.clear();
  lab.hear(lab.question(n.client, kClientMac, n.vip));
  EXPECT_THAT(lab.link.sent,
              ElementsAre(by(kFront, lab.answer(n.vip, kFrontMac, n.client, kClientMac))));
}

TEST_P(Conflicts, OfAnotherPortsAddressAreReportedButNotDefendedThere) {
  lab.hear(lab.announcement(n.back, kRogueMac), kFront);
  EXPECT_THAT(lab.link.events, SizeIs(1));
  EXPECT_THAT(lab.link.sent, IsEmpty());
}

TEST_P(Conflicts, AreNotSeenInOurOwnFramesComingBack) {
  lab.serve_quietly({.vips = {n.vip}});
  lab.hear(lab.announcement(n.vip, kFrontMac), kFront);
  lab.hear(lab.announcement(n.front, kFrontMac), kBack);
  EXPECT_THAT(lab.link.events, IsEmpty());
  EXPECT_EQ(lab.slow->counters().own_heard, 2u);
}

TEST_P(Conflicts, MakeANeighbourForgottenWhenItsAddressBecomesOurs) {
  lab.hear(lab.question(n.client, kClientMac, n.front));
  ASSERT_EQ(lab.state(n.client, kFront), "STALE 02:00:00:00:00:c1");
  lab.need(n.client, kFront);
  lab.clear();
  lab.serve({.vips = {n.client}});
  EXPECT_EQ(lab.state(n.client, kFront), "");
  EXPECT_THAT(lab.link.told, ElementsAre("0 " + std::string(n.client) + " gone"));
}

TEST_P(Conflicts, LeavePacketsToOurOwnAddressesNowhereToGo) {
  lab.serve_quietly({.vips = {n.vip}});
  lab.need(n.vip, kFront);
  EXPECT_EQ(lab.drops(DropReason::kNoNeighbor), 1u);
  EXPECT_THAT(lab.link.sent, IsEmpty());
}

SLOWPATH_BOTH_FAMILIES(Answers);
SLOWPATH_BOTH_FAMILIES(Announcements);
SLOWPATH_BOTH_FAMILIES(Conflicts);

}  // namespace
}  // namespace limpet::slowpath
