#include "control/mirroring/frame.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <type_traits>

#include "common/base/assert.h"

namespace limpet::mirroring {
namespace {

using binding::Stamp;
using timing::Instant;

// An integer as it stands on the wire: little endian, at any alignment. Hosts are little endian
// (net/endian.h), so it is one load or store.
template <class T>
class [[gnu::packed]] Le {
 public:
  constexpr Le() = default;
  constexpr Le(T value) : raw_(value) {}         // NOLINT: implicit by design
  constexpr operator T() const { return raw_; }  // NOLINT

 private:
  T raw_ = 0;
};
static_assert(std::endian::native == std::endian::little);

using Le16 = Le<uint16_t>;
using Le32 = Le<uint32_t>;
using Le64 = Le<uint64_t>;
using LeMoment = Le<int64_t>;
using Bytes16 = std::array<uint8_t, 16>;

enum class Type : uint8_t {
  kHello = 1,
  kBinding = 2,
  kScopeTombstone = 3,
  kAck = 4,
  kHeartbeat = 5,
  kSnapshotBegin = 6,
  kSnapshotEnd = 7,
  kBye = 8,
  kGroups = 9,
  kShortBinding = 10,
};

constexpr std::array<uint8_t, 8> kMagic = {'L', 'I', 'M', 'P', 'E', 'T', 'M', 0};
constexpr uint8_t kHeldBit = 1;
constexpr uint8_t kV4Bit = 2;
constexpr std::size_t kV4PrefixBytes = 12;  // of a mapped address, before its last four

struct WireHeader {
  Le32 length;
  uint8_t type = 0;
  uint8_t version = kVersion;
  Le16 flags;
};
static_assert(sizeof(WireHeader) == kFrameHeaderBytes && alignof(WireHeader) == 1);

struct WireHello {
  std::array<uint8_t, 8> magic = kMagic;
  Le16 version_min;
  Le16 version_max;
  Le32 table_limit;
  Le64 features;
  Bytes16 boot{};
  LeMoment moment;
  Bytes16 received_boot{};
  Le64 received_sequence;
  std::array<char, kEngineNameBytesMax + 1> name{};
  Le32 address_count;
  Le32 unused;
  std::array<Bytes16, kAddressesMax> addresses{};
  std::array<uint8_t, 32> unused_end{};
};
static_assert(offsetof(WireHello, boot) == 24 && offsetof(WireHello, received_boot) == 48);
static_assert(offsetof(WireHello, name) == 72 && offsetof(WireHello, addresses) == 144);
static_assert(sizeof(WireHello) == kHelloFrameBytes - kFrameHeaderBytes, "README, HELLO");

struct WireBinding {
  Le64 sequence;
  Le64 scope;
  Bytes16 key{};
  Le64 stamp;
  Le64 server;
  Le64 first;
  Le64 deleted;
  Le64 act;
  LeMoment act_at;
  Le32 epoch;
  Le32 timeout_ms;
  uint8_t bits = 0;
  std::array<uint8_t, 7> unused{};
};
static_assert(offsetof(WireBinding, stamp) == 32 && offsetof(WireBinding, act_at) == 72);
static_assert(offsetof(WireBinding, epoch) == 80 && offsetof(WireBinding, bits) == 88);
static_assert(sizeof(WireBinding) == kBindingFrameBytes - kFrameHeaderBytes, "README, BINDING");

// Of a binding whose `first` is its server, without tombstone and timeout of its own.
struct WireShortBinding {
  Le64 sequence;
  Le64 scope;
  Le64 stamp;
  Le64 server;
  Le64 act;
  LeMoment act_at;
  Le32 epoch;
  uint8_t bits = 0;
  std::array<uint8_t, 3> unused{};
  std::array<uint8_t, 4> key_end{};
};
static_assert(offsetof(WireShortBinding, bits) == 52 && offsetof(WireShortBinding, key_end) == 56);
static_assert(sizeof(WireShortBinding) == kShortBindingFrameBytes - kFrameHeaderBytes,
              "README, SHORT BINDING");

struct WireScopeTombstone {
  Le64 sequence;
  Le64 scope;
  Le64 deleted;
};
static_assert(sizeof(WireScopeTombstone) == 24, "README, SCOPE TOMBSTONE");

struct WireSequence {  // ACK, SNAPSHOT END
  Le64 sequence;
};
static_assert(sizeof(WireSequence) == 8, "README, ACK");

struct WireHeartbeat {
  LeMoment moment;
  LeMoment echo;
  LeMoment echo_age;
  Le32 lag_entries;
  Le32 lag_ms;
};
static_assert(sizeof(WireHeartbeat) == 32, "README, HEARTBEAT");

struct WireSnapshotBegin {
  Le64 up_to;
  Le32 kind;
  Le32 unused;
};
static_assert(sizeof(WireSnapshotBegin) == 16, "README, SNAPSHOT BEGIN");

struct WireBye {
  Le32 reason;
};
static_assert(sizeof(WireBye) == 4, "README, BYE");

bool is_moment(int64_t ns) {
  return ns > -kMomentEnd && ns < kMomentEnd;
}

bool is_stamp(uint64_t stamp) {
  return Stamp{stamp} < kStampEnd;
}

bool is_sequence(uint64_t sequence) {
  return sequence <= kSequenceMax.value;
}

template <class T>
Bytes16 raw(const T& value) {
  static_assert(sizeof(T) == 16 && std::is_trivially_copyable_v<T>);
  return std::bit_cast<Bytes16>(value);
}

std::optional<Reason> read(const WireHello& wire, Hello* out) {
  if (wire.magic != kMagic) return Reason::kBadMagic;
  const auto end = std::find(wire.name.begin(), wire.name.end(), '\0');
  out->name.assign(wire.name.begin(), end);
  out->versions = {wire.version_min, wire.version_max};
  out->table_limit = wire.table_limit;
  out->features = wire.features;
  out->boot = BootId{wire.boot};
  out->moment = Instant{wire.moment};
  out->received = {BootId{wire.received_boot}, Sequence{wire.received_sequence}};
  if (end == wire.name.end() || !is_engine_name(out->name) || out->boot.is_none() ||
      !is_moment(wire.moment) || !is_sequence(wire.received_sequence) ||
      out->versions.min > out->versions.max || wire.address_count > kAddressesMax)
    return Reason::kBadValue;
  for (uint32_t i = 0; i < wire.address_count; ++i)
    out->addresses.push_back(std::bit_cast<net::Address>(wire.addresses[i]));
  return std::nullopt;
}

std::optional<Reason> refusal_of(const Binding& b) {
  const binding::Record& r = b.record;
  const bool says_nothing = !r.live() && r.deleted.value == 0;
  const bool killed = r.live() && r.stamp <= r.deleted;
  if (b.sequence.value == 0 || !is_sequence(b.sequence.value) || says_nothing || killed ||
      !is_stamp(r.stamp.value) || !is_stamp(r.deleted.value) || !is_stamp(r.act.value) ||
      !is_moment(b.act_at.ns))
    return Reason::kBadValue;
  return std::nullopt;
}

// What a binding's two layouts have in common.
template <class Wire>
void read_common(const Wire& wire, Binding* out) {
  out->sequence = Sequence{wire.sequence};
  out->scope = binding::ScopeId{wire.scope};
  out->record.stamp = Stamp{wire.stamp};
  out->record.server = out->record.first = binding::ServerId{wire.server};
  out->record.act = Stamp{wire.act};
  out->act_at = Instant{wire.act_at};
  out->record.epoch = wire.epoch;
  out->record.held = (wire.bits & kHeldBit) != 0;
}

template <class Wire>
void write_common(const Binding& binding, Wire* wire) {
  wire->sequence = binding.sequence.value;
  wire->scope = binding.scope.value;
  wire->stamp = binding.record.stamp.value;
  wire->server = binding.record.server.value;
  wire->act = binding.record.act.value;
  wire->act_at = binding.act_at.ns;
  wire->epoch = binding.record.epoch;
  wire->bits = binding.record.held ? kHeldBit : 0;
}

std::optional<Reason> read(const WireBinding& wire, Binding* out) {
  read_common(wire, out);
  out->key = std::bit_cast<binding::Key>(wire.key);
  out->record.first = binding::ServerId{wire.first};
  out->record.timeout_ms = wire.timeout_ms;
  out->record.deleted = Stamp{wire.deleted};
  return refusal_of(*out);
}

// `rest`: what is behind the layout; the key's other bytes, if they are not those of IPv4.
std::optional<Reason> read(const WireShortBinding& wire, std::span<const uint8_t> rest,
                           Binding* out) {
  read_common(wire, out);
  Bytes16 key = raw(net::Address::v4(wire.key_end.data()));
  if ((wire.bits & kV4Bit) == 0) {
    if (rest.size() < kV4PrefixBytes) return Reason::kBadLength;
    std::copy_n(rest.begin(), kV4PrefixBytes, key.begin());
  }
  out->key = std::bit_cast<binding::Key>(key);
  return refusal_of(*out);
}

std::optional<Reason> read(const WireScopeTombstone& wire, ScopeTombstone* out) {
  *out = {Sequence{wire.sequence}, binding::ScopeId{wire.scope}, Stamp{wire.deleted}};
  if (wire.sequence == 0 || !is_sequence(wire.sequence) || wire.deleted == 0 ||
      !is_stamp(wire.deleted))
    return Reason::kBadValue;
  return std::nullopt;
}

std::optional<Reason> read(const WireSequence& wire, Ack* out) {
  out->sequence = Sequence{wire.sequence};
  return is_sequence(wire.sequence) ? std::nullopt : std::optional(Reason::kBadValue);
}

std::optional<Reason> read(const WireSequence& wire, SnapshotEnd* out) {
  out->sequence = Sequence{wire.sequence};
  return is_sequence(wire.sequence) ? std::nullopt : std::optional(Reason::kBadValue);
}

std::optional<Reason> read(const WireHeartbeat& wire, Heartbeat* out) {
  *out = {Instant{wire.moment},
          Instant{wire.echo},
          timing::Duration{wire.echo_age},
          {wire.lag_entries, wire.lag_ms}};
  if (!is_moment(wire.moment) || !is_moment(wire.echo) || !is_moment(wire.echo_age))
    return Reason::kBadValue;
  return std::nullopt;
}

std::optional<Reason> read(const WireSnapshotBegin& wire, SnapshotBegin* out) {
  if (!is_sequence(wire.up_to) || wire.kind > static_cast<uint32_t>(SnapshotBegin::Kind::kFull))
    return Reason::kBadValue;
  *out = {Sequence{wire.up_to}, static_cast<SnapshotBegin::Kind>(uint32_t{wire.kind})};
  return std::nullopt;
}

std::optional<Reason> read(const WireBye& wire, Bye* out) {
  out->reason = wire.reason;
  return std::nullopt;
}

// Reads a body as Wire into Body; what is behind the layout is a newer version's.
template <class Body, class Wire>
void read_body(std::span<const uint8_t> body, Decoded* out) {
  static_assert(alignof(Wire) == 1 && std::is_trivially_copyable_v<Wire>);
  std::optional<Reason> refused = Reason::kBadLength;
  if (body.size() >= sizeof(Wire)) {
    Wire wire;
    std::memcpy(&wire, body.data(), sizeof wire);
    Body& frame = out->frame.emplace<Body>();
    if constexpr (std::is_same_v<Wire, WireShortBinding>) {
      refused = read(wire, body.subspan(sizeof wire), &frame);
    } else {
      refused = read(wire, &frame);
    }
  }
  out->what = refused ? Decoded::What::kBad : Decoded::What::kFrame;
  out->reason = refused.value_or(Reason::kNone);
}

void read_any(uint8_t type, std::span<const uint8_t> body, Decoded* out) {
  switch (static_cast<Type>(type)) {
    case Type::kHello:
      return read_body<Hello, WireHello>(body, out);
    case Type::kBinding:
      return read_body<Binding, WireBinding>(body, out);
    case Type::kScopeTombstone:
      return read_body<ScopeTombstone, WireScopeTombstone>(body, out);
    case Type::kAck:
      return read_body<Ack, WireSequence>(body, out);
    case Type::kHeartbeat:
      return read_body<Heartbeat, WireHeartbeat>(body, out);
    case Type::kSnapshotBegin:
      return read_body<SnapshotBegin, WireSnapshotBegin>(body, out);
    case Type::kSnapshotEnd:
      return read_body<SnapshotEnd, WireSequence>(body, out);
    case Type::kBye:
      return read_body<Bye, WireBye>(body, out);
    case Type::kShortBinding:
      return read_body<Binding, WireShortBinding>(body, out);
    case Type::kGroups:
      out->what = Decoded::What::kFrame;
      out->frame = Groups{{body.begin(), body.end()}};
      return;
  }
  out->what = Decoded::What::kSkipped;
}

template <class Wire>
void append(Type type, const Wire& wire, std::vector<uint8_t>* out) {
  struct Whole {
    WireHeader header;
    Wire body;
  } whole{.header = {}, .body = wire};
  static_assert(sizeof whole == sizeof(WireHeader) + sizeof(Wire));
  whole.header.length = static_cast<uint32_t>(sizeof whole);
  whole.header.type = static_cast<uint8_t>(type);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&whole);
  out->insert(out->end(), bytes, bytes + sizeof whole);
}

// One overload a frame; std::visit chooses.
struct Writer {
  std::vector<uint8_t>* out;

  void operator()(const Hello& hello) const {
    LIMPET_ASSERT(is_engine_name(hello.name) && hello.addresses.size() <= kAddressesMax);
    WireHello wire;
    wire.version_min = hello.versions.min;
    wire.version_max = hello.versions.max;
    wire.table_limit = hello.table_limit;
    wire.features = hello.features;
    wire.boot = hello.boot.bytes;
    wire.moment = hello.moment.ns;
    wire.received_boot = hello.received.boot.bytes;
    wire.received_sequence = hello.received.sequence.value;
    std::copy(hello.name.begin(), hello.name.end(), wire.name.begin());
    wire.address_count = static_cast<uint32_t>(hello.addresses.size());
    for (std::size_t i = 0; i < hello.addresses.size(); ++i)
      wire.addresses[i] = raw(hello.addresses[i]);
    append(Type::kHello, wire, out);
  }
  void operator()(const Binding& binding) const {
    const binding::Record& r = binding.record;
    if (r.first == r.server && r.deleted.value == 0 && r.timeout_ms == 0)
      return append_short(binding);
    WireBinding wire;
    write_common(binding, &wire);
    wire.key = raw(binding.key);
    wire.first = r.first.value;
    wire.deleted = r.deleted.value;
    wire.timeout_ms = r.timeout_ms;
    append(Type::kBinding, wire, out);
  }
  void append_short(const Binding& binding) const {
    const Bytes16 key = raw(binding.key);
    WireShortBinding wire;
    write_common(binding, &wire);
    std::copy(key.begin() + kV4PrefixBytes, key.end(), wire.key_end.begin());
    if (binding.key.address().is_v4()) {
      wire.bits |= kV4Bit;
      return append(Type::kShortBinding, wire, out);
    }
    struct WithKey {
      WireShortBinding binding;
      std::array<uint8_t, kV4PrefixBytes> key_begin;
    } whole{wire, {}};
    std::copy_n(key.begin(), whole.key_begin.size(), whole.key_begin.begin());
    append(Type::kShortBinding, whole, out);
  }
  void operator()(const ScopeTombstone& t) const {
    append(Type::kScopeTombstone,
           WireScopeTombstone{t.sequence.value, t.scope.value, t.deleted.value}, out);
  }
  void operator()(const Ack& ack) const {
    append(Type::kAck, WireSequence{ack.sequence.value}, out);
  }
  void operator()(const Heartbeat& beat) const {
    append(Type::kHeartbeat,
           WireHeartbeat{beat.moment.ns, beat.echo.ns, beat.echo_age.count(), beat.lag.entries,
                         beat.lag.ms},
           out);
  }
  void operator()(const SnapshotBegin& begin) const {
    append(Type::kSnapshotBegin,
           WireSnapshotBegin{begin.up_to.value, static_cast<uint32_t>(begin.kind), {}}, out);
  }
  void operator()(const SnapshotEnd& end) const {
    append(Type::kSnapshotEnd, WireSequence{end.sequence.value}, out);
  }
  void operator()(const Bye& bye) const { append(Type::kBye, WireBye{bye.reason}, out); }
  void operator()(const Groups& groups) const {
    LIMPET_ASSERT(groups.body.size() <= kGroupsBytesMax);
    WireHeader header;
    header.length = static_cast<uint32_t>(sizeof header + groups.body.size());
    header.type = static_cast<uint8_t>(Type::kGroups);
    const auto raw_header = std::bit_cast<std::array<uint8_t, sizeof header>>(header);
    out->insert(out->end(), raw_header.begin(), raw_header.end());
    out->insert(out->end(), groups.body.begin(), groups.body.end());
  }
};

}  // namespace

Decoded decode(std::span<const uint8_t> input) {
  Decoded out;
  WireHeader header;
  if (input.size() < sizeof header) return out;
  std::memcpy(&header, input.data(), sizeof header);
  const std::size_t length = header.length;
  // Judged before the frame is whole, so that nobody waits for four gigabytes.
  if (length < sizeof header || length > kFrameBytesMax) {
    out.what = Decoded::What::kBad;
    out.reason = Reason::kBadLength;
    return out;
  }
  if (input.size() < length) return out;
  read_any(header.type, input.subspan(sizeof header, length - sizeof header), &out);
  if (out.what != Decoded::What::kBad) out.bytes = length;
  return out;
}

void encode(const Frame& frame, std::vector<uint8_t>* out) {
  std::visit(Writer{out}, frame);
}

void encode(const Binding& binding, std::vector<uint8_t>* out) {
  Writer{out}(binding);
}

bool is_engine_name(std::string_view name) {
  return !name.empty() && name.size() <= kEngineNameBytesMax &&
         name.find('\0') == std::string_view::npos;
}

}  // namespace limpet::mirroring
