// CoreLab: one engine's cores in one thread, without devices, rings or an EAL: real Cores, a manual
// clock, buffers that know when one leaks. Frames go in by a port, what comes out is returned.
//
// The world: port 0 "front" 10.1.0.1/24 fd00:1::1/64, port 1 "back" 10.2.0.1/24 fd00:2::1/64;
// servers 10.2.0.2.. and fd00:2::2.. (their neighbours resolved), VIPs 10.1.0.100 and fd00:1::100.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/timing/manual_clock.h"
#include "dataplane/snapshot/snapshot.h"
#include "dataplane/worker/core.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::support {

inline constexpr std::string_view kFrontMac = kEngineMac;
inline constexpr std::string_view kBackMac = "02:00:00:00:00:02";
inline constexpr std::string_view kVip4 = "10.1.0.100";
inline constexpr std::string_view kVip6 = "fd00:1::100";

// A snapshot with `servers` servers of each family, one virtual service (TCP and UDP) on each VIP's
// port 80 and client-IP persistence of 300 s; tests change what they are about.
struct World {
  std::shared_ptr<snapshot::Snapshot> snapshot;

  explicit World(uint32_t servers = 3);

  snapshot::Pool& pool(net::Family f) { return snapshot->pools[f == net::Family::kV4 ? 0 : 1]; }
  snapshot::Server& server(net::Family f, uint32_t i) { return pool(f).servers[i]; }
  snapshot::Scope& scope(net::Family f) { return snapshot->scopes[f == net::Family::kV4 ? 0 : 1]; }
  snapshot::VirtualService& vs(net::Family f) {
    return snapshot->virtual_services[f == net::Family::kV4 ? 0 : 1];
  }
  // Persistence off for both families.
  void without_persistence();
  void preserve_client();
  void remove_server(net::Family f, uint32_t i);
  // Makes look-up structures agree with what was changed; call before publishing.
  void index();
};

struct Sent {
  uint8_t port = 0;
  Bytes bytes;
};

class CoreLab {
 public:
  struct Options {
    uint32_t cores = 1;
    uint32_t flows = 1024;
    uint32_t entries = 1024;
    uint32_t buffers = 512;
    uint32_t servers = 3;
    bool reassemble = false;  // cores put fragments together
    replication::Rings::Capacity rings{};
    bool push = false;  // replication::Replica::Options
    bool peers = false;
    bool heartbeats = false;
    uint32_t parked = affinity::Pen::kPackets;  // worker::Core::Options
  };

  CoreLab() : CoreLab(Options{}) {}
  explicit CoreLab(const Options& options);
  ~CoreLab();

  World world;
  timing::ManualClock clock{timing::Instant{1'000'000'000}};

  // Makes a copy of `world` the running snapshot and lets the cores sweep; returns what they sent.
  std::vector<Sent> publish();
  // Lets `frame` arrive by `port` and runs turns until nothing moves; returns what was sent.
  std::vector<Sent> send(const Frame& frame, uint8_t port = 0);
  std::vector<Sent> send(const std::vector<Bytes>& frames, uint8_t port);
  // Runs one turn on each core, or on one: who is left out is stalled.
  std::vector<Sent> turn();
  std::vector<Sent> turn(uint32_t core);
  // Lets `frame` arrive by `port` at a core's device queue; no turn yet.
  void arrive(uint32_t core, const Frame& frame, uint8_t port = 0);
  // Moves the clock in steps, with a turn after each; returns what was sent.
  std::vector<Sent> advance(timing::Duration by, timing::Duration step = timing::milliseconds(100));

  worker::Core& core(uint32_t i = 0) { return *cores_[i]; }
  uint32_t cores() const { return static_cast<uint32_t>(cores_.size()); }
  worker::Shared& shared() { return *shared_; }
  HeapPool& buffers() { return pool_; }
  std::vector<Bytes>& punted() { return punted_; }
  // The wall clock at Instant zero: 2020-09-13.
  static constexpr timing::WallTime kWallOrigin{1'600'000'000'000'000'000};
  // What homes have told the mirror.
  std::vector<binding::Change>& news() { return news_; }
  const snapshot::Snapshot& running() const { return *running_; }
  uint64_t drops(packet::DropReason reason) const;
  // Source ports taken on all cores.
  uint32_t ports_in_use() const;
  void run_job(uint32_t core, worker::Job* job);
  // Forgets or learns the MAC of a server.
  void neighbor(uint8_t port, const net::Address& address, bool valid);

  // A client's side of one connection.
  struct Client {
    std::string_view address;
    uint16_t port;
  };
  // Sends the client's SYN; the address of the server that it was forwarded to, empty when refused.
  std::string syn(Client client, uint16_t vip_port = 80);
  // The initial sequence numbers of a connection's sides: the client's is a Frame's default.
  static constexpr uint32_t kClientSequence = 0x01020304;
  static constexpr uint32_t kServerSequence = 0x0a0b0c0d;

  // SYN, SYN-ACK, ACK; returns the server as "address:port>source:port" for finish() and data.
  struct Connection {
    std::string client;
    uint16_t client_port = 0;
    std::string vip;
    std::string server;
    uint16_t server_port = 0;
    std::string source;
    uint16_t source_port = 0;

    bool ok() const { return !server.empty(); }
    Flow up() const { return {client, client_port, vip, 80}; }
    Flow down() const { return {server, server_port, source, source_port}; }
    Frame syn_ack() const;
    // The next segment of a side after the handshake; whatever has been sent since.
    Frame from_client(uint8_t flags, std::string_view data = "") const;
    Frame from_server(uint8_t flags, std::string_view data = "") const;
  };
  Connection connect(Client client);
  void finish(const Connection& c);    // FIN both ways
  void reset(const Connection& c);     // the client's RST
  Connection datagram(Client client);  // UDP, and the server's answer

 private:
  std::vector<Sent> flush(worker::Core& core);
  Connection opened(const Client& client, const std::vector<Sent>& out) const;

  Options options_;
  HeapPool pool_;
  base::Random random_{1};
  std::unique_ptr<worker::Shared> shared_;
  std::vector<std::unique_ptr<worker::Core>> cores_;
  std::vector<std::vector<std::unique_ptr<egress::SourcePorts>>> nats_;
  std::vector<packet::Ingress> ingress_;
  std::shared_ptr<snapshot::Snapshot> running_;
  std::vector<std::shared_ptr<snapshot::Snapshot>> old_;
  std::vector<Bytes> punted_;
  std::vector<binding::Change> news_;
  std::set<binding::ServerId> servers_seen_;
};

// Parts of a frame that was sent, for assertions.
struct Parts {
  std::string source, destination;
  uint16_t source_port = 0, destination_port = 0;
  uint8_t protocol = 0, tcp_flags = 0, ttl = 0;
  std::string to_mac, from_mac;
};
Parts parts(const Bytes& frame);

}  // namespace limpet::support
