// Shared by the tests of documents and bootstraps: building texts, and saying what came of them.
#pragma once

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "control/config/codec.h"

#ifndef LIMPET_TEST_DOCUMENTS  // where the build says the samples are; else from the top of the
                               // tree
#define LIMPET_TEST_DOCUMENTS "tests/support/documents"
#endif

namespace limpet::config {

using JsonValue = nlohmann::json;

inline std::string read_document_file(const std::string& name) {
  std::ifstream file(LIMPET_TEST_DOCUMENTS "/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A document with one of everything that can be wrong.
inline JsonValue sample_document() {
  return JsonValue::parse(R"({
    "ApplicationPersistenceProfile": [
      {"name": "sticky", "persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS",
       "ip_persistence_profile": {"ip_persistent_timeout": 5}}],
    "HealthMonitor": [{"name": "hm", "type": "HEALTH_MONITOR_TCP"}],
    "NetworkProfile": [
      {"name": "tcp", "profile": {"type": "PROTOCOL_TYPE_TCP_FAST_PATH",
       "tcp_fast_path_profile": {"session_idle_timeout": 300}}},
      {"name": "udp", "profile": {"type": "PROTOCOL_TYPE_UDP_FAST_PATH",
       "udp_fast_path_profile": {"session_idle_timeout": 10}}}],
    "ApplicationProfile": [{"name": "l4", "type": "APPLICATION_PROFILE_TYPE_L4"}],
    "ServiceEngineGroup": [{"name": "group"}],
    "Pool": [
      {"name": "pool", "application_persistence_profile_ref":
         "/api/applicationpersistenceprofile/?name=sticky",
       "servers": [{"ip": {"addr": "10.2.0.2", "type": "V4"}},
                   {"ip": {"addr": "10.2.0.3", "type": "V4"}}]}],
    "VsVip": [{"name": "vip", "vip": [
      {"vip_id": "0", "ip_address": {"addr": "10.1.0.100", "type": "V4"}}]}],
    "VirtualService": [
      {"name": "vs", "vsvip_ref": "/api/vsvip/?name=vip", "services": [{"port": 80}],
       "pool_ref": "/api/pool/?name=pool", "se_group_ref": "/api/serviceenginegroup/?name=group",
       "application_profile_ref": "/api/applicationprofile/?name=l4",
       "network_profile_ref": "/api/networkprofile/?name=tcp"}]
  })");
}

inline JsonValue& at(JsonValue& json, const std::string& pointer) {
  return json[JsonValue::json_pointer(pointer)];
}

// `json` with one field set.
inline JsonValue with(JsonValue json, const std::string& pointer, const std::string& value) {
  at(json, pointer) = JsonValue::parse(value);
  return json;
}

inline std::vector<std::string> paths_of(const std::vector<base::Error>& problems) {
  std::vector<std::string> out;
  for (const base::Error& problem : problems) out.push_back(problem.path);
  return out;
}

template <class T>
std::vector<std::string> error_paths(const base::Result<T>& result) {
  return result.ok() ? std::vector<std::string>() : paths_of(result.errors());
}

// A field set to what must be refused.
struct Wrong {
  const char* field;
  const char* value;
  const char* error;    // where the error is; null: at the field
  bool always = false;  // an error even if nothing that is served uses it
};

// The document of a text that must be right.
inline Parsed parsed(const std::string& text) {
  auto result = parse_document(text);
  if (result.ok()) return std::move(result.value());
  std::string all;
  for (const base::Error& e : result.errors()) all += e.path + ": " + e.message + "\n";
  throw std::runtime_error(all);
}
inline Parsed parsed(const JsonValue& json) {
  return parsed(json.dump());
}

// The message of the warning at this path; empty when there is none.
inline std::string warning_at(const std::vector<base::Error>& warnings, std::string_view path) {
  for (const base::Error& w : warnings) {
    if (w.path == path) return w.message;
  }
  return {};
}

}  // namespace limpet::config
