#include "control/config/problems.h"

#include <fmt/format.h>

#include <utility>

namespace limpet::config {
namespace {

constexpr std::size_t kKeyBytesMax = 200;
constexpr std::size_t kQuotedBytesMax = 100;

// The longest prefix of at most `bytes` that does not end within a UTF-8 character.
std::string_view cut(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

}  // namespace

std::string in_quotes(std::string_view text) {
  const std::string_view shown = cut(text, kQuotedBytesMax);
  std::string out = "\"";
  for (const char c : shown) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  out += shown.size() < text.size() ? "...\"" : "\"";
  return out;
}

void Path::append(std::string* out, bool indices) const {
  if (parent_ == nullptr) return;
  parent_->append(out, indices);
  *out += '/';
  if (is_index_) {
    *out += indices ? std::to_string(index_) : "*";
    return;
  }
  const std::string_view shown = cut(key_, kKeyBytesMax);
  for (const char c : shown) {
    if (c == '~') {
      *out += "~0";
    } else if (c == '/') {
      *out += "~1";
    } else {
      *out += c;
    }
  }
  if (shown.size() < key_.size()) *out += "...";
}

std::string Path::pointer() const {
  std::string out;
  append(&out, true);
  return out;
}

std::string Path::pattern() const {
  std::string out;
  append(&out, false);
  return out;
}

void Problems::add_error(std::string path, std::string message) {
  errors_.push_back({{std::move(path), std::move(message)}, owner_});
}

void Problems::add_warning(std::string path, std::string message) {
  if (warnings_.size() < kProblemsMax) {
    warnings_.push_back({std::move(path), std::move(message)});
  } else {
    ++more_warnings_;
  }
}

void Problems::error(std::string path, std::string message) {
  if (lenient_) return add_warning(std::move(path), std::move(message));
  ++errors_seen_;
  if (errors_.size() < kProblemsMax) {
    add_error(std::move(path), std::move(message));
  } else {
    ++more_errors_[owner_];
  }
}

void Problems::error(const Path& path, std::string message) {
  // The text of a path is made only for what is listed.
  const bool listed = lenient_ ? warnings_.size() < kProblemsMax : errors_.size() < kProblemsMax;
  error(listed ? path.pointer() : std::string(), std::move(message));
}

void Problems::warning(const Path& path, std::string message) {
  if (warnings_.size() < kProblemsMax) {
    add_warning(path.pointer(), std::move(message));
  } else {
    ++more_warnings_;
  }
}

void Problems::settle(const std::vector<bool>& in_use) {
  const auto counts = [&](Object owner) {
    return owner == kText || (owner < in_use.size() && in_use[owner]);
  };
  std::vector<Owned> kept;
  for (Owned& problem : errors_) {
    if (counts(problem.owner)) {
      kept.push_back(std::move(problem));
    } else {
      add_warning(std::move(problem.error.path),
                  problem.error.message + " (no error, because nothing that is served uses it)");
    }
  }
  errors_ = std::move(kept);
  std::erase_if(more_errors_, [&](const auto& more) {
    if (counts(more.first)) return false;
    more_warnings_ += more.second;
    return true;
  });
}

void Problems::unknown_field(const Path& path) {
  std::string pattern = path.pattern();
  const auto found = unknown_.find(pattern);
  if (found != unknown_.end()) {
    ++found->second.count;
  } else if (unknown_.size() < kUnknownFieldsMax) {
    unknown_.emplace(std::move(pattern), Unknown{path.pointer(), 1});
  } else {
    ++more_unknown_;
  }
}

base::Errors Problems::take_errors() {
  base::Errors out;
  for (Owned& problem : errors_) out.push_back(std::move(problem.error));
  std::size_t more = 0;
  for (const auto& [owner, count] : more_errors_) more += count;
  if (more != 0) out.push_back({"", fmt::format("{} more errors are not listed", more)});
  errors_.clear();
  more_errors_.clear();
  return out;
}

std::vector<base::Error> Problems::take_warnings() {
  std::vector<base::Error> out = std::exchange(warnings_, {});
  if (more_warnings_ != 0) {
    out.push_back({"", fmt::format("{} more warnings are not listed", more_warnings_)});
  }
  for (auto& [pattern, unknown] : unknown_) {
    std::string message = "ignored: this engine does not use it";
    if (unknown.count > 1) {
      message += fmt::format(" (the same in {} more places)", unknown.count - 1);
    }
    out.push_back({std::move(unknown.first), std::move(message)});
  }
  if (more_unknown_ != 0) {
    out.push_back({"", fmt::format("{} more ignored fields are not listed", more_unknown_)});
  }
  unknown_.clear();
  more_warnings_ = more_unknown_ = 0;
  return out;
}

}  // namespace limpet::config
