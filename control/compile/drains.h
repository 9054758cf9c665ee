// Drains: when the connections of a disabled or removed server are to be reset:
// graceful_disable_timeout after it was disabled or left its pool (dataplane/affinity/README.md,
// "Established connections").
//
// Owner: the control thread. A value: the owner updates a copy with the new document, compiles, and
// keeps the copy only when the document is applied.
//
// Invariants
//  1. A server that was disabled and then removed is due by when it was disabled.
//  2. A server that is enabled again, or returns, is not drained any more.
//  3. For a disabled server the timeout of the newest document counts; for a removed one the last
//     its pool had.
//  4. At most base::kServersMax removed servers wait. Beyond, those nearest to their time are due
//     at once.
#pragma once

#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/timing/time.h"
#include "control/config/document.h"

namespace limpet::compile {

class Drains {
 public:
  // `document` applies from `now` on.
  void update(const config::Document& document, timing::Instant now);

  // Servers whose time is over, sorted: the disabled ones for as long as they stay disabled, the
  // removed ones until settle().
  std::vector<config::ServerId> due(timing::Instant now) const;

  // A snapshot that was compiled with due(now) is published: removed servers that were due are
  // forgotten here (the registry goes on to know their slots).
  void settle(timing::Instant now);

  // When due() will have more than it has at `now`; never() if not by itself.
  timing::Instant next_deadline(timing::Instant now) const;

 private:
  // Absent timeout: for ever.
  struct Draining {
    timing::Instant since;
    std::optional<timing::Duration> timeout;

    timing::Instant deadline() const {
      return timeout ? since + *timeout : timing::Instant::never();
    }
  };
  // A server of the running document.
  struct Known {
    std::optional<timing::Duration> timeout;
    std::optional<timing::Instant> disabled;
  };

  std::unordered_map<config::ServerId, Known> known_;
  std::unordered_map<config::ServerId, Draining> removed_;
};

}  // namespace limpet::compile
