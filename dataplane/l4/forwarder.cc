#include "dataplane/l4/forwarder.h"

#include <algorithm>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "dataplane/packet/parse.h"
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

Forwarder::Forwarder(const Options& options, const base::KeyedHash& hash,
                     replication::Replica& replica, balance::Picker& picker, egress::Sender& sender,
                     Instant now, std::pmr::memory_resource* memory)
    : core_(options.core),
      cores_(options.cores),
      replica_(replica),
      picker_(picker),
      gauges_(picker.gauges()),
      sender_(sender),
      output_(sender.output()),
      neighbors_(sender.neighbors()),
      flows_(options.flows, hash, memory),
      wheel_(Tick::of(now)),
      pen_(options.parked, memory),
      nats_(options.nats),
      vs_counters_(options.virtual_services),
      server_counters_(options.servers),
      selector_(replica, picker) {}

void Forwarder::use(const snapshot::Snapshot& s) {
  if (snapshot_ == &s && version_ == s.version) return;
  // Until the sweep has been through, whatever comes meanwhile.
  rerouted_ = rerouted_ && s.routes_since <= version_;
  snapshot_ = &s;
  version_ = s.version;
  sweep_at_ = 0;
  swept_ = false;
}

// A packet of which no flow was in sight, or that has waited. `question`: what it asks, if that is
// known already.
void Forwarder::look_up(Buffer* buffer, const Question* question, Instant now, Grant& grant) {
  const Meta& m = packet::meta(buffer);
  if (m.kind == packet::Kind::kIcmpError) return icmp(buffer);
  if (const FlowRef ref = flows_.find(key_of(m), m.hash)) return known(buffer, ref, now);
  fresh(buffer, question, now, grant);
}

bool Forwarder::knows_flow(Buffer* buffer) const {
  const Meta& m = packet::meta(buffer);
  if (m.kind == packet::Kind::kIcmpError) {
    const auto quote = packet::parse_quote(buffer);
    return quote && quoted_flow(*quote);
  }
  return static_cast<bool>(flows_.find(key_of(m), m.hash));
}

[[gnu::always_inline]] inline void Forwarder::translate(Buffer* buffer, const Flow& flow,
                                                        Direction direction) {
  const Meta& m = packet::meta(buffer);
  const bool to_server = direction == Direction::kToServer;
  const packet::Translation to =
      to_server ? packet::Translation{flow.source, flow.server, flow.source_port, flow.server_port}
                : packet::Translation{flow.vip, flow.client, flow.vip_port, flow.client_port};
  const uint32_t delta = to_server ? flow.delta : packet::opposite(flow.delta);
  packet::with_family(m.family, [&]<Family F>() { packet::translate<F>(buffer, m, to, delta); });
}

// The packet that nearly all are: of a connection that stands, and of which it changes nothing but
// the time that it lives. False: known() has to look; nothing was changed.
[[gnu::always_inline]] inline bool Forwarder::pass(Buffer* buffer, Flow& flow, Direction direction,
                                                   Instant now) {
  const Meta& m = packet::meta(buffer);
  const bool tcp = m.protocol == packet::kProtocolTcp;
  if (flow.state != (tcp ? FlowState::kEstablished : FlowState::kAnswered) || flow.look.any() ||
      m.ttl <= 1 || Tick::of(now).reached(flow.expires))
    return false;
  if (tcp) {
    constexpr uint8_t kControl =
        packet::kTcpSyn | packet::kTcpFin | packet::kTcpRst | packet::kTcpAck;
    if ((m.tcp_flags & kControl) != packet::kTcpAck) return false;
  } else if (!swept_) {
    return false;
  }
  const bool learned = !flow.client_mac.is_zero();
  const net::Mac* mac = &flow.client_mac;
  uint8_t port = flow.client_interface;
  if (direction == Direction::kToServer) {
    mac = neighbors_.mac(flow.neighbor);
    port = flow.server_interface;
  } else if (!learned) {
    mac = neighbors_.mac(flow.client_neighbor);
  }
  const Tick until = Tick::after(now + timing::seconds(flow.idle_s));
  if (mac == nullptr || m.l3_bytes > sender_.mtu(port) || !until.reached(flow.expires))
    return false;
  flow.expires = until;
  if (tcp) {
    const auto& segment = *packet::at<packet::TcpHeader>(buffer, m.l4_offset);
    note_plain(direction, segment.sequence,
               m.l4_bytes - static_cast<uint32_t>(segment.data_words >> 4) * 4,
               segment.acknowledgment, segment.window, &flow.seen);
  }
  if (direction == Direction::kToServer && learned) {
    flow.client_mac = m.source_mac;
    flow.client_interface = m.port;
  }
  translate(buffer, flow, direction);
  sender_.send_plain(buffer, port, *mac);
  return true;
}

void Forwarder::process(std::span<Buffer*> burst, Instant now) {
  uint32_t likely[base::kBurstPacketsMax];
  // Of packets that seem to open a connection: made where they are needed, and nowhere else.
  const Question* questions[base::kBurstPacketsMax];
  alignas(Question) std::byte made[base::kBurstPacketsMax][sizeof(Question)];
  static_assert(std::is_trivially_destructible_v<Question>);
  LIMPET_ASSERT(burst.size() <= std::size(likely));
  for (std::size_t i = 0; i < burst.size(); ++i) {
    const Meta& m = packet::meta(burst[i]);
    likely[i] = FlowTable::kNone;
    questions[i] = nullptr;
    if (m.kind != packet::Kind::kFlow) continue;
    likely[i] = flows_.prefetch_flow(m.hash);
    if (likely[i] != FlowTable::kNone) continue;
    if (m.protocol != packet::kProtocolUdp && !opens(m)) continue;
    const auto* vs = service_of(m);
    if (vs == nullptr) continue;
    questions[i] = new (made[i]) Question(question_of(*vs, m.source, m.source_port));
    if (questions[i]->scope != nullptr) replica_.table().prefetch_bucket(questions[i]->hash);
  }
  for (std::size_t i = 0; i < burst.size(); ++i) {
    Buffer* b = burst[i];
    const uint32_t value = likely[i];
    if (value == FlowTable::kNone || !flows_.is(value, packet::meta(b))) [[unlikely]] {
      Grant none{.since = now};
      look_up(b, questions[i], now, none);
      continue;
    }
    const FlowRef ref{value >> 1, static_cast<Direction>(value & 1)};
    if (!pass(b, flows_[ref.index], ref.direction, now)) [[unlikely]]
      known(b, ref, now);
  }
}

void Forwarder::known(Buffer* buffer, FlowRef ref, Instant now) {
  if (!packet::transport_right(buffer)) return output_.drop(buffer, DropReason::kBadChecksum);
  Flow& flow = flows_[ref.index];
  const Meta& m = packet::meta(buffer);
  if (!goes_on(flow, ref.direction, buffer, now)) {
    close(flow, now);
    Grant none{.since = now};
    return fresh(buffer, nullptr, now, none);
  }
  if (ref.direction == Direction::kToServer &&
      (!flow.client_mac.is_zero() || flow.look.learns_client)) {
    // Replies follow the client's packets, should its router change.
    flow.look.learns_client = false;
    flow.client_mac = m.source_mac;
    flow.client_interface = m.port;
  }
  const egress::Way way = way_of(flow, ref.direction);
  if (sender_.bounce(buffer, sender_.mtu(way.port), now)) return;
  bool over = false;
  if (m.protocol == packet::kProtocolTcp) {
    over = track_tcp(flow, ref.direction, buffer, now);
  } else {
    track_udp(flow, ref.direction, now);
  }
  if (flow.look.unproved && ref.direction == Direction::kToClient) [[unlikely]] {
    if (over && try_first_server(flow, now)) return output_.drop(buffer, DropReason::kNoFlow);
    flow.look.unproved = flow.look.unproved && (m.tcp_flags & packet::kTcpRst) != 0;
  }
  if (flow.look.unbound) [[unlikely]]
    bind_again(flow);
  forward(buffer, flow, ref.direction, way);
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
  return flow.server == server.address && flow.server_port == server.port_for(flow.vip_port);
}

// Datagrams are no connection: where the policy chooses another server for a client whose server is
// down, it does so at once (dataplane/affinity/README.md, "Established connections"); and they go
// where their server is.
bool Forwarder::moves(const Flow& flow) const {
  const auto* server = snapshot_->server(flow.server_slot);
  if (!flow.is_udp() || server == nullptr) return false;
  if (!is_at(flow, *server)) return true;
  if (flow.look.per_packet || (server->state != snapshot::ServerState::kDown && server->reachable))
    return false;
  const auto* vs = snapshot_->virtual_service(flow.virtual_service);
  const auto* scope = vs == nullptr ? nullptr : snapshot_->scope(vs->scope);
  return scope == nullptr || scope->down == snapshot::Recovery::kPickNew;
}

// What belongs to no flow. `question`: what it asks, if that is known already.
void Forwarder::fresh(Buffer* buffer, const Question* question, Instant now, Grant& grant) {
  if (!packet::transport_right(buffer)) return output_.drop(buffer, DropReason::kBadChecksum);
  const Meta& m = packet::meta(buffer);
  std::optional<Question> made;
  if (question == nullptr) {
    const auto* service = service_of(m);
    if (service == nullptr) return no_listener(buffer, now, grant);
    question = &made.emplace(question_of(*service, m.source, m.source_port));
  }
  const snapshot::VirtualService& vs = question->service;
  if (snapshot_->own(m.source) != nullptr) return output_.drop(buffer, DropReason::kMartianSource);
  if (m.protocol == packet::kProtocolTcp && !opens(m)) {
    if (vs.adopts && adopt_from_client(buffer, vs, now, grant)) return;
    return sender_.refuse(buffer, DropReason::kNoFlow, now);
  }
  if (sender_.bounce(buffer, UINT16_MAX, now)) return;
  grant.datagram = m.protocol == packet::kProtocolUdp;
  if (vs.per_packet && grant.datagram) return per_packet(buffer, *question, now, grant);

  const Choice choice = selector_.choose(*snapshot_, *question, grant);
  if (choice.wait != Choice::Wait::kNo) return park(buffer, *question, choice, grant.since);
  if (choice.server == nullptr) return refused(buffer, vs, choice.reason, now);
  DropReason why{};
  Flow* flow = open(buffer, vs, choice, now, &why);
  if (flow == nullptr) {
    selector_.undo(choice);
    return sender_.refuse(buffer, why, now);
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
  sender_.refuse(buffer, drop_reason(reason), now);
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
  const egress::Way way = way_of(flow, Direction::kToServer);
  if (!sender_.bounce(buffer, sender_.mtu(way.port), now))
    forward(buffer, flow, Direction::kToServer, way);
}

// Every datagram is a connection of its own, over as soon as it has passed; what stays is the
// translation that brings answers back.
void Forwarder::per_packet(Buffer* buffer, const Question& question, Instant now, Grant& grant) {
  const snapshot::VirtualService& vs = question.service;
  const Meta& m = packet::meta(buffer);
  const Choice choice = selector_.choose(*snapshot_, question, grant);
  if (choice.wait != Choice::Wait::kNo) return park(buffer, question, choice, grant.since);
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
      return sender_.refuse(buffer, why, now);
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
  sender_.refuse(buffer, established ? DropReason::kNoFlow : DropReason::kNoService, now);
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

void Forwarder::enter(Flow& flow, FlowState state, Instant now) {
  const auto kind = GiveWay::kind_of(state);
  const bool same = GiveWay::kind_of(flow.state) == kind;
  const uint32_t index = flows_.index_of(flow);
  if (!same) give_way_.remove(index, flow_by_index());
  flow.state = state;
  if (!same) give_way_.add(index, flow_by_index());
  // A finished flow has its port until somebody needs it: it is among those that were freed.
  if (kind == GiveWay::Kind::kFinished) give_port_back(flow, now);
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
  if (step.state != flow.state) enter(flow, step.state, now);
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
  if (answer && flow.state == FlowState::kUnanswered) enter(flow, FlowState::kAnswered, now);
  // Of a translation it may be another one than when that was made.
  if (flow.confirmed && !flow.look.per_packet) return;
  if (!answer && !Tick::of(now - persist::kComesAgain).reached(flow.opened)) return;
  flow.confirmed = true;
  confirm(flow);
}

// --- sending ------------------------------------------------------------------------------------

egress::Way Forwarder::way_of(Flow& flow, Direction direction) {
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

void Forwarder::forward(Buffer* buffer, const Flow& flow, Direction direction,
                        const egress::Way& way) {
  const Meta& m = packet::meta(buffer);
  translate(buffer, flow, direction);
  if ((m.tcp_flags & packet::kTcpSyn) != 0) {
    const uint16_t both = std::min(sender_.mtu(way.port), sender_.mtu(m.port));
    packet::clamp_mss(buffer, m, packet::mss_of_mtu(m.family, both));
  }
  sender_.send(buffer, way);
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
    sender_.send(buffer, way_of(flow, Direction::kToClient));
  } else {
    const net::Address from = m.source == flow.client || local ? flow.source : m.source;
    packet::translate_quote(buffer, {flow.server, flow.source, flow.server_port, flow.source_port},
                            from, flow.server);
    sender_.send(buffer, way_of(flow, Direction::kToServer));
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

void Forwarder::reset_both(Flow& flow, Instant now) {
  if (flow.protocol == packet::kProtocolTcp && flow.counted) {
    for (const Direction direction : {Direction::kToClient, Direction::kToServer}) {
      Buffer* b = sender_.allocate();
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
      sender_.send(b, way_of(flow, direction));
    }
  }
  close(flow, now);
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
