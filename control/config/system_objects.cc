#include "control/config/system_objects.h"

namespace limpet::config {

std::string_view system_objects_json() {
  return R"({
  "ApplicationPersistenceProfile": [
    {"name": "System-Persistence-Client-IP",
     "persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS",
     "ip_persistence_profile": {"ip_persistent_timeout": 5}},
    {"name": "System-Persistence-Http-Cookie",
     "persistence_type": "PERSISTENCE_TYPE_HTTP_COOKIE"},
    {"name": "System-Persistence-Custom-Http-Header",
     "persistence_type": "PERSISTENCE_TYPE_CUSTOM_HTTP_HEADER",
     "hdr_persistence_profile": {"prst_hdr_name": "customhttphdrname"}},
    {"name": "System-Persistence-App-Cookie",
     "persistence_type": "PERSISTENCE_TYPE_APP_COOKIE",
     "app_cookie_persistence_profile": {"prst_hdr_name": "customhttpcookiename", "timeout": 20}},
    {"name": "System-Persistence-TLS",
     "persistence_type": "PERSISTENCE_TYPE_TLS"}],
  "NetworkProfile": [
    {"name": "System-TCP-Proxy", "profile": {"type": "PROTOCOL_TYPE_TCP_PROXY"}},
    {"name": "System-TCP-Fast-Path", "profile": {"type": "PROTOCOL_TYPE_TCP_FAST_PATH"}},
    {"name": "System-UDP-Fast-Path", "profile": {"type": "PROTOCOL_TYPE_UDP_FAST_PATH"}},
    {"name": "System-UDP-Fast-Path-VDI", "profile": {"type": "PROTOCOL_TYPE_UDP_FAST_PATH"}},
    {"name": "System-UDP-Per-Pkt", "profile": {"type": "PROTOCOL_TYPE_UDP_FAST_PATH",
     "udp_fast_path_profile": {"per_pkt_loadbalance": true}}},
    {"name": "System-UDP-No-SNAT", "profile": {"type": "PROTOCOL_TYPE_UDP_FAST_PATH",
     "udp_fast_path_profile": {"snat": false}}}],
  "ApplicationProfile": [
    {"name": "System-HTTP", "type": "APPLICATION_PROFILE_TYPE_HTTP"},
    {"name": "System-Secure-HTTP", "type": "APPLICATION_PROFILE_TYPE_HTTP"},
    {"name": "System-Secure-HTTP-VDI", "type": "APPLICATION_PROFILE_TYPE_HTTP"},
    {"name": "System-L4-Application", "type": "APPLICATION_PROFILE_TYPE_L4"},
    {"name": "System-SSL-Application", "type": "APPLICATION_PROFILE_TYPE_SSL"},
    {"name": "System-Syslog", "type": "APPLICATION_PROFILE_TYPE_SYSLOG"},
    {"name": "System-DNS", "type": "APPLICATION_PROFILE_TYPE_DNS"}],
  "HealthMonitor": [
    {"name": "System-HTTP", "type": "HEALTH_MONITOR_HTTP",
     "successful_checks": 3, "failed_checks": 3},
    {"name": "System-HTTPS", "type": "HEALTH_MONITOR_HTTPS",
     "successful_checks": 3, "failed_checks": 3},
    {"name": "System-Ping", "type": "HEALTH_MONITOR_PING"},
    {"name": "System-TCP", "type": "HEALTH_MONITOR_TCP"},
    {"name": "System-UDP", "type": "HEALTH_MONITOR_UDP",
     "send_interval": 4, "receive_timeout": 2},
    {"name": "System-DNS", "type": "HEALTH_MONITOR_DNS",
     "send_interval": 6, "receive_timeout": 4},
    {"name": "System-Xternal-Perl", "type": "HEALTH_MONITOR_EXTERNAL",
     "send_interval": 30, "receive_timeout": 10},
    {"name": "System-Xternal-Shell", "type": "HEALTH_MONITOR_EXTERNAL",
     "send_interval": 30, "receive_timeout": 10},
    {"name": "System-Xternal-Python", "type": "HEALTH_MONITOR_EXTERNAL",
     "send_interval": 30, "receive_timeout": 10},
    {"name": "System-PingAccessAgent", "type": "HEALTH_MONITOR_HTTP"}],
  "ServiceEngineGroup": [{"name": "Default-Group"}],
  "SSLProfile": [
    {"name": "System-Standard"}, {"name": "System-Standard-PFS"},
    {"name": "System-Standard-Portal"}],
  "SSLKeyAndCertificate": [
    {"name": "System-Default-Cert"}, {"name": "System-Default-Cert-EC"},
    {"name": "System-Default-Portal-Cert"}, {"name": "System-Default-Portal-Cert-EC256"},
    {"name": "System-Default-Root-CA"}, {"name": "System-Default-Secure-Channel-Cert"}],
  "VSDataScriptSet": [
    {"name": "System-Standard-Horizon-UAG"}, {"name": "System-Standard-MCP"}]
})";
}

}  // namespace limpet::config
