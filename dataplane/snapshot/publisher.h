// Publisher: how a new Snapshot reaches the workers while they run, and when the old one may go.
// The control thread swaps one atomic pointer; a worker reads it once a turn and with that says
// that it holds nothing of the turn before (RCU by quiescent states, rte_rcu_qsbr).
//
// Threads. Publisher belongs to the control thread, with construction and destruction of its
// Readers. A Reader's take(), online() and offline() belong to one worker; they are wait-free.
//
// Invariants
//  1. What take() returned stays alive until the next take() or offline() of the same Reader.
//  2. Once all_readers_passed(token) is true, no worker uses, or will ever again see, a snapshot
//     older than the one whose publish() returned the token.
//  3. At most `live_max` snapshots are held here: the current one and those that wait for readers.
//     A worker that does not come round therefore stops publication (can_publish), not memory.
//
// Why not std::atomic<std::shared_ptr>: every worker would write the same count every turn.
#pragma once

#include <rte_rcu_qsbr.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/assert.h"
#include "common/base/strong.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::snapshot {

// A moment in the life of a Publisher; later moments are greater.
using Token = base::Strong<struct TokenTag, uint64_t>;

class Publisher;

// A worker's end. Starts offline.
class Reader {
 public:
  Reader(Reader&& other) noexcept
      : publisher_(std::exchange(other.publisher_, nullptr)),
        id_(other.id_),
        online_(other.online_) {}
  Reader& operator=(Reader&&) = delete;
  // Control thread, when the worker has ended; it need not have gone offline.
  ~Reader();

  // Start of a turn: the newest snapshot. Whatever earlier calls returned is given back. Must be
  // online.
  const Snapshot& take();

  // From here on the publisher waits for this reader.
  void online();
  // Before sleeping or being parked: gives back the snapshot; nobody waits for this reader.
  void offline();
  bool is_online() const { return online_; }

 private:
  friend Publisher;
  Reader(Publisher* publisher, uint32_t id) : publisher_(publisher), id_(id) {}

  Publisher* publisher_;
  uint32_t id_;
  bool online_ = false;
};

class Publisher {
 public:
  static constexpr uint32_t kLiveMax = 4;

  // Room for `readers_max` readers. `first` is what they see until something else is published.
  explicit Publisher(std::shared_ptr<const Snapshot> first, uint32_t readers_max,
                     uint32_t live_max = kLiveMax);
  ~Publisher();
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  // Reader number `id` (below readers_max, each at most once at a time).
  Reader reader(uint32_t id);

  // Gives back what no reader can use any more, then: whether publish() may be called.
  bool can_publish();
  // Makes `next` what the next take() of every reader returns. can_publish() must be true. The
  // token is passed when all of them have taken it (or were offline).
  Token publish(std::shared_ptr<const Snapshot> next);
  // A token without a new snapshot: passed when every reader has begun another turn.
  Token mark();

  // Never waits.
  bool all_readers_passed(Token token);
  // Gives back what no reader can use any more; returns how many snapshots still wait.
  uint32_t reclaim();
  // The same, but the snapshots are the caller's, to destroy where that may take its time.
  std::vector<std::shared_ptr<const Snapshot>> take_unused();

  const std::shared_ptr<const Snapshot>& current() const { return current_; }
  // Snapshots held: the current one and those that wait.
  uint32_t live() const { return static_cast<uint32_t>(retired_.size()) + 1; }

 private:
  friend Reader;
  struct Retired {
    std::shared_ptr<const Snapshot> snapshot;
    Token token;
  };
  struct Release {
    void operator()(rte_rcu_qsbr* variable) const;
  };

  std::unique_ptr<rte_rcu_qsbr, Release> variable_;
  // What readers load, in a cache line of its own: the rest changes under them.
  alignas(64) std::atomic<const Snapshot*> newest_;
  alignas(64) std::shared_ptr<const Snapshot> current_;
  std::deque<Retired> retired_;  // oldest first
  const uint32_t readers_max_;
  const uint32_t live_max_;
  uint32_t readers_ = 0;
};

inline const Snapshot& Reader::take() {
  LIMPET_ASSERT(online_);
  // In this order: whoever sees our report must know that we load the pointer afterwards.
  rte_rcu_qsbr_quiescent(publisher_->variable_.get(), id_);
  return *publisher_->newest_.load(std::memory_order_acquire);
}

inline void Reader::online() {
  if (online_) return;
  online_ = true;
  rte_rcu_qsbr_thread_online(publisher_->variable_.get(), id_);
}

inline void Reader::offline() {
  if (!online_) return;
  online_ = false;
  rte_rcu_qsbr_thread_offline(publisher_->variable_.get(), id_);
}

}  // namespace limpet::snapshot
