#include "control/config/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/base/limits.h"

namespace limpet::config {
namespace {

bool key_less(const Json& a, const Json& b) {
  return a.key < b.key;
}

// What the parser says, without its own prefix, and printable: it quotes raw bytes of the text.
std::string readable(std::string_view message) {
  const auto prefix_end = message.find("] ");
  if (!message.empty() && message.front() == '[' && prefix_end != std::string_view::npos) {
    message.remove_prefix(prefix_end + 2);
  }
  constexpr std::size_t kBytesMax = 200;
  std::string out;
  for (const char c : message.substr(0, kBytesMax)) out += c >= 0x20 && c < 0x7f ? c : '?';
  return out;
}

}  // namespace

const Json* Json::member(std::string_view name) const {
  if (kind != Kind::kObject) return nullptr;
  const auto all = items();
  const auto found = std::lower_bound(all.begin(), all.end(), name,
                                      [](const Json& m, std::string_view n) { return m.key < n; });
  return found != all.end() && found->key == name ? &*found : nullptr;
}

// Receives the parser's events. Values of all open containers lie on one stack; closing a container
// moves its own to the arena.
class TreeBuilder {
 public:
  TreeBuilder(JsonTree* tree, Problems* problems) : tree_(tree), problems_(problems) {}

  bool null() { return add(of(Json::Kind::kNull)); }
  bool boolean(bool value) {
    Json json = of(Json::Kind::kBoolean);
    json.boolean = value;
    return add(json);
  }
  bool number_integer(int64_t value) {
    Json json = of(Json::Kind::kInteger);
    json.integer = value;
    return add(json);
  }
  bool number_unsigned(uint64_t value) {
    if (value > INT64_MAX) return add(of(Json::Kind::kReal));
    return number_integer(static_cast<int64_t>(value));
  }
  bool number_float(double value, const std::string&) {
    // Up to here a double tells neighbouring integers apart.
    constexpr double kExactMax = 9007199254740992.0;
    Json json = of(Json::Kind::kReal);
    json.whole = std::abs(value) <= kExactMax && std::trunc(value) == value;
    if (json.whole) json.integer = static_cast<int64_t>(value);
    return add(json);
  }
  bool string(std::string& value) {
    Json json = of(Json::Kind::kText);
    json.bytes = keep(value).data();
    json.count = value.size();
    return add(json);
  }
  bool binary(nlohmann::json::binary_t&) { return false; }

  bool start_object(std::size_t) { return open(Json::Kind::kObject); }
  bool start_array(std::size_t) { return open(Json::Kind::kArray); }
  bool key(std::string& name) {
    open_.back().key = keep(name);
    return true;
  }
  bool end_object() {
    const auto first = values_.begin() + static_cast<std::ptrdiff_t>(open_.back().first);
    std::stable_sort(first, values_.end(), key_less);
    const auto end = std::unique(first, values_.end(), [this](const Json& kept, const Json& again) {
      if (kept.key != again.key) return false;
      problems_->error(pointer() + '/' + escaped(again.key), "this key is given twice");
      return true;
    });
    values_.erase(end, values_.end());
    return close();
  }
  bool end_array() { return close(); }

  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& e) {
    problems_->error("", readable(e.what()));
    return false;
  }

 private:
  struct Open {
    Json::Kind kind;
    std::size_t first;     // its first value on the stack
    std::string_view key;  // of the member that comes next
  };

  static Json of(Json::Kind kind) {
    Json json;
    json.kind = kind;
    return json;
  }

  std::string_view keep(const std::string& text) {
    if (text.empty()) return {};
    auto* copy = static_cast<char*>(tree_->arena_->allocate(text.size(), 1));
    std::memcpy(copy, text.data(), text.size());
    return {copy, text.size()};
  }

  bool add(Json value) {
    if (++count_ > kJsonValuesMax) {
      problems_->error("", fmt::format("more than {} values", kJsonValuesMax));
      return false;
    }
    if (open_.empty()) {
      tree_->root_ = value;
      return true;
    }
    value.key = open_.back().key;
    values_.push_back(value);
    return true;
  }

  bool open(Json::Kind kind) {
    if (open_.size() == kJsonDepthMax) {
      problems_->error(pointer(), fmt::format("nested deeper than {} levels", kJsonDepthMax));
      return false;
    }
    open_.push_back({kind, values_.size(), {}});
    return true;
  }

  bool close() {
    const Open closing = open_.back();
    const std::size_t count = values_.size() - closing.first;
    Json* elements = nullptr;
    if (count != 0) {
      elements = static_cast<Json*>(tree_->arena_->allocate(count * sizeof(Json), alignof(Json)));
      std::uninitialized_copy(values_.begin() + static_cast<std::ptrdiff_t>(closing.first),
                              values_.end(), elements);
      values_.resize(closing.first);
    }
    open_.pop_back();
    Json json = of(closing.kind);
    json.elements = elements;
    json.count = count;
    return add(json);
  }

  static std::string escaped(std::string_view key) {
    const Path root;
    return Path(root, key).pointer().substr(1);
  }

  // Of the innermost open container.
  std::string pointer() const {
    std::string out;
    for (std::size_t i = 0; i + 1 < open_.size(); ++i) {
      out += '/';
      out += open_[i].kind == Json::Kind::kArray
                 ? std::to_string(open_[i + 1].first - open_[i].first)
                 : escaped(open_[i].key);
    }
    return out;
  }

  JsonTree* tree_;
  Problems* problems_;
  std::vector<Json> values_;
  std::vector<Open> open_;
  std::size_t count_ = 0;
};

std::optional<JsonTree> JsonTree::parse(std::string_view text, Problems* problems) {
  if (text.size() > base::kRequestBodyBytesMax) {
    problems->error("", fmt::format("larger than {} bytes", base::kRequestBodyBytesMax));
    return std::nullopt;
  }
  // The parser would take a NUL for the end and not look behind it.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    problems->error("", fmt::format("byte {} is NUL, which is no JSON", nul));
    return std::nullopt;
  }
  std::optional<JsonTree> tree(std::in_place);
  TreeBuilder builder(&*tree, problems);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return std::nullopt;
  return tree;
}

}  // namespace limpet::config
