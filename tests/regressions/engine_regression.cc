// Bugs of the control thread's parts.
#include "tests/unit/engine_lab.h"

namespace limpet::engine {
namespace {

// A take-over was inserted into the queue in whose middle the helper read the change in hand: the
// queue moved its elements, and a document was answered 200 that nobody had applied.
TEST(EngineRegression, ATakeOverWhileADocumentIsPreparedLosesNeither) {
  EngineLab lab({.peers = {"se2"}});
  ASSERT_TRUE(lab.put(document()));
  lab.applied.clear();
  std::vector<std::string> answers;
  const auto says = [&](std::string what) {
    return [&answers, what](const auto&) { answers.push_back(what); };
  };
  lab.changes.add({.change = PutDocument{document({.timeout_s = 77})}, .applied = says("put")});
  lab.changes.add({.change = SetMarks{R"([{"pool": "pool0", "server": "10.2.0.3:80",
                                           "oper_status": "OPER_DOWN"}])"},
                   .applied = says("marks")});
  lab.helper.work();  // the helper has read the document, and has not said so yet
  for (uint64_t group = 1; group <= 40; ++group)
    lab.changes.add_first({.change = SetOwned{{group}}, .applied = says("owned")});
  lab.settle();
  for (int i = 0; i < 60; ++i) lab.settle();
  ASSERT_EQ(answers.size(), 42u);
  EXPECT_EQ(answers.front(), "put");
  EXPECT_EQ(answers.back(), "marks");
  EXPECT_EQ(lab.running().document->document.profiles.front().timeout, std::chrono::seconds(77));
  EXPECT_FALSE(lab.running().inventory->servers[0][1].state.up);
  EXPECT_EQ(lab.running().owned, std::vector<uint64_t>{1});
}

// The helper was still writing what the control thread took for complete.
TEST(EngineRegression, WhatIsBeingPreparedIsNotLookedAt) {
  EngineLab lab;
  lab.changes.add({.change = PutDocument{document()}});
  lab.helper.work();
  for (int i = 0; i < 5; ++i) {
    lab.tick();
    lab.turn();
  }
  EXPECT_TRUE(lab.applied.empty());
  lab.settle();
  EXPECT_EQ(lab.applied, std::vector<std::string>{"document"});
}

// A deletion of many turns deleted the bindings of another virtual service's scope, which had got
// the slot meanwhile.
TEST(EngineRegression, AFilterDoesNotMeetAScopeThatGotItsSlotLater) {
  EngineLab lab;
  ASSERT_TRUE(lab.put(document()));
  worker::EntryFilter filter;
  bool nobody = false;
  ASSERT_FALSE(lab.entries.resolve({}, &filter, &nobody));
  const auto slot = lab.running().inventory->services[0].scopes.front();
  // The scope goes, its slot is given back, and another pool's scope gets it.
  ASSERT_TRUE(lab.put(R"({"generation": 5})"));
  lab.advance(timing::seconds(1));
  ASSERT_TRUE(lab.put(document({.first_server = "10.2.1.2", .service_more = R"(, "uuid": "x")"})));
  ASSERT_EQ(lab.running().inventory->services[0].scopes.front(), slot);
  ASSERT_NE(lab.datagram("10.1.0.2"), "");
  std::optional<uint64_t> removed;
  lab.deletions.remove(filter, [&](api::Outcome<api::EntriesRemoved> outcome) {
    removed = std::get<api::EntriesRemoved>(outcome).removed;
  });
  lab.settle();
  EXPECT_EQ(removed, 0u);
  EXPECT_EQ(lab.list().count, 1u);
}

// explain took an index of the snapshot in which it was asked into the one that the core had.
TEST(EngineRegression, ExplainOverAPutIsOfOneSnapshot) {
  EngineLab lab;
  ASSERT_TRUE(lab.put(document({.services = 3})));
  std::optional<api::Explanation> out;
  lab.explainer.explain({.virtual_service = "web2", .client = *net::Address::parse("10.1.0.9")},
                        [&](api::Outcome<api::Explanation> o) {
                          if (auto* e = std::get_if<api::Explanation>(&o)) out = std::move(*e);
                        });
  // Before the cores look at it they have a document with fewer virtual services, in which web2 has
  // other servers.
  const auto changed =
      prepare(lab.running(), PutDocument{document({.services = 1, .first_server = "10.2.9.2"})},
              lab.around, {});
  lab.cores.publish(std::get<Prepared>(changed).next.snapshot);
  lab.turn();
  lab.questions.tick();
  EXPECT_FALSE(out) << "answered from two snapshots";
}

// Asked and answered by the cores in one configuration, told in the words of the next.
TEST(EngineRegression, ExplainIsAskedAgainWhenAnotherConfigurationRuns) {
  EngineLab lab;
  ASSERT_TRUE(lab.put(document()));
  lab.datagram("10.1.0.9");
  std::optional<api::Explanation> out;
  lab.explainer.explain({.virtual_service = "web0", .client = *net::Address::parse("10.1.0.9")},
                        [&](api::Outcome<api::Explanation> o) {
                          if (auto* e = std::get_if<api::Explanation>(&o)) out = std::move(*e);
                        });
  lab.turn();  // the cores have said what they know
  lab.changes.add({.change = PutDocument{document({.first_server = "10.2.7.2"})}});
  for (int i = 0; i < 3; ++i) {
    lab.helper.finish();
    lab.changes.tick();
    lab.turn();
  }
  ASSERT_EQ(lab.running().generation, 2u);
  lab.questions.tick();
  EXPECT_FALSE(out);
  lab.settle();
  ASSERT_TRUE(out);
  for (const api::Candidate& c : out->candidates)
    EXPECT_TRUE(c.server.starts_with("10.2.7.")) << c.server;
}

// The helper read what `recycle` wrote.
TEST(EngineRegression, TheRegistryIsNotWrittenWhileItIsCopied) {
  EngineLab lab;
  ASSERT_NE(lab.changes.registry(), nullptr);
  lab.changes.add({.change = PutDocument{document()}});
  EXPECT_EQ(lab.changes.registry(), nullptr);
  lab.settle();
  EXPECT_NE(lab.changes.registry(), nullptr);
}

}  // namespace
}  // namespace limpet::engine
