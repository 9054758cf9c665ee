// The backend's answers as JSON text, exactly as control/api/README.md describes them. Pure: called
// on the renderer thread, because a status of every server or a hundred thousand errors take longer
// to print than the control loop may stand still.
//
// Text that is not UTF-8 (names come from documents and peers) is printed with U+FFFD in place of
// the wrong bytes; nothing here throws for it.
#pragma once

#include <string>

#include "common/telemetry/events.h"
#include "control/api/backend.h"

namespace limpet::api {

std::string to_json(const base::Errors& errors);  // {"errors": [{"path", "message"}]}
std::string to_json(const ConfigApplied& applied);
std::string to_json(const MarksApplied& applied);
std::string to_json(const EntryPage& page);
std::string to_json(const EntriesRemoved& removed);
std::string to_json(const Explanation& explanation);
std::string to_json(const StatusView& status);
std::string to_json(const telemetry::EventPage& page);

}  // namespace limpet::api
