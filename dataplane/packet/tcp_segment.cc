#include "dataplane/packet/tcp_segment.h"

#include <algorithm>

namespace limpet::packet {

uint8_t* find_tcp_option(Buffer* buffer, const Meta& m, uint8_t kind, uint8_t length) {
  constexpr uint8_t kEnd = 0;
  constexpr uint8_t kNothing = 1;
  auto* bytes = at<uint8_t>(buffer, m.l4_offset);
  const auto& tcp = *at<TcpHeader>(buffer, m.l4_offset);
  const std::size_t header_bytes = static_cast<std::size_t>(tcp.data_words >> 4) * 4;
  for (std::size_t i = sizeof(TcpHeader); i < header_bytes;) {
    if (bytes[i] == kEnd) return nullptr;
    if (bytes[i] == kNothing) {
      ++i;
      continue;
    }
    if (i + 1 >= header_bytes) return nullptr;
    const std::size_t takes = bytes[i + 1];
    if (takes < 2 || i + takes > header_bytes) return nullptr;
    if (bytes[i] == kind && takes == length) return &bytes[i];
    i += takes;
  }
  return nullptr;
}

TcpSegment tcp_segment(Buffer* buffer, const Meta& m) {
  constexpr uint8_t kWindowScale = 3;
  constexpr uint8_t kScaleMax = 14;
  const auto& tcp = *at<TcpHeader>(buffer, m.l4_offset);
  TcpSegment s{.sequence = tcp.sequence,
               .acknowledgment = tcp.acknowledgment,
               .bytes = m.l4_bytes - static_cast<uint32_t>(tcp.data_words >> 4) * 4,
               .window = tcp.window,
               .flags = m.tcp_flags};
  if (s.has(kTcpSyn)) [[unlikely]] {
    const uint8_t* scale = find_tcp_option(buffer, m, kWindowScale, 3);
    if (scale != nullptr) s.scale = std::min(scale[2], kScaleMax);
  }
  return s;
}

}  // namespace limpet::packet
