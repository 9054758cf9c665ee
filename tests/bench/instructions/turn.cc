#include "tests/bench/instructions/turn.h"

#include "dataplane/worker/turn.h"

using limpet::packet::Buffer;

namespace {

struct Host : limpet::worker::PlainHost {
  std::span<Buffer* const> burst;
  const limpet::packet::IngressSet& ports;

  bool receive() {
    core.arrive(burst, ports);
    return true;
  }
};

}  // namespace

void limpet_counted_turn(limpet::worker::Core& core, const limpet::snapshot::Snapshot& s,
                         limpet::timing::Instant now, std::span<Buffer* const> burst,
                         const limpet::packet::IngressSet& ports) {
  limpet::worker::turn(core, Host{{core, s, now}, burst, ports});
}
