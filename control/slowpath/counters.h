// What the slow path did, since start. Written and read by the control thread only.
#pragma once

#include <cstdint>

namespace limpet::slowpath {

struct Counters {
  uint64_t answers = 0;        // ARP replies and neighbour advertisements sent to who asked
  uint64_t announcements = 0;  // gratuitous ARP and unsolicited advertisements, defences included
  uint64_t echo_replies = 0;
  uint64_t heartbeats_sent = 0;
  uint64_t heartbeats_received = 0;  // whoever they are from
  uint64_t questions = 0;            // ARP requests and neighbour solicitations sent
  uint64_t resolved = 0;             // neighbours that became reachable
  uint64_t failed = 0;               // neighbours that did not answer three times
  uint64_t evicted = 0;              // neighbours that had to go because the table was full
  uint64_t refused = 0;              // neighbours that found no place in the table

  // Heard and not acted on.
  uint64_t not_ours = 0;       // asked for somebody else
  uint64_t unsolicited = 0;    // said by a neighbour nobody wants to reach
  uint64_t ignored = 0;        // what routers say and ask
  uint64_t own_heard = 0;      // sent with a MAC of ours: a loop, or a second port on the same wire
  uint64_t conflicts = 0;      // another MAC says it has one of our addresses
  uint64_t static_spoofs = 0;  // another MAC says it has a static neighbour's address
};

}  // namespace limpet::slowpath
