// Listings, deletions and explanations.
#include "tests/unit/engine_lab.h"

namespace limpet::engine {
namespace {

using testing::Contains;
using testing::HasSubstr;

class EntriesTest : public testing::Test {
 protected:
  explicit EntriesTest(const EngineLab::Options& options = {}) : lab(options) {
    EXPECT_TRUE(lab.put(document({.services = 2})));
  }

  api::Outcome<api::EntriesRemoved> remove(const api::EntryFilter& filter) {
    worker::EntryFilter wanted;
    bool nobody = false;
    EXPECT_FALSE(lab.entries.resolve(filter, &wanted, &nobody));
    std::optional<api::Outcome<api::EntriesRemoved>> out;
    lab.deletions.remove(wanted, [&](api::Outcome<api::EntriesRemoved> o) { out = std::move(o); });
    for (int i = 0; i < 4; ++i) lab.settle();
    EXPECT_TRUE(out.has_value()) << "not answered";
    return out.value_or(api::EntriesRemoved{});
  }
  uint64_t removed(const api::EntryFilter& filter) {
    const auto outcome = remove(filter);
    const auto* done = std::get_if<api::EntriesRemoved>(&outcome);
    return done != nullptr ? done->removed : UINT64_MAX;
  }
  static net::Address address(const char* text) { return *net::Address::parse(text); }

  EngineLab lab;
};

TEST_F(EntriesTest, ARowSaysWhoIsBoundWhere) {
  const std::string server = lab.datagram("10.1.0.2");
  const api::EntryPage page = lab.list();
  ASSERT_EQ(page.count, 1u);
  const api::EntryRow& row = page.rows.front();
  EXPECT_EQ(row.virtual_service, "web0");
  EXPECT_EQ(row.pool, "pool0");
  EXPECT_EQ(row.profile, "sticky");
  EXPECT_EQ(row.key, "10.1.0.2");
  EXPECT_EQ(row.server, server + ":80");
  EXPECT_EQ(row.connections, 1u);
  EXPECT_EQ(row.origin, "se1");
  EXPECT_FALSE(row.life_time_s);
}

TEST_F(EntriesTest, ARowWithoutConnectionsSaysHowLongItLives) {
  lab.datagram("10.1.0.2");
  lab.answer();
  lab.advance(timing::seconds(11));  // the flow's idle time is over: so is its connection
  const api::EntryPage page = lab.list();
  ASSERT_EQ(page.count, 1u);
  EXPECT_EQ(page.rows.front().connections, 0u);
  ASSERT_TRUE(page.rows.front().life_time_s);
  EXPECT_LE(*page.rows.front().life_time_s, 60u);
  EXPECT_GE(*page.rows.front().life_time_s, 58u);
}

TEST_F(EntriesTest, WhatIsOverIsNotListedThoughItsHomeHasNotCome) {
  lab.datagram("10.1.0.2");
  lab.answer();
  lab.advance(timing::seconds(11));
  ASSERT_EQ(lab.list().count, 1u);
  lab.clock.advance(timing::seconds(60));  // nobody has a turn
  std::optional<api::Outcome<api::EntryPage>> out;
  lab.entries.list({}, {}, [&](api::Outcome<api::EntryPage> o) { out = std::move(o); });
  lab.entries.tick();
  lab.turn();
  lab.questions.tick();
  ASSERT_TRUE(out);
  EXPECT_EQ(std::get<api::EntryPage>(*out).count, 0u);
}

TEST_F(EntriesTest, WhatAChangedMaskCannotProduceIsNeitherListedNorCounted) {
  lab.datagram("10.1.0.2");
  lab.answer();
  lab.datagram("10.1.0.66");
  lab.answer();
  ASSERT_EQ(lab.list().count, 2u);
  ASSERT_TRUE(lab.put(document({.services = 2, .client_more = R"(, "ip_mask": 26)"})));
  EXPECT_EQ(lab.list().count, 0u);
  EXPECT_EQ(lab.exchange.mirror().size(), 0u);
  lab.datagram("10.1.0.3");
  lab.answer();
  const api::EntryPage page = lab.list();
  ASSERT_EQ(page.count, 1u);
  EXPECT_EQ(page.rows.front().key, "10.1.0.0/26");
  ASSERT_TRUE(lab.put(document({.services = 2, .client_more = R"(, "ip_mask": 28)"})));
  EXPECT_EQ(lab.list().count, 0u);
}

TEST_F(EntriesTest, AMaskThatSaysNothingNewKeepsTheEntries) {
  lab.datagram("10.1.0.2");
  lab.answer();
  ASSERT_TRUE(lab.put(document({.services = 2, .client_more = R"(, "ip_mask": 48)"})));
  EXPECT_EQ(lab.list().count, 1u);
}

TEST_F(EntriesTest, FiltersRestrict) {
  const std::string server = lab.datagram("10.1.0.2");
  lab.datagram("10.1.0.3", "10.1.0.101");
  EXPECT_EQ(lab.list({.virtual_service = "web0"}).count, 1u);
  EXPECT_EQ(lab.list({.pool = "pool1"}).count, 1u);
  EXPECT_EQ(lab.list({.virtual_service = "web0", .pool = "pool1"}).count, 0u);
  EXPECT_EQ(lab.list({.client = address("10.1.0.2")}).count, 1u);
  EXPECT_EQ(lab.list({.client = *net::Prefix::parse("10.1.0.0/16")}).count, 2u);
  EXPECT_EQ(lab.list({.server = api::ServerFilter{address(server.c_str()), 80}}).count, 1u);
  EXPECT_EQ(lab.list({.server = api::ServerFilter{address(server.c_str()), 81}}).count, 0u);
  EXPECT_EQ(lab.list({.tenant = "admin"}).count, 2u);
  EXPECT_EQ(lab.list({.tenant = "other"}).count, 0u);
}

TEST_F(EntriesTest, WhatNobodyIsCalledIsRefused) {
  worker::EntryFilter filter;
  bool nobody = false;
  const auto vs = lab.entries.resolve({.virtual_service = "no"}, &filter, &nobody);
  ASSERT_TRUE(vs);
  EXPECT_EQ(vs->http_status, 404u);
  EXPECT_EQ(vs->errors.front().path, "/query/virtual_service");
  const auto pool = lab.entries.resolve({.pool = "no"}, &filter, &nobody);
  ASSERT_TRUE(pool);
  EXPECT_EQ(pool->errors.front().path, "/query/pool");
}

TEST_F(EntriesTest, PagesShowEachEntryOnce) {
  for (int i = 2; i < 12; ++i) lab.datagram(fmt::format("10.1.0.{}", i));
  std::vector<std::string> keys;
  std::string cursor;
  do {
    const api::EntryPage page = lab.list({}, {.limit = 3, .cursor = cursor});
    EXPECT_EQ(page.count, 10u);
    EXPECT_LE(page.rows.size(), 3u);
    for (const api::EntryRow& row : page.rows) keys.push_back(row.key);
    cursor = page.next.value_or("");
    lab.advance(timing::milliseconds(1));
    lab.datagram(fmt::format("10.1.1.{}", keys.size()));  // later ones do not come into it
  } while (!cursor.empty());
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(keys.size(), 10u);
  EXPECT_EQ(std::adjacent_find(keys.begin(), keys.end()), keys.end());
}

TEST_F(EntriesTest, ACursorThatNobodyGaveOutIsRefused) {
  std::optional<api::Outcome<api::EntryPage>> out;
  lab.entries.list({}, {.limit = 1, .cursor = "1.2"},
                   [&](api::Outcome<api::EntryPage> o) { out = std::move(o); });
  ASSERT_TRUE(out && std::holds_alternative<api::Refusal>(*out));
  EXPECT_EQ(std::get<api::Refusal>(*out).errors.front().path, "/query/cursor");
}

// --- deletions
// ------------------------------------------------------------------------------------

// The same address on another port is another client.
TEST_F(EntriesTest, ALinkLocalClientIsNamedWithItsPort) {
  std::string text = document();
  for (const auto& [v4, v6] :
       {std::pair{"10.1.0.100", "fd00:1::100"}, {"10.2.0.", "fd00:2::"}, {"\"V4\"", "\"V6\""}}) {
    for (std::size_t at; (at = text.find(v4)) != std::string::npos;)
      text.replace(at, std::string_view(v4).size(), v6);
  }
  ASSERT_TRUE(lab.put(text));
  const std::string server = lab.datagram("fe80::2", "fd00:1::100");
  const api::EntryPage page = lab.list();
  ASSERT_EQ(page.count, 1u);
  EXPECT_EQ(page.rows.front().key, "fe80::2%1");
  EXPECT_EQ(page.rows.front().server, "[" + server + "]:80");

  const auto client = [](const char* zoned) {
    return api::EntryFilter{.client = *net::Address::parse_zoned(zoned)};
  };
  EXPECT_EQ(lab.list(client("fe80::2%2")).count, 0u);
  EXPECT_EQ(lab.list(client("fe80::2%1")).count, 1u);
  EXPECT_EQ(lab.list({.client = *net::Prefix::parse_zoned("fe80::%1/64")}).count, 1u);
  EXPECT_EQ(lab.list({.client = *net::Prefix::parse_zoned("fe80::/10")}).count, 1u);
  std::optional<api::Outcome<api::Explanation>> out;
  lab.explainer.explain(
      {.virtual_service = "web0", .client = *net::Address::parse_zoned("fe80::2%1")},
      [&](api::Outcome<api::Explanation> o) { out = std::move(o); });
  lab.settle();
  ASSERT_TRUE(out && std::holds_alternative<api::Explanation>(*out));
  EXPECT_EQ(std::get<api::Explanation>(*out).client, "fe80::2%1");
  EXPECT_EQ(std::get<api::Explanation>(*out).reason, "entry");
  EXPECT_EQ(removed(client("fe80::2%2")), 0u);
  EXPECT_EQ(removed(client("fe80::2%1")), 1u);
}

TEST_F(EntriesTest, ADeletionOfAClientLeavesTheOthers) {
  lab.datagram("10.1.0.2");
  lab.datagram("10.1.0.3");
  EXPECT_EQ(removed({.client = address("10.1.0.2")}), 1u);
  const api::EntryPage left = lab.list();
  ASSERT_EQ(left.count, 1u);
  EXPECT_EQ(left.rows.front().key, "10.1.0.3");
}

TEST_F(EntriesTest, ADeletionOfAVirtualServiceLeavesTheOthers) {
  lab.datagram("10.1.0.2");
  lab.datagram("10.1.0.2", "10.1.0.101");
  EXPECT_EQ(removed({.virtual_service = "web1"}), 1u);
  EXPECT_EQ(lab.list().count, 1u);
}

// What a worker receives after the answer it judges without the binding (R2).
TEST_F(EntriesTest, ADeletionIsAnsweredWhenEveryCoreHasBegunAnotherTurn) {
  lab.datagram("10.1.0.2");
  worker::EntryFilter wanted;
  bool nobody = false;
  ASSERT_FALSE(lab.entries.resolve({}, &wanted, &nobody));
  bool answered = false;
  lab.deletions.remove(wanted, [&](const auto&) { answered = true; });
  lab.turn();
  lab.questions.tick();  // homes have done it
  lab.deletions.tick();
  EXPECT_FALSE(answered);
  lab.turn(0);
  lab.deletions.tick();
  EXPECT_FALSE(answered);
  lab.turn(1);
  lab.deletions.tick();
  EXPECT_TRUE(answered);
}

class WithPeerTest : public EntriesTest {
 protected:
  WithPeerTest() : EntriesTest({.peers = {"se2"}}) {}
};

TEST_F(WithPeerTest, ARowTellsOfALastCloseThatPeersHaveNotHeardOf) {
  lab.datagram("10.1.0.2");
  lab.answer();
  lab.clock.advance(timing::seconds(11));  // the flow's idle time is over
  lab.turn();
  const api::EntryPage page = lab.list();
  ASSERT_EQ(page.count, 1u);
  EXPECT_EQ(page.rows.front().connections, 0u);
  ASSERT_TRUE(page.rows.front().life_time_s);
  EXPECT_LE(*page.rows.front().life_time_s, 60u);
  EXPECT_GE(*page.rows.front().life_time_s, 58u);
}

TEST_F(WithPeerTest, ADeletionOfAClientLeavesATombstone) {
  lab.datagram("10.1.0.2");
  EXPECT_EQ(removed({.client = address("10.1.0.2")}), 1u);
  EXPECT_EQ(lab.exchange.list().tombstones(), 1u);
}

TEST_F(WithPeerTest, ADeletionOfEverythingLeavesOneForEachScope) {
  for (int i = 2; i < 9; ++i) lab.datagram(fmt::format("10.1.0.{}", i));
  EXPECT_EQ(removed({}), 7u);
  EXPECT_EQ(lab.exchange.list().tombstones(), 2u);
}

TEST_F(WithPeerTest, WithoutRoomForItsTombstonesADeletionIsRefusedWholeAndNamesThePeer) {
  // 64 is all there is room for; nobody acknowledges any.
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 32; ++i) lab.datagram(fmt::format("10.1.{}.{}", round, i + 2));
    ASSERT_EQ(removed({.client = *net::Prefix::parse("10.1.0.0/16")}), 32u);
  }
  lab.datagram("10.1.7.7");
  const auto outcome = remove({.client = address("10.1.7.7")});
  ASSERT_TRUE(std::holds_alternative<api::Refusal>(outcome));
  EXPECT_EQ(std::get<api::Refusal>(outcome).http_status, 503u);
  EXPECT_THAT(std::get<api::Refusal>(outcome).errors.front().message, HasSubstr("se2"));
  EXPECT_EQ(lab.list().count, 1u);
}

// --- explanations
// ---------------------------------------------------------------------------------

class ExplainTest : public EntriesTest {
 protected:
  api::Explanation explain(const char* service, const char* client) {
    std::optional<api::Outcome<api::Explanation>> out;
    lab.explainer.explain({.virtual_service = service, .client = address(client)},
                          [&](api::Outcome<api::Explanation> o) { out = std::move(o); });
    lab.settle();
    EXPECT_TRUE(out && std::holds_alternative<api::Explanation>(*out));
    return out && std::holds_alternative<api::Explanation>(*out) ? std::get<api::Explanation>(*out)
                                                                 : api::Explanation{};
  }
};

TEST_F(ExplainTest, ABoundClientGoesToItsServer) {
  const std::string server = lab.datagram("10.1.0.2");
  const api::Explanation e = explain("web0", "10.1.0.2");
  EXPECT_EQ(e.decision, api::Decision::kForward);
  EXPECT_EQ(e.server, server + ":80");
  EXPECT_EQ(e.reason, "entry");
  ASSERT_TRUE(e.entry);
  EXPECT_EQ(e.entry->connections, 1u);
}

TEST_F(ExplainTest, TheHomeIsNamedByItsProcessor) {
  const api::Explanation e = explain("web0", "10.1.0.2");
  EXPECT_TRUE(e.home_core == 4 || e.home_core == 7) << e.home_core;
  EXPECT_THAT(e.steps, Contains(HasSubstr(fmt::format("the worker on core {}", e.home_core))));
}

TEST_F(ExplainTest, WhoIsNotServedIsToldTheCompilersReason) {
  ASSERT_TRUE(lab.put(document({.service_more = R"(, "enabled": false)"})));
  const api::Explanation e = explain("web0", "10.1.0.2");
  EXPECT_EQ(e.decision, api::Decision::kDrop);
  EXPECT_EQ(e.reason, "not_served");
  EXPECT_THAT(e.steps, Contains(HasSubstr("not served here: disabled")));
}

TEST_F(ExplainTest, AnotherFamilyHasNoService) {
  EXPECT_EQ(explain("web0", "fd00::2").reason, "no_service");
}

TEST_F(ExplainTest, NobodyOfThatNameIsRefused) {
  std::optional<api::Outcome<api::Explanation>> out;
  lab.explainer.explain({.virtual_service = "no", .client = address("10.1.0.2")},
                        [&](api::Outcome<api::Explanation> o) { out = std::move(o); });
  ASSERT_TRUE(out && std::holds_alternative<api::Refusal>(*out));
  EXPECT_EQ(std::get<api::Refusal>(*out).http_status, 404u);
}

}  // namespace
}  // namespace limpet::engine
