// check: all that can be said about a bootstrap and the document it names without root and without
// DPDK. `--check` prints it; a start looks at the same before it touches a device, so that it fails
// with the field that is to blame.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "control/config/bootstrap.h"
#include "control/engine/configurator.h"

namespace limpet::engine {

struct ServiceCount {
  uint32_t served = 0;  // here, or by another engine of the cluster
  uint32_t all = 0;
};

struct Findings {
  config::Bootstrap bootstrap;          // as far as it is right
  std::optional<std::string> document;  // its text

  base::Errors wrong;    // with the file and the files it names
  base::Errors missing;  // on this host: cores, memory, devices, addresses
  std::vector<base::Error> warnings;
  base::Errors document_wrong;
  std::vector<base::Error> document_warnings;
  std::optional<ServiceCount> services;  // with a document that could be compiled

  bool is_right() const { return wrong.empty() && document_wrong.empty(); }
  bool is_good() const { return is_right() && missing.empty(); }
};

// A replay runs alone in one thread: `replay` leaves out cores of workers, peers and addresses to
// listen at.
Findings examine(const std::filesystem::path& file, bool replay);

}  // namespace limpet::engine
