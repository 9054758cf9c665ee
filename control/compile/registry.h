// Registry: gives out the slots that snapshots, flows and entries name things by, and makes sure
// that a slot keeps its meaning for as long as anybody uses it.
//
// Owner: whoever compiles snapshots; one at a time. A value: compile() works on a copy and keeps it
// only when everything fitted.
//
// Life of a slot: live (the newest snapshot has its identity) → retired (it has not; flows or
// entries may) → free, when the owner has seen that no worker uses it and says recycle(). Only free
// slots are given to other identities.
//
// Invariants
//  1. No slot has two identities at once.
//  2. An identity that returns while its slot is retired
//     - gets the same slot back if it is a server or a source NAT block: its connections go on;
//     - gets another if it is a virtual service or a scope: what belonged to the old one is being
//       reset or dropped, and must not come alive again. So does a server once its connections are
//       being reset (doomed).
//  3. Never more slots of a kind than base/limits.h allows, retired ones included.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/assert.h"
#include "common/base/limits.h"
#include "common/net/address.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::compile {

// Slots of one kind: the mechanism behind Registry.
template <class Key, class Slot>
class SlotMap {
 public:
  using Value = typename Slot::Value;

  enum class Return : bool { kSameSlot, kNewSlot };

  SlotMap(std::size_t max, Return on_return) : max_(max), on_return_(on_return) {}

  // Starts a new configuration: nothing is wanted yet.
  void begin() {
    for (Cell& cell : cells_) cell.wanted = false;
  }

  // The slot of `key`, which the new configuration wants; nothing when all are taken. A slot that
  // it did not have before is its own since `version`.
  std::optional<Slot> acquire(const Key& key, uint64_t version = 0) {
    if (const auto it = by_key_.find(key); it != by_key_.end()) {
      retired_ -= cells_[it->second].state == State::kRetired ? 1 : 0;
      cells_[it->second].wanted = true;
      cells_[it->second].state = State::kLive;
      return slot(it->second);
    }
    if (free_.empty() && cells_.size() >= max_) return std::nullopt;
    std::size_t at = cells_.size();
    if (free_.empty()) {
      cells_.emplace_back();
    } else {
      // The slot that was freed longest ago: mistakes in the use of old slots are then seldom
      // fatal.
      at = free_.front();
      free_.pop_front();
    }
    cells_[at] = {
        .key = key, .since = version, .state = State::kLive, .wanted = true, .doomed = false};
    by_key_.emplace(key, at);
    return slot(at);
  }

  // Ends what begin() started: what nobody wanted retires.
  void finish() {
    for (std::size_t at = 0; at < cells_.size(); ++at) {
      Cell& cell = cells_[at];
      if (cell.state != State::kLive || cell.wanted) continue;
      cell.state = State::kRetired;
      ++retired_;
      if (on_return_ == Return::kNewSlot) by_key_.erase(cell.key);
    }
  }

  // The slot of an identity that left and may still return; nothing when it has none.
  std::optional<Slot> retired_slot(const Key& key) const {
    const auto it = by_key_.find(key);
    if (it == by_key_.end() || cells_[it->second].state != State::kRetired) return std::nullopt;
    return slot(it->second);
  }

  // A retired slot whose identity, should it return, gets another.
  void doom(Slot slot) {
    Cell& cell = cells_[slot.value];
    LIMPET_ASSERT(cell.state == State::kRetired);
    if (!cell.doomed && on_return_ == Return::kSameSlot) by_key_.erase(cell.key);
    cell.doomed = true;
  }

  // Retired slots in ascending order; those doomed alone with `doomed_only`.
  std::vector<Slot> retired(bool doomed_only = false) const {
    std::vector<Slot> out;
    for (std::size_t at = 0; at < cells_.size(); ++at) {
      const Cell& cell = cells_[at];
      if (cell.state == State::kRetired && (cell.doomed || !doomed_only)) out.push_back(slot(at));
    }
    return out;
  }

  // Whether any slot is retired.
  bool any_retired() const { return retired_ > 0; }

  bool is_retired(Slot slot) const {
    return slot.value < cells_.size() && cells_[slot.value].state == State::kRetired;
  }

  // No worker uses this slot any more: seen since it retired. False, and nothing happens, when it
  // is not retired (its identity has returned).
  bool recycle(Slot slot) {
    if (!is_retired(slot)) return false;
    --retired_;
    Cell& cell = cells_[slot.value];
    if (on_return_ == Return::kSameSlot && !cell.doomed) by_key_.erase(cell.key);
    cell = Cell{};
    free_.push_back(slot.value);
    return true;
  }

  const Key& key(Slot slot) const { return cells_[slot.value].key; }
  uint64_t since(Slot slot) const { return cells_[slot.value].since; }
  bool is_live(const Key& key) const {
    const auto it = by_key_.find(key);
    return it != by_key_.end() && cells_[it->second].state == State::kLive;
  }
  // One more than the largest slot ever given.
  std::size_t size() const { return cells_.size(); }

 private:
  enum class State : uint8_t { kFree, kLive, kRetired };
  struct Cell {
    Key key{};
    uint64_t since = 0;
    State state = State::kFree;
    bool wanted = false;
    bool doomed = false;
  };

  static Slot slot(std::size_t at) { return Slot(static_cast<Value>(at)); }

  std::size_t max_;
  Return on_return_;
  std::vector<Cell> cells_;
  std::size_t retired_ = 0;
  std::unordered_map<Key, std::size_t> by_key_;
  std::deque<std::size_t> free_;
};

// Source NAT towards one server: as many consecutive NatIds as there are source addresses.
struct NatBlock {
  snapshot::NatId first;
  uint32_t count = 0;

  friend bool operator==(const NatBlock&, const NatBlock&) = default;
};

class NatBlocks {
 public:
  explicit NatBlocks(std::size_t max) : max_(max) {}

  void begin();
  // The first NatId towards this server (port 0: whatever port clients use); nothing when all are
  // taken. The same for every pool that has this server.
  std::optional<snapshot::NatId> acquire(std::span<const net::Address> sources, uint8_t protocol,
                                         const net::Address& server, uint16_t port);
  void finish();

  std::vector<NatBlock> retired() const;
  // No worker uses a port of this block any more. False, and nothing happens, when it is not
  // retired.
  bool recycle(snapshot::NatId first);

  // One more than the largest NatId ever given.
  std::size_t size() const { return end_; }

 private:
  struct Block {
    NatBlock ids;
    bool wanted = false;
  };
  // The list of sources (index into source_lists_), protocol, server, port.
  using Key = std::tuple<std::size_t, uint8_t, net::Address, uint16_t>;

  std::size_t list_of(std::span<const net::Address> sources);

  std::size_t max_;
  std::size_t end_ = 0;
  std::vector<std::vector<net::Address>> source_lists_;  // few: one for each family and port
  std::map<Key, Block> blocks_;
  std::unordered_map<snapshot::NatId, Key> keys_;          // by first id
  std::map<snapshot::NatId, uint32_t> retired_;            // first id -> count
  std::map<uint32_t, std::vector<snapshot::NatId>> free_;  // by number of ids
};

class Registry {
 public:
  Registry() = default;

  // Identity: the virtual service's uuid.
  SlotMap<std::string, snapshot::VsSlot> virtual_services{
      base::kVirtualServicesMax, SlotMap<std::string, snapshot::VsSlot>::Return::kNewSlot};
  SlotMap<binding::ServerId, snapshot::ServerSlot> servers{
      base::kServersMax, SlotMap<binding::ServerId, snapshot::ServerSlot>::Return::kSameSlot};
  SlotMap<binding::ScopeId, binding::ScopeSlot> scopes{
      base::kScopesMax, SlotMap<binding::ScopeId, binding::ScopeSlot>::Return::kNewSlot};
  NatBlocks nats{base::kNatIdsMax};

  void begin();
  void finish();

  // What left and waits for recycle(). Flows use the slots of virtual services and servers, entries
  // those of scopes, flows the NatIds.
  struct Retired {
    std::vector<snapshot::VsSlot> virtual_services;
    std::vector<snapshot::ServerSlot> servers;
    std::vector<binding::ScopeSlot> scopes;
    std::vector<NatBlock> nats;
  };
  Retired retired() const;

  bool recycle(snapshot::VsSlot slot) { return virtual_services.recycle(slot); }
  bool recycle(snapshot::ServerSlot slot) { return servers.recycle(slot); }
  bool recycle(binding::ScopeSlot slot) { return scopes.recycle(slot); }
  bool recycle(snapshot::NatId first) { return nats.recycle(first); }
};

}  // namespace limpet::compile
