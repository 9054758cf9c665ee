#include "tests/sim/member.h"

#include <algorithm>
#include <utility>

#include "tests/sim/chronicle.h"

namespace limpet::sim {

using binding::Change;
using binding::Merge;
using mirroring::Arrival;
using mirroring::BootId;
using mirroring::PeerIndex;
using timing::Duration;
using timing::Instant;
using timing::WallTime;

namespace {

constexpr uint32_t kWorkPerTurn = 2048;

}  // namespace

Shape Member::shape_of(const Shape& shape) const {
  Shape s = shape;
  s.rank = place_.rank;
  s.peers = s.disk = true;
  s.wall_origin = place_.wall_origin;
  return s;
}

mirroring::Exchange::Options Member::options_of(const Shape& shape) const {
  return {.entries = shape.limit,
          .surplus = shape.cores * (shape.rings.news + 1),
          .peers = static_cast<uint32_t>(place_.names.size() - 1),
          .node = binding::Maker::number_of_control(place_.rank),
          .wall_origin = place_.wall_origin};
}

Member::Member(const Place& place, const Shape& shape, std::shared_ptr<const World> document,
               Chronicle& chronicle, Trace& trace, const timing::Clock& time, base::Random& random)
    : place_(place),
      chronicle_(chronicle),
      trace_(trace),
      random_(random),
      clock_(time.now() + place.skew, place.wall_origin),
      engine_(shape_of(shape), clock_, random),
      world_(std::in_place, *document, place.slots, uint64_t{0}),
      ledger_(engine_, *world_, trace, this),
      exchange_(options_of(shape), *this, engine_.shared().hash, std::pmr::get_default_resource()),
      questions_(engine_),
      news_(engine_, exchange_, clock_, [this](const Change& c, Instant) { note(c); }),
      deletions_(engine_, questions_, exchange_, clock_,
                 {.snapshot = [this] { return engine_.newest_shared(); },
                  .read_news = [this] { news_.read(); },
                  .peer_name = [this](PeerIndex p) { return host_.engine.peers[p.value].name; }}),
      versions_(random.below(50)) {
  host_.clock = &clock_;
  host_.engine.name = place_.names[place_.rank];
  BootId& boot = host_.engine.boot;
  for (uint8_t& byte : boot.bytes) byte = static_cast<uint8_t>(random_.next() | 1);
  host_.engine.table_limit = shape.limit;
  host_.engine.list = &exchange_.list();
  host_.engine.home = this;
  for (const std::string& name : place_.names) {
    if (name == host_.engine.name) continue;
    const PeerIndex index{static_cast<uint8_t>(host_.engine.peers.size())};
    host_.engine.peers.push_back({.index = index, .name = name});
  }
  engine_.watch_jobs([this](const worker::Job& job) {
    if (job.whole_scopes) chronicle_.deleted(job.up_to);
  });
  documents_.push_back(std::move(document));
  take_document();
  traffic_ = std::make_unique<Traffic>(*world_, engine_, random_);
  for (const PoolDocument& pool : world_->pools()) {
    for (const ServerDocument& s : pool.servers) {
      worker::ControlMessage m;
      m.neighbor.port = 1;
      m.neighbor.address = s.address;
      m.neighbor.mac = support::mac("02:00:00:00:02:02");
      m.neighbor.valid = true;
      questions_.send_all(m);
    }
  }
  for (int i = 0; i < 3; ++i) turn(0);
}

// --- documents ----------------------------------------------------------------------------------

bool Member::is_up_to_date() const {
  return documents_.empty() && engine_.have_swept(world_->version());
}

// One after another, as control/engine/changes.cc.
void Member::take_document() {
  if (documents_.empty()) return;
  if (used_version_ != 0 && !engine_.have_swept(world_->version())) return;
  world_.emplace(*documents_.front(), place_.slots, versions_);
  documents_.pop_front();
  const auto snapshot = world_->compile();
  std::vector<mirroring::Exchange::Scope> scopes;
  for (const snapshot::Scope& s : snapshot->scopes) {
    if (s.live) scopes.push_back({s.id, s.slot, s.mirrored, s.timeout + s.update_interval});
  }
  exchange_.use(scopes, snapshot->version, now());
  used_version_ = snapshot->version;
  engine_.publish(snapshot);
  trace_.add({.step = step_, .what = "published", .detail = snapshot->version, .now_ns = now().ns});
}

void Member::show() {
  trace_.set_view({place_.rank, place_.slots, place_.skew.count()});
}

// --- steps --------------------------------------------------------------------------------------

void Member::step_core(uint32_t core, uint32_t step) {
  show();
  const Stage stage = engine_.stage(core);
  under_way_.clear();
  deleted_before_ = engine_.core(core).replica().counters().deleted;
  engine_.shared().rings.merges[core].peek([&](const Merge& m) {
    under_way_.push_back({m.scope.value, m.key});
  });
  ledger_.before(core, stage, step);
  engine_.step(
      core, [&](const support::Bytes& frame) { ledger_.received(frame); },
      [&](const Leaving& frame) { traffic_->left(frame); });
  ledger_.after(core, stage);
  const persist::Bindings& bindings = engine_.shared().bindings;
  was_full_ = was_full_ || bindings.count() + 1 >= bindings.limit();
  if (stage != Stage::kReceive && stage != Stage::kBegin && stage != Stage::kFlush)
    chronicle_.look(*this, core);
  if (chance(random_, 10)) check_invariants(engine_, *world_, ledger_, mirror_);
}

void Member::finish_turn(uint32_t core, uint32_t step) {
  do step_core(core, step);
  while (engine_.stage(core) != Stage::kReceive);
}

void Member::turn(uint32_t step) {
  for (uint32_t core = 0; core < engine_.cores(); ++core) finish_turn(core, step);
}

bool Member::read_news(bool all) {
  bool changed = false;
  for (uint32_t c = 0; c < engine_.cores(); ++c)
    changed = news_.read(c, !all && chance(random_, 40) ? random_.below(3) : 64) || changed;
  return changed;
}

bool Member::control(uint32_t step, bool all) {
  show();
  step_ = step;
  const uint64_t before = exchange_.list().last().value;
  read_news(all);
  exchange_.tick(now());
  questions_.tick();
  deletions_.tick();
  take_document();
  exchange_.list().work(kWorkPerTurn, now());
  return exchange_.list().last().value != before;
}

void Member::note(const Change& change) {
  if (change.kind == Change::Kind::kFence) return;
  const KeyId key{change.scope.value, change.key};
  if (change.kind == Change::Kind::kRemove) {
    mirror_.erase(key);
    return;
  }
  mirror_[key] = change;
  chronicle_.told(*this, key, change);
}

void Member::stop_clients() {
  traffic_->finish();
}

void Member::stop(uint32_t step) {
  turn(step);
  std::vector<replication::Replica*> replicas;
  for (uint32_t c = 0; c < engine_.cores(); ++c) replicas.push_back(&engine_.core(c).replica());
  for (replication::Replica* replica : replicas) {
    uint32_t at = 0;
    while (!replica->say_last(replicas, &at)) read_news(true);
  }
  const auto& news = engine_.shared().rings.news;
  while (std::any_of(news.begin(), news.end(), [](const auto& ring) { return ring.size() > 0; }))
    read_news(true);
}

// --- deletion -----------------------------------------------------------------------------------

worker::EntryFilter Member::random_filter() const {
  worker::EntryFilter filter;
  filter.scopes.resize(world_->scopes().size());
  for (std::size_t i = 0; i < filter.scopes.size(); ++i) {
    filter.scopes[i] =
        world_->scopes()[i].state == ScopeDocument::State::kLive && chance(random_, 60);
  }
  return filter;
}

bool Member::start_deletion(uint32_t step) {
  auto filter = random_filter();
  const net::Family f =
      world_->clients(net::Family::kV4).empty() ? net::Family::kV6 : net::Family::kV4;
  const auto& clients = world_->clients(f);
  if (chance(random_, 50))
    filter.client = clients[random_.below(static_cast<uint32_t>(clients.size()))];
  return start_deletion(step, std::move(filter));
}

bool Member::start_deletion(uint32_t step, const net::Address& client) {
  worker::EntryFilter filter;
  filter.scopes.assign(world_->scopes().size(), true);
  filter.client = client;
  return start_deletion(step, std::move(filter));
}

bool Member::start_deletion(uint32_t step, worker::EntryFilter filter) {
  if (!is_idle()) return false;
  filter.version = engine_.newest().version;
  const auto tombstones = static_cast<uint32_t>(filter.scopes.size());
  if (!exchange_.list().room_for_tombstones(tombstones)) return false;
  ++deletions_begun_;
  trace_.add({.step = step,
              .what = filter.client ? "client to be deleted" : "scopes to be deleted",
              .now_ns = now().ns});
  deleting_ = filter;
  deletions_.remove(std::move(filter), [this](const auto&) {
    trace_.add({.step = step_, .what = "deletion done", .now_ns = now().ns});
    deleting_.reset();
  });
  return true;
}

std::optional<net::Address> Member::come(const GlobalKey& key) {
  const auto& services = world_->services();
  for (uint32_t i = 0; i < services.size(); ++i) {
    const ServiceDocument& vs = services[i];
    if (!vs.present || vs.scope == UINT32_MAX || world_->scopes()[vs.scope].id != key.scope)
      continue;
    const snapshot::Scope* scope = engine_.newest().scope(binding::ScopeSlot{vs.scope});
    for (const net::Address& client : world_->clients(vs.family)) {
      if (scope == nullptr || binding::Key::of(scope->key_of(client)) != key.key) continue;
      traffic_->open(i, client);
      return client;
    }
  }
  return std::nullopt;
}

std::optional<GlobalKey> Member::forgetting() {
  std::optional<GlobalKey> out;
  for (const auto& ring : engine_.shared().rings.merges) {
    ring.peek([&](const Merge& m) {
      const ScopeDocument& scope = world_->scopes()[m.scope.value];
      if (m.kind == Merge::Kind::kForget && scope.state == ScopeDocument::State::kLive)
        out = GlobalKey{scope.id, m.key};
    });
  }
  return out;
}

// --- peers --------------------------------------------------------------------------------------

uint32_t Member::home_of(binding::ScopeSlot scope, const binding::Key& key) const {
  return const_cast<Engine&>(engine_).core(0).replica().home_of(scope, key);
}

bool Member::send(uint32_t home, const Merge& message) {
  return engine_.shared().rings.merges[home].push(message);
}

bool Member::deliver(const Arrival& arrival) {
  if (!exchange_.deliver(arrival)) return false;
  show();
  chronicle_.delivered(*this, arrival);
  return true;
}

void Member::active(const KeyId& key, Instant t, bool confirmed) {
  chronicle_.active(*this, key, t, confirmed);
}

void Member::ended(const KeyId& key, Instant t, Ending ending) {
  chronicle_.ended(*this, key, t, ending);
}

// --- disk ---------------------------------------------------------------------------------------

DiskCopy Member::write_disk() const {
  DiskCopy out;
  mirroring::Exchange::Walk walk;
  const auto visit = [&](binding::ScopeId scope, const binding::Key* key,
                         const binding::Record& record, Instant act_at) {
    out.entries.push_back({scope, key == nullptr, key == nullptr ? binding::Key{} : *key, record,
                           place_.wall_origin + Duration(act_at.ns)});
  };
  while (!exchange_.walk(&walk, 64, visit)) {
  }
  out.clock = exchange_.latest_stamp();
  return out;
}

void Member::restore() {
  if (!place_.disk) return;
  exchange_.observe(place_.disk->clock);
  for (const DiskCopy::Entry& e : place_.disk->entries) {
    const Arrival arrival{.scope = e.scope,
                          .whole_scope = e.whole_scope,
                          .key = e.key,
                          .record = e.record,
                          .act_at = Instant{(e.act - place_.wall_origin).count()}};
    for (uint32_t i = 0; !exchange_.restore(arrival, now()); ++i) {
      if (i == 1000) throw Violation{"P6", "what was on disk is not taken", {}};
      turn(0);
      control(0, true);
    }
  }
  const uint32_t fence = exchange_.begin_fence();
  for (uint32_t i = 0; !exchange_.has_passed(fence); ++i) {
    if (i == 1000) throw Violation{"P6", "a fence does not come back", {}};
    turn(0);
    control(0, true);
  }
}

// --- words --------------------------------------------------------------------------------------

GlobalKey Member::global(const KeyId& key) const {
  return {world_->scopes()[key.scope].id, key.key};
}

std::optional<KeyId> Member::local(const GlobalKey& key) const {
  const ScopeDocument* scope = scope_of(key.scope);
  if (scope == nullptr) return std::nullopt;
  return KeyId{static_cast<uint32_t>(scope - world_->scopes().data()), key.key};
}

const ScopeDocument* Member::scope_of(binding::ScopeId id) const {
  for (const ScopeDocument& s : world_->scopes()) {
    if (s.id == id && s.state == ScopeDocument::State::kLive) return &s;
  }
  return nullptr;
}

bool Member::has_lost_for_room() const {
  if (was_full_) return true;  // husks have given way
  auto& engine = const_cast<Engine&>(engine_);
  for (uint32_t c = 0; c < engine_.cores(); ++c) {
    const auto& n = engine.core(c).replica().counters();
    if (n.evicted_idle.get() + n.merges_refused.get() > 0) return true;
  }
  return exchange_.counters().unnamed_refused > 0;
}

bool Member::has_refused_tombstones() const {
  auto& engine = const_cast<Engine&>(engine_);
  for (uint32_t c = 0; c < engine_.cores(); ++c) {
    if (engine.core(c).replica().counters().tombstones_refused.get() > 0) return true;
  }
  return exchange_.counters().tombstones_refused > 0;
}

bool Member::is_deleting(uint32_t core, const KeyId& key) const {
  if (!deleting_) return false;
  worker::Core& c = const_cast<Engine&>(engine_).core(core);
  if (c.replica().counters().deleted == deleted_before_) return false;
  const binding::ScopeSlot slot{key.scope};
  return deleting_->matches(c.snapshot(), slot, key.key, binding::kNoServer);
}

void Member::check_told() {
  uint32_t live = 0;
  for (const auto& [key, change] : mirror_) {
    const binding::Record& r = change.record;
    const binding::ScopeSlot slot{key.scope};
    if (r.live()) {
      ++live;
      const auto* binding = exchange_.mirror().find(slot, key.key);
      if (binding == nullptr || binding->record != r)
        throw Violation{"P4 mirror", "the mirror is not what homes have told", key};
    }
    const ScopeDocument& scope = world_->scopes()[key.scope];
    if (scope.state != ScopeDocument::State::kLive || !scope.profile.mirrored) continue;
    if (!change.confirmed && r.live()) continue;
    const binding::Record* listed = exchange_.list().find(scope.id, key.key);
    if (listed == nullptr || *listed != r)
      throw Violation{"P4 list", "the update list is not what homes have told", key};
  }
  if (exchange_.mirror().size() != live)
    throw Violation{"P4 mirror", "the mirror has what homes have not told", {}};
}

std::string Member::unfinished() {
  std::string left = sim::unfinished(engine_);
  if (left.empty() && (!is_idle() || exchange_.is_killing())) left = "a deletion does not end";
  if (left.empty() && !is_up_to_date()) left = "a sweep does not end";
  return left;
}

}  // namespace limpet::sim
