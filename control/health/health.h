// Health: what is known of each server's state: the marks that people and controllers set over the
// API, and the verdicts of the monitors. A server's state is its mark; else its monitors' verdict;
// else up (control/api/README.md, "POST /v1/health-marks").
//
// Owner: the control thread. A value: copy it to hand a consistent view to another thread.
//
// Invariants
//  1. Marks and verdicts belong to a server's identity, which includes its pool's. They survive new
//     documents and end when the server leaves its pool (retain()), so a new server at the same
//     address inherits nothing.
//  2. apply() sets all marks of a request or none.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "control/config/document.h"

namespace limpet::health {

enum class Source : uint8_t { kDefault, kMonitor, kApi };

// "default", "monitor", "api", as status prints it.
const char* to_string(Source source);

struct State {
  bool up = true;
  Source source = Source::kDefault;
  std::string reason;  // as it came with the mark or verdict

  friend bool operator==(const State&, const State&) = default;
};

// One mark as it is asked for.
struct MarkRequest {
  std::string pool;        // name or uuid
  std::string server;      // "ip:port" (server_name()), or what is unique in the pool: "ip" (a
                           // DNS-type server's name), uuid, external_uuid
  std::optional<bool> up;  // absent: take the mark back
  std::string reason;
  std::string tenant{};  // of the pool; empty: any, if only one has a pool of this name
};

// A server that became up or down: SERVER_UP or SERVER_DOWN.
struct Transition {
  std::string pool;
  std::string server;  // "ip:port"
  bool up = false;
  Source source = Source::kDefault;
  std::string reason;

  friend bool operator==(const Transition&, const Transition&) = default;
};

class Health {
 public:
  // Sets or takes back marks; the last of several for one server wins. Returns the servers whose
  // state became another, in the order of their first mark. Errors, all at once: unknown or
  // ambiguous pools and servers, with the path "<path>/<i>/pool" or "<path>/<i>/server", which say
  // what tells the ambiguous ones apart; then nothing has changed.
  base::Result<std::vector<Transition>> apply(const config::Document& document,
                                              std::span<const MarkRequest> marks,
                                              const std::string& path = "");

  // The monitors' verdict on a server; absent: there is none (any more). Returns the change of
  // state it made, if any. Nothing happens when the document does not have the server.
  std::optional<Transition> set_verdict(const config::Document& document, config::ServerId server,
                                        std::optional<bool> up, std::string reason);

  // A new document applies: forgets what is known of servers that it does not have.
  void retain(const config::Document& document);

  // A server without an address (DNS type) is down whatever was said.
  State state(const config::Server& server) const;

  std::size_t marks() const { return marks_.size(); }
  // The marks on servers of this document as requests that set them.
  std::vector<MarkRequest> marks(const config::Document& document) const;

 private:
  struct Word {
    bool up;
    std::string reason;
  };
  using Words = std::unordered_map<config::ServerId, Word>;

  Words marks_;
  Words verdicts_;
};

// Those of `marks` whose names mean one server of the document, in order.
std::vector<MarkRequest> known(const config::Document& document, std::vector<MarkRequest> marks);

// How listings and requests name a server: "10.2.0.2:80", "[fd00::2]:80"; a DNS-type server
// "name:80". One whose port is that of the client's connection (use_service_port) has "*" for it:
// "10.2.0.2:*", "[fd00::2]:*".
std::string server_name(const config::Server& server);

}  // namespace limpet::health
