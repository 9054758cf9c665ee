#include "control/engine/engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <utility>

#include "control/api/prometheus.h"
#include "control/api/telemetry.h"
#include "control/engine/families.h"

namespace limpet::engine {

using telemetry::EventName;
using timing::Instant;

namespace {

constexpr auto kLeaveTick = std::chrono::milliseconds(1);
constexpr timing::Duration kTelemetryInterval = timing::seconds(1);
constexpr timing::Duration kLeaveMax = timing::milliseconds(200);  // for the last words to peers
constexpr uint32_t kPuntsPerTick = 256;                            // of each worker
constexpr uint32_t kHandlersPerTick = 64;

// Signals that end a process unless somebody cares, and are no fault of the program.
constexpr int kStopSignals[] = {SIGTERM, SIGINT,  SIGQUIT,   SIGUSR1, SIGUSR2,
                                SIGALRM, SIGPROF, SIGVTALRM, SIGIO,   SIGPWR};

port::Cpus aside_of(const config::Bootstrap& bootstrap, const port::Cpus& all) {
  std::vector<uint32_t> taken = {bootstrap.control_core};
  taken.insert(taken.end(), bootstrap.worker_cores.begin(), bootstrap.worker_cores.end());
  return all.without(taken);
}

// Nothing: it cannot be read, or is larger than a document may be.
std::optional<std::string> read_document(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::string text;
  std::array<char, 65536> piece{};
  while (in.read(piece.data(), piece.size()) || in.gcount() > 0) {
    text.append(piece.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > base::kRequestBodyBytesMax) return std::nullopt;
  }
  return in.bad() ? std::nullopt : std::optional(std::move(text));
}

}  // namespace

// --- from nothing to a running engine
// -------------------------------------------------------------

Engine::Engine(const config::Bootstrap& bootstrap, port::Eal eal, const port::Cpus& aside)
    : bootstrap_(bootstrap),
      eal_(std::move(eal)),
      aside_(aside),
      random_(std::random_device{}() * 0x100000001ULL + std::random_device{}()),
      limits_(resolve_limits(bootstrap)),
      cluster_(bootstrap),
      events_(&std::cerr),
      reporter_(events_, clock_),
      pace_(cluster_.peers()) {}

base::Result<std::unique_ptr<Engine>> Engine::start(const config::Bootstrap& bootstrap,
                                                    std::optional<std::string> document) {
  if (auto status = check_memory(bootstrap); !status) return status.errors();
  const auto needs = memory_needs(bootstrap, resolve_limits(bootstrap));
  port::EalOptions options;
  options.name = bootstrap.name;
  options.control_core = bootstrap.control_core;
  options.worker_cores = bootstrap.worker_cores;
  options.hugepages = bootstrap.memory.hugepages;
  // Without hugepages DPDK's own heap holds buffers and driver state only (port/memory.h).
  options.memory_mb =
      bootstrap.memory.hugepages
          ? bootstrap.memory.size_mb
          : static_cast<uint32_t>(((needs.front().bytes + needs.back().bytes) >> 20) * 5 / 4 + 32);
  for (const config::PortOptions& p : bootstrap.ports) {
    auto device = port::parse_device(p.device);
    if (!device) return device.errors();
    if (device.value().pci) options.pci_devices.push_back(device.value().text());
  }
  options.extra = bootstrap.eal;
  const port::Cpus all = port::Cpus::of_this_thread();  // before DPDK pins it
  auto eal = port::Eal::start(options);
  if (!eal) return eal.errors();
  std::unique_ptr<Engine> engine(
      new Engine(bootstrap, std::move(eal.value()), aside_of(bootstrap, all)));
  if (auto status = engine->open(std::move(document)); !status) return status.errors();
  return engine;
}

base::Status Engine::open(std::optional<std::string> document) {
  // The helper's and its like are made here, and that of whoever prints answers.
  const port::OnCpus threads_are_aside(aside_);
  for (const int signal : kStopSignals) signals_.add(signal);
  signals_.add(SIGHUP);
  if (auto status = open_devices(); !status) return status;
  helper_ = std::make_unique<AsideThread>(io_);
  disk_ = std::make_unique<AsideThread>(io_);
  spare_ = std::make_unique<AsideThread>(io_);
  make_workers();
  make_changes();
  make_parts();
  make_watch();
  if (auto status = start_workers(); !status) return status;
  if (auto status = open_state(std::move(document)); !status) return status;
  if (auto status = open_peers(); !status) return status;
  auto server = api::Server::open(io_, bootstrap_.api, *this, events_);
  if (!server) return server.errors();
  server_ = std::move(server.value());
  if (auto status = api::register_telemetry(); !status) return status;
  return base::Done{};
}

base::Status Engine::open_devices() {
  auto pool = port::BufferPool::create(pool_options(bootstrap_, limits_));
  if (!pool) return pool.errors();
  pool_.emplace(std::move(pool.value()));
  port::DevicesOptions options;
  options.workers = static_cast<uint32_t>(bootstrap_.worker_cores.size());
  options.pool = pool_->get();
  options.engine_name = bootstrap_.name;
  for (const config::PortOptions& p : bootstrap_.ports) {
    auto device = port::parse_device(p.device);
    if (!device) return device.errors();
    options.ports.push_back({p.name, device.value(), p.mtu, p.mac, p.vlan});
  }
  auto devices = port::Devices::open(options);
  if (!devices) return devices.errors();
  devices_.emplace(std::move(devices.value()));
  for (const port::PortInfo& p : devices_->ports()) {
    if (devices_->devices()[p.device].kernel_reassembles) {
      warnings_.push_back({fmt::format("/ports/{}/device", p.index),
                           "the kernel puts IPv4 datagrams together before the device receives "
                           "them: those larger than its frames are lost"});
    }
  }
  std::vector<net::Mac> macs;
  for (const port::PortInfo& p : devices_->ports()) macs.push_back(p.mac);
  around_ = surroundings(bootstrap_, macs);
  name_peers(bootstrap_, &around_);
  return base::Done{};
}

void Engine::make_workers() {
  const WorkerThreads::Options options{.limits = limits_,
                                       .rank = cluster_.rank(),
                                       .peers = cluster_.peers() > 0,
                                       .wall_origin = wall_origin(),
                                       .first = Configuration::empty(around_).snapshot};
  workers_ = std::make_unique<WorkerThreads>(bootstrap_, options, *devices_, pool_->get(), clock_,
                                             random_);
  slowpath::Link& link = *this;
  slow_path_ = std::make_unique<slowpath::SlowPath>(link, base::Random(random_.next()));
  home_rings_ = std::make_unique<MergeRings>(workers_->shared().rings, workers_->shared().hash,
                                             limits_.entries);
  exchange_ = std::make_unique<mirroring::Exchange>(
      mirroring::Exchange::Options{
          .entries = limits_.entries,
          .surplus = workers_->count() * workers_->shared().rings.capacity.news,
          .peers = cluster_.peers(),
          .node = cluster_.control_maker(),
          .wall_origin = wall_origin()},
      *home_rings_, workers_->shared().hash, workers_->memory());
}

void Engine::make_changes() {
  Changes::Hooks hooks;
  hooks.plan = [this](Prepared* p) { p->plan = slow_path_->plan(*p->next.snapshot); };
  hooks.publishing = [this](Prepared& p) { publishing(p); };
  hooks.applied = [this](const Change& c, const Prepared& p) { applied(c, p); };
  hooks.refused = [this](const Change& c, const Refused& r) { refused(c, r); };
  if (bootstrap_.state_directory) {
    hooks.store = [this](const std::string* document, const std::string* marks) {
      return store(document, marks);
    };
  }
  changes_ = std::make_unique<Changes>(*workers_, *helper_, *disk_, *spare_, around_,
                                       Configuration::empty(around_), clock_, std::move(hooks));
  use_scopes(*changes_->running().snapshot);
}

void Engine::make_parts() {
  questions_ = std::make_unique<Questions>(*workers_);
  news_ = std::make_unique<News>(*workers_, *exchange_, clock_,
                                 [this](const binding::Change& change, Instant now) {
                                   if (peers_) peers_->note(change, now);
                                 });
  const auto read_news = [this] { news_->read(); };
  entries_ = std::make_unique<Entries>(
      *questions_, exchange_->mirror(), changes_->running(), clock_,
      Entries::Hooks{read_news, [this](binding::Stamp s) { return cluster_.origin_of(s); }});
  Deletions::Hooks deletions{.snapshot = [this] { return changes_->running().snapshot; },
                             .read_news = read_news,
                             .carried_out =
                                 [this] {
                                   if (keeper_) keeper_->hurry();
                                   // A table that is full again after this is an event again.
                                   watch_->watch_table();
                                 }};
  if (cluster_.peers() > 0)
    deletions.peer_name = [this](mirroring::PeerIndex p) { return peers_->name(p.value); };
  deletions_ =
      std::make_unique<Deletions>(*workers_, *questions_, *exchange_, clock_, std::move(deletions));
  explainer_ =
      std::make_unique<Explainer>(*questions_, *entries_, changes_->running(),
                                  workers_->shared().gauges, bootstrap_.worker_cores, clock_);
  retirement_ = std::make_unique<Retirement>(
      *workers_, *changes_, exchange_->mirror(),
      Retirement::SourcePorts{
          .in_use =
              [this](compile::NatBlock block) { return workers_->source_ports_in_use(block); },
          .forget = [this](compile::NatBlock block) { workers_->forget_source_ports(block); },
          .blocks_max = around_.source_ports.blocks_max});
}

void Engine::make_watch() {
  watch_ = std::make_unique<Watch>(
      *workers_, changes_->running(), reporter_, bootstrap_.name, limits_,
      static_cast<uint8_t>(devices_->ports().size()),
      Watch::Hooks{
          [this](uint8_t port) { return devices_->link_up(devices_->ports()[port].device); },
          [this](uint8_t port) { slow_path_->link_up(port, clock_.now()); }});
  views_ = std::make_unique<Views>(
      Views::Names{bootstrap_.name, LIMPET_VERSION, bootstrap_.worker_cores}, *workers_, *spare_,
      *changes_, *retirement_, *watch_, exchange_->mirror(), clock_, limits_,
      ViewSources{[this] { return port_status(); },
                  [this](std::size_t port) { return device_drops(port); },
                  [this] { return drops(); }, [this](api::StatusView* out) { add_status(out); },
                  [this](api::MetricsView* out) { add_metrics(out); }});
}

base::Status Engine::start_workers() {
  if (auto status = devices_->start(); !status) return status;
  std::vector<slowpath::StaticNeighbor> neighbors;
  for (const config::NeighborOptions& n : bootstrap_.neighbors)
    neighbors.push_back({static_cast<uint8_t>(n.port), n.address, n.mac});
  if (auto status = workers_->start(); !status) return status;
  slow_path_->configure(around_.ports, neighbors, clock_.now());
  slow_path_->update(changes_->running().snapshot, clock_.now());
  return base::Done{};
}

base::Status Engine::open_peers() {
  if (cluster_.peers() == 0) return base::Done{};
  auto peers = Peers::open(io_, bootstrap_, limits_.entries, *exchange_, *home_rings_, reporter_,
                           clock_, random_.next());
  if (!peers) return peers.errors();
  peers_ = std::move(peers.value());
  if (const auto& file = bootstrap_.mirroring->secret_file) {
    const auto key = mirroring::load_key(*file, failover::kHeartbeatLabel);
    if (!key) return key.errors();
    seal_.emplace(key.value());
  }
  return base::Done{};
}

Engine::~Engine() {
  server_.reset();
  if (helper_) helper_->join();
  if (disk_) disk_->join();
  if (spare_) spare_->join();
  if (workers_) workers_->stop();
  if (devices_) devices_->stop();
  // What is still in rings and with neighbours goes back to the pool before the pool goes.
  slow_path_.reset();
}

// --- what to begin with
// ---------------------------------------------------------------------------

// The document on disk, unless the bootstrap's has a higher generation, and the marks on disk. What
// is of no use is passed over.
base::Status Engine::open_state(std::optional<std::string> document) {
  std::optional<std::string> stored;
  std::optional<std::string> marks;
  if (bootstrap_.state_directory) {
    auto state = StateDirectory::open(*bootstrap_.state_directory);
    if (!state) return state.errors();
    state_.emplace(std::move(state.value()));
    const auto load = [this](std::string_view name) -> std::optional<std::string> {
      auto loaded = state_->load(name);
      if (loaded) return std::move(loaded.value());
      reporter_.report(EventName::kConfigRefused, bootstrap_.name, loaded.errors().front().message);
      return std::nullopt;
    };
    stored = load(StateDirectory::kDocument);
    marks = load(StateDirectory::kHealthMarks);
  }
  std::vector<First> documents;
  if (stored) documents.push_back({std::move(*stored), true});
  if (document) documents.push_back({std::move(*document), false});
  const auto generation = [](const First& first) -> uint64_t {
    const auto parsed = config::parse_document(first.text);
    return parsed ? parsed.value().generation.value_or(0) : 0;
  };
  if (documents.size() == 2 && generation(documents[1]) > generation(documents[0]))
    std::swap(documents[0], documents[1]);
  begin_with(std::move(documents));
  if (marks) {
    changes_->add({.change = SetMarks{std::move(*marks), true}, .keep = Changes::Keep::kNothing});
  }
  if (state_) return open_table();
  return base::Done{};
}

// With the first, or if that is refused with the next, before anything that waits. A stored one
// that is refused is kept: the version that wrote it may be wanted again.
void Engine::begin_with(std::vector<First> documents) {
  if (documents.empty()) return;
  First first = std::move(documents.front());
  documents.erase(documents.begin());
  const bool stored = first.stored;
  const auto next = [this, stored, rest = std::move(documents)](const Refused& refused) {
    if (refused.http_status == 500) return;  // it runs, but is not on disk
    if (stored) {
      if (const auto kept = state_->set_aside(StateDirectory::kDocument); !kept)
        reporter_.report(EventName::kConfigRefused, bootstrap_.name, kept.errors().front().message);
    }
    begin_with(rest);
  };
  changes_->add_first({.change = PutDocument{.text = std::move(first.text)},
                       .keep = stored ? Changes::Keep::kNothing : Changes::Keep::kDocument,
                       .refused = next});
}

// The table that was on disk; one that is of no use is as good as none.
base::Status Engine::open_table() {
  keeper_ = std::make_unique<TableKeeper>(*exchange_);
  auto loaded = state_->load(StateDirectory::kTable);
  if (loaded && !loaded.value()) return base::Done{};
  auto reader = loaded ? TableReader::open(std::move(*loaded.value())) : loaded.errors();
  if (reader) {
    keeper_->begin_restore(std::move(reader.value()), wall_origin());
  } else {
    reporter_.report(EventName::kConfigRefused, bootstrap_.name, reader.errors().front().message);
  }
  return base::Done{};
}

// --- the control loop
// -----------------------------------------------------------------------------

void Engine::await_signals() {
  signals_.async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    if (signal != SIGHUP) {
      stopping_ = true;
      return;
    }
    reload();
    await_signals();
  });
}

void Engine::run() {
  await_signals();
  schedule_tick();
  // Not run(): a client that sends without pause must not keep ARP and timers waiting.
  for (timing::Duration before = port::thread_time(); !stopping_;) {
    io_.run_one();
    for (uint32_t i = 0; i < kHandlersPerTick && io_.poll_one() > 0; ++i) {
    }
    tick();
    const timing::Duration now = port::thread_time();
    steps_.observe(now - std::exchange(before, now));
  }
  shut_down();
  reporter_.tell_all();
}

void Engine::schedule_tick() {
  const timing::Duration wait = pace_.next(exchange_->list().last(), clock_.now());
  timer_.expires_after(wait);
  timer_.async_wait([this, due = clock_.now() + wait](const boost::system::error_code& error) {
    if (error) return;
    tick_delays_.observe(clock_.now() - due);
    telling_is_due_ = true;
    schedule_tick();
  });
}

void Engine::tick() {
  const Instant now = clock_.now();
  drain_punts();
  slow_path_->tick(now);
  workers_->tick(*spare_, now);
  changes_->tick();
  news_->read();
  keep_table();
  exchange_->tick(clock_.now());
  if (peers_) peers_->tick(std::exchange(telling_is_due_, false));
  if (ownership_) ownership_->tick();
  questions_->tick();
  entries_->tick();
  deletions_->tick();
  // Slots that are being counted keep their owners.
  if (!views_->is_behind()) retirement_->tick(now);
  watch_->tick(now);
  views_->tick();
  reporter_.tick();
  if (now - telemetry_published_ < kTelemetryInterval) return;
  telemetry_published_ = now;
  api::publish_telemetry(views_->telemetry());
}

void Engine::drain_punts() {
  const Instant now = clock_.now();
  for (auto& ring : workers_->wiring().punted) {
    packet::Buffer* b = nullptr;
    for (uint32_t i = 0; i < kPuntsPerTick && ring.pop(&b); ++i) slow_path_->receive(b, now);
  }
}

// SIGHUP: the bootstrap's document, as if it had been put.
void Engine::reload() {
  const auto refuse = [this](std::string_view why) {
    reporter_.report(EventName::kConfigRefused, bootstrap_.name, why);
  };
  if (!bootstrap_.document) return refuse("SIGHUP: the engine's file names no document to read");
  // Read aside: the disk may be slow.
  const auto text = std::make_shared<std::optional<std::string>>();
  disk_->run([path = *bootstrap_.document, text] { *text = read_document(path); },
             [this, refuse, text] {
               if (*text) return changes_->add({.change = PutDocument{.text = std::move(**text)}});
               refuse(fmt::format("SIGHUP: {} cannot be read", bootstrap_.document->string()));
             });
}

// The next step of the start, or of keeping the table on disk.
void Engine::keep_table() {
  const Instant now = clock_.now();
  switch (stage_) {
    case Stage::kDocument:
      if (!changes_->idle()) return;
      stage_ = Stage::kRestore;
      [[fallthrough]];
    case Stage::kRestore:
      if (keeper_ && !keeper_->restore(now)) return;
      fence_ = exchange_->begin_fence();
      stage_ = Stage::kFence;
      return;
    case Stage::kFence:
      if (!exchange_->has_passed(fence_)) return;
      stage_ = Stage::kRunning;
      if (peers_) start_election();
      return;
    case Stage::kRunning:
      if (!keeper_) return;
      if (auto pieces = keeper_->collect(now, wall_origin())) store_table(std::move(*pieces));
      return;
  }
}

// Peers can be heard from now on.
void Engine::start_election() {
  Ownership::Hooks hooks{
      .session = [this](std::size_t peer) { return peers_->session(peer); },
      .say = [this](std::size_t peer,
                    std::span<const uint8_t> body) { peers_->say_groups(peer, body); },
      .addresses = [this](std::size_t peer) { return peers_->addresses(peer); },
      .send =
          [this](const net::Address& to, std::span<const uint8_t> datagram) {
            snapshot::Hop hop;
            if (to.is_link_local() || !changes_->running().snapshot->route(to, &hop)) return;
            slow_path_->send_heartbeat(hop, to, base::kHeartbeatPort, datagram, clock_.now());
          },
      .announce = [this] { slow_path_->announce_again(clock_.now()); }};
  ownership_ = std::make_unique<Ownership>(peers_->election_options(), seal_, *workers_, *changes_,
                                           *exchange_, reporter_, clock_, std::move(hooks));
  peers_->start([this](std::size_t peer, std::span<const uint8_t> body, Instant now) {
    ownership_->hear(peer, body, now);
  });
}

void Engine::store_table(std::vector<std::string> pieces) {
  const auto content = std::make_shared<std::vector<std::string>>(std::move(pieces));
  const auto status = std::make_shared<base::Status>(base::Done{});
  disk_->run(
      [this, content, status] {
        const std::vector<std::string_view> views(content->begin(), content->end());
        *status = state_->save(StateDirectory::kTable, views);
        content->clear();  // here, for it takes time
      },
      [this, status] {
        keeper_->saved(status->ok(), clock_.now());
        if (*status) return;
        reporter_.report(EventName::kConfigRefused, bootstrap_.name,
                         "the persist table is not on disk: " + status->errors().front().message);
      });
}

// A clean stop: peers are told, and what homes have said last is on disk. First what others wait
// for: they take over when they have heard the end.
void Engine::shut_down() {
  workers_->stop();
  do news_->read();
  while (!workers_->say_last() || news_->any());
  if (peers_) take_leave();
  helper_->join();
  disk_->join();
  if (!keeper_ || stage_ != Stage::kRunning) return;
  const std::vector<std::string> content = keeper_->collect_all(wall_origin());
  const std::vector<std::string_view> views(content.begin(), content.end());
  if (const auto status = state_->save(StateDirectory::kTable, views); !status) {
    reporter_.report(EventName::kConfigRefused, bootstrap_.name,
                     "the persist table is not on disk: " + status.errors().front().message);
  }
}

// Peers are told the last closes, as far as that takes no time to speak of, and that it is over.
void Engine::take_leave() {
  const Instant end = clock_.now() + kLeaveMax;
  while (!peers_->have_told_all(clock_.now()) && clock_.now() < end) {
    peers_->tick(/*due=*/true);
    io_.run_one_for(kLeaveTick);
  }
  peers_->close();
}

// --- what becomes of a change
// ---------------------------------------------------------------------

void Engine::use_scopes(const snapshot::Snapshot& s) {
  std::vector<mirroring::Exchange::Scope> scopes;
  for (const snapshot::Scope& scope : s.scopes) {
    if (!scope.live) continue;
    const auto half = scope.timeout / 2;
    const bool fixed = scope.update_interval != timing::Duration::zero();
    scopes.push_back(
        {.id = scope.id,
         .slot = scope.slot,
         .mirrored = scope.mirrored,
         .keep = scope.timeout + (fixed ? std::min(scope.update_interval, half) : half)});
  }
  exchange_->use(scopes, s.version, clock_.now());
}

void Engine::publishing(Prepared& prepared) {
  use_scopes(*prepared.next.snapshot);
  slow_path_->update(std::move(prepared.plan), clock_.now());
}

void Engine::applied(const Change& change, const Prepared& prepared) {
  if (std::holds_alternative<PutDocument>(change)) {
    reporter_.report(EventName::kConfigApplied, bootstrap_.name,
                     fmt::format("generation {}, {} of {} virtual services are served, {} warnings",
                                 prepared.generation, prepared.served, prepared.virtual_services,
                                 prepared.warnings.size()));
    if (ownership_) ownership_->configure();
  }
  for (const health::Transition& t : prepared.transitions) {
    reporter_.add(
        t.up ? EventName::kServerUp : EventName::kServerDown, t.pool + " " + t.server,
        fmt::format("{}{}{}", health::to_string(t.source), t.reason.empty() ? "" : ": ", t.reason));
  }
  for (const ServiceTransition& t : prepared.service_transitions) {
    reporter_.add(t.serving ? EventName::kVsUp : EventName::kVsDown, t.object,
                  t.serving ? "a server can take clients" : t.reason);
  }
  reporter_.tick();
}

void Engine::refused(const Change& change, const Refused& refused) {
  const base::Error& first = refused.errors.front();
  const bool document = std::holds_alternative<PutDocument>(change);
  if (!document && stage_ != Stage::kDocument) return;  // whoever sent the marks is told
  reporter_.report(EventName::kConfigRefused, bootstrap_.name,
                   fmt::format("{}{} errors; the first: {}: {}", document ? "" : "health marks: ",
                               refused.errors.size(), first.path, first.message));
}

// The disk's thread.
base::Status Engine::store(const std::string* document, const std::string* marks) {
  if (document != nullptr) {
    if (auto status = state_->save(StateDirectory::kDocument, *document); !status) return status;
  }
  if (marks == nullptr) return base::Done{};
  return state_->save(StateDirectory::kHealthMarks, *marks);
}

// --- the API
// --------------------------------------------------------------------------------------

void Engine::put_config(std::string body, api::PutOptions options,
                        api::Answer<api::Outcome<api::ConfigApplied>> answer) {
  changes_->add({.change = PutDocument{.text = std::move(body), .if_serving = options.if_serving},
                 .applied =
                     [answer](const Prepared& p) {
                       answer(api::ConfigApplied{.generation = p.generation,
                                                 .warnings = p.warnings,
                                                 .served = p.served,
                                                 .virtual_services = p.virtual_services});
                     },
                 .refused =
                     [answer](const Refused& r) {
                       answer(api::Refusal{r.http_status, r.errors});
                     }});
}

void Engine::get_config(api::Answer<std::shared_ptr<const std::string>> answer) {
  answer(changes_->running().text);
}

void Engine::health_marks(std::string body, api::Answer<api::Outcome<api::MarksApplied>> answer) {
  changes_->add({.change = SetMarks{.text = std::move(body)},
                 .applied = [answer](const Prepared& p) { answer(api::MarksApplied{p.marks}); },
                 .refused =
                     [answer](const Refused& r) {
                       answer(api::Refusal{r.http_status, r.errors});
                     }});
}

void Engine::list_entries(api::EntryFilter filter, api::PageRequest page,
                          api::Answer<api::Outcome<api::EntryPage>> answer) {
  entries_->list(filter, page, std::move(answer));
}

void Engine::delete_entries(api::EntryFilter filter, Deletions::Answer answer) {
  worker::EntryFilter wanted;
  bool nobody = false;
  if (auto refused = entries_->resolve(filter, &wanted, &nobody))
    return answer(std::move(*refused));
  if (nobody) return answer(api::EntriesRemoved{0});
  deletions_->remove(std::move(wanted), std::move(answer));
}

void Engine::explain(api::ExplainRequest request,
                     api::Answer<api::Outcome<api::Explanation>> answer) {
  explainer_->explain(request, std::move(answer));
}

void Engine::status(api::Answer<api::StatusView> answer) {
  news_->read();
  views_->status(std::move(answer));
}

void Engine::metrics(api::Answer<api::MetricsView> answer) {
  news_->read();
  views_->metrics(std::move(answer));
}

// --- what views ask
// -------------------------------------------------------------------------------

std::vector<api::PortStatus> Engine::port_status() const {
  std::vector<api::PortStatus> out;
  for (const port::PortInfo& p : devices_->ports()) {
    api::PortStatus port;
    port.name = p.name;
    port.mac = p.mac.to_string();
    port.link = devices_->link_up(p.device) ? "up" : "down";
    port.rx_packets = workers_->sum(
        [&](const worker::Core& c) { return c.output().port(p.index).rx_packets.get(); });
    port.tx_packets = workers_->sum(
        [&](const worker::Core& c) { return c.output().port(p.index).tx_packets.get(); });
    out.push_back(std::move(port));
  }
  return out;
}

void Engine::add_status(api::StatusView* out) const {
  out->groups = ownership_ ? ownership_->status()
                           : groups_without_election(changes_->running(), bootstrap_.name,
                                                     /*elects=*/peers_ != nullptr);
  if (peers_) peers_->add_status(out);
}

void Engine::add_metrics(api::MetricsView* out) const {
  add_port_metrics(out);
  if (peers_) peers_->add_metrics(out);
  add_exchange(*exchange_, keeper_.get(), out);
  if (ownership_) add_failover_metrics(out);
  api::MetricFamily delays{"limpet_control_delay_seconds",
                           "How late the control thread's timer of one millisecond came: what the "
                           "thread did meanwhile, or who had its core.",
                           api::MetricType::kHistogram,
                           {}};
  api::add(&delays, {}, tick_delays_);
  api::MetricFamily steps{"limpet_control_step_seconds",
                          "Processor time of a step of the control thread.",
                          api::MetricType::kHistogram,
                          {}};
  api::add(&steps, {}, steps_);
  out->more.push_back(std::move(delays));
  out->more.push_back(std::move(steps));
  out->packet_buffers = pool_->size();
  out->packet_buffers_in_use = pool_->size() - std::min(pool_->available(), pool_->size());
  out->snat_ports_in_use = workers_->source_ports_in_use();
  for (const auto& n : slow_path_->neighbors()) {
    ++out->neighbors;
    if (n.mac.is_zero()) ++out->neighbors_unresolved;
  }
}

void Engine::add_port_metrics(api::MetricsView* out) const {
  for (const port::PortInfo& p : devices_->ports()) {
    api::PortMetrics port;
    port.name = p.name;
    port.link_up = devices_->link_up(p.device);
    for (uint32_t w = 0; w < workers_->count(); ++w) {
      const egress::PortCounters& counters = workers_->core(w).output().port(p.index);
      port.rx_packets += counters.rx_packets;
      port.tx_packets += counters.tx_packets;
      port.rx_bytes += counters.rx_bytes;
      port.tx_bytes += counters.tx_bytes;
    }
    out->ports.push_back(std::move(port));
  }
}

// Of ports that share a device the first has them: whose they would have been nobody knows.
packet::DropCounts Engine::device_drops(std::size_t port) {
  packet::DropCounts out{};
  const uint16_t device = devices_->ports()[port].device;
  for (std::size_t p = 0; p < port; ++p) {
    if (devices_->ports()[p].device == device) return out;
  }
  devices_->stats(device).add_to(&out);
  return out;
}

std::vector<api::ReasonCount> Engine::drops() {
  packet::DropCounts of_devices{};
  for (uint16_t d = 0; d < devices_->devices().size(); ++d) devices_->stats(d).add_to(&of_devices);
  std::vector<api::ReasonCount> out;
  for (std::size_t r = 0; r < packet::kDropReasons; ++r) {
    const uint64_t of_workers = workers_->sum([&](const worker::Core& core) {
      uint64_t sum = 0;
      for (std::size_t p = 0; p < around_.ports.size(); ++p) sum += core.output().drops(p)[r];
      return sum;
    });
    out.push_back(
        {std::string(packet::kDropReasonNames[r]), of_devices[r] + control_drops_[r] + of_workers});
  }
  return out;
}

void Engine::add_failover_metrics(api::MetricsView* out) const {
  for (api::MetricFamily& family : ownership_->metrics()) out->more.push_back(std::move(family));
  out->more.push_back({"limpet_heartbeats_sent_total",
                       "Heartbeats on the data network.",
                       api::MetricType::kCounter,
                       {{{}, static_cast<double>(slow_path_->counters().heartbeats_sent)}}});
  const uint64_t adopted =
      workers_->sum([](const worker::Core& c) { return c.forwarder().readopted().get(); });
  out->more.push_back({"limpet_flows_readopted_total",
                       "Connections opened through another engine that go on through this one.",
                       api::MetricType::kCounter,
                       {{{}, static_cast<double>(adopted)}}});
}

// --- the slow path's link
// -------------------------------------------------------------------------

packet::Buffer* Engine::allocate() {
  return packet::allocate(pool_->get());
}

void Engine::transmit(packet::Buffer* frame) {
  const uint8_t port = packet::meta(frame).port;
  const uint16_t device = devices_->ports()[port].device;
  const uint16_t worker = devices_->queues().transmit[device][0].worker;
  if (workers_->wiring().injected[worker].push(frame)) return;
  drop(packet::DropReason::kTransmitFull);
  packet::release(frame);
}

void Engine::neighbor(const egress::NeighborUpdate& update) {
  worker::ControlMessage message;
  message.neighbor = update;
  questions_->send_all(message);
}

void Engine::event(std::string_view name, std::string_view object, std::string_view message) {
  LIMPET_ASSERT(name == telemetry::to_string(EventName::kAddressConflict));
  reporter_.report(EventName::kAddressConflict, object, message);
}

void Engine::heartbeat(const net::Address& from, std::span<const uint8_t> datagram) {
  if (ownership_) ownership_->hear(from, datagram);
}

void Engine::drop(packet::DropReason reason) {
  ++control_drops_[static_cast<std::size_t>(reason)];
}

}  // namespace limpet::engine
