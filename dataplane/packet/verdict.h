// What becomes of a packet. Each reason to drop one is a counter with this name, in /metrics, the
// status and DPDK telemetry.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace limpet::packet {

enum class DropReason : uint8_t {
  kTruncated,         // shorter than a header or its IP length says
  kMalformed,         // header fields that contradict each other
  kBadChecksum,       // of IPv4 or ICMP; of TCP or UDP where the content is acted on
  kUnknownEthertype,  // neither IPv4, IPv6 nor ARP
  kUnknownVlan,       // a tag no port of this device has
  kNotForUs,          // destination MAC or address is nobody's here
  kMartianSource,     // multicast, broadcast, loopback, unspecified, or our own address as source
  kUnsupportedProtocol,
  kNoService,      // address is ours, no virtual service on that port
  kNoFlow,         // TCP that is no SYN and belongs to no flow
  kNoServer,       // no usable server
  kServerDown,     // policy ABORT for a server that is down or draining
  kServerAtLimit,  // policy ABORT at the connection limit, or every server at its limit
  kTableFull,      // persist table full and nothing to evict, or NO_PURGE
  kPenFull,        // too many wait for the home of their client's binding
  kClaimLate,      // ... which did not answer in time
  kFlowTableFull,
  kSnatExhausted,  // no source port left towards that server
  kTupleInUse,     // the client's address and port, kept, are another connection's with that server
  kTtlExceeded,
  kTooBig,  // larger than the egress MTU and must not be fragmented
  kFragmentTableFull,
  kFragmentInvalid,  // overlapping, inconsistent, too many or too late
  kNoRoute,
  kNoNeighbor,  // the next hop's MAC could not be resolved
  kNeighborQueueFull,
  kPuntRingFull,
  kSteerRingFull,
  kDeviceMissed,  // no room in the device's receive queue: the workers are too slow
  kDeviceError,   // the device found a frame broken
  kTransmitFull,  // the device took no more, or could not send what it took
  kNoBuffers,     // for what would have been sent, or received
  kRateLimited,   // a reply (RST, ICMP error) we owed but did not send; a heartbeat too many
  kUnhandled,     // understood, but nothing here wants it
  kCount,
};

inline constexpr std::size_t kDropReasons = static_cast<std::size_t>(DropReason::kCount);

inline constexpr std::array<std::string_view, kDropReasons> kDropReasonNames = {
    "truncated",        "malformed",
    "bad_checksum",     "unknown_ethertype",
    "unknown_vlan",     "not_for_us",
    "martian_source",   "unsupported_protocol",
    "no_service",       "no_flow",
    "no_server",        "server_down",
    "server_at_limit",  "table_full",
    "pen_full",         "claim_late",
    "flow_table_full",  "snat_exhausted",
    "tuple_in_use",     "ttl_exceeded",
    "too_big",          "fragment_table_full",
    "fragment_invalid", "no_route",
    "no_neighbor",      "neighbor_queue_full",
    "punt_ring_full",   "steer_ring_full",
    "device_missed",    "device_error",
    "transmit_full",    "no_buffer",
    "rate_limited",     "unhandled"};

static_assert(!kDropReasonNames.back().empty(), "each has a name");

using DropCounts = std::array<uint64_t, kDropReasons>;

constexpr std::string_view name(DropReason reason) {
  return kDropReasonNames[static_cast<std::size_t>(reason)];
}

}  // namespace limpet::packet
