// JSON text -> Document (control/config/README.md, "Documents"). Pure: no file, no clock; whatever
// the bytes are, the answer is a Document or errors, within memory and time proportional to the
// text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "control/config/document.h"

namespace limpet::config {

// Something tolerated that an operator wants to know. `path` is a JSON pointer.
using Warning = base::Error;

struct Parsed {
  Document document;
  std::vector<Warning> warnings;
  std::optional<uint64_t> generation;  // the top-level "generation"
  std::string text;                    // the JSON as it was sent
};

// All errors at once, each with its JSON pointer (at most kProblemsMax, then one that counts the
// rest).
//
// An error is: a text that is no JSON or no document (a non-empty object without one known model;
// an array; a model that is no array, an object of it that is none or has no name); names or uuids
// given twice; listeners of served virtual services that overlap; and what is wrong in a field that
// is used, of an object that a served virtual service uses, directly or over others, or of a
// service engine group. The same in other objects is a warning, and what it says is not used.
// Unknown fields and models are warnings, one per field of a model.
//
// Ansible's {"avi_config": {"pool": [...]}} is a document too; paths point into it as it was sent.
base::Result<Parsed> parse_document(std::string_view json);

}  // namespace limpet::config
