// Recognizing documents: whether a JSON object holds models at all, under which names, and if not,
// what it is likely to be. Internal to the codec. A text that is no document must not pass for an
// empty one: applying that takes every service down.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "control/config/json.h"
#include "control/config/problems.h"
#include "control/config/references.h"

namespace limpet::config {

struct Model {
  std::string_view name;
  Target target;
};

// In the order of registration: NSX's persistence profiles come before Avi's (Draft).
inline constexpr std::array<Model, 15> kModels = {{
    {"LBSourceIpPersistenceProfile", Target::kNsxPersistenceProfile},
    {"LBCookiePersistenceProfile", Target::kNsxPersistenceProfile},
    {"LBGenericPersistenceProfile", Target::kNsxPersistenceProfile},
    {"ApplicationPersistenceProfile", Target::kPersistenceProfile},
    {"NetworkProfile", Target::kNetworkProfile},
    {"ApplicationProfile", Target::kApplicationProfile},
    {"HealthMonitor", Target::kHealthMonitor},
    {"ServiceEngineGroup", Target::kServiceEngineGroup},
    {"SSLProfile", Target::kSslProfile},
    {"SSLKeyAndCertificate", Target::kSslKeyAndCertificate},
    {"VSDataScriptSet", Target::kDataScriptSet},
    {"IpAddrGroup", Target::kIpAddrGroup},
    {"VsVip", Target::kVsVip},
    {"Pool", Target::kPool},
    {"VirtualService", Target::kVirtualService},
}};

// How the text calls models: by their names, or as Ansible's roles do, in lower case under
// "avi_config" (with or without underscores, and with the modules' "avi_" in front).
enum class Naming : uint8_t { kByModel, kAnsible };

// The member that has the model's objects; null when there is none. A second one is an error.
const Json* find_model(const Json& models, std::string_view model, Naming naming, const Path& path,
                       Problems* problems);

struct Recognized {
  const Json* models;  // the object whose members are models
  Naming naming;
};

// Nothing and a reported error when `root` is no document: the error says what it looks like and
// what to do. An object with nothing in it but a "generation" is the empty document.
std::optional<Recognized> recognize(const Json& root, Problems* problems);

// "; did you mean Pool?" when `key` is close to the name of a model; else empty.
std::string did_you_mean(std::string_view key);

}  // namespace limpet::config
