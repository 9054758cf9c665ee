// Written by hand rather than with prometheus-cpp: the values come as one view once per scrape, so
// a registry of metric objects would only be a second copy of every counter.
#include "control/api/prometheus.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <initializer_list>
#include <iterator>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace limpet::api {
namespace {

using Label = std::pair<std::string_view, std::string_view>;

// Bytes of the UTF-8 sequence at `i`, 0 when there is none (RFC 3629).
std::size_t utf8_length(std::string_view text, std::size_t i) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
  const unsigned first = byte(i);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xc2 && first < 0xe0   ? 2
                             : first >= 0xe0 && first < 0xf0 ? 3
                             : first >= 0xf0 && first < 0xf5 ? 4
                                                             : 0;
  if (length == 0 || i + length > text.size()) return 0;
  for (std::size_t k = 1; k < length; ++k)
    if ((byte(i + k) & 0xc0) != 0x80) return 0;
  const unsigned second = byte(i + 1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  const bool too_high = first == 0xf4 && second >= 0x90;
  return overlong || surrogate || too_high ? 0 : length;
}

void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text, i);
    if (length == 0) {
      out += '?';
      ++i;
      continue;
    }
    if (text[i] == '\\') {
      out += "\\\\";
    } else if (text[i] == '\n') {
      out += "\\n";
    } else if (text[i] == '"' && quotes) {
      out += "\\\"";
    } else {
      out.append(text, i, length);
    }
    i += length;
  }
}

void append_number(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
  } else if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
  } else {
    fmt::format_to(std::back_inserter(out), "{}", value);
  }
}
void append_number(std::string& out, uint64_t value) {
  fmt::format_to(std::back_inserter(out), "{}", value);
}

// "{port=\"front\",direction=\"rx\"}"; nothing for no labels. `labels` is any range of pairs of
// texts.
template <class Labels>
std::string label_text(const Labels& labels) {
  std::string out;
  char separator = '{';
  for (const auto& [label, text] : labels) {
    out += separator;
    out += label;
    out += "=\"";
    append_escaped(out, text, true);
    out += '"';
    separator = ',';
  }
  if (separator == ',') out += '}';
  return out;
}

class Writer {
 public:
  void family(std::string_view name, MetricType type, std::string_view help) {
    name_ = name;
    fmt::format_to(std::back_inserter(out_), "# HELP {} ", name);
    append_escaped(out_, help, false);
    fmt::format_to(std::back_inserter(out_), "\n# TYPE {} {}\n", name,
                   type == MetricType::kCounter     ? "counter"
                   : type == MetricType::kHistogram ? "histogram"
                                                    : "gauge");
  }
  void counter(std::string_view name, std::string_view help) {
    family(name, MetricType::kCounter, help);
  }
  void gauge(std::string_view name, std::string_view help) {
    family(name, MetricType::kGauge, help);
  }

  // One line of the family begun last. `labels`: as label_text() makes them.
  template <class Number>
  void sample(std::string_view labels, Number value, std::string_view suffix = {}) {
    out_ += name_;
    out_ += suffix;
    out_ += labels;
    out_ += ' ';
    append_number(out_, value);
    out_ += '\n';
  }
  template <class Number>
  void sample(std::initializer_list<Label> labels, Number value) {
    sample(label_text(labels), value);
  }
  // A gauge without labels, whole.
  template <class Number>
  void single(std::string_view name, std::string_view help, Number value) {
    gauge(name, help);
    sample(std::string_view(), value);
  }

  std::string take() { return std::move(out_); }

 private:
  std::string out_;
  std::string_view name_;
};

uint64_t number(bool value) {
  return value ? 1 : 0;
}

void write_engine(Writer& writer, const MetricsView& view) {
  writer.gauge("limpet_build_info", "Always 1; the label is the version of the engine.");
  writer.sample({{"version", view.version}}, uint64_t{1});
  writer.single("limpet_uptime_seconds", "Time since the engine started.", view.uptime_seconds);
  writer.single("limpet_config_generation", "Generation of the running document.", view.generation);
  writer.single("limpet_flow_bytes", "Size of one flow record.", view.flow_bytes);
  writer.single("limpet_packet_buffers", "Packet buffers the engine has.", view.packet_buffers);
  writer.single("limpet_packet_buffers_in_use", "Packet buffers that hold a packet.",
                view.packet_buffers_in_use);
  writer.single("limpet_snat_ports_in_use", "Source ports held by connections.",
                view.snat_ports_in_use);
  writer.single("limpet_neighbors", "Neighbours known by ARP, ND or configuration.",
                view.neighbors);
  writer.single("limpet_neighbors_unresolved", "Neighbours whose MAC is being asked for.",
                view.neighbors_unresolved);
}

void write_ports(Writer& writer, const MetricsView& view) {
  writer.counter("limpet_packets_total", "Packets received and sent.");
  for (const PortMetrics& port : view.ports) {
    writer.sample({{"port", port.name}, {"direction", "rx"}}, port.rx_packets);
    writer.sample({{"port", port.name}, {"direction", "tx"}}, port.tx_packets);
  }
  writer.counter("limpet_bytes_total", "Bytes received and sent.");
  for (const PortMetrics& port : view.ports) {
    writer.sample({{"port", port.name}, {"direction", "rx"}}, port.rx_bytes);
    writer.sample({{"port", port.name}, {"direction", "tx"}}, port.tx_bytes);
  }
  writer.gauge("limpet_port_up", "1 while the port has a link.");
  for (const PortMetrics& port : view.ports)
    writer.sample({{"port", port.name}}, number(port.link_up));
  writer.counter("limpet_drops_total", "Packets dropped, by reason.");
  for (const ReasonCount& drop : view.drops) writer.sample({{"reason", drop.reason}}, drop.count);
}

// The labels of objects that are named by texts of documents. Names may repeat (in two tenants, two
// clouds, two ports of one server), series may not: Prometheus refuses the whole scrape then. So a
// uuid is added where the names before it repeat, and what then still has the labels of an earlier
// object has none: it is not written.
using ObjectLabels = std::vector<std::string>;

// How often each text occurs.
class Occurrences {
 public:
  void count(std::string text) { ++counts_[std::move(text)]; }
  bool repeat(const std::string& text) const {
    const auto found = counts_.find(text);
    return found != counts_.end() && found->second > 1;
  }

 private:
  std::unordered_map<std::string, uint32_t> counts_;
};

void clear_repeated(ObjectLabels* labels) {
  std::unordered_set<std::string_view> seen;
  for (std::string& text : *labels)
    if (!seen.insert(text).second) text.clear();
}

ObjectLabels labels_of(std::span<const VirtualServiceMetrics> services) {
  const auto short_labels = [](const VirtualServiceMetrics& s) {
    return std::vector<Label>{{"tenant", s.tenant}, {"virtual_service", s.name}};
  };
  Occurrences names;
  for (const VirtualServiceMetrics& s : services) names.count(label_text(short_labels(s)));
  ObjectLabels out;
  out.reserve(services.size());
  for (const VirtualServiceMetrics& s : services) {
    std::vector<Label> labels = short_labels(s);
    std::string text = label_text(labels);
    if (names.repeat(text)) {
      labels.emplace_back("uuid", s.uuid);
      text = label_text(labels);
    }
    out.push_back(std::move(text));
  }
  clear_repeated(&out);
  return out;
}

ObjectLabels labels_of(std::span<const ServerMetrics> servers) {
  const auto pool_labels = [](const ServerMetrics& s) {
    return std::vector<Label>{{"tenant", s.tenant}, {"pool", s.pool}};
  };
  std::unordered_set<std::string> pools_seen;
  Occurrences pools;
  Occurrences names;
  for (const ServerMetrics& s : servers) {
    std::vector<Label> labels = pool_labels(s);
    std::string pool = label_text(labels);
    labels.emplace_back("pool_uuid", s.pool_uuid);
    if (pools_seen.insert(label_text(labels)).second) pools.count(std::move(pool));
    labels.emplace_back("server", s.server);
    names.count(label_text(labels));
  }
  ObjectLabels out;
  out.reserve(servers.size());
  for (const ServerMetrics& s : servers) {
    std::vector<Label> labels = pool_labels(s);
    const bool twin_pool = pools.repeat(label_text(labels));
    labels.emplace_back("pool_uuid", s.pool_uuid);
    labels.emplace_back("server", s.server);
    if (names.repeat(label_text(labels))) labels.emplace_back("uuid", s.uuid);
    if (!twin_pool) labels.erase(labels.begin() + 2);
    out.push_back(label_text(labels));
  }
  clear_repeated(&out);
  return out;
}

// One line for each object that has labels.
template <class Objects, class ValueOf>
void write_each(Writer& writer, const Objects& objects, const ObjectLabels& labels,
                ValueOf&& value_of) {
  for (std::size_t i = 0; i < objects.size(); ++i)
    if (!labels[i].empty()) writer.sample(labels[i], value_of(objects[i]));
}

void write_virtual_services(Writer& writer, const MetricsView& view) {
  const ObjectLabels labels = labels_of(view.virtual_services);
  const auto each = [&](auto&& value_of) {
    write_each(writer, view.virtual_services, labels, value_of);
  };
  writer.gauge("limpet_virtual_service_up", "1 while the virtual service can take clients.");
  each([](const auto& service) { return number(service.up); });
  writer.gauge("limpet_connections", "Open connections.");
  each([](const auto& service) { return service.connections; });
  writer.counter("limpet_connections_total", "Connections accepted.");
  each([](const auto& service) { return service.connections_total; });
  writer.gauge("limpet_persistence_entries", "Living persistence entries.");
  each([](const auto& service) { return service.entries; });
}

void write_servers(Writer& writer, const MetricsView& view) {
  const ObjectLabels labels = labels_of(view.servers);
  const auto each = [&](auto&& value_of) { write_each(writer, view.servers, labels, value_of); };
  writer.gauge("limpet_server_up", "1 while the server may be used.");
  each([](const auto& server) { return number(server.up); });
  writer.gauge("limpet_server_connections", "Open connections of the server.");
  each([](const auto& server) { return server.connections; });
  writer.counter("limpet_server_connections_total", "Connections given to the server.");
  each([](const auto& server) { return server.connections_total; });
  writer.gauge("limpet_server_persistence_entries", "Entries that name the server.");
  each([](const auto& server) { return server.entries; });
  writer.counter("limpet_server_over_limit_total",
                 "Persisted clients let in above the server's connection limit.");
  each([](const auto& server) { return server.over_limit_total; });
  writer.counter("limpet_server_snat_exhausted_total",
                 "Connections refused because no source port towards the server was free.");
  each([](const auto& server) { return server.snat_exhausted_total; });
  writer.counter("limpet_server_snat_reused_total",
                 "Connections by source ports for which the server may still be in TIME_WAIT.");
  each([](const auto& server) { return server.snat_reused_total; });
}

struct LookupResult {
  std::string_view name;
  uint64_t LookupCounts::*count;
};
constexpr LookupResult kLookupResults[] = {
    {"hit", &LookupCounts::hit},         {"miss", &LookupCounts::miss},
    {"moved", &LookupCounts::moved},     {"new", &LookupCounts::created},
    {"refused", &LookupCounts::refused},
};

void write_persistence(Writer& writer, const MetricsView& view) {
  writer.single("limpet_persistence_entries_max", "Entries the persist tables may hold.",
                view.persistence_entries_max);
  writer.single("limpet_persistence_entry_bytes", "Memory of one persistence entry.",
                view.persistence_entry_bytes);
  writer.counter("limpet_persistence_evictions_total", "Entries evicted, by reason.");
  for (const ReasonCount& eviction : view.persistence_evictions)
    writer.sample({{"reason", eviction.reason}}, eviction.count);
  writer.counter("limpet_persistence_lookups_total",
                 "Lookups by what they led to, of all workers.");
  for (const LookupResult& result : kLookupResults) {
    uint64_t sum = 0;
    for (const WorkerMetrics& worker : view.workers) sum += worker.lookups.*result.count;
    writer.sample({{"result", result.name}}, sum);
  }
}

void write_workers(Writer& writer, const MetricsView& view) {
  const auto each = [&](auto&& value_of) {
    for (const WorkerMetrics& worker : view.workers)
      writer.sample({{"core", std::to_string(worker.core)}}, value_of(worker));
  };
  writer.gauge("limpet_worker_busy_ratio", "Share of the last second spent on packets.");
  each([](const auto& worker) { return worker.busy_ratio; });
  writer.gauge("limpet_worker_flows", "Flows in the worker's table.");
  each([](const auto& worker) { return worker.flows; });
  writer.gauge("limpet_worker_flows_max", "Flows the worker's table may hold.");
  each([](const auto& worker) { return worker.flows_max; });
  writer.gauge("limpet_worker_persistence_entries", "Entries in the worker's persist table.");
  each([](const auto& worker) { return worker.entries; });
  writer.counter("limpet_worker_persistence_lookups_total", "Lookups by what they led to.");
  for (const WorkerMetrics& worker : view.workers)
    for (const LookupResult& result : kLookupResults)
      writer.sample({{"core", std::to_string(worker.core)}, {"result", result.name}},
                    worker.lookups.*result.count);
}

void write_peers(Writer& writer, const MetricsView& view) {
  writer.gauge("limpet_peer_synced", "1 while this engine and the peer hold the same entries.");
  for (const PeerMetrics& peer : view.peers)
    writer.sample({{"peer", peer.name}}, number(peer.synced));
  writer.gauge("limpet_peer_lag_seconds", "Age of the oldest change the peer does not have.");
  for (const PeerMetrics& peer : view.peers) writer.sample({{"peer", peer.name}}, peer.lag_seconds);
  writer.gauge("limpet_peer_lag_entries", "Changes the peer does not have.");
  for (const PeerMetrics& peer : view.peers) writer.sample({{"peer", peer.name}}, peer.lag_entries);
}

void write_family(Writer& writer, const MetricFamily& family) {
  writer.family(family.name, family.type, family.help);
  std::unordered_set<std::string> seen;
  for (const MetricSample& sample : family.samples) {
    const std::string labels = label_text(sample.labels);
    if (seen.insert(sample.suffix + labels).second)
      writer.sample(labels, sample.value, sample.suffix);
  }
}

}  // namespace

void add(MetricFamily* family, const MetricLabels& labels,
         const telemetry::DurationHistogram& histogram) {
  using Histogram = telemetry::DurationHistogram;
  const auto bucket = [&](std::string bound, uint64_t count) {
    MetricLabels all = labels;
    all.emplace_back("le", std::move(bound));
    family->samples.push_back({std::move(all), static_cast<double>(count), "_bucket"});
  };
  for (std::size_t i = 0; i < Histogram::kBoundsUs.size(); ++i)
    bucket(fmt::format("{}", static_cast<double>(Histogram::kBoundsUs[i]) / 1e6),
           histogram.up_to(i));
  bucket("+Inf", histogram.count());
  const double sum = std::chrono::duration<double>(histogram.sum()).count();
  family->samples.push_back({labels, sum, "_sum"});
  family->samples.push_back({labels, static_cast<double>(histogram.count()), "_count"});
}

std::string to_prometheus(const MetricsView& view) {
  Writer writer;
  write_engine(writer, view);
  write_ports(writer, view);
  write_virtual_services(writer, view);
  write_servers(writer, view);
  write_persistence(writer, view);
  write_workers(writer, view);
  write_peers(writer, view);
  for (const MetricFamily& family : view.more) write_family(writer, family);
  return writer.take();
}

}  // namespace limpet::api
