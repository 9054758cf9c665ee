// Adoption: TCP connections that were opened through another engine and go on through this one,
// which has taken their group over. Clients kept their addresses, so their packets look the same
// here; only the flow is missing. It is made from the client's binding, which peers have told.
//
// What is asked for, every time: a virtual service whose group engines take over from one another
// (snapshot: `adopts`); a client that can keep its address; a plain segment of an established
// connection (ACK, neither SYN nor RST); the client's binding, confirmed, at its home; its server
// still in the pool and not to be reset; of a segment from a server, that it is the binding's
// server and serves one VIP and port only. Who made the binding says nothing: with preempt a group
// comes back, and with it connections that other engines opened by bindings of ours.
//
// A binding that moved has had two servers: a connection may be older than that. A server says by
// its segments whose it is. To a client's segment the binding's server answers first; if it resets
// what it does not know, the first server is asked, and the client hears only that one.
//
// Never creates or moves a binding. Flows are made at a bounded rate, looked up before: a segment
// too many is dropped and comes again, for nobody knows that its connection is over. One that is
// refused gets what one without a flow always gets.
#include <utility>

#include "dataplane/l4/forwarder.h"
#include "dataplane/packet/tcp_segment.h"

namespace limpet::l4 {

using packet::Buffer;
using packet::Meta;
using timing::Instant;

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
  if (!is_established(m) || scope == nullptr || grant.nothing || !can_keep_address(a.vs, a.client))
    return false;
  const Question q = question_of(a.vs, a.client, a.client_port);
  persist::Entry* entry = replica_.find(*scope, q.key, q.hash);
  if (entry == nullptr)
    return !replica_.is_home(q.hash) && ask_for_adoption(buffer, q, grant.since);
  if (!entry->confirmed) return false;
  const snapshot::Server* server = server_of(a, entry->server, m);
  const snapshot::Server* first =
      entry->first == entry->server ? nullptr : server_of(a, entry->first, m);
  if (server == nullptr) server = std::exchange(first, nullptr);
  if (server == nullptr) return false;
  if (!replica_.may_use(*entry, *scope)) {
    output_.drop(buffer, packet::DropReason::kClaimLate);  // it comes again
    return true;
  }
  if (!adoption_limit_.allow(now)) {
    output_.drop(buffer, packet::DropReason::kRateLimited);
    return true;
  }
  Flow* flow = flows_.allocate();
  if (flow == nullptr) flow = reclaim(now);
  if (flow == nullptr) {
    output_.drop(buffer, packet::DropReason::kFlowTableFull);
    return true;
  }
  if (!fill_adopted(*flow, buffer, a, *server, now)) {
    flows_.discard(*flow);
    return false;
  }
  opened(flow);
  flow->look.unproved = a.server == nullptr && first != nullptr;
  replica_.use(*entry);
  count(*flow, entry);
  gauge(*flow);
  ++readopted_;
  known(buffer,
        {flows_.index_of(*flow), a.server == nullptr ? Direction::kToServer : Direction::kToClient},
        now);
  return true;
}

// The server of this identity, if the connection may go on with it; and, of a segment from a
// server, if that is the one.
const snapshot::Server* Forwarder::server_of(const Adoption& a, binding::ServerId id,
                                             const Meta& m) const {
  const snapshot::Server* server = snapshot_->pools[a.vs.pool.value].find(id);
  if (server == nullptr || server->reset_connections || !server->reachable) return nullptr;
  if (a.server != nullptr &&
      (server->address != *a.server || server->port_for(a.vip_port) != m.source_port))
    return nullptr;
  return server;
}

// The server of an adopted connection does not know it: perhaps the first one of its client does.
// True: it is asked, when the client's segment comes again. Then the reset is not the client's.
bool Forwarder::try_first_server(Flow& flow, Instant now) {
  flow.look.unproved = false;
  persist::Entry* entry = entry_of(flow);
  const auto* vs = snapshot_->virtual_service(flow.virtual_service);
  if (entry == nullptr || vs == nullptr) return false;
  const snapshot::Server* first = snapshot_->pools[vs->pool.value].find(entry->first);
  if (first == nullptr || first->slot == flow.server_slot || first->reset_connections ||
      !first->reachable)
    return false;
  Flow asked;
  asked.client = asked.source = flow.client;
  asked.client_port = asked.source_port = flow.client_port;
  asked.vip = flow.vip;
  asked.vip_port = flow.vip_port;
  asked.protocol = flow.protocol;
  asked.client_interface = flow.client_interface;
  asked.client_mac = flow.client_mac;
  asked.client_neighbor = flow.client_neighbor;
  asked.seen = flow.seen;
  towards(asked, *vs, *first);
  // The client may have that port in use towards it by another port of the VIP.
  const FlowRef taken = flows_.conflicts(asked)[1];
  if (taken && !gives_way(flows_[taken.index], now)) return false;
  close(flow, now);
  Flow& next = *flows_.allocate();  // there is a place: close() has just left one
  next = asked;
  const bool inserted = insert(next, now);
  LIMPET_ASSERT(inserted);
  start(next, FlowState::kEstablished, Life::kIdle, now);
  count(*opened(&next), entry);
  gauge(next);
  return true;
}

// This core has no copy of the binding; its home may know it. True: parked, or dropped.
bool Forwarder::ask_for_adoption(Buffer* buffer, const Question& q, Instant since) {
  Pen::Slot* slot = pen_.find(q.hash, q.scope->slot, q.key);
  if (slot == nullptr) slot = pen_.add(q.hash, q.scope->slot, q.key, since);
  if (slot == nullptr || !pen_.park(*slot, buffer, since)) {
    output_.drop(buffer, packet::DropReason::kPenFull);
    return true;
  }
  if (slot->claimed) return true;
  if (!replica_.claim(*q.scope, q.key, nullptr, {.existing = true})) {
    pen_.queue(*slot);
    return true;
  }
  slot->claimed = true;
  slot->version = snapshot_->version;
  slot->have_serial = slot->have_change = 0;
  slot->reserved = false;
  slot->server = {};
  return true;
}

// False: there is no way to the client, or another flow has these addresses and ports.
bool Forwarder::fill_adopted(Flow& flow, Buffer* buffer, const Adoption& a,
                             const snapshot::Server& server, Instant now) {
  const Meta& m = packet::meta(buffer);
  flow.client = flow.source = a.client;
  flow.client_port = flow.source_port = a.client_port;
  flow.vip = a.vip;
  flow.vip_port = a.vip_port;
  flow.protocol = packet::kProtocolTcp;
  towards(flow, a.vs, server);
  if (a.server == nullptr) {
    if (!client_side(flow, m, a.vs)) return false;
  } else {
    // Until the client's next packet says by which way it comes.
    find_client(flow);
    flow.look.learns_client = a.vs.autogw;
  }
  if (!insert(flow, now)) return false;
  flow.seen = seen_going_on(a.server == nullptr ? Direction::kToServer : Direction::kToClient,
                            packet::tcp_segment(buffer, m));
  start(flow, FlowState::kEstablished, Life::kIdle, now);
  return true;
}

}  // namespace limpet::l4
