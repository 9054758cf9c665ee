#include "control/engine/retirement.h"

#include <algorithm>

namespace limpet::engine {

void Retirement::add(std::vector<uint64_t>* totals, uint32_t slot, uint64_t count) {
  if (totals->size() <= slot) totals->resize(slot + 1);
  (*totals)[slot] += count;
}

void Retirement::tick(timing::Instant now) {
  compile::Registry* registry = changes_.registry();
  if (registry == nullptr || !cores_.have_swept(changes_.running().snapshot->version)) return;
  auto& [services, servers, scopes, nats] = retired_;
  if (services.empty() && servers.empty() && scopes.empty() && nats.empty()) {
    if (now - looked_at_ < kInterval) return;
    looked_at_ = now;
    look(*registry);
  }
  std::size_t left = kPerTick;
  const auto each = [&](auto& list, auto&& done) {
    for (; !list.empty() && left > 0; list.pop_back(), --left) done(list.back());
  };
  each(services, [&](snapshot::VsSlot slot) { recycle(*registry, slot); });
  each(servers, [&](snapshot::ServerSlot slot) { recycle(*registry, slot); });
  // Bindings of scopes that left are gone: every home has swept, and the mirror has heard of it.
  each(scopes, [&](binding::ScopeSlot slot) {
    if (mirror_.in_scope(slot) == 0) registry->recycle(slot);
  });
  each(nats, [&](const compile::NatBlock& block) { recycle(*registry, block); });
}

void Retirement::look(const compile::Registry& registry) {
  if (registry.virtual_services.any_retired())
    retired_.virtual_services = registry.virtual_services.retired();
  if (registry.servers.any_retired()) retired_.servers = registry.servers.retired();
  if (registry.scopes.any_retired()) retired_.scopes = registry.scopes.retired();
  // A block remembers which ports the server may still have in TIME_WAIT, should it return; so it
  // stays until ids or memory become scarce.
  if (registry.nats.size() > std::min(base::kNatIdsMax, source_ports_.blocks_max) / 2)
    retired_.nats = registry.nats.retired();
}

void Retirement::recycle(compile::Registry& registry, snapshot::VsSlot slot) {
  const bool unused =
      cores_.all_of([&](const worker::Core& c) { return c.forwarder().vs(slot).flows.get() == 0; });
  const uint64_t counted = all(slot);
  if (!unused || !registry.recycle(slot)) return;
  add(&services_before_, slot.value, counted - before(services_before_, slot.value));
}

void Retirement::recycle(compile::Registry& registry, snapshot::ServerSlot slot) {
  const bool unused = cores_.all_of(
      [&](const worker::Core& c) { return c.forwarder().server(slot).flows.get() == 0; });
  const uint64_t counted = all(slot);
  if (!unused || !registry.recycle(slot)) return;
  add(&servers_before_, slot.value, counted - before(servers_before_, slot.value));
}

void Retirement::recycle(compile::Registry& registry, const compile::NatBlock& block) {
  if (source_ports_.in_use(block) != 0) return;
  if (registry.recycle(block.first)) source_ports_.forget(block);
}

}  // namespace limpet::engine
