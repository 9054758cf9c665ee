// Every fixed limit of the engine. What the operator may size is in the bootstrap's `limits`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace limpet::base {

inline constexpr std::size_t kWorkersMax = 64;
inline constexpr std::size_t kPortsMax = 32;
inline constexpr std::size_t kBurstPacketsMax = 32;  // per receive call and per ring visit

inline constexpr std::size_t kVirtualServicesMax = 16384;
inline constexpr std::size_t kGroupsMax = 48;      // with `engines`
inline constexpr std::size_t kServersMax = 65536;  // over all pools
inline constexpr std::size_t kScopesMax = 65536;
inline constexpr std::size_t kRoutesMax = 4096;
inline constexpr std::size_t kNeighborsMax = 8192;
inline constexpr std::size_t kSnatAddressesMax = 256;
// Source NAT: one for each address, protocol and server ip:port. Each costs a worker a pointer, and
// 2 bytes for each port of its slice.
inline constexpr std::size_t kNatIdsMax = 262144;

inline constexpr std::size_t kPeersMax = 16;  // other engines that mirror this one

// UDP, both ends, of heartbeats between engines on the data network.
inline constexpr uint16_t kHeartbeatPort = 9091;

inline constexpr std::size_t kEventsKept = 10'000;
inline constexpr std::size_t kRequestBodyBytesMax = 64u << 20;

}  // namespace limpet::base
