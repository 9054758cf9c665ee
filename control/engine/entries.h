// Entries: what the API asks about bindings. Filters by name become scopes and servers; listings
// come from the mirror, and the cores are asked only how many connections the keys of a page have.
//
// Owner: the control thread. Invariants
//  1. A listing shows no binding that was made after it began, so one that is made anew meanwhile
//     is not shown twice; and none whose time is over, though its home has not come round to it.
//  2. `count` is what the first page has found, less what turned out to be over.
// Cost: a tick looks at a slice of the mirror.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "control/api/backend.h"
#include "control/engine/configurator.h"
#include "control/engine/questions.h"
#include "control/mirroring/mirror.h"

namespace limpet::engine {

// A binding over all cores.
struct Presence {
  bool present = false;
  uint32_t open = 0;
  timing::Instant deadline = persist::kNoActivity;  // if nothing is open
};

class Entries {
 public:
  using Answer = api::Answer<api::Outcome<api::EntryPage>>;

  struct Hooks {
    // What homes have said by now is to be in the mirror.
    std::function<void()> read_news;
    // Which engine made a stamp; empty: none that is known.
    std::function<std::string(binding::Stamp)> origin;
  };

  // `running`: of the engine; it stays where it is and changes.
  Entries(Questions& questions, const mirroring::Mirror& mirror, const Configuration& running,
          const timing::Clock& clock, Hooks hooks)
      : questions_(questions),
        mirror_(mirror),
        running_(running),
        clock_(clock),
        hooks_(std::move(hooks)) {}

  // Names to slots and identities. `nobody`: the filter is right, but no entry can match.
  std::optional<api::Refusal> resolve(const api::EntryFilter& filter, worker::EntryFilter* out,
                                      bool* nobody) const;
  void list(const api::EntryFilter& filter, const api::PageRequest& page, Answer answer);
  void tick();

  // A line of a listing.
  api::EntryRow row(const mirroring::Mirror::Binding& binding, const Presence& presence) const;

 private:
  // Where a listing goes on: place in the mirror, when it began, how many matched then.
  struct Cursor {
    uint32_t place = 0;
    int64_t began_ns = 0;
    uint64_t count = 0;

    std::string to_string() const;
    static std::optional<Cursor> parse(std::string_view text);
  };
  // A page in the making.
  struct Listing {
    worker::EntryFilter wanted;
    Cursor cursor;
    bool counted = false;  // not the first page: the cursor knows the count
    uint32_t limit = 0;
    uint32_t at = 0;  // place in the mirror
    std::vector<worker::Job::Wanted> page;
    std::optional<uint32_t> more;  // place of the first match beyond the page
    Answer answer;
  };

  void answer(const Listing& listing, const Jobs& jobs) const;

  Questions& questions_;
  const mirroring::Mirror& mirror_;
  const Configuration& running_;
  const timing::Clock& clock_;
  const Hooks hooks_;
  std::deque<Listing> listings_;
};

}  // namespace limpet::engine
