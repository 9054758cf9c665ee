#include "control/config/draft.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/limits.h"
#include "control/config/identity.h"

namespace limpet::config {
namespace {

constexpr std::size_t kObjectsMax = 65'536;  // of one model

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

// Where the object is. Ansible's modules say "tenant" where the API says tenant_ref.
Place place_of(const Json& object, Target target, const Path& path, const Draft& draft) {
  Problems* problems = draft.problems;
  Place place;
  if (const auto tenant = optional_name(object, "tenant_ref", path, problems)) {
    place.tenant = draft.catalog.tenants.of(*tenant);
  } else if (draft.naming == Naming::kAnsible) {
    if (const auto name = optional_name(object, "tenant", path, problems)) place.tenant = *name;
  }
  if (!is_of_cloud(target)) return place;
  if (const auto cloud = optional_name(object, "cloud_ref", path, problems)) {
    place.cloud = draft.catalog.clouds.of(*cloud);
  }
  return place;
}

void register_name(const Header& header, Target target, std::size_t number, const Path& path,
                   Draft* draft) {
  if (header.name.empty() || draft->catalog.add_name(target, header.place, header.name, number)) {
    return;
  }
  const std::string cloud = header.place.cloud == kDefaultCloud
                                ? ""
                                : fmt::format(" and cloud {}", in_quotes(header.place.cloud));
  draft->problems->error(
      path, fmt::format("there is another {} with the name {} in tenant {}{}", header.model,
                        in_quotes(header.name), in_quotes(header.place.tenant), cloud));
}

void register_uuid(Header* header, Target target, std::size_t number, const Path& path,
                   Draft* draft) {
  const auto written = optional_name(*header->json, "uuid", path, draft->problems);
  const std::string_view cloud =
      header->place.cloud == kDefaultCloud ? std::string_view() : header->place.cloud;
  header->uuid = written ? std::string(*written)
                         : object_uuid(header->model, header->place.tenant, header->name, cloud);
  if (header->name.empty() || draft->catalog.add_uuid(target, header->uuid, number)) return;
  // Of equal names that has been said; an object without a uuid follows its name.
  if (!written) return;
  draft->problems->error(Path(path, "uuid"),
                         fmt::format("there is another {} with this uuid", header->model));
}

void register_object(const Json& object, const Model& model, std::string_view key,
                     std::size_t index, const Path& path, Origin origin, Draft* draft) {
  object.used = true;
  const Json* state = object.member("state");
  if (draft->naming == Naming::kAnsible && state != nullptr && state->kind == Json::Kind::kText &&
      state->text() == "absent") {
    return;
  }
  Header header;
  header.json = &object;
  header.model = model.name;
  header.key = key;
  header.index = index;
  header.name = name_of(object, model.target, path, draft->problems);
  header.place = place_of(object, model.target, path, *draft);
  if (origin == Origin::kSystem) {
    draft->catalog.add_system_name(model.target, header.name);
    if (draft->catalog.find_by_name(model.target, header.place, header.name)) return;
  }
  const std::size_t number = draft->number_of_next(model.target);
  register_name(header, model.target, number, path, draft);
  register_uuid(&header, model.target, number, path, draft);
  header.id = draft->objects++;
  header.is_system = origin == Origin::kSystem;
  draft->of(model.target).push_back(std::move(header));
}

// The uuids and names of a model that is only referred to.
void register_names(const Json& models, std::string_view model, const Draft& draft,
                    NamesByUuid* names) {
  const Json* objects = find_model(models, model, draft.naming, draft.base(), draft.problems);
  if (objects == nullptr || objects->kind != Json::Kind::kArray) return;
  objects->used = true;
  for (const Json& object : objects->items()) {
    const Json* uuid = object.member("uuid");
    const Json* name = object.member("name");
    if (uuid == nullptr || name == nullptr || uuid->kind != Json::Kind::kText ||
        name->kind != Json::Kind::kText) {
      continue;
    }
    names->add(std::string(uuid->text()), std::string(name->text()));
  }
}

void register_model(const Json& objects, const Model& model, const Path& path, Origin origin,
                    Draft* draft) {
  objects.used = true;
  if (objects.kind == Json::Kind::kNull) return;
  if (objects.kind != Json::Kind::kArray) {
    return draft->problems->error(path, "must be an array of objects");
  }
  const std::size_t objects_max =
      model.target == Target::kVirtualService ? base::kVirtualServicesMax : kObjectsMax;
  if (objects.count > objects_max) {
    return draft->problems->error(
        path, fmt::format("has {} objects: at most {} are allowed", objects.count, objects_max));
  }
  std::size_t index = 0;
  for (const Json& object : objects.items()) {
    const Path object_path(path, index);
    if (object.kind == Json::Kind::kObject) {
      register_object(object, model, objects.key, index, object_path, origin, draft);
    } else {
      draft->problems->error(object_path, "must be an object");
    }
    ++index;
  }
}

enum class IpType : uint8_t { kV4, kV6, kDns };
constexpr std::array<Choice<IpType>, 3> kIpTypes = {
    {{"V4", IpType::kV4}, {"V6", IpType::kV6}, {"DNS", IpType::kDns}}};

}  // namespace

void register_objects(const Json& models, Origin origin, Draft* draft) {
  const Naming naming = origin == Origin::kSystem ? Naming::kByModel : draft->naming;
  if (origin == Origin::kWritten) {
    register_names(models, "Tenant", *draft, &draft->catalog.tenants);
    register_names(models, "Cloud", *draft, &draft->catalog.clouds);
    register_names(models, "VrfContext", *draft, &draft->catalog.vrfs);
  }
  for (const Model& model : kModels) {
    const Json* objects = find_model(models, model.name, naming, draft->base(), draft->problems);
    if (objects == nullptr) continue;
    register_model(*objects, model, Path(draft->base(), objects->key), origin, draft);
  }
}

std::string pointer_of(const Draft& draft, const Header& header) {
  if (header.is_system) return {};
  const Path model(draft.base(), header.key);
  return Path(model, header.index).pointer();
}

std::optional<std::size_t> resolve_text(const Draft& draft, std::string_view text, const Path& path,
                                        Target target, const Header& from) {
  const auto found = draft.catalog.resolve(target, text, from.place, path, draft.problems);
  if (found) draft.usage->add(from.id, draft.header(target, *found).id);
  return found;
}

std::optional<std::size_t> resolve(const Draft& draft, const Fields& fields, std::string_view key,
                                   Target target, const Header& from) {
  const auto text = fields.text(key);
  if (!text || text->empty()) return std::nullopt;
  return resolve_text(draft, *text, fields.at(key), target, from);
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
    const auto found = resolve_text(draft, *text, path, target, from);
    if (found) out.push_back(*found);
  }
  return out;
}

std::string vrf_of(const Draft& draft, const Fields& fields, std::string_view key) {
  const auto text = fields.text(key);
  return text && !text->empty() ? draft.catalog.vrfs.of(*text) : std::string(kGlobalVrf);
}

void settle(Draft* draft) {
  std::vector<uint32_t> roots;
  for (std::size_t i = 0; i < draft->document.virtual_services.size(); ++i) {
    if (draft->document.virtual_services[i].served) {
      roots.push_back(draft->of(Target::kVirtualService)[i].id);
    }
  }
  // What a group says is acted on whether or not it has virtual services.
  for (const Header& group : draft->of(Target::kServiceEngineGroup)) roots.push_back(group.id);
  draft->problems->settle(draft->usage->reachable(std::move(roots), draft->objects));
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
