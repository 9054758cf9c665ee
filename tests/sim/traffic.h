// Traffic: clients that open and close connections, and servers that answer, refuse or are silent.
// A connection is known by its client's port, which no other ever has, and by its client's initial
// sequence number; a frame that opens one by its tag (a TCP option, or the first bytes of a
// datagram), which the engine passes on unchanged.
//
// Both sides of a TCP connection use the numbers that they would; nothing is sent again but SYNs
// and FINs, so a side acknowledges the latest that it has got.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tests/sim/engine.h"
#include "tests/sim/world.h"

namespace limpet::sim {

// What a frame says.
struct Wire {
  net::Address source;
  net::Address destination;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint8_t protocol = 0;
  uint8_t flags = 0;
  uint32_t tag = 0;  // of a SYN or datagram of a client
  uint32_t sequence = 0;
  uint32_t acknowledgment = 0;

  static Wire read(std::span<const uint8_t> frame);
  bool opens() const;  // a SYN without ACK, or a datagram
};

class Traffic {
 public:
  Traffic(const World& world, Engine& engine, base::Random& random);

  // A client does something.
  void act();
  // This client opens a connection.
  void open(uint32_t service, const net::Address& client);
  // A frame has left the engine: whoever gets it reacts.
  void left(const Leaving& frame);
  // Clients end what they have open; nothing new.
  void finish();

 private:
  enum class State : uint8_t { kSyn, kOpen, kClosing, kOver };
  struct Connection {
    uint32_t service = 0;
    net::Address client;
    bool tcp = true;
    State state = State::kSyn;
    bool fin_sent = false;
    Wire to_server;  // as its server saw it; the protocol is 0 until then
    struct Side {
      uint32_t next = 0;   // to send
      uint32_t acked = 0;  // to receive
      bool fin_sent = false;
    };
    Side at_client, at_server;
  };
  static constexpr uint16_t kFirstPort = 1024;
  static constexpr uint32_t kNumbersBits = 12;  // of a connection
  // The initial sequence number of a client; a second connection from its port begins later.
  static uint32_t first_number(uint32_t connection) { return (connection + 1) << kNumbersBits; }

  void open();
  void go_on(uint32_t connection);
  support::Frame of_client(uint32_t connection, uint8_t flags);
  void from_client(uint32_t connection, uint8_t flags);
  void forge(uint32_t connection, uint8_t flags);
  void from_server(Connection& c, uint8_t flags);
  void number(Connection::Side& side, support::Frame* f);
  Connection* connection_of(const Wire& wire);
  void at_server(const Wire& wire);
  void at_client(const Wire& wire);
  void deliver(uint8_t port, support::Bytes bytes, uint32_t connection);
  uint16_t port_of(uint32_t connection) const {
    return static_cast<uint16_t>(kFirstPort + connection);
  }

  const World& world_;
  Engine& engine_;
  base::Random& random_;
  std::vector<Connection> connections_;
  std::vector<uint32_t> active_;
  uint32_t active_max_;
  uint32_t answers_percent_;    // how often a server or client does what is expected of it
  std::vector<uint32_t> tags_;  // by tag - 1: whose it is
};

}  // namespace limpet::sim
