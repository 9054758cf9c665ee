#include "dataplane/packet/reassembler.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/base/assert.h"
#include "common/net/hash.h"
#include "dataplane/packet/checksum.h"
#include "dataplane/packet/headers.h"

namespace limpet::packet {
namespace {

// Which bytes of its datagram a piece is.
struct Extent {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool more = false;  // it is not the last
};

Extent extent_of(Buffer* piece) {
  const Meta& m = meta(piece);
  Extent out;
  if (m.family == net::Family::kV4) {
    const uint16_t fragment = at<Ipv4Header>(piece, m.l3_offset)->fragment;
    out.begin = (fragment & kIpv4FragmentOffset) * 8u;
    out.more = (fragment & kIpv4MoreFragments) != 0;
  } else {
    const auto& header = *at<Ipv6FragmentHeader>(piece, m.l4_offset - sizeof(Ipv6FragmentHeader));
    const uint16_t offset_more = header.offset_more;
    out.begin = offset_more & 0xfff8u;
    out.more = (offset_more & 1) != 0;
  }
  out.end = out.begin + m.l4_bytes;
  return out;
}

// The name's protocol: the next header of later IPv6 pieces means nothing.
uint8_t protocol_of(const Meta& m) {
  return m.family == net::Family::kV4 ? m.protocol : 0;
}

// Leaves of an IPv4 datagram's first piece the header of the whole.
void finish_v4(Buffer* first, const Meta& m, uint32_t length) {
  auto& ip = *at<Ipv4Header>(first, m.l3_offset);
  const uint32_t header_bytes = (ip.version_words & 0xfu) * 4;
  ip.total_bytes = static_cast<uint16_t>(header_bytes + length);
  ip.fragment = uint16_t{0};  // DF too: the sender saw the path cut it already
  ip.checksum = 0;
  ip.checksum = checksum_of(sum_of(&ip, header_bytes));
}

// The same of IPv6: the fragment header goes, and what stands before it, which is for routers on
// the way; the datagram has arrived.
void finish_v6(Buffer* first, Meta& m, uint32_t length) {
  const auto& fragment = *at<Ipv6FragmentHeader>(first, m.l4_offset - sizeof(Ipv6FragmentHeader));
  auto& ip = *at<Ipv6Header>(first, m.l3_offset);
  ip.next_header = fragment.next_header;
  ip.payload_bytes = static_cast<uint16_t>(length);
  const uint32_t headers = m.l3_offset + uint32_t{sizeof(Ipv6Header)};
  const auto extra = static_cast<uint16_t>(m.l4_offset - headers);
  auto* start = at<uint8_t>(first, 0);
  std::memmove(start + extra, start, headers);
  rte_pktmbuf_adj(first, extra);
  m.l4_offset = static_cast<uint16_t>(headers);
}

}  // namespace

Reassembler::Reassembler(const Options& options, const base::KeyedHash& hash)
    : timeout_(options.timeout),
      pieces_max_(options.pieces_max),
      hash_(hash),
      datagrams_(options.datagrams_max),
      buckets_(std::bit_ceil(options.datagrams_max), kNone) {
  LIMPET_ASSERT(options.datagrams_max > 0 && pieces_max_ > 0 && timeout_.count() > 0);
  for (uint32_t i = options.datagrams_max; i-- > 0;) {
    datagrams_[i].next = free_;
    free_ = i;
  }
}

Reassembler::~Reassembler() {
  for (uint32_t i = oldest_; i != kNone; i = datagrams_[i].newer) give_up(datagrams_[i]);
}

Buffer* Reassembler::add(Buffer* fragment, timing::Instant now) {
  const Meta& m = meta(fragment);
  LIMPET_ASSERT(m.kind == Kind::kFragment);
  if (fragment->nb_segs != 1 && rte_pktmbuf_linearize(fragment) != 0) {
    ++invalid_;
    release(fragment);
    return nullptr;
  }
  // The low bits: by the high ones packets are spread over cores.
  const uint32_t bucket = net::hash_pair<net::Family::kV6>(hash_, m.source, m.destination,
                                                           m.fragment_id, protocol_of(m)) &
                          static_cast<uint32_t>(buckets_.size() - 1);
  uint32_t index = find(m, bucket);
  if (index != kNone && has_expired(datagrams_[index], now)) {
    give_up(datagrams_[index]);
    remove(index);
    index = kNone;
  }
  if (index == kNone && held_ < pieces_max_) index = begin(m, bucket, now);
  if (index == kNone || (held_ == pieces_max_ && !datagrams_[index].given_up)) {
    ++table_full_;
    release(fragment);
    return nullptr;
  }
  Datagram& d = datagrams_[index];
  const Place place = d.given_up ? Place::kWrong : insert(d, fragment);
  if (place != Place::kTaken) {
    ++invalid_;
    release(fragment);
    if (place == Place::kWrong) give_up(d);
    return nullptr;
  }
  if (d.length == 0 || d.bytes < d.length) return nullptr;
  Buffer* whole = join(d);
  remove(index);
  return whole;
}

uint32_t Reassembler::find(const Meta& m, uint32_t bucket) const {
  uint32_t i = buckets_[bucket];
  for (; i != kNone; i = datagrams_[i].next) {
    const Datagram& d = datagrams_[i];
    if (d.id == m.fragment_id && d.protocol == protocol_of(m) && d.source == m.source &&
        d.destination == m.destination)
      break;
  }
  return i;
}

// A place for a datagram that begins; kNone when all are taken.
uint32_t Reassembler::begin(const Meta& m, uint32_t bucket, timing::Instant now) {
  if (free_ == kNone && has_expired(datagrams_[oldest_], now)) {
    give_up(datagrams_[oldest_]);
    remove(oldest_);
  }
  const uint32_t index = free_;
  if (index == kNone) return kNone;
  Datagram& d = datagrams_[index];
  free_ = d.next;
  d = {.source = m.source,
       .destination = m.destination,
       .id = m.fragment_id,
       .protocol = protocol_of(m),
       .began = now,
       .bucket = bucket,
       .next = buckets_[bucket],
       .older = newest_};
  buckets_[bucket] = index;
  (newest_ == kNone ? oldest_ : datagrams_[newest_].newer) = index;
  newest_ = index;
  return index;
}

Reassembler::Place Reassembler::insert(Datagram& d, Buffer* piece) {
  const Extent extent = extent_of(piece);
  // The neighbours that it will have.
  Buffer* before = d.last;
  Buffer* after = nullptr;
  if (before != nullptr && extent_of(before).begin >= extent.begin) {
    before = nullptr;
    after = d.first;
    while (extent_of(after).begin < extent.begin) {
      before = after;
      after = after->next;
    }
  }
  if (after != nullptr) {
    const Extent next = extent_of(after);
    if (next.begin == extent.begin && next.end == extent.end && next.more == extent.more)
      return Place::kTwice;
    if (extent.end > next.begin || !extent.more) return Place::kWrong;
  }
  if (before != nullptr && extent_of(before).end > extent.begin) return Place::kWrong;
  if (d.length != 0 && (!extent.more || extent.end > d.length)) return Place::kWrong;
  if (d.pieces == kPiecesMax) return Place::kWrong;
  piece->next = after;
  (before == nullptr ? d.first : before->next) = piece;
  if (after == nullptr) d.last = piece;
  if (!extent.more) d.length = extent.end;
  d.bytes += extent.end - extent.begin;
  ++d.pieces;
  ++held_;
  return Place::kTaken;
}

Buffer* Reassembler::join(Datagram& d) {
  Buffer* const whole = d.first;
  Meta& m = meta(whole);
  const uint32_t header_bytes =
      m.family == net::Family::kV4 ? uint32_t{m.l4_offset} - m.l3_offset : 0;
  if (header_bytes + d.length > UINT16_MAX) {
    give_up(d);
    return nullptr;
  }
  for (Buffer* piece = whole->next; piece != nullptr; piece = piece->next) {
    rte_pktmbuf_adj(piece, meta(piece).l4_offset);
    whole->pkt_len += piece->data_len;
    ++whole->nb_segs;
  }
  held_ -= d.pieces;
  d.first = d.last = nullptr;
  d.pieces = 0;
  if (m.family == net::Family::kV4) {
    finish_v4(whole, m, d.length);
  } else {
    finish_v6(whole, m, d.length);
  }
  m.reassembled = true;
  // What the device said of the first piece says nothing of the datagram.
  whole->ol_flags &= ~(RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK);
  // Most datagrams fit one buffer; then nobody behind us meets a chain.
  if (whole->pkt_len - whole->data_len <= rte_pktmbuf_tailroom(whole))
    static_cast<void>(rte_pktmbuf_linearize(whole));
  return whole;
}

// Releases its pieces; the name stays taken, until the datagram is removed.
void Reassembler::give_up(Datagram& d) {
  if (d.first != nullptr) release(d.first);  // all of them: `next` links them
  held_ -= d.pieces;
  invalid_ += d.pieces;
  d.first = d.last = nullptr;
  d.pieces = 0;
  d.given_up = true;
}

void Reassembler::remove(uint32_t index) {
  Datagram& d = datagrams_[index];
  uint32_t* link = &buckets_[d.bucket];
  while (*link != index) link = &datagrams_[*link].next;
  *link = d.next;
  (d.older == kNone ? oldest_ : datagrams_[d.older].newer) = d.newer;
  (d.newer == kNone ? newest_ : datagrams_[d.newer].older) = d.older;
  d.next = free_;
  free_ = index;
}

void Reassembler::release_expired(timing::Instant now, uint32_t count) {
  for (uint32_t released = 0; oldest_ != kNone && has_expired(datagrams_[oldest_], now);) {
    Datagram& d = datagrams_[oldest_];
    if (released > 0 && released + d.pieces > count) return;
    // One whose pieces are gone costs time, too.
    released += std::max(d.pieces, 1u);
    give_up(d);
    remove(oldest_);
  }
}

}  // namespace limpet::packet
