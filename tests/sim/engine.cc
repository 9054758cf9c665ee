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

// What lies around a core.
struct Engine::Host {
  Engine& engine;
  Worker& w;
  const Received& received;
  const Sent& sent;

  worker::Core& core() { return *w.core; }

  bool receive() {
    w.now = engine.clock_.now();
    for (uint32_t i = 0; i < base::kBurstPacketsMax && !w.device.empty(); ++i) {
      const Arriving frame = std::move(w.device.front());
      w.device.pop_front();
      received(frame.bytes);
      Buffer* b = support::make_buffer(engine.pool_.pool(), frame.bytes);
      if (b != nullptr) core().arrive(b, {&engine.ingress_[frame.port], 1});
    }
    return true;
  }

  bool collect() {
    for (auto& queue : w.steered) {
      for (uint32_t i = 0; i < base::kBurstPacketsMax && !queue.empty(); ++i) {
        core().collect(queue.front());
        queue.pop_front();
      }
    }
    return true;
  }

  void take() { core().begin(*engine.newest_, w.now); }

  void messages() {
    for (; !w.messages.empty(); w.messages.pop_front()) core().message(w.messages.front());
  }

  void flush() {
    for (uint8_t p = 0; p < 2; ++p) {
      for (Buffer* b : core().output().tx(p)) {
        sent(Leaving{p, support::bytes(b)});
        packet::release(b);
      }
      core().output().tx(p).clear();
    }
    for (uint32_t to = 0; to < engine.cores(); ++to) {
      auto& queue = engine.workers_[to].steered[core().index()];
      for (Buffer* b : core().steered(to)) {
        if (queue.size() < engine.shape_.steered) {
          queue.push_back(b);
        } else {
          core().output().drop(b, packet::DropReason::kSteerRingFull);
        }
      }
      core().steered(to).clear();
    }
    for (Buffer* b : core().output().punted()) packet::release(b);
    core().output().punted().clear();
  }
};

void Engine::step(uint32_t core, const Received& received, const Sent& sent) {
  Worker& w = workers_[core];
  const Stage stage = w.next;
  w.next = static_cast<Stage>((static_cast<uint32_t>(stage) + 1) % kStages);
  if (stage == Stage::kBegin) ++w.turns;
  Host host{*this, w, received, sent};
  worker::step(stage, *w.core, host);
}

}  // namespace limpet::sim
