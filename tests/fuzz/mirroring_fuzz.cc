// Any bytes as frames between engines, as what a peer says before and after its HELLO, and as a
// beat about groups. Oracles: the sanitizers, no assertion; every frame and beat that is let
// through encodes to bytes that decode to the same; nothing reaches a home before a HELLO.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "common/base/assert.h"
#include "common/base/random.h"
#include "control/failover/beat.h"
#include "control/mirroring/session.h"

namespace limpet::mirroring {
namespace {

// Refuses now and then.
class SomeHome final : public Home {
 public:
  bool deliver(const Arrival& arrival) override {
    LIMPET_ASSERT(arrival.act_at <= now);
    if (++asked_ % 5 == 0) return false;
    ++taken;
    return true;
  }

  timing::Instant now{1'000'000'000};
  uint32_t taken = 0;

 private:
  uint32_t asked_ = 0;
};

// Gives a session the input in pieces, 7 ms apart.
void feed(Session& session, SomeHome& home, std::span<const uint8_t> input) {
  for (std::size_t turn = 0; turn < 200 && session.state() != Session::State::kClosed; ++turn) {
    home.now = home.now + timing::milliseconds(7);
    if (session.wants_input() && !input.empty()) {
      const std::size_t some = std::min(input.size(), 1 + 37 * (turn % 50));
      session.receive(input.first(some), home.now);
      input = input.subspan(some);
    }
    session.tick(home.now);
    if (turn % 3 == 0) session.take_output();
  }
}

void run_session(std::span<const uint8_t> input, bool greeted) {
  base::Random random(1);
  const base::KeyedHash hash(random);
  UpdateList list({.entries = 8, .tombstones = 2, .peers = 1}, hash,
                  std::pmr::get_default_resource());
  for (uint64_t n = 1; n <= 4; ++n)
    list.update({.scope = binding::ScopeId{n}, .record = {.stamp = binding::Stamp{n}}}, {});
  SomeHome home;
  Engine engine{.name = "se2", .boot = {{7}}, .list = &list, .home = &home};
  engine.peers.push_back({.index = PeerIndex{0}, .name = "se1"});
  Session session(engine, nullptr, home.now);
  if (greeted) {
    std::vector<uint8_t> hello;
    encode(Hello{.boot = {{1}}, .name = "se1"}, &hello);
    session.receive(hello, home.now);
    LIMPET_ASSERT(session.state() == Session::State::kSnapshot);
  }
  feed(session, home, input);
  if (session.peer() == nullptr) LIMPET_ASSERT(home.taken == 0);
  LIMPET_ASSERT(engine.peers[0].counters.updates_received == home.taken);
}

void run_beat(std::span<const uint8_t> body) {
  const auto beat = failover::decode(body);
  if (!beat) return;
  std::vector<uint8_t> again;
  failover::encode(*beat, &again);
  LIMPET_ASSERT(failover::decode(again) == beat);
}

void run(std::span<const uint8_t> input) {
  for (;;) {
    const Decoded decoded = decode(input);
    LIMPET_ASSERT(decoded.bytes <= input.size() && decoded.bytes <= kFrameBytesMax);
    if (decoded.what == Decoded::What::kBad) LIMPET_ASSERT(decoded.reason != Reason::kNone);
    if (decoded.what == Decoded::What::kFrame) {
      std::vector<uint8_t> again;
      encode(decoded.frame, &again);
      LIMPET_ASSERT(again.size() <= decoded.bytes);
      const Decoded second = decode(again);
      LIMPET_ASSERT(second.what == Decoded::What::kFrame && second.frame == decoded.frame);
      if (const auto* groups = std::get_if<Groups>(&decoded.frame)) run_beat(groups->body);
    }
    if (decoded.bytes == 0) return;
    input = input.subspan(decoded.bytes);
  }
}

}  // namespace
}  // namespace limpet::mirroring

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The input's end is the buffer's end.
  const auto exact = std::make_unique<uint8_t[]>(size);
  if (size > 0) std::memcpy(exact.get(), data, size);
  limpet::mirroring::run({exact.get(), size});
  limpet::mirroring::run_beat({exact.get(), size});
  limpet::mirroring::run_session({exact.get(), size}, false);
  limpet::mirroring::run_session({exact.get(), size}, true);
  return 0;
}
