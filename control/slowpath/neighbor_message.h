// ARP packets (RFC 826, 5227) and neighbour solicitations and advertisements (RFC 4861) as what
// they say. This is the only place of the slow path where the two families differ.
//
//   a question   ARP request; neighbour solicitation
//   a statement  ARP reply, ARP request of a sender for itself; neighbour advertisement
#pragma once

#include <cstdint>

#include "common/net/address.h"
#include "dataplane/packet/buffer.h"
#include "dataplane/packet/rewrite.h"

namespace limpet::slowpath {

struct NeighborMessage {
  bool is_question = false;
  bool is_solicited = false;  // statements: it answers a question of ours
  bool overrides = false;     // statements: a MAC known before is to be replaced
  net::Address sender{};      // who has `sender_mac`; unspecified: it does not have an address yet
  net::Mac sender_mac{};      // zero: not said (neighbour discovery without the option)
  net::Address target{};      // questions: whose MAC is wanted
};

enum class Reading : uint8_t { kMessage, kIgnored, kMalformed };

// Reads a frame of kind kNeighbor that came in by a port with this MAC; the parser has validated it
// (RFC 826, RFC 4861 7.1). Fills `message` when it says kMessage. kIgnored: what routers say and
// ask. kMalformed: a MAC that is a group's.
Reading read_neighbor(packet::Buffer* frame, const net::Mac& port_mac, NeighborMessage* message);

struct Question {
  net::Address source;  // 0.0.0.0 is allowed, :: is not
  net::Address target;  // of the same family
  net::Mac mac{};       // asks the neighbour alone; zero: asks everybody
};

// Writes a question as a whole frame into an empty buffer.
void write_question(packet::Buffer* empty, const packet::Egress& out, const Question& question);

struct Statement {
  net::Address address;  // ours, at the MAC of the port the frame leaves by
  bool is_router = false;
  // Whom it answers; zero MAC: nobody, it is an announcement to everybody. An unspecified address
  // (a probe) is answered so that everybody hears it where the protocol asks for that (RFC 4861
  // 7.2.4).
  net::Address to{};
  net::Mac to_mac{};
};

// Writes a statement as a whole frame into an empty buffer. An announcement is an ARP request for
// the address itself (RFC 5227 3) or an unsolicited advertisement to all nodes (RFC 4861 7.2.6).
void write_statement(packet::Buffer* empty, const packet::Egress& out, const Statement& statement);

}  // namespace limpet::slowpath
