#include "control/cli/table.h"

#include <algorithm>

namespace limpet::cli {

std::string printable(std::string_view text) {
  std::string safe(text);
  for (char& c : safe)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return safe;
}

Table::Table(std::vector<std::string> header) : widths_(header.size(), 0) {
  add(std::move(header));
}

void Table::add(std::vector<std::string> row) {
  row.resize(widths_.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = printable(row[i]);
    widths_[i] = std::max(widths_[i], row[i].size());
  }
  rows_.push_back(std::move(row));
}

std::string Table::take(std::size_t indent) {
  std::string text;
  for (const auto& row : rows_) {
    std::string line(indent, ' ');
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths_[i] - row[i].size() + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  rows_.clear();
  return text;
}

}  // namespace limpet::cli
