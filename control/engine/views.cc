// Status and metrics: what the engine says of itself.
#include "control/engine/views.h"

#include <algorithm>
#include <utility>

#include "control/engine/families.h"

namespace limpet::engine {

namespace {

api::StateSource source_of(health::Source source) {
  switch (source) {
    case health::Source::kApi:
      return api::StateSource::kApi;
    case health::Source::kMonitor:
      return api::StateSource::kMonitor;
    case health::Source::kDefault:
      break;
  }
  return api::StateSource::kDefault;
}

std::optional<std::string> unless_empty(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(text);
}

const char* oper_status(const health::State& state) {
  return state.up ? "OPER_UP" : "OPER_DOWN";
}

uint64_t drops_on(const worker::Core& core, std::size_t port, std::size_t reason) {
  return core.output().drops(port)[reason];
}

}  // namespace

// --- making them
// ----------------------------------------------------------------------------------

void Views::status(api::Answer<api::StatusView> answer) {
  // The first may have been begun; what it shows is older than this question.
  for (std::size_t i = 1; i < making_.size(); ++i) {
    if (making_[i].is_status()) return making_[i].status_answers.push_back(std::move(answer));
  }
  making_.emplace_back().status_answers.push_back(std::move(answer));
}

void Views::metrics(api::Answer<api::MetricsView> answer) {
  for (std::size_t i = 1; i < making_.size(); ++i) {
    if (!making_[i].is_status()) return making_[i].metrics_answers.push_back(std::move(answer));
  }
  making_.emplace_back().metrics_answers.push_back(std::move(answer));
}

void Views::tick() {
  if (making_.empty()) return;
  Making& making = making_.front();
  if (std::holds_alternative<std::monostate>(making.view)) begin(&making);
  const bool complete = making.is_status()
                            ? go_on(&making, &std::get<api::StatusView>(making.view))
                            : go_on(&making, &std::get<api::MetricsView>(making.view));
  if (!complete) return;
  Making done = std::move(making_.front());
  making_.pop_front();
  const auto answer = [](auto& answers, auto& view) {
    for (std::size_t i = 1; i < answers.size(); ++i) answers[i](view);
    answers.front()(std::move(view));
  };
  if (done.is_status()) return answer(done.status_answers, std::get<api::StatusView>(done.view));
  answer(done.metrics_answers, std::get<api::MetricsView>(done.view));
}

void Views::begin(Making* making) const {
  making->document = changes_.running().document;
  making->inventory = changes_.running().inventory;
  if (making->is_status()) {
    making->view = begin_status();
  } else {
    making->view = begin_metrics();
  }
}

bool Views::go_on(Making* making, api::StatusView* view) const {
  const config::Document& document = making->document->document;
  const auto& services = document.virtual_services;
  std::size_t left = kServersPerTick;
  for (; making->service < services.size(); ++making->service, making->server = 0) {
    const config::VirtualService& vs = services[making->service];
    if (left == 0) return false;
    if (view->virtual_services.size() == making->service) {
      --left;
      view->virtual_services.push_back(service_status(*making));
    }
    if (!vs.pool) continue;
    const std::size_t servers = document.pools[vs.pool->value].servers.size();
    for (; making->server < servers; ++making->server, --left) {
      if (left == 0) return false;
      view->virtual_services.back().servers.push_back(
          server_status(*making, vs.pool->value, making->server));
    }
  }
  return true;
}

bool Views::go_on(Making* making, api::MetricsView* view) const {
  const config::Document& document = making->document->document;
  std::size_t left = kServersPerTick;
  if (!add_service_metrics(making, view, &left)) return false;
  for (; making->pool < document.pools.size(); ++making->pool, making->server = 0) {
    const std::size_t servers = document.pools[making->pool].servers.size();
    for (; making->server < servers; ++making->server, --left) {
      if (left == 0) return false;
      view->servers.push_back(server_metrics(*making, making->pool, making->server));
    }
  }
  return true;
}

bool Views::add_service_metrics(Making* making, api::MetricsView* view, std::size_t* left) const {
  const auto& services = making->document->document.virtual_services;
  for (; making->service < services.size(); ++making->service, --*left) {
    if (*left == 0) return false;
    const config::VirtualService& vs = services[making->service];
    const Inventory::Service& service = making->inventory->services[making->service];
    api::VirtualServiceMetrics m;
    m.name = vs.name;
    m.tenant = vs.tenant;
    m.uuid = vs.uuid;
    m.up = service.serving;
    m.connections = open(service.slot);
    m.connections_total = retirement_.total(service.slot);
    for (const auto scope : service.scopes) m.entries += mirror_.bound_in_scope(scope);
    view->virtual_services.push_back(std::move(m));
  }
  return true;
}

// --- their parts
// ----------------------------------------------------------------------------------

uint64_t Views::open(snapshot::VsSlot slot) const {
  return cores_.sum([&](const worker::Core& c) { return c.forwarder().vs(slot).open.get(); });
}

uint64_t Views::open(snapshot::ServerSlot slot) const {
  return cores_.sum([&](const worker::Core& c) { return c.forwarder().loads()[slot.value].open; });
}

api::VirtualServiceStatus Views::service_status(const Making& making) const {
  const config::Document& document = making.document->document;
  const config::VirtualService& vs = document.virtual_services[making.service];
  const Inventory::Service& service = making.inventory->services[making.service];
  api::VirtualServiceStatus out;
  out.name = vs.name;
  out.tenant = vs.tenant;
  out.uuid = vs.uuid;
  out.serving = service.serving;
  out.reason = unless_empty(service.reason);
  out.oper_status = service.oper_status;
  out.connections = open(service.slot);
  if (vs.pool) out.pool = document.pools[vs.pool->value].name;
  return out;
}

api::ServerStatus Views::server_status(const Making& making, std::size_t pool,
                                       std::size_t index) const {
  const config::Pool& in = making.document->document.pools[pool];
  const config::Server& from = in.servers[index];
  const Inventory::Server& server = making.inventory->servers[pool][index];
  api::ServerStatus out;
  out.server = health::server_name(from);
  out.enabled = in.enabled && from.enabled;
  out.oper_status = oper_status(server.state);
  out.source = source_of(server.state.source);
  if (!server.state.up) out.reason = unless_empty(server.state.reason);
  if (server.slot) {
    out.connections = open(*server.slot);
    out.entries = mirror_.bound_to(snapshot::ServerId{from.id.value});
  }
  return out;
}

api::ServerMetrics Views::server_metrics(const Making& making, std::size_t pool,
                                         std::size_t index) const {
  const config::Pool& in = making.document->document.pools[pool];
  const config::Server& from = in.servers[index];
  const Inventory::Server& server = making.inventory->servers[pool][index];
  api::ServerMetrics out;
  out.pool = in.name;
  out.tenant = in.tenant;
  out.pool_uuid = in.uuid;
  out.server = health::server_name(from);
  out.uuid = from.uuid.empty() ? from.external_uuid : from.uuid;
  out.up = server.state.up;
  if (!server.slot) return out;
  const snapshot::ServerSlot slot = *server.slot;
  out.connections = open(slot);
  out.connections_total = retirement_.total(slot);
  out.entries = mirror_.bound_to(snapshot::ServerId{from.id.value});
  out.snat_exhausted_total = cores_.sum(
      [&](const worker::Core& c) { return c.forwarder().server(slot).snat_exhausted.get(); });
  out.over_limit_total = cores_.sum(
      [&](const worker::Core& c) { return c.forwarder().server(slot).over_limit.get(); });
  return out;
}

api::LookupCounts Views::lookups(uint32_t worker) const {
  const l4::LookupCounters& c = cores_.core(worker).forwarder().lookups();
  const replication::Counters& r = cores_.core(worker).replica().counters();
  return {.hit = c.hits,
          .miss = c.misses,
          .moved = r.moved,
          .created = r.created,
          .refused = c.refused};
}

api::StatusView Views::begin_status() const {
  api::StatusView out;
  out.name = names_.engine;
  out.version = names_.version;
  out.generation = changes_.running().generation;
  out.uptime_s = uptime_s();
  out.ports = sources_.ports();
  for (std::size_t p = 0; p < out.ports.size(); ++p) {
    for (std::size_t r = 0; r < packet::kDropReasons; ++r) {
      const uint64_t sum = cores_.sum([&](const worker::Core& c) { return drops_on(c, p, r); });
      if (sum > 0) out.ports[p].drops.push_back({std::string(packet::kDropReasonNames[r]), sum});
    }
  }
  for (uint32_t w = 0; w < cores_.count(); ++w) {
    out.workers.push_back({names_.worker_cores[w], watch_.busy_ratio(w) * 100,
                           cores_.core(w).stats().flows, cores_.core(w).stats().entries});
  }
  sources_.add_status(&out);
  return out;
}

api::MetricsView Views::begin_metrics() const {
  api::MetricsView out;
  out.version = names_.version;
  out.generation = changes_.running().generation;
  out.uptime_seconds = std::chrono::duration<double>(clock_.now() - started_).count();
  for (uint32_t w = 0; w < cores_.count(); ++w) {
    const worker::CoreStats& stats = cores_.core(w).stats();
    out.workers.push_back({.core = names_.worker_cores[w],
                           .busy_ratio = watch_.busy_ratio(w),
                           .flows = stats.flows,
                           .flows_max = limits_.flows_per_worker,
                           .entries = stats.entries,
                           .lookups = lookups(w)});
  }
  out.persistence_entries_max = limits_.entries;
  out.persistence_entry_bytes = sizeof(persist::Entry);
  out.flow_bytes = sizeof(l4::Flow);
  out.more.push_back({"limpet_flow_index_bytes",
                      "Bytes of index of one direction of a flow.",
                      api::MetricType::kGauge,
                      {{{},
                        static_cast<double>(base::HashIndex::bytes_for(limits_.flows_per_worker)) /
                            limits_.flows_per_worker}}});
  const uint64_t tables =
      mirror_.bytes() + cores_.sum([](const worker::Core& c) { return c.table().bytes(); });
  out.more.push_back({"limpet_persistence_memory_bytes",
                      "Memory of the persist tables of all workers and of the control thread.",
                      api::MetricType::kGauge,
                      {{{}, static_cast<double>(tables)}}});
  add_replication(cores_, names_.worker_cores, &out);
  sources_.add_metrics(&out);
  return out;
}

api::TelemetryView Views::telemetry() const {
  api::TelemetryView out;
  out.name = names_.engine;
  out.version = names_.version;
  out.generation = changes_.running().generation;
  out.uptime_s = uptime_s();
  for (const api::PortStatus& p : sources_.ports())
    out.ports.push_back({p.name, p.mac, p.link == "up", p.rx_packets, p.tx_packets});
  for (uint32_t w = 0; w < cores_.count(); ++w) {
    out.workers.push_back({names_.worker_cores[w], watch_.busy_ratio(w) * 100,
                           cores_.core(w).stats().flows, cores_.core(w).stats().entries});
    out.lookups += lookups(w);
  }
  const Inventory& inventory = *changes_.running().inventory;
  out.virtual_services = inventory.services.size();
  out.virtual_services_up = inventory.serving();
  for (const Inventory::Service& service : inventory.services)
    out.connections += open(service.slot);
  for (const snapshot::Scope& scope : changes_.running().snapshot->scopes)
    out.entries += mirror_.bound_in_scope(scope.slot);
  out.entries_max = limits_.entries;
  out.entry_bytes = sizeof(persist::Entry);
  api::MetricsView some;
  add_replication(cores_, names_.worker_cores, &some);
  sources_.add_metrics(&some);
  out.drops = std::move(some.drops);
  out.evictions = std::move(some.persistence_evictions);
  return out;
}

}  // namespace limpet::engine
