// StringHash: turns a string (an app cookie, a session id, what a script persists by) into a Key.
// SipHash-2-4 with 128 bits of output: Aumasson and Bernstein, "SipHash: a fast short-input PRF"
// (2012), in the authors' 128-bit variant.
//
// Owner: nobody; it is constant once made, any thread may call it.
// Invariants
//  1. Equal on all cores and engines that share `secret`, whatever their byte order.
//  2. The string itself is kept nowhere: two strings with one Key would share a binding, which at
//     128 bits happens to nobody, and without the secret nobody can bring it about.
// Cost: about a nanosecond a byte, and 20 for the end. No allocation.
//
// Why not base::KeyedHash: its strength is for words of one length and for outputs that never leave
// the process; these Keys travel to other engines and strings are as long as their senders like.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "common/binding/key.h"

namespace limpet::persist {

class StringHash {
 public:
  explicit StringHash(std::array<uint8_t, 16> secret);

  // The 16 output bytes in their order, words little-endian.
  binding::Key operator()(std::string_view text) const;

 private:
  std::array<uint64_t, 2> secret_;
};

}  // namespace limpet::persist
