// Problems: the errors and warnings of one parse, each with its JSON pointer; Path: where in the
// text a reader is. Used by one thread during one parse.
//
// Paths cost nothing until something is wrong there: a Path is a chain of links on the stack and
// becomes text only when a problem is reported.
//
// An error belongs to the object that is being read (Owner), or to the text as a whole. When all
// is read, settle() turns the errors of objects that nothing served uses into warnings: an export
// of a whole controller is not refused for what this engine would never touch.
//
// Both lists are bounded, because the text may be hostile: a 64 MiB document can be wrong in
// millions of places. What does not fit is counted, by owner, and reported as one more line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"

namespace limpet::config {

inline constexpr std::size_t kProblemsMax = 10'000;
inline constexpr std::size_t kUnknownFieldsMax = 1'000;

class Path {
 public:
  Path() = default;  // the whole text
  // `parent` must outlive this.
  Path(const Path& parent, std::string_view key) : parent_(&parent), key_(key) {}
  Path(const Path& parent, std::size_t index) : parent_(&parent), index_(index), is_index_(true) {}

  // RFC 6901. A key longer than a person can read is cut.
  std::string pointer() const;
  // The pointer with `*` for every index: the same for one field of all objects of a model.
  std::string pattern() const;

 private:
  void append(std::string* out, bool indices) const;

  const Path* parent_ = nullptr;
  std::string_view key_;
  std::size_t index_ = 0;
  bool is_index_ = false;
};

class Problems {
 public:
  // The number of an object of the text (Header::id).
  using Object = uint32_t;

  // While it lives, errors belong to this object.
  class Owner {
   public:
    Owner(Problems* problems, Object object)
        : problems_(problems), outer_(std::exchange(problems->owner_, object)) {}
    ~Owner() { problems_->owner_ = outer_; }
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;

   private:
    Problems* problems_;
    Object outer_;
  };

  // While it lives, errors are warnings: what is being read has no effect, whatever it says.
  class Lenience {
   public:
    explicit Lenience(Problems* problems, bool on = true)
        : problems_(problems),
          outer_(std::exchange(problems->lenient_, on || problems->lenient_)) {}
    ~Lenience() { problems_->lenient_ = outer_; }
    Lenience(const Lenience&) = delete;
    Lenience& operator=(const Lenience&) = delete;

   private:
    Problems* problems_;
    bool outer_;
  };

  void error(std::string path, std::string message);
  void error(const Path& path, std::string message);
  void warning(const Path& path, std::string message);
  // A field nobody read. One warning per pattern: the first place, and how many more there are.
  void unknown_field(const Path& path);

  // How many errors there were so far: whether it grew says whether what was read meanwhile was
  // right.
  std::size_t errors_seen() const { return errors_seen_; }
  // Turns the errors of objects that are not in use into warnings. Call it once, at the end.
  void settle(const std::vector<bool>& in_use);

  bool has_errors() const { return !errors_.empty() || !more_errors_.empty(); }
  // Both leave the object empty.
  base::Errors take_errors();
  std::vector<base::Error> take_warnings();

 private:
  struct Unknown {
    std::string first;
    std::size_t count = 0;
  };

  static constexpr Object kText = UINT32_MAX;

  struct Owned {
    base::Error error;
    Object owner;
  };

  void add_error(std::string path, std::string message);
  void add_warning(std::string path, std::string message);

  Object owner_ = kText;
  bool lenient_ = false;
  std::size_t errors_seen_ = 0;
  std::vector<Owned> errors_;
  std::map<Object, std::size_t> more_errors_;  // by owner
  std::vector<base::Error> warnings_;
  std::size_t more_warnings_ = 0;
  std::map<std::string, Unknown> unknown_;
  std::size_t more_unknown_ = 0;
};

// `text` in double quotes, control characters replaced, cut to what fits a message. Valid UTF-8
// stays valid.
std::string in_quotes(std::string_view text);

}  // namespace limpet::config
