// Pieces of datagrams as the input says: families, datagrams, offsets, lengths, order, pauses. Each
// byte of a datagram has the value that its place gives it, so what is put together can be checked.
// Oracles: AddressSanitizer, no assertion, no leak, no more pieces held than allowed, and a whole
// datagram that has the right bytes and can be parsed or is refused.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "common/base/random.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/reassembler.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::packet {
namespace {

constexpr std::size_t kStepBytes = 4;
constexpr std::size_t kStepsMax = 300;
constexpr uint32_t kPiecesMax = 96;

[[noreturn]] void fail(std::string_view what) {
  std::cerr << "fragments_fuzz: " << what << '\n';
  std::abort();
}

// One piece: a byte of flags, an offset in eights of bytes, a length.
struct Step {
  bool v6;
  bool more;
  bool odd;     // its length is no multiple of eight
  bool pause;   // time passes before
  uint32_t id;  // one of four datagrams of each family
  uint16_t units;
  uint32_t bytes;
};

Step step_of(const uint8_t* at) {
  const auto units = static_cast<uint16_t>((at[1] | at[2] << 8) & 0x1fff);
  const bool odd = (at[0] & 32) != 0;
  return {(at[0] & 1) != 0,
          (at[0] & 2) != 0,
          odd,
          (at[0] & 64) != 0,
          static_cast<uint32_t>(at[0] >> 2 & 3),
          units,
          at[3] * 8u + (odd ? 3u : 0u)};
}

uint8_t value_at(uint32_t place) {
  return static_cast<uint8_t>(place * 31 + (place >> 8));
}

support::Bytes frame_of(const Step& s) {
  support::Frame f;
  f.source = support::address(s.v6 ? "fd00:1::2" : "10.1.0.2");
  f.destination = support::address(s.v6 ? "fd00:1::100" : "10.1.0.100");
  if (s.v6) {
    const auto word = static_cast<uint16_t>(s.units << 3 | (s.more ? 1 : 0));
    f.extensions = {{44,
                     {static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word), 0, 0, 0,
                      static_cast<uint8_t>(s.id)}}};
  } else {
    f.ip_id = static_cast<uint16_t>(s.id);
    f.more_fragments = s.more;
    f.fragment_units = s.units;
  }
  support::Bytes data(s.bytes);
  for (uint32_t i = 0; i < s.bytes; ++i) data[i] = value_at(s.units * 8u + i);
  f.raw_l4 = std::move(data);
  return f.build();
}

void check(Buffer* whole) {
  const Meta& m = meta(whole);
  if (!m.reassembled) fail("meta does not say that it was put together");
  const support::Bytes bytes = support::bytes(whole);
  const std::size_t data = m.family == net::Family::kV4 ? 34 : 54;
  for (std::size_t i = data; i < bytes.size(); ++i) {
    if (bytes[i] != value_at(static_cast<uint32_t>(i - data))) fail("a byte is another place's");
  }
}

void run(support::HeapPool& pool, std::span<const uint8_t> input) {
  static base::Random random{1};
  static const base::KeyedHash hash{random};
  const Ingress ingress{.port = 1, .mac = support::mac(support::kEngineMac)};
  timing::Instant now{1'000'000'000};
  {
    Reassembler reassembler(
        {.datagrams_max = 4, .pieces_max = kPiecesMax, .timeout = timing::seconds(2)}, hash);
    for (std::size_t at = 0; at + kStepBytes <= input.size(); at += kStepBytes) {
      const Step step = step_of(&input[at]);
      if (step.pause) {
        now = now + timing::milliseconds(1500);
        reassembler.release_expired(now, 32);
      }
      Buffer* piece = support::make_buffer(pool.pool(), frame_of(step));
      if (piece == nullptr) continue;
      if (parse(piece, {&ingress, 1}) || meta(piece).kind != Kind::kFragment) {
        release(piece);
        continue;
      }
      if (Buffer* whole = reassembler.add(piece, now)) {
        check(whole);
        if (!parse_datagram(whole, true) &&
            meta(whole).l3_offset + meta(whole).l3_bytes != whole->pkt_len)
          fail("meta does not describe the datagram");
        release(whole);
      }
      if (reassembler.pending() > kPiecesMax || pool.in_use() != reassembler.pending())
        fail("pieces are lost, or too many held");
    }
  }
  if (pool.in_use() != 0) fail("leaked");
}

}  // namespace
}  // namespace limpet::packet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  if (size > packet::kStepBytes * packet::kStepsMax) return 0;
  static support::HeapPool pool(packet::kPiecesMax + 64);
  packet::run(pool, {data, size});
  return 0;
}
