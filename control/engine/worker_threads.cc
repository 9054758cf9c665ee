#include "control/engine/worker_threads.h"

#include <algorithm>

namespace limpet::engine {

namespace {

// Of provide() in a step: servers looked at, and blocks made.
constexpr uint32_t kServersPerTick = 8192;
constexpr uint32_t kBlocksPerTick = 512;
constexpr std::size_t kCountedPerTick = 2048;
constexpr timing::Duration kCountInterval = timing::seconds(1);

std::vector<std::unique_ptr<port::TableMemory>> memory_for(const config::Bootstrap& bootstrap) {
  std::vector<std::unique_ptr<port::TableMemory>> out;
  const bool hugepages = bootstrap.memory.hugepages;
  for (uint32_t w = 0; w < bootstrap.worker_cores.size(); ++w)
    out.push_back(std::make_unique<port::TableMemory>(hugepages, port::numa_node_of(w)));
  out.push_back(std::make_unique<port::TableMemory>(hugepages, port::numa_node_of(port::kControl)));
  return out;
}

}  // namespace

WorkerThreads::WorkerThreads(const config::Bootstrap& bootstrap, const Options& options,
                             const port::Devices& devices, rte_mempool* pool,
                             const timing::Clock& clock, base::Random& random)
    : random_(random),
      memory_(memory_for(bootstrap)),
      shared_(std::make_unique<worker::Shared>(
          bootstrap.worker_cores.size(), options.limits.entries, random,
          replication::Rings::Capacity::for_cores(
              static_cast<uint32_t>(bootstrap.worker_cores.size())),
          memory_.back().get())),
      wiring_(static_cast<uint32_t>(bootstrap.worker_cores.size()), memory_.back().get()),
      threads_(static_cast<uint32_t>(bootstrap.worker_cores.size())),
      source_ports_(bootstrap.worker_cores.size()) {
  const auto workers = static_cast<uint32_t>(bootstrap.worker_cores.size());
  publisher_ = std::make_unique<snapshot::Publisher>(options.first, workers);
  for (uint32_t w = 0; w < workers; ++w) {
    source_port_memory_.push_back(std::make_unique<egress::SourcePortMemory>(
        egress::PortSlice::of(w, workers), memory_[w].get()));
    worker::Core::Options o;
    o.index = w;
    o.cores = workers;
    o.flows = options.limits.flows_per_worker;
    o.nats = base::kNatIdsMax;
    o.parked = options.limits.parked_per_worker;
    o.ports = bootstrap.ports.size();
    o.seed = random.next();
    o.rank = options.rank;
    o.peers = options.peers;
    o.heartbeats = options.peers && bootstrap.mirroring->secret_file.has_value();
    o.disk = bootstrap.state_directory.has_value();
    o.wall_origin = options.wall_origin;
    cores_.push_back(std::make_unique<worker::Core>(
        o, *shared_, pool,
        std::make_unique<packet::Reassembler>(reassembly_options(workers, options.limits),
                                              shared_->hash),
        clock.now(), memory_[w].get()));
    loops_.push_back(std::make_unique<worker::Loop>(worker::Loop::Options{w, bootstrap.idle_sleep},
                                                    *cores_[w], wiring_, devices,
                                                    publisher_->reader(w), clock));
  }
}

base::Status WorkerThreads::start() {
  for (uint32_t w = 0; w < count(); ++w) {
    auto status = threads_.launch(w, [this, w] { loops_[w]->run(stop_); });
    if (!status) return status;
  }
  return base::Done{};
}

void WorkerThreads::stop() {
  stop_ = true;
  threads_.join();
}

bool WorkerThreads::say_last() {
  LIMPET_ASSERT(stop_);
  std::vector<replication::Replica*> replicas;
  for (const auto& core : cores_) replicas.push_back(&core->replica());
  said_last_.resize(count());
  bool all = true;
  for (uint32_t w = 0; w < count(); ++w)
    all = replicas[w]->say_last(replicas, &said_last_[w]) && all;
  return all;
}

WorkerThreads::~WorkerThreads() {
  stop();
  empty_rings();
  loops_.clear();  // before the publisher, whose readers they have
}

void WorkerThreads::empty_rings() {
  packet::Buffer* b = nullptr;
  for (uint32_t w = 0; w < count(); ++w) {
    for (auto* ring : {&wiring_.punted[w], &wiring_.injected[w]}) {
      while (ring->pop(&b)) packet::release(b);
    }
    for (auto* mesh : {&wiring_.steered, &wiring_.handed}) {
      for (const uint32_t peer : mesh->peers(w)) {
        while (mesh->from(w).to(peer).pop(&b)) packet::release(b);
      }
    }
  }
}

void WorkerThreads::tick(Aside& spare, timing::Instant now) {
  auto old = publisher_->take_unused();
  if (!old.empty()) spare.dispose(std::move(old));
  count_source_ports(now);
}

// --- source ports
// ---------------------------------------------------------------------------------

// Blocks for servers that are new.
bool WorkerThreads::provide(const snapshot::Snapshot& next) {
  if (provided_version_ != next.version) {
    provided_version_ = next.version;
    provided_pool_ = provided_server_ = 0;
  }
  std::vector<uint32_t> missing;
  uint32_t looked_at = 0;
  const auto is_enough = [&] {
    return ++looked_at > kServersPerTick || missing.size() > kBlocksPerTick;
  };
  bool complete = true;
  for (; provided_pool_ < next.pools.size(); ++provided_pool_, provided_server_ = 0) {
    const auto& servers = next.pools[provided_pool_].servers;
    for (; provided_server_ < servers.size(); ++provided_server_) {
      if (is_enough()) {
        complete = false;
        break;
      }
      find_missing(servers[provided_server_], &missing);
    }
    if (!complete) break;
  }
  make_source_ports(std::move(missing));
  return complete;
}

void WorkerThreads::find_missing(const snapshot::Server& server, std::vector<uint32_t>* ids) const {
  const Blocks& known = source_ports_.front();
  for (const snapshot::NatId first : {server.tcp_nat, server.udp_nat}) {
    if (first == l4::kNoNat) continue;  // a protocol that nobody uses towards this server
    const auto end = static_cast<uint32_t>(first.value + server.sources.size());
    for (uint32_t id = first.value; id < end; ++id) {
      if (id >= known.size() || known[id] == nullptr) ids->push_back(id);
    }
  }
}

void WorkerThreads::make_source_ports(std::vector<uint32_t> ids) {
  // Pools may have a server in common.
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  if (ids.empty()) return;
  for (uint32_t w = 0; w < count(); ++w) {
    Blocks& blocks = source_ports_[w];
    if (blocks.size() <= ids.back()) blocks.resize(ids.back() + 1);
    source_port_memory_[w]->reserve(ids.size());
    for (const uint32_t id : ids) {
      blocks[id] = {std::pmr::polymorphic_allocator<>(&source_port_objects_)
                        .new_object<egress::SourcePorts>(egress::PortSlice::of(w, count()), random_,
                                                         source_port_memory_[w].get()),
                    Forget{&source_port_objects_}};
      cores_[w]->forwarder().nats()[id] = blocks[id].get();
    }
  }
}

uint32_t WorkerThreads::source_ports_in_use(compile::NatBlock block) const {
  uint32_t sum = 0;
  for (const Blocks& blocks : source_ports_) {
    const std::size_t end = std::min<std::size_t>(block.first.value + block.count, blocks.size());
    for (std::size_t id = block.first.value; id < end; ++id)
      sum += blocks[id] ? blocks[id]->in_use() : 0;
  }
  return sum;
}

void WorkerThreads::forget_source_ports(compile::NatBlock block) {
  for (uint32_t w = 0; w < count(); ++w) {
    Blocks& blocks = source_ports_[w];
    const std::size_t end = std::min<std::size_t>(block.first.value + block.count, blocks.size());
    for (std::size_t id = block.first.value; id < end; ++id) {
      cores_[w]->forwarder().nats()[id] = nullptr;
      blocks[id].reset();
    }
  }
}

// A slice: with ten thousands of servers all of them at once would be a step too long.
void WorkerThreads::count_source_ports(timing::Instant now) {
  if (counting_at_ == 0 && now - counted_at_ < kCountInterval) return;
  const std::size_t ids = source_ports_.front().size();
  const std::size_t end = std::min(counting_at_ + kCountedPerTick, ids);
  for (; counting_at_ < end; ++counting_at_) {
    for (const Blocks& blocks : source_ports_)
      counting_sum_ += blocks[counting_at_] ? blocks[counting_at_]->in_use() : 0;
  }
  if (counting_at_ < ids) return;
  counted_at_ = now;
  source_ports_counted_ = counting_sum_;
  counting_at_ = counting_sum_ = 0;
}

}  // namespace limpet::engine
