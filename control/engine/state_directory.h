// StateDirectory: what survives a restart of the engine, as files in its `state_directory`.
//
// Each file is written whole: to a new file, synced, renamed over the old one, and the folder
// synced; so after a crash there is the old content or the new. The first line names the format
// and the content's SHA-256; a file that does not match it, torn or foreign, is refused.
//
// Threads: save() runs on the helper thread, everything else on the control thread before it
// starts. Other engines must not use the same directory.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace limpet::engine {

class StateDirectory {
 public:
  static constexpr std::string_view kDocument = "document";
  static constexpr std::string_view kHealthMarks = "health-marks";
  static constexpr std::string_view kTable = "persistence";

  // Makes the directory if need be. Errors: "/state_directory".
  static base::Result<StateDirectory> open(const std::filesystem::path& path);

  // The content; nothing when there is no such file. Errors: it cannot be read, or is not what
  // save() wrote.
  base::Result<std::optional<std::string>> load(std::string_view name) const;

  // Gives the file another name, `name`.refused, in the place of an earlier one.
  base::Status set_aside(std::string_view name) const;

  // Returns when it is on disk.
  base::Status save(std::string_view name, std::string_view content) const {
    return save(name, std::span(&content, 1));
  }
  // The content in pieces.
  base::Status save(std::string_view name, std::span<const std::string_view> pieces) const;

 private:
  explicit StateDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
};

}  // namespace limpet::engine
