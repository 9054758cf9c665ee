// The internet checksum (RFC 1071, 1624). Sums are kept as 64-bit integers over words as they lie
// in memory, so they may be added in any order and are folded once, at the end.
//
// Why not rte_ip.h's helpers throughout: they take the transport length from the IP header, which
// is wrong behind IPv6 extension headers and behind UDP shorter than its datagram, and
// rte_raw_cksum_mbuf() of DPDK 22.11 loses carries when a segment starts at an odd offset. Its
// rte_raw_cksum() is used for long runs, where the compiler vectorises it.
#pragma once

#include <rte_ip.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dataplane/packet/buffer.h"

namespace limpet::packet {

template <class Word>
Word load(const void* at) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// One's complement sum in 16 bits; not inverted.
constexpr uint16_t fold(uint64_t sum) {
  // To 32 bits with the carry brought round; then both halves added to each other's place, so that
  // the upper one gets the carry of the lower.
  const auto high = static_cast<uint32_t>(sum >> 32);
  auto half = static_cast<uint32_t>(sum) + high;
  half += uint32_t{half < high};
  return static_cast<uint16_t>((half + std::rotl(half, 16)) >> 16);
}

// As it stands in a header.
constexpr uint16_t checksum_of(uint64_t sum) {
  return static_cast<uint16_t>(~fold(sum));
}

// The sum of `bytes` bytes at `data`, an odd last one padded with zero. Below 2^34.
inline uint64_t sum_of(const void* data, std::size_t bytes) {
  constexpr std::size_t kLongBytes = 128;
  if (bytes >= kLongBytes) return rte_raw_cksum(data, bytes);
  const auto* at = static_cast<const uint8_t*>(data);
  uint64_t sum = 0;
  for (; bytes >= 8; at += 8, bytes -= 8) {
    // With the carry added at once: a chain of adc, which compilers do not turn into vector code
    // whose start and end would cost more than these few words.
    const auto word = load<uint64_t>(at);
    sum += word;
    sum += static_cast<uint64_t>(sum < word);
  }
  sum = (sum & 0xffffffffu) + (sum >> 32);
  if ((bytes & 4) != 0) {
    sum += load<uint32_t>(at);
    at += 4;
  }
  if ((bytes & 2) != 0) {
    sum += load<uint16_t>(at);
    at += 2;
  }
  if ((bytes & 1) != 0) sum += *at;
  return sum;
}

// The same over a frame of any number of segments. The range must lie within the frame.
uint64_t sum_of_chain(const Buffer* buffer, uint32_t offset, uint32_t bytes);

inline uint64_t sum_of(const Buffer* buffer, uint32_t offset, uint32_t bytes) {
  if (offset + bytes <= buffer->data_len) [[likely]]
    return sum_of(rte_pktmbuf_mtod_offset(buffer, const uint8_t*, offset), bytes);
  return sum_of_chain(buffer, offset, bytes);
}

// What changed in the words a checksum covers (RFC 1624, eqn. 3). Every word must begin at an even
// distance from the start of what is summed.
class ChecksumDelta {
 public:
  ChecksumDelta() = default;
  // Of changes that were folded.
  explicit ChecksumDelta(uint32_t folded) : sum_(folded) {}

  template <class Word>
  void replace(Word before, Word after) {
    static_assert(sizeof(Word) == 2 || sizeof(Word) == 4);
    sum_ += static_cast<Word>(~before);
    sum_ += after;
  }
  // A 16-bit word has become one less; it was not zero.
  void subtract_one() { sum_ += 0xfffe; }
  // A 16-bit word at an odd distance: its bytes belong to two words.
  void replace_odd(uint16_t before, uint16_t after) {
    replace(__builtin_bswap16(before), __builtin_bswap16(after));
  }
  // Both changed.
  void add(const ChecksumDelta& other) { sum_ += other.sum_; }

  // The new value of a header's checksum field.
  uint16_t apply(uint16_t checksum) const {
    return checksum_of(sum_ + static_cast<uint16_t>(~checksum));
  }
  // The same for UDP: 0 means "none" and stays; a result of 0 is sent as 0xffff (RFC 768).
  uint16_t apply_udp(uint16_t checksum) const {
    const uint16_t changed = apply(checksum);
    return checksum == 0 ? uint16_t{0} : changed == 0 ? uint16_t{0xffff} : changed;
  }

 private:
  uint64_t sum_ = 0;
};

}  // namespace limpet::packet
