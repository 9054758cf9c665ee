#include "control/api/render.h"

#include <nlohmann/json.hpp>

#include "common/telemetry/timestamp.h"

namespace limpet::api {
namespace {

using Json = nlohmann::ordered_json;

std::string print(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

template <class T, class F>
Json array_of(const std::vector<T>& values, F&& convert) {
  Json array = Json::array();
  for (const T& value : values) array.push_back(convert(value));
  return array;
}

Json error_json(const base::Error& error) {
  return {{"path", error.path}, {"message", error.message}};
}

Json row_json(const EntryRow& row) {
  const Json virtual_service =
      row.virtual_service.empty() ? Json(nullptr) : Json(row.virtual_service);
  return {{"virtual_service", virtual_service},
          {"pool", row.pool},
          {"profile", row.profile},
          {"type", row.type},
          {"key", row.key},
          {"server", row.server},
          {"connections", row.connections},
          {"life_time_s", or_null(row.life_time_s)},
          {"created", telemetry::rfc3339(row.created)},
          {"epoch", row.epoch},
          {"origin", row.origin}};
}

const char* name_of(Decision decision) {
  switch (decision) {
    case Decision::kForward:
      return "forward";
    case Decision::kReset:
      return "reset";
    case Decision::kUnreachable:
      return "unreachable";
    case Decision::kDrop:
      break;
  }
  return "drop";
}

const char* name_of(StateSource source) {
  switch (source) {
    case StateSource::kApi:
      return "api";
    case StateSource::kMonitor:
      return "monitor";
    case StateSource::kDefault:
      break;
  }
  return "default";
}

Json counts_json(const std::vector<ReasonCount>& counts) {
  Json out = Json::object();
  for (const ReasonCount& count : counts) out[count.reason] = count.count;
  return out;
}

Json port_json(const PortStatus& port) {
  return {{"name", port.name},
          {"mac", port.mac},
          {"link", port.link},
          {"rx_packets", port.rx_packets},
          {"tx_packets", port.tx_packets},
          {"drops", counts_json(port.drops)}};
}

Json worker_json(const WorkerStatus& worker) {
  return {{"core", worker.core},
          {"busy_percent", worker.busy_percent},
          {"flows", worker.flows},
          {"entries", worker.entries}};
}

Json server_json(const ServerStatus& server) {
  return {{"server", server.server},          {"oper_status", server.oper_status},
          {"reason", or_null(server.reason)}, {"source", name_of(server.source)},
          {"enabled", server.enabled},        {"connections", server.connections},
          {"entries", server.entries},        {"pool", server.pool}};
}

Json virtual_service_json(const VirtualServiceStatus& service) {
  return {{"name", service.name},
          {"tenant", service.tenant},
          {"uuid", service.uuid},
          {"serving", service.serving},
          {"reason", or_null(service.reason)},
          {"oper_status", service.oper_status},
          {"connections", service.connections},
          {"pool", service.pool},
          {"servers", array_of(service.servers, server_json)}};
}

Json group_json(const GroupStatus& group) {
  return {{"name", group.name}, {"owner", group.owner}, {"state", group.state}};
}

Json peer_json(const PeerStatus& peer) {
  return {{"name", peer.name},
          {"state", peer.state},
          {"synced", peer.synced},
          {"lag_entries", peer.lag_entries},
          {"lag_ms", peer.lag_ms},
          {"bytes_received", peer.bytes_received},
          {"bytes_sent", peer.bytes_sent},
          {"updates_received", peer.updates_received},
          {"updates_sent", peer.updates_sent},
          {"resyncs", {{"full", peer.resyncs_full}, {"resumed", peer.resyncs_resumed}}},
          {"held_back", peer.held_back},
          {"rejected", peer.rejected}};
}

Json candidate_json(const Candidate& candidate) {
  return {{"server", candidate.server},
          {"state", candidate.state},
          {"why_not", or_null(candidate.why_not)}};
}

Json event_json(const telemetry::Event& event) {
  return {{"seq", event.seq},
          {"time", telemetry::rfc3339(event.time)},
          {"name", telemetry::to_string(event.name)},
          {"object", event.object},
          {"message", event.message}};
}

}  // namespace

std::string to_json(const base::Errors& errors) {
  return print({{"errors", array_of(errors, error_json)}});
}

std::string to_json(const ConfigApplied& applied) {
  return print({{"generation", applied.generation},
                {"served", applied.served},
                {"virtual_services", applied.virtual_services},
                {"warnings", array_of(applied.warnings, error_json)}});
}

std::string to_json(const MarksApplied& applied) {
  return print({{"applied", applied.applied}});
}

std::string to_json(const EntryPage& page) {
  return print({{"count", page.count},
                {"results", array_of(page.rows, row_json)},
                {"next", or_null(page.next)}});
}

std::string to_json(const EntriesRemoved& removed) {
  return print({{"removed", removed.removed}});
}

std::string to_json(const Explanation& explanation) {
  return print({{"virtual_service", explanation.virtual_service},
                {"client", explanation.client},
                {"decision", name_of(explanation.decision)},
                {"server", or_null(explanation.server)},
                {"reason", explanation.reason},
                {"entry", explanation.entry ? row_json(*explanation.entry) : Json(nullptr)},
                {"candidates", array_of(explanation.candidates, candidate_json)},
                {"home_core", explanation.home_core},
                {"steps", explanation.steps}});
}

std::string to_json(const StatusView& status) {
  return print({{"name", status.name},
                {"version", status.version},
                {"generation", status.generation},
                {"uptime_s", status.uptime_s},
                {"ports", array_of(status.ports, port_json)},
                {"workers", array_of(status.workers, worker_json)},
                {"virtual_services", array_of(status.virtual_services, virtual_service_json)},
                {"groups", array_of(status.groups, group_json)},
                {"peers", array_of(status.peers, peer_json)},
                {"strangers_rejected", counts_json(status.strangers)}});
}

std::string to_json(const telemetry::EventPage& page) {
  return print({{"events", array_of(page.events, event_json)}, {"next", page.next}});
}

}  // namespace limpet::api
