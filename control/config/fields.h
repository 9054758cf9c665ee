// Fields: typed access to one JSON object. Each call asks for one field, checks type and range,
// reports what is wrong with its path, and remembers that the field is known; when the Fields goes
// out of scope it reports every member nobody asked for.
//
// Used by one thread during one parse, like the tree it reads. A Fields refers to its parent (for
// paths), to the tree and to the Problems; all must outlive it.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/net/address.h"
#include "control/config/json.h"
#include "control/config/problems.h"

namespace limpet::config {

// A documents' reader tolerates what Avi exports contain: numbers and booleans as strings, integers
// written 3.0, null for absent, unknown fields. The bootstrap's does not.
enum class Strictness : uint8_t { kTolerant, kStrict };

// The values an integer may have: min..max, and maybe one special value outside.
struct Range {
  int64_t min;
  int64_t max;
  std::optional<int64_t> special = std::nullopt;

  bool contains(int64_t value) const {
    return (value >= min && value <= max) || (special && value == *special);
  }
  std::string to_string() const;  // "1 to 720", "0 or 1 to 300"
};

template <class E>
struct Choice {
  std::string_view text;
  E value;
};

class Fields {
 public:
  Fields(const Json& object, Path path, Problems* problems, Strictness strictness);
  ~Fields();
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  // False when the object is absent or no object; then every field is absent.
  explicit operator bool() const { return object_ != nullptr; }
  const Path& path() const { return path_; }
  Path at(std::string_view key) const { return {path_, key}; }
  Problems& problems() const { return *problems_; }

  bool has(std::string_view key) const;
  // Whether the field asks for anything: it is there and neither null, false, 0, "" nor empty, nor
  // an object or array of such values only (an object in an array is something). Exports write out
  // fields that were never set.
  bool asks(std::string_view key) const;
  // Whether the field is this text.
  bool says(std::string_view key, std::string_view text) const;
  // The fields are known and may have any value.
  void ignore(std::initializer_list<std::string_view> keys) const;
  // No member is unknown: the object is not looked into any further.
  void ignore_rest() { report_unknown_ = false; }

  // Nothing when the field is absent or wrong; wrong is reported.
  std::optional<int64_t> integer(std::string_view key, const Range& range) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;
  // Not empty, no control characters, at most kNameBytesMax.
  std::optional<std::string_view> name(std::string_view key) const;
  std::optional<net::Address> address(std::string_view key) const;
  template <class E, std::size_t N>
  std::optional<E> choice(std::string_view key, const std::array<Choice<E>, N>& choices) const {
    const auto given = text(key);
    if (!given) return std::nullopt;
    for (const Choice<E>& c : choices) {
      if (c.text == *given) return c.value;
    }
    std::array<std::string_view, N> texts;
    for (std::size_t i = 0; i < N; ++i) texts[i] = choices[i].text;
    report_choice(key, *given, texts);
    return std::nullopt;
  }
  // The elements of an array; none when it is absent, wrong, or has not as many as it may.
  std::span<const Json> array(std::string_view key, Range size = {0, INT64_MAX}) const;
  Fields object(std::string_view key) const;

  // Reports that the field is missing, if it is.
  void require(std::string_view key) const;
  void error(std::string_view key, std::string message) const;

 private:
  struct Absent {};
  Fields(Absent, Path path, Problems* problems, Strictness strictness);

  // The member, if present (and, for the tolerant, not null).
  const Json* find(std::string_view key) const;
  void report_choice(std::string_view key, std::string_view given,
                     std::span<const std::string_view> texts) const;

  const Json* object_ = nullptr;
  Path path_;
  Problems* problems_;
  Strictness strictness_;
  bool report_unknown_ = true;
};

inline constexpr std::size_t kNameBytesMax = 512;

// Single values, for elements of arrays: nothing and a reported error when wrong.
std::optional<std::string_view> read_text(const Json& value, const Path& path, Problems* problems);
std::optional<std::string_view> read_name(const Json& value, const Path& path, Problems* problems);
std::optional<int64_t> read_integer(const Json& value, const Path& path, const Range& range,
                                    Strictness strictness, Problems* problems);
// Text of an IPv4 or IPv6 address; net::Address::parse does not see behind a NUL, this does.
std::optional<net::Address> parse_address(std::string_view text);
// Whether the address can be one host's own: neither unspecified nor loopback, and unicast.
bool is_host_address(const net::Address& address);

}  // namespace limpet::config
