#include "control/config/recognize.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

namespace limpet::config {
namespace {

constexpr std::string_view kWhatToDo =
    "a document is an object of models, each an array of objects, such as {\"Pool\": [...], "
    "\"VirtualService\": [...]}; an Avi controller exports its configuration in this form";

// Ansible's name of a model, without what may differ: "avi_virtual_service" -> "virtualservice".
std::string ansible_name(std::string_view key) {
  std::string out = lower_case(key);
  if (out.substr(0, 4) == "avi_") out.erase(0, 4);
  std::erase(out, '_');
  return out;
}

bool names_model(std::string_view key, std::string_view model, Naming naming) {
  return naming == Naming::kByModel ? key == model : ansible_name(key) == lower_case(model);
}

// Members that are looked at one by one; a document has as many as Avi has models, some hundred.
constexpr std::size_t kMembersMax = 1'000;

std::span<const Json> first_members(const Json& json) {
  return json.items().first(std::min(json.count, kMembersMax));
}

bool has_model(const Json& json, Naming naming) {
  return std::any_of(kModels.begin(), kModels.end(), [&](const Model& model) {
    if (naming == Naming::kByModel) return json.member(model.name) != nullptr;
    const auto members = json.items();
    return std::any_of(members.begin(), members.end(), [&](const Json& member) {
      return names_model(member.key, model.name, naming);
    });
  });
}

// Levenshtein's distance, for short names.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

// The model whose name is nearest, if it is near: another case, underscores, a plural, a slip.
std::string_view meant_by(std::string_view key) {
  constexpr std::size_t kNameBytesMax = 40;
  if (key.size() > kNameBytesMax) return {};
  const std::string given = ansible_name(key);
  std::string_view best;
  std::size_t best_distance = 3;
  for (const Model& model : kModels) {
    const std::size_t allowed = model.name.size() < 6 ? 1 : 2;
    const std::size_t far = distance(given, lower_case(model.name));
    if (far > allowed || far >= best_distance) continue;
    best = model.name;
    best_distance = far;
  }
  return best;
}

bool has(const Json& json, std::string_view key, Json::Kind kind) {
  const Json* member = json.member(key);
  return member != nullptr && member->kind == kind;
}

bool says_resource_type(const Json& json) {
  return json.kind == Json::Kind::kObject && has(json, "resource_type", Json::Kind::kText);
}

// The policy API's tree ("children"), its lists ("results"), or a map of its types.
bool looks_like_nsx(const Json& root) {
  if (says_resource_type(root)) return true;
  for (const Json& member : first_members(root)) {
    for (const std::string_view type :
         {"LBPool", "LBVirtualServer", "LBService", "LBAppProfile", "LBMonitorProfile"}) {
      if (member.key == type) return true;
    }
    if (member.kind != Json::Kind::kArray) continue;
    const auto items = member.items();
    if (!items.empty() && says_resource_type(items.front())) return true;
  }
  return false;
}

// Which model an object by itself is likely to be of; by its url, else by fields that it alone has.
std::string_view model_of_object(const Json& object) {
  if (has(object, "url", Json::Kind::kText)) {
    const auto reference = Reference::parse(object.member("url")->text());
    for (const Model& model : kModels) {
      if (reference && reference->collection == lower_case(model.name)) return model.name;
    }
  }
  struct Telling {
    std::string_view field;
    std::string_view model;
  };
  constexpr std::array<Telling, 6> kTelling = {{
      {"services", "VirtualService"},
      {"servers", "Pool"},
      {"lb_algorithm", "Pool"},
      {"persistence_type", "ApplicationPersistenceProfile"},
      {"vip", "VsVip"},
      {"pool_ref", "VirtualService"},
  }};
  for (const Telling& one : kTelling) {
    if (object.member(one.field) != nullptr) return one.model;
  }
  return {};
}

std::string what_it_looks_like(const Json& root) {
  if (looks_like_nsx(root)) {
    return "it looks like objects of NSX's own load balancer: of those only the persistence "
           "profiles are read (LBSourceIpPersistenceProfile, ...); write pools and virtual "
           "services "
           "as Avi's Pool, VsVip and VirtualService";
  }
  if (has(root, "results", Json::Kind::kArray)) {
    return "it looks like an answer of the REST API: put its \"results\" under the name of their "
           "model, {\"Pool\": [...]}, or export the whole configuration";
  }
  if (root.member("worker_cores") != nullptr || root.member("mirroring") != nullptr) {
    return "it looks like an engine's own file (limpet-se --config), not like a document";
  }
  if (has(root, "resource", Json::Kind::kObject)) {
    return "it looks like Terraform's configuration: take the objects from the controller that it "
           "configures";
  }
  if (has(root, "name", Json::Kind::kText)) {
    const std::string_view model = model_of_object(root);
    return fmt::format(
        "it looks like one object: put it into the array of its model, {{\"{}\": [{{...}}]}}",
        model.empty() ? "MODEL" : model);
  }
  for (const Json& member : first_members(root)) {
    const std::string hint = did_you_mean(member.key);
    if (!hint.empty()) return fmt::format("{} is no model{}", in_quotes(member.key), hint);
  }
  return "nothing in it is a model that this engine knows";
}

// Without a virtual service nothing is served: a slip in that word must not pass.
bool misspells_virtual_service(const Json& models, Naming naming, const Path& path,
                               Problems* problems) {
  if (models.member("VirtualService") != nullptr) return false;
  const Json* misspelt = nullptr;
  for (const Json& member : first_members(models)) {
    if (names_model(member.key, "VirtualService", naming)) return false;
    if (meant_by(member.key) == "VirtualService") misspelt = &member;
  }
  if (misspelt == nullptr) return false;
  problems->error(Path(path, misspelt->key),
                  fmt::format("is no model{} The document has no other virtual services",
                              did_you_mean(misspelt->key)));
  return true;
}

std::optional<Recognized> recognize_ansible(const Json& config, Problems* problems) {
  const Path top;
  const Path path(top, "avi_config");
  config.used = true;
  if (config.kind != Json::Kind::kObject) {
    problems->error(path, "must be an object of models in lower case, each an array of objects");
    return std::nullopt;
  }
  if (config.count > kMembersMax) {
    problems->error(path, fmt::format("has more than {} members", kMembersMax));
    return std::nullopt;
  }
  if (!config.items().empty() && !has_model(config, Naming::kAnsible)) {
    problems->error(path, fmt::format("is no document: {}; it must have models in lower case, each "
                                      "an array of objects, such as \"pool\"",
                                      what_it_looks_like(config)));
    return std::nullopt;
  }
  if (misspells_virtual_service(config, Naming::kAnsible, path, problems)) return std::nullopt;
  return Recognized{&config, Naming::kAnsible};
}

}  // namespace

std::string did_you_mean(std::string_view key) {
  const std::string_view model = meant_by(key);
  return model.empty() ? "" : fmt::format("; did you mean {}?", model);
}

const Json* find_model(const Json& models, std::string_view model, Naming naming, const Path& path,
                       Problems* problems) {
  if (naming == Naming::kByModel) return models.member(model);
  const Json* found = nullptr;
  for (const Json& member : models.items()) {
    if (!names_model(member.key, model, naming)) continue;
    if (found != nullptr) {
      problems->error(Path(path, member.key),
                      fmt::format("is the same model as {}", in_quotes(found->key)));
      member.used = true;
      continue;
    }
    found = &member;
  }
  return found;
}

std::optional<Recognized> recognize(const Json& root, Problems* problems) {
  if (root.kind != Json::Kind::kObject) {
    const bool nsx = root.kind == Json::Kind::kArray && !root.items().empty() &&
                     says_resource_type(root.items().front());
    problems->error("", fmt::format("is no document{}: {}",
                                    nsx ? " but a list of NSX's own objects" : "", kWhatToDo));
    return std::nullopt;
  }
  const Path top;
  if (has_model(root, Naming::kByModel)) {
    if (misspells_virtual_service(root, Naming::kByModel, top, problems)) return std::nullopt;
    return Recognized{&root, Naming::kByModel};
  }
  if (const Json* config = root.member("avi_config")) return recognize_ansible(*config, problems);
  const auto members = root.items();
  const bool empty = std::all_of(members.begin(), members.end(),
                                 [](const Json& member) { return member.key == "generation"; });
  if (empty) return Recognized{&root, Naming::kByModel};
  problems->error("", fmt::format("is no document: {} ({})", what_it_looks_like(root), kWhatToDo));
  return std::nullopt;
}

}  // namespace limpet::config
