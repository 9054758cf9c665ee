// Asynchronous operations run to their end one by one: Asio's synchronous ones know no deadline.
#include "control/cli/client.h"

#include <fmt/format.h>
#include <openssl/ssl.h>
#include <sys/un.h>

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <optional>
#include <vector>

namespace limpet::cli {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using ErrorCode = boost::system::error_code;
using Generic = asio::generic::stream_protocol;
using PlainStream = beast::basic_stream<Generic>;
using TlsStream = beast::ssl_stream<PlainStream>;

namespace {

constexpr std::chrono::seconds kConnectDeadline{5};
// Applying the largest document on a busy engine takes a while.
constexpr std::chrono::seconds kAnswerDeadline{300};
// More than a document of 64 MiB with its generation, or a page of entries, can need.
constexpr uint64_t kAnswerBytesMax = uint64_t{1} << 30;

base::Error failure(const std::string& what, const ErrorCode& error) {
  return {"", fmt::format("{}: {}", what, error.message())};
}

}  // namespace

class Client::Connection {
 public:
  base::Status open(const Location& location, const TlsFiles& files);
  base::Result<HttpAnswer> exchange(const http::request<http::string_body>& request);

  bool is_open() const { return open_; }

 private:
  // Runs one asynchronous operation to its end.
  template <class Start>
  ErrorCode wait(Start start) {
    ErrorCode result = asio::error::operation_aborted;
    start([&result](ErrorCode error, auto&&...) { result = error; });
    io_.restart();
    io_.run();
    return result;
  }
  PlainStream& plain() { return tls_ ? beast::get_lowest_layer(*tls_) : *plain_; }

  base::Result<std::vector<Generic::endpoint>> resolve(const Location& location);
  base::Status start_tls(const Location& location, const TlsFiles& files);
  template <class Stream>
  base::Result<HttpAnswer> exchange_on(Stream& stream,
                                       const http::request<http::string_body>& request);

  asio::io_context io_;
  std::optional<asio::ssl::context> context_;
  std::optional<PlainStream> plain_;
  std::optional<TlsStream> tls_;
  beast::flat_buffer buffer_;
  bool open_ = false;
};

base::Result<std::vector<Generic::endpoint>> Client::Connection::resolve(const Location& location) {
  std::vector<Generic::endpoint> endpoints;
  if (location.is_unix()) {
    if (location.unix_path.size() >= sizeof(sockaddr_un::sun_path))
      return base::Error{"", "the path of the socket is too long"};
    endpoints.emplace_back(asio::local::stream_protocol::endpoint(location.unix_path));
    return endpoints;
  }
  ErrorCode error;
  asio::ip::tcp::resolver resolver(io_);
  const auto found = resolver.resolve(location.host, std::to_string(location.port), error);
  if (error) return failure("unknown host", error);
  for (const auto& entry : found) endpoints.emplace_back(entry.endpoint());
  return endpoints;
}

base::Status Client::Connection::open(const Location& location, const TlsFiles& files) {
  const auto endpoints = resolve(location);
  if (!endpoints) return endpoints.errors();
  ErrorCode error = asio::error::host_not_found;
  for (const Generic::endpoint& endpoint : endpoints.value()) {
    plain_.emplace(io_);
    plain_->expires_after(kConnectDeadline);
    error = wait([&](auto handler) { plain_->async_connect(endpoint, std::move(handler)); });
    if (!error) break;
  }
  if (error) return failure("cannot connect", error);
  if (location.tls) {
    if (auto status = start_tls(location, files); !status) return status;
  }
  open_ = true;
  return base::Done{};
}

base::Status Client::Connection::start_tls(const Location& location, const TlsFiles& files) {
  context_.emplace(asio::ssl::context::tls_client);
  SSL_CTX_set_min_proto_version(context_->native_handle(), TLS1_2_VERSION);
  ErrorCode error;
  if (files.ca.empty()) {
    context_->set_default_verify_paths(error);
  } else {
    context_->load_verify_file(files.ca, error);
  }
  if (error) return failure(fmt::format("cannot use \"{}\"", files.ca), error);
  if (!files.certificate.empty()) {
    context_->use_certificate_chain_file(files.certificate, error);
    if (error) return failure(fmt::format("cannot use \"{}\"", files.certificate), error);
    context_->use_private_key_file(files.key, asio::ssl::context::pem, error);
    if (error) return failure(fmt::format("cannot use \"{}\"", files.key), error);
  }
  context_->set_verify_mode(asio::ssl::verify_peer);
  tls_.emplace(std::move(*plain_), *context_);
  plain_.reset();
  tls_->set_verify_callback(asio::ssl::host_name_verification(location.host), error);
  SSL_set_tlsext_host_name(tls_->native_handle(), location.host.c_str());
  plain().expires_after(kConnectDeadline);
  error = wait([&](auto handler) {
    tls_->async_handshake(asio::ssl::stream_base::client, std::move(handler));
  });
  if (error) return failure("TLS failed", error);
  return base::Done{};
}

template <class Stream>
base::Result<HttpAnswer> Client::Connection::exchange_on(
    Stream& stream, const http::request<http::string_body>& request) {
  open_ = false;
  plain().expires_after(kAnswerDeadline);
  const ErrorCode unsent =
      wait([&](auto handler) { http::async_write(stream, request, std::move(handler)); });
  // A server that refuses a body answers before it has read it; so the answer is looked for anyway.
  http::response_parser<http::string_body> parser;
  parser.body_limit(kAnswerBytesMax);
  parser.header_limit(65'536);
  const ErrorCode unread =
      wait([&](auto handler) { http::async_read(stream, buffer_, parser, std::move(handler)); });
  if (unread) return failure("no answer", unsent ? unsent : unread);
  open_ = !unsent && parser.get().keep_alive();
  return HttpAnswer{.status = parser.get().result_int(), .body = std::move(parser.get().body())};
}

base::Result<HttpAnswer> Client::Connection::exchange(
    const http::request<http::string_body>& request) {
  return tls_ ? exchange_on(*tls_, request) : exchange_on(*plain_, request);
}

Client::Client(Location location, TlsFiles files)
    : location_(std::move(location)), files_(std::move(files)) {}
Client::~Client() = default;

base::Result<HttpAnswer> Client::ask(const HttpRequest& request) {
  http::request<http::string_body> message;
  message.version(11);
  message.method_string(request.method);
  message.target(request.target);
  message.set(http::field::host, location_.authority());
  message.set(http::field::user_agent, "limpetctl/" LIMPET_VERSION);
  message.set(http::field::accept, "application/json");
  if (!request.body.empty()) message.set(http::field::content_type, "application/json");
  message.body() = request.body;
  message.prepare_payload();

  // A kept connection may have been closed by the server meanwhile; what only reads can be sent
  // again without harm.
  if (connection_ && connection_->is_open() && request.method == "GET") {
    auto answer = connection_->exchange(message);
    if (answer) return answer;
  }
  connection_ = std::make_unique<Connection>();
  if (auto opened = connection_->open(location_, files_); !opened) return opened.errors();
  return connection_->exchange(message);
}

}  // namespace limpet::cli
