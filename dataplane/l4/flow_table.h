// FlowTable: the connections of one core, found by the 5-tuple of either direction.
//
// Owner: its worker. Invariants
//  1. At most `capacity` flows; each is in the index once a direction (a per-packet translation's
//     client side under a key that names its server too).
//  2. Keys are unique: insert() refuses a flow whose key another one has.
// Cost: 192 bytes a flow and 16 bytes a direction of index. Hashes are keyed: ports and addresses
// are the sender's choice.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <vector>

#include "common/base/hash_index.h"
#include "common/base/keyed_hash.h"
#include "common/base/prefetch.h"
#include "common/net/hash.h"
#include "dataplane/l4/flow.h"

namespace limpet::l4 {

struct FlowKey {
  const net::Address& source;
  const net::Address& destination;
  uint16_t source_port;
  uint16_t destination_port;
  uint8_t protocol;

  uint32_t hash(const base::KeyedHash& keyed) const {
    const uint32_t ports = uint32_t{source_port} << 16 | destination_port;
    return source.is_v4()
               ? net::hash_pair<net::Family::kV4>(keyed, source, destination, ports, protocol)
               : net::hash_pair<net::Family::kV6>(keyed, source, destination, ports, protocol);
  }
};

struct FlowRef {
  uint32_t index = UINT32_MAX;
  Direction direction = Direction::kToServer;

  explicit operator bool() const { return index != UINT32_MAX; }
};

class FlowTable {
 public:
  FlowTable(uint32_t capacity, const base::KeyedHash& hash, std::pmr::memory_resource* memory);

  Flow& operator[](uint32_t index) { return flows_[index]; }
  uint32_t index_of(const Flow& flow) const { return static_cast<uint32_t>(&flow - flows_.data()); }
  uint32_t size() const { return size_; }
  uint32_t capacity() const { return capacity_; }
  uint32_t high_water() const { return high_water_; }
  std::size_t bytes() const { return flows_.size() * sizeof(Flow) + index_.bytes(); }
  static constexpr std::size_t bytes_for(uint32_t capacity) {
    return std::size_t{capacity} * (sizeof(Flow) + sizeof(uint32_t)) +
           base::HashIndex::bytes_for(2 * capacity);
  }

  uint32_t hash(const FlowKey& key) const { return key.hash(hash_); }

  // Three steps over a burst, so that memory is waited for once: prefetch_bucket, prefetch_flow,
  // find.
  void prefetch_bucket(uint32_t hash) const { index_.prefetch(hash); }
  // Whose flow it most likely is; kNone: none in sight.
  uint32_t prefetch_flow(uint32_t hash) const {
    const uint32_t value = index_.candidate(hash);
    if (value == base::HashIndex::kNone) return kNone;
    const Flow* flow = &flows_[value >> 1];
    base::prefetch(flow);
    base::prefetch(reinterpret_cast<const char*>(flow) + 64);
    return value;
  }
  // The bucket that insert() will want for the answers' direction.
  void prefetch_answer(const Flow& flow) const { index_.prefetch(hash_to_client(flow)); }
  // What erase() of a flow will want, whose record is at hand; and the record of the one to be
  // erased after it, UINT32_MAX: none.
  void prefetch_erase(const Flow& flow, uint32_t next) const {
    index_.prefetch(hash_to_server(flow));
    index_.prefetch(hash_to_client(flow));
    if (next == UINT32_MAX) return;
    for (std::size_t line = 0; line < sizeof(Flow); line += 64)
      base::prefetch(reinterpret_cast<const char*>(&flows_[next]) + line);
  }
  FlowRef find(const FlowKey& key, uint32_t hash) const;
  // The translation of (client, vip) datagrams to this very server, under per_pkt_loadbalance.
  FlowRef find_per_packet(const FlowKey& key, snapshot::ServerSlot server) const;

  // A free record, not yet findable; null when all are in use. insert() or discard() must follow.
  Flow* allocate();
  // Makes an allocated flow findable. False when another flow has one of its keys.
  bool insert(Flow& flow);
  // Who has the keys of a flow that insert() refused: towards the server, towards the client.
  std::array<FlowRef, 2> conflicts(const Flow& flow) const;
  void discard(Flow& flow);
  void erase(Flow& flow);

  static constexpr uint32_t kNone = base::HashIndex::kNone;

  // Whether packets with this key are the flow's, in the direction that `value` says. The flow may
  // have gone since.
  template <class Key>  // FlowKey, or packet::Meta
  bool is(uint32_t value, const Key& key) const {
    const Flow& f = flows_[value >> 1];
    // The second pair of addresses and ports lies behind the first.
    const std::size_t pair = value & 1;
    const auto* addresses = reinterpret_cast<const char*>(&f.client) + pair * 32;
    uint32_t ports;
    std::memcpy(&ports, reinterpret_cast<const char*>(&f.client_port) + pair * 4, sizeof ports);
    const uint32_t wanted = uint32_t{key.destination_port} << 16 | key.source_port;
    return ports == wanted && f.protocol == key.protocol &&
           *reinterpret_cast<const net::Address*>(addresses) == key.source &&
           *reinterpret_cast<const net::Address*>(addresses + 16) == key.destination &&
           (pair != 0 || !f.look.per_packet);
  }

 private:
  static constexpr uint32_t kPerPacketSalt = 0x9e3779b1u;

  struct Hashes {
    uint32_t to_server;
    uint32_t to_client;
  };

  std::array<FlowRef, 2> conflicts(const Flow& flow, const Hashes& hashes) const;
  uint32_t hash_to_server(const Flow& f) const;
  uint32_t hash_to_client(const Flow& f) const;

  uint32_t capacity_;
  const base::KeyedHash& hash_;
  base::HashIndex index_;  // value: flow << 1 | direction
  std::pmr::vector<Flow> flows_;
  std::pmr::vector<uint32_t> free_;
  uint32_t high_water_ = 0;
  uint32_t size_ = 0;
};

}  // namespace limpet::l4
