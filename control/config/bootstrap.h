// Bootstrap: what the engine's own configuration file says (control/config/README.md), with
// defaults filled in and every relative path made absolute. parse_bootstrap (bootstrap_codec.h)
// makes it; the composition root reads it once at start.
//
// Plain values. Unlike a document this file is strict: an unknown field is an error.
//
// Invariants of a Bootstrap that parse_bootstrap returned
//  1. `ports` and `worker_cores` are not empty; names of ports and peers, (device, vlan) and the
//     worker cores are unique; every port index is within `ports`.
//  2. No two ports' subnets overlap within a family, and every route and neighbour with a port lies
//     behind that port.
//  3. `snat` is sorted, without doubles, at most base::kSnatAddressesMax long, and holds no port's
//     address.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/net/address.h"

namespace limpet::config {

struct MemoryOptions {
  bool hugepages = true;
  uint32_t size_mb = 1024;  // all memory of the data plane
};

struct PortOptions {
  std::string name;
  std::string device;                  // PCI address or vdev arguments, paths inside made absolute
  std::vector<net::Prefix> addresses;  // with host bits
  uint16_t mtu = 1500;
  std::optional<net::Mac> mac;   // absent: the device's own
  std::optional<uint16_t> vlan;  // 1..4094; absent: untagged
};

struct RouteOptions {
  net::Prefix prefix;  // no host bits
  net::Address next_hop;
  uint32_t port = 0;  // index into Bootstrap::ports: the one named, else whose subnet has next_hop
};

struct NeighborOptions {
  net::Address address;
  net::Mac mac;
  uint32_t port = 0;  // as in RouteOptions
};

// Absent: follows from memory.size_mb.
struct LimitOptions {
  std::optional<uint32_t> persistence_entries;
  std::optional<uint32_t> flows_per_worker;
  std::optional<uint32_t> packet_buffers;
};

struct UnixSocketPath {
  std::filesystem::path path;
};

struct TlsFiles {
  std::filesystem::path certificate;
  std::filesystem::path key;
  std::filesystem::path client_ca;
};

struct ApiOptions {
  std::variant<net::Endpoint, UnixSocketPath> listen;
  std::optional<TlsFiles> tls;
};

struct PeerOptions {
  std::string name;
  net::Endpoint address;
};

struct MirroringOptions {
  net::Endpoint listen;
  std::optional<std::filesystem::path> secret_file;  // absent only when `listen` is loopback
  std::vector<PeerOptions> peers;
  std::chrono::milliseconds heartbeat{100};
  uint32_t heartbeat_misses = 5;
};

struct Bootstrap {
  std::string name;
  uint32_t control_core = 0;
  std::vector<uint32_t> worker_cores;
  std::chrono::microseconds idle_sleep{0};  // 0: poll always
  MemoryOptions memory;
  std::vector<PortOptions> ports;
  std::vector<RouteOptions> routes;
  std::vector<NeighborOptions> neighbors;
  std::vector<net::Address> snat;
  LimitOptions limits;
  ApiOptions api;
  std::optional<MirroringOptions> mirroring;
  std::optional<std::filesystem::path> state_directory;
  std::optional<std::filesystem::path> document;
  std::vector<std::string> eal;
};

}  // namespace limpet::config
