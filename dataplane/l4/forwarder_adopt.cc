// Adoption: TCP connections that were opened through another engine and go on through this one,
// which has taken their group over. Clients kept their addresses, so their packets look the same
// here; only the flow is missing. It is made from the client's binding, which peers have told.
//
// What is asked for, every time: a virtual service whose group engines take over from one another
// (snapshot: `adopts`); a plain segment of an established connection (ACK, neither SYN nor RST);
// the client's binding, confirmed, at its home; its server still in the pool and not to be reset;
// of a segment from a server, that this is the binding's server and that it serves one VIP and port
// only. Who made the binding says nothing: with preempt a group comes back, and with it connections
// that other engines opened by bindings of ours.
//
// Never creates or moves a binding. Bounded by a rate of its own; a segment that is refused here
// gets what one without a flow always gets.
#include "dataplane/l4/forwarder.h"

namespace limpet::l4 {

using packet::Buffer;
using packet::Meta;
using timing::Instant;
using timing::Tick;

// Whose connection it would be.
struct Forwarder::Adoption {
  const snapshot::VirtualService& vs;
  const net::Address& client;
  uint16_t client_port = 0;
  const net::Address& vip;
  uint16_t vip_port = 0;
  const net::Address* server = nullptr;  // a segment from there; null: from the client
};

namespace {

bool is_established(const Meta& m) {
  return (m.tcp_flags & (packet::kTcpSyn | packet::kTcpRst | packet::kTcpAck)) == packet::kTcpAck;
}

}  // namespace

bool Forwarder::adopt_from_client(Buffer* buffer, const snapshot::VirtualService& vs, Instant now,
                                  const Grant& grant) {
  const Meta& m = packet::meta(buffer);
  return adopt(buffer,
               {.vs = vs,
                .client = m.source,
                .client_port = m.source_port,
                .vip = m.destination,
                .vip_port = m.destination_port},
               now, grant);
}

bool Forwarder::adopt_from_server(Buffer* buffer, Instant now, const Grant& grant) {
  const Meta& m = packet::meta(buffer);
  const snapshot::Adoptable* from = snapshot_->adoptable(m.source, m.source_port);
  snapshot::Hop way;
  // Without enable_autogw or with: the client's own MAC is not known yet, so there has to be a way.
  if (from == nullptr || !snapshot_->route(m.destination, &way)) return false;
  return adopt(buffer,
               {.vs = snapshot_->virtual_services[from->virtual_service],
                .client = m.destination,
                .client_port = m.destination_port,
                .vip = from->vip,
                .vip_port = from->vip_port,
                .server = &m.source},
               now, grant);
}

bool Forwarder::adopt(Buffer* buffer, const Adoption& a, Instant now, const Grant& grant) {
  const Meta& m = packet::meta(buffer);
  const snapshot::Scope* scope = snapshot_->scope(a.vs.scope);
  if (!is_established(m) || scope == nullptr || grant.nothing) return false;
  if (!adoption_limit_.allow(now)) return false;
  const auto key = persist::Key::of(scope->key_of(a.client));
  persist::Entry* entry = replica_.find(*scope, key);
  if (entry == nullptr)
    return !replica_.is_home(scope->slot, key) &&
           ask_for_adoption(buffer, *scope, key, grant.since);
  if (!entry->confirmed) return false;
  const snapshot::Server* server = snapshot_->pools[a.vs.pool.value].find(entry->server);
  if (server == nullptr || server->reset_connections || !server->reachable) return false;
  if (a.server != nullptr && (server->address != *a.server ||
                              (server->port != 0 ? server->port : a.vip_port) != m.source_port))
    return false;
  if (!replica_.may_use(*entry, *scope)) {
    output_.drop(buffer, packet::DropReason::kClaimLate);  // it comes again
    return true;
  }
  Flow* flow = make_adopted(m, a, *server, now);
  if (flow == nullptr) return false;
  replica_.use(*entry);
  count(*flow, entry);
  gauge(*flow);
  ++readopted_;
  known(buffer,
        {flows_.index_of(*flow), a.server == nullptr ? Direction::kToServer : Direction::kToClient},
        now);
  return true;
}

// This core has no copy of the binding; its home may know it. True: parked, or dropped.
bool Forwarder::ask_for_adoption(Buffer* buffer, const snapshot::Scope& scope,
                                 const persist::Key& key, Instant since) {
  const uint32_t hash = replica_.table().hash(scope.slot, key);
  Pen::Slot* slot = pen_.find(hash, scope.slot, key);
  if (slot == nullptr) slot = pen_.add(hash, scope.slot, key, since);
  if (slot == nullptr || !pen_.park(*slot, buffer, since)) {
    output_.drop(buffer, packet::DropReason::kPenFull);
    return true;
  }
  if (slot->claimed) return true;
  if (!replica_.claim(scope, key, nullptr, {.existing = true})) {
    if (slot->count == 1) retry_.push_back(pen_.index_of(*slot));
    return true;
  }
  slot->claimed = true;
  slot->version = snapshot_->version;
  slot->have_serial = slot->have_change = 0;
  slot->reserved = false;
  slot->server = {};
  return true;
}

// Null: no place in the table, or another flow has these addresses and ports.
Flow* Forwarder::make_adopted(const Meta& m, const Adoption& a, const snapshot::Server& server,
                              Instant now) {
  Flow* flow = flows_.allocate();
  if (flow == nullptr) flow = reclaim(now);
  if (flow == nullptr) return nullptr;
  flow->client = flow->source = a.client;
  flow->client_port = flow->source_port = a.client_port;
  flow->vip = a.vip;
  flow->vip_port = a.vip_port;
  flow->server = server.address;
  flow->server_port = server.port != 0 ? server.port : a.vip_port;
  flow->protocol = packet::kProtocolTcp;
  flow->server_interface = server.hop.port;
  flow->virtual_service = a.vs.slot;
  flow->server_slot = server.slot;
  flow->idle_s = static_cast<uint16_t>(a.vs.tcp_idle / timing::seconds(1));
  flow->neighbor = neighbors_.look_up(server.hop.port, server.hop.next_hop);
  const bool way = a.server == nullptr ? client_side(*flow, m, a.vs) : true;
  if (a.server != nullptr) {
    // Until the client's next packet says by which way it comes.
    snapshot::Hop hop;
    snapshot_->route(a.client, &hop);
    flow->client_interface = hop.port;
    flow->learns_client = a.vs.autogw;
  }
  if (!way || !flows_.insert(*flow)) {
    flows_.discard(*flow);
    return nullptr;
  }
  flow->state = FlowState::kEstablished;
  flow->expires = Tick::after(now + timing::seconds(flow->idle_s));
  wheel_.add(
      flows_.index_of(*flow), flow->expires, [this](uint32_t f) -> auto& { return links(f); });
  return opened(flow);
}

}  // namespace limpet::l4
