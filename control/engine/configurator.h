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
#include "control/health/health.h"

namespace limpet::engine {

// What stays the same while the engine runs.
struct Surroundings {
  std::string engine;
  std::vector<snapshot::Port> ports;
  std::vector<snapshot::Route> routes;
  std::vector<net::Address> snat;
  // The engines that elect owners of groups together with this one; empty: there is no election.
  std::vector<std::string> peers;
};

// The ports as the bootstrap has them, with these MACs (in its order).
Surroundings surroundings(const config::Bootstrap& bootstrap, const std::vector<net::Mac>& macs);

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

  static Configuration empty(const Surroundings& around);
};

struct PutDocument {
  std::string text;
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

struct Prepared {
  Configuration next;
  std::vector<config::Warning> warnings;
  std::vector<health::Transition> transitions;
  uint64_t marks = 0;
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
