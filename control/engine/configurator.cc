#include "control/engine/configurator.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "control/api/health_marks.h"

namespace limpet::engine {

using timing::Instant;

namespace {

using Outcome = std::variant<Prepared, Refused>;

// Compiles `next.document` and puts the result into `prepared`.
// `earlier`: what runs, when it is of the same document.
bool compile_into(Prepared& prepared, const Surroundings& around, Instant now, Refused* refused,
                  std::shared_ptr<const snapshot::Snapshot> earlier = {}) {
  Configuration& next = prepared.next;
  compile::Environment environment;
  environment.engine = around.engine;
  environment.ports = around.ports;
  environment.routes = around.routes;
  environment.snat = around.snat;
  environment.health = next.health;
  environment.graceful_over = next.drains.due(now);
  environment.elects = !around.peers.empty();
  environment.peers = around.peers;
  environment.owned = next.owned;
  environment.generation = next.generation;
  environment.version = next.snapshot->version + 1;
  environment.earlier = std::move(earlier);
  auto compiled = compile::compile(next.document->document, environment, next.registry);
  if (!compiled) {
    *refused = {400, compiled.errors()};
    return false;
  }
  next.drains.settle(now);
  next.snapshot = compiled.value().snapshot;
  auto& warnings = compiled.value().warnings;
  prepared.warnings.insert(prepared.warnings.end(), warnings.begin(), warnings.end());
  return true;
}

// The text as it was sent, with "generation" set to what it got.
std::string with_generation(const config::Parsed& parsed, uint64_t generation) {
  if (parsed.generation) return parsed.text;
  const auto brace = parsed.text.find('{');
  const auto after = parsed.text.find_first_not_of(" \t\r\n", brace + 1);
  const bool nothing_else = parsed.text[after] == '}';
  return parsed.text.substr(0, brace + 1) + "\"generation\": " + std::to_string(generation) +
         (nothing_else ? "" : ", ") + parsed.text.substr(after);
}

std::vector<health::Transition> transitions_between(const Configuration& before,
                                                    const Configuration& after) {
  std::vector<health::Transition> out;
  for (const config::Pool& pool : after.document->document.pools) {
    for (const config::Server& server : pool.servers) {
      const health::State was = before.health.state(server);
      const health::State is = after.health.state(server);
      if (was.up == is.up) continue;
      out.push_back({pool.name, health::server_name(server), is.up, is.source, is.reason});
    }
  }
  return out;
}

Outcome put_document(const Configuration& current, const PutDocument& put,
                     const Surroundings& around, Instant now) {
  auto parsed = config::parse_document(put.text);
  if (!parsed) return Refused{400, parsed.errors()};
  const uint64_t generation = parsed.value().generation.value_or(current.generation + 1);
  if (generation < current.generation) {
    return Refused{409,
                   {{"/generation", "is " + std::to_string(generation) +
                                        ", older than the running generation " +
                                        std::to_string(current.generation)}}};
  }
  Prepared prepared;
  prepared.next = current;
  Configuration& next = prepared.next;
  next.document = std::make_shared<const config::Parsed>(std::move(parsed.value()));
  next.generation = generation;
  next.text = std::make_shared<const std::string>(with_generation(*next.document, generation));
  next.health.retain(next.document->document);
  next.drains.update(next.document->document, now);
  prepared.warnings = next.document->warnings;
  Refused refused;
  if (!compile_into(prepared, around, now, &refused)) return refused;
  return prepared;
}

Outcome set_marks(const Configuration& current, const SetMarks& set, const Surroundings& around,
                  Instant now) {
  auto marks = api::parse_health_marks(set.text);
  if (!marks) return Refused{400, marks.errors()};
  std::vector<health::MarkRequest> requests;
  for (api::HealthMark& m : marks.value())
    requests.push_back(
        {std::move(m.pool), std::move(m.server), m.up, std::move(m.reason), std::move(m.tenant)});
  Prepared prepared;
  prepared.next = current;
  prepared.marks = requests.size();
  if (set.known_only) {
    health::Health probe;
    std::erase_if(requests, [&](const health::MarkRequest& mark) {
      return !probe.apply(current.document->document, std::span(&mark, 1));
    });
  }
  auto applied = prepared.next.health.apply(current.document->document, requests);
  if (!applied) return Refused{404, applied.errors()};
  Refused refused;
  if (!compile_into(prepared, around, now, &refused, current.snapshot)) return refused;
  prepared.warnings.clear();
  prepared.transitions = transitions_between(current, prepared.next);
  return prepared;
}

Outcome recompile(const Configuration& current, std::vector<uint64_t> owned,
                  const Surroundings& around, Instant now) {
  Prepared prepared;
  prepared.next = current;
  prepared.next.owned = std::move(owned);
  Refused refused;
  if (!compile_into(prepared, around, now, &refused, current.snapshot)) return refused;
  return prepared;
}

}  // namespace

Surroundings surroundings(const config::Bootstrap& bootstrap, const std::vector<net::Mac>& macs) {
  Surroundings out;
  out.engine = bootstrap.name;
  out.snat = bootstrap.snat;
  for (std::size_t i = 0; i < bootstrap.ports.size(); ++i) {
    const config::PortOptions& p = bootstrap.ports[i];
    snapshot::Port port;
    port.name = p.name;
    port.index = static_cast<uint8_t>(i);
    port.vlan = p.vlan.value_or(0);
    port.mtu = p.mtu;
    port.mac = macs[i];
    port.addresses = p.addresses;
    out.ports.push_back(std::move(port));
  }
  for (const config::RouteOptions& r : bootstrap.routes)
    out.routes.push_back({r.prefix, static_cast<uint8_t>(r.port), r.next_hop});
  std::stable_sort(out.routes.begin(), out.routes.end(),
                   [](const auto& a, const auto& b) { return a.prefix.length > b.prefix.length; });
  return out;
}

Configuration Configuration::empty(const Surroundings& around) {
  Configuration c;
  auto parsed = config::parse_document("{}");
  LIMPET_ASSERT(parsed.ok());
  c.document = std::make_shared<const config::Parsed>(std::move(parsed.value()));
  c.text = std::make_shared<const std::string>(R"({"generation": 0})");
  c.snapshot = std::make_shared<const snapshot::Snapshot>();
  Prepared prepared;
  prepared.next = std::move(c);
  Refused refused;
  LIMPET_ASSERT(compile_into(prepared, around, {}, &refused));
  return std::move(prepared.next);
}

std::string marks_text(const Configuration& configuration) {
  auto marks = nlohmann::json::array();
  for (const health::MarkRequest& mark :
       configuration.health.marks(configuration.document->document)) {
    marks.push_back({{"pool", mark.pool},
                     {"server", mark.server},
                     {"oper_status", *mark.up ? "OPER_UP" : "OPER_DOWN"},
                     {"reason", mark.reason}});
  }
  return marks.dump();
}

std::variant<Prepared, Refused> prepare(const Configuration& current, const Change& change,
                                        const Surroundings& around, Instant now) {
  if (const auto* put = std::get_if<PutDocument>(&change))
    return put_document(current, *put, around, now);
  if (const auto* set = std::get_if<SetMarks>(&change))
    return set_marks(current, *set, around, now);
  const auto* own = std::get_if<SetOwned>(&change);
  return recompile(current, own != nullptr ? own->groups : current.owned, around, now);
}

}  // namespace limpet::engine
