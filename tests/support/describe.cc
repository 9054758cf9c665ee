// Frames read back: describe() and sums_wrong(), one walk over the headers for both.
#include <fmt/format.h>

#include <algorithm>

#include "dataplane/packet/headers.h"
#include "tests/support/frames.h"

namespace limpet::support {
namespace {

using net::Address;

// Reads a frame front to back; once something is missing it says so and reads zeros.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> data) : data_(data) {}

  bool has(std::size_t count) const { return data_.size() - at_ >= count; }
  std::size_t left() const { return data_.size() - at_; }
  std::span<const uint8_t> rest() const { return data_.subspan(at_); }
  std::span<const uint8_t> take(std::size_t count) {
    const auto out = data_.subspan(at_, count);
    at_ += count;
    return out;
  }
  // Forgets everything after the next `count` bytes.
  void limit(std::size_t count) { data_ = data_.first(at_ + count); }

 private:
  std::span<const uint8_t> data_;
  std::size_t at_ = 0;
};

uint32_t get32(std::span<const uint8_t> data, std::size_t offset) {
  return static_cast<uint32_t>(get16(data, offset)) << 16 | get16(data, offset + 2);
}

std::string mac_text(std::span<const uint8_t> data) {
  net::Mac m;
  std::copy_n(data.begin(), 6, m.bytes.begin());
  return m.to_string();
}

std::string flags_text(uint8_t flags) {
  std::string out;
  constexpr std::string_view kLetters = "FSRPAUEC";
  for (std::size_t i = 0; i < kLetters.size(); ++i) {
    if ((flags >> i & 1) != 0) out += kLetters[i];
  }
  return out.empty() ? "-" : out;
}

class Describer {
 public:
  explicit Describer(std::span<const uint8_t> frame) : in_(frame) {}

  void frame() {
    if (!in_.has(14)) return broken("ethernet header cut");
    auto ethernet = in_.take(14);
    text_ = mac_text(ethernet.subspan(6)) + " > " + mac_text(ethernet);
    uint16_t type = get16(ethernet, 12);
    if (type == packet::kEtherVlan) {
      if (!in_.has(4)) return broken("vlan tag cut");
      const auto tag = in_.take(4);
      text_ += fmt::format(" vlan {}", get16(tag, 0) & 0xfff);
      type = get16(tag, 2);
    }
    if (type == packet::kEtherArp) return arp();
    if (type == packet::kEtherIpv4) return ipv4(false);
    if (type == packet::kEtherIpv6) return ipv6(false);
    text_ += fmt::format(" type {:#06x}", type);
  }

  std::string line() const { return text_ + (wrong_.empty() ? " sums ok" : " WRONG: " + wrong_); }
  const std::string& wrong() const { return wrong_; }

 private:
  void broken(std::string_view what) {
    if (!wrong_.empty()) wrong_ += ", ";
    wrong_ += what;
  }

  void arp() {
    if (!in_.has(28)) return broken("arp cut");
    const auto a = in_.take(28);
    text_ += fmt::format(" arp {} {} at {} for {} at {}", get16(a, 6) == 1 ? "request" : "reply",
                         Address::v4(&a[14]).to_string(), mac_text(a.subspan(8)),
                         Address::v4(&a[24]).to_string(), mac_text(a.subspan(18)));
  }

  void ipv4(bool quoted) {
    if (!in_.has(20)) return broken("ipv4 header cut");
    const auto head = in_.rest();
    const std::size_t head_bytes = (head[0] & 0xfu) * 4;
    if (head[0] >> 4 != 4 || head_bytes < 20) return broken("ipv4 version or header length");
    if (!in_.has(head_bytes)) return broken("ipv4 options cut");
    const uint16_t total = get16(head, 2);
    if (reference_checksum(head.first(head_bytes)) != 0) broken("ipv4 checksum");
    if (total < head_bytes) return broken("ipv4 length");
    const bool cut = total > in_.left();
    if (cut && !quoted) broken("ipv4 longer than the frame");
    in_.limit(std::min<std::size_t>(total, in_.left()));
    source_ = Address::v4(&head[12]);
    destination_ = Address::v4(&head[16]);
    const uint16_t fragment = get16(head, 6);
    std::string tail = fmt::format(" ttl {}", head[8]);
    if (head[1] != 0) tail += fmt::format(" tos {:#x}", head[1]);
    if ((fragment & packet::kIpv4DontFragment) != 0) tail += " df";
    if (head_bytes > 20) tail += fmt::format(" options {}", head_bytes - 20);
    const uint8_t protocol = head[9];
    in_.take(head_bytes);
    if ((fragment & (packet::kIpv4MoreFragments | packet::kIpv4FragmentOffset)) != 0) {
      return piece(protocol, get16(head, 4), (fragment & packet::kIpv4FragmentOffset) * 8u,
                   (fragment & packet::kIpv4MoreFragments) != 0, tail);
    }
    l4(protocol, tail, cut);
  }

  void ipv6(bool quoted) {
    if (!in_.has(40)) return broken("ipv6 header cut");
    const auto head = in_.take(40);
    if (head[0] >> 4 != 6) return broken("ipv6 version");
    const uint16_t payload = get16(head, 4);
    const bool cut = payload > in_.left();
    if (cut && !quoted) broken("ipv6 longer than the frame");
    in_.limit(std::min<std::size_t>(payload, in_.left()));
    source_ = Address::v6(&head[8]);
    destination_ = Address::v6(&head[24]);
    std::string tail = fmt::format(" ttl {}", head[7]);
    if ((get32(head, 0) >> 20 & 0xff) != 0)
      tail += fmt::format(" tos {:#x}", get32(head, 0) >> 20 & 0xff);
    uint8_t next = head[6];
    while (next == packet::kProtocolHopByHop || next == packet::kProtocolRouting ||
           next == packet::kProtocolDestinationOptions || next == packet::kProtocolFragment) {
      if (!in_.has(8)) return broken("ipv6 extension cut");
      const auto e = in_.rest();
      const std::size_t size = next == packet::kProtocolFragment ? 8 : (e[1] + 1u) * 8;
      if (!in_.has(size)) return broken("ipv6 extension cut");
      tail += fmt::format(" ext {}", next);
      in_.take(size);
      if (next == packet::kProtocolFragment && (get16(e, 2) & 0xfff9) != 0)
        return piece(e[0], get32(e, 4), get16(e, 2) & 0xfff8u, (get16(e, 2) & 1) != 0, tail);
      next = e[0];
    }
    l4(next, tail, cut);
  }

  void piece(uint8_t protocol, uint32_t id, uint32_t offset, bool more, const std::string& tail) {
    text_ += fmt::format(" {} > {} fragment id {} proto {} offset {}{}{} len {}",
                         source_.to_string(), destination_.to_string(), id, protocol, offset,
                         more ? "+" : "", tail, in_.left());
  }

  bool l4_sum_right(uint8_t protocol) const {
    uint32_t start = 0;
    if (protocol != packet::kProtocolIcmp) {
      start = static_cast<uint32_t>(in_.left()) + protocol;
      const std::size_t size = source_.is_v4() ? 4 : 16;
      for (const Address* a : {&source_, &destination_}) {
        for (std::size_t i = 0; i < size; i += 2) start += get16({a->wire(), size}, i);
      }
    }
    return reference_checksum(in_.rest(), start) == 0;
  }

  void l4(uint8_t protocol, const std::string& tail, bool cut) {
    const auto h = in_.rest();
    if (protocol == packet::kProtocolUdp || protocol == packet::kProtocolTcp) {
      const bool is_udp = protocol == packet::kProtocolUdp;
      const std::size_t need = is_udp ? 8 : 20;
      if (h.size() < need) {
        text_ += fmt::format(" {} > {}", source_.to_string(), destination_.to_string());
        if (!cut) broken("transport header cut");
        if (h.size() < 8) return;
      }
      text_ += fmt::format(" {} > {}", net::Endpoint{source_, get16(h, 0)}.to_string(),
                           net::Endpoint{destination_, get16(h, 2)}.to_string());
      if (is_udp) {
        text_ += fmt::format(" udp{} len {}", tail, h.size() - 8);
        if (get16(h, 4) != h.size() && !cut) broken("udp length");
        if (get16(h, 6) == 0 && !source_.is_v4()) broken("udp checksum 0");
        if (get16(h, 6) == 0) text_ += " nosum";
        if (get16(h, 6) != 0 && !cut && !l4_sum_right(protocol)) broken("udp checksum");
        return;
      }
      text_ += fmt::format(" tcp");
      if (h.size() < 20) return;
      const std::size_t head_bytes = static_cast<std::size_t>(h[12] >> 4) * 4;
      text_ += fmt::format(" {} seq {} ack {} win {}{}", flags_text(h[13]), get32(h, 4),
                           get32(h, 8), get16(h, 14), tail);
      if (head_bytes < 20 || head_bytes > h.size())
        return cut ? void() : broken("tcp header length");
      tcp_options(h.subspan(20, head_bytes - 20));
      text_ += fmt::format(" len {}", h.size() - head_bytes);
      if (!cut && !l4_sum_right(protocol)) broken("tcp checksum");
      return;
    }
    text_ += fmt::format(" {} > {}", source_.to_string(), destination_.to_string());
    if (protocol == packet::kProtocolIcmp || protocol == packet::kProtocolIcmpv6)
      return icmp(protocol, tail, cut);
    text_ += fmt::format(" proto {}{} len {}", protocol, tail, h.size());
  }

  void tcp_options(std::span<const uint8_t> options) {
    for (std::size_t i = 0; i < options.size();) {
      if (options[i] == 0) return;
      if (options[i] == 1) {
        ++i;
        continue;
      }
      if (i + 1 >= options.size() || options[i + 1] < 2 || i + options[i + 1] > options.size())
        return broken("tcp option");
      if (options[i] == 2 && options[i + 1] == 4)
        text_ += fmt::format(" mss {}", get16(options, i + 2));
      i += options[i + 1];
    }
  }

  void icmp(uint8_t protocol, const std::string& tail, bool cut) {
    const auto h = in_.rest();
    if (h.size() < 8) return broken("icmp header cut");
    if (!cut && !l4_sum_right(protocol)) broken("icmp checksum");
    text_ += fmt::format(" {} type {} code {} word {:#x}{} len {}",
                         protocol == packet::kProtocolIcmp ? "icmp" : "icmp6", h[0], h[1],
                         get32(h, 4), tail, h.size() - 8);
    in_.take(8);
    const bool v4 = protocol == packet::kProtocolIcmp;
    const bool error = v4 ? h[0] == 3 || h[0] == 11 || h[0] == 12 : h[0] >= 1 && h[0] <= 4;
    if (!error) {
      if (!v4 && (h[0] == 135 || h[0] == 136) && h.size() >= 24)
        text_ += " target " + Address::v6(&h[8]).to_string();
      return;
    }
    text_ += " quotes";
    if (v4) {
      ipv4(true);
    } else {
      ipv6(true);
    }
  }

  Reader in_;
  Address source_;
  Address destination_;
  std::string text_;
  std::string wrong_;
};

}  // namespace

std::string describe(std::span<const uint8_t> frame) {
  Describer d(frame);
  d.frame();
  return d.line();
}

std::string sums_wrong(std::span<const uint8_t> frame) {
  Describer d(frame);
  d.frame();
  return d.wrong();
}

}  // namespace limpet::support
