#include "control/engine/explainer.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "control/config/names.h"

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

// What this client would meet of the virtual service, TCP before UDP.
const snapshot::Listener* listener_for(const snapshot::Snapshot& s, const std::string& uuid,
                                       net::Family family) {
  const snapshot::Listener* found = nullptr;
  for (const snapshot::Listener& l : s.listeners) {
    if (l.address.family() != family || s.virtual_services[l.virtual_service].uuid != uuid)
      continue;
    if (found == nullptr || l.protocol < found->protocol) found = &l;
  }
  return found;
}

std::vector<api::Candidate> candidates(const snapshot::Pool& pool, const balance::Gauges& gauges) {
  std::vector<api::Candidate> out;
  for (const snapshot::Server& s : pool.servers) {
    api::Candidate c;
    c.server = s.name;
    c.state = s.state == snapshot::ServerState::kDown || !s.reachable ? "OPER_DOWN"
              : s.state == snapshot::ServerState::kDisabled           ? "OPER_DISABLED"
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

void Explainer::ask(const api::ExplainRequest& request, const Answer& answer, uint32_t tries) {
  if (tries == kTries)
    return answer(api::Refusal{503, {{"", "the configuration keeps changing: try again"}}});
  const snapshot::Snapshot& s = *running_.snapshot;
  const auto found = find(request);
  if (const auto* refusal = std::get_if<api::Refusal>(&found)) return answer(*refusal);
  const std::size_t index = std::get<std::size_t>(found);
  const config::VirtualService& vs = running_.document->document.virtual_services[index];
  const Inventory::Service& service = running_.inventory->services[index];
  api::Explanation out;
  out.virtual_service = vs.name;
  out.client = request.client.to_string();
  const snapshot::Listener* listener = listener_for(s, vs.uuid, request.client.family());
  if (listener == nullptr) {
    const bool served = service.serving || s.virtual_service(service.slot)->served;
    out.decision = api::Decision::kDrop;
    out.reason = served ? "no_service" : "not_served";
    out.steps.push_back(served ? "the virtual service has no address of the client's family"
                               : "the virtual service is not served here: " + service.reason);
    return answer(std::move(out));
  }
  out.steps.push_back(
      fmt::format("{} port {}/{} is virtual service {}, pool {}", listener->address.to_string(),
                  listener->first_port, listener->protocol == packet::kProtocolTcp ? "TCP" : "UDP",
                  vs.name, s.pools[s.virtual_services[listener->virtual_service].pool.value].name));
  Jobs jobs = questions_.jobs([&](worker::Job& job) {
    job.kind = worker::Job::Kind::kExplain;
    job.vip = listener->address;
    job.protocol = listener->protocol;
    job.vip_port = listener->first_port;
    job.client = request.client;
  });
  const uint32_t record = listener->virtual_service;
  const bool tcp = listener->protocol == packet::kProtocolTcp;
  questions_.ask(std::move(jobs), [this, out, version = s.version, record, tcp, request, answer,
                                   tries](const Jobs& all) mutable {
    const auto is_another = [&](const auto& job) { return job->version != version; };
    const snapshot::Snapshot& asked = *running_.snapshot;
    if (asked.version != version || std::ranges::any_of(all, is_another))
      return ask(request, answer, tries + 1);
    const snapshot::VirtualService& met = asked.virtual_services[record];
    const uint32_t home = all.front()->home_core;
    out.home_core = worker_cores_[home];
    explain_binding(all, home, asked, asked.scope(met.scope), &out);
    explain_answer(*all[home], asked, met, tcp, &out);
    answer(std::move(out));
  });
}

// The virtual service's index in the document.
std::variant<std::size_t, api::Refusal> Explainer::find(const api::ExplainRequest& request) const {
  const auto& services = running_.document->document.virtual_services;
  const config::Names<config::VirtualService> names(services, "virtual service");
  const auto found = names.find(request.virtual_service, request.tenant.value_or(""));
  if (!found)
    return api::Refusal{404, {{"/query/virtual_service", found.errors().front().message}}};
  return static_cast<std::size_t>(found.value() - services.data());
}

// Which core is the key's home, and what each core has of its binding.
void Explainer::explain_binding(const Jobs& jobs, uint32_t home_index, const snapshot::Snapshot& s,
                                const snapshot::Scope* scope, api::Explanation* out) const {
  if (scope == nullptr) {
    out->steps.push_back("the pool has no persistence");
    return;
  }
  const worker::Job& home = *jobs[home_index];
  mirroring::Mirror::Binding binding;
  binding.key = binding::Key::of(scope->key_of(home.client));
  binding.scope = scope->slot;
  const net::Address key = binding.key.address();
  out->steps.push_back(
      fmt::format("the home of key {} is the worker on core {}", key.to_string(), out->home_core));
  const snapshot::Pool& pool = s.pools[scope->pool.value];
  Presence presence;
  for (uint32_t w = 0; w < jobs.size(); ++w) {
    const auto& entry = jobs[w]->entry;
    if (!entry) {
      out->steps.push_back(fmt::format("core {} has nothing of it", worker_cores_[w]));
      continue;
    }
    const auto* server = pool.find(entry->server);
    out->steps.push_back(fmt::format("core {} has {}: {}, {} connections", worker_cores_[w],
                                     entry->is_home() ? "its record" : "a copy",
                                     server == nullptr ? "no server" : server->name, entry->open));
    presence.open += entry->open;
    presence.deadline = std::max(presence.deadline, jobs[w]->deadline);
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
  out->entry = entries_.row(binding, presence);
  out->steps.push_back(fmt::format("the binding names {}", out->entry->server));
}

void Explainer::explain_answer(const worker::Job& job, const snapshot::Snapshot& s,
                               const snapshot::VirtualService& service, bool tcp,
                               api::Explanation* out) const {
  using Action = balance::Judgement::Action;
  const snapshot::Pool& pool = s.pools[service.pool.value];
  const auto refuse = tcp ? api::Decision::kReset : api::Decision::kUnreachable;
  out->candidates = candidates(pool, gauges_);
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
      return balance::takes_new_clients(x) && gauges_.at_limit(x);
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
