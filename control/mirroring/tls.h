// TLS between engines: 1.3 with the cluster's pre-shared key and nothing else (README.md,
// "Transport"). Who has not the key gets no further than the handshake.
//
// Owner: the control thread. Why not certificates: a cluster is one secret file that the operator
// copies; who has it is a member.
#pragma once

#include <array>
#include <boost/asio/ssl/context.hpp>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "common/base/result.h"

namespace limpet::mirroring {

inline constexpr std::size_t kSecretBytesMin = 32;
inline constexpr std::size_t kSecretBytesMax = 65'536;
inline constexpr std::string_view kPskIdentity = "limpet-mirroring-1";
inline constexpr std::string_view kPskLabel = "limpet mirroring 1 psk";

// 32 bytes that are wiped when they go.
class DerivedKey {
 public:
  static constexpr std::size_t kBytes = 32;

  DerivedKey() = default;
  DerivedKey(const DerivedKey&) = default;
  DerivedKey& operator=(const DerivedKey&) = default;
  ~DerivedKey();

  std::span<uint8_t, kBytes> bytes() { return bytes_; }
  std::span<const uint8_t, kBytes> bytes() const { return bytes_; }

 private:
  std::array<uint8_t, kBytes> bytes_{};
};

// HKDF-SHA256 (RFC 5869) without salt; `label` is its info. One label for each use of the secret.
DerivedKey derive_key(std::span<const uint8_t> secret, std::string_view label);

// A key from the whole contents of the secret file. An error names /mirroring/secret_file.
base::Result<DerivedKey> load_key(const std::filesystem::path& secret_file, std::string_view label);
// The key of the channel.
inline base::Result<DerivedKey> load_channel_key(const std::filesystem::path& secret_file) {
  return load_key(secret_file, kPskLabel);
}

// Contexts of both roles. They hold the key; sessions must not outlive them.
class TlsContexts {
 public:
  explicit TlsContexts(const DerivedKey& key);
  TlsContexts(const TlsContexts&) = delete;
  TlsContexts& operator=(const TlsContexts&) = delete;

  boost::asio::ssl::context& accepting() { return accepting_; }
  boost::asio::ssl::context& connecting() { return connecting_; }

 private:
  DerivedKey key_;
  boost::asio::ssl::context accepting_;
  boost::asio::ssl::context connecting_;
};

// After a handshake: it was the key that let the other in, and it is TLS 1.3.
bool is_by_key(SSL* tls);

}  // namespace limpet::mirroring
