// Draft: a document while it is being read. Internal to the codec; one thread, one parse.
//
// Two passes. The first (register_objects) gives every object of a known model its number, name,
// uuid and tenant and fills the catalog. The second reads the fields, model by model, so that each
// reference is resolved and checked where it stands. System default objects are read by the same
// code from a JSON text of their own (system_objects.h).
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/config/document.h"
#include "control/config/fields.h"
#include "control/config/json.h"
#include "control/config/problems.h"
#include "control/config/references.h"

namespace limpet::config {

// What every object has, whatever its model.
struct Header {
  const Json* json = nullptr;
  std::string_view model;  // "Pool"
  std::size_t index = 0;   // in the model's array of the text
  std::string name;
  std::string uuid;
  std::string tenant;
};

// A VsVip, or the addresses written in a VirtualService.
struct Vips {
  std::vector<net::Address> addresses;
  bool awaits_address = false;  // automatic allocation, not done yet
};

struct Draft {
  explicit Draft(Problems* p) : problems(p) {}

  const std::vector<Header>& of(Target target) const {
    return headers[static_cast<std::size_t>(target)];
  }
  std::vector<Header>& of(Target target) { return headers[static_cast<std::size_t>(target)]; }

  // The number that the next object of the target gets. NSX's profiles come before Avi's, in one
  // numbering: they are registered first and none is added later.
  std::size_t number_of_next(Target target) const {
    const std::size_t before =
        target == Target::kPersistenceProfile ? of(Target::kNsxPersistenceProfile).size() : 0;
    return before + of(target).size();
  }

  Problems* problems;
  Catalog catalog;
  std::array<std::vector<Header>, kTargets> headers;
  std::vector<Vips> vs_vips;  // by number of the VsVip
  Document document;
};

// The objects of `root`; a second call adds those whose names are not taken yet (system objects).
enum class Origin : uint8_t { kWritten, kSystem };
void register_objects(const Json& root, Origin origin, Draft* draft);

// Calls `read(Fields&, const Header&)` for each object of the target, in order of their numbers.
template <class Read>
void for_each_object(const Draft& draft, Target target, Read&& read) {
  const Path root;
  for (const Header& header : draft.of(target)) {
    const Path model(root, header.model);
    Fields fields(*header.json, Path(model, header.index), draft.problems, Strictness::kTolerant);
    fields.ignore({"name", "uuid", "tenant_ref", "url", "_last_modified", "description",
                   "created_by", "markers", "configpb_attributes", "cloud_ref"});
    read(fields, header);
  }
}

// Copies what all objects have.
template <class Object>
Object object_of(const Header& header) {
  Object object;
  object.name = header.name;
  object.uuid = header.uuid;
  object.tenant = header.tenant;
  return object;
}

// The object that the reference in `key` names; nothing when the field is absent or wrong.
std::optional<std::size_t> resolve(const Draft& draft, const Fields& fields, std::string_view key,
                                   Target target, const Header& from);
// The same for an array of references; wrong ones are left out.
std::vector<std::size_t> resolve_all(const Draft& draft, const Fields& fields, std::string_view key,
                                     Target target, const Header& from);

// Avi's IpAddr, {"addr", "type": V4 | V6 | DNS}.
struct IpAddress {
  net::Address address;  // unspecified for a name
  std::string name;      // of type DNS
};
enum class Names : uint8_t { kRefused, kAllowed };
// Nothing when absent or wrong (reported). Refuses what can be no host's unicast address.
std::optional<IpAddress> read_ip(const Fields& ip, Names names);

void read_persistence_profiles(Draft* draft);
void read_nsx_persistence_profiles(Draft* draft);
void read_network_profiles(Draft* draft);
void read_application_profiles(Draft* draft);
void read_health_monitors(Draft* draft);
void read_service_engine_groups(Draft* draft);
void read_opaque_models(Draft* draft);
void read_vs_vips(Draft* draft);
void read_pools(Draft* draft);
void read_virtual_services(Draft* draft);

// What concerns several objects at once: overlapping listeners, totals.
void validate(Draft* draft);

}  // namespace limpet::config
