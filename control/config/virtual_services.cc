// Reads virtual services and their VIPs. served.h decides which of them can be served.
#include <fmt/format.h>

#include <set>

#include "control/config/draft.h"
#include "control/config/served.h"
#include "control/config/service_pools.h"

namespace limpet::config {
namespace {

constexpr int64_t kServicesMax = 2'048;  // Avi's schema
constexpr int64_t kVipsMax = 256;

Protocol protocol_of(NetworkType type) {
  switch (type) {
    case NetworkType::kTcpProxy:
    case NetworkType::kTcpFastPath:
      return Protocol::kTcp;
    case NetworkType::kUdpFastPath:
    case NetworkType::kUdpProxy:
      return Protocol::kUdp;
    case NetworkType::kSctpProxy:
    case NetworkType::kSctpFastPath:
      return Protocol::kSctp;
  }
  return Protocol::kTcp;
}

// Reads `vip`, an array of Avi's Vip.
void read_vip_list(const Fields& parent, std::string_view key, Vips* out) {
  const auto vips = parent.array(key, {0, kVipsMax});
  const Path list = parent.at(key);
  std::set<net::Address> seen;
  std::size_t index = 0;
  for (const Json& item : vips) {
    const Path path(list, index++);
    const Fields vip(item, path, &parent.problems(), Strictness::kTolerant);
    if (!vip) continue;
    const bool enabled = vip.boolean("enabled").value_or(true);
    const Problems::Lenience unused(&parent.problems(), !enabled);
    const bool automatic = vip.boolean("auto_allocate_ip").value_or(false);
    vip.ignore({"vip_id", "prefix_length", "auto_allocate_ip_type", "auto_allocate_floating_ip",
                "avi_allocated_vip", "avi_allocated_fip"});
    bool any = false;
    for (const std::string_view field : {"ip_address", "ip6_address"}) {
      const Fields ip = vip.object(field);
      if (!vip.has(field)) continue;
      any = true;
      const auto address = ip ? read_ip(ip, Names::kRefused) : std::nullopt;
      if (!address || !enabled) continue;
      if (!seen.insert(address->address).second) {
        ip.error("addr", "is a VIP in this list already");
        continue;
      }
      out->addresses.push_back(address->address);
    }
    if (!any && automatic) out->awaits_address = true;
    if (!any && !automatic) vip.error("ip_address", "is required, or ip6_address");
  }
}

class VirtualServiceReader {
 public:
  VirtualServiceReader(const Draft& draft, const Fields& fields, const Header& header)
      : draft_(draft),
        fields_(fields),
        header_(header),
        pools_(draft, fields, header),
        vs_(object_of<VirtualService>(header)) {}

  VirtualService read() {
    vs_.cloud = header_.place.cloud;
    vs_.path = pointer_of(draft_, header_);
    vs_.enabled = fields_.boolean("enabled").value_or(true);
    vs_.traffic_enabled = fields_.boolean("traffic_enabled").value_or(true);
    vs_.autogw = fields_.boolean("enable_autogw").value_or(true);
    read_profiles();
    read_vips();
    read_services();
    read_pools();
    read_certificates();
    read_scripts();
    warn_of_source_addresses();
    decide_served(draft_, fields_, facts_, &vs_);
    return std::move(vs_);
  }

 private:
  const Document& document() const { return draft_.document; }

  // The object that `key` names; the system object when the field is absent.
  std::size_t resolve_or(const Fields& fields, std::string_view key, Target target,
                         std::string_view system_name) {
    const auto found = resolve(draft_, fields, key, target, header_);
    if (found) return *found;
    for (const std::string_view cloud : {std::string_view(header_.place.cloud), kDefaultCloud}) {
      const Place place{std::string(kAdminTenant), std::string(cloud)};
      const auto fallback = draft_.catalog.find_by_name(target, place, system_name);
      if (!fallback) continue;
      draft_.usage->add(header_.id, draft_.header(target, *fallback).id);
      return *fallback;
    }
    return 0;
  }

  void read_profiles() {
    const std::size_t before = draft_.problems->errors_seen();
    vs_.application_profile = ApplicationProfileIndex(static_cast<uint32_t>(resolve_or(
        fields_, "application_profile_ref", Target::kApplicationProfile, "System-HTTP")));
    facts_.wrong_application = draft_.problems->errors_seen() != before;
    const std::size_t between = draft_.problems->errors_seen();
    vs_.network_profile = NetworkProfileIndex(static_cast<uint32_t>(
        resolve_or(fields_, "network_profile_ref", Target::kNetworkProfile, "System-TCP-Proxy")));
    facts_.wrong_network = draft_.problems->errors_seen() != between;
    vs_.group = GroupIndex(static_cast<uint32_t>(
        resolve_or(fields_, "se_group_ref", Target::kServiceEngineGroup, "Default-Group")));
  }

  void read_vips() {
    const std::size_t before = draft_.problems->errors_seen();
    Vips vips;
    vs_.vrf = vrf_of(draft_, fields_, "vrf_context_ref");
    std::optional<std::size_t> shared;
    {
      // The REST API's objects say their addresses twice.
      const Problems::Lenience written_here(draft_.problems, fields_.asks("vip"));
      shared = resolve(draft_, fields_, "vsvip_ref", Target::kVsVip, header_);
    }
    if (shared) {
      vips = draft_.vs_vips[*shared];
    } else if (fields_.asks("vip") || !fields_.asks("vsvip_ref")) {
      read_vip_list(fields_, "vip", &vips);
      // Before 17.1 a virtual service had one address of its own.
      const Fields ip = fields_.object("ip_address");
      if (ip && !fields_.has("vip")) {
        if (const auto address = read_ip(ip, Names::kRefused)) {
          vips.addresses.push_back(address->address);
        }
      }
    }
    fields_.ignore({"vip", "ip_address"});
    facts_.wrong_vips = vips.wrong || draft_.problems->errors_seen() != before;
    facts_.awaits_address = vips.awaits_address;
    vs_.vips = std::move(vips.addresses);
    if (vs_.vrf == kGlobalVrf) vs_.vrf = std::move(vips.vrf);
  }

  void read_services() {
    const std::size_t before = draft_.problems->errors_seen();
    const auto services = fields_.array("services", {0, kServicesMax});
    const Path list = fields_.at("services");
    uint32_t index = 0;
    for (const Json& item : services) {
      const Path path(list, index);
      const Fields one(item, path, &fields_.problems(), Strictness::kTolerant);
      if (one) read_service(one, index);
      ++index;
    }
    facts_.wrong_services = draft_.problems->errors_seen() != before;
  }

  void read_service(const Fields& fields, uint32_t index) {
    Service service;
    service.index = index;
    const bool has_ports = read_ports(fields, &service);
    service.ssl = fields.boolean("enable_ssl").value_or(false);
    fields.ignore({"enable_http2", "is_active_standby", "horizon_internal_ports"});
    service.network_profile = vs_.network_profile;
    service.application_profile = vs_.application_profile;
    const std::size_t before = draft_.problems->errors_seen();
    if (const auto other = resolve(draft_, fields, "override_network_profile_ref",
                                   Target::kNetworkProfile, header_)) {
      service.network_profile = NetworkProfileIndex(static_cast<uint32_t>(*other));
    }
    if (const auto other = resolve(draft_, fields, "override_application_profile_ref",
                                   Target::kApplicationProfile, header_)) {
      service.application_profile = ApplicationProfileIndex(static_cast<uint32_t>(*other));
    }
    if (draft_.problems->errors_seen() != before) facts_.wrong_overrides.insert(index);
    service.protocol = protocol_of(document().network_profile_of(service).type);
    if (has_ports) vs_.services.push_back(service);
  }

  // False when the service has no ports; that was reported.
  static bool read_ports(const Fields& fields, Service* service) {
    fields.require("port");
    const auto first = fields.integer("port", {0, 65'535});
    const std::size_t before = fields.problems().errors_seen();
    const auto last = fields.integer("port_range_end", {0, 65'535}).value_or(0);
    if (!first || fields.problems().errors_seen() != before) return false;
    service->first_port = static_cast<uint16_t>(*first);
    service->last_port = static_cast<uint16_t>(last == 0 ? *first : last);
    if (last == 0 && *first == 0) {
      fields.error("port", "0 is only the begin of a range: port_range_end is required with it");
      return false;
    }
    if (last != 0 && last < *first) {
      fields.error("port_range_end", fmt::format("{} is below the port, {}", last, *first));
      return false;
    }
    return true;
  }

  void read_pools() {
    const std::size_t before = draft_.problems->errors_seen();
    if (const auto pool = resolve(draft_, fields_, "pool_ref", Target::kPool, header_)) {
      vs_.pool = PoolIndex(static_cast<uint32_t>(*pool));
    }
    for (Service& service : vs_.services) service.pool = vs_.pool;
    pools_.apply(fields_, &vs_.services);
    facts_.pool_groups = pools_.wants_pool_group();
    facts_.wrong_pools = draft_.problems->errors_seen() != before || pools_.was_wrong();
    if (!vs_.pool && !vs_.services.empty()) vs_.pool = vs_.services.front().pool;
  }

  // SSL is not built: what they refer to means nothing until then.
  void read_certificates() {
    const Problems::Lenience unused(draft_.problems);
    resolve(draft_, fields_, "ssl_profile_ref", Target::kSslProfile, header_);
    resolve_all(draft_, fields_, "ssl_key_and_certificate_refs", Target::kSslKeyAndCertificate,
                header_);
  }

  // A virtual service with scripts is not served: the same.
  void read_scripts() {
    const Problems::Lenience unused(draft_.problems);
    const Path list = fields_.at("vs_datascripts");
    std::size_t index = 0;
    for (const Json& item : fields_.array("vs_datascripts")) {
      const Path path(list, index++);
      const Fields one(item, path, &fields_.problems(), Strictness::kTolerant);
      one.ignore({"index"});
      if (one) resolve(draft_, one, "vs_datascript_set_ref", Target::kDataScriptSet, header_);
    }
  }

  void warn_of_source_addresses() {
    for (const std::string_view key : {"snat_ip", "use_vip_as_snat"}) {
      if (!fields_.asks(key)) continue;
      fields_.problems().warning(
          fields_.at(key), "not used: servers see the engine's own addresses (`snat` in its file)");
    }
  }

  const Draft& draft_;
  const Fields& fields_;
  const Header& header_;
  ServicePools pools_;
  ServiceFacts facts_;
  VirtualService vs_;
};

}  // namespace

void read_vs_vips(Draft* draft) {
  for_each_object(*draft, Target::kVsVip, [&](Fields& fields, const Header&) {
    const std::size_t before = draft->problems->errors_seen();
    Vips vips;
    vips.vrf = vrf_of(*draft, fields, "vrf_context_ref");
    read_vip_list(fields, "vip", &vips);
    vips.wrong = draft->problems->errors_seen() != before;
    draft->vs_vips.push_back(std::move(vips));
  });
}

void read_virtual_services(Draft* draft) {
  for_each_object(*draft, Target::kVirtualService, [&](Fields& fields, const Header& header) {
    draft->document.virtual_services.push_back(VirtualServiceReader(*draft, fields, header).read());
  });
}

}  // namespace limpet::config
