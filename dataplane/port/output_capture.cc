#include "dataplane/port/output_capture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>
#include <vector>

namespace limpet::port {
namespace {

constexpr std::size_t kSummaryMax = 400;

void flush() {
  std::fflush(stdout);
  std::fflush(stderr);
}

void put_back(int* saved, int fd) {
  if (*saved < 0) return;
  dup2(*saved, fd);
  close(std::exchange(*saved, -1));
}

}  // namespace

OutputCapture::OutputCapture() {
  flush();
  kept_ = memfd_create("limpet-log", MFD_CLOEXEC);
  if (kept_ < 0) return;  // then it is printed at once
  saved_out_ = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  saved_err_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (saved_out_ >= 0 && nowhere >= 0) dup2(nowhere, STDOUT_FILENO);
  if (nowhere >= 0) close(nowhere);
  if (saved_err_ >= 0) dup2(kept_, STDERR_FILENO);
}

OutputCapture::~OutputCapture() {
  finish();
}

std::string OutputCapture::finish() {
  std::string text;
  if (kept_ < 0) return text;
  flush();
  put_back(&saved_out_, STDOUT_FILENO);
  put_back(&saved_err_, STDERR_FILENO);
  std::array<char, 4096> piece{};
  ssize_t bytes = 0;
  while ((bytes = pread(kept_, piece.data(), piece.size(), static_cast<off_t>(text.size()))) > 0)
    text.append(piece.data(), static_cast<std::size_t>(bytes));
  close(std::exchange(kept_, -1));
  return text;
}

void pass_on(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

std::string log_summary(std::string_view log) {
  std::vector<std::string_view> seen;
  std::string out;
  while (!log.empty()) {
    std::string_view line = log.substr(0, log.find('\n'));
    log.remove_prefix(std::min(line.size() + 1, log.size()));
    for (const std::string_view prefix : {"EAL: ", "FATAL: ", "ETHDEV: "}) {
      if (line.starts_with(prefix)) line.remove_prefix(prefix.size());
    }
    while (!line.empty() && line.back() == ' ') line.remove_suffix(1);
    if (line.empty() || std::find(seen.begin(), seen.end(), line) != seen.end()) continue;
    seen.push_back(line);
    if (!out.empty()) out += "; ";
    out += line;
  }
  // What went wrong comes last.
  if (out.size() > kSummaryMax) out = "…" + out.substr(out.size() - kSummaryMax);
  return out;
}

}  // namespace limpet::port
