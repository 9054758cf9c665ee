#include "control/compile/registry.h"

#include <algorithm>

namespace limpet::compile {

using snapshot::NatId;

void NatBlocks::begin() {
  for (auto& [key, block] : blocks_) block.wanted = false;
}

std::size_t NatBlocks::list_of(std::span<const net::Address> sources) {
  for (std::size_t i = 0; i < source_lists_.size(); ++i) {
    if (std::equal(sources.begin(), sources.end(), source_lists_[i].begin(),
                   source_lists_[i].end())) {
      return i;
    }
  }
  source_lists_.emplace_back(sources.begin(), sources.end());
  return source_lists_.size() - 1;
}

std::optional<NatId> NatBlocks::acquire(std::span<const net::Address> sources, uint8_t protocol,
                                        const net::Address& server, uint16_t port) {
  const Key key{list_of(sources), protocol, server, port};
  if (const auto it = blocks_.find(key); it != blocks_.end()) {
    it->second.wanted = true;
    retired_.erase(it->second.ids.first);
    return it->second.ids.first;
  }
  const auto count = static_cast<uint32_t>(sources.size());
  NatId first;
  if (auto& same_size = free_[count]; !same_size.empty()) {
    first = same_size.back();
    same_size.pop_back();
  } else {
    if (end_ + count > max_) return std::nullopt;
    first = NatId{static_cast<uint32_t>(end_)};
    end_ += count;
  }
  blocks_.emplace(key, Block{.ids = {first, count}, .wanted = true});
  keys_.emplace(first, key);
  return first;
}

void NatBlocks::finish() {
  for (const auto& [key, block] : blocks_) {
    if (!block.wanted) retired_.emplace(block.ids.first, block.ids.count);
  }
}

std::vector<NatBlock> NatBlocks::retired() const {
  std::vector<NatBlock> out;
  out.reserve(retired_.size());
  for (const auto& [first, count] : retired_) out.push_back({first, count});
  return out;
}

bool NatBlocks::recycle(NatId first) {
  if (retired_.erase(first) == 0) return false;
  const auto key = keys_.find(first);
  const auto it = blocks_.find(key->second);
  free_[it->second.ids.count].push_back(first);
  blocks_.erase(it);
  keys_.erase(key);
  return true;
}

void Registry::begin() {
  virtual_services.begin();
  servers.begin();
  scopes.begin();
  nats.begin();
}

void Registry::finish() {
  virtual_services.finish();
  servers.finish();
  scopes.finish();
  nats.finish();
}

Registry::Retired Registry::retired() const {
  return {.virtual_services = virtual_services.retired(),
          .servers = servers.retired(),
          .scopes = scopes.retired(),
          .nats = nats.retired()};
}

}  // namespace limpet::compile
