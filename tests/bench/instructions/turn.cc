#include "tests/bench/instructions/turn.h"

using limpet::packet::Buffer;

void limpet_counted_turn(limpet::worker::Core& core, const limpet::snapshot::Snapshot& s,
                         limpet::timing::Instant now, std::span<Buffer* const> burst,
                         const limpet::packet::IngressSet& ports) {
  core.arrive(burst, ports);
  const auto take = [&] { core.begin(s, now); };
  take();
  core.drain(take);
  core.judge();
  core.serve(take);
  core.end();
}
