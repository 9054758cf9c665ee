#include "control/health/health.h"

#include <fmt/format.h>

#include <string_view>
#include <unordered_set>
#include <utility>

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

// Finds pools and servers by the names that requests use. The index lives for one request: a
// request may carry as many marks as there are servers, and then a search for each would be too
// slow.
class Directory {
 public:
  explicit Directory(const Document& document) {
    for (const Pool& pool : document.pools) {
      by_uuid_[pool.uuid] = &pool;
      ++by_name_[pool.name].count;
      by_name_[pool.name].pool = &pool;
    }
  }

  base::Result<const Pool*> pool(const std::string& name) const {
    if (const auto it = by_uuid_.find(name); it != by_uuid_.end()) return it->second;
    const auto it = by_name_.find(name);
    if (it == by_name_.end()) return error("no pool is named '{}'", name);
    if (it->second.count > 1)
      return error("several tenants have a pool named '{}': use its uuid", name);
    return it->second.pool;
  }

  base::Result<const Server*> server(const Pool& pool, const std::string& name) {
    const auto [it, fresh] = servers_.try_emplace(&pool);
    if (fresh) index(pool, it->second);
    const auto found = it->second.find(canonical(name));
    if (found == it->second.end()) return error("pool '{}' has no server '{}'", pool.name, name);
    if (found->second.count > 1)
      return error("pool '{}' has several servers '{}': add the port", pool.name, name);
    return found->second.server;
  }

 private:
  struct NamedPool {
    const Pool* pool = nullptr;
    int count = 0;
  };
  struct NamedServer {
    const Server* server = nullptr;
    int count = 0;
  };
  using Servers = std::unordered_map<std::string, NamedServer>;

  template <class... Args>
  static base::Error error(fmt::format_string<Args...> text, Args&&... args) {
    return {"", fmt::format(text, std::forward<Args>(args)...)};
  }

  // Addresses have several spellings; requests may use any.
  static std::string canonical(const std::string& name) {
    if (const auto address = net::Address::parse(name)) return address->to_string();
    if (const auto endpoint = net::Endpoint::parse(name)) return endpoint->to_string();
    return name;
  }

  static void index(const Pool& pool, Servers& servers) {
    for (const Server& server : pool.servers) {
      for (const std::string& name :
           {server_name(server), server.dns ? server.hostname : server.address.to_string()}) {
        ++servers[name].count;
        servers[name].server = &server;
      }
    }
  }

  std::unordered_map<std::string_view, const Pool*> by_uuid_;
  std::unordered_map<std::string_view, NamedPool> by_name_;
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
  if (server.dns) return fmt::format("{}:{}", server.hostname, server.port);
  return net::Endpoint{server.address, server.port}.to_string();
}

base::Result<std::vector<Transition>> Health::apply(const Document& document,
                                                    std::span<const MarkRequest> marks,
                                                    const std::string& path) {
  Directory directory(document);
  base::Errors errors;
  std::vector<Found> found;
  found.reserve(marks.size());
  for (std::size_t i = 0; i < marks.size(); ++i) {
    const auto pool = directory.pool(marks[i].pool);
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
  for (const Pool& pool : document.pools) {
    for (const Server& server : pool.servers) {
      const auto it = marks_.find(server.id);
      if (it == marks_.end()) continue;
      out.push_back({.pool = pool.uuid,
                     .server = server_name(server),
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
