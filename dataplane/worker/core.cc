#include "dataplane/worker/core.h"

#include <utility>

namespace limpet::worker {

using packet::Buffer;
using packet::DropReason;
using packet::Kind;
using packet::Meta;

Core::Core(const Options& options, Shared& shared, rte_mempool* pool,
           std::unique_ptr<packet::Reassembler> reassembler, timing::Instant now,
           std::pmr::memory_resource* memory)
    : options_(options),
      shared_(shared),
      random_(options.seed),
      steerer_(options.cores, shared.bindings.limit(), shared.hash),
      output_(options.ports),
      forwarder_({.flows = options.flows, .nats = options.nats}, options.index, options.cores,
                 shared.hash, random_, shared.bindings, shared.gauges, pool, output_, now, memory),
      reassembler_(std::move(reassembler)),
      now_(now),
      steered_(options.cores) {
  arrived_.reserve(2 * kTurnPacketsMax);
  waiting_.reserve(2 * kTurnPacketsMax);
  mine_.reserve(4 * kTurnPacketsMax);
  for (auto& queue : steered_) queue.reserve(4 * kTurnPacketsMax);
  jobs_.reserve(16);
}

Core::~Core() {
  for (auto* list : {&arrived_, &waiting_, &mine_}) {
    for (Buffer* b : *list) packet::release(b);
  }
  for (auto& queue : steered_) {
    for (Buffer* b : queue) packet::release(b);
  }
}

void Core::arrive(Buffer* frame, const packet::IngressSet& ports) {
  const auto bytes = packet::length(frame);
  const auto wrong = packet::parse(frame, ports);
  l4::PortCounters& counters = output_.port(packet::meta(frame).port);
  ++counters.rx_packets;
  counters.rx_bytes += bytes;
  if (wrong) return output_.drop(frame, *wrong, packet::meta(frame).port);
  arrived_.push_back(frame);
}

void Core::begin(const snapshot::Snapshot& s, timing::Instant now) {
  now_ = now;
  snapshot_ = &s;
  forwarder_.use(s);
}

void Core::message(const ControlMessage& m) {
  did_work_ = true;
  if (m.kind == ControlMessage::Kind::kNeighbor) {
    forwarder_.neighbors().apply(m.neighbor);
  } else {
    jobs_.push_back(m.job);
  }
}

void Core::judge() {
  did_work_ = did_work_ || !arrived_.empty() || !waiting_.empty();
  for (Buffer* b : arrived_) place(b);
  for (Buffer* b : waiting_) place(b);
  arrived_.clear();
  waiting_.clear();
  for (std::size_t i = 0; i < mine_.size(); i += base::kBurstPacketsMax) {
    const std::size_t n = std::min(mine_.size() - i, base::kBurstPacketsMax);
    forwarder_.process(std::span(mine_).subspan(i, n), now_);
  }
  mine_.clear();
}

// Sends a parsed packet where it belongs: here, to another core, to the control thread, or nowhere.
void Core::place(Buffer* buffer) {
  Meta& m = packet::meta(buffer);
  switch (m.kind) {
    case Kind::kNeighbor:
      return output_.punt(buffer);
    case Kind::kEcho:
      if (snapshot_->own(m.destination) == nullptr && !m.destination.is_link_local())
        return output_.drop(buffer, DropReason::kNotForUs);
      return output_.punt(buffer);
    case Kind::kOther:
      return output_.drop(buffer, DropReason::kUnsupportedProtocol);
    case Kind::kFlow:
    case Kind::kIcmpError:
    case Kind::kFragment:
      break;
  }
  const std::size_t levels = snapshot_->steering.size();
  for (;;) {
    const Steerer::Target to = steerer_.of(buffer, *snapshot_);
    if (to.core != options_.index) return steered_[to.core].push_back(buffer);
    m.steer_level = to.level;
    if (m.kind == Kind::kFragment) return judge_fragment(buffer);
    if (to.tentative) {
      if (forwarder_.knows_flow(buffer)) break;
      m.owner_asked = true;
      continue;
    }
    const bool last = to.level + 1u >= levels;
    if (last || forwarder_.knows(buffer, now_)) break;
    ++m.steer_level;
  }
  forwarder_.expect(buffer);
  mine_.push_back(buffer);
}

void Core::judge_fragment(Buffer* fragment) {
  if (reassembler_ == nullptr) return output_.drop(fragment, DropReason::kFragmentTableFull);
  const uint8_t port = packet::meta(fragment).port;
  Buffer* whole = reassembler_->add(fragment, now_);
  count_fragments(port);
  if (whole == nullptr) return;
  const auto wrong = packet::parse_datagram(whole, true);
  if (wrong) return output_.drop(whole, *wrong, port);
  if (packet::meta(whole).kind == Kind::kFragment)  // a fragment within a fragment
    return output_.drop(whole, DropReason::kFragmentInvalid, port);
  place(whole);
}

// What the reassembler gave up since the last time.
void Core::count_fragments(uint8_t port) {
  output_.count(
      DropReason::kFragmentInvalid, port,
      reassembler_->invalid() - std::exchange(fragments_invalid_, reassembler_->invalid()));
  output_.count(
      DropReason::kFragmentTableFull, port,
      reassembler_->table_full() - std::exchange(fragments_refused_, reassembler_->table_full()));
}

void Core::end() {
  forwarder_.advance(now_, !did_work_);
  if (forwarder_.sweep(now_)) stats_.swept_version.set(snapshot_->version);
  if (reassembler_ != nullptr) {
    reassembler_->release_expired(now_, base::kBurstPacketsMax);
    count_fragments(0);  // which port a late piece came by is not kept
  }
  if (!jobs_.empty()) work_on_job();
  stats_.flows.set(forwarder_.flows().size());
  stats_.entries.set(forwarder_.table().size());
  did_work_ = false;
}

void Core::work_on_job() {
  switch (jobs_.front()->kind) {
    case Job::Kind::kList:
      return list_slice();
    case Job::Kind::kDelete:
      return delete_slice();
    case Job::Kind::kExplain:
      return explain();
    case Job::Kind::kCensus:
      return census_slice();
  }
}

// Ends a slice of a walk; the job is done when it has reached the end of the table.
void Core::after_slice(Job& job) {
  if (job.at < forwarder_.table().places()) return;
  jobs_.erase(jobs_.begin());
  job.done.store(true, std::memory_order_release);
}

void Core::census_slice() {
  Job& job = *jobs_.front();
  const auto visit = [&](const persist::Entry& e) {
    const auto* scope = snapshot_->scope(e.scope);
    const auto* server = snapshot_->pools[scope->pool.value].find(e.server);
    if (e.scope.value < job.by_scope.size()) ++job.by_scope[e.scope.value];
    if (server->slot.value < job.by_server.size()) ++job.by_server[server->slot.value];
  };
  job.at = forwarder_.table().walk(*snapshot_, now_, job.at, kJobEntriesPerTurn, visit);
  after_slice(job);
}

void Core::list_slice() {
  Job& job = *jobs_.front();
  persist::Table& table = forwarder_.table();
  const auto visit = [&](const persist::Entry& e) {
    if (!job.filter.matches(*snapshot_, e)) return;
    ++job.matched;
    if (table.index_of(&e) < job.from) return;
    if (job.rows.size() == job.limit) {
      job.more = true;
      return;
    }
    job.rows.push_back({e, table.index_of(&e)});
    job.next = table.index_of(&e) + 1;
  };
  job.at = table.walk(*snapshot_, now_, job.at, kJobEntriesPerTurn, visit);
  after_slice(job);
}

void Core::delete_slice() {
  Job& job = *jobs_.front();
  persist::Table& table = forwarder_.table();
  const auto visit = [&](persist::Entry& e) {
    if (!job.filter.matches(*snapshot_, e)) return;
    ++job.matched;
    table.count_deleted();
    table.remove(&e);
  };
  job.at = table.walk(*snapshot_, now_, job.at, kJobEntriesPerTurn, visit);
  after_slice(job);
}

void Core::explain() {
  Job& job = *jobs_.front();
  if (job.virtual_service < snapshot_->virtual_services.size()) {
    const auto* vs = &snapshot_->virtual_services[job.virtual_service];
    const auto* scope = snapshot_->scope(vs->scope);
    const snapshot::Pool& pool = snapshot_->pools[vs->pool.value];
    persist::Entry* entry = nullptr;
    if (scope != nullptr)
      entry = forwarder_.table().find(*snapshot_, *scope, scope->key_of(job.client), now_);
    if (entry != nullptr) job.entry = *entry;
    const l4::Judgement j = l4::judge(pool, scope, entry, shared_.gauges);
    job.action = j.action;
    job.reason = j.reason;
    if (j.server != nullptr) job.server = j.server->slot;
    if (j.action == l4::Judgement::Action::kPick &&
        pool.algorithm == snapshot::Algorithm::kConsistentHash) {
      // Consistent hashing has no memory: picking changes nothing.
      balance::Turn none;
      const uint32_t at =
          balance::pick(pool, {job.client, job.client_port}, {}, none, random_, [&](uint32_t i) {
            return balance::takes_new_clients(pool.servers[i]) &&
                   !shared_.gauges.at_limit(pool.servers[i]);
          });
      if (at != balance::kNobody) job.server = pool.servers[at].slot;
    }
    job.table_full = scope != nullptr && entry == nullptr && !scope->purge &&
                     shared_.bindings.count() >= shared_.bindings.limit();
  }
  jobs_.erase(jobs_.begin());
  job.done.store(true, std::memory_order_release);
}

}  // namespace limpet::worker
