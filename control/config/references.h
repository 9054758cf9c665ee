// References between objects, and the catalog they are looked up in. Used by one thread during one
// parse.
//
// The forms (SPEC 3): /api/pool/?name=X, /api/pool?name=X&tenant=admin&cloud=C, /api/pool/<uuid>,
// the same behind https://host, with #name at the end, and NSX paths such as
// /infra/lb-persistence-profiles/<id>. A bare uuid is accepted, a bare name is not (as in Avi).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
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
};
inline constexpr std::size_t kTargets = 12;

inline constexpr std::string_view kAdminTenant = "admin";

struct Reference {
  std::string collection;  // "pool", "lb-persistence-profiles"; empty for a bare uuid
  bool nsx = false;
  std::string id;                  // uuid, or NSX id; empty when by name
  std::vector<std::string> names;  // readings of the name, most literal first; may be with `id`
  std::string tenant;              // empty when not said

  // Nothing when the text has none of the forms.
  static std::optional<Reference> parse(std::string_view text);
};

// All objects of a document by name and by uuid. An object is known by its number among those of
// its target.
class Catalog {
 public:
  // The uuid and name of a Tenant object: references may say either.
  void add_tenant(std::string uuid, std::string name);
  // The name of the tenant that a tenant_ref means; `text` as written.
  std::string tenant_of(std::string_view text) const;

  // False when there is one with this name in this tenant already.
  bool add_name(Target target, std::string_view tenant, std::string_view name, std::size_t number);
  // False when there is one with this uuid already.
  bool add_uuid(Target target, std::string_view uuid, std::size_t number);
  std::optional<std::size_t> find_by_name(Target target, std::string_view tenant,
                                          std::string_view name) const;

  // The object that `text` refers to; nothing and a reported error when there is none. A name
  // without a tenant is looked up in `from_tenant`, then in admin.
  std::optional<std::size_t> resolve(Target target, std::string_view text,
                                     std::string_view from_tenant, const Path& path,
                                     Problems* problems) const;

 private:
  using Name = std::pair<std::string, std::string>;  // tenant, name

  struct Objects {
    std::map<Name, std::size_t> by_name;
    std::map<std::string, std::size_t, std::less<>> by_uuid;
  };

  std::optional<std::size_t> find(const Objects& objects, const Reference& reference,
                                  std::string_view from_tenant) const;
  std::optional<std::size_t> find_named(const Objects& objects, const Reference& reference,
                                        std::string_view tenant) const;

  std::array<Objects, kTargets> objects_;
  std::map<std::string, std::string, std::less<>> tenant_names_;  // by uuid
};

}  // namespace limpet::config
