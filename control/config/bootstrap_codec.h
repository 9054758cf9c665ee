// JSON text -> Bootstrap (control/config/README.md, "The engine's own file").
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "control/config/bootstrap.h"

namespace limpet::config {

struct ParsedBootstrap {
  Bootstrap bootstrap;
  std::vector<base::Error> warnings;  // things allowed that cost: a core that is shared, ...
};

// What could be read of a file that is wrong somewhere. A field that is wrong has its default, a
// wrong element of a list is not there (but a wrong port is, so that others keep their places).
struct PartialBootstrap {
  Bootstrap bootstrap;
  base::Errors errors;
  std::vector<base::Error> warnings;
};

// `folder`: where the file lies; relative paths are resolved against it. Pure: no file is opened.
// All errors at once, each with its JSON pointer.
base::Result<ParsedBootstrap> parse_bootstrap(std::string_view json,
                                              const std::filesystem::path& folder);
PartialBootstrap parse_what_is_right(std::string_view json, const std::filesystem::path& folder);

// Looks at the files that the bootstrap names and that must exist: the secret (at least 32 bytes),
// the TLS files, the document. Does I/O; reads nothing but sizes.
base::Status check_files(const Bootstrap& bootstrap);

// The file at `path`, against its folder. An unreadable file is an error without a JSON pointer.
base::Result<ParsedBootstrap> read_bootstrap(const std::filesystem::path& path);
PartialBootstrap read_what_is_right(const std::filesystem::path& path);

}  // namespace limpet::config
