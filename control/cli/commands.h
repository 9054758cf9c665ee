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

// A document that serves none of its virtual services while some are served now is refused unless
// `serving_none_is_meant`.
struct ApplyRequest {
  std::string document;
  bool serving_none_is_meant = false;
};
int apply_document(const Context& context, const ApplyRequest& request);

// `oper_status`: OPER_UP, OPER_DOWN, or nothing to take the mark back.
struct MarkRequest {
  std::string pool;
  std::string server;
  std::optional<std::string> oper_status;
  std::string reason;
  std::optional<std::string> tenant;  // of the pool
};
int mark_server(const Context& context, const MarkRequest& request);

struct ExplainRequest {
  std::string virtual_service;
  std::string client;
  std::optional<std::string> tenant;  // of the virtual service
};
int explain(const Context& context, const ExplainRequest& request);

// With `follow` it goes on until the process is ended or the engine cannot be reached.
int show_events(const Context& context, uint64_t after, bool follow);

}  // namespace limpet::cli
