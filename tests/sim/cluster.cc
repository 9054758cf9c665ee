#include "tests/sim/cluster.h"

#include <algorithm>
#include <utility>

namespace limpet::sim {

using timing::Duration;
using timing::Instant;
using timing::milliseconds;

namespace {

constexpr Duration kSlice = milliseconds(10);

Shape random_shape(base::Random& random, bool wide) {
  Shape s;
  s.cores = 1 + random.below(3);
  s.limit = chance(random, 25) ? 4 + random.below(12) : 40 + random.below(60);
  if (s.cores > 1 && chance(random, 40)) {
    // Enough for several homes; what is taken from the start keeps it small.
    const uint32_t left = s.limit;
    s.limit = 1024 * s.cores + left;
    if (chance(random, 30)) s.ballast = s.limit - left;
  }
  s.flows = 256;
  s.push = chance(random, 30);
  const auto capacity = [&] {
    return wide ? 64 : chance(random, 60) ? 1 + random.below(4) : 5 + random.below(60);
  };
  s.rings = {.claims = capacity(),
             .answers = capacity(),
             .down = capacity(),
             .news = capacity(),
             .merges = capacity()};
  return s;
}

}  // namespace

Cluster::Cluster(uint64_t seed)
    : random_(seed),
      world_(random_, World::Of::kCluster),
      whole_turns_(random_.below(90)),
      traffic_share_(4 + random_.below(12)),
      time_share_(4 + random_.below(10)),
      trouble_share_(chance(random_, 15) ? 0 : 1 + random_.below(3)),
      changes_(chance(random_, 40) ? 0 : random_.below(25)),
      several_(chance(random_, 50) ? 0 : random_.below(60)) {
  document_ = std::make_shared<const World>(world_);
  world_.compile();
  const uint32_t engines = chance(random_, 45) ? 2 : chance(random_, 75) ? 3 : 4;
  nodes_.resize(engines);
  std::vector<std::string> names;
  for (uint32_t n = 0; n < engines; ++n) names.push_back("se" + std::to_string(n));
  const bool wide = chance(random_, 40);
  for (uint32_t n = 0; n < engines; ++n) {
    Node& node = nodes_[n];
    node.place.rank = n;
    node.place.names = names;
    node.place.skew = milliseconds(random_.below(20'000'000));
    node.place.wall_origin =
        kWallOrigin + (timing::seconds(random_.below(20'000)) - timing::seconds(10'000));
    node.place.slots = random_.below(4);
    node.shape = random_shape(random_, wide);
    node.disk_at = time_.now();
  }
  for (uint32_t a = 0; a < engines; ++a) {
    for (uint32_t b = a + 1; b < engines; ++b)
      wires_.push_back({a, b, std::make_unique<Link>(time_, random_)});
  }
  for (uint32_t n = 0; n < engines; ++n) start(n, false);
  nodes_[any_node()].serving = true;
}

Cluster::~Cluster() {
  for (Wire& w : wires_) {
    w.link->detach(0, false);
    w.link->detach(1, false);
  }
}

void Cluster::run(uint32_t steps) {
  const uint32_t rounds = 3;
  for (uint32_t r = 0; r < rounds; ++r) {
    const uint32_t until = step_ + steps / rounds;
    for (; step_ < until; ++step_) step();
    if (nodes_.size() > 2 && chance(random_, 60)) rest_apart();
    if (nodes_.size() > 2 && chance(random_, 30)) die_speaking(any_node());
    heal();
    rest("after trouble");
    calm();
    heal();
    rest("after a crash");
  }
  wait_for_the_end();
}

// --- engines ------------------------------------------------------------------------------------

// What a member's checkers throw, and what it traces, in the world's terms.
void Cluster::act_as(uint32_t n, const std::function<void(Member&)>& act) {
  Member* m = member(n);
  trace_.set_view({n, nodes_[n].place.slots, nodes_[n].place.skew.count()});
  try {
    act(*m);
  } catch (Violation& v) {
    if (v.what.find("se") != 0) {
      v.what = m->place().names[n] + ": " + v.what;
      if (!v.key.none()) v.key.scope -= m->place().slots;
    }
    throw;
  }
}

void Cluster::start(uint32_t n, bool with_disk) {
  Node& node = nodes_[n];
  Place place = node.place;
  if (!with_disk) place.disk.reset();
  trace_.set_view({n, place.slots, place.skew.count()});
  trace_.add({.step = step_,
              .what = with_disk ? "starts with disk" : "starts",
              .now_ns = (time_.now() + place.skew).ns});
  node.member =
      std::make_unique<Member>(place, node.shape, document_, chronicle_, trace_, time_, random_);
  act_as(n, [](Member& m) { m.restore(); });
  chronicle_.starts(*node.member);
  node.stalled_until.assign(node.shape.cores, 0);
  node.paused_until = {};
  node.taking_over = false;
  for (Wire& w : wires_) {
    if (w.a == n) w.link->attach(0, &node.member->host());
    if (w.b == n) w.link->attach(1, &node.member->host());
  }
}

void Cluster::crash(uint32_t n, bool noticed) {
  Node& node = nodes_[n];
  ++happened_["crashes"];
  trace_.set_view({n, node.place.slots, node.place.skew.count()});
  trace_.add({.step = step_, .what = "crashes", .now_ns = node.member->now().ns});
  chronicle_.crashes(*node.member);
  for (Wire& w : wires_) {
    if (w.a == n) w.link->detach(0, noticed);
    if (w.b == n) w.link->detach(1, noticed);
  }
  for (const auto& [name, value] : std::map<std::string, uint64_t>{
           {"openings", node.member->ledger().openings()}, {"deletions", node.member->deletions()}})
    happened_[name] += value;
  node.member.reset();
}

std::vector<Member*> Cluster::alive() {
  std::vector<Member*> out;
  for (Node& node : nodes_) {
    if (node.member) out.push_back(node.member.get());
  }
  return out;
}

// --- steps --------------------------------------------------------------------------------------

void Cluster::step() {
  uint32_t what = random_.below(100);
  const auto is = [&](uint32_t share) {
    if (what < share) return true;
    what -= share;
    return false;
  };
  if (is(traffic_share_)) return traffic();
  if (is(time_share_)) return pass_time();
  if (is(trouble_share_)) return chance(random_, 50) ? trouble() : void();
  if (is(8)) return move_links();
  if (is(10)) {
    const uint32_t n = any_node();
    if (member(n) != nullptr && nodes_[n].paused_until <= time_.now()) control(n, false);
    return;
  }
  step_core();
}

void Cluster::step_core() {
  const uint32_t n = any_node();
  Node& node = nodes_[n];
  if (!node.member || node.paused_until > time_.now()) return;
  const uint32_t core = random_.below(node.shape.cores);
  if (node.stalled_until[core] > step_) return;
  if (random_.below(300) == 0) {
    node.stalled_until[core] = step_ + random_.below(chance(random_, 20) ? 600 : 60);
    return;
  }
  act_as(n, [&](Member& m) {
    uint32_t stages = chance(random_, whole_turns_) ? kStages : 1 + random_.below(3);
    while (stages-- > 0) m.step_core(core, step_);
  });
}

// A turn of each of its cores that runs.
void Cluster::turn(uint32_t n, bool all) {
  act_as(n, [&](Member& m) {
    for (uint32_t c = 0; c < nodes_[n].shape.cores; ++c) {
      if (all || nodes_[n].stalled_until[c] <= step_) m.finish_turn(c, step_);
    }
  });
}

void Cluster::control(uint32_t n, bool all) {
  act_as(n, [&](Member& m) {
    const bool changed = m.control(step_, all);
    const bool resync = m.exchange().take_resync();
    for (mirroring::Peer& peer : m.host().engine.peers) {
      if (resync) peer.received = {};
    }
    for (Wire& w : wires_) {
      if (!resync) break;
      if (w.a == n) w.link->resync(0);
      if (w.b == n) w.link->resync(1);
    }
    for (Wire& w : wires_) {
      if (w.a == n) w.link->tick(0);
      if (w.b == n) w.link->tick(1);
    }
    for (Wire& w : wires_) {
      if (!changed) break;
      if (w.a == n) w.link->changed(0);
      if (w.b == n) w.link->changed(1);
    }
    if (time_.now() - nodes_[n].disk_at >= milliseconds(random_.below(5000))) {
      nodes_[n].disk_at = time_.now();
      nodes_[n].place.disk = m.write_disk();
    }
  });
  poll_takeover(n);
  if (!all) delete_again(n);
}

void Cluster::move_links() {
  for (Wire& w : wires_) w.link->move();
}

void Cluster::traffic() {
  std::vector<uint32_t> serving;
  for (uint32_t n = 0; n < nodes_.size(); ++n) {
    if (nodes_[n].member && nodes_[n].serving) serving.push_back(n);
  }
  if (serving.empty()) return begin_takeover();
  const uint32_t n = serving[random_.below(static_cast<uint32_t>(serving.size()))];
  act_as(n, [](Member& m) { m.traffic().act(); });
}

void Cluster::pass_time() {
  const uint32_t what = random_.below(100);
  const auto ms = what < 70   ? random_.below(6)
                  : what < 95 ? random_.below(60)
                              : random_.below(chance(random_, 80) ? 500 : 3000);
  if (chance(random_, 3)) {  // nobody runs at all
    time_.advance(milliseconds(ms));
    for (Member* m : alive()) m->advance(milliseconds(ms));
    return;
  }
  pass(milliseconds(ms), false);
}

// Time in which everything that does not stall goes on.
void Cluster::pass(Duration by, bool all) {
  const bool moment = by < kSlice && !all;
  while (by > Duration::zero()) {
    // Not in step: else what is told would take no longer than the quickest news ever did, and what
    // an engine has given up would be told back to it, as young as it was, for ever.
    Duration some = by;
    if (by >= kSlice)
      some = kSlice - timing::milliseconds(3) + timing::milliseconds(random_.below(7));
    by -= some;
    time_.advance(some);
    for (Member* m : alive()) m->advance(some);
    if (moment) return;
    move_links();
    for (uint32_t n = 0; n < nodes_.size(); ++n) {
      Node& node = nodes_[n];
      if (!node.member || (!all && node.paused_until > time_.now())) continue;
      turn(n, all);
      control(n, all);
    }
  }
}

uint32_t Cluster::smallest_ring() const {
  uint32_t smallest = UINT32_MAX;
  for (const Node& node : nodes_) {
    const replication::Rings::Capacity& r = node.shape.rings;
    smallest = std::min({smallest, r.claims, r.answers, r.down, r.news, r.merges});
  }
  return smallest;
}

// --- trouble ------------------------------------------------------------------------------------

void Cluster::trouble() {
  const uint32_t what = random_.below(100);
  if (what < changes_) return change_document();
  if (what < changes_ + 15) {
    const uint32_t n = any_node();
    if (member(n) != nullptr) act_as(n, [&](Member& m) { m.start_deletion(step_); });
    return;
  }
  if (chance(random_, 25)) return begin_takeover();
  if (chance(random_, 50)) return trouble_with_engines();
  trouble_with_links();
}

void Cluster::trouble_with_links() {
  Wire& w = wires_[random_.below(static_cast<uint32_t>(wires_.size()))];
  switch (random_.below(7)) {
    case 0:
      return partition();
    case 1:
      ++happened_["cuts"];
      return w.link->cut();
    case 2:
    case 3:
      return w.link->heal();
    case 4:
      return w.link->set_latency(milliseconds(1 + random_.below(chance(random_, 70) ? 5 : 200)));
    default:
      ++happened_["stalls"];
      w.link->stall(random_.below(2),
                    milliseconds(random_.below(chance(random_, 60) ? 300 : 3000)));
  }
}

void Cluster::partition() {
  ++happened_["partitions"];
  const uint32_t group = random_.below(1u << nodes_.size());
  for (Wire& w : wires_) {
    const bool apart = ((group >> w.a ^ group >> w.b) & 1) != 0;
    if (apart && w.link->is_up()) w.link->cut();
    if (!apart) w.link->heal();
  }
  // The groups do not know of each other: clients may come to both.
  if (chance(random_, several_)) nodes_[any_node()].serving = true;
}

void Cluster::trouble_with_engines() {
  const uint32_t n = any_node();
  Node& node = nodes_[n];
  if (!node.member) {
    ++happened_["restarts"];
    // Its memory of clients is gone, so nobody is sent to it before it has taken over.
    return start(n, chance(random_, 50));
  }
  if (chance(random_, 30)) {
    node.paused_until = time_.now() + milliseconds(random_.below(2000));
    return;
  }
  if (alive().size() < 2) return;
  if (node.serving && chance(random_, 30)) return die_speaking(n);
  if (chance(random_, 30)) {
    stop(n);
  } else {
    crash(n, chance(random_, 50));
  }
  node.serving = false;
}

// Cleanly: who listens is told the last closes.
void Cluster::stop(uint32_t n) {
  ++happened_["clean stops"];
  act_as(n, [&](Member& m) { m.stop(step_); });
  for (Wire& w : wires_) {
    if (w.a == n) w.link->changed(0);
    if (w.b == n) w.link->changed(1);
    w.link->move();
  }
  crash(n, true);
}

// What it says last reaches one other only, and waits there for cores that stand still.
void Cluster::die_speaking(uint32_t n) {
  const uint32_t heir = any_node();
  if (!nodes_[n].member || heir == n || !nodes_[heir].member) return;
  for (Wire& w : wires_) {
    const uint32_t other = w.a == n ? w.b : w.a;
    if ((w.a == n || w.b == n) && other != heir)
      w.link->stall(other == w.a ? 0 : 1, timing::seconds(2));
  }
  std::fill(nodes_[heir].stalled_until.begin(), nodes_[heir].stalled_until.end(), step_ + 300);
  for (uint32_t i = 0; i < 12; ++i) {
    traffic();
    pass(kSlice, false);
  }
  crash(n, true);
  nodes_[n].serving = false;
}

// While the tombstone of a key waits to be forgotten, its client comes back, here and elsewhere,
// and is deleted once more: the new tombstone must not go in the place of the old.
void Cluster::delete_again(uint32_t n) {
  const auto key = member(n)->forgetting();
  if (!key || !chance(random_, 40)) return;
  const uint32_t other = any_node();
  if (other != n && nodes_[other].member)
    act_as(other, [&](Member& elsewhere) { elsewhere.come(*key); });
  std::optional<net::Address> client;
  act_as(n, [&](Member& m) {
    client = m.come(*key);
    // What the homes tell of these fills their rings, so that forgetting has to wait.
    for (uint32_t others = random_.below(6); others > 0; --others) m.traffic().act();
  });
  if (!client) return;
  for (uint32_t turns = 1 + random_.below(3); turns > 0; --turns) turn(n, false);
  ++happened_["deleted while forgetting"];
  act_as(n, [&](Member& m) { m.start_deletion(step_, *client); });
}

void Cluster::change_document() {
  // A slot is given anew when nobody uses it any more, on any engine.
  const auto all = alive();
  const bool up_to_date =
      std::all_of(all.begin(), all.end(), [](Member* m) { return m->is_up_to_date(); });
  if (!up_to_date) return;
  world_.recycle(
      [&](snapshot::ServerSlot slot) {
        return std::all_of(all.begin(), all.end(),
                           [&](Member* m) { return m->cores().flows_of(slot) == 0; });
      },
      [&](binding::ScopeSlot slot) {
        return std::all_of(all.begin(), all.end(), [&](Member* m) {
          return std::none_of(m->mirror().begin(), m->mirror().end(), [&](const auto& told) {
            return told.first.scope == slot.value + m->place().slots;
          });
        });
      });
  world_.change();
  document_ = std::make_shared<const World>(world_);
  world_.compile();
  ++happened_["documents"];
  for (Member* m : all) m->offer(document_);
}

// --- clients move to another engine -------------------------------------------------------------

// Synced with everybody it can reach.
bool Cluster::is_synced(uint32_t n) const {
  for (const Wire& w : wires_) {
    if (w.a != n && w.b != n) continue;
    const uint32_t other = w.a == n ? w.b : w.a;
    if (!nodes_[other].member || !w.link->is_up()) continue;
    const mirroring::Session* s = w.link->session(w.a == n ? 0 : 1);
    if (s == nullptr || !s->has_received_snapshot()) return false;
  }
  return true;
}

void Cluster::begin_takeover() {
  const uint32_t n = any_node();
  Node& node = nodes_[n];
  if (!node.member || node.serving || node.taking_over || !is_synced(n)) return;
  node.taking_over = true;
  node.heard = node.member->heard;
  act_as(n, [&](Member& m) { node.fence = m.exchange().begin_fence(); });
}

void Cluster::poll_takeover(uint32_t n) {
  Node& node = nodes_[n];
  if (!node.taking_over || !node.member->exchange().has_passed(node.fence)) return;
  ++happened_["takeovers"];
  node.taking_over = false;
  act_as(n, [&](Member& m) {
    m.read_news(true);
    // What it has heard since is not its business yet.
    std::erase_if(node.heard, [&](const auto& before) {
      const auto now = m.heard.find(before.first);
      return now == m.heard.end() || now->second.latest.act != before.second.latest.act ||
             now->second.best != before.second.best;
    });
    chronicle_.check_heard(m, node.heard, "taking over");
  });
  node.serving = true;
  const bool beside = chance(random_, several_);
  for (uint32_t other = 0; other < nodes_.size() && !beside; ++other) {
    if (other != n) nodes_[other].serving = false;
  }
}

// --- coming to rest -----------------------------------------------------------------------------

void Cluster::heal() {
  for (Wire& w : wires_) {
    w.link->heal();
    w.link->set_latency(milliseconds(2));
  }
  start_all();
}

void Cluster::start_all() {
  for (uint32_t n = 0; n < nodes_.size(); ++n) {
    Node& node = nodes_[n];
    if (!node.member) start(n, chance(random_, 50));
    node.paused_until = {};
    std::fill(node.stalled_until.begin(), node.stalled_until.end(), 0u);
  }
}

std::string Cluster::restless(const Wire* but) {
  for (Member* m : alive()) {
    const std::string left = m->unfinished();
    if (!left.empty()) return m->place().names[m->place().rank] + ": " + left;
  }
  for (Wire& w : wires_) {
    if (&w != but && !w.link->is_quiet())
      return "engines " + std::to_string(w.a) + " and " + std::to_string(w.b) + " are not synced";
  }
  return "";
}

// P6 and P4: when nothing stalls and nobody wants anything new, all that is under way arrives.
void Cluster::rest(const char* when) {
  std::string left = "not tried";
  uint32_t quiet = 0;
  // What a tombstone of a scope kills goes by and by, and is told one by one.
  uint32_t sweep = 4;
  for (const Node& node : nodes_) {
    uint32_t places = 0;
    for (uint32_t c = 0; c < node.shape.cores; ++c)
      places = std::max(places, node.member->cores().core(c).table().home_places());
    sweep = std::max(sweep, 4 + places / std::min(node.shape.rings.news, node.shape.rings.down));
  }
  bool swept = false;
  for (uint32_t i = 0; i < 1500 && quiet < 3; ++i) {
    pass(kSlice, true);
    left = restless();
    quiet = left.empty() ? quiet + 1 : 0;
    if (quiet < 3 || swept) continue;
    swept = true;
    quiet = 0;
    pass(sweep * kSlice, true);
  }
  if (quiet < 3) throw Violation{"P6", left, {}};
  for (uint32_t n = 0; n < nodes_.size(); ++n)
    act_as(n, [&](Member& m) {
      chronicle_.check_heard(m, m.heard, when);
      m.check_told();
    });
  chronicle_.check_equal(alive());
}

// All is well but for one link: engines that hear of each other agree on what was in conflict, also
// if one of them heard of it from a third.
void Cluster::rest_apart() {
  Wire& apart = wires_[random_.below(static_cast<uint32_t>(wires_.size()))];
  for (Wire& w : wires_) {
    if (&w != &apart) w.link->heal();
    w.link->set_latency(milliseconds(2));
  }
  start_all();
  apart.link->cut();
  // Perhaps for so long that what is used at one of its ends only is over at the other, where its
  // client may come back; and with moves at the beginning, which only the third hears of.
  const uint32_t slices = chance(random_, 60) ? random_.below(1000) : 0;
  if (chance(random_, 50)) nodes_[apart.a].serving = nodes_[apart.b].serving = true;
  for (uint32_t i = 0; i < slices; ++i) {
    const bool busy = i < slices / 4;
    if (busy && chance(random_, changes_ / 4)) change_document();
    if (chance(random_, busy ? 60 : 10)) traffic();
    pass(kSlice, true);
  }
  uint32_t quiet = 0;
  for (uint32_t i = 0; i < 100 && quiet < 3; ++i) {
    pass(kSlice, true);
    quiet = restless(&apart).empty() ? quiet + 1 : 0;
  }
  if (quiet < 3) return;
  ++happened_["rests apart"];
  for (const Wire& w : wires_)
    if (&w != &apart) chronicle_.check_agreed(*member(w.a), *member(w.b));
}

// Nothing is wrong, clients come; then perhaps one engine crashes. The others know what it knew.
void Cluster::calm() {
  // In the smallest rings news takes too long to promise anything.
  if (smallest_ring() >= 8) chronicle_.all_is_well(alive());
  const uint32_t slices = 100 + random_.below(300);
  const uint32_t crash_at = chance(random_, 60) ? slices / 2 + random_.below(slices / 2) : slices;
  for (uint32_t i = 0; i < slices; ++i) {
    step_ += 1;
    // With pauses, in which bindings end.
    const bool busy = i < crash_at && i / 60 % 2 == 0;
    for (uint32_t n = random_.below(4); n > 0 && busy; --n) traffic();
    if (i == crash_at) {
      const uint32_t n = any_node();
      nodes_[n].serving = false;
      crash(n, chance(random_, 50));
      chronicle_.one_has_crashed(alive());
    }
    pass(kSlice, true);
    if (i % 8 == 0) chronicle_.check_prompt();
  }
  chronicle_.all_is_well_no_more();
}

std::string Cluster::leftovers() {
  for (Member* m : alive()) {
    const std::string where = m->place().names[m->place().rank] + ": ";
    const std::string left = leaks(m->cores(), m->world());
    if (!left.empty()) return where + left;
    const auto& list = m->exchange().list();
    std::string listed;
    list.for_each([&](binding::ScopeId scope, const binding::Key* key, const binding::Record& r) {
      // How long others may speak of a scope that no document names here, nobody can tell.
      if (m->scope_of(scope) == nullptr) return;
      listed += " of scope " + std::to_string(scope.value) + (key == nullptr ? "" : " a key") +
                " up to " + std::to_string(r.deleted.value);
    });
    if (!listed.empty()) return where + "the update list is not empty:" + listed;
    if (m->exchange().mirror().size() != 0) return where + "the mirror is not empty";
  }
  return "";
}

// Clients go; links and engines still fail for a while; then everything has to end by its time.
void Cluster::wait_for_the_end() {
  Duration grain = milliseconds(50);
  for (uint32_t n = 0; n < nodes_.size(); ++n) {
    nodes_[n].serving = false;
    act_as(n, [](Member& m) { m.stop_clients(); });
  }
  pass(milliseconds(100), true);
  // Those who are held are asked again and again, and that is told: in little rings that takes
  // turns.
  const uint32_t rounds = 1 + 12 / smallest_ring();
  chronicle_.clients_have_gone();
  for (uint32_t i = 0; i < 3000; ++i) {
    // What is left after that are flows that have long timers.
    if (i == 1000) grain = milliseconds(200);
    // Not in step either, as in pass().
    const Duration jump = grain - rounds * milliseconds(1) - milliseconds(random_.below(20));
    time_.advance(jump);
    for (Member* m : alive()) m->advance(jump);
    for (uint32_t r = 0; r < rounds; ++r) pass(milliseconds(1), true);
    if (i < 60 && random_.below(15) == 0) {
      trouble_with_links();
      if (chance(random_, 30)) trouble_with_engines();
    }
    if (i < 60 && random_.below(15) == 0) heal();
    if (i == 60) heal();
    if (i % 4 == 0) chronicle_.check_overdue(alive(), grain);
    if (i > 70 && i % 16 == 0 && restless().empty() && leftovers().empty()) return;
  }
  std::string left = restless();
  if (!left.empty()) throw Violation{"P6", left, {}};
  left = leftovers();
  if (!left.empty()) throw Violation{"leak", left, {}};
}

void Cluster::count(std::map<std::string, uint64_t>& totals) {
  for (const auto& [name, n] : happened_) totals[name] += n;
  for (Member* m : alive()) {
    totals["openings"] += m->ledger().openings();
    totals["deletions"] += m->deletions();
    for (uint32_t c = 0; c < m->cores().cores(); ++c) {
      const replication::Counters& n = m->cores().core(c).replica().counters();
      totals["created"] += n.created;
      totals["moved"] += n.moved;
      totals["merged"] += n.merged;
      totals["merges refused"] += n.merges_refused;
      totals["expired"] += n.expired;
      totals["evicted"] += n.evicted_idle;
    }
  }
  for (const Wire& w : wires_) totals["connections"] += w.link->connections();
  totals["deliveries"] += chronicle_.deliveries();
  totals["deliveries of living"] += chronicle_.heard();
  totals["comparisons"] += chronicle_.comparisons();
  totals["records compared"] += chronicle_.compared();
  totals["simulated ms"] +=
      static_cast<uint64_t>((time_.now() - Instant{1'000'000'000'000}).count() / 1'000'000);
}

}  // namespace limpet::sim
