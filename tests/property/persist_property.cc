// persist::Table does what a map does, for any input.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "dataplane/persist/table.h"

namespace limpet::persist {
namespace {

using binding::ScopeSlot;
using binding::ServerId;

struct Model {
  ServerId server;
  uint32_t place;
  uint32_t serial;
  bool record;
};

// Few keys, so that they meet; of both families.
std::pair<uint32_t, binding::Key> any_key() {
  const uint32_t n = *rc::gen::inRange(0u, 120u);
  const std::array<uint32_t, 4> v6{0xb80d0120u, 0, n, 1};
  return {*rc::gen::inRange(0u, 3u), n % 2 == 0
                                         ? binding::Key::of(net::Address::v4_host(0x0a000000u + n))
                                         : binding::Key::of(net::Address::v6(v6.data()))};
}

using Bindings = std::map<std::pair<uint32_t, binding::Key>, Model>;

void check_all(Table& table, const Bindings& model) {
  RC_ASSERT(table.size() == model.size());
  uint32_t records = 0;
  for (const auto& [at, m] : model) {
    const Entry* e = table.find(ScopeSlot{at.first}, at.second);
    RC_ASSERT(e != nullptr && e->key == at.second && e->scope.value == at.first);
    RC_ASSERT(e->server == m.server && e->is_home() == m.record);
    RC_ASSERT(table.at(m.place, m.serial) == e);
    records += m.record ? 1 : 0;
  }
  RC_ASSERT(table.records() == records);
}

void check_batch(Table& table, const Bindings& model) {
  const uint32_t scope = *rc::gen::inRange(0u, 3u);
  std::vector<binding::Key> keys;
  const int count = *rc::gen::inRange(0, int{Table::kBatchMax} + 1);
  for (int i = 0; i < count; ++i) keys.push_back(any_key().second);
  Entry* found[Table::kBatchMax];
  table.find(ScopeSlot{scope}, keys, found);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    RC_ASSERT((found[i] != nullptr) == model.contains({scope, keys[i]}));
    RC_ASSERT(found[i] == table.find(ScopeSlot{scope}, keys[i]));
  }
}

RC_GTEST_PROP(PersistTable, DoesWhatAMapDoes, ()) {
  const uint32_t entries = *rc::gen::inRange(1u, 100u);
  const uint32_t homes = *rc::gen::inRange(0u, entries + 1);
  base::Random random(*rc::gen::arbitrary<uint64_t>());
  const base::KeyedHash hash(random);
  Table table({.entries = entries, .homes = homes}, hash, std::pmr::get_default_resource());
  Bindings model;
  std::vector<std::pair<uint32_t, uint32_t>> gone;  // handles
  uint32_t serial = 0;
  const int steps = *rc::gen::inRange(1, 300);
  for (int step = 0; step < steps; ++step) {
    const auto at = any_key();
    const auto known = model.find(at);
    if (known != model.end()) {
      if (*rc::gen::inRange(0, 2) == 0) continue;
      gone.emplace_back(known->second.place, known->second.serial);
      table.erase(*table.find(ScopeSlot{at.first}, at.second));
      model.erase(known);
      continue;
    }
    RC_ASSERT(table.find(ScopeSlot{at.first}, at.second) == nullptr);
    if (model.size() == entries) continue;
    const bool as_record = *rc::gen::inRange(0, 2) == 0;
    Entry* e = nullptr;
    if (as_record) {
      const bool room = table.records() < homes;
      e = table.insert_home(ScopeSlot{at.first}, at.second);
      RC_ASSERT((e != nullptr) == room);
      if (!room) continue;
    } else {
      e = &table.insert(ScopeSlot{at.first}, at.second);
    }
    e->server = ServerId{random.next()};
    e->serial = ++serial;
    model[at] = {e->server, table.place_of(*e), serial, as_record};
  }
  check_all(table, model);
  check_batch(table, model);
  for (const auto& [place, old] : gone) RC_ASSERT(table.at(place, old) == nullptr);
}

}  // namespace
}  // namespace limpet::persist
