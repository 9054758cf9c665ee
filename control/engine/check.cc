#include "control/engine/check.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "control/api/server.h"
#include "control/config/bootstrap_codec.h"
#include "control/config/codec.h"
#include "control/engine/sizing.h"
#include "dataplane/port/device_args.h"
#include "dataplane/port/eal_options.h"
#include "dataplane/port/host.h"

namespace limpet::engine {
namespace {

using std::filesystem::path;

// Whether `pointer` is `place` or lies in it.
bool is_within(std::string_view pointer, std::string_view place) {
  return pointer.starts_with(place) &&
         (pointer.size() == place.size() || pointer[place.size()] == '/');
}

std::optional<std::string> read(const path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) return std::nullopt;
  return text.str();
}

// An address of this host's: a socket can be bound to it. Which port is free is known at the start.
bool is_local(const net::Address& address) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  const sockaddr* at = nullptr;
  socklen_t bytes = 0;
  if (address.is_v4()) {
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, address.bytes() + 12, sizeof v4.sin_addr);
    at = reinterpret_cast<const sockaddr*>(&v4);
    bytes = sizeof v4;
  } else {
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, address.bytes(), sizeof v6.sin6_addr);
    at = reinterpret_cast<const sockaddr*>(&v6);
    bytes = sizeof v6;
  }
  const int fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;  // nothing is known
  const bool absent = bind(fd, at, bytes) != 0 && errno == EADDRNOTAVAIL;
  close(fd);
  return !absent;
}

class Examiner {
 public:
  Examiner(const path& file, bool replay) : replay_(replay) {
    config::PartialBootstrap read = config::read_what_is_right(file);
    out_.bootstrap = std::move(read.bootstrap);
    out_.wrong = std::move(read.errors);
    out_.warnings = std::move(read.warnings);
    written_ = out_.wrong;
  }

  Findings examine() {
    // Of a file that is no JSON, or not there, nothing else can be said.
    if (!is_right("")) return std::move(out_);
    check_files();
    check_eal();
    check_cores();
    check_memory();
    check_devices();
    check_addresses();
    check_document();
    return std::move(out_);
  }

 private:
  const config::Bootstrap& bootstrap() const { return out_.bootstrap; }

  // Whether the text of this field, and all in it, could be read. "": the whole could.
  bool is_right(std::string_view place) const {
    return std::none_of(written_.begin(), written_.end(), [&](const base::Error& e) {
      return place.empty() ? e.path.empty() : is_within(e.path, place);
    });
  }

  void missing(std::string pointer, std::string message) {
    out_.missing.push_back({std::move(pointer), std::move(message)});
  }

  void check_files() {
    add(config::check_files(bootstrap()));
    // What they contain, if they are there.
    const auto& tls = bootstrap().api.tls;
    const bool found = std::none_of(out_.wrong.begin(), out_.wrong.end(), [](const base::Error& e) {
      return is_within(e.path, "/api/tls");
    });
    if (tls && found) add(api::check_tls(*tls));
  }

  void add(const base::Status& status) {
    if (status) return;
    for (const base::Error& error : status.errors()) {
      if (is_right(error.path)) out_.wrong.push_back(error);
    }
  }

  void check_eal() {
    if (!is_right("/eal")) return;
    auto errors = port::check_eal_options(bootstrap().eal, bootstrap().memory.hugepages);
    std::move(errors.begin(), errors.end(), std::back_inserter(out_.wrong));
  }

  void check_cores() {
    if (is_right("/control_core")) {
      if (auto why = port::why_no_core(bootstrap().control_core)) missing("/control_core", *why);
    }
    if (replay_ || !is_right("/worker_cores")) return;
    for (std::size_t w = 0; w < bootstrap().worker_cores.size(); ++w) {
      if (auto why = port::why_no_core(bootstrap().worker_cores[w]))
        missing(fmt::format("/worker_cores/{}", w), *why);
    }
  }

  void check_memory() {
    if (is_right("/memory")) check_host_memory();
    for (const char* place : {"/memory", "/limits", "/worker_cores", "/ports", "/mirroring"}) {
      if (!is_right(place)) return;
    }
    if (const auto status = engine::check_memory(bootstrap()); !status) {
      for (const base::Error& error : status.errors()) missing(error.path, error.message);
    }
  }

  void check_host_memory() {
    const auto& memory = bootstrap().memory;
    const uint64_t huge = port::hugepages_mb();
    if (memory.hugepages && huge < memory.size_mb) {
      missing("/memory/hugepages",
              fmt::format("there are {} MB of hugepages here, size_mb is {}: reserve more "
                          "(vm.nr_hugepages), or set false to do without",
                          huge, memory.size_mb));
    } else if (!memory.hugepages && port::host_memory_mb() < memory.size_mb) {
      out_.warnings.push_back({"/memory/size_mb", fmt::format("this host has {} MB of memory",
                                                              port::host_memory_mb())});
    }
  }

  // `-d` in `eal` loads drivers that are not DPDK's.
  bool has_own_drivers() const {
    return std::any_of(bootstrap().eal.begin(), bootstrap().eal.end(),
                       [](const std::string& option) { return option.starts_with("-d"); });
  }

  void check_devices() {
    for (std::size_t i = 0; i < bootstrap().ports.size(); ++i) {
      const std::string pointer = fmt::format("/ports/{}/device", i);
      if (!is_right(pointer) || !is_right(fmt::format("/ports/{}", i))) continue;
      const auto device = port::parse_device(bootstrap().ports[i].device);
      if (!device) {
        out_.wrong.push_back({pointer, device.errors().front().message});
      } else if (auto why = port::why_no_device(device.value(), has_own_drivers())) {
        missing(pointer, *why);
      } else if (std::string small = port::what_is_small(device.value()); !small.empty()) {
        out_.warnings.push_back({pointer, std::move(small)});
      }
    }
  }

  void check_listen(const char* pointer, const net::Endpoint& endpoint) {
    if (is_right(pointer) && !is_local(endpoint.address))
      missing(pointer, fmt::format("{} is no address of this host", endpoint.address.to_string()));
  }

  void check_addresses() {
    if (replay_) return;
    const auto& listen = bootstrap().api.listen;
    if (const auto* socket = std::get_if<config::UnixSocketPath>(&listen)) {
      std::error_code error;
      const path folder = socket->path.parent_path();
      if (is_right("/api/listen") && !std::filesystem::is_directory(folder, error))
        missing("/api/listen", fmt::format("there is no folder {}", folder.native()));
      const auto there = std::filesystem::status(socket->path, error);
      if (std::filesystem::exists(there) && !std::filesystem::is_socket(there))
        missing("/api/listen", fmt::format("{} exists and is no socket", socket->path.native()));
    } else if (is_right("/api")) {
      check_listen("/api/listen", std::get<net::Endpoint>(listen));
    }
    if (bootstrap().mirroring && is_right("/mirroring"))
      check_listen("/mirroring/listen", bootstrap().mirroring->listen);
    if (bootstrap().state_directory) check_state_directory(*bootstrap().state_directory);
  }

  // It is made when it is not there; what it is to be made in must be a folder.
  void check_state_directory(path folder) {
    std::error_code error;
    while (!std::filesystem::exists(folder, error) && folder.has_relative_path())
      folder = folder.parent_path();
    if (!std::filesystem::is_directory(folder, error))
      missing("/state_directory", fmt::format("{} is no folder", folder.native()));
  }

  // Everything a document can be wrong in: parsed, and compiled for this engine's ports and peers.
  void check_document() {
    if (!bootstrap().document || !is_right("/document")) return;
    if (std::any_of(out_.wrong.begin(), out_.wrong.end(),
                    [](const base::Error& e) { return e.path == "/document"; })) {
      return;
    }
    out_.document = read(*bootstrap().document);
    if (!out_.document) {
      out_.document_wrong = {{"", "cannot be read"}};
      return;
    }
    for (const char* place : {"/name", "/worker_cores", "/memory", "/limits", "/ports", "/routes",
                              "/snat", "/mirroring"}) {
      if (!is_right(place)) return check_document_alone();
    }
    Surroundings around =
        surroundings(bootstrap(), std::vector<net::Mac>(bootstrap().ports.size()));
    if (!replay_) name_peers(bootstrap(), &around);
    const auto outcome =
        prepare(Configuration::empty(around), PutDocument{*out_.document}, around, {});
    if (const auto* refused = std::get_if<Refused>(&outcome)) {
      out_.document_wrong = refused->errors;
      return;
    }
    const auto& prepared = std::get<Prepared>(outcome);
    for (const config::Warning& w : prepared.warnings)
      out_.document_warnings.push_back({w.path, w.message});
    out_.services = {prepared.served, prepared.virtual_services};
  }

  // Without the ports, whose own errors come first.
  void check_document_alone() {
    const auto parsed = config::parse_document(*out_.document);
    if (!parsed) {
      out_.document_wrong = parsed.errors();
      return;
    }
    for (const config::Warning& w : parsed.value().warnings)
      out_.document_warnings.push_back({w.path, w.message});
  }

  const bool replay_;
  base::Errors written_;  // what is wrong with the text itself
  Findings out_;
};

}  // namespace

Findings examine(const path& file, bool replay) {
  return Examiner(file, replay).examine();
}

}  // namespace limpet::engine
