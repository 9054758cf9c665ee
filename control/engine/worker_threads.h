// WorkerThreads: the Cores of a running engine: a thread each, with the rings, tables and source
// ports that they use.
//
// Owner: the control thread. Invariants
//  1. What a worker may still use is alive: its core, the snapshots it may hold, the source ports
//     that a snapshot names.
//  2. Workers learn of a NatId by a snapshot only, so they see the pointer that was written before
//     it was published.
#pragma once

#include <atomic>
#include <memory>
#include <memory_resource>
#include <vector>

#include "control/compile/registry.h"
#include "control/config/bootstrap.h"
#include "control/engine/aside.h"
#include "control/engine/cores.h"
#include "control/engine/sizing.h"
#include "dataplane/egress/source_port_memory.h"
#include "dataplane/port/devices.h"
#include "dataplane/port/memory.h"
#include "dataplane/port/workers.h"
#include "dataplane/worker/loop.h"

namespace limpet::engine {

class WorkerThreads final : public Cores {
 public:
  struct Options {
    Limits limits;
    uint32_t rank = 0;  // of this engine in the cluster
    bool peers = false;
    timing::WallTime wall_origin{};
    std::shared_ptr<const snapshot::Snapshot> first;
  };

  WorkerThreads(const config::Bootstrap& bootstrap, const Options& options,
                const port::Devices& devices, rte_mempool* pool, const timing::Clock& clock,
                base::Random& random);
  // Ends the threads; what is still in rings goes back to the pool.
  ~WorkerThreads() override;

  base::Status start();
  // All of them have ended when it returns.
  void stop();
  // After stop(): what their homes have still to say of last closes goes into the rings of news.
  // False: these have to be read first, then it goes on.
  bool say_last();

  // Gives old snapshots, which nobody uses any more, to be destroyed aside; counts source ports.
  void tick(Aside& spare, timing::Instant now);

  worker::Wiring& wiring() { return wiring_; }
  std::pmr::memory_resource* memory() { return memory_.back().get(); }  // the control thread's
  // Over all blocks; a second old.
  uint64_t source_ports_in_use() const { return source_ports_counted_; }

  uint32_t source_ports_in_use(compile::NatBlock block) const;
  // Nobody uses the block any more.
  void forget_source_ports(compile::NatBlock block);

  // Cores
  uint32_t count() const override { return static_cast<uint32_t>(cores_.size()); }
  const worker::Core& core(uint32_t w) const override { return *cores_[w]; }
  worker::Shared& shared() override { return *shared_; }
  const worker::Shared& shared() const override { return *shared_; }
  bool send(uint32_t w, const worker::ControlMessage& message) override {
    return wiring_.messages[w].push(message);
  }
  bool provide(const snapshot::Snapshot& next) override;
  bool can_publish() override { return publisher_->live() < snapshot::Publisher::kLiveMax; }
  snapshot::Token publish(std::shared_ptr<const snapshot::Snapshot> next) override {
    return publisher_->publish(std::move(next));
  }
  snapshot::Token mark() override { return publisher_->mark(); }
  bool have_passed(snapshot::Token token) override { return publisher_->all_readers_passed(token); }

 private:
  // In memory of their own: with ten thousands of them, ordinary memory would be held up for a long
  // time when they are given back.
  struct Forget {
    std::pmr::memory_resource* memory = nullptr;
    void operator()(egress::SourcePorts* ports) const {
      std::pmr::polymorphic_allocator<>(memory).delete_object(ports);
    }
  };
  using Blocks = std::vector<std::unique_ptr<egress::SourcePorts, Forget>>;  // by NatId

  // Adds the NatIds of the server that have no source ports yet.
  void find_missing(const snapshot::Server& server, std::vector<uint32_t>* ids) const;
  void make_source_ports(std::vector<uint32_t> ids);
  void count_source_ports(timing::Instant now);
  void empty_rings();

  base::Random& random_;
  std::vector<std::unique_ptr<port::TableMemory>> memory_;  // by worker, then the control thread's
  std::unique_ptr<worker::Shared> shared_;
  worker::Wiring wiring_;
  std::vector<std::unique_ptr<worker::Core>> cores_;
  std::unique_ptr<snapshot::Publisher> publisher_;
  std::vector<std::unique_ptr<worker::Loop>> loops_;
  std::atomic<bool> stop_{false};
  std::vector<uint32_t> said_last_;  // by worker: the record from which say_last() goes on
  port::Workers threads_;

  std::vector<std::unique_ptr<egress::SourcePortMemory>> source_port_memory_;  // by core
  std::pmr::unsynchronized_pool_resource source_port_objects_;
  std::vector<Blocks> source_ports_;  // by core
  // provide(): of which snapshot, and where it goes on.
  uint64_t provided_version_ = 0;
  std::size_t provided_pool_ = 0;
  std::size_t provided_server_ = 0;

  timing::Instant counted_at_;
  std::size_t counting_at_ = 0;  // NatId
  uint64_t counting_sum_ = 0;
  uint64_t source_ports_counted_ = 0;
};

}  // namespace limpet::engine
