// How the configuration changes, and what the control thread watches for (events).
#include <fmt/core.h>

#include <boost/asio/post.hpp>

#include "control/api/telemetry.h"
#include "control/engine/engine.h"

namespace limpet::engine {

using telemetry::EventName;
using timing::Instant;

namespace {

constexpr timing::Duration kWatchInterval = timing::milliseconds(100);
constexpr timing::Duration kTelemetryInterval = timing::seconds(1);
constexpr uint32_t kTableHighPercent = 90;
constexpr uint32_t kTableLowPercent = 85;

}  // namespace

void Engine::put_config(std::string body, api::PutOptions,
                        api::Answer<api::Outcome<api::ConfigApplied>> answer) {
  operations_.push_back({PutDocument{std::move(body)},
                         [answer](const Prepared& p) {
                           const auto& all = p.next.document->document.virtual_services;
                           const auto served = std::count_if(
                               all.begin(), all.end(), [](const auto& vs) { return vs.served; });
                           answer(api::ConfigApplied{p.next.generation, p.warnings,
                                                     static_cast<uint64_t>(served), all.size()});
                         },
                         [answer](const Refused& r) {
                           answer(api::Refusal{r.http_status, r.errors});
                         }});
  pump();
}

void Engine::get_config(api::Answer<std::shared_ptr<const std::string>> answer) {
  answer(running_.text);
}

void Engine::health_marks(std::string body, api::Answer<api::Outcome<api::MarksApplied>> answer) {
  operations_.push_back({SetMarks{std::move(body)},
                         [answer](const Prepared& p) { answer(api::MarksApplied{p.marks}); },
                         [answer](const Refused& r) {
                           answer(api::Refusal{r.http_status, r.errors});
                         }});
  pump();
}

// Takes the next step of the change in hand, if it can be taken now.
void Engine::pump() {
  if (published_ || preparing_) return;
  if (prepared_) {
    // What this engine owns brings no server at a used address: it need not wait for the sweep.
    const bool ready = std::holds_alternative<SetOwned>(operations_.front().change) ||
                       swept(running_.snapshot->version);
    if (ready && publisher_->can_publish()) publish();
    return;
  }
  if (operations_.empty() && running_.drains.next_deadline(watched_) <= clock_.now() &&
      watched_ < clock_.now()) {
    operations_.push_back({Recompile{}, {}, {}});
  }
  if (!operations_.empty()) prepare_next();
}

void Engine::prepare_next() {
  preparing_ = true;
  const Instant now = clock_.now();
  // Neither running_ nor the change in hand is touched until the helper has answered.
  const Change* change = &operations_.front().change;
  boost::asio::post(helper_, [this, change, now] {
    auto outcome =
        std::make_shared<std::variant<Prepared, Refused>>(prepare(running_, *change, around_, now));
    boost::asio::post(io_, [this, outcome] {
      preparing_ = false;
      if (auto* prepared = std::get_if<Prepared>(outcome.get())) {
        prepared_ = std::make_unique<Prepared>(std::move(*prepared));
        return pump();
      }
      const auto& refused = std::get<Refused>(*outcome);
      Operation operation = std::move(operations_.front());
      operations_.pop_front();
      if (std::holds_alternative<PutDocument>(operation.change)) {
        const base::Error& first = refused.errors.front();
        emit(EventName::kConfigRefused, bootstrap_.name,
             fmt::format("{} errors; the first: {}: {}", refused.errors.size(), first.path,
                         first.message));
      }
      if (operation.refused) operation.refused(refused);
    });
  });
}

void Engine::publish() {
  const Instant now = clock_.now();
  make_source_ports(*prepared_->next.snapshot);
  use_scopes(*prepared_->next.snapshot);
  published_ = publisher_->publish(prepared_->next.snapshot);
  slow_path_->update(prepared_->next.snapshot, now);
}

void Engine::finish_published() {
  if (!published_ || !publisher_->all_readers_passed(*published_)) return;
  published_.reset();
  const std::shared_ptr<Prepared> done = std::move(prepared_);
  running_ = std::move(done->next);  // leaves its generation readable
  Operation operation = std::move(operations_.front());
  operations_.pop_front();
  if (std::holds_alternative<PutDocument>(operation.change)) {
    emit(EventName::kConfigApplied, bootstrap_.name,
         fmt::format("generation {}, {} virtual services, {} warnings", running_.generation,
                     running_.document->document.virtual_services.size(), done->warnings.size()));
  }
  if (std::holds_alternative<PutDocument>(operation.change)) configure_election();
  emit_transitions(*done);
  const bool lasting = std::holds_alternative<PutDocument>(operation.change) ||
                       std::holds_alternative<SetMarks>(operation.change);
  if (state_ && lasting) return store(std::move(operation), done);
  if (operation.applied) operation.applied(*done);
}

// Answers once what has been applied is on disk too.
void Engine::store(Operation operation, std::shared_ptr<const Prepared> done) {
  const auto document = std::holds_alternative<PutDocument>(operation.change)
                            ? running_.text
                            : std::shared_ptr<const std::string>{};
  const std::string marks = marks_text(running_);
  boost::asio::post(disk_, [this, operation = std::move(operation), done, document, marks] {
    base::Status status = base::Done{};
    if (document) status = state_->save(StateDirectory::kDocument, *document);
    if (status) status = state_->save(StateDirectory::kHealthMarks, marks);
    boost::asio::post(io_, [operation, done, status] {
      if (status) {
        if (operation.applied) operation.applied(*done);
      } else if (operation.refused) {
        const base::Error& error = status.errors().front();
        operation.refused(
            Refused{500, {{error.path, "applied, but not stored: " + error.message}}});
      }
    });
  });
}

void Engine::emit_transitions(const Prepared& prepared) {
  for (const health::Transition& t : prepared.transitions) {
    emit(
        t.up ? EventName::kServerUp : EventName::kServerDown, t.pool + " " + t.server,
        fmt::format("{}{}{}", health::to_string(t.source), t.reason.empty() ? "" : ": ", t.reason));
  }
  std::map<std::string, bool> now_up;
  for (const config::VirtualService& vs : running_.document->document.virtual_services) {
    const bool up = vs_up(vs);
    now_up[vs.uuid] = up;
    const auto before = vs_up_.find(vs.uuid);
    if (before != vs_up_.end() ? before->second == up : !up) continue;
    emit(
        up ? EventName::kVsUp : EventName::kVsDown, vs.name,
        up ? "a server can take clients" : (vs.served ? "no server can take clients" : vs.why_not));
  }
  vs_up_ = std::move(now_up);
}

// Blocks of source ports for servers that are new. Workers learn of a NatId by the snapshot only,
// so they see the pointer that was written before it was published.
void Engine::make_source_ports(const snapshot::Snapshot& s) {
  const auto workers = static_cast<uint32_t>(cores_.size());
  for (const snapshot::Pool& pool : s.pools) {
    for (const snapshot::Server& server : pool.servers) {
      for (const snapshot::NatId first : {server.tcp_nat, server.udp_nat}) {
        if (first == l4::kNoNat) continue;  // a protocol that nobody uses towards this server
        for (uint32_t i = 0; i < server.sources.size(); ++i) {
          const uint32_t id = first.value + i;
          for (uint32_t w = 0; w < workers; ++w) {
            auto& blocks = source_ports_[w];
            if (blocks.size() <= id) blocks.resize(id + 1);
            if (blocks[id] != nullptr) continue;
            blocks[id] = std::make_unique<l4::SourcePorts>(l4::PortSlice::of(w, workers), random_);
            cores_[w]->forwarder().nats()[id] = blocks[id].get();
          }
        }
      }
    }
  }
}

bool Engine::swept(uint64_t version) const {
  for (const auto& core : cores_) {
    if (core->stats().swept_version < version) return false;
  }
  return true;
}

// Gives slots that left the configuration back to the registry once no worker uses them.
void Engine::recycle() {
  // The registry may be copied by the helper thread just now.
  if (preparing_ || prepared_ || !swept(running_.snapshot->version)) return;
  const auto retired = running_.registry.retired();
  const auto nobody = [&](auto&& flows) {
    for (const auto& core : cores_) {
      if (flows(core->forwarder()) != 0) return false;
    }
    return true;
  };
  for (const auto slot : retired.virtual_services) {
    if (!nobody([&](const l4::Forwarder& f) { return f.vs(slot).flows.get(); })) continue;
    vs_total_before_[slot.value] += vs_total(slot);  // its next owner starts from zero
    running_.registry.recycle(slot);
  }
  for (const auto slot : retired.servers) {
    if (!nobody([&](const l4::Forwarder& f) { return f.server(slot).flows.get(); })) continue;
    server_total_before_[slot.value] += server_total(slot);
    running_.registry.recycle(slot);
  }
  // Bindings of scopes that left are gone: every home has swept, and the mirror has heard of it.
  for (const auto slot : retired.scopes) {
    if (mirror().in_scope(slot) == 0) running_.registry.recycle(slot);
  }
  for (const compile::NatBlock& block : retired.nats) {
    uint32_t in_use = 0;
    for (auto& blocks : source_ports_) {
      for (uint32_t i = 0; i < block.count; ++i) {
        const uint32_t id = block.first.value + i;
        if (id < blocks.size() && blocks[id]) in_use += blocks[id]->in_use();
      }
    }
    // A block remembers which ports the server may still have in TIME_WAIT, should it return; so it
    // stays until ids become scarce.
    const bool scarce = running_.registry.nats.size() > base::kNatIdsMax / 2;
    if (scarce && in_use == 0 && running_.registry.recycle(block.first)) {
      for (uint32_t w = 0; w < cores_.size(); ++w) {
        for (uint32_t i = 0; i < block.count; ++i) {
          const uint32_t id = block.first.value + i;
          cores_[w]->forwarder().nats()[id] = nullptr;
          source_ports_[w][id].reset();
        }
      }
    }
  }
}

// --- events and rates
// -----------------------------------------------------------------------------

void Engine::watch() {
  const Instant now = clock_.now();
  if (now - watched_ < kWatchInterval) return;
  watched_ = now;
  events_.tell_suppressed(now);
  recycle();
  watch_limits();
  watch_links(now);
  if (now - telemetry_published_ < kTelemetryInterval) return;
  telemetry_published_ = now;
  for (uint32_t w = 0; w < cores_.size(); ++w) {
    const uint64_t busy = cores_[w]->stats().busy_ns;
    const uint64_t idle = cores_[w]->stats().idle_ns;
    const uint64_t all = busy - busy_[w].busy_ns + idle - busy_[w].idle_ns;
    const double ratio =
        all == 0 ? 0 : static_cast<double>(busy - busy_[w].busy_ns) / static_cast<double>(all);
    busy_[w] = {busy, idle, ratio};
  }
  api::publish_telemetry(telemetry_view());
}

// What was announced while a link was down nobody heard.
void Engine::watch_links(Instant now) {
  link_up_.resize(devices_->ports().size());
  for (const port::PortInfo& p : devices_->ports()) {
    const bool up = devices_->link_up(p.device);
    if (up && !link_up_[p.index]) slow_path_->link_up(p.index, now);
    link_up_[p.index] = up;
  }
}

void Engine::watch_limits() {
  const uint64_t count = shared_->bindings.count();
  const uint64_t limit = shared_->bindings.limit();
  if (!table_high_ && count * 100 >= limit * kTableHighPercent) {
    table_high_ = true;
    emit(EventName::kPersistTableHigh, bootstrap_.name,
         fmt::format("{} of {} entries", count, limit));
  } else if (count * 100 < limit * kTableLowPercent) {
    table_high_ = false;
  }

  uint64_t refused_news = 0;
  for (const auto& core : cores_) refused_news += core->replica().counters().merges_refused;
  if (refused_news > merges_refused_) {
    emit(EventName::kPersistTableHigh, bootstrap_.name,
         fmt::format("no room for {} entries of peers; {} entries are all there may be",
                     refused_news - merges_refused_, limit));
  }
  merges_refused_ = refused_news;

  uint64_t full = 0;
  for (const auto& core : cores_) {
    for (std::size_t p = 0; p < around_.ports.size(); ++p)
      full += core->output().drops(p)[static_cast<std::size_t>(packet::DropReason::kFlowTableFull)];
  }
  if (full > flow_table_full_) {
    emit(EventName::kFlowTableFull, bootstrap_.name,
         fmt::format("{} connections refused, {} flows a worker", full - flow_table_full_,
                     limits_.flows_per_worker));
  }
  flow_table_full_ = full;

  for (const snapshot::VirtualService& vs : running_.snapshot->virtual_services) {
    uint64_t refused = 0;
    for (const auto& core : cores_) refused += core->forwarder().vs(vs.slot).refused_table_full;
    uint64_t& before = refused_by_vs_[vs.slot.value];
    if (refused > before) {
      emit(EventName::kConnDropMaxPersistTbl, vs.name,
           fmt::format("{} connections refused: the persist table is full ({} entries)",
                       refused - before, limit));
    }
    before = refused;
  }

  for (const snapshot::Pool& pool : running_.snapshot->pools) {
    for (const snapshot::Server& server : pool.servers) {
      uint64_t exhausted = 0;
      for (const auto& core : cores_)
        exhausted += core->forwarder().server(server.slot).snat_exhausted;
      if (exhausted > 0 || exhausted_by_server_.contains(server.slot.value)) {
        uint64_t& before = exhausted_by_server_[server.slot.value];
        if (exhausted > before) {
          emit(EventName::kSnatExhausted, pool.name + " " + server.name,
               fmt::format("{} connections refused: no source port left", exhausted - before));
        }
        before = exhausted;
      }
      if (server.connections_max == 0) continue;
      const bool full_now = shared_->gauges.at_limit(server);
      bool& was = at_limit_[server.slot.value];
      if (full_now && !was) {
        emit(EventName::kServerAtLimit, pool.name + " " + server.name,
             fmt::format("{} connections", server.connections_max));
      }
      was = full_now;
    }
  }
}

}  // namespace limpet::engine
