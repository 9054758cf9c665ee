#include "dataplane/l4/flow_table.h"

namespace limpet::l4 {
namespace {

FlowKey key_to_server(const Flow& f) {
  return {f.client, f.vip, f.client_port, f.vip_port, f.protocol};
}
FlowKey key_to_client(const Flow& f) {
  return {f.server, f.source, f.server_port, f.source_port, f.protocol};
}

bool same(const FlowKey& a, const FlowKey& b) {
  return a.source_port == b.source_port && a.destination_port == b.destination_port &&
         a.protocol == b.protocol && a.source == b.source && a.destination == b.destination;
}

}  // namespace

FlowTable::FlowTable(uint32_t capacity, const base::KeyedHash& hash,
                     std::pmr::memory_resource* memory)
    : capacity_(capacity),
      hash_(hash),
      index_(2 * capacity, memory),
      flows_(capacity, memory),
      free_(memory) {
  free_.reserve(capacity);
}

uint32_t FlowTable::hash_to_server(const Flow& f) const {
  const uint32_t plain = hash(key_to_server(f));
  return f.look.per_packet ? plain + kPerPacketSalt * (f.server_slot.value + 1) : plain;
}

uint32_t FlowTable::hash_to_client(const Flow& f) const {
  return hash(key_to_client(f));
}

FlowRef FlowTable::find(const FlowKey& key, uint32_t hash) const {
  const uint32_t value = index_.find(hash, [&](uint32_t v) { return is(v, key); });
  if (value == base::HashIndex::kNone) return {};
  return {value >> 1, static_cast<Direction>(value & 1)};
}

FlowRef FlowTable::find_per_packet(const FlowKey& key, snapshot::ServerSlot server) const {
  const uint32_t value =
      index_.find(hash(key) + kPerPacketSalt * (server.value + 1), [&](uint32_t v) {
        const Flow& f = flows_[v >> 1];
        return (v & 1) == 0 && f.look.per_packet && f.server_slot == server &&
               same(key_to_server(f), key);
      });
  if (value == base::HashIndex::kNone) return {};
  return {value >> 1, Direction::kToServer};
}

Flow* FlowTable::allocate() {
  uint32_t at = high_water_;
  if (!free_.empty()) {
    at = free_.back();
    free_.pop_back();
  } else if (high_water_ < capacity_) {
    ++high_water_;
  } else {
    return nullptr;
  }
  ++size_;
  flows_[at] = Flow{};
  return &flows_[at];
}

std::array<FlowRef, 2> FlowTable::conflicts(const Flow& flow) const {
  return conflicts(flow, {hash_to_server(flow), hash_to_client(flow)});
}

std::array<FlowRef, 2> FlowTable::conflicts(const Flow& flow, const Hashes& hashes) const {
  const FlowKey forward = key_to_server(flow);
  return {flow.look.per_packet ? find_per_packet(forward, flow.server_slot)
                               : find(forward, hashes.to_server),
          find(key_to_client(flow), hashes.to_client)};
}

bool FlowTable::insert(Flow& flow) {
  const Hashes hashes{hash_to_server(flow), hash_to_client(flow)};
  for (const FlowRef taken : conflicts(flow, hashes)) {
    if (taken) return false;
  }
  const uint32_t at = index_of(flow);
  index_.insert(hashes.to_server, at << 1);
  index_.insert(hashes.to_client, at << 1 | 1);
  flow.used = true;
  return true;
}

void FlowTable::discard(Flow& flow) {
  flow.used = false;
  flow.protocol = 0;  // is() of it says no from now on
  free_.push_back(index_of(flow));
  --size_;
}

void FlowTable::erase(Flow& flow) {
  const uint32_t at = index_of(flow);
  index_.erase(hash_to_server(flow), at << 1);
  index_.erase(hash_to_client(flow), at << 1 | 1);
  discard(flow);
}

}  // namespace limpet::l4
