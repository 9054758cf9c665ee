#include "control/engine/configurator.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

#include "control/api/health_marks.h"
#include "control/config/references.h"

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
  environment.running = next.snapshot;
  auto compiled = compile::compile(next.document->document, environment, next.registry);
  if (!compiled) {
    *refused = {400, compiled.errors()};
    return false;
  }
  next.drains.settle(now);
  next.due_at = next.drains.next_deadline(now);
  next.snapshot = compiled.value().snapshot;
  next.inventory = std::make_shared<const Inventory>(
      Inventory::of(next.document->document, compiled.value(), next.health));
  prepared.generation = next.generation;
  prepared.virtual_services = static_cast<uint32_t>(compiled.value().virtual_services);
  prepared.served = static_cast<uint32_t>(compiled.value().served);
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

// Servers that both configurations have and that one of them calls up; services whether the earlier
// one had them or not.
void note_transitions(const Configuration& before, Prepared* prepared) {
  const Configuration& after = prepared->next;
  if (before.inventory == after.inventory) return;
  std::unordered_map<config::ServerId, bool> was_up;
  const auto& pools_before = before.document->document.pools;
  for (std::size_t p = 0; p < pools_before.size(); ++p) {
    for (std::size_t i = 0; i < pools_before[p].servers.size(); ++i)
      was_up[pools_before[p].servers[i].id] = before.inventory->servers[p][i].state.up;
  }
  const auto& pools = after.document->document.pools;
  for (std::size_t p = 0; p < pools.size(); ++p) {
    for (std::size_t i = 0; i < pools[p].servers.size(); ++i) {
      const config::Server& server = pools[p].servers[i];
      const health::State& is = after.inventory->servers[p][i].state;
      const auto was = was_up.find(server.id);
      if (was == was_up.end() || was->second == is.up) continue;
      prepared->transitions.push_back({event_object(pools[p].tenant, pools[p].name),
                                       health::server_name(server), is.up, is.source, is.reason});
    }
  }
  std::unordered_map<std::string_view, bool> was_serving;
  const auto& services_before = before.document->document.virtual_services;
  for (std::size_t i = 0; i < services_before.size(); ++i)
    was_serving[services_before[i].uuid] = before.inventory->services[i].serving;
  const auto& services = after.document->document.virtual_services;
  for (std::size_t i = 0; i < services.size(); ++i) {
    const Inventory::Service& is = after.inventory->services[i];
    const auto was = was_serving.find(services[i].uuid);
    if (is.serving == (was != was_serving.end() && was->second)) continue;
    prepared->service_transitions.push_back({event_object(services[i].tenant, services[i].name),
                                             is.serving, is.serving ? "" : is.reason});
  }
}

// A group that several engines are to own one after another, and nobody who tells this one when.
void warn_of_groups(const config::Document& document, const Surroundings& around,
                    std::vector<config::Warning>* warnings) {
  if (!around.peers.empty()) return;
  for (std::size_t i = 0; i < document.groups.size(); ++i) {
    const auto& engines = document.groups[i].engines;
    if (engines.size() < 2) continue;
    warnings->push_back({"/ServiceEngineGroup/" + std::to_string(i) + "/engines",
                         "this engine has no `mirroring` with peers: it never takes the group over "
                         "or gives it up; " +
                             (engines.front() == around.engine ? "it serves it whoever else does"
                                                               : engines.front() + " serves it")});
  }
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
  warn_of_groups(next.document->document, around, &prepared.warnings);
  Refused refused;
  if (!compile_into(prepared, around, now, &refused)) return refused;
  const auto fits = check_source_ports(around.source_ports, source_port_blocks(*next.snapshot));
  if (!fits) return Refused{400, fits.errors()};
  if (put.if_serving && next.inventory->carried() == 0 && current.inventory->carried() > 0) {
    return Refused{
        409,
        {{"", fmt::format("the document serves none of its {} virtual services; {} are "
                          "served now",
                          next.inventory->services.size(), current.inventory->carried())}}};
  }
  note_transitions(current, &prepared);
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
  if (set.known_only) requests = health::known(current.document->document, std::move(requests));
  auto applied = prepared.next.health.apply(current.document->document, requests);
  if (!applied) return Refused{404, applied.errors()};
  Refused refused;
  if (!compile_into(prepared, around, now, &refused, current.snapshot)) return refused;
  prepared.warnings.clear();
  note_transitions(current, &prepared);
  return prepared;
}

Outcome recompile(const Configuration& current, std::vector<uint64_t> owned,
                  const Surroundings& around, Instant now) {
  Prepared prepared;
  prepared.next = current;
  prepared.next.owned = std::move(owned);
  Refused refused;
  if (!compile_into(prepared, around, now, &refused, current.snapshot)) return refused;
  note_transitions(current, &prepared);
  return prepared;
}

}  // namespace

Surroundings surroundings(const config::Bootstrap& bootstrap, const std::vector<net::Mac>& macs) {
  Surroundings out;
  out.engine = bootstrap.name;
  out.snat = bootstrap.snat;
  out.source_ports = source_port_share(bootstrap);
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
  return out;
}

void name_peers(const config::Bootstrap& bootstrap, Surroundings* around) {
  if (!bootstrap.mirroring) return;
  for (const config::PeerOptions& peer : bootstrap.mirroring->peers)
    around->peers.push_back(peer.name);
}

std::string event_object(const std::string& tenant, const std::string& name) {
  return tenant == config::kAdminTenant ? name : tenant + "/" + name;
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
