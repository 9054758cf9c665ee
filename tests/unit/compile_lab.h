// CompileLab: a document under construction, an engine that is given one after the other, and what
// is looked for in the snapshots that come of it.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "control/compile/compile.h"

namespace limpet::compile {

using snapshot::Snapshot;

inline net::Address address(const char* text) {
  return *net::Address::parse(text);
}

inline Environment environment() {
  Environment e;
  e.engine = "se1";
  e.ports = {{.name = "front",
              .index = 0,
              .mac = {},
              .addresses = {*net::Prefix::parse("10.1.0.1/24"), *net::Prefix::parse("fe80::1/64"),
                            *net::Prefix::parse("fd00:1::1/64")}},
             {.name = "back",
              .index = 1,
              .mac = {},
              .addresses = {*net::Prefix::parse("10.2.0.1/24"), *net::Prefix::parse("10.3.0.1/24"),
                            *net::Prefix::parse("fd00:2::1/64")}}};
  e.routes = {{*net::Prefix::parse("0.0.0.0/0"), 0, address("10.1.0.254")},
              {*net::Prefix::parse("10.9.0.0/16"), 1, address("10.3.0.254")}};
  return e;
}

// A document under construction; every part has a usable default.
struct Builder {
  std::string profile = R"("ip_persistence_profile": {"ip_persistent_timeout": 5})";
  std::string second_profile;
  std::string pool =
      R"("application_persistence_profile_ref": "/api/applicationpersistenceprofile/?name=sticky")";
  std::vector<std::string> servers{"10.2.0.2", "10.2.0.3", "10.2.0.4"};
  std::string other_pools;
  std::string vips = "10.1.0.100";
  std::string vs = R"("services": [{"port": 80}])";
  std::string network = "System-TCP-Fast-Path";
  std::string application = "System-L4-Application";
  std::string other_vs;
  std::string other_models;

  std::string server_list() const {
    std::string out;
    for (const std::string& s : servers) {
      if (!out.empty()) out += ",";
      if (s.front() == '{') {
        out += s;
      } else {
        out += fmt::format(R"({{"ip": {{"addr": "{}", "type": "{}"}}}})", s,
                           s.find(':') == s.npos ? "V4" : "V6");
      }
    }
    return out;
  }
  std::string vip_list() const {
    std::string out;
    std::size_t from = 0;
    for (int id = 0; from < vips.size(); ++id) {
      const std::size_t to = std::min(vips.find(' ', from), vips.size());
      const std::string vip = vips.substr(from, to - from);
      const bool v4 = vip.find(':') == vip.npos;
      out += fmt::format(R"({}{{"vip_id": "{}", "{}": {{"addr": "{}", "type": "{}"}}}})",
                         out.empty() ? "" : ",", id, v4 ? "ip_address" : "ip6_address", vip,
                         v4 ? "V4" : "V6");
      from = to + 1;
    }
    return out;
  }
  std::string json() const {
    return fmt::format(
        R"({{"ApplicationPersistenceProfile": [{{"name": "sticky",
               "persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS", {}}}{}],
             "Pool": [{{"name": "pool", "default_server_port": 80, "servers": [{}]{}{}}}{}],
             "VsVip": [{{"name": "vip", "vip": [{}]}}],
             "VirtualService": [{{"name": "vs", "vsvip_ref": "/api/vsvip/?name=vip",
               "pool_ref": "/api/pool/?name=pool",
               "application_profile_ref": "/api/applicationprofile/?name={}",
               "network_profile_ref": "/api/networkprofile/?name={}", {}}}{}]{}}})",
        profile, second_profile, server_list(), pool.empty() ? "" : ",", pool, other_pools,
        vip_list(), application, network, vs, other_vs, other_models);
  }
  config::Document build() const {
    auto parsed = config::parse_document(json());
    if (!parsed) {
      for (const auto& e : parsed.errors()) ADD_FAILURE() << e.path << ": " << e.message;
      return {};
    }
    return std::move(parsed.value().document);
  }
};

// An engine that is given one document after the other.
struct Engine {
  Environment env = environment();
  Registry registry;
  Compiled last;

  const Snapshot& apply(const Builder& builder) { return apply(builder.build()); }
  const Snapshot& apply(const config::Document& document) {
    auto result = compile(document, env, registry);
    if (!result) {
      for (const auto& e : result.errors()) ADD_FAILURE() << e.path << ": " << e.message;
      std::abort();
    }
    last = std::move(result.value());
    return *last.snapshot;
  }
  std::vector<std::string> warnings() const {
    std::vector<std::string> out;
    for (const auto& w : last.warnings) out.push_back(w.message);
    return out;
  }
};

inline const snapshot::Server& server_of(const Snapshot& s, const char* name) {
  for (const auto& pool : s.pools) {
    for (const auto& server : pool.servers) {
      if (server.name == name) return server;
    }
  }
  ADD_FAILURE() << "no server " << name;
  std::abort();
}

inline std::vector<std::string> names(const snapshot::Pool& pool) {
  std::vector<std::string> out;
  for (const auto& server : pool.servers) out.push_back(server.name);
  return out;
}

inline const snapshot::VirtualService* tcp(const Snapshot& s, const char* vip, uint16_t port) {
  return s.find(address(vip), IPPROTO_TCP, port);
}
inline const snapshot::VirtualService* udp(const Snapshot& s, const char* vip, uint16_t port) {
  return s.find(address(vip), IPPROTO_UDP, port);
}

}  // namespace limpet::compile
