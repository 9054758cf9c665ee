#include "control/engine/state_directory.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

namespace limpet::engine {
namespace {

constexpr std::string_view kMagic = "limpet-state 1 ";

std::string sha256(std::span<const std::string_view> pieces) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned bytes = 0;
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  for (const std::string_view piece : pieces)
    EVP_DigestUpdate(context.get(), piece.data(), piece.size());
  EVP_DigestFinal_ex(context.get(), digest.data(), &bytes);
  std::string hex;
  for (unsigned i = 0; i < bytes; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

base::Error failed(const std::filesystem::path& path, const char* what) {
  return {"/state_directory", fmt::format("{}: {}: {}", path.string(), what, std::strerror(errno))};
}

// Owns a file descriptor.
class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  bool ok() const { return fd_ >= 0; }
  bool write(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  bool sync() const { return ::fsync(fd_) == 0; }

 private:
  int fd_;
};

}  // namespace

base::Result<StateDirectory> StateDirectory::open(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    return base::Error{"/state_directory", fmt::format("cannot be made: {}", error.message())};
  return StateDirectory(path);
}

base::Result<std::optional<std::string>> StateDirectory::load(std::string_view name) const {
  const auto path = path_ / name;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::optional<std::string>{};
  std::ifstream in(path, std::ios::binary);
  if (!in) return failed(path, "cannot be read");
  std::string line;
  if (!std::getline(in, line) || in.eof()) line.clear();
  std::string content;
  std::array<char, 65536> piece{};
  while (in.read(piece.data(), piece.size()) || in.gcount() > 0)
    content.append(piece.data(), static_cast<std::size_t>(in.gcount()));
  const std::string_view whole = content;
  if (!line.starts_with(kMagic) || line.substr(kMagic.size()) != sha256(std::span(&whole, 1))) {
    return base::Error{"/state_directory",
                       fmt::format("{}: torn, or not written by this engine", path.string())};
  }
  return std::optional<std::string>{std::move(content)};
}

base::Status StateDirectory::set_aside(std::string_view name) const {
  const auto path = path_ / name;
  if (::rename(path.c_str(), (path.string() + ".refused").c_str()) != 0)
    return failed(path, "cannot be renamed");
  return base::Done{};
}

base::Status StateDirectory::save(std::string_view name,
                                  std::span<const std::string_view> pieces) const {
  const auto path = path_ / name;
  const auto fresh = path_ / (std::string(name) + ".new");
  {
    const Descriptor file(fresh, O_WRONLY | O_CREAT | O_TRUNC);
    if (!file.ok()) return failed(fresh, "cannot be opened");
    bool written = file.write(fmt::format("{}{}\n", kMagic, sha256(pieces)));
    for (const std::string_view piece : pieces) written = written && file.write(piece);
    if (!written) return failed(fresh, "cannot be written");
    if (!file.sync()) return failed(fresh, "cannot be synced");
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) return failed(path, "cannot be replaced");
  const Descriptor folder(path_, O_RDONLY | O_DIRECTORY);
  if (!folder.ok() || !folder.sync()) return failed(path_, "cannot be synced");
  return base::Done{};
}

}  // namespace limpet::engine
