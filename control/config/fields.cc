#include "control/config/fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace limpet::config {
namespace {

std::string_view kind_name(Json::Kind kind) {
  switch (kind) {
    case Json::Kind::kNull:
      return "null";
    case Json::Kind::kBoolean:
      return "a boolean";
    case Json::Kind::kInteger:
    case Json::Kind::kReal:
      return "a number";
    case Json::Kind::kText:
      return "a string";
    case Json::Kind::kArray:
      return "an array";
    case Json::Kind::kObject:
      return "an object";
  }
  return "?";
}

void wrong_kind(const Json& value, const Path& path, std::string_view expected,
                Problems* problems) {
  problems->error(path, fmt::format("must be {}, not {}", expected, kind_name(value.kind)));
}

// Depth is bounded: the tree's is.
bool asks_for_anything(const Json& value) {
  switch (value.kind) {
    case Json::Kind::kNull:
      return false;
    case Json::Kind::kBoolean:
      return value.boolean;
    case Json::Kind::kInteger:
      return value.integer != 0;
    case Json::Kind::kReal:
      return !value.whole || value.integer != 0;
    case Json::Kind::kText:
      return !value.text().empty() && value.text() != "0" && value.text() != "false" &&
             value.text() != "False";
    case Json::Kind::kArray:
    case Json::Kind::kObject:
      break;
  }
  const bool list = value.kind == Json::Kind::kArray;
  const auto items = value.items();
  return std::any_of(items.begin(), items.end(), [&](const Json& item) {
    return (list && item.kind == Json::Kind::kObject) || asks_for_anything(item);
  });
}

std::optional<int64_t> decimal(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::string Range::to_string() const {
  std::string out = special ? fmt::format("{} or ", *special) : "";
  return out + fmt::format("{} to {}", min, max);
}

std::optional<net::Address> parse_address(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  return net::Address::parse(text);
}

bool is_host_address(const net::Address& address) {
  return !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast() &&
         !address.is_loopback();
}

std::optional<std::string_view> read_text(const Json& value, const Path& path, Problems* problems) {
  if (value.kind == Json::Kind::kText) return value.text();
  wrong_kind(value, path, "a string", problems);
  return std::nullopt;
}

std::optional<std::string_view> read_name(const Json& value, const Path& path, Problems* problems) {
  const auto text = read_text(value, path, problems);
  if (!text) return std::nullopt;
  if (text->empty()) {
    problems->error(path, "must not be empty");
    return std::nullopt;
  }
  if (text->size() > kNameBytesMax) {
    problems->error(path, fmt::format("is longer than {} bytes", kNameBytesMax));
    return std::nullopt;
  }
  for (const char c : *text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      problems->error(path, "has a control character in it");
      return std::nullopt;
    }
  }
  return text;
}

std::optional<int64_t> read_integer(const Json& value, const Path& path, const Range& range,
                                    Strictness strictness, Problems* problems) {
  std::optional<int64_t> number;
  const bool tolerated = value.whole && strictness == Strictness::kTolerant;
  if (value.kind == Json::Kind::kInteger || tolerated) {
    number = value.integer;
  } else if (value.kind == Json::Kind::kText && strictness == Strictness::kTolerant) {
    number = decimal(value.text());
    if (!number) {
      problems->error(path, fmt::format("{} is not an integer", in_quotes(value.text())));
      return std::nullopt;
    }
  } else if (value.kind == Json::Kind::kReal) {
    problems->error(path, fmt::format("must be an integer: {}", range.to_string()));
    return std::nullopt;
  } else {
    wrong_kind(value, path, "an integer", problems);
    return std::nullopt;
  }
  if (!range.contains(*number)) {
    problems->error(path, fmt::format("{} is out of range: {}", *number, range.to_string()));
    return std::nullopt;
  }
  return number;
}

Fields::Fields(const Json& object, Path path, Problems* problems, Strictness strictness)
    : path_(path), problems_(problems), strictness_(strictness) {
  object.used = true;
  if (object.kind == Json::Kind::kObject) {
    object_ = &object;
  } else {
    wrong_kind(object, path_, "an object", problems_);
  }
}

Fields::Fields(Absent, Path path, Problems* problems, Strictness strictness)
    : path_(path), problems_(problems), strictness_(strictness) {}

Fields::~Fields() {
  if (object_ == nullptr || !report_unknown_) return;
  for (const Json& member : object_->items()) {
    if (member.used) continue;
    if (strictness_ == Strictness::kTolerant) {
      problems_->unknown_field(at(member.key));
    } else {
      problems_->error(at(member.key), "unknown field");
    }
  }
}

const Json* Fields::find(std::string_view key) const {
  if (object_ == nullptr) return nullptr;
  const Json* member = object_->member(key);
  if (member == nullptr) return nullptr;
  member->used = true;
  if (member->kind == Json::Kind::kNull && strictness_ == Strictness::kTolerant) return nullptr;
  return member;
}

bool Fields::has(std::string_view key) const {
  return find(key) != nullptr;
}

bool Fields::asks(std::string_view key) const {
  const Json* value = find(key);
  return value != nullptr && asks_for_anything(*value);
}

bool Fields::says(std::string_view key, std::string_view text) const {
  const Json* value = find(key);
  return value != nullptr && value->kind == Json::Kind::kText && value->text() == text;
}

void Fields::ignore(std::initializer_list<std::string_view> keys) const {
  for (const std::string_view key : keys) find(key);
}

std::optional<int64_t> Fields::integer(std::string_view key, const Range& range) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return read_integer(*value, at(key), range, strictness_, problems_);
}

std::optional<bool> Fields::boolean(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->kind == Json::Kind::kBoolean) return value->boolean;
  if (value->kind == Json::Kind::kText && strictness_ == Strictness::kTolerant) {
    if (value->text() == "true" || value->text() == "True") return true;
    if (value->text() == "false" || value->text() == "False") return false;
    error(key, fmt::format("{} is neither true nor false", in_quotes(value->text())));
    return std::nullopt;
  }
  wrong_kind(*value, at(key), "a boolean", problems_);
  return std::nullopt;
}

std::optional<std::string_view> Fields::text(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return read_text(*value, at(key), problems_);
}

std::optional<std::string_view> Fields::name(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return read_name(*value, at(key), problems_);
}

std::optional<net::Address> Fields::address(std::string_view key) const {
  const auto given = text(key);
  if (!given) return std::nullopt;
  const auto parsed = parse_address(*given);
  if (!parsed) error(key, fmt::format("{} is not an IP address", in_quotes(*given)));
  return parsed;
}

std::span<const Json> Fields::array(std::string_view key, Range size) const {
  const Json* value = find(key);
  if (value == nullptr) return {};
  if (value->kind != Json::Kind::kArray) {
    wrong_kind(*value, at(key), "an array", problems_);
    return {};
  }
  const std::span<const Json> items = value->items();
  if (size.contains(static_cast<int64_t>(items.size()))) return items;
  error(key, fmt::format("has {} elements, must have {}", items.size(), size.to_string()));
  return {};
}

Fields Fields::object(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return {Absent{}, at(key), problems_, strictness_};
  return {*value, at(key), problems_, strictness_};
}

void Fields::require(std::string_view key) const {
  if (object_ != nullptr && find(key) == nullptr) error(key, "is required");
}

void Fields::error(std::string_view key, std::string message) const {
  problems_->error(at(key), std::move(message));
}

void Fields::report_choice(std::string_view key, std::string_view given,
                           std::span<const std::string_view> texts) const {
  error(key, fmt::format("unknown value {}; known: {}", in_quotes(given), fmt::join(texts, ", ")));
}

}  // namespace limpet::config
