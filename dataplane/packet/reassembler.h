// Reassembler: puts the pieces of IPv4 and IPv6 datagrams together before a flow is looked up.
//
// Owner: one core. Invariants
//  1. The pieces of a datagram are kept in the order of their offsets and do not overlap, so they
//     are all there when their bytes add up to its length.
//  2. Datagrams are listed in the order in which they began, which is that of their end.
//  3. No more than `pieces_max` buffers are held, whatever arrives; nothing is allocated after
//     construction.
// A piece that overlaps another, contradicts the datagram's length or is one too many ends the
// datagram: its pieces are released, and so is what comes of it until it would have timed out
// (RFC 8200 4.5, RFC 5722). A piece that comes twice is taken once.
//
// Cost: a look-up by a keyed hash, so that nobody makes chains long on purpose; in order a piece is
// appended, else its place is searched among at most kPiecesMax.
//
// Why not rte_ip_frag: it takes eight pieces a datagram at most, in DPDK as it is packaged, which
// is 11 KB; it leaves IPv6 headers before the fragment header where they are, lets IPv4 pieces of
// two protocols mix, and does not say why it gave a piece up.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/keyed_hash.h"
#include "common/timing/time.h"
#include "dataplane/packet/buffer.h"

namespace limpet::packet {

class Reassembler {
 public:
  // 65,535 bytes in pieces of IPv6's smallest MTU are 54.
  static constexpr uint32_t kPiecesMax = 64;

  struct Options {
    uint32_t datagrams_max = 0;  // in the making
    uint32_t pieces_max = 0;     // held, over all of them
    timing::Duration timeout{};  // from a datagram's first piece
  };

  Reassembler(const Options& options, const base::KeyedHash& hash);
  ~Reassembler();
  Reassembler(const Reassembler&) = delete;
  Reassembler& operator=(const Reassembler&) = delete;

  // Takes a kFragment. Returns the whole datagram (a chain; parse_datagram() must follow;
  // `reassembled` is set), or null when more pieces are missing. Pieces given up are released and
  // counted below.
  Buffer* add(Buffer* fragment, timing::Instant now);

  // Releases the pieces of datagrams that timed out: at most `count`, but always of one datagram;
  // called every turn. Costs one comparison when nothing is held.
  void release_expired(timing::Instant now, uint32_t count);

  uint64_t invalid() const { return invalid_; }        // pieces of datagrams that failed
  uint64_t table_full() const { return table_full_; }  // pieces that found no place
  uint32_t pending() const { return held_; }           // buffers held

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Datagram {
    net::Address source;
    net::Address destination;
    uint32_t id = 0;
    uint8_t protocol = 0;  // of IPv4: part of the name
    bool given_up = false;
    uint32_t pieces = 0;
    uint32_t bytes = 0;       // of its pieces, without headers
    uint32_t length = 0;      // of the whole; 0: not known yet
    Buffer* first = nullptr;  // the pieces, by Buffer::next
    Buffer* last = nullptr;
    timing::Instant began;
    uint32_t bucket = kNone;
    uint32_t next = kNone;  // of its bucket, or of the free ones
    uint32_t older = kNone;
    uint32_t newer = kNone;
  };
  enum class Place : uint8_t { kTaken, kTwice, kWrong };

  uint32_t find(const Meta& m, uint32_t bucket) const;
  uint32_t begin(const Meta& m, uint32_t bucket, timing::Instant now);
  Place insert(Datagram& d, Buffer* piece);
  // Takes the pieces out of the datagram and makes them one; null when they make none.
  Buffer* join(Datagram& d);
  void give_up(Datagram& d);
  void remove(uint32_t index);
  bool has_expired(const Datagram& d, timing::Instant now) const {
    return now - d.began > timeout_;
  }

  const timing::Duration timeout_;
  const uint32_t pieces_max_;
  const base::KeyedHash& hash_;
  std::vector<Datagram> datagrams_;
  std::vector<uint32_t> buckets_;  // first of each; a power of two
  uint32_t free_ = kNone;
  uint32_t oldest_ = kNone;
  uint32_t newest_ = kNone;
  uint32_t held_ = 0;
  uint64_t invalid_ = 0;
  uint64_t table_full_ = 0;
};

}  // namespace limpet::packet
