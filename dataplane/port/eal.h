// Eal: DPDK's environment for the life of the process: memory, logical cores, bus scan.
//
// Thread: the control thread, which becomes the main lcore. DPDK allows one Eal in a process, once.
//
// Logical cores: 0 is the control thread, 1 + w is worker w. They are mapped to CPUs one by one
// ("0@0,1@0,2@1"), so the control thread and a worker may share a CPU.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "dataplane/port/runtime_folder.h"

namespace limpet::port {

struct EalOptions {
  std::string name;  // of the engine; the file prefix is "limpet-<name>"
  // A replay has a prefix of its own: it may run beside the engine of that name, and beside others
  // of its kind. Nobody asks it for telemetry.
  bool replay = false;
  uint32_t control_core = 0;
  std::vector<uint32_t> worker_cores;  // empty: no thread but the caller's (replay)
  bool hugepages = true;
  uint32_t memory_mb = 64;               // what DPDK reserves at start
  std::vector<std::string> pci_devices;  // "0000:3b:00.1,key=value"; only these are probed
  std::vector<std::string> extra;        // the bootstrap's `eal`, last, so that they win
};

std::string file_prefix(const EalOptions& options);

// The arguments for rte_eal_init, with the program's name.
std::vector<std::string> eal_arguments(const EalOptions& options);

class Eal {
 public:
  // Errors say what DPDK said, at the bootstrap's field that is to blame where that is known. One
  // of two engines of one name is refused.
  static base::Result<Eal> start(const EalOptions& options);

  Eal(Eal&& other) noexcept;
  Eal& operator=(Eal&&) = delete;
  // Ends the environment. All devices, pools and memory must be gone.
  ~Eal();

  // Arguments of `extra` that DPDK did not take: those behind "--".
  const std::vector<std::string>& leftovers() const { return leftovers_; }

 private:
  explicit Eal(RuntimeFolder folder) : folder_(std::move(folder)) {}

  RuntimeFolder folder_;  // given up last
  bool running_ = false;
  // DPDK keeps pointers into its arguments.
  std::vector<std::string> texts_;
  std::vector<char*> arguments_;
  std::vector<std::string> leftovers_;
};

// "Operation not permitted (1)": an error number of DPDK or the system as people read it; either
// sign.
std::string error_text(int number);

}  // namespace limpet::port
