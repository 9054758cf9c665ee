// Retirement: gives slots that left the configuration back to the registry once no worker uses
// them, and remembers what earlier owners of a slot have counted.
//
// Owner: the control thread. Cost: a slice a tick; what is retired is looked up ten times a second.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "control/engine/changes.h"
#include "control/mirroring/mirror.h"

namespace limpet::engine {

class Retirement {
 public:
  static constexpr timing::Duration kInterval = timing::milliseconds(100);

  struct SourcePorts {
    std::function<uint32_t(compile::NatBlock)> in_use;
    std::function<void(compile::NatBlock)> forget;
    std::size_t blocks_max = base::kNatIdsMax;  // that there is memory for
  };

  Retirement(const Cores& cores, Changes& changes, const mirroring::Mirror& mirror,
             SourcePorts source_ports)
      : cores_(cores), changes_(changes), mirror_(mirror), source_ports_(std::move(source_ports)) {}

  void tick(timing::Instant now);

  // Connections ever, of the slot's present owner.
  uint64_t total(snapshot::VsSlot slot) const {
    return all(slot) - before(services_before_, slot.value);
  }
  uint64_t total(snapshot::ServerSlot slot) const {
    return all(slot) - before(servers_before_, slot.value);
  }

 private:
  static constexpr std::size_t kPerTick = 1024;

  static uint64_t before(const std::vector<uint64_t>& totals, uint32_t slot) {
    return slot < totals.size() ? totals[slot] : 0;
  }
  static void add(std::vector<uint64_t>* totals, uint32_t slot, uint64_t count);
  uint64_t all(snapshot::VsSlot slot) const {
    return cores_.sum([&](const worker::Core& c) { return c.forwarder().vs(slot).total.get(); });
  }
  uint64_t all(snapshot::ServerSlot slot) const {
    return cores_.sum(
        [&](const worker::Core& c) { return c.forwarder().server(slot).total.get(); });
  }
  void look(const compile::Registry& registry);
  void recycle(compile::Registry& registry, snapshot::VsSlot slot);
  void recycle(compile::Registry& registry, snapshot::ServerSlot slot);
  void recycle(compile::Registry& registry, const compile::NatBlock& block);

  const Cores& cores_;
  Changes& changes_;
  const mirroring::Mirror& mirror_;
  const SourcePorts source_ports_;
  compile::Registry::Retired retired_;  // to be looked at; some may have returned since
  timing::Instant looked_at_;
  std::vector<uint64_t> services_before_;  // by slot: what earlier owners counted
  std::vector<uint64_t> servers_before_;
};

}  // namespace limpet::engine
