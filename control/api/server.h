// Server: the engine's HTTP API on a TCP or unix socket, with TLS where it is configured.
//
// Owner: the control thread; all work happens in handlers of the io_context it runs. Only the
// printing of answers has a thread of its own (service.h).
//
// Invariants:
// 1. Off loopback there is no listening without TLS; with TLS nobody gets an answer without a
//    certificate of `client_ca`.
// 2. At most `connections_max` connections of clients; a new client takes the place of the one that
//    has been quiet longest. With TLS somebody is a client once the handshake is done. Those whose
//    handshake goes on are at most `strangers_max`, and apart: whoever has no certificate can take
//    no client's place, nor keep the others of his kind out (session.h).
// 3. Handlers are short; a loop that also has other duties should call io_context::poll_one() a
//    bounded number of times, not poll(), which goes on as long as a fast client sends.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <memory>

#include "common/base/result.h"
#include "common/telemetry/events.h"
#include "control/api/backend.h"
#include "control/api/session.h"
#include "control/config/bootstrap.h"

namespace limpet::api {

struct ServerLimits {
  Deadlines deadlines;
  std::size_t connections_max = 256;
  std::size_t strangers_max = 64;
};

// Whether the files are what they are to be, and the key that of the certificate: as open() would
// find. Errors: "/api/tls/…".
base::Status check_tls(const config::TlsFiles& files);

class Server {
 public:
  // Listens, or says why not ("/api/listen", "/api/tls/certificate", … as path). `io`, `backend`
  // and `events` outlive the server. A stale unix socket of a process that is gone is replaced.
  static base::Result<std::unique_ptr<Server>> open(boost::asio::io_context& io,
                                                    const config::ApiOptions& options,
                                                    Backend& backend,
                                                    const telemetry::EventLog& events,
                                                    const ServerLimits& limits = {});

  virtual ~Server() = default;

  // The TCP port listened on (the one the kernel chose for port 0); 0 for a unix socket.
  virtual uint16_t port() const = 0;

  // Stops listening and ends every connection; answers still due are dropped. The destructor does
  // the same.
  virtual void close() = 0;
};

}  // namespace limpet::api
