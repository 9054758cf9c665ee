// Client: HTTP requests to one API, one after the other, over a connection that is kept while the
// server keeps it. Blocking; every wait has a deadline.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "control/cli/location.h"

namespace limpet::cli {

// Files of a client's TLS; empty: the system's authorities, no client certificate.
struct TlsFiles {
  std::string ca;
  std::string certificate;
  std::string key;
};

struct HttpAnswer {
  unsigned status = 0;
  std::string body;
};

struct HttpRequest {
  std::string method;
  std::string target;
  std::string body;
};

class Client {
 public:
  Client(Location location, TlsFiles files);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // The answer, whatever its status; an error when there is none: no connection, TLS that fails
  // (also: the server's certificate is not for this host), no HTTP, or a deadline that is over.
  base::Result<HttpAnswer> ask(const HttpRequest& request);

 private:
  class Connection;

  Location location_;
  TlsFiles files_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace limpet::cli
