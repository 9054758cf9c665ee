// Inventory: what became of each virtual service and server of a document in the snapshot that was
// compiled from it: the slots under which workers count, and its state with the reason for it. Made
// with the snapshot, away from the control thread, so that status, metrics and events look nothing
// up by name.
//
// Immutable once made; of one document and snapshot.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "control/compile/compile.h"
#include "control/config/document.h"
#include "control/health/health.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::engine {

struct Inventory {
  struct Service {
    snapshot::VsSlot slot;
    bool usable = false;   // a server can take clients, whoever serves it
    bool serving = false;  // clients of this engine reach a server
    // This engine carries it, or may take it over: it is built and enabled.
    bool carried = false;
    const char* oper_status = "OPER_DOWN";
    std::string reason;  // why it is not serving here; empty: it is
    std::vector<binding::ScopeSlot> scopes;
  };
  struct Server {
    std::optional<snapshot::ServerSlot> slot;  // none: no virtual service uses its pool
    health::State state;                       // what health says, or that nothing leads to it
  };

  std::vector<Service> services;             // as Document::virtual_services
  std::vector<std::vector<Server>> servers;  // by pool, as its servers

  uint32_t carried() const;
  uint32_t serving() const;

  // `compiled`: from that document.
  static Inventory of(const config::Document& document, const compile::Compiled& compiled,
                      const health::Health& health);
};

}  // namespace limpet::engine
