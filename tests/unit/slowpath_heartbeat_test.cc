// Heartbeats of other engines: sent as datagrams of the port that faces them, handed on unjudged.
#include <gmock/gmock.h>

#include "tests/unit/slowpath_lab.h"

namespace limpet::slowpath {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

class Heartbeat : public SlowPathTest {
 protected:
  bool send(std::string_view to, std::string_view text = "beat") {
    const std::vector<uint8_t> bytes(text.begin(), text.end());
    return lab.slow->send_heartbeat({kFront, address(to)}, address(to), 9091, bytes, lab.now);
  }
};

TEST_P(Heartbeat, IsADatagramFromThePortsAddress) {
  EXPECT_TRUE(send(n.client));
  // The neighbour is asked for first; then the beat goes.
  lab.pass(milliseconds(10));
  EXPECT_EQ(lab.slow->frames_waiting(), 1u);
  lab.clear();
  lab.hear(lab.answer(n.client, kClientMac, n.front, kFrontMac));
  ASSERT_THAT(lab.link.sent, SizeIs(1));
  Frame expected = support::udp({n.front, 9091, n.client, 9091}, "beat");
  expected.from = mac(kFrontMac);
  expected.to = mac(kClientMac);
  expected.dont_fragment = lab.v4();
  const auto& frame = lab.link.sent[0].frame;
  EXPECT_EQ(support::sums_wrong(frame), "");
  EXPECT_EQ(support::describe(frame), support::describe(expected.build()));
  EXPECT_EQ(lab.slow->counters().heartbeats_sent, 1u);
}

TEST_P(Heartbeat, GoesNotToOurselvesNorWithoutABuffer) {
  EXPECT_FALSE(send(n.back));
  lab.link.dry = true;
  EXPECT_FALSE(send(n.client));
  EXPECT_EQ(lab.drops(DropReason::kNoBuffers), 1u);
  lab.link.dry = false;
}

TEST_P(Heartbeat, ThatComesIsHandedOn) {
  lab.hear(support::udp({n.client, 9091, n.front, 9091}, "beat"));
  EXPECT_THAT(lab.link.heartbeats, ElementsAre(Pair(std::string(n.client), "beat")));
  lab.hear(support::udp({n.client, 9091, n.front, 9091}, ""));
  EXPECT_THAT(lab.link.heartbeats, SizeIs(2));
  EXPECT_THAT(lab.link.sent, IsEmpty());
}

SLOWPATH_BOTH_FAMILIES(Heartbeat);

}  // namespace
}  // namespace limpet::slowpath
