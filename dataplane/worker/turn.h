// turn(): a worker's turn, the one place that knows the order of its stages. Whoever has a Core
// takes its turns with it, and says as a Host what lies around the core: where packets and messages
// come from, which snapshot is the newest, where to put what was decided. A simulation that stops
// cores in mid-turn takes the same stages one by one with step().
//
// Every stage is bounded. Why this order: what a client could have seen the effect of must be known
// before its next packet is judged (R2 in dataplane/replication/README.md). So what homes have told
// this core is heard after the packets have arrived and before they are judged; the snapshot is
// taken before both, and again by a message from one that is newer. Serving other cores comes after
// the core's own packets, and all that a turn has decided leaves at its end.
#pragma once

#include <cstdint>
#include <utility>

#include "dataplane/worker/core.h"

namespace limpet::worker {

// In the order of a turn.
enum class Stage : uint8_t {
  kReceive,   // arrive: packets from devices; collect: those steered here by other cores
  kBegin,     // the newest snapshot, and what time it is
  kDrain,     // what homes have told this core
  kMessages,  // what the control thread has to say
  kJudge,     // what waited for a home, known flows, new flows, everything else
  kServe,     // as home: claims and answers
  kEnd,       // timers, aging, a slice of the sweep and of a job
  kFlush,     // packets leave: to devices, other cores, the control thread
};
inline constexpr uint32_t kStages = static_cast<uint32_t>(Stage::kFlush) + 1;

// A Host has
//   bool receive()   calls core.arrive(); true when it found something
//   bool collect()   calls core.collect(); likewise
//   void take()      calls core.begin() with the newest snapshot; more than once in a turn
//   void messages()  calls core.message()
//   void flush()     takes away what the core has put into output() and steered()
// This one is for a core to which packets and messages are brought, and from which they are taken,
// between its turns; others may build on it.
struct PlainHost {
  Core& core;
  const snapshot::Snapshot& newest;
  timing::Instant now;

  bool receive() { return false; }
  bool collect() { return false; }
  void take() { core.begin(newest, now); }
  void messages() {}
  void flush() {}
};

// One stage; true when it found something to do, as far as that is known by then: kEnd knows of all
// but what receive() and collect() found.
template <class Host>
[[gnu::always_inline]] inline bool step(Stage stage, Core& core, Host& host) {
  const auto take = [&host] { host.take(); };
  switch (stage) {
    case Stage::kReceive: {
      const bool received = host.receive();
      return host.collect() || received;
    }
    case Stage::kBegin:
      take();
      return false;
    case Stage::kDrain:
      core.drain(take);
      return false;
    case Stage::kMessages:
      host.messages();
      return false;
    case Stage::kJudge:
      core.judge();
      return false;
    case Stage::kServe:
      core.serve(take);
      return false;
    case Stage::kEnd: {
      const bool busy = core.busy();  // until end()
      core.end();
      return busy;
    }
    case Stage::kFlush:
      host.flush();
      return false;
  }
  return false;
}

// All stages; true when there was something to do. They unfold here: no stage is looked up.
template <class Host>
bool turn(Core& core, Host&& host) {
  bool worked = false;
  const auto all = [&]<uint8_t... kStage>(std::integer_sequence<uint8_t, kStage...>) {
    ((worked = step(Stage{kStage}, core, host) || worked), ...);
  };
  all(std::make_integer_sequence<uint8_t, kStages>{});
  return worked;
}

}  // namespace limpet::worker
