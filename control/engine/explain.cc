// What the API asks about one client: where would it go, and why?
#include <fmt/core.h>

#include <algorithm>

#include "control/config/names.h"
#include "control/engine/engine.h"

namespace limpet::engine {

using balance::Reason;
using timing::Instant;

namespace {

const char* reason_text(Reason reason) {
  switch (reason) {
    case Reason::kNew:
      return "new";
    case Reason::kEntry:
      return "entry";
    case Reason::kMoved:
      return "moved";
    case Reason::kHome:
      return "return_home";
    case Reason::kDown:
      return "down";
    case Reason::kDraining:
      return "draining";
    case Reason::kAtLimit:
      return "at_limit";
    case Reason::kTableFull:
      return "table_full";
    case Reason::kNoServer:
      return "no_server";
    case Reason::kLate:
      return "claim_late";
  }
  return "";
}

// The record of the virtual service that this client would meet, TCP before UDP.
const snapshot::Listener* listener_for(const snapshot::Snapshot& s, const std::string& uuid,
                                       net::Family family) {
  const snapshot::Listener* found = nullptr;
  for (const snapshot::Listener& l : s.listeners) {
    const auto& vs = s.virtual_services[l.virtual_service];
    if (vs.uuid != uuid) continue;
    if (l.address.family() != family) continue;
    if (found == nullptr || l.protocol < found->protocol) found = &l;
  }
  return found;
}

std::vector<api::Candidate> candidates(const snapshot::Pool& pool, const balance::Gauges& gauges) {
  std::vector<api::Candidate> out;
  for (const snapshot::Server& s : pool.servers) {
    api::Candidate c;
    c.server = s.name;
    c.state = s.state == snapshot::ServerState::kDown       ? "OPER_DOWN"
              : s.state == snapshot::ServerState::kDisabled ? "OPER_DISABLED"
                                                            : "OPER_UP";
    if (s.state == snapshot::ServerState::kDown) {
      c.why_not = "down";
    } else if (s.state == snapshot::ServerState::kDisabled) {
      c.why_not = "disabled: takes no new clients";
    } else if (!s.reachable) {
      c.why_not = "no route to it";
    } else if (gauges.at_limit(s)) {
      c.why_not = fmt::format("at its limit of {} connections", s.connections_max);
    }
    out.push_back(std::move(c));
  }
  return out;
}

}  // namespace

void Engine::explain(api::ExplainRequest request,
                     api::Answer<api::Outcome<api::Explanation>> answer) {
  const snapshot::Snapshot& s = *running_.snapshot;
  const auto& configured = running_.document->document.virtual_services;
  const config::Names<config::VirtualService> names(configured, "virtual service");
  const auto found = names.find(request.virtual_service, request.tenant.value_or(""));
  if (!found)
    return answer(api::Refusal{404, {{"/query/virtual_service", found.errors().front().message}}});
  const config::VirtualService* vs = found.value();
  api::Explanation out;
  out.virtual_service = vs->name;
  out.client = request.client.to_string();
  const snapshot::Listener* listener = listener_for(s, vs->uuid, request.client.family());
  if (listener == nullptr) {
    out.decision = api::Decision::kDrop;
    out.reason = vs->served ? "no_service" : "not_served";
    out.steps.push_back(vs->served ? "the virtual service has no address of the client's family"
                                   : "the virtual service is not served: " + vs->why_not);
    return answer(std::move(out));
  }
  const uint32_t record = listener->virtual_service;
  const snapshot::VirtualService& service = s.virtual_services[record];
  std::vector<std::unique_ptr<worker::Job>> jobs;
  for (std::size_t w = 0; w < cores_.size(); ++w) {
    auto job = std::make_unique<worker::Job>();
    job->kind = worker::Job::Kind::kExplain;
    job->virtual_service = record;
    job->client = request.client;
    jobs.push_back(std::move(job));
  }
  const auto snapshot = running_.snapshot;
  out.steps.push_back(fmt::format("{} port {}/{} is virtual service {}, pool {}",
                                  listener->address.to_string(), listener->first_port,
                                  listener->protocol == packet::kProtocolTcp ? "TCP" : "UDP",
                                  service.name, s.pools[service.pool.value].name));
  const bool tcp = listener->protocol == packet::kProtocolTcp;
  ask(std::move(jobs), [this, out, snapshot, record, tcp, answer](const Question& q) mutable {
    out.home_core = q.jobs.front()->home_core;
    const snapshot::Scope* scope = snapshot->scope(snapshot->virtual_services[record].scope);
    explain_binding(q, *snapshot, scope, &out);
    explain_answer(*q.jobs[out.home_core], *snapshot, record, tcp, &out);
    answer(std::move(out));
  });
}

// Which core is the key's home, and what each core has of its binding.
void Engine::explain_binding(const Question& question, const snapshot::Snapshot& s,
                             const snapshot::Scope* scope, api::Explanation* out) const {
  if (scope == nullptr) {
    out->steps.push_back("the pool has no persistence");
    return;
  }
  const worker::Job& home = *question.jobs[out->home_core];
  mirroring::Mirror::Binding binding;
  binding.key = persist::Key::of(scope->key_of(home.client));
  binding.scope = scope->slot;
  const net::Address key = binding.key.address();
  out->steps.push_back(
      fmt::format("the home of key {} is worker {}", key.to_string(), out->home_core));
  const snapshot::Pool& pool = s.pools[scope->pool.value];
  Presence presence;
  presence.deadline = persist::kNoActivity;
  for (uint32_t w = 0; w < question.jobs.size(); ++w) {
    const auto& entry = question.jobs[w]->entry;
    if (!entry) {
      out->steps.push_back(fmt::format("worker {} has nothing of it", w));
      continue;
    }
    const auto* server = pool.find(entry->server);
    out->steps.push_back(fmt::format("worker {} has {}: {}, {} connections", w,
                                     entry->is_home() ? "its record" : "a copy",
                                     server == nullptr ? "no server" : server->name, entry->open));
    presence.open += entry->open;
    presence.deadline = std::max(presence.deadline, question.jobs[w]->deadline);
  }
  if (!home.entry || !home.home) {
    out->steps.push_back("so there is no binding");
    return;
  }
  binding.record.stamp = home.home->stamp;
  binding.record.server = home.entry->server;
  binding.record.epoch = home.home->epoch;
  if (pool.find(home.entry->server) == nullptr) {
    out->steps.push_back("the server it named has left the pool");
    return;
  }
  if (presence.open == 0 && clock_.now() >= presence.deadline) {
    out->steps.push_back("its time is over");
    return;
  }
  out->entry = row(binding, presence);
  out->steps.push_back(fmt::format("the binding names {}", out->entry->server));
}

void Engine::explain_answer(const worker::Job& job, const snapshot::Snapshot& s, uint32_t record,
                            bool tcp, api::Explanation* out) const {
  using Action = balance::Judgement::Action;
  const snapshot::VirtualService& service = s.virtual_services[record];
  const snapshot::Pool& pool = s.pools[service.pool.value];
  const auto refuse = tcp ? api::Decision::kReset : api::Decision::kUnreachable;
  out->candidates = candidates(pool, shared_->gauges);
  out->reason = reason_text(job.reason);
  if (job.server) {
    if (const auto* server = s.server(*job.server)) out->server = server->name;
  }
  if (job.action == Action::kRefuse) {
    out->decision = refuse;
    out->steps.push_back("the profile's policy refuses the connection and keeps the binding");
    return;
  }
  if (job.action == Action::kUse) {
    out->decision = api::Decision::kForward;
    out->steps.push_back(fmt::format("goes to {}", out->server.value_or("")));
    return;
  }
  const bool any = std::any_of(out->candidates.begin(), out->candidates.end(),
                               [](const api::Candidate& c) { return !c.why_not; });
  if (!any) {
    const bool limited = std::any_of(pool.servers.begin(), pool.servers.end(), [&](const auto& x) {
      return balance::takes_new_clients(x) && shared_->gauges.at_limit(x);
    });
    out->decision = refuse;
    out->server.reset();
    out->reason = reason_text(limited ? Reason::kAtLimit : Reason::kNoServer);
    out->steps.push_back("no server can take a new client");
  } else if (job.table_full) {
    out->decision = refuse;
    out->server.reset();
    out->reason = reason_text(Reason::kTableFull);
    out->steps.push_back("the persist table is full and the profile purges nothing");
  } else {
    out->decision = api::Decision::kForward;
    out->steps.push_back(out->server ? "consistent hashing chooses " + *out->server
                                     : "the algorithm chooses among the candidates at arrival");
  }
}

}  // namespace limpet::engine
