// Session: one client's connection: HTTP/1.1 with keep-alive over any stream.
//
// Owner: the control thread; everything runs in handlers of its io_context. A session keeps itself
// alive through its handlers and ends when none is left.
//
// A turn: read the head → route → read the body → serve → write → again. One request at a time;
// pipelined requests wait in the buffer.
//
// Invariants:
// 1. Time is bounded: TLS handshake, waiting for and reading a head, reading a body, writing an
//    answer, and lingering after a refusal each have a deadline.
// 2. Memory is bounded: heads by kHeadBytesMax, bodies by kRequestBodyBytesMax, and only
//    kLargeBodiesMax bodies above kLargeBodyBytes are held at once by all sessions.
// 3. A client's session that has no whole request yet is in Sessions::quiet; the one quiet longest
//    is closed when a new client finds the house full.
// 4. Until its TLS handshake is done a session is a stranger's. Of too many strangers one goes, the
//    oldest from the place that most of them are from; so one host that opens connections as fast
//    as it can keeps only itself out.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <chrono>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "common/base/limits.h"
#include "common/net/address.h"
#include "control/api/service.h"

namespace limpet::api {

struct Deadlines {
  std::chrono::milliseconds handshake{10'000};
  std::chrono::milliseconds head{60'000};  // also how long a connection may be idle
  std::chrono::milliseconds body{120'000};
  std::chrono::milliseconds write{120'000};
  std::chrono::milliseconds linger{2'000};
};

inline constexpr std::size_t kHeadBytesMax = 16'384;
inline constexpr std::size_t kLargeBodyBytes = 1u << 20;
// Handed to the socket at once: one whose other end reads meanwhile takes any number, for as long
// as copying them takes.
inline constexpr std::size_t kWriteBytesMax = 64u << 10;
inline constexpr std::size_t kLargeBodiesMax = 4;

class AnySession {
 public:
  virtual ~AnySession() = default;
  // Closes the connection at once; pending handlers end with an error.
  virtual void abort() = 0;
};

// A session whose TLS handshake goes on, and where it is from: an IPv4 address or an IPv6 /64,
// which is what one host has.
struct Stranger {
  AnySession* session = nullptr;
  net::Address place;
};
using Strangers = std::list<Stranger>;

// What the sessions of one server share.
struct Sessions {
  std::shared_ptr<Service> service;
  Deadlines deadlines;
  std::size_t clients_max = 0;
  std::size_t strangers_max = 0;
  std::list<AnySession*> all;
  std::list<AnySession*> quiet;  // longest quiet first
  Strangers strangers;           // oldest first
  std::size_t clients = 0;
  std::size_t large_bodies = 0;
  bool closing = false;

  // Makes room for one more client; false: there is none, since all are being served.
  bool make_room();
  // Enters a stranger; another one may have to go for it.
  Strangers::iterator add_stranger(const Stranger& stranger);
};

// A body that is shared, not copied: the running document may be 64 MiB.
struct SharedText {
  using value_type = std::shared_ptr<const std::string>;
  static uint64_t size(const value_type& text) { return text->size(); }

  class writer {
   public:
    using const_buffers_type = boost::asio::const_buffer;
    template <bool isRequest, class Fields>
    writer(const boost::beast::http::header<isRequest, Fields>&, const value_type& text)
        : text_(*text) {}
    void init(boost::beast::error_code& error) { error = {}; }
    boost::optional<std::pair<const_buffers_type, bool>> get(boost::beast::error_code& error) {
      error = {};
      return {{const_buffers_type(text_.data(), text_.size()), false}};
    }

   private:
    const std::string& text_;
  };
};

using PlainStream = boost::beast::basic_stream<boost::asio::generic::stream_protocol>;
using TlsStream = boost::beast::ssl_stream<PlainStream>;

template <class Stream>
class Session final : public AnySession, public std::enable_shared_from_this<Session<Stream>> {
 public:
  template <class... Args>
  Session(std::shared_ptr<Sessions> sessions, Args&&... args);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void start();
  void abort() override;

 private:
  using Error = boost::beast::error_code;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  static constexpr bool kTls = std::is_same_v<Stream, TlsStream>;

  void become_client();
  void read_head();
  void on_head(Error error);
  void refuse_head(Error error);
  bool reserve_body();
  void send_continue();
  void read_body();
  void on_body(Error error);
  void serve();
  void write(Response response);
  void on_written(Error error);
  void finish();
  void linger();

  void set_quiet(bool quiet);
  void release_body();
  void expires_after(std::chrono::milliseconds time) {
    boost::beast::get_lowest_layer(stream_).expires_after(time);
  }
  // Wraps a handler of (error) so that the session lives as long as it; further arguments are
  // dropped.
  auto then(void (Session::*handler)(Error)) {
    return [self = this->shared_from_this(), handler](Error error, auto&&...) {
      (self.get()->*handler)(error);
    };
  }

  std::shared_ptr<Sessions> sessions_;
  Stream stream_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  Route route_;
  std::optional<boost::beast::http::response<SharedText>> response_;
  std::optional<boost::beast::http::response_serializer<SharedText>> serializer_;  // of response_
  std::optional<boost::beast::http::response<boost::beast::http::empty_body>> continue_;
  std::list<AnySession*>::iterator place_;
  std::list<AnySession*>::iterator quiet_place_;
  std::optional<Strangers::iterator> stranger_place_;
  bool client_ = false;
  bool quiet_ = false;
  bool holds_large_body_ = false;
  bool keep_alive_ = false;
  bool unread_body_ = false;  // the client may still be sending what nobody reads
  std::array<char, 16'384> discarded_;
};

extern template class Session<PlainStream>;
extern template class Session<TlsStream>;

}  // namespace limpet::api
