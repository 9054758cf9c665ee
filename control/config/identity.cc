#include "control/config/identity.h"

#include <algorithm>
#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/uuid.hpp>
#include <boost/uuid/uuid_io.hpp>

namespace limpet::config {
namespace {

// The name space of all of Limpet's identities. Fixed for ever: engines and stored tables agree by
// it.
constexpr boost::uuids::uuid kNamespace = {{0x6c, 0x69, 0x6d, 0x70, 0x65, 0x74, 0x53, 0x45, 0x9a,
                                            0x1f, 0x3b, 0x07, 0xc2, 0x5e, 0x88, 0xd4}};

boost::uuids::uuid named(const boost::uuids::uuid& space, std::string_view name) {
  return boost::uuids::name_generator_sha1(space)(name.data(), name.size());
}

}  // namespace

std::string object_uuid(std::string_view model, std::string_view tenant, std::string_view name,
                        std::string_view cloud) {
  // Each part with its length, so that no two lists of parts have one text.
  std::string text;
  const auto add = [&](std::string_view part) {
    text += std::to_string(part.size());
    text += ':';
    text += part;
  };
  add(model);
  add(tenant);
  add(name);
  if (!cloud.empty()) add(cloud);
  return to_string(named(kNamespace, text));
}

ServerId server_id(std::string_view pool_uuid, const Server& server) {
  std::string text;
  if (!server.uuid.empty()) {
    text = "uuid:" + server.uuid;
  } else if (!server.external_uuid.empty()) {
    text = "external_uuid:" + server.external_uuid + ':' + std::to_string(server.port);
  } else if (server.dns) {
    text = "name:" + server.hostname + ':' + std::to_string(server.port);
  } else {
    text = net::Endpoint{server.address, server.port}.to_string();
  }
  const boost::uuids::uuid uuid = named(named(kNamespace, pool_uuid), text);
  uint64_t id = 0;
  for (std::size_t i = 0; i < 8; ++i) id = id << 8 | uuid.data[i];
  return ServerId{std::max<uint64_t>(id, 1)};
}

}  // namespace limpet::config
