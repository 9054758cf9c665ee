// GiveWay: which flow goes when the table is full and a new one comes. Flows that are over, never
// came about or can be made again by their next packet stand in a queue of their kind, oldest
// first; the kind of which there is most gives way, so a flood of one kind is its own victim and
// leaves room for the others. Established TCP never gives way.
//
// Owner: its worker. Links are kept in the flows. Every call is O(1).
#pragma once

#include <array>
#include <cstdint>

#include "dataplane/l4/flow.h"

namespace limpet::l4 {

class GiveWay {
 public:
  enum class Kind : uint8_t { kFinished, kHalfOpen, kUnanswered, kAnswered, kNone };

  static constexpr Kind kind_of(FlowState state) {
    switch (state) {
      case FlowState::kSynSent:
      case FlowState::kSynReceived:
        return Kind::kHalfOpen;
      case FlowState::kClosing:
      case FlowState::kTimeWait:
        return Kind::kFinished;
      case FlowState::kUnanswered:
        return Kind::kUnanswered;
      case FlowState::kAnswered:
        return Kind::kAnswered;
      default:
        return Kind::kNone;
    }
  }

  // `of(index)` is the flow.
  template <class Of>
  void add(uint32_t index, Of&& of) {
    const Kind kind = kind_of(of(index).state);
    if (kind == Kind::kNone) return;
    Queue& q = queues_[static_cast<std::size_t>(kind)];
    of(index).order = {.previous = q.last, .next = kEnd};
    (q.last == kEnd ? q.first : of(q.last).order.next) = index;
    q.last = index;
    ++q.size;
  }
  // Of the state that it was added in.
  template <class Of>
  void remove(uint32_t index, Of&& of) {
    const Kind kind = kind_of(of(index).state);
    if (kind == Kind::kNone) return;
    Queue& q = queues_[static_cast<std::size_t>(kind)];
    const timing::WheelLinks links = of(index).order;
    (links.previous == kEnd ? q.first : of(links.previous).order.next) = links.next;
    (links.next == kEnd ? q.last : of(links.next).order.previous) = links.previous;
    --q.size;
  }

  // The one to go, kNobody when nobody may. `active(flow)`: of those that datagrams keep, whether
  // it is in use; of a bounded number of such the next in the queue is preferred.
  static constexpr uint32_t kNobody = UINT32_MAX;
  template <class Of, class Active>
  uint32_t choose(Of&& of, Active&& active) {
    Kind kind = Kind::kNone;
    uint64_t most = 0;
    for (std::size_t k = 0; k < queues_.size(); ++k) {
      const uint64_t weight = uint64_t{queues_[k].size} * kWeights[k];
      if (weight > most) {
        most = weight;
        kind = static_cast<Kind>(k);
      }
    }
    if (kind == Kind::kNone) return kNobody;
    const Queue& q = queues_[static_cast<std::size_t>(kind)];
    for (uint32_t look = 0; look < kLooks && is_datagrams(kind) && active(of(q.first)); ++look) {
      const uint32_t spared = q.first;
      remove(spared, of);
      add(spared, of);
    }
    return q.first;
  }

  uint32_t size(Kind kind) const { return queues_[static_cast<std::size_t>(kind)].size; }

 private:
  static constexpr uint32_t kEnd = UINT32_MAX;
  static constexpr uint32_t kLooks = 4;
  // Who loses something counts less: the translation of a client that was answered.
  static constexpr std::array<uint32_t, 4> kWeights = {4, 4, 4, 1};

  static bool is_datagrams(Kind kind) {
    return kind == Kind::kUnanswered || kind == Kind::kAnswered;
  }

  struct Queue {
    uint32_t first = kEnd;
    uint32_t last = kEnd;
    uint32_t size = 0;
  };
  std::array<Queue, 4> queues_;
};

}  // namespace limpet::l4
