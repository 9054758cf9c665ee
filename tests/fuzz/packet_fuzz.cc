// Any bytes as a frame: parse, and then everything the engine may do with what the parser let
// through. The first byte chooses what is done; the rest is the frame, laid at the very end of its
// buffer. Oracles: AddressSanitizer, no assertion, no leak, and every frame made from one whose
// checksums were right has right checksums.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "dataplane/packet/headers.h"
#include "dataplane/packet/icmp_quote.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/plain.h"
#include "dataplane/packet/reply.h"
#include "dataplane/packet/rewrite.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"
#include "tests/support/parse_whole.h"

namespace limpet::packet {
namespace {

constexpr std::size_t kFrameBytesMax = 2048;

[[noreturn]] void fail(std::string_view what, const support::Bytes& frame) {
  std::cerr << "packet_fuzz: " << what << ": " << support::describe(frame) << '\n';
  std::abort();
}

struct Choice {
  bool verify : 1;
  bool tagged : 1;
  uint8_t act : 3;
  bool chain : 1;
};

Choice choice_of(uint8_t byte) {
  return {(byte & 1) == 0, (byte & 2) != 0, static_cast<uint8_t>(byte >> 2 & 7), (byte & 32) != 0};
}

const net::Address& other(net::Family family, bool second) {
  static const net::Address kAddresses[2][2] = {
      {support::address("10.2.0.10"), support::address("10.2.0.2")},
      {support::address("fd00:2::a"), support::address("fd00:2::2")}};
  return kAddresses[family == net::Family::kV6][second];
}

void translate_any(Buffer* buffer) {
  const Meta& m = meta(buffer);
  const Translation to{other(m.family, false), other(m.family, true), 1024, 8080};
  const uint32_t delta = address_delta(m.source, m.destination, to.source, to.destination);
  clamp_mss(buffer, m, 1200);
  if (m.family == net::Family::kV4) {
    translate<net::Family::kV4>(buffer, m, to, delta);
  } else {
    translate<net::Family::kV6>(buffer, m, to, delta);
  }
}

// Does one thing to a parsed packet; says whether it made another packet of it.
bool act_on(Buffer* buffer, uint8_t act) {
  const Meta& m = meta(buffer);
  if (m.kind == Kind::kNeighbor) return false;
  if (m.kind == Kind::kIcmpError) {
    const auto quote = parse_quote(buffer);
    if (!quote) return false;
    translate_quote(buffer, {other(m.family, true), other(m.family, false), 8080, 1024},
                    other(m.family, false), other(m.family, true));
    return true;
  }
  if (m.kind == Kind::kEcho && act % 2 == 0) return make_echo_reply(buffer);
  if (m.kind == Kind::kFlow && act < 3) {
    if (m.ttl == 0) return false;  // is never translated
    translate_any(buffer);
    return true;
  }
  if (m.kind == Kind::kFlow && act == 3) return make_tcp_reset(buffer);
  return make_icmp_error(buffer, static_cast<IcmpReply>(act % 4), other(m.family, false), 1280);
}

// What holds whatever the parser was given.
void check_meta(Buffer* buffer) {
  const Meta& m = meta(buffer);
  if (m.l3_offset + m.l3_bytes != buffer->pkt_len || m.l4_offset < m.l3_offset ||
      m.l4_offset + m.l4_bytes != buffer->pkt_len)
    fail("meta does not describe the frame", support::bytes(buffer));
}

// Quotes and fragments may have been wrong from the start; these may not.
bool judges(const Meta& m, bool verify) {
  return verify && (m.kind == Kind::kFlow || m.kind == Kind::kEcho);
}

// What is plain is to both what it is to the one that takes everything.
void compare_parsers(support::HeapPool& pool, const Ingress& ingress,
                     std::span<const uint8_t> frame) {
  Buffer* plain = support::make_buffer(pool.pool(), frame);
  Buffer* any = support::make_buffer(pool.pool(), frame);
  support::soil(plain);
  if (parse_plain(plain, {&ingress, 1}, support::any_hash()) &&
      (parse(any, {&ingress, 1}) || !support::same_packet(meta(plain), meta(any)) ||
       support::bytes(plain) != support::bytes(any)))
    fail("two parsers do not agree", support::bytes(plain));
  release(plain);
  release(any);
}

void run(support::HeapPool& pool, Choice choice, std::span<const uint8_t> frame) {
  const Ingress ingress{.port = 1,
                        .vlan = static_cast<uint16_t>(choice.tagged ? 100 : 0),
                        .mac = support::mac(support::kEngineMac),
                        .verify_checksums = choice.verify};
  Buffer* buffer = nullptr;
  if (choice.chain && frame.size() > 40) {
    buffer = support::make_buffer(pool.pool(), frame.first(frame.size() / 3));
    Buffer* rest = support::make_buffer(pool.pool(), frame.subspan(frame.size() / 3));
    if (rte_pktmbuf_chain(buffer, rest) != 0) fail("no chain", {});
  } else {
    buffer = support::make_buffer_at_end(pool.pool(), frame);
  }
  compare_parsers(pool, ingress, frame);
  if (!parse(buffer, {&ingress, 1})) {
    check_meta(buffer);
    // Before anything is done: is there a field the describer finds fault with anyway?
    const bool whole =
        judges(meta(buffer), choice.verify) && support::sums_wrong(support::bytes(buffer)).empty();
    if (act_on(buffer, choice.act)) {
      const Egress out{.port = 2, .vlan = 7, .mac = support::mac(support::kClientMac)};
      if (write_ethernet(buffer, out, support::mac(support::kEngineMac))) {
        const support::Bytes made = support::bytes(buffer);
        if (whole && meta(buffer).kind != Kind::kIcmpError && !support::sums_wrong(made).empty())
          fail("made a frame with wrong sums", made);
        check_meta(buffer);
      }
    }
  }
  release(buffer);
  if (pool.in_use() != 0) fail("leaked", {});
}

}  // namespace
}  // namespace limpet::packet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  if (size < 1 || size > packet::kFrameBytesMax) return 0;
  static support::HeapPool pool(8);
  packet::run(pool, packet::choice_of(data[0]), {data + 1, size - 1});
  return 0;
}
