// News: what the homes of this engine have to say, read from their rings into the mirror and the
// update list.
//
// Owner: the control thread. Cost: a bounded part each time; the rest waits in the rings.
#pragma once

#include <functional>

#include "control/engine/cores.h"
#include "control/mirroring/exchange.h"

namespace limpet::engine {

class News {
 public:
  static constexpr uint32_t kPerCore = 4096;
  using Heard = std::function<void(const binding::Change&, timing::Instant now)>;

  // `heard` is called with each change after it was applied.
  News(Cores& cores, mirroring::Exchange& exchange, const timing::Clock& clock, Heard heard)
      : cores_(cores), exchange_(exchange), clock_(clock), heard_(std::move(heard)) {}

  void read();
  // Of one core at most so many. True when the update list has changed.
  bool read(uint32_t core, uint32_t most);
  // Whether any is there.
  bool any() const;

 private:
  Cores& cores_;
  mirroring::Exchange& exchange_;
  const timing::Clock& clock_;
  const Heard heard_;
};

}  // namespace limpet::engine
