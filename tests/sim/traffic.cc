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

constexpr uint8_t kTagOption = 253;  // for experiments (RFC 4727)

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
  if (tcp) {
    w.sequence = word_at(frame, l4 + 4);
    w.acknowledgment = word_at(frame, l4 + 8);
    const bool tagged = frame[l4 + 12] >> 4 == 7 && frame[l4 + 20] == kTagOption;
    if (tagged) w.tag = word_at(frame, l4 + 22);
  } else {
    w.tag = word_at(frame, l4 + 8);
  }
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
  connections_.back().at_client.next = first_number(connection);
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
  } else if (what < 80) {
    // The client has forgotten it and begins anew from its port.
    c.at_client = {.next = c.at_client.next + 100};
    c.fin_sent = false;
    c.state = State::kSyn;
    from_client(connection, kTcpSyn);
  } else if (what < 83) {
    forge(connection, kTcpRst);
  } else if (what < 86) {
    forge(connection, kTcpAck);
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

// What a side sends next: its numbers. A FIN is sent again with the number that it had; of a SYN
// the caller knows.
void Traffic::number(Connection::Side& side, support::Frame* f) {
  const bool fin = (f->tcp_flags & kTcpFin) != 0;
  f->sequence = fin && side.fin_sent ? side.next - 1 : side.next;
  if ((f->tcp_flags & kTcpAck) != 0) f->acknowledgment = side.acked;
  if (fin && !side.fin_sent) ++side.next;
  side.fin_sent = side.fin_sent || fin;
}

support::Frame Traffic::of_client(uint32_t connection, uint8_t flags) {
  const Connection& c = connections_[connection];
  const ServiceDocument& vs = world_.services()[c.service];
  support::Frame f;
  f.source = c.client;
  f.destination = vs.vip;
  f.source_port = port_of(connection);
  f.destination_port = vs.port;
  f.protocol = c.tcp ? kProtocolTcp : kProtocolUdp;
  f.tcp_flags = flags;
  if (c.tcp && (flags & kTcpSyn) == 0) return f;
  tags_.push_back(connection);
  const auto tag = static_cast<uint32_t>(tags_.size());
  support::Bytes& to = c.tcp ? f.tcp_options : f.payload;
  if (c.tcp) to = {kTagOption, 6};
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<uint8_t>(tag >> shift));
  return f;
}

void Traffic::from_client(uint32_t connection, uint8_t flags) {
  Connection::Side& side = connections_[connection].at_client;
  support::Frame f = of_client(connection, flags);
  if ((flags & kTcpSyn) != 0) {
    f.sequence = side.next;
  } else {
    number(side, &f);
  }
  deliver(0, f.build(), connection);
}

// Somebody else sends for the client, and does not know the numbers.
void Traffic::forge(uint32_t connection, uint8_t flags) {
  support::Frame f = of_client(connection, flags);
  f.sequence = connections_[connection].at_client.next + 0x40000000;
  f.acknowledgment = static_cast<uint32_t>(random_.next());
  deliver(0, f.build(), connection);
}

void Traffic::from_server(Connection& c, uint8_t flags) {
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
  if (c.tcp) {
    f.payload.clear();
    number(c.at_server, &f);
  }
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

// Whose client sent it; null: nobody's.
Traffic::Connection* Traffic::connection_of(const Wire& wire) {
  if (wire.tag > tags_.size()) return nullptr;
  if (wire.tag != 0) return &connections_[tags_[wire.tag - 1]];
  const uint32_t number = wire.sequence >> kNumbersBits;
  return number == 0 || number > connections_.size() ? nullptr : &connections_[number - 1];
}

void Traffic::at_server(const Wire& wire) {
  if ((wire.flags & kTcpRst) != 0) return;  // perhaps the engine's own
  Connection* c = connection_of(wire);
  if (c == nullptr) return;  // forged
  const bool syn = (wire.flags & kTcpSyn) != 0;
  const bool is_first = c->to_server.protocol == 0 || syn;
  if (c->tcp && !is_first && wire.destination != c->to_server.destination)
    throw Violation{"P1 moved", "an established connection was moved to another server", {}};
  const bool again = wire.source_port == c->to_server.source_port &&
                     wire.destination == c->to_server.destination &&
                     wire.sequence + 1 == c->at_server.acked;
  // A server that has this connection challenges another SYN.
  if (syn && !again && wire.source_port == c->to_server.source_port && c->at_server.acked != 0 &&
      wire.destination == c->to_server.destination)
    return from_server(*c, kTcpAck);
  c->to_server = wire;
  if (syn && !again) c->at_server = {.next = static_cast<uint32_t>(random_.next())};
  if (c->tcp) {
    const bool fin = (wire.flags & kTcpFin) != 0;
    c->at_server.acked = wire.sequence + (syn || fin ? 1 : 0);
  }
  if (!chance(random_, answers_percent_)) return;
  if (wire.protocol == kProtocolUdp) return from_server(*c, 0);
  if (syn) {
    if (!chance(random_, 88)) return from_server(*c, kTcpRst | kTcpAck);
    from_server(*c, kTcpSyn | kTcpAck);
    if (!again) ++c->at_server.next;
    return;
  }
  if ((wire.flags & kTcpFin) != 0) return from_server(*c, kTcpFin | kTcpAck);
  if (chance(random_, 6)) return from_server(*c, kTcpRst | kTcpAck);
  if (chance(random_, 10)) return from_server(*c, kTcpFin | kTcpAck);
}

void Traffic::at_client(const Wire& wire) {
  const uint32_t connection = wire.destination_port - uint32_t{kFirstPort};
  if (wire.destination_port < kFirstPort || connection >= connections_.size()) return;
  Connection& c = connections_[connection];
  if (!c.tcp || c.state == State::kOver) return;
  Connection::Side& side = c.at_client;
  if ((wire.flags & kTcpRst) != 0) {
    c.state = State::kOver;
  } else if ((wire.flags & kTcpSyn) != 0) {
    if (!chance(random_, answers_percent_)) return;
    if (wire.acknowledgment != side.next + (c.state == State::kSyn ? 1 : 0)) return;
    side.acked = wire.sequence + 1;
    if (c.state == State::kSyn) {
      c.state = State::kOpen;
      ++side.next;
    }
    from_client(connection, kTcpAck);
  } else if (c.state == State::kSyn) {
    // A challenge: the server has a connection that the client has forgotten.
    support::Frame f = of_client(connection, kTcpRst);
    f.sequence = wire.acknowledgment;
    deliver(0, f.build(), connection);
  } else if ((wire.flags & kTcpFin) != 0) {
    side.acked = wire.sequence + 1;
    from_client(connection, c.fin_sent ? kTcpAck : kTcpFin | kTcpAck);
    c.fin_sent = true;
    c.state = State::kOver;
  }
}

}  // namespace limpet::sim
