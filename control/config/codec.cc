#include "control/config/codec.h"

#include <fmt/format.h>

#include "common/base/assert.h"
#include "control/config/draft.h"
#include "control/config/recognize.h"
#include "control/config/system_objects.h"

namespace limpet::config {
namespace {

std::optional<uint64_t> read_generation(const Json& root, Problems* problems) {
  const Json* generation = root.member("generation");
  if (generation == nullptr) return std::nullopt;
  generation->used = true;
  if (generation->kind == Json::Kind::kNull) return std::nullopt;
  const Path top;
  const auto value = read_integer(*generation, Path(top, "generation"), {0, INT64_MAX - 1},
                                  Strictness::kTolerant, problems);
  return value ? std::make_optional(static_cast<uint64_t>(*value)) : std::nullopt;
}

// One warning per model that is not ours.
void warn_of_unknown_models(const Json& models, const Path& path, Problems* problems) {
  constexpr std::size_t kHintsMax = 1'000;  // they cost more than what they are about
  std::size_t unknown = 0;
  for (const Json& member : models.items()) {
    if (member.used) continue;
    const std::string objects = member.kind == Json::Kind::kArray
                                    ? fmt::format(" ({} objects)", member.items().size())
                                    : "";
    problems->warning(Path(path, member.key),
                      fmt::format("ignored: this engine does not use it{}{}", objects,
                                  ++unknown <= kHintsMax ? did_you_mean(member.key) : ""));
  }
}

// References go down this list only, so each reader finds what it needs already read.
void read_objects(Draft* draft) {
  read_nsx_persistence_profiles(draft);
  read_persistence_profiles(draft);
  read_network_profiles(draft);
  read_application_profiles(draft);
  read_health_monitors(draft);
  read_service_engine_groups(draft);
  read_opaque_models(draft);
  read_address_groups(draft);
  read_vs_vips(draft);
  read_pools(draft);
  read_virtual_services(draft);
}

}  // namespace

base::Result<Parsed> parse_document(std::string_view json) {
  Problems problems;
  const auto tree = JsonTree::parse(json, &problems);
  if (!tree) return problems.take_errors();
  const Json& root = tree->root();
  const auto generation = read_generation(root, &problems);
  const auto recognized = recognize(root, &problems);
  if (!recognized) return problems.take_errors();
  const auto system = JsonTree::parse(system_objects_json(), &problems);
  LIMPET_ASSERT(system.has_value());

  Usage usage;
  Draft draft(&problems, &usage, recognized->naming);
  register_objects(*recognized->models, Origin::kWritten, &draft);
  register_objects(system->root(), Origin::kSystem, &draft);
  warn_of_unknown_models(*recognized->models, draft.base(), &problems);
  if (recognized->models != &root) warn_of_unknown_models(root, draft.top, &problems);
  read_objects(&draft);
  validate(&draft);
  settle(&draft);

  if (problems.has_errors()) return problems.take_errors();
  return Parsed{std::move(draft.document), problems.take_warnings(), generation, std::string(json)};
}

}  // namespace limpet::config
