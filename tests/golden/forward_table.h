// The vocabulary of the data path's golden tables: a row is a story that a whole Core lives through
// in memory. Each step is something that happens (frames arrive, time passes, the configuration
// changes), the exact frames that must leave because of it, and the drops it must count; nothing
// else may leave or be counted.
//
// Every story is written once for both families over the names of a Net; rows name the two.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dataplane/packet/headers.h"
#include "tests/support/core_lab.h"

namespace limpet::golden {

using net::Family;
using packet::DropReason;
using packet::kTcpAck;
using packet::kTcpFin;
using packet::kTcpPsh;
using packet::kTcpRst;
using packet::kTcpSyn;
using support::Bytes;
using support::CoreLab;
using support::Flow;
using support::Frame;
using support::World;
using timing::seconds;

inline constexpr std::string_view kServerMac = "02:00:00:00:02:02";
inline constexpr uint16_t kSourcePort = 5000;  // the first that is given out, then 5001 ...

// The first connection's addresses in one family, and what its packets look like on the way.
struct Net {
  Family family;
  std::string_view client, other_client, vip, server, source, front, back, router;

  bool v4() const { return family == Family::kV4; }
  Flow up(uint16_t client_port = 40000, uint16_t port = 80) const {
    return {client, client_port, vip, port};
  }
  Flow down() const { return up().reversed(); }
  Flow down_of(uint16_t client_port) const { return up(client_port).reversed(); }
  Flow nat(uint16_t source_port = kSourcePort, uint16_t port = 8080) const {
    return {source, source_port, server, port};
  }
  Flow answer(uint16_t source_port = kSourcePort) const { return nat(source_port).reversed(); }
};

inline constexpr Net k4{Family::kV4, "10.1.0.2", "10.1.0.3", "10.1.0.100", "10.2.0.2",
                        "10.2.0.1",  "10.1.0.1", "10.2.0.1", "10.2.0.250"};
inline constexpr Net k6{Family::kV6, "fd00:1::2", "fd00:1::3", "fd00:1::100", "fd00:2::2",
                        "fd00:2::1", "fd00:1::1", "fd00:2::1", "fd00:2::fa"};

// Where the transport header of an untagged frame without options begins.
inline std::size_t l4(const Net& n) {
  return n.v4() ? 34 : 54;
}

// A frame on port 0 or 1, arriving or leaving.
struct On {
  uint8_t port = 0;
  Bytes bytes;
};

struct Step {
  std::string what;
  std::function<std::vector<support::Sent>(CoreLab&)> act;
  std::vector<On> leaves;
  std::vector<DropReason> drops;
};

struct Story {
  CoreLab::Options options{.servers = 1};
  uint16_t source_ports = 16;  // towards each server, from kSourcePort on
  std::function<void(World&)> world = nullptr;
  std::vector<Step> steps;
  std::function<void(CoreLab&)> finally = nullptr;  // looks at counters
};

struct Row {
  std::string name;
  std::string no_twin;
  Story story;
};

// --- frames -------------------------------------------------------------------------------------

// What a client or a server sends the engine.
inline On from_client(const Frame& f) {
  return {0, f.build()};
}
inline On from_server(const Frame& f) {
  return {1, f.with(&Frame::to, support::mac(support::kBackMac))
                 .with(&Frame::from, support::mac(kServerMac))
                 .build()};
}
// What the engine sends them.
inline On to_client(const Frame& f) {
  return {0, f.with(&Frame::to, support::mac(support::kClientMac))
                 .with(&Frame::from, support::mac(support::kFrontMac))
                 .build()};
}
inline On to_server(const Frame& f) {
  return {1, f.with(&Frame::to, support::mac(kServerMac))
                 .with(&Frame::from, support::mac(support::kBackMac))
                 .build()};
}
// `f` with the addresses and ports of `flow` and one hop less to go.
Frame translated(Frame f, const Flow& flow);
// A reset the engine makes; `acknowledgment` 0: none.
Frame reset(const Flow& flow, uint32_t sequence, uint32_t acknowledgment = 0);
// An ICMP error the engine makes about `about`, as it arrived; it quotes as much as may be.
Frame engine_error(std::string_view from, std::string_view to, uint8_t type, uint8_t code,
                   const Frame& about, uint32_t word = 0);
// A segment with these numbers.
Frame segment(const Flow& flow, uint8_t flags, uint32_t sequence, uint32_t acknowledgment,
              std::string_view payload = "");

// --- steps --------------------------------------------------------------------------------------

Step when(std::string what, const On& arrives, std::vector<On> leaves,
          std::vector<DropReason> drops = {});
Step passes(timing::Duration time, std::vector<On> leaves = {});
Step changes(std::string what, std::function<void(World&)> change, std::vector<On> leaves = {});
Step checks(std::string what, std::function<void(CoreLab&)> check);

// Steps of a TCP connection: SYN (sequence 1000), SYN-ACK (5000), ACK; translated or preserved.
std::vector<Step> handshake(const Net& n, uint16_t source_port = kSourcePort);
// `first`, then all of `more`.
std::vector<Step> operator+(std::vector<Step> first, std::vector<Step> more);

// Lives through the story: exact frames, right sums, exact drops, and at its end no buffer is left.
void live(const Row& row);

}  // namespace limpet::golden
