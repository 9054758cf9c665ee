// limpetctl's commands: each asks the API, prints, and returns the process's exit status.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/cli/client.h"

namespace limpet::cli {

enum ExitStatus : int { kDone = 0, kRefused = 1, kUsage = 2, kUnreachable = 3 };

// Prints with --json the raw answer, else text for people.
struct Context {
  Client& client;
  bool json = false;
};

// (name, value) of the API's query parameters.
using Filters = std::vector<std::pair<std::string, std::string>>;

int show_status(const Context& context);
int show_peers(const Context& context);

// Follows the cursors to the end of the listing, or to `limit` rows. With --json the pages become
// one answer of the same shape.
int list_entries(const Context& context, const Filters& filters, std::optional<uint64_t> limit);
int clear_entries(const Context& context, const Filters& filters);

int apply_document(const Context& context, const std::string& document);

// `oper_status`: OPER_UP, OPER_DOWN, or nothing to take the mark back.
struct MarkRequest {
  std::string pool;
  std::string server;
  std::optional<std::string> oper_status;
  std::string reason;
};
int mark_server(const Context& context, const MarkRequest& request);

int explain(const Context& context, const std::string& virtual_service, const std::string& client);

// With `follow` it goes on until the process is ended or the engine cannot be reached.
int show_events(const Context& context, uint64_t after, bool follow);

}  // namespace limpet::cli
