// service_pool_select: which pool the connections to a service's ports go to, where that is not the
// virtual service's own. Internal to the codec; one thread, one parse.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "control/config/draft.h"

namespace limpet::config {

class ServicePools {
 public:
  // Reads `service_pool_select` of a virtual service. Reports what is wrong in it, and selectors
  // whose ports overlap: which of them would win is nowhere said.
  ServicePools(const Draft& draft, const Fields& fields, const Header& header);

  // Whether a selector names a pool group.
  bool wants_pool_group() const { return wants_pool_group_; }
  // Whether an error was reported.
  bool was_wrong() const { return wrong_; }
  // Gives each service its pool, and cuts those of which a part has another pool. Selectors that
  // are for no service are warnings. Linear in the number of services and selectors.
  void apply(const Fields& fields, std::vector<Service>* services);

 private:
  struct Selector {
    uint16_t last_port;
    PoolIndex pool;
    std::size_t index;  // in the text
  };
  using Selectors = std::map<uint16_t, Selector>;  // by first port; disjoint

  void read(const Draft& draft, const Fields& fields, const Header& header, std::size_t index);
  void add(const Fields& fields, Protocol protocol, uint16_t first, const Selector& selector);
  void cut(const Service& service, std::vector<Service>* out);
  Selectors& of(Protocol protocol);

  Selectors tcp_;
  Selectors udp_;
  Selectors sctp_;
  std::vector<bool> used_;  // by index in the text
  bool wants_pool_group_ = false;
  bool wrong_ = false;
};

}  // namespace limpet::config
