// Next hops: resolved, kept fresh, forgotten, and what waits for them.
#include <gmock/gmock.h>

#include <algorithm>

#include "common/base/limits.h"
#include "tests/unit/slowpath_lab.h"

namespace limpet::slowpath {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class NeighborTest : public SlowPathTest {
 protected:
  // "Who has the server?" as the back port asks it, everybody or the server alone.
  Sent asked() const { return by(kBack, lab.question(n.back, kBackMac, n.server)); }
  Sent probed(std::string_view to_mac = kServerMac) const {
    return by(kBack, lab.question_to(to_mac, n.back, kBackMac, n.server));
  }
  // The server answers, or says something of its own accord.
  void answer(std::string_view with = kServerMac) {
    lab.hear(lab.answer(n.server, with, n.back, kBackMac), kBack);
  }
  void announce(std::string_view with) { lab.hear(lab.announcement(n.server, with), kBack); }
  std::string reachable(std::string_view with = kServerMac) const {
    return "REACHABLE " + std::string(with);
  }
  std::string told(std::string_view what) const {
    return "1 " + std::string(n.server) + " " + std::string(what);
  }
  // The server is a next hop of the document and has answered.
  void pin_server() {
    lab.serve({.servers = {n.server}});
    lab.pass(milliseconds(1));
    answer();
    lab.clear();
  }
  // The server is known because a packet needed it.
  void use_server() {
    lab.need(n.server);
    answer();
    lab.clear();
  }
};

class Resolution : public NeighborTest {};
class Pinned : public NeighborTest {};
class Unpinned : public NeighborTest {};
class Learning : public NeighborTest {};
class Static : public NeighborTest {};
class Table : public NeighborTest {};

// Resolution of what packets need.

TEST_P(Resolution, AsksAtOnceAndSendsThePacketWhenTheAnswerComes) {
  lab.need(n.server);
  EXPECT_THAT(lab.link.sent, ElementsAre(asked()));
  EXPECT_EQ(lab.state(n.server), "INCOMPLETE");
  EXPECT_THAT(lab.link.told, IsEmpty());
  lab.clear();
  answer();
  EXPECT_THAT(lab.link.sent, ElementsAre(lab.data_to(kServerMac)));
  EXPECT_THAT(lab.link.told, ElementsAre(told(kServerMac)));
  EXPECT_EQ(lab.state(n.server), reachable());
}

TEST_P(Resolution, SendsWhatWaitedInOrder) {
  for (auto payload : {"one", "two", "three"}) lab.need(n.server, kBack, payload);
  EXPECT_THAT(lab.link.sent, ElementsAre(asked())) << "one question for all";
  EXPECT_EQ(lab.slow->frames_waiting(), 3u);
  lab.clear();
  answer();
  EXPECT_THAT(lab.link.sent, ElementsAre(lab.data_to(kServerMac, kBack, "one"),
                                         lab.data_to(kServerMac, kBack, "two"),
                                         lab.data_to(kServerMac, kBack, "three")));
  EXPECT_EQ(lab.slow->frames_waiting(), 0u);
}

TEST_P(Resolution, SendsAtOnceWhatAWorkerPuntedBeforeItHeardOfTheAnswer) {
  use_server();
  lab.need(n.server);
  EXPECT_THAT(lab.link.sent, ElementsAre(lab.data_to(kServerMac)));
  EXPECT_THAT(lab.link.told, IsEmpty());
}

TEST_P(Resolution, AsksThreeTimesASecondApartThenDropsWhatWaited) {
  lab.need(n.server);
  lab.need(n.server);
  lab.pass(milliseconds(2999));
  EXPECT_THAT(lab.link.sent, ElementsAre(asked(), asked(), asked()));
  EXPECT_EQ(lab.drops(DropReason::kNoNeighbor), 0u);
  lab.pass(milliseconds(1));
  EXPECT_EQ(lab.drops(DropReason::kNoNeighbor), 2u);
  EXPECT_EQ(lab.state(n.server), "");
  EXPECT_EQ(lab.slow->counters().failed, 1u);
  EXPECT_EQ(lab.slow->next_deadline(), Instant::never());
}

TEST_P(Resolution, TakesAnAnswerToTheLastTry) {
  lab.need(n.server);
  lab.pass(milliseconds(2999));
  lab.clear();
  answer();
  EXPECT_THAT(lab.link.sent, ElementsAre(lab.data_to(kServerMac)));
}

TEST_P(Resolution, StartsAnewForAPacketAfterAFailure) {
  lab.need(n.server);
  lab.pass(seconds(4));
  lab.clear();
  lab.need(n.server);
  EXPECT_THAT(lab.link.sent, ElementsAre(asked()));
}

TEST_P(Resolution, KeepsTheNewestSixteenPackets) {
  for (int i = 0; i < 20; ++i) lab.need(n.server, kBack, std::to_string(i));
  EXPECT_EQ(lab.drops(DropReason::kNeighborQueueFull), 4u);
  EXPECT_EQ(lab.slow->frames_waiting(), NeighborCache::kFramesPerNeighbor);
  lab.clear();
  answer();
  ASSERT_THAT(lab.link.sent, SizeIs(16));
  EXPECT_EQ(lab.link.sent.front(), lab.data_to(kServerMac, kBack, "4"));
  EXPECT_EQ(lab.link.sent.back(), lab.data_to(kServerMac, kBack, "19"));
}

TEST_P(Resolution, KeepsAThousandPacketsInAll) {
  for (int host = 1; host <= 65; ++host) {
    const std::string hop =
        lab.v4() ? "10.2.0." + std::to_string(100 + host) : "fd00:2::" + std::to_string(100 + host);
    for (int i = 0; i < 16; ++i) lab.need(hop);
  }
  EXPECT_EQ(lab.slow->frames_waiting(), NeighborCache::kFramesMax);
  EXPECT_EQ(lab.drops(DropReason::kNeighborQueueFull), 16u);
  lab.pass(seconds(4));
  EXPECT_EQ(lab.slow->frames_waiting(), 0u);
  EXPECT_EQ(lab.drops(DropReason::kNoNeighbor), 1024u);
}

TEST_P(Resolution, IsByPort) {
  lab.need(n.server, kFront);
  answer();  // on the back
  EXPECT_EQ(lab.state(n.server, kFront), "INCOMPLETE");
  EXPECT_EQ(lab.slow->counters().unsolicited, 1u);
}

TEST_P(Resolution, AsksOffTheSubnetWithoutAnAddressOfAnotherSubnet) {
  lab.need(n.stranger, kBack);
  EXPECT_THAT(
      lab.link.sent,
      ElementsAre(
          by(kBack, lab.question(lab.v4() ? "0.0.0.0" : kBackLinkLocal, kBackMac, n.stranger)
                        .with(&Frame::source, address(lab.v4() ? "0.0.0.0" : kBackLinkLocal)))));
  lab.clear();
  lab.hear(lab.answer(n.stranger, kServerMac, lab.v4() ? "0.0.0.0" : kBackLinkLocal, kBackMac),
           kBack);
  EXPECT_THAT(lab.link.sent, ElementsAre(lab.data_to(kServerMac)));
}

TEST_P(Resolution, UsesThePortsVlan) {
  Lab tagged(n);
  auto ports = Lab::ports();
  ports[kBack].vlan = 7;
  tagged.start_with(ports);
  tagged.pass(seconds(3));
  tagged.clear();
  tagged.need(n.server);
  tagged.hear(tagged.answer(n.server, kServerMac, n.back, kBackMac).with(&Frame::vlan, 7), kBack);
  EXPECT_THAT(
      tagged.link.sent,
      ElementsAre(by(kBack, tagged.question(n.back, kBackMac, n.server).with(&Frame::vlan, 7)),
                  by(kBack, tagged.data()
                                .with(&Frame::to, mac(kServerMac))
                                .with(&Frame::from, mac(kBackMac))
                                .with(&Frame::vlan, 7))));
}

TEST_P(Resolution, OfAGroupOrNobodyIsRefused) {
  lab.need(lab.v4() ? "224.0.0.1" : "ff02::1");
  lab.need(lab.v4() ? "255.255.255.255" : "::1");
  EXPECT_EQ(lab.drops(DropReason::kNoNeighbor), 2u);
  EXPECT_THAT(lab.link.sent, IsEmpty());
}

TEST_P(Resolution, TriesOnWhenThereWasNoBufferToAsk) {
  lab.link.dry = true;
  lab.need(n.server);
  EXPECT_EQ(lab.drops(DropReason::kNoBuffers), 1u);
  lab.link.dry = false;
  lab.pass(seconds(1));
  EXPECT_THAT(lab.link.sent, ElementsAre(asked()));
}

TEST_P(Resolution, ReleasesWhatWaitsWhenTheEngineStops) {
  lab.need(n.server);
  EXPECT_EQ(lab.link.pool.in_use(), 1u);
  lab.slow.reset();
  EXPECT_EQ(lab.link.pool.in_use(), 0u);
}

TEST_P(Resolution, OfManyHopsAtOnceIsPaced) {
  for (int host = 0; host < 100; ++host)
    lab.need(lab.v4() ? "10.2.0." + std::to_string(100 + host)
                      : "fd00:2::" + std::to_string(100 + host));
  EXPECT_THAT(lab.link.sent, SizeIs(NeighborCache::kQuestionBurst));
  lab.pass(milliseconds(10));
  EXPECT_THAT(lab.link.sent, SizeIs(100));
}

// Next hops of the document.

TEST_P(Pinned, AreAskedForBeforeAPacketNeedsThem) {
  lab.serve({.servers = {n.server, n.server}, .gateways = {n.gateway}});
  EXPECT_THAT(lab.link.sent, IsEmpty());
  lab.pass(milliseconds(1));
  EXPECT_THAT(lab.link.sent,
              ElementsAre(by(kFront, lab.question(n.front, kFrontMac, n.gateway)), asked()));
  answer();
  EXPECT_THAT(lab.link.told, ElementsAre(told(kServerMac)));
}

TEST_P(Pinned, AreNotAskedForAgainByTheNextDocument) {
  pin_server();
  lab.serve({.servers = {n.server, n.other_server}});
  lab.pass(milliseconds(1));
  EXPECT_THAT(lab.link.sent,
              ElementsAre(by(kBack, lab.question(n.back, kBackMac, n.other_server))));
}

TEST_P(Pinned, AreAskedAloneEveryThirtySeconds) {
  pin_server();
  lab.pass(milliseconds(29'999));
  EXPECT_THAT(lab.link.sent, IsEmpty());
  lab.pass(milliseconds(1));
  EXPECT_THAT(lab.link.sent, ElementsAre(probed()));
  EXPECT_EQ(lab.state(n.server), "PROBE 02:00:00:00:02:02");
  answer();
  EXPECT_EQ(lab.state(n.server), reachable());
  lab.pass(milliseconds(29'999));
  EXPECT_THAT(lab.link.sent, SizeIs(1));
  lab.pass(milliseconds(1));
  EXPECT_THAT(lab.link.sent, SizeIs(2));
  EXPECT_THAT(lab.link.told, IsEmpty()) << "nothing changed for the workers";
}

TEST_P(Pinned, StayUsableWhileTheyAreProbed) {
  pin_server();
  lab.pass(milliseconds(31'500));
  lab.clear();
  lab.need(n.server);
  EXPECT_THAT(lab.link.sent, ElementsAre(lab.data_to(kServerMac)));
}

TEST_P(Pinned, AreTakenFromTheWorkersAfterThreeMisses) {
  pin_server();
  lab.pass(milliseconds(32'999));
  EXPECT_THAT(lab.link.sent, ElementsAre(probed(), probed(), probed()));
  EXPECT_THAT(lab.link.told, IsEmpty());
  lab.pass(milliseconds(1));
  EXPECT_THAT(lab.link.told, ElementsAre(told("gone")));
  EXPECT_EQ(lab.state(n.server), "UNREACHABLE");
}

TEST_P(Pinned, AreAskedForEveryThreeSecondsWhileTheyAreUnreachable) {
  pin_server();
  lab.pass(milliseconds(33'000));
  lab.clear();
  lab.pass(seconds(30));
  EXPECT_THAT(lab.link.sent, SizeIs(10));
  EXPECT_THAT(lab.link.sent, Each(asked()));
  lab.clear();
  answer();
  EXPECT_THAT(lab.link.told, ElementsAre(told(kServerMac)));
  EXPECT_EQ(lab.state(n.server), reachable());
}

TEST_P(Pinned, AreAskedForAtOnceWhenAPacketNeedsAnUnreachableOne) {
  pin_server();
  lab.pass(milliseconds(33'500));
  lab.clear();
  lab.need(n.server);
  EXPECT_THAT(lab.link.sent, ElementsAre(asked()));
  lab.pass(seconds(3));
  EXPECT_EQ(lab.drops(DropReason::kNoNeighbor), 1u);
  EXPECT_EQ(lab.state(n.server), "UNREACHABLE");
}

TEST_P(Pinned, AreAskedForAtMostOnceASecondWhateverPacketsCome) {
  lab.serve({.servers = {n.server}});
  for (int i = 0; i < 200; ++i) {
    lab.need(n.server);
    lab.pass(milliseconds(50));
  }
  EXPECT_LE(lab.link.sent.size(), 11u) << "in ten seconds, both ends counted";
  EXPECT_THAT(lab.link.sent, Each(asked()));
}

TEST_P(Pinned, ThatAreUnreachableAreForgottenWhenTheDocumentDropsThem) {
  lab.serve({.servers = {n.server}});
  lab.pass(seconds(5));
  lab.serve({});
  EXPECT_EQ(lab.state(n.server), "");
  EXPECT_EQ(lab.slow->next_deadline(), Instant::never());
}

TEST_P(Pinned, ThatAreReachableAgeLikeOthersWhenTheDocumentDropsThem) {
  pin_server();
  lab.serve({});
  EXPECT_EQ(lab.state(n.server), reachable());
  EXPECT_THAT(lab.link.told, IsEmpty());
  lab.pass(seconds(33));
  EXPECT_EQ(lab.state(n.server), "") << "no answer to the probes";
  EXPECT_THAT(lab.link.told, ElementsAre(told("gone")));
}

TEST_P(Pinned, ThatWereOnlyHeardOfAreToldAndProbed) {
  lab.hear(lab.question(n.server, kServerMac, n.back), kBack);
  lab.clear();
  lab.serve({.servers = {n.server}});
  lab.pass(milliseconds(1));
  EXPECT_THAT(lab.link.told, ElementsAre(told(kServerMac)));
  EXPECT_THAT(lab.link.sent, ElementsAre(probed()));
}

TEST_P(Pinned, AreNeverAddressesOfOurs) {
  lab.serve_quietly({.vips = {n.vip}, .servers = {n.vip, n.back}});
  EXPECT_THAT(lab.slow->neighbors(), IsEmpty());
}

TEST_P(Pinned, InThousandsAreAskedForTenInAMillisecond) {
  std::vector<std::string> texts;
  for (int i = 0; i < 2000; ++i)
    texts.push_back(lab.v4() ? "10.2." + std::to_string(1 + i / 250) + "." + std::to_string(i % 250)
                             : "fd00:2::" + std::to_string(10 + i));
  Lab::World world;
  world.servers.assign(texts.begin(), texts.end());
  lab.serve(world);
  lab.slow->tick(lab.now);
  EXPECT_THAT(lab.link.sent, SizeIs(NeighborCache::kActionsPerTick));
  lab.pass(milliseconds(250));
  EXPECT_THAT(lab.link.sent, SizeIs(2000));
}

// Neighbours that only packets named.

TEST_P(Unpinned, AreProbedWhileTheyMayBeInUse) {
  use_server();
  lab.pass(seconds(30));
  EXPECT_THAT(lab.link.sent, ElementsAre(probed()));
  answer();
  EXPECT_EQ(lab.state(n.server), reachable());
  EXPECT_THAT(lab.link.told, IsEmpty());
}

TEST_P(Unpinned, AreForgottenWhenTheyDoNotAnswerTheProbes) {
  use_server();
  lab.pass(seconds(33));
  EXPECT_EQ(lab.state(n.server), "");
  EXPECT_THAT(lab.link.told, ElementsAre(told("gone")));
}

// Lets 30 s pass at a time, the server answering each probe.
void live(Lab& lab, const Names& n, Duration duration) {
  for (const Instant end = lab.now + duration; lab.now < end;) {
    lab.pass(seconds(30));
    lab.hear(lab.answer(n.server, kServerMac, n.back, kBackMac), kBack);
  }
}

TEST_P(Unpinned, AreTakenFromTheWorkersAfterFourMinutesToSeeWhetherTheyAreUsed) {
  use_server();
  live(lab, n, seconds(210));
  EXPECT_THAT(lab.link.told, IsEmpty());
  lab.pass(seconds(30));
  EXPECT_THAT(lab.link.told, ElementsAre(told("gone")));
  EXPECT_EQ(lab.state(n.server), "STALE 02:00:00:00:02:02");
}

TEST_P(Unpinned, AreForgottenAfterFiveMinutesWithoutUse) {
  use_server();
  live(lab, n, seconds(210));
  lab.pass(milliseconds(89'999));
  EXPECT_EQ(lab.state(n.server), "STALE 02:00:00:00:02:02");
  lab.pass(milliseconds(1));
  EXPECT_EQ(lab.state(n.server), "");
  EXPECT_EQ(lab.slow->next_deadline(), Instant::never());
}

TEST_P(Unpinned, ThatAreInUseComeBackWithoutAPacketWaiting) {
  use_server();
  live(lab, n, seconds(210));
  lab.pass(seconds(45));
  lab.clear();
  lab.need(n.server);
  EXPECT_THAT(lab.link.sent, ElementsAre(lab.data_to(kServerMac), probed()));
  EXPECT_THAT(lab.link.told, ElementsAre(told(kServerMac)));
  answer();
  EXPECT_EQ(lab.state(n.server), reachable());
}

// What is learned, from whom.

TEST_P(Learning, FromWhoAsksUsMakesItStaleAndTellsNoWorker) {
  lab.hear(lab.question(n.server, kServerMac, n.back), kBack);
  EXPECT_EQ(lab.state(n.server), "STALE 02:00:00:00:02:02");
  EXPECT_THAT(lab.link.told, IsEmpty());
}

TEST_P(Learning, FromWhoAsksUsLetsAPacketGoAtOnceAndProbes) {
  lab.hear(lab.question(n.server, kServerMac, n.back), kBack);
  lab.clear();
  lab.need(n.server);
  EXPECT_THAT(lab.link.sent, ElementsAre(lab.data_to(kServerMac), probed()));
  EXPECT_THAT(lab.link.told, ElementsAre(told(kServerMac)));
  EXPECT_EQ(lab.state(n.server), "PROBE 02:00:00:00:02:02");
}

TEST_P(Learning, FromWhoAsksUsIsForgottenFiveMinutesAfterItAskedLast) {
  lab.hear(lab.question(n.server, kServerMac, n.back), kBack);
  lab.pass(seconds(200));
  lab.hear(lab.question(n.server, kServerMac, n.back), kBack);
  lab.pass(milliseconds(299'999));
  EXPECT_NE(lab.state(n.server), "");
  lab.pass(milliseconds(1));
  EXPECT_EQ(lab.state(n.server), "");
}

TEST_P(Learning, FromWhoAsksUsAnswersWhatWaitsForIt) {
  lab.need(n.server);
  lab.clear();
  lab.hear(lab.question(n.server, kServerMac, n.back), kBack);
  EXPECT_EQ(std::ranges::count(lab.link.sent, lab.data_to(kServerMac)), 1);
  EXPECT_THAT(lab.link.told, ElementsAre(told(kServerMac)));
  EXPECT_EQ(lab.state(n.server), "PROBE 02:00:00:00:02:02") << "it is asked to confirm";
}

TEST_P(Learning, FromWhoAsksUsWithANewMacMovesItAndProbes) {
  pin_server();
  lab.pass(seconds(2));
  lab.hear(lab.question(n.server, kRogueMac, n.back), kBack);
  EXPECT_THAT(lab.link.told, ElementsAre(told(kRogueMac)));
  EXPECT_EQ(std::ranges::count(lab.link.sent, probed(kRogueMac)), 1);
}

TEST_P(Learning, DoesNotHappenFromAnswersNobodyAskedFor) {
  answer();
  EXPECT_THAT(lab.slow->neighbors(), IsEmpty());
  EXPECT_EQ(lab.slow->counters().unsolicited, 1u);
}

TEST_P(Learning, DoesNotHappenFromAnnouncementsOfUnknownNeighbours) {
  announce(kServerMac);
  EXPECT_THAT(lab.slow->neighbors(), IsEmpty());
  EXPECT_EQ(lab.slow->counters().unsolicited, 1u);
}

TEST_P(Learning, FromAnAnnouncementMovesAKnownNeighbourAtOnceAndProbesIt) {
  pin_server();
  lab.pass(seconds(2));
  announce(kRogueMac);
  EXPECT_THAT(lab.link.told, ElementsAre(told(kRogueMac)));
  EXPECT_THAT(lab.link.sent, ElementsAre(probed(kRogueMac)));
  EXPECT_EQ(lab.state(n.server), "PROBE " + std::string(kRogueMac));
}

TEST_P(Learning, FromAnAnnouncementOfTheSameMacChangesNothing) {
  pin_server();
  lab.pass(seconds(2));
  announce(kServerMac);
  EXPECT_THAT(lab.link.sent, IsEmpty());
  EXPECT_EQ(lab.state(n.server), reachable());
}

TEST_P(Learning, FromAnUnaskedAnswerIsNoMoreThanAnAnnouncement) {
  pin_server();
  lab.pass(seconds(2));
  answer(kRogueMac);
  EXPECT_EQ(lab.state(n.server), "PROBE " + std::string(kRogueMac));
  EXPECT_THAT(lab.link.sent, ElementsAre(probed(kRogueMac)));
}

TEST_P(Learning, AProbeIsAnsweredByTheNewMac) {
  pin_server();
  lab.pass(seconds(30));
  answer(kRogueMac);
  EXPECT_EQ(lab.state(n.server), reachable(kRogueMac));
  EXPECT_THAT(lab.link.told, ElementsAre(told(kRogueMac)));
}

TEST_P(Learning, OfFlappingMacsProbesAtMostOnceASecond) {
  pin_server();
  lab.pass(seconds(2));
  for (int i = 0; i < 50; ++i) {
    announce(i % 2 == 0 ? kRogueMac : kServerMac);
    lab.pass(milliseconds(10));
  }
  EXPECT_THAT(lab.link.sent, SizeIs(1));
}

TEST_P(Learning, AnAnnouncementWhileAskedSendsWhatWaits) {
  lab.need(n.server);
  lab.clear();
  announce(kServerMac);
  EXPECT_EQ(std::ranges::count(lab.link.sent, lab.data_to(kServerMac)), 1);
  EXPECT_EQ(lab.state(n.server), "PROBE 02:00:00:00:02:02");
  lab.clear();
  lab.pass(seconds(1));
  EXPECT_THAT(lab.link.sent, ElementsAre(probed()));
}

// RFC 4861 7.2.5: rules for flags and options that ARP does not have.
class AdvertisementIpv6 : public testing::Test {
 protected:
  AdvertisementIpv6() { lab.start(); }

  void pin_server() {
    lab.serve({.servers = {n.server}});
    lab.pass(milliseconds(1));
    advertise(kServerMac, 0x60);
    lab.pass(seconds(2));
    lab.clear();
  }
  Frame advertisement(std::string_view with, uint8_t flags) const {
    return support::neighbor_advertisement(n.server, n.back, n.server, with, flags)
        .with(&Frame::to, mac(kBackMac));
  }
  void advertise(std::string_view with, uint8_t flags) {
    lab.hear(advertisement(with, flags), kBack);
  }

  const Names& n = kNames6;
  Lab lab{n};
};

TEST_F(AdvertisementIpv6, WithoutOverrideKeepsTheMacButRaisesDoubt) {
  pin_server();
  advertise(kRogueMac, 0x00);
  EXPECT_EQ(lab.state(n.server), "PROBE 02:00:00:00:02:02");
  EXPECT_THAT(lab.link.told, IsEmpty());
  EXPECT_THAT(lab.link.sent,
              ElementsAre(by(kBack, lab.question_to(kServerMac, n.back, kBackMac, n.server))));
}

TEST_F(AdvertisementIpv6, WithoutOverrideIsIgnoredWhileProbing) {
  pin_server();
  lab.pass(seconds(30));
  advertise(kRogueMac, 0x40);
  EXPECT_EQ(lab.state(n.server), "PROBE 02:00:00:00:02:02");
}

TEST_F(AdvertisementIpv6, WithoutOptionResolvesNothing) {
  lab.need(n.server);
  Frame bare = advertisement(kServerMac, 0x60);
  bare.payload.resize(16);
  lab.hear(bare, kBack);
  EXPECT_EQ(lab.state(n.server), "INCOMPLETE");
}

TEST_F(AdvertisementIpv6, WithoutOptionConfirmsAProbe) {
  pin_server();
  lab.pass(seconds(30));
  Frame bare = advertisement(kServerMac, 0x40);
  bare.payload.resize(16);
  lab.hear(bare, kBack);
  EXPECT_EQ(lab.state(n.server), "REACHABLE 02:00:00:00:02:02");
}

TEST_F(AdvertisementIpv6, WithoutOverrideResolvesWhatIsNotKnown) {
  lab.need(n.server);
  advertise(kServerMac, 0x40);
  EXPECT_EQ(lab.state(n.server), "REACHABLE 02:00:00:00:02:02");
}

TEST_F(AdvertisementIpv6, OfALinkLocalRouterIsAskedForWithTheLinkLocalAddress) {
  lab.serve({.gateways = {"fe80::99"}});
  lab.pass(milliseconds(1));
  EXPECT_THAT(lab.link.sent,
              ElementsAre(by(kFront, lab.question(kFrontLinkLocal, kFrontMac, "fe80::99"))));
}

// Routers are fe80::1 more often than not. What is ours on the back may be theirs on the front.
class SharedLinkLocal : public testing::Test {
 protected:
  SharedLinkLocal() { lab.start({{kFront, address(kBackLinkLocal), mac(kRogueMac)}}); }

  Lab lab{kNames6};
  std::string state() { return lab.state(kBackLinkLocal, kFront); }
};

TEST_F(SharedLinkLocal, AStaticNeighbourMayHaveIt) {
  EXPECT_EQ(state(), "STATIC " + std::string(kRogueMac));
}

TEST_F(SharedLinkLocal, ARouterThatHasItIsAskedForAndBelieved) {
  Lab other(kNames6);
  other.start();
  other.serve({.gateways = {kBackLinkLocal}});
  other.pass(milliseconds(1));
  EXPECT_THAT(other.link.sent,
              ElementsAre(by(kFront, other.question(kFrontLinkLocal, kFrontMac, kBackLinkLocal))));
  other.hear(other.answer(kBackLinkLocal, kRogueMac, kFrontLinkLocal, kFrontMac), kFront);
  EXPECT_EQ(other.state(kBackLinkLocal, kFront), "REACHABLE " + std::string(kRogueMac));
  EXPECT_THAT(other.link.events, IsEmpty());
  other.serve({.vips = {kNames6.vip}, .gateways = {kBackLinkLocal}});
  EXPECT_EQ(other.state(kBackLinkLocal, kFront), "REACHABLE " + std::string(kRogueMac));
}

TEST_F(SharedLinkLocal, ANeighbourThatHasItIsAnsweredAndRemembered) {
  Lab other(kNames6);
  other.start();
  other.hear(other.question(kBackLinkLocal, kRogueMac, kFrontLinkLocal), kFront);
  EXPECT_THAT(other.link.sent, SizeIs(1));
  EXPECT_THAT(other.link.events, IsEmpty());
  EXPECT_EQ(other.state(kBackLinkLocal, kFront), "STALE " + std::string(kRogueMac));
  other.clear();
  other.need(kBackLinkLocal, kFront);
  EXPECT_EQ(other.drops(DropReason::kNoNeighbor), 0u);
  other.hear(support::echo_request(kBackLinkLocal, kFrontLinkLocal), kFront);
  EXPECT_EQ(other.drops(DropReason::kMartianSource), 0u);
  EXPECT_EQ(other.slow->counters().echo_replies, 1u);
}

TEST_F(SharedLinkLocal, OnItsOwnLinkItIsOurs) {
  lab.hear(lab.announcement(kBackLinkLocal, kRogueMac), kBack);
  EXPECT_THAT(lab.link.events, SizeIs(1));
  lab.hear(support::echo_request(kBackLinkLocal, "fd00:2::1").with(&Frame::to, mac(kBackMac)),
           kBack);
  EXPECT_EQ(lab.drops(DropReason::kMartianSource), 1u);
}

// Static neighbours.

TEST_P(Static, AreToldAtStartAndNeverAskedFor) {
  Lab fixed(n);
  fixed.start_with(Lab::ports(), {{kBack, address(n.server), mac(kServerMac)}});
  EXPECT_THAT(fixed.link.told, ElementsAre(told(kServerMac)));
  fixed.pass(seconds(3));
  fixed.clear();
  fixed.serve({.servers = {n.server}});
  fixed.pass(seconds(1000));
  EXPECT_THAT(fixed.link.sent, IsEmpty());
  EXPECT_EQ(fixed.state(n.server), "STATIC 02:00:00:00:02:02");
}

TEST_P(Static, DoNotChangeWhateverIsSaid) {
  Lab fixed(n);
  fixed.start({{kBack, address(n.server), mac(kServerMac)}});
  fixed.hear(fixed.answer(n.server, kRogueMac, n.back, kBackMac), kBack);
  fixed.hear(fixed.announcement(n.server, kRogueMac), kBack);
  fixed.hear(fixed.question(n.server, kRogueMac, n.back), kBack);
  EXPECT_EQ(fixed.state(n.server), "STATIC 02:00:00:00:02:02");
  EXPECT_THAT(fixed.link.told, IsEmpty());
  EXPECT_EQ(fixed.slow->counters().static_spoofs, 3u);
}

TEST_P(Static, AreUsedForPackets) {
  Lab fixed(n);
  fixed.start({{kBack, address(n.server), mac(kServerMac)}});
  fixed.need(n.server);
  EXPECT_THAT(fixed.link.sent, ElementsAre(fixed.data_to(kServerMac)));
}

TEST_P(Static, OnAnUnknownPortOrWithAnAddressOfOursAreLeftOut) {
  Lab fixed(n);
  fixed.start({{9, address(n.server), mac(kServerMac)}, {kBack, address(n.back), mac(kServerMac)}});
  EXPECT_THAT(fixed.slow->neighbors(), IsEmpty());
}

// The table's bound. All but `room` places hold next hops of the document.

constexpr std::size_t kStrangers = 20'000;  // hosts from here on are no next hops

std::string host(bool v4, std::size_t i) {
  return v4 ? "10.3." + std::to_string(i / 256) + "." + std::to_string(i % 256)
            : "fd00:3::" + std::to_string(i % 10'000) + ":" + std::to_string(1 + i / 10'000);
}

void start_nearly_full(Lab& lab, std::size_t room) {
  auto ports = Lab::ports();
  ports[kBack].addresses = {*net::Prefix::parse("10.3.255.1/16"),
                            *net::Prefix::parse("fd00:3::ff:ffff/64")};
  lab.start_with(ports);
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < base::kNeighborsMax - room; ++i) texts.push_back(host(lab.v4(), i));
  Lab::World world;
  world.servers.assign(texts.begin(), texts.end());
  lab.serve(world);
  ASSERT_THAT(lab.slow->neighbors(), SizeIs(base::kNeighborsMax - room));
}
std::string stranger(const Lab& lab, std::size_t i) {
  return host(lab.v4(), kStrangers + i);
}
void asks_us(Lab& lab, const std::string& who) {
  lab.hear(lab.question(who, kServerMac, lab.v4() ? "10.3.255.1" : "fd00:3::ff:ffff"), kBack);
}

TEST_P(Table, EvictsTheNeighbourUnusedLongest) {
  Lab full(n);
  start_nearly_full(full, 2);
  asks_us(full, stranger(full, 1));
  asks_us(full, stranger(full, 2));
  full.need(stranger(full, 1));  // used: the second is the oldest now
  asks_us(full, stranger(full, 3));
  EXPECT_NE(full.state(stranger(full, 1)), "");
  EXPECT_EQ(full.state(stranger(full, 2)), "");
  EXPECT_NE(full.state(stranger(full, 3)), "");
  EXPECT_THAT(full.slow->neighbors(), SizeIs(base::kNeighborsMax));
  EXPECT_EQ(full.slow->counters().evicted, 1u);
}

TEST_P(Table, EvictsNothingThatIsPinnedAndRefusesTheRest) {
  Lab full(n);
  start_nearly_full(full, 0);
  full.need(stranger(full, 1));
  asks_us(full, stranger(full, 2));
  EXPECT_EQ(full.drops(DropReason::kNoNeighbor), 1u);
  EXPECT_EQ(full.slow->counters().refused, 2u);
  EXPECT_THAT(full.slow->neighbors(), SizeIs(base::kNeighborsMax));
}

TEST_P(Table, DropsWhatWaitsForAnEvictedNeighbour) {
  Lab full(n);
  start_nearly_full(full, 1);
  full.need(stranger(full, 1));
  EXPECT_EQ(full.slow->frames_waiting(), 1u);
  full.need(stranger(full, 2));
  EXPECT_EQ(full.slow->frames_waiting(), 1u);
  EXPECT_EQ(full.drops(DropReason::kNoNeighbor), 1u);
}

TEST_P(Table, TellsWorkersOfAnEvictedNeighbourThatTheyKnow) {
  Lab full(n);
  start_nearly_full(full, 1);
  asks_us(full, stranger(full, 1));
  full.need(stranger(full, 1));
  full.clear();
  asks_us(full, stranger(full, 2));
  EXPECT_THAT(full.link.told, ElementsAre("1 " + address(stranger(full, 1)).to_string() + " gone"));
}

SLOWPATH_BOTH_FAMILIES(Resolution);
SLOWPATH_BOTH_FAMILIES(Pinned);
SLOWPATH_BOTH_FAMILIES(Unpinned);
SLOWPATH_BOTH_FAMILIES(Learning);
SLOWPATH_BOTH_FAMILIES(Static);
SLOWPATH_BOTH_FAMILIES(Table);

}  // namespace
}  // namespace limpet::slowpath
