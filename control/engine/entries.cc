// What the API asks about bindings: listing, deleting, explaining. Cores are asked by jobs; what
// they answer gets its names here.
#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "control/engine/engine.h"

namespace limpet::engine {

using timing::Instant;
using timing::seconds;

namespace {

api::Refusal refusal(unsigned status, std::string path, std::string message) {
  return {status, {{std::move(path), std::move(message)}}};
}

// Where a listing goes on: core, place in its table, and when the listing began (entries made later
// are not shown, so a binding that is made anew is not shown twice).
struct Cursor {
  uint32_t core = 0;
  uint32_t place = 0;
  int64_t began_ns = 0;

  std::string to_string() const { return fmt::format("{}.{}.{}", core, place, began_ns); }
  static std::optional<Cursor> parse(std::string_view text) {
    Cursor c;
    const char* at = text.data();
    const char* end = at + text.size();
    const auto number = [&](auto* value, bool last) {
      const auto [next, error] = std::from_chars(at, end, *value);
      if (error != std::errc{} || (last ? next != end : next == end || *next != '.')) return false;
      at = next + 1;
      return true;
    };
    if (!number(&c.core, false) || !number(&c.place, false) || !number(&c.began_ns, true))
      return std::nullopt;
    return c;
  }
};

const char* reason_text(l4::Reason reason) {
  switch (reason) {
    case l4::Reason::kNew:
      return "new";
    case l4::Reason::kEntry:
      return "entry";
    case l4::Reason::kMoved:
      return "moved";
    case l4::Reason::kHome:
      return "return_home";
    case l4::Reason::kDown:
      return "down";
    case l4::Reason::kDraining:
      return "draining";
    case l4::Reason::kAtLimit:
      return "at_limit";
    case l4::Reason::kTableFull:
      return "table_full";
    case l4::Reason::kNoServer:
      return "no_server";
  }
  return "";
}

}  // namespace

void Engine::ask(std::vector<std::unique_ptr<worker::Job>> jobs,
                 std::function<void(const Question&)> done) {
  for (uint32_t w = 0; w < jobs.size(); ++w) {
    worker::ControlMessage message;
    message.kind = worker::ControlMessage::Kind::kJob;
    message.job = jobs[w].get();
    messages_[w].push_back(message);
  }
  questions_.push_back({std::move(jobs), std::move(done)});
  flush_messages();
}

void Engine::finish_questions() {
  while (!questions_.empty()) {
    for (const auto& job : questions_.front().jobs) {
      if (!job->done.load(std::memory_order_acquire)) return;
    }
    const Question question = std::move(questions_.front());
    questions_.pop_front();
    question.done(question);
  }
}

void Engine::with_census(std::function<void(const Census&)> then) {
  if (census_ && clock_.now() - census_->taken < seconds(1)) return then(*census_);
  census_waiting_.push_back(std::move(then));
  if (census_waiting_.size() > 1) return;
  std::vector<std::unique_ptr<worker::Job>> jobs;
  for (std::size_t w = 0; w < cores_.size(); ++w) {
    auto job = std::make_unique<worker::Job>();
    job->kind = worker::Job::Kind::kCensus;
    job->by_scope.resize(running_.snapshot->scopes.size());
    job->by_server.resize(running_.snapshot->server_by_slot.size());
    jobs.push_back(std::move(job));
  }
  ask(std::move(jobs), [this](const Question& q) {
    Census sum;
    sum.taken = clock_.now();
    for (const auto& job : q.jobs) {
      sum.by_scope.resize(job->by_scope.size());
      sum.by_server.resize(job->by_server.size());
      for (std::size_t i = 0; i < sum.by_scope.size(); ++i) sum.by_scope[i] += job->by_scope[i];
      for (std::size_t i = 0; i < sum.by_server.size(); ++i) sum.by_server[i] += job->by_server[i];
    }
    census_ = std::move(sum);
    const auto waiting = std::move(census_waiting_);
    census_waiting_.clear();
    for (const auto& waits : waiting) waits(*census_);
  });
}

// Names to slots and identities. `nobody`: the filter is right, but no entry can match.
std::optional<api::Refusal> Engine::resolve(const api::EntryFilter& filter,
                                            worker::EntryFilter* out, bool* nobody) const {
  const snapshot::Snapshot& s = *running_.snapshot;
  const auto& document = running_.document->document;
  const auto named = [](const auto& object, const std::string& text) {
    return object.name == text || object.uuid == text;
  };
  if (filter.virtual_service &&
      std::none_of(document.virtual_services.begin(), document.virtual_services.end(),
                   [&](const auto& vs) { return named(vs, *filter.virtual_service); })) {
    return refusal(404, "/query/virtual_service", "no such virtual service");
  }
  if (filter.pool && std::none_of(document.pools.begin(), document.pools.end(),
                                  [&](const auto& pool) { return named(pool, *filter.pool); })) {
    return refusal(404, "/query/pool", "no such pool");
  }
  out->scopes.assign(s.scopes.size(), false);
  for (const snapshot::Scope& scope : s.scopes) {
    if (!scope.live) continue;
    if (filter.pool && !named(s.pools[scope.pool.value], *filter.pool)) continue;
    if (filter.virtual_service &&
        std::none_of(s.virtual_services.begin(), s.virtual_services.end(), [&](const auto& vs) {
          return vs.scope == scope.slot && named(vs, *filter.virtual_service);
        })) {
      continue;
    }
    out->scopes[scope.slot.value] = true;
  }
  if (filter.client) {
    if (const auto* address = std::get_if<net::Address>(&*filter.client)) out->client = *address;
    if (const auto* prefix = std::get_if<net::Prefix>(&*filter.client))
      out->clients = prefix->network();
  }
  if (filter.server) {
    for (const snapshot::Pool& pool : s.pools) {
      for (const snapshot::Server& server : pool.servers) {
        if (server.address == filter.server->address &&
            (!filter.server->port || *filter.server->port == server.port)) {
          out->servers.push_back(server.id);
        }
      }
    }
    std::sort(out->servers.begin(), out->servers.end());
    *nobody = out->servers.empty();
  }
  return std::nullopt;
}

api::EntryRow Engine::row(const persist::Entry& entry) const {
  api::EntryRow out;
  const snapshot::Scope* scope = running_.snapshot->scope(entry.scope);
  if (scope == nullptr) return out;
  const snapshot::Pool& pool = running_.snapshot->pools[scope->pool.value];
  out.virtual_service = scope->virtual_service;
  out.pool = pool.name;
  out.profile = scope->profile;
  out.type = scope->type;
  const uint8_t mask = entry.key.is_v4() ? scope->mask_v4 : scope->mask_v6;
  out.key = mask < net::address_bits(entry.key.family()) ? net::Prefix{entry.key, mask}.to_string()
                                                         : entry.key.to_string();
  if (const auto* server = pool.find(entry.server)) out.server = server->name;
  out.connections = entry.open;
  const Instant now = clock_.now();
  const Instant deadline = entry.deadline(scope->timeout);
  if (entry.open == 0 && deadline != Instant::never()) {
    const auto left = std::max(deadline - now, timing::Duration::zero());
    out.life_time_s = static_cast<uint64_t>((left + seconds(1) - timing::Duration(1)) / seconds(1));
  }
  out.created = clock_.wall() + (entry.created - now);
  out.epoch = entry.epoch;
  out.origin = bootstrap_.name;
  return out;
}

void Engine::list_entries(api::EntryFilter filter, api::PageRequest page,
                          api::Answer<api::Outcome<api::EntryPage>> answer) {
  Cursor from;
  from.began_ns = clock_.now().ns;
  if (!page.cursor.empty()) {
    const auto cursor = Cursor::parse(page.cursor);
    if (!cursor || cursor->core >= cores_.size())
      return answer(refusal(400, "/query/cursor", "is not one that was given out"));
    from = *cursor;
  }
  worker::EntryFilter wanted;
  bool nobody = false;
  if (auto refused = resolve(filter, &wanted, &nobody)) return answer(std::move(*refused));
  if (nobody) return answer(api::EntryPage{});
  wanted.created_until = {from.began_ns};
  std::vector<std::unique_ptr<worker::Job>> jobs;
  for (uint32_t w = 0; w < cores_.size(); ++w) {
    auto job = std::make_unique<worker::Job>();
    job->kind = worker::Job::Kind::kList;
    job->filter = wanted;
    job->from = w < from.core ? UINT32_MAX : (w == from.core ? from.place : 0);
    job->limit = page.limit;
    job->rows.reserve(page.limit);
    jobs.push_back(std::move(job));
  }
  ask(std::move(jobs), [this, from, limit = page.limit, answer](const Question& q) {
    api::EntryPage out;
    for (uint32_t w = 0; w < q.jobs.size(); ++w) {
      const worker::Job& job = *q.jobs[w];
      out.count += job.matched;
      for (const auto& [entry, place] : job.rows) {
        if (out.rows.size() < limit) {
          out.rows.push_back(row(entry));
        } else if (!out.next) {
          out.next = Cursor{w, place, from.began_ns}.to_string();
        }
      }
      if (job.more && !out.next) out.next = Cursor{w, job.next, from.began_ns}.to_string();
    }
    answer(std::move(out));
  });
}

void Engine::delete_entries(api::EntryFilter filter,
                            api::Answer<api::Outcome<api::EntriesRemoved>> answer) {
  worker::EntryFilter wanted;
  bool nobody = false;
  if (auto refused = resolve(filter, &wanted, &nobody)) return answer(std::move(*refused));
  if (nobody) return answer(api::EntriesRemoved{0});
  std::vector<std::unique_ptr<worker::Job>> jobs;
  for (std::size_t w = 0; w < cores_.size(); ++w) {
    auto job = std::make_unique<worker::Job>();
    job->kind = worker::Job::Kind::kDelete;
    job->filter = wanted;
    jobs.push_back(std::move(job));
  }
  ask(std::move(jobs), [answer](const Question& q) {
    api::EntriesRemoved out;
    for (const auto& job : q.jobs) out.removed += job->matched;
    answer(out);
  });
}

// --- explain
// --------------------------------------------------------------------------------------

namespace {

// The record of the virtual service that this client would meet, TCP before UDP.
const snapshot::Listener* listener_for(const snapshot::Snapshot& s, const std::string& name,
                                       net::Family family) {
  const snapshot::Listener* found = nullptr;
  for (const snapshot::Listener& l : s.listeners) {
    const auto& vs = s.virtual_services[l.virtual_service];
    if (vs.name != name && vs.uuid != name) continue;
    if (l.address.family() != family) continue;
    if (found == nullptr || l.protocol < found->protocol) found = &l;
  }
  return found;
}

std::vector<api::Candidate> candidates(const snapshot::Pool& pool, const l4::Gauges& gauges) {
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
  const auto vs = std::find_if(configured.begin(), configured.end(), [&](const auto& v) {
    return v.name == request.virtual_service || v.uuid == request.virtual_service;
  });
  if (vs == configured.end())
    return answer(refusal(404, "/query/virtual_service", "no such virtual service"));
  api::Explanation out;
  out.virtual_service = vs->name;
  out.client = request.client.to_string();
  const snapshot::Listener* listener =
      listener_for(s, request.virtual_service, request.client.family());
  if (listener == nullptr) {
    out.decision = api::Decision::kDrop;
    out.reason = vs->served ? "no_service" : "not_served";
    out.steps.push_back(vs->served ? "the virtual service has no address of the client's family"
                                   : "the virtual service is not served: " + vs->why_not);
    return answer(std::move(out));
  }
  const uint32_t record = listener->virtual_service;
  const snapshot::VirtualService& service = s.virtual_services[record];
  const worker::Steerer steerer(static_cast<uint32_t>(cores_.size()), limits_.entries,
                                shared_->hash);
  const uint32_t home = steerer.home(request.client, s.steering.size() - 1, s);
  std::vector<std::unique_ptr<worker::Job>> jobs;
  for (std::size_t w = 0; w < cores_.size(); ++w) {
    auto job = std::make_unique<worker::Job>();
    job->kind = worker::Job::Kind::kExplain;
    job->virtual_service = record;
    job->client = request.client;
    jobs.push_back(std::move(job));
  }
  const auto snapshot = running_.snapshot;
  out.home_core = home;
  out.steps.push_back(fmt::format("{} port {}/{} is virtual service {}, pool {}",
                                  listener->address.to_string(), listener->first_port,
                                  listener->protocol == packet::kProtocolTcp ? "TCP" : "UDP",
                                  service.name, s.pools[service.pool.value].name));
  out.steps.push_back(fmt::format("packets of this client are judged by worker {}", home));
  const bool tcp = listener->protocol == packet::kProtocolTcp;
  ask(std::move(jobs), [this, out, snapshot, record, tcp, answer](const Question& q) mutable {
    // An entry may still be where an earlier steering left it.
    const worker::Job* job = q.jobs[out.home_core].get();
    for (uint32_t w = 0; w < q.jobs.size(); ++w) {
      if (job->entry || !q.jobs[w]->entry) continue;
      job = q.jobs[w].get();
      out.home_core = w;
      out.steps.push_back(fmt::format("worker {} still holds its binding", w));
    }
    explain_answer(*job, *snapshot, record, tcp, &out);
    answer(std::move(out));
  });
}

void Engine::explain_answer(const worker::Job& job, const snapshot::Snapshot& s, uint32_t record,
                            bool tcp, api::Explanation* out) const {
  using Action = l4::Judgement::Action;
  const snapshot::VirtualService& service = s.virtual_services[record];
  const snapshot::Pool& pool = s.pools[service.pool.value];
  const snapshot::Scope* scope = s.scope(service.scope);
  const auto refuse = tcp ? api::Decision::kReset : api::Decision::kUnreachable;
  out->candidates = candidates(pool, shared_->gauges);
  out->reason = reason_text(job.reason);
  if (job.entry) {
    out->entry = row(*job.entry);
    out->steps.push_back(fmt::format("key {} is bound to {}", out->entry->key, out->entry->server));
  } else {
    out->steps.push_back(scope == nullptr ? "the pool has no persistence"
                                          : fmt::format("no binding for key {}",
                                                        scope->key_of(job.client).to_string()));
  }
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
    out->reason = reason_text(limited ? l4::Reason::kAtLimit : l4::Reason::kNoServer);
    out->steps.push_back("no server can take a new client");
  } else if (job.table_full) {
    out->decision = refuse;
    out->server.reset();
    out->reason = reason_text(l4::Reason::kTableFull);
    out->steps.push_back("the persist table is full and the profile purges nothing");
  } else {
    out->decision = api::Decision::kForward;
    out->steps.push_back(out->server ? "consistent hashing chooses " + *out->server
                                     : "the algorithm chooses among the candidates at arrival");
  }
}

}  // namespace limpet::engine
