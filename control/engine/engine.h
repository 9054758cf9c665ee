// Engine: the composition root. Puts the parts together, runs the control loop, and stands between
// the outside (API, slow path, signals) and the workers. What there is to do is each part's:
//
//   Changes     the queue of what changes the configuration    Questions   what cores are asked
//   Entries     listings of bindings                           Deletions   deleting them
//   Explainer   why a client would go where                    Ownership   which groups are served
//   Watch       limits, tables, links: events                  Views       status and metrics
//   Retirement  slots that left the configuration              Peers       mirroring
//   News        what homes tell                                TableKeeper the table on disk
//
// Thread: everything here runs on the control thread, except the preparation of a change, which
// runs on one helper thread, and writing to disk, which has another; neither is on a core of the
// workers or of the control thread, where there is another. Workers are reached by rings and
// snapshots only (Cores); what they count is read.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/telemetry/events.h"
#include "common/telemetry/histogram.h"
#include "control/api/backend.h"
#include "control/api/server.h"
#include "control/engine/aside_thread.h"
#include "control/engine/changes.h"
#include "control/engine/deletions.h"
#include "control/engine/entries.h"
#include "control/engine/explainer.h"
#include "control/engine/home_rings.h"
#include "control/engine/news.h"
#include "control/engine/ownership.h"
#include "control/engine/pace.h"
#include "control/engine/peers.h"
#include "control/engine/retirement.h"
#include "control/engine/sizing.h"
#include "control/engine/state_directory.h"
#include "control/engine/table_keeper.h"
#include "control/engine/views.h"
#include "control/engine/watch.h"
#include "control/engine/worker_threads.h"
#include "control/slowpath/slow_path.h"
#include "dataplane/port/clock.h"
#include "dataplane/port/cpus.h"
#include "dataplane/port/devices.h"
#include "dataplane/port/eal.h"

namespace limpet::engine {

class Engine final : public api::Backend, private slowpath::Link {
 public:
  // Starts everything but the loop. `document`: what the bootstrap's `document` says, already read;
  // errors in it are the caller's to report. Errors: devices, memory, the API's socket.
  static base::Result<std::unique_ptr<Engine>> start(const config::Bootstrap& bootstrap,
                                                     std::optional<std::string> document);
  ~Engine() override;

  // Runs until a signal that ends a process. SIGHUP: the bootstrap's `document` is read again.
  void run();
  // What the operator should know of the start, by field of the bootstrap.
  const base::Errors& warnings() const { return warnings_; }

  // api::Backend
  void put_config(std::string body, api::PutOptions options,
                  api::Answer<api::Outcome<api::ConfigApplied>> answer) override;
  void get_config(api::Answer<std::shared_ptr<const std::string>> answer) override;
  void health_marks(std::string body, api::Answer<api::Outcome<api::MarksApplied>> answer) override;
  void list_entries(api::EntryFilter filter, api::PageRequest page,
                    api::Answer<api::Outcome<api::EntryPage>> answer) override;
  void delete_entries(api::EntryFilter filter,
                      api::Answer<api::Outcome<api::EntriesRemoved>> answer) override;
  void explain(api::ExplainRequest request,
               api::Answer<api::Outcome<api::Explanation>> answer) override;
  void status(api::Answer<api::StatusView> answer) override;
  void metrics(api::Answer<api::MetricsView> answer) override;

 private:
  // What the table on disk and the peers wait for, in this order.
  enum class Stage : uint8_t {
    kDocument,  // what the engine begins with is being applied
    kRestore,   // what was on disk goes to the homes
    kFence,     // they are merging it
    kRunning,   // peers are told and listened to; the table is kept on disk
  };
  // A document to begin with.
  struct First {
    std::string text;
    bool stored = false;
  };

  Engine(const config::Bootstrap& bootstrap, port::Eal eal, const port::Cpus& aside);
  base::Status open(std::optional<std::string> document);
  base::Status open_devices();
  base::Status open_state(std::optional<std::string> document);
  base::Status open_table();
  base::Status open_peers();
  void make_workers();
  void make_changes();
  void make_parts();
  void make_watch();
  base::Status start_workers();
  void begin_with(std::vector<First> documents);

  // The control loop.
  void await_signals();
  void schedule_tick();
  void tick();
  void drain_punts();
  void reload();
  void keep_table();
  void store_table(std::vector<std::string> pieces);
  void start_election();
  void shut_down();
  void take_leave();

  void use_scopes(const snapshot::Snapshot& s);
  void publishing(Prepared& prepared);
  void applied(const Change& change, const Prepared& prepared);
  void refused(const Change& change, const Refused& refused);
  base::Status store(const std::string* document, const std::string* marks);

  std::vector<api::PortStatus> port_status() const;
  packet::DropCounts device_drops(std::size_t port);
  std::vector<api::ReasonCount> drops();
  void add_status(api::StatusView* out) const;
  void add_metrics(api::MetricsView* out) const;
  void add_port_metrics(api::MetricsView* out) const;
  void add_failover_metrics(api::MetricsView* out) const;
  timing::WallTime wall_origin() const {
    return clock_.wall() + (timing::Instant{} - clock_.now());
  }

  // slowpath::Link
  packet::Buffer* allocate() override;
  void transmit(packet::Buffer* frame) override;
  void neighbor(const egress::NeighborUpdate& update) override;
  void event(std::string_view name, std::string_view object, std::string_view message) override;
  void heartbeat(const net::Address& from, std::span<const uint8_t> datagram) override;
  void drop(packet::DropReason reason) override;

  const config::Bootstrap bootstrap_;
  port::Eal eal_;
  const port::Cpus aside_;  // where threads run that are neither workers' nor the control thread
  port::TscClock clock_;
  base::Random random_;
  const Limits limits_;
  const Cluster cluster_;
  telemetry::EventLog events_;
  Reporter reporter_;
  boost::asio::io_context io_;

  std::optional<port::BufferPool> pool_;
  std::optional<port::Devices> devices_;
  base::Errors warnings_;
  Surroundings around_;
  std::optional<StateDirectory> state_;  // used by the disk's thread when it runs
  std::unique_ptr<AsideThread> helper_;  // prepares changes
  std::unique_ptr<AsideThread> disk_;    // writes: a slow disk must not delay a take-over
  std::unique_ptr<AsideThread> spare_;   // rows of views, and what is given back: nor must these

  std::unique_ptr<WorkerThreads> workers_;
  std::unique_ptr<slowpath::SlowPath> slow_path_;
  egress::DropCounters control_drops_;
  std::unique_ptr<MergeRings> home_rings_;
  std::unique_ptr<mirroring::Exchange> exchange_;
  std::unique_ptr<Changes> changes_;
  std::unique_ptr<Questions> questions_;
  std::unique_ptr<News> news_;
  std::unique_ptr<Entries> entries_;
  std::unique_ptr<Deletions> deletions_;
  std::unique_ptr<Explainer> explainer_;
  std::unique_ptr<Retirement> retirement_;
  std::unique_ptr<Watch> watch_;
  std::unique_ptr<Views> views_;
  std::unique_ptr<TableKeeper> keeper_;   // with a state directory
  std::unique_ptr<Peers> peers_;          // with peers
  std::optional<failover::Seal> seal_;    // with a secret, too
  std::unique_ptr<Ownership> ownership_;  // with peers, from Stage::kRunning on

  Stage stage_ = Stage::kDocument;
  uint32_t fence_ = 0;           // Stage::kFence
  bool telling_is_due_ = false;  // the timer has come since peers were told
  Pace pace_;                    // of the timer
  timing::Instant telemetry_published_;

  boost::asio::steady_timer timer_{io_};
  telemetry::DurationHistogram tick_delays_;
  telemetry::DurationHistogram steps_;  // of the control loop
  boost::asio::signal_set signals_{io_};
  std::unique_ptr<api::Server> server_;
  bool stopping_ = false;
};

}  // namespace limpet::engine
