// Table: text in aligned columns for people.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace limpet::cli {

// `text` without the characters that would steer a terminal: names come from documents and peers.
std::string printable(std::string_view text);

class Table {
 public:
  explicit Table(std::vector<std::string> header);

  void add(std::vector<std::string> row);

  // Header and rows added so far as lines, each behind `indent` spaces; then forgets the rows, so
  // that a long listing can be printed in pieces. The header comes only the first time; columns
  // never become narrower.
  std::string take(std::size_t indent = 0);

 private:
  std::vector<std::size_t> widths_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace limpet::cli
