// Service: the API apart from the wire: which endpoint a request names, what its parameters say,
// which function of the Backend answers it, and how the answer reads. The sessions (session.h) do
// the HTTP.
//
// Owner: the control thread. Answers are printed on the Renderer's thread, because a status of all
// servers or a hundred thousand errors take longer to print than the control loop may stand still;
// they come back to the control thread before they are handed on.
//
// Invariants:
// 1. Everything about a request that can be refused without its body is refused by route(), before
//    64 MiB are read for nothing.
// 2. Every refusal is {"errors": [{"path", "message"}]}.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "common/telemetry/events.h"
#include "control/api/backend.h"
#include "control/api/query.h"

namespace limpet::api {

struct Response {
  unsigned status = 200;
  const char* content_type = "application/json";
  std::string allow;  // the Allow header; empty: none
  std::shared_ptr<const std::string> body;
};

using Respond = std::function<void(Response)>;

// A response with {"errors": …}.
Response refuse(unsigned status, const base::Errors& errors);
Response refuse(unsigned status, std::string message);

// The one thread on which answers become text.
class Renderer {
 public:
  explicit Renderer(boost::asio::io_context& io) : io_(io) {}
  ~Renderer() { close(); }

  // Calls `print` on the renderer's thread and `respond` with its result on the control thread.
  // After close(): destroys both uncalled.
  void run(std::function<Response()> print, Respond respond);

  // Ends the thread; what was waiting is dropped.
  void close();

 private:
  boost::asio::io_context& io_;
  std::unique_ptr<boost::asio::thread_pool> thread_ = std::make_unique<boost::asio::thread_pool>(1);
};

enum class Endpoint : uint8_t {
  kPutConfig,
  kGetConfig,
  kHealthMarks,
  kListEntries,
  kDeleteEntries,
  kExplain,
  kEvents,
  kStatus,
  kMetrics,
};

// What route() found in a request.
struct Route {
  Endpoint endpoint = Endpoint::kStatus;
  bool takes_body = false;
  PutOptions put;                // kPutConfig
  EntryFilter filter;            // kListEntries, kDeleteEntries
  PageRequest page;              // kListEntries
  ExplainRequest explain;        // kExplain
  uint64_t events_after = 0;     // kEvents
  std::size_t events_limit = 0;  // kEvents
};

// What route() looks at.
struct RequestHead {
  std::string_view method;
  std::string_view target;
  std::string_view content_type;  // empty: absent
  bool has_body = false;
  bool from_browser_page = false;  // has an Origin header
};

class Service : public std::enable_shared_from_this<Service> {
 public:
  // `backend` and `events` outlive the last call of serve().
  Service(boost::asio::io_context& io, Backend& backend, const telemetry::EventLog& events)
      : backend_(backend), events_(events), renderer_(io) {}

  std::variant<Route, Response> route(const RequestHead& head) const;

  // Calls `respond` once, on the control thread, now or later.
  void serve(Route route, std::string body, Respond respond);

  // Answers that are not printed yet are dropped from now on.
  void close() { renderer_.close(); }

 private:
  // The callback for a backend function: prints what it answers.
  template <class T>
  Answer<Outcome<T>> printed(Respond respond);

  Backend& backend_;
  const telemetry::EventLog& events_;
  Renderer renderer_;
};

}  // namespace limpet::api
