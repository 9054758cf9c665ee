#include "control/config/bootstrap_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/base/limits.h"
#include "control/config/bootstrap_network.h"
#include "control/config/fields.h"

namespace limpet::config {
namespace {

using std::filesystem::path;

constexpr int64_t kCoreMax = 1'023;
constexpr std::size_t kUnixPathBytesMax = 107;  // sockaddr_un, with its NUL
constexpr const char* kTokenRule = "may have letters, digits, '.', '_' and '-' only, at most 63";
constexpr Range kLimit{1, int64_t{1} << 28};

path resolved(const path& folder, std::string_view text) {
  const path given(text);
  return (given.is_absolute() ? given : folder / given).lexically_normal();
}

std::optional<path> read_path(const Fields& fields, std::string_view key, const path& folder) {
  const auto text = fields.name(key);
  return text ? std::make_optional(resolved(folder, *text)) : std::nullopt;
}

// An address with a port; nothing when absent or wrong.
std::optional<net::Endpoint> read_endpoint(const Fields& fields, std::string_view key) {
  const auto text = fields.text(key);
  if (!text) return std::nullopt;
  const auto endpoint =
      text->find('\0') == std::string_view::npos ? net::Endpoint::parse(*text) : std::nullopt;
  if (!endpoint || endpoint->port == 0) {
    fields.error(key, fmt::format("{} is no ADDRESS:PORT", in_quotes(*text)));
    return std::nullopt;
  }
  return endpoint;
}

void read_cores(const Fields& fields, Bootstrap* out, std::vector<base::Error>* warnings) {
  const auto control = fields.integer("control_core", {0, kCoreMax});
  out->control_core = static_cast<uint32_t>(control.value_or(0));
  fields.require("worker_cores");
  const auto cores = fields.array("worker_cores", {1, base::kWorkersMax});
  const Path list = fields.at("worker_cores");
  std::size_t index = 0;
  for (const Json& item : cores) {
    const Path at(list, index++);
    const auto core =
        read_integer(item, at, {0, kCoreMax}, Strictness::kStrict, &fields.problems());
    if (!core) continue;
    const auto number = static_cast<uint32_t>(*core);
    auto& all = out->worker_cores;
    if (std::find(all.begin(), all.end(), number) != all.end()) {
      fields.problems().error(at, fmt::format("core {} is in the list already", number));
      continue;
    }
    all.push_back(number);
    if (number == out->control_core) {
      warnings->push_back(
          {at.pointer(), fmt::format("core {} is the control core too: they share it", number)});
    }
  }
}

void read_memory(const Fields& fields, MemoryOptions* out) {
  out->hugepages = fields.boolean("hugepages").value_or(true);
  out->size_mb = static_cast<uint32_t>(fields.integer("size_mb", {64, 1'048'576}).value_or(1'024));
}

void read_limits(const Fields& fields, LimitOptions* out) {
  const auto read = [&](std::string_view key) -> std::optional<uint32_t> {
    const auto value = fields.integer(key, kLimit);
    return value ? std::make_optional(static_cast<uint32_t>(*value)) : std::nullopt;
  };
  out->persistence_entries = read("persistence_entries");
  out->flows_per_worker = read("flows_per_worker");
  out->packet_buffers = read("packet_buffers");
}

std::optional<TlsFiles> read_tls(const Fields& fields, const path& folder) {
  if (!fields) return std::nullopt;
  for (const std::string_view key : {"certificate", "key", "client_ca"}) fields.require(key);
  TlsFiles out;
  out.certificate = read_path(fields, "certificate", folder).value_or(path());
  out.key = read_path(fields, "key", folder).value_or(path());
  out.client_ca = read_path(fields, "client_ca", folder).value_or(path());
  return out;
}

void read_unix_listen(const Fields& fields, std::string_view name, const path& folder,
                      ApiOptions* out) {
  const path socket = resolved(folder, name);
  if (name.empty() || socket.native().size() > kUnixPathBytesMax) {
    fields.error("listen",
                 fmt::format("unix:PATH needs a path of 1 to {} bytes", kUnixPathBytesMax));
  }
  if (out->tls) fields.error("tls", "a unix socket has no TLS");
  out->listen = UnixSocketPath{socket};
}

void read_api(const Fields& fields, const path& folder, ApiOptions* out) {
  out->tls = read_tls(fields.object("tls"), folder);
  fields.require("listen");
  const auto text = fields.name("listen");
  if (!text) return;
  constexpr std::string_view kUnix = "unix:";
  if (text->substr(0, kUnix.size()) == kUnix) {
    read_unix_listen(fields, text->substr(kUnix.size()), folder, out);
    return;
  }
  const auto endpoint = read_endpoint(fields, "listen");
  if (!endpoint) return;
  out->listen = *endpoint;
  if (!endpoint->address.is_loopback() && !fields.has("tls")) {
    fields.error("tls", fmt::format("is required: {} is not loopback", in_quotes(*text)));
  }
}

void read_peers(const Fields& fields, std::string_view own_name, MirroringOptions* out) {
  const bool plaintext = !fields.has("secret_file");
  const Path list = fields.at("peers");
  std::set<std::string, std::less<>> names;
  std::set<net::Endpoint> addresses;
  std::size_t index = 0;
  for (const Json& item : fields.array("peers", {0, base::kPeersMax})) {
    const Fields peer(item, Path(list, index++), &fields.problems(), Strictness::kStrict);
    peer.require("name");
    peer.require("address");
    const auto name = peer.name("name");
    const auto address = read_endpoint(peer, "address");
    if (name && !is_token(*name)) peer.error("name", kTokenRule);
    if (name && *name == own_name) peer.error("name", "is this engine's own name");
    if (name && !names.emplace(*name).second) peer.error("name", "is another peer's name");
    if (address && !addresses.insert(*address).second) {
      peer.error("address", "is another peer's address");
    }
    if (address && plaintext && !address->address.is_loopback())
      peer.error("address", "must be loopback when there is no secret_file");
    if (name && address) out->peers.push_back({std::string(*name), *address});
  }
}

std::optional<MirroringOptions> read_mirroring(const Fields& fields, std::string_view own_name,
                                               const path& folder) {
  if (!fields) return std::nullopt;
  MirroringOptions out;
  fields.require("listen");
  const auto listen = read_endpoint(fields, "listen");
  if (listen) out.listen = *listen;
  out.secret_file = read_path(fields, "secret_file", folder);
  if (listen && !listen->address.is_loopback() && !fields.has("secret_file")) {
    fields.error("secret_file", "is required: listen is not loopback");
  }
  read_peers(fields, own_name, &out);
  const auto heartbeat = fields.integer("heartbeat_ms", {10, 60'000});
  out.heartbeat = std::chrono::milliseconds(heartbeat.value_or(100));
  const auto misses = fields.integer("heartbeat_misses", {1, 100});
  out.heartbeat_misses = static_cast<uint32_t>(misses.value_or(5));
  return out;
}

void read_eal(const Fields& fields, Bootstrap* out) {
  const Path list = fields.at("eal");
  std::size_t index = 0;
  for (const Json& item : fields.array("eal")) {
    if (const auto text = read_name(item, Path(list, index++), &fields.problems())) {
      out->eal.emplace_back(*text);
    }
  }
}

// The engine's name is part of file names (limpet-<name>).
void read_engine_name(const Fields& fields, Bootstrap* out) {
  fields.require("name");
  const auto name = fields.name("name");
  if (!name) return;
  if (!is_token(*name)) fields.error("name", kTokenRule);
  out->name = *name;
}

}  // namespace

PartialBootstrap parse_what_is_right(std::string_view json, const path& folder) {
  Problems problems;
  const auto tree = JsonTree::parse(json, &problems);
  if (!tree) return {{}, problems.take_errors(), {}};
  PartialBootstrap out;
  {
    Bootstrap& b = out.bootstrap;
    const Fields fields(tree->root(), Path(), &problems, Strictness::kStrict);
    read_engine_name(fields, &b);
    read_cores(fields, &b, &out.warnings);
    const auto sleep = fields.integer("idle_sleep_us", {0, 1'000'000});
    b.idle_sleep = std::chrono::microseconds(sleep.value_or(0));
    read_memory(fields.object("memory"), &b.memory);
    read_network(fields, folder, &b);
    read_limits(fields.object("limits"), &b.limits);
    fields.require("api");
    read_api(fields.object("api"), folder, &b.api);
    b.mirroring = read_mirroring(fields.object("mirroring"), b.name, folder);
    b.state_directory = read_path(fields, "state_directory", folder);
    b.document = read_path(fields, "document", folder);
    read_eal(fields, &b);
  }
  out.errors = problems.take_errors();
  return out;
}

base::Result<ParsedBootstrap> parse_bootstrap(std::string_view json, const path& folder) {
  PartialBootstrap read = parse_what_is_right(json, folder);
  if (!read.errors.empty()) return std::move(read.errors);
  return ParsedBootstrap{std::move(read.bootstrap), std::move(read.warnings)};
}

}  // namespace limpet::config
