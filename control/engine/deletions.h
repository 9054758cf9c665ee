// Deletions: deleting bindings by the API. Homes do it, as jobs. Between engines a deletion needs
// tombstones: of whole scopes (everything, a virtual service, a pool), or of the keys (a client, a
// server); and room for all of them, or it is refused whole.
//
// Owner: the control thread. Invariants
//  1. It is answered when every worker has begun another turn since the homes were done: what it
//     receives from then on, it judges after it has heard of it (R2 of
//     dataplane/replication/README.md).
//  2. The tombstones that homes have been ordered to make, and those that are there, never exceed
//     the room there is.
//  3. It deletes what the filter meant when it was asked: a slot that has got another meaning since
//     is not touched (worker::EntryFilter::version).
// Cost: a tick looks at a slice of the mirror.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "control/api/backend.h"
#include "control/engine/questions.h"
#include "control/mirroring/exchange.h"

namespace limpet::engine {

class Deletions {
 public:
  using Answer = api::Answer<api::Outcome<api::EntriesRemoved>>;

  struct Hooks {
    // What workers see, or will see next.
    std::function<std::shared_ptr<const snapshot::Snapshot>()> snapshot;
    // What homes have said by now is to be in the mirror.
    std::function<void()> read_news;
    // Name of a peer; null: there are none, so nothing needs tombstones.
    std::function<std::string(mirroring::PeerIndex)> peer_name{};
    // Homes have carried one out: it must not be undone by a crash.
    std::function<void()> carried_out = [] {};
  };

  Deletions(Cores& cores, Questions& questions, mirroring::Exchange& exchange,
            const timing::Clock& clock, Hooks hooks)
      : cores_(cores),
        questions_(questions),
        exchange_(exchange),
        clock_(clock),
        hooks_(std::move(hooks)) {}

  void remove(worker::EntryFilter wanted, Answer answer);
  void tick();
  // Nothing is under way.
  bool idle() const { return under_way_ == 0; }

 private:
  // Of keys whose tombstones are being counted.
  struct Counting {
    worker::EntryFilter wanted;
    uint32_t at = 0;  // place in the mirror
    uint32_t tombstones = 0;
    Answer answer;
  };
  // What the homes are to carry out.
  struct Order {
    worker::EntryFilter wanted;
    std::optional<binding::Stamp> up_to{};  // whole scopes, by tombstones
    uint32_t tombstones = 0;                // of keys, that will be needed
    Answer answer;
  };
  // What they have carried out.
  struct Done {
    snapshot::Token token;
    uint64_t removed = 0;
    Answer answer;
  };

  bool is_mirrored(const worker::EntryFilter& wanted) const;
  std::optional<api::Refusal> lacks_room_for(uint32_t tombstones) const;
  void count();
  void remove_scopes(worker::EntryFilter wanted, Answer answer);
  void kill_scopes(const worker::EntryFilter& wanted, binding::Stamp up_to, const Answer& answer);
  void order(const Order& order);
  void finish();
  void say(const Answer& answer, api::Outcome<api::EntriesRemoved> outcome);

  Cores& cores_;
  Questions& questions_;
  mirroring::Exchange& exchange_;
  const timing::Clock& clock_;
  const Hooks hooks_;
  std::deque<Counting> counting_;
  std::deque<Done> done_;
  uint32_t tombstones_ordered_ = 0;  // that homes have not made yet
  uint32_t under_way_ = 0;
};

}  // namespace limpet::engine
