#include "control/mirroring/tls.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "common/base/assert.h"

namespace limpet::mirroring {

namespace asio = boost::asio;

namespace {

constexpr const char* kCipherSuites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
constexpr std::array<unsigned char, 2> kCipherOfKey = {0x13, 0x01};  // TLS_AES_128_GCM_SHA256

// Where a context keeps its key; Asio has the application's own slot.
int key_slot() {
  static const int slot = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return slot;
}

// The key as OpenSSL wants it: a session that never was. Null on failure.
SSL_SESSION* make_session(SSL* tls) {
  const auto* key =
      static_cast<const DerivedKey*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(tls), key_slot()));
  const SSL_CIPHER* cipher = SSL_CIPHER_find(tls, kCipherOfKey.data());
  SSL_SESSION* session = SSL_SESSION_new();
  if (key != nullptr && cipher != nullptr && session != nullptr &&
      SSL_SESSION_set1_master_key(session, key->bytes().data(), key->bytes().size()) == 1 &&
      SSL_SESSION_set_cipher(session, cipher) == 1 &&
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
    return session;
  SSL_SESSION_free(session);
  return nullptr;
}

int find_session(SSL* tls, const unsigned char* identity, std::size_t bytes,
                 SSL_SESSION** session) {
  *session = nullptr;
  const std::string_view name(reinterpret_cast<const char*>(identity), bytes);
  if (name == kPskIdentity) *session = make_session(tls);
  return 1;  // without a session the handshake fails for want of a certificate
}

int use_session(SSL* tls, const EVP_MD* digest, const unsigned char** identity, std::size_t* bytes,
                SSL_SESSION** session) {
  *session = nullptr;
  *identity = nullptr;
  *bytes = 0;
  // Asked again after a HelloRetryRequest, for the digest that the server chose.
  if (digest != nullptr && EVP_MD_get_type(digest) != NID_sha256) return 1;
  *session = make_session(tls);
  if (*session == nullptr) return 0;
  *identity = reinterpret_cast<const unsigned char*>(kPskIdentity.data());
  *bytes = kPskIdentity.size();
  return 1;
}

void restrict_to_key(asio::ssl::context& context, DerivedKey* key) {
  SSL_CTX* raw = context.native_handle();
  SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(raw, TLS1_3_VERSION);
  LIMPET_ASSERT(SSL_CTX_set_ciphersuites(raw, kCipherSuites) == 1);
  SSL_CTX_set_options(raw, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_max_early_data(raw, 0);
  SSL_CTX_set_recv_max_early_data(raw, 0);
  SSL_CTX_set_ex_data(raw, key_slot(), key);
  SSL_CTX_set_psk_find_session_callback(raw, find_session);
  SSL_CTX_set_psk_use_session_callback(raw, use_session);
}

base::Error secret_error(const std::filesystem::path& file, const std::string& why) {
  return {"/mirroring/secret_file", fmt::format("cannot use \"{}\": {}", file.string(), why)};
}

}  // namespace

DerivedKey::~DerivedKey() {
  OPENSSL_cleanse(bytes_.data(), bytes_.size());
}

DerivedKey derive_key(std::span<const uint8_t> secret, std::string_view label) {
  EVP_KDF* kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf);
  EVP_KDF_free(kdf);
  LIMPET_ASSERT(context != nullptr);
  std::string digest = "SHA256";
  std::string info(label);
  // OpenSSL only reads what it is given here.
  auto* key = const_cast<uint8_t*>(secret.data());
  const std::array<OSSL_PARAM, 4> parameters = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, secret.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
      OSSL_PARAM_construct_end()};
  DerivedKey out;
  const int done =
      EVP_KDF_derive(context, out.bytes().data(), out.bytes().size(), parameters.data());
  EVP_KDF_CTX_free(context);
  LIMPET_ASSERT(done == 1);
  return out;
}

base::Result<DerivedKey> load_key(const std::filesystem::path& secret_file,
                                  std::string_view label) {
  std::ifstream file(secret_file, std::ios::binary);
  if (!file) return secret_error(secret_file, "it cannot be read");
  std::vector<char> contents(kSecretBytesMax + 1);
  file.read(contents.data(), static_cast<std::streamsize>(contents.size()));
  const auto bytes = static_cast<std::size_t>(file.gcount());
  if (file.bad()) return secret_error(secret_file, "it cannot be read");
  if (bytes < kSecretBytesMin || bytes > kSecretBytesMax)
    return secret_error(
        secret_file, fmt::format("it must have {} to {} bytes", kSecretBytesMin, kSecretBytesMax));
  const DerivedKey key =
      derive_key({reinterpret_cast<const uint8_t*>(contents.data()), bytes}, label);
  OPENSSL_cleanse(contents.data(), contents.size());
  return key;
}

TlsContexts::TlsContexts(const DerivedKey& key)
    : key_(key),
      accepting_(asio::ssl::context::tls_server),
      connecting_(asio::ssl::context::tls_client) {
  restrict_to_key(accepting_, &key_);
  restrict_to_key(connecting_, &key_);
  // No authority is trusted: a server that shows a certificate is refused.
  SSL_CTX_set_verify(connecting_.native_handle(), SSL_VERIFY_PEER, nullptr);
}

bool is_by_key(SSL* tls) {
  return SSL_session_reused(tls) == 1 && SSL_version(tls) == TLS1_3_VERSION;
}

}  // namespace limpet::mirroring
