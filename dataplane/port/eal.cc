#include "dataplane/port/eal.h"

#include <fmt/format.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

#include "dataplane/port/output_capture.h"

namespace limpet::port {

namespace {

// What of an option a log that quotes it speaks of: its name, or a file or device; a number or a
// level is a word like others.
bool is_telling(std::string_view part) {
  return part.starts_with("--") || part.find_first_of("/_") != std::string_view::npos;
}

// The element of `extra` that DPDK's log speaks of: the longest that it quotes.
std::optional<std::size_t> blamed(const std::vector<std::string>& extra, std::string_view log) {
  std::optional<std::size_t> found;
  std::size_t longest = 0;
  for (std::size_t i = 0; i < extra.size(); ++i) {
    const std::string_view text = extra[i];
    const auto equals = std::min(text.find('='), text.size());
    for (const std::string_view part :
         {text.substr(0, equals), text.substr(std::min(equals + 1, text.size()))}) {
      if (part.size() <= longest || !is_telling(part)) continue;
      if (log.find(part) == std::string_view::npos) continue;
      longest = part.size();
      found = i;
    }
  }
  return found;
}

base::Error not_started(const EalOptions& options, int number, std::string_view log) {
  base::Error error{"", "DPDK did not start: " + error_text(number)};
  if (const std::string said = log_summary(log); !said.empty()) error.message += ": " + said;
  if (const auto index = blamed(options.extra, log)) {
    error.path = fmt::format("/eal/{}", *index);
  } else if ((number == ENOMEM || number == EACCES) && options.hugepages) {
    error.path = "/memory/hugepages";
    error.message += fmt::format(
        "; are {} MB of hugepages free (/proc/meminfo)? false does without", options.memory_mb);
  } else if (number == ENOMEM) {
    error.path = "/memory/size_mb";
  }
  return error;
}

}  // namespace

std::string file_prefix(const EalOptions& options) {
  return options.replay ? fmt::format("limpet-{}-replay-{}", options.name, getpid())
                        : "limpet-" + options.name;
}

std::vector<std::string> eal_arguments(const EalOptions& options) {
  std::string lcores = fmt::format("0@{}", options.control_core);
  for (std::size_t i = 0; i < options.worker_cores.size(); ++i)
    lcores += fmt::format(",{}@{}", i + 1, options.worker_cores[i]);

  std::vector<std::string> arguments = {
      "limpet-se", "--file-prefix=" + file_prefix(options), "--lcores", lcores, "--main-lcore=0",
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
  if (options.replay) arguments.emplace_back("--no-telemetry");
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
  auto folder = RuntimeFolder::take(options.name, file_prefix(options));
  if (!folder) return folder.errors();
  Eal eal(std::move(folder.value()));
  eal.texts_ = eal_arguments(options);
  for (std::string& text : eal.texts_) eal.arguments_.push_back(text.data());
  eal.arguments_.push_back(nullptr);
  OutputCapture output;
  rte_errno = 0;
  const int taken = rte_eal_init(static_cast<int>(eal.texts_.size()), eal.arguments_.data());
  const int number = rte_errno;
  const std::string log = output.finish();
  if (taken < 0) return not_started(options, number, log);
  pass_on(log);
  eal.running_ = true;
  for (std::size_t i = static_cast<std::size_t>(taken) + 1; i < eal.texts_.size(); ++i)
    eal.leftovers_.emplace_back(eal.arguments_[i]);
  return eal;
}

Eal::Eal(Eal&& other) noexcept
    : folder_(std::move(other.folder_)),
      running_(std::exchange(other.running_, false)),
      texts_(std::move(other.texts_)),
      arguments_(std::move(other.arguments_)),
      leftovers_(std::move(other.leftovers_)) {}

Eal::~Eal() {
  if (!running_) return;
  const std::string folder = rte_eal_get_runtime_dir();
  rte_eal_cleanup();
  // DPDK removes telemetry's socket only when the process exits.
  unlink((folder + "/dpdk_telemetry.v2").c_str());
}

}  // namespace limpet::port
