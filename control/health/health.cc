#include "control/health/health.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "control/config/names.h"

namespace limpet::health {
namespace {

using config::Document;
using config::Pool;
using config::Server;
using config::ServerId;

struct Found {
  const Pool* pool = nullptr;
  const Server* server = nullptr;
};

// "*": the port is the one that the client used.
std::string port_text(uint16_t port) {
  return port == 0 ? "*" : std::to_string(port);
}

std::string endpoint_name(const net::Endpoint& endpoint) {
  if (endpoint.port != 0) return endpoint.to_string();
  const std::string address = endpoint.address.to_string();
  return (endpoint.address.is_v4() ? address : "[" + address + "]") + ":*";
}

// Addresses have several spellings; requests may use any.
std::string canonical(const std::string& name) {
  if (const auto address = net::Address::parse(name)) return address->to_string();
  if (name.ends_with(":*")) {
    const auto any_port = net::Endpoint::parse(name.substr(0, name.size() - 1) + "0");
    return any_port ? endpoint_name(*any_port) : name;
  }
  if (const auto endpoint = net::Endpoint::parse(name)) return endpoint_name(*endpoint);
  return name;
}

// Finds pools and servers by the names that requests use. The index lives for one request.
class Directory {
 public:
  explicit Directory(const Document& document) : pools_(document.pools, "pool") {}

  base::Result<const Pool*> pool(const MarkRequest& mark) const {
    return pools_.find(mark.pool, mark.tenant);
  }

  base::Result<const Server*> server(const Pool& pool, const std::string& name) {
    const auto [it, fresh] = servers_.try_emplace(&pool);
    if (fresh) index(pool, it->second);
    const auto found = it->second.find(canonical(name));
    if (found == it->second.end())
      return base::Error{"", fmt::format("pool '{}' has no server '{}'", pool.name, name)};
    if (found->second.size() > 1) return several(pool, name, found->second);
    return found->second.front();
  }

  // A name that means this server and no other of its pool.
  std::string unique_name(const Pool& pool, const Server& server) {
    for (const std::string& name : {server_name(server), server.uuid, server.external_uuid}) {
      const auto found = this->server(pool, name);
      if (found && found.value() == &server) return name;
    }
    return server_name(server);
  }

 private:
  using Named = std::vector<const Server*>;
  using Servers = std::unordered_map<std::string, Named>;

  static base::Error several(const Pool& pool, const std::string& name, const Named& found) {
    std::vector<std::string> names;
    std::vector<std::string> uuids;
    for (const Server* server : found) {
      names.push_back(server_name(*server));
      uuids.push_back(server->uuid.empty() ? server->external_uuid : server->uuid);
    }
    const bool one_name = std::equal(names.begin() + 1, names.end(), names.begin());
    return {"", fmt::format("pool '{}' has several servers '{}': {} ({})", pool.name, name,
                            one_name ? "give a uuid instead" : "add the port",
                            config::listed(one_name ? uuids : names))};
  }

  static void index(const Pool& pool, Servers& servers) {
    for (const Server& server : pool.servers) {
      for (const std::string& name :
           {server_name(server), server.dns ? server.hostname : server.address.to_string(),
            server.uuid, server.external_uuid}) {
        if (name.empty()) continue;
        Named& named = servers[name];
        if (named.empty() || named.back() != &server) named.push_back(&server);
      }
    }
  }

  config::Names<Pool> pools_;
  std::unordered_map<const Pool*, Servers> servers_;
};

Transition transition(const Pool& pool, const Server& server, const State& now) {
  return {.pool = pool.name,
          .server = server_name(server),
          .up = now.up,
          .source = now.source,
          .reason = now.reason};
}

}  // namespace

const char* to_string(Source source) {
  switch (source) {
    case Source::kApi:
      return "api";
    case Source::kMonitor:
      return "monitor";
    case Source::kDefault:
      break;
  }
  return "default";
}

std::string server_name(const Server& server) {
  if (server.dns) return server.hostname + ":" + port_text(server.port);
  return endpoint_name({server.address, server.port});
}

std::vector<MarkRequest> known(const Document& document, std::vector<MarkRequest> marks) {
  Directory directory(document);
  std::erase_if(marks, [&](const MarkRequest& mark) {
    const auto pool = directory.pool(mark);
    return !pool || !directory.server(*pool.value(), mark.server);
  });
  return marks;
}

base::Result<std::vector<Transition>> Health::apply(const Document& document,
                                                    std::span<const MarkRequest> marks,
                                                    const std::string& path) {
  Directory directory(document);
  base::Errors errors;
  std::vector<Found> found;
  found.reserve(marks.size());
  for (std::size_t i = 0; i < marks.size(); ++i) {
    const auto pool = directory.pool(marks[i]);
    if (!pool) {
      errors.push_back({fmt::format("{}/{}/pool", path, i), pool.errors().front().message});
      continue;
    }
    const auto server = directory.server(*pool.value(), marks[i].server);
    if (!server) {
      errors.push_back({fmt::format("{}/{}/server", path, i), server.errors().front().message});
      continue;
    }
    found.push_back({pool.value(), server.value()});
  }
  if (!errors.empty()) return errors;

  std::unordered_map<ServerId, bool> was_up;
  for (std::size_t i = 0; i < marks.size(); ++i) {
    const ServerId id = found[i].server->id;
    was_up.try_emplace(id, state(*found[i].server).up);
    if (marks[i].up) {
      marks_.insert_or_assign(id, Word{*marks[i].up, marks[i].reason});
    } else {
      marks_.erase(id);
    }
  }
  std::vector<Transition> transitions;
  for (const Found& f : found) {
    const auto before = was_up.find(f.server->id);
    if (before == was_up.end()) continue;  // reported with an earlier mark
    const State now = state(*f.server);
    if (now.up != before->second) transitions.push_back(transition(*f.pool, *f.server, now));
    was_up.erase(before);
  }
  return transitions;
}

std::optional<Transition> Health::set_verdict(const Document& document, ServerId id,
                                              std::optional<bool> up, std::string reason) {
  for (const Pool& pool : document.pools) {
    for (const Server& server : pool.servers) {
      if (server.id != id) continue;
      const bool was_up = state(server).up;
      if (up) {
        verdicts_.insert_or_assign(id, Word{*up, std::move(reason)});
      } else {
        verdicts_.erase(id);
      }
      const State now = state(server);
      if (now.up == was_up) return std::nullopt;
      return transition(pool, server, now);
    }
  }
  return std::nullopt;
}

void Health::retain(const Document& document) {
  std::unordered_set<ServerId> present;
  for (const Pool& pool : document.pools) {
    for (const Server& server : pool.servers) present.insert(server.id);
  }
  const auto left = [&](const auto& known) { return !present.contains(known.first); };
  std::erase_if(marks_, left);
  std::erase_if(verdicts_, left);
}

std::vector<MarkRequest> Health::marks(const Document& document) const {
  std::vector<MarkRequest> out;
  if (marks_.empty()) return out;
  Directory directory(document);
  for (const Pool& pool : document.pools) {
    for (const Server& server : pool.servers) {
      const auto it = marks_.find(server.id);
      if (it == marks_.end()) continue;
      out.push_back({.pool = pool.uuid,
                     .server = directory.unique_name(pool, server),
                     .up = it->second.up,
                     .reason = it->second.reason});
    }
  }
  return out;
}

State Health::state(const Server& server) const {
  if (server.dns) return {.up = false, .reason = "names are not resolved"};
  if (const auto it = marks_.find(server.id); it != marks_.end())
    return {it->second.up, Source::kApi, it->second.reason};
  if (const auto it = verdicts_.find(server.id); it != verdicts_.end())
    return {it->second.up, Source::kMonitor, it->second.reason};
  return {};
}

}  // namespace limpet::health
