// Servers: how a pool's servers become those of a Snapshot: where they are, by which address they
// are reached, what state they are in, and the tables that find them.
//
// Part of compile(); runs on the helper thread.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "control/compile/compile.h"

namespace limpet::compile {

// A pool as some virtual services use it.
struct PoolUse {
  uint32_t pool = 0;                  // index into Document::pools
  std::optional<net::Family> family;  // of the VIPs; absent: not served, all servers are listed
  bool preserve_client = false;
  bool tcp = false;
  bool udp = false;
};

// Warnings without doubles, in order of their first appearance.
class Warnings {
 public:
  void add(std::string path, std::string message);
  std::vector<config::Warning> take() { return std::move(list_); }

 private:
  std::set<std::pair<std::string, std::string>> seen_;
  std::vector<config::Warning> list_;
};

class PoolCompiler {
 public:
  // `snapshot` must have its ports, routes and own addresses.
  PoolCompiler(const config::Document& document, const Environment& environment,
               const snapshot::Snapshot& snapshot, Registry& registry, Warnings& warnings,
               base::Errors& errors)
      : document_(document),
        environment_(environment),
        snapshot_(snapshot),
        registry_(registry),
        warnings_(warnings),
        errors_(errors) {}

  snapshot::Pool compile(const PoolUse& use);
  // Compiled::unreachable, of all uses so far.
  std::map<config::ServerId, std::string> take_unreachable();

 private:
  const snapshot::Pool* earlier(const snapshot::Pool& pool);
  snapshot::Server server(const config::Pool& pool, const config::Server& from, const PoolUse& use);
  // Empty, or why the server cannot be reached.
  std::string_view locate(const PoolUse& use, snapshot::Server& server);
  std::vector<net::Address> sources(const snapshot::Server& server) const;
  void give_nats(const PoolUse& use, snapshot::Server& server);
  void full(const char* what, std::size_t max);

  const config::Document& document_;
  const Environment& environment_;
  const snapshot::Snapshot& snapshot_;
  Registry& registry_;
  Warnings& warnings_;
  base::Errors& errors_;
  std::unordered_multimap<std::string_view, const snapshot::Pool*> earlier_;  // by uuid
  std::map<config::ServerId, std::string> unreachable_;                       // in one use at least
  std::set<config::ServerId> reachable_;                                      // the same
};

}  // namespace limpet::compile
