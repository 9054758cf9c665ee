// The API server on real sockets: HTTP as clients, broken clients and hostile clients send it.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/stat.h>

#include <csignal>
#include <list>
#include <nlohmann/json.hpp>

#include "tests/unit/api_fixture.h"

namespace limpet::api {
namespace {

using nlohmann::json;

// A raw client socket; every wait ends after 20 s, so a broken server fails a test and does not
// hang it.
class Wire {
 public:
  // `from`: this host's address that the server sees.
  explicit Wire(uint16_t port, const std::string& from = "127.0.0.1") {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in own = to;
    to.sin_port = htons(port);
    ::inet_pton(AF_INET, from.c_str(), &own.sin_addr);
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&own), sizeof(own)), 0);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0;
  }
  explicit Wire(const std::string& path) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    path.copy(to.sun_path, sizeof(to.sun_path) - 1);
    fd_ = ::socket(AF_UNIX, SOCK_STREAM, 0);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0;
  }
  ~Wire() { ::close(fd_); }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  bool connected() const { return connected_; }
  int fd() const { return fd_; }

  // Returns whether all of it was taken.
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  // One response: head and the body its Content-Length tells.
  std::string response(bool has_body = true) {
    while (received_.find("\r\n\r\n") == std::string::npos)
      if (!more()) return std::exchange(received_, "");
    std::size_t size = received_.find("\r\n\r\n") + 4;
    const auto field = received_.find("Content-Length: ");
    if (has_body && field < size) size += std::stoul(received_.substr(field + 16));
    while (received_.size() < size)
      if (!more()) break;
    const std::string text = received_.substr(0, size);
    received_.erase(0, text.size());
    return text;
  }

  // Whether the server has closed the connection (after what was still to come).
  bool closed() {
    while (more(kCloseTimeMaxMs)) {
    }
    return !timed_out_;
  }

 private:
  static constexpr int kAnswerTimeMaxMs = 20'000;
  static constexpr int kCloseTimeMaxMs = 3'000;  // of those with a deadline of 50 ms too

  bool more(int timeout_ms = kAnswerTimeMaxMs) {
    pollfd waiting{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, timeout_ms) <= 0) {
      timed_out_ = true;
      return false;
    }
    char bytes[65'536];
    const ssize_t n = ::recv(fd_, bytes, sizeof(bytes), 0);
    if (n <= 0) return false;
    received_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

  int fd_ = -1;
  bool connected_ = false;
  bool timed_out_ = false;
  std::string received_;
};

unsigned status_of(const std::string& response) {
  return response.starts_with("HTTP/1.1 ")
             ? static_cast<unsigned>(std::stoul(response.substr(9, 3)))
             : 0;
}
json body_of(const std::string& response) {
  const auto end = response.find("\r\n\r\n");
  return end == std::string::npos ? json() : json::parse(response.substr(end + 4), nullptr, false);
}
std::string request(const std::string& line, const std::string& body = "",
                    const std::string& fields = "") {
  return line + " HTTP/1.1\r\nHost: x\r\n" + fields +
         (body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n") + "\r\n" +
         body;
}

class ServerTest : public testing::Test {
 protected:
  std::string ask(const std::string& text) {
    Wire wire(api_.port);
    wire.send(text);
    return wire.response();
  }

  ApiServer api_{ApiServer::loopback()};
};

TEST_F(ServerTest, answers_every_endpoint) {
  EXPECT_EQ(body_of(ask(request("GET /v1/status")))["name"], "se1");
  EXPECT_EQ(body_of(ask(request("GET /v1/config"))), json::parse(R"({"generation": 3})"));
  EXPECT_EQ(body_of(ask(request("PUT /v1/config", "{}")))["generation"], 7);
  EXPECT_EQ(body_of(ask(request("GET /v1/persistence-tables")))["results"][0]["key"], "10.1.0.0");
  EXPECT_EQ(body_of(ask(request("DELETE /v1/persistence-tables"))), json({{"removed", 1}}));
  EXPECT_EQ(
      body_of(ask(request("GET /v1/explain?virtual_service=web&client=10.1.0.2")))["decision"],
      "forward");
  EXPECT_EQ(body_of(ask(request("GET /v1/events?after=5"))),
            json::parse(R"({"events":[],"next":0})"));
  const std::string metrics = ask(request("GET /metrics"));
  EXPECT_NE(metrics.find("Content-Type: text/plain; version=0.0.4"), std::string::npos);
  EXPECT_NE(metrics.find("limpet_packets_total{port=\"front\",direction=\"rx\"} 10\n"),
            std::string::npos);
}

TEST_F(ServerTest, hands_filters_to_the_backend) {
  ask(
      request("GET /v1/persistence-tables?virtual_service=web&pool=web-pool&client=10.1.0.0/16"
              "&server=10.2.0.3:80&limit=5&cursor=%260"));
  api_.on_loop([this] {
    EXPECT_EQ(api_.backend.last_filter.pool, "web-pool");
    EXPECT_EQ(std::get<net::Prefix>(*api_.backend.last_filter.client).length, 16);
    EXPECT_EQ(api_.backend.last_filter.server->port, 80);
    EXPECT_EQ(api_.backend.last_page.limit, 5u);
    EXPECT_EQ(api_.backend.last_page.cursor, "&0");
  });
}

TEST_F(ServerTest, passes_the_backends_refusals_on) {
  const std::string refused = ask(request("PUT /v1/config", "bad"));
  EXPECT_EQ(status_of(refused), 400u);
  EXPECT_EQ(body_of(refused)["errors"].size(), 2u);
  EXPECT_EQ(status_of(ask(request("PUT /v1/config", "older"))), 409u);
  const std::string unknown = ask(request("GET /v1/explain?virtual_service=x&client=10.1.0.2"));
  EXPECT_EQ(status_of(unknown), 404u);
  EXPECT_EQ(body_of(unknown)["errors"][0]["path"], "/query/virtual_service");
}

TEST_F(ServerTest, applies_marks) {
  EXPECT_EQ(
      status_of(ask(request("POST /v1/health-marks",
                            R"([{"pool":"web-pool","server":"10.2.0.3:80","oper_status":null}])"))),
      200u);
  EXPECT_EQ(api_.on_loop([this] { return api_.backend.marks.size(); }), 1u);
  EXPECT_EQ(status_of(ask(request("POST /v1/health-marks", "nonsense"))), 400u);
}

TEST_F(ServerTest, refuses_unknown_resources_methods_and_parameters_as_json) {
  const std::string missing = ask(request("GET /nothing"));
  EXPECT_EQ(status_of(missing), 404u);
  EXPECT_TRUE(body_of(missing)["errors"][0].contains("message"));
  const std::string method = ask(request("PATCH /v1/config"));
  EXPECT_EQ(status_of(method), 405u);
  EXPECT_NE(method.find("Allow: GET, PUT\r\n"), std::string::npos);
  const std::string parameter = ask(request("GET /v1/status?verbose=1"));
  EXPECT_EQ(status_of(parameter), 400u);
  EXPECT_EQ(body_of(parameter)["errors"][0]["path"], "/query/verbose");
}

TEST_F(ServerTest, keeps_the_connection_over_requests_and_refusals) {
  Wire wire(api_.port);
  for (int i = 0; i < 3; ++i) {
    wire.send(request("GET /v1/config"));
    EXPECT_EQ(status_of(wire.response()), 200u);
    wire.send(request("GET /nothing"));
    EXPECT_EQ(status_of(wire.response()), 404u);
  }
}

TEST_F(ServerTest, answers_pipelined_requests_in_order) {
  Wire wire(api_.port);
  wire.send(request("PUT /v1/config", "{}") + request("GET /nothing") + request("GET /v1/config"));
  EXPECT_EQ(status_of(wire.response()), 200u);
  EXPECT_EQ(status_of(wire.response()), 404u);
  EXPECT_EQ(body_of(wire.response())["generation"], 3);
}

TEST_F(ServerTest, closes_when_the_client_asks) {
  Wire wire(api_.port);
  wire.send(request("GET /v1/config", "", "Connection: close\r\n"));
  EXPECT_EQ(status_of(wire.response()), 200u);
  EXPECT_TRUE(wire.closed());
}

TEST_F(ServerTest, serves_http_1_0) {
  Wire wire(api_.port);
  wire.send("GET /v1/config HTTP/1.0\r\n\r\n");
  EXPECT_NE(wire.response().find(" 200 OK"), std::string::npos);
  EXPECT_TRUE(wire.closed());
}

TEST_F(ServerTest, sends_no_body_after_head) {
  Wire wire(api_.port);
  wire.send(request("HEAD /v1/status") + request("GET /v1/config"));
  EXPECT_EQ(status_of(wire.response(false)), 405u);
  EXPECT_EQ(status_of(wire.response()), 200u);
}

TEST_F(ServerTest, answers_garbage_with_400_and_closes) {
  for (const std::string& garbage :
       {std::string("\r\n\r\n\r\nhello\r\n\r\n"), std::string("GET\r\n\r\n"),
        std::string("GET /v1/status HTTP/9.9\r\n\r\n"), std::string(200, '\0'),
        std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello", 23),
        request("PUT /v1/config", "", "Content-Length: -1\r\n"),
        request("PUT /v1/config", "", "Content-Length: 1\r\nContent-Length: 2\r\n"),
        request("PUT /v1/config", "", "Transfer-Encoding: chunked\r\n") + "zz\r\n"}) {
    Wire wire(api_.port);
    wire.send(garbage);
    EXPECT_EQ(status_of(wire.response()), 400u) << garbage;
    EXPECT_TRUE(wire.closed());
  }
  EXPECT_EQ(status_of(ask(request("GET /v1/config"))), 200u);
}

TEST_F(ServerTest, refuses_a_head_that_is_too_large) {
  const std::string refused =
      ask(request("GET /v1/config", "", "X: " + std::string(20'000, 'x') + "\r\n"));
  EXPECT_EQ(status_of(refused), 431u);
  EXPECT_TRUE(body_of(refused).contains("errors"));
}

TEST_F(ServerTest, takes_a_body_of_64_mib) {
  const std::string body(base::kRequestBodyBytesMax, ' ');
  EXPECT_EQ(status_of(ask(request("PUT /v1/config", body))), 200u);
  EXPECT_EQ(api_.on_loop([this] { return api_.backend.last_body_bytes; }), body.size());
}

TEST_F(ServerTest, refuses_a_body_above_64_mib_before_it_comes) {
  Wire wire(api_.port);
  wire.send("PUT /v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: 67108865\r\n\r\n{");
  const std::string refused = wire.response();
  EXPECT_EQ(status_of(refused), 413u);
  EXPECT_TRUE(body_of(refused).contains("errors"));
}

TEST_F(ServerTest, delivers_413_to_a_client_that_sends_all_the_same) {
  Wire wire(api_.port);
  std::thread sender([&] {
    wire.send(request("PUT /v1/config", std::string(base::kRequestBodyBytesMax + 1, ' ')));
  });
  EXPECT_EQ(status_of(wire.response()), 413u);
  ::shutdown(wire.fd(), SHUT_RDWR);
  sender.join();
}

TEST_F(ServerTest, reads_chunked_bodies_and_bounds_them) {
  const std::string chunked = request("PUT /v1/config", "", "Transfer-Encoding: chunked\r\n");
  EXPECT_EQ(status_of(ask(chunked + "2\r\n{}\r\n0\r\n\r\n")), 200u);
  EXPECT_EQ(api_.on_loop([this] { return api_.backend.last_body_bytes; }), 2u);
  EXPECT_EQ(status_of(ask(chunked + "4000001\r\n")), 413u);
}

TEST_F(ServerTest, tells_a_waiting_client_to_send_its_body) {
  Wire wire(api_.port);
  wire.send(
      "PUT /v1/config HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(status_of(wire.response()), 100u);
  wire.send("{}");
  EXPECT_EQ(status_of(wire.response()), 200u);
}

TEST_F(ServerTest, refuses_a_body_nobody_reads) {
  EXPECT_EQ(status_of(ask(request("GET /v1/status", "{}"))), 400u);
  EXPECT_EQ(status_of(ask(request("DELETE /v1/persistence-tables", "{}"))), 400u);
  EXPECT_EQ(status_of(ask(request("PUT /v1/config", "{}", "Content-Type: application/xml\r\n"))),
            415u);
}

TEST_F(ServerTest, holds_a_bounded_number_of_large_bodies) {
  const std::string head = "PUT /v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n";
  std::vector<std::unique_ptr<Wire>> uploads;
  const std::string expect =
      "PUT /v1/config HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
      "2000000\r\n\r\n";
  for (std::size_t i = 0; i < kLargeBodiesMax; ++i) {
    uploads.push_back(std::make_unique<Wire>(api_.port));
    uploads.back()->send(expect);
    EXPECT_EQ(status_of(uploads.back()->response()), 100u);
  }
  EXPECT_EQ(status_of(ask(head)), 503u);
  uploads.front()->send(std::string(2'000'000, ' '));
  EXPECT_EQ(status_of(uploads.front()->response()), 200u);
  EXPECT_EQ(status_of(ask(head + std::string(2'000'000, ' '))), 200u);
}

TEST_F(ServerTest, answers_others_while_a_configuration_is_being_applied) {
  api_.on_loop([this] { api_.backend.hold_answers = true; });
  Wire waiting(api_.port);
  waiting.send(request("PUT /v1/config", "{}"));
  EXPECT_EQ(status_of(ask(request("GET /v1/config"))), 200u);
  while (api_.on_loop([this] { return api_.backend.held.empty(); })) {
  }
  api_.on_loop([this] { api_.backend.held.front()(ConfigApplied{9, {}}); });
  EXPECT_EQ(body_of(waiting.response())["generation"], 9);
}

TEST_F(ServerTest, survives_clients_that_leave_before_their_answer) {
  api_.on_loop([this] { api_.backend.hold_answers = true; });
  {
    Wire leaving(api_.port);
    leaving.send(request("PUT /v1/config", "{}"));
    while (api_.on_loop([this] { return api_.backend.held.empty(); })) {
    }
  }
  api_.on_loop([this] { api_.backend.held.front()(ConfigApplied{9, {}}); });
  EXPECT_EQ(status_of(ask(request("GET /v1/config"))), 200u);
}

TEST_F(ServerTest, closes_a_connection_whose_answer_is_dropped) {
  api_.on_loop([this] { api_.backend.hold_answers = true; });
  Wire wire(api_.port);
  wire.send(request("PUT /v1/config", "{}"));
  while (api_.on_loop([this] { return api_.backend.held.empty(); })) {
  }
  api_.on_loop([this] { api_.backend.held.clear(); });
  EXPECT_TRUE(wire.closed());
}

TEST_F(ServerTest, delivers_a_document_of_64_mib) {
  api_.on_loop([this] { api_.backend.config_text.assign(base::kRequestBodyBytesMax, 'x'); });
  const std::string response = ask(request("GET /v1/config"));
  EXPECT_EQ(response.size() - response.find("\r\n\r\n") - 4, base::kRequestBodyBytesMax);
}

TEST_F(ServerTest, ends_its_connections_when_closed) {
  Wire idle(api_.port);
  idle.send(request("GET /v1/config"));
  idle.response();
  api_.on_loop([this] { api_.server->close(); });
  EXPECT_TRUE(idle.closed());
  EXPECT_FALSE(Wire(api_.port).connected());
}

TEST(ServerDeadlines, close_idle_and_slow_clients) {
  ServerLimits limits;
  limits.deadlines.head = std::chrono::milliseconds(50);
  limits.deadlines.body = std::chrono::milliseconds(50);
  ApiServer api(ApiServer::loopback(), limits);
  Wire idle(api.port);
  Wire slow_head(api.port);
  slow_head.send("GET /v1/sta");
  Wire slow_body(api.port);
  slow_body.send("PUT /v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{");
  EXPECT_TRUE(idle.closed());
  EXPECT_TRUE(slow_head.closed());
  EXPECT_TRUE(slow_body.closed());
}

TEST(ServerConnections, give_the_place_of_the_longest_quiet_to_a_newcomer) {
  ServerLimits limits;
  limits.connections_max = 3;
  ApiServer api(ApiServer::loopback(), limits);
  Wire first(api.port), second(api.port), third(api.port);
  for (Wire* wire : {&second, &third, &first}) {
    wire->send(request("GET /v1/config"));
    EXPECT_EQ(status_of(wire->response()), 200u);
  }
  Wire fourth(api.port);
  fourth.send(request("GET /v1/config"));
  EXPECT_EQ(status_of(fourth.response()), 200u);
  EXPECT_TRUE(second.closed());
  first.send(request("GET /v1/config"));
  EXPECT_EQ(status_of(first.response()), 200u);
}

TEST(ServerConnections, are_refused_while_all_are_being_served) {
  ServerLimits limits;
  limits.connections_max = 1;
  ApiServer api(ApiServer::loopback(), limits);
  api.on_loop([&] { api.backend.hold_answers = true; });
  Wire busy(api.port);
  busy.send(request("PUT /v1/config", "{}"));
  while (api.on_loop([&] { return api.backend.held.empty(); })) {
  }
  EXPECT_TRUE(Wire(api.port).closed());
  api.on_loop([&] { api.backend.held.front()(ConfigApplied{1, {}}); });
  EXPECT_EQ(status_of(busy.response()), 200u);
}

TEST(UnixSocket, has_mode_0660_and_is_removed_at_the_end) {
  const TemporaryFolder folder;
  const std::string path = folder.file("api.sock");
  {
    ApiServer api({.listen = config::UnixSocketPath{path}, .tls = std::nullopt});
    ASSERT_TRUE(api.errors.empty());
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777u, 0660u);
    Wire wire(path);
    wire.send(request("GET /v1/config"));
    EXPECT_EQ(status_of(wire.response()), 200u);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(UnixSocket, replaces_a_stale_socket_but_no_living_one_and_no_file) {
  const TemporaryFolder folder;
  const std::string path = folder.file("api.sock");
  const config::ApiOptions options{.listen = config::UnixSocketPath{path}, .tls = std::nullopt};
  const int stale = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  path.copy(at.sun_path, sizeof(at.sun_path) - 1);
  ASSERT_EQ(::bind(stale, reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  ::close(stale);
  ApiServer api(options);
  EXPECT_TRUE(api.errors.empty());
  const ApiServer second(options);
  ASSERT_EQ(second.errors.size(), 1u);
  EXPECT_EQ(second.errors[0].path, "/api/listen");
  const ApiServer third(
      {.listen = config::UnixSocketPath{folder.write("file", "data")}, .tls = std::nullopt});
  EXPECT_EQ(third.errors.size(), 1u);
  const ApiServer fourth(
      {.listen = config::UnixSocketPath{folder.file(std::string(200, 'x'))}, .tls = std::nullopt});
  EXPECT_EQ(fourth.errors.size(), 1u);
}

TEST(ServerOpen, says_why_it_cannot_listen) {
  const ApiServer first(ApiServer::loopback());
  const ApiServer second({.listen = net::Endpoint{*net::Address::parse("127.0.0.1"), first.port},
                          .tls = std::nullopt});
  ASSERT_EQ(second.errors.size(), 1u);
  EXPECT_EQ(second.errors[0].path, "/api/listen");
}

TEST(ServerOpen, requires_tls_off_loopback) {
  const ApiServer api({.listen = *net::Endpoint::parse("0.0.0.0:0"), .tls = std::nullopt});
  ASSERT_EQ(api.errors.size(), 1u);
  EXPECT_EQ(api.errors[0].path, "/api/tls");
}

TEST(ServerOpen, serves_ipv6) {
  const ApiServer api({.listen = *net::Endpoint::parse("[::1]:0"), .tls = std::nullopt});
  EXPECT_TRUE(api.errors.empty());
  EXPECT_NE(api.port, 0);
}

TEST(ServerOpen, names_every_tls_file_it_cannot_use) {
  config::ApiOptions options = ApiServer::loopback();
  options.tls = config::TlsFiles{"/nonexistent/c", "/nonexistent/k", "/nonexistent/a"};
  const ApiServer api(options);
  ASSERT_EQ(api.errors.size(), 3u);
  EXPECT_EQ(api.errors[0].path, "/api/tls/certificate");
  EXPECT_EQ(api.errors[2].path, "/api/tls/client_ca");
}

class TlsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to connections that the server has closed
    folder_ = new TemporaryFolder;
    make_certificates(*folder_);
  }
  static void TearDownTestSuite() { delete folder_; }

  // TLS over a connection, with the certificate of `name` (empty: none).
  class Client {
   public:
    Client(Wire& wire, const std::string& name, int version = 0) {
      if (version != 0) SSL_CTX_set_max_proto_version(context_.get(), version);
      if (!name.empty()) {
        SSL_CTX_use_certificate_file(context_.get(), folder_->file(name + ".pem").c_str(),
                                     SSL_FILETYPE_PEM);
        SSL_CTX_use_PrivateKey_file(context_.get(), folder_->file(name + ".key").c_str(),
                                    SSL_FILETYPE_PEM);
      }
      const timeval patience{.tv_sec = 20, .tv_usec = 0};
      ::setsockopt(wire.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
      ssl_.reset(SSL_new(context_.get()));
      SSL_set_fd(ssl_.get(), wire.fd());
      connected_ = SSL_connect(ssl_.get()) == 1;
    }

    // The answer to GET /v1/config; empty when the server is gone. With `close` it goes on until
    // the end of the connection, else until one answer is whole.
    std::string get(bool close) {
      const std::string text = request("GET /v1/config", "", close ? "Connection: close\r\n" : "");
      if (!connected_ || SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) <= 0)
        return "";
      std::string answer;
      char bytes[4096];
      while (close || body_of(answer).is_discarded() || answer.empty()) {
        const int n = SSL_read(ssl_.get(), bytes, sizeof(bytes));
        if (n <= 0) break;
        answer.append(bytes, static_cast<std::size_t>(n));
      }
      return answer;
    }

   private:
    std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_{SSL_CTX_new(TLS_client_method()),
                                                               &SSL_CTX_free};
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, &SSL_free};
    bool connected_ = false;
  };

  static std::string get(uint16_t port, const std::string& name, int version = 0) {
    Wire wire(port);
    return Client(wire, name, version).get(true);
  }

  static TemporaryFolder* folder_;
};
TemporaryFolder* TlsTest::folder_ = nullptr;

TEST_F(TlsTest, serves_clients_with_a_certificate_of_the_authority) {
  const ApiServer api(ApiServer::tls(*folder_));
  ASSERT_TRUE(api.errors.empty());
  EXPECT_EQ(status_of(get(api.port, "client")), 200u);
  EXPECT_EQ(status_of(get(api.port, "client", TLS1_2_VERSION)), 200u);
}

TEST_F(TlsTest, answers_nobody_else) {
  const ApiServer api(ApiServer::tls(*folder_));
  EXPECT_EQ(get(api.port, ""), "");
  EXPECT_EQ(get(api.port, "stranger"), "");
  EXPECT_EQ(get(api.port, "client", TLS1_1_VERSION), "");
  Wire plain(api.port);
  plain.send(request("GET /v1/config"));
  EXPECT_EQ(plain.response().find("HTTP"), std::string::npos);
}

TEST_F(TlsTest, gives_no_clients_place_to_somebody_without_a_certificate) {
  ServerLimits limits;
  limits.connections_max = 2;
  limits.strangers_max = 4;
  const ApiServer api(ApiServer::tls(*folder_), limits);
  Wire wire(api.port);
  Client client(wire, "client");
  ASSERT_EQ(status_of(client.get(false)), 200u);
  std::list<Wire> strangers;
  for (int i = 0; i < 20; ++i) {
    strangers.emplace_back(api.port);
    EXPECT_EQ(get(api.port, "stranger"), "");
  }
  // The oldest had to go for the newest: when that has happened, all newcomers have been seen.
  EXPECT_TRUE(strangers.front().closed());
  EXPECT_EQ(status_of(client.get(false)), 200u);
  EXPECT_EQ(status_of(get(api.port, "client")), 200u);
}

TEST_F(TlsTest, keeps_nobody_out_because_one_host_opens_many_connections) {
  ServerLimits limits;
  limits.strangers_max = 4;
  const ApiServer api(ApiServer::tls(*folder_), limits);
  std::list<Wire> flood;
  const auto pour = [&] {
    for (int i = 0; i < 10; ++i) flood.emplace_back(api.port, "127.0.0.2");
  };
  pour();
  Wire slow(api.port, "127.0.0.3");  // does not begin its handshake before the flood goes on
  pour();
  for (int i = 0; i < 16; ++i, flood.pop_front()) EXPECT_TRUE(flood.front().closed()) << i;
  EXPECT_EQ(status_of(Client(slow, "client").get(true)), 200u);
  EXPECT_EQ(status_of(get(api.port, "client")), 200u);
}

TEST_F(TlsTest, makes_room_among_clients_once_somebody_is_one) {
  ServerLimits limits;
  limits.connections_max = 1;
  const ApiServer api(ApiServer::tls(*folder_), limits);
  Wire one(api.port), two(api.port);
  Client first(one, "client");
  ASSERT_EQ(status_of(first.get(false)), 200u);
  EXPECT_EQ(status_of(Client(two, "client").get(false)), 200u);
  EXPECT_TRUE(one.closed());
}

TEST_F(TlsTest, refuses_a_key_that_does_not_fit) {
  config::ApiOptions options = ApiServer::tls(*folder_);
  options.tls->key = folder_->file("client.key");
  const ApiServer api(options);
  ASSERT_EQ(api.errors.size(), 1u);
  EXPECT_EQ(api.errors[0].path, "/api/tls/key");
}

}  // namespace
}  // namespace limpet::api
