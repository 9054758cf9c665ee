#include "tests/sim/traffic.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "dataplane/packet/headers.h"
#include "tests/sim/trace.h"

namespace limpet::sim {

using packet::kProtocolTcp;
using packet::kProtocolUdp;
using packet::kTcpAck;
using packet::kTcpFin;
using packet::kTcpRst;
using packet::kTcpSyn;

namespace {

uint32_t word_at(std::span<const uint8_t> frame, std::size_t at) {
  return uint32_t{frame[at]} << 24 | uint32_t{frame[at + 1]} << 16 | uint32_t{frame[at + 2]} << 8 |
         frame[at + 3];
}

}  // namespace

Wire Wire::read(std::span<const uint8_t> frame) {
  Wire w;
  std::size_t l4 = 0;
  if (frame[12] == 0x08 && frame[13] == 0x00) {
    w.source = net::Address::v4(&frame[26]);
    w.destination = net::Address::v4(&frame[30]);
    w.protocol = frame[23];
    l4 = 34;
  } else {
    w.source = net::Address::v6(&frame[22]);
    w.destination = net::Address::v6(&frame[38]);
    w.protocol = frame[20];
    l4 = 54;
  }
  if (w.protocol != kProtocolTcp && w.protocol != kProtocolUdp) return w;
  w.source_port = static_cast<uint16_t>(word_at(frame, l4) >> 16);
  w.destination_port = static_cast<uint16_t>(word_at(frame, l4));
  const bool tcp = w.protocol == kProtocolTcp;
  if (tcp) w.flags = frame[l4 + 13];
  w.tag = word_at(frame, l4 + (tcp ? 4 : 8));
  return w;
}

bool Wire::opens() const {
  return protocol == kProtocolUdp ||
         (protocol == kProtocolTcp && (flags & (kTcpSyn | kTcpAck)) == kTcpSyn);
}

Traffic::Traffic(const World& world, Engine& engine, base::Random& random)
    : world_(world),
      engine_(engine),
      random_(random),
      active_max_(2 + random.below(40)),
      answers_percent_(40 + random.below(60)) {}

void Traffic::act() {
  if (active_.empty() || (active_.size() < active_max_ && chance(random_, 35))) return open();
  const uint32_t at = random_.below(static_cast<uint32_t>(active_.size()));
  const uint32_t connection = active_[at];
  if (connections_[connection].state == State::kOver) {
    active_[at] = active_.back();
    active_.pop_back();
    return;
  }
  go_on(connection);
}

void Traffic::open() {
  if (connections_.size() > 60000) return;
  const auto& services = world_.services();
  const uint32_t service = random_.below(static_cast<uint32_t>(services.size()));
  const auto& clients = world_.clients(services[service].family);
  open(service, clients[random_.below(static_cast<uint32_t>(clients.size()))]);
}

void Traffic::open(uint32_t service, const net::Address& client) {
  connections_.push_back({.service = service, .client = client, .tcp = chance(random_, 70)});
  const auto connection = static_cast<uint32_t>(connections_.size() - 1);
  active_.push_back(connection);
  from_client(connection, kTcpSyn);
}

void Traffic::go_on(uint32_t connection) {
  Connection& c = connections_[connection];
  if (!c.tcp) {
    from_client(connection, 0);
    if (chance(random_, 30)) c.state = State::kOver;
    return;
  }
  const uint32_t what = random_.below(100);
  if (c.state == State::kSyn) {
    if (what < 30) from_client(connection, kTcpSyn);
    if (what >= 30 && what < 40) from_client(connection, kTcpRst);
    if (what >= 30 && what < 60) c.state = State::kOver;
  } else if (what < 25) {
    from_client(connection, kTcpAck);
  } else if (what < 60) {
    from_client(connection, kTcpFin | kTcpAck);
    c.fin_sent = true;
    c.state = State::kClosing;
  } else if (what < 70) {
    from_client(connection, kTcpRst);
    c.state = State::kOver;
  } else if (what < 76) {
    c.state = State::kOver;  // never heard of again
  }
}

void Traffic::finish() {
  for (const uint32_t connection : active_) {
    Connection& c = connections_[connection];
    if (c.tcp && c.state != State::kOver && chance(random_, 70)) from_client(connection, kTcpRst);
    c.state = State::kOver;
  }
  active_.clear();
}

void Traffic::from_client(uint32_t connection, uint8_t flags) {
  const Connection& c = connections_[connection];
  const ServiceDocument& vs = world_.services()[c.service];
  support::Frame f;
  f.source = c.client;
  f.destination = vs.vip;
  f.source_port = port_of(connection);
  f.destination_port = vs.port;
  f.protocol = c.tcp ? kProtocolTcp : kProtocolUdp;
  f.tcp_flags = flags;
  tags_.push_back(connection);
  const auto tag = static_cast<uint32_t>(tags_.size());
  f.sequence = tag;
  for (int shift = 24; shift >= 0 && !c.tcp; shift -= 8)
    f.payload.push_back(static_cast<uint8_t>(tag >> shift));
  deliver(0, f.build(), connection);
}

void Traffic::from_server(const Connection& c, uint8_t flags) {
  static const net::Mac back = support::mac(kBackMac);
  support::Frame f;
  f.to = back;
  f.source = c.to_server.destination;
  f.destination = c.to_server.source;
  f.source_port = c.to_server.destination_port;
  f.destination_port = c.to_server.source_port;
  f.protocol = c.to_server.protocol;
  f.tcp_flags = flags;
  f.payload.assign(4, 0);
  deliver(1, f.build(), static_cast<uint32_t>(&c - connections_.data()));
}

// Devices spread flows over cores in their own way, which is nearly always the same for one flow.
void Traffic::deliver(uint8_t port, support::Bytes bytes, uint32_t connection) {
  if (chance(random_, 2)) return;
  const uint32_t core = chance(random_, 90) ? (connection * 7 + port) % engine_.cores()
                                            : random_.below(engine_.cores());
  engine_.arrive(core, {port, std::move(bytes)});
}

void Traffic::left(const Leaving& frame) {
  const Wire wire = Wire::read(frame.bytes);
  if (wire.protocol != kProtocolTcp && wire.protocol != kProtocolUdp) return;
  if (frame.port == 1) {
    at_server(wire);
  } else {
    at_client(wire);
  }
}

void Traffic::at_server(const Wire& wire) {
  // A reset may be the engine's own; those carry no tags.
  if ((wire.flags & kTcpRst) != 0 || wire.tag == 0 || wire.tag > tags_.size()) return;
  Connection* c = &connections_[tags_[wire.tag - 1]];
  const bool is_first = c->to_server.protocol == 0 || (wire.flags & kTcpSyn) != 0;
  if (c->tcp && !is_first && wire.destination != c->to_server.destination)
    throw Violation{"P1 moved", "an established connection was moved to another server", {}};
  c->to_server = wire;
  if (!chance(random_, answers_percent_)) return;
  if (wire.protocol == kProtocolUdp) return from_server(*c, 0);
  if ((wire.flags & kTcpSyn) != 0)
    return from_server(*c, chance(random_, 88) ? kTcpSyn | kTcpAck : kTcpRst | kTcpAck);
  if ((wire.flags & kTcpFin) != 0) return from_server(*c, kTcpFin | kTcpAck);
  if (chance(random_, 6)) return from_server(*c, kTcpRst | kTcpAck);
  if (chance(random_, 10)) return from_server(*c, kTcpFin | kTcpAck);
}

void Traffic::at_client(const Wire& wire) {
  const uint32_t connection = wire.destination_port - uint32_t{kFirstPort};
  if (wire.destination_port < kFirstPort || connection >= connections_.size()) return;
  Connection& c = connections_[connection];
  if (!c.tcp || c.state == State::kOver) return;
  if ((wire.flags & kTcpRst) != 0) {
    c.state = State::kOver;
  } else if ((wire.flags & kTcpSyn) != 0) {
    if (!chance(random_, answers_percent_)) return;
    if (c.state == State::kSyn) c.state = State::kOpen;
    from_client(connection, kTcpAck);
  } else if ((wire.flags & kTcpFin) != 0) {
    from_client(connection, c.fin_sent ? kTcpAck : kTcpFin | kTcpAck);
    c.state = State::kOver;
  }
}

}  // namespace limpet::sim
