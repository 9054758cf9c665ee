// References between objects, and the catalog they are looked up in. Used by one thread during one
// parse.
//
// The forms (control/config/README.md, "References"): /api/pool/?name=X,
// /api/pool?name=X&tenant=admin&cloud=C, /api/pool/<uuid>, the same behind https://host, with #name
// at the end, and NSX paths such as /infra/lb-persistence-profiles/<id>. A bare uuid is accepted, a
// bare name is not (as in Avi).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "control/config/problems.h"

namespace limpet::config {

// What a reference can point at. NSX's three kinds of persistence profiles share one name space; a
// reference to a persistence profile finds both Avi's and NSX's.
enum class Target : uint8_t {
  kPersistenceProfile,
  kNsxPersistenceProfile,
  kPool,
  kVirtualService,
  kVsVip,
  kHealthMonitor,
  kNetworkProfile,
  kApplicationProfile,
  kServiceEngineGroup,
  kSslProfile,
  kSslKeyAndCertificate,
  kDataScriptSet,
  kIpAddrGroup,
};
inline constexpr std::size_t kTargets = 13;

inline constexpr std::string_view kAdminTenant = "admin";
inline constexpr std::string_view kDefaultCloud = "Default-Cloud";
inline constexpr std::string_view kGlobalVrf = "global";

// Whether objects of this kind are in a cloud, each with names of its own; others have none.
bool is_of_cloud(Target target);

// ASCII letters in lower case: collections are the models' names in it.
std::string lower_case(std::string_view text);

struct Reference {
  std::string collection;  // "pool", "lb-persistence-profiles"; empty for a bare uuid
  bool nsx = false;
  std::string id;                  // uuid, or NSX id; empty when by name
  std::vector<std::string> names;  // readings of the name, most literal first; may be with `id`
  std::string tenant;              // empty when not said
  std::string cloud;               // the same

  // Nothing when the text has none of the forms.
  static std::optional<Reference> parse(std::string_view text);
};

// Objects of models that are only referred to (Tenant, Cloud, VrfContext): references may say their
// uuid or their name.
class NamesByUuid {
 public:
  void add(std::string uuid, std::string name);
  // The name of what a reference means; its uuid when no object has it. `text` as written.
  std::string of(std::string_view text) const;
  // The same for a name or uuid by itself, as in a query.
  std::string of_parameter(const std::string& name_or_uuid) const;

 private:
  std::map<std::string, std::string, std::less<>> by_uuid_;
};

// Where an object is: its references are looked up from there.
struct Place {
  std::string tenant{kAdminTenant};
  std::string cloud{kDefaultCloud};  // kDefaultCloud too for models without one
};

// All objects of a document by name and by uuid. An object is known by its number among those of
// its target.
class Catalog {
 public:
  NamesByUuid tenants;
  NamesByUuid clouds;
  NamesByUuid vrfs;

  // False when there is one with this name in this place already.
  bool add_name(Target target, const Place& place, std::string_view name, std::size_t number);
  // System objects with names of their own are in all clouds that have none of the name.
  void add_system_name(Target target, std::string_view name);
  // False when there is one with this uuid already.
  bool add_uuid(Target target, std::string_view uuid, std::size_t number);
  // Exactly there.
  std::optional<std::size_t> find_by_name(Target target, const Place& place,
                                          std::string_view name) const;

  // The object that `text` refers to; nothing and a reported error when there is none. A name
  // without a tenant is looked up in that of `from`, then in admin; one without a cloud in that of
  // `from`, in the default cloud, and anywhere if only one cloud has it.
  std::optional<std::size_t> resolve(Target target, std::string_view text, const Place& from,
                                     const Path& path, Problems* problems) const;

 private:
  using Name = std::tuple<std::string, std::string, std::string>;  // tenant, cloud, name
  struct Anywhere {
    std::size_t number = 0;
    std::size_t count = 0;
  };

  struct Objects {
    std::map<Name, std::size_t> by_name;
    std::map<std::pair<std::string, std::string>, Anywhere> in_any_cloud;  // by tenant and name
    std::map<std::string, std::size_t, std::less<>> by_uuid;
    std::set<std::string, std::less<>> system_names;
  };

  const Objects& objects(Target target) const { return objects_[static_cast<std::size_t>(target)]; }
  Objects& objects(Target target) { return objects_[static_cast<std::size_t>(target)]; }
  std::optional<std::size_t> find(Target target, const Reference& reference,
                                  const Place& from) const;
  std::optional<std::size_t> find_in(Target target, const Reference& reference,
                                     std::string_view tenant, const Place& from) const;
  std::optional<std::size_t> find_anywhere(Target target, std::string_view tenant,
                                           const std::string& name) const;

  std::array<Objects, kTargets> objects_;
};

}  // namespace limpet::config
