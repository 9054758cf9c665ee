// Fragments: reassembly before a flow is looked up, fragmentation towards a smaller MTU. Over
// rte_ip_frag; one Reassembler per core, bounded, needs an initialised EAL. A datagram of more than
// eight pieces, or with a piece that overlaps another or comes twice, is given up.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "common/timing/time.h"
#include "dataplane/packet/buffer.h"
#include "dataplane/packet/verdict.h"

struct rte_ip_frag_tbl;
struct rte_mempool;

namespace limpet::packet {

class Reassembler {
 public:
  // At most `datagrams_max` datagrams in the making, each given up after `timeout`.
  Reassembler(uint32_t datagrams_max, timing::Duration timeout, int numa_socket);
  ~Reassembler();
  Reassembler(const Reassembler&) = delete;
  Reassembler& operator=(const Reassembler&) = delete;

  // Takes a kFragment. Returns the whole datagram (a chain; parse_datagram() must follow;
  // `reassembled` is set), or null when more pieces are missing. Pieces given up are released and
  // counted below.
  Buffer* add(Buffer* fragment, timing::Instant now);

  // Releases the pieces of datagrams that timed out, at most `count` buffers (but room for the
  // eight of one datagram); called every turn. Costs one comparison when nothing is held.
  void release_expired(timing::Instant now, uint32_t count);

  uint64_t invalid() const { return invalid_; }        // pieces of datagrams that failed
  uint64_t table_full() const { return table_full_; }  // pieces that found no place
  uint32_t pending() const;                            // buffers held

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  uint64_t invalid_ = 0;
  uint64_t table_full_ = 0;
};

// Cuts the IP packet in `buffer` into pieces of at most `mtu` bytes (of IP; at least 68, for IPv6
// 1280), each one segment from `pool` that starts at its IP header (l3_offset 0) with headroom for
// write_ethernet(), and meta describing it; releases `buffer`. IPv4 must not have DF set. `id` is
// the identification to use for every piece: IPv4 low 16 bits, IPv6 all 32. Returns the number of
// pieces (0: out of buffers or more than `pieces_max`; the original is released all the same).
uint32_t fragment(Buffer* buffer, uint16_t mtu, uint32_t id, rte_mempool* pool, Buffer** pieces,
                  uint32_t pieces_max);

}  // namespace limpet::packet
