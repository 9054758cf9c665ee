// Theory: rte_ip_frag keeps a table of datagrams in the making, each of at most eight pieces
// (RTE_LIBRTE_IP_FRAG_MAX_FRAG), and gives pieces it will not use to a "death row". After every
// call the row is emptied and from what lay in it follows why: a full table gives back exactly the
// piece it was offered; a datagram that failed or was too late gives back all its pieces.
//
// What it leaves to us, in DPDK 22.11: IPv6 headers in front of the fragment header (it would
// splice the wrong one out) are removed from each piece first: they are options for routers on the
// way, and the datagram has arrived. IPv4 pieces of different protocols share its key, so the
// protocol is compared when the datagram is whole. Lengths beyond 65,535 bytes are refused by the
// parser, the IPv4 header checksum is set here, and identifications of IPv6 pieces are ours.
#include "dataplane/packet/fragment.h"

#include <rte_ip_frag.h>

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "dataplane/packet/family.h"
#include "dataplane/packet/headers.h"
#include "dataplane/packet/segments.h"

namespace limpet::packet {

struct Reassembler::Impl {
  rte_ip_frag_tbl* table = nullptr;
  rte_ip_frag_death_row death_row{};
  uint32_t held = 0;

  // Releases what lies in the death row from `first` on; returns how many buffers.
  uint32_t bury(uint32_t first = 0) {
    const uint32_t end = death_row.cnt;
    for (uint32_t i = first; i < end; ++i) release(death_row.row[i]);
    death_row.cnt = 0;
    return end - first;
  }

  Buffer* offer(Buffer* fragment, timing::Instant now);
};

namespace {

constexpr uint32_t kBucketEntries = 4;

// Removes what stands between the IPv6 header and the fragment header.
void strip_before_fragment_header(Buffer* buffer, Meta& m) {
  const uint32_t fragment_at = m.l4_offset - static_cast<uint32_t>(sizeof(Ipv6FragmentHeader));
  const uint32_t first = m.l3_offset + static_cast<uint32_t>(sizeof(Ipv6Header));
  if (fragment_at == first) return;
  const auto extra = static_cast<uint16_t>(fragment_at - first);
  auto& ip = *at<Ipv6Header>(buffer, m.l3_offset);
  ip.payload_bytes = static_cast<uint16_t>(ip.payload_bytes - extra);
  ip.next_header = kProtocolFragment;
  auto* start = at<uint8_t>(buffer, 0);
  std::memmove(start + extra, start, first);
  rte_pktmbuf_adj(buffer, extra);
  m.l3_bytes -= extra;
  m.l4_offset = static_cast<uint16_t>(m.l4_offset - extra);
}

// Whether all pieces were of one datagram and together make one that can be.
bool is_sound(Buffer* whole) {
  const Meta& m = meta(whole);
  if (whole->pkt_len - m.l3_offset > UINT16_MAX) return false;
  for (Buffer* segment = whole; segment != nullptr; segment = segment->next) {
    // The IPv4 protocol is the datagram's; the next header of later IPv6 pieces means nothing.
    if (m.family == Family::kV4 && meta(segment).protocol != m.protocol) return false;
  }
  return true;
}

void finish(Buffer* whole) {
  Meta& m = meta(whole);
  m.reassembled = true;
  // What the device said of the first piece says nothing of the datagram.
  whole->ol_flags &= ~(RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK);
  if (m.family == Family::kV4) {
    auto& ip = *at<Ipv4Header>(whole, m.l3_offset);
    ip.fragment = uint16_t{0};  // DF too: the sender saw the path cut it already
    ip.checksum = 0;
    ip.checksum = checksum_of(sum_of(&ip, (ip.version_words & 0xfu) * 4));
  }
  // Most datagrams fit one buffer; then nobody behind us meets a chain.
  if (whole->pkt_len - whole->data_len <= rte_pktmbuf_tailroom(whole))
    static_cast<void>(rte_pktmbuf_linearize(whole));
}

}  // namespace

// Hands a piece to the table; returns the datagram it completes.
Buffer* Reassembler::Impl::offer(Buffer* fragment, timing::Instant now) {
  Meta& m = meta(fragment);
  const auto time = static_cast<uint64_t>(now.ns);
  if (m.family == Family::kV6) strip_before_fragment_header(fragment, m);
  fragment->l2_len = m.l3_offset & 0x7f;
  fragment->l3_len = (m.l4_offset - m.l3_offset) & 0x1ff;
  if (m.family == Family::kV4) {
    return rte_ipv4_frag_reassemble_packet(table, &death_row, fragment, time,
                                           at<rte_ipv4_hdr>(fragment, m.l3_offset));
  }
  return rte_ipv6_frag_reassemble_packet(
      table, &death_row, fragment, time, at<rte_ipv6_hdr>(fragment, m.l3_offset),
      at<rte_ipv6_fragment_ext>(fragment, m.l4_offset - sizeof(Ipv6FragmentHeader)));
}

Reassembler::Reassembler(uint32_t datagrams_max, timing::Duration timeout, int numa_socket)
    : impl_(std::make_unique<Impl>()) {
  LIMPET_ASSERT(datagrams_max > 0 && timeout.count() > 0);
  const uint32_t buckets = (datagrams_max + kBucketEntries - 1) / kBucketEntries;
  impl_->table = rte_ip_frag_table_create(buckets, kBucketEntries, datagrams_max,
                                          static_cast<uint64_t>(timeout.count()), numa_socket);
  LIMPET_ASSERT(impl_->table != nullptr);
}

Reassembler::~Reassembler() {
  impl_->bury();
  rte_ip_frag_table_destroy(impl_->table);
}

Buffer* Reassembler::add(Buffer* fragment, timing::Instant now) {
  LIMPET_ASSERT(meta(fragment).kind == Kind::kFragment);
  ++impl_->held;
  if (fragment->nb_segs != 1) {  // its table counts segments as pieces
    if (rte_pktmbuf_linearize(fragment) != 0) {
      --impl_->held;
      ++invalid_;
      release(fragment);
      return nullptr;
    }
  }
  Buffer* whole = impl_->offer(fragment, now);
  const bool refused =
      whole == nullptr && impl_->death_row.cnt == 1 && impl_->death_row.row[0] == fragment;
  const uint32_t given_up = impl_->bury();
  impl_->held -= given_up;
  (refused ? table_full_ : invalid_) += given_up;
  if (whole == nullptr) return nullptr;
  impl_->held -= whole->nb_segs;
  if (!is_sound(whole)) {
    invalid_ += whole->nb_segs;
    release(whole);
    return nullptr;
  }
  finish(whole);
  return whole;
}

void Reassembler::release_expired(timing::Instant now, uint32_t count) {
  if (impl_->held == 0) return;
  // The table moves datagrams to the row while they fit in it: the row is lent no longer than
  // `count`, but long enough for one datagram.
  const uint32_t room =
      std::clamp<uint32_t>(count, RTE_LIBRTE_IP_FRAG_MAX_FRAG, RTE_IP_FRAG_DEATH_ROW_MBUF_LEN);
  const uint32_t first = RTE_IP_FRAG_DEATH_ROW_MBUF_LEN - room;
  impl_->death_row.cnt = first;
  rte_ip_frag_table_del_expired_entries(impl_->table, &impl_->death_row,
                                        static_cast<uint64_t>(now.ns));
  const uint32_t given_up = impl_->bury(first);
  impl_->held -= given_up;
  invalid_ += given_up;
}

uint32_t Reassembler::pending() const {
  return impl_->held;
}

namespace {

// Gives a piece its meta and identification and makes it one segment, so that any device and any
// later stage can take it.
bool finish_piece(Buffer* piece, const Meta& original, uint32_t id) {
  if (rte_pktmbuf_linearize(piece) != 0) return false;
  Meta& m = meta(piece);
  m = original;
  m.l3_offset = 0;
  m.l3_bytes = piece->pkt_len;
  m.kind = Kind::kFragment;
  m.fragment_id = id;
  if (original.family == Family::kV4) {
    auto& ip = *at<Ipv4Header>(piece, 0);
    const uint32_t header_bytes = (ip.version_words & 0xfu) * 4;
    ip.id = static_cast<uint16_t>(id);
    ip.checksum = 0;
    ip.checksum = checksum_of(sum_of(&ip, header_bytes));
    m.fragment_id = static_cast<uint16_t>(id);
    m.l4_offset = static_cast<uint16_t>(header_bytes);
  } else {
    at<Ipv6FragmentHeader>(piece, sizeof(Ipv6Header))->id = id;
    m.l4_offset = sizeof(Ipv6Header) + sizeof(Ipv6FragmentHeader);
  }
  m.l4_bytes = m.l3_bytes - m.l4_offset;
  return true;
}

}  // namespace

uint32_t fragment(Buffer* buffer, uint16_t mtu, uint32_t id, rte_mempool* pool, Buffer** pieces,
                  uint32_t pieces_max) {
  const Meta original = meta(buffer);
  rte_pktmbuf_adj(buffer, original.l3_offset);
  const auto room = static_cast<uint16_t>(std::min<uint32_t>(pieces_max, UINT16_MAX));
  const int made = original.family == Family::kV4
                       ? rte_ipv4_fragment_packet(buffer, pieces, room, mtu, pool, pool)
                       : rte_ipv6_fragment_packet(buffer, pieces, room, mtu, pool, pool);
  uint32_t count = made > 0 ? static_cast<uint32_t>(made) : 0;
  bool sound = true;
  for (uint32_t i = 0; i < count; ++i) sound = finish_piece(pieces[i], original, id) && sound;
  if (!sound) {
    for (uint32_t i = 0; i < count; ++i) release(pieces[i]);
    count = 0;
  }
  release(buffer);
  return count;
}

}  // namespace limpet::packet
