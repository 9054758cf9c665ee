#include "control/config/references.h"

#include <fmt/format.h>

#include <algorithm>

namespace limpet::config {
namespace {

constexpr std::array<std::string_view, kTargets> kCollections = {
    "applicationpersistenceprofile",
    "lb-persistence-profiles",
    "pool",
    "virtualservice",
    "vsvip",
    "healthmonitor",
    "networkprofile",
    "applicationprofile",
    "serviceenginegroup",
    "sslprofile",
    "sslkeyandcertificate",
    "vsdatascriptset",
    "ipaddrgroup",
};

constexpr std::size_t kReferenceBytesMax = 4096;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Percent decoding (RFC 3986 2.1); what is no escape stays as it is.
std::string decoded(std::string_view text, bool plus_is_space) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
        hex_digit(text[i + 2]) >= 0) {
      out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else {
      out += text[i];
    }
  }
  return out;
}

// The value of a parameter of a query string; the text after "key=", undecoded.
std::optional<std::string_view> parameter(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    const auto end = query.find('&');
    const std::string_view one = query.substr(0, end);
    if (one.size() > key.size() && one.substr(0, key.size()) == key && one[key.size()] == '=') {
      return one.substr(key.size() + 1);
    }
    if (end == std::string_view::npos) break;
    query.remove_prefix(end + 1);
  }
  return std::nullopt;
}

void add_readings(std::string_view raw, std::vector<std::string>* names) {
  for (std::string reading : {std::string(raw), decoded(raw, false), decoded(raw, true)}) {
    if (reading.empty()) continue;
    if (std::find(names->begin(), names->end(), reading) == names->end()) {
      names->push_back(std::move(reading));
    }
  }
}

// Removes "https://host" in front; false when there is a scheme but no path behind the host.
bool strip_host(std::string_view* text) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (text->substr(0, scheme.size()) != scheme) continue;
    const auto slash = text->find('/', scheme.size());
    if (slash == std::string_view::npos) return false;
    text->remove_prefix(slash);
    return true;
  }
  return true;
}

// "/policy/api/v1/infra/lb-persistence-profiles/<id>": the last two components.
std::optional<Reference> parse_nsx(std::string_view path) {
  const auto slash = path.rfind('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == path.size()) {
    return std::nullopt;
  }
  const std::string_view before = path.substr(0, slash);
  Reference out;
  out.nsx = true;
  out.collection = lower_case(before.substr(before.rfind('/') + 1));
  out.id = decoded(path.substr(slash + 1), false);
  add_readings(path.substr(slash + 1), &out.names);
  return out;
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::optional<Reference> Reference::parse(std::string_view text) {
  if (text.empty() || text.size() > kReferenceBytesMax || !strip_host(&text)) return std::nullopt;
  if (text.front() != '/') {
    // A bare uuid, which has the form <objecttype>-<uuid> in Avi; "/api/" may have been left out.
    if (text.substr(0, 4) == "api/") return parse('/' + std::string(text));
    Reference out;
    out.id = text.substr(0, text.find('#'));
    return out;
  }
  constexpr std::string_view kApi = "/api/";
  if (text.substr(0, kApi.size()) != kApi) {
    return parse_nsx(text.substr(0, text.find('#')));
  }
  text.remove_prefix(kApi.size());

  const auto hash = text.rfind('#');
  const std::string_view fragment =
      hash == std::string_view::npos ? std::string_view() : text.substr(hash + 1);
  const std::string_view whole = text;
  text = text.substr(0, hash);

  const auto question = text.find('?');
  std::string_view path = text.substr(0, question);
  Reference out;
  const auto slash = path.find('/');
  out.collection = lower_case(path.substr(0, slash));
  if (slash != std::string_view::npos) {
    std::string_view id = path.substr(slash + 1);
    if (!id.empty() && id.back() == '/') id.remove_suffix(1);
    if (id.find('/') != std::string_view::npos) return std::nullopt;
    out.id = decoded(id, false);
  }
  if (question != std::string_view::npos) {
    const std::string_view query = text.substr(question + 1);
    if (const auto tenant = parameter(query, "tenant")) out.tenant = decoded(*tenant, true);
    if (const auto cloud = parameter(query, "cloud")) out.cloud = decoded(*cloud, true);
    if (const auto name = parameter(query, "name")) {
      add_readings(*name, &out.names);
      // A name with '#' in it, written without escaping.
      if (hash != std::string_view::npos) {
        if (const auto full = parameter(whole.substr(question + 1), "name")) {
          add_readings(*full, &out.names);
        }
      }
    }
  } else {
    add_readings(fragment, &out.names);
  }
  if (out.collection.empty() || (out.id.empty() && out.names.empty())) return std::nullopt;
  return out;
}

bool is_of_cloud(Target target) {
  return target == Target::kPool || target == Target::kVirtualService || target == Target::kVsVip ||
         target == Target::kServiceEngineGroup;
}

void NamesByUuid::add(std::string uuid, std::string name) {
  by_uuid_.emplace(std::move(uuid), std::move(name));
}

std::string NamesByUuid::of(std::string_view text) const {
  const auto reference = Reference::parse(text);
  if (!reference) return std::string(text);
  const auto known = by_uuid_.find(reference->id);
  if (known != by_uuid_.end()) return known->second;
  if (!reference->names.empty()) return reference->names.back();
  return reference->id;
}

std::string NamesByUuid::of_parameter(const std::string& name_or_uuid) const {
  const auto known = by_uuid_.find(name_or_uuid);
  return known == by_uuid_.end() ? name_or_uuid : known->second;
}

bool Catalog::add_name(Target target, const Place& place, std::string_view name,
                       std::size_t number) {
  Objects& all = objects(target);
  if (!all.by_name.emplace(Name(place.tenant, place.cloud, name), number).second) return false;
  Anywhere& anywhere = all.in_any_cloud[{place.tenant, std::string(name)}];
  anywhere.number = number;
  ++anywhere.count;
  return true;
}

void Catalog::add_system_name(Target target, std::string_view name) {
  objects(target).system_names.emplace(name);
}

bool Catalog::add_uuid(Target target, std::string_view uuid, std::size_t number) {
  return objects(target).by_uuid.emplace(uuid, number).second;
}

std::optional<std::size_t> Catalog::find_by_name(Target target, const Place& place,
                                                 std::string_view name) const {
  const auto& names = objects(target).by_name;
  const auto found = names.find(Name(place.tenant, place.cloud, name));
  return found == names.end() ? std::nullopt : std::make_optional(found->second);
}

// The object of this name if just one cloud has one.
std::optional<std::size_t> Catalog::find_anywhere(Target target, std::string_view tenant,
                                                  const std::string& name) const {
  const auto& names = objects(target).in_any_cloud;
  const auto found = names.find({std::string(tenant), name});
  if (found == names.end() || found->second.count != 1) return std::nullopt;
  return found->second.number;
}

std::optional<std::size_t> Catalog::find_in(Target target, const Reference& reference,
                                            std::string_view tenant, const Place& from) const {
  const bool in_cloud = is_of_cloud(target);
  const bool said = in_cloud && !reference.cloud.empty();
  Place place{std::string(tenant), std::string(kDefaultCloud)};
  if (in_cloud) place.cloud = said ? clouds.of_parameter(reference.cloud) : from.cloud;
  for (const std::string& name : reference.names) {
    if (const auto found = find_by_name(target, place, name)) return found;
    if (said && objects(target).system_names.count(name) == 0) continue;
    const Place fallback{place.tenant, std::string(kDefaultCloud)};
    if (const auto found = find_by_name(target, fallback, name)) return found;
    if (const auto found = find_anywhere(target, tenant, name)) return found;
  }
  return std::nullopt;
}

std::optional<std::size_t> Catalog::find(Target target, const Reference& reference,
                                         const Place& from) const {
  const auto& by_uuid = objects(target).by_uuid;
  const auto found = by_uuid.find(reference.id);
  if (found != by_uuid.end()) return found->second;
  if (!reference.tenant.empty()) {
    return find_in(target, reference, tenants.of_parameter(reference.tenant), from);
  }
  if (const auto own = find_in(target, reference, from.tenant, from)) return own;
  return find_in(target, reference, kAdminTenant, from);
}

std::optional<std::size_t> Catalog::resolve(Target target, std::string_view text, const Place& from,
                                            const Path& path, Problems* problems) const {
  const std::string_view collection = kCollections[static_cast<std::size_t>(target)];
  const auto reference = Reference::parse(text);
  if (!reference) {
    problems->error(path, fmt::format("{} is no reference; write /api/{}/?name=NAME",
                                      in_quotes(text), collection));
    return std::nullopt;
  }
  if (!reference->collection.empty() && !reference->nsx && reference->collection != collection) {
    problems->error(path, fmt::format("refers to a {}, must be a {}",
                                      in_quotes(reference->collection), collection));
    return std::nullopt;
  }
  constexpr Target kNsx = Target::kNsxPersistenceProfile;
  std::optional<std::size_t> found;
  if (target == Target::kPersistenceProfile && reference->nsx) found = find(kNsx, *reference, {});
  if (!found) found = find(target, *reference, from);
  if (!found && target == Target::kPersistenceProfile) found = find(kNsx, *reference, {});
  if (found) return found;

  std::string message = fmt::format("no {} is what {} refers to", collection, in_quotes(text));
  if (reference->names.empty() && !reference->nsx) {
    // A controller's own uuids of system objects say nothing elsewhere.
    message += fmt::format(
        "; system objects are known here by their names only: export the configuration with names "
        "in its references (the REST API's include_name), as /api/{}/?name=NAME or "
        "/api/{}/UUID#NAME",
        collection, collection);
  }
  problems->error(path, std::move(message));
  return std::nullopt;
}

}  // namespace limpet::config
