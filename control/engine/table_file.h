// The copy of the persist table on disk: records of fixed layout behind a header. StateDirectory
// puts a checksum around it and sees to it that there is the old file or the new one; this is what
// is inside.
//
// Times are wall times, so that they mean something after a restart. TableWriter cuts the content
// into pieces of bounded size, because the control thread that fills it must not copy it whole.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/binding/change.h"
#include "common/timing/time.h"

namespace limpet::engine {

struct SavedRecord {
  binding::ScopeId scope;
  bool whole_scope = false;  // a tombstone of all its bindings: record.deleted
  binding::Key key;
  binding::Record record;
  timing::WallTime act_at;

  friend bool operator==(const SavedRecord&, const SavedRecord&) = default;
};

class TableWriter {
 public:
  TableWriter();

  void add(const SavedRecord& record);
  // The whole content. `clock`: the highest stamp that was seen.
  std::vector<std::string> finish(binding::Stamp clock);

 private:
  std::vector<std::string> pieces_;
  uint64_t count_ = 0;
};

class TableReader {
 public:
  // Errors: not a content of this version, or a value in it that no engine writes.
  static base::Result<TableReader> open(std::string content);

  binding::Stamp clock() const;
  uint64_t count() const { return count_; }
  // 0 .. count() - 1.
  SavedRecord at(uint64_t index) const;

 private:
  explicit TableReader(std::string content) : content_(std::move(content)) {}

  std::string content_;
  uint64_t count_ = 0;
};

}  // namespace limpet::engine
