#include "dataplane/port/runtime_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <utility>

namespace limpet::port {
namespace {

using std::filesystem::path;

constexpr const char* kVariable = "RUNTIME_DIRECTORY";
constexpr const char* kLockFile = "limpet-se.pid";
// Each is another process that ended between two of our steps.
constexpr int kAttemptsMax = 100;

base::Error failed(const path& what, int number) {
  return {"", fmt::format("{} cannot be made ({}); RUNTIME_DIRECTORY names another folder for "
                          "DPDK's files",
                          what.native(), std::generic_category().message(number))};
}

// The process id that the holder wrote; empty when it has not yet.
std::string holder(int fd) {
  std::array<char, 16> text{};
  const ssize_t bytes = pread(fd, text.data(), text.size(), 0);
  std::string pid(text.data(), bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
  while (!pid.empty() && (pid.back() < '0' || pid.back() > '9')) pid.pop_back();
  return pid;
}

// A file that its holder removed may have been opened before, and is nobody's then.
bool is_still_there(int fd, const path& file) {
  struct stat opened {};
  struct stat present {};
  return fstat(fd, &opened) == 0 && stat(file.c_str(), &present) == 0 &&
         opened.st_ino == present.st_ino && opened.st_dev == present.st_dev;
}

}  // namespace

path RuntimeFolder::of(const std::string& file_prefix) {
  const char* set = std::getenv(kVariable);
  if (set == nullptr && getuid() == 0) set = "/var/run";
  if (set == nullptr) set = std::getenv("XDG_RUNTIME_DIR");
  const std::string_view base = set == nullptr ? "/tmp" : set;
  return path(base.substr(0, base.find(':'))) / "dpdk" / file_prefix;
}

base::Result<RuntimeFolder> RuntimeFolder::take(const std::string& engine_name,
                                                const std::string& file_prefix) {
  const path folder = of(file_prefix);
  // A service of several RuntimeDirectory= has them as a list, which DPDK would take for one path.
  const char* set = std::getenv(kVariable);
  if (set != nullptr && std::string_view(set).find(':') != std::string_view::npos)
    setenv(kVariable, folder.parent_path().parent_path().c_str(), 1);
  const path file = folder / kLockFile;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    for (const path& step : {folder.parent_path(), folder}) {
      if (mkdir(step.c_str(), 0700) != 0 && errno != EEXIST) return failed(step, errno);
    }
    const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == ENOENT) continue;
    if (fd < 0) return failed(file, errno);
    RuntimeFolder taken(folder, fd);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const std::string pid = holder(fd);
      close(std::exchange(taken.fd_, -1));
      return base::Error{
          "/name", fmt::format("an engine named \"{}\" runs on this host{}: each needs a name of "
                               "its own",
                               engine_name, pid.empty() ? "" : " as process " + pid)};
    }
    if (!is_still_there(fd, file)) {
      close(std::exchange(taken.fd_, -1));
      continue;
    }
    const std::string pid = fmt::format("{}\n", getpid());
    if (ftruncate(fd, 0) != 0 ||
        pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
      return failed(file, errno);
    }
    return taken;
  }
  return failed(file, EBUSY);
}

RuntimeFolder::RuntimeFolder(RuntimeFolder&& other) noexcept
    : folder_(std::move(other.folder_)), fd_(std::exchange(other.fd_, -1)) {}

RuntimeFolder::~RuntimeFolder() {
  if (fd_ < 0) return;
  unlink((folder_ / kLockFile).c_str());
  rmdir(folder_.c_str());
  close(fd_);
}

}  // namespace limpet::port
