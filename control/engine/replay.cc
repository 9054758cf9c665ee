#include "control/engine/replay.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "common/telemetry/events.h"
#include "common/timing/manual_clock.h"
#include "control/engine/configurator.h"
#include "control/engine/sizing.h"
#include "control/slowpath/slow_path.h"
#include "dataplane/port/devices.h"
#include "dataplane/port/eal.h"
#include "dataplane/port/memory.h"
#include "dataplane/port/pool.h"
#include "dataplane/port/replay.h"
#include "dataplane/worker/turn.h"

namespace limpet::engine {

using telemetry::EventName;
using timing::Instant;
using timing::WallTime;

namespace {

constexpr uint64_t kSeed = 0x4c696d706574;
constexpr timing::Duration kStep = timing::milliseconds(100);  // between packets time moves so
constexpr Instant kStart{1'000'000'000};

// One element of the EVENTS array.
struct Event {
  timing::Duration at{};  // after the first packet
  std::optional<std::string> marks;
  std::optional<std::string> document;  // its text
  std::string path;                     // "/0"
};

base::Result<std::string> read_file(const std::filesystem::path& path, const std::string& where) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf()))
    return base::Error{where, fmt::format("cannot read {}", path.string())};
  return text.str();
}

base::Result<std::vector<Event>> read_events(const std::filesystem::path& path) {
  auto text = read_file(path, "");
  if (!text) return text.errors();
  const auto json = nlohmann::json::parse(text.value(), nullptr, false);
  if (!json.is_array()) return base::Error{"", "the events file is not a JSON array"};
  std::vector<Event> out;
  base::Errors errors;
  for (std::size_t i = 0; i < json.size(); ++i) {
    Event e;
    e.path = fmt::format("/{}", i);
    const auto& item = json[i];
    const auto at = item.is_object() ? item.find("at_s") : item.end();
    if (!item.is_object() || at == item.end() || !at->is_number() || at->get<double>() < 0 ||
        at->get<double>() > 1e9) {
      errors.push_back({e.path + "/at_s", "is required: seconds after the first packet"});
      continue;
    }
    e.at = std::chrono::duration_cast<timing::Duration>(
        std::chrono::duration<double>(at->get<double>()));
    for (const auto& [key, value] : item.items()) {
      if (key == "at_s") continue;
      if (key == "health_marks") {
        e.marks = value.dump();
      } else if (key == "document" && value.is_string()) {
        auto document =
            read_file(path.parent_path() / value.get<std::string>(), e.path + "/document");
        if (document) {
          e.document = document.value();
        } else {
          errors.push_back(document.errors().front());
        }
      } else {
        errors.push_back(
            {e.path + "/" + key, "is neither health_marks nor a document's file name"});
      }
    }
    out.push_back(std::move(e));
  }
  if (!errors.empty()) return errors;
  std::stable_sort(out.begin(), out.end(),
                   [](const Event& a, const Event& b) { return a.at < b.at; });
  return out;
}

class Replay final : private slowpath::Link {
 public:
  explicit Replay(const config::Bootstrap& bootstrap) : bootstrap_(bootstrap) {}
  ~Replay() override {
    slow_path_.reset();
    core_.reset();
    reader_.reset();
    if (devices_) devices_->stop();
  }

  base::Status open() {
    const Limits limits = resolve_limits(bootstrap_);
    auto pool = port::BufferPool::create(pool_options(bootstrap_, limits));
    if (!pool) return pool.errors();
    pool_.emplace(std::move(pool.value()));
    if (auto status = open_devices(); !status) return status;
    shared_ = std::make_unique<worker::Shared>(
        1, limits.entries, random_, replication::Rings::Capacity::for_cores(1), &memory_);
    worker::Core::Options options;
    options.flows = limits.flows_per_worker;
    options.nats = base::kNatIdsMax;
    options.parked = limits.parked_per_worker;
    options.ports = bootstrap_.ports.size();
    options.seed = random_.next();
    core_ = std::make_unique<worker::Core>(
        options, *shared_, pool_->get(),
        std::make_unique<packet::Reassembler>(reassembly_options(1, limits), shared_->hash),
        clock_.now(), &memory_);
    slowpath::Link& link = *this;
    slow_path_ = std::make_unique<slowpath::SlowPath>(link, base::Random(random_.next()));
    return base::Done{};
  }

  base::Status run(std::optional<std::string> document, const std::vector<Event>& events) {
    if (const auto first = reader_->peek()) clock_ = timing::ManualClock(kStart, *first);
    std::vector<slowpath::StaticNeighbor> neighbors;
    for (const config::NeighborOptions& n : bootstrap_.neighbors)
      neighbors.push_back({static_cast<uint8_t>(n.port), n.address, n.mac});
    slow_path_->configure(around_.ports, neighbors, clock_.now());
    if (document) {
      if (auto status = change(PutDocument{std::move(*document)}, "/document"); !status)
        return status;
    }
    for (std::size_t e = 0; e < events.size() || reader_->peek();) {
      const auto packet = reader_->peek();
      const Instant packet_at =
          packet ? clock_.now() + (*packet - clock_.wall()) : Instant::never();
      const Instant event_at = e < events.size() ? kStart + events[e].at : Instant::never();
      advance(std::min(packet_at, event_at));
      if (event_at <= packet_at) {
        if (auto status = happen(events[e++]); !status) return status;
        continue;
      }
      auto next = reader_->next();
      const uint16_t device = source_devices_[next->source];
      core_->arrive(next->buffer,
                    {ingress_[device].data(), static_cast<uint32_t>(ingress_[device].size())});
      ++received_;
      turn();
    }
    return finish();
  }

 private:
  // Packets and what the slow path says come to the core between its turns.
  struct Host : worker::PlainHost {
    Replay& replay;

    void flush() { replay.flush(); }
  };

  base::Status open_devices() {
    port::DevicesOptions options;
    options.pool = pool_->get();
    options.engine_name = bootstrap_.name;
    options.fixed_macs = true;
    std::vector<port::ReplayDevice> stripped;
    for (const config::PortOptions& p : bootstrap_.ports) {
      auto device = port::parse_device(p.device);
      if (!device) return device.errors();
      stripped.push_back(port::for_replay(device.value()));
      options.ports.push_back({p.name, stripped.back().device, p.mtu, p.mac, p.vlan});
    }
    auto devices = port::Devices::open(options);
    if (!devices) return devices.errors();
    devices_.emplace(std::move(devices.value()));
    if (auto status = devices_->start(); !status) return status;
    ingress_.resize(devices_->devices().size());
    writers_.resize(devices_->devices().size());
    std::vector<net::Mac> macs;
    for (const port::PortInfo& p : devices_->ports()) {
      macs.push_back(p.mac);
      ingress_[p.device].push_back({.port = p.index, .vlan = p.vlan, .mac = p.mac});
      const auto& outputs = stripped[p.index].outputs;
      if (outputs.empty() || writers_[p.device]) continue;
      auto writer = port::ReplayWriter::open(outputs.front());
      if (!writer) return writer.errors();
      writers_[p.device].emplace(std::move(writer.value()));
    }
    around_ = surroundings(bootstrap_, macs);
    running_ = Configuration::empty(around_);
    return open_reader();
  }

  base::Status open_reader() {
    auto times = port::CaptureTimes::find();
    if (!times) return times.errors();
    std::vector<uint16_t> queues;
    for (const port::DeviceInfo& d : devices_->devices()) {
      for (uint16_t q = 0; q < d.receive_queues; ++q) {
        source_devices_.push_back(d.id);
        queues.push_back(q);
      }
    }
    reader_ = std::make_unique<port::ReplayReader>(
        static_cast<uint32_t>(source_devices_.size()),
        [this, queues](uint32_t source) -> packet::Buffer* {
          packet::Buffer* b = nullptr;
          devices_->receive(source_devices_[source], queues[source], &b, 1);
          return b;
        },
        [times = times.value()](const packet::Buffer* b) { return times.of(b); });
    return base::Done{};
  }

  base::Status happen(const Event& event) {
    if (event.document) {
      if (auto s = change(PutDocument{*event.document}, event.path + "/document"); !s) return s;
    }
    if (event.marks) {
      if (auto s = change(SetMarks{*event.marks}, event.path + "/health_marks"); !s) return s;
    }
    return base::Done{};
  }

  base::Status change(Change change, const std::string& path) {
    auto outcome = prepare(running_, change, around_, clock_.now());
    if (auto* refused = std::get_if<Refused>(&outcome)) {
      for (base::Error& error : refused->errors) error.path = path + error.path;
      return refused->errors;
    }
    auto& prepared = std::get<Prepared>(outcome);
    for (const snapshot::Pool& pool : prepared.next.snapshot->pools) make_source_ports(pool);
    // The one before stays alive until the core has taken the next.
    const Configuration before = std::exchange(running_, std::move(prepared.next));
    slow_path_->update(running_.snapshot, clock_.now());
    while (core_->stats().swept_version < running_.snapshot->version) turn();
    for (const health::Transition& t : prepared.transitions) {
      events_.record(clock_.now(), clock_.wall(),
                     t.up ? EventName::kServerUp : EventName::kServerDown, t.pool + " " + t.server,
                     t.reason);
    }
    return base::Done{};
  }

  void make_source_ports(const snapshot::Pool& pool) {
    for (const snapshot::Server& server : pool.servers) {
      for (const snapshot::NatId first : {server.tcp_nat, server.udp_nat}) {
        if (first == l4::kNoNat) continue;
        for (uint32_t id = first.value; id < first.value + server.sources.size(); ++id) {
          if (source_ports_.size() <= id) source_ports_.resize(id + 1);
          if (source_ports_[id]) continue;
          source_ports_[id] =
              std::make_unique<egress::SourcePorts>(egress::PortSlice::of(0, 1), random_);
          core_->forwarder().nats()[id] = source_ports_[id].get();
        }
      }
    }
  }

  // Moves time to `until`, stopping where something may be due.
  void advance(Instant until) {
    while (clock_.now() < until) {
      const Instant now = clock_.now();
      Instant next = std::min(until, now + kStep);
      const Instant due = slow_path_->next_deadline();
      if (due > now) next = std::min(next, due);
      clock_.advance(next - now);
      const Instant drain = running_.drains.next_deadline(now);
      if (drain <= clock_.now()) {
        const auto status = change(Recompile{}, "");
        LIMPET_ASSERT(status.ok());
      }
      turn();
    }
  }

  void turn() {
    events_.tell_suppressed(clock_.now());
    worker::turn(*core_, Host{{*core_, *running_.snapshot, clock_.now()}, *this});
    slow_path_->tick(clock_.now());
  }

  void flush() {
    for (binding::Change change; shared_->rings.news.front().pop(&change);) {
    }
    for (uint8_t p = 0; p < bootstrap_.ports.size(); ++p) {
      for (packet::Buffer* b : core_->output().tx(p)) transmit(b);
      core_->output().tx(p).clear();
    }
    for (packet::Buffer* b : core_->output().punted()) slow_path_->receive(b, clock_.now());
    core_->output().punted().clear();
  }

  base::Status finish() {
    events_.tell_all_suppressed(clock_.now());
    for (auto& writer : writers_) {
      if (!writer) continue;
      if (auto status = writer->finish(); !status) return status;
    }
    uint64_t drops = 0;
    for (std::size_t p = 0; p < bootstrap_.ports.size(); ++p) {
      for (const auto& counter : core_->output().drops(p)) drops += counter;
    }
    packet::DropCounts of_devices{};
    for (uint16_t d = 0; d < devices_->devices().size(); ++d)
      devices_->stats(d).add_to(&of_devices);
    drops += std::accumulate(of_devices.begin(), of_devices.end(), uint64_t{0});
    fmt::print("{} packets in, {} out, {} dropped, {} flows, {} persistence entries\n", received_,
               sent_, drops, core_->forwarder().flows().size(), core_->table().size());
    return base::Done{};
  }

  // slowpath::Link
  packet::Buffer* allocate() override { return packet::allocate(pool_->get()); }
  void transmit(packet::Buffer* frame) override {
    const uint16_t device = devices_->ports()[packet::meta(frame).port].device;
    if (writers_[device]) writers_[device]->write(frame, clock_.wall());
    ++sent_;
    packet::release(frame);
  }
  void neighbor(const egress::NeighborUpdate& update) override {
    worker::ControlMessage message;
    message.neighbor = update;
    core_->message(message);
  }
  void event(std::string_view, std::string_view object, std::string_view message) override {
    events_.record(clock_.now(), clock_.wall(), EventName::kAddressConflict, object, message);
  }
  void heartbeat(const net::Address&, std::span<const uint8_t>) override {}  // has no peers
  void drop(packet::DropReason) override {}

  const config::Bootstrap& bootstrap_;
  timing::ManualClock clock_{kStart};
  base::Random random_{kSeed};
  port::TableMemory memory_{false, -1};
  std::optional<port::BufferPool> pool_;
  std::optional<port::Devices> devices_;
  std::vector<std::vector<packet::Ingress>> ingress_;       // by device
  std::vector<std::optional<port::ReplayWriter>> writers_;  // by device
  std::vector<uint16_t> source_devices_;                    // by source of the reader
  std::unique_ptr<port::ReplayReader> reader_;
  std::unique_ptr<worker::Shared> shared_;
  std::unique_ptr<worker::Core> core_;
  std::vector<std::unique_ptr<egress::SourcePorts>> source_ports_;  // by NatId
  std::unique_ptr<slowpath::SlowPath> slow_path_;
  Surroundings around_;
  Configuration running_;
  telemetry::EventLog events_{&std::cerr};
  uint64_t received_ = 0;
  uint64_t sent_ = 0;
};

}  // namespace

base::Status replay(const config::Bootstrap& bootstrap, std::optional<std::string> document,
                    const std::optional<std::filesystem::path>& events, bool* device_failure) {
  *device_failure = false;
  std::vector<Event> list;
  if (events) {
    auto read = read_events(*events);
    if (!read) return read.errors();
    list = std::move(read.value());
  }
  *device_failure = true;
  port::EalOptions options;
  options.name = bootstrap.name;
  options.replay = true;
  options.control_core = bootstrap.control_core;
  options.hugepages = bootstrap.memory.hugepages;
  options.memory_mb = bootstrap.memory.size_mb;
  options.extra = bootstrap.eal;
  auto eal = port::Eal::start(options);
  if (!eal) return eal.errors();
  Replay run(bootstrap);
  if (auto status = run.open(); !status) return status;
  *device_failure = false;
  return run.run(std::move(document), list);
}

}  // namespace limpet::engine
