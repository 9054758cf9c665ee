// Listening and accepting; templated over the acceptor's protocol, since a unix socket has a file
// to make and to remove.
#include "control/api/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/ssl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <filesystem>
#include <optional>
#include <string>

namespace limpet::api {
namespace {

namespace asio = boost::asio;
using ErrorCode = boost::system::error_code;
using Tcp = asio::ip::tcp;
using Unix = asio::local::stream_protocol;
using Generic = asio::generic::stream_protocol;

constexpr std::chrono::milliseconds kAcceptRetry{100};  // after running out of descriptors
constexpr mode_t kSocketMode = 0660;

// A process started by the engine must not keep its sockets open (Asio does not ask for this).
void close_on_exec(int descriptor) {
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
}

// The unix socket's file: removed at the end if it is still ours.
class SocketFile {
 public:
  SocketFile() = default;
  explicit SocketFile(std::string path) : path_(std::move(path)) {
    struct stat info {};
    if (::stat(path_.c_str(), &info) != 0) return;
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;
  SocketFile(SocketFile&& other) noexcept { swap(other); }
  SocketFile& operator=(SocketFile&& other) noexcept {
    swap(other);
    return *this;
  }
  ~SocketFile() { remove(); }

  void remove() {
    struct stat info {};
    if (!path_.empty() && ::stat(path_.c_str(), &info) == 0 && info.st_dev == device_ &&
        info.st_ino == inode_)
      ::unlink(path_.c_str());
    path_.clear();
  }

 private:
  void swap(SocketFile& other) {
    std::swap(path_, other.path_);
    std::swap(device_, other.device_);
    std::swap(inode_, other.inode_);
  }

  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

template <class Protocol>
class Listener final : public Server {
 public:
  Listener(asio::io_context& io, typename Protocol::acceptor acceptor, SocketFile file,
           std::optional<asio::ssl::context> tls, std::shared_ptr<Sessions> sessions)
      : acceptor_(std::move(acceptor)),
        retry_(io),
        file_(std::move(file)),
        tls_(std::move(tls)),
        sessions_(std::move(sessions)) {
    close_on_exec(acceptor_.native_handle());
    accept();
  }
  ~Listener() override { close(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  uint16_t port() const override {
    if constexpr (std::is_same_v<Protocol, Tcp>) {
      ErrorCode error;
      const auto endpoint = acceptor_.local_endpoint(error);
      return error ? uint16_t{0} : endpoint.port();
    }
    return 0;
  }

  void close() override {
    if (sessions_->closing) return;
    sessions_->closing = true;
    *alive_ = false;
    ErrorCode ignored;
    acceptor_.close(ignored);
    retry_.cancel();
    file_.remove();
    for (AnySession* session : sessions_->all) session->abort();
    sessions_->service->close();
  }

 private:
  void accept() {
    acceptor_.async_accept(
        [this, alive = alive_](ErrorCode error, typename Protocol::socket socket) {
          if (!*alive) return;
          if (error) return accept_later();
          admit(std::move(socket));
          accept();
        });
  }

  // Out of descriptors or memory: trying again at once would spin.
  void accept_later() {
    retry_.expires_after(kAcceptRetry);
    retry_.async_wait([this, alive = alive_](ErrorCode error) {
      if (*alive && !error) accept();
    });
  }

  void admit(typename Protocol::socket socket) {
    close_on_exec(socket.native_handle());
    ErrorCode ignored;
    if constexpr (std::is_same_v<Protocol, Tcp>) socket.set_option(Tcp::no_delay(true), ignored);
    Generic::socket generic(std::move(socket));
    if (tls_) {
      std::make_shared<Session<TlsStream>>(sessions_, std::move(generic), *tls_)->start();
    } else {
      std::make_shared<Session<PlainStream>>(sessions_, std::move(generic))->start();
    }
  }

  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  typename Protocol::acceptor acceptor_;
  asio::steady_timer retry_;
  SocketFile file_;
  std::optional<asio::ssl::context> tls_;
  std::shared_ptr<Sessions> sessions_;
};

// TLS 1.2 and 1.3; clients must show a certificate; no resumption, so that each connection is
// checked against the certificates.
base::Result<asio::ssl::context> make_tls(const config::TlsFiles& files) {
  asio::ssl::context context(asio::ssl::context::tls_server);
  SSL_CTX* raw = context.native_handle();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);

  base::Errors errors;
  const auto load = [&](const char* name, const std::filesystem::path& file, ErrorCode error) {
    if (error)
      errors.push_back({fmt::format("/api/tls/{}", name),
                        fmt::format("cannot use \"{}\": {}", file.string(), error.message())});
  };
  ErrorCode error;
  context.use_certificate_chain_file(files.certificate.string(), error);
  load("certificate", files.certificate, error);
  context.use_private_key_file(files.key.string(), asio::ssl::context::pem, error);
  load("key", files.key, error);
  context.load_verify_file(files.client_ca.string(), error);
  load("client_ca", files.client_ca, error);
  if (!error)
    SSL_CTX_set_client_CA_list(raw, SSL_load_client_CA_file(files.client_ca.string().c_str()));
  context.set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
  if (!errors.empty()) return errors;
  return context;
}

base::Error listen_error(const std::string& where, const std::string& why) {
  return {"/api/listen", fmt::format("cannot listen on {}: {}", where, why)};
}

struct BoundUnix {
  Unix::acceptor acceptor;
  SocketFile file;
};

base::Result<BoundUnix> bind_unix(asio::io_context& io, const std::string& path) {
  if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path))
    return listen_error("\"" + path + "\"", fmt::format("the path must have 1 to {} characters",
                                                        sizeof(sockaddr_un::sun_path) - 1));
  const Unix::endpoint endpoint(path);
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) return listen_error(path, "the file exists and is no socket");
    Unix::socket probe(io);
    ErrorCode refused;
    probe.connect(endpoint, refused);
    if (!refused) return listen_error(path, "another process listens there");
    ::unlink(path.c_str());
  }
  Unix::acceptor acceptor(io);
  ErrorCode error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.bind(endpoint, error);
  if (error) return listen_error(path, error.message());
  SocketFile file(path);
  // Before listen(): until then nobody can connect, whatever the mode was.
  if (::chmod(path.c_str(), kSocketMode) != 0)
    return listen_error(path, ErrorCode(errno, boost::system::system_category()).message());
  acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return listen_error(path, error.message());
  return BoundUnix{std::move(acceptor), std::move(file)};
}

base::Result<Tcp::acceptor> bind_tcp(asio::io_context& io, const net::Endpoint& listen) {
  const Tcp::endpoint endpoint = [&] {
    if (listen.address.is_v4())
      return Tcp::endpoint(asio::ip::make_address_v4(listen.address.to_string()), listen.port);
    return Tcp::endpoint(asio::ip::make_address_v6(listen.address.to_string()), listen.port);
  }();
  Tcp::acceptor acceptor(io);
  ErrorCode error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(Tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return listen_error(listen.to_string(), error.message());
  return acceptor;
}

}  // namespace

base::Status check_tls(const config::TlsFiles& files) {
  auto context = make_tls(files);
  if (!context) return context.errors();
  return base::Done{};
}

base::Result<std::unique_ptr<Server>> Server::open(asio::io_context& io,
                                                   const config::ApiOptions& options,
                                                   Backend& backend,
                                                   const telemetry::EventLog& events,
                                                   const ServerLimits& limits) {
  std::optional<asio::ssl::context> tls;
  if (options.tls) {
    auto made = make_tls(*options.tls);
    if (!made) return made.errors();
    tls = std::move(made.value());
  }
  auto sessions = std::make_shared<Sessions>();
  sessions->service = std::make_shared<Service>(io, backend, events);
  sessions->deadlines = limits.deadlines;
  sessions->clients_max = limits.connections_max;
  sessions->strangers_max = limits.strangers_max;

  if (const auto* unix_path = std::get_if<config::UnixSocketPath>(&options.listen)) {
    auto bound = bind_unix(io, unix_path->path.string());
    if (!bound) return bound.errors();
    return std::unique_ptr<Server>(std::make_unique<Listener<Unix>>(
        io, std::move(bound.value().acceptor), std::move(bound.value().file), std::move(tls),
        std::move(sessions)));
  }
  const auto& listen = std::get<net::Endpoint>(options.listen);
  if (!tls && !listen.address.is_loopback())
    return base::Error{"/api/tls", "is required when the API does not listen on loopback"};
  auto acceptor = bind_tcp(io, listen);
  if (!acceptor) return acceptor.errors();
  return std::unique_ptr<Server>(std::make_unique<Listener<Tcp>>(
      io, std::move(acceptor.value()), SocketFile(), std::move(tls), std::move(sessions)));
}

}  // namespace limpet::api
