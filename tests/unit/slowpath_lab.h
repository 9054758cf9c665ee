// A slow path between two wires, for its tests: hears frames that went through the real parser,
// and records what it sends, tells the workers, reports and drops. Time stands still but for
// pass().
//
//   front  10.1.0.1/24 fd00:1::1/64  02:00:00:00:00:01
//   back   10.2.0.1/24 fd00:2::1/64  02:00:00:00:00:02
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "control/slowpath/slow_path.h"
#include "dataplane/packet/parse.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::slowpath {

using packet::DropReason;
using support::address;
using support::Bytes;
using support::Frame;
using support::mac;
using timing::Duration;
using timing::Instant;
using timing::milliseconds;
using timing::seconds;

inline constexpr uint8_t kFront = 0;
inline constexpr uint8_t kBack = 1;
inline constexpr std::string_view kFrontMac = "02:00:00:00:00:01";
inline constexpr std::string_view kBackMac = "02:00:00:00:00:02";
inline constexpr std::string_view kClientMac = support::kClientMac;
inline constexpr std::string_view kServerMac = "02:00:00:00:02:02";
inline constexpr std::string_view kRogueMac = "02:00:00:00:66:66";
inline constexpr std::string_view kFrontLinkLocal = "fe80::ff:fe00:1";
inline constexpr std::string_view kBackLinkLocal = "fe80::ff:fe00:2";

// The same places in both families.
struct Names {
  net::Family family;
  std::string_view front, back;   // the ports' addresses
  std::string_view vip;           // on the front's subnet
  std::string_view routed_vip;    // on nobody's subnet
  std::string_view snat;          // on the back's subnet
  std::string_view client;        // on the front's wire
  std::string_view server;        // on the back's wire
  std::string_view other_server;  // there too
  std::string_view gateway;       // on the front's wire
  std::string_view stranger;      // on no wire
  std::string_view unspecified;

  friend void PrintTo(const Names& names, std::ostream* out) {
    *out << (names.family == net::Family::kV4 ? "IPv4" : "IPv6");
  }
};

inline constexpr Names kNames4{net::Family::kV4, "10.1.0.1",   "10.2.0.1",     "10.1.0.100",
                               "192.0.2.9",      "10.2.0.10",  "10.1.0.2",     "10.2.0.2",
                               "10.2.0.3",       "10.1.0.254", "198.51.100.7", "0.0.0.0"};
inline constexpr Names kNames6{net::Family::kV6, "fd00:1::1",  "fd00:2::1",        "fd00:1::64",
                               "2001:db8::9",    "fd00:2::a",  "fd00:1::2",        "fd00:2::2",
                               "fd00:2::3",      "fd00:1::fe", "2001:db8:ffff::7", "::"};

// A frame that left by a port.
struct Sent {
  uint8_t port;
  Bytes frame;

  friend bool operator==(const Sent&, const Sent&) = default;
  friend void PrintTo(const Sent& sent, std::ostream* out) {
    *out << "port " << int{sent.port} << ": " << support::describe(sent.frame);
  }
};
inline Sent by(uint8_t port, const Frame& frame) {
  return {port, frame.build()};
}

class Recorder final : public Link {
 public:
  packet::Buffer* allocate() override { return dry ? nullptr : packet::allocate(pool.pool()); }
  void transmit(packet::Buffer* frame) override {
    sent.push_back({packet::meta(frame).port, support::bytes(frame)});
    EXPECT_EQ(support::sums_wrong(sent.back().frame), "");
    packet::release(frame);
  }
  void neighbor(const egress::NeighborUpdate& u) override {
    told.push_back(std::to_string(u.port) + " " + u.address.to_string() + " " +
                   (u.valid ? u.mac.to_string() : "gone"));
  }
  void event(std::string_view name, std::string_view object, std::string_view message) override {
    events.push_back(std::string(name) + " " + std::string(object) + ": " + std::string(message));
  }
  void heartbeat(const net::Address& from, std::span<const uint8_t> datagram) override {
    heartbeats.emplace_back(from.to_string(), std::string(datagram.begin(), datagram.end()));
  }
  void drop(DropReason reason) override { ++drops[static_cast<std::size_t>(reason)]; }

  support::HeapPool pool{4096};
  bool dry = false;  // allocate() finds none
  std::vector<Sent> sent;
  std::vector<std::string> told;
  std::vector<std::string> events;
  std::vector<std::pair<std::string, std::string>> heartbeats;
  std::array<uint32_t, packet::kDropReasons> drops{};
};

class Lab {
 public:
  explicit Lab(const Names& names) : n(names) {}
  ~Lab() {
    slow.reset();
    EXPECT_EQ(link.pool.in_use(), 0u) << "buffers leaked";
  }

  // Starts it with the two ports; the start's announcements are over and forgotten.
  void start(std::vector<StaticNeighbor> statics = {}) {
    start_with(ports(), std::move(statics));
    pass(seconds(3));
    clear();
  }
  void start_with(std::vector<snapshot::Port> with, std::vector<StaticNeighbor> statics = {}) {
    in.clear();
    for (const snapshot::Port& p : with)
      in.push_back({.port = p.index, .vlan = p.vlan, .mac = p.mac});
    slow->configure(std::move(with), statics, now);
  }

  static std::vector<snapshot::Port> ports() {
    snapshot::Port front, back;
    front.name = "front";
    front.index = kFront;
    front.mac = mac(kFrontMac);
    front.addresses = {*net::Prefix::parse("10.1.0.1/24"), *net::Prefix::parse("fd00:1::1/64")};
    back.name = "back";
    back.index = kBack;
    back.mac = mac(kBackMac);
    back.addresses = {*net::Prefix::parse("10.2.0.1/24"), *net::Prefix::parse("fd00:2::1/64")};
    return {front, back};
  }

  // What a document would lead to.
  struct World {
    std::vector<std::string_view> vips{};
    std::vector<std::string_view> snat{};
    std::vector<std::string_view> servers{};   // behind the back port
    std::vector<std::string_view> gateways{};  // of routes, behind the front port
  };
  void serve(const World& world) {
    using Own = snapshot::Snapshot::OwnAddress;
    auto s = std::make_shared<snapshot::Snapshot>();
    for (auto vip : world.vips) s->own_addresses.push_back({address(vip), Own::Kind::kVip});
    for (auto snat : world.snat) s->own_addresses.push_back({address(snat), Own::Kind::kSnat});
    std::ranges::sort(s->own_addresses);
    s->pools.resize(1);
    for (auto text : world.servers) {
      snapshot::Server server;
      server.address = address(text);
      server.hop = {kBack, server.address};
      s->pools[0].servers.push_back(server);
    }
    for (auto text : world.gateways)
      s->routes.push_back({.prefix = {}, .port = kFront, .next_hop = address(text)});
    slow->update(s, now);
  }
  // The same, after everything it causes at once was done and forgotten.
  void serve_quietly(const World& world) {
    serve(world);
    pass(milliseconds(2500));
    clear();
  }

  // A frame arrives.
  void hear(const Frame& frame, uint8_t port = kFront) {
    packet::Buffer* buffer = support::make_buffer(link.pool.pool(), frame.build());
    ASSERT_NE(buffer, nullptr);
    if (const auto why = packet::parse(buffer, {.first = &in[port], .count = 1})) {
      packet::release(buffer);
      FAIL() << "the parser says " << packet::name(*why);
    }
    slow->receive(buffer, now);
  }
  // A worker hands over a packet to `next_hop` that lacks its MAC.
  void need(std::string_view next_hop, uint8_t port = kBack, std::string_view payload = "data") {
    packet::Buffer* buffer = support::make_buffer(link.pool.pool(), data(payload).build());
    ASSERT_NE(buffer, nullptr);
    ASSERT_FALSE(packet::parse(buffer, {.first = &in[kFront], .count = 1}));
    packet::meta(buffer).port = port;
    packet::meta(buffer).next_hop = address(next_hop);
    slow->receive(buffer, now);
  }
  // The packet of need(), as it arrived and as it has to leave.
  Frame data(std::string_view payload = "data") const {
    return support::udp({n.client, 40000, n.server, 80}, payload).with(&Frame::to, mac(kFrontMac));
  }
  Sent data_to(std::string_view to_mac, uint8_t port = kBack,
               std::string_view payload = "data") const {
    return by(port, data(payload)
                        .with(&Frame::to, mac(to_mac))
                        .with(&Frame::from, mac(port == kFront ? kFrontMac : kBackMac)));
  }

  // Time goes on; tick() is called whenever it asks for it.
  void pass(Duration duration) {
    const Instant end = now + duration;
    for (Instant next = slow->next_deadline(); next <= end; next = slow->next_deadline()) {
      now = std::max(now, next);
      slow->tick(now);
    }
    now = end;
  }
  void clear() {
    link.sent.clear();
    link.told.clear();
    link.events.clear();
    link.drops = {};
  }
  uint32_t drops(DropReason reason) const { return link.drops[static_cast<std::size_t>(reason)]; }

  // Frames of either family.
  bool v4() const { return n.family == net::Family::kV4; }
  // "Who has `target`?", to everybody.
  Frame question(std::string_view sender, std::string_view sender_mac,
                 std::string_view target) const {
    return v4() ? support::arp_request(sender, target, sender_mac)
                : support::neighbor_solicitation(sender, target, sender_mac);
  }
  // The same, to one neighbour whose MAC is known.
  Frame question_to(std::string_view to_mac, std::string_view sender, std::string_view sender_mac,
                    std::string_view target) const {
    Frame f = question(sender, sender_mac, target).with(&Frame::to, mac(to_mac));
    if (!v4()) f.destination = address(target);
    return f;
  }
  // "`owner` is at `owner_mac`", to who asked. `router`: the owner is one of our ports.
  Frame answer(std::string_view owner, std::string_view owner_mac, std::string_view to,
               std::string_view to_mac, bool router = false) const {
    if (v4()) return support::arp_reply(owner, owner_mac, to, to_mac);
    return support::neighbor_advertisement(owner, to, owner, owner_mac, router ? 0xe0 : 0x60)
        .with(&Frame::to, mac(to_mac));
  }
  // The same, to everybody, unasked.
  Frame announcement(std::string_view owner, std::string_view owner_mac,
                     bool router = false) const {
    if (v4()) return support::arp_request(owner, owner, owner_mac);
    return support::neighbor_advertisement(owner, "ff02::1", owner, owner_mac,
                                           router ? 0xa0 : 0x20);
  }

  // The neighbour's state and MAC, as listed; empty when it is not known.
  std::string state(std::string_view neighbor, uint8_t port = kBack) const {
    for (const NeighborView& v : slow->neighbors()) {
      if (v.port != port || v.address != address(neighbor)) continue;
      return std::string(to_string(v.state)) + (v.mac.is_zero() ? "" : " " + v.mac.to_string());
    }
    return "";
  }

  const Names& n;
  Instant now{seconds(1000).count()};
  Recorder link;
  std::unique_ptr<SlowPath> slow = std::make_unique<SlowPath>(link, base::Random(1));
  std::vector<packet::Ingress> in;
};

using Log = std::vector<std::string>;
using Frames = std::vector<Sent>;

// A Lab in both families, running.
class SlowPathTest : public testing::TestWithParam<Names> {
 protected:
  SlowPathTest() { lab.start(); }

  const Names& n = GetParam();
  Lab lab{n};
};

inline std::string family_name(const testing::TestParamInfo<Names>& info) {
  return info.param.family == net::Family::kV4 ? "v4" : "v6";
}

}  // namespace limpet::slowpath

#define SLOWPATH_BOTH_FAMILIES(suite) \
  INSTANTIATE_TEST_SUITE_P(Both, suite, testing::Values(kNames4, kNames6), family_name)
