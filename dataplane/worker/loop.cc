#include "dataplane/worker/loop.h"

#include "dataplane/port/clock.h"
#include "dataplane/worker/turn.h"

namespace limpet::worker {

using packet::Buffer;
using packet::DropReason;

// What turn() finds around the core.
struct Loop::Host {
  Loop& loop;
  timing::Instant now;

  bool receive() { return loop.receive(); }
  bool collect() { return loop.collect(); }
  void take() { loop.core_.begin(loop.reader_.take(), now); }
  void messages() { loop.take_messages(); }
  void flush() { loop.flush(); }
};

Loop::Loop(const Options& options, Core& core, Wiring& wiring, const port::Devices& devices,
           snapshot::Reader reader, const timing::Clock& clock)
    : options_(options),
      core_(core),
      wiring_(wiring),
      devices_(devices),
      reader_(std::move(reader)),
      clock_(clock),
      ingress_(devices.devices().size()) {
  for (const port::PortInfo& p : devices.ports())
    ingress_[p.device].push_back({.port = p.index, .vlan = p.vlan, .mac = p.mac});
  for (auto& ports : ingress_) {
    std::stable_partition(ports.begin(), ports.end(),
                          [](const packet::Ingress& i) { return i.vlan == 0; });
  }
}

void Loop::run(const std::atomic<bool>& stop) {
  reader_.online();
  timing::Instant last = clock_.now();
  bool worked = false;
  uint32_t empty_turns = 0;
  while (!stop.load(std::memory_order_relaxed)) {
    const timing::Instant now = clock_.now();
    (worked ? core_.stats().busy_ns : core_.stats().idle_ns) +=
        static_cast<uint64_t>((now - last).count());
    last = now;
    worked = turn(core_, Host{*this, now});
    empty_turns = worked ? 0 : empty_turns + 1;
    if (empty_turns >= kEmptyTurnsBeforeSleep && options_.idle_sleep > timing::Duration::zero())
      sleep();
  }
  reader_.offline();
}

void Loop::sleep() {
  reader_.offline();
  port::idle_sleep(options_.idle_sleep);
  reader_.online();
}

// A turn begins with the queue at which the one before had to stop, else with the next in turn.
bool Loop::receive() {
  const std::vector<port::ReceiveQueue>& queues = devices_.queues().receive[options_.worker];
  bool worked = false;
  std::size_t visited = 0;
  for (; visited < queues.size() && core_.has_room(); ++visited) {
    const std::size_t at = first_queue_ + visited;
    const port::ReceiveQueue& q = queues[at < queues.size() ? at : at - queues.size()];
    Buffer* frames[base::kBurstPacketsMax];
    const uint32_t n = devices_.receive(q.device, q.queue, frames, base::kBurstPacketsMax);
    worked = worked || n > 0;
    const packet::IngressSet ports{ingress_[q.device].data(),
                                   static_cast<uint32_t>(ingress_[q.device].size())};
    core_.arrive(std::span(frames, n), ports);
  }
  first_queue_ += visited < queues.size() ? visited : 1;
  if (first_queue_ >= queues.size()) first_queue_ -= queues.size();
  return worked;
}

// What other workers and the control thread have for this one.
bool Loop::collect() {
  bool worked = false;
  Buffer* buffers[Core::kTurnPacketsMax];
  const auto of_peer = std::span(buffers).first(core_.collected_max());
  for (const uint32_t peer : wiring_.steered.peers(options_.worker)) {
    const uint32_t n = wiring_.steered.from(peer).to(options_.worker).pop(of_peer);
    for (uint32_t i = 0; i < n; ++i) core_.collect(buffers[i]);
    const uint32_t m = wiring_.handed.from(peer).to(options_.worker).pop(of_peer);
    for (uint32_t i = 0; i < m; ++i) core_.output().send(buffers[i]);
    worked = worked || n + m > 0;
  }
  const uint32_t n = wiring_.injected[options_.worker].pop(std::span(buffers));
  for (uint32_t i = 0; i < n; ++i) core_.output().send(buffers[i]);
  return worked || n > 0;
}

void Loop::take_messages() {
  ControlMessage messages[base::kBurstPacketsMax];
  const uint32_t n = wiring_.messages[options_.worker].pop(std::span(messages));
  for (uint32_t i = 0; i < n; ++i) core_.message(messages[i]);
}

void Loop::flush() {
  for (const port::PortInfo& p : devices_.ports()) {
    if (!core_.output().tx(p.index).empty()) transmit(p.index, core_.output().tx(p.index));
  }
  for (const uint32_t peer : wiring_.steered.peers(options_.worker)) {
    push_or_drop(wiring_.steered.from(options_.worker).to(peer), core_.steered(peer),
                 DropReason::kSteerRingFull);
  }
  push_or_drop(wiring_.punted[options_.worker], core_.output().punted(), DropReason::kPuntRingFull);
}

void Loop::transmit(uint8_t port, packet::BufferList& frames) {
  const uint16_t device = devices_.ports()[port].device;
  const port::TransmitQueue queue = devices_.queues().transmit[device][options_.worker];
  if (queue.worker != options_.worker) {
    return push_or_drop(wiring_.handed.from(options_.worker).to(queue.worker), frames,
                        DropReason::kTransmitFull);
  }
  egress::PortCounters& counters = core_.output().port(port);
  std::size_t sent = 0;
  while (sent < frames.size()) {
    uint64_t bytes = 0;
    const auto n = static_cast<uint32_t>(std::min(frames.size() - sent, base::kBurstPacketsMax));
    uint32_t lengths[base::kBurstPacketsMax];
    for (uint32_t i = 0; i < n; ++i) lengths[i] = packet::length(frames[sent + i]);
    const uint32_t taken = devices_.transmit(device, queue.queue, &frames[sent], n);
    for (uint32_t i = 0; i < taken; ++i) bytes += lengths[i];
    counters.tx_packets += taken;
    counters.tx_bytes += bytes;
    sent += taken;
    if (taken < n) break;
  }
  for (std::size_t i = sent; i < frames.size(); ++i)
    core_.output().drop(frames[i], DropReason::kTransmitFull, port);
  frames.clear();
}

template <class Ring>
void Loop::push_or_drop(Ring& ring, packet::BufferList& buffers, DropReason reason) {
  if (buffers.empty()) return;
  const uint32_t pushed = ring.push(std::span<Buffer* const>(buffers.begin(), buffers.end()));
  for (std::size_t i = pushed; i < buffers.size(); ++i) core_.output().drop(buffers[i], reason);
  buffers.clear();
}

}  // namespace limpet::worker
