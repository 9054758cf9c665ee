#include "control/engine/watch.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace limpet::engine {

using telemetry::EventName;

namespace {

constexpr uint64_t kTableHighPercent = 90;
constexpr uint64_t kTableLowPercent = 85;
constexpr timing::Duration kBusyInterval = timing::seconds(1);

template <class T>
typename std::vector<T>::reference at(std::vector<T>& list, std::size_t index) {
  if (list.size() <= index) list.resize(index + 1);
  return list[index];
}

std::string object_of(const snapshot::Pool& pool, const snapshot::Server& server) {
  return event_object(pool.tenant, pool.name) + " " + server.name;
}

}  // namespace

void Watch::tick(timing::Instant now) {
  if (now - watched_ >= kInterval) {
    watched_ = now;
    watch_table();
    watch_flow_tables();
    watch_links();
    if (!walking_) service_ = pool_ = server_ = 0;
    walking_ = true;
  }
  if (walking_) walking_ = !(watch_services() && watch_servers());
  if (now - busy_at_ < kBusyInterval) return;
  busy_at_ = now;
  watch_busy();
}

void Watch::watch_table() {
  const uint64_t count = cores_.shared().bindings.count();
  const uint64_t limit = cores_.shared().bindings.limit();
  if (!table_high_ && count * 100 >= limit * kTableHighPercent) {
    table_high_ = true;
    reporter_.report(EventName::kPersistTableHigh, engine_,
                     fmt::format("{} of {} entries", count, limit));
  } else if (count * 100 < limit * kTableLowPercent) {
    table_high_ = false;
  }
  const uint64_t refused =
      cores_.sum([](const worker::Core& c) { return c.replica().counters().merges_refused.get(); });
  if (refused > merges_refused_) {
    reporter_.report(EventName::kPersistTableHigh, engine_,
                     fmt::format("no room for {} entries of peers; {} entries are all there may be",
                                 refused - merges_refused_, limit));
  }
  merges_refused_ = refused;
}

void Watch::watch_flow_tables() {
  const uint64_t full = cores_.sum([&](const worker::Core& c) {
    uint64_t sum = 0;
    for (std::size_t p = 0; p < link_up_.size(); ++p)
      sum += c.output().drops(p)[static_cast<std::size_t>(packet::DropReason::kFlowTableFull)];
    return sum;
  });
  if (full > flow_table_full_) {
    reporter_.report(EventName::kFlowTableFull, engine_,
                     fmt::format("{} connections refused, {} flows a worker",
                                 full - flow_table_full_, limits_.flows_per_worker));
  }
  flow_table_full_ = full;
}

// What was announced while a link was down nobody heard.
void Watch::watch_links() {
  for (std::size_t p = 0; p < link_up_.size(); ++p) {
    const bool up = hooks_.link_up(static_cast<uint8_t>(p));
    if (up && !link_up_[p]) hooks_.came_up(static_cast<uint8_t>(p));
    link_up_[p] = up;
  }
}

void Watch::watch_busy() {
  for (uint32_t w = 0; w < cores_.count(); ++w) {
    const uint64_t busy = cores_.core(w).stats().busy_ns;
    const uint64_t idle = cores_.core(w).stats().idle_ns;
    const uint64_t all = busy - busy_[w].busy_ns + idle - busy_[w].idle_ns;
    const double ratio =
        all == 0 ? 0 : static_cast<double>(busy - busy_[w].busy_ns) / static_cast<double>(all);
    busy_[w] = {busy, idle, ratio};
  }
}

// A slice; true when all have been looked at.
bool Watch::watch_services() {
  const auto& services = running_.snapshot->virtual_services;
  const std::size_t end = std::min(service_ + kServicesPerTick, services.size());
  for (; service_ < end; ++service_) {
    const snapshot::VirtualService& vs = services[service_];
    const uint64_t refused = cores_.sum(
        [&](const worker::Core& c) { return c.forwarder().vs(vs.slot).refused_table_full.get(); });
    const uint64_t before = std::exchange(at(refused_, vs.slot.value), refused);
    if (refused <= before) continue;
    reporter_.report(EventName::kConnDropMaxPersistTbl, event_object(vs.tenant, vs.name),
                     fmt::format("{} connections refused: the persist table is full ({} entries)",
                                 refused - before, cores_.shared().bindings.limit()));
  }
  return service_ >= services.size();
}

// A slice; true when all have been looked at.
bool Watch::watch_servers() {
  const auto& pools = running_.snapshot->pools;
  std::size_t left = kServersPerTick;
  for (; pool_ < pools.size(); ++pool_, server_ = 0) {
    const auto& servers = pools[pool_].servers;
    for (; server_ < servers.size(); ++server_, --left) {
      if (left == 0) return false;
      watch_server(pools[pool_], servers[server_]);
    }
  }
  return true;
}

void Watch::watch_server(const snapshot::Pool& pool, const snapshot::Server& server) {
  watch_source_ports(pool, server);
  if (server.connections_max == 0) return;
  const uint32_t slot = server.slot.value;
  const bool full = cores_.shared().gauges.at_limit(server);
  if (full && !at(at_limit_, slot)) {
    reporter_.report(EventName::kServerAtLimit, object_of(pool, server),
                     fmt::format("{} connections", server.connections_max));
  }
  at(at_limit_, slot) = full;
}

void Watch::watch_source_ports(const snapshot::Pool& pool, const snapshot::Server& server) {
  const uint32_t slot = server.slot.value;
  uint64_t exhausted = 0;
  uint64_t reused = 0;
  for (uint32_t c = 0; c < cores_.count(); ++c) {
    const l4::ServerCounters& counters = cores_.core(c).forwarder().server(server.slot);
    exhausted += counters.snat_exhausted;
    reused += counters.snat_reused;
  }
  const uint64_t refused = exhausted - std::exchange(at(exhausted_, slot), exhausted);
  const uint64_t again = reused - std::exchange(at(reused_, slot), reused);
  if (refused + again == 0) return;
  std::string what;
  if (refused > 0) what = fmt::format("{} connections refused: no source port left", refused);
  if (again > 0) {
    what += fmt::format("{}{} connections by source ports that were freed less than {} s before{}",
                        what.empty() ? "" : "; ", again,
                        egress::kServerTimeWait / timing::seconds(1), last_reused(server));
  }
  reporter_.report(EventName::kSnatExhausted, object_of(pool, server), what);
}

// Of which address the last of them was, where that is certain.
std::string Watch::last_reused(const snapshot::Server& server) const {
  const l4::ServerCounters* last = nullptr;
  for (uint32_t c = 0; c < cores_.count(); ++c) {
    const l4::ServerCounters& counters = cores_.core(c).forwarder().server(server.slot);
    if (counters.snat_reused == 0) continue;
    if (last == nullptr || counters.snat_reused_s > last->snat_reused_s) last = &counters;
  }
  if (last == nullptr) return "";
  for (const snapshot::NatId first : {server.tcp_nat, server.udp_nat}) {
    const uint32_t which = last->snat_reused_nat - first.value;
    if (which < server.sources.size())
      return fmt::format(", the last one of {}", server.sources[which].to_string());
  }
  return "";
}

}  // namespace limpet::engine
