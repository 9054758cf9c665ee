// The objects that every Avi controller has from the start and that documents refer to without
// writing them (facts: the controller's own seed list). A written object of the same name in tenant
// admin takes the place of the one here.
#pragma once

#include <string_view>

namespace limpet::config {

// A document. Only fields that differ from the defaults are said.
std::string_view system_objects_json();

}  // namespace limpet::config
