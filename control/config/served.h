// Which virtual services can be served, and why not: what a virtual service or something that it
// uses asks for and is not built. Serving it nevertheless would treat clients otherwise than the
// document says. Internal to the codec.
#pragma once

#include <cstdint>
#include <set>

#include "control/config/draft.h"

namespace limpet::config {

// What was seen while a virtual service was read and is not in it. What is `wrong` may be missing
// because of an error: that is then no reason not to serve it (draft.h).
struct ServiceFacts {
  bool awaits_address = false;  // of automatic allocation
  bool pool_groups = false;     // of service_pool_select
  bool wrong_application = false;
  bool wrong_network = false;
  bool wrong_vips = false;
  bool wrong_services = false;
  bool wrong_pools = false;
  // By Service::index: those of which a reference that overrides a profile was wrong.
  std::set<uint32_t> wrong_overrides;
};

// Sets `served` and `why_not`. A virtual service that is not served, but for an operator's will, is
// warned of once, with the most telling of the reasons: what kind of service it is comes before
// what it lacks. Reports a persistence type that Avi too would refuse for such a service as an
// error.
void decide_served(const Draft& draft, const Fields& fields, const ServiceFacts& facts,
                   VirtualService* vs);

}  // namespace limpet::config
