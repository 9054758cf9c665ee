#include "tests/support/core_lab.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>

#include "common/base/assert.h"
#include "dataplane/balance/maglev.h"
#include "dataplane/packet/headers.h"
#include "dataplane/worker/turn.h"

namespace limpet::support {

using net::Family;

namespace {

constexpr uint16_t kServerPort = 8080;

snapshot::Server make_server(Family family, uint32_t i) {
  const std::string text = (family == Family::kV4 ? "10.2.0." : "fd00:2::") + std::to_string(i + 2);
  snapshot::Server s;
  s.slot = snapshot::ServerSlot{(family == Family::kV4 ? 0u : 1000u) + i};
  s.id = binding::ServerId{0x1234'5678'9abc'0001ULL * (s.slot.value + 1)};
  s.address = address(text);
  s.port = kServerPort;
  s.hop = {1, s.address};
  s.sources = {address(family == Family::kV4 ? "10.2.0.1" : "fd00:2::1")};
  s.tcp_nat = snapshot::NatId{2 * s.slot.value};
  s.udp_nat = snapshot::NatId{2 * s.slot.value + 1};
  s.name = net::Endpoint{s.address, s.port}.to_string();
  return s;
}

}  // namespace

World::World(uint32_t servers) : snapshot(std::make_shared<snapshot::Snapshot>()) {
  auto& s = *snapshot;
  s.ports = {{.name = "front", .index = 0, .mac = mac(kFrontMac)},
             {.name = "back", .index = 1, .mac = mac(kBackMac)}};
  s.ports[0].addresses = {*net::Prefix::parse("10.1.0.1/24"), *net::Prefix::parse("fd00:1::1/64")};
  s.ports[1].addresses = {*net::Prefix::parse("10.2.0.1/24"), *net::Prefix::parse("fd00:2::1/64")};
  for (const Family f : {Family::kV4, Family::kV6}) {
    const uint16_t i = f == Family::kV4 ? 0 : 1;
    snapshot::Pool p{.name = "pool", .algorithm = snapshot::Algorithm::kRoundRobin};
    for (uint32_t n = 0; n < servers; ++n) p.servers.push_back(make_server(f, n));
    s.pools.push_back(std::move(p));
    snapshot::VirtualService vs{.name = "web",
                                .slot = snapshot::VsSlot{i},
                                .pool = snapshot::PoolIndex{i},
                                .scope = binding::ScopeSlot{i}};
    s.virtual_services.push_back(vs);
    const net::Address vip = address(i == 0 ? kVip4 : kVip6);
    for (const uint8_t protocol : {packet::kProtocolTcp, packet::kProtocolUdp})
      s.listeners.push_back({vip, protocol, 80, 80, i});
    snapshot::Scope scope{.id = binding::ScopeId{i + 1u},
                          .slot = binding::ScopeSlot{i},
                          .live = true,
                          .pool = snapshot::PoolIndex{i}};
    scope.timeout = timing::seconds(300);
    s.scopes.push_back(scope);
    s.own_addresses.push_back({vip, snapshot::Snapshot::OwnAddress::Kind::kVip});
  }
  for (const auto& port : s.ports) {
    for (const auto& prefix : port.addresses)
      s.own_addresses.push_back({prefix.address.in_zone(net::zone_of(port.index)),
                                 snapshot::Snapshot::OwnAddress::Kind::kPort, true});
  }
  index();
}

void World::without_persistence() {
  for (auto& vs : snapshot->virtual_services) vs.scope = binding::kNoScope;
  for (auto& scope : snapshot->scopes) scope.live = false;
}

void World::preserve_client() {
  for (auto& vs : snapshot->virtual_services) vs.preserve_client = true;
  for (auto& pool : snapshot->pools) {
    for (auto& server : pool.servers) server.sources.clear();
  }
}

void World::remove_server(Family f, uint32_t i) {
  auto& servers = pool(f).servers;
  servers.erase(servers.begin() + i);
}

void World::index() {
  auto& s = *snapshot;
  s.server_by_slot.assign(2000, {});
  s.vs_by_slot.assign(s.virtual_services.size(), snapshot::kNoIndex);
  s.index_routes(nullptr);
  for (uint32_t p = 0; p < s.pools.size(); ++p) {
    auto& pool = s.pools[p];
    pool.index();
    std::vector<balance::MaglevServer> up;
    for (uint32_t i = 0; i < pool.servers.size(); ++i) {
      const auto& server = pool.servers[i];
      s.server_by_slot[server.slot.value] = {p, i};
      if (balance::takes_new_clients(server))
        up.push_back({server.id, server.weight, static_cast<uint16_t>(i)});
    }
    if (pool.algorithm == snapshot::Algorithm::kConsistentHash)
      pool.maglev = balance::build_maglev(up, 4093);
  }
  for (uint32_t i = 0; i < s.virtual_services.size(); ++i)
    s.vs_by_slot[s.virtual_services[i].slot.value] = i;
  std::sort(s.own_addresses.begin(), s.own_addresses.end());
  std::sort(s.listeners.begin(), s.listeners.end(), [](const auto& a, const auto& b) {
    return std::tie(a.address, a.protocol, a.first_port) <
           std::tie(b.address, b.protocol, b.first_port);
  });
}

CoreLab::CoreLab(const Options& options)
    : world(options.servers),
      options_(options),
      pool_(options.buffers),
      shared_(std::make_unique<worker::Shared>(options.cores, options.entries, random_,
                                               options.rings, std::pmr::get_default_resource())) {
  ingress_ = {{.port = 0, .mac = mac(kFrontMac)}, {.port = 1, .mac = mac(kBackMac)}};
  nats_.resize(options.cores);
  for (uint32_t c = 0; c < options.cores; ++c) {
    worker::Core::Options o{.index = c,
                            .cores = options.cores,
                            .flows = options.flows,
                            .nats = 4096,
                            .parked = options.parked,
                            .ports = 2,
                            .seed = c + 1,
                            .wall_origin = kWallOrigin,
                            .push = options.push,
                            .peers = options.peers,
                            .heartbeats = options.heartbeats};
    std::unique_ptr<packet::Reassembler> reassembler;
    if (options.reassemble) {
      reassembler = std::make_unique<packet::Reassembler>(
          packet::Reassembler::Options{
              .datagrams_max = 64, .pieces_max = 1024, .timeout = timing::seconds(2)},
          shared_->hash);
    }
    cores_.push_back(std::make_unique<worker::Core>(o, *shared_, pool_.pool(),
                                                    std::move(reassembler), clock.now(),
                                                    std::pmr::get_default_resource()));
    nats_[c].resize(4096);
    for (const auto& pool : world.snapshot->pools) {
      for (const auto& server : pool.servers) {
        for (const uint32_t id : {server.tcp_nat.value, server.udp_nat.value}) {
          nats_[c][id] = std::make_unique<egress::SourcePorts>(
              egress::PortSlice::of(c, options.cores), random_);
          cores_[c]->forwarder().nats()[id] = nats_[c][id].get();
        }
      }
    }
  }
  for (const auto& pool : world.snapshot->pools) {
    for (const auto& server : pool.servers) neighbor(1, server.address, true);
  }
  publish();
}

CoreLab::~CoreLab() = default;

std::vector<Sent> CoreLab::publish() {
  world.index();
  auto next = std::make_shared<snapshot::Snapshot>(*world.snapshot);
  next->version = running_ ? running_->version + 1 : 1;
  next->index_routes(running_.get());
  std::set<binding::ServerId> left = servers_seen_;
  for (const auto& pool : next->pools) {
    for (const auto& server : pool.servers) {
      left.erase(server.id);
      servers_seen_.insert(server.id);
    }
  }
  next->servers_left.assign(left.begin(), left.end());
  if (running_) old_.push_back(running_);
  running_ = next;
  std::vector<Sent> out;
  for (int i = 0; i < 64; ++i) {
    for (Sent& s : turn()) out.push_back(std::move(s));
  }
  return out;
}

void CoreLab::neighbor(uint8_t port, const net::Address& address, bool valid) {
  egress::NeighborUpdate update;
  update.port = port;
  update.address = address;
  update.mac = mac("02:00:00:00:02:02");
  update.valid = valid;
  for (auto& core : cores_) {
    worker::ControlMessage m;
    m.neighbor = update;
    core->message(m);
  }
}

std::vector<Sent> CoreLab::turn() {
  std::vector<Sent> out;
  for (uint32_t c = 0; c < cores(); ++c) {
    for (Sent& s : turn(c)) out.push_back(std::move(s));
  }
  return out;
}

std::vector<Sent> CoreLab::turn(uint32_t c) {
  struct Host : worker::PlainHost {
    CoreLab& lab;
    std::vector<Sent> sent;

    void flush() { sent = lab.flush(core); }
  };
  Host host{{*cores_[c], *running_, clock.now()}, *this, {}};
  worker::turn(*cores_[c], host);
  return std::move(host.sent);
}

std::vector<Sent> CoreLab::flush(worker::Core& core) {
  const uint32_t c = core.index();
  std::vector<Sent> out;
  binding::Change change;
  while (shared_->rings.news[c].pop(&change)) news_.push_back(change);
  for (uint32_t to = 0; to < cores(); ++to) {
    for (packet::Buffer* b : core.steered(to)) cores_[to]->collect(b);
    core.steered(to).clear();
  }
  for (uint8_t p = 0; p < 2; ++p) {
    for (packet::Buffer* b : core.output().tx(p)) {
      out.push_back({p, bytes(b)});
      packet::release(b);
    }
    core.output().tx(p).clear();
  }
  for (packet::Buffer* b : core.output().punted()) {
    punted_.push_back(bytes(b));
    packet::release(b);
  }
  core.output().punted().clear();
  return out;
}

void CoreLab::arrive(uint32_t core, const Frame& frame, uint8_t port) {
  Frame f = frame;
  if (port == 1) f.to = mac(kBackMac);
  packet::Buffer* b = make_buffer(pool_.pool(), f.build());
  LIMPET_ASSERT(b != nullptr);
  cores_[core]->arrive(b, {&ingress_[port], 1});
}

std::vector<Sent> CoreLab::send(const Frame& frame, uint8_t port) {
  Frame f = frame;
  if (port == 1) f.to = mac(kBackMac);
  return send(std::vector<Bytes>{f.build()}, port);
}

std::vector<Sent> CoreLab::send(const std::vector<Bytes>& frames, uint8_t port) {
  for (const Bytes& frame : frames) {
    packet::Buffer* b = make_buffer(pool_.pool(), frame);
    LIMPET_ASSERT(b != nullptr);
    // Which queue a packet arrives on is the device's business; spread them.
    cores_[frame.size() % cores_.size()]->arrive(b, {&ingress_[port], 1});
  }
  std::vector<Sent> out;
  // Steered to its core; a CLAIM to the home, its answer, and the packet judged again.
  const uint32_t turns = cores() == 1 ? 1 : 5;
  for (uint32_t i = 0; i < turns; ++i) {
    for (Sent& s : turn()) out.push_back(std::move(s));
  }
  return out;
}

std::vector<Sent> CoreLab::advance(timing::Duration by, timing::Duration step) {
  std::vector<Sent> out;
  while (by > timing::Duration::zero()) {
    const auto now = std::min(by, step);
    clock.advance(now);
    by -= now;
    for (Sent& s : turn()) out.push_back(std::move(s));
  }
  return out;
}

uint64_t CoreLab::drops(packet::DropReason reason) const {
  uint64_t sum = 0;
  for (const auto& core : cores_) {
    for (std::size_t p = 0; p < 2; ++p)
      sum += core->output().drops(p)[static_cast<std::size_t>(reason)];
  }
  return sum;
}

uint32_t CoreLab::ports_in_use() const {
  uint32_t sum = 0;
  for (const auto& list : nats_) {
    for (const auto& ports : list) sum += ports ? ports->in_use() : 0;
  }
  return sum;
}

void CoreLab::run_job(uint32_t core, worker::Job* job) {
  worker::ControlMessage m{.kind = worker::ControlMessage::Kind::kJob, .job = job};
  cores_[core]->message(m);
  for (int i = 0; i < 100'000 && !job->done.load(); ++i) turn();
  LIMPET_ASSERT(job->done.load());
}

Parts parts(const Bytes& frame) {
  Parts p;
  packet::EthernetHeader eth;
  std::memcpy(&eth, frame.data(), sizeof eth);
  p.to_mac = eth.destination.to_string();
  p.from_mac = eth.source.to_string();
  std::size_t l4 = 0;
  if (eth.type == packet::kEtherIpv4) {
    packet::Ipv4Header ip;
    std::memcpy(&ip, &frame[14], sizeof ip);
    p.source = net::Address::v4(ip.source).to_string();
    p.destination = net::Address::v4(ip.destination).to_string();
    p.protocol = ip.protocol;
    p.ttl = ip.ttl;
    l4 = 34;
  } else if (eth.type == packet::kEtherIpv6) {
    packet::Ipv6Header ip;
    std::memcpy(&ip, &frame[14], sizeof ip);
    p.source = net::Address::v6(ip.source).to_string();
    p.destination = net::Address::v6(ip.destination).to_string();
    p.protocol = ip.next_header;
    p.ttl = ip.hop_limit;
    l4 = 54;
  }
  if (p.protocol == packet::kProtocolTcp || p.protocol == packet::kProtocolUdp) {
    p.source_port = static_cast<uint16_t>(frame[l4] << 8 | frame[l4 + 1]);
    p.destination_port = static_cast<uint16_t>(frame[l4 + 2] << 8 | frame[l4 + 3]);
    if (p.protocol == packet::kProtocolTcp) p.tcp_flags = frame[l4 + 13];
  }
  return p;
}

namespace {

std::string_view vip_of(std::string_view client) {
  return client.find(':') == std::string_view::npos ? kVip4 : kVip6;
}

}  // namespace

CoreLab::Connection CoreLab::opened(const Client& client, const std::vector<Sent>& out) const {
  Connection c;
  if (out.size() != 1 || out[0].port != 1) return c;
  const Parts p = parts(out[0].bytes);
  c.client = client.address;
  c.client_port = client.port;
  c.vip = vip_of(client.address);
  c.server = p.destination;
  c.server_port = p.destination_port;
  c.source = p.source;
  c.source_port = p.source_port;
  return c;
}

std::string CoreLab::syn(Client client, uint16_t vip_port) {
  const Flow up{client.address, client.port, vip_of(client.address), vip_port};
  return opened(client, send(tcp(up, packet::kTcpSyn))).server;
}

CoreLab::Connection CoreLab::connect(Client client) {
  const Flow up{client.address, client.port, vip_of(client.address), 80};
  Connection c = opened(client, send(tcp(up, packet::kTcpSyn)));
  if (!c.ok()) return c;
  send(c.syn_ack(), 1);
  send(c.from_client(packet::kTcpAck));
  return c;
}

Frame CoreLab::Connection::syn_ack() const {
  return from_server(packet::kTcpSyn | packet::kTcpAck).with(&Frame::sequence, kServerSequence);
}

Frame CoreLab::Connection::from_client(uint8_t flags, std::string_view data) const {
  return tcp(up(), flags, data)
      .with(&Frame::sequence, kClientSequence + 1)
      .with(&Frame::acknowledgment, kServerSequence + 1);
}

Frame CoreLab::Connection::from_server(uint8_t flags, std::string_view data) const {
  return tcp(down(), flags, data)
      .with(&Frame::sequence, kServerSequence + 1)
      .with(&Frame::acknowledgment, kClientSequence + 1);
}

void CoreLab::finish(const Connection& c) {
  send(c.from_client(packet::kTcpFin | packet::kTcpAck));
  send(c.from_server(packet::kTcpFin | packet::kTcpAck)
           .with(&Frame::acknowledgment, kClientSequence + 2),
       1);
  send(c.from_client(packet::kTcpAck)
           .with(&Frame::sequence, kClientSequence + 2)
           .with(&Frame::acknowledgment, kServerSequence + 2));
}

void CoreLab::reset(const Connection& c) {
  send(c.from_client(packet::kTcpRst));
}

CoreLab::Connection CoreLab::datagram(Client client) {
  const Flow up{client.address, client.port, vip_of(client.address), 80};
  Connection c = opened(client, send(udp(up, "question")));
  if (c.ok()) send(udp(c.down(), "answer"), 1);
  return c;
}

}  // namespace limpet::support
