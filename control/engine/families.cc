#include "control/engine/families.h"

#include <initializer_list>
#include <string>
#include <utility>

namespace limpet::engine {

namespace {

struct End {
  const char* reason;
  telemetry::Counter replication::Counters::*counter;
};
constexpr End kEnds[] = {{"expired", &replication::Counters::expired},
                         {"idle", &replication::Counters::evicted_idle},
                         {"embryonic", &replication::Counters::evicted_embryonic},
                         {"scope_gone", &replication::Counters::dropped},
                         {"deleted", &replication::Counters::deleted},
                         {"deleted_by_peer", &replication::Counters::killed}};

}  // namespace

std::vector<api::ReasonCount> ends(const Cores& cores) {
  std::vector<api::ReasonCount> out;
  for (const auto& [reason, counter] : kEnds) {
    out.push_back({reason, cores.sum([&, c = counter](const worker::Core& core) {
                     return (core.replica().counters().*c).get();
                   })});
  }
  return out;
}

// What the cores say to each other about bindings, and how bindings end.
void add_replication(const Cores& cores, const std::vector<uint32_t>& worker_cores,
                     api::MetricsView* out) {
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
  api::MetricFamily ends_of_cores{"limpet_persistence_ends_total",
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
  for (uint32_t w = 0; w < cores.count(); ++w) {
    const std::string core = std::to_string(worker_cores[w]);
    const replication::Counters& c = cores.core(w).replica().counters();
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
    pen.samples.push_back(
        {{{"core", core}}, static_cast<double>(cores.core(w).stats().parked.get())});
    records.samples.push_back(
        {{{"core", core}}, static_cast<double>(cores.core(w).stats().records.get())});
    for (const auto& [reason, counter] : kEnds) {
      ends_of_cores.samples.push_back(
          {{{"core", core}, {"reason", reason}}, static_cast<double>((c.*counter).get())});
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
  out->persistence_evictions = ends(cores);
  for (auto* family : {&messages, &waits, &pen, &records, &ends_of_cores, &merges, &activity})
    out->more.push_back(std::move(*family));
}

// What the control thread has between homes, peers and disk.
void add_exchange(const mirroring::Exchange& exchange, const TableKeeper* keeper,
                  api::MetricsView* out) {
  const auto gauge = [&](const char* name, const char* help, double value) {
    out->more.push_back({name, help, api::MetricType::kGauge, {{{}, value}}});
  };
  const mirroring::ExchangeCounters& c = exchange.counters();
  if (exchange.has_peers()) {
    const mirroring::UpdateList& list = exchange.list();
    gauge("limpet_mirroring_entries", "Entries that peers are told of.", list.size());
    gauge("limpet_mirroring_tombstones", "Deletions that are kept until all peers know of them.",
          list.tombstones());
    gauge("limpet_mirroring_unnamed", "Entries of scopes that no document has named yet.",
          exchange.unnamed());
    api::MetricFamily dropped{"limpet_mirroring_dropped_total",
                              "News that was dropped, by reason.",
                              api::MetricType::kCounter,
                              {}};
    for (const auto& [reason, count] : std::initializer_list<std::pair<const char*, uint64_t>>{
             {"not_mirrored", c.not_mirrored},
             {"unnamed_full", c.unnamed_refused},
             {"unnamed_expired", c.unnamed_expired},
             {"tombstones_full", c.tombstones_refused},
             {"list_full", c.unlisted}})
      dropped.samples.push_back({{{"reason", reason}}, static_cast<double>(count)});
    out->more.push_back(std::move(dropped));
  }
  if (keeper == nullptr) return;
  api::MetricFamily restored{"limpet_table_restored_total",
                             "Entries of the table on disk, by what became of them.",
                             api::MetricType::kCounter,
                             {}};
  restored.samples = {{{{"result", "restored"}}, static_cast<double>(c.disk_restored)},
                      {{{"result", "expired"}}, static_cast<double>(c.disk_expired)}};
  out->more.push_back(std::move(restored));
  gauge("limpet_table_saved", "1 while the table on disk is the newest.", keeper->is_saved());
}

}  // namespace limpet::engine
