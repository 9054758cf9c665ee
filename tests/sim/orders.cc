#include "tests/sim/orders.h"

#include <algorithm>
#include <string>
#include <utility>

#include "dataplane/packet/headers.h"

namespace limpet::sim {

using binding::Change;
using binding::Merge;
using binding::Record;
using binding::Stamp;

namespace {

mirroring::Exchange::Options options_of(const Shape& shape) {
  return {.entries = shape.limit,
          .surplus = shape.cores * (shape.rings.news + 1),
          .peers = 0,
          .node = binding::Maker::number_of_control(0),
          .wall_origin = shape.wall_origin};
}

}  // namespace

Orders::Orders(Engine& engine, World& world, Trace& trace, const timing::ManualClock& clock,
               base::Random& random)
    : engine_(engine),
      world_(world),
      trace_(trace),
      random_(random),
      rings_(engine.shared().rings, engine.shared().hash, engine.shape().limit),
      exchange_(options_of(engine.shape()), rings_, engine.shared().hash,
                std::pmr::get_default_resource()),
      questions_(engine),
      news_(engine, exchange_, clock, [this](const Change& c, timing::Instant) { note(c); }),
      deletions_(engine, questions_, exchange_, clock,
                 {.snapshot = [this] { return engine_.newest_shared(); },
                  .read_news = [this] { news_.read(); }}),
      peer_clock_(1000) {
  changes_ = chance(random_, 20) ? 0 : random_.below(100);
  deletions_wanted_ = chance(random_, 40) ? 0 : random_.below(30);
  publish();
  for (const PoolDocument& pool : world_.pools()) {
    for (const ServerDocument& s : pool.servers) {
      worker::ControlMessage m;
      m.neighbor.port = 1;
      m.neighbor.address = s.address;
      m.neighbor.mac = support::mac("02:00:00:00:02:02");
      m.neighbor.valid = true;
      questions_.send_all(m);
    }
  }
}

void Orders::act(uint32_t step) {
  step_ = step;
  const uint32_t what = random_.below(100);
  if (what < changes_) return change();
  if (what < changes_ + deletions_wanted_) return begin_deletion();
  merge();
}

void Orders::publish() {
  const auto next = world_.compile();
  std::vector<mirroring::Exchange::Scope> scopes;
  for (const snapshot::Scope& s : next->scopes) {
    if (s.live) scopes.push_back({s.id, s.slot, s.mirrored, s.timeout + s.update_interval});
  }
  exchange_.use(scopes, next->version, engine_.now(0));
  engine_.publish(next);
}

void Orders::change() {
  if (!engine_.have_swept(world_.version())) return;
  world_.recycle([&](snapshot::ServerSlot slot) { return engine_.flows_of(slot) == 0; },
                 [&](binding::ScopeSlot slot) { return exchange_.mirror().in_scope(slot) == 0; });
  world_.change();
  publish();
  trace_.add({.step = step_, .what = "published", .detail = world_.version()});
}

void Orders::note(const Change& change) {
  const KeyId key{change.scope.value, change.key};
  if (change.kind == Change::Kind::kRemove) {
    mirror_.erase(key);
    return;
  }
  mirror_[key] = change;
  if (heard_of_.size() < 4096) heard_of_.push_back({key, change.record});
}

void Orders::read_news() {
  for (uint32_t c = 0; c < engine_.cores(); ++c)
    news_.read(c, chance(random_, 50) ? random_.below(3) : 64);
}

void Orders::poll() {
  questions_.tick();
  deletions_.tick();
}

// --- deletion -----------------------------------------------------------------------------------

std::vector<uint32_t> Orders::newest_serials() const {
  std::vector<uint32_t> out;
  for (uint32_t c = 0; c < engine_.cores(); ++c) {
    uint32_t newest = 0;
    persist::Table& table = engine_.core(c).table();
    for (uint32_t i = 0; i < table.home_places(); ++i) {
      if (const auto* e = table.record_at(i)) newest = std::max(newest, e->serial);
    }
    out.push_back(newest);
  }
  return out;
}

void Orders::begin_deletion() {
  if (!deletions_.idle()) return;
  ++deletions_begun_;
  worker::EntryFilter filter;
  filter.version = engine_.newest().version;
  filter.scopes.resize(world_.scopes().size());
  for (std::size_t i = 0; i < filter.scopes.size(); ++i) filter.scopes[i] = chance(random_, 60);
  const net::Family f =
      world_.clients(net::Family::kV4).empty() ? net::Family::kV6 : net::Family::kV4;
  const auto& clients = world_.clients(f);
  if (chance(random_, 60))
    filter.client = clients[random_.below(static_cast<uint32_t>(clients.size()))];
  trace_.add({.step = step_, .what = "deletion ordered"});
  deletions_.remove(filter, [this, filter, newest = newest_serials()](const auto& outcome) {
    if (!std::holds_alternative<api::EntriesRemoved>(outcome))
      throw Violation{"P5", "a deletion was refused though there are no peers", {}};
    check_deleted(filter, newest);
    trace_.add({.step = step_, .what = "deletion done"});
  });
}

// What matched when the order was given is not there any more (P5). A filter by client may have
// meant another key in the snapshots of before, so it is tried on the key itself.
void Orders::check_deleted(const worker::EntryFilter& filter,
                           const std::vector<uint32_t>& newest) const {
  if (filter.client) return;
  const snapshot::Snapshot& s = engine_.newest();
  for (uint32_t c = 0; c < engine_.cores(); ++c) {
    persist::Table& table = engine_.core(c).table();
    for (uint32_t i = 0; i < table.home_places(); ++i) {
      const auto* e = table.record_at(i);
      if (e == nullptr || e->serial > newest[c]) continue;
      if (!filter.matches(s, e->scope, e->key, e->server)) continue;
      throw Violation{"P5", "a binding survived its deletion", {e->scope.value, e->key}};
    }
  }
}

// --- what peers know ----------------------------------------------------------------------------

Record Orders::invent(const KeyId& key, const PoolDocument& pool) {
  const timing::WallTime wall =
      kWallOrigin + timing::Duration(engine_.now(0).ns) +
      (timing::milliseconds(random_.below(4000)) - timing::milliseconds(3000));
  const auto server = [&] {
    if (chance(random_, 5)) return binding::ServerId{0x77770001u + random_.below(3)};
    return pool.servers[random_.below(static_cast<uint32_t>(pool.servers.size()))].id;
  };
  const Stamp now = peer_clock_.next(wall);
  Record r{.stamp = now, .server = server(), .first = {}, .deleted = {}, .act = now};
  r.first = r.server;
  const auto known = mirror_.find(key);
  if (known != mirror_.end() && chance(random_, 60)) {  // it has moved there, or is older there
    r = known->second.record;
    r.epoch += random_.below(3);
    r.server = server();
    if (chance(random_, 30)) r.stamp = Stamp{r.stamp.value - 5 - random_.below(100)};
  } else if (!heard_of_.empty() && chance(random_, 70)) {  // it has not heard of the end
    for (int i = 0; i < 20; ++i) {
      const auto& [k, record] = heard_of_[random_.below(static_cast<uint32_t>(heard_of_.size()))];
      if (k == key) r = record;
    }
  }
  if (chance(random_, 10)) r.deleted = chance(random_, 50) ? r.stamp : now;
  if (r.stamp <= r.deleted) r.stamp = Stamp{};
  return r;
}

void Orders::merge() {
  ++merges_;
  KeyId key;
  if (!mirror_.empty() && chance(random_, 60)) {
    auto it = mirror_.begin();
    std::advance(it, random_.below(static_cast<uint32_t>(mirror_.size())));
    key = it->first;
  } else if (!heard_of_.empty() && chance(random_, 60)) {
    key = heard_of_[random_.below(static_cast<uint32_t>(heard_of_.size()))].first;
  } else {
    const auto& services = world_.services();
    const auto& vs = services[random_.below(static_cast<uint32_t>(services.size()))];
    if (vs.scope == UINT32_MAX) return;
    const auto& clients = world_.clients(vs.family);
    const auto& client = clients[random_.below(static_cast<uint32_t>(clients.size()))];
    const snapshot::Scope* scope = engine_.newest().scope(binding::ScopeSlot{vs.scope});
    if (scope == nullptr) return;
    key = {vs.scope, binding::Key::of(scope->key_of(client))};
  }
  const PoolDocument& pool = world_.pools()[world_.scopes()[key.scope].pool];
  const Merge m{.scope = binding::ScopeSlot{key.scope},
                .version = engine_.newest().version,
                .key = key.key,
                .record = invent(key, pool)};
  const uint32_t home = engine_.core(0).replica().home_of(binding::ScopeSlot{key.scope}, key.key);
  const bool sent = engine_.shared().rings.merges[home].push(m);
  trace_.add({.step = step_,
              .core = home,
              .what = sent ? "merge sent" : "merge not sent",
              .serial = static_cast<uint32_t>(m.record.stamp.value),
              .change = m.record.epoch,
              .detail = m.record.server.value,
              .key = key});
}

}  // namespace limpet::sim
