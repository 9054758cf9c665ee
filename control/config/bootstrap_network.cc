#include "control/config/bootstrap_network.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "common/base/limits.h"

namespace limpet::config {
namespace {

using std::filesystem::path;

constexpr int64_t kAddressesPerPortMax = 64;
constexpr uint16_t kIpv6MtuMin = 1'280;  // RFC 8200 5

// The address that names the subnet itself: IPv4's network address, IPv6's subnet-router anycast
// address (RFC 4291 2.6.1). Not for /31, /32 (RFC 3021), /127 (RFC 6164), /128.
bool is_network_address(const net::Prefix& subnet, const net::Address& address) {
  return subnet.length + 2 <= net::address_bits(subnet.family()) &&
         address == subnet.network().address;
}

bool is_reserved_in(const net::Prefix& subnet, const net::Address& address) {
  return subnet.contains(address) &&
         (is_network_address(subnet, address) || subnet.broadcast() == address);
}

bool overlap(const net::Prefix& a, const net::Prefix& b) {
  return a.contains(b.address) || b.contains(a.address);
}

std::optional<net::Prefix> parse_prefix(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  return net::Prefix::parse(text);
}

// ---- Devices ----------------------------------------------------------------------------------

// "0000:3B:00.1,arg=1" -> "0000:3b:00.1"; "3b:00.1" -> "0000:3b:00.1"; "net_tap0,iface=x" ->
// "net_tap0".
std::string device_name(std::string_view device) {
  std::string name(device.substr(0, device.find(',')));
  const bool is_pci = name.find(':') != std::string::npos;
  if (!is_pci) return name;
  if (std::count(name.begin(), name.end(), ':') == 1) name = "0000:" + name;
  for (char& c : name) {
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  }
  return name;
}

// Makes the file names in a device's arguments absolute. Nothing when one is empty.
std::optional<std::string> resolve_device(std::string_view device, const path& folder) {
  std::string out;
  bool first = true;
  for (;;) {
    const auto comma = device.find(',');
    const std::string_view part = device.substr(0, comma);
    const auto equals = part.find('=');
    const std::string_view key = part.substr(0, equals);
    if (!first) out += ',';
    if (!first && (key == "rx_pcap" || key == "tx_pcap" || key == "socket")) {
      const std::string_view value =
          equals == std::string_view::npos ? std::string_view() : part.substr(equals + 1);
      if (value.empty()) return std::nullopt;
      const path file(value);
      out += key;
      out += '=';
      out += (file.is_absolute() ? file : folder / file).lexically_normal().native();
    } else {
      out += part;
    }
    if (comma == std::string_view::npos) return out;
    device.remove_prefix(comma + 1);
    first = false;
  }
}

// ---- Ports ------------------------------------------------------------------------------------

class PortsReader {
 public:
  PortsReader(const Fields& fields, const path& folder, Bootstrap* out)
      : fields_(fields), folder_(folder), out_(out) {}

  void read() {
    fields_.require("ports");
    const auto ports = fields_.array("ports", {1, base::kPortsMax});
    const Path list = fields_.at("ports");
    std::size_t index = 0;
    for (const Json& item : ports) {
      const Fields port(item, Path(list, index++), &fields_.problems(), Strictness::kStrict);
      // Even a wrong one keeps its place, so that the indices of the others are right.
      out_->ports.push_back(read_port(port));
    }
  }

 private:
  PortOptions read_port(const Fields& fields) {
    PortOptions port;
    if (!fields) return port;
    fields.require("name");
    fields.require("device");
    read_name_of(fields, &port);
    if (const auto vlan = fields.integer("vlan", {1, 4'094})) {
      port.vlan = static_cast<uint16_t>(*vlan);
    }
    read_device(fields, &port);
    port.mtu = static_cast<uint16_t>(fields.integer("mtu", {576, 9'600}).value_or(1'500));
    read_mac(fields, &port);
    read_addresses(fields, &port);
    return port;
  }

  void read_name_of(const Fields& fields, PortOptions* port) {
    const auto name = fields.name("name");
    if (!name) return;
    port->name = *name;
    if (!is_token(*name)) {
      fields.error("name", "may have letters, digits, '.', '_' and '-' only, at most 63");
    } else if (!names_.insert(port->name).second) {
      fields.error("name", fmt::format("there is another port named {}", in_quotes(*name)));
    }
  }

  void read_device(const Fields& fields, PortOptions* port) {
    const auto device = fields.name("device");
    if (!device) return;
    const auto resolved = resolve_device(*device, folder_);
    if (!resolved) {
      fields.error("device", "rx_pcap, tx_pcap and socket need a file name");
      return;
    }
    port->device = *resolved;
    const std::string name = device_name(*resolved);
    if (name.empty()) {
      fields.error("device", "must begin with a PCI address or the name of a device");
      return;
    }
    const auto [same, is_new] = devices_.emplace(name, port->device);
    if (!is_new && same->second != port->device) {
      fields.error("device", fmt::format("{} is named with other arguments by another port",
                                         in_quotes(name)));
    }
    if (!device_vlans_.emplace(name, port->vlan.value_or(0)).second) {
      fields.error("device",
                   fmt::format("{} is another port's, and the vlan is the same", in_quotes(name)));
    }
  }

  static void read_mac(const Fields& fields, PortOptions* port) {
    const auto text = fields.text("mac");
    if (!text) return;
    port->mac = net::Mac::parse(*text);
    if (!port->mac) {
      fields.error("mac", fmt::format("{} is no MAC address", in_quotes(*text)));
    } else if (port->mac->is_multicast() || port->mac->is_zero()) {
      fields.error("mac", fmt::format("{} cannot be a port's address", in_quotes(*text)));
    }
  }

  void read_addresses(const Fields& fields, PortOptions* port) {
    const auto addresses = fields.array("addresses", {0, kAddressesPerPortMax});
    const Path list = fields.at("addresses");
    std::size_t index = 0;
    for (const Json& item : addresses) {
      const Path at(list, index++);
      const auto text = read_text(item, at, &fields.problems());
      if (!text) continue;
      const auto prefix = parse_prefix(*text);
      if (!prefix || text->find('/') == std::string_view::npos) {
        fields.problems().error(at, fmt::format("{} is no ADDRESS/LENGTH", in_quotes(*text)));
        continue;
      }
      if (check_address(*prefix, *port, at)) port->addresses.push_back(*prefix);
    }
  }

  bool check_address(const net::Prefix& prefix, const PortOptions& port, const Path& at) {
    Problems& problems = fields_.problems();
    const std::string text = in_quotes(prefix.to_string());
    if (prefix.length == 0 || !is_host_address(prefix.address) ||
        is_reserved_in(prefix, prefix.address)) {
      problems.error(at, fmt::format("{} cannot be a port's address", text));
      return false;
    }
    if (!prefix.address.is_v4() && port.mtu < kIpv6MtuMin) {
      problems.error(at, fmt::format("IPv6 needs an mtu of at least {}", kIpv6MtuMin));
      return false;
    }
    for (const net::Prefix& other : port.addresses) {
      if (other.address == prefix.address) {
        problems.error(at, fmt::format("{} is in the list already", text));
        return false;
      }
    }
    // Every link has the link-local subnet; those of other ports are not the same.
    if (prefix.address.is_link_local()) return true;
    for (const PortOptions& other : out_->ports) {
      for (const net::Prefix& subnet : other.addresses) {
        if (subnet.address.is_link_local() || !overlap(subnet, prefix)) continue;
        problems.error(at, fmt::format("{} overlaps {} of port {}", text, subnet.to_string(),
                                       in_quotes(other.name)));
        return false;
      }
    }
    return true;
  }

  const Fields& fields_;
  const path& folder_;
  Bootstrap* out_;
  std::set<std::string> names_;
  std::map<std::string, std::string> devices_;  // name -> as written
  std::set<std::pair<std::string, uint16_t>> device_vlans_;
};

// ---- Routes and neighbours --------------------------------------------------------------------

const PortOptions* port_with(const Bootstrap& b, const net::Address& address) {
  for (const PortOptions& port : b.ports) {
    for (const net::Prefix& own : port.addresses) {
      if (own.address == address) return &port;
    }
  }
  return nullptr;
}

bool is_on(const PortOptions& port, const net::Address& address) {
  return std::any_of(port.addresses.begin(), port.addresses.end(),
                     [&](const net::Prefix& subnet) { return subnet.contains(address); });
}

// The port behind which `address` (written in `key`) lies: the one named, else whose subnet has it.
std::optional<uint32_t> find_port(const Fields& fields, std::string_view key,
                                  const net::Address& address, const Bootstrap& b) {
  if (!is_host_address(address)) {
    fields.error(key, fmt::format("{} cannot be a neighbour", address.to_string()));
    return std::nullopt;
  }
  if (const PortOptions* own = port_with(b, address); own != nullptr && !address.is_link_local()) {
    fields.error(key, fmt::format("{} is the address of port {}", address.to_string(),
                                  in_quotes(own->name)));
    return std::nullopt;
  }
  if (fields.has("port")) {
    const auto name = fields.name("port");
    if (!name) return std::nullopt;
    for (uint32_t i = 0; i < b.ports.size(); ++i) {
      if (b.ports[i].name == *name) return i;
    }
    fields.error("port", fmt::format("there is no port named {}", in_quotes(*name)));
    return std::nullopt;
  }
  if (address.is_link_local()) {
    fields.error("port", "is required for a link-local address");
    return std::nullopt;
  }
  for (uint32_t i = 0; i < b.ports.size(); ++i) {
    if (is_on(b.ports[i], address)) return i;
  }
  fields.error(key, fmt::format("{} is on no port's subnet: name the port", address.to_string()));
  return std::nullopt;
}

std::optional<RouteOptions> read_route(const Fields& fields, const Bootstrap& b) {
  fields.require("prefix");
  fields.require("next_hop");
  const auto text = fields.text("prefix");
  const auto next_hop = fields.address("next_hop");
  const auto port = next_hop ? find_port(fields, "next_hop", *next_hop, b) : std::nullopt;
  fields.has("port");
  if (!text) return std::nullopt;
  const auto prefix = parse_prefix(*text);
  if (!prefix) {
    fields.error("prefix", fmt::format("{} is no prefix", in_quotes(*text)));
    return std::nullopt;
  }
  if (prefix->network() != *prefix) {
    fields.error("prefix", fmt::format("{} has bits behind its length: {} is meant?",
                                       in_quotes(*text), prefix->network().to_string()));
    return std::nullopt;
  }
  if (next_hop && next_hop->family() != prefix->family()) {
    fields.error("next_hop", "is of another family than the prefix");
    return std::nullopt;
  }
  if (!port) return std::nullopt;
  return RouteOptions{*prefix, *next_hop, *port};
}

void read_routes(const Fields& fields, Bootstrap* out) {
  const auto routes = fields.array("routes", {0, base::kRoutesMax});
  const Path list = fields.at("routes");
  std::set<net::Prefix> seen;
  std::size_t index = 0;
  for (const Json& item : routes) {
    const Fields one(item, Path(list, index++), &fields.problems(), Strictness::kStrict);
    const auto route = read_route(one, *out);
    if (!route) continue;
    if (seen.insert(route->prefix).second) {
      out->routes.push_back(*route);
    } else {
      one.error("prefix", "has a route already");
    }
  }
}

void read_neighbors(const Fields& fields, Bootstrap* out) {
  const auto neighbors = fields.array("neighbors", {0, base::kNeighborsMax});
  const Path list = fields.at("neighbors");
  std::set<std::pair<net::Address, uint32_t>> seen;
  std::size_t index = 0;
  for (const Json& item : neighbors) {
    const Fields one(item, Path(list, index++), &fields.problems(), Strictness::kStrict);
    one.require("address");
    one.require("mac");
    const auto address = one.address("address");
    const auto port = address ? find_port(one, "address", *address, *out) : std::nullopt;
    one.has("port");
    const auto text = one.text("mac");
    const auto mac = text ? net::Mac::parse(*text) : std::nullopt;
    if (text && (!mac || mac->is_multicast() || mac->is_zero())) {
      one.error("mac", fmt::format("{} is no host's MAC address", in_quotes(*text)));
      continue;
    }
    if (!port || !mac) continue;
    if (seen.emplace(*address, *port).second) {
      out->neighbors.push_back({*address, *mac, *port});
    } else {
      one.error("address", "is in the list already");
    }
  }
}

// ---- Source NAT -------------------------------------------------------------------------------

struct SnatRange {
  net::Address first;
  net::Address last;
  bool is_prefix = false;  // network and broadcast addresses in it are left out
};

net::Address last_of(const net::Prefix& prefix) {
  std::array<uint8_t, 16> bytes;
  std::copy_n(prefix.address.bytes(), 16, bytes.begin());
  const std::size_t keep = prefix.length + (prefix.address.is_v4() ? 96u : 0u);
  for (std::size_t bit = keep; bit < 128; ++bit) {
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] | (0x80u >> (bit % 8)));
  }
  return net::Address::v6(bytes.data());
}

std::optional<SnatRange> parse_snat(std::string_view text) {
  if (const auto dash = text.find('-'); dash != std::string_view::npos) {
    const auto first = parse_address(text.substr(0, dash));
    const auto last = parse_address(text.substr(dash + 1));
    if (!first || !last || first->family() != last->family() || *last < *first) {
      return std::nullopt;
    }
    return SnatRange{*first, *last};
  }
  const auto prefix = parse_prefix(text);
  if (!prefix || prefix->network() != *prefix) return std::nullopt;
  const bool is_prefix = prefix->length != net::address_bits(prefix->family());
  return SnatRange{prefix->address, last_of(*prefix), is_prefix};
}

class SnatReader {
 public:
  SnatReader(const Fields& fields, Bootstrap* out) : fields_(fields), out_(out) {}

  void read() {
    const Path list = fields_.at("snat");
    std::size_t index = 0;
    for (const Json& item : fields_.array("snat")) {
      const Path at(list, index++);
      const auto text = read_text(item, at, &fields_.problems());
      if (!text) continue;
      const auto range = parse_snat(*text);
      if (!range) {
        fields_.problems().error(
            at, fmt::format("{} is no ADDRESS, FIRST-LAST or PREFIX/LENGTH", in_quotes(*text)));
        continue;
      }
      if (!add(*range, at)) return;
    }
    out_->snat.assign(all_.begin(), all_.end());
  }

 private:
  // False when there are too many: then nothing more is worth saying.
  bool add(const SnatRange& range, const Path& at) {
    net::Address address = range.first;
    for (std::size_t i = 0;; ++i, address = address.next()) {
      if (all_.size() >= base::kSnatAddressesMax || i >= 2 * base::kSnatAddressesMax) {
        fields_.problems().error(
            at, fmt::format("more than {} addresses in all", base::kSnatAddressesMax));
        return false;
      }
      if (!add(address, range.is_prefix, at)) return true;
      if (address == range.last) return true;
    }
  }

  // False after an error, one of which says enough about a range.
  bool add(const net::Address& address, bool of_prefix, const Path& at) {
    Problems& problems = fields_.problems();
    const std::string text = address.to_string();
    if (!is_host_address(address)) {
      problems.error(at, fmt::format("{} cannot be a source address", text));
      return false;
    }
    for (const PortOptions& port : out_->ports) {
      for (const net::Prefix& subnet : port.addresses) {
        if (subnet.address == address) {
          problems.error(at,
                         fmt::format("{} is the address of port {}", text, in_quotes(port.name)));
          return false;
        }
        if (!is_reserved_in(subnet, address)) continue;
        if (of_prefix) return true;
        problems.error(at, fmt::format("{} names the subnet of port {}, no host in it", text,
                                       in_quotes(port.name)));
        return false;
      }
    }
    if (!all_.insert(address).second) {
      problems.error(at, fmt::format("{} is in the list already", text));
      return false;
    }
    return true;
  }

  const Fields& fields_;
  Bootstrap* out_;
  std::set<net::Address> all_;
};

}  // namespace

bool is_token(std::string_view text) {
  if (text.empty() || text.size() > 63 || text.front() == '.' || text.front() == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

void read_network(const Fields& fields, const path& folder, Bootstrap* out) {
  PortsReader(fields, folder, out).read();
  read_routes(fields, out);
  read_neighbors(fields, out);
  SnatReader(fields, out).read();
}

}  // namespace limpet::config
