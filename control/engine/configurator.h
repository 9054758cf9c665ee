// Configurator: from what was asked (a document, marks, a deadline) to the next running
// configuration. prepare() is pure and slow and runs on the helper thread; the engine publishes
// what it made and then keeps it as the new state. One change at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "common/timing/time.h"
#include "control/compile/compile.h"
#include "control/compile/drains.h"
#include "control/config/bootstrap.h"
#include "control/config/codec.h"
#include "control/engine/inventory.h"
#include "control/engine/sizing.h"
#include "control/health/health.h"
#include "control/slowpath/slow_path.h"

namespace limpet::engine {

// What stays the same while the engine runs.
struct Surroundings {
  std::string engine;
  std::vector<snapshot::Port> ports;
  std::vector<snapshot::Route> routes;
  std::vector<net::Address> snat;
  // The engines that elect owners of groups together with this one; empty: there is no election.
  std::vector<std::string> peers;
  SourcePortShare source_ports;
};

// The ports as the bootstrap has them, with these MACs (in its order). Without `peers`: see
// name_peers().
Surroundings surroundings(const config::Bootstrap& bootstrap, const std::vector<net::Mac>& macs);

// The engines that the bootstrap mirrors with. Not of a replay, which runs alone.
void name_peers(const config::Bootstrap& bootstrap, Surroundings* around);

// The configuration that runs. Immutable once made; the next one is a copy with changes.
struct Configuration {
  std::shared_ptr<const config::Parsed> document;  // never null
  std::shared_ptr<const std::string> text;         // the document as sent, with its generation
  uint64_t generation = 0;
  health::Health health;
  compile::Drains drains;
  compile::Registry registry;
  std::vector<uint64_t> owned;  // compile::group_id() of groups that this engine owns; sorted
  std::shared_ptr<const snapshot::Snapshot> snapshot;
  std::shared_ptr<const Inventory> inventory;  // of the document in the snapshot; never null
  // When `drains` have to be looked at again, by a Recompile.
  timing::Instant due_at = timing::Instant::never();

  static Configuration empty(const Surroundings& around);
};

struct PutDocument {
  std::string text;
  // Refused if it would have no virtual service served while some are now.
  bool if_serving = false;
};
struct SetMarks {
  std::string text;         // the body of POST /v1/health-marks
  bool known_only = false;  // from disk: marks on what the document does not have are left out
};
struct Recompile {};  // a deadline of Drains has come
struct SetOwned {
  std::vector<uint64_t> groups;  // Configuration::owned
};
using Change = std::variant<PutDocument, SetMarks, Recompile, SetOwned>;

// How events and groups call an object: by its name, and its tenant's unless that is admin.
std::string event_object(const std::string& tenant, const std::string& name);

// A virtual service that began, or ceased, to be served here.
struct ServiceTransition {
  std::string object;
  bool serving = false;
  std::string reason;  // why not
};

struct Prepared {
  Configuration next;
  // Of `next`, for answers: it is moved from.
  uint64_t generation = 0;
  uint32_t virtual_services = 0;
  uint32_t served = 0;  // of them, here or by an engine that shares their group
  std::vector<config::Warning> warnings;
  std::vector<health::Transition> transitions;
  std::vector<ServiceTransition> service_transitions;
  uint64_t marks = 0;
  slowpath::SlowPath::Plan plan;  // filled in by the engine, away from the control thread
  std::string lasting_marks;      // marks_text() of `next`, when it is to be stored
};

struct Refused {
  unsigned http_status = 400;
  base::Errors errors;
};

// The marks that a configuration has, as a body of POST /v1/health-marks.
std::string marks_text(const Configuration& configuration);

std::variant<Prepared, Refused> prepare(const Configuration& current, const Change& change,
                                        const Surroundings& around, timing::Instant now);

}  // namespace limpet::engine
