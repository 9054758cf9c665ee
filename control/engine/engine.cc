#include "control/engine/engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <csignal>
#include <iostream>
#include <random>

#include "control/api/telemetry.h"

namespace limpet::engine {

using timing::Instant;

namespace {

constexpr auto kTick = std::chrono::milliseconds(1);
constexpr uint32_t kPuntsPerTick = 256;  // of each worker
constexpr uint32_t kHandlersPerTick = 64;

}  // namespace

Engine::Engine(const config::Bootstrap& bootstrap, port::Eal eal)
    : bootstrap_(bootstrap),
      eal_(std::move(eal)),
      random_(std::random_device{}() * 0x100000001ULL + std::random_device{}()),
      limits_(resolve_limits(bootstrap)),
      started_(clock_.now()),
      engine_names_{bootstrap.name},
      messages_(bootstrap.worker_cores.size()),
      busy_(bootstrap.worker_cores.size()),
      events_(&std::cerr) {
  if (!bootstrap_.mirroring) return;
  for (const config::PeerOptions& peer : bootstrap_.mirroring->peers)
    engine_names_.push_back(peer.name);
  std::sort(engine_names_.begin(), engine_names_.end());
}

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
  auto eal = port::Eal::start(options);
  if (!eal) return eal.errors();
  std::unique_ptr<Engine> engine(new Engine(bootstrap, std::move(eal.value())));
  if (auto status = engine->open(std::move(document)); !status) return status.errors();
  return engine;
}

base::Status Engine::open(std::optional<std::string> document) {
  if (auto status = open_devices(limits_); !status) return status;
  make_cores();
  if (auto status = start_workers(); !status) return status;
  if (auto status = open_state(std::move(document)); !status) return status;
  if (auto status = open_mirroring(); !status) return status;
  auto server = api::Server::open(io_, bootstrap_.api, *this, events_);
  if (!server) return server.errors();
  server_ = std::move(server.value());
  if (auto status = api::register_telemetry(); !status) return status;
  return base::Done{};
}

// What to begin with: the document on disk, unless the bootstrap's has a higher generation, and the
// marks on disk.
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
      emit(telemetry::EventName::kConfigRefused, bootstrap_.name, loaded.errors().front().message);
      return std::nullopt;
    };
    stored = load(StateDirectory::kDocument);
    marks = load(StateDirectory::kHealthMarks);
  }
  const auto generation = [](const std::optional<std::string>& text) -> uint64_t {
    if (!text) return 0;
    const auto parsed = config::parse_document(*text);
    return parsed ? parsed.value().generation.value_or(0) : 0;
  };
  if (stored && generation(document) <= generation(stored)) document = std::move(stored);
  if (document) operations_.push_back({PutDocument{std::move(*document)}, {}, {}});
  if (marks) operations_.push_back({SetMarks{std::move(*marks), true}, {}, {}});
  if (state_) return open_table();
  return base::Done{};
}

base::Status Engine::open_devices(const Limits& limits) {
  auto pool = port::BufferPool::create(pool_options(bootstrap_, limits));
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
  std::vector<net::Mac> macs;
  for (const port::PortInfo& p : devices_->ports()) macs.push_back(p.mac);
  around_ = surroundings(bootstrap_, macs);
  if (bootstrap_.mirroring) {
    for (const config::PeerOptions& peer : bootstrap_.mirroring->peers)
      around_.peers.push_back(peer.name);
  }
  running_ = Configuration::empty(around_);
  return base::Done{};
}

void Engine::make_cores() {
  const auto workers = static_cast<uint32_t>(bootstrap_.worker_cores.size());
  const bool hugepages = bootstrap_.memory.hugepages;
  for (uint32_t w = 0; w < workers; ++w) {
    memory_.push_back(std::make_unique<port::TableMemory>(hugepages, port::numa_node_of(w)));
  }
  memory_.push_back(
      std::make_unique<port::TableMemory>(hugepages, port::numa_node_of(port::kControl)));
  const auto rings = replication::Rings::Capacity::for_cores(workers);
  shared_ = std::make_unique<worker::Shared>(workers, limits_.entries, random_, rings,
                                             memory_.back().get());
  make_exchange();
  wiring_ = std::make_unique<worker::Wiring>(workers, memory_.back().get());
  publisher_ = std::make_unique<snapshot::Publisher>(running_.snapshot, workers);
  source_ports_.resize(workers);
  for (uint32_t w = 0; w < workers; ++w) {
    worker::Core::Options options;
    options.index = w;
    options.cores = workers;
    options.flows = limits_.flows_per_worker;
    options.nats = base::kNatIdsMax;
    options.ports = bootstrap_.ports.size();
    options.seed = random_.next();
    options.rank = rank();
    options.peers = engine_names_.size() > 1;
    options.heartbeats = options.peers && bootstrap_.mirroring->secret_file.has_value();
    options.disk = bootstrap_.state_directory.has_value();
    options.wall_origin = wall_origin();
    cores_.push_back(std::make_unique<worker::Core>(
        options, *shared_, pool_->get(),
        std::make_unique<packet::Reassembler>(kDatagramsMax, timing::seconds(2),
                                              port::numa_node_of(w)),
        clock_.now(), memory_[w].get()));
    loops_.push_back(std::make_unique<worker::Loop>(worker::Loop::Options{w, bootstrap_.idle_sleep},
                                                    *cores_[w], *wiring_, *devices_,
                                                    publisher_->reader(w), clock_));
  }
  slowpath::Link& link = *this;
  slow_path_ = std::make_unique<slowpath::SlowPath>(link, base::Random(random_.next()));
}

base::Status Engine::start_workers() {
  if (auto status = devices_->start(); !status) return status;
  std::vector<slowpath::StaticNeighbor> neighbors;
  for (const config::NeighborOptions& n : bootstrap_.neighbors)
    neighbors.push_back({static_cast<uint8_t>(n.port), n.address, n.mac});
  workers_ = std::make_unique<port::Workers>(static_cast<uint32_t>(cores_.size()));
  for (uint32_t w = 0; w < cores_.size(); ++w) {
    auto status = workers_->launch(w, [this, w] { loops_[w]->run(stop_workers_); });
    if (!status) return status;
  }
  slow_path_->configure(around_.ports, neighbors, clock_.now());
  slow_path_->update(running_.snapshot, clock_.now());
  return base::Done{};
}

Engine::~Engine() {
  server_.reset();
  helper_.join();
  disk_.join();
  stop_workers_ = true;
  if (workers_) workers_->join();
  workers_.reset();
  if (devices_) devices_->stop();
  // What is still in rings goes back to the pool before the pool goes.
  if (wiring_) {
    packet::Buffer* b = nullptr;
    for (uint32_t w = 0; w < cores_.size(); ++w) {
      for (auto* ring : {&wiring_->punted[w], &wiring_->injected[w]}) {
        while (ring->pop(&b)) packet::release(b);
      }
      for (auto* mesh : {&wiring_->steered, &wiring_->handed}) {
        for (const uint32_t peer : mesh->peers(w)) {
          while (mesh->from(w).to(peer).pop(&b)) packet::release(b);
        }
      }
    }
  }
  slow_path_.reset();
  loops_.clear();
  cores_.clear();
}

// --- the control loop
// -----------------------------------------------------------------------------

void Engine::run() {
  signals_.add(SIGTERM);
  signals_.add(SIGINT);
  signals_.async_wait([this](const boost::system::error_code& error, int) {
    if (!error) stopping_ = true;
  });
  schedule_tick();
  // Not run(): a client that sends without pause must not keep ARP and timers waiting.
  while (!stopping_) {
    io_.run_one();
    for (uint32_t i = 0; i < kHandlersPerTick && io_.poll_one() > 0; ++i) {
    }
    tick();
  }
  shut_down();
  events_.tell_all_suppressed(clock_.now());
}

void Engine::schedule_tick() {
  timer_.expires_after(kTick);
  timer_.async_wait([this, due = clock_.now() + kTick](const boost::system::error_code& error) {
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
  flush_messages();
  publisher_->reclaim();
  finish_published();
  pump();
  drain_news();
  keep_table();
  exchange_news();
  watch_peers();
  elect();
  finish_questions();
  go_on_listing();
  go_on_counting();
  finish_deletions();
  watch();
}

void Engine::drain_punts() {
  const Instant now = clock_.now();
  for (auto& ring : wiring_->punted) {
    packet::Buffer* b = nullptr;
    for (uint32_t i = 0; i < kPuntsPerTick && ring.pop(&b); ++i) slow_path_->receive(b, now);
  }
}

void Engine::flush_messages() {
  for (uint32_t w = 0; w < messages_.size(); ++w) {
    while (!messages_[w].empty() && wiring_->messages[w].push(messages_[w].front()))
      messages_[w].pop_front();
  }
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
  if (wiring_->injected[worker].push(frame)) return;
  drop(packet::DropReason::kTransmitFull);
  packet::release(frame);
}

void Engine::neighbor(const l4::NeighborUpdate& update) {
  worker::ControlMessage message;
  message.neighbor = update;
  for (auto& queue : messages_) queue.push_back(message);
}

void Engine::event(std::string_view name, std::string_view object, std::string_view message) {
  LIMPET_ASSERT(name == telemetry::to_string(telemetry::EventName::kAddressConflict));
  emit(telemetry::EventName::kAddressConflict, object, message);
}

void Engine::drop(packet::DropReason reason) {
  ++control_drops_[static_cast<std::size_t>(reason)];
}

void Engine::emit(telemetry::EventName name, std::string_view object, std::string_view message) {
  events_.record(clock_.now(), clock_.wall(), name, object, message);
}

}  // namespace limpet::engine
