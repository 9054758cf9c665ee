// Reads virtual services and their VIPs, and decides which of them can be served.
#include <fmt/format.h>

#include <set>

#include "control/config/draft.h"

namespace limpet::config {
namespace {

constexpr int64_t kServicesMax = 2'048;  // Avi's schema
constexpr int64_t kVipsMax = 256;

enum class VsType : uint8_t { kNormal, kVirtualHosting };
constexpr std::array<Choice<VsType>, 3> kVsTypes = {{
    {"VS_TYPE_NORMAL", VsType::kNormal},
    {"VS_TYPE_VH_PARENT", VsType::kVirtualHosting},
    {"VS_TYPE_VH_CHILD", VsType::kVirtualHosting},
}};

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

// The feature of the type that is not built yet; empty when it is built.
std::string_view missing_feature(NetworkType type) {
  switch (type) {
    case NetworkType::kTcpFastPath:
    case NetworkType::kUdpFastPath:
      return {};
    case NetworkType::kTcpProxy:
      return "TCP proxy (PROTOCOL_TYPE_TCP_PROXY)";
    case NetworkType::kUdpProxy:
      return "UDP proxy (PROTOCOL_TYPE_UDP_PROXY)";
    case NetworkType::kSctpProxy:
    case NetworkType::kSctpFastPath:
      return "SCTP";
  }
  return {};
}

std::string_view missing_feature(ApplicationType type) {
  switch (type) {
    case ApplicationType::kL4:
      return {};
    case ApplicationType::kHttp:
      return "HTTP (APPLICATION_PROFILE_TYPE_HTTP)";
    case ApplicationType::kSsl:
      return "SSL (APPLICATION_PROFILE_TYPE_SSL)";
    case ApplicationType::kDns:
      return "DNS (APPLICATION_PROFILE_TYPE_DNS)";
    case ApplicationType::kSyslog:
      return "syslog (APPLICATION_PROFILE_TYPE_SYSLOG)";
    case ApplicationType::kSip:
      return "SIP (APPLICATION_PROFILE_TYPE_SIP)";
  }
  return {};
}

// Whether Avi refuses a pool with this persistence behind a service of this kind.
bool persistence_is_usable(PersistenceType type, ApplicationType application, bool any_ssl) {
  switch (type) {
    case PersistenceType::kClientIp:
    case PersistenceType::kGeneric:
    case PersistenceType::kAppDiameter:
      return true;
    case PersistenceType::kTls:
      return application == ApplicationType::kSsl ||
             (application == ApplicationType::kHttp && any_ssl);
    case PersistenceType::kHttpCookie:
    case PersistenceType::kAppCookie:
    case PersistenceType::kCustomHeader:
    case PersistenceType::kGslbSite:
      return application == ApplicationType::kHttp;
  }
  return false;
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
      : draft_(draft), fields_(fields), header_(header), vs_(object_of<VirtualService>(header)) {}

  VirtualService read() {
    read_switches();
    read_profiles();
    read_vips();
    read_services();
    read_pool();
    check_features();
    check_persistence();
    return std::move(vs_);
  }

 private:
  const Document& document() const { return draft_.document; }

  // The virtual service is known but not answered. The first reason is the one listings show.
  void do_not_serve(std::string reason) {
    if (vs_.served) vs_.why_not = std::move(reason);
    vs_.served = false;
  }

  // Not an operator's will, so it is a warning.
  void cannot_serve(const Path& path, std::string reason) {
    fields_.problems().warning(
        path, fmt::format("virtual service {} is not served: {}", in_quotes(vs_.name), reason));
    do_not_serve(std::move(reason));
  }

  void not_built(const Path& path, std::string_view feature) {
    cannot_serve(path, fmt::format("it needs {}: not built yet", feature));
  }

  void read_switches() {
    vs_.enabled = fields_.boolean("enabled").value_or(true);
    vs_.traffic_enabled = fields_.boolean("traffic_enabled").value_or(true);
    vs_.autogw = fields_.boolean("enable_autogw").value_or(true);
    if (!vs_.enabled) {
      do_not_serve("disabled");
    } else if (!vs_.traffic_enabled) {
      do_not_serve("traffic is disabled");
    }
  }

  // The object that `key` names; the system object when the field is absent.
  std::size_t resolve_or(const Fields& fields, std::string_view key, Target target,
                         std::string_view system_name) {
    const auto found = resolve(draft_, fields, key, target, header_);
    if (found) return *found;
    const auto fallback = draft_.catalog.find_by_name(target, kAdminTenant, system_name);
    return fallback.value_or(0);
  }

  void read_profiles() {
    vs_.application_profile = ApplicationProfileIndex(static_cast<uint32_t>(resolve_or(
        fields_, "application_profile_ref", Target::kApplicationProfile, "System-HTTP")));
    vs_.network_profile = NetworkProfileIndex(static_cast<uint32_t>(
        resolve_or(fields_, "network_profile_ref", Target::kNetworkProfile, "System-TCP-Proxy")));
    vs_.group = GroupIndex(static_cast<uint32_t>(
        resolve_or(fields_, "se_group_ref", Target::kServiceEngineGroup, "Default-Group")));
  }

  // Whether the reference is there and says something; Avi writes "" for none at times.
  bool given(std::string_view key) const { return fields_.has(key) && !fields_.says(key, ""); }

  void read_vips() {
    Vips vips;
    fields_.ignore({"vip"});
    if (given("vsvip_ref")) {
      const auto shared = resolve(draft_, fields_, "vsvip_ref", Target::kVsVip, header_);
      if (!shared) return;
      vips = draft_.vs_vips[*shared];
    } else if (fields_.has("vip")) {
      read_vip_list(fields_, "vip", &vips);
    } else if (const Fields ip = fields_.object("ip_address")) {
      // Before 17.1 a virtual service had one address of its own.
      if (const auto address = read_ip(ip, Names::kRefused)) {
        vips.addresses.push_back(address->address);
      }
    }
    fields_.ignore({"ip_address"});
    vs_.vips = std::move(vips.addresses);
    if (!vs_.vips.empty()) return;
    if (vips.awaits_address) {
      cannot_serve(fields_.path(), "its VIP has no address yet (automatic allocation)");
    } else {
      cannot_serve(fields_.path(), "it has no VIP");
    }
  }

  void read_services() {
    const auto services = fields_.array("services", {0, kServicesMax});
    const Path list = fields_.at("services");
    std::size_t index = 0;
    for (const Json& item : services) {
      const Path path(list, index++);
      const Fields one(item, path, &fields_.problems(), Strictness::kTolerant);
      if (one) read_service(one);
    }
    if (services.empty()) cannot_serve(fields_.path(), "it has no services");
  }

  void read_service(const Fields& fields) {
    Service service;
    read_ports(fields, &service);
    service.ssl = fields.boolean("enable_ssl").value_or(false);
    fields.ignore({"enable_http2", "is_active_standby", "horizon_internal_ports"});
    service.network_profile = vs_.network_profile;
    service.application_profile = vs_.application_profile;
    if (const auto other = resolve(draft_, fields, "override_network_profile_ref",
                                   Target::kNetworkProfile, header_)) {
      service.network_profile = NetworkProfileIndex(static_cast<uint32_t>(*other));
      check_network(fields.at("override_network_profile_ref"), service.network_profile);
    }
    if (const auto other = resolve(draft_, fields, "override_application_profile_ref",
                                   Target::kApplicationProfile, header_)) {
      service.application_profile = ApplicationProfileIndex(static_cast<uint32_t>(*other));
      check_application(fields.at("override_application_profile_ref"), service.application_profile);
    }
    service.protocol = protocol_of(document().network_profile_of(service).type);
    if (service.ssl) not_built(fields.at("enable_ssl"), "SSL (enable_ssl)");
    vs_.services.push_back(service);
  }

  static void read_ports(const Fields& fields, Service* service) {
    fields.require("port");
    const auto first = fields.integer("port", {0, 65'535});
    const auto last = fields.integer("port_range_end", {0, 65'535}).value_or(0);
    if (!first) return;
    service->first_port = static_cast<uint16_t>(*first);
    service->last_port = static_cast<uint16_t>(last == 0 ? *first : last);
    if (last == 0 && *first == 0) {
      fields.error("port", "0 is only the begin of a range: port_range_end is required with it");
    } else if (last != 0 && last < *first) {
      fields.error("port_range_end", fmt::format("{} is below the port, {}", last, *first));
    }
  }

  void read_pool() {
    if (const auto pool = resolve(draft_, fields_, "pool_ref", Target::kPool, header_)) {
      vs_.pool = PoolIndex(static_cast<uint32_t>(*pool));
      return;
    }
    if (given("pool_ref")) return;
    if (given("pool_group_ref")) {
      not_built(fields_.at("pool_group_ref"), "pool groups");
    } else {
      cannot_serve(fields_.path(), "it has no pool");
    }
  }

  void check_network(const Path& path, NetworkProfileIndex index) {
    const auto feature = missing_feature(document().network_profiles[index.value].type);
    if (!feature.empty()) not_built(path, feature);
  }

  void check_application(const Path& path, ApplicationProfileIndex index) {
    const ApplicationProfile& profile = document().application_profiles[index.value];
    const auto feature = missing_feature(profile.type);
    if (!feature.empty()) not_built(path, feature);
    if (profile.proxy_protocol) not_built(path, "the PROXY protocol");
  }

  // A list or reference whose presence asks for a feature; serving without it would treat clients
  // otherwise than the document says.
  void check_list(std::string_view key, std::string_view feature) {
    if (!fields_.array(key).empty()) not_built(fields_.at(key), feature);
  }

  void check_features() {
    check_network(fields_.at("network_profile_ref"), vs_.network_profile);
    check_application(fields_.at("application_profile_ref"), vs_.application_profile);
    if (fields_.choice("type", kVsTypes) == VsType::kVirtualHosting) {
      not_built(fields_.at("type"), "virtual hosting");
    }
    resolve(draft_, fields_, "ssl_profile_ref", Target::kSslProfile, header_);
    resolve_all(draft_, fields_, "ssl_key_and_certificate_refs", Target::kSslKeyAndCertificate,
                header_);
    check_scripts();
    check_list("http_policies", "HTTP policies");
    check_list("l4_policies", "L4 policies");
    if (given("network_security_policy_ref")) {
      not_built(fields_.at("network_security_policy_ref"), "network security policies");
    }
    if (vs_.pool && document().pools[vs_.pool->value].tls_to_servers) {
      not_built(fields_.at("pool_ref"), "TLS to servers (ssl_profile_ref of the pool)");
    }
  }

  void check_scripts() {
    const Path list = fields_.at("vs_datascripts");
    const auto scripts = fields_.array("vs_datascripts");
    std::size_t index = 0;
    for (const Json& item : scripts) {
      const Path path(list, index++);
      const Fields one(item, path, &fields_.problems(), Strictness::kTolerant);
      one.ignore({"index"});
      if (one) resolve(draft_, one, "vs_datascript_set_ref", Target::kDataScriptSet, header_);
    }
    if (!scripts.empty()) not_built(list, "DataScript");
  }

  void check_persistence() {
    if (!vs_.pool) return;
    const Profile* profile = document().profile_of(document().pools[vs_.pool->value]);
    if (profile == nullptr) return;
    const Path path = fields_.at("pool_ref");
    bool any_ssl = false;
    for (const Service& service : vs_.services) any_ssl = any_ssl || service.ssl;
    bool usable = persistence_is_usable(
        profile->type, document().application_profiles[vs_.application_profile.value].type,
        any_ssl);
    for (const Service& service : vs_.services) {
      const ApplicationType type = document().application_profile_of(service).type;
      usable = usable && persistence_is_usable(profile->type, type, any_ssl);
    }
    if (!usable) {
      fields_.problems().error(
          path, fmt::format("the pool's persistence profile {} has a type that this virtual "
                            "service cannot use: {}",
                            in_quotes(profile->name), to_string(profile->type)));
    } else if (profile->type != PersistenceType::kClientIp) {
      not_built(path, fmt::format("persistence of type {}", to_string(profile->type)));
    }
  }

  const Draft& draft_;
  const Fields& fields_;
  const Header& header_;
  VirtualService vs_;
};

}  // namespace

void read_vs_vips(Draft* draft) {
  for_each_object(*draft, Target::kVsVip, [&](Fields& fields, const Header&) {
    Vips vips;
    read_vip_list(fields, "vip", &vips);
    draft->vs_vips.push_back(std::move(vips));
  });
}

void read_virtual_services(Draft* draft) {
  for_each_object(*draft, Target::kVirtualService, [&](Fields& fields, const Header& header) {
    draft->document.virtual_services.push_back(VirtualServiceReader(*draft, fields, header).read());
  });
}

}  // namespace limpet::config
