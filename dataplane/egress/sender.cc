#include "dataplane/egress/sender.h"

#include "dataplane/packet/fragment.h"

namespace limpet::egress {

using packet::Buffer;
using packet::DropReason;
using packet::Meta;
using timing::Instant;

void Sender::use(const snapshot::Snapshot& s) {
  if (snapshot_ == &s && version_ == s.version) return;
  snapshot_ = &s;
  version_ = s.version;
  ports_.resize(s.ports.size());
  for (std::size_t i = 0; i < s.ports.size(); ++i) {
    const snapshot::Port& p = s.ports[i];
    ports_[i] = {p.mtu, {static_cast<uint8_t>(i), p.vlan, p.mac}};
  }
}

void Sender::send_pieces(Buffer* buffer, const Way& way) {
  const uint8_t arrived = packet::meta(buffer).port;
  Buffer* pieces[kPiecesMax];
  const uint32_t n =
      packet::fragment(buffer, mtu(way.port), datagram_id_ += cores_, pool_, pieces, kPiecesMax);
  if (n == 0) return output_.count(DropReason::kNoBuffers, arrived);
  for (uint32_t i = 0; i < n; ++i) send_frame(pieces[i], way, arrived);
}

void Sender::send_frame(Buffer* buffer, const Way& way, uint8_t arrived) {
  if (way.mac == nullptr) {
    Meta& m = packet::meta(buffer);
    m.port = way.port;
    m.next_hop = way.next_hop;
    output_.punt(buffer);
  } else if (packet::write_ethernet(buffer, ports_[way.port].egress, *way.mac)) {
    output_.send(buffer);
  } else {
    output_.drop(buffer, DropReason::kNoBuffers, arrived);
  }
}

void Sender::answer_error(Buffer* buffer, uint16_t mtu, Instant now) {
  const Meta& m = packet::meta(buffer);
  const bool expired = m.ttl <= 1;
  const uint8_t port = m.port;
  const net::Mac to = m.source_mac;
  output_.count(expired ? DropReason::kTtlExceeded : DropReason::kTooBig, port);
  const net::Address* from = own_address(port, m.source);
  // A port without an address of this family speaks as the address the packet was for.
  const net::Address source = from != nullptr ? *from : m.destination;
  if (!reply_limit_.allow(now)) {
    output_.count(DropReason::kRateLimited, port);
    return packet::release(buffer);
  }
  const auto what = expired ? packet::IcmpReply::kTimeExceeded : packet::IcmpReply::kTooBig;
  if (!packet::make_icmp_error(buffer, what, source, expired ? uint16_t{0} : mtu))
    return packet::release(buffer);
  reply(buffer, port, to);
}

void Sender::refuse(Buffer* buffer, DropReason reason, Instant now) {
  const Meta& m = packet::meta(buffer);
  const uint8_t port = m.port;
  const net::Mac to = m.source_mac;
  output_.count(reason, port);
  if ((m.tcp_flags & packet::kTcpRst) != 0) return packet::release(buffer);  // is owed nothing
  if (!reply_limit_.allow(now)) {
    output_.count(DropReason::kRateLimited, port);
    return packet::release(buffer);
  }
  const net::Address from = m.destination;
  const bool made =
      m.protocol == packet::kProtocolTcp
          ? packet::make_tcp_reset(buffer)
          : packet::make_icmp_error(buffer, packet::IcmpReply::kPortUnreachable, from);
  if (!made) return packet::release(buffer);
  reply(buffer, port, to);
}

void Sender::reply(Buffer* buffer, uint8_t port, net::Mac to) {
  if (!packet::write_ethernet(buffer, ports_[port].egress, to))
    return output_.drop(buffer, DropReason::kNoBuffers, port);
  output_.send(buffer);
}

const net::Address* Sender::own_address(uint8_t port, const net::Address& to) const {
  for (const net::Prefix& p : snapshot_->ports[port].addresses) {
    const bool reaches = !p.address.is_link_local_v6() || to.is_link_local_v6();
    if (p.family() == to.family() && reaches) return &p.address;
  }
  return nullptr;
}

}  // namespace limpet::egress
