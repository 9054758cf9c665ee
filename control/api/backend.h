// Backend: what the engine offers to its HTTP API: one virtual function per request, plain structs
// in and out. Virtual because the process meets the outside here; tests put a fake behind the real
// server.
//
// Owner: the control thread. Every function is called on it and every callback must be called on
// it.
//
// Invariants:
// 1. A callback is called at most once: before the function returns when the answer is known, later
//    when workers, the disk or the helper thread have to be asked.
// 2. A callback may be called after its client has gone, and may be destroyed uncalled (that closes
//    the client's connection). Callbacks keep what they need alive; the backend owes them nothing.
// 3. No function takes longer than a few milliseconds: bodies are handed over as text, so that the
//    backend parses them on its helper thread, and frees them there: giving 64 MiB back to the
//    system takes longer than a step of the control loop may.
//
// Names (virtual services, pools, ports) are as written in the documents; servers are "ip:port" or
// "[ip]:port", with "*" for a port that is the one the client used. Names of objects are unique per
// model, tenant and cloud only, so requests may say which tenant, or give a uuid instead.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "common/net/address.h"
#include "common/timing/time.h"

namespace limpet::api {

// Why a request was not done: a 4xx or 5xx status and at least one error. Errors about a query
// parameter have the path "/query/<name>".
struct Refusal {
  unsigned http_status = 400;
  base::Errors errors;
};

template <class T>
using Outcome = std::variant<T, Refusal>;

template <class T>
using Answer = std::function<void(T)>;

struct PutOptions {
  // Refused with 409 and the path "" when the document serves none of its virtual services although
  // the running one serves some.
  bool if_serving = false;
};

// PUT /v1/config, once applied on all cores and stored.
struct ConfigApplied {
  uint64_t generation = 0;
  std::vector<base::Error> warnings;
  uint64_t served = 0;  // of the document's virtual services
  uint64_t virtual_services = 0;
};

// POST /v1/health-marks.
struct MarksApplied {
  uint64_t applied = 0;  // number of marks of the request
};

// An address finds the entry that client would use (its key, masked by the profile); a prefix every
// entry whose key lies within it.
using ClientFilter = std::variant<net::Address, net::Prefix>;

struct ServerFilter {
  net::Address address;
  std::optional<uint16_t> port;  // absent: any port
};

// Which entries; what is absent does not restrict. An unknown virtual service or pool is a Refusal
// with 404 and "/query/virtual_service" or "/query/pool".
struct EntryFilter {
  std::optional<std::string> virtual_service;  // name or uuid
  std::optional<std::string> pool;             // name or uuid
  std::optional<std::string> tenant;           // of the pool
  std::optional<ClientFilter> client;
  std::optional<ServerFilter> server;
};

struct PageRequest {
  uint32_t limit = 100;  // 1..1000
  std::string cursor;    // as the backend gave it out in EntryPage::next; empty: from the start
};

// One line of GET /v1/persistence-tables.
struct EntryRow {
  std::string virtual_service;  // empty (null in JSON): the scope belongs to several
  std::string pool;
  std::string profile;
  std::string type;    // PERSISTENCE_TYPE_…
  std::string key;     // "10.1.0.2", "10.1.1.0/24", or hex of a string key
  std::string server;  // "10.2.0.3:80"
  uint64_t connections = 0;
  std::optional<uint64_t> life_time_s;  // rounded up; absent while connections are open
  timing::WallTime created;
  uint64_t epoch = 0;
  std::string origin;  // the engine that created the binding
};

struct EntryPage {
  uint64_t count = 0;  // all matches, not only those of this page
  std::vector<EntryRow> rows;
  std::optional<std::string> next;  // absent: this was the last page
};

struct EntriesRemoved {
  uint64_t removed = 0;  // entries, not copies
};

struct ExplainRequest {
  std::string virtual_service;  // name or uuid
  net::Address client;
  std::optional<std::string> tenant;  // absent: any; needed when several have this name
};

enum class Decision : uint8_t { kForward, kReset, kUnreachable, kDrop };

struct Candidate {
  std::string server;
  std::string state;                   // OPER_UP, OPER_DOWN, …
  std::optional<std::string> why_not;  // absent: the choice may fall on it
};

struct Explanation {
  std::string virtual_service;
  std::string client;
  Decision decision = Decision::kDrop;
  std::optional<std::string> server;  // absent: chosen at arrival among `candidates`, or none
  std::string reason;  // entry, moved, new, down, at_limit, table_full, no_server, …
  std::optional<EntryRow> entry;
  std::vector<Candidate> candidates;
  uint32_t home_core = 0;
  std::vector<std::string> steps;  // in order, for people
};

// A counter by reason, as the data path names it.
struct ReasonCount {
  std::string reason;
  uint64_t count = 0;
};

struct PortStatus {
  std::string name;
  std::string mac;
  std::string link;  // "up" or "down"
  uint64_t rx_packets = 0;
  uint64_t tx_packets = 0;
  std::vector<ReasonCount> drops;
};

struct WorkerStatus {
  uint32_t core = 0;
  double busy_percent = 0;  // 0..100 over the last second
  uint64_t flows = 0;
  uint64_t entries = 0;
};

enum class StateSource : uint8_t { kApi, kMonitor, kDefault };

struct ServerStatus {
  std::string server;
  std::string oper_status;
  std::optional<std::string> reason;  // of a server that is down: the mark's or monitor's, or why
                                      // it cannot be used: "no route to it"
  StateSource source = StateSource::kDefault;
  bool enabled = true;
  uint64_t connections = 0;
  uint64_t entries = 0;
  std::string pool;  // a virtual service may have several
};

struct VirtualServiceStatus {
  std::string name;
  std::string tenant;
  std::string uuid;                   // the document's, or derived from model, tenant and name
  bool serving = false;               // clients are answered by this engine, now
  std::optional<std::string> reason;  // why not; absent: it serves
  std::string oper_status;
  uint64_t connections = 0;
  std::string pool;
  std::vector<ServerStatus> servers;
};

struct GroupStatus {
  std::string name;
  std::string owner;
  std::string state;
};

struct PeerStatus {
  std::string name;
  std::string state;
  bool synced = false;
  uint64_t lag_entries = 0;  // of the side that is further behind
  uint64_t lag_ms = 0;
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;
  uint64_t updates_received = 0;
  uint64_t updates_sent = 0;
  uint64_t resyncs_full = 0;     // sessions in which the peer was told everything
  uint64_t resyncs_resumed = 0;  // ... what it had missed
  uint64_t held_back = 0;        // times that an update had to wait
  uint64_t rejected = 0;         // its connections and sessions that were refused
};

// GET /v1/status.
struct StatusView {
  std::string name;
  std::string version;
  uint64_t generation = 0;
  uint64_t uptime_s = 0;
  std::vector<PortStatus> ports;
  std::vector<WorkerStatus> workers;
  std::vector<VirtualServiceStatus> virtual_services;
  std::vector<GroupStatus> groups;
  std::vector<PeerStatus> peers;
  std::vector<ReasonCount> strangers;  // connections refused before a peer was known
};

struct PortMetrics {
  std::string name;
  bool link_up = false;
  uint64_t rx_packets = 0;
  uint64_t tx_packets = 0;
  uint64_t rx_bytes = 0;
  uint64_t tx_bytes = 0;
};

// A virtual service's uuid is printed only where its tenant and name are those of another, too.
struct VirtualServiceMetrics {
  std::string name;
  std::string tenant;
  std::string uuid;
  bool up = false;
  uint64_t connections = 0;        // open now
  uint64_t connections_total = 0;  // since start
  uint64_t entries = 0;
};

// The uuids are printed only where needed to tell two apart: the pool's where its tenant and name
// are those of another pool, the server's where its name is that of another in the pool.
struct ServerMetrics {
  std::string tenant;  // of the pool
  std::string pool;
  std::string pool_uuid;
  std::string server;
  std::string uuid;  // `uuid` as the document has it, else `external_uuid`; may be empty
  bool up = false;
  uint64_t connections = 0;
  uint64_t connections_total = 0;
  uint64_t entries = 0;
  uint64_t over_limit_total = 0;      // persisted clients let in above the connection limit
  uint64_t snat_exhausted_total = 0;  // connections refused because no source port was left
  uint64_t snat_reused_total = 0;     // connections by source ports freed less than 60 s before
};

// Lookups of the persist tables, by what they led to.
struct LookupCounts {
  uint64_t hit = 0;      // the entry's server took the connection
  uint64_t miss = 0;     // nothing in this core's replica
  uint64_t moved = 0;    // the entry went to another server
  uint64_t created = 0;  // a new entry ("new")
  uint64_t refused = 0;  // the policy, or a full table, turned the client away

  LookupCounts& operator+=(const LookupCounts& other) {
    hit += other.hit;
    miss += other.miss;
    moved += other.moved;
    created += other.created;
    refused += other.refused;
    return *this;
  }
};

struct WorkerMetrics {
  uint32_t core = 0;
  double busy_ratio = 0;  // 0..1 over the last second
  uint64_t flows = 0;
  uint64_t flows_max = 0;
  uint64_t entries = 0;
  LookupCounts lookups;
};

struct PeerMetrics {
  std::string name;
  bool synced = false;
  double lag_seconds = 0;
  uint64_t lag_entries = 0;
};

// A gauge unless something else is said: `{}` makes one.
enum class MetricType : uint8_t { kGauge, kCounter, kHistogram };

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

// A metric of an owner the API knows nothing of. `name` is complete ("limpet_…", "_total" on
// counters); label names are [a-zA-Z_][a-zA-Z0-9_]*, label values any text.
struct MetricSample {
  MetricLabels labels;
  double value = 0;
  std::string suffix{};  // of a histogram's name: "_bucket", "_sum", "_count"
};
struct MetricFamily {
  std::string name;
  std::string help;
  MetricType type = MetricType::kGauge;
  std::vector<MetricSample> samples;
};

// GET /metrics. Counters count from the engine's start.
struct MetricsView {
  std::string version;
  uint64_t generation = 0;
  double uptime_seconds = 0;
  std::vector<PortMetrics> ports;
  std::vector<ReasonCount> drops;  // over all ports and workers; every reason, also those at 0
  std::vector<VirtualServiceMetrics> virtual_services;
  std::vector<ServerMetrics> servers;  // each (pool, server) once, however many services use it
  std::vector<WorkerMetrics> workers;
  std::vector<PeerMetrics> peers;

  uint64_t persistence_entries_max = 0;
  uint64_t persistence_entry_bytes = 0;
  std::vector<ReasonCount> persistence_evictions;

  uint64_t flow_bytes = 0;  // of one flow record
  uint64_t packet_buffers = 0;
  uint64_t packet_buffers_in_use = 0;
  uint64_t snat_ports_in_use = 0;
  uint64_t neighbors = 0;
  uint64_t neighbors_unresolved = 0;

  std::vector<MetricFamily> more;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // `body` is the request's body as it came, up to base::kRequestBodyBytesMax bytes.
  virtual void put_config(std::string body, PutOptions options,
                          Answer<Outcome<ConfigApplied>> answer) = 0;

  // The running document as it was sent, with "generation": JSON text, never null. Shared, because
  // it may be 64 MiB.
  virtual void get_config(Answer<std::shared_ptr<const std::string>> answer) = 0;

  // All marks or none. `body` as it came; parse_health_marks() (control/api/health_marks.h) reads
  // it.
  virtual void health_marks(std::string body, Answer<Outcome<MarksApplied>> answer) = 0;

  virtual void list_entries(EntryFilter filter, PageRequest page,
                            Answer<Outcome<EntryPage>> answer) = 0;

  // Answers when every core has forgotten the entries.
  virtual void delete_entries(EntryFilter filter, Answer<Outcome<EntriesRemoved>> answer) = 0;

  // Changes nothing. An unknown virtual service, or a name that several have (the message lists
  // their tenants): 404, "/query/virtual_service".
  virtual void explain(ExplainRequest request, Answer<Outcome<Explanation>> answer) = 0;

  virtual void status(Answer<StatusView> answer) = 0;
  virtual void metrics(Answer<MetricsView> answer) = 0;
};

}  // namespace limpet::api
