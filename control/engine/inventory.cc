#include "control/engine/inventory.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "dataplane/balance/pick.h"

namespace limpet::engine {
namespace {

using Services = std::vector<Inventory::Service>;

bool takes_clients(const snapshot::Snapshot& snapshot, const snapshot::VirtualService& record) {
  if (record.pool.value >= snapshot.pools.size()) return false;
  return std::ranges::any_of(snapshot.pools[record.pool.value].servers, balance::takes_new_clients);
}

void judge(const config::VirtualService& vs, const snapshot::VirtualService& record,
           Inventory::Service* service) {
  service->carried = record.served || record.standby;
  service->serving = record.served && service->usable;
  if (service->serving) {
    service->oper_status = "OPER_UP";
  } else if (record.served) {
    service->reason = "no server can take clients";
  } else {
    // One that another engine serves is nothing to worry about.
    service->oper_status = vs.served && vs.pool ? "OPER_INACTIVE" : "OPER_DISABLED";
    service->reason = record.why_not;
  }
}

Services services_of(const config::Document& document, const snapshot::Snapshot& snapshot) {
  std::unordered_map<std::string_view, std::vector<const snapshot::VirtualService*>> records;
  for (const snapshot::VirtualService& record : snapshot.virtual_services)
    records[record.uuid].push_back(&record);
  Services out;
  for (const config::VirtualService& vs : document.virtual_services) {
    Inventory::Service& service = out.emplace_back();
    const auto found = records.find(vs.uuid);
    if (found == records.end()) continue;
    const snapshot::VirtualService& first = *found->second.front();
    service.slot = first.slot;
    for (const snapshot::VirtualService* record : found->second) {
      service.usable = service.usable || takes_clients(snapshot, *record);
      if (record->scope != binding::kNoScope) service.scopes.push_back(record->scope);
    }
    std::ranges::sort(service.scopes);
    service.scopes.erase(std::unique(service.scopes.begin(), service.scopes.end()),
                         service.scopes.end());
    judge(vs, first, &service);
  }
  return out;
}

}  // namespace

Inventory Inventory::of(const config::Document& document, const compile::Compiled& compiled,
                        const health::Health& health) {
  Inventory out;
  out.services = services_of(document, *compiled.snapshot);
  std::unordered_map<binding::ServerId, snapshot::ServerSlot> slots;
  for (const snapshot::Pool& pool : compiled.snapshot->pools) {
    for (const snapshot::Server& server : pool.servers) slots[server.id] = server.slot;
  }
  for (const config::Pool& pool : document.pools) {
    auto& servers = out.servers.emplace_back();
    for (const config::Server& from : pool.servers) {
      Server& server = servers.emplace_back();
      server.state = health.state(from);
      const auto slot = slots.find(binding::ServerId{from.id.value});
      if (slot != slots.end()) server.slot = slot->second;
      const auto why = compiled.unreachable.find(from.id);
      if (server.state.up && why != compiled.unreachable.end())
        server.state = {.up = false, .reason = why->second};
    }
  }
  return out;
}

uint32_t Inventory::carried() const {
  return static_cast<uint32_t>(std::ranges::count_if(services, &Service::carried));
}

uint32_t Inventory::serving() const {
  return static_cast<uint32_t>(std::ranges::count_if(services, &Service::serving));
}

}  // namespace limpet::engine
