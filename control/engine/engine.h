// Engine: the composition root. Puts the parts together, runs the control loop, and stands between
// the outside (API, slow path, signals) and the workers.
//
// Thread: everything here runs on the control thread, except prepare() of a change, which runs on
// one helper thread, and writing to disk, which has another. Workers are reached by rings and
// snapshots only; what they count is read.
//
// A change of the configuration passes these stations, one change at a time: prepare (helper
// thread) → wait until the workers have carried out what the last snapshot ended (so that a new
// server at a used address inherits nobody) → make source port blocks → publish → wait until every
// worker has taken it → answer.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/telemetry/events.h"
#include "common/telemetry/histogram.h"
#include "control/api/backend.h"
#include "control/api/server.h"
#include "control/api/telemetry.h"
#include "control/engine/configurator.h"
#include "control/engine/home_rings.h"
#include "control/engine/sizing.h"
#include "control/engine/state_directory.h"
#include "control/engine/table_keeper.h"
#include "control/failover/election.h"
#include "control/mirroring/transport.h"
#include "control/slowpath/slow_path.h"
#include "dataplane/port/clock.h"
#include "dataplane/port/devices.h"
#include "dataplane/port/eal.h"
#include "dataplane/port/workers.h"
#include "dataplane/snapshot/publisher.h"
#include "dataplane/worker/loop.h"

namespace limpet::engine {

class Engine final : public api::Backend, private slowpath::Link, private mirroring::GroupListener {
 public:
  // Starts everything but the loop. `document`: what the bootstrap's `document` says, already read;
  // errors in it are the caller's to report. Errors: devices, memory, the API's socket.
  static base::Result<std::unique_ptr<Engine>> start(const config::Bootstrap& bootstrap,
                                                     std::optional<std::string> document);
  ~Engine() override;

  // Runs until SIGTERM or SIGINT.
  void run();

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
  struct Operation {
    Change change;
    std::function<void(const Prepared&)> applied;
    std::function<void(const Refused&)> refused;
  };
  // One job for every core of a question, and what to do when all are done.
  struct Question {
    std::vector<std::unique_ptr<worker::Job>> jobs;  // by core
    std::function<void(const Question&)> done;
  };
  // Where a listing goes on: place in the mirror, when it began, how many matched then.
  struct Cursor {
    uint32_t place = 0;
    int64_t began_ns = 0;
    uint64_t count = 0;

    std::string to_string() const;
    static std::optional<Cursor> parse(std::string_view text);
  };
  // A page of a listing in the making.
  struct Listing {
    worker::EntryFilter wanted;
    Cursor cursor;
    bool counted = false;  // not the first page: the cursor knows the count
    uint32_t limit = 0;
    uint32_t at = 0;  // place in the mirror
    std::vector<worker::Job::Wanted> page;
    std::optional<uint32_t> more;  // place of the first match beyond the page
    api::Answer<api::Outcome<api::EntryPage>> answer;
  };
  // A binding over all cores.
  struct Presence {
    bool present = false;
    uint32_t open = 0;
    timing::Instant deadline;  // if nothing is open
  };
  using DeletionAnswer = api::Answer<api::Outcome<api::EntriesRemoved>>;
  struct Deletion {
    snapshot::Token token;
    uint64_t removed = 0;
    DeletionAnswer answer;
  };
  // A deletion of keys whose tombstones are being counted.
  struct Counting {
    worker::EntryFilter wanted;
    uint32_t at = 0;  // place in the mirror
    uint32_t tombstones = 0;
    DeletionAnswer answer;
  };
  // A deletion that the homes are to carry out.
  struct DeletionOrder {
    worker::EntryFilter wanted;
    std::optional<persist::Stamp> up_to;  // whole scopes, by tombstones
    uint32_t tombstones = 0;              // of keys, that will be needed
    DeletionAnswer answer;
  };
  // What the table on disk and the peers wait for, in this order.
  enum class Stage : uint8_t {
    kDocument,  // what the engine begins with is being applied
    kRestore,   // what was on disk goes to the homes
    kFence,     // they are merging it
    kRunning,   // peers are told and listened to; the table is kept on disk
  };
  // What was last seen of a peer.
  struct PeerSeen {
    mirroring::SessionNumber session;
    bool up = false;
    bool synced = false;
    telemetry::DurationHistogram lag;  // from activity there until it was merged here
  };

  Engine(const config::Bootstrap& bootstrap, port::Eal eal);
  base::Status open(std::optional<std::string> document);
  base::Status open_devices(const Limits& limits);
  base::Status open_state(std::optional<std::string> document);
  base::Status open_table();
  base::Status open_mirroring();
  void make_cores();
  void make_exchange();
  base::Status start_workers();
  void schedule_tick();

  // The control loop's turn, about every millisecond.
  void tick();
  void drain_punts();
  void flush_messages();
  void pump();
  void prepare_next();
  void publish();
  void finish_published();
  void store(Operation operation, std::shared_ptr<const Prepared> done);
  void finish_questions();
  void drain_news();
  void use_scopes(const snapshot::Snapshot& s);
  void exchange_news();
  void keep_table();
  void store_table(std::vector<std::string> pieces);
  void shut_down();
  void note_lag(const persist::Change& change, timing::Instant now);
  void watch_peers();
  void watch_peer(const mirroring::Peer& peer, PeerSeen* seen);
  void start_election();
  void configure_election();
  void elect();
  void carry_out(const failover::Election::Step& step, timing::Instant now);
  bool workers_move(timing::Instant now);
  void send_beats(const mirroring::Peer& peer, timing::Instant now);
  void go_on_listing();
  bool deletes_mirrored(const worker::EntryFilter& wanted) const;
  std::optional<api::Refusal> lacks_room_for(uint32_t tombstones) const;
  void delete_keys(worker::EntryFilter wanted, DeletionAnswer answer);
  void delete_scopes(worker::EntryFilter wanted, DeletionAnswer answer);
  void kill_scopes(const worker::EntryFilter& wanted, persist::Stamp up_to,
                   const DeletionAnswer& answer);
  void order_deletion(const DeletionOrder& order);
  void go_on_counting();
  void finish_deletions();
  void watch();
  void recycle();
  void watch_limits();
  void watch_links(timing::Instant now);
  void make_source_ports(const snapshot::Snapshot& s);
  bool swept(uint64_t version) const;
  void emit(telemetry::EventName name, std::string_view object, std::string_view message);
  void emit_transitions(const Prepared& prepared);

  void ask(std::vector<std::unique_ptr<worker::Job>> jobs,
           std::function<void(const Question&)> done);
  std::optional<api::Refusal> resolve(const api::EntryFilter& filter, worker::EntryFilter* out,
                                      bool* nobody) const;
  api::EntryRow row(const mirroring::Mirror::Binding& binding, const Presence& presence) const;
  static Presence presence(const Question& question, std::size_t i);
  void answer_listing(Listing& listing, const Question& question);
  void explain_binding(const Question& question, const snapshot::Snapshot& s,
                       const snapshot::Scope* scope, api::Explanation* out) const;
  void explain_answer(const worker::Job& job, const snapshot::Snapshot& s, uint32_t record,
                      bool tcp, api::Explanation* out) const;
  api::StatusView status_view() const;
  api::MetricsView metrics_view() const;
  api::TelemetryView telemetry_view() const;
  void replication_metrics(api::MetricsView* out) const;
  void mirroring_status(api::StatusView* out) const;
  void mirroring_metrics(api::MetricsView* out) const;
  void exchange_metrics(api::MetricsView* out) const;
  void group_status(api::StatusView* out) const;
  void group_metrics(api::MetricsView* out) const;
  uint32_t rank() const;
  std::string origin_of(persist::Stamp stamp) const;
  timing::WallTime wall_origin() const {
    return clock_.wall() + (timing::Instant{} - clock_.now());
  }
  const mirroring::Mirror& mirror() const { return exchange_->mirror(); }
  api::VirtualServiceStatus vs_status(const config::VirtualService& vs) const;
  std::vector<api::ServerStatus> server_statuses(const config::Pool& pool) const;
  const snapshot::Server* find_server(const std::string& pool_uuid, config::ServerId id) const;
  bool vs_up(const config::VirtualService& vs) const;
  // Over all cores, of the slot's present owner.
  uint64_t open_on(snapshot::ServerSlot slot) const;
  uint64_t server_total(snapshot::ServerSlot slot) const;
  uint64_t vs_open(snapshot::VsSlot slot) const;
  uint64_t vs_total(snapshot::VsSlot slot) const;

  // slowpath::Link
  packet::Buffer* allocate() override;
  void transmit(packet::Buffer* frame) override;
  void neighbor(const l4::NeighborUpdate& update) override;
  void event(std::string_view name, std::string_view object, std::string_view message) override;
  void heartbeat(const net::Address& from, std::span<const uint8_t> datagram) override;
  void drop(packet::DropReason reason) override;

  // mirroring::GroupListener
  void hear(const mirroring::Peer& peer, std::span<const uint8_t> body,
            timing::Instant now) override;

  const config::Bootstrap bootstrap_;
  port::Eal eal_;
  port::TscClock clock_;
  base::Random random_;
  Limits limits_;
  timing::Instant started_;
  std::vector<std::string> engine_names_;  // of the cluster, sorted: their places are their ranks

  std::optional<port::BufferPool> pool_;
  std::optional<port::Devices> devices_;
  std::vector<std::unique_ptr<port::TableMemory>> memory_;  // by worker, then the control thread's
  std::unique_ptr<worker::Shared> shared_;
  std::unique_ptr<MergeRings> home_rings_;
  std::unique_ptr<mirroring::Exchange> exchange_;
  std::unique_ptr<TableKeeper> keeper_;  // with a state directory
  std::unique_ptr<worker::Wiring> wiring_;
  std::vector<std::unique_ptr<worker::Core>> cores_;
  std::vector<std::unique_ptr<worker::Loop>> loops_;
  std::unique_ptr<snapshot::Publisher> publisher_;
  std::atomic<bool> stop_workers_{false};
  std::unique_ptr<port::Workers> workers_;

  Surroundings around_;
  Configuration running_;
  std::optional<StateDirectory> state_;
  std::deque<Operation> operations_;
  std::unique_ptr<Prepared> prepared_;        // waits to be published
  std::optional<snapshot::Token> published_;  // waits for the workers; of operations_.front()
  bool preparing_ = false;
  std::vector<std::vector<std::unique_ptr<l4::SourcePorts>>> source_ports_;  // by core, NatId

  std::unique_ptr<slowpath::SlowPath> slow_path_;
  std::vector<std::deque<worker::ControlMessage>> messages_;  // by core: waiting for room
  l4::DropCounters control_drops_;

  std::deque<Question> questions_;
  std::deque<Listing> listings_;
  std::deque<Deletion> deletions_;
  std::deque<Counting> counting_;
  uint32_t tombstones_ordered_ = 0;  // that homes have not made yet

  Stage stage_ = Stage::kDocument;
  uint32_t fence_ = 0;                // Stage::kFence
  bool telling_is_due_ = false;       // the timer has come since peers were told
  std::vector<PeerSeen> peers_seen_;  // by PeerIndex

  // Who owns groups; with peers.
  std::optional<failover::Election> election_;
  std::optional<failover::Seal> seal_;                         // with a secret
  std::vector<std::optional<net::Address>> peer_addresses_;    // where its last heartbeat came from
  std::deque<std::pair<uint32_t, uint32_t>> election_fences_;  // the election's number, exchange's
  bool ownership_changing_ = false;                            // a SetOwned is among the operations
  struct WorkerTurns {
    uint64_t turns = 0;
    timing::Instant at;
  };
  std::vector<WorkerTurns> worker_turns_;
  timing::Instant elected_at_;
  std::array<uint64_t, static_cast<std::size_t>(failover::Heard::kCount)> beats_heard_{};
  uint64_t beats_malformed_ = 0;
  uint64_t beats_forged_ = 0;

  // What watch() compares with.
  timing::Instant watched_;
  timing::Instant telemetry_published_;
  bool table_high_ = false;
  uint64_t flow_table_full_ = 0;
  uint64_t merges_refused_ = 0;
  std::map<uint32_t, uint64_t> refused_by_vs_;
  std::map<uint32_t, uint64_t> exhausted_by_server_;
  std::map<uint32_t, bool> at_limit_;
  std::map<uint32_t, uint64_t> vs_total_before_;  // by slot: what earlier owners counted
  std::map<uint32_t, uint64_t> server_total_before_;
  std::map<std::string, bool> vs_up_;
  std::vector<bool> link_up_;  // by port
  struct Busy {
    uint64_t busy_ns = 0;
    uint64_t idle_ns = 0;
    double ratio = 0;
  };
  std::vector<Busy> busy_;

  telemetry::EventLog events_;
  boost::asio::io_context io_;
  boost::asio::thread_pool helper_{1};  // prepares changes
  boost::asio::thread_pool disk_{1};    // writes: a slow disk must not delay a take-over
  boost::asio::steady_timer timer_{io_};
  telemetry::DurationHistogram tick_delays_;
  boost::asio::signal_set signals_{io_};
  std::unique_ptr<api::Server> server_;
  std::unique_ptr<mirroring::Transport> transport_;  // with peers
  bool stopping_ = false;
};

}  // namespace limpet::engine
