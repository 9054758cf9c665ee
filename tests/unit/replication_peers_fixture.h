// ReplicationPeers: one engine's homes and what a peer tells them. Core 0 is the only home; the
// timeout T is 300 s, so R is 150 s.
#pragma once

#include <gtest/gtest.h>

#include "tests/unit/replication_lab.h"

namespace limpet::replication {

using binding::Change;
using binding::Merge;
using binding::Record;
using binding::Source;
using binding::Stamp;
using binding::Told;
using timing::milliseconds;
using timing::seconds;
using Lab = ReplicationLab;

inline constexpr Source kPeer{binding::PeerIndex{3}, binding::SessionNumber{7}};
inline constexpr timing::Duration kT = seconds(300);
inline constexpr timing::Duration kR = seconds(150);
inline constexpr uint32_t kOurRank = 1;
inline constexpr uint32_t kPeersNode = binding::Maker{.rank = 2}.number();

class ReplicationPeers : public testing::Test {
 protected:
  explicit ReplicationPeers(uint32_t limit = 1024, bool push = true) : lab(options(limit, push)) {
    lab.scope().mirrored = true;
    lab.publish_to_all();
    lab.news(0);
  }

  static Lab::Options options(uint32_t limit, bool push) {
    Lab::Options o;
    o.push = push;
    o.limit = limit;
    o.rank = kOurRank;
    o.peers = true;
    return o;
  }

  static Key key(uint32_t n = 1) { return Lab::key(n); }
  persist::Activity& activity(uint32_t n = 1) {
    return lab.at(0).table().activity(*lab.record(key(n)));
  }
  Record ours(uint32_t n = 1) { return lab.at(0).record_of(*lab.record(key(n))); }

  // A stamp of the peer's at a moment.
  static Stamp stamp(Instant at) {
    binding::StampClock clock(kPeersNode);
    return clock.at(Lab::kWallOrigin + timing::Duration{at.ns}, {});
  }
  Record live(uint32_t server, Instant created, bool held, Instant act_at) {
    return {.stamp = stamp(created),
            .held = held,
            .server = lab.id(server),
            .first = lab.id(server),
            .act = stamp(act_at)};
  }
  // A peer's news, merged; time stands still.
  void merge(const Record& record, Instant act_at, uint32_t n = 1, const Source& source = kPeer) {
    ASSERT_TRUE(lab.rings.merges[0].push({.source = source,
                                          .scope = lab.scope().slot,
                                          .version = lab.version(),
                                          .key = key(n),
                                          .record = record,
                                          .act_at = act_at}));
    lab.settle();
  }
  void order(Merge::Kind kind, Stamp deleted, uint32_t n = 1) {
    ASSERT_TRUE(lab.rings.merges[0].push({.kind = kind,
                                          .source = kPeer,
                                          .scope = lab.scope().slot,
                                          .version = lab.version(),
                                          .key = key(n),
                                          .record = {.deleted = deleted}}));
    lab.settle();
  }
  // The only news there is.
  Change the_news() {
    const auto all = lab.news(0);
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? Change{} : all.back();
  }
  // A client of core 1 with an open connection, announced.
  void hold(uint32_t n = 1, uint32_t core = 1) {
    lab.bind_confirmed(core, key(n));
    lab.open(core, key(n));
    lab.news(0);
  }
  // The same of its home, and nobody else has a copy.
  void hold_at_home(uint32_t n = 1) {
    persist::Entry* record = lab.create(0, key(n)).entry;
    ASSERT_NE(record, nullptr);
    lab.at(0).confirm(*record);
    lab.open(0, key(n));
    lab.news(0);
  }
  // A peer holds what we hold, too.
  void hold_elsewhere_after(timing::Duration by) {
    Record theirs = ours();
    pass(by);
    theirs.act = stamp(lab.now);
    merge(theirs, lab.now);
  }
  void pass(timing::Duration by) {
    lab.pass(by);
    lab.settle();
  }
  bool gone(uint32_t n = 1) { return lab.record(key(n)) == nullptr; }
  bool is_husk(uint32_t n = 1) { return !gone(n) && lab.record(key(n))->husk; }

  Lab lab;
};

}  // namespace limpet::replication
