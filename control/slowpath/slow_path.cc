#include "control/slowpath/slow_path.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "common/base/limits.h"
#include "dataplane/packet/fragment.h"
#include "dataplane/packet/headers.h"
#include "dataplane/packet/reply.h"
#include "dataplane/packet/segments.h"

namespace limpet::slowpath {

using packet::DropReason;
using timing::Instant;

void SlowPath::configure(std::vector<snapshot::Port> ports,
                         std::span<const StaticNeighbor> neighbors, Instant now) {
  ports_ = Ports(std::move(ports));
  own_.update(OwnAddresses::collect(ports_, {}), now);
  for (const StaticNeighbor& n : neighbors) {
    if (ports_.find(n.port) == nullptr || own_.is_ours(n.address, n.port)) continue;
    cache_.add_static({n.port, n.address}, n.mac);
  }
}

SlowPath::Plan SlowPath::plan(const snapshot::Snapshot& snapshot) const {
  Plan plan{.own = OwnAddresses::collect(ports_, snapshot.own_addresses), .next_hops = {}};
  std::vector<NeighborKey>& hops = plan.next_hops;
  const auto add = [&](uint8_t port, const net::Address& address) {
    const NeighborKey key{port, address};
    if (!hops.empty() && hops.back() == key) return;  // servers behind one gateway
    if (!address.is_unspecified() && ports_.find(port) != nullptr) hops.push_back(key);
  };
  for (const snapshot::Route& route : snapshot.routes) add(route.port, route.next_hop);
  for (const snapshot::Pool& pool : snapshot.pools) {
    for (const snapshot::Server& server : pool.servers) {
      if (server.reachable) add(server.hop.port, server.hop.next_hop);
    }
  }
  std::ranges::sort(hops);
  hops.erase(std::unique(hops.begin(), hops.end()), hops.end());
  std::erase_if(hops, [&](const NeighborKey& key) {
    return OwnAddresses::is_ours(plan.own, key.address, key.port);
  });
  if (hops.size() > base::kNeighborsMax) hops.resize(base::kNeighborsMax);
  return plan;
}

void SlowPath::update(Plan plan, Instant now) {
  own_.update(std::move(plan.own), now);
  cache_.forget_if([&](const NeighborKey& key) { return own_.is_ours(key.address, key.port); });
  cache_.pin(std::move(plan.next_hops), now);
}

void SlowPath::receive(packet::Buffer* frame, Instant now) {
  const packet::Meta& m = packet::meta(frame);
  if (ports_.find(m.port) == nullptr) return drop(frame, DropReason::kUnhandled);
  if (m.next_hop != net::Address{}) return resolve(frame, now);
  switch (m.kind) {
    case packet::Kind::kNeighbor:
      return handle_neighbor(frame, now);
    case packet::Kind::kEcho:
      return handle_echo(frame, now);
    case packet::Kind::kFlow:
      return handle_heartbeat(frame);
    case packet::Kind::kIcmpError:
    case packet::Kind::kFragment:
    case packet::Kind::kOther:
      return drop(frame, DropReason::kUnhandled);
  }
}

void SlowPath::tick(Instant now) {
  for (uint32_t i = 0; i < kAnnouncementsPerTick && own_.next_due() <= now; ++i) {
    if (!announcement_pacer_.take(now)) break;
    if (const auto due = own_.take_due(now)) announce(*due);
  }
  cache_.tick(now);
}

Instant SlowPath::next_deadline() const {
  const Instant announcement = own_.next_due() == Instant::never()
                                   ? Instant::never()
                                   : std::max(own_.next_due(), announcement_pacer_.ready_at());
  return std::min(announcement, cache_.next_deadline());
}

void SlowPath::resolve(packet::Buffer* frame, Instant now) {
  const net::Address& hop = packet::meta(frame).next_hop;
  if (hop.is_unspecified() || hop.is_multicast() || hop.is_broadcast() || hop.is_loopback() ||
      own_.is_ours(hop, packet::meta(frame).port))
    return drop(frame, DropReason::kNoNeighbor);
  cache_.send(frame, now);
}

void SlowPath::handle_neighbor(packet::Buffer* frame, Instant now) {
  const packet::Meta m = packet::meta(frame);
  NeighborMessage message;
  const Reading reading = read_neighbor(frame, ports_.find(m.port)->mac, &message);
  if (reading == Reading::kMalformed) return drop(frame, DropReason::kMalformed);
  packet::release(frame);
  if (reading == Reading::kIgnored) {
    ++counters_.ignored;
    return;
  }
  if (ports_.is_own(m.source_mac) || ports_.is_own(message.sender_mac)) {
    ++counters_.own_heard;
    return;
  }
  const net::Mac& mac = message.sender_mac.is_zero() ? m.source_mac : message.sender_mac;
  if (own_.is_ours(message.sender, m.port)) return handle_claim(m.port, message.sender, mac, now);
  if (message.is_question) return handle_question(m, message, now);
  cache_.learn(m.port, message, now);
}

void SlowPath::handle_question(const packet::Meta& m, const NeighborMessage& question,
                               Instant now) {
  const OwnAddresses::Own* own = own_.find(question.target, m.port);
  if (own == nullptr) {
    ++counters_.not_ours;
    return;
  }
  const bool said_mac = !question.sender_mac.is_zero();
  if (say(m.port, {.address = own->address,
                   .is_router = own->is_router,
                   .to = question.sender,
                   .to_mac = said_mac ? question.sender_mac : m.source_mac}))
    ++counters_.answers;
  if (said_mac && !question.sender.is_unspecified())
    cache_.learn_asker({m.port, question.sender}, question.sender_mac, now);
}

// Somebody else says it has an address of ours. Every such message would be an event; the address's
// defence interval bounds both.
void SlowPath::handle_claim(uint8_t port, const net::Address& address, const net::Mac& mac,
                            Instant now) {
  ++counters_.conflicts;
  if (!own_.may_defend(address, now)) return;
  link_.event("ADDRESS_CONFLICT", address.to_string(),
              mac.to_string() + " on port " + ports_.find(port)->name + " uses it too");
  if (const OwnAddresses::Own* own = own_.find(address, port))
    announce({.address = address, .is_router = own->is_router, .port = port});
}

void SlowPath::handle_echo(packet::Buffer* frame, Instant now) {
  const packet::Meta m = packet::meta(frame);
  const OwnAddresses::Own* own = own_.find(m.destination);
  // A routed request may come by any port; a link-local address means the port's own link.
  if (own == nullptr ||
      (m.destination.is_link_local() && own_.find(m.destination, m.port) == nullptr))
    return drop(frame, DropReason::kNotForUs);
  if (own_.is_ours(m.source, m.port)) return drop(frame, DropReason::kMartianSource);
  if (!echo_pacer_.take(now)) return drop(frame, DropReason::kRateLimited);
  if (!packet::make_echo_reply(frame)) return drop(frame, DropReason::kMartianSource);
  send_echo_reply(frame, *ports_.find(m.port), m.source_mac);
}

// To where the request came from, like every reply to a client.
void SlowPath::send_echo_reply(packet::Buffer* frame, const snapshot::Port& port,
                               const net::Mac& to) {
  std::array<packet::Buffer*, kEchoFragmentsMax> pieces{frame};
  uint32_t count = 1;
  if (packet::meta(frame).l3_bytes > port.mtu) {
    const auto id = static_cast<uint32_t>(random_.next() >> 32);
    count = packet::fragment(frame, port.mtu, id, frame->pool, pieces.data(), kEchoFragmentsMax);
    if (count == 0) return link_.drop(DropReason::kNoBuffers);
  }
  const packet::Egress out = ports_.egress(port.index);
  for (uint32_t i = 0; i < count; ++i) {
    if (packet::write_ethernet(pieces[i], out, to)) {
      link_.transmit(pieces[i]);
    } else {
      drop(pieces[i], DropReason::kNoBuffers);
    }
  }
  ++counters_.echo_replies;
}

// Workers punt no other flow to an address of ours.
void SlowPath::handle_heartbeat(packet::Buffer* frame) {
  const packet::Meta& m = packet::meta(frame);
  const uint32_t headers = m.l4_offset + uint32_t{sizeof(packet::UdpHeader)};
  const uint32_t end = m.l4_offset + m.l4_bytes;
  if (m.protocol != packet::kProtocolUdp || m.destination_port != base::kHeartbeatPort ||
      end < headers || !packet::pull_up(frame, end))
    return drop(frame, DropReason::kUnhandled);
  ++counters_.heartbeats_received;
  link_.heartbeat(m.source, {packet::at<uint8_t>(frame, headers), end - headers});
  packet::release(frame);
}

bool SlowPath::send_heartbeat(const snapshot::Hop& hop, const net::Address& to, uint16_t udp_port,
                              std::span<const uint8_t> datagram, Instant now) {
  const snapshot::Port* port = ports_.find(hop.port);
  if (port == nullptr || own_.find(to) != nullptr) return false;
  const net::Address* from = nullptr;
  for (const net::Prefix& own : port->addresses) {
    if (own.family() != to.family()) continue;
    if (from == nullptr || own.contains(hop.next_hop)) from = &own.address;
  }
  if (from == nullptr) return false;
  packet::Buffer* frame = link_.allocate();
  if (frame == nullptr) {
    link_.drop(DropReason::kNoBuffers);
    return false;
  }
  if (!packet::write_datagram(frame, {.source = *from,
                                      .destination = to,
                                      .source_port = udp_port,
                                      .destination_port = udp_port,
                                      .payload = datagram})) {
    drop(frame, DropReason::kNoBuffers);
    return false;
  }
  std::array<packet::Buffer*, kHeartbeatFragmentsMax> pieces{frame};
  uint32_t count = 1;
  if (packet::meta(frame).l3_bytes > port->mtu) {
    const auto id = static_cast<uint32_t>(random_.next() >> 32);
    count =
        packet::fragment(frame, port->mtu, id, frame->pool, pieces.data(), kHeartbeatFragmentsMax);
    if (count == 0) {
      link_.drop(DropReason::kNoBuffers);
      return false;
    }
  }
  for (uint32_t i = 0; i < count; ++i) {
    packet::meta(pieces[i]).port = hop.port;
    packet::meta(pieces[i]).next_hop = hop.next_hop;
    resolve(pieces[i], now);
  }
  ++counters_.heartbeats_sent;
  return true;
}

// False when there was no buffer; counted.
bool SlowPath::say(uint8_t port, const Statement& statement) {
  packet::Buffer* frame = link_.allocate();
  if (frame == nullptr) {
    link_.drop(DropReason::kNoBuffers);
    return false;
  }
  write_statement(frame, ports_.egress(port), statement);
  link_.transmit(frame);
  return true;
}

void SlowPath::announce(const OwnAddresses::Announcement& announcement) {
  if (say(announcement.port,
          {.address = announcement.address, .is_router = announcement.is_router}))
    ++counters_.announcements;
}

void SlowPath::drop(packet::Buffer* frame, DropReason reason) {
  packet::release(frame);
  link_.drop(reason);
}

}  // namespace limpet::slowpath
