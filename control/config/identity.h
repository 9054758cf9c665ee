// Identities (control/config/README.md): names for objects and servers that do not depend on their
// place in a document, so that engines with the same document agree and reordering moves nobody.
// Pure.
#pragma once

#include <string>
#include <string_view>

#include "control/config/document.h"

namespace limpet::config {

// The UUIDv5 (RFC 4122 4.3) of (model, tenant, name), as text: the identity of an object that was
// written without a `uuid`. `cloud` is the name of its cloud, empty for the default one (and for
// models that have none), whose identities are as they were before clouds counted.
std::string object_uuid(std::string_view model, std::string_view tenant, std::string_view name,
                        std::string_view cloud = {});

// The first eight bytes of the UUIDv5 of the server's `uuid`, else `external_uuid` and port (one
// machine may serve several), else "ip:port" ("name:port" for a DNS-type server), in the name space
// of its pool. Never 0.
ServerId server_id(std::string_view pool_uuid, const Server& server);

}  // namespace limpet::config
