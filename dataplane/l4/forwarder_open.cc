// Flows: what opens one, which address and port its server sees, what counts it and binds it to its
// client's entry, what closes it, and which one goes when there is no room.
#include <utility>

#include "dataplane/l4/forwarder.h"

namespace limpet::l4 {

using packet::Buffer;
using packet::DropReason;
using packet::Meta;
using timing::Instant;
using timing::Tick;

namespace {

constexpr uint32_t kPortAttempts = 8;
constexpr uint32_t kPortStride = 251;  // between attempts
// A datagram's flow that was used so lately is in use.
constexpr timing::Duration kInUse = timing::seconds(1);

}  // namespace

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
  flow->client = m.source;
  flow->vip = m.destination;
  flow->client_port = m.source_port;
  flow->vip_port = m.destination_port;
  flow->protocol = m.protocol;
  flow->look.per_packet = vs.per_packet && flow->is_udp();
  towards(*flow, vs, server);
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

// What a flow has of its server.
void Forwarder::towards(Flow& flow, const snapshot::VirtualService& vs,
                        const snapshot::Server& server) {
  flow.server = server.address;
  flow.server_port = server.port_for(flow.vip_port);
  flow.server_interface = server.hop.port;
  flow.virtual_service = vs.slot;
  flow.server_slot = server.slot;
  const auto idle = flow.is_udp() ? vs.udp_idle : vs.tcp_idle;
  flow.idle_s = static_cast<uint16_t>(idle / timing::seconds(1));
  flow.neighbor = neighbors_.look_up(server.hop.port, server.hop.next_hop);
}

// The same client and port towards the same server by two virtual services: their answers could not
// be told apart. A connection that is over gives way.
bool Forwarder::insert(Flow& flow, Instant now) {
  flow.delta = packet::address_delta(flow.client, flow.vip, flow.source, flow.server);
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
  const net::Address* source = sender_.own_address(flow.server_interface, flow.server);
  if (source == nullptr) return false;
  flow.source = *source;
  const egress::PortSlice slice = egress::PortSlice::of(core_, cores_);
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
      egress::SourcePorts* ports = nats_[first + which];
      LIMPET_ASSERT(ports != nullptr);
      flow.source = server.sources[which];
      flow.nat = snapshot::NatId{first + which};
      flow.lately_freed = lately_freed;
      // A port may be a finished flow's still, which gives way. A living one of another pool to the
      // same server has it only when one of them uses the client's port (use_service_port); then
      // the next one will do.
      for (uint32_t attempt = 0; attempt < kPortAttempts; ++attempt) {
        flow.source_port = lately_freed ? ports->take_lately_freed() : ports->take(now);
        if (flow.source_port == 0) break;
        flows_.prefetch_answer(flow);
        if (!insert(flow, now)) {
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

void Forwarder::give_port_back(Flow& flow, Instant now) {
  if (flow.nat == kNoNat) return;
  egress::SourcePorts& ports = *nats_[std::exchange(flow.nat, kNoNat).value];
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

void Forwarder::close(Flow& flow, Instant now) {
  uncount(flow, now);
  const uint32_t index = flows_.index_of(flow);
  wheel_.remove(
      index, [this](uint32_t f) -> auto& { return links(f); });
  give_way_.remove(index, flow_by_index());
  give_port_back(flow, now);
  --vs_counters_[flow.virtual_service.value].flows;
  --server_counters_[flow.server_slot.value].flows;
  flows_.erase(flow);
}

// --- counting and binding -----------------------------------------------------------------------

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
  flow.look.unbound = flow.counted;
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
    flow.look.unbound = false;
    return;
  }
  const Question q = question_of(*vs, flow.client, flow.client_port);
  persist::Entry* entry = replica_.find(*scope, q.key, q.hash);
  if (entry == nullptr) {
    if (!balance::takes_new_clients(*server)) {
      flow.look.unbound = false;
      return;
    }
    if (!replica_.is_home(q.hash)) return ask_again(flow, q, server->id);
    const auto made = replica_.create(*scope, q.key, server->id,
                                      {.since = replica_.now(), .datagram = flow.is_udp()});
    if (made.outcome == replication::Outcome::kWait) return;
    entry = made.entry;
  } else if (!replica_.may_use(*entry, *scope)) {
    return;
  }
  flow.look.unbound = false;
  if (entry == nullptr || entry->server != server->id) return;
  bind(flow, *entry);
  ++entry->open;
  replica_.use(*entry, flow.is_udp());
  replica_.confirm(*entry);
}

}  // namespace limpet::l4
