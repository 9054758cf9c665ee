// Link: the network between two engines of a cluster, and what control/mirroring/transport.cc does
// at its ends, without sockets: who connects, when again, what is read and written when. Bytes
// arrive late and in pieces; a direction stalls; a cut is seen by the two ends at different times,
// or by nobody but by missing heartbeats.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/random.h"
#include "control/mirroring/session.h"

namespace limpet::sim {

// What a running engine has at all its links.
struct Host {
  mirroring::Engine engine;
  const timing::Clock* clock = nullptr;

  timing::Instant now() const { return clock->now(); }
};

class Link {
 public:
  // `time`: of the world; hosts have clocks of their own.
  Link(const timing::Clock& time, base::Random& random);

  // An engine has started: side 0 connects. `seed` scatters its tries.
  void attach(uint32_t side, Host* host);
  // It has crashed. `noticed`: its kernel told the other side.
  void detach(uint32_t side, bool noticed);

  // What its control thread does: time has passed; its update list has changed.
  void tick(uint32_t side);
  void changed(uint32_t side);
  // It wants to be told everything again.
  void resync(uint32_t side);
  // What has arrived is read, what was written leaves.
  void move();

  void cut();
  void heal();
  void stall(uint32_t towards, timing::Duration how_long);
  void set_latency(timing::Duration most) { latency_max_ = most; }

  bool is_up() const { return up_; }
  bool is_stalled() const;
  // Both sides are synced with each other and neither owes the other anything.
  bool is_quiet() const;
  // The other side's session, as this side has it; null: none.
  const mirroring::Session* session(uint32_t side) const;
  uint64_t connections() const { return made_; }

 private:
  struct Piece {
    timing::Instant at;
    std::vector<uint8_t> bytes;
  };
  struct End {
    std::unique_ptr<mirroring::Session> session;
    std::deque<Piece> inbound;
    std::size_t inbound_bytes = 0;
    std::optional<timing::Instant> end_at;     // when it sees that the connection has ended
    std::optional<timing::Instant> closed_at;  // the session; its last words may be written yet
    bool writing = false;
    bool over = false;
  };
  struct Connection {
    std::array<End, 2> ends;
    timing::Instant since;
    bool lost = false;  // nothing passes any more
  };

  void dial();
  void connect();
  void move(Connection& c, uint32_t side);
  bool write(Connection& c, uint32_t side);
  bool read(Connection& c, uint32_t side);
  void send(Connection& c, uint32_t from, std::vector<uint8_t> bytes);
  void close(Connection& c, uint32_t side);
  timing::Duration latency();

  const timing::Clock& time_;
  base::Random& random_;
  std::array<Host*, 2> hosts_{};
  std::list<Connection> connections_;
  Connection* dialled_ = nullptr;
  timing::Duration wait_;
  timing::Instant next_try_;
  bool up_ = true;
  timing::Duration latency_max_ = timing::milliseconds(2);
  std::array<timing::Instant, 2> stalled_until_{};  // by the side that gets nothing
  uint64_t made_ = 0;
};

}  // namespace limpet::sim
