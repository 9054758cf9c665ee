// Packets that wait for the home of their client's binding: parking, asking, judging again.
#include <algorithm>
#include <utility>

#include "dataplane/l4/forwarder.h"

namespace limpet::l4 {

using packet::Buffer;
using packet::DropReason;
using packet::Meta;
using timing::Instant;

namespace {

constexpr uint32_t kPenSlotsPerTurn = 32;

}  // namespace

void Forwarder::park(Buffer* buffer, const Question& q, const Choice& choice, Instant since) {
  Pen::Slot* slot = pen_.find(q.hash, q.scope->slot, q.key);
  if (slot == nullptr) slot = pen_.add(q.hash, q.scope->slot, q.key, since);
  if (slot == nullptr) return output_.drop(buffer, DropReason::kPenFull);
  if (!pen_.park(*slot, buffer, since)) return output_.drop(buffer, DropReason::kPenFull);
  if (slot->claimed) return;
  const bool datagram = packet::meta(buffer).protocol == packet::kProtocolUdp;
  if (choice.wait == Choice::Wait::kClaim && ask_home(*slot, q, choice, datagram)) return;
  pen_.queue(*slot);  // can neither be decided about nor asked about yet
}

// False: no room for a CLAIM.
bool Forwarder::ask_home(Pen::Slot& slot, const Question& q, const Choice& choice, bool datagram) {
  const uint32_t choice_hash = q.choice_hash();
  const balance::Picked picked = selector_.propose(*snapshot_, q, choice_hash);
  replication::Replica::Proposal proposal;
  if (picked.server != nullptr) proposal = {picked.server->id, picked.gauged};
  proposal.choice_hash = choice_hash;
  proposal.datagram = datagram;
  if (!replica_.claim(*q.scope, q.key, choice.entry, proposal)) {
    if (picked.gauged) gauges_.release(picked.server->slot);
    return false;
  }
  slot.claimed = true;
  slot.version = snapshot_->version;
  slot.have_serial = choice.entry == nullptr ? 0 : choice.entry->serial;
  slot.have_change = choice.entry == nullptr ? 0 : choice.entry->change;
  slot.reserved = picked.gauged;
  slot.server = proposal.server;
  slot.server_slot = picked.gauged ? picked.server->slot : snapshot::ServerSlot{};
  return true;
}

// For a flow whose binding went before it was confirmed: no packet waits.
void Forwarder::ask_again(Flow& flow, const Question& q, binding::ServerId server) {
  Pen::Slot* slot = pen_.find(q.hash, q.scope->slot, q.key);
  if (slot != nullptr) return;  // its home is being asked, or will be
  slot = pen_.add(q.hash, q.scope->slot, q.key, replica_.now());
  if (slot == nullptr) return;
  const bool datagram = flow.protocol == packet::kProtocolUdp;
  if (!replica_.claim(*q.scope, q.key, nullptr,
                      {.server = server, .exact = true, .if_none = true, .datagram = datagram}))
    return pen_.remove(q.hash, *slot);
  slot->claimed = true;
  slot->version = snapshot_->version;
  slot->flow = flows_.index_of(flow);
}

// By now it may be another flow; whoever asks for a binding may.
void Forwarder::answered_again(Flow& flow, const replication::Down& m) {
  if (!flow.used || !flow.look.unbound) return;
  if (m.kind == replication::Down::Kind::kUpdate) {
    bind_again(flow);
  } else if (m.reason != Reason::kLate) {
    flow.look.unbound = false;
  }
}

void Forwarder::heard(const replication::Down& m) {
  Pen::Slot* slot = pen_.find(replica_.table().hash(m.scope, m.key), m.scope, m.key);
  LIMPET_ASSERT(slot != nullptr || !m.answer);
  if (slot == nullptr) return;
  if (m.answer) {
    LIMPET_ASSERT(slot->claimed && !slot->answered);  // one CLAIM at a time
    slot->answered = true;
    slot->answer = m;
  }
  pen_.queue(*slot);
}

void Forwarder::judge_waiting(Instant now) {
  // What is parked again meanwhile is for the next turn.
  for (uint32_t left = pen_.queued(); left > 0; --left) {
    Pen::Slot& slot = pen_.next();
    if (!slot.used) continue;
    if (slot.answered) {
      answered(slot, now);
      continue;
    }
    Buffer* buffers[Pen::kPacketsPerKey];
    const uint32_t count = pen_.take(slot, buffers);
    Grant none{.since = slot.since};
    if (!slot.claimed) pen_.remove(replica_.table().hash(slot.scope, slot.key), slot);
    for (Buffer* b : std::span(buffers, count)) look_up(b, nullptr, now, none);
  }
}

void Forwarder::answered(Pen::Slot& slot, Instant now) {
  const replication::Down m = slot.answer;
  Grant grant = grant_of(slot);
  Buffer* buffers[Pen::kPacketsPerKey];
  const uint32_t count = pen_.take(slot, buffers);
  const std::span waiting(buffers, count);
  const snapshot::Scope* scope = snapshot_->scope(slot.scope);
  const bool same_scope = scope != nullptr && slot.version >= scope->since;
  const bool again = slot.flow != Pen::kNoFlow;
  if (again) answered_again(flows_[slot.flow], m);
  pen_.remove(replica_.table().hash(slot.scope, slot.key), slot);
  // What would go on with a binding that is not there is refused; what opens a connection asks
  // anew, as it does after a CLAIM that was not for it.
  grant.nothing = m.kind == replication::Down::Kind::kRefuse && m.reason == Reason::kNew;
  if (m.kind == replication::Down::Kind::kRefuse && same_scope && !grant.nothing && !again) {
    refuse_waiting(waiting, m.reason, now);
  } else {
    for (Buffer* b : waiting) look_up(b, nullptr, now, grant);
  }
  if (grant.reserved != nullptr) gauges_.release(grant.reserved->slot);
}

// What the answer to a slot's CLAIM means for those who waited; places in limits that nobody needs
// any more are given back.
Grant Forwarder::grant_of(Pen::Slot& slot) {
  const replication::Down& m = slot.answer;
  slot.claimed = slot.answered = false;
  Grant grant{
      .since = slot.since, .settled_serial = slot.have_serial, .settled_change = slot.have_change};
  const auto keep = [&](snapshot::ServerSlot server) {
    grant.reserved = snapshot_->server(server);
    if (grant.reserved == nullptr) gauges_.release(server);
  };
  if (std::exchange(slot.reserved, false)) {
    if (m.kind == replication::Down::Kind::kUpdate && m.server == slot.server) {
      keep(slot.server_slot);
    } else {
      gauges_.release(slot.server_slot);
    }
  }
  if (m.reserved) keep(snapshot::ServerSlot{m.place});
  return grant;
}

void Forwarder::refuse_waiting(std::span<Buffer* const> buffers, Reason reason, Instant now) {
  for (Buffer* b : buffers) {
    const Meta& m = packet::meta(b);
    if (const FlowRef ref = flows_.find(key_of(m), m.hash)) {
      known(b, ref, now);
      continue;
    }
    const auto* vs = snapshot_->find(m.destination, m.protocol, m.destination_port);
    if (reason == Reason::kLate) {
      output_.drop(b, DropReason::kClaimLate);
    } else if (vs == nullptr) {
      no_listener(b, now, {.since = now, .nothing = true});
    } else {
      selector_.count_refused();
      refused(b, *vs, reason, now);
    }
  }
}

// Packets that waited too long go; their CLAIM's answer is still awaited.
void Forwarder::age_pen(Instant now) {
  for (uint32_t i = 0; i < kPenSlotsPerTurn; ++i) {
    pen_at_ = pen_at_ + 1 == pen_.keys() ? 0 : pen_at_ + 1;
    Pen::Slot& slot = pen_.slot(pen_at_);
    if (!slot.used || slot.count == 0 || now - slot.since <= replication::kLate) continue;
    Buffer* buffers[Pen::kPacketsPerKey];
    const uint32_t count = pen_.take(slot, buffers);
    for (uint32_t b = 0; b < count; ++b) output_.drop(buffers[b], DropReason::kClaimLate);
    if (!slot.claimed) pen_.remove(replica_.table().hash(slot.scope, slot.key), slot);
  }
}

}  // namespace limpet::l4
