// Parsing as far as it goes: parse() with the transport checksum that it leaves for later. What
// parse_plain() takes has to be to parse() the same.
#pragma once

#include <cstring>
#include <optional>
#include <tuple>

#include "common/base/assert.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/plain.h"

namespace limpet::support {

// What packets of flows are judged by.
inline bool same_packet(const packet::Meta& a, const packet::Meta& b) {
  const auto of = [](const packet::Meta& m) {
    return std::tuple(m.source, m.destination, m.source_port, m.destination_port, m.l3_offset,
                      m.l4_offset, m.l3_bytes, m.l4_bytes, m.family, m.kind, m.protocol,
                      m.tcp_flags, m.ttl, m.port, m.owner_asked, m.dont_fragment, m.reassembled,
                      m.sum_owed, m.source_mac, m.next_hop);
  };
  return of(a) == of(b);
}

// As the packet before left it.
inline void soil(packet::Buffer* buffer) {
  packet::Meta& m = packet::meta(buffer);
  std::memset(static_cast<void*>(&m), 1, sizeof m);
}

inline base::KeyedHash any_hash() {
  base::Random random(1);
  return base::KeyedHash(random);
}

inline std::optional<packet::DropReason> parse_whole(packet::Buffer* buffer,
                                                     const packet::IngressSet& ports) {
  soil(buffer);
  const bool plain = packet::parse_plain(buffer, ports, any_hash());
  const packet::Meta meta = packet::meta(buffer);
  const uint32_t length = packet::length(buffer);
  const auto verdict = packet::parse(buffer, ports);
  LIMPET_ASSERT(!plain || (!verdict && same_packet(packet::meta(buffer), meta) &&
                           packet::length(buffer) == length));
  if (verdict || packet::transport_right(buffer)) return verdict;
  return packet::DropReason::kBadChecksum;
}

}  // namespace limpet::support
