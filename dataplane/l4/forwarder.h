// Forwarder: what happens to the packets of one core that belong to, or open, a connection:
// look-up, connection tracking, translation, ICMP errors, refusals.
//
// Owner: its worker; time is an argument. Invariants
//  1. Each buffer given to process() ends in exactly one place: sent, punted or dropped with a
//     reason.
//  2. A flow that is `counted` is counted once in its server, its virtual service and its entry.
//  3. Known flows are never re-balanced; a snapshot only decides about new ones, and which must
//     end.
//
// Cost of a packet of a known flow: three cache lines besides its own (bucket and flow), all asked
// for ahead over the burst; no message, no lock, no allocation.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "common/timing/time.h"
#include "common/timing/wheel.h"
#include "dataplane/affinity/pen.h"
#include "dataplane/affinity/selector.h"
#include "dataplane/egress/sender.h"
#include "dataplane/egress/source_ports.h"
#include "dataplane/l4/flow_table.h"
#include "dataplane/l4/give_way.h"
#include "dataplane/packet/icmp_quote.h"
#include "dataplane/replication/replica.h"

namespace limpet::l4 {

using affinity::Choice;
using affinity::Grant;
using affinity::Pen;
using affinity::Question;
using balance::Reason;

struct VsCounters {
  telemetry::Counter32 flows;  // records, those in TIME_WAIT and translations included
  telemetry::Counter32 open;   // connections
  telemetry::Counter total;
  telemetry::Counter refused_table_full;
  telemetry::Counter refused_no_server;
};

struct ServerCounters {
  telemetry::Counter32 flows;
  telemetry::Counter total;
  telemetry::Counter snat_exhausted;
  // Connections whose source port had been freed less than kServerTimeWait before; of the last one
  // the address and port are of this NatId, and this was the second.
  telemetry::Counter snat_reused;
  telemetry::Counter32 snat_reused_nat;
  telemetry::Counter32 snat_reused_s;
  telemetry::Counter over_limit;  // persisted clients let in above the connection limit
};

inline FlowKey key_of(const packet::Meta& m) {
  return {m.source, m.destination, m.source_port, m.destination_port, m.protocol};
}

class Forwarder {
 public:
  struct Options {
    uint32_t core = 0;
    uint32_t cores = 1;
    uint32_t flows = 0;
    std::size_t servers = base::kServersMax;
    std::size_t virtual_services = base::kVirtualServicesMax;
    std::size_t nats = 0;
    uint32_t parked = Pen::kPackets;  // packets that may wait for a home
  };

  Forwarder(const Options& options, const base::KeyedHash& hash, replication::Replica& replica,
            balance::Picker& picker, egress::Sender& sender, timing::Instant now,
            std::pmr::memory_resource* memory);

  // Takes the snapshot that everything until the next call goes by.
  void use(const snapshot::Snapshot& s);

  // What the flow of a packet is looked up by; of those that parse_plain() did not take.
  void hash(packet::Buffer* buffer) const {
    packet::Meta& m = packet::meta(buffer);
    m.hash = m.kind == packet::Kind::kFlow ? flows_.hash(key_of(m)) : 0;
  }
  // Asks for the memory that judging such a packet begins with; as early as its core is known.
  void expect(const packet::Buffer* buffer) const {
    flows_.prefetch_bucket(packet::meta(buffer).hash);
  }

  // The home of a key has said something about it, and this core's copy agrees: what waits for it
  // is judged at the next judge_waiting().
  void heard(const replication::Down& message);
  // Judges again what waited for a home: this core, or one that has answered.
  void judge_waiting(timing::Instant now);

  // Kinds kFlow and kIcmpError, of this core, each hashed and announced by expect().
  void process(std::span<packet::Buffer*> burst, timing::Instant now);

  // Whether this core knows the packet's flow (of an ICMP error: the one it quotes).
  bool knows_flow(packet::Buffer* buffer) const;

  // Looks at a bounded number of flows and waiting packets whose time may have come.
  void advance(timing::Instant now);

  // After a new snapshot: looks at a slice of the flows that it may have ended. True when all have
  // been seen.
  bool sweep(timing::Instant now);

  const Pen& pen() const { return pen_; }
  FlowTable& flows() { return flows_; }
  // By NatId: set by the control thread before a snapshot names the id.
  std::vector<egress::SourcePorts*>& nats() { return nats_; }

  std::span<const balance::Load> loads() const { return picker_.loads(); }
  const VsCounters& vs(snapshot::VsSlot slot) const { return vs_counters_[slot.value]; }
  const ServerCounters& server(snapshot::ServerSlot slot) const {
    return server_counters_[slot.value];
  }
  const affinity::LookupCounters& lookups() const { return selector_.counters(); }
  const telemetry::Counter& readopted() const { return readopted_; }

 private:
  void known(packet::Buffer* buffer, FlowRef ref, timing::Instant now);
  bool pass(packet::Buffer* buffer, Flow& flow, Direction direction, timing::Instant now);
  void look_up(packet::Buffer* buffer, const Question* question, timing::Instant now, Grant& grant);
  bool goes_on(const Flow& flow, Direction direction, packet::Buffer* buffer,
               timing::Instant now) const;
  enum class Standing : uint8_t {
    kTakesNew,
    kTakesItsOwn,  // those that are bound to it, by their profile
    kNone,
  };
  Standing standing(const Flow& flow) const;
  static bool is_at(const Flow& flow, const snapshot::Server& server);
  bool moves(const Flow& flow) const;
  void fresh(packet::Buffer* buffer, const Question* question, timing::Instant now, Grant& grant);
  void begin(Flow& flow, packet::Buffer* buffer, timing::Instant now);
  void per_packet(packet::Buffer* buffer, const Question& question, timing::Instant now,
                  Grant& grant);
  void park(packet::Buffer* buffer, const Question& question, const Choice& choice,
            timing::Instant since);
  bool ask_home(Pen::Slot& slot, const Question& question, const Choice& choice, bool datagram);
  void ask_again(Flow& flow, const Question& question, binding::ServerId server);
  void answered_again(Flow& flow, const replication::Down& message);
  void answered(Pen::Slot& slot, timing::Instant now);
  Grant grant_of(Pen::Slot& slot);
  void refuse_waiting(std::span<packet::Buffer* const> buffers, Reason reason, timing::Instant now);
  void age_pen(timing::Instant now);
  void refused(packet::Buffer* buffer, const snapshot::VirtualService& vs, Reason reason,
               timing::Instant now);
  // The binding that the flow is counted in; null: none any more.
  persist::Entry* entry_of(const Flow& flow) {
    persist::Entry* entry = replica_.table().at(flow.entry, flow.entry_serial);
    return entry != nullptr && entry->life == flow.entry_life ? entry : nullptr;
  }
  void bind(Flow& flow, const persist::Entry& entry) {
    flow.entry = replica_.table().place_of(entry);
    flow.entry_serial = entry.serial;
    flow.entry_life = entry.life;
  }
  // Adoption (forwarder_adopt.cc): of a connection that was opened through another engine. True:
  // the buffer is taken.
  struct Adoption;
  bool adopt_from_client(packet::Buffer* buffer, const snapshot::VirtualService& vs,
                         timing::Instant now, const Grant& grant);
  bool adopt_from_server(packet::Buffer* buffer, timing::Instant now, const Grant& grant);
  bool adopt(packet::Buffer* buffer, const Adoption& a, timing::Instant now, const Grant& grant);
  bool ask_for_adoption(packet::Buffer* buffer, const Question& question, timing::Instant since);
  const snapshot::Server* server_of(const Adoption& a, binding::ServerId id,
                                    const packet::Meta& m) const;
  bool try_first_server(Flow& flow, timing::Instant now);
  bool fill_adopted(Flow& flow, packet::Buffer* buffer, const Adoption& a,
                    const snapshot::Server& server, timing::Instant now);
  void towards(Flow& flow, const snapshot::VirtualService& vs, const snapshot::Server& server);
  void icmp(packet::Buffer* buffer);
  FlowRef quoted_flow(const packet::Quote& quote) const;
  void no_listener(packet::Buffer* buffer, timing::Instant now, const Grant& grant);

  // Makes and inserts the flow of a choice; null and `why` when it cannot be.
  Flow* open(packet::Buffer* buffer, const snapshot::VirtualService& vs, const Choice& choice,
             timing::Instant now, packet::DropReason* why);
  bool insert(Flow& flow, timing::Instant now);
  static bool gives_way(const Flow& flow, timing::Instant now);
  bool can_keep_address(const snapshot::VirtualService& vs, const net::Address& client) const;
  bool open_shown_as_port(Flow& flow, timing::Instant now);
  Flow* opened(Flow* flow);
  bool open_translated(Flow& flow, const snapshot::Server& server, timing::Instant now);
  void give_port_back(Flow& flow, timing::Instant now);
  bool client_side(Flow& flow, const packet::Meta& m, const snapshot::VirtualService& vs);
  Flow* reclaim(timing::Instant now);
  void count(Flow& flow, persist::Entry* entry);
  void uncount(Flow& flow, timing::Instant now);
  void gauge(Flow& flow);
  void confirm(Flow& flow);
  void bind_again(Flow& flow);
  void close(Flow& flow, timing::Instant now);
  void reset_both(Flow& flow, timing::Instant now);
  enum class Fate : uint8_t { kGoesOn, kReset, kForgotten };
  Fate fate_of(const Flow& flow) const;

  // Returns true when the flow is over once this packet has gone.
  bool track_tcp(Flow& flow, Direction direction, packet::Buffer* buffer, timing::Instant now);
  void track_udp(Flow& flow, Direction direction, timing::Instant now);
  void start(Flow& flow, FlowState state, Life life, timing::Instant now);
  void enter(Flow& flow, FlowState state, timing::Instant now);
  static timing::Duration duration(const Flow& flow, Life life);
  void live(Flow& flow, Life life, timing::Instant now);
  auto flow_by_index() {
    return [this](uint32_t f) -> Flow& { return flows_[f]; };
  }
  timing::WheelLinks& links(uint32_t flow) { return flows_[flow].links; }

  egress::Way way_of(Flow& flow, Direction direction);
  snapshot::Hop find_client(Flow& flow);
  snapshot::Hop find_server(Flow& flow);
  void translate(packet::Buffer* buffer, const Flow& flow, Direction direction);
  void forward(packet::Buffer* buffer, const Flow& flow, Direction direction,
               const egress::Way& way);
  void send_first(packet::Buffer* buffer, Flow& flow, timing::Instant now);
  const snapshot::VirtualService* service_of(const packet::Meta& m) const {
    return snapshot_->find(m.destination, m.protocol, m.destination_port);
  }
  Question question_of(const snapshot::VirtualService& vs, const net::Address& client,
                       uint16_t port) const {
    return Question::of(*snapshot_, vs, {client, port}, replica_.table());
  }

  const uint32_t core_;
  const uint32_t cores_;
  replication::Replica& replica_;
  balance::Picker& picker_;
  balance::Gauges& gauges_;
  egress::Sender& sender_;
  egress::Output& output_;
  egress::NeighborTable& neighbors_;
  const snapshot::Snapshot* snapshot_ = nullptr;
  uint64_t version_ = 0;  // its

  FlowTable flows_;
  timing::Wheel wheel_;
  GiveWay give_way_;
  Pen pen_;
  std::vector<egress::SourcePorts*> nats_;
  std::vector<VsCounters> vs_counters_;
  std::vector<ServerCounters> server_counters_;
  affinity::Selector selector_;
  egress::ReplyLimit adoption_limit_;
  telemetry::Counter readopted_;
  uint32_t sweep_at_ = 0;
  uint32_t pen_at_ = 0;
  bool swept_ = true;
  bool rerouted_ = true;  // ports and routes have not changed since the flows' next hops were found
};

}  // namespace limpet::l4
