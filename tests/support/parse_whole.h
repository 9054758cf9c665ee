// Parsing as far as it goes: parse() with the transport checksum that it leaves for later. What
// parse_plain() takes has to be to parse_any() the same.
#pragma once

#include <optional>

#include "common/base/assert.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/plain.h"

namespace limpet::support {

inline std::optional<packet::DropReason> parse_whole(packet::Buffer* buffer,
                                                     const packet::IngressSet& ports) {
  const bool plain = packet::parse_plain(buffer, ports);
  const packet::Meta meta = packet::meta(buffer);
  const auto verdict = packet::parse_any(buffer, ports);
  LIMPET_ASSERT(!plain || (!verdict && packet::meta(buffer) == meta));
  if (verdict || packet::transport_right(buffer)) return verdict;
  return packet::DropReason::kBadChecksum;
}

}  // namespace limpet::support
