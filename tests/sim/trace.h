// Trace: the last events of a simulation, cheap to record, put into words only when something has
// been violated. Violation: what the checkers throw.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/binding/key.h"

namespace limpet::sim {

struct KeyId {
  uint32_t scope = UINT32_MAX;  // slot
  binding::Key key;

  bool none() const { return scope == UINT32_MAX; }
  friend bool operator==(const KeyId&, const KeyId&) = default;
};

struct KeyIdHash {
  std::size_t operator()(const KeyId& k) const {
    return (k.key.words[0] ^ k.key.words[1] * 0x9e3779b97f4a7c15ULL) * 31 + k.scope;
  }
};

struct Violation {
  std::string checker;  // "P1c", "asked"
  std::string what;
  KeyId key;  // none: not about one key
};

struct Event {
  uint32_t step = 0;
  uint32_t core = 0;  // in a cluster after 100 * engine
  const char* what = "";
  uint32_t serial = 0;
  uint32_t change = 0;
  uint64_t detail = 0;
  int64_t now_ns = 0;
  KeyId key;
};

class Trace {
 public:
  static constexpr std::size_t kLines = 60;

  // Of a cluster: whose events the next are, and how its slots and its clock differ.
  struct View {
    uint32_t engine = 0;
    uint32_t slots = 0;
    int64_t skew_ns = 0;
  };

  void set_view(const View& view) { view_ = view; }
  void add(Event e) {
    if (events_.size() < kEvents) events_.resize(kEvents);
    e.core += 100 * view_.engine;
    e.now_ns -= view_.skew_ns;
    if (!e.key.none()) e.key.scope -= view_.slots;
    events_[added_++ % kEvents] = e;
  }
  // The last events, one a line, oldest first: of `key` and of everything, or of all keys.
  std::string text(const KeyId& key, std::size_t lines = kLines) const;

 private:
  static constexpr std::size_t kEvents = 163840;

  std::vector<Event> events_;
  std::size_t added_ = 0;
  View view_;
};

}  // namespace limpet::sim
