// The part of the bootstrap's codec that touches files.
#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <system_error>

#include "common/base/limits.h"
#include "control/config/bootstrap_codec.h"

namespace limpet::config {
namespace {

using std::filesystem::path;

constexpr std::uintmax_t kSecretBytesMin = 32;

void check_file(const path& file, std::string pointer, std::uintmax_t bytes_min,
                base::Errors* errors) {
  std::error_code error;
  const bool regular = std::filesystem::is_regular_file(file, error);
  if (!error && !regular) error = std::make_error_code(std::errc::invalid_argument);
  const auto bytes = error ? 0 : std::filesystem::file_size(file, error);
  if (error) {
    errors->push_back(
        {std::move(pointer), fmt::format("{} cannot be read: {}", file.native(), error.message())});
  } else if (bytes < bytes_min) {
    errors->push_back({std::move(pointer), fmt::format("{} has {} bytes, at least {} are needed",
                                                       file.native(), bytes, bytes_min)});
  }
}

}  // namespace

base::Status check_files(const Bootstrap& bootstrap) {
  base::Errors errors;
  if (const auto& tls = bootstrap.api.tls) {
    check_file(tls->certificate, "/api/tls/certificate", 1, &errors);
    check_file(tls->key, "/api/tls/key", 1, &errors);
    check_file(tls->client_ca, "/api/tls/client_ca", 1, &errors);
  }
  if (bootstrap.mirroring && bootstrap.mirroring->secret_file) {
    check_file(*bootstrap.mirroring->secret_file, "/mirroring/secret_file", kSecretBytesMin,
               &errors);
  }
  if (bootstrap.document) check_file(*bootstrap.document, "/document", 1, &errors);
  if (!errors.empty()) return errors;
  return base::Done{};
}

PartialBootstrap read_what_is_right(const path& file) {
  const auto failed = [](std::string message) {
    return PartialBootstrap{{}, {{"", std::move(message)}}, {}};
  };
  std::error_code error;
  const path absolute = std::filesystem::absolute(file, error);
  const auto bytes = error ? 0 : std::filesystem::file_size(absolute, error);
  if (error) return failed(fmt::format("cannot be read: {}", error.message()));
  if (bytes > base::kRequestBodyBytesMax) return failed("is too large");
  std::ifstream stream(absolute, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (!stream.is_open() || stream.bad()) return failed("cannot be read");
  return parse_what_is_right(text, absolute.parent_path());
}

base::Result<ParsedBootstrap> read_bootstrap(const path& file) {
  PartialBootstrap read = read_what_is_right(file);
  if (!read.errors.empty()) return std::move(read.errors);
  return ParsedBootstrap{std::move(read.bootstrap), std::move(read.warnings)};
}

}  // namespace limpet::config
