// traffic: clients and servers for an engine, at the other end of its memif device: new clients at
// a given rate, each with one datagram, which its server echoes, so that its binding is confirmed.
//
//   bench_mirroring_traffic SOCKET PORT ENGINE_MAC
//
// Reads lines "FIRST COUNT RATE VIP" and says, for each, when every client was answered:
// "SECONDS LOST". Client n has the address 100.64.0.0 + n. Datagrams that get lost are sent again.
//
// It rests for 50 microseconds when it has nothing to do, so that engines on the same cores can
// work; what is due after that goes out at once.
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "common/net/endian.h"

namespace limpet::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint16_t kBurst = 64;
constexpr uint16_t kRing = 8192;
constexpr uint32_t kBuffers = 4 * kRing;
constexpr uint32_t kFirstClient = 0x64400000;
constexpr uint16_t kClientPort = 40'000;
constexpr uint16_t kFrameBytes = 60;
constexpr std::chrono::nanoseconds kRest = std::chrono::microseconds(50);
constexpr std::chrono::nanoseconds kAgain = std::chrono::milliseconds(200);
constexpr std::chrono::nanoseconds kGiveUp = std::chrono::seconds(60);

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "traffic: %s\n", what.c_str());
  std::_Exit(1);
}

// An Ethernet frame with a UDP datagram over IPv4.
struct [[gnu::packed]] Frame {
  std::array<uint8_t, 6> to{};
  std::array<uint8_t, 6> from{2, 0, 0, 0, 0, 2};
  net::Be16 type = 0x0800;
  uint8_t version = 0x45;
  uint8_t service = 0;
  net::Be16 length = kFrameBytes - 14;
  net::Be16 id = 0;
  net::Be16 fragment = 0;
  uint8_t hops = 64;
  uint8_t protocol = 17;
  net::Be16 checksum = 0;
  net::Be32 source = 0;
  net::Be32 destination = 0;
  net::Be16 source_port = kClientPort;
  net::Be16 destination_port = 0;
  net::Be16 udp_length = kFrameBytes - 34;
  net::Be16 udp_checksum = 0;  // none
  std::array<uint8_t, 18> payload{};

  void set_checksum() {
    checksum = 0;
    uint32_t sum = 0;
    const auto* bytes = reinterpret_cast<const uint8_t*>(this) + 14;
    for (int i = 0; i < 20; i += 2) sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    checksum = static_cast<uint16_t>(~(sum + (sum >> 16)));
  }
};
static_assert(sizeof(Frame) == kFrameBytes);

class Traffic {
 public:
  Traffic(const char* socket, uint16_t port, std::array<uint8_t, 6> engine) : port_(port) {
    const std::string device =
        std::string("--vdev=net_memif0,role=server,rsize=13,socket-abstract=no,socket=") + socket;
    std::vector<std::string> words = {
        "traffic",  "--no-huge", "--no-pci",          "--no-shconf",    "-m",  "256",
        "--lcores", "0@(0-1)",   "--log-level=error", "--no-telemetry", device};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0) fail("no EAL");
    pool_ = rte_pktmbuf_pool_create("frames", kBuffers, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
    const rte_eth_conf configuration{};
    constexpr auto kAnySocket = static_cast<unsigned>(SOCKET_ID_ANY);
    if (pool_ == nullptr || rte_eth_dev_configure(0, 1, 1, &configuration) != 0 ||
        rte_eth_rx_queue_setup(0, 0, kRing, kAnySocket, nullptr, pool_) != 0 ||
        rte_eth_tx_queue_setup(0, 0, kRing, kAnySocket, nullptr) != 0 || rte_eth_dev_start(0) != 0)
      fail("no device");
    pattern_.to = engine;
    pattern_.destination_port = port;
  }

  void wait_for_link() {
    rte_eth_link link{};
    for (int i = 0; i < 3000; ++i) {
      rte_eth_link_get_nowait(0, &link);
      if (link.link_status != 0) return;
      rest(std::chrono::milliseconds(10));
    }
    fail("no engine came");
  }

  // (seconds until all were answered, datagrams that had to be sent again)
  std::pair<double, uint64_t> run(uint32_t first, uint32_t count, double rate, uint32_t vip) {
    first_ = first;
    pattern_.destination = vip;
    answered_.assign(count, false);
    answers_ = 0;
    const auto begin = Clock::now();
    uint32_t sent = 0;
    uint64_t again = 0;
    auto all_sent = begin;
    while (answers_ < count) {
      const bool idle = !receive();
      const auto now = Clock::now();
      if (now - begin > kGiveUp + std::chrono::duration<double>(count / rate))
        fail("clients are not answered");
      const double due = std::chrono::duration<double>(now - begin).count() * rate;
      const uint32_t until = std::min(count, static_cast<uint32_t>(due) + 1);
      const bool nothing = sent == until;
      for (; sent < until; ++sent) {
        if (!send(sent)) break;
        all_sent = now;
      }
      if (sent == count && now - all_sent > kAgain) {
        for (uint32_t i = 0; i < count; ++i)
          if (!answered_[i] && send(i)) ++again;
        all_sent = now;
      }
      flush();
      if (idle && nothing) rest(kRest);
    }
    return {std::chrono::duration<double>(Clock::now() - begin).count(), again};
  }

 private:
  static void rest(std::chrono::nanoseconds time) {
    const timespec t{.tv_sec = 0, .tv_nsec = time.count()};
    nanosleep(&t, nullptr);
  }

  bool send(uint32_t client) {
    rte_mbuf* m = rte_pktmbuf_alloc(pool_);
    if (m == nullptr) return false;
    auto* frame = reinterpret_cast<Frame*>(rte_pktmbuf_append(m, sizeof(Frame)));
    *frame = pattern_;
    frame->source = kFirstClient + first_ + client;
    frame->set_checksum();
    put(m);
    return true;
  }

  void put(rte_mbuf* m) {
    out_[waiting_++] = m;
    if (waiting_ == kBurst) flush();
  }

  // What finds no room is lost, as on a wire.
  void flush() {
    const uint16_t sent = rte_eth_tx_burst(0, 0, out_.data(), waiting_);
    for (uint16_t i = sent; i < waiting_; ++i) rte_pktmbuf_free(out_[i]);
    waiting_ = 0;
  }

  // Echoes what goes to servers, counts what goes to clients. False: there was nothing.
  bool receive() {
    std::array<rte_mbuf*, kBurst> in;
    bool any = false;
    for (;;) {
      const uint16_t count = rte_eth_rx_burst(0, 0, in.data(), kBurst);
      for (uint16_t i = 0; i < count; ++i) take(in[i]);
      any = any || count > 0;
      if (count < kBurst) break;
    }
    flush();
    return any;
  }

  void take(rte_mbuf* m) {
    auto* frame = rte_pktmbuf_mtod(m, Frame*);
    if (m->data_len < sizeof(Frame) || frame->type != uint16_t{0x0800} || frame->protocol != 17)
      return rte_pktmbuf_free(m);
    if (frame->source == pattern_.destination && frame->source_port == port_) {
      const uint32_t client = uint32_t{frame->destination} - kFirstClient - first_;
      if (client < answered_.size() && !answered_[client]) {
        answered_[client] = true;
        ++answers_;
      }
      return rte_pktmbuf_free(m);
    }
    if (frame->destination_port != port_) return rte_pktmbuf_free(m);
    // The sums stay as they are.
    const Frame asked = *frame;
    frame->to = asked.from;
    frame->from = asked.to;
    frame->source = asked.destination;
    frame->destination = asked.source;
    frame->source_port = asked.destination_port;
    frame->destination_port = asked.source_port;
    put(m);
  }

  const uint16_t port_;
  rte_mempool* pool_ = nullptr;
  Frame pattern_;
  std::array<rte_mbuf*, kBurst> out_;
  uint16_t waiting_ = 0;
  uint32_t first_ = 0;
  uint32_t answers_ = 0;
  std::vector<bool> answered_;
};

}  // namespace
}  // namespace limpet::bench

int main(int argc, char** argv) {
  using namespace limpet;
  if (argc != 4) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_TIMERSLACK, 1000);
  std::array<uint8_t, 6> mac{};
  if (std::sscanf(argv[3], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
                  &mac[4], &mac[5]) != 6)
    return 2;
  bench::Traffic traffic(argv[1], static_cast<uint16_t>(std::atoi(argv[2])), mac);
  std::printf("listening\n");
  std::fflush(stdout);
  traffic.wait_for_link();
  uint32_t first = 0;
  uint32_t count = 0;
  double rate = 0;
  std::array<char, 16> text{};
  while (std::scanf("%u %u %lf %15s", &first, &count, &rate, text.data()) == 4) {
    const auto vip = net::Address::parse(text.data());
    if (!vip) return 2;
    const auto [seconds, again] =
        traffic.run(first, count, rate, net::Be32::from_raw(vip->v4_word()));
    std::printf("%.6f %llu\n", seconds, static_cast<unsigned long long>(again));
    std::fflush(stdout);
  }
  return 0;
}
