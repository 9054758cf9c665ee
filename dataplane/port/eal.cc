#include "dataplane/port/eal.h"

#include <fmt/format.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

namespace limpet::port {

std::vector<std::string> eal_arguments(const EalOptions& options) {
  std::string lcores = fmt::format("0@{}", options.control_core);
  for (std::size_t i = 0; i < options.worker_cores.size(); ++i)
    lcores += fmt::format(",{}@{}", i + 1, options.worker_cores[i]);

  std::vector<std::string> arguments = {
      "limpet-se", "--file-prefix=limpet-" + options.name, "--lcores", lcores, "--main-lcore=0",
      "-m",        std::to_string(options.memory_mb)};
  if (options.hugepages) {
    // No file is left in hugetlbfs and none is needed; the runtime folder keeps only the telemetry
    // socket.
    arguments.emplace_back("--in-memory");
  } else {
    // Implies legacy memory, which excludes --in-memory: -m is all there will ever be. Without
    // --no-shconf, 1.7 MB of files stay behind in the runtime folder.
    arguments.emplace_back("--no-huge");
    arguments.emplace_back("--no-shconf");
  }
  if (options.pci_devices.empty()) {
    arguments.emplace_back("--no-pci");
  } else {
    for (const std::string& device : options.pci_devices) {
      arguments.emplace_back("-a");
      arguments.push_back(device);
    }
  }
  const bool own_levels =
      std::any_of(options.extra.begin(), options.extra.end(),
                  [](const std::string& a) { return a.starts_with("--log-level"); });
  if (!own_levels) {
    // Warnings there are about hosts, not about us: missing hugepage sizes, telemetry and the like.
    // The two drivers report errors whenever they succeed: no secondary process, no `multiq` qdisc.
    // All of it goes when `extra` has levels, because of several patterns for a driver DPDK 22.11
    // obeys the first.
    for (const char* level : {"error", "pmd.net.tap:critical", "pmd.net.memif:critical"})
      arguments.push_back(std::string("--log-level=") + level);
  }
  arguments.insert(arguments.end(), options.extra.begin(), options.extra.end());
  return arguments;
}

std::string error_text(int number) {
  number = std::abs(number);
  return fmt::format("{} ({})", rte_strerror(number), number);
}

base::Result<Eal> Eal::start(const EalOptions& options) {
  Eal eal;
  eal.texts_ = eal_arguments(options);
  for (std::string& text : eal.texts_) eal.arguments_.push_back(text.data());
  eal.arguments_.push_back(nullptr);
  rte_errno = 0;
  const int taken = rte_eal_init(static_cast<int>(eal.texts_.size()), eal.arguments_.data());
  if (taken < 0) {
    rmdir(rte_eal_get_runtime_dir());
    std::string message = "DPDK did not start: " + error_text(rte_errno);
    if ((rte_errno == ENOMEM || rte_errno == EACCES) && options.hugepages) {
      message += fmt::format(
          "; are there hugepages for {} MB (/proc/meminfo)? \"memory\": {{\"hugepages\": false}} "
          "does without",
          options.memory_mb);
    }
    return base::Error{"", std::move(message)};
  }
  eal.running_ = true;
  for (std::size_t i = static_cast<std::size_t>(taken) + 1; i < eal.texts_.size(); ++i)
    eal.leftovers_.emplace_back(eal.arguments_[i]);
  return eal;
}

Eal::Eal(Eal&& other) noexcept
    : running_(std::exchange(other.running_, false)),
      texts_(std::move(other.texts_)),
      arguments_(std::move(other.arguments_)),
      leftovers_(std::move(other.leftovers_)) {}

Eal::~Eal() {
  if (!running_) return;
  const std::string folder = rte_eal_get_runtime_dir();
  rte_eal_cleanup();
  // DPDK leaves the folder behind, and removes telemetry's socket only when the process exits.
  unlink((folder + "/dpdk_telemetry.v2").c_str());
  rmdir(folder.c_str());
}

}  // namespace limpet::port
