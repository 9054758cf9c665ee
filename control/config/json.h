// Json: a JSON text (RFC 8259) as an immutable tree, for texts that may be hostile. Owned and used
// by the thread that parses.
//
// Invariants
//  1. Depth, number of values and bytes are bounded (constants below); beyond them is an error.
//  2. Members of an object are sorted by key and unique: a key given twice is an error. So a lookup
//     is a binary search whatever the object's size.
//  3. All strings are valid UTF-8.
//
// Cost: 40 bytes a value in one arena, freed at once. Why not nlohmann::json's own tree: it takes
// the last of two equal keys silently, has no bound on depth or size, and costs an allocation a
// value. Its parser does the reading here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string_view>

#include "control/config/problems.h"

namespace limpet::config {

inline constexpr std::size_t kJsonDepthMax = 64;
inline constexpr std::size_t kJsonValuesMax = 8'000'000;

struct Json {
  enum class Kind : uint8_t { kNull, kBoolean, kInteger, kReal, kText, kArray, kObject };

  Kind kind = Kind::kNull;
  mutable bool used = false;  // a reader has asked for this member
  bool boolean = false;
  bool whole = false;    // kReal: it has no fraction (3.0, 3e0), and `integer` is its value
  std::string_view key;  // of a member of an object
  union {
    int64_t integer = 0;   // kInteger; what does not fit is a kReal
    const char* bytes;     // kText
    const Json* elements;  // kArray, kObject
  };
  std::size_t count = 0;  // bytes or elements

  std::string_view text() const { return {bytes, count}; }
  std::span<const Json> items() const { return {elements, count}; }
  // The member with this key; null when there is none or this is no object.
  const Json* member(std::string_view name) const;
};

static_assert(sizeof(Json) == 40, "documents have millions of them");

class JsonTree {
 public:
  // Nothing when the text is no JSON; then an error says where it stops being so. Keys given twice
  // are errors too, but the tree is there, so that all other errors can be found.
  static std::optional<JsonTree> parse(std::string_view text, Problems* problems);

  const Json& root() const { return root_; }

 private:
  friend class TreeBuilder;

  std::unique_ptr<std::pmr::monotonic_buffer_resource> arena_ =
      std::make_unique<std::pmr::monotonic_buffer_resource>(std::size_t{1} << 16);
  Json root_;
};

}  // namespace limpet::config
