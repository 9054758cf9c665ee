// compile: a document, the engine's surroundings and what is known of the servers' health become a
// Snapshot, the form in which workers use them. A pure function but for the registry, which gives
// identities their slots.
//
// Runs on the helper thread; nothing else touches the registry meanwhile.
//
// What one thing of a document becomes
//  - A virtual service: a record for each address family, pool and combination of forwarding
//    options that its VIPs and services need; all records share one VsSlot. One that is not served
//    has one record without listeners, for status. One that another engine owns has all its
//    records, so that taking it over is quick: pools, source ports and next hops are there.
//  - A pool: one for each family of VIPs and each forwarding mode (source NAT or the client's
//  address)
//    in which virtual services use it, so that selection never meets a server that cannot serve.
//    The same server has the same identity and slot in all of them.
//  - A persistence profile: a scope for each (VS, pool, family), or (pool, family) when shared.
//  Keys of
//    the two families never meet, so nobody can tell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "control/compile/registry.h"
#include "control/config/codec.h"
#include "control/config/document.h"
#include "control/health/health.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::compile {

// Everything but the document that a snapshot depends on.
struct Environment {
  std::string engine;  // its name, as ServiceEngineGroup lists it
  std::vector<snapshot::Port> ports;
  std::vector<snapshot::Route> routes;
  std::vector<net::Address> snat;  // both families, in the order of use
  health::Health health;
  std::vector<config::ServerId> graceful_over;  // Drains::due()
  // Whether engines elect the owners of groups; if not, the first of `engines` owns a group.
  bool elects = false;
  std::vector<std::string> peers;  // who takes part in that beside this engine
  std::vector<uint64_t> owned;     // group_id() of those that this engine owns; sorted
  uint64_t generation = 0;
  uint64_t version = 0;
  // What was compiled from the same document before; costly parts of it are used again. May be
  // null.
  std::shared_ptr<const snapshot::Snapshot> earlier;
  // What the result will follow. May be null.
  std::shared_ptr<const snapshot::Snapshot> running;
};

struct Compiled {
  std::shared_ptr<const snapshot::Snapshot> snapshot;
  std::vector<config::Warning> warnings;
  // Of the document's virtual services those that this engine serves, or would serve if it owned
  // their group; and all.
  std::size_t served = 0;
  std::size_t virtual_services = 0;
  // Servers that no virtual service can reach whatever their health says, and why: "cannot be
  // reached: no route". Names without an address are among them. Only of pools that something
  // served uses is this known.
  std::map<config::ServerId, std::string> unreachable;
};

// `document` is one that parse_document returned. On errors (something exceeds base/limits.h) the
// registry is as before.
base::Result<Compiled> compile(const config::Document& document, const Environment& environment,
                               Registry& registry);

// The identity of a group, equal on all engines.
uint64_t group_id(std::string_view uuid);

// The identity of a persist scope, equal on all engines; the virtual service counts unless the
// profile is shared. What forms the keys is part of it: the type, the mask that addresses of the
// family get (the same number for no mask and for one that leaves them whole), the name of a header
// or cookie. So a profile of another form drops its entries (dataplane/affinity/README.md,
// "Another document"), and engines whose documents differ do not take each other's keys for their
// own. None survives because its bits could be a key of the new form too: 10.1.1.0/24 is not the
// client 10.1.1.0.
binding::ScopeId scope_id(const config::Profile& profile, std::string_view virtual_service_uuid,
                          std::string_view pool_uuid, net::Family family);

}  // namespace limpet::compile
