#include "control/config/served.h"

#include <fmt/format.h>

#include <algorithm>

namespace limpet::config {
namespace {

enum class VsType : uint8_t { kNormal, kVirtualHosting };
constexpr std::array<Choice<VsType>, 3> kVsTypes = {{
    {"VS_TYPE_NORMAL", VsType::kNormal},
    {"VS_TYPE_VH_PARENT", VsType::kVirtualHosting},
    {"VS_TYPE_VH_CHILD", VsType::kVirtualHosting},
}};

// Fields of a virtual service that ask for what is not built, the most telling first.
struct Feature {
  std::string_view key;
  std::string_view name;
};
constexpr Feature kFeatures[] = {
    {"l4_policies", "L4 policies"},
    {"http_policies", "HTTP policies"},
    {"vs_datascripts", "DataScript"},
    {"topology_policies", "topology policies"},
    {"dns_policies", "DNS policies"},
    {"network_security_policy_ref", "network security policies"},
    {"security_policy_ref", "security policies"},
    {"waf_policy_ref", "WAF policies"},
    {"nsx_securitygroup", "NSX security groups of clients (nsx_securitygroup)"},
    {"traffic_clone_profile_ref", "cloned traffic (traffic_clone_profile_ref)"},
    {"sideband_profile", "sideband traffic (sideband_profile)"},
    {"sp_pool_refs", "GSLB site persistence (sp_pool_refs)"},
    {"performance_limits", "performance limits (performance_limits)"},
    {"connections_rate_limit", "limits of the connection rate (connections_rate_limit)"},
    {"requests_rate_limit", "limits of the request rate (requests_rate_limit)"},
    {"max_cps_per_client", "limits of the connection rate (max_cps_per_client)"},
    {"limit_doser", "limits of single clients (limit_doser)"},
    {"use_bridge_ip_as_vip", "the bridge's address as VIP (use_bridge_ip_as_vip)"},
};

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

std::string_view missing_feature(const ApplicationProfile& profile) {
  const auto feature = missing_feature(profile.type);
  if (!feature.empty()) return feature;
  if (profile.proxy_protocol) return "the PROXY protocol";
  if (profile.preserve_destination) return "the client's destination kept (preserve_dest_ip_port)";
  return {};
}

std::string_view missing_feature(const NetworkProfile& profile) {
  const auto feature = missing_feature(profile.type);
  if (!feature.empty()) return feature;
  if (profile.direct_return) return "direct server return (dsr_profile)";
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

class Decision {
 public:
  Decision(const Draft& draft, const Fields& fields, const ServiceFacts& facts, VirtualService* vs)
      : draft_(draft), fields_(fields), facts_(facts), vs_(*vs), pools_(document().pools_of(*vs)) {}

  // The order of the reasons: the first that holds is the one.
  void make() {
    if (!vs_.enabled) do_not_serve("disabled");
    if (!vs_.traffic_enabled) do_not_serve("traffic is disabled");
    check_vrf();
    if (fields_.choice("type", kVsTypes) == VsType::kVirtualHosting) {
      not_built(fields_.at("type"), "virtual hosting");
    }
    check_profiles();
    for (const Feature& feature : kFeatures) {
      if (fields_.asks(feature.key)) not_built(fields_.at(feature.key), feature.name);
    }
    check_pools();
    check_persistence();
    check_parts();
  }

 private:
  const Document& document() const { return draft_.document; }

  // The virtual service is known but not answered. The first reason is the one that is told.
  void do_not_serve(std::string reason) {
    if (!vs_.served) return;
    vs_.served = false;
    vs_.why_not = std::move(reason);
  }

  // Not an operator's will, so it is a warning.
  void cannot_serve(const Path& path, std::string reason) {
    if (!vs_.served) return;
    fields_.problems().warning(
        path, fmt::format("virtual service {} is not served: {}", in_quotes(vs_.name), reason));
    do_not_serve(std::move(reason));
  }

  void not_built(const Path& path, std::string_view feature) {
    cannot_serve(path, fmt::format("it needs {}: not built yet", feature));
  }

  // The field that pools came by.
  std::string_view pool_key() const {
    return fields_.asks("pool_ref") ? "pool_ref" : "service_pool_select";
  }

  void check_vrf() {
    const auto reason = [](std::string_view what, std::string_view vrf) {
      return fmt::format("VRFs are not built: {} is in {}", what, in_quotes(vrf));
    };
    if (vs_.vrf != kGlobalVrf) {
      const char* key = fields_.has("vrf_context_ref") ? "vrf_context_ref" : "vsvip_ref";
      cannot_serve(fields_.at(key), reason("it", vs_.vrf));
    }
    for (const PoolIndex pool : pools_) {
      const std::string& vrf = draft_.pool_needs[pool.value].vrf;
      if (vrf != kGlobalVrf) cannot_serve(fields_.at(pool_key()), reason("its pool", vrf));
    }
  }

  bool is_wrong(const Service* service) const {
    return service != nullptr && facts_.wrong_overrides.count(service->index) != 0;
  }

  // Of all services, with what they override; of the virtual service when it has none.
  void check_profiles() {
    const Path list = fields_.at("services");
    const auto path_of = [&](const Service* service, bool overridden, std::string_view key,
                             std::string_view override_key, auto&& say) {
      if (!overridden) return say(fields_.at(key));
      const Path one(list, service->index);
      say(Path(one, override_key));
    };
    const auto application = [&](const Service* service, ApplicationProfileIndex index) {
      const bool overridden = index != vs_.application_profile;
      if (!overridden && (facts_.wrong_application || is_wrong(service))) return;
      const auto feature = missing_feature(document().application_profiles[index.value]);
      if (feature.empty()) return;
      path_of(service, overridden, "application_profile_ref", "override_application_profile_ref",
              [&](const Path& path) { not_built(path, feature); });
    };
    const auto network = [&](const Service* service, NetworkProfileIndex index) {
      const bool overridden = index != vs_.network_profile;
      if (!overridden && (facts_.wrong_network || is_wrong(service))) return;
      const auto feature = missing_feature(document().network_profiles[index.value]);
      if (feature.empty()) return;
      path_of(service, overridden, "network_profile_ref", "override_network_profile_ref",
              [&](const Path& path) { not_built(path, feature); });
    };
    if (vs_.services.empty()) application(nullptr, vs_.application_profile);
    for (const Service& service : vs_.services) application(&service, service.application_profile);
    for (const Service& service : vs_.services) {
      if (!service.ssl) continue;
      const Path one(list, service.index);
      not_built(Path(one, "enable_ssl"), "SSL (enable_ssl)");
    }
    if (vs_.services.empty()) network(nullptr, vs_.network_profile);
    for (const Service& service : vs_.services) network(&service, service.network_profile);
  }

  void check_pools() {
    if (fields_.asks("pool_group_ref")) not_built(fields_.at("pool_group_ref"), "pool groups");
    if (facts_.pool_groups) not_built(fields_.at("service_pool_select"), "pool groups");
    for (const PoolIndex pool : pools_) {
      const std::string& feature = draft_.pool_needs[pool.value].feature;
      if (!feature.empty()) not_built(fields_.at(pool_key()), feature);
      if (document().pools[pool.value].tls_to_servers) {
        not_built(fields_.at(pool_key()), "TLS to servers (ssl_profile_ref of the pool)");
      }
    }
  }

  bool is_usable(PersistenceType type) const {
    const auto& services = vs_.services;
    const bool any_ssl =
        std::any_of(services.begin(), services.end(), [](const Service& s) { return s.ssl; });
    if (services.empty()) {
      const auto& own = document().application_profiles[vs_.application_profile.value];
      return persistence_is_usable(type, own.type, any_ssl);
    }
    return std::all_of(services.begin(), services.end(), [&](const Service& service) {
      return persistence_is_usable(type, document().application_profile_of(service).type, any_ssl);
    });
  }

  void check_persistence() {
    // Of which kind the services are is not known.
    if (facts_.wrong_application || facts_.wrong_services) return;
    for (const PoolIndex pool : pools_) {
      const Profile* profile = document().profile_of(document().pools[pool.value]);
      if (profile == nullptr || profile->type == PersistenceType::kClientIp) continue;
      const Path path = fields_.at(pool_key());
      if (!is_usable(profile->type)) {
        fields_.problems().error(
            path, fmt::format("the pool's persistence profile {} has a type that this virtual "
                              "service cannot use: {}",
                              in_quotes(profile->name), to_string(profile->type)));
      } else {
        not_built(path, fmt::format("persistence of type {}", to_string(profile->type)));
      }
    }
  }

  // What it must have.
  void check_parts() {
    if (vs_.vips.empty() && !facts_.wrong_vips) {
      cannot_serve(fields_.path(), facts_.awaits_address
                                       ? "its VIP has no address yet (automatic allocation)"
                                       : "it has no VIP");
    }
    if (facts_.wrong_services || facts_.wrong_pools) return;
    if (vs_.services.empty()) cannot_serve(fields_.path(), "it has no services");
    for (const Service& service : vs_.services) {
      if (service.pool) continue;
      cannot_serve(fields_.path(), vs_.pool ? fmt::format("port {} has no pool", service.first_port)
                                            : "it has no pool");
    }
  }

  const Draft& draft_;
  const Fields& fields_;
  const ServiceFacts& facts_;
  VirtualService& vs_;
  const std::vector<PoolIndex> pools_;
};

}  // namespace

void decide_served(const Draft& draft, const Fields& fields, const ServiceFacts& facts,
                   VirtualService* vs) {
  Decision(draft, fields, facts, vs).make();
}

}  // namespace limpet::config
