// The part of the bootstrap that describes the network: ports, routes, neighbours, source NAT
// addresses. Internal to the bootstrap's codec.
#pragma once

#include <filesystem>
#include <string_view>

#include "control/config/bootstrap.h"
#include "control/config/fields.h"

namespace limpet::config {

// Reads `ports`, `routes`, `neighbors` and `snat`. Paths in devices are resolved against `folder`.
void read_network(const Fields& fields, const std::filesystem::path& folder, Bootstrap* out);

// 1 to 63 letters, digits, '.', '_' or '-', not beginning with '.' or '-': safe in file names and
// arguments.
bool is_token(std::string_view text);

}  // namespace limpet::config
