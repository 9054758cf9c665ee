// Draft: a document while it is being read. Internal to the codec; one thread, one parse.
//
// Three passes. The first (register_objects) gives every object of a known model its number, name,
// uuid, tenant and cloud and fills the catalog. The second reads the fields, model by model, so
// that each reference is resolved and checked where it stands. System default objects are read by
// the same code from a JSON text of their own (system_objects.h). The third (settle) decides which
// errors count: those of objects that a served virtual service uses, directly or over others.
//
// So a reader that meets a wrong field reports it and goes on with a value
//  1. that is safe to compile: the error may turn out to be a warning, and the object stays;
//  2. that does not by itself keep a virtual service from being served: else the error would undo
//     itself, and a mistyped word would silently switch a service off.
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
#include "control/config/recognize.h"
#include "control/config/references.h"
#include "control/config/usage.h"

namespace limpet::config {

// What every object has, whatever its model.
struct Header {
  const Json* json = nullptr;
  uint32_t id = 0;         // among all objects, in the order of registration
  std::string_view model;  // "Pool"
  std::string_view key;    // as the text calls it: "Pool", or Ansible's "pool"
  std::size_t index = 0;   // in the model's array of the text
  std::string name;
  std::string uuid;
  Place place;
  bool is_system = false;
};

// A VsVip, or the addresses written in a VirtualService.
struct Vips {
  std::vector<net::Address> addresses;
  std::string vrf{kGlobalVrf};
  bool awaits_address = false;  // automatic allocation, not done yet
  bool wrong = false;           // an error was reported: what it lacks may only be mistyped
};

// What an IpAddrGroup says; every address of it is a server of the pools that use it.
struct AddressGroup {
  struct Range {
    net::Address first;
    net::Address last;  // not below `first`, of the same family
  };
  std::vector<Range> ranges;
  std::size_t addresses = 0;  // in all of them; stops counting at kGroupAddressesMax + 1
  std::string_view missing;   // what it has that is not built; empty: nothing
};
inline constexpr std::size_t kGroupAddressesMax = 4'096;

// What a pool asks for that is not built, so that no virtual service with it can be served; empty
// when there is nothing of that kind.
struct PoolNeeds {
  std::string feature;
  std::string vrf{kGlobalVrf};
};

struct Draft {
  Draft(Problems* p, Usage* u, Naming n) : problems(p), usage(u), naming(n) {}
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;

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
  // The object with this number.
  const Header& header(Target target, std::size_t number) const {
    if (target != Target::kPersistenceProfile) return of(target)[number];
    const auto& nsx = of(Target::kNsxPersistenceProfile);
    return number < nsx.size() ? nsx[number] : of(target)[number - nsx.size()];
  }
  // Where the models are in the text.
  const Path& base() const { return naming == Naming::kAnsible ? ansible : top; }

  Problems* problems;
  Usage* usage;
  Naming naming;
  Path top;
  Path ansible{top, "avi_config"};
  Catalog catalog;
  std::array<std::vector<Header>, kTargets> headers;
  uint32_t objects = 0;
  std::vector<Vips> vs_vips;                 // by number of the VsVip
  std::vector<AddressGroup> address_groups;  // by number of the IpAddrGroup
  std::vector<PoolNeeds> pool_needs;         // by number of the Pool
  Document document;
};

// The objects of `models`, the object whose members are models; a second call adds those whose
// names are not taken yet (system objects).
enum class Origin : uint8_t { kWritten, kSystem };
void register_objects(const Json& models, Origin origin, Draft* draft);

// Calls `read(Fields&, const Header&)` for each object of the target, in order of their numbers.
template <class Read>
void for_each_object(const Draft& draft, Target target, Read&& read) {
  for (const Header& header : draft.of(target)) {
    const Problems::Owner owner(draft.problems, header.id);
    const Path model(draft.base(), header.key);
    Fields fields(*header.json, Path(model, header.index), draft.problems, Strictness::kTolerant);
    fields.ignore({"name", "uuid", "tenant_ref", "url", "_last_modified", "description",
                   "created_by", "markers", "configpb_attributes", "cloud_ref"});
    if (draft.naming == Naming::kAnsible) fields.ignore({"tenant", "state"});
    read(fields, header);
  }
}

// Where the object is in the text; empty for a system object.
std::string pointer_of(const Draft& draft, const Header& header);

// Copies what all objects have.
template <class Object>
Object object_of(const Header& header) {
  Object object;
  object.name = header.name;
  object.uuid = header.uuid;
  object.tenant = header.place.tenant;
  return object;
}

// The object that the reference in `key` names; nothing when the field is absent or wrong.
std::optional<std::size_t> resolve(const Draft& draft, const Fields& fields, std::string_view key,
                                   Target target, const Header& from);
// The same for an array of references; wrong ones are left out.
std::vector<std::size_t> resolve_all(const Draft& draft, const Fields& fields, std::string_view key,
                                     Target target, const Header& from);

// The name of the VRF that a reference in `key` means; the global one without it.
std::string vrf_of(const Draft& draft, const Fields& fields, std::string_view key);

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
void read_address_groups(Draft* draft);
void read_vs_vips(Draft* draft);
void read_pools(Draft* draft);
void read_virtual_services(Draft* draft);

// What concerns several objects at once: overlapping listeners, totals.
void validate(Draft* draft);
// Makes the errors of objects that nothing served uses warnings.
void settle(Draft* draft);

}  // namespace limpet::config
