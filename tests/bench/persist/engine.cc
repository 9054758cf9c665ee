#include "tests/bench/persist/engine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dataplane/packet/parse.h"
#include "dataplane/worker/turn.h"

namespace limpet::bench {

using net::Family;
using packet::Buffer;
using timing::Instant;

namespace {

constexpr uint32_t kServers = 16;
constexpr std::size_t kSourceAt = 26;  // in a frame: IPv4 source address
constexpr std::size_t kPortAt = 34;    // TCP source port
constexpr std::size_t kSequenceAt = 38;
constexpr std::size_t kFlagsAt = 47;
constexpr std::size_t kNats = 4096;

std::shared_ptr<snapshot::Snapshot> snapshot_of(const Engine::Options& options) {
  support::World world(kServers);
  for (const Family f : {Family::kV4, Family::kV6}) world.scope(f).timeout = options.timeout;
  if (options.preserve_client) world.preserve_client();
  world.index();
  world.snapshot->version = 1;
  return world.snapshot;
}

}  // namespace

void fail(const std::string& what) {
  std::fprintf(stderr, "bench persist: %s\n", what.c_str());
  std::exit(1);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Buffer* Buffers::holding(const FrameBytes& frame) {
  LIMPET_ASSERT(!free_.empty());
  Buffer* b = free_.back();
  free_.pop_back();
  rte_pktmbuf_reset(b);
  b->data_len = FrameBytes::kCount;
  b->pkt_len = FrameBytes::kCount;
  b->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
  std::memcpy(rte_pktmbuf_mtod(b, void*), frame.bytes.data(), FrameBytes::kCount);
  return b;
}

Messages Messages::operator-(const Messages& m) const {
  return {claims - m.claims,   touches - m.touches, updates - m.updates,
          recalls - m.recalls, answers - m.answers, others - m.others};
}

Engine::Engine(const Options& options)
    : options_(options),
      shared_(options.cores, options.entries, random_, {}, std::pmr::get_default_resource()),
      snapshot_(snapshot_of(options)),
      ingress_{{{.port = 0, .mac = support::mac(support::kFrontMac)},
                {.port = 1, .mac = support::mac(support::kBackMac)}}},
      steerer_(options.cores, shared_.hash) {
  for (uint32_t c = 0; c < options.cores; ++c) {
    const worker::Core::Options o{.index = c,
                                  .cores = options.cores,
                                  .flows = options.flows,
                                  .nats = kNats,
                                  .ports = 2,
                                  .seed = c + 1,
                                  .push = options.push,
                                  .peers = options.peers};
    cores_.push_back(std::make_unique<worker::Core>(o, shared_, nullptr, nullptr, Instant{},
                                                    std::pmr::get_default_resource()));
    for (const auto& pool : snapshot_->pools) {
      for (const auto& server : pool.servers) {
        ports_.push_back(std::make_unique<egress::SourcePorts>(
            egress::PortSlice::of(c, options.cores), random_));
        cores_[c]->forwarder().nats()[server.tcp_nat.value] = ports_.back().get();
        worker::ControlMessage m;
        m.neighbor.port = 1;
        m.neighbor.address = server.address;
        m.neighbor.mac = support::mac("02:00:00:00:02:02");
        m.neighbor.valid = true;
        cores_[c]->message(m);
      }
    }
  }
  const auto bytes = support::tcp({"100.64.0.0", 1, support::kVip4, 80}, 0).build();
  std::copy(bytes.begin(), bytes.end(), pattern_.bytes.begin());
}

// Its checksums are not those of this client: the device has said that they are right.
FrameBytes Engine::frame(uint32_t i, uint16_t port, uint8_t tcp_flags) const {
  FrameBytes out = pattern_;
  std::memcpy(&out.bytes[kSourceAt], client(i).v4_bytes(), 4);
  out.bytes[kPortAt] = static_cast<uint8_t>(port >> 8);
  out.bytes[kPortAt + 1] = static_cast<uint8_t>(port);
  out.bytes[kFlagsAt] = tcp_flags;
  // Both sides begin with the pattern's number.
  if ((tcp_flags & packet::kTcpSyn) == 0) ++out.bytes[kSequenceAt + 3];
  if ((tcp_flags & packet::kTcpAck) != 0) {
    std::memcpy(&out.bytes[kSequenceAt + 4], &pattern_.bytes[kSequenceAt], 4);
    ++out.bytes[kSequenceAt + 7];
  }
  return out;
}

uint16_t Engine::port_for(uint32_t client, uint32_t core, uint16_t from) {
  for (uint16_t port = from;; ++port) {
    Buffer* b = scratch_.holding(frame(client, port, packet::kTcpSyn));
    if (packet::parse(b, {ingress_.data(), 1})) fail("a frame that cannot be parsed");
    const uint32_t to = steerer_.of(b, *snapshot_).core;
    scratch_.give_back(b);
    if (to == core) return port;
  }
}

void Engine::turn(uint32_t c, Instant now) {
  worker::turn(*cores_[c], worker::PlainHost{*cores_[c], *snapshot_, now});
}

void Engine::bind(uint32_t count, Instant now) {
  constexpr uint32_t kAtOnce = 64;
  const auto& servers = snapshot_->pools[0].servers;
  for (uint32_t i = 0; i < count; ++i) {
    const auto key = binding::Key::of(scope().key_of(client(i)));
    const binding::ServerId server = servers[i % servers.size()].id;
    const uint32_t home = cores_[0]->replica().home_of(scope().slot, key);
    const bool sent = shared_.rings.merges[home].push(
        {.scope = scope().slot,
         .version = snapshot_->version,
         .key = key,
         .record = {.stamp = binding::Stamp{i + 1}, .server = server, .first = server}});
    LIMPET_ASSERT(sent);
    if (i % kAtOnce != kAtOnce - 1 && i != count - 1) continue;
    for (int round = 0; round < 2; ++round) {
      for (uint32_t c = 0; c < cores(); ++c) turn(c, now);
    }
    drain_news();
  }
  for (const auto& core : cores_) {
    if (core->table().size() != count) fail("not every core has every binding");
  }
}

void Engine::drain_news() {
  std::array<binding::Change, 64> changes;
  for (auto& ring : shared_.rings.news) {
    while (ring.pop(std::span(changes)) > 0) {
    }
  }
}

uint64_t Engine::announced() const {
  uint64_t sum = 0;
  for (const auto& core : cores_) sum += core->replica().counters().announced;
  return sum;
}

Messages Engine::messages() const {
  Messages sum;
  for (const auto& core : cores_) {
    const replication::Counters& c = core->replica().counters();
    sum.claims += c.claims;
    sum.touches += c.touches;
    sum.updates += c.updates;
    sum.recalls += c.recalls;
    sum.answers += c.answers_yes + c.answers_no;
    sum.others += c.refusals + c.gones;
  }
  return sum;
}

uint64_t Engine::news() const {
  uint64_t sum = 0;
  for (const auto& core : cores_) sum += core->replica().counters().news;
  return sum;
}

}  // namespace limpet::bench
