#include "dataplane/worker/core.h"

#include <utility>

#include "dataplane/packet/plain.h"

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
      steerer_(options.cores, shared.hash),
      picker_(base::kServersMax, shared.gauges, random_),
      replica_({.core = options.index,
                .node = binding::Maker{.rank = options.rank, .core = options.index}.number(),
                .peers = options.peers,
                .disk = options.disk,
                .wall_origin = options.wall_origin,
                .push = options.push},
               shared.rings, shared.bindings, picker_, shared.hash, random_, memory),
      output_(options.ports),
      sender_({.core = options.index, .cores = options.cores}, shared.hash, random_, pool, output_,
              memory),
      forwarder_({.core = options.index,
                  .cores = options.cores,
                  .flows = options.flows,
                  .nats = options.nats,
                  .parked = options.parked},
                 shared.hash, replica_, picker_, sender_, now, memory),
      reassembler_(std::move(reassembler)),
      now_(now),
      // has_room() is asked before a burst; who brings frames by hand may bring more.
      arrived_(2 * kTurnPacketsMax),
      waiting_(2 * kTurnPacketsMax + options.cores * collected_max(options.cores)),
      mine_(arrived_.capacity() + waiting_.capacity()) {
  static_assert(kTurnPacketsMax >= base::kBurstPacketsMax);
  steered_.reserve(options.cores);
  for (uint32_t i = 0; i < options.cores; ++i) steered_.emplace_back(kSteeredMax);
}

Core::~Core() {
  for (auto* list : {&arrived_, &waiting_, &mine_}) {
    for (Buffer* b : *list) packet::release(b);
  }
  for (auto& queue : steered_) {
    for (Buffer* b : queue) packet::release(b);
  }
}

// Of packets that are not plain.
[[gnu::noinline]] std::optional<DropReason> Core::parse(Buffer* frame,
                                                        const packet::IngressSet& ports) {
  const auto wrong = packet::parse(frame, ports);
  forwarder_.hash(frame);
  return wrong;
}

void Core::arrive(std::span<Buffer* const> frames, const packet::IngressSet& ports) {
  constexpr std::size_t kAhead = 3;
  uint8_t port = ports.first->port;
  uint64_t packets = 0;
  uint64_t bytes = 0;
  const auto count = [&] {
    output_.port(port).rx_packets += std::exchange(packets, 0);
    output_.port(port).rx_bytes += std::exchange(bytes, 0);
  };
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (i + kAhead < frames.size()) packet::prefetch(frames[i + kAhead]);
    Buffer* frame = frames[i];
    const uint32_t length = packet::length(frame);
    std::optional<DropReason> wrong;
    if (!packet::parse_plain(frame, ports, shared_.hash)) [[unlikely]]
      wrong = parse(frame, ports);
    const Meta& m = packet::meta(frame);
    if (m.port != port) {
      count();
      port = m.port;
    }
    ++packets;
    bytes += length;
    if (wrong) [[unlikely]] {
      output_.drop(frame, *wrong, m.port);
      continue;
    }
    if (options_.cores == 1) forwarder_.expect(frame);
    arrived_.put(frame);
  }
  count();
}

void Core::begin(const snapshot::Snapshot& s, timing::Instant now) {
  now_ = now;
  // A worker that slept may find another snapshot where an earlier one was.
  if (snapshot_ != &s || version_ != s.version) replica_.restart_sweep();
  snapshot_ = &s;
  version_ = s.version;
  replica_.begin(s, now);
  sender_.use(s);
  forwarder_.use(s);
}

void Core::message(const ControlMessage& m) {
  did_work_ = true;
  if (m.kind == ControlMessage::Kind::kNeighbor) {
    sender_.neighbors().apply(m.neighbor);
  } else {
    m.job->next = nullptr;
    (first_job_ == nullptr ? first_job_ : last_job_->next) = m.job;
    last_job_ = m.job;
  }
}

void Core::judge() {
  did_work_ = did_work_ || !arrived_.empty() || !waiting_.empty();
  forwarder_.judge_waiting(now_);
  if (options_.cores == 1) {
    // All packets of flows are for this core: they stay where they are.
    uint32_t kept = 0;
    for (Buffer* b : arrived_) {
      const Meta& m = packet::meta(b);
      if (m.kind == Kind::kFlow && m.destination_port != base::kHeartbeatPort) {
        arrived_[kept++] = b;
      } else {
        place(b);
      }
    }
    arrived_.keep(kept);
    judge(&arrived_);
  } else {
    for (Buffer* b : arrived_) place(b);
    for (Buffer* b : waiting_) place(b);
    arrived_.clear();
    waiting_.clear();
  }
  judge(&mine_);
}

void Core::judge(packet::BufferList* packets) {
  for (std::size_t i = 0; i < packets->size(); i += base::kBurstPacketsMax) {
    const std::size_t n = std::min(packets->size() - i, base::kBurstPacketsMax);
    forwarder_.process(std::span(packets->begin() + i, n), now_);
  }
  packets->clear();
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
      if (options_.heartbeats && is_heartbeat(m)) {
        if (!packet::transport_right(buffer)) return output_.drop(buffer, DropReason::kBadChecksum);
        if (heartbeat_limit_.allow(now_)) return output_.punt(buffer);
        return output_.drop(buffer, DropReason::kRateLimited);
      }
      break;
    case Kind::kIcmpError:
    case Kind::kFragment:
      break;
  }
  for (;;) {
    const Steerer::Target to = steerer_.of(buffer, *snapshot_);
    if (to.core != options_.index) return steer(buffer, to.core);
    if (m.kind == Kind::kFragment) return judge_fragment(buffer);
    if (!to.tentative || forwarder_.knows_flow(buffer)) break;
    m.owner_asked = true;
  }
  forwarder_.expect(buffer);
  mine_.put(buffer);
}

void Core::steer(Buffer* buffer, uint32_t to) {
  if (steered_[to].room() == 0) return output_.drop(buffer, DropReason::kSteerRingFull);
  steered_[to].put(buffer);
}

// UDP for a port's own address that no service is for: another engine's, for the control thread.
bool Core::is_heartbeat(const Meta& m) const {
  if (m.destination_port != base::kHeartbeatPort || m.source_port != base::kHeartbeatPort ||
      m.protocol != packet::kProtocolUdp)
    return false;
  const auto* own = snapshot_->own(m.destination);
  using Own = snapshot::Snapshot::OwnAddress::Kind;
  if (own == nullptr || (own->kind != Own::kPort && own->kind != Own::kVip)) return false;
  return snapshot_->find(m.destination, m.protocol, m.destination_port) == nullptr;
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
  forwarder_.hash(whole);
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
  forwarder_.advance(now_);
  // A small table is looked at whole.
  const bool idle = !did_work_ && (now_ - looked_at_ >= kIdleLooksInterval ||
                                   replica_.table().home_places() <= kRecordsIdle);
  if (idle) looked_at_ = now_;
  replica_.advance(idle ? kRecordsIdle : kRecordsBusy);
  const bool entries_swept = replica_.sweep(kSweepRecordsPerTurn);
  if (forwarder_.sweep(now_) && entries_swept) stats_.swept_version.set(snapshot_->version);
  if (reassembler_ != nullptr) {
    reassembler_->release_expired(now_, base::kBurstPacketsMax);
    count_fragments(0);  // which port a late piece came by is not kept
  }
  if (first_job_ != nullptr) work_on_job();
  stats_.flows.set(forwarder_.flows().size());
  stats_.entries.set(replica_.table().size());
  stats_.records.set(replica_.table().records());
  stats_.parked.set(forwarder_.pen().packets());
  did_work_ = false;
}

void Core::work_on_job() {
  switch (first_job_->kind) {
    case Job::Kind::kDelete:
      return delete_slice();
    case Job::Kind::kInspect:
      return inspect_slice();
    case Job::Kind::kExplain:
      return explain();
    case Job::Kind::kClock:
      first_job_->clock = replica_.next_stamp();
      return finish_job();
  }
}

void Core::finish_job() {
  Job& job = *first_job_;
  first_job_ = job.next;
  job.done.store(true, std::memory_order_release);
}

void Core::delete_slice() {
  Job& job = *first_job_;
  persist::Table& table = replica_.table();
  if (job.whole_scopes && job.at == 0) {
    for (const snapshot::Scope& scope : snapshot_->scopes) {
      if (job.filter.has(scope) && replica_.shares(scope))
        replica_.kill_scope(scope.slot, job.up_to);
    }
  }
  for (uint32_t i = 0; i < kJobEntriesPerTurn; ++i) {
    if (job.at >= table.home_places()) return finish_job();
    persist::Entry* record = table.record_at(job.at);
    if (record != nullptr &&
        job.filter.matches(*snapshot_, record->scope, record->key, record->server)) {
      const snapshot::Scope& scope = *snapshot_->scope(record->scope);
      const bool listed = !record->husk && !replica_.expired(*record, scope);
      const uint32_t before = table.records();
      const bool killed = job.whole_scopes && replica_.shares(scope);
      // Those who hold it have no room for the news: they take it in their next turn.
      if (killed ? !replica_.remove_killed(*record)
                 : replica_.remove(*record) == replication::Outcome::kWait) {
        return;
      }
      job.matched += listed && table.records() < before ? 1 : 0;
    }
    ++job.at;
  }
}

timing::Instant Core::deadline_of(const persist::Entry& entry, const snapshot::Scope& scope) const {
  return entry.is_home() ? replica_.known_deadline(entry, scope) : entry.deadline(scope.timeout);
}

void Core::inspect_slice() {
  Job& job = *first_job_;
  const std::size_t end = std::min<std::size_t>(job.wanted.size(), job.at + kJobEntriesPerTurn);
  while (job.at < end) {
    // A batch of one scope.
    const binding::ScopeSlot scope = job.wanted[job.at].scope;
    binding::Key keys[persist::Table::kBatchMax];
    persist::Entry* found[persist::Table::kBatchMax];
    std::size_t n = 0;
    while (n < persist::Table::kBatchMax && job.at + n < end &&
           job.wanted[job.at + n].scope == scope) {
      keys[n] = job.wanted[job.at + n].key;
      ++n;
    }
    replica_.table().find(scope, std::span(keys, n), found);
    for (std::size_t i = 0; i < n; ++i, ++job.at) {
      const persist::Entry* e = found[i];
      const snapshot::Scope* live = snapshot_->scope(scope);
      if (e == nullptr || live == nullptr || e->husk) continue;
      job.seen[job.at] = {true, e->open, deadline_of(*e, *live)};
    }
  }
  if (job.at == job.wanted.size()) finish_job();
}

void Core::explain() {
  Job& job = *first_job_;
  job.version = snapshot_->version;
  const auto* vs = snapshot_->find(job.vip, job.protocol, job.vip_port);
  if (vs == nullptr) return finish_job();
  const auto* scope = snapshot_->scope(vs->scope);
  const snapshot::Pool& pool = snapshot_->pools[vs->pool.value];
  if (scope != nullptr) {
    const auto key = binding::Key::of(scope->key_of(job.client));
    job.home_core = replica_.home_of(scope->slot, key);
    const persist::Entry* entry = replica_.table().find(scope->slot, key);
    if (entry != nullptr && entry->husk) entry = nullptr;
    if (entry != nullptr) job.entry = *entry;
    if (entry != nullptr) job.deadline = deadline_of(*entry, *scope);
    if (entry != nullptr && entry->is_home()) job.home = replica_.table().home(*entry);
  }
  std::optional<balance::Bound> bound;
  if (job.entry) bound = {job.entry->server, job.entry->first};
  const balance::Judgement j =
      balance::judge(pool, scope, bound ? &*bound : nullptr, shared_.gauges);
  job.action = j.action;
  job.reason = j.reason;
  if (j.server != nullptr) job.server = j.server->slot;
  if (j.action == balance::Judgement::Action::kPick &&
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
  job.table_full = scope != nullptr && !job.entry && !scope->purge &&
                   shared_.bindings.count() >= shared_.bindings.limit();
  finish_job();
}

}  // namespace limpet::worker
