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

uint64_t drops_on(const worker::Core& core, std::size_t port, std::size_t reason) {
  return core.output().drops(port)[reason];
}

}  // namespace

// --- making them
// ----------------------------------------------------------------------------------

void Views::status(api::Answer<api::StatusView> answer) {
  for (const auto& making : making_) {
    if (making->is_status() && !making->has_begun())
      return making->status_answers.push_back(std::move(answer));
  }
  making_.push_back(std::make_shared<Making>());
  making_.back()->status_answers.push_back(std::move(answer));
}

void Views::metrics(api::Answer<api::MetricsView> answer) {
  for (const auto& making : making_) {
    if (!making->is_status() && !making->has_begun())
      return making->metrics_answers.push_back(std::move(answer));
  }
  making_.push_back(std::make_shared<Making>());
  making_.back()->metrics_answers.push_back(std::move(answer));
}

void Views::tick() {
  if (making_.empty() || making_.front()->complete) return;
  const auto making = making_.front();
  if (!making->has_begun()) begin(making.get());
  if (!read(making.get())) return;
  making->complete = true;
  aside_.run(
      [making] {
        if (making->is_status()) {
          add_rows(making.get(), &making->status);
          making->more_statuses.assign(making->status_answers.size() - 1, making->status);
        } else {
          add_rows(making.get(), &making->metrics);
          making->more_metrics.assign(making->metrics_answers.size() - 1, making->metrics);
        }
      },
      [this, making] {
        making_.pop_front();
        const auto answer = [](auto& answers, auto& view, auto& more) {
          answers.front()(std::move(view));
          for (std::size_t i = 1; i < answers.size(); ++i) answers[i](std::move(more[i - 1]));
        };
        if (making->is_status()) {
          answer(making->status_answers, making->status, making->more_statuses);
        } else {
          answer(making->metrics_answers, making->metrics, making->more_metrics);
        }
        // It may be the last who has them.
        aside_.dispose(std::pair(std::move(making->document), std::move(making->inventory)));
      });
}

void Views::begin(Making* making) const {
  making->document = changes_.running().document;
  making->inventory = changes_.running().inventory;
  if (making->is_status()) {
    making->status = begin_status();
  } else {
    making->metrics = begin_metrics();
  }
  const config::Document& document = making->document->document;
  making->services.reserve(document.virtual_services.size());
  making->first_server.reserve(document.pools.size());
  std::size_t servers = 0;
  for (const config::Pool& pool : document.pools) {
    making->first_server.push_back(servers);
    servers += pool.servers.size();
  }
  making->servers.reserve(servers);
}

bool Views::read(Making* making) const {
  const Inventory& inventory = *making->inventory;
  std::size_t left = kPerTick;
  for (; making->services.size() < inventory.services.size(); --left) {
    if (left == 0) return false;
    making->services.push_back(read(inventory.services[making->services.size()]));
  }
  const auto& pools = making->document->document.pools;
  for (; making->pool < pools.size(); ++making->pool) {
    const auto& servers = pools[making->pool].servers;
    const std::size_t first = making->first_server[making->pool];
    for (; making->servers.size() < first + servers.size(); --left) {
      if (left == 0) return false;
      const std::size_t i = making->servers.size() - first;
      making->servers.push_back(read(servers[i], inventory.servers[making->pool][i]));
    }
  }
  return true;
}

// --- what is read
// ---------------------------------------------------------------------------------

uint64_t Views::open(snapshot::VsSlot slot) const {
  return cores_.sum([&](const worker::Core& c) { return c.forwarder().vs(slot).open.get(); });
}

uint64_t Views::open(snapshot::ServerSlot slot) const {
  return cores_.sum([&](const worker::Core& c) { return c.forwarder().loads()[slot.value].open; });
}

Views::ServiceNumbers Views::read(const Inventory::Service& service) const {
  ServiceNumbers out{.connections = open(service.slot),
                     .connections_total = retirement_.total(service.slot)};
  for (const auto scope : service.scopes) out.entries += mirror_.bound_in_scope(scope);
  return out;
}

Views::ServerNumbers Views::read(const config::Server& from,
                                 const Inventory::Server& server) const {
  if (!server.slot) return {};
  const snapshot::ServerSlot slot = *server.slot;
  return {.connections = open(slot),
          .connections_total = retirement_.total(slot),
          .entries = mirror_.bound_to(binding::ServerId{from.id.value}),
          .snat_exhausted = cores_.sum([&](const worker::Core& c) {
            return c.forwarder().server(slot).snat_exhausted.get();
          }),
          .snat_reused = cores_.sum(
              [&](const worker::Core& c) { return c.forwarder().server(slot).snat_reused.get(); }),
          .over_limit = cores_.sum(
              [&](const worker::Core& c) { return c.forwarder().server(slot).over_limit.get(); })};
}

// --- rows, made aside
// -----------------------------------------------------------------------------

void Views::add_rows(Making* making, api::StatusView* view) {
  const config::Document& document = making->document->document;
  for (std::size_t i = 0; i < document.virtual_services.size(); ++i) {
    const config::VirtualService& vs = document.virtual_services[i];
    const Inventory::Service& service = making->inventory->services[i];
    api::VirtualServiceStatus& row = view->virtual_services.emplace_back();
    row.name = vs.name;
    row.tenant = vs.tenant;
    row.uuid = vs.uuid;
    row.serving = service.serving;
    row.reason = unless_empty(service.reason);
    row.oper_status = service.oper_status;
    row.connections = making->services[i].connections;
    if (vs.pool) row.pool = document.pools[vs.pool->value].name;
    for (const config::PoolIndex index : document.pools_of(vs)) {
      const config::Pool& pool = document.pools[index.value];
      for (std::size_t n = 0; n < pool.servers.size(); ++n) {
        const health::State& state = making->inventory->servers[index.value][n].state;
        const ServerNumbers& numbers = making->servers[making->first_server[index.value] + n];
        row.servers.push_back({.server = health::server_name(pool.servers[n]),
                               .oper_status = state.up ? "OPER_UP" : "OPER_DOWN",
                               .reason = state.up ? std::nullopt : unless_empty(state.reason),
                               .source = source_of(state.source),
                               .enabled = pool.enabled && pool.servers[n].enabled,
                               .connections = numbers.connections,
                               .entries = numbers.entries,
                               .pool = pool.name});
      }
    }
  }
}

void Views::add_rows(Making* making, api::MetricsView* view) {
  const config::Document& document = making->document->document;
  for (std::size_t i = 0; i < document.virtual_services.size(); ++i) {
    const config::VirtualService& vs = document.virtual_services[i];
    const ServiceNumbers& numbers = making->services[i];
    api::VirtualServiceMetrics& row = view->virtual_services.emplace_back();
    row.name = vs.name;
    row.tenant = vs.tenant;
    row.uuid = vs.uuid;
    row.up = making->inventory->services[i].serving;
    row.connections = numbers.connections;
    row.connections_total = numbers.connections_total;
    row.entries = numbers.entries;
  }
  for (std::size_t p = 0; p < document.pools.size(); ++p) {
    const config::Pool& pool = document.pools[p];
    for (std::size_t n = 0; n < pool.servers.size(); ++n) {
      const config::Server& from = pool.servers[n];
      const ServerNumbers& numbers = making->servers[making->first_server[p] + n];
      api::ServerMetrics& row = view->servers.emplace_back();
      row.pool = pool.name;
      row.tenant = pool.tenant;
      row.pool_uuid = pool.uuid;
      row.server = health::server_name(from);
      row.uuid = from.uuid.empty() ? from.external_uuid : from.uuid;
      row.up = making->inventory->servers[p][n].state.up;
      row.connections = numbers.connections;
      row.connections_total = numbers.connections_total;
      row.entries = numbers.entries;
      row.snat_exhausted_total = numbers.snat_exhausted;
      row.snat_reused_total = numbers.snat_reused;
      row.over_limit_total = numbers.over_limit;
    }
  }
}

// --- what is of no service or server
// --------------------------------------------------------------

api::LookupCounts Views::lookups(uint32_t worker) const {
  const affinity::LookupCounters& c = cores_.core(worker).forwarder().lookups();
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
    const packet::DropCounts of_device = sources_.device_drops(p);
    for (std::size_t r = 0; r < packet::kDropReasons; ++r) {
      const uint64_t sum =
          of_device[r] + cores_.sum([&](const worker::Core& c) { return drops_on(c, p, r); });
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
  out.drops = sources_.drops();
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
  out.entries = mirror_.bound();
  out.entries_max = limits_.entries;
  out.entry_bytes = sizeof(persist::Entry);
  out.drops = sources_.drops();
  out.evictions = ends(cores_);
  return out;
}

}  // namespace limpet::engine
