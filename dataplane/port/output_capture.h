// OutputCapture: keeps what DPDK and its drivers print while they start something. When it works,
// the lines are passed on; when not, what they say becomes part of our error, and nothing else is
// printed: DPDK's help text, the same line three times, banners.
//
// Thread: the control thread, before there are workers; the whole process's output is kept. Not in
// the data path. (Should DPDK crash meanwhile, what it logged is in syslog only.)
#pragma once

#include <string>
#include <string_view>

namespace limpet::port {

class OutputCapture {
 public:
  OutputCapture();
  OutputCapture(const OutputCapture&) = delete;
  OutputCapture& operator=(const OutputCapture&) = delete;
  ~OutputCapture();

  // Ends it: what was printed on standard error since. What was printed on standard output is gone.
  std::string finish();

 private:
  int saved_out_ = -1;
  int saved_err_ = -1;
  int kept_ = -1;
};

// Prints on standard error.
void pass_on(std::string_view text);

// What a log says, in one line: each line once, without DPDK's "EAL: " and the like; of a long one
// the last 400 bytes. Empty when it says nothing.
std::string log_summary(std::string_view log);

}  // namespace limpet::port
