#include "dataplane/persist/string_hash.h"

#include <bit>
#include <cstddef>

namespace limpet::persist {
namespace {

// At most 8 bytes, little-endian, as on every host.
uint64_t load(const char* bytes, std::size_t count) {
  uint64_t word = 0;
  for (std::size_t i = 0; i < count; ++i)
    word |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  return word;
}

// The four words of state, named as in the paper (2.1 to 2.4).
struct State {
  static constexpr int kRoundsPerWord = 2;
  static constexpr int kRoundsAtEnd = 4;

  uint64_t v0, v1, v2, v3;

  void rounds(int count) {
    for (int i = 0; i < count; ++i) {
      v0 += v1;
      v2 += v3;
      v1 = std::rotl(v1, 13) ^ v0;
      v3 = std::rotl(v3, 16) ^ v2;
      v0 = std::rotl(v0, 32);
      v2 += v1;
      v0 += v3;
      v1 = std::rotl(v1, 17) ^ v2;
      v3 = std::rotl(v3, 21) ^ v0;
      v2 = std::rotl(v2, 32);
    }
  }
  void absorb(uint64_t word) {
    v3 ^= word;
    rounds(kRoundsPerWord);
    v0 ^= word;
  }
  uint64_t squeeze() {
    rounds(kRoundsAtEnd);
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

StringHash::StringHash(std::array<uint8_t, 16> secret) {
  std::array<char, 16> bytes;
  std::memcpy(bytes.data(), secret.data(), secret.size());
  secret_ = {load(bytes.data(), 8), load(bytes.data() + 8, 8)};
}

binding::Key StringHash::operator()(std::string_view text) const {
  // "somepseudorandomlygeneratedbytes"; what 128 bits of output change is 0xee and 0xdd below.
  State s{secret_[0] ^ 0x736f'6d65'7073'6575, secret_[1] ^ 0x646f'7261'6e64'6f6d ^ 0xee,
          secret_[0] ^ 0x6c79'6765'6e65'7261, secret_[1] ^ 0x7465'6462'7974'6573};
  std::size_t at = 0;
  for (; text.size() - at >= 8; at += 8) s.absorb(load(text.data() + at, 8));
  // The last word holds what is left, and the length modulo 256 in its highest byte.
  s.absorb(load(text.data() + at, text.size() - at) | uint64_t{text.size()} << 56);
  s.v2 ^= 0xee;
  binding::Key key;
  key.words[0] = s.squeeze();
  s.v1 ^= 0xdd;
  key.words[1] = s.squeeze();
  return key;
}

}  // namespace limpet::persist
