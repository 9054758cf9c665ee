#include "control/engine/state_directory.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

namespace limpet::engine {
namespace {

constexpr std::string_view kMagic = "limpet-state 1 ";

std::string sha256(std::string_view content) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned bytes = 0;
  EVP_Digest(content.data(), content.size(), digest.data(), &bytes, EVP_sha256(), nullptr);
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
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0640)) {}
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
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto line = text.find('\n');
  const std::string content = line == std::string::npos ? "" : text.substr(line + 1);
  if (!text.starts_with(kMagic) || line == std::string::npos ||
      text.substr(kMagic.size(), line - kMagic.size()) != sha256(content)) {
    return base::Error{"/state_directory",
                       fmt::format("{}: torn, or not written by this engine", path.string())};
  }
  return std::optional<std::string>{content};
}

base::Status StateDirectory::save(std::string_view name, std::string_view content) const {
  const auto path = path_ / name;
  const auto fresh = path_ / (std::string(name) + ".new");
  {
    const Descriptor file(fresh, O_WRONLY | O_CREAT | O_TRUNC);
    if (!file.ok()) return failed(fresh, "cannot be opened");
    if (!file.write(fmt::format("{}{}\n", kMagic, sha256(content))) || !file.write(content))
      return failed(fresh, "cannot be written");
    if (!file.sync()) return failed(fresh, "cannot be synced");
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) return failed(path, "cannot be replaced");
  const Descriptor folder(path_, O_RDONLY | O_DIRECTORY);
  if (!folder.ok() || !folder.sync()) return failed(path_, "cannot be synced");
  return base::Done{};
}

}  // namespace limpet::engine
