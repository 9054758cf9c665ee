// Reads the models that say how traffic is treated: network and application profiles, health
// monitors, service engine groups; and those that are only referred to so far.
#include <fmt/format.h>

#include <set>

#include "control/config/draft.h"

namespace limpet::config {
namespace {

using std::chrono::seconds;

constexpr std::array<Choice<NetworkType>, 6> kNetworkTypes = {{
    {"PROTOCOL_TYPE_TCP_PROXY", NetworkType::kTcpProxy},
    {"PROTOCOL_TYPE_TCP_FAST_PATH", NetworkType::kTcpFastPath},
    {"PROTOCOL_TYPE_UDP_FAST_PATH", NetworkType::kUdpFastPath},
    {"PROTOCOL_TYPE_UDP_PROXY", NetworkType::kUdpProxy},
    {"PROTOCOL_TYPE_SCTP_PROXY", NetworkType::kSctpProxy},
    {"PROTOCOL_TYPE_SCTP_FAST_PATH", NetworkType::kSctpFastPath},
}};

constexpr std::array<Choice<ApplicationType>, 6> kApplicationTypes = {{
    {"APPLICATION_PROFILE_TYPE_L4", ApplicationType::kL4},
    {"APPLICATION_PROFILE_TYPE_HTTP", ApplicationType::kHttp},
    {"APPLICATION_PROFILE_TYPE_SSL", ApplicationType::kSsl},
    {"APPLICATION_PROFILE_TYPE_DNS", ApplicationType::kDns},
    {"APPLICATION_PROFILE_TYPE_SYSLOG", ApplicationType::kSyslog},
    {"APPLICATION_PROFILE_TYPE_SIP", ApplicationType::kSip},
}};

constexpr std::array<Choice<HealthMonitorType>, 21> kMonitorTypes = {{
    {"HEALTH_MONITOR_PING", HealthMonitorType::kPing},
    {"HEALTH_MONITOR_TCP", HealthMonitorType::kTcp},
    {"HEALTH_MONITOR_UDP", HealthMonitorType::kUdp},
    {"HEALTH_MONITOR_HTTP", HealthMonitorType::kHttp},
    {"HEALTH_MONITOR_HTTPS", HealthMonitorType::kHttps},
    {"HEALTH_MONITOR_EXTERNAL", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_DNS", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_GSLB", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_SIP", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_RADIUS", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_SMTP", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_SMTPS", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_POP3", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_POP3S", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_IMAP", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_IMAPS", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_FTP", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_FTPS", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_LDAP", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_LDAPS", HealthMonitorType::kOther},
    {"HEALTH_MONITOR_SCTP", HealthMonitorType::kOther},
}};

void read_tcp_fast_path(const Fields& fields, NetworkProfile* out) {
  const auto idle = fields.integer("session_idle_timeout", {5, 14'400, 0});
  out->session_idle_timeout = seconds(idle.value_or(300));
  out->direct_return = fields.has("dsr_profile");
}

void read_udp_fast_path(const Fields& fields, NetworkProfile* out) {
  const auto idle = fields.integer("session_idle_timeout", {2, 3'600});
  out->session_idle_timeout = seconds(idle.value_or(10));
  out->per_packet = fields.boolean("per_pkt_loadbalance").value_or(false);
  out->snat = fields.boolean("snat").value_or(true);
  out->direct_return = fields.has("dsr_profile");
}

void read_engines(const Fields& fields, ServiceEngineGroup* group) {
  const Path list = fields.at("engines");
  std::set<std::string_view> seen;
  std::size_t index = 0;
  for (const Json& item : fields.array("engines")) {
    const Path path(list, index++);
    const auto name = read_name(item, path, &fields.problems());
    if (!name) continue;
    if (!seen.insert(*name).second) {
      fields.problems().error(path, fmt::format("{} is in the list already", in_quotes(*name)));
      continue;
    }
    group->engines.emplace_back(*name);
  }
}

void read_floating_addresses(const Fields& fields, ServiceEngineGroup* group) {
  const Path list = fields.at("floating_intf_ip");
  std::set<net::Address> seen;
  std::size_t index = 0;
  for (const Json& item : fields.array("floating_intf_ip")) {
    // An IpAddr itself, so it is read as if it were the field of its list.
    const Path path(list, index++);
    const Fields ip(item, path, &fields.problems(), Strictness::kTolerant);
    if (!ip) continue;
    const auto address = read_ip(ip, Names::kRefused);
    if (!address) continue;
    if (!seen.insert(address->address).second) {
      ip.error("addr", "is in the list already");
      continue;
    }
    group->floating_addresses.push_back(address->address);
  }
}

}  // namespace

void read_network_profiles(Draft* draft) {
  for_each_object(*draft, Target::kNetworkProfile, [&](Fields& fields, const Header& header) {
    auto out = object_of<NetworkProfile>(header);
    const std::size_t before = draft->problems->errors_seen();
    const Fields profile = fields.object("profile");
    out.type = profile.choice("type", kNetworkTypes).value_or(NetworkType::kTcpProxy);
    if (draft->problems->errors_seen() != before) out.type = NetworkType::kTcpFastPath;
    if (out.type == NetworkType::kTcpFastPath) {
      read_tcp_fast_path(profile.object("tcp_fast_path_profile"), &out);
    } else if (out.type == NetworkType::kUdpFastPath) {
      read_udp_fast_path(profile.object("udp_fast_path_profile"), &out);
    }
    // Those of other types mean nothing; a service that needs them is not served and says so.
    profile.ignore({"tcp_fast_path_profile", "udp_fast_path_profile", "tcp_proxy_profile",
                    "udp_proxy_profile", "sctp_proxy_profile", "sctp_fast_path_profile"});
    draft->document.network_profiles.push_back(std::move(out));
  });
}

void read_application_profiles(Draft* draft) {
  for_each_object(*draft, Target::kApplicationProfile, [&](Fields& fields, const Header& header) {
    auto out = object_of<ApplicationProfile>(header);
    fields.require("type");
    out.type = fields.choice("type", kApplicationTypes).value_or(ApplicationType::kL4);
    out.preserve_client_ip = fields.boolean("preserve_client_ip").value_or(false);
    out.proxy_protocol =
        fields.object("tcp_app_profile").boolean("proxy_protocol_enabled").value_or(false);
    out.preserve_destination = fields.boolean("preserve_dest_ip_port").value_or(false);
    // Of the L7 types: a service that needs them is not served and says so.
    fields.ignore({"http_profile", "dns_service_profile", "dos_rl_profile", "sip_service_profile",
                   "l4_ssl_profile", "diameter_service_profile"});
    draft->document.application_profiles.push_back(std::move(out));
  });
}

void read_health_monitors(Draft* draft) {
  for_each_object(*draft, Target::kHealthMonitor, [&](Fields& fields, const Header& header) {
    auto out = object_of<HealthMonitor>(header);
    fields.require("type");
    out.type = fields.choice("type", kMonitorTypes).value_or(HealthMonitorType::kOther);
    for (const auto& choice : kMonitorTypes) {
      if (fields.says("type", choice.text)) out.type_text = choice.text;
    }
    out.send_interval = seconds(fields.integer("send_interval", {1, 3'600}).value_or(10));
    out.receive_timeout = seconds(fields.integer("receive_timeout", {1, 2'400}).value_or(4));
    const auto successful = fields.integer("successful_checks", {1, 50});
    const auto failed = fields.integer("failed_checks", {1, 50});
    out.successful_checks = static_cast<uint32_t>(successful.value_or(2));
    out.failed_checks = static_cast<uint32_t>(failed.value_or(2));
    // 0 is how some clients of the API write "the server's".
    const auto port = fields.integer("monitor_port", {0, 65'535}).value_or(0);
    if (port != 0) out.monitor_port = static_cast<uint16_t>(port);
    // Monitors are not run yet and a pool with one says so; what they send means nothing until
    // then.
    fields.ignore_rest();
    draft->document.health_monitors.push_back(std::move(out));
  });
}

void read_service_engine_groups(Draft* draft) {
  for_each_object(*draft, Target::kServiceEngineGroup, [&](Fields& fields, const Header& header) {
    auto out = object_of<ServiceEngineGroup>(header);
    out.path = pointer_of(*draft, header);
    read_engines(fields, &out);
    out.preempt = fields.boolean("preempt").value_or(false);
    read_floating_addresses(fields, &out);
    draft->document.groups.push_back(std::move(out));
  });
}

void read_opaque_models(Draft* draft) {
  for (const Target target :
       {Target::kSslProfile, Target::kSslKeyAndCertificate, Target::kDataScriptSet}) {
    for_each_object(*draft, target, [](Fields& fields, const Header&) { fields.ignore_rest(); });
  }
}

}  // namespace limpet::config
