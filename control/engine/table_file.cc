#include "control/engine/table_file.h"

#include <fmt/core.h>

#include <bit>
#include <cstring>

#include "control/mirroring/frame.h"

namespace limpet::engine {
namespace {

using binding::Stamp;

static_assert(std::endian::native == std::endian::little, "integers are little endian on disk");

constexpr uint32_t kVersion = 1;
constexpr std::size_t kPieceBytes = 1u << 20;

struct Header {
  uint32_t version = kVersion;
  uint32_t record_bytes = 0;
  uint64_t clock = 0;
  uint64_t count = 0;
};
static_assert(sizeof(Header) == 24);

struct DiskRecord {
  static constexpr uint8_t kHeld = 1;
  static constexpr uint8_t kWholeScope = 2;

  uint64_t scope = 0;
  std::array<uint64_t, 2> key{};
  uint64_t stamp = 0;
  uint64_t server = 0;
  uint64_t first = 0;
  uint64_t deleted = 0;
  uint64_t act = 0;
  int64_t act_at_ns = 0;  // since 1970
  uint32_t epoch = 0;
  uint32_t timeout_ms = 0;
  uint8_t bits = 0;
  std::array<uint8_t, 7> unused{};
};
static_assert(sizeof(DiskRecord) == 88, "a layout without holes");
static_assert(std::has_unique_object_representations_v<DiskRecord>);

template <class T>
T read(const std::string& from, std::size_t at) {
  T out;
  std::memcpy(&out, from.data() + at, sizeof(T));
  return out;
}

bool is_possible(const DiskRecord& r) {
  const auto stamp = [](uint64_t value) { return Stamp{value} < mirroring::kStampEnd; };
  return stamp(r.stamp) && stamp(r.deleted) && stamp(r.act) && (r.stamp != 0 || r.deleted != 0) &&
         r.act_at_ns > -mirroring::kMomentEnd && r.act_at_ns < mirroring::kMomentEnd;
}

}  // namespace

TableWriter::TableWriter() : pieces_(1) {
  pieces_[0].reserve(kPieceBytes);
  pieces_[0].resize(sizeof(Header));
}

void TableWriter::add(const SavedRecord& saved) {
  const binding::Record& r = saved.record;
  const DiskRecord out{
      .scope = saved.scope.value,
      .key = saved.key.words,
      .stamp = r.stamp.value,
      .server = r.server.value,
      .first = r.first.value,
      .deleted = r.deleted.value,
      .act = r.act.value,
      .act_at_ns = saved.act_at.ns,
      .epoch = r.epoch,
      .timeout_ms = r.timeout_ms,
      .bits = static_cast<uint8_t>((r.held ? DiskRecord::kHeld : 0) |
                                   (saved.whole_scope ? DiskRecord::kWholeScope : 0))};
  if (pieces_.back().size() + sizeof(out) > kPieceBytes)
    pieces_.emplace_back().reserve(kPieceBytes);
  pieces_.back().append(reinterpret_cast<const char*>(&out), sizeof(out));
  ++count_;
}

std::vector<std::string> TableWriter::finish(Stamp clock) {
  const Header header{kVersion, sizeof(DiskRecord), clock.value, count_};
  std::memcpy(pieces_[0].data(), &header, sizeof(header));
  return std::move(pieces_);
}

base::Result<TableReader> TableReader::open(std::string content) {
  const auto refused = [](std::string why) {
    return base::Error{"/state_directory", "the table on disk is of no use: " + why};
  };
  if (content.size() < sizeof(Header)) return refused("too short");
  const auto header = read<Header>(content, 0);
  if (header.version != kVersion || header.record_bytes != sizeof(DiskRecord))
    return refused(fmt::format("version {} is not known here", header.version));
  if ((content.size() - sizeof(Header)) / sizeof(DiskRecord) != header.count ||
      (content.size() - sizeof(Header)) % sizeof(DiskRecord) != 0)
    return refused("its length is wrong");
  bool possible = Stamp{header.clock} < mirroring::kStampEnd;
  for (uint64_t i = 0; i < header.count && possible; ++i)
    possible = is_possible(read<DiskRecord>(content, sizeof(Header) + i * sizeof(DiskRecord)));
  if (!possible) return refused("it has values that no engine writes");
  TableReader out(std::move(content));
  out.count_ = header.count;
  return out;
}

Stamp TableReader::clock() const {
  return Stamp{read<Header>(content_, 0).clock};
}

SavedRecord TableReader::at(uint64_t index) const {
  const auto r = read<DiskRecord>(content_, sizeof(Header) + index * sizeof(DiskRecord));
  return {.scope = binding::ScopeId{r.scope},
          .whole_scope = (r.bits & DiskRecord::kWholeScope) != 0,
          .key = {r.key},
          .record = {.stamp = Stamp{r.stamp},
                     .epoch = r.epoch,
                     .held = (r.bits & DiskRecord::kHeld) != 0,
                     .server = binding::ServerId{r.server},
                     .first = binding::ServerId{r.first},
                     .timeout_ms = r.timeout_ms,
                     .deleted = Stamp{r.deleted},
                     .act = Stamp{r.act}},
          .act_at = timing::WallTime{r.act_at_ns}};
}

}  // namespace limpet::engine
