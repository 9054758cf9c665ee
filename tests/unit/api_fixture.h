// The real API server on a thread of its own with a fake engine behind it, and what the tests of
// the server and of limpetctl need to talk to it: raw sockets and certificates.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/telemetry/events.h"
#include "control/api/health_marks.h"
#include "control/api/server.h"
#include "control/failover/beat.h"
#include "control/mirroring/session.h"

namespace limpet::api {

inline constexpr timing::WallTime kNoon{1'769'860'800'000'000'000};  // 2026-01-31T12:00:00Z

inline EntryRow sample_row(std::string key) {
  return {.virtual_service = "web",
          .pool = "web-pool",
          .profile = "sticky",
          .type = "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS",
          .key = std::move(key),
          .server = "10.2.0.3:80",
          .connections = 1,
          .life_time_s = std::nullopt,
          .created = kNoon,
          .epoch = 0,
          .origin = "se1"};
}

// An engine with one virtual service "web" and a table of `rows` entries. Answers come through the
// io_context, later, as an engine's do; names of states are those that an engine says.
class FakeBackend : public Backend {
 public:
  explicit FakeBackend(boost::asio::io_context& io) : io_(io) {}

  std::size_t rows = 1;
  std::string row_server = "10.2.0.3:80";
  std::string config_text = R"({"generation":3})";
  std::size_t last_body_bytes = 0;
  PutOptions last_put;
  EntryFilter last_filter;
  ExplainRequest last_explain;
  PageRequest last_page;
  std::vector<HealthMark> marks;
  bool hold_answers = false;  // keeps put_config's answers instead of giving them
  std::vector<Answer<Outcome<ConfigApplied>>> held;
  std::vector<PeerStatus> peers{{.name = "se2",
                                 .state = std::string(name_of(mirroring::Session::State::kSynced)),
                                 .synced = true,
                                 .lag_entries = 4,
                                 .lag_ms = 20,
                                 .bytes_received = 300,
                                 .bytes_sent = 400,
                                 .resyncs_full = 1,
                                 .resyncs_resumed = 2,
                                 .rejected = 5}};
  std::vector<ReasonCount> strangers{{"tls", 3}};

  void put_config(std::string body, PutOptions options,
                  Answer<Outcome<ConfigApplied>> answer) override {
    last_body_bytes = body.size();
    last_put = options;
    if (hold_answers) return held.push_back(std::move(answer));
    if (body.find("bad") != std::string::npos)
      return later(std::move(answer),
                   Outcome<ConfigApplied>(Refusal{400,
                                                  {{"/Pool/0/servers/1/ip/addr", "not an address"},
                                                   {"/VirtualService/0/name", "is required"}}}));
    if (body.find("older") != std::string::npos)
      return later(std::move(answer),
                   Outcome<ConfigApplied>(Refusal{409, {{"/generation", "older than running"}}}));
    if (options.if_serving && body.find("serves none") != std::string::npos)
      return later(std::move(answer),
                   Outcome<ConfigApplied>(
                       Refusal{409,
                               {{"",
                                 "the document serves none of its 2 virtual services; 1 are served "
                                 "now"}}}));
    later(std::move(answer),
          Outcome<ConfigApplied>(ConfigApplied{7, {{"/Pool/0/color", "unknown field"}}, 1, 2}));
  }
  void get_config(Answer<std::shared_ptr<const std::string>> answer) override {
    answer(std::make_shared<const std::string>(config_text));
  }
  void health_marks(std::string body, Answer<Outcome<MarksApplied>> answer) override {
    auto parsed = parse_health_marks(body);
    if (!parsed)
      return later(std::move(answer), Outcome<MarksApplied>(Refusal{400, parsed.errors()}));
    for (const HealthMark& mark : parsed.value())
      if (mark.pool != "web-pool")
        return later(std::move(answer),
                     Outcome<MarksApplied>(
                         Refusal{404, {{"/0/pool", "there is no pool \"" + mark.pool + "\""}}}));
    marks = parsed.value();
    later(std::move(answer), Outcome<MarksApplied>(MarksApplied{marks.size()}));
  }
  void list_entries(EntryFilter filter, PageRequest page,
                    Answer<Outcome<EntryPage>> answer) override {
    last_filter = filter;
    last_page = page;
    if (filter.virtual_service && *filter.virtual_service != "web")
      return later(std::move(answer),
                   Outcome<EntryPage>(Refusal{404, {{"/query/virtual_service", "unknown"}}}));
    EntryPage result{.count = rows, .rows = {}, .next = std::nullopt};
    std::size_t i = page.cursor.empty() ? 0 : std::stoul(page.cursor.substr(1));
    for (; i < rows && result.rows.size() < page.limit; ++i) {
      result.rows.push_back(
          sample_row("10.1." + std::to_string(i / 256) + "." + std::to_string(i % 256)));
      result.rows.back().server = row_server;
    }
    if (i < rows) result.next = "&" + std::to_string(i);  // a cursor that needs encoding
    later(std::move(answer), Outcome<EntryPage>(std::move(result)));
  }
  void delete_entries(EntryFilter filter, Answer<Outcome<EntriesRemoved>> answer) override {
    last_filter = filter;
    later(std::move(answer), Outcome<EntriesRemoved>(EntriesRemoved{rows}));
  }
  void explain(ExplainRequest request, Answer<Outcome<Explanation>> answer) override {
    last_explain = request;
    if (request.virtual_service != "web")
      return later(std::move(answer),
                   Outcome<Explanation>(Refusal{404, {{"/query/virtual_service", "unknown"}}}));
    later(std::move(answer), Outcome<Explanation>(Explanation{
                                 .virtual_service = "web",
                                 .client = request.client.to_string(),
                                 .decision = Decision::kForward,
                                 .server = "10.2.0.3:80",
                                 .reason = "entry",
                                 .entry = sample_row(request.client.to_string()),
                                 .candidates = {{"10.2.0.2:80", "OPER_DOWN", "down"},
                                                {"10.2.0.3:80", "OPER_UP", std::nullopt}},
                                 .home_core = 1,
                                 .steps = {"the home of key 10.1.0.2 is the worker on core 1",
                                           "the binding names 10.2.0.3:80"}}));
  }
  void status(Answer<StatusView> answer) override {
    later(std::move(answer),
          StatusView{.name = "se1",
                     .version = "0.1.0",
                     .generation = 3,
                     .uptime_s = 61,
                     .ports = {{"front", "02:00:00:00:00:01", "up", 10, 20, {{"truncated", 2}}}},
                     .workers = {{1, 12.5, 5, 1}},
                     .virtual_services = {{.name = "web",
                                           .tenant = "admin",
                                           .uuid = "virtualservice-1",
                                           .serving = true,
                                           .reason = std::nullopt,
                                           .oper_status = "OPER_UP",
                                           .connections = 5,
                                           .pool = "web-pool",
                                           .servers = {{"10.2.0.2:80", "OPER_DOWN", "planned work",
                                                        StateSource::kApi, true, 0, 0},
                                                       {"10.2.0.3:80", "OPER_UP", std::nullopt,
                                                        StateSource::kDefault, true, 5, 1}}},
                                          {.name = "shop",
                                           .tenant = "blue",
                                           .uuid = "virtualservice-2",
                                           .serving = false,
                                           .reason = "TCP proxy is not built yet",
                                           .oper_status = "OPER_DISABLED",
                                           .pool = "shop-pool",
                                           .servers = {}}},
                     .groups = {{"group", "se1", std::string(name_of(failover::State::kOwner))}},
                     .peers = peers,
                     .strangers = strangers});
  }
  void metrics(Answer<MetricsView> answer) override {
    MetricsView view;
    view.version = "0.1.0";
    view.ports = {{.name = "front", .link_up = true, .rx_packets = 10, .tx_packets = 20}};
    later(std::move(answer), std::move(view));
  }

 private:
  template <class T>
  void later(Answer<T> answer, T value) {
    boost::asio::post(io_, [answer = std::move(answer), value = std::move(value)]() mutable {
      answer(std::move(value));
    });
  }

  boost::asio::io_context& io_;
};

// A folder that is gone at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "limpet-api-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string file(const std::string& name) const { return (path / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name)) << text;
    return file(name);
  }

  std::filesystem::path path;
};

// A certificate authority with a server's (127.0.0.1) and a client's certificate, and a stranger's
// client certificate that it did not sign.
inline void make_certificates(const TemporaryFolder& folder) {
  folder.write("make.sh", R"(set -e
cd "$1"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
ca() { key "$1"; openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 2 -out "$1.pem"; }
signed() {
  key "$1"; openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
  printf 'subjectAltName=IP:127.0.0.1\n' > san
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 2 -extfile san -out "$1.pem"
}
ca authority; ca other
signed server authority; signed client authority; signed stranger other
)");
  const std::string command =
      "sh " + folder.file("make.sh") + " " + folder.path.string() + " >/dev/null 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0);
}

// The server under test. Everything of the backend is touched on the server's thread only: use
// on_loop().
class ApiServer {
 public:
  explicit ApiServer(const config::ApiOptions& options, const ServerLimits& limits = {}) {
    auto opened = Server::open(io, options, backend, events, limits);
    if (!opened) {
      errors = opened.errors();
      return;
    }
    server = std::move(opened.value());
    port = server->port();
    thread_ = std::thread([this] { io.run(); });
  }
  static config::ApiOptions loopback() {
    return {.listen = *net::Endpoint::parse("127.0.0.1:0"), .tls = std::nullopt};
  }
  static config::ApiOptions tls(const TemporaryFolder& certificates) {
    config::ApiOptions options = loopback();
    options.tls = config::TlsFiles{.certificate = certificates.file("server.pem"),
                                   .key = certificates.file("server.key"),
                                   .client_ca = certificates.file("authority.pem")};
    return options;
  }

  // Runs `work` on the server's thread and waits for it.
  template <class F>
  auto on_loop(F work) {
    std::packaged_task<decltype(work())()> task(std::move(work));
    auto result = task.get_future();
    boost::asio::post(io, [&task] { task(); });
    return result.get();
  }

  ~ApiServer() {
    if (thread_.joinable()) {
      on_loop([this] { server->close(); });
      guard_.reset();
      thread_.join();
    }
  }
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port); }

  boost::asio::io_context io;
  telemetry::EventLog events{nullptr};
  FakeBackend backend{io};
  base::Errors errors;
  std::unique_ptr<Server> server;
  uint16_t port = 0;

 private:
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{
      io.get_executor()};
  std::thread thread_;
};

}  // namespace limpet::api
