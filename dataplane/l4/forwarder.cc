#include "dataplane/l4/forwarder.h"

#include <algorithm>
#include <utility>

#include "dataplane/packet/fragment.h"
#include "dataplane/packet/rewrite.h"

namespace limpet::l4 {

using net::Family;
using packet::Buffer;
using packet::DropReason;
using packet::Meta;
using timing::Instant;
using timing::Tick;

namespace {

constexpr uint32_t kTimersPerTurn = 64;
constexpr uint32_t kSweepFlowsPerTurn = 128;
constexpr uint32_t kReclaimSample = 64;
constexpr uint32_t kPortAttempts = 8;
constexpr uint32_t kPiecesMax = 64;

bool opens(const Meta& m) {
  return (m.tcp_flags & (packet::kTcpSyn | packet::kTcpAck | packet::kTcpRst | packet::kTcpFin)) ==
         packet::kTcpSyn;
}

DropReason drop_reason(Reason reason) {
  switch (reason) {
    case Reason::kDown:
    case Reason::kDraining:
      return DropReason::kServerDown;
    case Reason::kAtLimit:
      return DropReason::kServerAtLimit;
    case Reason::kTableFull:
      return DropReason::kTableFull;
    default:
      return DropReason::kNoServer;
  }
}

}  // namespace

// How packets leave in one direction of a flow.
struct Forwarder::Side {
  uint8_t port = 0;
  const net::Mac* mac = nullptr;  // null: ask the control thread to resolve `next_hop`
  net::Address next_hop;
};

Forwarder::Forwarder(const Options& options, const base::KeyedHash& hash, base::Random& random,
                     replication::Replica& replica, balance::Picker& picker, rte_mempool* pool,
                     Output& output, Instant now, std::pmr::memory_resource* memory)
    : cores_(options.cores),
      replica_(replica),
      picker_(picker),
      gauges_(picker.gauges()),
      pool_(pool),
      output_(output),
      flows_(options.flows, hash, memory),
      wheel_(Tick::of(now)),
      neighbors_(hash, memory),
      pen_(memory),
      nats_(options.nats),
      vs_counters_(options.virtual_services),
      server_counters_(options.servers),
      selector_(replica, picker),
      datagram_id_(static_cast<uint32_t>(random.next()) / options.cores * options.cores +
                   options.core) {
  for (auto* list : {&retry_, &retrying_}) list->reserve(2 * Pen::kKeys);
  heard_.reserve(2 * Pen::kKeys);
}

void Forwarder::use(const snapshot::Snapshot& s) {
  if (snapshot_ == &s && version_ == s.version) return;
  snapshot_ = &s;
  version_ = s.version;
  sweep_at_ = 0;
  swept_ = false;
}

void Forwarder::expect(Buffer* buffer) {
  Meta& m = packet::meta(buffer);
  if (m.kind != packet::Kind::kFlow) return;
  m.hash = flows_.hash(key_of(m));
  flows_.prefetch_bucket(m.hash);
}

// What a packet that opens a connection will look up.
void Forwarder::prefetch_binding(const Meta& m) {
  const auto* vs = snapshot_->find(m.destination, m.protocol, m.destination_port);
  const auto* scope = vs == nullptr ? nullptr : snapshot_->scope(vs->scope);
  if (scope == nullptr) return;
  const auto key = persist::Key::of(scope->key_of(m.source));
  replica_.table().prefetch_bucket(replica_.table().hash(scope->slot, key));
}

void Forwarder::process(std::span<Buffer*> burst, Instant now) {
  for (Buffer* b : burst) {
    const Meta& m = packet::meta(b);
    if (m.kind != packet::Kind::kFlow || flows_.prefetch_flow(m.hash)) continue;
    if (m.protocol == packet::kProtocolUdp || opens(m)) prefetch_binding(m);
  }
  for (Buffer* b : burst) {
    const Meta& m = packet::meta(b);
    if (m.kind == packet::Kind::kIcmpError) {
      icmp(b);
    } else if (const FlowRef ref = flows_.find(key_of(m), m.hash)) {
      known(b, ref, now);
    } else {
      Grant none{.since = now};
      fresh(b, now, none);
    }
  }
}

bool Forwarder::knows_flow(Buffer* buffer) const {
  const Meta& m = packet::meta(buffer);
  if (m.kind == packet::Kind::kIcmpError) {
    const auto quote = packet::parse_quote(buffer);
    return quote && quoted_flow(*quote);
  }
  return static_cast<bool>(flows_.find(key_of(m), flows_.hash(key_of(m))));
}

void Forwarder::known(Buffer* buffer, FlowRef ref, Instant now) {
  Flow& flow = flows_[ref.index];
  const Meta& m = packet::meta(buffer);
  const bool tcp = m.protocol == packet::kProtocolTcp;
  // The client reuses its port: a new connection (RFC 9293 3.10.7.4, TIME-WAIT).
  const bool reused = tcp && flow.state == FlowState::kTimeWait &&
                      ref.direction == Direction::kToServer && opens(m);
  // A flow may be over and still wait for its turn of the wheel.
  if (reused || Tick::of(now).reached(flow.expires)) {
    close(flow, now);
    Grant none{.since = now};
    return fresh(buffer, now, none);
  }
  if (ref.direction == Direction::kToServer && (!flow.client_mac.is_zero() || flow.learns_client)) {
    // Replies follow the client's packets, should its router change.
    flow.learns_client = false;
    flow.client_mac = m.source_mac;
    flow.client_interface = m.port;
  }
  const Side side = side_of(flow, ref.direction);
  if (bounce(buffer, snapshot_->ports[side.port].mtu, now)) return;
  bool over = false;
  if (tcp) {
    over = track_tcp(flow, ref.direction, buffer, now);
  } else {
    track_udp(flow, ref.direction, now);
  }
  forward(buffer, flow, ref.direction, side);
  if (over) close(flow, now);
}

void Forwarder::fresh(Buffer* buffer, Instant now, Grant& grant) {
  const Meta& m = packet::meta(buffer);
  const auto* vs = snapshot_->find(m.destination, m.protocol, m.destination_port);
  if (vs == nullptr) return no_listener(buffer, now, grant);
  if (snapshot_->own(m.source) != nullptr) return output_.drop(buffer, DropReason::kMartianSource);
  if (m.protocol == packet::kProtocolTcp && !opens(m)) {
    if (vs->adopts && adopt_from_client(buffer, *vs, now, grant)) return;
    return refuse(buffer, DropReason::kNoFlow, now);
  }
  if (bounce(buffer, UINT16_MAX, now)) return;
  if (vs->per_packet && m.protocol == packet::kProtocolUdp)
    return per_packet(buffer, *vs, now, grant);

  const Choice choice = selector_.choose(*snapshot_, *vs, {m.source, m.source_port}, grant);
  if (choice.wait != Choice::Wait::kNo) return park(buffer, *vs, choice, grant.since);
  if (choice.server == nullptr) return refused(buffer, *vs, choice.reason, now);
  DropReason why{};
  Flow* flow = open(buffer, *vs, choice, now, &why);
  if (flow == nullptr) {
    selector_.undo(choice);
    return refuse(buffer, why, now);
  }
  flow->gauged = choice.gauged;
  if (choice.beyond) ++server_counters_[choice.server->slot.value].over_limit;
  count(*flow, choice.entry);
  const bool tcp = m.protocol == packet::kProtocolTcp;
  if (tcp) note_syn(*flow, Direction::kToServer, buffer);
  const auto lifetime = tcp ? kSynTimeout : timing::Duration(timing::seconds(flow->idle_s));
  flow->expires = Tick::after(now + lifetime);
  wheel_.add(
      flows_.index_of(*flow), flow->expires, [this](uint32_t f) -> auto& { return links(f); });
  send_first(buffer, *flow, now);
}

void Forwarder::refused(Buffer* buffer, const snapshot::VirtualService& vs, Reason reason,
                        Instant now) {
  VsCounters& counters = vs_counters_[vs.slot.value];
  ++(reason == Reason::kTableFull ? counters.refused_table_full : counters.refused_no_server);
  refuse(buffer, drop_reason(reason), now);
}

// The packet that opened a flow.
void Forwarder::send_first(Buffer* buffer, Flow& flow, Instant now) {
  const Side side = side_of(flow, Direction::kToServer);
  if (!bounce(buffer, snapshot_->ports[side.port].mtu, now))
    forward(buffer, flow, Direction::kToServer, side);
}

// Every datagram is a connection of its own, over as soon as it has passed; what stays is the
// translation that brings answers back.
void Forwarder::per_packet(Buffer* buffer, const snapshot::VirtualService& vs, Instant now,
                           Grant& grant) {
  const Meta& m = packet::meta(buffer);
  const Choice choice = selector_.choose(*snapshot_, vs, {m.source, m.source_port}, grant);
  if (choice.wait != Choice::Wait::kNo) return park(buffer, vs, choice, grant.since);
  if (choice.server == nullptr) return refused(buffer, vs, choice.reason, now);
  if (choice.gauged) gauges_.release(choice.server->slot);
  Flow* flow = nullptr;
  if (const FlowRef ref = flows_.find_per_packet(key_of(m), choice.server->slot)) {
    flow = &flows_[ref.index];
    flow->client_mac = vs.autogw ? m.source_mac : net::Mac{};
    flow->client_interface = vs.autogw ? m.port : flow->client_interface;
    flow->expires = Tick::after(now + timing::seconds(flow->idle_s));
  } else {
    DropReason why{};
    flow = open(buffer, vs, choice, now, &why);
    if (flow == nullptr) {
      if (choice.created) replica_.undo_create(*choice.entry);
      return refuse(buffer, why, now);
    }
    flow->expires = Tick::after(now + timing::seconds(flow->idle_s));
    wheel_.add(
        flows_.index_of(*flow), flow->expires, [this](uint32_t f) -> auto& { return links(f); });
  }
  ++vs_counters_[vs.slot.value].total;
  ++server_counters_[choice.server->slot.value].total;
  if (choice.entry != nullptr) {
    bind(*flow, *choice.entry);
  } else {
    flow->entry = UINT32_MAX;
  }
  send_first(buffer, *flow, now);
}

void Forwarder::no_listener(Buffer* buffer, Instant now, const Grant& grant) {
  const Meta& m = packet::meta(buffer);
  const auto* own = snapshot_->own(m.destination);
  if (own == nullptr) {
    if (m.protocol == packet::kProtocolTcp && adopt_from_server(buffer, now, grant)) return;
    return output_.drop(buffer, DropReason::kNotForUs);
  }
  if (snapshot_->own(m.source) != nullptr) return output_.drop(buffer, DropReason::kMartianSource);
  const bool established = m.protocol == packet::kProtocolTcp && !opens(m);
  refuse(buffer, established ? DropReason::kNoFlow : DropReason::kNoService, now);
}

void Forwarder::refuse(Buffer* buffer, DropReason reason, Instant now) {
  const Meta& m = packet::meta(buffer);
  const uint8_t port = m.port;
  const net::Mac to = m.source_mac;
  output_.count(reason, port);
  if ((m.tcp_flags & packet::kTcpRst) != 0) return packet::release(buffer);  // is owed nothing
  if (!reply_limit_.allow(now)) {
    output_.count(DropReason::kRateLimited, port);
    return packet::release(buffer);
  }
  const net::Address from = m.destination;
  const bool made =
      m.protocol == packet::kProtocolTcp
          ? packet::make_tcp_reset(buffer)
          : packet::make_icmp_error(buffer, packet::IcmpReply::kPortUnreachable, from);
  if (!made) return packet::release(buffer);
  reply(buffer, port, to);
}

void Forwarder::reply(Buffer* buffer, uint8_t port, net::Mac to) {
  const snapshot::Port& p = snapshot_->ports[port];
  if (!packet::write_ethernet(buffer, {port, p.vlan, p.mac}, to))
    return output_.drop(buffer, DropReason::kNoBuffers, port);
  output_.send(buffer);
}

const net::Address* Forwarder::own_address(uint8_t port, Family family) const {
  for (const net::Prefix& p : snapshot_->ports[port].addresses) {
    if (p.family() == family) return &p.address;
  }
  return nullptr;
}

// --- opening and closing ------------------------------------------------------------------------

Flow* Forwarder::open(Buffer* buffer, const snapshot::VirtualService& vs, const Choice& choice,
                      Instant now, DropReason* why) {
  const Meta& m = packet::meta(buffer);
  const snapshot::Server& server = *choice.server;
  Flow* flow = flows_.allocate();
  if (flow == nullptr) flow = reclaim(now);
  if (flow == nullptr) {
    *why = DropReason::kFlowTableFull;
    return nullptr;
  }
  const bool tcp = m.protocol == packet::kProtocolTcp;
  flow->client = m.source;
  flow->vip = m.destination;
  flow->server = server.address;
  flow->client_port = m.source_port;
  flow->vip_port = m.destination_port;
  flow->server_port = server.port != 0 ? server.port : m.destination_port;
  flow->protocol = m.protocol;
  flow->server_interface = server.hop.port;
  flow->virtual_service = vs.slot;
  flow->server_slot = server.slot;
  flow->per_packet = vs.per_packet && !tcp;
  const auto idle = tcp ? vs.tcp_idle : vs.udp_idle;
  flow->idle_s = static_cast<uint16_t>(idle / timing::seconds(1));
  flow->neighbor = neighbors_.look_up(server.hop.port, server.hop.next_hop);
  if (!client_side(*flow, m, vs)) {
    *why = DropReason::kNoRoute;
  } else if (!server.sources.empty()) {
    if (open_translated(*flow, server, now)) return opened(flow);
    ++server_counters_[server.slot.value].snat_exhausted;
    *why = DropReason::kSnatExhausted;
  } else {
    flow->source = flow->client;
    flow->source_port = flow->client_port;
    if (flows_.insert(*flow)) return opened(flow);
    // The same client and port towards the same server by another virtual service: the answers
    // could not be told apart.
    *why = DropReason::kSnatExhausted;
  }
  flows_.discard(*flow);
  return nullptr;
}

Flow* Forwarder::opened(Flow* flow) {
  ++vs_counters_[flow->virtual_service.value].flows;
  ++server_counters_[flow->server_slot.value].flows;
  return flow;
}

bool Forwarder::client_side(Flow& flow, const Meta& m, const snapshot::VirtualService& vs) {
  if (vs.autogw) {
    flow.client_mac = m.source_mac;
    flow.client_interface = m.port;
    return true;
  }
  snapshot::Hop hop;
  if (!snapshot_->route(m.source, &hop)) return false;
  flow.client_interface = hop.port;
  return true;
}

bool Forwarder::open_translated(Flow& flow, const snapshot::Server& server, Instant now) {
  const bool tcp = flow.protocol == packet::kProtocolTcp;
  const uint32_t first = (tcp ? server.tcp_nat : server.udp_nat).value;
  const auto n = static_cast<uint32_t>(server.sources.size());
  const uint32_t start = next_source_++;
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t which = (start + i) % n;
    SourcePorts* ports = nats_[first + which];
    LIMPET_ASSERT(ports != nullptr);
    flow.source = server.sources[which];
    flow.nat = snapshot::NatId{first + which};
    // A port can be taken by a flow of another pool to the same server only when one of them uses
    // the client's port (use_service_port); then the next one will do.
    for (uint32_t attempt = 0; attempt < kPortAttempts; ++attempt) {
      flow.source_port = ports->take(now);
      if (flow.source_port == 0) break;
      flows_.prefetch_answer(flow);
      if (flows_.insert(flow)) return true;
      ports->give_back(flow.source_port, now);
    }
  }
  return false;
}

// The table is full: a connection that is over, or else one that never came about, gives way.
Flow* Forwarder::reclaim(Instant now) {
  Flow* victim = nullptr;
  for (uint32_t i = 0; i < kReclaimSample; ++i) {
    reclaim_at_ = reclaim_at_ + 1 >= flows_.capacity() ? 0 : reclaim_at_ + 1;
    Flow& f = flows_[reclaim_at_];
    if (!f.used) continue;
    if (f.state == FlowState::kTimeWait || Tick::of(now).reached(f.expires)) {
      victim = &f;
      break;
    }
    if (f.state == FlowState::kSynSent && f.protocol == packet::kProtocolTcp) victim = &f;
  }
  if (victim == nullptr) return nullptr;
  close(*victim, now);
  return flows_.allocate();
}

void Forwarder::count(Flow& flow, persist::Entry* entry) {
  flow.counted = true;
  ++vs_counters_[flow.virtual_service.value].open;
  ++vs_counters_[flow.virtual_service.value].total;
  ++picker_.loads()[flow.server_slot.value].open;
  ++server_counters_[flow.server_slot.value].total;
  if (entry == nullptr) return;
  bind(flow, *entry);
  ++entry->open;
}

void Forwarder::uncount(Flow& flow, Instant now) {
  if (!flow.counted) return;
  flow.counted = false;
  --vs_counters_[flow.virtual_service.value].open;
  --picker_.loads()[flow.server_slot.value].open;
  if (flow.gauged) {
    gauges_.release(flow.server_slot);
    flow.gauged = false;
  }
  if (persist::Entry* entry = entry_of(flow)) {
    LIMPET_ASSERT(entry->open > 0);
    --entry->open;
    entry->last = now;
  }
}

// A limit may be set while connections are open: they count too.
void Forwarder::gauge(Flow& flow) {
  if (flow.gauged || !flow.counted) return;
  const auto* server = snapshot_->server(flow.server_slot);
  if (server == nullptr || server->connections_max == 0) return;
  flow.gauged = gauges_.reserve(*server, true);
}

void Forwarder::confirm(const Flow& flow) {
  if (persist::Entry* entry = entry_of(flow)) replica_.confirm(*entry);
}

void Forwarder::close(Flow& flow, Instant now) {
  uncount(flow, now);
  wheel_.remove(
      flows_.index_of(flow), [this](uint32_t f) -> auto& { return links(f); });
  if (flow.nat != kNoNat) nats_[flow.nat.value]->give_back(flow.source_port, now);
  --vs_counters_[flow.virtual_service.value].flows;
  --server_counters_[flow.server_slot.value].flows;
  flows_.erase(flow);
}

void Forwarder::reset_both(Flow& flow, Instant now) {
  if (flow.protocol == packet::kProtocolTcp && flow.counted) {
    for (const Direction direction : {Direction::kToClient, Direction::kToServer}) {
      Buffer* b = packet::allocate(pool_);
      if (b == nullptr) {
        output_.count(DropReason::kNoBuffers, flow.client_interface);
        continue;
      }
      // As if the other side had sent it: the sequence number is what the receiver expects next.
      if (direction == Direction::kToClient) {
        packet::write_tcp_reset(b, {flow.vip, flow.client, flow.vip_port, flow.client_port,
                                    flow.client_ack, flow.server_ack});
      } else {
        packet::write_tcp_reset(b, {flow.source, flow.server, flow.source_port, flow.server_port,
                                    flow.server_ack, flow.client_ack});
      }
      transmit(b, side_of(flow, direction));
    }
  }
  close(flow, now);
}

// --- connection tracking ------------------------------------------------------------------------

void Forwarder::enter(Flow& flow, FlowState state, timing::Duration lifetime, Instant now) {
  flow.state = state;
  flow.expires = Tick::after(now + lifetime);
  const uint32_t id = flows_.index_of(flow);
  const auto of = [this](uint32_t f) -> auto& {
    return links(f);
  };
  wheel_.remove(id, of);
  wheel_.add(id, flow.expires, of);
}

// A SYN says what its receiver will acknowledge: a reset before it did must carry that.
void Forwarder::note_syn(Flow& flow, Direction direction, Buffer* buffer) {
  const Meta& m = packet::meta(buffer);
  const auto* tcp = packet::at<packet::TcpHeader>(buffer, m.l4_offset);
  (direction == Direction::kToServer ? flow.server_ack : flow.client_ack) = tcp->sequence + 1;
}

bool Forwarder::track_tcp(Flow& flow, Direction direction, Buffer* buffer, Instant now) {
  const Meta& m = packet::meta(buffer);
  const bool to_server = direction == Direction::kToServer;
  const auto* tcp = packet::at<packet::TcpHeader>(buffer, m.l4_offset);
  if ((m.tcp_flags & packet::kTcpAck) != 0)
    (to_server ? flow.client_ack : flow.server_ack) = tcp->acknowledgment;
  if ((m.tcp_flags & packet::kTcpRst) != 0) return true;

  if (flow.state == FlowState::kSynSent && (m.tcp_flags & packet::kTcpSyn) != 0)
    note_syn(flow, direction, buffer);

  const timing::Duration idle = timing::seconds(flow.idle_s);
  if (flow.state == FlowState::kSynSent && !to_server &&
      (m.tcp_flags & (packet::kTcpSyn | packet::kTcpAck)) == (packet::kTcpSyn | packet::kTcpAck)) {
    enter(flow, FlowState::kSynReceived, kSynTimeout, now);
  } else if (flow.state == FlowState::kSynReceived && to_server &&
             (m.tcp_flags & (packet::kTcpSyn | packet::kTcpAck)) == packet::kTcpAck) {
    enter(flow, FlowState::kEstablished, idle, now);
    confirm(flow);
  } else if (flow.state == FlowState::kEstablished) {
    flow.expires = Tick::after(now + idle);
  } else if (flow.state == FlowState::kClientFin || flow.state == FlowState::kServerFin) {
    flow.expires = Tick::after(now + std::min(idle, timing::Duration(kHalfClosedTimeout)));
  }
  if ((m.tcp_flags & packet::kTcpFin) == 0) return false;
  switch (flow.state) {
    case FlowState::kEstablished:
    case FlowState::kSynReceived:
      enter(flow, to_server ? FlowState::kClientFin : FlowState::kServerFin,
            std::min(idle, timing::Duration(kHalfClosedTimeout)), now);
      break;
    case FlowState::kClientFin:
    case FlowState::kServerFin:
      if ((flow.state == FlowState::kClientFin) == to_server) break;  // sent again
      uncount(flow, now);
      enter(flow, FlowState::kTimeWait, kTimeWaitTimeout, now);
      break;
    default:
      break;
  }
  return false;
}

void Forwarder::track_udp(Flow& flow, Direction direction, Instant now) {
  flow.expires = Tick::after(now + timing::seconds(flow.idle_s));
  if (direction == Direction::kToServer) return;
  if (flow.state == FlowState::kSynSent) {
    flow.state = FlowState::kEstablished;
    confirm(flow);
  } else if (flow.per_packet) {
    confirm(flow);  // its entry may be another one than when the translation was made
  }
}

// --- sending ------------------------------------------------------------------------------------

Forwarder::Side Forwarder::side_of(Flow& flow, Direction direction) {
  if (direction == Direction::kToServer) {
    const net::Mac* mac = neighbors_.mac(flow.neighbor);
    if (mac != nullptr) return {flow.server_interface, mac, {}};
    // Not known when the flow was opened, or gone since.
    const snapshot::Server* server = snapshot_->server(flow.server_slot);
    snapshot::Hop hop{flow.server_interface, flow.server};
    if (server != nullptr) {
      hop = server->hop;
    } else {
      snapshot_->route(flow.server, &hop);
    }
    flow.neighbor = neighbors_.look_up(hop.port, hop.next_hop);
    return {hop.port, neighbors_.mac(flow.neighbor), hop.next_hop};
  }
  if (!flow.client_mac.is_zero()) return {flow.client_interface, &flow.client_mac, {}};
  snapshot::Hop hop{flow.client_interface, flow.client};
  snapshot_->route(flow.client, &hop);
  return {hop.port, neighbors_.mac(neighbors_.look_up(hop.port, hop.next_hop)), hop.next_hop};
}

// A packet that may not go on is answered before it changes anything (RFC 1812 4.3.3, RFC 4443 3.2,
// 3.3). True: it was, or dropped; it is no longer ours.
bool Forwarder::bounce(Buffer* buffer, uint16_t mtu, Instant now) {
  const Meta& m = packet::meta(buffer);
  if (m.ttl <= 1) {
    answer_error(buffer, packet::IcmpReply::kTimeExceeded, DropReason::kTtlExceeded, 0, now);
    return true;
  }
  if (m.l3_bytes <= mtu || !m.dont_fragment || m.reassembled) return false;
  answer_error(buffer, packet::IcmpReply::kTooBig, DropReason::kTooBig, mtu, now);
  return true;
}

void Forwarder::answer_error(Buffer* buffer, packet::IcmpReply what, DropReason why, uint16_t mtu,
                             Instant now) {
  const Meta& m = packet::meta(buffer);
  const uint8_t port = m.port;
  const net::Mac to = m.source_mac;
  output_.count(why, port);
  const net::Address* from = own_address(port, m.family);
  // A port without an address of this family speaks as the address the packet was for.
  const net::Address source = from != nullptr ? *from : m.destination;
  if (!reply_limit_.allow(now)) {
    output_.count(DropReason::kRateLimited, port);
    return packet::release(buffer);
  }
  if (!packet::make_icmp_error(buffer, what, source, mtu)) return packet::release(buffer);
  reply(buffer, port, to);
}

void Forwarder::forward(Buffer* buffer, const Flow& flow, Direction direction, const Side& side) {
  const Meta& m = packet::meta(buffer);
  const uint16_t mtu = snapshot_->ports[side.port].mtu;
  const bool to_server = direction == Direction::kToServer;
  const packet::Translation to =
      to_server ? packet::Translation{flow.source, flow.server, flow.source_port, flow.server_port}
                : packet::Translation{flow.vip, flow.client, flow.vip_port, flow.client_port};
  if (m.family == Family::kV4) {
    packet::translate<Family::kV4>(buffer, m, to);
  } else {
    packet::translate<Family::kV6>(buffer, m, to);
  }
  if ((m.tcp_flags & packet::kTcpSyn) != 0 && m.protocol == packet::kProtocolTcp) {
    const uint16_t both = std::min(mtu, snapshot_->ports[m.port].mtu);
    packet::clamp_mss(buffer, m, packet::mss_of_mtu(m.family, both));
  }
  transmit(buffer, side);
}

void Forwarder::transmit(Buffer* buffer, const Side& side) {
  if (packet::meta(buffer).l3_bytes > snapshot_->ports[side.port].mtu) [[unlikely]]
    return transmit_pieces(buffer, side);
  transmit_frame(buffer, side, packet::meta(buffer).port);
}

void Forwarder::transmit_pieces(Buffer* buffer, const Side& side) {
  const uint8_t arrived = packet::meta(buffer).port;
  Buffer* pieces[kPiecesMax];
  const uint32_t n = packet::fragment(buffer, snapshot_->ports[side.port].mtu, next_datagram_id(),
                                      pool_, pieces, kPiecesMax);
  if (n == 0) return output_.count(DropReason::kNoBuffers, arrived);
  for (uint32_t i = 0; i < n; ++i) transmit_frame(pieces[i], side, arrived);
}

void Forwarder::transmit_frame(Buffer* buffer, const Side& side, uint8_t arrived) {
  const snapshot::Port& port = snapshot_->ports[side.port];
  if (side.mac == nullptr) {
    Meta& m = packet::meta(buffer);
    m.port = side.port;
    m.next_hop = side.next_hop;
    output_.punt(buffer);
  } else if (packet::write_ethernet(buffer, {side.port, port.vlan, port.mac}, *side.mac)) {
    output_.send(buffer);
  } else {
    output_.drop(buffer, DropReason::kNoBuffers, arrived);
  }
}

// The quoted packet is one that we sent; its flow is found by what an answer to it would carry.
FlowRef Forwarder::quoted_flow(const packet::Quote& quote) const {
  const FlowKey answer{quote.destination, quote.source, quote.destination_port, quote.source_port,
                       quote.protocol};
  return flows_.find(answer, flows_.hash(answer));
}

void Forwarder::icmp(Buffer* buffer) {
  Meta& m = packet::meta(buffer);
  const auto quote = packet::parse_quote(buffer);
  if (!quote) return output_.drop(buffer, DropReason::kUnhandled);
  const FlowRef ref = quoted_flow(*quote);
  if (!ref) return output_.drop(buffer, DropReason::kNoFlow);
  if (m.ttl <= 1) return output_.drop(buffer, DropReason::kTtlExceeded);
  Flow& flow = flows_[ref.index];
  // An error about a packet to the server is for the client, and the other way round. The router
  // that sends it keeps its address; the far end's own becomes the one the receiver knows it by.
  if (ref.direction == Direction::kToClient) {
    const net::Address from = m.source == flow.server ? flow.vip : m.source;
    packet::translate_quote(buffer, {flow.client, flow.vip, flow.client_port, flow.vip_port}, from,
                            flow.client);
    transmit(buffer, side_of(flow, Direction::kToClient));
  } else {
    const net::Address from = m.source == flow.client ? flow.source : m.source;
    packet::translate_quote(buffer, {flow.server, flow.source, flow.server_port, flow.source_port},
                            from, flow.server);
    transmit(buffer, side_of(flow, Direction::kToServer));
  }
}

// --- time and snapshots -------------------------------------------------------------------------

void Forwarder::advance(Instant now) {
  const Tick tick = Tick::of(now);
  const auto of = [this](uint32_t f) -> auto& {
    return links(f);
  };
  wheel_.advance(tick, kTimersPerTurn, of, [&](uint32_t id) {
    Flow& flow = flows_[id];
    wheel_.add(id, flow.expires, of);
    if (tick.reached(flow.expires)) close(flow, now);
  });
  if (pen_.packets() > 0) age_pen(now);
}

// What the snapshot makes of this flow: it ends when its virtual service is gone or its server's
// time is over. When another engine has taken the service over, that one forwards what kept its
// client's address, so nobody may be told anything; what we translated is lost.
Forwarder::Fate Forwarder::fate_of(const Flow& flow) const {
  const auto* vs = snapshot_->virtual_service(flow.virtual_service);
  if (vs == nullptr) return Fate::kReset;
  if (!vs->served) return vs->standby && flow.nat == kNoNat ? Fate::kForgotten : Fate::kReset;
  const auto* server = snapshot_->server(flow.server_slot);
  const bool over = server != nullptr
                        ? server->reset_connections
                        : std::binary_search(snapshot_->servers_reset.begin(),
                                             snapshot_->servers_reset.end(), flow.server_slot);
  return over ? Fate::kReset : Fate::kGoesOn;
}

bool Forwarder::sweep(Instant now) {
  if (replica_.lost_counts()) {
    sweep_at_ = 0;
    swept_ = false;
  }
  for (uint32_t i = 0; i < kSweepFlowsPerTurn && !swept_; ++i) {
    if (sweep_at_ >= flows_.high_water()) {
      swept_ = true;
      break;
    }
    Flow& flow = flows_[sweep_at_++];
    if (!flow.used) continue;
    // Its place in the table may be another binding's one day.
    if (entry_of(flow) == nullptr) flow.entry = UINT32_MAX;
    switch (fate_of(flow)) {
      case Fate::kGoesOn:
        gauge(flow);
        break;
      case Fate::kReset:
        reset_both(flow, now);
        break;
      case Fate::kForgotten:
        close(flow, now);
        break;
    }
  }
  return swept_;
}

}  // namespace limpet::l4
