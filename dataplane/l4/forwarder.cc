#include "dataplane/l4/forwarder.h"

#include <algorithm>
#include <utility>

#include "dataplane/packet/fragment.h"
#include "dataplane/packet/rewrite.h"
#include "dataplane/packet/tcp_segment.h"

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
constexpr uint32_t kPortAttempts = 8;
constexpr uint32_t kPortStride = 251;  // between attempts
constexpr uint32_t kPiecesMax = 64;
// A datagram's flow that was used so lately is in use.
constexpr timing::Duration kInUse = timing::seconds(1);

bool is_udp(const Flow& flow) {
  return flow.protocol == packet::kProtocolUdp;
}

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
    : core_(options.core),
      cores_(options.cores),
      replica_(replica),
      picker_(picker),
      gauges_(picker.gauges()),
      pool_(pool),
      output_(output),
      flows_(options.flows, hash, memory),
      wheel_(Tick::of(now)),
      neighbors_(hash, memory),
      pen_(options.parked, memory),
      nats_(options.nats),
      vs_counters_(options.virtual_services),
      server_counters_(options.servers),
      selector_(replica, picker),
      datagram_id_(static_cast<uint32_t>(random.next()) / options.cores * options.cores +
                   options.core) {}

void Forwarder::use(const snapshot::Snapshot& s) {
  if (snapshot_ == &s && version_ == s.version) return;
  // Until the sweep has been through, whatever comes meanwhile.
  rerouted_ = rerouted_ && s.routes_since <= version_;
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
  if (!goes_on(flow, ref.direction, buffer, now)) {
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
  if (flow.unproved && ref.direction == Direction::kToClient) [[unlikely]] {
    if ((m.tcp_flags & packet::kTcpRst) != 0 && try_first_server(flow, now))
      return output_.drop(buffer, DropReason::kNoFlow);
    flow.unproved = false;
  }
  const Side side = side_of(flow, ref.direction);
  if (bounce(buffer, snapshot_->ports[side.port].mtu, now)) return;
  bool over = false;
  if (m.protocol == packet::kProtocolTcp) {
    over = track_tcp(flow, ref.direction, buffer, now);
  } else {
    track_udp(flow, ref.direction, now);
  }
  if (flow.unbound) [[unlikely]]
    bind_again(flow);
  forward(buffer, flow, ref.direction, side);
  if (over) close(flow, now);
}

// Whether the packet is the flow's; else the flow is over and the packet begins something new.
bool Forwarder::goes_on(const Flow& flow, Direction direction, Buffer* buffer, Instant now) const {
  // A flow may be over and still wait for its turn of the wheel.
  if (Tick::of(now).reached(flow.expires)) return false;
  const Meta& m = packet::meta(buffer);
  if (m.protocol == packet::kProtocolUdp) return swept_ || !moves(flow);
  if (direction != Direction::kToServer || !opens(m)) return true;
  switch (judge_syn(flow.state, packet::tcp_segment(buffer, m), flow.seen)) {
    case Syn::kRepeated:
      return standing(flow) != Standing::kNone;
    case Syn::kContested:
      return standing(flow) == Standing::kTakesNew;
    case Syn::kNew:
      break;
  }
  return false;
}

// What the flow's server would be to a new connection of its client.
Forwarder::Standing Forwarder::standing(const Flow& flow) const {
  const auto* vs = snapshot_->virtual_service(flow.virtual_service);
  const auto* server = snapshot_->server(flow.server_slot);
  if (vs == nullptr || server == nullptr || server->reset_connections || !is_at(flow, *server) ||
      snapshot_->pool_of(flow.server_slot) != vs->pool)
    return Standing::kNone;
  if (balance::takes_new_clients(*server)) return Standing::kTakesNew;
  const snapshot::Scope* scope = snapshot_->scope(vs->scope);
  if (scope == nullptr) return Standing::kNone;
  const balance::Bound bound{server->id, server->id};
  const auto judgement =
      balance::judge(snapshot_->pools[vs->pool.value], scope, &bound, gauges_, true);
  return judgement.action == balance::Judgement::Action::kUse ? Standing::kTakesItsOwn
                                                              : Standing::kNone;
}

// A server with a uuid stays itself when its address changes; what is established stays where it
// is.
bool Forwarder::is_at(const Flow& flow, const snapshot::Server& server) {
  return flow.server == server.address &&
         flow.server_port == (server.port != 0 ? server.port : flow.vip_port);
}

// Datagrams are no connection: where the policy chooses another server for a client whose server is
// down, it does so at once (SPEC 2.5); and they go where their server is.
bool Forwarder::moves(const Flow& flow) const {
  const auto* server = snapshot_->server(flow.server_slot);
  if (!is_udp(flow) || server == nullptr) return false;
  if (!is_at(flow, *server)) return true;
  if (flow.per_packet || (server->state != snapshot::ServerState::kDown && server->reachable))
    return false;
  const auto* vs = snapshot_->virtual_service(flow.virtual_service);
  const auto* scope = vs == nullptr ? nullptr : snapshot_->scope(vs->scope);
  return scope == nullptr || scope->down == snapshot::Recovery::kPickNew;
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
  grant.datagram = m.protocol == packet::kProtocolUdp;
  if (vs->per_packet && grant.datagram) return per_packet(buffer, *vs, now, grant);

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
  begin(*flow, buffer, now);
  send_first(buffer, *flow, now);
}

void Forwarder::refused(Buffer* buffer, const snapshot::VirtualService& vs, Reason reason,
                        Instant now) {
  VsCounters& counters = vs_counters_[vs.slot.value];
  ++(reason == Reason::kTableFull ? counters.refused_table_full : counters.refused_no_server);
  refuse(buffer, drop_reason(reason), now);
}

// What the packet that opens a flow says of it, and for how long it lives.
void Forwarder::begin(Flow& flow, Buffer* buffer, Instant now) {
  const Meta& m = packet::meta(buffer);
  const bool tcp = m.protocol == packet::kProtocolTcp;
  if (tcp) flow.seen = seen_opening(packet::tcp_segment(buffer, m));
  flow.opened = Tick::of(now);
  start(flow, tcp ? FlowState::kSynSent : FlowState::kUnanswered,
        tcp ? Life::kHalfOpen : Life::kIdle, now);
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
  const FlowRef ref = flows_.find_per_packet(key_of(m), choice.server->slot);
  Flow* flow = ref ? &flows_[ref.index] : nullptr;
  if (flow != nullptr && !is_at(*flow, *choice.server)) {
    close(*flow, now);
    flow = nullptr;
  }
  const bool again = flow != nullptr;
  if (again) {
    flow->client_mac = vs.autogw ? m.source_mac : net::Mac{};
    flow->client_interface = vs.autogw ? m.port : flow->client_interface;
  } else {
    DropReason why{};
    flow = open(buffer, vs, choice, now, &why);
    if (flow == nullptr) {
      if (choice.created) replica_.undo_create(*choice.entry);
      return refuse(buffer, why, now);
    }
    begin(*flow, buffer, now);
  }
  ++vs_counters_[vs.slot.value].total;
  ++server_counters_[choice.server->slot.value].total;
  if (choice.entry != nullptr) {
    bind(*flow, *choice.entry);
  } else {
    flow->entry = UINT32_MAX;
  }
  if (again) track_udp(*flow, Direction::kToServer, now);
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

// A link-local one is known on its link only (RFC 6724 rule 2).
const net::Address* Forwarder::own_address(uint8_t port, const net::Address& to) const {
  for (const net::Prefix& p : snapshot_->ports[port].addresses) {
    const bool reaches = !p.address.is_link_local_v6() || to.is_link_local_v6();
    if (p.family() == to.family() && reaches) return &p.address;
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
  } else if (!can_keep_address(vs, flow->client)) {
    if (open_shown_as_port(*flow, now)) return opened(flow);
    *why = DropReason::kSnatExhausted;
  } else {
    flow->source = flow->client;
    flow->source_port = flow->client_port;
    if (insert(*flow, now)) return opened(flow);
    *why = DropReason::kTupleInUse;
  }
  flows_.discard(*flow);
  return nullptr;
}

// The same client and port towards the same server by two virtual services: their answers could not
// be told apart. A connection that is over gives way.
bool Forwarder::insert(Flow& flow, Instant now) {
  if (flows_.insert(flow)) return true;
  for (const FlowRef ref : flows_.conflicts(flow)) {
    if (!ref) continue;
    Flow& other = flows_[ref.index];
    if (!gives_way(other, now)) return false;
    close(other, now);
  }
  return flows_.insert(flow);
}

bool Forwarder::gives_way(const Flow& flow, Instant now) {
  return GiveWay::kind_of(flow.state) == GiveWay::Kind::kFinished ||
         Tick::of(now).reached(flow.expires);
}

// Not of a server that connects to its own virtual service: the answers would not come back this
// way. Nor of a client with a link-local address, which must not leave its link (RFC 4291 2.5.6).
bool Forwarder::can_keep_address(const snapshot::VirtualService& vs,
                                 const net::Address& client) const {
  return client.zone() == 0 && !snapshot_->pools[vs.pool.value].has_address(client);
}

// A client that cannot keep its address gets that of our port, and a port of this core's slice that
// no flow of this server has.
bool Forwarder::open_shown_as_port(Flow& flow, Instant now) {
  const net::Address* source = own_address(flow.server_interface, flow.server);
  if (source == nullptr) return false;
  flow.source = *source;
  const PortSlice slice = PortSlice::of(core_, cores_);
  const uint32_t ports = slice.last - slice.first + 1u;
  const uint32_t start = flow.client_port % ports;
  for (uint32_t attempt = 0; attempt < kPortAttempts; ++attempt) {
    flow.source_port = static_cast<uint16_t>(slice.first + (start + attempt * kPortStride) % ports);
    if (insert(flow, now)) return true;
  }
  return false;
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
  flow.client_neighbor = neighbors_.look_up(hop.port, hop.next_hop);
  return true;
}

// A client is shown with one address while that has ports (RFC 4787 REQ-2), the same on all cores.
bool Forwarder::open_translated(Flow& flow, const snapshot::Server& server, Instant now) {
  const bool tcp = flow.protocol == packet::kProtocolTcp;
  const uint32_t first = (tcp ? server.tcp_nat : server.udp_nat).value;
  const auto n = static_cast<uint32_t>(server.sources.size());
  const uint32_t start = base::reduce(net::stable_hash(flow.client), n);
  for (const bool lately_freed : {false, true}) {
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t which = start + i < n ? start + i : start + i - n;
      SourcePorts* ports = nats_[first + which];
      LIMPET_ASSERT(ports != nullptr);
      flow.source = server.sources[which];
      flow.nat = snapshot::NatId{first + which};
      flow.lately_freed = lately_freed;
      // A port can be taken by a flow of another pool to the same server only when one of them uses
      // the client's port (use_service_port); then the next one will do.
      for (uint32_t attempt = 0; attempt < kPortAttempts; ++attempt) {
        flow.source_port = lately_freed ? ports->take_lately_freed() : ports->take(now);
        if (flow.source_port == 0) break;
        flows_.prefetch_answer(flow);
        if (!flows_.insert(flow)) {
          ports->give_back(flow.source_port, now);
          continue;
        }
        if (!lately_freed) return true;
        ServerCounters& counters = server_counters_[server.slot.value];
        counters.snat_reused_nat.set(flow.nat.value);
        counters.snat_reused_s.set(static_cast<uint32_t>(now.ns / 1'000'000'000));
        ++counters.snat_reused;
        return true;
      }
    }
  }
  return false;
}

void Forwarder::give_port_back(const Flow& flow, Instant now) {
  SourcePorts& ports = *nats_[flow.nat.value];
  if (flow.lately_freed && flow.state == FlowState::kSynSent) {
    ports.put_back(flow.source_port, now);
  } else {
    ports.give_back(flow.source_port, now);
  }
}

// The table is full: what is over, or never came about, gives way.
Flow* Forwarder::reclaim(Instant now) {
  const uint32_t victim = give_way_.choose(flow_by_index(), [&](const Flow& flow) {
    // It was used lately, and not for the first time.
    const Tick lately = Tick::after(now - kInUse + timing::seconds(flow.idle_s));
    return flow.expires.reached(lately) && Tick::of(now - kInUse).reached(flow.opened);
  });
  if (victim == GiveWay::kNobody) return nullptr;
  const uint32_t next = flows_[victim].order.next;
  close(flows_[victim], now);
  // While the table stays full it is the next to go.
  if (next != GiveWay::kNobody) flows_.prefetch_erase(flows_[next], flows_[next].order.next);
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
    if (entry->open == 0) replica_.closed(*entry);
  }
}

// A limit may be set while connections are open: they count too.
void Forwarder::gauge(Flow& flow) {
  if (flow.gauged || !flow.counted) return;
  const auto* server = snapshot_->server(flow.server_slot);
  if (server == nullptr || server->connections_max == 0) return;
  flow.gauged = gauges_.reserve(*server, true);
}

// The handshake was seen, the server has answered, or the client came again.
void Forwarder::confirm(Flow& flow) {
  persist::Entry* entry = entry_of(flow);
  if (entry != nullptr) return replica_.confirm(*entry);
  // An embryonic binding may go before its connection is complete.
  flow.unbound = flow.counted;
}

// The connection stands, its binding went while it was embryonic: the client is bound to this very
// server again, unless another binding was made meanwhile, which stands, or the server takes nobody
// any more; then the flow goes on uncounted. What has to wait is tried again with the flow's next
// packet, or the home's answer.
void Forwarder::bind_again(Flow& flow) {
  const auto* vs = snapshot_->virtual_service(flow.virtual_service);
  const auto* scope = vs == nullptr ? nullptr : snapshot_->scope(vs->scope);
  const auto* server = snapshot_->server(flow.server_slot);
  if (!flow.counted || scope == nullptr || server == nullptr) {
    flow.unbound = false;
    return;
  }
  const auto key = persist::Key::of(scope->key_of(flow.client));
  persist::Entry* entry = replica_.find(*scope, key);
  if (entry == nullptr) {
    if (!balance::takes_new_clients(*server)) {
      flow.unbound = false;
      return;
    }
    if (!replica_.is_home(scope->slot, key)) return ask_again(flow, *scope, key, server->id);
    const auto made = replica_.create(*scope, key, server->id,
                                      {.since = replica_.now(), .datagram = is_udp(flow)});
    if (made.outcome == replication::Outcome::kWait) return;
    entry = made.entry;
  } else if (!replica_.may_use(*entry, *scope)) {
    return;
  }
  flow.unbound = false;
  if (entry == nullptr || entry->server != server->id) return;
  bind(flow, *entry);
  ++entry->open;
  replica_.use(*entry, is_udp(flow));
  replica_.confirm(*entry);
}

void Forwarder::close(Flow& flow, Instant now) {
  uncount(flow, now);
  const uint32_t index = flows_.index_of(flow);
  wheel_.remove(
      index, [this](uint32_t f) -> auto& { return links(f); });
  give_way_.remove(index, flow_by_index());
  if (flow.nat != kNoNat) give_port_back(flow, now);
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
                                    flow.seen.client.acked, flow.seen.server.acked});
      } else {
        packet::write_tcp_reset(b, {flow.source, flow.server, flow.source_port, flow.server_port,
                                    flow.seen.server.acked, flow.seen.client.acked});
      }
      transmit(b, side_of(flow, direction));
    }
  }
  close(flow, now);
}

// --- connection tracking ------------------------------------------------------------------------

// A flow's first state and time.
void Forwarder::start(Flow& flow, FlowState state, Life life, Instant now) {
  const uint32_t index = flows_.index_of(flow);
  flow.state = state;
  give_way_.add(index, flow_by_index());
  flow.expires = Tick::after(now + duration(flow, life));
  wheel_.add(
      index, flow.expires, [this](uint32_t f) -> auto& { return links(f); });
}

void Forwarder::enter(Flow& flow, FlowState state) {
  const bool same = GiveWay::kind_of(flow.state) == GiveWay::kind_of(state);
  const uint32_t index = flows_.index_of(flow);
  if (!same) give_way_.remove(index, flow_by_index());
  flow.state = state;
  if (!same) give_way_.add(index, flow_by_index());
}

timing::Duration Forwarder::duration(const Flow& flow, Life life) {
  switch (life) {
    case Life::kHalfOpen:
      return kHalfOpenTimeout;
    case Life::kClosing:
      return kClosingTimeout;
    case Life::kTimeWait:
      return kTimeWaitTimeout;
    case Life::kShort:
      return kShortTimeout;
    case Life::kIdle:
    case Life::kAsBefore:
      break;
  }
  return timing::seconds(flow.idle_s);
}

// The wheel looks at a flow when its time may have come, and puts it back: only a time that comes
// sooner has to be told.
void Forwarder::live(Flow& flow, Life life, Instant now) {
  if (life == Life::kAsBefore) return;
  const Tick until = Tick::after(now + duration(flow, life));
  const bool sooner = !until.reached(flow.expires);
  if (life == Life::kShort && !sooner) return;
  flow.expires = until;
  if (!sooner) return;
  const uint32_t index = flows_.index_of(flow);
  const auto of = [this](uint32_t f) -> auto& {
    return links(f);
  };
  wheel_.remove(index, of);
  wheel_.add(index, until, of);
}

bool Forwarder::track_tcp(Flow& flow, Direction direction, Buffer* buffer, Instant now) {
  const Step step =
      track(flow.state, direction, packet::tcp_segment(buffer, packet::meta(buffer)), &flow.seen);
  if (step.effect == Step::Effect::kOver) return true;
  if (step.state != flow.state) enter(flow, step.state);
  live(flow, step.life, now);
  if (step.effect == Step::Effect::kConfirmed) {
    confirm(flow);
  } else if (step.effect == Step::Effect::kClosed) {
    uncount(flow, now);
  }
  return false;
}

void Forwarder::track_udp(Flow& flow, Direction direction, Instant now) {
  live(flow, Life::kIdle, now);
  const bool answer = direction == Direction::kToClient;
  if (answer && flow.state == FlowState::kUnanswered) enter(flow, FlowState::kAnswered);
  // Of a translation it may be another one than when that was made.
  if (flow.confirmed && !flow.per_packet) return;
  if (!answer && !Tick::of(now - persist::kComesAgain).reached(flow.opened)) return;
  flow.confirmed = true;
  confirm(flow);
}

// --- sending ------------------------------------------------------------------------------------

Forwarder::Side Forwarder::side_of(Flow& flow, Direction direction) {
  if (direction == Direction::kToServer) {
    const net::Mac* mac = neighbors_.mac(flow.neighbor);
    if (mac != nullptr) return {flow.server_interface, mac, {}};
    // Not known when the flow was opened, or gone since.
    const snapshot::Hop hop = find_server(flow);
    return {hop.port, neighbors_.mac(flow.neighbor), hop.next_hop};
  }
  if (!flow.client_mac.is_zero()) return {flow.client_interface, &flow.client_mac, {}};
  if (const net::Mac* mac = neighbors_.mac(flow.client_neighbor))
    return {flow.client_interface, mac, {}};
  const snapshot::Hop hop = find_client(flow);
  return {hop.port, neighbors_.mac(flow.client_neighbor), hop.next_hop};
}

// By which way the client is reached, without enable_autogw.
snapshot::Hop Forwarder::find_client(Flow& flow) {
  snapshot::Hop hop{flow.client_interface, flow.client};
  snapshot_->route(flow.client, &hop);
  flow.client_interface = hop.port;
  flow.client_neighbor = neighbors_.look_up(hop.port, hop.next_hop);
  return hop;
}

snapshot::Hop Forwarder::find_server(Flow& flow) {
  const snapshot::Server* server = snapshot_->server(flow.server_slot);
  snapshot::Hop hop{flow.server_interface, flow.server};
  if (server != nullptr && is_at(flow, *server)) {
    hop = server->hop;
  } else {
    snapshot_->route(flow.server, &hop);
  }
  flow.server_interface = hop.port;
  flow.neighbor = neighbors_.look_up(hop.port, hop.next_hop);
  return hop;
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
  const net::Address* from = own_address(port, m.source);
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
  // that sends it keeps its address, unless that is link-local; then, and of the far end itself, it
  // becomes the one that the receiver knows the far end by.
  const bool local = m.source.zone() != 0;
  if (ref.direction == Direction::kToClient) {
    const net::Address from = m.source == flow.server || local ? flow.vip : m.source;
    packet::translate_quote(buffer, {flow.client, flow.vip, flow.client_port, flow.vip_port}, from,
                            flow.client);
    transmit(buffer, side_of(flow, Direction::kToClient));
  } else {
    const net::Address from = m.source == flow.client || local ? flow.source : m.source;
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
  if (!vs->served) return vs->standby && flow.keeps_client() ? Fate::kForgotten : Fate::kReset;
  const auto* server = snapshot_->server(flow.server_slot);
  const bool over = server != nullptr
                        ? server->reset_connections
                        : std::binary_search(snapshot_->servers_reset.begin(),
                                             snapshot_->servers_reset.end(), flow.server_slot);
  if (over) return Fate::kReset;
  return moves(flow) ? Fate::kForgotten : Fate::kGoesOn;
}

bool Forwarder::sweep(Instant now) {
  if (replica_.lost_counts()) {
    sweep_at_ = 0;
    swept_ = false;
  }
  for (uint32_t i = 0; i < kSweepFlowsPerTurn && !swept_; ++i) {
    if (sweep_at_ >= flows_.high_water()) {
      swept_ = rerouted_ = true;
      break;
    }
    Flow& flow = flows_[sweep_at_++];
    if (!flow.used) continue;
    // Its place in the table may be another binding's one day.
    if (entry_of(flow) == nullptr) flow.entry = UINT32_MAX;
    switch (fate_of(flow)) {
      case Fate::kGoesOn:
        gauge(flow);
        if (!rerouted_) {
          find_server(flow);
          if (flow.client_mac.is_zero()) find_client(flow);
        }
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
