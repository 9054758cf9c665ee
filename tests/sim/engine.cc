#include "tests/sim/engine.h"

#include <algorithm>
#include <utility>

#include "tests/sim/world.h"

namespace limpet::sim {

using packet::Buffer;
using snapshot::Snapshot;

namespace {

constexpr std::size_t kNats = 4096;

uint32_t capacity(base::Random& random) {
  return chance(random, 70) ? 1 + random.below(4) : 5 + random.below(60);
}

}  // namespace

Shape Shape::random(base::Random& random) {
  Shape s;
  s.cores = chance(random, 8) ? 1 : 2 + random.below(5);
  const bool many_homes = s.cores > 1 && chance(random, 60);
  if (many_homes) {
    s.limit = 1024 * (2 + random.below(s.cores)) + random.below(100);
    if (chance(random, 40)) s.ballast = s.limit - (2 + random.below(24));
  } else {
    s.limit = 2 + random.below(chance(random, 60) ? 8 : 63);
  }
  s.flows = chance(random, 20) ? 8 + random.below(24) : 256;
  s.steered = chance(random, 20) ? 1 + random.below(4) : 64;
  s.push = chance(random, 80);
  const bool wide = chance(random, 20);
  s.rings = {.claims = wide ? 64 : capacity(random),
             .answers = wide ? 64 : capacity(random),
             .down = wide ? 64 : capacity(random),
             .news = wide ? 64 : capacity(random),
             .merges = capacity(random)};
  return s;
}

Engine::Engine(const Shape& shape, const timing::ManualClock& clock, base::Random& random)
    : shape_(shape),
      clock_(clock),
      random_(random),
      pool_(kBuffers, 512),
      shared_(std::make_unique<worker::Shared>(shape.cores, shape.limit, random, shape.rings,
                                               std::pmr::get_default_resource())),
      workers_(shape.cores) {
  ingress_ = {{.port = 0, .mac = support::mac(kFrontMac)},
              {.port = 1, .mac = support::mac(kBackMac)}};
  for (uint32_t i = 0; i < shape.ballast; ++i) {
    const bool taken = shared_->bindings.reserve();
    LIMPET_ASSERT(taken);
  }
  for (uint32_t c = 0; c < shape.cores; ++c) {
    Worker& w = workers_[c];
    w.now = clock.now();
    w.steered.resize(shape.cores);
    w.ports.resize(kNats);
    const worker::Core::Options options{.index = c,
                                        .cores = shape.cores,
                                        .flows = shape.flows,
                                        .nats = kNats,
                                        .ports = 2,
                                        .seed = random.next(),
                                        .wall_origin = shape.wall_origin,
                                        .rank = shape.rank,
                                        .push = shape.push,
                                        .peers = shape.peers,
                                        .disk = shape.disk};
    w.core = std::make_unique<worker::Core>(options, *shared_, pool_.pool(), nullptr, clock.now(),
                                            std::pmr::get_default_resource());
  }
}

bool Engine::provide(const Snapshot& s) {
  for (const snapshot::Pool& pool : s.pools) {
    for (const snapshot::Server& server : pool.servers) {
      for (const snapshot::NatId first : {server.tcp_nat, server.udp_nat}) {
        if (first == l4::kNoNat) continue;
        for (uint32_t i = 0; i < server.sources.size(); ++i) provide(first.value + i);
      }
    }
  }
  return true;
}

void Engine::provide(uint32_t nat) {
  for (uint32_t c = 0; c < cores(); ++c) {
    auto& ports = workers_[c].ports[nat];
    if (ports != nullptr) continue;
    ports = std::make_unique<egress::SourcePorts>(egress::PortSlice::of(c, shape_.cores), random_);
    core(c).forwarder().nats()[nat] = ports.get();
  }
}

snapshot::Token Engine::publish(std::shared_ptr<const Snapshot> next) {
  provide(*next);
  newest_ = std::move(next);
  all_.push_back(newest_);
  return mark();
}

snapshot::Token Engine::mark() {
  auto& turns_begun = marks_.emplace_back();
  for (const Worker& w : workers_) turns_begun.push_back(w.turns);
  return snapshot::Token{marks_.size() - 1};
}

bool Engine::have_passed(snapshot::Token token) {
  const auto& then = marks_[token.value];
  for (uint32_t c = 0; c < cores(); ++c) {
    if (workers_[c].turns == then[c]) return false;
  }
  return true;
}

uint32_t Engine::flows_of(snapshot::ServerSlot slot) {
  uint32_t sum = 0;
  for (const Worker& w : workers_) sum += w.core->forwarder().server(slot).flows.get();
  return sum;
}

uint32_t Engine::ports_in_use() const {
  uint32_t sum = 0;
  for (const Worker& w : workers_) {
    for (const auto& ports : w.ports) sum += ports ? ports->in_use() : 0;
  }
  return sum;
}

std::size_t Engine::waiting_frames() const {
  std::size_t sum = 0;
  for (const Worker& w : workers_) {
    sum += w.device.size();
    for (const auto& queue : w.steered) sum += queue.size();
  }
  return sum;
}

void Engine::collect(uint32_t core) {
  Worker& w = workers_[core];
  for (auto& queue : w.steered) {
    for (uint32_t i = 0; i < base::kBurstPacketsMax && !queue.empty(); ++i) {
      w.core->collect(queue.front());
      queue.pop_front();
    }
  }
}

void Engine::flush_steered(uint32_t core) {
  Worker& w = workers_[core];
  for (uint32_t to = 0; to < cores(); ++to) {
    auto& queue = workers_[to].steered[core];
    for (Buffer* b : w.core->steered(to)) {
      if (queue.size() < shape_.steered) {
        queue.push_back(b);
      } else {
        w.core->output().drop(b, packet::DropReason::kSteerRingFull);
      }
    }
    w.core->steered(to).clear();
  }
  for (Buffer* b : w.core->output().punted()) packet::release(b);
  w.core->output().punted().clear();
}

void Engine::run(uint32_t core, Stage stage) {
  Worker& w = workers_[core];
  const auto take = [&] { w.core->begin(*newest_, w.now); };
  switch (stage) {
    case Stage::kBegin:
      ++w.turns;
      return take();
    case Stage::kDrain:
      return w.core->drain(take);
    case Stage::kMessages:
      for (; !w.messages.empty(); w.messages.pop_front()) w.core->message(w.messages.front());
      return;
    case Stage::kJudge:
      return w.core->judge();
    case Stage::kServe:
      return w.core->serve(take);
    case Stage::kEnd:
      return w.core->end();
    case Stage::kReceive:
    case Stage::kFlush:
      return;
  }
}

}  // namespace limpet::sim
