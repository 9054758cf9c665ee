#include "control/config/service_pools.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace limpet::config {
namespace {

constexpr int64_t kSelectorsMax = 2'048;  // as many as services
// Disjoint services and selectors cannot come to more; overlapping services are an error.
constexpr std::size_t kPartsMax = 3 * 2'048;

constexpr std::array<Choice<Protocol>, 6> kProtocols = {{
    {"PROTOCOL_TYPE_TCP_PROXY", Protocol::kTcp},
    {"PROTOCOL_TYPE_TCP_FAST_PATH", Protocol::kTcp},
    {"PROTOCOL_TYPE_UDP_FAST_PATH", Protocol::kUdp},
    {"PROTOCOL_TYPE_UDP_PROXY", Protocol::kUdp},
    {"PROTOCOL_TYPE_SCTP_PROXY", Protocol::kSctp},
    {"PROTOCOL_TYPE_SCTP_FAST_PATH", Protocol::kSctp},
}};

}  // namespace

ServicePools::ServicePools(const Draft& draft, const Fields& fields, const Header& header) {
  const std::size_t before = draft.problems->errors_seen();
  const Path list = fields.at("service_pool_select");
  std::size_t index = 0;
  for (const Json& item : fields.array("service_pool_select", {0, kSelectorsMax})) {
    const Path path(list, index);
    const Fields one(item, path, &fields.problems(), Strictness::kTolerant);
    used_.push_back(true);
    if (one) read(draft, one, header, index);
    ++index;
  }
  wrong_ = draft.problems->errors_seen() != before;
}

ServicePools::Selectors& ServicePools::of(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return tcp_;
    case Protocol::kUdp:
      return udp_;
    case Protocol::kSctp:
      break;
  }
  return sctp_;
}

void ServicePools::read(const Draft& draft, const Fields& fields, const Header& header,
                        std::size_t index) {
  fields.require("service_port");
  const auto first = fields.integer("service_port", {1, 65'535});
  const auto end = fields.integer("service_port_range_end", {1, 65'535, 0}).value_or(0);
  const auto pool = resolve(draft, fields, "service_pool_ref", Target::kPool, header);
  const std::size_t before = fields.problems().errors_seen();
  const auto protocol = fields.choice("service_protocol", kProtocols);
  const bool wrong_protocol = fields.problems().errors_seen() != before;
  if (fields.asks("service_pool_group_ref")) {
    wants_pool_group_ = true;
    return;
  }
  if (!fields.asks("service_pool_ref")) {
    return fields.error("service_pool_ref", "is required, or service_pool_group_ref");
  }
  if (!first || !pool || wrong_protocol) return;
  const int64_t last = end == 0 ? *first : end;
  if (last < *first) {
    return fields.error("service_port_range_end",
                        fmt::format("{} is below the port, {}", last, *first));
  }
  used_[index] = false;
  const Selector selector{static_cast<uint16_t>(last), PoolIndex(static_cast<uint32_t>(*pool)),
                          index};
  for (const Protocol one : {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp}) {
    if (protocol.value_or(one) == one) add(fields, one, static_cast<uint16_t>(*first), selector);
  }
}

void ServicePools::add(const Fields& fields, Protocol protocol, uint16_t first,
                       const Selector& selector) {
  Selectors& all = of(protocol);
  const auto next = all.upper_bound(selector.last_port);
  if (next != all.begin() && std::prev(next)->second.last_port >= first) {
    if (used_[selector.index]) return;  // said of another protocol
    used_[selector.index] = true;
    fields.error("service_port", fmt::format("selects ports that number {} selects already",
                                             std::prev(next)->second.index));
    return;
  }
  all.emplace(first, selector);
}

void ServicePools::cut(const Service& service, std::vector<Service>* out) {
  const auto part = [&](uint16_t first, uint16_t last, std::optional<PoolIndex> pool) {
    Service one = service;
    one.first_port = first;
    one.last_port = last;
    if (pool) one.pool = pool;
    out->push_back(one);
  };
  Selectors& all = of(service.protocol);
  auto it = all.upper_bound(service.first_port);
  if (it != all.begin() && std::prev(it)->second.last_port >= service.first_port) --it;
  uint32_t next = service.first_port;  // the first port that has no part yet
  for (; it != all.end() && it->first <= service.last_port; ++it) {
    const uint32_t first = std::max<uint32_t>(it->first, service.first_port);
    const uint16_t last = std::min(it->second.last_port, service.last_port);
    if (first > next) part(static_cast<uint16_t>(next), static_cast<uint16_t>(first - 1), {});
    part(static_cast<uint16_t>(first), last, it->second.pool);
    used_[it->second.index] = true;
    next = uint32_t{last} + 1;
  }
  if (next <= service.last_port) part(static_cast<uint16_t>(next), service.last_port, {});
}

void ServicePools::apply(const Fields& fields, std::vector<Service>* services) {
  std::vector<Service> parts;
  for (const Service& service : *services) {
    cut(service, &parts);
    if (parts.size() <= kPartsMax) continue;
    fields.error("service_pool_select", fmt::format("cuts the services into more than {} parts: "
                                                    "some of them overlap",
                                                    kPartsMax));
    return;
  }
  *services = std::move(parts);
  const Path list = fields.at("service_pool_select");
  for (std::size_t i = 0; i < used_.size(); ++i) {
    if (used_[i]) continue;
    fields.problems().warning(Path(list, i), "has no effect: no service has these ports");
  }
}

}  // namespace limpet::config
