// RuntimeFolder: DPDK's folder of one file prefix, held by one process at a time. Two processes
// with one prefix would take each other's sockets and files for their own, and DPDK does not look
// when it shares no memory; so the engine holds a locked file in it that says who it is.
//
// The lock goes with the process however it ends. A clean end leaves neither file nor folder.
#pragma once

#include <filesystem>
#include <string>

#include "common/base/result.h"

namespace limpet::port {

class RuntimeFolder {
 public:
  // Where DPDK 22.11 has it: $RUNTIME_DIRECTORY (of a list the first), /var/run as root,
  // $XDG_RUNTIME_DIR or /tmp; then "dpdk" and the prefix.
  static std::filesystem::path of(const std::string& file_prefix);

  // Makes the folder and takes it for this process. When another has it, the error at /name says
  // its process id. Of a list in $RUNTIME_DIRECTORY only the first is left there, for DPDK.
  static base::Result<RuntimeFolder> take(const std::string& engine_name,
                                          const std::string& file_prefix);

  RuntimeFolder(RuntimeFolder&& other) noexcept;
  RuntimeFolder& operator=(RuntimeFolder&&) = delete;
  // All that DPDK put there must be gone.
  ~RuntimeFolder();

 private:
  RuntimeFolder(std::filesystem::path folder, int fd) : folder_(std::move(folder)), fd_(fd) {}

  std::filesystem::path folder_;
  int fd_ = -1;  // of the locked file
};

}  // namespace limpet::port
