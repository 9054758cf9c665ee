#include "tests/unit/engine_lab.h"

namespace limpet::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ChangesTest, ADocumentRunsWhenAllCoresHaveTakenIt) {
  EngineLab lab;
  bool answered = false;
  lab.changes.add(
      {.change = PutDocument{document()}, .applied = [&](const Prepared&) { answered = true; }});
  lab.helper.work();
  lab.helper.tell();
  lab.turn(0);
  lab.tick();
  EXPECT_FALSE(answered);
  EXPECT_EQ(lab.running().generation, 0u);
  lab.turn(1);
  lab.tick();
  EXPECT_TRUE(answered);
  EXPECT_EQ(lab.running().generation, 1u);
}

TEST(ChangesTest, ARefusedDocumentChangesNothing) {
  EngineLab lab;
  ASSERT_TRUE(lab.put(document()));
  const auto before = lab.running().snapshot;
  EXPECT_FALSE(lab.put(R"({"Pool": [{}]})"));
  EXPECT_EQ(lab.last_refused.http_status, 400u);
  EXPECT_EQ(lab.last_refused.errors.front().path, "/Pool/0/name");
  EXPECT_EQ(lab.running().snapshot, before);
}

TEST(ChangesTest, AnOlderGenerationIsRefusedWith409) {
  EngineLab lab;
  ASSERT_TRUE(lab.put(R"({"generation": 7})"));
  EXPECT_FALSE(lab.put(R"({"generation": 6})"));
  EXPECT_EQ(lab.last_refused.http_status, 409u);
}

TEST(ChangesTest, ChangesAreCarriedOutInTheirOrderATakeOverFirst) {
  EngineLab lab({.peers = {"se2"}});
  ASSERT_TRUE(lab.put(document()));
  lab.applied.clear();
  lab.changes.add({.change = PutDocument{document({.timeout_s = 61})}});
  lab.changes.add({.change = PutDocument{document({.timeout_s = 62})}});
  lab.changes.add_first({.change = SetOwned{{4}}});
  for (int i = 0; i < 4; ++i) lab.settle();
  EXPECT_THAT(lab.applied, ElementsAre("document", "owned", "document"));
  EXPECT_EQ(lab.running().document->document.profiles.front().timeout, std::chrono::seconds(62));
}

// A new server at a used address inherits nobody.
TEST(ChangesTest, ADocumentWaitsUntilTheOneBeforeHasBeenSwept) {
  EngineLab lab;
  ASSERT_TRUE(lab.put(document()));
  lab.changes.add({.change = PutDocument{document({.timeout_s = 61})}});
  lab.helper.finish();
  lab.take_without_sweeping();
  lab.tick();
  ASSERT_EQ(lab.running().generation, 2u);
  lab.changes.add({.change = PutDocument{document({.timeout_s = 62})}});
  lab.helper.finish();
  lab.tick();
  EXPECT_EQ(lab.cores.newest().generation, 2u);
  lab.turn();
  lab.tick();
  EXPECT_EQ(lab.cores.newest().generation, 3u);
}

TEST(ChangesTest, ATakeOverDoesNotWaitForTheSweep) {
  EngineLab lab({.peers = {"se2"}});
  ASSERT_TRUE(lab.put(document()));
  lab.changes.add({.change = PutDocument{document({.timeout_s = 61})}});
  lab.helper.finish();
  lab.take_without_sweeping();
  lab.tick();
  const uint64_t version = lab.cores.newest().version;
  lab.changes.add_first({.change = SetOwned{{4}}});
  lab.helper.finish();
  lab.tick();
  EXPECT_EQ(lab.cores.newest().version, version + 1);
}

TEST(ChangesTest, AnswersWhenItIsOnDisk) {
  EngineLab lab({.stores = true});
  bool answered = false;
  lab.changes.add(
      {.change = PutDocument{document()}, .applied = [&](const Prepared&) { answered = true; }});
  for (int i = 0; i < 5; ++i) {
    lab.helper.finish();
    lab.tick();
    lab.turn();
  }
  EXPECT_EQ(lab.running().generation, 1u);
  EXPECT_FALSE(answered);
  lab.disk.finish();
  EXPECT_TRUE(answered);
  ASSERT_EQ(lab.documents_stored.size(), 1u);
  EXPECT_THAT(lab.documents_stored.front(), HasSubstr("\"generation\": 1"));
}

TEST(ChangesTest, MarksAreStoredWithoutTheDocument) {
  EngineLab lab({.stores = true});
  ASSERT_TRUE(lab.put(document()));
  ASSERT_TRUE(lab.mark("pool0", "10.2.0.2:80", "OPER_DOWN"));
  EXPECT_EQ(lab.documents_stored.size(), 1u);
  ASSERT_EQ(lab.marks_stored.size(), 2u);
  EXPECT_EQ(lab.marks_stored.front(), "[]");
  EXPECT_THAT(lab.marks_stored.back(), HasSubstr("OPER_DOWN"));
}

// Else a crash between the document and the marks, both from disk, would lose the marks.
TEST(ChangesTest, WhatCameFromDiskIsNotWrittenBack) {
  EngineLab lab({.stores = true});
  lab.changes.add({.change = PutDocument{document()}, .keep = Changes::Keep::kNothing});
  lab.settle();
  EXPECT_EQ(lab.running().generation, 1u);
  EXPECT_TRUE(lab.documents_stored.empty());
  EXPECT_TRUE(lab.marks_stored.empty());
}

TEST(ChangesTest, ADocumentToBeginWithLeavesTheMarksOnDisk) {
  EngineLab lab({.stores = true});
  lab.changes.add({.change = PutDocument{document()}, .keep = Changes::Keep::kDocument});
  lab.settle();
  EXPECT_EQ(lab.documents_stored.size(), 1u);
  EXPECT_TRUE(lab.marks_stored.empty());
}

TEST(ChangesTest, WhatIsAppliedButNotOnDiskSaysSo) {
  EngineLab lab({.stores = true});
  lab.stored = base::Error{"/state_directory", "no space"};
  EXPECT_FALSE(lab.put(document()));
  EXPECT_EQ(lab.last_refused.http_status, 500u);
  EXPECT_EQ(lab.last_refused.errors.front().message, "applied, but not stored: no space");
  EXPECT_EQ(lab.running().generation, 1u);
}

TEST(ChangesTest, ADrainedServersTimeIsLookedAtByItself) {
  EngineLab lab;
  ASSERT_TRUE(lab.put(document({.pool_more = R"(, "graceful_disable_timeout": 1)"})));
  ASSERT_TRUE(
      lab.put(document({.pool_more = R"(, "graceful_disable_timeout": 1, "enabled": false)"})));
  lab.applied.clear();
  lab.advance(timing::seconds(59));
  EXPECT_TRUE(lab.applied.empty());
  lab.advance(timing::seconds(2));
  EXPECT_THAT(lab.applied, ElementsAre("recompiled"));
  EXPECT_TRUE(lab.running().snapshot->pools[0].servers[0].reset_connections);
  lab.advance(timing::seconds(200));
  EXPECT_THAT(lab.applied, ElementsAre("recompiled"));
}

TEST(ChangesTest, WhatWouldServeNobodyIsRefusedIfSomethingIsServed) {
  EngineLab lab;
  EXPECT_TRUE(lab.put("{}", true)) << "nothing is served yet";
  ASSERT_TRUE(lab.put(document(), true));
  EXPECT_FALSE(lab.put("{}", true));
  EXPECT_EQ(lab.last_refused.http_status, 409u);
  EXPECT_EQ(lab.last_refused.errors.front().message,
            "the document serves none of its 0 virtual services; 1 are served now");
  EXPECT_TRUE(lab.put("{}", false));
}

// Otherwise the control thread would stand still while ten thousands of servers are freed.
TEST(ChangesTest, TheConfigurationThatRanIsDestroyedAside) {
  EngineLab lab;
  ASSERT_TRUE(lab.put(document()));
  const std::weak_ptr<const config::Parsed> before = lab.running().document;
  lab.changes.add({.change = PutDocument{document({.timeout_s = 61})}});
  lab.helper.work();
  lab.helper.tell();
  for (int i = 0; i < 3; ++i) {
    lab.turn();
    lab.tick();
  }
  ASSERT_EQ(lab.running().generation, 2u);
  EXPECT_FALSE(before.expired());
  lab.spare.finish();
  EXPECT_TRUE(before.expired());
}

TEST(ChangesTest, AServerWhoseRouteGoesIsToldAsDown) {
  EngineLab lab;
  ASSERT_TRUE(lab.put(document({.first_server = "10.9.0.2"})));
  EXPECT_FALSE(lab.running().inventory->servers[0][0].state.up);
  EXPECT_FALSE(lab.running().inventory->services[0].serving);
  EXPECT_EQ(lab.running().inventory->services[0].reason, "no server can take clients");
}

// --- questions
// ------------------------------------------------------------------------------------

// Cores whose rings have room for so many messages.
class NarrowCores final : public Cores {
 public:
  explicit NarrowCores(sim::Engine& engine) : engine_(engine) {}
  uint32_t room = 0;

  uint32_t count() const override { return engine_.count(); }
  const worker::Core& core(uint32_t w) const override { return engine_.core(w); }
  worker::Shared& shared() override { return engine_.shared(); }
  const worker::Shared& shared() const override { return engine_.shared(); }
  bool send(uint32_t w, const worker::ControlMessage& m) override {
    if (room == 0) return false;
    --room;
    return engine_.send(w, m);
  }
  bool provide(const snapshot::Snapshot& s) override { return engine_.provide(s); }
  bool can_publish() override { return true; }
  snapshot::Token publish(std::shared_ptr<const snapshot::Snapshot> s) override {
    return engine_.publish(std::move(s));
  }
  snapshot::Token mark() override { return engine_.mark(); }
  bool have_passed(snapshot::Token token) override { return engine_.have_passed(token); }

 private:
  sim::Engine& engine_;
};

Jobs clocks(Questions& questions) {
  return questions.jobs([](worker::Job& job) { job.kind = worker::Job::Kind::kClock; });
}

TEST(QuestionsTest, AreAnsweredInTheirOrderWhenAllCoresAreDone) {
  EngineLab lab;
  std::vector<int> answered;
  for (int i : {1, 2})
    lab.questions.ask(clocks(lab.questions), [&, i](const Jobs&) { answered.push_back(i); });
  lab.turn(0);
  lab.questions.tick();
  EXPECT_TRUE(answered.empty());
  lab.turn(0);  // a job a turn
  lab.turn(1);
  lab.questions.tick();
  EXPECT_THAT(answered, ElementsAre(1));
  lab.turn(1);
  lab.questions.tick();
  EXPECT_THAT(answered, ElementsAre(1, 2));
  EXPECT_TRUE(lab.questions.idle());
}

TEST(QuestionsTest, WaitForRoomAndKeepTheirOrder) {
  EngineLab lab;
  NarrowCores narrow(lab.cores);
  Questions questions(narrow);
  bool answered = false;
  questions.ask(clocks(questions), [&](const Jobs&) { answered = true; });
  lab.turn();
  questions.tick();
  EXPECT_FALSE(answered);
  narrow.room = 2;
  questions.tick();
  lab.turn();
  questions.tick();
  EXPECT_TRUE(answered);
}

}  // namespace
}  // namespace limpet::engine
