#include "control/api/session.h"

#include <netinet/in.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <cstring>
#include <map>
#include <type_traits>

namespace limpet::api {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

namespace {

std::string_view view(beast::string_view text) {
  return {text.data(), text.size()};
}

// Where a connection is from; the unspecified address when it is gone already.
net::Address place_of(const asio::generic::stream_protocol::socket& socket) {
  boost::system::error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  if (error) return {};
  if (endpoint.data()->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, endpoint.data(), sizeof(v4));
    return net::Address::v4(&v4.sin_addr);
  }
  if (endpoint.data()->sa_family != AF_INET6) return {};
  sockaddr_in6 v6{};
  std::memcpy(&v6, endpoint.data(), sizeof(v6));
  const net::Address address = net::Address::v6(&v6.sin6_addr);
  return address.is_v4() ? address : address.masked(64);
}

}  // namespace

bool Sessions::make_room() {
  if (clients < clients_max) return true;
  if (quiet.empty()) return false;
  AnySession* longest = quiet.front();
  // Moved back, so that the next newcomer takes another one's place.
  quiet.splice(quiet.end(), quiet, quiet.begin());
  longest->abort();
  return true;
}

Strangers::iterator Sessions::add_stranger(const Stranger& stranger) {
  const auto added = strangers.insert(strangers.end(), stranger);
  if (strangers.size() <= strangers_max) return added;
  std::map<net::Address, std::size_t> from;
  std::size_t most = 0;
  for (const Stranger& s : strangers) most = std::max(most, ++from[s.place]);
  const auto oldest = std::find_if(strangers.begin(), strangers.end(),
                                   [&](const Stranger& s) { return from[s.place] == most; });
  // It leaves the list when its handlers have heard of the end; moved back until then, so that the
  // next newcomer takes another one's place.
  AnySession* session = oldest->session;
  strangers.splice(strangers.end(), strangers, oldest);
  session->abort();
  return added;
}

template <class Stream>
template <class... Args>
Session<Stream>::Session(std::shared_ptr<Sessions> sessions, Args&&... args)
    : sessions_(std::move(sessions)), stream_(std::forward<Args>(args)...) {
  place_ = sessions_->all.insert(sessions_->all.end(), this);
}

template <class Stream>
Session<Stream>::~Session() {
  set_quiet(false);
  release_body();
  if (stranger_place_) sessions_->strangers.erase(*stranger_place_);
  if (client_) --sessions_->clients;
  sessions_->all.erase(place_);
}

template <class Stream>
void Session<Stream>::start() {
  if constexpr (kTls) {
    const net::Address place = place_of(beast::get_lowest_layer(stream_).socket());
    stranger_place_ = sessions_->add_stranger({this, place});
    expires_after(sessions_->deadlines.handshake);
    stream_.async_handshake(asio::ssl::stream_base::server,
                            [self = this->shared_from_this()](Error error) {
                              if (!error) self->become_client();
                            });
  } else {
    become_client();
  }
}

// From here on its place is a client's. Who finds none is gone without a word.
template <class Stream>
void Session<Stream>::become_client() {
  if (stranger_place_) sessions_->strangers.erase(*stranger_place_);
  stranger_place_.reset();
  if (sessions_->closing || !sessions_->make_room()) return;
  client_ = true;
  ++sessions_->clients;
  read_head();
}

template <class Stream>
void Session<Stream>::abort() {
  Error ignored;
  beast::get_lowest_layer(stream_).socket().close(ignored);
}

template <class Stream>
void Session<Stream>::read_head() {
  if (sessions_->closing) return finish();
  parser_.emplace();
  parser_->header_limit(kHeadBytesMax);
  parser_->body_limit(base::kRequestBodyBytesMax);
  keep_alive_ = false;
  unread_body_ = false;
  set_quiet(true);
  expires_after(sessions_->deadlines.head);
  http::async_read_header(stream_, buffer_, *parser_, then(&Session::on_head));
}

template <class Stream>
void Session<Stream>::on_head(Error error) {
  if (error == http::error::end_of_stream) return finish();
  if (error) return refuse_head(error);
  if (sessions_->closing) return;

  const auto& request = parser_->get();
  const bool has_body = parser_->chunked() || parser_->content_length().value_or(0) > 0;
  keep_alive_ = request.keep_alive();
  auto routed = sessions_->service->route(
      {.method = view(request.method_string()),
       .target = view(request.target()),
       .content_type = view(request[http::field::content_type]),
       .has_body = has_body,
       .from_browser_page = request.find(http::field::origin) != request.end()});
  unread_body_ = has_body;
  if (auto* refused = std::get_if<Response>(&routed)) return write(std::move(*refused));
  route_ = std::move(std::get<Route>(routed));
  if (!has_body) return serve();
  if (!reserve_body())
    return write(refuse(503, "too many large requests at the same time; try again"));
  if (beast::iequals(request[http::field::expect], "100-continue")) return send_continue();
  read_body();
}

// Refuses a head that is no HTTP, or too large. What is wrong with the connection itself (closed,
// timed out) needs no answer.
template <class Stream>
void Session<Stream>::refuse_head(Error error) {
  if (error.category() != http::make_error_code(http::error::bad_method).category()) return;
  if (error == http::error::partial_message) return;
  unread_body_ = true;
  if (error == http::error::body_limit) return write(refuse(413, "the body is larger than 64 MiB"));
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return write(refuse(431, "the request's header is larger than 16 KiB"));
  write(refuse(400, "not an HTTP request: " + error.message()));
}

// Makes room for the body. Reserving address space now avoids copies of tens of megabytes while it
// grows; pages come as bytes do.
template <class Stream>
bool Session<Stream>::reserve_body() {
  const uint64_t size = parser_->content_length().value_or(base::kRequestBodyBytesMax);
  if (size <= kLargeBodyBytes) return true;
  if (sessions_->large_bodies >= kLargeBodiesMax) return false;
  ++sessions_->large_bodies;
  holds_large_body_ = true;
  parser_->get().body().reserve(static_cast<std::size_t>(size));
  return true;
}

template <class Stream>
void Session<Stream>::send_continue() {
  continue_.emplace(http::status::continue_, 11);
  expires_after(sessions_->deadlines.write);
  http::async_write(stream_, *continue_, [self = this->shared_from_this()](Error error, auto&&...) {
    if (!error) self->read_body();
  });
}

template <class Stream>
void Session<Stream>::read_body() {
  expires_after(sessions_->deadlines.body);
  http::async_read(stream_, buffer_, *parser_, then(&Session::on_body));
}

template <class Stream>
void Session<Stream>::on_body(Error error) {
  if (error) {
    keep_alive_ = false;
    return refuse_head(error);
  }
  unread_body_ = false;
  serve();
}

template <class Stream>
void Session<Stream>::serve() {
  if (sessions_->closing) return;
  set_quiet(false);
  beast::get_lowest_layer(stream_).expires_never();
  sessions_->service->serve(
      std::move(route_), std::move(parser_->get().body()),
      [self = this->shared_from_this()](Response response) { self->write(std::move(response)); });
}

template <class Stream>
void Session<Stream>::write(Response response) {
  if (unread_body_ || sessions_->closing) keep_alive_ = false;
  set_quiet(false);
  const auto& request = parser_->get();
  if (request.method() == http::verb::head) {
    response.body = std::make_shared<const std::string>();
  }
  const unsigned version = request.version() == 10 ? 10 : 11;
  response_.emplace(static_cast<http::status>(response.status), version);
  response_->set(http::field::server, "limpet/" LIMPET_VERSION);
  response_->set(http::field::content_type, response.content_type);
  response_->set(http::field::cache_control, "no-store");
  if (!response.allow.empty()) response_->set(http::field::allow, response.allow);
  if (response.status == 503) response_->set(http::field::retry_after, "1");
  response_->body() = std::move(response.body);
  response_->keep_alive(keep_alive_);
  response_->prepare_payload();
  expires_after(sessions_->deadlines.write);
  serializer_.emplace(*response_);
  serializer_->limit(kWriteBytesMax);
  http::async_write(stream_, *serializer_, then(&Session::on_written));
}

template <class Stream>
void Session<Stream>::on_written(Error error) {
  serializer_.reset();
  response_.reset();
  release_body();
  if (error) return;
  if (keep_alive_) return read_head();
  finish();
}

// Ends the connection so that the client gets all that was written. Closing while it still sends
// would make its kernel throw our answer away, so its bytes are read for a while.
template <class Stream>
void Session<Stream>::finish() {
  expires_after(sessions_->deadlines.linger);
  if constexpr (kTls) {
    if (unread_body_) return linger();
    stream_.async_shutdown([self = this->shared_from_this()](Error) {});
  } else {
    Error ignored;
    beast::get_lowest_layer(stream_).socket().shutdown(asio::socket_base::shutdown_send, ignored);
    if (unread_body_) linger();
  }
}

template <class Stream>
void Session<Stream>::linger() {
  // expires_after() was set once: the deadline is for all of it.
  stream_.async_read_some(asio::buffer(discarded_),
                          [self = this->shared_from_this()](Error error, std::size_t) {
                            if (!error) self->linger();
                          });
}

template <class Stream>
void Session<Stream>::set_quiet(bool quiet) {
  if (quiet == quiet_) return;
  quiet_ = quiet;
  if (quiet) {
    quiet_place_ = sessions_->quiet.insert(sessions_->quiet.end(), this);
  } else {
    sessions_->quiet.erase(quiet_place_);
  }
}

template <class Stream>
void Session<Stream>::release_body() {
  if (!holds_large_body_) return;
  holds_large_body_ = false;
  --sessions_->large_bodies;
}

template class Session<PlainStream>;
template class Session<TlsStream>;
template Session<PlainStream>::Session(std::shared_ptr<Sessions>,
                                       asio::generic::stream_protocol::socket&&);
template Session<TlsStream>::Session(std::shared_ptr<Sessions>,
                                     asio::generic::stream_protocol::socket&&, asio::ssl::context&);

}  // namespace limpet::api
