// Status and metrics: what the engine says of itself.
#include <algorithm>

#include "control/api/prometheus.h"
#include "control/engine/engine.h"

namespace limpet::engine {

using telemetry::Counter;

uint64_t Engine::open_on(snapshot::ServerSlot slot) const {
  uint64_t sum = 0;
  for (const auto& core : cores_) sum += core->forwarder().loads()[slot.value].open;
  return sum;
}

namespace {

uint64_t before(const std::map<uint32_t, uint64_t>& totals, uint32_t slot) {
  const auto it = totals.find(slot);
  return it == totals.end() ? 0 : it->second;
}

}  // namespace

uint64_t Engine::server_total(snapshot::ServerSlot slot) const {
  uint64_t sum = 0;
  for (const auto& core : cores_) sum += core->forwarder().server(slot).total;
  return sum - before(server_total_before_, slot.value);
}

uint64_t Engine::vs_open(snapshot::VsSlot slot) const {
  uint64_t sum = 0;
  for (const auto& core : cores_) sum += core->forwarder().vs(slot).open;
  return sum;
}

uint64_t Engine::vs_total(snapshot::VsSlot slot) const {
  uint64_t sum = 0;
  for (const auto& core : cores_) sum += core->forwarder().vs(slot).total;
  return sum - before(vs_total_before_, slot.value);
}

const snapshot::Server* Engine::find_server(const std::string& pool_uuid,
                                            config::ServerId id) const {
  for (const snapshot::Pool& pool : running_.snapshot->pools) {
    if (pool.uuid != pool_uuid) continue;
    if (const auto* server = pool.find(snapshot::ServerId{id.value})) return server;
  }
  return nullptr;
}

bool Engine::vs_up(const config::VirtualService& vs) const {
  if (!vs.served) return false;
  for (const snapshot::VirtualService& record : running_.snapshot->virtual_services) {
    if (record.uuid != vs.uuid) continue;
    const auto& servers = running_.snapshot->pools[record.pool.value].servers;
    if (std::any_of(servers.begin(), servers.end(), balance::takes_new_clients)) return true;
  }
  return false;
}

std::vector<api::ServerStatus> Engine::server_statuses(const config::Pool& pool) const {
  std::vector<api::ServerStatus> out;
  for (const config::Server& server : pool.servers) {
    const health::State state = running_.health.state(server);
    api::ServerStatus status;
    status.server = health::server_name(server);
    status.enabled = pool.enabled && server.enabled;
    status.oper_status = state.up ? "OPER_UP" : "OPER_DOWN";
    if (!state.up && !state.reason.empty()) status.reason = state.reason;
    status.source = state.source == health::Source::kApi       ? api::StateSource::kApi
                    : state.source == health::Source::kMonitor ? api::StateSource::kMonitor
                                                               : api::StateSource::kDefault;
    if (const auto* known = find_server(pool.uuid, server.id)) {
      status.connections = open_on(known->slot);
      status.entries = mirror().bound_to(known->id);
    }
    out.push_back(std::move(status));
  }
  return out;
}

api::VirtualServiceStatus Engine::vs_status(const config::VirtualService& vs) const {
  api::VirtualServiceStatus out;
  out.name = vs.name;
  out.tenant = vs.tenant;
  out.uuid = vs.uuid;
  out.serving = vs.served;
  if (!vs.served) out.reason = vs.why_not;
  out.oper_status = !vs.served ? "OPER_DISABLED" : (vs_up(vs) ? "OPER_UP" : "OPER_DOWN");
  for (const snapshot::VirtualService& record : running_.snapshot->virtual_services) {
    if (record.uuid != vs.uuid) continue;
    out.connections = vs_open(record.slot);
    break;
  }
  if (vs.pool) {
    const config::Pool& pool = running_.document->document.pools[vs.pool->value];
    out.pool = pool.name;
    out.servers = server_statuses(pool);
  }
  return out;
}

void Engine::status(api::Answer<api::StatusView> answer) {
  drain_news();
  answer(status_view());
}

void Engine::metrics(api::Answer<api::MetricsView> answer) {
  drain_news();
  answer(metrics_view());
}

api::StatusView Engine::status_view() const {
  api::StatusView out;
  out.name = bootstrap_.name;
  out.version = LIMPET_VERSION;
  out.generation = running_.generation;
  out.uptime_s = static_cast<uint64_t>((clock_.now() - started_) / timing::seconds(1));
  for (const port::PortInfo& p : devices_->ports()) {
    api::PortStatus port;
    port.name = p.name;
    port.mac = p.mac.to_string();
    port.link = devices_->link_up(p.device) ? "up" : "down";
    for (const auto& core : cores_) {
      port.rx_packets += core->output().port(p.index).rx_packets;
      port.tx_packets += core->output().port(p.index).tx_packets;
    }
    for (std::size_t r = 0; r < packet::kDropReasons; ++r) {
      uint64_t sum = 0;
      for (const auto& core : cores_) sum += core->output().drops(p.index)[r];
      if (sum > 0) port.drops.push_back({std::string(packet::kDropReasonNames[r]), sum});
    }
    out.ports.push_back(std::move(port));
  }
  for (uint32_t w = 0; w < cores_.size(); ++w) {
    out.workers.push_back({bootstrap_.worker_cores[w], busy_[w].ratio * 100,
                           cores_[w]->stats().flows, cores_[w]->stats().entries});
  }
  for (const config::VirtualService& vs : running_.document->document.virtual_services)
    out.virtual_services.push_back(vs_status(vs));
  group_status(&out);
  mirroring_status(&out);
  return out;
}

api::MetricsView Engine::metrics_view() const {
  const api::StatusView status = status_view();
  api::MetricsView out;
  out.version = LIMPET_VERSION;
  out.generation = running_.generation;
  out.uptime_seconds = std::chrono::duration<double>(clock_.now() - started_).count();
  for (const port::PortInfo& p : devices_->ports()) {
    api::PortMetrics port;
    port.name = p.name;
    port.link_up = devices_->link_up(p.device);
    for (const auto& core : cores_) {
      const l4::PortCounters& counters = core->output().port(p.index);
      port.rx_packets += counters.rx_packets;
      port.tx_packets += counters.tx_packets;
      port.rx_bytes += counters.rx_bytes;
      port.tx_bytes += counters.tx_bytes;
    }
    out.ports.push_back(std::move(port));
  }
  for (std::size_t r = 0; r < packet::kDropReasons; ++r) {
    uint64_t sum = control_drops_[r];
    for (const auto& core : cores_) {
      for (std::size_t p = 0; p < around_.ports.size(); ++p) sum += core->output().drops(p)[r];
    }
    out.drops.push_back({std::string(packet::kDropReasonNames[r]), sum});
  }
  const auto& document = running_.document->document;
  const auto& snapshot = *running_.snapshot;
  for (const config::VirtualService& vs : document.virtual_services) {
    api::VirtualServiceMetrics m;
    m.name = vs.name;
    m.tenant = vs.tenant;
    m.uuid = vs.uuid;
    m.up = vs_up(vs);
    std::vector<uint32_t> scopes;
    for (const snapshot::VirtualService& record : snapshot.virtual_services) {
      if (record.uuid != vs.uuid) continue;
      m.connections = vs_open(record.slot);
      m.connections_total = vs_total(record.slot);
      if (record.scope != snapshot::kNoScope) scopes.push_back(record.scope.value);
    }
    std::sort(scopes.begin(), scopes.end());
    scopes.erase(std::unique(scopes.begin(), scopes.end()), scopes.end());
    for (const uint32_t scope : scopes)
      m.entries += mirror().bound_in_scope(snapshot::ScopeSlot{scope});
    out.virtual_services.push_back(std::move(m));
  }
  for (const config::Pool& pool : document.pools) {
    const auto statuses = server_statuses(pool);
    for (std::size_t i = 0; i < statuses.size(); ++i) {
      api::ServerMetrics m;
      m.tenant = pool.tenant;
      m.pool = pool.name;
      m.pool_uuid = pool.uuid;
      m.server = statuses[i].server;
      m.uuid = pool.servers[i].uuid.empty() ? pool.servers[i].external_uuid : pool.servers[i].uuid;
      m.up = statuses[i].oper_status == "OPER_UP";
      m.connections = statuses[i].connections;
      m.entries = statuses[i].entries;
      if (const auto* known = find_server(pool.uuid, pool.servers[i].id)) {
        m.connections_total = server_total(known->slot);
        for (const auto& core : cores_) {
          m.snat_exhausted_total += core->forwarder().server(known->slot).snat_exhausted;
          m.over_limit_total += core->forwarder().server(known->slot).over_limit;
        }
      }
      out.servers.push_back(std::move(m));
    }
  }
  for (uint32_t w = 0; w < cores_.size(); ++w) {
    const l4::Forwarder& f = cores_[w]->forwarder();
    api::WorkerMetrics m;
    m.core = bootstrap_.worker_cores[w];
    m.busy_ratio = busy_[w].ratio;
    m.flows = cores_[w]->stats().flows;
    m.flows_max = limits_.flows_per_worker;
    m.entries = cores_[w]->stats().entries;
    const replication::Counters& c = cores_[w]->replica().counters();
    m.lookups = {f.lookups().hits, f.lookups().misses, c.moved, c.created, f.lookups().refused};
    out.workers.push_back(m);
  }
  replication_metrics(&out);
  mirroring_metrics(&out);
  exchange_metrics(&out);
  group_metrics(&out);
  out.persistence_entries_max = limits_.entries;
  out.persistence_entry_bytes = sizeof(persist::Entry);
  out.flow_bytes = sizeof(l4::Flow);
  out.more.push_back({"limpet_flow_index_bytes",
                      "Bytes of index of one direction of a flow.",
                      api::MetricType::kGauge,
                      {{{},
                        static_cast<double>(base::HashIndex::bytes_for(limits_.flows_per_worker)) /
                            limits_.flows_per_worker}}});
  std::size_t persistence_bytes = mirror().bytes();
  for (const auto& core : cores_) persistence_bytes += core->table().bytes();
  out.more.push_back({"limpet_persistence_memory_bytes",
                      "Memory of the persist tables of all workers and of the control thread.",
                      api::MetricType::kGauge,
                      {{{}, static_cast<double>(persistence_bytes)}}});
  api::MetricFamily delays{"limpet_control_delay_seconds",
                           "How late the control thread's timer of one millisecond came: what the "
                           "thread did meanwhile, or who had its core.",
                           api::MetricType::kHistogram,
                           {}};
  api::add(&delays, {}, tick_delays_);
  out.more.push_back(std::move(delays));
  out.packet_buffers = pool_->size();
  out.packet_buffers_in_use = pool_->size() - std::min(pool_->available(), pool_->size());
  for (const auto& blocks : source_ports_) {
    for (const auto& block : blocks) out.snat_ports_in_use += block ? block->in_use() : 0;
  }
  for (const auto& n : slow_path_->neighbors()) {
    ++out.neighbors;
    if (n.mac.is_zero()) ++out.neighbors_unresolved;
  }
  return out;
}

api::TelemetryView Engine::telemetry_view() const {
  const api::StatusView status = status_view();
  const api::MetricsView metrics = metrics_view();
  api::TelemetryView out;
  out.name = status.name;
  out.version = status.version;
  out.generation = status.generation;
  out.uptime_s = status.uptime_s;
  for (const api::PortStatus& p : status.ports)
    out.ports.push_back({p.name, p.mac, p.link == "up", p.rx_packets, p.tx_packets});
  out.workers = status.workers;
  out.virtual_services = status.virtual_services.size();
  for (const api::VirtualServiceStatus& vs : status.virtual_services) {
    out.connections += vs.connections;
    out.virtual_services_up += vs.oper_status == "OPER_UP" ? 1 : 0;
  }
  out.drops = metrics.drops;
  for (const api::VirtualServiceMetrics& vs : metrics.virtual_services) out.entries += vs.entries;
  out.entries_max = metrics.persistence_entries_max;
  out.entry_bytes = metrics.persistence_entry_bytes;
  for (const api::WorkerMetrics& w : metrics.workers) out.lookups += w.lookups;
  out.evictions = metrics.persistence_evictions;
  return out;
}

// What the cores say to each other about bindings, and how bindings end.
void Engine::replication_metrics(api::MetricsView* out) const {
  api::MetricFamily messages{"limpet_replication_messages_total",
                             "Messages that a worker sent about bindings, by kind.",
                             api::MetricType::kCounter,
                             {}};
  api::MetricFamily waits{"limpet_replication_waits_total",
                          "Times that a message or a change had to wait for room in a ring.",
                          api::MetricType::kCounter,
                          {}};
  api::MetricFamily pen{"limpet_pen_packets",
                        "Packets that wait for the home of their client's binding.",
                        api::MetricType::kGauge,
                        {}};
  api::MetricFamily records{"limpet_persistence_records",
                            "Bindings whose home is this worker.",
                            api::MetricType::kGauge,
                            {}};
  api::MetricFamily ends{"limpet_persistence_ends_total",
                         "Bindings whose home is this worker that ended, by reason.",
                         api::MetricType::kCounter,
                         {}};
  api::MetricFamily merges{"limpet_replication_merges_total",
                           "What peers or the disk told of bindings whose home is this worker.",
                           api::MetricType::kCounter,
                           {}};
  api::MetricFamily activity{"limpet_replication_activity_total",
                             "Announcements of activity, and rounds of asking who holds a binding.",
                             api::MetricType::kCounter,
                             {}};
  std::map<std::string, uint64_t> evictions;
  for (uint32_t w = 0; w < cores_.size(); ++w) {
    const std::string core = std::to_string(bootstrap_.worker_cores[w]);
    const replication::Counters& c = cores_[w]->replica().counters();
    for (const auto& [kind, count] :
         std::initializer_list<std::pair<const char*, uint64_t>>{{"claim", c.claims},
                                                                 {"touch", c.touches},
                                                                 {"update", c.updates},
                                                                 {"refuse", c.refusals},
                                                                 {"recall", c.recalls},
                                                                 {"answer_yes", c.answers_yes},
                                                                 {"answer_no", c.answers_no},
                                                                 {"gone", c.gones},
                                                                 {"news", c.news}}) {
      messages.samples.push_back({{{"core", core}, {"message", kind}}, static_cast<double>(count)});
    }
    waits.samples.push_back({{{"core", core}}, static_cast<double>(c.waited.get())});
    pen.samples.push_back({{{"core", core}}, static_cast<double>(cores_[w]->stats().parked.get())});
    records.samples.push_back(
        {{{"core", core}}, static_cast<double>(cores_[w]->stats().records.get())});
    for (const auto& [reason, count] :
         std::initializer_list<std::pair<const char*, uint64_t>>{{"expired", c.expired},
                                                                 {"idle", c.evicted_idle},
                                                                 {"embryonic", c.evicted_embryonic},
                                                                 {"scope_gone", c.dropped},
                                                                 {"deleted", c.deleted},
                                                                 {"deleted_by_peer", c.killed}}) {
      ends.samples.push_back({{{"core", core}, {"reason", reason}}, static_cast<double>(count)});
      evictions[reason] += count;
    }
    for (const auto& [result, count] : std::initializer_list<std::pair<const char*, uint64_t>>{
             {"taken", c.merged},
             {"expired", c.merges_expired},
             {"revived", c.revived},
             {"table_full", c.merges_refused},
             {"tombstones_full", c.tombstones_refused},
             {"scope_gone", c.merges_gone}})
      merges.samples.push_back({{{"core", core}, {"result", result}}, static_cast<double>(count)});
    for (const auto& [kind, count] : std::initializer_list<std::pair<const char*, uint64_t>>{
             {"announcement", c.announced}, {"round", c.rounds}, {"husk", c.husks}})
      activity.samples.push_back({{{"core", core}, {"kind", kind}}, static_cast<double>(count)});
  }
  for (const auto& [reason, count] : evictions)
    out->persistence_evictions.push_back({reason, count});
  for (auto* family : {&messages, &waits, &pen, &records, &ends, &merges, &activity})
    out->more.push_back(std::move(*family));
}

}  // namespace limpet::engine
