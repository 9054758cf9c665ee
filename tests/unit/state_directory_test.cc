#include "control/engine/state_directory.h"

#include <gtest/gtest.h>

#include <fstream>

namespace limpet::engine {
namespace {

namespace fs = std::filesystem;

class StateDirectoryTest : public testing::Test {
 protected:
  StateDirectoryTest() {
    std::string name = (fs::temp_directory_path() / "limpet-state-XXXXXX").string();
    root_ = mkdtemp(name.data());
  }
  ~StateDirectoryTest() override { fs::remove_all(root_); }

  StateDirectory open() {
    auto state = StateDirectory::open(root_ / "state");
    EXPECT_TRUE(state.ok());
    return std::move(state.value());
  }
  void write(std::string_view name, std::string_view text) {
    std::ofstream(root_ / "state" / name, std::ios::binary) << text;
  }
  std::string read(std::string_view name) {
    std::ifstream in(root_ / "state" / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  fs::path root_;
};

TEST_F(StateDirectoryTest, AFileThatWasNeverWrittenIsNothing) {
  const auto loaded = open().load("document");
  ASSERT_TRUE(loaded);
  EXPECT_FALSE(loaded.value());
}

TEST_F(StateDirectoryTest, WhatWasSavedIsLoadedByTheNext) {
  ASSERT_TRUE(open().save("document", "{\"a\": \n1}"));
  EXPECT_EQ(open().load("document").value(), "{\"a\": \n1}");
}

TEST_F(StateDirectoryTest, AnEmptyContentIsNotNothing) {
  ASSERT_TRUE(open().save("document", ""));
  EXPECT_EQ(open().load("document").value(), "");
}

TEST_F(StateDirectoryTest, PiecesAreOneContent) {
  const std::string_view pieces[] = {"one, ", "", std::string_view("t\0wo\n", 5)};
  ASSERT_TRUE(open().save("table", pieces));
  EXPECT_EQ(open().load("table").value(), std::string("one, t\0wo\n", 10));
}

TEST_F(StateDirectoryTest, SavingAgainReplacesAndLeavesNothingElse) {
  const StateDirectory state = open();
  ASSERT_TRUE(state.save("document", "first, and longer"));
  ASSERT_TRUE(state.save("document", "second"));
  EXPECT_EQ(state.load("document").value(), "second");
  EXPECT_EQ(std::distance(fs::directory_iterator(root_ / "state"), {}), 1);
}

TEST_F(StateDirectoryTest, ATornFileIsRefusedWithItsName) {
  const StateDirectory state = open();
  ASSERT_TRUE(state.save("document", "content"));
  const std::string whole = read("document");
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    write("document", whole.substr(0, bytes));
    const auto loaded = state.load("document");
    ASSERT_FALSE(loaded) << bytes;
    EXPECT_NE(loaded.errors()[0].message.find("document: torn"), std::string::npos);
  }
}

TEST_F(StateDirectoryTest, AForeignFileIsRefused) {
  const StateDirectory state = open();
  write("document", "{\"Pool\": []}\n");
  const auto loaded = state.load("document");
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.errors()[0].message.find("document: torn, or not written by"),
            std::string::npos);
}

TEST_F(StateDirectoryTest, AHalfWrittenSuccessorDoesNotMatter) {
  const StateDirectory state = open();
  ASSERT_TRUE(state.save("document", "good"));
  write("document.new", "limpet-state 1 half");
  EXPECT_EQ(state.load("document").value(), "good");
}

TEST_F(StateDirectoryTest, NobodyElseMayReadWhatIsSaved) {
  const auto state = open();
  ASSERT_TRUE(state.save("document", "{}"));
  EXPECT_EQ(fs::status(root_ / "state" / "document").permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(StateDirectoryTest, WhatIsSetAsideIsKeptUnderAnotherName) {
  const auto state = open();
  ASSERT_TRUE(state.save("document", "old"));
  ASSERT_TRUE(state.set_aside("document"));
  EXPECT_FALSE(state.load("document").value());
  EXPECT_EQ(state.load("document.refused").value(), "old");
  EXPECT_FALSE(state.set_aside("document")) << "there is none any more";
}

TEST_F(StateDirectoryTest, ADirectoryThatCannotBeMadeIsAnErrorOfItsField) {
  std::ofstream(root_ / "file") << "x";
  const auto state = StateDirectory::open(root_ / "file" / "state");
  ASSERT_FALSE(state);
  EXPECT_EQ(state.errors()[0].path, "/state_directory");
}

TEST_F(StateDirectoryTest, WhatCannotBeSavedSaysWhy) {
  const StateDirectory state = open();
  fs::remove_all(root_ / "state");
  const auto saved = state.save("document", "x");
  ASSERT_FALSE(saved);
  EXPECT_NE(saved.errors()[0].message.find("No such file"), std::string::npos);
}

}  // namespace
}  // namespace limpet::engine
