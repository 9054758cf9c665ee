// One Connection template for TLS and plaintext; Hub is what listens, connects and keeps time.
#include "control/mirroring/transport.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <list>

#include "common/base/random.h"
#include "control/mirroring/tls.h"

namespace limpet::mirroring {
namespace {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using TlsStream = asio::ssl::stream<Tcp::socket>;
using timing::Duration;
using timing::Instant;

constexpr std::size_t kReadBytes = 16'384;
constexpr Duration kByeTimeMax = timing::seconds(1);    // for the last words
constexpr Duration kGoodSession = timing::seconds(10);  // after which retries start over
constexpr Duration kTickMin = timing::milliseconds(5);
constexpr Duration kTickMax = timing::milliseconds(50);
constexpr uint32_t kPassedOnATick = 2048;  // entries of lost peers looked at
static_assert(kReadBytes <= kInputBytesMax);

Tcp::endpoint endpoint_of(const net::Endpoint& from) {
  return {asio::ip::make_address(from.address.to_string()), from.port};
}

net::Address address_of(const Tcp::endpoint& from) {
  if (from.address().is_v4()) return net::Address::v4(from.address().to_v4().to_bytes().data());
  return net::Address::v6(from.address().to_v6().to_bytes().data());
}

// Where connections to `to` come from: the address that we listen on, if it can reach that one.
std::optional<Tcp::endpoint> source_for(const net::Address& listen, const net::Address& to) {
  if (listen.is_unspecified() || listen.family() != to.family()) return std::nullopt;
  if (listen.is_loopback() != to.is_loopback()) return std::nullopt;
  return endpoint_of({listen, 0});
}

// What all connections share; outlives them.
struct Shared {
  Engine engine;
  std::unique_ptr<TlsContexts> tls;  // null: plaintext
  const timing::Clock* clock = nullptr;
  bool closing = false;
};

class AnyConnection {
 public:
  virtual ~AnyConnection() = default;
  virtual void accept() = 0;
  virtual void connect(const Tcp::endpoint& to, const std::optional<Tcp::endpoint>& from) = 0;
  virtual void tick() = 0;
  virtual void changed() = 0;
  virtual void say_groups(const Peer& peer, std::span<const uint8_t> body) = 0;
  virtual void end(Reason reason) = 0;
  virtual bool is_over() const = 0;
  virtual bool is_pending() const = 0;  // no session is established yet
  virtual Instant since() const = 0;
};

template <class Stream>
class Connection final : public AnyConnection,
                         public std::enable_shared_from_this<Connection<Stream>> {
 public:
  template <class... Args>
  Connection(std::shared_ptr<Shared> shared, Peer* called, Args&&... args)
      : shared_(std::move(shared)),
        called_(called),
        stream_(std::forward<Args>(args)...),
        since_(now()) {}

  void accept() override { secure(); }

  // An address that is no longer this machine's is not insisted on.
  void connect(const Tcp::endpoint& to, const std::optional<Tcp::endpoint>& from) override {
    ErrorCode ignored;
    socket().open(to.protocol(), ignored);
    if (from) socket().bind(*from, ignored);
    socket().async_connect(to, [self = this->shared_from_this()](ErrorCode error) {
      if (self->over_) return;
      if (error) return self->fail(Reason::kUnreachable);
      self->secure();
    });
  }

  void tick() override {
    if (over_) return;
    const Instant t = now();
    if (!session_ || session_->peer() == nullptr) {
      if (t - since_ >= kHandshakeTimeMax) return end(Reason::kHandshakeTimeout);
    }
    if (!session_) return;
    session_->tick(t);
    if (ended_at_ && t - *ended_at_ >= kByeTimeMax) return close();
    move();
  }

  void changed() override {
    if (over_ || !session_) return;
    session_->pump(now());
    move();
  }

  void say_groups(const Peer& peer, std::span<const uint8_t> body) override {
    if (over_ || !session_ || &*session_ != peer.live) return;
    if (session_->say_groups(body)) move();
  }

  void end(Reason reason) override {
    if (over_) return;
    if (!session_) return fail(reason);
    session_->close(reason);
    move();
    // Writing begins at once; for a peer that reads, the last words are with the kernel now.
    if (shared_->closing || reason == Reason::kCrowded || reason == Reason::kHandshakeTimeout)
      close();
  }

  bool is_over() const override { return over_; }
  bool is_pending() const override { return !session_ || session_->peer() == nullptr; }
  Instant since() const override { return since_; }

 private:
  static constexpr bool kTls = std::is_same_v<Stream, TlsStream>;

  Instant now() const { return shared_->clock->now(); }
  Tcp::socket& socket() {
    if constexpr (kTls) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }

  void secure() {
    ErrorCode ignored;
    socket().set_option(Tcp::no_delay(true), ignored);
    ::fcntl(socket().native_handle(), F_SETFD, FD_CLOEXEC);
    if constexpr (kTls) {
      const auto role =
          called_ != nullptr ? asio::ssl::stream_base::client : asio::ssl::stream_base::server;
      stream_.async_handshake(role, [self = this->shared_from_this()](ErrorCode error) {
        if (self->over_) return;
        if (error || !is_by_key(self->stream_.native_handle())) return self->fail(Reason::kTls);
        self->begin();
      });
    } else {
      begin();
    }
  }

  void begin() {
    session_.emplace(shared_->engine, called_, now());
    move();
  }

  // Before there is a session to count it.
  void fail(Reason reason) {
    if (called_ != nullptr) {
      called_->counters.ended.count(reason);
      called_->last_end = reason;
    } else {
      shared_->engine.ended.count(reason);
    }
    close();
  }

  void close() {
    over_ = true;
    if (session_) session_->close(Reason::kCut);
    ErrorCode ignored;
    socket().close(ignored);
  }

  // Starts what can be started: reading unless the session holds back, writing what it has.
  void move() {
    if (over_) return;
    if (session_->state() == Session::State::kClosed && !ended_at_) ended_at_ = now();
    if (!writing_ && session_->has_output()) write();
    if (over_) return;
    if (ended_at_ && !writing_) return close();
    if (!reading_ && session_->wants_input()) read();
  }

  void write() {
    writing_ = true;
    out_ = session_->take_output();
    asio::async_write(stream_, asio::buffer(out_),
                      [self = this->shared_from_this()](ErrorCode error, std::size_t) {
                        self->writing_ = false;
                        if (self->over_) return;
                        if (error) return self->close();
                        self->session_->go_on(self->now());
                        self->move();
                      });
  }

  void read() {
    reading_ = true;
    stream_.async_read_some(asio::buffer(in_),
                            [self = this->shared_from_this()](ErrorCode error, std::size_t bytes) {
                              self->reading_ = false;
                              if (self->over_) return;
                              if (error) return self->close();
                              self->session_->receive({self->in_.data(), bytes}, self->now());
                              self->move();
                            });
  }

  std::shared_ptr<Shared> shared_;
  Peer* called_;
  Stream stream_;
  Instant since_;
  std::optional<Session> session_;
  std::optional<Instant> ended_at_;
  std::array<uint8_t, kReadBytes> in_;
  std::vector<uint8_t> out_;
  bool reading_ = false;
  bool writing_ = false;
  bool over_ = false;
};

// A peer that we connect to.
struct Dialer {
  Peer* peer = nullptr;
  Tcp::endpoint endpoint;
  std::optional<Tcp::endpoint> source;
  std::shared_ptr<AnyConnection> connection;
  Duration wait = kRetryMin;
  Instant next_try;
};

// Who may have how many unfinished handshakes: callers from one address of peers, or all others.
struct Allowance {
  net::Address address;
  std::size_t pending_max = 0;
};

// One who connected to us.
struct Caller {
  std::shared_ptr<AnyConnection> connection;
  const Allowance* allowance;

  bool is_pending_of(const Allowance& other) const {
    return allowance == &other && connection->is_pending();
  }
};

class Hub final : public Transport {
 public:
  Hub(asio::io_context& io, Tcp::acceptor acceptor, std::shared_ptr<Shared> shared,
      const TransportOptions& options)
      : io_(io),
        acceptor_(std::move(acceptor)),
        timer_(io),
        shared_(std::move(shared)),
        random_(options.seed),
        period_(std::clamp(Duration(options.heartbeat / 4), kTickMin, kTickMax)) {
    for (Peer& peer : shared_->engine.peers) {
      const net::Endpoint& address = options.peers[peer.index.value].address;
      allow(address.address);
      if (shared_->engine.connects_to(peer))
        dialers_.push_back({.peer = &peer,
                            .endpoint = endpoint_of(address),
                            .source = source_for(options.listen.address, address.address),
                            .next_try = {}});
    }
    ::fcntl(acceptor_.native_handle(), F_SETFD, FD_CLOEXEC);
    ErrorCode ignored;
    port_ = acceptor_.local_endpoint(ignored).port();
  }
  ~Hub() override { close(); }
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  void start() override {
    accept();
    dial();
    wait();
  }
  void changed() override {
    for_each([](AnyConnection& c) { c.changed(); });
  }
  void retry() override {
    for_each([](AnyConnection& c) { c.tick(); });
  }
  void resync() override {
    for (Peer& peer : shared_->engine.peers) peer.received = {};
    // Also those whose HELLO may have said the old positions.
    for_each([](AnyConnection& c) { c.end(Reason::kResync); });
  }
  void say_groups(PeerIndex index, std::span<const uint8_t> body) override {
    const Peer& peer = shared_->engine.peers[index.value];
    if (peer.live == nullptr) return;
    for_each([&](AnyConnection& c) { c.say_groups(peer, body); });
  }
  const Engine& engine() const override { return shared_->engine; }
  uint16_t port() const override { return port_; }

  std::vector<PeerStatus> status() const override {
    std::vector<PeerStatus> out;
    for (const Peer& peer : shared_->engine.peers) {
      PeerStatus& row = out.emplace_back(PeerStatus{.name = peer.name, .state = "connecting"});
      if (peer.live == nullptr) continue;
      const Session::State state = peer.live->state();
      const Lag ours = peer.live->incoming_lag();
      const Lag theirs = peer.live->lag();
      row.state = name_of(state);
      row.synced = state == Session::State::kSynced || state == Session::State::kLagging;
      row.lag = {std::max(ours.entries, theirs.entries), std::max(ours.ms, theirs.ms)};
    }
    return out;
  }

  void close() override {
    if (shared_->closing) return;
    shared_->closing = true;
    *alive_ = false;
    ErrorCode ignored;
    acceptor_.close(ignored);
    timer_.cancel();
    for_each([](AnyConnection& c) { c.end(Reason::kShutdown); });
    callers_.clear();
    dialers_.clear();
  }

 private:
  Instant now() const { return shared_->clock->now(); }

  template <class Do>
  void for_each(Do&& act) {
    for (const Caller& caller : callers_) act(*caller.connection);
    for (const Dialer& dialer : dialers_)
      if (dialer.connection) act(*dialer.connection);
  }

  std::shared_ptr<AnyConnection> make(Peer* called, Tcp::socket socket) {
    if (!shared_->tls) {
      return std::make_shared<Connection<Tcp::socket>>(shared_, called, std::move(socket));
    }
    auto& context = called != nullptr ? shared_->tls->connecting() : shared_->tls->accepting();
    return std::make_shared<Connection<TlsStream>>(shared_, called, std::move(socket), context);
  }

  // An error (out of descriptors, say) is tried again with the next tick, not at once.
  void accept() {
    accepting_ = true;
    acceptor_.async_accept([this, alive = alive_](ErrorCode error, Tcp::socket socket) {
      if (!*alive) return;
      accepting_ = false;
      if (error) return;
      admit(std::move(socket));
      accept();
    });
  }

  void admit(Tcp::socket socket) {
    ErrorCode error;
    const auto from = socket.remote_endpoint(error);
    if (error) return;
    if (!shared_->tls && !from.address().is_loopback()) {
      shared_->engine.ended.count(Reason::kTls);
      return;
    }
    sweep();
    const Allowance& allowance = allowance_of(address_of(from));
    const auto pending = [&](const Caller& c) { return c.is_pending_of(allowance); };
    if (std::ranges::count_if(callers_, pending) >=
        static_cast<std::ptrdiff_t>(allowance.pending_max))
      std::ranges::find_if(callers_, pending)->connection->end(Reason::kCrowded);
    callers_.push_back({make(nullptr, std::move(socket)), &allowance});
    callers_.back().connection->accept();
  }

  void allow(const net::Address& peer) {
    const auto known = std::ranges::find(peers_allowances_, peer, &Allowance::address);
    if (known != peers_allowances_.end()) {
      known->pending_max += kPendingOfAPeerMax;
    } else {
      peers_allowances_.push_back({peer, kPendingOfAPeerMax});
    }
  }

  const Allowance& allowance_of(const net::Address& caller) const {
    const auto known = std::ranges::find(peers_allowances_, caller, &Allowance::address);
    return known != peers_allowances_.end() ? *known : strangers_allowance_;
  }

  void sweep() {
    callers_.remove_if([](const Caller& c) { return c.connection->is_over(); });
  }

  void dial() {
    for (Dialer& dialer : dialers_) {
      if (dialer.connection && dialer.connection->is_over()) {
        const bool good =
            now() - dialer.connection->since() >= kGoodSession && !dialer.connection->is_pending();
        dialer.connection.reset();
        dialer.wait = good ? kRetryMin : dialer.wait;
        // 75 to 125 %, so that a cluster does not try in step.
        dialer.next_try = now() + dialer.wait * (75 + random_.below(51)) / 100;
        dialer.wait = std::min(dialer.wait * 2, kRetryMax);
      }
      if (dialer.connection || now() < dialer.next_try) continue;
      dialer.connection = make(dialer.peer, Tcp::socket(io_));
      dialer.connection->connect(dialer.endpoint, dialer.source);
    }
  }

  void wait() {
    timer_.expires_after(period_);
    timer_.async_wait([this, alive = alive_](ErrorCode error) {
      if (!*alive || error) return;
      tick();
      wait();
    });
  }

  void tick() {
    for_each([](AnyConnection& c) { c.tick(); });
    sweep();
    dial();
    if (!accepting_) accept();
    // What a lost peer had told is new to the others.
    shared_->engine.list->work(kPassedOnATick, now());
    changed();
  }

  asio::io_context& io_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Tcp::acceptor acceptor_;
  asio::steady_timer timer_;
  std::shared_ptr<Shared> shared_;
  base::Random random_;
  Duration period_;
  const Allowance strangers_allowance_{.address = {}, .pending_max = kStrangersMax};
  std::vector<Allowance> peers_allowances_;  // fixed before start()
  std::list<Caller> callers_;                // oldest first
  std::vector<Dialer> dialers_;
  uint16_t port_ = 0;
  bool accepting_ = false;
};

base::Result<Tcp::acceptor> bind(asio::io_context& io, const net::Endpoint& listen) {
  const Tcp::endpoint endpoint = endpoint_of(listen);
  Tcp::acceptor acceptor(io);
  ErrorCode error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(Tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error)
    return base::Error{"/mirroring/listen",
                       fmt::format("cannot listen on {}: {}", listen.to_string(), error.message())};
  return acceptor;
}

base::Errors problems_of(const TransportOptions& options) {
  base::Errors out;
  if (!is_engine_name(options.name))
    out.push_back({"/name", fmt::format("may have at most {} bytes", kEngineNameBytesMax)});
  if (options.peers.size() > kPeersMax)
    out.push_back({"/mirroring/peers", fmt::format("at most {} are possible", kPeersMax)});
  for (std::size_t i = 0; i < options.peers.size(); ++i) {
    const auto& peer = options.peers[i];
    const std::string path = fmt::format("/mirroring/peers/{}", i);
    if (!is_engine_name(peer.name) || peer.name == options.name)
      out.push_back({path + "/name", "is no other engine's name"});
    if (!options.secret_file && !peer.address.address.is_loopback())
      out.push_back({path + "/address", "must be loopback when there is no secret_file"});
  }
  if (!options.secret_file && !options.listen.address.is_loopback())
    out.push_back({"/mirroring/secret_file", "is required: listen is not loopback"});
  return out;
}

}  // namespace

base::Result<std::unique_ptr<Transport>> Transport::open(asio::io_context& io,
                                                         const TransportOptions& options,
                                                         UpdateList& list, Home& home,
                                                         const timing::Clock& clock,
                                                         GroupListener* groups) {
  if (auto problems = problems_of(options); !problems.empty()) return problems;
  LIMPET_ASSERT(!options.boot.is_none());
  auto shared = std::make_shared<Shared>();
  shared->clock = &clock;
  if (options.secret_file) {
    const auto key = load_channel_key(*options.secret_file);
    if (!key) return key.errors();
    shared->tls = std::make_unique<TlsContexts>(key.value());
  }
  Engine& engine = shared->engine;
  engine.name = options.name;
  engine.boot = options.boot;
  engine.table_limit = options.table_limit;
  engine.addresses = options.addresses;
  engine.heartbeat = options.heartbeat;
  engine.heartbeat_misses = options.heartbeat_misses;
  engine.list = &list;
  engine.home = &home;
  engine.groups = groups;
  for (const auto& peer : options.peers)
    engine.peers.push_back(
        {.index = PeerIndex{static_cast<uint8_t>(engine.peers.size())}, .name = peer.name});
  auto acceptor = bind(io, options.listen);
  if (!acceptor) return acceptor.errors();
  return std::unique_ptr<Transport>(
      std::make_unique<Hub>(io, std::move(acceptor.value()), std::move(shared), options));
}

}  // namespace limpet::mirroring
