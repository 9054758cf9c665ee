#include "control/config/draft.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/limits.h"
#include "control/config/identity.h"

namespace limpet::config {
namespace {

constexpr std::size_t kObjectsMax = 65'536;  // of one model

struct Model {
  std::string_view name;
  Target target;
};

constexpr std::array<Model, 14> kModels = {{
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
    {"VsVip", Target::kVsVip},
    {"Pool", Target::kPool},
    {"VirtualService", Target::kVirtualService},
}};

std::string_view name_of(const Json& object, Target target, const Path& path, Problems* problems) {
  std::string_view key = "name";
  if (target == Target::kNsxPersistenceProfile) {
    key = object.member("id") != nullptr ? "id" : "display_name";
  }
  const Json* name = object.member(key);
  if (name == nullptr) {
    problems->error(Path(path, key), "is required");
    return {};
  }
  return read_name(*name, Path(path, key), problems).value_or(std::string_view());
}

std::optional<std::string_view> optional_name(const Json& object, std::string_view key,
                                              const Path& path, Problems* problems) {
  const Json* value = object.member(key);
  if (value == nullptr || value->kind == Json::Kind::kNull) return std::nullopt;
  return read_name(*value, Path(path, key), problems);
}

void register_object(const Json& object, const Model& model, std::size_t index, const Path& path,
                     Origin origin, Draft* draft) {
  Problems* problems = draft->problems;
  object.used = true;
  Header header{&object, model.name, index, {}, {}, std::string(kAdminTenant)};
  header.name = name_of(object, model.target, path, problems);
  if (const auto tenant = optional_name(object, "tenant_ref", path, problems)) {
    header.tenant = draft->catalog.tenant_of(*tenant);
  }
  auto& headers = draft->of(model.target);
  const std::size_t number = draft->number_of_next(model.target);
  if (origin == Origin::kSystem) {
    if (draft->catalog.find_by_name(model.target, header.tenant, header.name)) return;
  }
  if (!header.name.empty() &&
      !draft->catalog.add_name(model.target, header.tenant, header.name, number)) {
    problems->error(path,
                    fmt::format("there is another {} with the name {} in tenant {}", model.name,
                                in_quotes(header.name), in_quotes(header.tenant)));
  }
  if (const auto uuid = optional_name(object, "uuid", path, problems)) {
    header.uuid = *uuid;
  } else {
    header.uuid = object_uuid(model.name, header.tenant, header.name);
  }
  if (!header.name.empty() && !draft->catalog.add_uuid(model.target, header.uuid, number)) {
    // Of equal names that has been said; an object without a uuid follows its name.
    if (object.member("uuid") != nullptr) {
      problems->error(Path(path, "uuid"),
                      fmt::format("there is another {} with this uuid", model.name));
    }
  }
  headers.push_back(std::move(header));
}

// The array of a model's objects; null when absent or wrong.
const Json* objects_of(const Json& root, std::string_view model, const Path& path,
                       Problems* problems) {
  const Json* objects = root.member(model);
  if (objects == nullptr) return nullptr;
  objects->used = true;
  if (objects->kind == Json::Kind::kNull) return nullptr;
  if (objects->kind == Json::Kind::kArray) return objects;
  problems->error(path, "must be an array of objects");
  return nullptr;
}

void register_tenants(const Json& root, Draft* draft) {
  const Json* tenants = root.member("Tenant");
  if (tenants == nullptr || tenants->kind != Json::Kind::kArray) return;
  tenants->used = true;
  for (const Json& tenant : tenants->items()) {
    const Json* uuid = tenant.member("uuid");
    const Json* name = tenant.member("name");
    if (uuid == nullptr || name == nullptr || uuid->kind != Json::Kind::kText ||
        name->kind != Json::Kind::kText) {
      continue;
    }
    draft->catalog.add_tenant(std::string(uuid->text()), std::string(name->text()));
  }
}

enum class IpType : uint8_t { kV4, kV6, kDns };
constexpr std::array<Choice<IpType>, 3> kIpTypes = {
    {{"V4", IpType::kV4}, {"V6", IpType::kV6}, {"DNS", IpType::kDns}}};

}  // namespace

void register_objects(const Json& root, Origin origin, Draft* draft) {
  register_tenants(root, draft);
  const Path top;
  for (const Model& model : kModels) {
    const Path path(top, model.name);
    const Json* objects = objects_of(root, model.name, path, draft->problems);
    if (objects == nullptr) continue;
    const std::size_t objects_max =
        model.target == Target::kVirtualService ? base::kVirtualServicesMax : kObjectsMax;
    if (objects->count > objects_max) {
      draft->problems->error(
          path, fmt::format("has {} objects: at most {} are allowed", objects->count, objects_max));
      continue;
    }
    std::size_t index = 0;
    for (const Json& object : objects->items()) {
      const Path object_path(path, index);
      if (object.kind == Json::Kind::kObject) {
        register_object(object, model, index, object_path, origin, draft);
      } else {
        draft->problems->error(object_path, "must be an object");
      }
      ++index;
    }
  }
}

std::optional<std::size_t> resolve(const Draft& draft, const Fields& fields, std::string_view key,
                                   Target target, const Header& from) {
  const auto text = fields.text(key);
  if (!text || text->empty()) return std::nullopt;
  return draft.catalog.resolve(target, *text, from.tenant, fields.at(key), draft.problems);
}

std::vector<std::size_t> resolve_all(const Draft& draft, const Fields& fields, std::string_view key,
                                     Target target, const Header& from) {
  std::vector<std::size_t> out;
  const Path list = fields.at(key);
  std::size_t index = 0;
  for (const Json& item : fields.array(key)) {
    const Path path(list, index++);
    const auto text = read_text(item, path, draft.problems);
    if (!text) continue;
    const auto found = draft.catalog.resolve(target, *text, from.tenant, path, draft.problems);
    if (found) out.push_back(*found);
  }
  return out;
}

std::optional<IpAddress> read_ip(const Fields& ip, Names names) {
  if (!ip) return std::nullopt;
  ip.require("addr");
  const auto type = ip.choice("type", kIpTypes);
  const auto addr = ip.text("addr");
  if (!addr) return std::nullopt;
  const auto address = parse_address(*addr);
  if (type == IpType::kDns || (!address && names == Names::kAllowed && !type && !ip.has("type"))) {
    if (names == Names::kRefused) {
      ip.error("type", "a DNS name cannot be used here");
      return std::nullopt;
    }
    const auto name = ip.name("addr");
    if (!name) return std::nullopt;
    return IpAddress{{}, std::string(*name)};
  }
  if (!address) {
    ip.error("addr", fmt::format("{} is not an IP address", in_quotes(*addr)));
    return std::nullopt;
  }
  if (type && address->is_v4() != (*type == IpType::kV4)) {
    ip.error("addr", fmt::format("{} is not of type {}", in_quotes(*addr),
                                 *type == IpType::kV4 ? "V4" : "V6"));
    return std::nullopt;
  }
  if (!is_host_address(*address)) {
    ip.error("addr", fmt::format("{} cannot be a host's address", in_quotes(*addr)));
    return std::nullopt;
  }
  if (!address->is_v4() && address->is_link_local()) {
    ip.error("addr", fmt::format("{} is link-local: no port is known for it", in_quotes(*addr)));
    return std::nullopt;
  }
  return IpAddress{*address, {}};
}

}  // namespace limpet::config
