// Cost of reading and rewriting one packet, cache-hot: the floor under every other number.
// `parse` includes verifying checksums in software; `parse_offloaded` has the device's word.
#include <benchmark/benchmark.h>

#include "dataplane/packet/checksum.h"
#include "dataplane/packet/headers.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/rewrite.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::packet {
namespace {

using support::Flow;
using support::Frame;

const Flow kUp4{"10.1.0.2", 40000, "10.1.0.100", 80};
const Flow kUp6{"fd00:1::2", 40000, "fd00:1::64", 80};
constexpr std::size_t kPackets = 32;  // a burst

// A burst of equal packets, parsed once.
class Burst {
 public:
  explicit Burst(const Frame& frame) {
    for (Buffer*& buffer : buffers_) {
      buffer = support::make_buffer(pool_.pool(), frame.build());
      benchmark::DoNotOptimize(parse(buffer, ports()));
    }
  }
  ~Burst() {
    for (Buffer* buffer : buffers_) release(buffer);
  }
  Burst(const Burst&) = delete;
  Burst& operator=(const Burst&) = delete;

  IngressSet ports() const { return {&ingress_, 1}; }
  auto begin() { return buffers_.begin(); }
  auto end() { return buffers_.end(); }

 private:
  support::HeapPool pool_{kPackets};
  Ingress ingress_{.mac = support::mac(support::kEngineMac)};
  std::array<Buffer*, kPackets> buffers_{};
};

Frame frame_of(bool v4, bool tcp, std::size_t payload_bytes) {
  const std::string payload(payload_bytes, 'x');
  return tcp ? support::tcp(v4 ? kUp4 : kUp6, kTcpAck, payload)
             : support::udp(v4 ? kUp4 : kUp6, payload);
}

void per_packet(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kPackets));
}

void parse_burst(benchmark::State& state, bool v4, bool tcp, std::size_t payload, uint64_t flags) {
  Burst burst(frame_of(v4, tcp, payload));
  for (Buffer* buffer : burst) buffer->ol_flags |= flags;
  for (auto unused : state) {
    for (Buffer* buffer : burst) benchmark::DoNotOptimize(parse(buffer, burst.ports()));
  }
  per_packet(state);
}

template <net::Family F>
void translate_burst(benchmark::State& state, bool tcp) {
  Burst burst(frame_of(F == net::Family::kV4, tcp, 18));
  const bool v4 = F == net::Family::kV4;
  const net::Address source = support::address(v4 ? "10.2.0.10" : "fd00:2::a");
  const net::Address destination = support::address(v4 ? "10.2.0.2" : "fd00:2::2");
  const net::Address& client = meta(*burst.begin()).source;
  const uint32_t delta =
      address_delta(client, meta(*burst.begin()).destination, source, destination);
  for (auto unused : state) {
    for (Buffer* buffer : burst)
      translate<F>(buffer, meta(buffer), {source, destination, 1024, 8080}, delta);
    benchmark::ClobberMemory();
  }
  per_packet(state);
}

void translate_v4(benchmark::State& state, bool tcp) {
  translate_burst<net::Family::kV4>(state, tcp);
}
void translate_v6(benchmark::State& state, bool tcp) {
  translate_burst<net::Family::kV6>(state, tcp);
}

void checksum_bytes(benchmark::State& state, bool ours) {
  const support::Bytes data(static_cast<std::size_t>(state.range(0)), 0x5a);
  for (auto unused : state) {
    benchmark::DoNotOptimize(data.data());
    if (ours) {
      benchmark::DoNotOptimize(fold(sum_of(data.data(), data.size())));
    } else {
      benchmark::DoNotOptimize(rte_raw_cksum(data.data(), data.size()));
    }
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

constexpr uint64_t kGood = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;

// 18 bytes of data make a 60-byte IPv4 UDP frame.
BENCHMARK_CAPTURE(parse_burst, v4_udp_60, true, false, 18, 0);
BENCHMARK_CAPTURE(parse_burst, v6_udp_80, false, false, 18, 0);
BENCHMARK_CAPTURE(parse_burst, v4_tcp_54, true, true, 0, 0);
BENCHMARK_CAPTURE(parse_burst, v6_tcp_74, false, true, 0, 0);
BENCHMARK_CAPTURE(parse_burst, v4_udp_1514, true, false, 1472, 0);
BENCHMARK_CAPTURE(parse_burst, v4_udp_60_offloaded, true, false, 18, kGood);
BENCHMARK_CAPTURE(parse_burst, v6_udp_80_offloaded, false, false, 18, kGood);
BENCHMARK_CAPTURE(translate_v4, udp, false);
BENCHMARK_CAPTURE(translate_v6, udp, false);
BENCHMARK_CAPTURE(translate_v4, tcp, true);
BENCHMARK_CAPTURE(translate_v6, tcp, true);
BENCHMARK_CAPTURE(checksum_bytes, ours, true)
    ->Arg(26)
    ->Arg(64)
    ->Arg(128)
    ->Arg(256)
    ->Arg(512)
    ->Arg(1480);
BENCHMARK_CAPTURE(checksum_bytes, rte_raw, false)
    ->Arg(26)
    ->Arg(64)
    ->Arg(128)
    ->Arg(256)
    ->Arg(512)
    ->Arg(1480);

}  // namespace
}  // namespace limpet::packet

BENCHMARK_MAIN();
